//! How far a filter's key may lie from the exact one: what keeps filtered searches exact.
//!
//! A filter ranks by `f = ‖x‖² - 2·q̂·x̂` (L2) or `f = -q̂·x̂` (inner product), where `x̂`, `q̂` are
//! the vectors as the filter sees them (rounded to bf16, to whole multiples of a step, both, or as they are). With `e` the exact key as
//! [`crate::distance`] rounds it, [`Reach::error`] bounds `|f + c - e|` over all rows of a list,
//! where `c` (`‖q‖²` or 0) is the same for all rows of a query. If the k-th smallest `f` is `F`,
//! every row among the k best therefore has `f <= F + 2·error`; all those rows are re-ranked.
//!
//! The terms, with `u = 2⁻²⁴` and norms as upper bounds:
//!
//! * rounding of the vectors: `|q·x - q̂·x̂| <= |q|·|x - x̂| + |q - q̂|·|x̂|` (Cauchy-Schwarz);
//! * rounding to whole steps ([`crate::rows::int16`]) takes a length from either that is known before; their
//!   sums of products are exact, and seven roundings on the way to and from them, of the steps, their inverses, the sum
//!   and its product with the steps, are less than the next term;
//! * the sum of `d` products in f32, in any order: `(d + 8)·u·|q̂|·|x̂|` (Jeannerod and Rump,
//!   *Improved error bounds for inner products in floating-point arithmetic*, 2013: `d·u` without a
//!   higher-order term);
//! * `‖x‖²`, `‖q‖²` and the exact key in [`LANES`] partial sums: `(d / LANES + 8)·u` relative each;
//! * the final subtraction: `u·(|x|² + 2|q||x|)`;
//! * none at all, where all components are whole numbers and no length exceeds 2¹²: every sum of some of the products is
//!   a whole number of at most 2²⁴ then, as is `f`, or it is larger ([`Reach::exact`]);
//! * underflow, where the bf16 instructions flush to zero or the product of two steps does: `2⁻¹²⁰` a component, absolutely.

use crate::{Metric, distance::LANES, rows::int16};

/// Half the distance between 1 and the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;
/// Lengths up to which inner products of whole vectors are numbers that f32 has: at most 2²⁴, as are all sums of
/// some of their terms (Cauchy-Schwarz).
const WHOLE: f64 = (1 << 12) as f64;
/// Norms above this are not filtered: their squares near the end of the f32 range.
const LARGEST: f64 = 1e18;
/// Relative allowance for norms that were themselves summed in f32, beside `d·u`.
const NORM_ROUNDING: f64 = 1e-4;
/// What a component whose square underflows may hide.
const HIDDEN: f64 = 1.0 / (1_u128 << 70) as f64;

/// Upper bounds over the rows of a list, as its filter sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Extent {
    /// Largest length of a row.
    pub norm: f64,
    /// Largest length of what rounding took from a row; 0 when the filter reads exact values.
    pub error: f64,
    /// Whether some component is not a whole number.
    pub fraction: bool,
}

/// Whether all components are whole numbers; only sure for those below 2²², which [`Extent::is_whole`] sees to.
#[inline(always)]
pub(crate) fn are_whole(row: &[f32]) -> bool {
    // Added to a number of less than 2²², this leaves its nearest integer.
    const LAST: f32 = 1.5 * (1 << 23) as f32;
    row.iter()
        .fold(0, |any, &x| any | u32::from((x + LAST) - LAST != x))
        == 0
}

impl Extent {
    /// Takes in a vector of `d` components, given its length and rounding error, squared, summed
    /// in f32; no error means that the filter reads it as it is.
    pub fn grow(&mut self, d: usize, norm2: f64, error2: Option<f32>, whole: bool) {
        let hidden = HIDDEN * (d as f64).sqrt();
        let up = |square: f64| square.sqrt() * (1.0 + NORM_ROUNDING + d as f64 * U) + hidden;
        self.norm = self.norm.max(up(norm2));
        if let Some(error2) = error2 {
            self.error = self.error.max(up(f64::from(error2)));
        }
        self.fraction |= !whole;
    }

    /// Whether a filter reads whole numbers as they are, and its sums with such a query (see [`Reach::whole`])
    /// are without error.
    pub fn is_whole(self) -> bool {
        !self.fraction && self.error == 0.0 && self.norm <= WHOLE
    }

    /// Largest length of a row as the filter sees it.
    pub fn seen(self) -> f64 {
        self.norm + self.error
    }

    /// The same rows, rounded to whole steps too.
    pub fn in_steps(self, d: usize) -> Self {
        if self.is_whole() {
            return self;
        }
        Self {
            error: self.error + int16::rounding(d, self.seen()),
            ..self
        }
    }

    /// The extent of two sets of rows together.
    pub fn max(self, other: Self) -> Self {
        Self {
            norm: self.norm.max(other.norm),
            error: self.error.max(other.error),
            fraction: self.fraction || other.fraction,
        }
    }
}

/// A query as a filter sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub metric: Metric,
    pub d: usize,
    /// Upper bound of `|q|`.
    pub norm: f64,
    /// Upper bound of `|q - q̂|`; 0 when the filter reads the query as it is.
    pub error: f64,
    /// Whether its components are whole numbers, which the filter reads as they are, and it is not too long:
    /// inner products with rows for which [`Extent::is_whole`] are exact then.
    pub whole: bool,
}

impl Reach {
    /// Bounds for a query of squared length `norm2` and squared rounding error `error2`, of whole numbers or not.
    pub fn new(metric: Metric, d: usize, norm2: f32, error2: Option<f32>, whole: bool) -> Self {
        let mut extent = Extent::default();
        extent.grow(d, f64::from(norm2), error2, whole);
        Self {
            metric,
            d,
            norm: extent.norm,
            error: extent.error,
            whole: extent.is_whole(),
        }
    }

    /// The same query, rounded to whole steps.
    pub fn in_steps(self) -> Self {
        if self.whole {
            return self;
        }
        Self {
            error: int16::rounding(self.d, self.norm),
            ..self
        }
    }

    /// The exact key of a row that has the filter key `key` with a whole query of squared length `norm2`, in a
    /// list of whole rows, if f32 has it: then so it has every sum of some terms of either.
    pub fn exact(&self, key: f32, norm2: f32) -> Option<f32> {
        const END: f32 = (1 << 24) as f32;
        let exact = match self.metric {
            Metric::L2 => key + norm2,
            Metric::InnerProduct => key,
        };
        (exact < END).then_some(exact)
    }

    /// The bound described above; infinite when the filter cannot be trusted.
    pub fn error(&self, rows: Extent) -> f64 {
        let (q, x, d) = (self.norm, rows.norm, self.d as f64);
        if !(q <= LARGEST && x <= LARGEST) {
            return f64::INFINITY;
        }
        let (q_seen, x_seen) = (q + self.error, x + rows.error);
        let product = q * rows.error + self.error * x_seen + (d + 8.0) * U * q_seen * x_seen;
        let short = (d / LANES as f64 + 8.0) * U;
        let underflow = (d + 16.0) * (1.0 + q + x) / (1_u128 << 120) as f64;
        let rounding = match self.metric {
            Metric::L2 => {
                2.0 * product
                    + short * (x * x + q * q + (q + x) * (q + x))
                    + U * (x * x + 2.0 * q * x)
            }
            Metric::InnerProduct => product + short * q * x,
        };
        (rounding + underflow) * (1.0 + 1e-6)
    }

    /// The largest key a row among the k best can have when keys are summed from exact values in
    /// any order (L2 as differences), given the k-th best exact key `kth`.
    pub fn unfiltered_limit(&self, kth: f32, rows: Extent) -> f32 {
        // An inner product that overflowed was beyond the range, by no more than is known.
        let (kth, d) = (f64::from(kth).max(f64::from(f32::MIN)), self.d as f64);
        let any_order = (d + d / LANES as f64 + 24.0) * U;
        let underflow = (d + 16.0) / (1_u128 << 120) as f64 / (1_u64 << 28) as f64;
        let limit = match self.metric {
            Metric::L2 => kth * (1.0 + 2.0 * any_order) + underflow,
            Metric::InnerProduct => kth + 2.0 * any_order * self.norm * rows.norm + underflow,
        };
        round_up(limit)
    }
}

/// The next f32 above a limit; infinite when that leaves the range or says nothing.
pub(crate) fn round_up(limit: f64) -> f32 {
    if limit.is_nan() || limit > f64::from(f32::MAX) / 4.0 {
        f32::INFINITY
    } else {
        (limit as f32).next_up()
    }
}
