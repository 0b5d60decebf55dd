//! Rows scaled to length 1, for cosine similarity.
//!
//! **Contract.** A row is divided by its length. A row of length 1 up to rounding ([`KEPT`]) keeps
//! its bits, so scaling twice is scaling once. A row without a component of at least
//! `f32::MIN_POSITIVE` counts as zero and becomes zero. A row with NaN or infinity keeps such a
//! component, whatever becomes of the others. The result of a row depends on nothing but the row.

#[cfg(feature = "cube")]
mod device;

#[cfg(feature = "cube")]
pub use device::unit_rows_on;

use rayon::prelude::*;

/// A row keeps its bits when its squared length is within this of 1.
pub const KEPT: f32 = 1.0 / (1 << 20) as f32;

/// Partial sums of a squared length.
const SUMS: usize = 8;

/// Scales every row of `rows`, row-major with `d` components, to length 1.
///
/// # Panics
/// When `d` is 0.
pub fn unit_rows(rows: &mut [f32], d: usize) {
    rows.par_chunks_exact_mut(d)
        .with_min_len(64)
        .for_each(unit_row);
}

fn unit_row(row: &mut [f32]) {
    // NaN is passed over here and stays NaN below.
    let largest = row.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
    if largest == f32::INFINITY {
        return;
    }
    if largest < f32::MIN_POSITIVE {
        for v in row.iter_mut().filter(|v| !v.is_nan()) {
            *v = 0.0;
        }
        return;
    }
    let mut sums = [0.0_f64; SUMS];
    let (whole, rest) = row.as_chunks::<SUMS>();
    for eight in whole {
        for (sum, &v) in sums.iter_mut().zip(eight) {
            *sum += f64::from(v) * f64::from(v);
        }
    }
    for (sum, &v) in sums.iter_mut().zip(rest) {
        *sum += f64::from(v) * f64::from(v);
    }
    let norm2: f64 = sums.iter().sum();
    if (norm2 - 1.0).abs() <= f64::from(KEPT) {
        return;
    }
    let inverse = 1.0 / norm2.sqrt();
    for v in row {
        *v = (f64::from(*v) * inverse) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(mut row: Vec<f32>) -> Vec<f32> {
        let d = row.len();
        unit_rows(&mut row, d);
        row
    }

    #[test]
    fn lengths_are_one_and_stay() {
        for d in [1, 2, 7, 8, 33, 300] {
            for scale in [1e-37, 1e-20, 1.0, 3e19, 1e38_f32] {
                let row: Vec<f32> = (0..d)
                    .map(|t| scale * (((t * 7 + 3) % 11 + 1) as f32 / 12.0))
                    .collect();
                let once = unit(row);
                let norm2: f64 = once.iter().map(|&v| f64::from(v).powi(2)).sum();
                assert!((norm2 - 1.0).abs() < 2e-7, "d {d} scale {scale}: {norm2}");
                assert_eq!(unit(once.clone()), once);
            }
        }
    }

    #[test]
    fn what_has_no_direction() {
        assert_eq!(unit(vec![0.0, -0.0, 1e-40]), [0.0, 0.0, 0.0]);
        assert!(unit(vec![f32::NAN, 3.0, 4.0])[0].is_nan());
        assert!(unit(vec![f32::NAN, 0.0])[0].is_nan());
        assert_eq!(unit(vec![f32::INFINITY, 1.0])[0], f32::INFINITY);
    }
}
