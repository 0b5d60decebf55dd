//! Buffers of searches that are over, for those to come.
//!
//! Memory of this size that is given back to the system and asked for again costs a fault for every page, which
//! a search of a millisecond feels. What is kept is bounded, and no more than searches held at once.

use crate::order::Slot;
use aligned_vec::{AVec, ConstAlign};
use std::sync::{Mutex, PoisonError};

/// Bytes kept of each kind at most.
const KEPT_BYTES: usize = 12 << 20;

/// Bytes from which a buffer is worth keeping.
const LEAST_BYTES: usize = 64 << 10;

/// A buffer that can be used again.
pub(crate) trait Buffer: Sized {
    /// With room for some elements, and none in it.
    fn with_room(elements: usize) -> Self;

    /// Bytes of an element.
    const SIZE: usize;

    /// Elements it has room for.
    fn room(&self) -> usize;

    /// Bytes it has room for.
    fn bytes(&self) -> usize {
        self.room() * Self::SIZE
    }
}

impl<T> Buffer for Vec<T> {
    fn with_room(elements: usize) -> Self {
        Self::with_capacity(elements)
    }

    const SIZE: usize = size_of::<T>();

    fn room(&self) -> usize {
        self.capacity()
    }
}

impl<T> Buffer for AVec<T, ConstAlign<64>> {
    fn with_room(elements: usize) -> Self {
        Self::with_capacity(64, elements)
    }

    const SIZE: usize = size_of::<T>();

    fn room(&self) -> usize {
        self.capacity()
    }
}

/// Buffers of one kind.
pub(crate) struct Spare<T>(Mutex<Vec<T>>);

/// Keys of waiting rows.
pub(crate) static KEYS: Spare<Vec<f32>> = Spare::new();
/// Places of waiting rows.
pub(crate) static SLOTS: Spare<Vec<Slot>> = Spare::new();
/// Queries.
pub(crate) static QUERIES: Spare<AVec<f32, ConstAlign<64>>> = Spare::new();
/// Queries in 16 bits.
pub(crate) static HALVES: Spare<AVec<u16, ConstAlign<64>>> = Spare::new();

impl<T: Buffer> Spare<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// A buffer with room for so many elements, and whatever is in it.
    pub fn take(&self, elements: usize) -> T {
        if elements * T::SIZE >= LEAST_BYTES {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fit = kept.iter().enumerate();
            let fit = fit.filter(|(_, buffer)| buffer.room() >= elements);
            if let Some((at, _)) = fit.min_by_key(|(_, buffer)| buffer.room()) {
                return kept.remove(at);
            }
        }
        T::with_room(elements)
    }

    /// Keeps a buffer, if it is worth it; those that were kept longest go where it is too much.
    pub fn give(&self, buffer: T) {
        if !(LEAST_BYTES..=KEPT_BYTES).contains(&buffer.bytes()) {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(buffer);
        let mut sum = 0;
        let fits = kept.iter().rev().take_while(|buffer| {
            sum += buffer.bytes();
            sum <= KEPT_BYTES
        });
        let over = kept.len() - fits.count();
        let over: Vec<T> = kept.drain(..over).collect();
        drop(kept);
        drop(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(spare: &Spare<Vec<u8>>) -> Vec<usize> {
        let kept = spare.0.lock().unwrap();
        kept.iter().map(Vec::capacity).collect()
    }

    #[test]
    fn buffers_are_used_again() {
        let spare = Spare::<Vec<u8>>::new();
        let buffer = spare.take(100_000);
        let at = buffer.as_ptr();
        spare.give(buffer);
        let other = spare.take(200_000);
        assert_ne!(other.as_ptr(), at, "too small");
        let again = spare.take(70_000);
        assert_eq!(again.as_ptr(), at);
        assert!(sizes(&spare).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let spare = Spare::<Vec<u8>>::new();
        for _ in 0..100 {
            spare.give(Vec::with_capacity(KEPT_BYTES / 4));
            spare.give(Vec::with_capacity(KEPT_BYTES / 64));
        }
        spare.give(Vec::new());
        spare.give(Vec::with_capacity(2 * KEPT_BYTES));
        let sizes = sizes(&spare);
        assert!(sizes.iter().sum::<usize>() <= KEPT_BYTES, "{sizes:?}");
        assert!(sizes.contains(&(KEPT_BYTES / 4)), "{sizes:?}");
    }
}
