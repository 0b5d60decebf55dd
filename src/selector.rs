//! Which ids take part: the selectors of searches, removals and copies.
//!
//! Owns the expression and its meaning; knows nothing of lists or tensors. Searches compile an
//! expression once and turn it into bits, one per stored row.

use crate::error::{Error, Result, illegal};
use core::ops::{BitAnd, BitOr, BitXor, Deref, Not, Range};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// A set of ids (faiss `IDSelector`). Ids that no row has are ignored.
///
/// Selectors combine by `!`, `&`, `|` and `^`, of up to 65,536 parts and 256 levels (many ids belong
/// into one [`batch`](Self::batch)). A clone is cheap: large sets are shared.
///
/// ```
/// use burn_ivf::IdSelector;
/// let some = IdSelector::range(10..20) & !IdSelector::batch([12, 13]);
/// assert!(some.contains(11) && !some.contains(12) && !some.contains(20));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum IdSelector {
    /// Every id.
    All,
    /// Ids from `min` up to, but not including, `max` (faiss `IDSelectorRange`).
    Range {
        /// The smallest id.
        min: i64,
        /// One above the largest id.
        max: i64,
    },
    /// The ids listed (faiss `IDSelectorBatch`, `IDSelectorArray`); made by [`batch`](Self::batch).
    Batch(SortedIds),
    /// Id `i` when bit `i % 8` of byte `i / 8` is set, the lowest bit first (faiss
    /// `IDSelectorBitmap`). Negative ids and ids beyond the bits are not in it.
    Bitmap(Arc<[u8]>),
    /// The ids that are not in it.
    Not(Arc<IdSelector>),
    /// The ids in both.
    And(Arc<IdSelector>, Arc<IdSelector>),
    /// The ids in either.
    Or(Arc<IdSelector>, Arc<IdSelector>),
    /// The ids in exactly one.
    Xor(Arc<IdSelector>, Arc<IdSelector>),
}

impl IdSelector {
    /// The ids of a half-open range; none when it is empty.
    pub const fn range(ids: Range<i64>) -> Self {
        Self::Range {
            min: ids.start,
            max: ids.end,
        }
    }

    /// The ids given, in any order; repeats do no harm.
    pub fn batch(ids: impl IntoIterator<Item = i64>) -> Self {
        Self::Batch(ids.into_iter().collect::<Vec<i64>>().into())
    }

    /// The ids whose bit is set in bytes, the lowest bit of a byte first (faiss, Arrow).
    pub fn bitmap(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bitmap(bytes.into())
    }

    /// The ids whose bit is set in 32-bit words, the lowest bit of a word first (cuVS `bitset`).
    pub fn bitmap_u32(words: &[u32]) -> Self {
        Self::Bitmap(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    /// Whether `id` is in it.
    pub fn contains(&self, id: i64) -> bool {
        match self {
            Self::All => true,
            Self::Range { min, max } => (*min..*max).contains(&id),
            Self::Batch(ids) => ids.binary_search(&id).is_ok(),
            Self::Bitmap(bytes) => bit(bytes, id),
            Self::Not(of) => !of.contains(id),
            Self::And(a, b) => a.contains(id) && b.contains(id),
            Self::Or(a, b) => a.contains(id) || b.contains(id),
            Self::Xor(a, b) => a.contains(id) != b.contains(id),
        }
    }

    /// Whether the selector is small enough to be looked at for every row.
    ///
    /// # Errors
    /// More than [`MAX_PARTS`] parts (one that is named twice counts twice) or [`MAX_DEPTH`] levels.
    pub(crate) fn check(&self) -> Result<()> {
        let mut open = vec![(self, 1)];
        let mut parts = 0;
        while let Some((part, depth)) = open.pop() {
            parts += 1;
            if depth > MAX_DEPTH || parts > MAX_PARTS {
                return Err(illegal(
                    "the nesting of a selector",
                    format!("{parts} parts or more, {depth} levels or more"),
                    "at most 65536 parts on 256 levels; put ids together by IdSelector::batch()",
                ));
            }
            match part {
                Self::Not(a) => open.push((a, depth + 1)),
                Self::And(a, b) | Self::Or(a, b) | Self::Xor(a, b) => {
                    open.extend([(&**a, depth + 1), (&**b, depth + 1)]);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Hands over the parts that have parts themselves.
    fn part_with(&mut self, open: &mut Vec<Arc<Self>>) {
        let mut hand_over = |part: &mut Arc<Self>| {
            if matches!(
                **part,
                Self::Not(_) | Self::And(..) | Self::Or(..) | Self::Xor(..)
            ) {
                open.push(core::mem::replace(part, Arc::new(Self::All)));
            }
        };
        match self {
            Self::Not(a) => hand_over(a),
            Self::And(a, b) | Self::Or(a, b) | Self::Xor(a, b) => {
                hand_over(a);
                hand_over(b);
            }
            _ => {}
        }
    }

    /// Prepares the selector for many ids.
    pub(crate) fn compile(&self) -> Compiled {
        match self {
            Self::All => Compiled::All,
            Self::Range { min, max } => Compiled::Range(*min..*max),
            Self::Batch(ids) => Compiled::batch(ids),
            Self::Bitmap(bytes) => Compiled::Bits {
                first: 0,
                bytes: bytes.clone(),
            },
            Self::Not(of) => Compiled::Not(Box::new(of.compile())),
            Self::And(a, b) => Compiled::And(Box::new([a.compile(), b.compile()])),
            Self::Or(a, b) => Compiled::Or(Box::new([a.compile(), b.compile()])),
            Self::Xor(a, b) => Compiled::Xor(Box::new([a.compile(), b.compile()])),
        }
    }
}

/// Ids in ascending order, each once, whatever order they are given in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<i64>", into = "Vec<i64>")]
pub struct SortedIds(Arc<[i64]>);

impl From<Vec<i64>> for SortedIds {
    fn from(mut ids: Vec<i64>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids.into())
    }
}

impl From<SortedIds> for Vec<i64> {
    fn from(ids: SortedIds) -> Self {
        ids.to_vec()
    }
}

impl Deref for SortedIds {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        &self.0
    }
}

/// In a loop: a chain of ten thousand operators would exhaust the stack.
impl Drop for IdSelector {
    fn drop(&mut self) {
        let mut open = Vec::new();
        self.part_with(&mut open);
        while let Some(part) = open.pop() {
            if let Some(mut part) = Arc::into_inner(part) {
                part.part_with(&mut open);
            }
        }
    }
}

/// Parts and levels that a selector may have.
const MAX_PARTS: usize = 1 << 16;
const MAX_DEPTH: usize = 256;

/// The ids a search may find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The same for every query.
    Shared(IdSelector),
    /// Query `i` finds ids in `selectors[of[i]]`.
    PerQuery {
        /// The selectors.
        selectors: Vec<IdSelector>,
        /// The selector of every query, `[nq]`.
        of: Vec<u32>,
    },
}

impl Selection {
    /// One per query, from bits row-major `[nq, n]`: query `i` finds id `j` when bit `i · n + j` is
    /// set, the lowest bit of a word first (cuVS `bitmap`).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there are not `⌈nq · n / 32⌉` words, [`Error::IllegalValue`] for more than
    /// 2³² - 1 queries.
    pub fn bitmap_u32(words: &[u32], nq: usize, n: usize) -> Result<Self> {
        let expected = nq.checked_mul(n).map(|bits| bits.div_ceil(32));
        if expected != Some(words.len()) {
            let expected = match expected {
                Some(words) => format!("[{words}]: ⌈nq · n / 32⌉ words for nq = {nq}, n = {n}"),
                None => format!("bits for nq = {nq} times n = {n}, which no memory holds"),
            };
            return Err(Error::ShapeMismatch {
                what: "words of a bitmap",
                expected,
                found: vec![words.len()],
            });
        }
        if n == 0 {
            // No bits for however many queries.
            return Ok(Self::Shared(IdSelector::batch([])));
        }
        if u32::try_from(nq).is_err() {
            return Err(illegal("nq", nq, "at most 4294967295 queries"));
        }
        let bit = |at: usize| words[at / 32] >> (at % 32) & 1;
        let row = |i: usize| {
            let bytes = (0..n).step_by(8).map(|j| {
                let bits = (j..n.min(j + 8)).map(|b| (bit(i * n + b) as u8) << (b - j));
                bits.fold(0, |byte, bit| byte | bit)
            });
            IdSelector::Bitmap(bytes.collect())
        };
        Ok(Self::PerQuery {
            selectors: (0..nq).map(row).collect(),
            of: (0..nq as u32).collect(),
        })
    }

    /// Checks that every one of `nq` queries has a selector, none of them too large.
    pub(crate) fn check(&self, nq: usize) -> Result<()> {
        if let Self::PerQuery { selectors, of } = self {
            if of.len() != nq {
                return Err(Error::QuerySelectors {
                    nq,
                    found: of.len(),
                });
            }
            if let Some(&named) = of.iter().find(|&&s| s as usize >= selectors.len()) {
                return Err(illegal(
                    "the selector of a query",
                    named,
                    "a place in the list of selectors",
                ));
            }
        }
        match self {
            Self::Shared(selector) => selector.check(),
            Self::PerQuery { selectors, .. } => selectors.iter().try_for_each(IdSelector::check),
        }
    }
}

impl FromIterator<i64> for IdSelector {
    fn from_iter<I: IntoIterator<Item = i64>>(ids: I) -> Self {
        Self::batch(ids)
    }
}

impl Not for IdSelector {
    type Output = Self;

    fn not(self) -> Self {
        Self::Not(Arc::new(self))
    }
}

macro_rules! operator {
    ($trait:ident, $call:ident, $variant:ident) => {
        impl $trait for IdSelector {
            type Output = Self;

            fn $call(self, other: Self) -> Self {
                Self::$variant(Arc::new(self), Arc::new(other))
            }
        }
    };
}

operator!(BitAnd, bitand, And);
operator!(BitOr, bitor, Or);
operator!(BitXor, bitxor, Xor);

fn bit(bytes: &[u8], id: i64) -> bool {
    usize::try_from(id)
        .ok()
        .and_then(|id| bytes.get(id / 8).map(|byte| byte >> (id % 8) & 1 == 1))
        .unwrap_or(false)
}

/// A selector made ready for many ids.
#[derive(Debug, Clone)]
pub(crate) enum Compiled {
    All,
    Range(Range<i64>),
    /// Id `first + i` when bit `i` is set.
    Bits {
        first: i64,
        bytes: Arc<[u8]>,
    },
    Set(HashSet<i64>),
    Not(Box<Compiled>),
    And(Box<[Compiled; 2]>),
    Or(Box<[Compiled; 2]>),
    Xor(Box<[Compiled; 2]>),
}

/// Listed ids become bits when they take no more than this many bits each.
const DENSE: u64 = 256;

impl Compiled {
    /// Ids in any order: a deserialized batch need not ascend.
    fn batch(ids: &[i64]) -> Self {
        let (Some(&first), Some(&last)) = (ids.iter().min(), ids.iter().max()) else {
            return Self::Range(0..0);
        };
        let span = last.abs_diff(first);
        if span / DENSE > ids.len() as u64 {
            return Self::Set(ids.iter().copied().collect());
        }
        let mut bytes = vec![0_u8; (span / 8 + 1) as usize];
        for id in ids {
            let at = id.abs_diff(first);
            bytes[(at / 8) as usize] |= 1 << (at % 8);
        }
        Self::Bits {
            first,
            bytes: bytes.into(),
        }
    }

    /// Sets bit `i % 32` of `words[i / 32]` when `ids[i]` is in the selector, and clears every other
    /// bit of `words`, which has `ids.len().div_ceil(32)` words.
    pub fn select(&self, ids: &[i64], words: &mut [u32]) {
        debug_assert_eq!(words.len(), ids.len().div_ceil(32));
        let each = |words: &mut [u32], contains: &dyn Fn(i64) -> bool| {
            for (word, ids) in words.iter_mut().zip(ids.chunks(32)) {
                *word = ids
                    .iter()
                    .enumerate()
                    .fold(0, |word, (i, &id)| word | u32::from(contains(id)) << i);
            }
        };
        match self {
            Self::All => fill(ids.len(), words),
            Self::Range(range) => each(words, &|id| range.contains(&id)),
            Self::Bits { first, bytes } => each(words, &|id| {
                id.checked_sub(*first).is_some_and(|at| bit(bytes, at))
            }),
            Self::Set(set) => each(words, &|id| set.contains(&id)),
            Self::Not(of) => {
                of.select(ids, words);
                let mut every = vec![0; words.len()];
                fill(ids.len(), &mut every);
                words.iter_mut().zip(every).for_each(|(w, e)| *w = !*w & e);
            }
            Self::And(of) => Self::both(of, ids, words, |a, b| a & b),
            Self::Or(of) => Self::both(of, ids, words, |a, b| a | b),
            Self::Xor(of) => Self::both(of, ids, words, |a, b| a ^ b),
        }
    }

    fn both(of: &[Self; 2], ids: &[i64], words: &mut [u32], join: fn(u32, u32) -> u32) {
        let mut other = vec![0; words.len()];
        of[0].select(ids, words);
        of[1].select(ids, &mut other);
        words
            .iter_mut()
            .zip(other)
            .for_each(|(a, b)| *a = join(*a, b));
    }
}

/// Sets the first `n` bits.
fn fill(n: usize, words: &mut [u32]) {
    words.fill(u32::MAX);
    if !n.is_multiple_of(32)
        && let Some(last) = words.last_mut()
    {
        *last = (1 << (n % 32)) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E3: the lowest bit first, ids beyond the bits and negative ids are not members.
    #[test]
    fn e3_bitmap_is_lowest_bit_first() {
        let bits = IdSelector::bitmap(vec![0b0000_0110]);
        let members: Vec<i64> = (-20..40).filter(|&id| bits.contains(id)).collect();
        assert_eq!(members, [1, 2]);
        let words = IdSelector::bitmap_u32(&[0b110, 1]);
        let members: Vec<i64> = (-20..80).filter(|&id| words.contains(id)).collect();
        assert_eq!(members, [1, 2, 32]);
    }

    /// What a file says in any order means the same as what `batch` is given.
    #[test]
    fn stored_batches_are_sorted() {
        let ids = [700, 5, 900, 5, -3];
        let stored = serde_json::to_string(&IdSelector::batch(ids)).unwrap();
        assert_eq!(stored, r#"{"Batch":[-3,5,700,900]}"#);
        let shuffled = stored.replace("-3,5,700,900", "700,5,900,5,-3");
        let read: IdSelector = serde_json::from_str(&shuffled).unwrap();
        assert_eq!(read, IdSelector::batch(ids));
        let mut words = [0];
        read.compile().select(&[5, 6, -3, 901, 900], &mut words);
        assert_eq!(words, [0b10101]);
    }

    #[test]
    fn compiled_bits_agree_with_contains() {
        let sparse = IdSelector::batch([i64::MIN, -5, 0, 7, 1 << 40, i64::MAX]);
        let dense = IdSelector::batch((-100..300).filter(|id| id % 3 == 0));
        let bits = IdSelector::bitmap(vec![0xA5; 9]);
        let cases = [
            IdSelector::All,
            !IdSelector::All,
            IdSelector::range(-3..70),
            IdSelector::Range { min: 9, max: 3 },
            IdSelector::batch([]),
            !sparse.clone(),
            dense.clone() & !bits.clone(),
            dense.clone() | sparse.clone(),
            (dense ^ bits) ^ sparse,
        ];
        let mut ids: Vec<i64> = (-130..331).collect();
        ids.extend([i64::MIN, i64::MAX, 1 << 40, (1 << 40) + 1]);
        for selector in cases {
            for n in [0, 1, 31, 32, 33, ids.len()] {
                let ids = &ids[ids.len() - n..];
                let mut words = vec![0xFFFF_FFFF; n.div_ceil(32)];
                selector.compile().select(ids, &mut words);
                for i in 0..words.len() * 32 {
                    let expected = ids.get(i).is_some_and(|&id| selector.contains(id));
                    assert_eq!(
                        words[i / 32] >> (i % 32) & 1 == 1,
                        expected,
                        "{selector:?} {i}"
                    );
                }
            }
        }
    }
}
