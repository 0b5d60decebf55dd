//! The k best (key, rank) pairs a cube has seen, in shared memory.
//!
//! Pairs better than the k-th so far are appended to a buffer; when it might overflow at the next
//! step, queue and buffer are sorted together by a bitonic network (Batcher 1968) and the best stay.
//! Nothing is ever dropped, whatever the order of arrival, and no plane operation is needed.

use super::claim;
use cubecl::prelude::*;

/// Order-preserving bits: `a < b` as floats exactly when `key_bits(a) < key_bits(b)`, for all but
/// NaN and the two zeros (keys are never -0).
#[cube]
pub fn key_bits(x: f32) -> u32 {
    let bits = u32::reinterpret(x);
    select(bits >> 31u32 == 1u32, !bits, bits | 0x8000_0000u32)
}

/// The inverse of [`key_bits`].
#[cube]
pub fn key_value(bits: u32) -> f32 {
    f32::reinterpret(select(bits >> 31u32 == 1u32, bits & 0x7FFF_FFFFu32, !bits))
}

/// Whether a number is NaN or infinite, by its bits.
#[cube]
pub fn is_special(x: f32) -> bool {
    (u32::reinterpret(x) & 0x7F80_0000u32) == 0x7F80_0000u32
}

/// Whether one (key, rank) pair comes before another.
#[cube]
pub fn before(key: u32, ord: u32, other_key: u32, other_ord: u32) -> bool {
    key < other_key || (key == other_key && ord < other_ord)
}

/// The sizes of a queue, at compile time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sizes {
    /// Units of the cube.
    pub units: usize,
    /// Pairs kept: a power of two, at least k.
    pub kept: usize,
    /// Pairs in all, kept and waiting: a power of two.
    pub pairs: usize,
    /// Pairs that can arrive between two calls of [`Queue::settle`].
    pub step: usize,
}

impl Sizes {
    /// A queue for `k` pairs, `step` of which may arrive at once.
    pub fn new(k: usize, units: usize, step: usize) -> Self {
        let kept = k.next_power_of_two().max(16);
        Self {
            units,
            kept,
            pairs: (kept + step.max(kept)).next_power_of_two(),
            step,
        }
    }

    /// Bytes of shared memory.
    pub fn bytes(&self) -> usize {
        self.pairs * 8 + 4
    }
}

/// The queue.
#[derive(CubeType)]
pub struct Queue {
    key: SharedMemory<u32>,
    ord: SharedMemory<u32>,
    waiting: SharedMemory<Atomic<u32>>,
}

#[cube]
impl Queue {
    /// A queue's memory, claimed ([`claim`]); [`clear`](Self::clear) it before use.
    pub fn new(#[comptime] sizes: Sizes) -> Queue {
        let mut key = SharedMemory::<u32>::new(sizes.pairs);
        let mut ord = SharedMemory::<u32>::new(sizes.pairs);
        let waiting = SharedMemory::<Atomic<u32>>::new(1usize);
        claim::words(&mut key);
        claim::words(&mut ord);
        claim::counters(&waiting);
        Queue { key, ord, waiting }
    }

    /// Empties it. All units call it.
    pub fn clear(&mut self, #[comptime] sizes: Sizes) {
        sync_cube();
        let mut i = UNIT_POS as usize;
        while i < sizes.pairs {
            self.key[i] = u32::MAX;
            self.ord[i] = u32::MAX;
            i += sizes.units;
        }
        sync_cube();
    }

    /// Offers a pair. Any unit may call it, up to `step` times in all before the next `settle`.
    pub fn push(&mut self, key: u32, ord: u32, k: usize, #[comptime] sizes: Sizes) {
        let last = k - 1;
        if before(key, ord, self.key[last], self.ord[last]) {
            let at = self.waiting[0].fetch_add(1u32) as usize + sizes.kept;
            self.key[at] = key;
            self.ord[at] = ord;
        }
    }

    /// Makes room for the next `step` pairs. All units call it.
    pub fn settle(&mut self, #[comptime] sizes: Sizes) {
        sync_cube();
        let waiting = self.waiting[0].load() as usize;
        sync_cube();
        if waiting + sizes.step > comptime!(sizes.pairs - sizes.kept) {
            self.merge(waiting, sizes);
        }
    }

    /// Puts everything in order. All units call it; then pairs 0 to k - 1 can be read.
    pub fn finish(&mut self, #[comptime] sizes: Sizes) {
        sync_cube();
        let waiting = self.waiting[0].load() as usize;
        sync_cube();
        if waiting > 0 {
            self.merge(waiting, sizes);
        }
    }

    /// The key at place `i`.
    pub fn key(&self, i: usize) -> u32 {
        self.key[i]
    }

    /// The rank at place `i`; [`super::NONE`] where there is no pair.
    pub fn ord(&self, i: usize) -> u32 {
        self.ord[i]
    }

    fn merge(&mut self, waiting: usize, #[comptime] sizes: Sizes) {
        let mut i = UNIT_POS as usize + waiting + sizes.kept;
        while i < sizes.pairs {
            self.key[i] = u32::MAX;
            self.ord[i] = u32::MAX;
            i += sizes.units;
        }
        if UNIT_POS == 0 {
            self.waiting[0].store(0u32);
        }
        sort_shared(&mut self.key, &mut self.ord, sizes.pairs, sizes.units);
    }
}

/// The lower place of pair `t` of those that a stage of a bitonic network compares, `stride` (a power of two) apart.
#[cube]
pub fn lower(t: usize, stride: usize) -> usize {
    2usize * t - (t & (stride - 1usize))
}

/// Sorts `n` pairs (a power of two) in shared memory. All units call it.
#[cube]
pub fn sort_shared(
    key: &mut SharedMemory<u32>,
    ord: &mut SharedMemory<u32>,
    #[comptime] n: usize,
    #[comptime] units: usize,
) {
    sync_cube();
    let mut size = 2usize.runtime();
    while size <= n {
        let mut stride = size / 2;
        while stride > 0 {
            let mut t = UNIT_POS as usize;
            while t < comptime!(n / 2) {
                let low = lower(t, stride);
                let high = low + stride;
                let rising = (low & size) == 0;
                if before(key[high], ord[high], key[low], ord[low]) == rising {
                    let k = key[low];
                    let o = ord[low];
                    key[low] = key[high];
                    ord[low] = ord[high];
                    key[high] = k;
                    ord[high] = o;
                }
                t += units;
            }
            sync_cube();
            stride /= 2;
        }
        size *= 2;
    }
}
