//! Panels with survivors, put aside without a branch: whether a tile has any is hard to predict.

use core::mem::MaybeUninit;

/// Panels put aside at most.
const PANELS: usize = 64;

/// Panels of keys that have survivors, until they are written where they belong.
pub(super) struct Aside<T> {
    /// The first `len` are there.
    keys: [MaybeUninit<T>; PANELS],
    /// Mask of survivors, place of the query in the tile, first row in the strip.
    facts: [(u16, u16, u32); PANELS],
    len: usize,
}

impl<T: Copy> Aside<T> {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            keys: [const { MaybeUninit::uninit() }; PANELS],
            facts: [(0, 0, 0); PANELS],
            len: 0,
        }
    }

    /// Whether so many more fit.
    #[inline(always)]
    pub fn has_room(&self, more: usize) -> bool {
        self.len + more <= PANELS
    }

    /// Puts the keys of rows from `at` on aside for the tile's `n`-th query, if the mask names any; there must
    /// be room.
    #[inline(always)]
    pub fn push(&mut self, keys: T, mask: u16, n: usize, at: usize) {
        self.keys[self.len].write(keys);
        self.facts[self.len] = (mask, n as u16, at as u32);
        self.len += usize::from(mask != 0);
    }

    /// Everything that was put aside: keys, mask, place of the query in the tile, first row. Nothing is left.
    #[inline(always)]
    pub fn take(&mut self) -> impl Iterator<Item = (T, u16, usize, usize)> {
        let waiting = self.keys.iter().zip(&self.facts);
        waiting
            .take(core::mem::take(&mut self.len))
            .map(|(keys, &(mask, n, at))| {
                // SAFETY: the first `len` keys were written by `push`.
                let keys = unsafe { keys.assume_init_read() };
                (keys, mask, usize::from(n), at as usize)
            })
    }
}
