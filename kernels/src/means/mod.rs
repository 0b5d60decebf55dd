//! Sums of chosen rows, for the update step of k-means.
//!
//! On the CPU in f64, row after row; on a GPU (`means_on`) in f32, in pieces of a fixed length and
//! a fixed order, each row already divided by the weight of its group, so that no sum leaves the range
//! and every run gives the same bits.

#[cfg(feature = "cube")]
mod device;

#[cfg(feature = "cube")]
pub use device::means_on;

use crate::simd::Isa;
use pulp::{Simd, WithSimd};

/// Adds rows to `sum` in f64, one after the other, and returns their weight: `members` are places
/// in `rows`, row-major `[n, sum.len()]`; `weights` has one weight a row, 1 if there is none.
///
/// # Panics
/// When a member does not exist.
pub fn add_rows(
    rows: &[f32],
    weights: Option<&[f32]>,
    members: &[u32],
    sum: &mut [f64],
    isa: Isa,
) -> f64 {
    isa.run(AddRows {
        rows,
        weights,
        members,
        sum,
    })
}

struct AddRows<'a> {
    rows: &'a [f32],
    weights: Option<&'a [f32]>,
    members: &'a [u32],
    sum: &'a mut [f64],
}

impl WithSimd for AddRows<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let d = self.sum.len();
        let mut total = 0.0;
        for &member in self.members {
            let row = &self.rows[member as usize * d..][..d];
            match self.weights {
                None => {
                    total += 1.0;
                    for (sum, &v) in self.sum.iter_mut().zip(row) {
                        *sum += f64::from(v);
                    }
                }
                Some(weights) => {
                    let weight = f64::from(weights[member as usize]);
                    total += weight;
                    for (sum, &v) in self.sum.iter_mut().zip(row) {
                        *sum += weight * f64::from(v);
                    }
                }
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_sums_the_same() {
        let d = 37;
        let rows: Vec<f32> = (0..40 * d).map(|i| (i as f32).sin() * 1e3).collect();
        let weights: Vec<f32> = (0..40).map(|i| i as f32 * 0.25).collect();
        let members = [3_u32, 3, 39, 0, 17];
        for weights in [None, Some(&weights[..])] {
            let mut expected = vec![1.0_f64; d];
            let mut weight = 0.0;
            for &m in &members {
                let w = weights.map_or(1.0, |w| f64::from(w[m as usize]));
                weight += w;
                for t in 0..d {
                    expected[t] += w * f64::from(rows[m as usize * d + t]);
                }
            }
            for isa in Isa::available() {
                let mut sum = vec![1.0; d];
                assert_eq!(add_rows(&rows, weights, &members, &mut sum, isa), weight);
                assert_eq!(sum, expected, "{}", isa.name());
            }
        }
    }
}
