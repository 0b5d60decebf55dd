//! The scan by list whose filter are inner products in f32: a row costs one operation per component and
//! query, and one per component for its norm.

use super::{
    blueprint::Blueprint,
    bound::TINY,
    cube::{Task, TileArgs, append, load, name, share, task_at},
    filter::{Waiting, is_excluded, settle, square, weigh, weight_of_row},
};
use crate::device::{
    claim,
    queues::Queues,
    tile::{pair_of, shared_out, sums},
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
    let group = UNIT_POS / comptime!(print.compare.lanes);
    let products = comptime!(print.products());
    // All pairs whose products a unit is left with are of one row.
    let pair = pair_of(0usize, print.block, print.compare);
    let mine = (pair / print.block.queries) as u32;
    let row = mine * groups + group;
    let mut step = task.from;
    while step < task.to {
        if comptime!(print.queues.kept > 0) {
            share(state, names, queues, args, false, print);
        }
        let mut starts = Array::<usize>::new(print.block.rows);
        let mut weight = 0.0f32.runtime();
        #[unroll]
        for r in 0..print.block.rows {
            let slot = step + comptime!(r as u32) * groups + group;
            // Idle units read the piece's first row.
            let position = (task.start + select(slot < task.to, slot, task.from)) as usize;
            starts[r] = position * print.compare.vectors;
            let here = weight_of_row(square::<F, N>(rows, starts[r], print), args, print);
            weight = select(mine == comptime!(r as u32), here, weight);
        }
        let inside = step + row < task.to;
        let mut q = 0u32.runtime();
        while q < task.active {
            let first = q as usize;
            let base = first * print.compare.vectors;
            let mut sums = sums::<F, N>(kept, base, rows, &starts, TINY, print.block, products);
            let found = shared_out::<N>(&mut sums, print.block, products);
            let query = first + pair % print.block.queries;
            let code = query as u32 * comptime!(print.step() as u32) + row;
            let mut left = select(inside, comptime!(print.all()), 0u32);
            let mut go = true.runtime();
            while go {
                #[unroll]
                for i in 0..comptime!(print.tested()) {
                    if is_excluded(found[i], weight, query + i, waiting, queues, print) {
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
