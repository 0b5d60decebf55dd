//! The scan by list whose filter are inner products in f32: a row costs one operation per component and
//! query, and one per component for its norm.

use super::{
    blueprint::Blueprint,
    bound::TINY,
    cube::{Task, TileArgs, append, load, name, share, task_at},
    filter::{Waiting, bar, is_excluded, part, part_of_held, settle, weigh, weight_of_row},
};
use crate::device::{
    claim,
    lanes::{NEXT, NEXT_BUT_ONE, group},
    queues::Queues,
    tile::{self, Turn, at, is_there, of_held, of_query},
};
use cubecl::prelude::*;

/// As [`super::cube::keep_best_by_list`].
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn keep_best_by_products<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    lists: &Array<u32>,
    pairs: &Array<u32>,
    state: &mut Array<Atomic<u32>>,
    out: &mut Array<u32>,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let mut kept = SharedMemory::<Vector<f32, N>>::new(print.kept());
    let mut names = SharedMemory::<u32>::new(print.queues.queues);
    let mut queues = Queues::new(print.queues);
    let mut waiting = Waiting::new(print);
    claim::vectors::<N>(&mut kept);
    claim::words(&mut names);
    let total = lists[args.nlist as usize * 4];
    let mut number = CUBE_POS as u32;
    while number < total {
        sync_cube();
        let task = task_at(lists, number, args, print);
        queues.clear(print.queues);
        name(pairs, state, &mut names, &mut queues, task, args, print);
        sync_cube();
        load::<N>(queries, &mut kept, &names, args, print);
        weigh::<N>(queries, &names, &mut waiting, args, print);
        sync_cube();
        compare::<F, N>(
            &kept,
            queries,
            rows,
            ranks,
            state,
            &names,
            &mut queues,
            &mut waiting,
            out,
            task,
            args,
            print,
        );
        append(state, &names, &mut queues, out, args, print);
        number += CUBE_COUNT as u32;
    }
}

/// Offers every row of the piece to every query of the tile, but for the pairs that products in f32
/// exclude. All units call it.
#[cube]
fn compare<F: Float, N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    waiting: &mut Waiting,
    out: &mut Array<u32>,
    task: Task,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let groups = comptime!(print.queues.units as u32 / print.compare.lanes);
    let group = group(print.compare.lanes);
    let turn = Turn::new(print.block, print.compare);
    // Of the row whose pairs are left to this unit.
    let row = turn.rows * groups + group;
    let mut step = task.from;
    while step < task.to {
        if comptime!(print.queues.kept > 0) {
            share(state, names, queues, args, false, print);
        }
        let mut starts = Array::<usize>::new(print.block.rows);
        #[unroll]
        for r in 0..print.block.rows {
            let slot = step + (comptime!(r as u32) ^ turn.rows) * groups + group;
            // Idle units read the piece's first row.
            let position = (task.start + select(slot < task.to, slot, task.from)) as usize;
            starts[r] = position * print.compare.vectors;
        }
        let held = tile::held::<F, N>(rows, &starts, print.block, print.compare);
        let square = square::<F, N>(rows, &held, &starts, print);
        let weight = weight_of_row(square, args, print);
        let inside = step + row < task.to;
        let mut q = 0u32.runtime();
        while q < task.active {
            let first = q as usize;
            let base = first * print.compare.vectors;
            let found = products::<F, N>(kept, base, rows, &held, &starts, turn, print);
            let query = first + turn.queries as usize;
            let code = query as u32 * comptime!(print.step() as u32) + row;
            let mut left = select(inside, comptime!(print.all()), 0u32);
            let mut go = true.runtime();
            while go {
                #[unroll]
                for i in 0..comptime!(print.tested()) {
                    let bar = bar(query + i, waiting, queues, print);
                    if is_excluded(found[i], weight, bar, print) {
                        left &= comptime!(!(1u32 << i));
                    }
                }
                left = waiting.put(code, left, print);
                go = settle::<F, N>(
                    queries, rows, ranks, state, names, queues, waiting, out, task, step, args,
                    print,
                );
            }
            q += comptime!(print.block.queries as u32);
        }
        step += comptime!(print.step() as u32);
    }
}

/// The products of a block's pairs, each in one unit, which has those that [`tile::keys`] would leave to it. All
/// units of a row call it together.
#[cube]
fn products<F: Float, N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    first: usize,
    rows: &Array<Vector<F, N>>,
    held: &Array<Vector<f32, N>>,
    starts: &Array<usize>,
    turn: Turn,
    #[comptime] print: Blueprint,
) -> Array<f32> {
    let compare = comptime!(print.compare);
    let block = comptime!(print.block);
    let lanes = comptime!(compare.lanes as usize);
    let bases = turn.bases(first, block, compare);
    let mut sums = Array::<f32>::new(block.pairs());
    #[unroll]
    for s in 0..block.pairs() {
        sums[s] = TINY.runtime();
    }
    if comptime!(print.holds()) {
        #[unroll]
        for i in 0..comptime!(compare.each()) {
            let loaded = of_held::<N>(held, i, block, compare);
            if is_there(i, compare) {
                add::<N>(kept, &bases, &loaded, &mut sums, i, print);
            }
        }
    } else {
        for i in 0..comptime!(compare.vectors / lanes) {
            let loaded = tile::loaded::<F, N>(rows, starts, at(i, compare), block);
            add::<N>(kept, &bases, &loaded, &mut sums, i, print);
        }
        if comptime!(compare.vectors % lanes > 0) {
            let i = comptime!(compare.vectors / lanes).runtime();
            let at = at(i, compare);
            if at < compare.vectors {
                let loaded = tile::loaded::<F, N>(rows, starts, at, block);
                add::<N>(kept, &bases, &loaded, &mut sums, i, print);
            }
        }
    }
    let mut found = Array::<f32>::new(comptime!(block.own(compare)));
    if comptime!(lanes == 4) {
        let half = comptime!(block.pairs() / 2);
        #[unroll]
        for i in 0..half {
            sums[i] += plane_shuffle_xor(sums[comptime!(i + half)], NEXT_BUT_ONE);
        }
        let quarter = comptime!(block.pairs() / 4);
        #[unroll]
        for i in 0..quarter {
            found[i] = sums[i] + plane_shuffle_xor(sums[comptime!(i + quarter)], NEXT);
        }
    } else {
        #[unroll]
        for i in 0..block.pairs() {
            found[i] = sums[i];
        }
    }
    found
}

/// The squared norm of the row whose pairs are left to this unit. All units of a row call it together.
#[cube]
fn square<F: Float, N: Size>(
    rows: &Array<Vector<F, N>>,
    held: &Array<Vector<f32, N>>,
    starts: &Array<usize>,
    #[comptime] print: Blueprint,
) -> f32 {
    let block = comptime!(print.block);
    let mut squares = Array::<f32>::new(block.rows);
    #[unroll]
    for r in 0..block.rows {
        squares[r] = if comptime!(print.holds()) {
            part_of_held::<N>(held, r, print)
        } else {
            part::<F, N>(rows, starts[r], print)
        };
    }
    if comptime!(print.compare.lanes == 4) {
        // As products are handed over. Neighbours have the same one of two rows, and each one of two of four.
        let half = comptime!(block.rows / 2);
        #[unroll]
        for r in 0..half {
            squares[r] += plane_shuffle_xor(squares[comptime!(r + half)], NEXT_BUT_ONE);
        }
        squares[0] += plane_shuffle_xor(squares[comptime!(half - 1)], NEXT);
    }
    squares[0]
}

/// One vector of every row and query: vector `i` of those this unit reads.
#[cube]
fn add<N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    bases: &Array<usize>,
    loaded: &Array<Vector<f32, N>>,
    sums: &mut Array<f32>,
    i: usize,
    #[comptime] print: Blueprint,
) {
    #[unroll]
    for q in 0..print.block.queries {
        let query = of_query::<N>(kept, bases, i, 0usize, q, print.block, print.compare);
        #[unroll]
        for r in 0..print.block.rows {
            let s = comptime!(r * print.block.queries + q);
            #[unroll]
            for j in 0..4usize {
                sums[s] = fma(loaded[r][j], query[j], sums[s]);
            }
        }
    }
}
