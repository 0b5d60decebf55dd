//! The kernels of the scan for all rows within a distance; [`super::range_device`] launches them.
//!
//! Every group of units that reads rows together takes a run of neighbouring candidates, so what it
//! finds comes in order, and the order of runs is the order of the answer.

use super::{
    blueprint::Blueprint,
    cube::{PartArgs, Slice, row_key, slice, slice_start},
    walk::{LimitArgs, Walk},
};
use crate::{
    device::{claim, queue::key_bits, scan::running_sums},
    select_k::{Pair, Select, write},
};
use cubecl::prelude::*;

/// The candidates of one group of units: `from` up to `to`; `turns` at most in any group.
#[derive(CubeType, Clone, Copy)]
struct Run {
    from: u32,
    to: u32,
    turns: u32,
}

#[cube]
fn run(at: Slice, total: u32, splits: u32) -> Run {
    let first = slice_start(total, at.split, splits);
    let end = slice_start(total, at.split + 1u32, splits);
    let size = end - first;
    let turns = size / at.groups + min(size % at.groups, 1u32);
    let from = min(first + at.group * turns, end);
    Run {
        from,
        to: min(from + turns, end),
        turns,
    }
}

/// How many rows every group of units finds, `[count, splits · groups]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn count_within<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    placed: &Array<u32>,
    named: &Array<u32>,
    counts: &mut Array<u32>,
    limits: &LimitArgs,
    part: PartArgs,
    held: u32,
    limit: u32,
    #[comptime] print: Blueprint,
) {
    if CUBE_POS as u32 >= part.count * part.splits {
        terminate!();
    }
    let at = slice(&part, print);
    let mut kept = SharedMemory::<Vector<f32, N>>::new(print.kept());
    claim::vectors::<N>(&mut kept);
    let mut walk = Walk::new(&part, at.query, held, print);
    let total = walk.open::<N>(queries, &mut kept, placed, named, limits, print);
    let run = run(at, total, part.splits);
    walk.seek(run.from, print);
    let mut found = 0u32.runtime();
    let mut done = 0u32.runtime();
    while done < run.turns {
        let mut positions = Array::<u32>::new(print.turns);
        let mut keys = Array::<f32>::new(print.turns);
        #[unroll]
        for turn in 0..print.turns {
            let candidate = run.from + done + comptime!(turn as u32);
            let position = walk.position(candidate, run.to, placed, named, limits, print);
            positions[turn] = position;
            keys[turn] =
                row_key::<F, N>(queries, &kept, rows, at.query, position, part.zero, print);
        }
        #[unroll]
        for turn in 0..print.turns {
            if positions[turn] != u32::MAX && key_bits(keys[turn]) <= limit {
                found += 1u32;
            }
        }
        done += comptime!(print.turns as u32);
    }
    if at.leader {
        let cube = at.local as usize * part.splits as usize + at.split as usize;
        counts[cube * at.groups as usize + at.group as usize] = found;
    }
}

/// Turns the `width` counts of each of `count` queries into the number before each, and writes their
/// sums from place `first` on.
#[cube(launch_unchecked)]
pub(super) fn add_counts(
    counts: &mut Array<u32>,
    totals: &mut Array<u32>,
    first: u32,
    count: u32,
    width: u32,
    #[comptime] units: usize,
) {
    if CUBE_POS as u32 >= count {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let mut sums = SharedMemory::<u32>::new(units);
    claim::words(&mut sums);
    sync_cube();
    let base = CUBE_POS * width as usize;
    let mut before = 0u32.runtime();
    let mut from = 0usize.runtime();
    while from < width as usize {
        let i = from + unit;
        let mut own = 0u32.runtime();
        if i < width as usize {
            own = counts[base + i];
        }
        sums[unit] = own;
        running_sums(&mut sums, units);
        if i < width as usize {
            counts[base + i] = before + sums[unit] - own;
        }
        before += sums[comptime!(units - 1)];
        sync_cube();
        from += units;
    }
    if unit == 0 {
        totals[first as usize + CUBE_POS] = before;
    }
}

/// Writes what was counted: values and labels, each group from its own place on.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn write_within<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    named: &Array<u32>,
    before: &Array<u32>,
    bases: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    limits: &LimitArgs,
    part: PartArgs,
    limit: u32,
    #[comptime] print: Blueprint,
    #[comptime] how: Select,
) {
    if CUBE_POS as u32 >= part.count * part.splits {
        terminate!();
    }
    let at = slice(&part, print);
    let mut kept = SharedMemory::<Vector<f32, N>>::new(print.kept());
    claim::vectors::<N>(&mut kept);
    let mut walk = Walk::new(&part, at.query, ranks.len() as u32, print);
    let total = walk.open::<N>(queries, &mut kept, placed, named, limits, print);
    let run = run(at, total, part.splits);
    walk.seek(run.from, print);
    let width = part.splits * at.groups;
    let group = at.split * at.groups + at.group;
    let own = at.local as usize * width as usize + group as usize;
    let base = bases[at.local as usize];
    let mut place = base + before[own];
    let mut end = bases[at.local as usize + 1];
    if group + 1u32 < width {
        end = base + before[own + 1];
    }
    let mut done = 0u32.runtime();
    while done < run.turns {
        let mut positions = Array::<u32>::new(print.turns);
        let mut keys = Array::<f32>::new(print.turns);
        #[unroll]
        for turn in 0..print.turns {
            let candidate = run.from + done + comptime!(turn as u32);
            let position = walk.position(candidate, run.to, placed, named, limits, print);
            positions[turn] = position;
            keys[turn] =
                row_key::<F, N>(queries, &kept, rows, at.query, position, part.zero, print);
        }
        #[unroll]
        for turn in 0..print.turns {
            let position = positions[turn];
            let key = key_bits(keys[turn]);
            // The same bits as counted; no compiler's slip shall write elsewhere.
            if position != u32::MAX && key <= limit && at.leader && place < end {
                let pair = Pair {
                    key,
                    ord: ranks[position as usize],
                };
                write(ids, ids, values, labels, pair, 0, place as usize, how);
                place += 1u32;
            }
        }
        done += comptime!(print.turns as u32);
    }
}

/// (list, probe) pairs of the queries from `first` on, which come in order of lists when sorted.
#[cube(launch_unchecked)]
pub(super) fn name_probes(
    named: &Array<u32>,
    pairs: &mut Array<u32>,
    first: u32,
    count: u32,
    nprobe: u32,
) {
    let all = count as usize * nprobe as usize;
    let mut i = ABSOLUTE_POS;
    while i < all {
        pairs[i * 2] = named[first as usize * nprobe as usize + i];
        pairs[i * 2 + 1] = i as u32 % nprobe;
        i += CUBE_COUNT * CUBE_DIM as usize;
    }
}
