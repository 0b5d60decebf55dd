//! The total order of results, and the buffer that keeps the k best of a stream.
//!
//! Better key first, then smaller id; rows with the same key *and* the same id (duplicate ids are
//! allowed) give the same label and distance, so which of them comes first cannot be seen; the
//! place in the lists decides, to keep even that fixed.

use core::cmp::Ordering;

/// Where a row lies: list number and place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Slot {
    /// List number.
    pub list: u32,
    /// Place in the list, in insertion order.
    pub slot: u32,
}

impl Slot {
    /// No row: a gap in a table of candidates.
    pub const NONE: Self = Self {
        list: u32::MAX,
        slot: u32::MAX,
    };
}

/// A row with its key (smaller is better; never NaN).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Squared L2 distance, or minus the inner product.
    pub key: f32,
    /// Where the row lies.
    pub at: Slot,
}

/// Gives the id of a row, looked up only to break ties.
pub trait Ids {
    /// The id of the row at `at`.
    fn id(&self, at: Slot) -> i64;
}

/// Compares two candidates in the total order.
#[inline]
pub fn compare(a: &Candidate, b: &Candidate, ids: &impl Ids) -> Ordering {
    match a.key.partial_cmp(&b.key) {
        Some(Ordering::Less) => Ordering::Less,
        Some(Ordering::Greater) => Ordering::Greater,
        _ => ids.id(a.at).cmp(&ids.id(b.at)).then(a.at.cmp(&b.at)),
    }
}

/// A key as an integer of the same order; -0 as 0.
#[inline(always)]
fn ordered(key: f32) -> u32 {
    let bits = (key + 0.0).to_bits();
    let negative = (bits.cast_signed() >> 31).cast_unsigned();
    bits ^ (negative | 0x8000_0000)
}

/// Keeps the `k` best of the candidates pushed, in a buffer of about `2k` that is cut back to `k`
/// whenever it is full (so memory stays bounded even when every key ties).
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    threshold: f32,
    buffer: Vec<Candidate>,
    /// Scratch of [`drain_sorted`](Self::drain_sorted).
    sorted: Vec<u64>,
}

impl TopK {
    /// Candidates a buffer holds at most.
    pub const fn capacity(k: usize) -> usize {
        2 * k + 32
    }

    /// An empty buffer for the `k` best, `k >= 1`.
    pub fn new(k: usize) -> Self {
        debug_assert!(k > 0, "k is at least 1");
        Self {
            k,
            threshold: f32::INFINITY,
            buffer: Vec::new(),
            sorted: Vec::new(),
        }
    }

    /// Only keys up to this one can still be among the k best.
    #[inline]
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Offers a candidate.
    #[inline]
    pub fn push(&mut self, candidate: Candidate, ids: &impl Ids) {
        if candidate.key <= self.threshold {
            self.buffer.push(candidate);
            if self.buffer.len() >= Self::capacity(self.k) {
                self.cut(ids);
            }
        }
    }

    /// Cuts the buffer back to the k best and lowers the threshold.
    fn cut(&mut self, ids: &impl Ids) {
        if self.buffer.len() > self.k {
            self.buffer
                .select_nth_unstable_by(self.k - 1, |a, b| compare(a, b, ids));
            self.buffer.truncate(self.k);
            self.threshold = self.buffer[self.k - 1].key;
        }
    }

    /// Lowers the threshold to the k-th best so far, if there are so many.
    pub fn tighten(&mut self, ids: &impl Ids) {
        self.cut(ids);
        if self.buffer.len() == self.k {
            let worst = self
                .buffer
                .iter()
                .map(|c| c.key)
                .fold(f32::NEG_INFINITY, f32::max);
            self.threshold = self.threshold.min(worst);
        }
    }

    /// Is offered all that another buffer of the same `k` holds.
    pub fn absorb(&mut self, other: &Self, ids: &impl Ids) {
        for &candidate in &other.buffer {
            self.push(candidate, ids);
        }
    }

    /// The k best, in order; the buffer is then empty and may be used again.
    pub fn drain_sorted(&mut self, ids: &impl Ids, mut each: impl FnMut(usize, Candidate)) {
        // Keys in the upper half, places in the lower: integers sort faster than the total order,
        // which then only has to look at ties.
        self.sorted.clear();
        for (place, candidate) in self.buffer.iter().enumerate() {
            let key = u64::from(ordered(candidate.key)) << 32;
            self.sorted.push(key | place as u64);
        }
        self.sorted.sort_unstable();
        let mut rank = 0;
        while rank < self.sorted.len().min(self.k) {
            let key = self.sorted[rank] >> 32;
            let ties = self.sorted[rank..].iter().take_while(|&&s| s >> 32 == key);
            let end = rank + ties.count();
            if end - rank > 1 {
                let at = |s: &u64| &self.buffer[*s as u32 as usize];
                self.sorted[rank..end].sort_unstable_by(|a, b| compare(at(a), at(b), ids));
            }
            for i in rank..end.min(self.k) {
                each(i, self.buffer[self.sorted[i] as u32 as usize]);
            }
            rank = end;
        }
        self.buffer.clear();
        self.threshold = f32::INFINITY;
    }
}
