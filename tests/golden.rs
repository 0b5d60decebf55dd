//! Real vectors with exact ground truth: the small set that ships with the examples, and the sets
//! of `../shared/data`, which are skipped with a printed reason where that folder is missing.
//!
//! A result counts as right by value: its own exact f64 distance is the true one of its rank up to
//! 1e-6 relative, because an f32 engine may swap near-ties.
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    unused_macros
)]

mod suite;

use burn::backend::NdArray;
use burn_ivf::{
    IdSelector, IndexIvfFlat, IvfBackend, Metric, SearchMode, SearchParams, recall_at_k,
};
use std::path::{Path, PathBuf};
use suite::oracle::{TIE, assert_close, measure};
use suite::sets::{npy, shared, vectors};
use suite::support::*;

/// The sample in the repository.
fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/wordnet")
}

/// Exact neighbours: ids and values, `width` per query.
struct Truth {
    ids: Vec<i64>,
    values: Vec<f64>,
    width: usize,
}

impl Truth {
    fn read(folder: &Path, metric: &str) -> Self {
        let (ids, width) = npy(&folder.join(format!("gt_{metric}_ids.npy")), |v| v as i64);
        let (values, _) = npy(&folder.join(format!("gt_{metric}_dist.npy")), |v| v);
        Self { ids, values, width }
    }

    /// The share of the first `k` results that are right by value.
    fn recall(&self, metric: Metric, base: &Rows, queries: &Rows, found: &Answer, k: usize) -> f64 {
        let mut right = 0;
        for q in 0..found.nq {
            let worst = self.values[q * self.width + k - 1];
            let slack = TIE * worst.abs();
            for &id in found.row(q).1[..k].iter().filter(|&&id| id >= 0) {
                let value = measure(metric, queries.row(q), base.row(id as usize)).0;
                right += usize::from(if metric == Metric::L2 {
                    value <= worst + slack
                } else {
                    value >= worst - slack
                });
            }
        }
        right as f64 / (found.nq * k) as f64
    }

    /// Fails unless every rank of every query holds the true value.
    fn check(&self, metric: Metric, base: &Rows, queries: &Rows, found: &Answer, what: &str) {
        assert!(found.k <= self.width);
        let mut same = 0;
        for q in 0..found.nq {
            let (d, i) = found.row(q);
            for rank in 0..found.k {
                let what = format!("{what}, query {q}, rank {rank}");
                let at = q * self.width + rank;
                let row = base.row(usize::try_from(i[rank]).expect("no padding"));
                let exact = measure(metric, queries.row(q), row);
                let off = (exact.0 - self.values[at]).abs();
                assert!(
                    i[rank] == self.ids[at] || off <= TIE * self.values[at].abs(),
                    "{what}: id {} at {}, truth {} at {}",
                    i[rank],
                    exact.0,
                    self.ids[at],
                    self.values[at]
                );
                assert_close(d[rank], exact, &what);
                same += usize::from(i[rank] == self.ids[at]);
            }
        }
        let share = same as f64 / (found.nq * found.k) as f64;
        assert!(share > 0.99, "{what}: only {share} of the ids are the same");
    }
}

/// The share of queries whose human-made answer is among the first `k` labels.
fn hit_rate(labels: &[i64], width: usize, answers: &[i64], k: usize) -> f64 {
    let hits = labels
        .chunks(width)
        .zip(answers)
        .filter(|(labels, answer)| labels[..k].contains(answer));
    hits.count() as f64 / answers.len() as f64
}

/// Builds an index over all of `base`.
fn index_over<B: IvfBackend>(metric: Metric, base: &Rows, nlist: usize) -> IndexIvfFlat<B> {
    let device = B::Device::default();
    let mut index = IndexIvfFlat::<B>::builder(base.d)
        .nlist(nlist)
        .metric(metric)
        .seed(1)
        .build(&device)
        .unwrap();
    index.train(base.on(&device)).unwrap();
    index.add(base.on(&device)).unwrap();
    assert_eq!(index.ntotal(), base.n());
    index
}

/// Exact search and an IVF index at full probe give the true values at every rank.
fn full_probe<B: IvfBackend>(folder: &Path, name: &str, metric: Metric, k: usize) {
    let base = vectors(&folder.join("base.npy"));
    let queries = vectors(&folder.join("queries.npy"));
    full_probe_over::<B>(folder, name, metric, k, (&base, &queries));
}

fn full_probe_over<B: IvfBackend>(
    folder: &Path,
    name: &str,
    metric: Metric,
    k: usize,
    (base, queries): (&Rows, &Rows),
) {
    let truth = Truth::read(folder, name);
    let what = folder.file_name().unwrap().to_string_lossy().into_owned();
    let plain = flat::<B>(&Default::default(), metric, base);
    let expected = search_flat(&plain, queries, k);
    truth.check(metric, base, queries, &expected, &what);
    drop(plain);
    let nlist = 64;
    let index = index_over::<B>(metric, base, nlist);
    let found = search_ivf(&index, queries, k, &probing(nlist, SearchMode::Csr));
    found.assert_same(&expected, &format!("{what}, full probe against flat"));
    // the matrix mode on a few of the queries: it gathers every row for each of them
    let few = queries.range(0..4);
    let matrix = search_ivf(&index, &few, k, &probing(nlist, SearchMode::Matrix));
    for q in 0..4 {
        assert_eq!(matrix.row(q), expected.row(q), "{what}, matrix mode");
    }
}

/// wordnet: recall rises with nprobe to 1, and retrieval is as good as exact search's.
fn wordnet<B: IvfBackend>() {
    let Some(folder) = shared("wordnet-minilm-384-ip") else {
        return;
    };
    let base = vectors(&folder.join("base.npy"));
    let queries = vectors(&folder.join("queries.npy"));
    let (answers, _) = npy(&folder.join("qrels.npy"), |v| v as i64);
    let truth = Truth::read(&folder, "ip");
    let exact = hit_rate(&truth.ids, truth.width, &answers, 10);
    // 753 of 2000, which the set's README rounds to 0.377
    assert!(
        (exact - 753.0 / 2000.0).abs() < 1e-12,
        "the truth's own hit@10 is {exact}"
    );
    let index = index_over::<B>(Metric::InnerProduct, &base, 256);
    let (mut last, mut recalls) = (0.0, Vec::new());
    for nprobe in [1, 4, 16, 64, 256] {
        let found = search_ivf(&index, &queries, 10, &probing(nprobe, SearchMode::Auto));
        let recall = truth.recall(Metric::InnerProduct, &base, &queries, &found, 10);
        recalls.push((nprobe, recall));
        assert!(recall >= last, "{recalls:?}");
        last = recall;
        if nprobe == 256 {
            let hits = hit_rate(&found.i, 10, &answers, 10);
            assert!((hits - exact).abs() < 1e-9, "hit@10 {hits}, exact {exact}");
            truth.check(Metric::InnerProduct, &base, &queries, &found, "wordnet");
        }
    }
    suite::open::say(&format!("golden: wordnet recall@10 by nprobe {recalls:?}"));
    assert!((last - 1.0).abs() < 1e-12, "{recalls:?}");
    // faiss-cpu 1.15.1, trained on the same rows: 0.902
    assert!(recalls[2].1 > 0.88, "{recalls:?}");
}

/// wordnet with a label per query: the filtered truth at full probe, on both indexes; the selectors
/// leave fewer rows to compare.
fn wordnet_filtered<B: IvfBackend>() {
    let Some(folder) = shared("wordnet-minilm-384-ip") else {
        return;
    };
    let base = vectors(&folder.join("base.npy"));
    let queries = vectors(&folder.join("queries.npy"));
    let (labels, _) = npy(&folder.join("labels.npy"), |v| v as u32);
    let (asked, _) = npy(&folder.join("queries_filter_label.npy"), |v| v as u32);
    let truth = Truth::read(&folder, "filtered_ip");
    let with_label = |label: u32| {
        let ids = labels.iter().enumerate().filter(|(_, l)| **l == label);
        IdSelector::batch(ids.map(|(id, _)| id as i64))
    };
    let selectors: Vec<IdSelector> = (0..45).map(with_label).collect();
    let index = index_over::<B>(Metric::InnerProduct, &base, 256);
    let own = |params: SearchParams| params.with_query_selectors(selectors.clone(), asked.clone());
    for mode in [SearchMode::Auto, SearchMode::Csr] {
        let params = own(probing(256, mode));
        let found = search_ivf(&index, &queries, 10, &params);
        truth.check(
            Metric::InnerProduct,
            &base,
            &queries,
            &found,
            "filtered wordnet",
        );
        let all = 2000 * 50_000;
        assert!(
            found.stats.rows_scanned < Some(all / 10),
            "{:?}",
            found.stats
        );
        assert_eq!(
            recall_at_k(&found.i, &truth.ids, 10, truth.width, 10).unwrap(),
            1.0
        );
    }
    let plain = flat::<B>(&Default::default(), Metric::InnerProduct, &base);
    let result = plain.search_with(
        queries.on(&plain.device()),
        10,
        &own(SearchParams::default()),
    );
    let found = Answer::read(&result.unwrap());
    truth.check(
        Metric::InnerProduct,
        &base,
        &queries,
        &found,
        "filtered wordnet, flat",
    );
}

/// The sample that ships: exact truth, and the figures its README states.
fn shipped_sample<B: IvfBackend>() {
    let folder = sample();
    let base = vectors(&folder.join("base.npy"));
    let queries = vectors(&folder.join("queries.npy"));
    assert_eq!((base.n(), base.d, queries.n()), (4000, 384, 300));
    let text = std::fs::read_to_string(folder.join("queries.tsv")).unwrap();
    let answers: Vec<i64> = text
        .lines()
        .map(|line| line.split('\t').next().unwrap().parse().unwrap())
        .collect();
    let truth = Truth::read(&folder, "ip");
    let index = index_over::<B>(Metric::InnerProduct, &base, 32);
    let found = search_ivf(&index, &queries, 20, &probing(32, SearchMode::Csr));
    truth.check(Metric::InnerProduct, &base, &queries, &found, "sample");
    for (k, hits) in [(1, 99.0), (5, 163.0), (10, 193.0)] {
        let rate = hit_rate(&found.i, 20, &answers, k);
        assert!((rate - hits / 300.0).abs() < 1e-9, "hit@{k} is {rate}");
    }
    let matrix = search_ivf(&index, &queries, 20, &probing(32, SearchMode::Matrix));
    matrix.assert_same(&found, "sample, matrix against csr");
    let quick = search_ivf(&index, &queries, 10, &probing(8, SearchMode::Auto));
    let recall = recall_at_k(&quick.i, &truth.ids, 10, truth.width, 10).unwrap();
    assert!(
        recall > 0.8,
        "recall@10 with a quarter of the lists: {recall}"
    );
}

/// wordvec with unit vectors: inner product is then the cosine.
fn wordvec_cosine<B: IvfBackend>() {
    let Some(folder) = shared("wordvec-100-ip") else {
        return;
    };
    let unit = |mut rows: Rows| {
        for row in 0..rows.n() {
            let square = |v: &f32| f64::from(*v) * f64::from(*v);
            let norm = rows.row(row).iter().map(square).sum::<f64>().sqrt();
            let scale = |v: &mut f32| *v = (f64::from(*v) / norm) as f32;
            rows.row_mut(row).iter_mut().for_each(scale);
        }
        rows
    };
    let base = unit(vectors(&folder.join("base.npy")));
    let queries = unit(vectors(&folder.join("queries.npy")));
    full_probe_over::<B>(&folder, "cos", Metric::InnerProduct, 100, (&base, &queries));
}

/// One test per set and backend.
macro_rules! golden {
    ($name:ident, $backend:ty) => {
        mod $name {
            use super::*;

            #[test]
            fn sample_is_right() {
                shipped_sample::<$backend>();
            }

            #[test]
            fn wordnet_is_right() {
                wordnet::<$backend>();
            }

            #[test]
            fn filtered_wordnet_is_right() {
                wordnet_filtered::<$backend>();
            }

            #[test]
            fn wordvec_cosine_is_right() {
                wordvec_cosine::<$backend>();
            }

            #[test]
            fn other_sets_are_right() {
                for (set, name, metric) in [
                    ("kodak-sift-128-l2", "l2", Metric::L2),
                    ("mnist-784-l2", "l2", Metric::L2),
                    ("bigann10k-128-l2", "l2", Metric::L2),
                    ("wordvec-100-ip", "ip", Metric::InnerProduct),
                    ("wordvec-100-ip", "l2", Metric::L2),
                ] {
                    if let Some(folder) = shared(set) {
                        full_probe::<$backend>(&folder, name, metric, 100);
                    }
                }
            }
        }
    };
}

golden!(ndarray, NdArray);

#[cfg(feature = "flex")]
golden!(flex, burn::backend::Flex);
