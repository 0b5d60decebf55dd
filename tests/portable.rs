//! The bodies in Burn operations, as a backend without kernels would run them, against indexes.
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
use burn::tensor::Device;
use burn_ivf::backend::{
    IvfBackend, Keep, ListStore, Measure, Output, Places, Probing, Reads, Restriction, RowIds,
    Scan, ScanMetric, portable, read, read_int, tuning,
};
use burn_ivf::{Metric, Order, SearchMode, Storage};
use std::sync::Arc;
use suite::oracle::{Oracle, measure, near};
use suite::support::{
    Answer, METRICS, Rows, clustered, flat, normal, preset, probing, search_flat, search_ivf,
    uniform,
};

type B = NdArray;

/// Rows in one list, with automatic ids.
struct OneList {
    store: <B as IvfBackend>::Lists,
    ids: [Arc<Vec<i64>>; 1],
}

impl OneList {
    fn new(base: &Rows) -> Self {
        let device = Device::<B>::default();
        let ids: Vec<i64> = (0..base.n() as i64).collect();
        let keep = Keep::Vectors(Storage::Auto);
        let mut store: <B as IvfBackend>::Lists = ListStore::<B>::new(base.d, 1, keep, &device);
        let to = Places {
            lists: &vec![0; base.n()],
            ids: &ids,
            held: RowIds::Tables(&[Arc::default()]),
        };
        ListStore::<B>::append(&mut store, base.on(&device), &to).unwrap();
        Self {
            store,
            ids: [Arc::new(ids)],
        }
    }

    /// Distances and ids of a search by the portable bodies.
    fn search(&self, metric: Metric, queries: &Rows, k: usize) -> (Vec<f32>, Vec<i64>) {
        let metric = match metric {
            Metric::L2 => ScanMetric::L2,
            _ => ScanMetric::InnerProduct,
        };
        let scan = Scan::<B> {
            metric,
            d: queries.d,
            k,
            lists: &self.store,
            ids: RowIds::Tables(&self.ids),
            queries: queries.on(&Device::<B>::default()),
            workspace: 1 << 20,
            restriction: Restriction::default(),
        };
        let probing = Probing {
            reads: Reads::All,
            order: Order::ListMajor,
            tuning: tuning::<B>(&Default::default()),
        };
        let hits = portable::list_scan(&scan, &probing).unwrap();
        (
            read(hits.distances).unwrap(),
            read_int(hits.labels).unwrap(),
        )
    }
}

#[test]
fn answers_are_those_of_a_flat_index() {
    let device = Device::<B>::default();
    let sets = [
        ("uniform", uniform(2000, 16, 1)),
        ("clustered", clustered(2000, 33, 10, 0.02, 2)),
        ("far", normal(2000, 8, 3).map(|v| v + 1000.0)),
    ];
    for (name, base) in sets {
        let queries = base.range(0..200);
        for metric in METRICS {
            let index = flat::<B>(&device, metric, &base);
            let expected = search_flat(&index, &queries, 10);
            let (d, i) = OneList::new(&base).search(metric, &queries, 10);
            let found = Answer {
                d,
                i,
                ..expected.clone()
            };
            let what = format!("portable, {name}");
            Oracle::new(metric, &base).check(&queries, &found, &what);
            for at in 0..found.i.len() {
                let query = queries.row(at / 10);
                let [a, b] = [&expected, &found]
                    .map(|answer| measure(metric, query, base.row(answer.i[at] as usize)));
                let same = expected.i[at] == found.i[at] || near(a, b);
                assert!(same, "{what}, {metric}, query {}", at / 10);
            }
        }
    }
}

/// The bound of the scores must hold where squared lengths are zero although vectors are not.
#[test]
fn matrix_equals_csr_where_squares_underflow() {
    let device = Device::<B>::default();
    let vector = normal(1, 33, 4);
    let shaken = uniform(1500, 33, 5);
    let mut base = shaken.map(|v| 1.0 + 4e-7 * v);
    for row in 0..base.n() {
        for (value, v) in base.row_mut(row).iter_mut().zip(vector.row(0)) {
            *value *= v;
        }
    }
    for (rows, query) in [(1e-25, 1.0), (1e-22, 1e-22), (1e-20, 1e-20), (1e-30, 1e10)] {
        let base = base.map(|v| v * rows);
        let queries = normal(8, 33, 6).map(|v| v * query);
        for metric in METRICS {
            let index = preset::<B>(&device, metric, &base.range(0..2), &base);
            let [csr, matrix] = [SearchMode::Csr, SearchMode::Matrix]
                .map(|mode| search_ivf(&index, &queries, 7, &probing(2, mode)));
            csr.assert_same(&matrix, &format!("{metric}, rows {rows}, queries {query}"));
        }
    }
}

/// The body of `pairwise` in Burn operations against the kernel: every measure, NaN and all.
#[test]
fn pairwise_bodies_agree() {
    let device = Device::<B>::default();
    let (mut q, mut x) = (uniform(7, 19, 31), uniform(40, 19, 32));
    q.row_mut(1)[4] = f32::NAN;
    q.row_mut(2)[0] = f32::INFINITY;
    x.row_mut(3)[4] = f32::NAN;
    x.row_mut(5)[18] = -2.0;
    q.row_mut(6)[18] = -2.0;
    let measures = [
        Measure::L2,
        Measure::InnerProduct,
        Measure::L1,
        Measure::Linf,
        Measure::Lp(3.0),
        Measure::Lp(0.5),
        Measure::Canberra,
        Measure::BrayCurtis,
        Measure::JensenShannon,
        Measure::Jaccard,
        Measure::NanEuclidean,
        Measure::Gower,
    ];
    for measure in measures {
        for output in [Output::Distances, Output::Keys] {
            let (q, x) = (|| q.on::<B>(&device), || x.on::<B>(&device));
            let own = read(portable::pairwise(q(), x(), measure, output).unwrap()).unwrap();
            let kernel = read(B::pairwise(q(), x(), measure, output).unwrap()).unwrap();
            for (at, (a, b)) in own.iter().zip(&kernel).enumerate() {
                let close = (a - b).abs() <= 3e-6 * b.abs().max(0.1);
                let same = close || a.is_nan() && b.is_nan() || a == b;
                assert!(same, "{measure:?} {output:?} pair {at}: {a} for {b}");
            }
        }
    }
}
