//! How the vectors of a list are stored: five layouts, one interface.
//!
//! Rows keep the order in which they were pushed and come back bit for bit, from the 16-bit layouts
//! as the nearest value of their type. What a filter reads
//! lies in panels of [`PANEL`] rows, arranged so that a register holds components of several rows;
//! what the exact re-rank reads lies row by row.
//!
//! | [`Layout`] | filter | exact values | bytes a component |
//! |---|---|---|---|
//! | `Planes` | high 16 bits, rounded to bf16 (`planes.rs`) | high and low 16 bits | 4 |
//! | `Copy` | high 16 bits, rounded to bf16 | a row of f32 | 6 |
//! | `F32` | f32 panels, component by component | the same | 4 |
//! | `Bf16` | bf16, as the high 16 bits above | the same | 2 |
//! | `F16` | f16 panels, component by component | the same | 2 |
//!
//! Where a filter multiplies integers (AVX2), it rounds any of them to whole steps of 16 bits first (`int16.rs`).
//!
//! Beside the components a list holds the squared length of every row and, over all its rows, the
//! largest length and the largest rounding error of the filter (`bound.rs`).

#[cfg(feature = "cube")]
pub(crate) mod copy;
#[cfg(feature = "cube")]
pub mod device;
mod fill;
pub(crate) mod half;
pub(crate) mod int16;
mod moving;
pub(crate) mod planes;
#[cfg(test)]
mod tests;

pub use fill::{Filling, Odd, Part};
pub use moving::{first_clear, places};

#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
use crate::{
    KernelError,
    bound::{self, Extent},
    distance,
    simd::Isa,
};
use aligned_vec::{AVec, ConstAlign};
use core::{fmt, ops::Range};
use planes::{PIECE, SUBPANELS};
use pulp::{Simd, WithSimd};

/// Rows per panel: one AVX-512 register of f32.
pub const PANEL: usize = 16;

/// How a list stores its vectors. Answers do not depend on it but for what 16 bits cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// Every f32 once, as two 16-bit planes; searches read the high one and a few rows of the low
    /// one.
    #[default]
    Planes,
    /// f32 rows and a bf16 copy that searches read first: half as much memory again, a quicker
    /// re-rank.
    Copy,
    /// f32 only: no padding of the dimension, for few components or exact filters.
    F32,
    /// The nearest f16 (ties to even), infinite from 65520 on.
    F16,
    /// The nearest bf16 (ties to even).
    Bf16,
}

impl Layout {
    /// The layouts that keep every f32.
    pub const WHOLE: [Self; 3] = [Self::Planes, Self::Copy, Self::F32];
    /// Every layout.
    pub const ALL: [Self; 5] = [Self::Planes, Self::Copy, Self::F32, Self::F16, Self::Bf16];

    /// Its name: `"planes"`, `"copy"`, `"f32"`, `"f16"` or `"bf16"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planes => "planes",
            Self::Copy => "copy",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The layout for vectors of `d` components: `Planes`, unless padding `d` to whole pieces and
    /// the squared lengths would take more than 8 % beyond the values.
    pub const fn for_dimension(d: usize) -> Self {
        let values = d * size_of::<f32>();
        let padding = (d.next_multiple_of(PIECE) - d) * size_of::<u16>();
        if (padding + size_of::<f32>()) * 100 <= 8 * values {
            Self::Planes
        } else {
            Self::F32
        }
    }

    /// Whether filters read bf16 pieces, as [`planes`] lays them out.
    pub(crate) const fn has_high(self) -> bool {
        !matches!(self, Self::F32 | Self::F16)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

type Aligned<T> = AVec<T, ConstAlign<64>>;

/// A growable list of `f32` vectors.
#[derive(Debug, Clone)]
pub struct Rows {
    d: usize,
    len: usize,
    layout: Layout,
    /// High planes of whole panels, as [`planes`] lays them out (`Planes`, `Copy`, `Bf16`), or panels of
    /// f16 `[len.div_ceil(PANEL), d, PANEL]` (`F16`).
    high: Aligned<u16>,
    /// Low planes, `[len, d]` (`Planes`).
    low: Aligned<u16>,
    /// Rows `[len, d]` (`Copy`), or panels `[len.div_ceil(PANEL), d, PANEL]` (`F32`).
    full: Aligned<f32>,
    /// Squared lengths of whole panels, infinite where there is no row.
    norms: Aligned<f32>,
    extent: Extent,
}

impl Rows {
    /// An empty list of vectors of `d` components.
    pub fn new(d: usize, layout: Layout) -> Self {
        Self {
            d,
            len: 0,
            layout,
            high: AVec::new(64),
            low: AVec::new(64),
            full: AVec::new(64),
            norms: AVec::new(64),
            extent: Extent::default(),
        }
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Vectors held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no vector is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How they are stored.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Panels held, the last perhaps in part.
    pub(crate) fn panels(&self) -> usize {
        self.len.div_ceil(PANEL)
    }

    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }

    /// Squared lengths of the rows of some panels.
    pub(crate) fn norms(&self, panels: Range<usize>) -> &[f32] {
        &self.norms[panels.start * PANEL..panels.end * PANEL]
    }

    /// 16-bit values of a panel.
    fn high_size(&self) -> usize {
        match self.layout {
            Layout::F32 => 0,
            Layout::F16 => PANEL * self.d,
            Layout::Planes | Layout::Copy | Layout::Bf16 => planes::panel_size(self.d),
        }
    }

    /// High planes (f16 panels) of some panels (not `F32`).
    pub(crate) fn high(&self, panels: Range<usize>) -> &[u16] {
        let size = self.high_size();
        &self.high[panels.start * size..panels.end * size]
    }

    /// f32 panels (`F32` only).
    pub(crate) fn f32_panels(&self, panels: Range<usize>) -> &[f32] {
        let size = PANEL * self.d;
        &self.full[panels.start * size..panels.end * size]
    }

    /// Bytes a filter reads of one panel.
    pub(crate) fn panel_bytes(&self) -> usize {
        match self.layout {
            Layout::F32 => PANEL * self.d * size_of::<f32>(),
            _ => self.high_size() * size_of::<u16>(),
        }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        (self.high.capacity() + self.low.capacity()) * size_of::<u16>()
            + (self.full.capacity() + self.norms.capacity()) * size_of::<f32>()
    }

    /// Makes room for `additional` more vectors: exactly, when the list is empty; otherwise the
    /// allocations grow by at least an eighth, so that many small appends stay linear in all.
    pub fn reserve(&mut self, additional: usize) {
        let [high, low, full, norms] = self.needed(self.len + additional);
        grow(&mut self.high, high);
        grow(&mut self.low, low);
        grow(&mut self.full, full);
        grow(&mut self.norms, norms);
    }

    /// [`reserve`](Self::reserve) for a number that no vectors stand behind yet.
    ///
    /// # Errors
    /// When there is not so much memory; the list is as it was, but for room.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), KernelError> {
        let [high, low, full, norms] = self.needed(self.len.saturating_add(additional));
        try_grow(&mut self.high, high)?;
        try_grow(&mut self.low, low)?;
        try_grow(&mut self.full, full)?;
        try_grow(&mut self.norms, norms)
    }

    /// Elements of `high`, `low`, `full` and `norms` for so many rows.
    fn needed(&self, rows: usize) -> [usize; 4] {
        let panels = rows.div_ceil(PANEL);
        let padded = panels.saturating_mul(PANEL);
        let (exact, d) = (rows.saturating_mul(self.d), self.d);
        let (low, full) = match self.layout {
            Layout::Planes => (exact, 0),
            Layout::Copy => (0, exact),
            Layout::F32 => (0, padded.saturating_mul(d)),
            Layout::F16 | Layout::Bf16 => (0, 0),
        };
        [panels.saturating_mul(self.high_size()), low, full, padded]
    }

    /// Appends one vector of `d` components, finite as stored; NaN is legal in a list that no scan reads, only
    /// [`copy_row`](Self::copy_row).
    ///
    /// # Panics
    /// When `row` does not have `d` components, or the list holds 2³² - 2 rows already.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.d, "a row must have d components");
        assert!(self.len < u32::MAX as usize - 1, "a list is full");
        let rounded = half::rounded(self.layout, row);
        let row = rounded.as_deref().unwrap_or(row);
        debug_assert!(row.iter().all(|v| !v.is_infinite()), "rows are finite");
        Isa::detect().run(Push { rows: self, row });
    }

    /// Appends vectors, row-major `[n, d]`, of components that are finite as stored (NaN as in
    /// [`push`](Self::push)).
    ///
    /// # Panics
    /// When `rows` does not hold whole vectors, or the list would hold 2³² - 1 rows.
    pub fn extend(&mut self, rows: &[f32]) {
        assert!(rows.len().is_multiple_of(self.d), "rows are whole");
        let n = rows.len() / self.d;
        assert!(n < u32::MAX as usize - self.len, "a list is full");
        let rounded = half::rounded(self.layout, rows);
        let rows = rounded.as_deref().unwrap_or(rows);
        debug_assert!(rows.iter().all(|v| !v.is_infinite()), "rows are finite");
        self.reserve(n);
        // To the end of the panel one by one, then panel by panel.
        let head = (self.len.next_multiple_of(PANEL) - self.len).min(n);
        let (head, rest) = rows.split_at(head * self.d);
        for row in head.chunks_exact(self.d) {
            Isa::detect().run(Push { rows: self, row });
        }
        if !rest.is_empty() {
            self.append_panels(rest);
        }
    }

    /// Appends a row of values that the layout can hold.
    #[inline(always)]
    fn push_row<S: Simd>(&mut self, simd: S, row: &[f32]) {
        let (panel, place) = (self.len / PANEL, self.len % PANEL);
        self.reserve(1);
        if place == 0 {
            self.norms.resize((panel + 1) * PANEL, f32::INFINITY);
            self.high.resize((panel + 1) * self.high_size(), 0);
            if self.layout == Layout::F32 {
                self.full.resize((panel + 1) * PANEL * self.d, 0.0);
            }
        }
        let mut error2 = None;
        if self.layout.has_high() {
            let size = planes::panel_size(self.d);
            planes::write_high(&mut self.high[panel * size..], place, row);
            error2 = planes::has_low(row).then(|| planes::error2(row));
        }
        match self.layout {
            Layout::Planes => {
                self.low.resize((self.len + 1) * self.d, 0);
                let low = &mut self.low[self.len * self.d..];
                low.iter_mut()
                    .zip(row)
                    .for_each(|(low, &x)| *low = planes::low(x));
            }
            Layout::Copy => self.full.extend_from_slice(row),
            Layout::F32 => {
                let lines = self.full[panel * PANEL * self.d..].chunks_exact_mut(PANEL);
                for (line, &value) in lines.zip(row) {
                    line[place] = value;
                }
            }
            Layout::F16 => half::write_f16(&mut self.high[panel * PANEL * self.d..], place, row),
            Layout::Bf16 => {}
        }
        let norm2 = distance::norm2(simd, row);
        self.norms[self.len] = norm2;
        let wide = if norm2.is_finite() {
            f64::from(norm2)
        } else {
            distance::reference(crate::Metric::InnerProduct, row, row)
        };
        let whole = error2.is_none() && bound::are_whole(row);
        self.extent.grow(self.d, wide, error2, whole);
        self.len += 1;
    }

    /// Row `slot` where it lies, if it lies there as it is and needs no padding.
    #[inline(always)]
    pub(crate) fn row(&self, slot: usize) -> Option<&[f32]> {
        let whole = self.layout == Layout::Copy && self.d.is_multiple_of(distance::LANES);
        whole.then(|| &self.full[slot * self.d..][..self.d])
    }

    /// Copies row `slot` into the first `d` places of `out`.
    ///
    /// # Panics
    /// When there is no such row, or `out` is shorter than `d`.
    pub fn copy_row(&self, slot: usize, out: &mut [f32]) {
        self.read_row(slot, Isa::detect(), out);
    }

    /// Copies rows `range` to `out`, row-major `[range.len(), d]`.
    ///
    /// # Panics
    /// When there are no such rows, or `out` has another length.
    pub fn copy_rows(&self, range: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), range.len() * self.d, "room for every row");
        let isa = Isa::detect();
        for (slot, out) in range.zip(out.chunks_exact_mut(self.d)) {
            self.read_row(slot, isa, out);
        }
    }

    /// [`copy_row`](Self::copy_row) by the instructions at hand.
    #[inline(always)]
    pub(crate) fn read_row(&self, slot: usize, isa: Isa, out: &mut [f32]) {
        assert!(slot < self.len, "row {slot} of a list of {}", self.len);
        let out = &mut out[..self.d];
        match self.layout {
            Layout::Planes => {
                let size = planes::panel_size(self.d);
                let high = &self.high[(slot / PANEL) * size..][..size];
                let low = &self.low[slot * self.d..][..self.d];
                isa.read_row(high, slot % PANEL, low, out);
            }
            Layout::Copy => out.copy_from_slice(&self.full[slot * self.d..][..self.d]),
            Layout::F32 => {
                let panel = self.f32_panels(slot / PANEL..slot / PANEL + 1);
                for (value, line) in out.iter_mut().zip(panel.chunks_exact(PANEL)) {
                    *value = line[slot % PANEL];
                }
            }
            Layout::F16 => {
                let panel = self.high(slot / PANEL..slot / PANEL + 1);
                half::read_f16(panel, slot % PANEL, isa, out);
            }
            Layout::Bf16 => {
                let panel = self.high(slot / PANEL..slot / PANEL + 1);
                planes::read_high(panel, slot % PANEL, out);
            }
        }
    }

    /// How many rows ahead [`prefetch_row`](Self::prefetch_row) is worth asking: some 200 lines.
    #[inline(always)]
    pub(crate) fn rows_ahead(&self) -> usize {
        match self.layout {
            Layout::F32 => (128 / self.d).max(1),
            Layout::F16 => (256 / self.d).max(1),
            // A row has an eighth and (planes) a thirty-second of its components in lines.
            Layout::Planes | Layout::Bf16 => (1600 / self.d).clamp(4, 8),
            Layout::Copy => 8,
        }
    }

    /// Asks for the cache lines [`copy_row`](Self::copy_row) will read.
    #[inline(always)]
    pub(crate) fn prefetch_row(&self, slot: usize) {
        match self.layout {
            Layout::Planes | Layout::Bf16 => {
                let steps = self.d.div_ceil(PIECE);
                let size = planes::panel_size(self.d);
                let at = (slot / PANEL) * size + (slot % SUBPANELS) * (size / SUBPANELS);
                prefetch(&self.high[at..], steps);
                if self.layout == Layout::Planes {
                    let lines = (self.d * size_of::<u16>()).div_ceil(64) + 1;
                    prefetch(&self.low[slot * self.d..], lines);
                }
            }
            Layout::Copy => {
                let lines = (self.d * size_of::<f32>()).div_ceil(64) + 1;
                prefetch(&self.full[slot * self.d..], lines);
            }
            // A row touches every line of its panel.
            Layout::F32 => prefetch(self.f32_panels(slot / PANEL..slot / PANEL + 1), self.d),
            Layout::F16 => prefetch(
                self.high(slot / PANEL..slot / PANEL + 1),
                self.d.div_ceil(2),
            ),
        }
    }

    /// Writes panels as f32 `[panels, d, PANEL]`, as the filter sees them; not for `F32`.
    #[inline(always)]
    pub(crate) fn widen(&self, panels: Range<usize>, isa: Isa, out: &mut [f32]) {
        if self.layout == Layout::F16 {
            isa.widen_f16(self.high(panels), out);
            return;
        }
        let size = planes::panel_size(self.d);
        for (panel, out) in panels.zip(out.chunks_exact_mut(PANEL * self.d)) {
            planes::widen(&self.high[panel * size..][..size], self.d, isa, out);
        }
    }

    /// Writes panels as integers (see [`int16`]), as a filter sees them, and returns their step. `wide` is
    /// scratch.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn round(
        &self,
        panels: Range<usize>,
        isa: Isa,
        _: Avx2,
        wide: &mut AVec<f32, ConstAlign<64>>,
        out: &mut [u16],
    ) -> f32 {
        let (d, longest, whole) = (self.d, self.extent.seen(), self.extent.is_whole());
        let steps = int16::steps(longest, whole);
        for (panel, out) in panels.zip(out.chunks_exact_mut(int16::panel_size(d))) {
            let panel = panel..panel + 1;
            if self.layout == Layout::F16 {
                wide.resize(PANEL * d, 0.0);
                isa.widen_f16(self.high(panel.clone()), wide);
            }
            // SAFETY: the proof says that the processor has AVX2.
            unsafe {
                match self.layout {
                    Layout::Planes | Layout::Copy | Layout::Bf16 => {
                        int16::round_high_avx2(self.high(panel), d, steps, out);
                    }
                    Layout::F32 => {
                        int16::round_full_avx2(self.f32_panels(panel), d, steps, out);
                    }
                    Layout::F16 => int16::round_full_avx2(wide, d, steps, out),
                }
            }
        }
        int16::step(longest, whole)
    }

    /// Writes panels as f32 `[panels, d, PANEL]`, with the exact values.
    #[inline(always)]
    pub(crate) fn widen_exact(&self, panels: Range<usize>, isa: Isa, out: &mut [f32]) {
        if matches!(self.layout, Layout::F16 | Layout::Bf16) {
            self.widen(panels, isa, out);
            return;
        }
        let mut row = vec![0.0; self.d];
        for (panel, out) in panels.zip(out.chunks_exact_mut(PANEL * self.d)) {
            out.fill(0.0);
            for place in 0..PANEL.min(self.len - panel * PANEL) {
                self.copy_row(panel * PANEL + place, &mut row);
                for (line, &value) in out.chunks_exact_mut(PANEL).zip(&row) {
                    line[place] = value;
                }
            }
        }
    }
}

/// A push compiled for an instruction set.
struct Push<'a> {
    rows: &'a mut Rows,
    row: &'a [f32],
}

impl WithSimd for Push<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.rows.push_row(simd, self.row);
    }
}

/// [`grow`], unless there is no memory for it.
fn try_grow<T: Clone>(data: &mut Aligned<T>, needed: usize) -> Result<(), KernelError> {
    if needed <= data.capacity() {
        return Ok(());
    }
    let refused = |_| KernelError::Memory {
        what: "room for vectors",
        bytes: needed.saturating_mul(size_of::<T>()),
    };
    data.try_reserve_exact(needed - data.len()).map_err(refused)
}

/// Makes room for `needed` elements in all.
fn grow<T: Clone>(data: &mut Aligned<T>, needed: usize) {
    if needed > data.capacity() {
        let grown = data.capacity() + data.capacity() / 8;
        data.reserve_exact(needed.max(grown) - data.len());
    }
}

/// Asks for the first `lines` cache lines of a slice (which may end earlier).
#[inline(always)]
fn prefetch<T>(data: &[T], lines: usize) {
    let step = 64 / size_of::<T>();
    for line in data.chunks(step).take(lines) {
        crate::simd::prefetch(line.as_ptr());
    }
}
