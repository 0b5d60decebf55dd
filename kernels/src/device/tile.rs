//! The distances of a few rows to a few queries at once, in registers: every vector of a row is
//! loaded once for all queries of the block. The sums are those of [`super::distance`], bit for bit.

use super::{
    distance::{Compare, fold, halves, scaled, step, wide},
    lanes::{NEXT, NEXT_BUT_ONE, lane},
    queue::is_special,
};
use cubecl::prelude::*;

/// Rows and queries compared at once by a unit, or by the units that read a row together.
///
/// Pair `p` is row `p / queries` with query `p % queries`.
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

    /// Pairs whose sums [`shared_out`] leaves to one unit.
    pub const fn own(self, compare: Compare) -> usize {
        self.pairs() / compare.lanes as usize
    }
}

/// What a unit reads of the rows of a block, all at once: of row `r` vectors `r * each` and on, where `each`
/// is [`Compare::each`]; zeros behind a row's end. `starts` is where the rows start, in vectors.
#[cube]
pub fn held<F: Float, N: Size>(
    rows: &Array<Vector<F, N>>,
    starts: &Array<usize>,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<Vector<f32, N>> {
    let each = comptime!(compare.each());
    let mut held = Array::<Vector<f32, N>>::new(comptime!(block.rows * each));
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

/// The partial sums of all pairs of a block: all sixteen of a pair as four vectors, or one of them
/// where four units read a row together. `first` is where the queries start in `kept`, `starts` where
/// the rows start, in vectors. All units of a row call it together.
#[cube]
pub fn sums<F: Float, N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    rows: &Array<Vector<F, N>>,
    starts: &Array<usize>,
    zero: f32,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<Vector<f32, N>> {
    let own = comptime!(4 / compare.lanes as usize);
    let lane = lane(compare.lanes) as usize;
    let mut sums = nothing::<N>(zero, comptime!(block.pairs() * own));
    for i in 0..comptime!(compare.vectors / 4) {
        #[unroll]
        for part in 0..own {
            let at = i * 4 + lane + part;
            let loaded = loaded::<F, N>(rows, starts, at, block);
            term::<N>(kept, first, &loaded, &mut sums, at, part, block, compare);
        }
    }
    if comptime!(compare.vectors % 4 > 0) {
        #[unroll]
        for part in 0..own {
            let at = comptime!(compare.vectors / 4 * 4) + lane + part;
            if at < compare.vectors {
                let loaded = loaded::<F, N>(rows, starts, at, block);
                term::<N>(kept, first, &loaded, &mut sums, at, part, block, compare);
            }
        }
    }
    sums
}

/// [`sums`] of rows that are [`held`], where four units read a row together.
#[cube]
pub fn sums_of_held<N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    held: &Array<Vector<f32, N>>,
    zero: f32,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<Vector<f32, N>> {
    let mut sums = nothing::<N>(zero, comptime!(block.pairs()));
    #[unroll]
    for i in 0..comptime!(compare.each()) {
        let at = at(i, compare);
        let loaded = of_held::<N>(held, i, block, compare);
        if is_there(i, compare) {
            term::<N>(kept, first, &loaded, &mut sums, at, 0usize, block, compare);
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

/// One vector of every row and query.
#[cube]
fn term<N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    loaded: &Array<Vector<f32, N>>,
    sums: &mut Array<Vector<f32, N>>,
    at: usize,
    #[comptime] part: usize,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) {
    let own = comptime!(4 / compare.lanes as usize);
    #[unroll]
    for q in 0..block.queries {
        let query = kept[first + q * compare.vectors + at];
        #[unroll]
        for r in 0..block.rows {
            let s = comptime!((r * block.queries + q) * own + part);
            sums[s] = step::<N>(query, loaded[r], sums[s], compare);
        }
    }
}

/// The sum of pair `pair`, in every unit that reads the row.
#[cube]
pub fn sum_of<N: Size>(
    sums: &Array<Vector<f32, N>>,
    #[comptime] pair: usize,
    #[comptime] compare: Compare,
) -> f32 {
    if comptime!(compare.lanes == 4) {
        fold::<N>(halves::<N>(sums[pair]))
    } else {
        let s = comptime!(pair * 4);
        fold::<N>(
            (sums[s] + sums[comptime!(s + 2)]) + (sums[comptime!(s + 1)] + sums[comptime!(s + 3)]),
        )
    }
}

/// The sums of all pairs, each in one unit: place `i` of [`Block::own`] is pair [`pair_of`]. Where
/// four units read a row together, each hands half of its sums to the next but one and then half of
/// what is left to its neighbour, so that none is added up four times.
#[cube]
pub fn shared_out<N: Size>(
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> Array<f32> {
    let mut found = Array::<f32>::new(comptime!(block.own(compare)));
    if comptime!(compare.lanes == 4) {
        let lane = lane(compare.lanes);
        let half = comptime!(block.pairs() / 2);
        #[unroll]
        for i in 0..half {
            sums[i] = four_handed::<N>(
                sums[i],
                sums[comptime!(i + half)],
                lane >= 2u32,
                NEXT_BUT_ONE,
            );
        }
        let quarter = comptime!(block.pairs() / 4);
        #[unroll]
        for i in 0..quarter {
            let last = four_handed::<N>(
                sums[i],
                sums[comptime!(i + quarter)],
                lane % 2u32 == 1u32,
                NEXT,
            );
            found[i] = fold::<N>(last);
        }
    } else {
        #[unroll]
        for i in 0..comptime!(block.pairs()) {
            found[i] = sum_of::<N>(sums, i, compare);
        }
    }
    found
}

/// The pair at place `i` of what [`shared_out`] leaves to this unit.
#[cube]
pub fn pair_of(
    #[comptime] i: usize,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) -> usize {
    let mut pair = i.runtime();
    if comptime!(compare.lanes == 4) {
        let lane = lane(compare.lanes) as usize;
        pair += (lane / 2usize) * comptime!(block.pairs() / 2)
            + (lane % 2usize) * comptime!(block.pairs() / 4);
    }
    pair
}

/// [`handed`] for four sums.
#[cube]
fn four_handed<N: Size>(
    low: Vector<f32, N>,
    high: Vector<f32, N>,
    upper: bool,
    #[comptime] mask: u32,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for j in 0..4usize {
        sum[j] = handed(low[j], high[j], upper, mask);
    }
    sum
}

/// `low` (else `high`, in the upper unit) added to that of the unit it is exchanged with.
#[cube]
pub fn handed(low: f32, high: f32, upper: bool, #[comptime] mask: u32) -> f32 {
    select(upper, high, low) + plane_shuffle_xor(select(upper, low, high), mask)
}

/// The key of a pair whose sum is known: query at vector `query` of `kept`, row at vector `row`.
#[cube]
pub fn key_of<F: Float, N: Size>(
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
