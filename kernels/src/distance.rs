//! The one definition of a distance, and its order of summation.
//!
//! A distance is summed in f32 with fused multiply-add in [`LANES`] partial sums: component `t`
//! goes to partial sum `t % LANES`, in order of `t`; the partial sums are then added by halves
//! (`0..8` with `8..16`, and so on). The L2 distance is always the direct difference
//! `Σ (x - q)²`, so data far from the origin lose nothing. Every kernel that returns a distance
//! follows this order, whatever the vector width, layout, thread or mode, so all of them return
//! the same bits; kernels that only rank may sum as they like, within `bound.rs`. The
//! relative error of an L2 distance is below `(d / LANES + 8)·2⁻²⁴`.

#![allow(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "registers are indexed in lockstep"
)]

use crate::Metric;
use pulp::Simd;

/// Partial sums of a distance; queries and rows are padded with zeros to a multiple of it.
pub const LANES: usize = 16;

/// Components after padding to whole [`LANES`].
pub(crate) const fn padded(d: usize) -> usize {
    d.next_multiple_of(LANES)
}

/// The key of a row: its squared L2 distance, or minus its inner product. Smaller is better.
///
/// Both vectors are padded with zeros to the same multiple of [`LANES`].
#[inline(always)]
pub(crate) fn key<S: Simd>(simd: S, metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    match metric {
        Metric::L2 => sum::<S, true>(simd, query, row),
        Metric::InnerProduct => {
            let key = 0.0 - sum::<S, false>(simd, query, row);
            if key.is_finite() {
                key
            } else {
                wide_key(query, row)
            }
        }
    }
}

/// The squared length of a vector of any length, as if padded with zeros.
#[inline(always)]
pub(crate) fn norm2<S: Simd>(simd: S, x: &[f32]) -> f32 {
    sum::<S, false>(simd, x, x)
}

#[inline(always)]
fn sum<S: Simd, const L2: bool>(simd: S, query: &[f32], row: &[f32]) -> f32 {
    match LANES / S::F32_LANES {
        1 => sum_in::<S, L2, 1>(simd, query, row),
        2 => sum_in::<S, L2, 2>(simd, query, row),
        4 => sum_in::<S, L2, 4>(simd, query, row),
        8 => sum_in::<S, L2, 8>(simd, query, row),
        _ => sum_in::<S, L2, 16>(simd, query, row),
    }
}

/// The sum in `R` registers, which are [`LANES`] partial sums.
#[inline(always)]
fn sum_in<S: Simd, const L2: bool, const R: usize>(simd: S, query: &[f32], row: &[f32]) -> f32 {
    let mut registers = [simd.splat_f32s(0.0); R];
    let mut add = |q: &[f32; LANES], x: &[f32; LANES]| {
        let (q, x) = (S::as_simd_f32s(q).0, S::as_simd_f32s(x).0);
        for r in 0..R {
            registers[r] = if L2 {
                let difference = simd.sub_f32s(x[r], q[r]);
                simd.mul_add_f32s(difference, difference, registers[r])
            } else {
                simd.mul_add_f32s(x[r], q[r], registers[r])
            };
        }
    };
    let ((query, q_rest), (row, x_rest)) = (query.as_chunks(), row.as_chunks());
    for (q, x) in query.iter().zip(row) {
        add(q, x);
    }
    if !x_rest.is_empty() {
        let (mut q, mut x) = ([0.0; LANES], [0.0; LANES]);
        q[..q_rest.len()].copy_from_slice(q_rest);
        x[..x_rest.len()].copy_from_slice(x_rest);
        add(&q, &x);
    }
    let mut sums = [0.0_f32; LANES];
    let out = S::as_mut_simd_f32s(&mut sums).0;
    for r in 0..R {
        out[r] = registers[r];
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Minus the inner product, summed in f64: for rows whose f32 sum leaves the range (`inf - inf`
/// would be NaN although the inner product is finite). The result may still round to an infinity.
#[cold]
fn wide_key(query: &[f32], row: &[f32]) -> f32 {
    (0.0 - reference(Metric::InnerProduct, query, row)) as f32
}

/// The distance of two vectors, in plain f64: what every kernel is compared with.
pub fn reference(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
    let pairs = query
        .iter()
        .zip(row)
        .map(|(&q, &x)| (f64::from(q), f64::from(x)));
    match metric {
        Metric::L2 => pairs.map(|(q, x)| (q - x) * (q - x)).sum(),
        Metric::InnerProduct => pairs.map(|(q, x)| q * x).sum(),
    }
}
