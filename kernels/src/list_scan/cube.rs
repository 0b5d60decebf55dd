//! The kernels of the scan on a GPU; [`super::device`] launches them.

use super::{
    blueprint::Blueprint,
    walk::{LimitArgs, Walk},
};
use crate::{
    device::{
        claim,
        distance::key,
        lanes::{group, lane},
        queue::{Queue, key_bits},
    },
    select_k::{Pair, Select, write},
};
use cubecl::prelude::*;

/// Sizes of a launch.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(super) struct PartArgs {
    /// The first query, and how many.
    pub first: u32,
    pub count: u32,
    /// Cubes per query.
    pub splits: u32,
    /// Pairs written per query.
    width: u32,
    /// Lists or rows named per query.
    pub per_query: u32,
    k: u32,
    /// 0, for [`key`].
    pub zero: f32,
}

/// What a cube works at.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Slice {
    /// The query's number in this launch, and in all.
    pub local: u32,
    pub query: u32,
    pub split: u32,
    /// Rows that a cube reads at once, and which of them is this unit's.
    pub groups: u32,
    pub group: u32,
    /// Whether this unit speaks for those that read a row together.
    pub leader: bool,
}

#[cube]
pub(super) fn slice(part: &PartArgs, #[comptime] print: Blueprint) -> Slice {
    let cube = CUBE_POS as u32;
    let local = cube / part.splits;
    Slice {
        local,
        query: part.first + local,
        split: cube - local * part.splits,
        groups: comptime!(print.queue.units as u32 / print.compare.lanes).runtime(),
        group: group(print.compare.lanes),
        leader: lane(print.compare.lanes) == 0u32,
    }
}

/// The k best of one slice of one query.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn keep_best<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    named: &Array<u32>,
    out: &mut Array<u32>,
    limits: &LimitArgs,
    part: PartArgs,
    #[comptime] print: Blueprint,
) {
    if CUBE_POS as u32 >= part.count * part.splits {
        terminate!();
    }
    let at = slice(&part, print);
    let queue = best_of_slice::<F, N>(
        queries, rows, ranks, placed, named, limits, at, &part, print,
    );
    let base = (at.local * part.width + at.split * part.k) as usize * 2;
    let mut i = UNIT_POS as usize;
    while i < part.k as usize {
        out[base + i * 2] = queue.key(i);
        out[base + i * 2 + 1] = queue.ord(i);
        i += print.queue.units;
    }
}

/// The same of queries that are not cut into slices: the answer.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn answer_best<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    named: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    limits: &LimitArgs,
    part: PartArgs,
    #[comptime] print: Blueprint,
    #[comptime] how: Select,
) {
    if CUBE_POS as u32 >= part.count {
        terminate!();
    }
    let at = slice(&part, print);
    let queue = best_of_slice::<F, N>(
        queries, rows, ranks, placed, named, limits, at, &part, print,
    );
    let mut i = UNIT_POS as usize;
    while i < part.k as usize {
        let pair = Pair {
            key: queue.key(i),
            ord: queue.ord(i),
        };
        let to = at.query as usize * part.k as usize + i;
        write(ids, ids, values, labels, pair, 0usize, to, how);
        i += print.queue.units;
    }
}

/// A queue with the k best of a slice. All units call it, in the first straight stretch of a kernel.
#[cube]
fn best_of_slice<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    named: &Array<u32>,
    limits: &LimitArgs,
    at: Slice,
    part: &PartArgs,
    #[comptime] print: Blueprint,
) -> Queue {
    let mut kept = SharedMemory::<Vector<f32, N>>::new(print.kept());
    let mut queue = Queue::new(print.queue);
    claim::vectors::<N>(&mut kept);
    let mut walk = Walk::new(part, at.query, ranks.len() as u32, print);
    queue.clear(print.queue);
    let total = walk.open::<N>(queries, &mut kept, placed, named, limits, print);
    let from = slice_start(total, at.split, part.splits);
    let to = slice_start(total, at.split + 1u32, part.splits);
    walk.seek(from, print);
    let mut step = from;
    while step < to {
        // All rows first, so that their loads overlap; then the queue.
        let mut positions = Array::<u32>::new(print.turns);
        let mut keys = Array::<f32>::new(print.turns);
        #[unroll]
        for turn in 0..print.turns {
            let candidate = step + comptime!(turn as u32) * at.groups + at.group;
            let position = walk.position(candidate, to, placed, named, limits, print);
            positions[turn] = position;
            keys[turn] =
                row_key::<F, N>(queries, &kept, rows, at.query, position, part.zero, print);
        }
        #[unroll]
        for turn in 0..print.turns {
            let position = positions[turn];
            if position != u32::MAX && at.leader {
                let bits = key_bits(keys[turn]);
                queue.push(bits, ranks[position as usize], part.k as usize, print.queue);
            }
        }
        queue.settle(print.queue);
        step += comptime!(print.queue.step as u32);
    }
    queue.finish(print.queue);
    queue
}

/// The keys of all candidates of a query, one after the other; gaps behind the last.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn write_keys<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    named: &Array<u32>,
    out: &mut Array<u32>,
    limits: &LimitArgs,
    part: PartArgs,
    #[comptime] print: Blueprint,
) {
    if CUBE_POS as u32 >= part.count * part.splits {
        terminate!();
    }
    let at = slice(&part, print);
    let mut kept = SharedMemory::<Vector<f32, N>>::new(print.kept());
    claim::vectors::<N>(&mut kept);
    let mut walk = Walk::new(&part, at.query, ranks.len() as u32, print);
    let total = walk.open::<N>(queries, &mut kept, placed, named, limits, print);
    let from = slice_start(part.width, at.split, part.splits);
    let to = slice_start(part.width, at.split + 1u32, part.splits);
    walk.seek(min(from, total), print);
    let base = at.local as usize * part.width as usize;
    let mut step = from;
    while step < to {
        let candidate = step + at.group;
        let position = walk.position(candidate, min(to, total), placed, named, limits, print);
        let found = row_key::<F, N>(queries, &kept, rows, at.query, position, part.zero, print);
        if at.leader && candidate < to {
            let place = (base + candidate as usize) * 2;
            if position == u32::MAX {
                out[place] = u32::MAX;
                out[place + 1] = u32::MAX;
            } else {
                out[place] = key_bits(found);
                out[place + 1] = ranks[position as usize];
            }
        }
        step += at.groups;
    }
}

/// The key of the row at `position`; of the first row where there is none.
#[cube]
pub(super) fn row_key<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    kept: &SharedMemory<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    query: u32,
    position: u32,
    zero: f32,
    #[comptime] print: Blueprint,
) -> f32 {
    let vectors = comptime!(print.compare.vectors);
    let row = select(position == u32::MAX, 0u32, position) as usize * vectors;
    if comptime!(print.keep) {
        key::<F, N>(&kept.to_slice(), rows, row, zero, print.compare)
    } else {
        let at = query as usize * vectors;
        key::<F, N>(
            &queries.slice(at, at + vectors),
            rows,
            row,
            zero,
            print.compare,
        )
    }
}

/// The first candidate of a slice: equal slices, the first ones perhaps longer by one.
#[cube]
pub(super) fn slice_start(total: u32, split: u32, splits: u32) -> u32 {
    let size = total / splits;
    size * split + min(split, total - size * splits)
}
