//! The k best (key, rank) pairs of several queries at once, in shared memory.
//!
//! As [`super::queue`], for one query after the other in one array: pairs better than a query's limit
//! are appended to its buffer, and a buffer and its queue are sorted together. A buffer may be
//! shorter than what can arrive at once: a pair that finds it full is refused, and its unit offers it
//! again after the sort. So nothing is ever lost, whatever the order of arrival.
//!
//! Queues that keep none ([`Sizes::kept`] is 0) are buffers only: what waits in them is taken away
//! instead of sorted, and limits come from elsewhere.

use super::{
    claim,
    queue::{before, lower},
};
use cubecl::prelude::*;

/// The sizes of the queues, at compile time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sizes {
    /// Units of the cube, at least as many as queues.
    pub units: usize,
    /// Queues: a power of two.
    pub queues: usize,
    /// Pairs kept of each: a power of two, at least k; or 0.
    pub kept: usize,
    /// Pairs of each in all, kept and waiting: a power of two.
    pub pairs: usize,
}

impl Sizes {
    /// Bytes of shared memory.
    pub const fn bytes(&self) -> usize {
        self.queues * (self.pairs * 8 + 6 * 4) + 4
    }

    /// Pairs that may wait in a buffer.
    pub const fn room(&self) -> usize {
        self.pairs - self.kept
    }
}

/// The queues.
#[derive(CubeType)]
pub struct Queues {
    /// `[queues, pairs]`, of each those kept, then those waiting.
    key: SharedMemory<u32>,
    ord: SharedMemory<u32>,
    /// What a pair must come before.
    limit_key: SharedMemory<u32>,
    limit_ord: SharedMemory<u32>,
    /// Pairs kept (k at most) and waiting, by the last look.
    held: SharedMemory<u32>,
    count: SharedMemory<u32>,
    /// Whether a queue is to be sorted; at the end, where its pairs go.
    turn: SharedMemory<u32>,
    /// Pairs offered to each buffer, and whether one was refused.
    waiting: SharedMemory<Atomic<u32>>,
}

#[cube]
impl Queues {
    /// The memory, claimed ([`claim`]); [`clear`](Self::clear) it before use.
    pub fn new(#[comptime] sizes: Sizes) -> Queues {
        let mut key = SharedMemory::<u32>::new(comptime!(sizes.queues * sizes.pairs));
        let mut ord = SharedMemory::<u32>::new(comptime!(sizes.queues * sizes.pairs));
        let mut limit_key = SharedMemory::<u32>::new(sizes.queues);
        let mut limit_ord = SharedMemory::<u32>::new(sizes.queues);
        let mut held = SharedMemory::<u32>::new(sizes.queues);
        let mut count = SharedMemory::<u32>::new(sizes.queues);
        let mut turn = SharedMemory::<u32>::new(sizes.queues);
        let waiting = SharedMemory::<Atomic<u32>>::new(comptime!(sizes.queues + 1));
        claim::words(&mut key);
        claim::words(&mut ord);
        claim::words(&mut limit_key);
        claim::words(&mut limit_ord);
        claim::words(&mut held);
        claim::words(&mut count);
        claim::words(&mut turn);
        claim::counters(&waiting);
        Queues {
            key,
            ord,
            limit_key,
            limit_ord,
            held,
            count,
            turn,
            waiting,
        }
    }

    /// Empties them; none takes a pair before [`bound`](Self::bound) lets it. All units call it,
    /// after a barrier; another must follow.
    pub fn clear(&mut self, #[comptime] sizes: Sizes) {
        let q = UNIT_POS as usize;
        if q < sizes.queues {
            self.limit_key[q] = 0u32;
            self.limit_ord[q] = 0u32;
            self.held[q] = 0u32;
            self.waiting[q].store(0u32);
        }
        if UNIT_POS == 0 {
            self.waiting[sizes.queues].store(0u32);
        }
        if comptime!(sizes.kept > 0) {
            let mut i = q;
            while i < comptime!(sizes.queues * sizes.kept) {
                let at = (i / sizes.kept) * sizes.pairs + i % sizes.kept;
                self.key[at] = u32::MAX;
                self.ord[at] = u32::MAX;
                i += sizes.units;
            }
        }
    }

    /// Takes all that waits in queues that keep none as taken away. All units call it, after
    /// [`counted`](Self::counted); a barrier must follow.
    pub fn taken(&mut self, #[comptime] sizes: Sizes) {
        let q = UNIT_POS as usize;
        if q < sizes.queues {
            self.waiting[q].store(0u32);
        }
        if UNIT_POS == 0 {
            self.waiting[sizes.queues].store(0u32);
        }
    }

    /// Opens queue `q` to pairs whose key is at most `key`. Its own unit calls it.
    pub fn open(&mut self, q: usize, key: u32) {
        self.limit_key[q] = min(key, 0xFFFF_FFFEu32) + 1u32;
    }

    /// Closes queue `q` to pairs whose key is more than `key`. Its own unit calls it.
    pub fn bound(&mut self, q: usize, key: u32) {
        let limit = min(key, 0xFFFF_FFFEu32) + 1u32;
        if limit <= self.limit_key[q] {
            self.limit_key[q] = limit;
            self.limit_ord[q] = 0u32;
        }
    }

    /// The bits of the key that a pair must not exceed to be of use to queue `q`; 0 where it is closed.
    pub fn limit(&self, q: usize) -> u32 {
        self.limit_key[q]
    }

    /// Whether queue `q` has use for a pair; never for one with the key [`super::NONE`].
    pub fn wants(&self, q: usize, key: u32, ord: u32) -> bool {
        before(key, ord, self.limit_key[q], self.limit_ord[q])
    }

    /// Appends a pair; whether there was room. Any unit may call it.
    pub fn push(&mut self, q: usize, key: u32, ord: u32, #[comptime] sizes: Sizes) -> bool {
        let place = self.waiting[q].fetch_add(1u32);
        let room = place < comptime!(sizes.room() as u32);
        if room {
            let at = q * sizes.pairs + sizes.kept + place as usize;
            self.key[at] = key;
            self.ord[at] = ord;
        }
        room
    }

    /// Whether any unit says so. All units call it; if the answer is yes, [`sort`](Self::sort) or
    /// [`taken`](Self::taken) follows.
    pub fn any(&mut self, yes: bool, #[comptime] sizes: Sizes) -> bool {
        if yes {
            self.waiting[sizes.queues].store(1u32);
        }
        sync_cube();
        let any = self.waiting[sizes.queues].load() == 1u32;
        sync_cube();
        any
    }

    /// Makes room: sorts the queues whose buffers are half full or more (`last`: those that hold
    /// more than k pairs). All units call it, after a barrier; a barrier must follow.
    pub fn sort(&mut self, k: u32, #[comptime] last: bool, #[comptime] sizes: Sizes) {
        let q = UNIT_POS as usize;
        if q < sizes.queues {
            let count = self.count_now(q, sizes);
            let mut turn = count * 2u32 >= comptime!(sizes.room() as u32);
            if comptime!(last) {
                turn = self.held[q] + count > k;
            }
            self.count[q] = count;
            self.turn[q] = u32::cast_from(turn);
        }
        if UNIT_POS == 0 {
            self.waiting[sizes.queues].store(0u32);
        }
        sync_cube();
        self.pad(sizes);
        self.order(sizes);
        if q < sizes.queues && self.turn[q] == 1u32 {
            self.held[q] = min(k, self.held[q] + self.count[q]);
            self.waiting[q].store(0u32);
            let last = q * sizes.pairs + k as usize - 1;
            if before(
                self.key[last],
                self.ord[last],
                self.limit_key[q],
                self.limit_ord[q],
            ) {
                self.limit_key[q] = self.key[last];
                self.limit_ord[q] = self.ord[last];
            }
        }
    }

    /// Pairs that wait in buffer `q`.
    fn count_now(&self, q: usize, #[comptime] sizes: Sizes) -> u32 {
        min(self.waiting[q].load(), comptime!(sizes.room() as u32))
    }

    /// Whether buffer `q` is empty or takes `n` pairs more. Its own unit calls it.
    pub fn has_room(&self, q: usize, n: u32, #[comptime] sizes: Sizes) -> bool {
        let count = self.count_now(q, sizes);
        count == 0u32 || count + n <= comptime!(sizes.room() as u32)
    }

    /// Whether queue `q` holds more than k pairs. Its own unit calls it.
    pub fn is_over(&self, q: usize, k: u32, #[comptime] sizes: Sizes) -> bool {
        self.held[q] + self.count_now(q, sizes) > k
    }

    /// The key of the k-th pair of queue `q`, if it keeps as many; else [`super::NONE`].
    pub fn kth(&self, q: usize, k: u32, #[comptime] sizes: Sizes) -> u32 {
        let mut key = u32::MAX.runtime();
        if self.held[q] == k {
            key = self.key[q * sizes.pairs + k as usize - 1];
        }
        key
    }

    /// Counts the pairs of queue `q`, kept and waiting, for [`place`](Self::place). Its own unit
    /// calls it.
    pub fn counted(&mut self, q: usize, #[comptime] sizes: Sizes) -> u32 {
        let count = self.count_now(q, sizes);
        self.count[q] = count;
        self.held[q] + count
    }

    /// The place among the pairs of its queue of what lies at `i`, or MAX where that is none.
    pub fn place(&self, i: usize, #[comptime] sizes: Sizes) -> u32 {
        let q = i / sizes.pairs;
        let j = (i % sizes.pairs) as u32;
        let held = self.held[q];
        let mut place = u32::MAX.runtime();
        if j < held {
            place = j;
        } else if j >= comptime!(sizes.kept as u32) {
            let late = j - comptime!(sizes.kept as u32);
            if late < self.count[q] {
                place = held + late;
            }
        }
        place
    }

    /// Notes where the pairs of queue `q` go. Its own unit calls it, when all is sorted.
    pub fn goes(&mut self, q: usize, first: u32) {
        self.turn[q] = first;
    }

    /// Where the first pair of queue `q` goes.
    pub fn first(&self, q: usize) -> u32 {
        self.turn[q]
    }

    /// The key at `i`.
    pub fn key(&self, i: usize) -> u32 {
        self.key[i]
    }

    /// The rank at `i`.
    pub fn ord(&self, i: usize) -> u32 {
        self.ord[i]
    }

    /// Fills the unused ends of the buffers that are sorted.
    fn pad(&mut self, #[comptime] sizes: Sizes) {
        let mut i = UNIT_POS as usize;
        while i < comptime!(sizes.queues * sizes.pairs) {
            let q = i / sizes.pairs;
            let used = comptime!(sizes.kept as u32) + self.count[q];
            if self.turn[q] == 1u32 && (i % sizes.pairs) as u32 >= used {
                self.key[i] = u32::MAX;
                self.ord[i] = u32::MAX;
            }
            i += sizes.units;
        }
        sync_cube();
    }

    /// Sorts those whose turn it is by one bitonic network (Batcher 1968) over all of them.
    fn order(&mut self, #[comptime] sizes: Sizes) {
        let mut size = 2usize.runtime();
        while size <= sizes.pairs {
            let mut stride = size / 2;
            while stride > 0 {
                let mut t = UNIT_POS as usize;
                while t < comptime!(sizes.queues * sizes.pairs / 2) {
                    let low = lower(t, stride);
                    if self.turn[low / sizes.pairs] == 1u32 {
                        self.exchange(low, low + stride, ((low % sizes.pairs) & size) == 0);
                    }
                    t += sizes.units;
                }
                sync_cube();
                stride /= 2;
            }
            size *= 2;
        }
    }

    /// Puts two pairs in order.
    fn exchange(&mut self, low: usize, high: usize, rising: bool) {
        let low_key = self.key[low];
        let low_ord = self.ord[low];
        let high_key = self.key[high];
        let high_ord = self.ord[high];
        if before(high_key, high_ord, low_key, low_ord) == rising {
            self.key[low] = high_key;
            self.ord[low] = high_ord;
            self.key[high] = low_key;
            self.ord[high] = low_ord;
        }
    }
}
