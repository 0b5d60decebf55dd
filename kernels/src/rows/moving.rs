//! Rows that go, and rows taken over from another list: copies of what is stored, bit for bit.
//!
//! Nothing here computes a component anew: planes, copies and squared lengths move as they are.

use super::{Aligned, Layout, PANEL, Rows, planes};
use crate::{Metric, bound::Extent, distance};

/// How far rounding to bf16 moves a vector, relative to its length: half a unit in the last of
/// eight bits, and what the bounds of lengths themselves allow.
const ROUNDING: f64 = 1.001 / 256.0;

/// The places whose bit is set, below `len`: bit `i % 32` of word `i / 32` is place `i`.
pub fn places(keep: &[u32], len: usize) -> impl Iterator<Item = usize> + '_ {
    let words = keep.iter().enumerate();
    words
        .flat_map(|(at, &word)| {
            let mut left = word;
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize);
                left &= left.wrapping_sub(1);
                bit.map(|bit| 32 * at + bit)
            })
        })
        .take_while(move |&place| place < len)
}

/// The first place whose bit is clear, at most `len`.
pub fn first_clear(keep: &[u32], len: usize) -> usize {
    let at = keep.iter().position(|&word| word != u32::MAX);
    at.map_or(len, |at| 32 * at + keep[at].trailing_ones() as usize)
        .min(len)
}

/// Gives back what an allocation holds beyond its values; all of it where there is none, which `aligned-vec` 0.6
/// makes an allocation of no bytes that is never freed.
fn shrink<T>(values: &mut Aligned<T>) {
    if values.is_empty() {
        *values = Aligned::new(64);
    } else {
        values.shrink_to_fit();
    }
}

impl Rows {
    /// Keeps the rows whose bit is set in `keep` (bit `i % 32` of word `i / 32` is row `i`), in
    /// order; allocations stay.
    ///
    /// # Panics
    /// When `keep` is shorter than the list.
    pub fn retain(&mut self, keep: &[u32]) {
        assert!(32 * keep.len() >= self.len, "a bit for every row");
        let first = first_clear(keep, self.len);
        let mut to = first;
        for from in places(keep, self.len).skip(first) {
            self.move_row(from, to);
            to += 1;
        }
        self.truncate(to);
    }

    /// Appends the rows of `other` (those whose bit is set in `keep`), in order, without computing
    /// anything anew where both are stored alike.
    ///
    /// # Panics
    /// When the vectors have another number of components, or the list would hold more than
    /// 2³² - 2 rows.
    pub fn extend_from(&mut self, other: &Self, keep: Option<&[u32]>) {
        assert_eq!(self.d, other.d, "rows must have d components");
        let added = keep.map_or(other.len, |keep| places(keep, other.len).count());
        assert!(self.len + added < u32::MAX as usize, "a list is full");
        self.reserve(added);
        if self.layout != other.layout {
            let mut row = vec![0.0; self.d];
            let all = vec![u32::MAX; other.len.div_ceil(32)];
            for slot in places(keep.unwrap_or(&all), other.len) {
                other.copy_row(slot, &mut row);
                self.push(&row);
            }
            return;
        }
        let first = self.len;
        self.lengthen(first + added);
        match keep {
            None => self.take_all(other, first),
            Some(keep) => {
                for (to, from) in (first..).zip(places(keep, other.len)) {
                    self.take_row(other, from, to);
                }
            }
        }
        self.extent = self.extent.max(other.extent);
        if keep.is_some() {
            self.tighten();
        }
    }

    /// Becomes a copy of some rows of a list stored alike, for a filter to read; also for exact
    /// values, if `exact`. Bounds stay those of the whole list.
    pub(crate) fn gather(
        &mut self,
        other: &Self,
        slots: impl ExactSizeIterator<Item = usize>,
        exact: bool,
    ) {
        let n = slots.len();
        self.len = 0;
        self.high.clear();
        self.low.clear();
        self.full.clear();
        self.norms.clear();
        if exact {
            self.lengthen(n);
        } else {
            self.lengthen_filter(n);
        }
        for (to, from) in slots.enumerate() {
            if exact {
                self.take_row(other, from, to);
            } else {
                self.take_filter(other, from, to);
            }
        }
        self.extent = other.extent;
    }

    /// Gives back what allocations hold beyond the rows.
    pub fn shrink_to_fit(&mut self) {
        shrink(&mut self.high);
        shrink(&mut self.low);
        shrink(&mut self.full);
        shrink(&mut self.norms);
    }

    /// Moves a row to an earlier place.
    fn move_row(&mut self, from: usize, to: usize) {
        let d = self.d;
        if self.layout.has_high() {
            planes::move_high(&mut self.high, d, from, to);
        }
        match self.layout {
            Layout::Planes => self.low.copy_within(from * d..(from + 1) * d, to * d),
            Layout::Copy => self.full.copy_within(from * d..(from + 1) * d, to * d),
            Layout::F32 => {
                let (from, to) = (in_panel(d, from), in_panel(d, to));
                for t in 0..d {
                    self.full[to + t * PANEL] = self.full[from + t * PANEL];
                }
            }
            Layout::F16 => {
                let (from, to) = (in_panel(d, from), in_panel(d, to));
                for t in 0..d {
                    self.high[to + t * PANEL] = self.high[from + t * PANEL];
                }
            }
            Layout::Bf16 => {}
        }
        self.norms[to] = self.norms[from];
    }

    /// Writes row `from` of a list stored alike at place `to`, which is there already.
    fn take_row(&mut self, other: &Self, from: usize, to: usize) {
        let d = self.d;
        let row = |rows: usize| rows * d..(rows + 1) * d;
        self.take_filter(other, from, to);
        match self.layout {
            Layout::Planes => self.low[row(to)].copy_from_slice(&other.low[row(from)]),
            Layout::Copy => self.full[row(to)].copy_from_slice(&other.full[row(from)]),
            Layout::F32 | Layout::F16 | Layout::Bf16 => {}
        }
    }

    /// What a filter reads of [`take_row`](Self::take_row).
    fn take_filter(&mut self, other: &Self, from: usize, to: usize) {
        let d = self.d;
        match self.layout {
            Layout::Planes | Layout::Copy | Layout::Bf16 => {
                planes::take_high(&mut self.high, d, to, &other.high, from);
            }
            Layout::F32 => {
                let (from, to) = (in_panel(d, from), in_panel(d, to));
                for t in 0..d {
                    self.full[to + t * PANEL] = other.full[from + t * PANEL];
                }
            }
            Layout::F16 => {
                let (from, to) = (in_panel(d, from), in_panel(d, to));
                for t in 0..d {
                    self.high[to + t * PANEL] = other.high[from + t * PANEL];
                }
            }
        }
        self.norms[to] = other.norms[from];
    }

    /// Writes all rows of a list stored alike from place `first` on.
    fn take_all(&mut self, other: &Self, first: usize) {
        if !first.is_multiple_of(PANEL) {
            (0..other.len).for_each(|from| self.take_row(other, from, first + from));
            return;
        }
        // Whole panels lie alike.
        let high = first / PANEL * self.high_size();
        put(&mut self.high, high, &other.high);
        put(&mut self.low, first * self.d, &other.low);
        put(&mut self.full, first * self.d, &other.full);
        put(&mut self.norms, first, &other.norms);
    }

    /// Makes places up to `len`, empty ones.
    fn lengthen(&mut self, len: usize) {
        match self.layout {
            Layout::Planes => self.low.resize(len * self.d, 0),
            Layout::Copy => self.full.resize(len * self.d, 0.0),
            Layout::F32 | Layout::F16 | Layout::Bf16 => {}
        }
        self.lengthen_filter(len);
    }

    /// What a filter reads of [`lengthen`](Self::lengthen).
    fn lengthen_filter(&mut self, len: usize) {
        let panels = len.div_ceil(PANEL);
        self.high.resize(panels * self.high_size(), 0);
        if self.layout == Layout::F32 {
            self.full.resize(panels * PANEL * self.d, 0.0);
        }
        self.norms.resize(panels * PANEL, f32::INFINITY);
        self.len = len;
    }

    /// Drops the rows from `len` on.
    fn truncate(&mut self, len: usize) {
        let panels = len.div_ceil(PANEL);
        self.high.truncate(panels * self.high_size());
        if self.layout.has_high() {
            for place in len..panels * PANEL {
                planes::clear_high(&mut self.high, self.d, place);
            }
        }
        match self.layout {
            Layout::Planes => self.low.truncate(len * self.d),
            Layout::Copy => self.full.truncate(len * self.d),
            Layout::F32 => {
                self.full.truncate(panels * PANEL * self.d);
                for place in len..panels * PANEL {
                    let at = in_panel(self.d, place);
                    (0..self.d).for_each(|t| self.full[at + t * PANEL] = 0.0);
                }
            }
            Layout::F16 => {
                for place in len..panels * PANEL {
                    let at = in_panel(self.d, place);
                    (0..self.d).for_each(|t| self.high[at + t * PANEL] = 0);
                }
            }
            Layout::Bf16 => {}
        }
        self.norms.truncate(panels * PANEL);
        self.norms[len..].fill(f32::INFINITY);
        self.len = len;
        self.tighten();
    }

    /// Fits the extent to the rows held: the largest length exactly as `push` would, the rounding
    /// error by its share of that length where this is less than what was seen.
    fn tighten(&mut self) {
        let largest = self.norms[..self.len].iter().copied().fold(0.0, f32::max);
        let mut extent = Extent::default();
        if largest.is_finite() {
            if self.len > 0 {
                extent.grow(self.d, f64::from(largest), None, true);
            }
        } else {
            let mut row = vec![0.0; self.d];
            for slot in 0..self.len {
                let mut norm2 = f64::from(self.norms[slot]);
                if !norm2.is_finite() {
                    self.copy_row(slot, &mut row);
                    norm2 = distance::reference(Metric::InnerProduct, &row, &row);
                }
                extent.grow(self.d, norm2, None, true);
            }
        }
        extent.fraction = self.extent.fraction;
        extent.error = self.extent.error.min(extent.norm * ROUNDING);
        self.extent = extent;
    }
}

/// Where the first component of a row lies in f32 panels.
fn in_panel(d: usize, row: usize) -> usize {
    row / PANEL * PANEL * d + row % PANEL
}

/// Copies `from` to `to[at..]`.
fn put<T: Copy>(to: &mut Aligned<T>, at: usize, from: &[T]) {
    if !from.is_empty() {
        to[at..at + from.len()].copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(layout: Layout, d: usize, from: usize, n: usize) -> Rows {
        let mut rows = Rows::new(d, layout);
        for i in from..from + n {
            rows.push(&value(d, i));
        }
        rows
    }

    fn value(d: usize, i: usize) -> Vec<f32> {
        (0..d).map(|t| (i * 31 + t) as f32 * 0.37 - 90.0).collect()
    }

    fn bits(of: &[usize], len: usize) -> Vec<u32> {
        let mut words = vec![0; len.div_ceil(32)];
        for &i in of {
            words[i / 32] |= 1 << (i % 32);
        }
        words
    }

    /// The same bytes as a list filled with these rows in the first place; the error of the extent
    /// may be looser.
    #[track_caller]
    fn assert_like_new(rows: &Rows, of: &[usize]) {
        let mut new = Rows::new(rows.d, rows.layout);
        for &i in of {
            new.push(&value(rows.d, i));
        }
        assert_eq!(rows.len, new.len);
        assert_eq!(rows.high[..], new.high[..]);
        assert_eq!(rows.low[..], new.low[..]);
        assert_eq!(rows.full[..], new.full[..]);
        assert_eq!(rows.norms[..], new.norms[..]);
        assert_eq!(rows.extent.norm, new.extent.norm);
        assert!(rows.extent.error >= new.extent.error, "a bound still");
        assert!(rows.extent.error <= rows.extent.norm * ROUNDING);
    }

    fn patterns(n: usize) -> Vec<Vec<usize>> {
        vec![
            (0..n).collect(),
            vec![],
            (0..n).filter(|i| i % 3 != 1).collect(),
            (1..n).collect(),
            (0..n.saturating_sub(1)).collect(),
            (0..n).filter(|i| *i > 20 && *i != 33).collect(),
            n.checked_sub(1).into_iter().collect(),
        ]
    }

    #[test]
    fn what_is_left_lies_like_new() {
        for layout in Layout::ALL {
            for (d, n) in [(1, 40), (7, 16), (8, 33), (20, 64), (33, 70)] {
                for kept in patterns(n) {
                    let mut rows = filled(layout, d, 0, n);
                    let copy = rows.clone();
                    rows.retain(&bits(&kept, n));
                    assert_like_new(&rows, &kept);
                    let mut other = Rows::new(d, layout);
                    other.extend_from(&copy, Some(&bits(&kept, n)));
                    assert_like_new(&other, &kept);
                    let mut copies = filled(layout, d, 90, 37);
                    copies.gather(&copy, kept.iter().copied(), true);
                    // bounds of the whole list
                    assert_eq!(copies.extent.norm, copy.extent.norm);
                    copies.extent = other.extent;
                    assert_like_new(&copies, &kept);
                    // and it goes on growing
                    rows.push(&value(d, 500));
                    assert_like_new(&rows, &[&kept[..], &[500]].concat());
                }
            }
        }
    }

    #[test]
    fn rows_taken_over_lie_like_new() {
        for layout in Layout::ALL {
            for from in Layout::WHOLE.into_iter().chain([layout]) {
                for (n, more) in [(0, 20), (16, 5), (32, 40), (21, 30), (9, 0)] {
                    let mut rows = filled(layout, 11, 0, n);
                    rows.extend_from(&filled(from, 11, n, more), None);
                    assert_like_new(&rows, &(0..n + more).collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn bounds_follow_the_rows_that_are_left() {
        for layout in Layout::WHOLE {
            let mut rows = Rows::new(2, layout);
            for row in [[3.0, 4.1], [3e38, 3e38], [1e25, 0.0]] {
                rows.push(&row);
            }
            rows.retain(&[0b101]);
            assert!((1e25..1.1e25).contains(&rows.extent.norm), "{layout}");
            rows.retain(&[0b01]);
            assert!((5.0..5.2).contains(&rows.extent.norm), "{layout}");
            assert!(rows.extent.error < 0.03, "{layout}");
            rows.retain(&[0]);
            assert_eq!((rows.extent.norm, rows.extent.error), (0.0, 0.0));
        }
    }

    #[test]
    fn shrinking_gives_memory_back() {
        for layout in Layout::ALL {
            let mut rows = filled(layout, 16, 0, 200);
            let full = rows.bytes();
            rows.retain(&bits(&[5, 6], 200));
            assert_eq!(rows.bytes(), full);
            rows.shrink_to_fit();
            assert!(rows.bytes() < full / 8, "{layout}: {}", rows.bytes());
            assert_like_new(&rows, &[5, 6]);
            rows.retain(&[0]);
            rows.shrink_to_fit();
            assert_eq!(rows.bytes(), 0);
        }
    }

    #[test]
    fn places_are_the_set_bits_in_order() {
        let words = [0b1001, 0, u32::MAX];
        assert_eq!(places(&words, 66).collect::<Vec<_>>(), [0, 3, 64, 65]);
        assert_eq!(first_clear(&words, 66), 1);
        assert_eq!(first_clear(&[u32::MAX, 1], 40), 33);
        assert_eq!(first_clear(&[u32::MAX, u32::MAX], 40), 40);
    }
}
