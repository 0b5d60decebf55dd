//! Which rows of the lists it probes a query is compared with, where not all of them.
//!
//! Two things can keep a row out, alone or together: a *cap* (only the first so many rows of a
//! list, in its reading order) and a *mask* (a bit per row). A cap counts rows whether or not a
//! mask lets them pass. Everything here is host data; what a device needs of it is uploaded by the
//! device's scan.

use crate::{KernelError, check_len};
use std::sync::Arc;

/// Which rows queries are compared with; by default all rows of their lists.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restriction<'a> {
    /// Rows read of every probe, row-major `[nq, nprobe]`: the first so many in reading order. A
    /// cap above the list's length reads all of it.
    pub caps: Option<&'a [u32]>,
    /// In which order lists are read; as inserted when absent.
    pub order: Option<&'a ReadingOrder>,
    /// Rows that may be returned.
    pub masks: Option<&'a Masks>,
}

impl<'a> Restriction<'a> {
    /// Whether every row of every probed list is compared.
    pub fn is_none(&self) -> bool {
        self.caps.is_none() && self.masks.is_none()
    }

    /// Checks lengths against the lists' and the number of queries and probes.
    ///
    /// # Errors
    /// When a length does not fit.
    pub fn check(&self, nq: usize, nprobe: usize, lens: &[usize]) -> Result<(), KernelError> {
        if let Some(caps) = self.caps {
            check_len("caps", nq * nprobe, caps.len())?;
        }
        if let Some(order) = self.order {
            check_len("lists of a reading order", lens.len(), order.lists.len())?;
            for (list, &len) in order.lists.iter().zip(lens) {
                check_len("rows of a list's reading order", len, list.rows.len())?;
            }
        }
        if let Some(masks) = self.masks {
            check_len("lists of a mask", lens.len() + 1, masks.starts.len())?;
            for (l, &len) in lens.iter().enumerate() {
                let words = masks.starts[l + 1] - masks.starts[l];
                check_len("words of a list's mask", len.div_ceil(32), words)?;
            }
            if !masks.of.is_empty() {
                check_len("masks of the queries", nq, masks.of.len())?;
            }
            let most = masks.of.iter().max().map_or(0, |&m| m as usize);
            if most >= masks.masks.len() {
                return Err(KernelError::Length {
                    what: "masks",
                    expected: most + 1,
                    found: masks.masks.len(),
                });
            }
        }
        Ok(())
    }

    /// What is left of list `list`, of `len` rows, for query `query` that reads it as its probe
    /// `pair` (counted over all queries: `query * nprobe + rank`).
    pub fn of(&self, query: usize, pair: usize, list: usize, len: usize) -> Allowed<'a> {
        self.left(query, self.cap(pair, len), list, len)
    }

    /// Rows that the cap of a probe `pair` lets pass, of a list of `len`.
    pub(super) fn cap(&self, pair: usize, len: usize) -> usize {
        self.caps.map_or(len, |caps| (caps[pair] as usize).min(len))
    }

    /// The mask that a query goes by.
    pub(super) fn mask(&self, query: usize) -> u32 {
        self.masks.map_or(0, |masks| masks.of(query))
    }

    /// [`of`](Self::of) where the cap is known.
    pub(super) fn left(&self, query: usize, cap: usize, list: usize, len: usize) -> Allowed<'a> {
        Allowed {
            len,
            cap,
            order: self
                .order
                .filter(|_| cap < len)
                .map(|order| &*order.lists[list]),
            mask: self.masks.map(|masks| masks.list(query, list)),
        }
    }
}

/// The order in which the rows of every list are read.
#[derive(Debug, Clone, Default)]
pub struct ReadingOrder {
    /// One for every list.
    pub lists: Vec<Arc<ListOrder>>,
}

/// The order in which the rows of one list are read: a permutation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOrder {
    /// The slot read as the `i`-th.
    pub rows: Vec<u32>,
    /// The place at which slot `s` is read.
    pub places: Vec<u32>,
}

impl ListOrder {
    /// Rows by ascending key, equal keys (0 and -0 are) by slot.
    pub fn ascending(keys: &[f32]) -> Self {
        let mut rows: Vec<u32> = (0..keys.len() as u32).collect();
        let key = |row: u32| keys[row as usize] + 0.0; // never -0
        rows.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
        let mut places = vec![0; rows.len()];
        for (place, &slot) in rows.iter().enumerate() {
            places[slot as usize] = place as u32;
        }
        Self { rows, places }
    }
}

/// Rows that may be returned, as bits over the slots of every list; one mask or several, and which
/// query goes by which.
#[derive(Debug, Clone, Default)]
pub struct Masks {
    /// Every mask: the bits of list `l` are words `starts[l]..starts[l + 1]`, bit `s % 32` of word
    /// `s / 32` for slot `s`; bits behind the last row are 0.
    pub masks: Vec<Vec<u32>>,
    /// Where lists begin, and the end, in words.
    pub starts: Vec<usize>,
    /// The mask of every query; the first one for all when empty.
    pub of: Vec<u32>,
}

impl Masks {
    /// The mask that a query goes by.
    fn of(&self, query: usize) -> u32 {
        self.of.get(query).copied().unwrap_or(0)
    }

    /// The bits of list `list` for a query.
    pub fn list(&self, query: usize, list: usize) -> &[u32] {
        let mask = self.of(query) as usize;
        &self.masks[mask][self.starts[list]..self.starts[list + 1]]
    }
}

/// The rows of one list that one query is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a> {
    len: usize,
    cap: usize,
    order: Option<&'a ListOrder>,
    mask: Option<&'a [u32]>,
}

impl<'a> Allowed<'a> {
    /// Whether every row is.
    pub fn is_all(&self) -> bool {
        self.cap == self.len && self.mask.is_none()
    }

    /// Rows that the cap lets pass: those that a budget pays for.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// Whether rows are read as inserted, so that those with a slot from [`cap`](Self::cap) on are
    /// left out.
    pub fn in_place(&self) -> bool {
        self.order.is_none()
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        match (self.mask, self.order) {
            (None, _) => self.cap,
            (Some(mask), None) => {
                let whole = &mask[..self.cap / 32];
                let rest = match self.cap % 32 {
                    0 => 0,
                    rest => mask[self.cap / 32] & ((1 << rest) - 1),
                };
                whole.iter().map(|w| w.count_ones()).sum::<u32>() as usize
                    + rest.count_ones() as usize
            }
            (Some(_), Some(_)) => self.slots().count(),
        }
    }

    /// Whether the row in slot `slot` is.
    #[inline]
    pub fn contains(&self, slot: u32) -> bool {
        let place = match self.order {
            Some(order) => order.places[slot as usize],
            None => slot,
        };
        (place as usize) < self.cap && self.mask.is_none_or(|mask| bit(mask, slot))
    }

    /// The slots, in reading order.
    pub fn slots(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (order, mask, cap) = (self.order, self.mask, self.cap as u32);
        let sparse = match (order, mask) {
            (None, Some(mask)) => Some(Bits::new(mask)),
            _ => None,
        };
        let dense = if sparse.is_none() { 0..cap } else { 0..0 };
        let dense = dense.map(move |place| order.map_or(place, |order| order.rows[place as usize]));
        let dense = dense.filter(move |&slot| mask.is_none_or(|mask| bit(mask, slot)));
        let sparse = sparse.into_iter().flatten();
        dense.chain(sparse.take_while(move |&slot| slot < cap))
    }
}

#[inline]
fn bit(mask: &[u32], slot: u32) -> bool {
    mask[slot as usize / 32] >> (slot % 32) & 1 == 1
}

/// The places of set bits, ascending.
struct Bits<'a> {
    words: &'a [u32],
    at: usize,
    word: u32,
}

impl<'a> Bits<'a> {
    fn new(words: &'a [u32]) -> Self {
        Self {
            words,
            at: 0,
            word: words.first().copied().unwrap_or(0),
        }
    }
}

impl Iterator for Bits<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.word == 0 {
            self.at += 1;
            self.word = *self.words.get(self.at)?;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(self.at as u32 * 32 + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_orders_and_masks_agree_in_every_view() {
        let keys: Vec<f32> = (0..77).map(|i| ((i * 37) % 29) as f32).collect();
        let order = ReadingOrder {
            lists: vec![Arc::new(ListOrder::ascending(&keys))],
        };
        let mut bits = vec![0xA5A5_00FF, 0x8000_0001, u32::MAX];
        bits[2] &= (1 << 13) - 1;
        let masks = Masks {
            masks: vec![bits.clone()],
            starts: vec![0, 3],
            of: vec![],
        };
        for cap in [0, 1, 31, 32, 33, 76, 77, 500] {
            for order in [None, Some(&order)] {
                for masks in [None, Some(&masks)] {
                    let caps = [cap];
                    let all = Restriction {
                        caps: Some(&caps),
                        order,
                        masks,
                    };
                    all.check(1, 1, &[77]).unwrap();
                    let allowed = all.of(0, 0, 0, 77);
                    // Where all is read, the order does not matter and is not kept.
                    let read: Vec<u32> = match order {
                        Some(order) if cap < 77 => order.lists[0].rows.clone(),
                        _ => (0..77).collect(),
                    };
                    let expected: Vec<u32> = read[..77.min(cap as usize)]
                        .iter()
                        .copied()
                        .filter(|&s| masks.is_none() || bits[s as usize / 32] >> (s % 32) & 1 == 1)
                        .collect();
                    assert_eq!(allowed.slots().collect::<Vec<_>>(), expected);
                    assert_eq!(allowed.count(), expected.len());
                    let member: Vec<u32> = (0..77).filter(|&s| allowed.contains(s)).collect();
                    let mut sorted = expected;
                    sorted.sort_unstable();
                    assert_eq!(member, sorted);
                }
            }
        }
    }

    #[test]
    fn lengths_are_checked() {
        let caps = [1, 2];
        let restriction = Restriction {
            caps: Some(&caps),
            ..Restriction::default()
        };
        assert!(restriction.check(1, 2, &[5]).is_ok());
        assert!(restriction.check(2, 2, &[5]).is_err());
        let masks = Masks {
            masks: vec![vec![0]],
            starts: vec![0, 1],
            of: vec![0, 1],
        };
        let restriction = Restriction {
            masks: Some(&masks),
            ..Restriction::default()
        };
        assert!(restriction.check(2, 1, &[5]).is_err());
        assert!(restriction.check(1, 1, &[33]).is_err());
    }
}
