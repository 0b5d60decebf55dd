//! The one definition of a distance, and its order of summation.
//!
//! A distance is summed in f32 with fused multiply-add in [`LANES`] partial sums: component `t`
//! goes to partial sum `t % LANES`, in order of `t`; the partial sums are then added by halves
//! (`0..8` with `8..16`, and so on). The L2 distance is always the direct difference
//! `Σ (x - q)²`, so data far from the origin lose nothing. Every kernel that returns a distance
//! follows this order, whatever the vector width, layout, thread or mode, so all of them return
//! the same bits; kernels that only rank may sum as they like, within [`crate::bound`]. The
//! relative error of an L2 distance is below `(d / LANES + 8)·2⁻²⁴`.

use crate::Metric;

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
pub(crate) fn key(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    match metric {
        Metric::L2 => sum(query, row, |q, x, sum| (x - q).mul_add(x - q, sum)),
        Metric::InnerProduct => {
            let key = 0.0 - sum(query, row, |q, x, sum| x.mul_add(q, sum));
            if key.is_finite() {
                key
            } else {
                wide_key(query, row)
            }
        }
    }
}

/// The squared length of a vector padded to a multiple of [`LANES`].
#[inline(always)]
pub(crate) fn norm2(x: &[f32]) -> f32 {
    sum(x, x, |_, x, sum| x.mul_add(x, sum))
}

#[inline(always)]
fn sum(query: &[f32], row: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (query, row) = (query.as_chunks::<LANES>().0, row.as_chunks::<LANES>().0);
    for (q, x) in query.iter().zip(row) {
        for lane in 0..LANES {
            sums[lane] = term(q[lane], x[lane], sums[lane]);
        }
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
