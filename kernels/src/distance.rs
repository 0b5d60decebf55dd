//! The one definition of a distance, and its order of summation.
//!
//! A distance is summed in f32 with fused multiply-add, in blocks of [`BLOCK`] components: inside
//! a block one component after the other, then block sums one after the other. The L2 distance is
//! always the direct difference `Σ (x - q)²`, so data far from the origin lose nothing. Every
//! kernel follows this order, whatever the vector width, thread or mode, so all of them return
//! the same bits. The relative error of an L2 distance is below `(BLOCK + d / BLOCK + 3)·2⁻²⁴`,
//! typically 1e-7 (a single running sum loses ten times that at d = 1536).

use crate::{Metric, panels::PANEL};

/// Components summed before their sum is added to the total.
pub const BLOCK: usize = 32;

/// Key of one row of a panel: the squared L2 distance, or minus the inner product.
///
/// `panel` is `[d, PANEL]`, `lane` the row's place in it. Smaller is better.
#[inline(always)]
pub(crate) fn panel_key(metric: Metric, query: &[f32], panel: &[f32], lane: usize) -> f32 {
    let mut total = 0.0_f32;
    for (q, lines) in query.chunks(BLOCK).zip(panel.chunks(BLOCK * PANEL)) {
        let mut sum = 0.0_f32;
        for (&q, line) in q.iter().zip(lines.chunks_exact(PANEL)) {
            let x = line[lane];
            sum = match metric {
                Metric::L2 => (x - q).mul_add(x - q, sum),
                Metric::InnerProduct => x.mul_add(q, sum),
            };
        }
        total += sum;
    }
    match metric {
        Metric::L2 => total,
        Metric::InnerProduct => {
            let key = 0.0 - total;
            if key.is_finite() {
                key
            } else {
                wide_panel_key(query, panel, lane)
            }
        }
    }
}

/// Minus the inner product, summed in f64: for rows whose f32 sum leaves the range (`inf - inf`
/// would be NaN although the inner product is finite). The result may still round to an infinity.
pub(crate) fn wide_panel_key(query: &[f32], panel: &[f32], lane: usize) -> f32 {
    let sum: f64 = query
        .iter()
        .zip(panel.chunks_exact(PANEL))
        .map(|(&q, line)| f64::from(q) * f64::from(line[lane]))
        .sum();
    (0.0 - sum) as f32
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
