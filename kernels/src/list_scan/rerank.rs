//! Exact keys for rows chosen elsewhere (by a matrix product, say), and the k best of them.

use super::{Best, ListsIds, Problem};
use crate::{
    KernelError, check_len, distance,
    order::{Candidate, Slot, TopK},
    panels::PANEL,
    simd::Isa,
};
use pulp::{Simd, WithSimd};
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
            let mut top = TopK::new(k);
            isa.run(Keys {
                problem,
                query,
                candidates,
                top: &mut top,
            });
            top.drain_sorted(&ids, |rank, found| {
                distances[rank] = problem.metric.key(found.key);
                labels[rank] = problem.lists[found.at.list as usize].id(found.at.slot);
            });
        });
    Ok(best)
}

struct Keys<'a> {
    problem: &'a Problem<'a>,
    query: usize,
    candidates: &'a [Slot],
    top: &'a mut TopK,
}

impl WithSimd for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let query = self.problem.query(self.query);
        let ids = ListsIds(self.problem.lists);
        for &at in self.candidates.iter().filter(|&&at| at != Slot::NONE) {
            let slot = at.slot as usize;
            let panel = self.problem.lists[at.list as usize].panel(slot);
            let key = distance::panel_key(self.problem.metric, query, panel, slot % PANEL);
            self.top.push(Candidate { key, at }, &ids);
        }
    }
}
