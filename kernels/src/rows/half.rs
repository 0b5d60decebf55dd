//! Values of 16 bits: rounding to them, and f16 in panels.
//!
//! bf16 lies in the pieces of [`planes`](super::planes), as a filter's copy of f32 does; f16 lies in panels
//! `[d, PANEL]` like f32, which turn into those of f32 value by value.

use super::{Layout, PANEL};
use crate::simd::Isa;
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

/// Values converted at once on the way to or from a panel.
const CHUNK: usize = 64;

/// The values that a layout of 16 bits keeps of these, the nearest ones, ties to even; `None` where
/// the layout keeps every f32.
pub(super) fn rounded(layout: Layout, values: &[f32]) -> Option<Vec<f32>> {
    match layout {
        Layout::F16 => {
            let mut near = vec![f16::ZERO; values.len()];
            near.convert_from_f32_slice(values);
            let mut wide = vec![0.0; values.len()];
            near.convert_to_f32_slice(&mut wide);
            Some(wide)
        }
        Layout::Bf16 => Some(values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()),
        Layout::Planes | Layout::Copy | Layout::F32 => None,
    }
}

/// Writes a row of f16 values into its panel.
pub(super) fn write_f16(panel: &mut [u16], place: usize, row: &[f32]) {
    let mut near = [f16::ZERO; CHUNK];
    for (lines, row) in panel.chunks_mut(CHUNK * PANEL).zip(row.chunks(CHUNK)) {
        near[..row.len()].convert_from_f32_slice(row);
        for (line, x) in lines.chunks_exact_mut(PANEL).zip(&near[..row.len()]) {
            line[place] = x.to_bits();
        }
    }
}

/// Reads the row at `place` of a panel of f16.
pub(super) fn read_f16(panel: &[u16], place: usize, isa: Isa, out: &mut [f32]) {
    let mut bits = [0; CHUNK];
    for (out, lines) in out.chunks_mut(CHUNK).zip(panel.chunks(CHUNK * PANEL)) {
        for (bits, line) in bits.iter_mut().zip(lines.chunks_exact(PANEL)) {
            *bits = line[place];
        }
        isa.widen_f16(&bits[..out.len()], out);
    }
}

/// f16 as f32, value by value.
pub(crate) fn widen_f16(values: &[u16], out: &mut [f32]) {
    values.reinterpret_cast::<f16>().convert_to_f32_slice(out);
}

/// [`widen_f16`] with 512-bit registers.
///
/// # Safety
/// The processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn widen_f16_avx512(values: &[u16], out: &mut [f32]) {
    use core::arch::x86_64::{_mm256_loadu_si256, _mm512_cvtph_ps, _mm512_storeu_ps};
    assert_eq!(values.len(), out.len(), "room for every value");
    let (values, rest) = values.as_chunks::<16>();
    let (outs, rest_out) = out.as_chunks_mut::<16>();
    for (values, out) in values.iter().zip(outs) {
        // SAFETY: sixteen values each.
        unsafe {
            let wide = _mm512_cvtph_ps(_mm256_loadu_si256(values.as_ptr().cast()));
            _mm512_storeu_ps(out.as_mut_ptr(), wide);
        }
    }
    for (&x, out) in rest.iter().zip(rest_out) {
        *out = f16::from_bits(x).to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rows;
    use super::*;

    /// Every f16 and bf16 that is a number, and what lies between two of them.
    #[test]
    fn rows_hold_the_nearest_value() {
        let next = |bits: u16| (bits, bits + 1);
        for (layout, last, wide) in [
            (
                Layout::F16,
                f16::MAX.to_bits(),
                (|bits| f16::from_bits(bits).to_f32()) as fn(u16) -> f32,
            ),
            (Layout::Bf16, bf16::MAX.to_bits(), |bits| {
                bf16::from_bits(bits).to_f32()
            }),
        ] {
            let mut rows = Rows::new(6, layout);
            let mut expected = Vec::new();
            for (low, high) in (0..last).step_by(37).map(next) {
                let (a, b) = (wide(low), wide(high));
                // Exact in f64, and in f32 but for the smallest bf16.
                let middle = f64::midpoint(f64::from(a), f64::from(b)) as f32;
                let even = if low % 2 == 0 { a } else { b };
                let tie = middle > a && middle < b;
                let row = [a, -b, a.next_up(), b.next_down(), middle, -middle];
                rows.push(&row);
                let of = |x: f32| {
                    if !tie && a.next_up() >= b {
                        x // neighbours in f32 too
                    } else if x.abs() > middle {
                        b.copysign(x)
                    } else if x.abs() < middle {
                        a.copysign(x)
                    } else {
                        even.copysign(x)
                    }
                };
                expected.push(row.map(of));
            }
            let mut out = [0.0; 6];
            for (slot, expected) in expected.iter().enumerate() {
                rows.copy_row(slot, &mut out);
                assert_eq!(out, *expected, "{layout}, row {slot}");
            }
        }
    }

    #[test]
    fn panels_widen_to_what_rows_hold() {
        for (layout, d) in [(Layout::F16, 5), (Layout::Bf16, 5), (Layout::F16, 64)] {
            let mut rows = Rows::new(d, layout);
            let values: Vec<f32> = (0..37 * d).map(|i| (i as f32 * 0.37).sin()).collect();
            rows.extend(&values);
            for isa in Isa::available() {
                let (mut seen, mut exact) = (vec![7.0; 3 * PANEL * d], vec![7.0; 3 * PANEL * d]);
                rows.widen(0..3, isa, &mut seen);
                rows.widen_exact(0..3, isa, &mut exact);
                assert_eq!(seen, exact);
                let mut row = vec![0.0; d];
                for slot in 0..37 {
                    rows.copy_row(slot, &mut row);
                    for (t, &x) in row.iter().enumerate() {
                        assert_eq!(seen[(slot / PANEL * d + t) * PANEL + slot % PANEL], x);
                    }
                }
            }
        }
    }
}
