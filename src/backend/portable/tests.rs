//! The portable bodies on `NdArray`, whose lists serve them through [`ListStore::gather`].
//!
//! No backend of the crate runs them, so nothing else would notice if they broke.

use super::ROUNDOFF;
use crate::backend::Restriction;
use crate::{
    backend::{
        Counts, Hits, IvfBackend, Keep, ListStore, Places, Probing, Reads, RowIds, Scan, Slot,
        host::HostLists, read, read_int, tuning,
    },
    metric::ScanMetric as Metric,
    params::Storage,
    plan::Order,
};
use burn::{
    backend::NdArray,
    tensor::{Tensor, TensorData},
};
use burn_ivf_kernels::{
    distance,
    list_scan::{List, ListIds, Problem, SKIP, WORKSPACE, reference},
    rows::{Layout, Rows},
};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::{collections::HashMap, sync::Arc};

mod lists;
mod rerank;
mod scan;
mod select;

type B = NdArray;

/// Working memory that forces every loop to cut its work, and the default.
const WORKSPACES: [usize; 2] = [64 << 10, 256 << 20];

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn normal(n: usize, d: usize, seed: u64) -> Vec<f32> {
    StandardNormal.sample_iter(rng(seed)).take(n * d).collect()
}

/// Small integers: many rows are equal, and every distance is exact in f32.
fn tied(n: usize, d: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng(seed);
    (0..n * d)
        .map(|_| rng.random_range(-1_i8..2).into())
        .collect()
}

/// `n` different ids in no order.
fn shuffled_ids(n: usize, seed: u64) -> Vec<i64> {
    let mut ids: Vec<i64> = (0..n as i64).map(|i| (i << 33) + i).collect();
    ids.shuffle(&mut rng(seed));
    ids
}

fn tensor(rows: &[f32], d: usize) -> Tensor<B, 2> {
    let data = TensorData::new(rows.to_vec(), [rows.len() / d, d]);
    Tensor::from_data(data, &burn::tensor::Device::<B>::default())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Lists of vectors twice: as a backend keeps them, and as the reference reads them.
struct Fixture {
    d: usize,
    store: HostLists,
    ids: Vec<Arc<Vec<i64>>>,
    rows: Vec<Rows>,
    /// Every vector by its id.
    by_id: HashMap<i64, Vec<f32>>,
}

impl Fixture {
    /// Row `i` of `data` with `ids[i]` in list `lists[i]` of `nlist`.
    fn new(data: &[f32], d: usize, nlist: usize, lists: &[u32], ids: &[i64]) -> Self {
        let device = burn::tensor::Device::<B>::default();
        let keep = Keep::Vectors(Storage::Auto);
        let mut store = <HostLists as ListStore<B>>::new(d, nlist, keep, &device);
        let held = vec![Arc::default(); nlist];
        let held = RowIds::Tables(&held);
        let to = Places { lists, ids, held };
        ListStore::<B>::append(&mut store, tensor(data, d), &to).unwrap();
        let mut tables = vec![Vec::new(); nlist];
        let mut rows = vec![Rows::new(d, Layout::F32); nlist];
        let mut by_id = HashMap::new();
        for ((row, &list), &id) in data.chunks_exact(d).zip(lists).zip(ids) {
            tables[list as usize].push(id);
            rows[list as usize].push(row);
            by_id.insert(id, row.to_vec());
        }
        Self {
            d,
            store,
            ids: tables.into_iter().map(Arc::new).collect(),
            rows,
            by_id,
        }
    }

    /// Five lists: list 1 holds half of the rows, list 3 none; ids in no order.
    fn uneven(data: &[f32], d: usize, seed: u64) -> Self {
        let (n, mut rng) = (data.len() / d, rng(seed));
        let lists: Vec<u32> = (0..n)
            .map(|row| match row % 2 {
                0 => 1,
                _ => [0, 2, 4][rng.random_range(0..3)],
            })
            .collect();
        Self::new(data, d, 5, &lists, &shuffled_ids(n, seed))
    }

    fn scan(&self, metric: Metric, k: usize, queries: &[f32], workspace: usize) -> Scan<'_, B> {
        Scan {
            metric,
            d: self.d,
            k,
            lists: &self.store,
            ids: RowIds::Tables(&self.ids),
            queries: tensor(queries, self.d),
            workspace,
            restriction: Restriction::default(),
        }
    }

    /// The reference's answer: ids, f64 distances, and what it counted.
    fn reference(
        &self,
        metric: Metric,
        k: usize,
        queries: &[f32],
        probes: &[i64],
    ) -> (Vec<i64>, Vec<f64>, Counts) {
        let views: Vec<List<'_>> = self
            .rows
            .iter()
            .zip(&self.ids)
            .map(|(rows, ids)| List::new(rows, ListIds::Table(ids)).unwrap())
            .collect();
        let problem = Problem {
            metric,
            d: self.d,
            k,
            lists: &views,
            queries,
            workspace: WORKSPACE,
        };
        let nprobe = probes.len() / problem.nq().max(1);
        let probes: Vec<u32> = probes
            .iter()
            .map(|&list| u32::try_from(list).unwrap_or(SKIP))
            .collect();
        let (best, wide) = reference::scan(&problem, &probes, nprobe);
        let counts = Counts {
            rows_scanned: best.rows_scanned,
            lists_scanned: best.lists_scanned,
            rows_reranked: 0,
        };
        (best.labels, wide, counts)
    }

    /// The f64 distance of a query to the row with this id, and the scale that rounding is
    /// relative to.
    fn measure(&self, metric: Metric, query: &[f32], id: i64) -> (f64, f64) {
        let row = &self.by_id[&id];
        let value = distance::reference(metric, query, row);
        let magnitudes = |v: &[f32]| -> Vec<f32> { v.iter().map(|c| c.abs()).collect() };
        let scale = match metric {
            Metric::L2 => value,
            Metric::InnerProduct => {
                distance::reference(metric, &magnitudes(query), &magnitudes(row))
            }
        };
        (value, scale)
    }

    /// Fails unless `found` is the answer with these ids and f64 distances, up to swaps of rows
    /// nearer to each other than 1e-6.
    #[track_caller]
    fn check(
        &self,
        metric: Metric,
        queries: &[f32],
        found: &Answer,
        (labels, wide): (&[i64], &[f64]),
        what: &str,
    ) {
        assert_eq!(found.labels.len(), labels.len(), "{what}: shape");
        let tolerance = ((self.d as f64).log2().ceil() + 3.0) * ROUNDOFF;
        for (i, query) in queries.chunks_exact(self.d).enumerate() {
            let mut last: Option<(f32, i64)> = None;
            for at in i * found.k..(i + 1) * found.k {
                let what = format!("{what}, query {i}, rank {}", at - i * found.k);
                let (id, distance) = (found.labels[at], found.distances[at]);
                if labels[at] == -1 || id == -1 {
                    assert_eq!((id, labels[at]), (-1, -1), "{what}");
                    assert_eq!(distance, metric.padding(), "{what}");
                    continue;
                }
                let (value, scale) = self.measure(metric, query, id);
                if id != labels[at] {
                    let off = (value - wide[at]).abs();
                    let near = off <= 1e-6 * scale;
                    assert!(near, "{what}: id {id} for {}, {off} worse", labels[at]);
                }
                let off = (f64::from(distance) - value).abs();
                assert!(off <= tolerance * scale, "{what}: {distance} for {value}");
                let key = metric.key(distance);
                if let Some((before, smaller)) = last {
                    let ordered = before < key || before == key && smaller < id;
                    assert!(ordered, "{what}: {distance}, id {id} out of order");
                }
                last = Some((key, id));
            }
        }
    }
}

fn lists_read(probes: &[i64], nq: usize) -> Probing<B> {
    let shape = [nq, probes.len() / nq.max(1)];
    let data = TensorData::new(probes.to_vec(), shape);
    Probing {
        reads: Reads::Lists(Tensor::from_data(
            data,
            &burn::tensor::Device::<B>::default(),
        )),
        order: Order::ListMajor,
        tuning: tuning::<B>(&burn::tensor::Device::<B>::default()),
    }
}

/// Hits on the host.
#[derive(Debug, PartialEq)]
struct Answer {
    k: usize,
    labels: Vec<i64>,
    distances: Vec<f32>,
    counts: Option<Counts>,
}

impl Answer {
    fn of(hits: Hits<B>) -> Self {
        assert_eq!(hits.labels.dims(), hits.distances.dims());
        let [_, k] = hits.labels.dims();
        Self {
            k,
            labels: read_int(hits.labels).unwrap(),
            distances: read(hits.distances).unwrap(),
            counts: hits.counts,
        }
    }

    fn portable(scan: &Scan<'_, B>, probes: &[i64]) -> Self {
        Self::of(super::list_scan(scan, &lists_read(probes, scan.nq())).unwrap())
    }

    fn host(scan: &Scan<'_, B>, probes: &[i64]) -> Self {
        Self::of(B::list_scan(scan, &lists_read(probes, scan.nq())).unwrap())
    }

    /// The exact keys of all rows of the lists read, ordered: what no filter can have lost from.
    fn exhaustive(scan: &Scan<'_, B>, probes: &[i64]) -> Self {
        let nq = scan.nq();
        let rows = |&list: &i64| -> Vec<Slot> {
            let list = u32::try_from(list).unwrap_or(SKIP);
            let rows = if list == SKIP {
                0
            } else {
                scan.ids.len(list as usize) as u32
            };
            (0..rows).map(|slot| Slot { list, slot }).collect()
        };
        let mut table: Vec<Vec<Slot>> = probes
            .chunks_exact(probes.len() / nq)
            .map(|probes| probes.iter().flat_map(rows).collect())
            .collect();
        let width = table.iter().map(Vec::len).max().unwrap_or(0);
        for row in &mut table {
            row.resize(width, Slot::NONE);
        }
        Self::of(super::rerank(scan, &table.concat(), width).unwrap())
    }

    /// Fails unless the two hold the same bits.
    #[track_caller]
    fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!(self.labels, other.labels, "{what}: ids");
        let same = bits(&self.distances) == bits(&other.distances);
        assert!(same, "{what}: bits of the distances");
    }
}
