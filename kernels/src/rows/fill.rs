//! Writing many rows at once, into places that hold nothing yet, from several threads.
//!
//! A [`Filling`] is a list of known size in the making. It hands out its places as [`Part`]s, one
//! after the other, and whoever holds a part writes its rows there, at any time and on any thread.
//! Memory is not touched before rows are written to it. [`Rows::extend`] uses the same writer.

use super::{Aligned, Layout, PANEL, Rows, half, planes};
use crate::{
    Metric,
    bound::{self, Extent},
    distance,
    simd::Isa,
};
use core::{
    mem::MaybeUninit,
    slice,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use pulp::{Simd, WithSimd};
use std::sync::{Mutex, PoisonError};

/// A list of a known number of rows, which come part by part.
#[derive(Debug)]
pub struct Filling {
    /// Without rows, but with room for all of them.
    rows: Rows,
    spare: Spare,
    total: usize,
    taken: AtomicUsize,
    written: AtomicUsize,
    extent: Mutex<Extent>,
}

/// The places of some rows of a [`Filling`].
#[derive(Debug)]
pub struct Part<'a> {
    filling: &'a Filling,
    first: usize,
    rows: usize,
}

/// What there was among some components beside finite numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Odd {
    /// A NaN.
    pub nan: bool,
    /// An infinity.
    pub infinite: bool,
}

impl Filling {
    /// A list that is to have `total` rows of `d` components.
    ///
    /// # Panics
    /// When `total` does not fit a u32.
    pub fn new(d: usize, layout: Layout, total: usize) -> Self {
        assert!(total < u32::MAX as usize, "a list is full");
        let mut rows = Rows::new(d, layout);
        rows.reserve(total);
        large_pages(&rows.high);
        large_pages(&rows.low);
        large_pages(&rows.full);
        Self {
            spare: Spare::of(&mut rows),
            rows,
            total,
            taken: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            extent: Mutex::default(),
        }
    }

    /// Rows whose places have not been handed out.
    pub fn left(&self) -> usize {
        self.total - self.taken.load(Relaxed)
    }

    /// The next places: at most `rows`, and whole panels of [`PANEL`] rows unless they are the
    /// last. `None` when none are left, or there is not room for a panel in `rows`.
    pub fn take(&self, rows: usize) -> Option<Part<'_>> {
        let size = |taken: usize| match self.total - taken {
            left if left <= rows => left,
            _ => rows - rows % PANEL,
        };
        let more = |taken| Some(taken + size(taken));
        let first = self.taken.fetch_update(Relaxed, Relaxed, more).ok()?;
        let rows = size(first);
        (rows > 0).then_some(Part {
            filling: self,
            first,
            rows,
        })
    }

    /// The list.
    ///
    /// # Panics
    /// When rows are missing.
    pub fn finish(mut self) -> Rows {
        assert_eq!(*self.written.get_mut(), self.total, "every row is written");
        // SAFETY: every place was handed out once, in panels from the first on, and written.
        unsafe { self.rows.set_filled(self.total) };
        let extent = self
            .extent
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        self.rows.extent = *extent;
        self.rows
    }
}

impl Part<'_> {
    /// The place of the first row in its list.
    pub fn first(&self) -> usize {
        self.first
    }

    /// Rows that go here.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Writes the rows, row-major `[rows, d]`. A list with infinities must not be scanned, and one
    /// with NaN only where [`Rows::push`] says.
    ///
    /// # Panics
    /// When `values` has another length.
    pub fn write(self, values: &[f32]) -> Odd {
        let Filling { rows, spare, .. } = self.filling;
        assert_eq!(values.len(), self.rows * rows.d, "rows are whole");
        let rounded = half::rounded(rows.layout, values);
        let write = Write {
            d: rows.d,
            layout: rows.layout,
            spare: *spare,
            first: self.first,
            values: rounded.as_deref().unwrap_or(values),
        };
        let (extent, odd) = Isa::detect().run(write);
        let extents = self.filling.extent.lock();
        let mut whole = extents.unwrap_or_else(PoisonError::into_inner);
        *whole = whole.max(extent);
        self.filling.written.fetch_add(self.rows, Relaxed);
        odd
    }
}

impl Rows {
    /// Appends rows of values that the layout can hold, from the beginning of a panel on.
    pub(super) fn append_panels(&mut self, values: &[f32]) {
        assert!(self.len.is_multiple_of(PANEL), "a panel begins");
        let n = values.len() / self.d;
        self.reserve(n);
        let write = Write {
            d: self.d,
            layout: self.layout,
            spare: Spare::of(self),
            first: self.len,
            values,
        };
        let (extent, _) = Isa::detect().run(write);
        // SAFETY: rows up to `len` are there, the others were written.
        unsafe { self.set_filled(self.len + n) };
        self.extent = self.extent.max(extent);
    }

    /// Makes `len` rows out of memory they were written to.
    ///
    /// # Safety
    /// A [`Write`] wrote all rows below `len` that are not held, from the beginning of a panel on.
    unsafe fn set_filled(&mut self, len: usize) {
        let panels = len.div_ceil(PANEL);
        let (low, full) = match self.layout {
            Layout::Planes => (len * self.d, 0),
            Layout::Copy => (0, len * self.d),
            Layout::F32 => (0, panels * PANEL * self.d),
            Layout::F16 | Layout::Bf16 => (0, 0),
        };
        // SAFETY: `reserve` made room for as much, and all of it was written.
        unsafe {
            self.high.set_len(panels * self.high_size());
            self.low.set_len(low);
            self.full.set_len(full);
            self.norms.set_len(panels * PANEL);
        }
        self.len = len;
    }
}

/// Where the buffers of a list begin.
#[derive(Debug, Clone, Copy)]
struct Spare {
    high: *mut MaybeUninit<u16>,
    low: *mut MaybeUninit<u16>,
    full: *mut MaybeUninit<f32>,
    norms: *mut MaybeUninit<f32>,
}

// SAFETY: the pointers are used by `Write` alone, for places that only one of them has.
unsafe impl Send for Spare {}
// SAFETY: as above.
unsafe impl Sync for Spare {}

impl Spare {
    fn of(rows: &mut Rows) -> Self {
        Self {
            high: rows.high.as_mut_ptr().cast(),
            low: rows.low.as_mut_ptr().cast(),
            full: rows.full.as_mut_ptr().cast(),
            norms: rows.norms.as_mut_ptr().cast(),
        }
    }
}

/// Writes rows of values that the layout can hold to places that nobody else reads or writes,
/// from the beginning of a panel on; the rest of their last panel gets what is written where no
/// row is. There is room for them.
struct Write<'a> {
    d: usize,
    layout: Layout,
    spare: Spare,
    first: usize,
    values: &'a [f32],
}

impl WithSimd for Write<'_> {
    type Output = (Extent, Odd);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (Extent, Odd) {
        let mut bounds = Bounds::default();
        let panels = self.values.chunks(PANEL * self.d);
        for (panel, values) in (self.first / PANEL..).zip(panels) {
            self.panel(simd, panel, values, &mut bounds);
        }
        (bounds.extent(self.d), bounds.odd)
    }
}

impl Write<'_> {
    #[inline(always)]
    fn panel<S: Simd>(&self, simd: S, panel: usize, values: &[f32], bounds: &mut Bounds) {
        let (d, rows) = (self.d, values.len() / self.d);
        let full = PANEL * d;
        if self.layout.has_high() {
            let size = planes::panel_size(d);
            // SAFETY: the places of a panel that is this writer's, for which there is room.
            let high = unsafe { places(self.spare.high, panel * size, size) };
            if rows < PANEL || !d.is_multiple_of(planes::PIECE) {
                high.fill(MaybeUninit::new(0));
            }
            for (place, row) in values.chunks_exact(d).enumerate() {
                fill_high(high, place, row);
            }
        }
        match self.layout {
            Layout::Planes => {
                // SAFETY: as above.
                let low = unsafe { places(self.spare.low, panel * full, values.len()) };
                for (low, &x) in low.iter_mut().zip(values) {
                    low.write(planes::low(x));
                }
            }
            Layout::Copy => {
                // SAFETY: as above.
                let exact = unsafe { places(self.spare.full, panel * full, values.len()) };
                for (exact, &x) in exact.iter_mut().zip(values) {
                    exact.write(x);
                }
            }
            Layout::F32 => {
                // SAFETY: as above.
                let lines = unsafe { places(self.spare.full, panel * full, full) };
                for (t, line) in lines.chunks_exact_mut(PANEL).enumerate() {
                    for (place, x) in line.iter_mut().enumerate() {
                        x.write(if place < rows {
                            values[place * d + t]
                        } else {
                            0.0
                        });
                    }
                }
            }
            Layout::F16 => {
                // SAFETY: as above.
                let high = unsafe { places(self.spare.high, panel * full, full) };
                let high = zeroed(high);
                for (place, row) in values.chunks_exact(d).enumerate() {
                    half::write_f16(high, place, row);
                }
            }
            Layout::Bf16 => {}
        }
        // SAFETY: as above.
        let norms = unsafe { places(self.spare.norms, panel * PANEL, PANEL) };
        norms.fill(MaybeUninit::new(f32::INFINITY));
        for (norm, row) in norms.iter_mut().zip(values.chunks_exact(d)) {
            let length = distance::norm2(simd, row);
            norm.write(length);
            bounds.take(length, row, self.layout.has_high());
        }
    }
}

/// Bytes below which a buffer is left to small pages.
#[cfg(all(target_os = "linux", not(miri)))]
const LARGE: usize = 64 << 10;

/// Asks for large pages for a buffer in which nothing has been written yet: filling small ones for
/// the first time took 80 ms of processor time for 128 MiB, large ones 13 to 27 ms once the host had them (AMD EPYC, a virtual
/// machine, Linux 6.18). Buffers lie one after the other, so those of many lists share them.
fn large_pages<T>(buffer: &Aligned<T>) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        use rustix::{
            mm::{Advice, madvise},
            param::page_size,
        };
        let bytes = buffer.capacity() * size_of::<T>();
        if bytes < LARGE {
            return;
        }
        let page = page_size();
        let from = buffer.as_ptr().addr() / page * page;
        let to = (buffer.as_ptr().addr() + bytes).next_multiple_of(page);
        let start = buffer.as_ptr().with_addr(from).cast_mut().cast();
        // SAFETY: the advice changes nothing that a program can see of these pages, nor of what else
        // lies in the first and the last of them.
        let advised = unsafe { madvise(start, to - from, Advice::LinuxHugepage) };
        // A kernel without large pages has small ones.
        advised.ok();
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = buffer;
}

/// Some places of a buffer.
///
/// # Safety
/// They are within it, and nobody else's while the slice lives.
#[inline(always)]
unsafe fn places<'a, T>(
    buffer: *mut MaybeUninit<T>,
    from: usize,
    len: usize,
) -> &'a mut [MaybeUninit<T>] {
    // SAFETY: the caller's part.
    unsafe { slice::from_raw_parts_mut(buffer.add(from), len) }
}

/// Places that now hold zeros.
fn zeroed(places: &mut [MaybeUninit<u16>]) -> &mut [u16] {
    places.fill(MaybeUninit::new(0));
    // SAFETY: all of them were just written.
    unsafe { slice::from_raw_parts_mut(places.as_mut_ptr().cast(), places.len()) }
}

/// As [`planes::write_high`]; of a last piece that is not whole only what there is.
#[inline(always)]
fn fill_high(panel: &mut [MaybeUninit<u16>], place: usize, row: &[f32]) {
    let first = planes::at(row.len(), place, 0);
    let (pieces, rest) = row.as_chunks::<{ planes::PIECE }>();
    let mut lines = panel[first..].chunks_mut(planes::LINE);
    for (piece, line) in pieces.iter().zip(&mut lines) {
        let high = piece.map(|x| MaybeUninit::new(planes::high(x)));
        line[..planes::PIECE].copy_from_slice(&high);
    }
    if let Some(line) = lines.next() {
        for (high, &x) in line.iter_mut().zip(rest) {
            high.write(planes::high(x));
        }
    }
}

/// The largest figures of some rows.
#[derive(Default)]
struct Bounds {
    norm2: f32,
    error2: Option<f32>,
    /// See [`Extent::fraction`]; also where rounding takes something.
    fraction: bool,
    /// Of rows whose squared length leaves the range of f32.
    long: Option<f64>,
    odd: Odd,
}

impl Bounds {
    #[inline(always)]
    fn take(&mut self, norm2: f32, row: &[f32], high: bool) {
        if norm2.is_finite() {
            self.norm2 = self.norm2.max(norm2);
        } else {
            let wide = distance::reference(Metric::InnerProduct, row, row);
            self.long = Some(self.long.map_or(wide, |long| long.max(wide)));
            self.odd.nan |= row.iter().any(|x| x.is_nan());
            self.odd.infinite |= row.iter().any(|x| x.is_infinite());
        }
        if high && planes::has_low(row) {
            let error2 = planes::error2(row);
            self.error2 = Some(self.error2.map_or(error2, |most| most.max(error2)));
            self.fraction = true;
        } else {
            self.fraction = self.fraction || !bound::are_whole(row);
        }
    }

    /// What [`Extent::grow`], which never falls as its arguments rise, makes of them.
    fn extent(&self, d: usize) -> Extent {
        let mut extent = Extent::default();
        extent.grow(d, f64::from(self.norm2), self.error2, !self.fraction);
        if let Some(long) = self.long {
            extent.grow(d, long, None, !self.fraction);
        }
        extent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(d: usize, i: usize) -> impl Iterator<Item = f32> {
        (0..d).map(move |t| ((i * 31 + t) as f32 * 0.37).sin() * 90.0)
    }

    fn values(d: usize, rows: core::ops::Range<usize>) -> Vec<f32> {
        rows.flat_map(|i| value(d, i)).collect()
    }

    #[track_caller]
    fn assert_like_pushed(rows: &Rows, values: &[f32]) {
        let mut pushed = Rows::new(rows.d, rows.layout);
        values.chunks(rows.d).for_each(|row| pushed.push(row));
        assert_eq!(rows.len, pushed.len);
        assert_eq!(rows.high[..], pushed.high[..]);
        assert_eq!(rows.low[..], pushed.low[..]);
        assert_eq!(rows.full[..], pushed.full[..]);
        assert_eq!(rows.norms[..], pushed.norms[..]);
        assert_eq!(rows.extent, pushed.extent);
    }

    #[test]
    fn parts_written_in_any_order_lie_like_pushed_rows() {
        for layout in Layout::ALL {
            for (d, n, step) in [
                (1, 40, 16),
                (7, 16, 100),
                (8, 33, 20),
                (20, 64, 33),
                (33, 5, 16),
            ] {
                let all = values(d, 0..n);
                let filling = Filling::new(d, layout, n);
                let mut parts = Vec::new();
                while filling.left() > 0 {
                    assert!(filling.take(15.min(filling.left() - 1)).is_none());
                    parts.push(filling.take(step).unwrap());
                }
                assert!(filling.take(step).is_none());
                std::thread::scope(|scope| {
                    for part in parts.into_iter().rev() {
                        let own = &all[part.first() * d..][..part.rows() * d];
                        scope.spawn(move || assert_eq!(part.write(own), Odd::default()));
                    }
                });
                let mut rows = filling.finish();
                assert_like_pushed(&rows, &all);
                // and it goes on growing
                rows.push(&value(d, 500).collect::<Vec<_>>());
                rows.extend(&values(d, 700..740));
                let more = [all, values(d, 500..501), values(d, 700..740)].concat();
                assert_like_pushed(&rows, &more);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_seen() {
        for (x, nan, infinite) in [
            (f32::NAN, true, false),
            (-f32::INFINITY, false, true),
            // its square is infinite, it is not
            (f32::MAX, false, false),
        ] {
            for layout in Layout::WHOLE {
                let mut all = values(9, 0..20);
                all[150] = x;
                let filling = Filling::new(9, layout, 20);
                let part = filling.take(20).unwrap();
                assert_eq!(part.write(&all), Odd { nan, infinite });
                let rows = filling.finish();
                let mut row = [0.0; 9];
                rows.copy_row(16, &mut row);
                assert_eq!(row[6].to_bits(), x.to_bits());
            }
        }
    }

    #[test]
    #[should_panic(expected = "every row is written")]
    fn rows_that_are_missing_are_missed() {
        let filling = Filling::new(2, Layout::Planes, 40);
        filling.take(16).unwrap().write(&[1.0; 32]);
        filling.take(40).unwrap();
        filling.finish();
    }

    #[test]
    fn extents_are_those_of_pushed_rows() {
        for scale in [0.0, 1e-30, 1.0, 1e18, 3e38] {
            let mut rows = Rows::new(3, Layout::Planes);
            let mut pushed = Rows::new(3, Layout::Planes);
            let all: Vec<f32> = values(3, 0..50).iter().map(|x| x / 90.0 * scale).collect();
            rows.extend(&all);
            all.chunks(3).for_each(|row| pushed.push(row));
            assert_eq!(rows.extent, pushed.extent, "{scale}");
        }
    }
}
