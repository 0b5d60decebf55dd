//! Pairs that need not be compared: their inner product shows that their key cannot be among the k best
//! ([`super::bound`]). What is left is compared as ever, so the answer has the same bits.

use super::{
    blueprint::{Blueprint, MATRIX},
    bound::SHORT,
    cube::{Task, TileArgs, make_room},
};
use crate::device::{
    Filter, claim,
    distance::{fold, key, wide},
    lanes::{NEXT, NEXT_BUT_ONE, group, lane},
    queue::{key_bits, key_value},
    queues::Queues,
};
use cubecl::prelude::*;

/// The largest key a query without an open queue takes: none.
const CLOSED: f32 = -3.0e38;
/// A bound above is not one.
const LARGEST: f32 = 3.0e38;

/// Pairs of a step that wait to be compared.
#[derive(CubeType)]
pub(super) struct Waiting {
    /// Query of the tile times rows of a step, plus row of the step.
    pair: SharedMemory<u32>,
    /// How many were put in, and not: those that found no room.
    count: SharedMemory<Atomic<u32>>,
    /// What each query of the tile adds to a bound, or (L2) takes from its limit.
    weight: SharedMemory<f32>,
}

#[cube]
impl Waiting {
    /// The memory, claimed ([`claim`]); none waits.
    pub fn new(#[comptime] print: Blueprint) -> Waiting {
        let mut pair = SharedMemory::<u32>::new(print.waiting());
        let count = SharedMemory::<Atomic<u32>>::new(1usize);
        let mut weight = SharedMemory::<f32>::new(print.queues.queues);
        claim::words(&mut pair);
        claim::counters(&count);
        weight[0] = 0.0f32;
        Waiting {
            pair,
            count,
            weight,
        }
    }

    /// Puts in the pairs of this unit whose bits are set in `left`; the bits of those that found no room.
    pub fn put(&mut self, base: u32, left: u32, #[comptime] print: Blueprint) -> u32 {
        let mut left = left;
        if left != 0u32 {
            let mut place = self.count[0].fetch_add(left.count_ones());
            let mut ahead = left;
            while ahead != 0u32 && place < comptime!(print.waiting() as u32) {
                let above = ahead.leading_zeros();
                let i = 31u32 - above;
                self.pair[place as usize] = base + offset(i, print);
                ahead &= !(1u32 << i);
                place += 1u32;
            }
            left = ahead;
        }
        left
    }
}

/// How far the code of pair `i` of a unit is behind that of the first: rows of a step for each query, one for each
/// row.
#[cube]
fn offset(i: u32, #[comptime] print: Blueprint) -> u32 {
    let step = comptime!(print.step() as u32);
    if comptime!(print.filter == Filter::TensorCores) {
        // As `Blueprint::bit` has it.
        let across = comptime!(print.across() as u32);
        let row = i / 2u32 / across;
        let query = i / 2u32 % across * comptime!(MATRIX.queries as u32) + i % 2u32;
        query * step + 8u32 * row
    } else {
        i * step
    }
}

/// What this unit's components of the row that starts at vector `row` add to its squared norm.
#[cube]
pub(super) fn part<F: Float, N: Size>(
    rows: &Array<Vector<F, N>>,
    row: usize,
    #[comptime] print: Blueprint,
) -> f32 {
    let lanes = comptime!(print.compare.lanes as usize);
    let lane = lane(print.compare.lanes) as usize;
    let whole = comptime!(print.compare.vectors / lanes);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    // As many turns in every unit.
    for i in 0..whole {
        let components = wide::<F, N>(rows[row + i * lanes + lane]);
        sum = fma(components, components, sum);
    }
    if comptime!(print.compare.vectors % lanes > 0) {
        let at = comptime!(whole * lanes) + lane;
        if at < print.compare.vectors {
            let components = wide::<F, N>(rows[row + at]);
            sum = fma(components, components, sum);
        }
    }
    fold::<N>(sum)
}

/// The same of row `r` of a block whose rows are held.
#[cube]
pub(super) fn part_of_held<N: Size>(
    held: &Array<Vector<f32, N>>,
    #[comptime] r: usize,
    #[comptime] print: Blueprint,
) -> f32 {
    let each = comptime!(print.compare.each());
    let mut sum = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..each {
        let components = held[comptime!(r * each + i)];
        sum = fma(components, components, sum);
    }
    fold::<N>(sum)
}

/// The sum over the units that read a row together.
#[cube]
fn of_lanes(part: f32, #[comptime] print: Blueprint) -> f32 {
    let mut sum = part;
    if comptime!(print.compare.lanes == 4) {
        sum += plane_shuffle_xor(sum, NEXT);
        sum += plane_shuffle_xor(sum, NEXT_BUT_ONE);
    }
    sum
}

/// What a row of that squared norm adds to a bound.
#[cube]
pub(super) fn weight_of_row(square: f32, args: TileArgs, #[comptime] print: Blueprint) -> f32 {
    if comptime!(print.compare.l2) {
        square - args.slack * square
    } else {
        f32::sqrt(square) + SHORT
    }
}

/// Weighs the tile's queries; 0 for those that are missing. All units call it, after a barrier; another
/// must follow.
#[cube]
pub(super) fn weigh<N: Size>(
    queries: &Array<Vector<f32, N>>,
    names: &SharedMemory<u32>,
    waiting: &mut Waiting,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let groups = comptime!(print.queues.units / print.compare.lanes as usize);
    let group = group(print.compare.lanes) as usize;
    // As many turns in every unit.
    for turn in 0..comptime!(print.queues.queues.div_ceil(groups)) {
        let q = turn * groups + group;
        let mut name = u32::MAX.runtime();
        if q < print.queues.queues {
            name = names[q];
        }
        let there = name != u32::MAX;
        let query = args.first + select(there, name, 0u32);
        let part = part::<f32, N>(queries, query as usize * print.compare.vectors, print);
        let square = of_lanes(part, print);
        if q < print.queues.queues && lane(print.compare.lanes) == 0u32 {
            let mut weight = weight_of_row(square, args, print);
            if comptime!(!print.compare.l2) {
                weight *= args.slack;
            }
            waiting.weight[q] = select(there, weight, 0.0f32);
        }
    }
}

/// What a query's bounds are compared with.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Bar {
    /// What the query adds to a bound (L2: nothing, `limit` has it).
    weight: f32,
    /// What a bound must exceed for its pair to be excluded.
    limit: f32,
}

/// The bar of query `q` of the tile.
#[cube]
pub(super) fn bar(
    q: usize,
    waiting: &Waiting,
    queues: &Queues,
    #[comptime] print: Blueprint,
) -> Bar {
    let weight = waiting.weight[q];
    let limit = queues.limit(q);
    let limit = select(limit == 0u32, CLOSED, key_value(limit));
    if comptime!(print.compare.l2) {
        Bar {
            weight: 0.0f32,
            // A squared norm beyond the range leaves nothing to compare with.
            limit: select(weight < LARGEST, limit - weight, LARGEST),
        }
    } else {
        Bar { weight, limit }
    }
}

/// Whether the pair of a row and a query cannot be among the k best.
#[cube]
pub(super) fn is_excluded(product: f32, row: f32, bar: Bar, #[comptime] print: Blueprint) -> bool {
    let bound = if comptime!(print.compare.l2) {
        fma(-2.0f32, product, row)
    } else {
        fma(0.0f32 - bar.weight, row, 0.0f32 - product)
    };
    bound > bar.limit && bound < LARGEST
}

/// Compares the pairs that wait, and offers them to the queues of their queries; whether some found no
/// room to wait. All units call it, after [`Waiting::put`].
#[cube]
pub(super) fn settle<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    waiting: &mut Waiting,
    out: &mut Array<u32>,
    task: Task,
    step: u32,
    args: TileArgs,
    #[comptime] print: Blueprint,
) -> bool {
    sync_cube();
    let all = waiting.count[0].load();
    let n = min(all, comptime!(print.waiting() as u32));
    // One pair for each group of units.
    let group = group(print.compare.lanes);
    if n > 0u32 {
        let mine = group < n;
        let pair = waiting.pair[select(mine, group, 0u32) as usize];
        let q = (pair / comptime!(print.step() as u32)) as usize;
        let slot = step + pair % comptime!(print.step() as u32);
        let position = (task.start + slot) as usize;
        let name = names[q];
        let there = mine && name != u32::MAX;
        let from = (args.first + select(there, name, 0u32)) as usize * print.compare.vectors;
        let key = key::<F, N>(
            &queries.slice(from, from + print.compare.vectors),
            rows,
            position * print.compare.vectors,
            args.zero,
            print.compare,
        );
        let ord = ranks[position];
        let first = lane(print.compare.lanes) == 0u32;
        let mut bits = select(there && first, key_bits(key), u32::MAX);
        let mut go = true.runtime();
        while go {
            let mut refused = false.runtime();
            if queues.wants(q, bits, ord) {
                if queues.push(q, bits, ord, print.queues) {
                    bits = u32::MAX;
                } else {
                    refused = true;
                }
            }
            go = queues.any(refused, print.queues);
            if go {
                make_room(state, names, queues, out, args, print);
            }
        }
    }
    // All have read the count.
    sync_cube();
    if UNIT_POS == 0 {
        waiting.count[0].store(0u32);
    }
    sync_cube();
    all > n
}
