//! What one worker has found for one query so far.
//!
//! A tile offers the rows whose filter key passes the query's limit. They wait with that key until
//! the buffer is full; then the k-th smallest key (or a little more) plus twice the error bound
//! becomes the new limit, and what lies above it is dropped. If too few drop, the filter does not
//! tell these rows apart: they are *settled*, compared exactly, and the k best kept. A query that
//! crowds its buffer again and again is compared without a filter from then on: the tile reads
//! exact values. Nothing is lost on the way, so answers do not depend on any of it.

use super::{ListsIds, Problem, queries::Queries};
use crate::{
    Metric,
    bound::round_up,
    distance,
    order::{Candidate, Slot, TopK},
    rows::PANEL,
    simd::Isa,
};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use pulp::{Simd, WithSimd};

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

/// One worker's finds for one query.
#[derive(Debug, Clone)]
pub(super) struct Seeker {
    /// Filter keys of the waiting rows, the first `waiting` of `capacity + PANEL` places.
    keys: Vec<f32>,
    at: Vec<Slot>,
    waiting: usize,
    settled: Option<Box<TopK>>,
    /// Rows within [`Block::within`], where that is asked for.
    found: Vec<Candidate>,
    crowded: u8,
    /// Whether exact values are compared, without the filter.
    pub unfiltered: bool,
    /// The limit of unfiltered keys.
    pub unfiltered_limit: f32,
}

impl Seeker {
    pub fn new(block: &Block<'_>, query: usize) -> Self {
        let facts = block.queries.facts(query);
        Self {
            keys: Vec::new(),
            at: Vec::new(),
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

    /// Where the next [`PANEL`] rows may be written, before [`took`](Self::took) is called.
    #[inline(always)]
    pub fn places(&mut self, k: usize) -> (&mut [f32; PANEL], &mut [Slot; PANEL]) {
        if self.keys.is_empty() {
            self.keys.resize(capacity(k) + PANEL, 0.0);
            self.at.resize(capacity(k) + PANEL, Slot::NONE);
        }
        let keys = self.keys[self.waiting..].first_chunk_mut();
        let at = self.at[self.waiting..].first_chunk_mut();
        match (keys, at) {
            (Some(keys), Some(at)) => (keys, at),
            _ => unreachable!("took() leaves room for a panel"),
        }
    }

    /// Counts what was written, the smallest key of which is `best`; makes room when the buffer
    /// is full. Returns how many rows were compared exactly.
    #[inline(always)]
    pub fn took(&mut self, block: &Block<'_>, query: usize, rows: usize, best: f32) -> u64 {
        self.waiting += rows;
        if block.problem.k == 1 && !self.unfiltered && block.within.is_none() {
            // The best so far is known without waiting for a full buffer.
            block.lower(query, block.reach(query, best));
        }
        if self.waiting >= capacity(block.problem.k) {
            self.make_room(block, query)
        } else {
            0
        }
    }

    #[inline(never)]
    fn make_room(&mut self, block: &Block<'_>, query: usize) -> u64 {
        if self.unfiltered || block.within.is_some() {
            return self.settle(block, query);
        }
        self.cut(block, query);
        if self.waiting <= capacity(block.problem.k) * 7 / 8 {
            return 0;
        }
        let rows = self.settle(block, query);
        self.crowded += 1;
        self.unfiltered = self.crowded >= PATIENCE;
        rows
    }

    /// Lowers the limit by what the buffer holds and drops what lies above.
    fn cut(&mut self, block: &Block<'_>, query: usize) {
        let k = block.problem.k;
        let limit = if self.waiting >= k {
            let kth = block.isa.run(KthBound {
                keys: &self.keys[..self.waiting],
                k,
            });
            block.lower(query, block.reach(query, kth))
        } else {
            block.limit(query)
        };
        let mut kept = 0;
        for i in 0..self.waiting {
            self.keys[kept] = self.keys[i];
            self.at[kept] = self.at[i];
            kept += usize::from(self.keys[i] <= limit);
        }
        self.waiting = kept;
    }

    /// Compares every waiting row exactly and keeps the k best; returns how many rows it were.
    fn settle(&mut self, block: &Block<'_>, query: usize) -> u64 {
        let rows = core::mem::take(&mut self.at);
        let waiting = core::mem::take(&mut self.waiting);
        self.compare(block, query, &rows[..waiting]);
        self.at = rows;
        waiting as u64
    }

    /// Compares rows exactly, without the filter, and keeps the k best (or those near enough).
    pub fn compare(&mut self, block: &Block<'_>, query: usize, rows: &[Slot]) {
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

    /// What was found within [`Block::within`].
    pub fn found(&mut self, block: &Block<'_>, query: usize) -> (Vec<Candidate>, u64) {
        let reranked = self.settle(block, query);
        (core::mem::take(&mut self.found), reranked)
    }
}

/// What exact keys are offered to.
pub(super) trait Keep {
    fn keep(&mut self, found: Candidate, ids: &ListsIds<'_, '_>);
}

impl Keep for TopK {
    #[inline(always)]
    fn keep(&mut self, found: Candidate, ids: &ListsIds<'_, '_>) {
        self.push(found, ids);
    }
}

/// Keeps every key up to a limit.
struct Within<'a> {
    limit: f32,
    found: &'a mut Vec<Candidate>,
}

impl Keep for Within<'_> {
    #[inline(always)]
    fn keep(&mut self, found: Candidate, _: &ListsIds<'_, '_>) {
        if found.key <= self.limit {
            self.found.push(found);
        }
    }
}

/// Settles what several workers found for a query into `top`; returns how many rows were compared
/// exactly. `rows` is scratch.
#[inline(always)]
pub(super) fn finish<'s, S: Simd>(
    simd: S,
    block: &Block<'_>,
    query: usize,
    seekers: impl Iterator<Item = &'s mut Seeker>,
    top: &mut TopK,
    rows: &mut Waiting,
) -> u64 {
    let problem = block.problem;
    let ids = ListsIds(problem.lists);
    rows.keys.clear();
    rows.at.clear();
    rows.unfiltered.clear();
    for seeker in seekers {
        if let Some(settled) = &mut seeker.settled {
            top.absorb(settled, &ids);
        }
        if seeker.unfiltered {
            rows.unfiltered.extend(&seeker.at[..seeker.waiting]);
        } else {
            rows.keys.extend(&seeker.keys[..seeker.waiting]);
            rows.at.extend(&seeker.at[..seeker.waiting]);
        }
    }
    let limit = if rows.keys.len() > problem.k {
        let kth = kth_bound(&rows.keys, problem.k, problem.k);
        block.limit(query).min(block.reach(query, kth))
    } else {
        block.limit(query)
    };
    let keys = rows.keys.iter().zip(&rows.at);
    let passing = keys.filter(|(key, _)| **key <= limit).map(|(_, at)| *at);
    rows.unfiltered.extend(passing);
    let full = block.queries.full(query);
    exact(simd, block.isa, problem, full, &rows.unfiltered, top);
    rows.unfiltered.len() as u64
}

/// Scratch of [`finish`].
#[derive(Debug, Default)]
pub(super) struct Waiting {
    keys: Vec<f32>,
    at: Vec<Slot>,
    unfiltered: Vec<Slot>,
}

/// Offers the exact keys of some rows to `keep`. `query` is padded.
#[inline(always)]
pub(super) fn exact<S: Simd>(
    simd: S,
    isa: Isa,
    problem: &Problem<'_>,
    query: &[f32],
    rows: &[Slot],
    keep: &mut impl Keep,
) {
    let ids = ListsIds(problem.lists);
    let ahead = rows.first().map_or(0, |at| {
        let rows = problem.lists[at.list as usize].rows();
        rows.rows_ahead()
    });
    for at in &rows[..ahead.min(rows.len())] {
        let rows = problem.lists[at.list as usize].rows();
        rows.prefetch_row(at.slot as usize);
    }
    let mut row = Row::new(problem.d);
    for (i, &at) in rows.iter().enumerate() {
        if let Some(next) = rows.get(i + ahead) {
            let rows = problem.lists[next.list as usize].rows();
            rows.prefetch_row(next.slot as usize);
        }
        let rows = problem.lists[at.list as usize].rows();
        let key = match rows.row(at.slot as usize) {
            Some(row) => distance::key(simd, problem.metric, query, row),
            None => distance::key(simd, problem.metric, query, row.read(problem, at, isa)),
        };
        keep.keep(Candidate { key, at }, &ids);
    }
}

/// A padded row, on the stack when it fits.
struct Row {
    d: usize,
    short: [f32; 256],
    long: Vec<f32>,
}

impl Row {
    #[inline(always)]
    fn new(d: usize) -> Self {
        let padded = distance::padded(d);
        Self {
            d,
            short: [0.0; 256],
            long: if padded > 256 {
                vec![0.0; padded]
            } else {
                Vec::new()
            },
        }
    }

    #[inline(always)]
    fn read(&mut self, problem: &Problem<'_>, at: Slot, isa: Isa) -> &[f32] {
        let padded = distance::padded(self.d);
        let out = if self.long.is_empty() {
            &mut self.short[..padded]
        } else {
            &mut self.long[..]
        };
        let rows = problem.lists[at.list as usize].rows();
        rows.read_row(at.slot as usize, isa, out);
        out
    }
}

/// [`exact`] compiled for an instruction set.
pub(super) struct Exact<'a, K> {
    pub isa: Isa,
    pub problem: &'a Problem<'a>,
    /// Padded.
    pub query: &'a [f32],
    pub rows: &'a [Slot],
    pub keep: &'a mut K,
}

impl<K: Keep> WithSimd for Exact<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        exact(
            simd,
            self.isa,
            self.problem,
            self.query,
            self.rows,
            self.keep,
        );
    }
}

/// A key that at least `k` of the buffer's keys do not exceed, and not many more.
struct KthBound<'a> {
    keys: &'a [f32],
    k: usize,
}

impl WithSimd for KthBound<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let spare = self.k + self.k / 8 + 1;
        kth_bound(self.keys, self.k, spare)
    }
}

/// The smallest and the largest of some keys, none of which is NaN.
#[inline(always)]
fn extremes(keys: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; PANEL], [f32::NEG_INFINITY; PANEL]);
    let (chunks, rest) = keys.as_chunks::<PANEL>();
    for chunk in chunks {
        for lane in 0..PANEL {
            low[lane] = if chunk[lane] < low[lane] {
                chunk[lane]
            } else {
                low[lane]
            };
            high[lane] = if chunk[lane] > high[lane] {
                chunk[lane]
            } else {
                high[lane]
            };
        }
    }
    for &key in rest {
        low[0] = low[0].min(key);
        high[0] = high[0].max(key);
    }
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (low, high)
}

/// Halvings before a selection takes over.
const HALVINGS: usize = 14;

/// A value that at least `k` keys do not exceed and, when halving the range of keys finds one, at
/// most `enough` do not. Keys are finite.
#[inline(always)]
pub(super) fn kth_bound(keys: &[f32], k: usize, enough: usize) -> f32 {
    let (mut low, mut high) = extremes(keys);
    if k == 1 {
        return low;
    }
    let mut count = keys.len();
    for _ in 0..HALVINGS {
        if count <= enough {
            return high;
        }
        let middle = low + (high - low) * 0.5;
        if !(middle > low && middle < high) {
            break;
        }
        let below = keys
            .iter()
            .map(|&key| u32::from(key <= middle))
            .sum::<u32>() as usize;
        if below >= k {
            (high, count) = (middle, below);
        } else {
            low = middle;
        }
    }
    if count <= k + keys.len() / 8 {
        return high;
    }
    *keys
        .to_vec()
        .select_nth_unstable_by(k - 1, f32::total_cmp)
        .1
}
