//! The kernel that reads lists once for a tile of queries; [`super::launch`] launches it.

use super::blueprint::Blueprint;
use crate::{
    device::{
        claim,
        lanes::group,
        queue::key_bits,
        queues::Queues,
        tile::{self, Turn},
    },
    list_scan::cube::slice_start,
};
use cubecl::prelude::*;

/// Sizes of a launch.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(super) struct TileArgs {
    /// The first query, and how many.
    pub first: u32,
    pub count: u32,
    /// Lists.
    pub nlist: u32,
    /// Lists probed per query.
    pub nprobe: u32,
    /// Rows of a piece of a list at most.
    pub rows: u32,
    /// Pairs there is room for per query.
    pub width: u32,
    pub k: u32,
    /// 0, for [`crate::device::distance::key`].
    pub zero: f32,
    /// What a filter allows for ([`super::bound`]).
    pub slack: f32,
}

/// What a cube works at: a piece of a list, and a tile of the queries that probe it.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Task {
    /// Where the list starts; the slots read.
    pub start: u32,
    pub from: u32,
    pub to: u32,
    /// The first of the tile's (query, list) pairs, and how many.
    pub pair: u32,
    pub active: u32,
}

/// Lists as [`super::tasks`] lays them out: four words each, and the sums behind the last.
#[cube]
pub(super) fn task_at(
    lists: &Array<u32>,
    task: u32,
    args: TileArgs,
    #[comptime] print: Blueprint,
) -> Task {
    // The last list whose first task is not behind this one.
    let mut low = 0u32.runtime();
    let mut high = args.nlist;
    while high - low > 1u32 {
        let middle = low + (high - low) / 2u32;
        if lists[middle as usize * 4] <= task {
            low = middle;
        } else {
            high = middle;
        }
    }
    let list = low as usize * 4;
    let tile = comptime!(print.queues.queues as u32);
    let pair = lists[list + 1];
    let count = lists[list + 5] - pair;
    let len = lists[list + 3];
    // Neighbouring cubes read the same piece.
    let tiles = count.div_ceil(tile);
    let pieces = len.div_ceil(args.rows);
    let local = task - lists[list];
    let piece = local / tiles;
    let before = (local - piece * tiles) * tile;
    Task {
        start: lists[list + 2],
        from: slice_start(len, piece, pieces),
        to: slice_start(len, piece + 1u32, pieces),
        pair: pair + before,
        active: min(tile, count - before),
    }
}

/// The k best of every piece of a list for every query that probes it, or those of them that may be
/// among the query's k best by what other cubes have found; appended to the query's pairs in `out`.
/// Where the queues keep none: all that may be among them by what earlier rounds have found.
///
/// `state` has, per query of the launch, the pairs appended so far, then the bits of a key that its
/// k-th best does not exceed.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn keep_best_by_list<F: Float, N: Size>(
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
        sync_cube();
        compare::<F, N>(
            &kept,
            rows,
            ranks,
            state,
            &names,
            &mut queues,
            out,
            task,
            args,
            print,
        );
        append(state, &names, &mut queues, out, args, print);
        number += CUBE_COUNT as u32;
    }
}

/// The queries of a tile, and their limits.
#[cube]
pub(super) fn name(
    pairs: &Array<u32>,
    state: &Array<Atomic<u32>>,
    names: &mut SharedMemory<u32>,
    queues: &mut Queues,
    task: Task,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let q = UNIT_POS;
    if q < comptime!(print.queues.queues as u32) {
        let mut query = u32::MAX.runtime();
        if q < task.active {
            query = task.pair + q;
            if comptime!(print.grouped) {
                query = pairs[query as usize] / args.nprobe;
            }
            let limit = state[(args.count + query) as usize].load();
            // No key is 0: a query that is not searchable.
            if limit > 0u32 {
                queues.open(q as usize, limit);
            } else {
                query = u32::MAX.runtime();
            }
        }
        names[q as usize] = query;
    }
}

/// Copies the tile's queries to shared memory; zeros for those that are missing.
#[cube]
pub(super) fn load<N: Size>(
    queries: &Array<Vector<f32, N>>,
    kept: &mut SharedMemory<Vector<f32, N>>,
    names: &SharedMemory<u32>,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let mut i = UNIT_POS as usize;
    while i < print.kept() {
        let query = names[i / print.compare.vectors];
        let mut vector = Vector::<f32, N>::new(0.0f32);
        if query != u32::MAX {
            let at = (args.first + query) as usize * print.compare.vectors;
            vector = queries[at + i % print.compare.vectors];
        }
        kept[i] = vector;
        i += print.queues.units;
    }
}

/// Offers every row of the piece to every query of the tile. All units call it.
#[cube]
fn compare<F: Float, N: Size>(
    kept: &SharedMemory<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    out: &mut Array<u32>,
    task: Task,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let groups = comptime!(print.queues.units as u32 / print.compare.lanes);
    let group = group(print.compare.lanes);
    let turn = Turn::new(print.block, print.compare);
    let mut step = task.from;
    while step < task.to {
        if comptime!(print.queues.kept > 0) {
            share(state, names, queues, args, false, print);
        } else {
            // Limits change between two launches only.
            make_room_early(state, names, queues, out, args, print);
        }
        let mut starts = Array::<usize>::new(print.block.rows);
        // Of the row whose pairs are left to this unit.
        let mut ord = u32::MAX.runtime();
        #[unroll]
        for r in 0..print.block.rows {
            let slot = step + (comptime!(r as u32) ^ turn.rows) * groups + group;
            let inside = slot < task.to;
            // Idle units read the piece's first row.
            let position = (task.start + select(inside, slot, task.from)) as usize;
            starts[r] = position * print.compare.vectors;
            if comptime!(r == 0) {
                ord = select(inside, ranks[position], u32::MAX);
            }
        }
        let held = tile::held::<F, N>(rows, &starts, print.block, print.compare);
        let mut from = 0u32.runtime();
        while from < task.active {
            let to = min(task.active, from + comptime!(print.span() as u32));
            // A bit for each pair of this unit that a queue took.
            let mut taken = 0u32.runtime();
            let mut go = args.k > 0u32;
            while go {
                let mut refused = false.runtime();
                let mut place = 0u32.runtime();
                let mut q = from;
                while q < to {
                    let first = q as usize;
                    let keys = tile::keys::<F, N>(
                        kept,
                        first,
                        rows,
                        &held,
                        &starts,
                        args.zero,
                        turn,
                        print.block,
                        print.compare,
                    );
                    #[unroll]
                    for i in 0..comptime!(print.block.own(print.compare)) {
                        let q = first + turn.queries as usize + i;
                        let bits = select(ord == u32::MAX, u32::MAX, key_bits(keys[i]));
                        let bit = 1u32 << place;
                        if queues.wants(q, bits, ord) && taken & bit == 0u32 {
                            if queues.push(q, bits, ord, print.queues) {
                                taken |= bit;
                            } else {
                                refused = true;
                            }
                        }
                        place += 1u32;
                    }
                    q += comptime!(print.block.queries as u32);
                }
                go = queues.any(refused, print.queues);
                if go {
                    make_room(state, names, queues, out, args, print);
                }
            }
            from += comptime!(print.span() as u32);
        }
        step += comptime!(print.block.rows as u32) * groups;
    }
}

/// Empties buffers of queues that keep none where one has no room for another step, so that no pair is compared again
/// (but where it has no room for a single one). All units call it.
#[cube]
fn make_room_early(
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    out: &mut Array<u32>,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let q = UNIT_POS as usize;
    let mut full = false.runtime();
    if q < print.queues.queues {
        full = !queues.has_room(q, comptime!(print.step() as u32), print.queues);
    }
    if queues.any(full, print.queues) {
        append(state, names, queues, out, args, print);
    }
}

/// Makes room in full buffers. All units call it.
#[cube]
pub(super) fn make_room(
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    out: &mut Array<u32>,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    if comptime!(print.queues.kept > 0) {
        queues.sort(args.k, false, print.queues);
        share(state, names, queues, args, true, print);
    } else {
        append(state, names, queues, out, args, print);
    }
}

/// Hears of the k-th best keys that other cubes have found; tells them, if asked to, the k-th best of
/// every queue. All units call it.
#[cube]
pub(super) fn share(
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    args: TileArgs,
    #[comptime] tell: bool,
    #[comptime] print: Blueprint,
) {
    let q = UNIT_POS as usize;
    if q < print.queues.queues {
        let query = names[q];
        if query != u32::MAX {
            let at = (args.count + query) as usize;
            let known = if comptime!(tell) {
                state[at].fetch_min(queues.kth(q, args.k, print.queues))
            } else {
                state[at].load()
            };
            queues.bound(q, known);
        }
    }
    sync_cube();
}

/// Appends what the queues hold to the pairs of their queries. All units call it.
#[cube]
pub(super) fn append(
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    out: &mut Array<u32>,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let q = UNIT_POS as usize;
    let tile = comptime!(print.queues.queues);
    if comptime!(print.queues.kept > 0) {
        let mut over = false.runtime();
        if q < tile {
            over = queues.is_over(q, args.k, print.queues);
        }
        if queues.any(over, print.queues) {
            queues.sort(args.k, true, print.queues);
            share(state, names, queues, args, true, print);
        }
    }
    if q < tile {
        let query = names[q];
        let pairs = queues.counted(q, print.queues);
        if query != u32::MAX {
            // Where the next pair of this queue goes.
            let used = state[query as usize].fetch_add(pairs);
            queues.goes(q, used);
        }
    }
    if comptime!(print.queues.kept == 0) {
        queues.taken(print.queues);
    }
    sync_cube();
    let mut i = UNIT_POS as usize;
    while i < comptime!(print.queues.queues * print.queues.pairs) {
        let query = names[i / print.queues.pairs];
        let place = queues.place(i, print.queues);
        if query != u32::MAX && place != u32::MAX {
            let at = place + queues.first(i / print.queues.pairs);
            if at < args.width {
                let to = (query as usize * args.width as usize + at as usize) * 2;
                out[to] = queues.key(i);
                out[to + 1] = queues.ord(i);
            }
        }
        i += print.queues.units;
    }
    if comptime!(print.queues.kept == 0) {
        // The buffers are filled again.
        sync_cube();
    }
}
