//! An f32 as two 16-bit planes.
//!
//! The high plane is the value rounded to bf16, `high = (bits + 0x8000) >> 16`; the low plane is
//! the low half of the bits. Read as signed, it undoes the rounding:
//! `bits = (high << 16) + sign_extended(low)` modulo 2³², for every bit pattern.
//!
//! High planes lie in panels of [`PANEL`] rows, cut into [`SUBPANELS`] of four rows: row `s` lies in
//! sub-panel `s % 4` at place `s / 4`. A sub-panel holds lines of 64 bytes, one for each
//! [`PIECE`] components: four rows × eight components, a row's piece contiguous. A row's high plane
//! then lies in `d / 8` cache lines (a re-rank reads few), and the four partial sums the sub-panels
//! give transpose into one register of 16 rows in order. Dimensions are padded with zeros to whole
//! pieces. Low planes lie row by row, unpadded.

use super::PANEL;
use crate::simd::Isa;

/// Sub-panels of a panel.
pub(crate) const SUBPANELS: usize = 4;
/// Components of a row in one cache line.
pub(crate) const PIECE: usize = 8;
/// Rows of a sub-panel.
const GROUP: usize = PANEL / SUBPANELS;
/// Values in a cache line.
pub(super) const LINE: usize = GROUP * PIECE;

/// The value rounded to bf16, halves away from zero.
#[inline(always)]
pub(crate) fn high(x: f32) -> u16 {
    (x.to_bits().wrapping_add(0x8000) >> 16) as u16
}

/// What [`high`] leaves.
#[inline(always)]
pub(crate) fn low(x: f32) -> u16 {
    x.to_bits() as u16
}

/// The value whose planes these are.
#[inline(always)]
pub(crate) fn join(high: u16, low: u16) -> f32 {
    let low = i32::from(low.cast_signed()).cast_unsigned();
    f32::from_bits((u32::from(high) << 16).wrapping_add(low))
}

/// A bf16 as f32.
#[inline(always)]
pub(crate) fn wide(high: u16) -> f32 {
    f32::from_bits(u32::from(high) << 16)
}

/// The value a filter sees.
#[inline(always)]
pub(crate) fn filtered(x: f32) -> f32 {
    wide(high(x))
}

/// Whether rounding changes a row at all.
#[inline(always)]
pub(crate) fn has_low(row: &[f32]) -> bool {
    row.iter().fold(0, |all, &x| all | low(x)) != 0
}

/// The squared length of what rounding takes from a row, summed in f32.
#[inline(always)]
pub(crate) fn error2(row: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut errors = [0.0_f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let lost = chunk[lane] - filtered(chunk[lane]);
            errors[lane] += lost * lost;
        }
    }
    for (error, &x) in errors.iter_mut().zip(rest) {
        let lost = x - filtered(x);
        *error += lost * lost;
    }
    errors.iter().sum()
}

/// Values in a panel.
#[inline(always)]
pub(crate) const fn panel_size(d: usize) -> usize {
    PANEL * d.next_multiple_of(PIECE)
}

/// Where component `t` of the row at `place` lies in its panel.
#[inline(always)]
pub(crate) const fn at(d: usize, place: usize, t: usize) -> usize {
    let steps = d.div_ceil(PIECE);
    ((place % SUBPANELS) * steps + t / PIECE) * LINE + (place / SUBPANELS) * PIECE + t % PIECE
}

/// Writes a row's high plane into its panel.
#[inline(always)]
pub(crate) fn write_high(panel: &mut [u16], place: usize, row: &[f32]) {
    let d = row.len();
    for (step, piece) in row.chunks(PIECE).enumerate() {
        let out = &mut panel[at(d, place, step * PIECE)..][..PIECE];
        for (out, &x) in out.iter_mut().zip(piece) {
            *out = high(x);
        }
    }
}

/// Where the pieces of the high plane of row `row` of many panels lie.
#[inline(always)]
fn pieces(d: usize, row: usize) -> impl Iterator<Item = usize> {
    let first = row / PANEL * panel_size(d) + at(d, row % PANEL, 0);
    (0..d.div_ceil(PIECE)).map(move |step| first + step * LINE)
}

/// Copies a row's high plane to another place of the same panels.
pub(crate) fn move_high(panels: &mut [u16], d: usize, from: usize, to: usize) {
    for (from, to) in pieces(d, from).zip(pieces(d, to)) {
        panels.copy_within(from..from + PIECE, to);
    }
}

/// Copies the high plane of row `from` of other panels to row `to`.
pub(crate) fn take_high(panels: &mut [u16], d: usize, to: usize, other: &[u16], from: usize) {
    for (from, to) in pieces(d, from).zip(pieces(d, to)) {
        panels[to..to + PIECE].copy_from_slice(&other[from..from + PIECE]);
    }
}

/// Zeroes a row's high plane.
pub(crate) fn clear_high(panels: &mut [u16], d: usize, row: usize) {
    for at in pieces(d, row) {
        panels[at..at + PIECE].fill(0);
    }
}

/// Puts a row together again from its panel and its low plane.
#[inline(always)]
pub(crate) fn read_row(panel: &[u16], place: usize, low: &[u16], out: &mut [f32]) {
    let d = out.len();
    let (outs, tail) = out.as_chunks_mut::<PIECE>();
    let (lows, low_tail) = low.as_chunks::<PIECE>();
    let from = at(d, place, 0);
    let pieces = panel[from..].chunks(LINE);
    for ((out, low), high) in outs.iter_mut().zip(lows).zip(pieces) {
        for (t, out) in out.iter_mut().enumerate() {
            *out = join(high[t], low[t]);
        }
    }
    if !tail.is_empty() {
        let high = &panel[from + outs.len() * LINE..];
        for ((out, &low), &high) in tail.iter_mut().zip(low_tail).zip(high) {
            *out = join(high, low);
        }
    }
}

/// Reads a row's high plane alone.
#[inline(always)]
pub(crate) fn read_high(panel: &[u16], place: usize, out: &mut [f32]) {
    let from = at(out.len(), place, 0);
    for (out, high) in out.chunks_mut(PIECE).zip(panel[from..].chunks(LINE)) {
        for (out, &high) in out.iter_mut().zip(high) {
            *out = wide(high);
        }
    }
}

/// [`read_row`] with 256-bit registers.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn read_row_avx2(panel: &[u16], place: usize, low: &[u16], out: &mut [f32]) {
    use core::arch::x86_64::{
        _mm_loadu_si128, _mm256_add_epi32, _mm256_castsi256_ps, _mm256_cvtepi16_epi32,
        _mm256_cvtepu16_epi32, _mm256_slli_epi32, _mm256_storeu_ps,
    };
    let whole = out.len() / PIECE;
    let from = at(out.len(), place, 0);
    assert_eq!(out.len(), low.len(), "a low half for every component");
    assert!(
        whole == 0 || panel.len() >= from + (whole - 1) * LINE + PIECE,
        "a whole row"
    );
    for piece in 0..whole {
        // SAFETY: eight values each, within the slices as asserted above.
        unsafe {
            let high = _mm_loadu_si128(panel.as_ptr().add(from + piece * LINE).cast());
            let low = _mm_loadu_si128(low.as_ptr().add(piece * PIECE).cast());
            let high = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(high));
            let joined = _mm256_add_epi32(high, _mm256_cvtepi16_epi32(low));
            let out = out.as_mut_ptr().add(piece * PIECE);
            _mm256_storeu_ps(out, _mm256_castsi256_ps(joined));
        }
    }
    let rest = whole * PIECE..out.len();
    if !rest.is_empty() {
        let high = &panel[from + whole * LINE..];
        for ((out, &low), &high) in out[rest.clone()].iter_mut().zip(&low[rest]).zip(high) {
            *out = join(high, low);
        }
    }
}

/// Writes a panel of high planes as f32, `[d, PANEL]`.
pub(crate) fn widen(panel: &[u16], d: usize, isa: Isa, out: &mut [f32]) {
    assert_eq!(panel.len(), panel_size(d), "a whole panel");
    assert_eq!(out.len(), PANEL * d, "room for a panel");
    let steps = d.div_ceil(PIECE);
    let mut last = [0.0; PIECE * PANEL];
    let (whole, rest) = out.as_chunks_mut::<{ PIECE * PANEL }>();
    for (step, out) in whole.iter_mut().enumerate() {
        isa.widen(panel, steps, step, out);
    }
    if !rest.is_empty() {
        isa.widen(panel, steps, steps - 1, &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Step `step` of `steps` of [`widen`]: eight components of all rows.
#[inline(always)]
pub(crate) fn widen_step(panel: &[u16], steps: usize, step: usize, out: &mut [f32; PIECE * PANEL]) {
    let (lines, _) = panel.as_chunks::<LINE>();
    for sub in 0..SUBPANELS {
        let line = &lines[sub * steps + step];
        for (t, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            for group in 0..GROUP {
                out[group * SUBPANELS + sub] = wide(line[group * PIECE + t]);
            }
        }
    }
}

/// [`widen_step`] with 256-bit registers.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn widen_step_avx2(
    panel: &[u16],
    steps: usize,
    step: usize,
    out: &mut [f32; PIECE * PANEL],
) {
    use core::arch::x86_64::{
        _mm256_castsi256_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_unpackhi_epi16,
        _mm256_unpacklo_epi16,
    };
    let zero = _mm256_setzero_si256();
    for half in 0..2 {
        let pairs = transposed_avx2(panel, steps, step, half);
        for (i, pair) in pairs.into_iter().enumerate() {
            let even = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, pair));
            let odd = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, pair));
            let at = 2 * i * PANEL + half * PANEL / 2;
            // SAFETY: each store writes eight values, half a line of 16, within `out`.
            unsafe {
                _mm256_storeu_ps(out[at..at + 8].as_mut_ptr(), even);
                _mm256_storeu_ps(out[at + PANEL..at + PANEL + 8].as_mut_ptr(), odd);
            }
        }
    }
}

/// The eight components of piece `step` of `steps` of half the rows of a panel: of four pairs of
/// components each the eight values of either, in the lower and upper halves of both lanes.
///
/// Rows `s % 4` of a group of four lie in four lines; two rounds of interleaving bring the four
/// values of one component side by side, so that a third with zeros makes them f32.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transposed_avx2(
    panel: &[u16],
    steps: usize,
    step: usize,
    half: usize,
) -> [core::arch::x86_64::__m256i; 4] {
    use core::arch::x86_64::{
        _mm256_loadu_si256, _mm256_unpackhi_epi16, _mm256_unpackhi_epi32, _mm256_unpacklo_epi16,
        _mm256_unpacklo_epi32,
    };
    let (lines, _) = panel.as_chunks::<LINE>();
    let line = |sub: usize| {
        let line = &lines[sub * steps + step];
        // SAFETY: half a line is the 32 bytes of a register.
        unsafe { _mm256_loadu_si256(line[half * LINE / 2..].as_ptr().cast()) }
    };
    let (a, b, c, d) = (line(0), line(1), line(2), line(3));
    let (ab, cd) = (_mm256_unpacklo_epi16(a, b), _mm256_unpacklo_epi16(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi16(a, b), _mm256_unpackhi_epi16(c, d));
    [
        _mm256_unpacklo_epi32(ab, cd),
        _mm256_unpackhi_epi32(ab, cd),
        _mm256_unpacklo_epi32(ab_high, cd_high),
        _mm256_unpackhi_epi32(ab_high, cd_high),
    ]
}

/// [`widen_step`] with 512-bit registers: as [`transposed_avx2`], both halves at once.
///
/// # Safety
/// The processor has AVX-512F and AVX-512BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn widen_step_avx512(
    panel: &[u16],
    steps: usize,
    step: usize,
    out: &mut [f32; PIECE * PANEL],
) {
    use core::arch::x86_64::{
        _mm512_castsi512_ps, _mm512_loadu_si512, _mm512_setzero_si512, _mm512_storeu_ps,
        _mm512_unpackhi_epi16, _mm512_unpackhi_epi32, _mm512_unpacklo_epi16, _mm512_unpacklo_epi32,
    };
    let (lines, _) = panel.as_chunks::<LINE>();
    let zero = _mm512_setzero_si512();
    // SAFETY: a line is the 64 bytes of a register.
    let line =
        |sub: usize| unsafe { _mm512_loadu_si512(lines[sub * steps + step].as_ptr().cast()) };
    let (a, b, c, d) = (line(0), line(1), line(2), line(3));
    let (ab, cd) = (_mm512_unpacklo_epi16(a, b), _mm512_unpacklo_epi16(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi16(a, b), _mm512_unpackhi_epi16(c, d));
    let pairs = [
        _mm512_unpacklo_epi32(ab, cd),
        _mm512_unpackhi_epi32(ab, cd),
        _mm512_unpacklo_epi32(ab_high, cd_high),
        _mm512_unpackhi_epi32(ab_high, cd_high),
    ];
    for (i, pair) in pairs.into_iter().enumerate() {
        let even = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, pair));
        let odd = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, pair));
        let at = 2 * i * PANEL;
        // SAFETY: each store writes one line of 16 values within `out`.
        unsafe {
            _mm512_storeu_ps(out[at..at + PANEL].as_mut_ptr(), even);
            _mm512_storeu_ps(out[at + PANEL..at + 2 * PANEL].as_mut_ptr(), odd);
        }
    }
}
