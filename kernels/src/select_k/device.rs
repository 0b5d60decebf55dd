//! Selection on a GPU: one cube per row, a queue in shared memory for small k, radix passes above.

use super::blueprint::{Blueprint, Output, Route, Select};
use crate::{
    KernelError,
    device::{
        Gpu, array, claim,
        queue::{Queue, before, key_bits, key_value, sort_shared},
    },
};
use cubecl::{prelude::*, server::Handle};

/// What is selected from.
#[derive(Debug, Clone)]
pub enum Source {
    /// (key bits, rank) pairs, u32 `[rows, n, 2]`, distinct but for empty ones; smaller is better.
    Pairs(Handle),
    /// Scores, f32 `[rows, n]`: the smallest, equal ones by smaller column, NaN last.
    Scores(Handle),
}

/// How selected pairs are written.
#[derive(Debug, Clone)]
pub enum Labels {
    /// The rank itself, one word each; [`crate::device::NONE`] (-1) where there is none.
    Ranks,
    /// Words of the id with that rank: `[ranks, words]`, 1 or 2 words (i32, i64) each.
    Ids {
        /// The table.
        table: Handle,
        /// Its length in words.
        len: usize,
        /// Words of an id.
        words: usize,
    },
}

/// The k best of every row, on the device.
#[derive(Debug, Clone)]
pub struct SelectedOnDevice {
    /// f32 `[rows, k]`, best first.
    pub values: Handle,
    /// Labels `[rows, k]`, as many words as [`Labels`] says.
    pub labels: Handle,
}

/// The `k` best of each of `rows` rows of `n`; where there are fewer, `padding` and -1.
///
/// For [`Source::Pairs`] values are distances of `metric`; for [`Source::Scores`] the scores.
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot hold the answer or the scratch it takes.
pub fn select_on<R: Runtime>(
    gpu: &Gpu<R>,
    source: &Source,
    (rows, n): (usize, usize),
    k: usize,
    output: Output,
    labels: &Labels,
) -> Result<SelectedOnDevice, KernelError> {
    let answer = SelectedOnDevice::empty(gpu, rows, k, labels)?;
    if rows > 0 {
        answer.fill(gpu, source, (rows, n), (0, k), output, labels)?;
    }
    Ok(answer)
}

impl Labels {
    /// Words of a label.
    pub fn words(&self) -> usize {
        match self {
            Self::Ranks => 1,
            Self::Ids { words, .. } => *words,
        }
    }
}

impl SelectedOnDevice {
    /// Room for an answer, contents undefined.
    pub(crate) fn empty<R: Runtime>(
        gpu: &Gpu<R>,
        rows: usize,
        k: usize,
        labels: &Labels,
    ) -> Result<Self, KernelError> {
        let words = rows.saturating_mul(k);
        Ok(Self {
            values: gpu.empty("distances of a search", words)?,
            labels: gpu.empty("labels of a search", words.saturating_mul(labels.words()))?,
        })
    }

    /// Writes the k best of `rows` (at least 1) rows of `n` as rows `first..first + rows`.
    pub(crate) fn fill<R: Runtime>(
        &self,
        gpu: &Gpu<R>,
        source: &Source,
        (rows, n): (usize, usize),
        (first, k): (usize, usize),
        output: Output,
        labels: &Labels,
    ) -> Result<(), KernelError> {
        let (input, width, scores) = match source {
            Source::Pairs(pairs) => (pairs, 2, false),
            Source::Scores(scores) => (scores, 1, true),
        };
        let (table, ids, words) = match labels {
            // Not read; any buffer will do.
            Labels::Ranks => (false, array(input, 1), 1),
            Labels::Ids { table, len, words } => (true, array(table, *len), *words),
        };
        let print = Blueprint::new(&gpu.facts(), k, n);
        let how = Select {
            scores,
            output,
            table,
            words,
        };
        let dim = CubeDim::new_1d(print.units as u32);
        let end = (first + rows) * k;
        let scratch = rows.saturating_mul(2 * k.next_power_of_two().max(2));
        let elements = (rows * n * 2).max(end * words).max(scratch);
        let address = gpu.address("candidates of a selection", elements)?;
        let source = array(input, rows * n * width);
        let values = array(&self.values, end);
        let found = array(&self.labels, end * words);
        let shape = ShapeLaunch::new(rows as u32, n as u32, k as u32, first as u32);
        match print.route {
            // SAFETY: cubes past the last row stop at once; every index is below the lengths
            // passed: pairs by n, ranks by the table of ids that gave them, outputs by k.
            Route::Queue(sizes) => unsafe {
                let cubes = gpu.grid(rows);
                by_queue::launch_unchecked::<R>(
                    gpu.client(),
                    cubes,
                    dim,
                    address,
                    source,
                    ids,
                    values,
                    found,
                    shape,
                    sizes,
                    how,
                );
            },
            Route::Radix { sorted, shared } => {
                // One word where the sort runs in shared memory.
                let len = if shared {
                    1
                } else {
                    rows.saturating_mul(2 * sorted)
                };
                let scratch = gpu.empty("scratch of a selection", len)?;
                let scratch = array(&scratch, len);
                let cubes = gpu.grid(rows);
                // SAFETY: as above; the scratch has `sorted` pairs a row.
                unsafe {
                    by_radix::launch_unchecked::<R>(
                        gpu.client(),
                        cubes,
                        dim,
                        address,
                        source,
                        ids,
                        scratch,
                        values,
                        found,
                        shape,
                        print.units,
                        sorted,
                        shared,
                        how,
                    );
                }
            }
        }
        Ok(())
    }
}

/// Sizes of a selection.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Shape {
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

/// The pair at `at`: of scores, canonical key bits and the column.
#[cube]
fn load(source: &Array<u32>, row: usize, n: usize, i: usize, #[comptime] how: Select) -> Pair {
    if comptime!(how.scores) {
        Pair {
            key: score_key(source[row * n + i]),
            ord: i as u32,
        }
    } else {
        let at = (row * n + i) * 2;
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

/// Writes one selected pair.
#[cube]
pub fn write(
    source: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    pair: Pair,
    row: usize,
    n: usize,
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
                values[at] = source[row * n + ord as usize];
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
fn by_queue(
    source: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    shape: Shape,
    #[comptime] sizes: crate::device::queue::Sizes,
    #[comptime] how: Select,
) {
    let row = CUBE_POS;
    if row >= shape.rows as usize {
        terminate!();
    }
    let n = shape.n as usize;
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
                let pair = load(source, row, n, i, how);
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
            write(source, ids, values, labels, pair, row, n, out + i, how);
        }
        from += sizes.units;
    }
}

/// Finds the k-th pair digit by digit (most significant first), collects what is not after it, and
/// sorts that.
#[cube(launch_unchecked, address_type = "dynamic")]
fn by_radix(
    source: &Array<u32>,
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
    let n = shape.n as usize;
    let k = shape.k as usize;
    let out = (shape.first as usize + row) * k;
    let taken = SharedMemory::<Atomic<u32>>::new(1usize);
    let counts = SharedMemory::<Atomic<u32>>::new(256usize);
    let mut state = SharedMemory::<u32>::new(4usize);
    // One word each where the sort runs in global memory.
    let size = comptime!(if shared { sorted } else { 1 });
    let mut keys = SharedMemory::<u32>::new(size);
    let mut ords = SharedMemory::<u32>::new(size);
    claim::counters(&taken);
    claim::counters(&counts);
    claim::words(&mut state);
    claim::words(&mut keys);
    claim::words(&mut ords);
    sync_cube();
    let last = kth(source, row, n, k, &counts, &mut state, units, how);
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
            let pair = load(source, row, n, i, how);
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
            write(source, ids, values, labels, pair, row, n, out + i, how);
        }
        from += units;
    }
}

/// The k-th pair of a row, or a pair between it and the next: everything not after it is among the
/// k best. Eight digits of 8 bits, key first, then rank; stops once a digit settles it.
#[cube]
fn kth(
    source: &Array<u32>,
    row: usize,
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
                let pair = load(source, row, n, i, how);
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
                let low = base + ((t / stride) * (stride * 2) + t % stride) * 2;
                let high = low + stride * 2;
                let rising = (((t / stride) * (stride * 2) + t % stride) & size) == 0;
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
