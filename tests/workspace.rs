//! J5: what a search takes beyond the index, the queries and the answer, measured in the allocator.
//! One test, so that nothing else allocates beside it.
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

use burn::backend::NdArray;
use burn_ivf::{FlatMode, IdSelector, Metric, SearchMode, SearchParams};
use peak_alloc::PeakAlloc;
use suite::support::{Answer, flat, normal, preset, search_flat, search_ivf};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

/// The answer of a search, and the bytes taken beyond what was held before.
fn peak(search: impl FnOnce() -> Answer) -> (Answer, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let answer = search();
    (answer, MEMORY.peak_usage().saturating_sub(before))
}

#[test]
fn j5_searches_keep_their_workspace() {
    let (nb, d, nq, k) = (200_000, 128, 2048, 20);
    let device = Default::default();
    let (base, queries) = (normal(nb, d, 50), normal(nq, d, 51));
    let index = preset::<NdArray>(&device, Metric::L2, &base.range(0..512), &base);
    let mut plain = flat::<NdArray>(&device, Metric::L2, &base);
    // The queries as a tensor, and answers as tensors and on the host (two copies of both).
    let beside = 2 * nq * d * 4 + 4 * nq * k * (8 + 4);
    let params = |mode, limit| {
        SearchParams::exact()
            .with_nprobe(8)
            .with_mode(mode)
            .with_workspace_limit(limit)
    };
    let mut found = Vec::new();
    for limit in [2 * MIB, 4 * MIB, 64 * MIB] {
        let csr = params(SearchMode::Csr, limit);
        let own = (0..8).map(|i| !IdSelector::batch((0..nb as i64).step_by(7 + i)));
        let of = (0..nq as u32).map(|query| query % 8);
        let selected = csr
            .clone()
            .with_query_selectors(own.collect(), of.collect());
        let (answer, taken) = peak(|| search_ivf(&index, &queries, k, &csr));
        found.push(("csr", limit, taken, answer));
        let (answer, taken) = peak(|| search_ivf(&index, &queries, k, &selected));
        found.push(("csr, selectors", limit, taken, answer));
        // Every list of every query: a million probes, 16 MiB of them alone.
        let every = csr.with_nprobe(512);
        let (answer, taken) = peak(|| search_ivf(&index, &queries, k, &every));
        found.push(("every list", limit, taken, answer));
        plain.set_workspace_limit(limit).unwrap();
        plain.set_mode(FlatMode::Chunked);
        let (answer, taken) = peak(|| search_flat(&plain, &queries, k));
        found.push(("flat", limit, taken, answer));
    }
    let (limit, queries) = (64 * MIB, queries.range(0..256));
    let matrix = params(SearchMode::Matrix, limit);
    let (answer, taken) = peak(|| search_ivf(&index, &queries, k, &matrix));
    found.push(("matrix", limit, taken, answer));
    plain.set_mode(FlatMode::Matrix);
    let (answer, taken) = peak(|| search_flat(&plain, &queries, k));
    found.push(("flat matrix", limit, taken, answer));
    for (name, limit, taken, answer) in &found {
        eprintln!("{name}: {taken} bytes, limit {limit}");
        // the limit is what makes a search of scores, candidates or probes go in pieces
        let pieces = answer.stats.query_chunks > 1;
        let expected = match *name {
            "every list" => true,
            "csr" | "csr, selectors" if *limit == 2 * MIB => continue,
            name => name.contains("matrix"),
        };
        assert_eq!(pieces, expected, "{name} {limit}");
    }
    for (name, limit, taken, _) in &found {
        assert!(*taken <= limit + beside, "{name}: {taken} of {limit}");
    }
}
