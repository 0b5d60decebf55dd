//! Leaving rows of pairs their k best, in place: between two rounds of a scan that adds to them.

use super::{
    blueprint::{Output, Select},
    cube::{kth, load, pairs_of},
};
use crate::{
    KernelError,
    device::{Gpu, array, claim, queue::before},
};
use cubecl::{prelude::*, server::Handle};

/// Pairs, of every row so many as it has.
const COUNTED: Select = Select {
    scores: false,
    counted: true,
    output: Output::L2,
    table: false,
    words: 1,
};

/// Leaves each of `rows` rows of `n` pairs its k best, in no order, where it has more.
///
/// `pairs` is as in [`super::Source::Counted`]; `state` is u32 `[2, rows]`: how many pairs a row has,
/// then a key. A row that is cut has k pairs afterwards, and its key is lowered to one that none of
/// them exceeds and that its k-th comes near: what lies above need not be added any more.
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot index the pairs.
pub(crate) fn trim_on<R: Runtime>(
    gpu: &Gpu<R>,
    (pairs, state): (&Handle, &Handle),
    (rows, n): (usize, usize),
    k: usize,
) -> Result<(), KernelError> {
    let words = 2 * rows * n;
    let address = gpu.address("candidates of a search", words)?;
    let units = gpu.facts().units.min(256);
    // SAFETY: cubes past the last row stop at once; pairs are indexed below n, the state by row.
    unsafe {
        trim_pairs::launch_unchecked::<R>(
            gpu.client(),
            gpu.grid(rows),
            CubeDim::new_1d(units),
            address,
            array(pairs, words),
            array(state, 2 * rows),
            rows as u32,
            n as u32,
            k as u32,
            units as usize,
            COUNTED,
        );
    }
    Ok(())
}

/// One row a cube: finds the k-th pair as the selection does, then moves what is not after it to the
/// front.
#[cube(launch_unchecked, address_type = "dynamic")]
fn trim_pairs(
    pairs: &mut Array<u32>,
    state: &mut Array<u32>,
    rows: u32,
    n: u32,
    k: u32,
    #[comptime] units: usize,
    #[comptime] how: Select,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let start = row * n as usize;
    let here = pairs_of(state, row, n, how);
    let taken = SharedMemory::<Atomic<u32>>::new(1usize);
    let digits = SharedMemory::<Atomic<u32>>::new(256usize);
    let mut found = SharedMemory::<u32>::new(4usize);
    claim::counters(&taken);
    claim::counters(&digits);
    claim::words(&mut found);
    sync_cube();
    let last = kth(
        pairs, start, here, k as usize, &digits, &mut found, units, how,
    );
    let mut end = 0usize.runtime();
    if here > k as usize {
        end = here;
    }
    let mut from = 0usize.runtime();
    while from < end {
        let i = from + UNIT_POS as usize;
        let inside = i < end;
        let pair = load(pairs, start, select(inside, i, 0usize), how);
        // All have read before any writes: places taken never pass what was read.
        sync_storage();
        sync_cube();
        if inside && !before(last.key, last.ord, pair.key, pair.ord) {
            let at = taken[0].fetch_add(1u32);
            if at < k {
                let to = (start + at as usize) * 2;
                pairs[to] = pair.key;
                pairs[to + 1] = pair.ord;
            }
        }
        from += units;
    }
    if end > 0 && UNIT_POS == 0 {
        state[row] = k;
        let key = rows as usize + row;
        state[key] = min(state[key], last.key);
    }
}
