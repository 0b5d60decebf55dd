//! The distances of a few rows to a few queries at once, in registers: every vector of a row is
//! loaded once for all queries of the block. The sums are those of [`super::distance`], bit for bit.

use super::{
    distance::{Compare, exchange, fold, scaled, step, wide},
    lanes::{NEXT, NEXT_BUT_ONE, lane},
    queue::is_special,
};
use cubecl::prelude::*;

/// No shared memory has more vectors. A compiler that knows as much of an address adds constants to it for nothing.
pub const SHARED: usize = (1 << 20) - 1;

/// Vectors of a row that a unit holds at most, where it keeps them in registers ([`held`]).
///
/// Origin: of two rows they are 64 registers, so that with sums and all else a unit takes at most the 168 that three
/// cubes of 128 units leave to it on an H100 (`.ci/cuda_sources`, d = 128, k = 20: 128 to 168, 44 bytes spilled at most).
pub const EACH: usize = 8;

/// Rows and queries compared at once by a unit, or by the units that read a row together.
///
/// Pair `p` is row `p / queries` with query `p % queries`. Both are powers of two, and there are four pairs at least where
/// four units read a row together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    /// Rows.
    pub rows: usize,
    /// Queries.
    pub queries: usize,
}

impl Block {
    /// Pairs.
    pub const fn pairs(self) -> usize {
        self.rows * self.queries
    }

    /// Pairs whose sums [`shared_out`] leaves to one unit: no more than there are queries.
    pub const fn own(self, compare: Compare) -> usize {
        self.pairs() / compare.lanes as usize
    }

    /// Of a query's number, the bits that [`Turn::queries`] may have: two, one or none.
    const fn turned(self, compare: Compare) -> usize {
        if compare.lanes == 4 {
            (self.pairs() / 2 + self.pairs() / 4) % self.queries
        } else {
            0
        }
    }

    /// Values that those bits may have.
    const fn bases(self, compare: Compare) -> usize {
        1 << self.turned(compare).count_ones()
    }

    /// The `base`-th of those values.
    const fn value(self, base: usize, compare: Compare) -> usize {
        let bits = self.turned(compare);
        let low = bits & bits.wrapping_neg();
        base % 2 * low + base / 2 * (bits ^ low)
    }

    /// Which of those values the number of query `q` has.
    const fn base(self, q: usize, compare: Compare) -> usize {
        let mut base = 0;
        while self.value(base, compare) != q & self.turned(compare) {
            base += 1;
        }
        base
    }
}

/// In which order a unit takes the rows and queries of a block: as row `r` the one with number `r ^ rows`, as query `q`
/// number `q ^ queries`. So of the sums that four units have of a row together, the first are those that
/// [`shared_out`] leaves to it, whichever of the four it is: all of its first row.
#[derive(CubeType, Clone, Copy)]
pub struct Turn {
    /// Of rows.
    pub rows: u32,
    /// Of queries.
    pub queries: u32,
}

#[cube]
impl Turn {
    /// This unit's.
    pub fn new(#[comptime] block: Block, #[comptime] compare: Compare) -> Turn {
        if comptime!(compare.lanes == 4) {
            let lane = lane(compare.lanes);
            let first = lane / 2u32 * comptime!(block.pairs() as u32 / 2)
                + lane % 2u32 * comptime!(block.pairs() as u32 / 4);
            Turn {
                rows: first / comptime!(block.queries as u32),
                queries: first % comptime!(block.queries as u32),
            }
        } else {
            Turn {
                rows: 0u32.runtime(),
                queries: 0u32.runtime(),
            }
        }
    }

    /// Where this unit's first vector of query `b` (a base: [`of_query`]) lies, the block's first query at vector `first`
    /// of `kept`. So few addresses do for all queries.
    pub fn bases(
        &self,
        first: usize,
        #[comptime] block: Block,
        #[comptime] compare: Compare,
    ) -> Array<usize> {
        let n = comptime!(block.bases(compare));
        let mut bases = Array::<usize>::new(n);
        #[unroll]
        for b in 0..n {
            let query = comptime!(block.value(b, compare)) ^ self.queries as usize;
            let base = first + query * compare.vectors + lane(compare.lanes) as usize;
            bases[b] = base & SHARED;
        }
        bases
    }
}

/// Vector `i` of those that this unit reads of the query that it takes as `q`; `more` vectors behind it where it reads
/// rows alone.
#[cube]
pub fn of_query<N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    bases: &Array<usize>,
    i: usize,
    #[comptime] more: usize,
    #[comptime] q: usize,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Vector<f32, N> {
    let base = bases[comptime!(block.base(q, compare))];
    let rest = comptime!((q & !block.turned(compare)) * compare.vectors + more);
    kept[base + i * comptime!(compare.lanes as usize) + rest]
}

/// Whether units keep what they read of their rows in registers while all queries go by; else rows are read again for
/// every block of queries, from a cache.
pub const fn holds(compare: Compare) -> bool {
    compare.lanes == 4 && compare.each() <= EACH
}

/// What a unit reads of the rows of a block, all at once: of row `r` vectors `r * each` and on, where `each`
/// is [`Compare::each`]; zeros behind a row's end; nothing of use where rows are not held ([`holds`]). `starts` is where
/// the rows start, in vectors.
#[cube]
pub fn held<F: Float, N: Size>(
    rows: &Array<Vector<F, N>>,
    starts: &Array<usize>,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<Vector<f32, N>> {
    let each = comptime!(if holds(compare) { compare.each() } else { 0 });
    let mut held = Array::<Vector<f32, N>>::new(comptime!((block.rows * each).max(1)));
    #[unroll]
    for i in 0..each {
        let at = at(i, compare);
        #[unroll]
        for r in 0..block.rows {
            let mut vector = Vector::<f32, N>::new(0.0f32);
            if is_there(i, compare) {
                vector = wide::<F, N>(rows[starts[r] + at]);
            }
            held[comptime!(r * each + i)] = vector;
        }
    }
    held
}

/// The `i`-th vector of a row that this unit reads.
#[cube]
pub fn at(i: usize, #[comptime] compare: Compare) -> usize {
    i * comptime!(compare.lanes as usize) + lane(compare.lanes) as usize
}

/// Whether a row has that vector.
#[cube]
pub fn is_there(#[comptime] i: usize, #[comptime] compare: Compare) -> bool {
    if comptime!(compare.is_whole(i)) {
        true.runtime()
    } else {
        at(i, compare) < compare.vectors
    }
}

/// Vectors `i` of what [`held`] read, of each row.
#[cube]
pub fn of_held<N: Size>(
    held: &Array<Vector<f32, N>>,
    #[comptime] i: usize,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<Vector<f32, N>> {
    let mut loaded = Array::<Vector<f32, N>>::new(block.rows);
    #[unroll]
    for r in 0..block.rows {
        loaded[r] = held[comptime!(r * compare.each() + i)];
    }
    loaded
}

/// Vector `at` of every row.
#[cube]
pub fn loaded<F: Float, N: Size>(
    rows: &Array<Vector<F, N>>,
    starts: &Array<usize>,
    at: usize,
    #[comptime] block: Block,
) -> Array<Vector<f32, N>> {
    let mut loaded = Array::<Vector<f32, N>>::new(block.rows);
    #[unroll]
    for r in 0..block.rows {
        loaded[r] = wide::<F, N>(rows[starts[r] + at]);
    }
    loaded
}

/// The keys of this unit's pairs of a block, by the one definition of a distance: its first row with the queries from
/// number `queries` of its turn on. `first` is the block's first query, `starts` where the rows start in the order of `turn`,
/// in vectors, `held` what [`held`] read of them. All units of a row call it together.
#[cube]
pub fn keys<F: Float, N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    rows: &Array<Vector<F, N>>,
    held: &Array<Vector<f32, N>>,
    starts: &Array<usize>,
    zero: f32,
    turn: Turn,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<f32> {
    let base = first * compare.vectors;
    let mut sums = if comptime!(holds(compare)) {
        sums_of_held::<N>(kept, base, held, zero, turn, block, compare)
    } else {
        sums::<F, N>(kept, base, rows, starts, zero, turn, block, compare)
    };
    let found = shared_out::<N>(&mut sums, block, compare);
    let mut keys = Array::<f32>::new(comptime!(block.own(compare)));
    #[unroll]
    for i in 0..comptime!(block.own(compare)) {
        let query = (first + turn.queries as usize + i) * compare.vectors;
        keys[i] = key_of::<F, N>(found[i], kept, query, rows, starts[0], zero, compare);
    }
    keys
}

/// The partial sums of all pairs of a block: all sixteen of a pair as four vectors, or one of them
/// where four units read a row together. `first` is where the queries start in `kept`, `starts` where
/// the rows start in the order of `turn`, in vectors. All units of a row call it together.
#[cube]
fn sums<F: Float, N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    rows: &Array<Vector<F, N>>,
    starts: &Array<usize>,
    zero: f32,
    turn: Turn,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<Vector<f32, N>> {
    let own = comptime!(4 / compare.lanes as usize);
    let bases = turn.bases(first, block, compare);
    let mut sums = nothing::<N>(zero, comptime!(block.pairs() * own));
    for turn in 0..comptime!(compare.vectors / 4) {
        let i = turn * own;
        #[unroll]
        for part in 0..own {
            let loaded = loaded::<F, N>(rows, starts, at(i, compare) + part, block);
            term::<N>(kept, &bases, &loaded, &mut sums, i, part, block, compare);
        }
    }
    if comptime!(compare.vectors % 4 > 0) {
        let i = comptime!(compare.vectors / 4 * own).runtime();
        #[unroll]
        for part in 0..own {
            let at = at(i, compare) + part;
            if at < compare.vectors {
                let loaded = loaded::<F, N>(rows, starts, at, block);
                term::<N>(kept, &bases, &loaded, &mut sums, i, part, block, compare);
            }
        }
    }
    sums
}

/// [`sums`] of rows that are [`held`], where four units read a row together.
#[cube]
fn sums_of_held<N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    held: &Array<Vector<f32, N>>,
    zero: f32,
    turn: Turn,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<Vector<f32, N>> {
    let bases = turn.bases(first, block, compare);
    let mut sums = nothing::<N>(zero, comptime!(block.pairs()));
    #[unroll]
    for i in 0..comptime!(compare.each()) {
        let loaded = of_held::<N>(held, i, block, compare);
        if is_there(i, compare) {
            term::<N>(kept, &bases, &loaded, &mut sums, i, 0usize, block, compare);
        }
    }
    sums
}

/// `n` sums of nothing.
#[cube]
fn nothing<N: Size>(zero: f32, #[comptime] n: usize) -> Array<Vector<f32, N>> {
    let mut sums = Array::<Vector<f32, N>>::new(n);
    #[unroll]
    for s in 0..n {
        sums[s] = Vector::<f32, N>::new(zero);
    }
    sums
}

/// One vector of every row and query: vector `i` of those this unit reads, `part` behind it where it reads rows alone.
#[cube]
fn term<N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    bases: &Array<usize>,
    loaded: &Array<Vector<f32, N>>,
    sums: &mut Array<Vector<f32, N>>,
    i: usize,
    #[comptime] part: usize,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) {
    let own = comptime!(4 / compare.lanes as usize);
    #[unroll]
    for q in 0..block.queries {
        let query = of_query::<N>(kept, bases, i, part, q, block, compare);
        #[unroll]
        for r in 0..block.rows {
            let s = comptime!((r * block.queries + q) * own + part);
            sums[s] = step::<N>(query, loaded[r], sums[s], compare);
        }
    }
}

/// The sums of all pairs, each in one unit: place `i` of [`Block::own`] is its first row ([`Turn`]) with the query that it
/// takes as `i`, number `i + queries` of its turn. Where four units read a row together, each hands half of its sums to the
/// next but one and then half of what is left to its neighbour, so that none is added up four times.
#[cube]
fn shared_out<N: Size>(
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<f32> {
    let mut found = Array::<f32>::new(comptime!(block.own(compare)));
    if comptime!(compare.lanes == 4) {
        let half = comptime!(block.pairs() / 2);
        #[unroll]
        for i in 0..half {
            let handed = exchange::<N>(sums[comptime!(i + half)], NEXT_BUT_ONE);
            sums[i] += handed;
        }
        let quarter = comptime!(block.pairs() / 4);
        #[unroll]
        for i in 0..quarter {
            let last = sums[i] + exchange::<N>(sums[comptime!(i + quarter)], NEXT);
            found[i] = fold::<N>(last);
        }
    } else {
        #[unroll]
        for i in 0..comptime!(block.pairs()) {
            let s = comptime!(i * 4);
            found[i] = fold::<N>(
                (sums[s] + sums[comptime!(s + 2)])
                    + (sums[comptime!(s + 1)] + sums[comptime!(s + 3)]),
            );
        }
    }
    found
}

/// The key of a pair whose sum is known: query at vector `query` of `kept`, row at vector `row`.
#[cube]
fn key_of<F: Float, N: Size>(
    sum: f32,
    kept: &SharedMemory<Vector<f32, N>>,
    query: usize,
    rows: &Array<Vector<F, N>>,
    row: usize,
    zero: f32,
    #[comptime] compare: Compare,
) -> f32 {
    if comptime!(compare.l2) {
        sum
    } else {
        let mut key = 0.0f32 - sum;
        if is_special(key) {
            let query = kept.slice(query, query + compare.vectors);
            key = scaled::<F, N>(&query, rows, row, zero, compare);
        }
        key
    }
}
