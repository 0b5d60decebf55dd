//! The kernels of the selection on a GPU; [`super::device`] launches them.

use super::blueprint::{Output, Select};
use crate::device::{
    claim,
    queue::{Queue, Sizes, before, key_bits, key_value, lower, sort_shared},
};
use cubecl::prelude::*;

/// Sizes of a selection.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(super) struct Shape {
    rows: u32,
    n: u32,
    k: u32,
    /// Row of the answer that the first row becomes.
    first: u32,
}

/// A key's bits and its row's rank.
#[derive(CubeType, Clone, Copy)]
pub struct Pair {
    /// Order-preserving bits.
    pub key: u32,
    /// The rank.
    pub ord: u32,
}

/// Pairs of a row, at most `n`.
#[cube]
pub(super) fn pairs_of(counts: &Array<u32>, row: usize, n: u32, #[comptime] how: Select) -> usize {
    let mut pairs = n;
    if comptime!(how.counted) {
        pairs = min(n, counts[row]);
    }
    pairs as usize
}

/// The pair at `i` of the row that begins at `start`: of scores, canonical key bits and the column.
#[cube]
pub(super) fn load(source: &Array<u32>, start: usize, i: usize, #[comptime] how: Select) -> Pair {
    if comptime!(how.scores) {
        Pair {
            key: score_key(source[start + i]),
            ord: i as u32,
        }
    } else {
        let at = (start + i) * 2;
        Pair {
            key: source[at],
            ord: source[at + 1],
        }
    }
}

/// The key of a score: both zeros alike, NaN after everything but "none".
#[cube]
fn score_key(bits: u32) -> u32 {
    let size = bits & 0x7FFF_FFFFu32;
    let key = key_bits(f32::reinterpret(select(size == 0u32, 0u32, bits)));
    select(size > 0x7F80_0000u32, 0xFFFF_FFFEu32, key)
}

/// Writes one selected pair of the row that begins at `start`.
#[cube]
pub fn write(
    source: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    pair: Pair,
    start: usize,
    at: usize,
    #[comptime] how: Select,
) {
    let key = pair.key;
    let ord = pair.ord;
    let none = ord == u32::MAX;
    match comptime!(how.output) {
        Output::L2 => {
            if none {
                values[at] = 0x7F80_0000u32;
            } else {
                values[at] = u32::reinterpret(key_value(key));
            }
        }
        Output::InnerProduct => {
            if none {
                values[at] = 0xFF80_0000u32;
            } else {
                values[at] = u32::reinterpret(0.0f32 - key_value(key));
            }
        }
        Output::Score => {
            if none {
                values[at] = 0x7F80_0000u32;
            } else {
                values[at] = source[start + ord as usize];
            }
        }
    }
    #[unroll]
    for word in 0..how.words {
        if none || comptime!(!how.table) {
            labels[at * how.words + word] = ord;
        } else {
            labels[at * how.words + word] = ids[ord as usize * how.words + word];
        }
    }
}

/// Keeps the k best in a queue in shared memory.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn by_queue(
    source: &Array<u32>,
    counts: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    shape: Shape,
    #[comptime] sizes: Sizes,
    #[comptime] how: Select,
) {
    let row = CUBE_POS;
    if row >= shape.rows as usize {
        terminate!();
    }
    let start = row * shape.n as usize;
    let n = pairs_of(counts, row, shape.n, how);
    let k = shape.k as usize;
    let out = (shape.first as usize + row) * k;
    let mut queue = Queue::new(sizes);
    queue.clear(sizes);
    let mut from = 0usize.runtime();
    while from < n {
        #[unroll]
        for turn in 0..comptime!(sizes.step / sizes.units) {
            let i = from + turn * sizes.units + UNIT_POS as usize;
            if i < n {
                let pair = load(source, start, i, how);
                queue.push(pair.key, pair.ord, k, sizes);
            }
        }
        queue.settle(sizes);
        from += sizes.step;
    }
    queue.finish(sizes);
    let mut from = 0usize.runtime();
    while from < k {
        let i = from + UNIT_POS as usize;
        if i < k {
            let pair = Pair {
                key: queue.key(i),
                ord: queue.ord(i),
            };
            write(source, ids, values, labels, pair, start, out + i, how);
        }
        from += sizes.units;
    }
}

/// Finds the k-th pair digit by digit (most significant first), collects what is not after it, and
/// sorts that.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn by_radix(
    source: &Array<u32>,
    counts: &Array<u32>,
    ids: &Array<u32>,
    scratch: &mut Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    shape: Shape,
    #[comptime] units: usize,
    #[comptime] sorted: usize,
    #[comptime] shared: bool,
    #[comptime] how: Select,
) {
    let row = CUBE_POS;
    if row >= shape.rows as usize {
        terminate!();
    }
    let start = row * shape.n as usize;
    let n = pairs_of(counts, row, shape.n, how);
    let k = shape.k as usize;
    let out = (shape.first as usize + row) * k;
    let taken = SharedMemory::<Atomic<u32>>::new(1usize);
    let digits = SharedMemory::<Atomic<u32>>::new(256usize);
    let mut state = SharedMemory::<u32>::new(4usize);
    // One word each where the sort runs in global memory.
    let size = comptime!(if shared { sorted } else { 1 });
    let mut keys = SharedMemory::<u32>::new(size);
    let mut ords = SharedMemory::<u32>::new(size);
    claim::counters(&taken);
    claim::counters(&digits);
    claim::words(&mut state);
    claim::words(&mut keys);
    claim::words(&mut ords);
    sync_cube();
    let last = kth(source, start, n, k, &digits, &mut state, units, how);
    let base = row * comptime!(2 * sorted);
    let mut from = 0usize.runtime();
    while from < sorted {
        let i = from + UNIT_POS as usize;
        if i < sorted {
            if comptime!(shared) {
                keys[i] = u32::MAX;
                ords[i] = u32::MAX;
            } else {
                scratch[base + i * 2] = u32::MAX;
                scratch[base + i * 2 + 1] = u32::MAX;
            }
        }
        from += units;
    }
    sync_storage();
    sync_cube();
    let mut from = 0usize.runtime();
    while from < n {
        let i = from + UNIT_POS as usize;
        if i < n {
            let pair = load(source, start, i, how);
            if pair.ord != u32::MAX && !before(last.key, last.ord, pair.key, pair.ord) {
                let at = taken[0].fetch_add(1u32) as usize;
                if at < sorted {
                    if comptime!(shared) {
                        keys[at] = pair.key;
                        ords[at] = pair.ord;
                    } else {
                        scratch[base + at * 2] = pair.key;
                        scratch[base + at * 2 + 1] = pair.ord;
                    }
                }
            }
        }
        from += units;
    }
    sync_storage();
    sync_cube();
    if comptime!(shared) {
        sort_shared(&mut keys, &mut ords, sorted, units);
    } else {
        sort_global(scratch, base, sorted, units);
    }
    let mut from = 0usize.runtime();
    while from < k {
        let i = from + UNIT_POS as usize;
        if i < k {
            // None behind the last of fewer than k pairs.
            let mut pair = Pair {
                key: u32::MAX.runtime(),
                ord: u32::MAX.runtime(),
            };
            if i < sorted {
                if comptime!(shared) {
                    pair.key = keys[i];
                    pair.ord = ords[i];
                } else {
                    pair.key = scratch[base + i * 2];
                    pair.ord = scratch[base + i * 2 + 1];
                }
            }
            write(source, ids, values, labels, pair, start, out + i, how);
        }
        from += units;
    }
}

/// The k-th pair of a row, or a pair between it and the next: everything not after it is among the
/// k best. Eight digits of 8 bits, key first, then rank; stops once a digit settles it.
#[cube]
pub(super) fn kth(
    source: &Array<u32>,
    start: usize,
    n: usize,
    k: usize,
    counts: &SharedMemory<Atomic<u32>>,
    // The pair found so far, the rank wanted among those that share its digits, and whether all of
    // those are wanted.
    state: &mut SharedMemory<u32>,
    #[comptime] units: usize,
    #[comptime] how: Select,
) -> Pair {
    if UNIT_POS == 0 {
        state[0] = 0u32;
        state[1] = 0u32;
        state[2] = k as u32;
        state[3] = 0u32;
    }
    sync_cube();
    let mut digit = 0u32.runtime();
    let mut go = n > k;
    while go {
        let mut from = 0usize.runtime();
        while from < 256 {
            let i = from + UNIT_POS as usize;
            if i < 256 {
                counts[i].store(0u32);
            }
            from += units;
        }
        let key_found = state[0];
        let ord_found = state[1];
        sync_cube();
        let in_key = digit < 4u32;
        let shift = 24u32 - (digit % 4u32) * 8u32;
        // Bits above this digit; none for the first.
        let mut above = 0u32;
        if shift < 24u32 {
            above = u32::MAX << (shift + 8u32);
        }
        let mut from = 0usize.runtime();
        while from < n {
            let i = from + UNIT_POS as usize;
            if i < n {
                let pair = load(source, start, i, how);
                let word = select(in_key, pair.key, pair.ord);
                let found = select(in_key, key_found, ord_found);
                if (in_key || pair.key == key_found) && (word & above) == (found & above) {
                    counts[((word >> shift) & 255u32) as usize].fetch_add(1u32);
                }
            }
            from += units;
        }
        sync_cube();
        // All units walk over the counts, one writes.
        let mut wanted = state[2];
        let mut bin = 0u32.runtime();
        let mut here = counts[0].load();
        while here < wanted && bin < 255u32 {
            wanted -= here;
            bin += 1u32;
            here = counts[bin as usize].load();
        }
        let settled = here == wanted || digit == 7u32;
        let mut low = bin << shift;
        if settled {
            // All that share these digits: fill the rest with ones.
            low |= !(above | (255u32 << shift));
        }
        sync_cube();
        if UNIT_POS == 0 {
            state[2] = wanted;
            if settled {
                state[3] = 1u32;
            }
            if in_key {
                state[0] = key_found | low;
                if settled {
                    state[1] = u32::MAX;
                }
            } else {
                state[1] = ord_found | low;
            }
        }
        sync_cube();
        go = state[3] == 0u32;
        digit += 1u32;
    }
    let mut key = state[0];
    let mut ord = state[1];
    if n <= k {
        key = u32::MAX;
        ord = u32::MAX;
    }
    sync_cube();
    Pair { key, ord }
}

/// Sorts `n` pairs (a power of two) of a row in global memory. All units call it.
#[cube]
fn sort_global(
    pairs: &mut Array<u32>,
    base: usize,
    #[comptime] n: usize,
    #[comptime] units: usize,
) {
    let mut size = 2usize.runtime();
    while size <= n {
        let mut stride = size / 2;
        while stride > 0 {
            let mut t = UNIT_POS as usize;
            while t < comptime!(n / 2) {
                let place = lower(t, stride);
                let low = base + place * 2;
                let high = low + stride * 2;
                let rising = (place & size) == 0;
                let low_key = pairs[low];
                let low_ord = pairs[low + 1];
                let high_key = pairs[high];
                let high_ord = pairs[high + 1];
                if before(high_key, high_ord, low_key, low_ord) == rising {
                    pairs[low] = high_key;
                    pairs[low + 1] = high_ord;
                    pairs[high] = low_key;
                    pairs[high + 1] = low_ord;
                }
                t += units;
            }
            sync_storage();
            sync_cube();
            stride /= 2;
        }
        size *= 2;
    }
}
