//! Bodies of the custom operations for any Burn backend, and the oracle for faster ones.
//!
//! Arithmetic is done by Burn tensor operations on the device; choosing and ordering happens on
//! the host (Burn's own sort on the CubeCL backends reads back to the host as well). Two things
//! make the results exact and independent of chunking:
//!
//! * **Exact keys** are summed from differences by a fixed pairwise tree of
//!   element-wise additions, each its own tensor operation, so neither the shape of a batch nor a
//!   fused multiply-add can change a bit. The relative error is at most `(log2 d + 3)·2⁻²⁴`.
//! * **Ranking** uses a matrix product on data centred per block, with a rigorous interval around
//!   every score; all rows whose interval reaches the k-th best get exact keys.

use super::{
    Groups, Hits, IvfBackend, ListStore, Probing, RangeHits, Reads, RowIds, Scan, Slot,
    exact_distance, read, select_rows,
};
use crate::{error::Result, metric::ScanMetric as Metric};
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use burn_ivf_kernels::{
    list_scan::{Best, Counts, Found, restrict::Allowed},
    means::add_rows,
    order::{Candidate, TopK},
    select_k,
    simd::Isa,
};
use rayon::prelude::*;

mod lists;
mod pairwise;
mod ranking;
#[cfg(test)]
#[cfg(feature = "ndarray")]
mod tests;

pub use lists::PortableLists;
pub(in crate::backend) use lists::merge;
pub use pairwise::pairwise;
use ranking::{BlockScores, Intervals, block_scores};
pub(crate) use ranking::{length, score_error};

/// Unit roundoff of f32.
pub(crate) const ROUNDOFF: f64 = 1.0 / (1_u64 << 24) as f64;

/// [`IvfBackend::select_k`]: read, threshold scan on the host, write.
///
/// # Errors
/// When the device cannot be read.
pub fn select_k<B: Backend>(
    scores: Tensor<B, 2>,
    k: usize,
) -> Result<(Tensor<B, 2>, Tensor<B, 2, Int>)> {
    let [rows, n] = scores.dims();
    let device = scores.device();
    let selected = select_k::select(
        &read(scores)?,
        n,
        k,
        select_k::Best::Smallest,
        Isa::detect(),
    )?;
    Ok(super::selected_from(selected, rows, &device))
}

/// Bytes of rows that [`all_finite`] makes differences of at once.
const FINITE_BYTES: usize = 64 << 20;

/// [`IvfBackend::all_finite`]: a reduction per 64 MiB of rows, so that no second copy of them is held;
/// one number read.
///
/// # Errors
/// When the device cannot be read.
pub fn all_finite<B: Backend>(rows: Tensor<B, 2>) -> Result<bool> {
    let [n, d] = rows.dims();
    // x - x is 0 for finite x and NaN otherwise, and NaN survives every sum.
    let zero = |part: Tensor<B, 2>| (part.clone() - part).sum();
    let piece = FINITE_BYTES / size_of::<f32>() / d.max(1);
    let parts = pieces(n, piece).map(|part| zero(rows.clone().slice([part, 0..d])));
    match parts.reduce(|a, b| a + b) {
        Some(sum) => Ok(read(sum)? == [0.0]),
        None => Ok(true),
    }
}

/// [`IvfBackend::means`] of rows on the host, row-major with `d` components: f64 sums, row after
/// row, groups in parallel.
pub fn means(rows: &[f32], d: usize, groups: &Groups<'_>) -> Vec<f32> {
    let mut means = vec![0.0; (groups.offsets.len() - 1) * d];
    means
        .par_chunks_exact_mut(d)
        .zip(groups.offsets.par_windows(2))
        .for_each(|(mean, group)| {
            let members = &groups.members[group[0] as usize..group[1] as usize];
            let mut sum = vec![0.0_f64; d];
            let weight = add_rows(rows, groups.weights, members, &mut sum, Isa::detect());
            for (mean, sum) in mean.iter_mut().zip(sum) {
                *mean = (sum / weight) as f32;
            }
        });
    means
}

/// [`IvfBackend::unit_rows`]: read, scaled on the host, written.
///
/// # Errors
/// When the device cannot be read.
pub fn unit_rows<B: IvfBackend>(rows: Tensor<B, 2>) -> Result<Tensor<B, 2>> {
    let (shape, device) = (rows.dims(), rows.device());
    let mut values = B::to_host(rows)?;
    burn_ivf_kernels::unit::unit_rows(&mut values, shape[1]);
    let data = TensorData::new(values, shape);
    Ok(Tensor::from_data(data, (&device, DType::F32)))
}

/// Half-open pieces of `0..n` of at most `size`.
pub(crate) fn pieces(n: usize, size: usize) -> impl Iterator<Item = core::ops::Range<usize>> {
    (0..n)
        .step_by(size.max(1))
        .map(move |a| a..n.min(a + size.max(1)))
}

/// [`IvfBackend::list_scan`]: list by list, a matrix product per list and group of queries,
/// intervals on the host, exact keys for what remains.
///
/// # Errors
/// When the device cannot be read.
pub fn list_scan<B: IvfBackend>(scan: &Scan<'_, B>, probing: &Probing<B>) -> Result<Hits<B>> {
    let (nq, k) = (scan.nq(), scan.k);
    let (probes, nprobe) = probing.reads.to_host(nq)?;
    let mut best = Best::padding(scan.metric, nq, k);
    let finite = finite_rows(&scan.queries)?;
    let per_query = Intervals::capacity(k) * Intervals::ENTRY_BYTES;
    for block in pieces(nq, scan.workspace / 4 / per_query) {
        let mut found = vec![Intervals::new(k); block.len()];
        let members = Members {
            scan,
            probes: &probes,
            nprobe,
            finite: &finite,
        };
        for (l, members) in members.of(block.clone()) {
            let rows = |m: &Member<'_>| m.allowed.count() as u64;
            best.rows_scanned += members.iter().map(rows).sum::<u64>();
            best.lists_scanned += members.len() as u64;
            scan_list(scan, l, &members, block.start, &mut found)?;
        }
        let pairs: Vec<(u32, Slot)> = found
            .iter_mut()
            .enumerate()
            .flat_map(|(i, found)| found.take().into_iter().map(move |at| (i as u32, at)))
            .map(|(i, at)| (i + block.start as u32, at))
            .collect();
        order(scan, &pairs, &mut best)?;
    }
    Ok(Hits::from_host(best, k, &scan.queries.device()))
}

/// [`IvfBackend::rerank`]: exact keys of all candidates, ordered on the host.
///
/// # Errors
/// When the device cannot be read.
pub fn rerank<B: IvfBackend>(
    scan: &Scan<'_, B>,
    candidates: &[Slot],
    per_query: usize,
) -> Result<Hits<B>> {
    let (nq, k) = (scan.nq(), scan.k);
    let mut best = Best::padding(scan.metric, nq, k);
    let finite = finite_rows(&scan.queries)?;
    // A bound on the host's table of pairs: 12 bytes each and as much for their keys.
    for block in pieces(nq, scan.workspace / 4 / (24 * per_query.max(1))) {
        let pairs: Vec<(u32, Slot)> = block
            .filter(|&i| finite[i])
            .flat_map(|i| {
                let row = &candidates[i * per_query..(i + 1) * per_query];
                row.iter()
                    .filter(|&&at| at != Slot::NONE)
                    .map(move |&at| (i as u32, at))
            })
            .collect();
        best.rows_scanned += pairs.len() as u64;
        order(scan, &pairs, &mut best)?;
    }
    Ok(Hits::from_host(best, k, &scan.queries.device()))
}

/// Queries without NaN or infinity.
fn finite_rows<B: Backend>(queries: &Tensor<B, 2>) -> Result<Vec<bool>> {
    let [nq, d] = queries.dims();
    if nq == 0 {
        return Ok(Vec::new());
    }
    // x - x is 0 for finite x and NaN otherwise, and NaN survives every sum.
    let zero = tree_sum(queries.clone() - queries.clone());
    debug_assert!(d > 0);
    Ok(read(zero)?.into_iter().map(|v| v == 0.0).collect())
}

/// A query that reads a list, and the rows it is compared with.
struct Member<'a> {
    query: u32,
    allowed: Allowed<'a>,
}

/// Who reads which list.
struct Members<'a, B: IvfBackend> {
    scan: &'a Scan<'a, B>,
    /// Row-major `[nq, nprobe]`.
    probes: &'a [u32],
    nprobe: usize,
    /// Queries that can be compared.
    finite: &'a [bool],
}

impl<'a, B: IvfBackend> Members<'a, B> {
    /// A block's queries grouped by list: the lists with rows to compare, in order.
    fn of(&self, block: core::ops::Range<usize>) -> impl Iterator<Item = (usize, Vec<Member<'a>>)> {
        let scan = self.scan;
        let mut members: Vec<Vec<Member<'a>>> = Vec::new();
        members.resize_with(scan.ids.nlist(), Vec::new);
        for query in block.filter(|&query| self.finite[query]) {
            for rank in 0..self.nprobe {
                let probe = query * self.nprobe + rank;
                let list = self.probes[probe] as usize;
                if self.probes[probe] == super::SKIP {
                    continue;
                }
                let allowed = scan.restriction.of(query, probe, list, scan.ids.len(list));
                if allowed.count() > 0 {
                    let query = query as u32;
                    members[list].push(Member { query, allowed });
                }
            }
        }
        members
            .into_iter()
            .enumerate()
            .filter(|(_, members)| !members.is_empty())
    }
}

/// The rows of a list that at least one member may be compared with, in pieces.
fn needed(members: &[Member<'_>], l: usize, len: usize, rows: usize) -> Vec<Vec<Slot>> {
    let slot = |slot: u32| Slot {
        list: l as u32,
        slot,
    };
    let at: Vec<Slot> = if members.iter().any(|m| m.allowed.is_all()) {
        (0..len as u32).map(slot).collect()
    } else {
        let mut any = vec![false; len];
        for member in members {
            for slot in member.allowed.slots() {
                any[slot as usize] = true;
            }
        }
        let kept = (0..len as u32).filter(|&slot| any[slot as usize]);
        kept.map(slot).collect()
    };
    at.chunks(rows.max(1)).map(<[Slot]>::to_vec).collect()
}

/// Scores one list for its members, a tile at a time: `each` is given the rows, the members and
/// their scores.
fn score_list<B: IvfBackend>(
    scan: &Scan<'_, B>,
    l: usize,
    members: &[Member<'_>],
    mut each: impl FnMut(&[Slot], &[Member<'_>], &BlockScores) -> Result<()>,
) -> Result<()> {
    let row_bytes = 4 * scan.d * size_of::<f32>();
    // A (query, row) pair costs its score, two copies on the way, and an entry.
    let pair_bytes = 12 + Intervals::ENTRY_BYTES;
    let rows = (scan.workspace / 4 / row_bytes.max(pair_bytes)).clamp(1, 1 << 20);
    let roundoff = B::capabilities(&scan.queries.device()).matmul_input_roundoff;
    for at in needed(members, l, scan.ids.len(l), rows) {
        let x = scan.lists.gather(&at)?;
        let queries = (scan.workspace / 4 / (row_bytes + pair_bytes * at.len())).max(1);
        for members in members.chunks(queries) {
            let numbers: Vec<u32> = members.iter().map(|m| m.query).collect();
            let q = select_rows(&scan.queries, &numbers);
            let scores = block_scores(scan.metric, q, x.clone(), roundoff)?;
            each(&at, members, &scores)?;
        }
    }
    Ok(())
}

/// Scores one list for its members and keeps what may be among the k best.
fn scan_list<B: IvfBackend>(
    scan: &Scan<'_, B>,
    l: usize,
    members: &[Member<'_>],
    first: usize,
    found: &mut [Intervals],
) -> Result<()> {
    score_list(scan, l, members, |at, members, scores| {
        let mut full = Vec::new();
        for (i, member) in members.iter().enumerate() {
            let mine = &mut found[member.query as usize - first];
            let allowed = |at: Slot| member.allowed.contains(at.slot);
            scores.each(i, at, |lower, upper, at| {
                if allowed(at) {
                    mine.push(lower, upper, at);
                }
            });
            if mine.is_full() {
                full.push(member.query);
            }
        }
        settle(scan, &full, first, found)
    })
}

/// [`IvfBackend::range_scan`]: list by list, intervals on the host, exact keys for what may be
/// within the limit.
///
/// # Errors
/// When the device cannot be read.
pub fn range_scan<B: IvfBackend>(
    scan: &Scan<'_, B>,
    reads: &Reads<B>,
    limit: f32,
) -> Result<RangeHits<B>> {
    let nq = scan.nq();
    let (probes, nprobe) = reads.to_host(nq)?;
    let finite = finite_rows(&scan.queries)?;
    let members = Members {
        scan,
        probes: &probes,
        nprobe,
        finite: &finite,
    };
    let mut rows: Vec<Vec<Candidate>> = vec![Vec::new(); nq];
    let mut counts = Counts::default();
    for (l, members) in members.of(0..nq) {
        counts.rows += members
            .iter()
            .map(|m| m.allowed.count() as u64)
            .sum::<u64>();
        counts.lists += members.len() as u64;
        score_list(scan, l, &members, |at, members, scores| {
            let mut pairs = Vec::new();
            for (i, member) in members.iter().enumerate() {
                scores.each(i, at, |lower, _, at| {
                    if lower <= f64::from(limit) && member.allowed.contains(at.slot) {
                        pairs.push((member.query, at));
                    }
                });
            }
            counts.reranked += pairs.len() as u64;
            for (&(query, at), key) in pairs.iter().zip(exact_keys(scan, &pairs)?) {
                if key <= limit {
                    rows[query as usize].push(Candidate { key, at });
                }
            }
            Ok(())
        })?;
    }
    let found = Found::new(scan.metric, &rows, &scan.ids, counts);
    Ok(RangeHits::from_host(found, &scan.queries.device()))
}

/// Replaces the intervals of queries that hold too many (ties, or data the ranking cannot tell
/// apart) by the exact keys of their k best, so that memory stays bounded.
fn settle<B: IvfBackend>(
    scan: &Scan<'_, B>,
    queries: &[u32],
    first: usize,
    found: &mut [Intervals],
) -> Result<()> {
    for &query in queries {
        let mine = &mut found[query as usize - first];
        let pairs: Vec<(u32, Slot)> = mine.take().into_iter().map(|at| (query, at)).collect();
        let keys = exact_keys(scan, &pairs)?;
        let mut top = TopK::new(scan.k);
        for (&(_, at), key) in pairs.iter().zip(keys) {
            top.push(Candidate { key, at }, &scan.ids);
        }
        top.drain_sorted(&scan.ids, |_, best| mine.settle(best));
    }
    Ok(())
}

/// Writes the k best of `pairs` (grouped by query) into `best`.
fn order<B: IvfBackend>(scan: &Scan<'_, B>, pairs: &[(u32, Slot)], best: &mut Best) -> Result<()> {
    let keys = exact_keys(scan, pairs)?;
    let mut at = 0;
    for mine in pairs.chunk_by(|a, b| a.0 == b.0) {
        let query = mine[0].0 as usize;
        let mut top = TopK::new(scan.k);
        for (&(_, at), &key) in mine.iter().zip(&keys[at..]) {
            top.push(Candidate { key, at }, &scan.ids);
        }
        at += mine.len();
        top.drain_sorted(&scan.ids, |rank, found| {
            best.distances[query * scan.k + rank] = scan.metric.key(found.key);
            best.labels[query * scan.k + rank] = RowIds::id(&scan.ids, found.at);
        });
    }
    Ok(())
}

/// Exact keys of (query, row) pairs: smaller is better, never NaN.
pub(crate) fn exact_keys<B: IvfBackend>(
    scan: &Scan<'_, B>,
    pairs: &[(u32, Slot)],
) -> Result<Vec<f32>> {
    let mut keys = Vec::with_capacity(pairs.len());
    let chunk = (scan.workspace / 4 / (4 * scan.d * size_of::<f32>())).max(1);
    for pairs in pairs.chunks(chunk) {
        let queries: Vec<u32> = pairs.iter().map(|p| p.0).collect();
        let at: Vec<Slot> = pairs.iter().map(|p| p.1).collect();
        let q = select_rows(&scan.queries, &queries);
        let x = scan.lists.gather(&at)?;
        let terms = match scan.metric {
            Metric::L2 => {
                let difference = x.clone() - q.clone();
                difference.clone() * difference
            }
            Metric::InnerProduct => x.clone() * q.clone(),
        };
        let sums = read(tree_sum(terms))?;
        let first = keys.len();
        keys.extend(sums.into_iter().map(|sum| scan.metric.key(sum)));
        if scan.metric == Metric::InnerProduct && keys[first..].iter().any(|k| !k.is_finite()) {
            sum_again(&mut keys[first..], &read(q)?, &read(x)?, scan.d);
        }
    }
    Ok(keys)
}

/// Inner products whose f32 sum left the range, summed in f64.
fn sum_again(keys: &mut [f32], q: &[f32], x: &[f32], d: usize) {
    for ((key, q), x) in keys
        .iter_mut()
        .zip(q.chunks_exact(d))
        .zip(x.chunks_exact(d))
    {
        if !key.is_finite() {
            *key = (0.0 - exact_distance(Metric::InnerProduct, q, x)) as f32;
        }
    }
}

/// Sums the last dimension by halving it with element-wise additions: `[n, d]` to `[n]`.
pub(crate) fn tree_sum<B: Backend>(terms: Tensor<B, 2>) -> Tensor<B, 1> {
    let [n, mut d] = terms.dims();
    let mut terms = terms;
    while d > 1 {
        let half = d / 2;
        let low = terms.clone().slice([0..n, 0..half]);
        let high = terms.clone().slice([0..n, half..2 * half]);
        let mut next = low + high;
        if d % 2 == 1 {
            next = Tensor::cat(vec![next, terms.slice([0..n, d - 1..d])], 1);
        }
        terms = next;
        d = half + d % 2;
    }
    terms.reshape([n])
}
