//! Criterion benches of the CPU kernels in `burn-ivf-kernels`, one group per operation.
//!
//! Every problem is checked against the plain-loop f64 reference before it is timed, for every
//! instruction set of the machine; a wrong answer panics. Knows nothing of Burn.
//! Run: `cargo bench --bench kernels`, or with a filter: `cargo bench --bench kernels -- list_scan`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs
)]

use burn_ivf_kernels::list_scan::{self, List, ListIds, Order, Problem, WORKSPACE};
use burn_ivf_kernels::order::Slot;
use burn_ivf_kernels::rows::{Layout, Rows};
use burn_ivf_kernels::select_k::{self, Best};
use burn_ivf_kernels::{Metric, simd::Isa};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use std::hint::black_box;
use std::time::Duration;

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.sample(StandardNormal)).collect()
}

fn select(c: &mut Criterion) {
    let mut group = c.benchmark_group("select_k");
    for (rows, n, k) in [
        (512, 512, 32),
        (512, 32_768, 20),
        (1, 262_144, 20),
        (64, 32_768, 1024),
    ] {
        let scores = normal(rows * n, 1);
        let expected = select_k::reference::select(&scores, n, k, Best::Smallest);
        group.throughput(Throughput::Elements((rows * n) as u64));
        for isa in Isa::available() {
            let found = select_k::select(&scores, n, k, Best::Smallest, isa).unwrap();
            assert_eq!(
                found,
                expected,
                "select_k {rows}x{n} k={k} on {}",
                isa.name()
            );
            let id = BenchmarkId::new(isa.name(), format!("{rows}x{n} k={k}"));
            group.bench_function(id, |b| {
                b.iter(|| select_k::select(black_box(&scores), n, k, Best::Smallest, isa));
            });
        }
    }
    group.finish();
}

/// Lists of equal length, and the queries with the lists they probe.
struct Lists {
    rows: Vec<Rows>,
    ids: Vec<Vec<i64>>,
    queries: Vec<f32>,
    probes: Vec<u32>,
}

/// Sizes of one problem.
#[derive(Clone, Copy)]
struct Size {
    d: usize,
    lists: usize,
    rows_per_list: usize,
    nq: usize,
    nprobe: usize,
    k: usize,
}

impl Lists {
    /// Row `r` of list `l` has id `r * lists + l`; each query probes lists spread over all.
    fn new(size: Size, layout: Layout) -> Self {
        let rows = normal(size.lists * size.rows_per_list * size.d, 2);
        let of_list = |list: usize| {
            let mut stored = Rows::new(size.d, layout);
            stored.reserve(size.rows_per_list);
            let span = size.rows_per_list * size.d;
            for row in rows[list * span..(list + 1) * span].chunks_exact(size.d) {
                stored.push(row);
            }
            stored
        };
        let ids = |list: usize| {
            let rows = 0..size.rows_per_list;
            rows.map(|row| (row * size.lists + list) as i64).collect()
        };
        let probes = (0..size.nq * size.nprobe).map(|at| {
            let (query, probe) = (at / size.nprobe, at % size.nprobe);
            ((query * 7 + probe * (size.lists / size.nprobe)) % size.lists) as u32
        });
        Self {
            rows: (0..size.lists).map(of_list).collect(),
            ids: (0..size.lists).map(ids).collect(),
            queries: normal(size.nq * size.d, 3),
            probes: probes.collect(),
        }
    }

    fn views(&self) -> Vec<List<'_>> {
        let pairs = self.rows.iter().zip(&self.ids);
        pairs
            .map(|(rows, ids)| List::new(rows, ListIds::Table(ids)).unwrap())
            .collect()
    }
}

/// The scan against the reference on the first queries: equal distances up to f32 rounding, and
/// equal ids wherever the neighbouring distances are not that close.
fn check_scan(problem: &Problem<'_>, lists: &Lists, nprobe: usize, isa: Isa) {
    let few = problem.nq().min(4);
    let part = Problem {
        queries: &problem.queries[..few * problem.d],
        ..*problem
    };
    let probes = &lists.probes[..few * nprobe];
    let found = list_scan::scan(problem, &lists.probes, nprobe, Order::ListMajor, isa).unwrap();
    let (expected, exact) = list_scan::reference::scan(&part, probes, nprobe);
    for (slot, distance) in exact.iter().enumerate() {
        if !distance.is_finite() {
            assert_eq!(
                found.labels[slot], expected.labels[slot],
                "padding at {slot}"
            );
            continue;
        }
        // For an inner product of normal vectors the rounding is relative to about d.
        let scale = distance.abs().max(problem.d as f64);
        let error = (f64::from(found.distances[slot]) - distance).abs();
        assert!(
            error <= 1e-5 * scale,
            "slot {slot}: off by {error} of {distance}"
        );
        let close =
            |other: Option<&f64>| other.is_some_and(|o| (o - distance).abs() <= 1e-5 * scale);
        let tied = close(exact.get(slot + 1)) || (slot > 0 && close(exact.get(slot - 1)));
        // The last slot may tie with a row that is not listed.
        let last = (slot + 1) % problem.k == 0;
        assert!(
            found.labels[slot] == expected.labels[slot] || tied || last,
            "slot {slot}: id {} instead of {}",
            found.labels[slot],
            expected.labels[slot]
        );
    }
}

fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("list_scan");
    let base = Size {
        d: 128,
        lists: 512,
        rows_per_list: 256,
        nq: 1,
        nprobe: 32,
        k: 20,
    };
    let sizes = [
        base,
        Size { nq: 32, ..base },
        Size { nq: 512, ..base },
        Size {
            nq: 512,
            k: 1,
            lists: 1,
            nprobe: 1,
            rows_per_list: 512,
            ..base
        },
        Size {
            nq: 256,
            d: 100,
            ..base
        },
        Size {
            nq: 64,
            d: 768,
            lists: 64,
            nprobe: 8,
            ..base
        },
    ];
    let shapes = sizes.iter().flat_map(|s| Metric::ALL.map(|m| (s, m)));
    for ((size, metric), layout) in shapes.flat_map(|shape| Layout::ALL.map(|l| (shape, l))) {
        let lists = Lists::new(*size, layout);
        let views = lists.views();
        let problem = Problem {
            metric,
            d: size.d,
            k: size.k,
            lists: &views,
            queries: &lists.queries,
            workspace: WORKSPACE,
        };
        let pairs = size.nq * size.nprobe * size.rows_per_list;
        group.throughput(Throughput::Elements(pairs as u64));
        for isa in Isa::available() {
            check_scan(&problem, &lists, size.nprobe, isa);
            // Plain scalar code shows nothing at every size; once is enough.
            if isa.name() == "portable" && (size.nq != 32 || metric != Metric::L2) {
                continue;
            }
            let Size {
                d, nq, nprobe, k, ..
            } = *size;
            let shape = format!("{layout} {metric} d={d} nq={nq} nprobe={nprobe} k={k}");
            group.bench_function(BenchmarkId::new(isa.name(), shape), |b| {
                b.iter(|| {
                    list_scan::scan(
                        black_box(&problem),
                        &lists.probes,
                        nprobe,
                        Order::ListMajor,
                        isa,
                    )
                });
            });
        }
    }
    group.finish();
}

fn rerank(c: &mut Criterion) {
    let mut group = c.benchmark_group("rerank");
    let size = Size {
        d: 128,
        lists: 64,
        rows_per_list: 256,
        nq: 512,
        nprobe: 16,
        k: 20,
    };
    let lists = Lists::new(size, Layout::default());
    let views = lists.views();
    let problem = Problem {
        metric: Metric::L2,
        d: size.d,
        k: size.k,
        lists: &views,
        queries: &lists.queries,
        workspace: WORKSPACE,
    };
    // Two rows of every probed list: distinct candidates, of which the k best are asked for.
    let slots = |list: &u32| [0, 100].map(|slot| Slot { list: *list, slot });
    let candidates: Vec<Slot> = lists.probes.iter().flat_map(slots).collect();
    let per_query = 2 * size.nprobe;
    let portable = list_scan::rerank(&problem, &candidates, per_query, Isa::portable()).unwrap();
    group.throughput(Throughput::Elements(candidates.len() as u64));
    for isa in Isa::available() {
        let found = list_scan::rerank(&problem, &candidates, per_query, isa).unwrap();
        assert_eq!(found, portable, "rerank on {}", isa.name());
        let id = BenchmarkId::new(isa.name(), format!("nq={} of {per_query}", size.nq));
        group.bench_function(id, |b| {
            b.iter(|| list_scan::rerank(black_box(&problem), &candidates, per_query, isa));
        });
    }
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = select, scan, rerank
}
criterion_main!(kernels);
