//! A small table that every query reads whole: centroids.
//!
//! The keys of a few queries against all rows are written down (they fit a cache), the k-th
//! smallest of each query bounded, and the rows that may be among its k best compared exactly.
//! Nothing is kept between rows, so there is no branch to mispredict on the way.

use super::{
    ListsIds, Problem,
    cpu::Counts,
    exact::exact,
    kth::kth_bound,
    queries::Queries,
    seeker::Block,
    strip::{Ahead, Group, Scratch, Sink, Strip, scan_strip},
};
use crate::{
    order::{Slot, TopK},
    rows::PANEL,
    simd::Isa,
};
use aligned_vec::{AVec, ConstAlign};
use core::ops::Range;
use pulp::{Simd, WithSimd};

/// Rows of a table at most: their keys for [`QUERIES`] queries take half a second-level cache.
pub(super) const ROWS: usize = 4096;
/// Bytes of keys written down at once.
const KEY_BYTES: usize = 256 << 10;
/// Queries at once at most.
const QUERIES: usize = 96;

/// Whether every query reads one small list.
pub(super) fn fits(problem: &Problem<'_>, nprobe: usize) -> bool {
    nprobe == 1 && problem.lists.len() == 1 && problem.lists[0].len() <= ROWS
}

/// Answers some queries.
pub(super) fn scan(
    problem: &Problem<'_>,
    range: Range<usize>,
    probes: &[u32],
    isa: Isa,
    distances: &mut [f32],
    labels: &mut [i64],
) -> Counts {
    let rows = problem.lists[0].rows();
    let width = rows.panels() * PANEL;
    let step = (KEY_BYTES / (width.max(1) * size_of::<f32>())).clamp(6, QUERIES);
    let mut keys = AVec::<f32, ConstAlign<64>>::new(64);
    keys.resize(step * width, 0.0);
    let mut scratch = Scratch::new();
    let (mut reads, mut reranked) = (0, 0);
    let mut before = Queries::none(problem);
    let k = problem.k;
    for first in range.clone().step_by(step) {
        let n = step.min(range.end - first);
        let extents = [rows.extent(); QUERIES];
        let (these, extents) = (first..first + n, &extents[..n]);
        let queries = before.replace(problem, these, extents, isa, 1);
        let block = Block::new(problem, queries, 0, isa);
        let searched = |i: &u32| {
            let facts = block.queries.facts(*i as usize);
            facts.searchable && probes[first - range.start + *i as usize] == 0
        };
        let (filtered, exact): (Vec<u32>, Vec<u32>) = (0..n as u32)
            .filter(searched)
            .partition(|&i| block.queries.facts(i as usize).error.is_finite());
        reads += (filtered.len() + exact.len()) as u64;
        for (queries, exact) in [(&filtered, false), (&exact, true)] {
            let group = Group {
                block: &block,
                d: problem.d,
                queries,
            };
            // A few panels at a time stay in the first cache while the queries read them.
            for panels in (0..rows.panels()).step_by(4) {
                let strip = Strip {
                    list: 0,
                    rows,
                    panels: panels..(panels + 4).min(rows.panels()),
                    ahead: Ahead::default(),
                };
                let mut sink = Keys {
                    table: &mut keys,
                    width,
                    first: panels * PANEL,
                };
                scan_strip(&strip, &group, exact, &mut scratch, &mut sink);
            }
        }
        let at = (first - range.start) * k;
        for (queries, unfiltered) in [(&filtered, false), (&exact, true)] {
            reranked += isa.run(Select {
                block: &block,
                queries,
                unfiltered,
                keys: &keys,
                width,
                distances: &mut distances[at..at + n * k],
                labels: &mut labels[at..at + n * k],
            });
        }
        before = block.queries;
    }
    Counts {
        rows: reads * rows.len() as u64,
        lists: if rows.is_empty() { 0 } else { reads },
        reranked,
    }
}

/// Writes all keys down.
struct Keys<'a> {
    table: &'a mut [f32],
    width: usize,
    /// The strip's first row.
    first: usize,
}

impl Sink for Keys<'_> {
    const ALL: bool = true;

    #[inline(always)]
    fn keys(&mut self, query: u32, at: usize) -> &mut [f32] {
        &mut self.table[query as usize * self.width + self.first + at..][..PANEL]
    }
}

struct Select<'a> {
    block: &'a Block<'a>,
    queries: &'a [u32],
    unfiltered: bool,
    keys: &'a [f32],
    width: usize,
    distances: &'a mut [f32],
    labels: &'a mut [i64],
}

impl WithSimd for Select<'_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        let problem = self.block.problem;
        let (k, list) = (problem.k, &problem.lists[0]);
        let ids = ListsIds(problem.lists);
        let mut top = TopK::new(k);
        let place = |slot| Slot { list: 0, slot };
        let slots: Vec<Slot> = (0..list.len() as u32).map(place).collect();
        let mut passing = Vec::with_capacity(list.len());
        let mut reranked = 0;
        for &query in self.queries {
            let i = query as usize;
            let padded = &self.keys[i * self.width..][..self.width];
            let keys = &padded[..list.len()];
            let facts = self.block.queries.facts(i);
            let limit = if keys.len() <= k {
                f32::INFINITY
            } else if self.unfiltered {
                // A sum that left the range bounds nothing.
                let known = |&key: &f32| if key.is_finite() { key } else { f32::INFINITY };
                let known: Vec<f32> = keys.iter().map(known).collect();
                let kth = kth_bound(&known, k, k);
                // Once for the key the bound comes from, once for the keys compared with it.
                let limit = facts.reach.unfiltered_limit(kth, facts.extent);
                facts.reach.unfiltered_limit(limit, facts.extent)
            } else {
                self.block.reach(i, kth_bound(keys, k, k))
            };
            passing.clear();
            if self.unfiltered {
                // A sum that left the range says nothing.
                let pass = |key: f32| key <= limit || !key.is_finite();
                let passes = keys.iter().zip(&slots).filter(|(key, _)| pass(**key));
                passing.extend(passes.map(|(_, at)| *at));
            } else {
                self.block.isa.pass(keys, &slots, limit, &mut passing);
            }
            reranked += passing.len() as u64;
            let full = self.block.queries.full(i);
            exact(simd, self.block.isa, problem, full, &passing, &mut top);
            let (distances, labels) = (&mut self.distances[i * k..], &mut self.labels[i * k..]);
            top.drain_sorted(&ids, |rank, found| {
                distances[rank] = problem.metric.key(found.key);
                labels[rank] = list.id(found.at.slot);
            });
        }
        reranked
    }
}
