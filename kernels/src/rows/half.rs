//! Values of 16 bits: rounding to them, and f16 in panels.
//!
//! bf16 lies in the pieces of [`planes`](super::planes), as a filter's copy of f32 does; f16 lies in panels
//! `[d, PANEL]` like f32, which turn into those of f32 value by value.

use super::{Layout, PANEL};
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

/// The values that a layout of 16 bits keeps of these, the nearest ones, ties to even; `None` where
/// the layout keeps every f32.
pub(super) fn rounded(layout: Layout, values: &[f32]) -> Option<Vec<f32>> {
    match layout {
        Layout::F16 => Some(values.iter().map(|&x| f16::from_f32(x).to_f32()).collect()),
        Layout::Bf16 => Some(values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()),
        Layout::Planes | Layout::Copy | Layout::F32 => None,
    }
}

/// Writes a row of f16 values into its panel.
pub(super) fn write_f16(panel: &mut [u16], place: usize, row: &[f32]) {
    for (line, &x) in panel.chunks_exact_mut(PANEL).zip(row) {
        line[place] = f16::from_f32(x).to_bits();
    }
}

/// Reads the row at `place` of a panel of f16.
pub(super) fn read_f16(panel: &[u16], place: usize, out: &mut [f32]) {
    for (x, line) in out.iter_mut().zip(panel.chunks_exact(PANEL)) {
        *x = f16::from_bits(line[place]).to_f32();
    }
}

/// f16 as f32, value by value.
pub(super) fn widen_f16(values: &[u16], out: &mut [f32]) {
    values.reinterpret_cast::<f16>().convert_to_f32_slice(out);
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
            for isa in crate::simd::Isa::available() {
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
