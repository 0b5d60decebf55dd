//! What workers found for a block's queries, put together, compared exactly and written down.

use super::{
    ListsIds,
    exact::{Ahead, Row},
    kth::kth_bound,
    seeker::{Block, Seekers},
};
use crate::{
    order::{Candidate, Slot, TopK},
    share::share,
};
use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use pulp::{Simd, WithSimd};

/// Queries that one thread finishes before it takes the next, at most.
const QUERIES: usize = 32;
/// Rows that it puts together before it compares them, about.
const ROWS: usize = 4096;

/// Where answers go: `stride` places for every query.
pub(super) struct Places<'a> {
    pub stride: usize,
    pub distances: &'a mut [f32],
    pub labels: &'a mut [i64],
}

/// Answers the block's queries from what each worker `found`; returns how many rows were compared exactly.
pub(super) fn finish(
    block: &Block<'_>,
    found: &[Seekers],
    workers: usize,
    Places {
        stride,
        distances,
        labels,
    }: Places<'_>,
) -> u64 {
    let queries = labels.len() / stride;
    let step = (ROWS / block.problem.k).clamp(1, QUERIES);
    let distances = distances.chunks_mut(step * stride);
    let labels = labels.chunks_mut(step * stride);
    let answers = distances.zip(labels).enumerate();
    let workers = workers.min(queries.div_ceil(step));
    let total = AtomicU64::new(0);
    share(workers, answers, |(part, (distances, labels))| {
        let rows = block.isa.run(Finish {
            block,
            found,
            first: part * step,
            stride,
            distances,
            labels,
        });
        total.fetch_add(rows, Relaxed);
    });
    total.into_inner()
}

/// Re-ranks and writes the answers of some queries; returns how many rows were compared exactly.
struct Finish<'a> {
    block: &'a Block<'a>,
    found: &'a [Seekers],
    first: usize,
    stride: usize,
    distances: &'a mut [f32],
    labels: &'a mut [i64],
}

impl WithSimd for Finish<'_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        let block = self.block;
        let problem = block.problem;
        let ids = ListsIds(problem.lists);
        // All rows first: those of the next query are asked for while the last of this one are compared.
        let left = Left::new(
            block,
            self.found,
            self.first..self.first + self.labels.len() / self.stride,
        );
        let mut ahead = Ahead::new(problem, &left.rows);
        let mut row = Row::new(problem.d);
        let mut top = TopK::new(problem.k);
        let distances = self.distances.chunks_exact_mut(self.stride);
        let labels = self.labels.chunks_exact_mut(self.stride);
        for (i, (distances, labels)) in distances.zip(labels).enumerate() {
            let query = self.first + i;
            for seekers in self.found {
                if let Some(settled) = &seekers.of(query as u32).settled {
                    top.absorb(settled, &ids);
                }
            }
            for &known in left.known(i) {
                top.push(known, &ids);
            }
            let full = block.queries.full(query);
            for &at in left.of(i) {
                ahead.next();
                let key = row.key(simd, problem, full, at, block.isa);
                top.push(Candidate { key, at }, &ids);
            }
            top.drain_sorted(&ids, |rank, found| {
                distances[rank] = problem.metric.key(found.key);
                labels[rank] = problem.lists[found.at.list as usize].id(found.at.slot);
            });
        }
        left.rows.len() as u64
    }
}

/// The rows among which the best of some queries are, beside those that were settled.
struct Left {
    rows: Vec<Slot>,
    /// Those whose exact key is known.
    known: Vec<Candidate>,
    /// Where each query's rows end, and those that are known.
    ends: Vec<(usize, usize)>,
}

impl Left {
    #[inline(always)]
    fn new(block: &Block<'_>, found: &[Seekers], queries: Range<usize>) -> Self {
        let mut left = Self {
            rows: Vec::new(),
            known: Vec::new(),
            ends: Vec::with_capacity(queries.len()),
        };
        let (mut keys, mut slots) = (Vec::new(), Vec::new());
        for query in queries {
            if block.queries.facts(query).searchable {
                left.add(block, query, found, &mut keys, &mut slots);
            }
            left.ends.push((left.rows.len(), left.known.len()));
        }
        left
    }

    /// Adds those of a query. `keys` and `slots` are scratch.
    #[inline(always)]
    fn add(
        &mut self,
        block: &Block<'_>,
        query: usize,
        found: &[Seekers],
        keys: &mut Vec<f32>,
        slots: &mut Vec<Slot>,
    ) {
        let at = query as u32;
        let filtered = || {
            let filtered = found.iter().filter(|seekers| !seekers.of(at).unfiltered);
            filtered.map(|seekers| seekers.waiting(at))
        };
        keys.clear();
        for (some, _) in filtered() {
            keys.extend_from_slice(some);
        }
        let k = block.problem.k;
        let limit = if keys.len() > k {
            let kth = kth_bound(keys, k, k);
            block.limit(query).min(block.reach(query, kth))
        } else {
            block.limit(query)
        };
        let facts = block.queries.facts(query);
        if facts.whole {
            slots.clear();
            for (_, some) in filtered() {
                slots.extend_from_slice(some);
            }
            let kept = block.isa.keep(keys, slots, limit);
            for (&key, &at) in keys.iter().zip(&*slots).take(kept) {
                if let Some(key) = facts.reach.exact(key, facts.norm2) {
                    block.problem.lists[at.list as usize].prefetch_id(at.slot);
                    self.known.push(Candidate { key, at });
                } else {
                    self.rows.push(at);
                }
            }
        } else {
            for (keys, at) in filtered() {
                block.isa.pass(keys, at, limit, &mut self.rows);
            }
        }
        for seekers in found.iter().filter(|seekers| seekers.of(at).unfiltered) {
            self.rows.extend_from_slice(seekers.waiting(at).1);
        }
    }

    /// Where the `i`-th query's begin.
    #[inline(always)]
    fn start(&self, i: usize) -> (usize, usize) {
        if i == 0 { (0, 0) } else { self.ends[i - 1] }
    }

    /// The rows of the `i`-th query that are to be compared.
    #[inline(always)]
    fn of(&self, i: usize) -> &[Slot] {
        &self.rows[self.start(i).0..self.ends[i].0]
    }

    /// Its rows whose exact key is known.
    #[inline(always)]
    fn known(&self, i: usize) -> &[Candidate] {
        &self.known[self.start(i).1..self.ends[i].1]
    }
}
