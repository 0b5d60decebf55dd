//! The k best by measures that compare every pair: tiles of the matrix of keys, selected and merged.
//!
//! Rows come in the order of their ids, so a smaller column is a smaller id, and the k best of
//! what was selected before (first) and of the next tile are the k best of all, ties and all.
//! Everything stays on the device; only [`lists`] reads, to merge lists of any ids.

use super::{
    Counts, Hits, IvfBackend, ListStore, RangeHits, Reads, Restriction, RowIds, SKIP, Slot,
    label_dtype, labels_from, list_numbers, portable::pieces, read, read_int, select_rows,
};
use crate::{
    error::Result,
    metric::{Measure, Metric, ScanMetric},
};
use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_ivf_kernels::{
    list_scan::{Best, restrict::Allowed},
    order::{Candidate, TopK},
    pairwise::Output,
};
use core::ops::Range;

/// What is searched, and how.
#[derive(Debug, Clone)]
pub(crate) struct Pairs<E: IvfBackend> {
    pub metric: Metric,
    /// Results per query.
    pub k: usize,
    /// f32 `[nq, d]`, prepared for the metric.
    pub queries: Tensor<E, 2>,
    /// Bytes of working memory.
    pub workspace: usize,
}

/// The k best rows of every query: keys, smaller is better, and places of rows, `[nq, k]`.
struct Found<E: IvfBackend> {
    keys: Tensor<E, 2>,
    places: Tensor<E, 2, Int>,
}

impl<E: IvfBackend> Pairs<E> {
    fn nq(&self) -> usize {
        self.queries.dims()[0]
    }

    /// Rows of a tile, whose vectors take up to a quarter of the workspace, and queries of one,
    /// whose keys take up to another, each with a copy on the way.
    fn tile(&self) -> (usize, usize) {
        let share = self.workspace / 4;
        let rows = (share / (8 * self.queries.dims()[1])).clamp(1, 1 << 20);
        (rows, (share / (8 * rows.max(4 * self.k))).max(1))
    }

    /// The k best of `n` rows, of which `rows` brings pieces in order of their ids. `labels` turns
    /// places of rows into ids.
    pub fn search(
        &self,
        n: usize,
        rows: impl Fn(Range<usize>) -> Result<Tensor<E, 2>>,
        labels: &Table<'_>,
    ) -> Result<Hits<E>> {
        let (nq, device) = (self.nq(), self.queries.device());
        if nq == 0 || n == 0 {
            return Ok(Hits::padding(self.metric, nq, self.k, &device));
        }
        let measure = self.metric.measure();
        let (row_tile, query_tile) = self.tile();
        let mut found: Vec<Option<Found<E>>> = pieces(nq, query_tile).map(|_| None).collect();
        for range in pieces(n, row_tile) {
            let x = rows(range.clone())?;
            for (mine, queries) in found.iter_mut().zip(pieces(nq, query_tile)) {
                let q = self.slice(queries);
                let best = tile_best(q, x.clone(), range.start, self.k, measure)?;
                *mine = Some(match mine.take() {
                    None => best,
                    Some(before) => before.merge(best, self.k)?,
                });
            }
        }
        let (keys, places) = found
            .into_iter()
            .flatten()
            .map(|f| (f.keys, f.places))
            .unzip();
        let found = Found {
            keys: Tensor::cat(keys, 0),
            places: Tensor::cat(places, 0),
        };
        let mut hits = found.hits(self.metric, self.k, labels);
        let compared = nq as u64 * n as u64;
        hits.counts = Some(Counts {
            rows_scanned: compared,
            lists_scanned: nq as u64,
            rows_reranked: compared,
        });
        Ok(hits)
    }

    fn slice(&self, queries: Range<usize>) -> Tensor<E, 2> {
        let d = self.queries.dims()[1];
        self.queries.clone().slice([queries, 0..d])
    }

    /// The k best of one list's rows, held by `store` with `ids`.
    pub fn one_list(&self, store: &E::Lists, ids: RowIds<'_>) -> Result<Hits<E>> {
        let order = by_id(ids, 0);
        let sorted: Vec<i64> = order.iter().map(|&at| ids.id(at)).collect();
        let labels = if sorted.iter().enumerate().all(|(i, &id)| id == i as i64) {
            Table::Places
        } else {
            Table::Ids(&sorted)
        };
        self.search(order.len(), |range| store.gather(&order[range]), &labels)
    }

    /// The k best of the rows of the lists in `probes`, `[nq, nprobe]`, -1 reading none, that
    /// `restriction` leaves. Reads the device once a list.
    pub fn lists(
        &self,
        store: &E::Lists,
        ids: RowIds<'_>,
        probes: Tensor<E, 2, Int>,
        restriction: Restriction<'_>,
    ) -> Result<Hits<E>> {
        let (nq, k, nprobe) = (self.nq(), self.k, probes.dims()[1]);
        let probes = list_numbers(probes)?;
        let measure = self.metric.measure();
        let (row_tile, query_tile) = self.tile();
        let mut best = padding(self.metric, nq, k);
        // A candidate is 12 bytes, and as much again while a buffer is cut.
        for block in pieces(nq, self.workspace / 4 / (32 * k)) {
            let mut found = vec![TopK::new(k); block.len()];
            let members = by_list(&probes, block.start * nprobe..block.end * nprobe, ids);
            for (l, members) in members.iter().enumerate().filter(|(_, m)| !m.is_empty()) {
                let allowed: Vec<Allowed<'_>> = members
                    .iter()
                    .map(|&pair| restriction.of(pair / nprobe, pair, l, ids.len(l)))
                    .collect();
                for allowed in &allowed {
                    let rows = allowed.count() as u64;
                    best.rows_scanned += rows;
                    best.lists_scanned += u64::from(rows > 0);
                }
                let order = by_id(ids, l);
                for range in pieces(order.len(), row_tile) {
                    let at = &order[range];
                    let x = store.gather(at)?;
                    for (members, allowed) in
                        members.chunks(query_tile).zip(allowed.chunks(query_tile))
                    {
                        let queries: Vec<u32> =
                            members.iter().map(|pair| (pair / nprobe) as u32).collect();
                        let q = select_rows(&self.queries, &queries);
                        let mut keys = E::pairwise(q, x.clone(), measure, Output::Keys)?;
                        if let Some(barred) = barred(allowed, at) {
                            let shape = keys.dims();
                            let barred = TensorData::new(barred, shape);
                            let device = (&keys.device(), DType::F32);
                            keys = keys + Tensor::from_data(barred, device);
                        }
                        let tile = select(keys, 0, k)?;
                        let width = tile.keys.dims()[1];
                        let (keys, columns) = (read(tile.keys)?, read_int(tile.places)?);
                        for (pair, (&key, &column)) in keys.iter().zip(&columns).enumerate() {
                            if key < f32::INFINITY {
                                let at = at[column as usize];
                                let mine = members[pair / width] / nprobe - block.start;
                                found[mine].push(Candidate { key, at }, &ids);
                            }
                        }
                    }
                }
            }
            for (query, mine) in block.zip(&mut found) {
                mine.drain_sorted(&ids, |rank, found| {
                    best.distances[query * k + rank] = distance(measure, found.key);
                    best.labels[query * k + rank] = ids.id(found.at);
                });
            }
        }
        best.rows_reranked = best.rows_scanned;
        Ok(Hits::from_host(best, k, &self.queries.device()))
    }
}

impl<E: IvfBackend> Pairs<E> {
    /// All rows of the lists read whose key is at most `limit`: list after list, as inserted. Reads the
    /// keys of every tile.
    pub fn range(
        &self,
        store: &E::Lists,
        ids: RowIds<'_>,
        reads: &Reads<E>,
        restriction: Restriction<'_>,
        limit: f32,
    ) -> Result<RangeHits<E>> {
        let nq = self.nq();
        let (probes, nprobe) = reads.to_host(nq)?;
        let measure = self.metric.measure();
        let (row_tile, query_tile) = self.tile();
        let members = by_list(&probes, 0..probes.len(), ids);
        let (mut counts, mut rows) = (Counts::default(), vec![Vec::new(); nq]);
        for (l, members) in members.iter().enumerate().filter(|(_, m)| !m.is_empty()) {
            for members in members.chunks(query_tile) {
                let allowed: Vec<Allowed<'_>> = members
                    .iter()
                    .map(|&pair| restriction.of(pair / nprobe, pair, l, ids.len(l)))
                    .collect();
                for allowed in &allowed {
                    let rows = allowed.count() as u64;
                    counts.rows_scanned += rows;
                    counts.lists_scanned += u64::from(rows > 0);
                }
                let queries = members.iter().map(|pair| (pair / nprobe) as u32);
                let q = select_rows(&self.queries, &queries.collect::<Vec<_>>());
                for range in pieces(ids.len(l), row_tile) {
                    let slot = |slot| Slot {
                        list: l as u32,
                        slot: slot as u32,
                    };
                    let at: Vec<Slot> = range.map(slot).collect();
                    let keys = E::pairwise(q.clone(), store.gather(&at)?, measure, Output::Keys)?;
                    let keys = read(keys)?;
                    let lines = keys.chunks_exact(at.len()).zip(members).zip(&allowed);
                    for ((keys, &pair), allowed) in lines {
                        let found = keys.iter().zip(&at).filter(|(key, at)| {
                            let distance = distance(measure, **key);
                            **key < f32::INFINITY
                                && self.metric.key(distance) <= limit
                                && allowed.contains(at.slot)
                        });
                        let found = found.map(|(&key, &at)| (distance(measure, key), ids.id(at)));
                        rows[pair / nprobe].extend(found);
                    }
                }
            }
        }
        counts.rows_reranked = counts.rows_scanned;
        Ok(RangeHits::from_rows(
            rows,
            Some(counts),
            &self.queries.device(),
        ))
    }
}

/// What the places of rows stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table<'a> {
    /// Ids are places.
    Places,
    /// The row at place `i` has id `ids[i]`.
    Ids(&'a [i64]),
}

impl<E: IvfBackend> Found<E> {
    /// The k best of these and of later rows.
    fn merge(self, later: Self, k: usize) -> Result<Self> {
        let (keys, columns) = E::select_k(Tensor::cat(vec![self.keys, later.keys], 1), k)?;
        let places = Tensor::cat(vec![self.places, later.places], 1);
        Ok(Self {
            keys,
            places: places.gather(1, columns),
        })
    }

    /// Distances and ids, `[nq, k]`, with padding where there is no hit.
    fn hits(self, metric: Metric, k: usize, table: &Table<'_>) -> Hits<E> {
        let ([nq, width], device) = (self.keys.dims(), self.keys.device());
        let missing = self.keys.clone().greater_elem(f32::MAX);
        let labels = match table {
            Table::Places => self.places.cast(label_dtype::<E>(&device)),
            Table::Ids(ids) => {
                let ids = labels_from::<E, 1>(ids.to_vec(), [ids.len()], &device);
                ids.select(0, self.places.reshape([nq * width]))
                    .reshape([nq, width])
            }
        };
        let mut labels = labels.mask_fill(missing, -1);
        // A distance beyond the range is a hit, with a key at its end.
        let beyond = self.keys.clone().greater_equal_elem(f32::MAX);
        let keys = self.keys.mask_fill(beyond, f32::INFINITY);
        let mut distances = if metric.larger_is_better() {
            // Not -0 for a similarity of 0.
            keys.neg() + 0.0
        } else {
            keys
        };
        if width < k {
            let rest: Hits<E> = Hits::padding(metric, nq, k - width, &device);
            distances = Tensor::cat(vec![distances, rest.distances], 1);
            labels = Tensor::cat(vec![labels, rest.labels], 1);
        }
        Hits {
            distances,
            labels,
            counts: None,
            order: None,
            filter: None,
        }
    }
}

/// The k best of one tile; places count from `first`.
fn tile_best<E: IvfBackend>(
    q: Tensor<E, 2>,
    x: Tensor<E, 2>,
    first: usize,
    k: usize,
    measure: Measure,
) -> Result<Found<E>> {
    select(E::pairwise(q, x, measure, Output::Keys)?, first, k)
}

/// The k best of a matrix of keys; places count from `first`.
fn select<E: IvfBackend>(keys: Tensor<E, 2>, first: usize, k: usize) -> Result<Found<E>> {
    let (keys, columns) = E::select_k(keys, k)?;
    let places = if first == 0 {
        columns
    } else {
        columns + first as i64
    };
    Ok(Found { keys, places })
}

/// `+inf` for every pair that is not allowed, 0 for the others; `None` where all are.
fn barred(allowed: &[Allowed<'_>], at: &[Slot]) -> Option<Vec<f32>> {
    if allowed.iter().all(Allowed::is_all) {
        return None;
    }
    let bar = |allowed: &Allowed<'_>, at: &Slot| {
        if allowed.contains(at.slot) {
            0.0
        } else {
            f32::INFINITY
        }
    };
    let pairs = allowed
        .iter()
        .flat_map(|allowed| at.iter().map(move |at| bar(allowed, at)));
    Some(pairs.collect())
}

/// A distance from its key; one at the end of the range lies beyond.
fn distance(measure: Measure, key: f32) -> f32 {
    let key = if key < f32::MAX { key } else { f32::INFINITY };
    if measure.larger_is_better() {
        0.0 - key
    } else {
        key
    }
}

/// The (query, rank) pairs of some probes that read each list.
fn by_list(probes: &[u32], pairs: Range<usize>, ids: RowIds<'_>) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); ids.nlist()];
    for pair in pairs {
        let list = probes[pair];
        if list != SKIP && ids.len(list as usize) > 0 {
            members[list as usize].push(pair);
        }
    }
    members
}

/// The rows of list `l` in order of (id, place).
fn by_id(ids: RowIds<'_>, l: usize) -> Vec<Slot> {
    let slot = |slot| Slot {
        list: l as u32,
        slot,
    };
    let mut order: Vec<Slot> = (0..ids.len(l) as u32).map(slot).collect();
    if !order.is_sorted_by_key(|&at| ids.id(at)) {
        order.sort_by_key(|&at| ids.id(at));
    }
    order
}

/// Nothing found for any of `nq` queries.
pub(super) fn padding(metric: Metric, nq: usize, k: usize) -> Best {
    let mut best = Best::padding(ScanMetric::L2, nq, k);
    best.distances.fill(metric.padding());
    best
}
