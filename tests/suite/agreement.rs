//! One answer within a backend: modes, budgets and threads never change a bit (`docs/semantics.md`).
//! Agreement across backends is in `across`.

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{IvfBackend, Metric, SearchMode};

/// Data sets that make different parts of a search work: name, rows, queries.
pub fn problems(n: usize, nq: usize) -> Vec<(&'static str, Rows, Rows)> {
    let split = |all: Rows| (all.range(0..n), all.range(n..n + nq));
    let sets = [
        ("normal", normal(n + nq, 33, 1)),
        ("ties", tied(n + nq, 7, 3, 2)),
        ("clusters", clustered(n + nq, 16, 12, 0.01, 3)),
        ("far", normal(n + nq, 20, 4).map(|v| v + 1000.0)),
        ("uniform", uniform(n + nq, 64, 5)),
    ];
    sets.into_iter()
        .map(|(name, all)| {
            let (base, queries) = split(all);
            (name, base, queries)
        })
        .collect()
}

/// Workspace limits from the smallest, a query or two at a time, to everything at once.
const LIMITS: [usize; 3] = [64 << 10, 200_000, 256 << 20];

/// Every mode and limit of both indexes gives the same bits, and they are right.
pub fn modes_and_limits_are_bit_equal<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 1200, 300);
    let nq = sized::<B>(device, 40, 9);
    for (name, base, queries) in problems(n, nq) {
        for metric in METRICS {
            let mut plain = flat::<B>(device, metric, &base);
            let index = preset::<B>(device, metric, &base.range(0..16), &base);
            let oracle = Oracle::new(metric, &base);
            for k in [1, 10, 150] {
                let expected = search_flat(&plain, &queries, k);
                oracle.check(&queries, &expected, name);
                for limit in LIMITS {
                    plain.set_workspace_limit(limit).unwrap();
                    for mode in FLAT_MODES {
                        plain.set_mode(mode);
                        let what = format!("{name}, {metric}, {mode}, {limit} bytes");
                        search_flat(&plain, &queries, k).assert_same(&expected, &what);
                    }
                    for mode in IVF_MODES {
                        let params = probing(16, mode).with_workspace_limit(limit);
                        let found = search_ivf(&index, &queries, k, &params);
                        let what = format!("{name}, {metric}, {mode}, {limit} bytes");
                        found.assert_same(&expected, &what);
                    }
                }
            }
        }
    }
}

/// The same with few probes, where each query sees its own set of lists.
pub fn few_probes_are_bit_equal<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 1500, 300);
    let nq = sized::<B>(device, 70, 12);
    for (name, base, queries) in problems(n, nq) {
        for metric in METRICS {
            let index = preset::<B>(device, metric, &base.range(0..24), &base);
            for nprobe in [1, 2, 9] {
                let expected = search_ivf(&index, &queries, 12, &probing(nprobe, SearchMode::Csr));
                super::ivf::check_probed(&index, &base, &queries, &expected, &[0, 3, 8]);
                for limit in LIMITS {
                    for mode in IVF_MODES {
                        let params = probing(nprobe, mode).with_workspace_limit(limit);
                        let found = search_ivf(&index, &queries, 12, &params);
                        let what = format!("{name}, {metric}, {mode}, {nprobe} probes, {limit}");
                        found.assert_same(&expected, &what);
                    }
                }
            }
        }
    }
}

/// A small limit makes more chunks, and says so.
pub fn limits_have_effect<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(400, 8, 6), normal(64, 8, 7));
    let index = preset::<B>(device, Metric::L2, &base.range(0..4), &base);
    let chunks = |limit: usize| {
        let params = probing(4, SearchMode::Matrix).with_workspace_limit(limit);
        search_ivf(&index, &queries, 5, &params).stats.query_chunks
    };
    assert_eq!(chunks(256 << 20), 1);
    assert!(chunks(64 << 10) > 1, "{} chunks", chunks(64 << 10));
    let cut = chunks(64 << 10);
    let mut index = index.clone();
    index.set_workspace_limit(64 << 10).unwrap();
    let params = probing(4, SearchMode::Matrix);
    let found = search_ivf(&index, &queries, 5, &params);
    assert_eq!(found.stats.query_chunks, cut, "index default");
}

/// Threads: rayon pools of one and two give the same bits.
pub fn threads_are_bit_equal<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 2500, 200);
    for (name, base, queries) in problems(n, sized::<B>(device, 60, 6)) {
        for metric in METRICS {
            let search = || {
                let index = trained::<B>(device, metric, 8, &base);
                let plain = flat::<B>(device, metric, &base);
                let mut answers = vec![search_flat(&plain, &queries, 10)];
                for nprobe in [3, 8] {
                    for mode in IVF_MODES {
                        answers.push(search_ivf(&index, &queries, 10, &probing(nprobe, mode)));
                    }
                }
                (floats(index.centroids().unwrap()), answers)
            };
            let pool = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().unwrap().install(search)
            };
            let (one, two) = (pool(1), pool(2));
            assert_eq!(one.0, two.0, "{name}, {metric}: centroids");
            for (a, b) in one.1.iter().zip(&two.1) {
                a.assert_same(b, &format!("{name}, {metric}: one against two threads"));
            }
        }
    }
}

/// nprobe = nlist equals the flat index, after real training and adds in pieces.
pub fn full_probe_equals_flat<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 1500, 250);
    for (name, base, queries) in problems(n, 8) {
        for metric in METRICS {
            let expected = search_flat(&flat::<B>(device, metric, &base), &queries, 20);
            let mut index = untrained::<B>(device, metric, 10, base.d);
            index.train(base.range(0..n / 2).on(device)).unwrap();
            for piece in [0..n / 3, n / 3..n / 3 + 1, n / 3 + 1..n] {
                index.add(base.range(piece).on(device)).unwrap();
            }
            for mode in IVF_MODES {
                let found = search_ivf(&index, &queries, 20, &probing(10, mode));
                found.assert_same(&expected, &format!("{name}, {metric}, {mode}"));
            }
        }
    }
}
