//! How far below a pair's key an inner product in f32 or of bf16 components may lead: what a filter
//! must allow for so that no pair is lost.
//!
//! With `u` = 2⁻²⁴, `n` components and `|q|`, `|x|` the norms of query and row:
//!
//! * A sum of `n` products of f32, in any order, fused or not, is within `(n + 8) u · |q| |x|` of the
//!   inner product (Higham 2002, section 3.1; Cauchy-Schwarz).
//! * Components rounded to bf16 change it by at most `(2⁻⁷ + 2⁻¹⁵) |q| |x|`. Tensor cores cut products
//!   off where they are aligned (Fasi, Higham, Mikaitis and Pranesh 2021), each by less than 2⁻²² of what has
//!   been summed in magnitude.
//! * The key itself, made of differences, is within `(n + 8) u` of its value, which is at most
//!   `2 (|q|² + |x|²)`; that of an inner product within `(n + 8) u · |q| |x|`.
//!
//! For L2, `2 |q| |x| ≤ |q|² + |x|²`, so the key is not below `(1 - c) (|q|² + |x|²) - 2 q·x`, for inner
//! products not below `-q·x - c |q| |x|`. In the kernels `(1 - c) |x|² - 2 q·x` is compared with the limit
//! less `(1 - c) |q|²`: a limit up to `4 (|q|² + |x|²)` costs less than `6 u` of that sum once more, which the
//! allowance for the last few operations covers, and beyond it no pair is excluded, as its key is at most half of that.
//! What may be lost at the lower end of the range, where numbers have fewer bits or none, [`TINY`] and [`SHORT`]
//! make up for; where a sum leaves the upper end, the bound is infinite or NaN, and the pair is compared.

use crate::{Metric, device::Filter};

/// What sums of products start from: more than underflow can take away.
pub(super) const TINY: f32 = 7.888_609e-31; // 2⁻¹⁰⁰

/// What is added to a norm, for what underflow took away before its root was drawn.
pub(super) const SHORT: f32 = 8.881_784e-16; // 2⁻⁵⁰

/// Components of a vector at most, for the bounds above to mean anything.
pub(super) const COMPONENTS: usize = 1 << 18;

/// The `c` of the module's text, for `n` components.
pub(super) fn slack(filter: Filter, metric: Metric, n: usize) -> f32 {
    let unit = 2_f64.powi(-24);
    let sums = (n as f64 + 8.0) * unit;
    let product = match filter {
        Filter::Nothing => return 0.0,
        Filter::Products => sums,
        Filter::TensorCores => {
            2_f64.powi(-7) + 2_f64.powi(-15) + (n as f64 + 8.0) * 2_f64.powi(-22)
        }
    };
    // The last few operations on sums and norms.
    let last = 2_f64.powi(-20);
    let slack = match metric {
        // The product, two squared norms, a key of twice their sum.
        Metric::L2 => product + 3.0 * sums + last,
        Metric::InnerProduct => product + 2.0 * sums + last,
    };
    (slack * 1.01) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filter_allows_for() {
        let of = |filter, n| f64::from(slack(filter, Metric::L2, n));
        assert_eq!(of(Filter::Nothing, 128), 0.0);
        assert!((1e-6..1e-4).contains(&of(Filter::Products, 128)));
        assert!((0.0078..0.0082).contains(&of(Filter::TensorCores, 128)));
        for filter in [Filter::Products, Filter::TensorCores] {
            assert!(of(filter, COMPONENTS) > of(filter, 3) && of(filter, COMPONENTS) < 0.2);
        }
        assert_eq!(f64::from(TINY), 2_f64.powi(-100));
        assert_eq!(f64::from(SHORT), 2_f64.powi(-50));
    }
}
