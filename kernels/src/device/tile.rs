//! The distances of a few rows to a few queries at once, in registers: every vector of a row is
//! loaded once for all queries of the block. The sums are those of [`super::distance`], bit for bit.

use super::{
    distance::{Compare, fold, halves, scaled, step, wide},
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
    let lane = UNIT_POS as usize % comptime!(compare.lanes as usize);
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(block.pairs() * own));
    #[unroll]
    for s in 0..comptime!(block.pairs() * own) {
        sums[s] = Vector::<f32, N>::new(zero);
    }
    for i in 0..comptime!(compare.vectors / 4) {
        #[unroll]
        for part in 0..own {
            let at = i * 4 + lane + part;
            term::<F, N>(
                kept, first, rows, starts, &mut sums, at, part, block, compare,
            );
        }
    }
    if comptime!(compare.vectors % 4 > 0) {
        #[unroll]
        for part in 0..own {
            let at = comptime!(compare.vectors / 4 * 4) + lane + part;
            if at < compare.vectors {
                term::<F, N>(
                    kept, first, rows, starts, &mut sums, at, part, block, compare,
                );
            }
        }
    }
    sums
}

/// One vector of every row and query.
#[cube]
fn term<F: Float, N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    rows: &Array<Vector<F, N>>,
    starts: &Array<usize>,
    sums: &mut Array<Vector<f32, N>>,
    at: usize,
    #[comptime] part: usize,
    #[comptime] block: Block,
    #[comptime] compare: Compare,
) {
    let own = comptime!(4 / compare.lanes as usize);
    let mut loaded = Array::<Vector<f32, N>>::new(block.rows);
    #[unroll]
    for r in 0..block.rows {
        loaded[r] = wide::<F, N>(rows[starts[r] + at]);
    }
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
        let lane = UNIT_POS % 4u32;
        let half = comptime!(block.pairs() / 2);
        #[unroll]
        for i in 0..half {
            sums[i] = handed::<N>(sums[i], sums[comptime!(i + half)], lane >= 2u32, 2u32);
        }
        let quarter = comptime!(block.pairs() / 4);
        #[unroll]
        for i in 0..quarter {
            let last = handed::<N>(
                sums[i],
                sums[comptime!(i + quarter)],
                lane % 2u32 == 1u32,
                1u32,
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
        let lane = (UNIT_POS % 4u32) as usize;
        pair += (lane / 2usize) * comptime!(block.pairs() / 2)
            + (lane % 2usize) * comptime!(block.pairs() / 4);
    }
    pair
}

/// `low` (else `high`, in the upper unit) added to that of the unit it is exchanged with.
#[cube]
fn handed<N: Size>(
    low: Vector<f32, N>,
    high: Vector<f32, N>,
    upper: bool,
    #[comptime] mask: u32,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for j in 0..4usize {
        let kept = select(upper, high[j], low[j]);
        sum[j] = kept + plane_shuffle_xor(select(upper, low[j], high[j]), mask);
    }
    sum
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
