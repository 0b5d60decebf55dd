//! What a scan by list starts from: the state of its queries, and its tasks.

use crate::{
    device::{distance::Compare, queue::is_special, scan::running_sums},
    list_scan::cube::slice_start,
};
use cubecl::prelude::*;

/// No pair yet and no limit; a limit below every key for a query with NaN or infinity. `state` is
/// `[2, count]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn begin<N: Size>(
    queries: &Array<Vector<f32, N>>,
    state: &mut Array<u32>,
    first: u32,
    count: u32,
    #[comptime] compare: Compare,
) {
    let query = ABSOLUTE_POS;
    if query >= count as usize {
        terminate!();
    }
    let at = (first as usize + query) * compare.vectors;
    let mut limit = u32::MAX.runtime();
    for i in 0..comptime!(compare.vectors).runtime() {
        let vector = queries[at + i];
        #[unroll]
        for j in 0..4usize {
            if is_special(vector[j]) {
                limit = 0u32;
            }
        }
    }
    state[query] = 0u32;
    state[count as usize + query] = limit;
}

/// How lists are cut.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(super) struct Pieces {
    /// Lists, and queries of the launch.
    pub nlist: u32,
    pub count: u32,
    /// Rows of a piece at most.
    pub rows: u32,
    /// Which round this is, and [`super::rounds::Rounds`].
    pub round: u32,
    pub rounds: u32,
    pub least: u32,
}

/// The slots of a list that are read in one round, from and to.
#[derive(CubeType, Clone, Copy)]
struct Part {
    from: u32,
    to: u32,
}

/// What a round reads of list `list`, which has `len` rows: see [`super::rounds::Rounds`].
#[cube]
fn part_of(list: u32, len: u32, cut: Pieces) -> Part {
    // Rounded up without leaving 32 bits.
    let slices = len / cut.least + min(len % cut.least, 1u32);
    let slices = max(1u32, min(slices, cut.rounds));
    let turn = cut.round * slices + list % cut.rounds;
    Part {
        from: slice_start(len, turn / cut.rounds, slices),
        to: slice_start(len, (turn + slices) / cut.rounds, slices),
    }
}

/// Four words per list: its first task, its first (query, list) pair, where the part of it that the
/// round reads starts, and how long that is; then the number of tasks and of pairs. A task is a piece of
/// that part for a tile of the list's queries. One cube.
#[cube(launch_unchecked)]
pub(super) fn lay_out(
    placed: &Array<u32>,
    offsets: &Array<u32>,
    lists: &mut Array<u32>,
    cut: Pieces,
    #[comptime] tile: usize,
    #[comptime] grouped: bool,
    #[comptime] units: usize,
) {
    if CUBE_POS > 0 {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let nlist = cut.nlist as usize;
    let mut sums = SharedMemory::<u32>::new(units);
    let mut before = 0u32.runtime();
    let mut base = 0usize.runtime();
    while base < nlist {
        let i = base + unit;
        let mut own = 0u32.runtime();
        if i < nlist {
            let mut first = 0u32.runtime();
            let mut count = cut.count;
            if comptime!(grouped) {
                first = offsets[i];
                count = offsets[i + 1] - first;
            }
            let part = part_of(i as u32, placed[i * 2 + 1], cut);
            let len = part.to - part.from;
            own = count.div_ceil(comptime!(tile as u32)) * len.div_ceil(cut.rows);
            lists[i * 4 + 1] = first;
            lists[i * 4 + 2] = placed[i * 2] + part.from;
            lists[i * 4 + 3] = len;
        }
        sums[unit] = own;
        running_sums(&mut sums, units);
        if i < nlist {
            lists[i * 4] = before + sums[unit] - own;
        }
        before += sums[comptime!(units - 1)];
        sync_cube();
        base += units;
    }
    if unit == 0 {
        lists[nlist * 4] = before;
        let mut pairs = cut.count;
        if comptime!(grouped) {
            pairs = offsets[nlist];
        }
        lists[nlist * 4 + 1] = pairs;
    }
}
