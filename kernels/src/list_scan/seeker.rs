//! What one worker has found for each query so far.
//!
//! A tile offers the rows whose filter key passes the query's limit. They wait with that key until
//! the buffer is full; then the k-th smallest key (or a little more) plus twice the error bound
//! becomes the new limit, and what lies above it is dropped. If too few drop, the filter does not
//! tell these rows apart: they are *settled*, compared exactly, and the k best kept. A query that
//! crowds its buffer again and again is compared without a filter from then on: the tile reads
//! exact values. Nothing is lost on the way, so answers do not depend on any of it.

use super::{
    ListsIds, Problem,
    exact::{Exact, Within},
    kth::KthBound,
    queries::Queries,
};
use crate::{
    Metric,
    bound::round_up,
    order::{Candidate, Slot, TopK},
    rows::PANEL,
    simd::Isa,
    spare,
};
use core::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Times a buffer may crowd before its query does without the filter.
const PATIENCE: u8 = 2;

/// Rows a buffer holds at most.
pub(super) const fn capacity(k: usize) -> usize {
    let twice = 2 * k + 32;
    if twice < 128 { 128 } else { twice }
}

/// A block of queries and the limits its workers share.
pub(super) struct Block<'a> {
    pub problem: &'a Problem<'a>,
    pub isa: Isa,
    pub queries: Queries,
    /// Bits of the largest filter key that can still be among the k best, one for each query.
    limits: Vec<AtomicU32>,
    /// The largest exact key wanted where all rows up to it are, not the k best.
    pub within: Option<f32>,
}

impl<'a> Block<'a> {
    pub fn new(problem: &'a Problem<'a>, queries: Queries, n: usize, isa: Isa) -> Self {
        let limits = (0..n).map(|_| AtomicU32::new(f32::INFINITY.to_bits()));
        Self {
            problem,
            isa,
            queries,
            limits: limits.collect(),
            within: None,
        }
    }

    /// Wants all rows with an exact key up to `within` instead of the k best.
    pub fn within(mut self, within: f32) -> Self {
        self.within = Some(within);
        for i in 0..self.limits.len() {
            self.lower_to_exact(i, within);
        }
        self
    }

    /// Lowers query `i`'s limit to what an exact key of `key` allows.
    fn lower_to_exact(&self, i: usize, key: f32) {
        let facts = self.queries.facts(i);
        let shift = match self.problem.metric {
            Metric::L2 => f64::from(facts.norm2),
            Metric::InnerProduct => 0.0,
        };
        if key.is_finite() && facts.error.is_finite() {
            self.lower(i, round_up(f64::from(key) - shift + facts.error));
        }
    }

    /// The limit of query `i`'s filter keys.
    #[inline(always)]
    pub fn limit(&self, i: usize) -> f32 {
        f32::from_bits(self.limits[i].load(Relaxed))
    }

    /// The limit that follows from a filter key among whose equals or betters there are k.
    pub fn reach(&self, i: usize, kth: f32) -> f32 {
        round_up(f64::from(kth) + 2.0 * self.queries.facts(i).error)
    }

    /// Lowers query `i`'s limit; returns the one in force.
    fn lower(&self, i: usize, limit: f32) -> f32 {
        let mut known = self.limits[i].load(Relaxed);
        while limit < f32::from_bits(known) {
            match self.limits[i].compare_exchange_weak(known, limit.to_bits(), Relaxed, Relaxed) {
                Ok(_) => return limit,
                Err(now) => known = now,
            }
        }
        f32::from_bits(known)
    }
}

/// One worker's finds for a block's queries.
#[derive(Debug, Clone)]
pub(super) struct Seekers {
    each: Vec<Seeker>,
    /// Filter keys of waiting rows: `room` places for every query that found any. Beyond are those of an
    /// earlier search.
    keys: Vec<f32>,
    /// Where those rows lie.
    at: Vec<Slot>,
    room: usize,
    /// Places taken.
    taken: usize,
}

/// One worker's finds for one query.
#[derive(Debug, Clone)]
pub(super) struct Seeker {
    /// Where its waiting rows begin in [`Seekers::keys`], once there was one.
    base: Option<usize>,
    waiting: usize,
    pub settled: Option<Box<TopK>>,
    /// Rows within [`Block::within`], where that is asked for.
    found: Vec<Candidate>,
    crowded: u8,
    /// Whether exact values are compared, without the filter.
    pub unfiltered: bool,
    /// The limit of unfiltered keys.
    pub unfiltered_limit: f32,
}

impl Seekers {
    /// Nothing found for no query.
    pub fn none() -> Self {
        Self {
            each: Vec::new(),
            keys: Vec::new(),
            at: Vec::new(),
            room: 0,
            taken: 0,
        }
    }

    /// Nothing found for the block's `queries`.
    pub fn new(block: &Block<'_>, queries: usize) -> Self {
        let room = capacity(block.problem.k) + PANEL;
        Self {
            each: (0..queries).map(|i| Seeker::new(block, i)).collect(),
            keys: spare::KEYS.take(queries * room),
            at: spare::SLOTS.take(queries * room),
            room,
            taken: 0,
        }
    }

    /// Queries.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// What was found for a query.
    #[inline(always)]
    pub fn of(&self, query: u32) -> &Seeker {
        &self.each[query as usize]
    }

    /// A query's waiting rows, with their keys.
    pub fn waiting(&self, query: u32) -> (&[f32], &[Slot]) {
        let range = self.of(query).range();
        (&self.keys[range.clone()], &self.at[range])
    }

    /// Where the next [`PANEL`] rows may be written, before [`took`](Self::took) is called.
    #[inline(always)]
    pub fn places(&mut self, query: u32) -> (&mut [f32; PANEL], &mut [Slot; PANEL]) {
        let seeker = &mut self.each[query as usize];
        let base = if let Some(base) = seeker.base {
            base
        } else {
            let base = self.taken;
            self.taken += self.room;
            if self.keys.len() < self.taken {
                self.keys.resize(self.taken, 0.0);
            }
            if self.at.len() < self.taken {
                self.at.resize(self.taken, Slot::NONE);
            }
            *seeker.base.insert(base)
        };
        let first = base + seeker.waiting;
        let keys = self.keys[first..].first_chunk_mut();
        let at = self.at[first..].first_chunk_mut();
        match (keys, at) {
            (Some(keys), Some(at)) => (keys, at),
            _ => unreachable!("took() leaves room for a panel"),
        }
    }

    /// Counts what was written, the smallest key of which is `best`; makes room when the buffer
    /// is full. Returns how many rows were compared exactly.
    #[inline(always)]
    pub fn took(&mut self, block: &Block<'_>, query: u32, rows: usize, best: f32) -> u64 {
        let seeker = &mut self.each[query as usize];
        seeker.waiting += rows;
        if block.problem.k == 1 && !seeker.unfiltered && block.within.is_none() {
            // The best so far is known without waiting for a full buffer.
            let query = query as usize;
            block.lower(query, block.reach(query, best));
        }
        if seeker.waiting >= capacity(block.problem.k) {
            self.make_room(block, query)
        } else {
            0
        }
    }

    #[inline(never)]
    fn make_room(&mut self, block: &Block<'_>, query: u32) -> u64 {
        let seeker = &mut self.each[query as usize];
        let range = seeker.range();
        let (keys, at) = (&mut self.keys[range.clone()], &mut self.at[range]);
        let query = query as usize;
        if seeker.unfiltered || block.within.is_some() {
            return seeker.settle(block, query, at);
        }
        seeker.cut(block, query, keys, at);
        if seeker.waiting <= capacity(block.problem.k) * 7 / 8 {
            return 0;
        }
        let rows = seeker.settle(block, query, &at[..seeker.waiting]);
        seeker.crowded += 1;
        seeker.unfiltered = seeker.crowded >= PATIENCE;
        rows
    }

    /// Compares rows exactly, without the filter, and keeps the k best (or those near enough).
    pub fn compare(&mut self, block: &Block<'_>, query: u32, rows: &[Slot]) {
        self.each[query as usize].compare(block, query as usize, rows);
    }

    /// Every query's finds, and its rows that wait.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&mut Seeker, &[Slot])> {
        let Self { each, at, .. } = self;
        each.iter_mut().map(|seeker| {
            let range = seeker.range();
            (seeker, &at[range])
        })
    }
}

impl Drop for Seekers {
    fn drop(&mut self) {
        spare::KEYS.give(core::mem::take(&mut self.keys));
        spare::SLOTS.give(core::mem::take(&mut self.at));
    }
}

impl Seeker {
    fn new(block: &Block<'_>, query: usize) -> Self {
        let facts = block.queries.facts(query);
        Self {
            base: None,
            waiting: 0,
            settled: None,
            found: Vec::new(),
            crowded: 0,
            unfiltered: facts.error.is_infinite(),
            unfiltered_limit: match block.within {
                Some(key) => facts.reach.unfiltered_limit(key, facts.extent),
                None => f32::INFINITY,
            },
        }
    }

    /// Where its waiting rows are.
    fn range(&self) -> Range<usize> {
        let base = self.base.unwrap_or_default();
        base..base + self.waiting
    }

    /// Lowers the limit by what the buffer holds and drops what lies above.
    fn cut(&mut self, block: &Block<'_>, query: usize, keys: &mut [f32], at: &mut [Slot]) {
        let k = block.problem.k;
        let limit = if keys.len() >= k {
            let kth = block.isa.run(KthBound { keys, k });
            block.lower(query, block.reach(query, kth))
        } else {
            block.limit(query)
        };
        self.waiting = block.isa.keep(keys, at, limit);
    }

    /// Compares every waiting row exactly and keeps the k best; returns how many rows it were.
    fn settle(&mut self, block: &Block<'_>, query: usize, rows: &[Slot]) -> u64 {
        self.compare(block, query, rows);
        self.waiting = 0;
        rows.len() as u64
    }

    fn compare(&mut self, block: &Block<'_>, query: usize, rows: &[Slot]) {
        let problem = block.problem;
        let ids = ListsIds(problem.lists);
        let full = block.queries.full(query);
        if let Some(limit) = block.within {
            let found = &mut self.found;
            block.isa.run(Exact {
                isa: block.isa,
                problem,
                query: full,
                rows,
                keep: &mut Within { limit, found },
            });
            return;
        }
        let top = self
            .settled
            .get_or_insert_with(|| Box::new(TopK::new(problem.k)));
        block.isa.run(Exact {
            isa: block.isa,
            problem,
            query: full,
            rows,
            keep: &mut **top,
        });
        top.tighten(&ids);
        let kth = top.threshold();
        let facts = block.queries.facts(query);
        self.unfiltered_limit = facts.reach.unfiltered_limit(kth, facts.extent);
        block.lower_to_exact(query, kth);
    }

    /// What was found within [`Block::within`], `waiting` among it.
    pub fn found(
        &mut self,
        block: &Block<'_>,
        query: usize,
        waiting: &[Slot],
    ) -> (Vec<Candidate>, u64) {
        let reranked = self.settle(block, query, waiting);
        (core::mem::take(&mut self.found), reranked)
    }
}
