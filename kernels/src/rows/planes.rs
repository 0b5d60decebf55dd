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

/// Sub-panels of a panel.
pub(crate) const SUBPANELS: usize = 4;
/// Components of a row in one cache line.
pub(crate) const PIECE: usize = 8;
/// Rows of a sub-panel.
const GROUP: usize = PANEL / SUBPANELS;
/// Values in a cache line.
const LINE: usize = GROUP * PIECE;

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

/// Writes a panel of high planes as f32, `[d, PANEL]`.
#[inline(always)]
pub(crate) fn widen(panel: &[u16], d: usize, out: &mut [f32]) {
    let steps = d.div_ceil(PIECE);
    let (subpanels, _) = panel.as_chunks::<LINE>();
    for (step, out) in out.chunks_mut(PIECE * PANEL).enumerate() {
        for sub in 0..SUBPANELS {
            let line = &subpanels[sub * steps + step];
            for (t, out) in out.chunks_exact_mut(PANEL).enumerate() {
                for group in 0..GROUP {
                    out[group * SUBPANELS + sub] = wide(line[group * PIECE + t]);
                }
            }
        }
    }
}
