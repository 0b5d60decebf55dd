//! Exact keys for rows chosen elsewhere (by a matrix product, say), and the k best of them.

use super::{Best, ListsIds, Problem, exact::Exact};
use crate::{
    KernelError, check_len, distance,
    order::{Slot, TopK},
    simd::Isa,
};
use rayon::prelude::*;

/// The `k` best of `candidates`, row-major `[nq, per_query]` with [`Slot::NONE`] as gaps; each
/// candidate of a query must be named once. Distances carry the same bits as [`super::scan`]'s.
///
/// # Errors
/// When a buffer's length does not fit or a candidate does not exist.
pub fn rerank(
    problem: &Problem<'_>,
    candidates: &[Slot],
    per_query: usize,
    isa: Isa,
) -> Result<Best, KernelError> {
    problem.check()?;
    let (nq, k) = (problem.nq(), problem.k);
    check_len("candidates", nq * per_query, candidates.len())?;
    for at in candidates.iter().filter(|&&at| at != Slot::NONE) {
        let len = problem
            .lists
            .get(at.list as usize)
            .map_or(0, super::List::len);
        if at.slot as usize >= len {
            return Err(KernelError::Slot {
                list: at.list,
                slot: at.slot,
                len,
            });
        }
    }
    let mut best = Best::padding(problem.metric, nq, k);
    best.rows_scanned = candidates.iter().filter(|&&at| at != Slot::NONE).count() as u64;
    best.rows_reranked = best.rows_scanned;
    if per_query == 0 {
        return Ok(best);
    }
    let ids = ListsIds(problem.lists);
    best.distances
        .par_chunks_mut(k)
        .zip(best.labels.par_chunks_mut(k))
        .zip(candidates.par_chunks(per_query))
        .enumerate()
        .with_min_len(16)
        .for_each(|(query, ((distances, labels), candidates))| {
            if !problem.is_searchable(query) {
                return;
            }
            let rows: Vec<Slot> = candidates
                .iter()
                .copied()
                .filter(|&at| at != Slot::NONE)
                .collect();
            let mut padded = problem.query(query).to_vec();
            padded.resize(distance::padded(problem.d), 0.0);
            let mut top = TopK::new(k);
            isa.run(Exact {
                isa,
                problem,
                query: &padded,
                rows: &rows,
                keep: &mut top,
            });
            top.drain_sorted(&ids, |rank, found| {
                distances[rank] = problem.metric.key(found.key);
                labels[rank] = problem.lists[found.at.list as usize].id(found.at.slot);
            });
        });
    Ok(best)
}
