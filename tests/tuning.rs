//! Tuned settings hold on queries that tuning has not seen, on real vectors.
//!
//! Sets of `../shared/data` that are not there are skipped with a printed reason.
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    dead_code,
    unused_macros
)]

mod suite;

use burn::backend::NdArray;
use burn_ivf::{
    IndexIvfFlat, Metric, ParameterSpace, SearchParams, TuneOptions, Tuner, pareto, recall_at_k,
    suggest_nlist,
};
use rand::seq::SliceRandom;
use suite::sets::{shared, vectors};
use suite::support::*;

const K: usize = 10;

/// An index over a set, its queries and their true neighbours by exhaustive search.
struct Set {
    index: IndexIvfFlat<NdArray>,
    queries: Rows,
    truth: Vec<i64>,
}

impl Set {
    fn open(name: &str, metric: Metric, nlist: Option<usize>) -> Option<Self> {
        let folder = shared(name)?;
        let base = vectors(&folder.join("base.npy"));
        let queries = vectors(&folder.join("queries.npy"));
        let nlist = nlist.unwrap_or_else(|| suggest_nlist(base.n()));
        let device = Default::default();
        let index = trained::<NdArray>(&device, metric, nlist, &base);
        let all = SearchParams::exact().with_nprobe(nlist);
        let truth = search_ivf(&index, &queries, K, &all).i;
        Some(Self {
            index,
            queries,
            truth,
        })
    }

    fn truth_of(&self, queries: &[usize]) -> Vec<i64> {
        let row = |&q: &usize| self.truth[q * K..][..K].to_vec();
        queries.iter().flat_map(row).collect()
    }

    /// Tunes on a random half, searches the other: nprobe and the other half's recall.
    fn split(&self, target: f64, confidence: f64, seed: u64) -> (usize, f64) {
        let mut order: Vec<usize> = (0..self.queries.n()).collect();
        order.shuffle(&mut rng(seed));
        let (seen, unseen) = order.split_at(order.len() / 2);
        let options = TuneOptions {
            confidence,
            repeats: 1,
            ..TuneOptions::default()
        };
        let seen = self.queries.pick(seen).on(&Default::default());
        let report = self
            .index
            .tune_for_recall(seen, K, target, &options)
            .unwrap();
        let found = search_ivf(&self.index, &self.queries.pick(unseen), K, &report.params);
        let recall = recall_at_k(&found.i, &self.truth_of(unseen), K, K, K).unwrap();
        (report.value, recall)
    }
}

const SETS: [(&str, Metric); 2] = [
    ("wordnet-minilm-384-ip", Metric::InnerProduct),
    ("kodak-sift-128-l2", Metric::L2),
];

/// In at least 19 of 20 random splits, the half not seen reaches the target.
#[test]
fn targets_hold_on_held_out_queries() {
    for (name, metric) in SETS {
        let Some(set) = Set::open(name, metric, Some(128)) else {
            continue;
        };
        let splits: Vec<_> = (0..20)
            .map(|seed| set.split(0.95, TuneOptions::default().confidence, seed))
            .collect();
        let kept = splits.iter().filter(|split| split.1 >= 0.95).count();
        assert!(kept >= 19, "{name}: {splits:?}");
        // and not by reading everything
        assert!(
            splits.iter().all(|split| split.0 < 64),
            "{name}: {splits:?}"
        );
    }
}

/// The figures of docs/tuning.md: `cargo test --release --test tuning -- --ignored --nocapture`.
#[test]
#[ignore = "prints the tables of docs/tuning.md; minutes"]
fn record() {
    for (name, metric) in SETS {
        let Some(set) = Set::open(name, metric, None) else {
            continue;
        };
        println!("\n{name}, {} lists", set.index.nlist().unwrap());
        for target in [0.9, 0.95, 0.99] {
            for confidence in [0.5, 0.9, 0.99] {
                let splits: Vec<_> = (0..40)
                    .map(|seed| set.split(target, confidence, 1000 + seed))
                    .collect();
                let kept = splits.iter().filter(|split| split.1 >= target).count();
                let first = splits[..20]
                    .iter()
                    .filter(|split| split.1 >= target)
                    .count();
                let mean = |f: fn(&(usize, f64)) -> f64| {
                    splits.iter().map(f).sum::<f64>() / splits.len() as f64
                };
                println!(
                    "| {target} | {confidence} | {first}/20 | {kept}/40 | {:.1} | {:.4} |",
                    mean(|split| split.0 as f64),
                    mean(|split| split.1),
                );
            }
        }
        let queries = set.queries.on(&Default::default());
        let tuner = Tuner::new(&set.index, queries, K, &TuneOptions::default()).unwrap();
        for point in pareto(&tuner.explore(&ParameterSpace::of(&set.index)).unwrap()) {
            println!("{point}");
        }
    }
}

/// What `suggest_nlist` costs against other numbers of lists, at the same recall.
#[test]
#[ignore = "prints a table of docs/tuning.md; minutes"]
fn record_nlist() {
    for (name, metric) in SETS {
        let Some(folder) = shared(name) else { continue };
        let n = vectors(&folder.join("base.npy")).n();
        println!("\n{name}, {n} vectors, suggested {}", suggest_nlist(n));
        for nlist in [1, 2, 4, 8, 16].map(|times| times * n.isqrt()) {
            let set = Set::open(name, metric, Some(nlist)).unwrap();
            let queries = set.queries.on(&Default::default());
            let report = set
                .index
                .tune_for_recall(queries, K, 0.95, &TuneOptions::default())
                .unwrap();
            println!("nlist {nlist}: {report}");
        }
    }
}
