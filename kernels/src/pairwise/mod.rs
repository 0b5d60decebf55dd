//! Every query against every row, by any measure.
//!
//! **Contract.** `queries` is row-major `[nq, d]`, `rows` `[n, d]`; the answer is `[nq, n]`, f32.
//! [`Output::Distances`] gives the value of [`fn@reference`] (which states every formula) up to
//! rounding, and NaN for a pair with a component that is not finite (NaN itself is legal where
//! [`Measure::accepts_nan`]) or where the formula has no value. [`Output::Keys`] gives keys of which
//! smaller is better, never NaN: the distance or minus the similarity, what is infinite brought back
//! to the largest finite f32, and `+inf` for a pair that has no distance and so is no hit.
//!
//! Terms are added as in [`mod@crate::distance`]: component `t` to partial sum `t % 16`, then by
//! halves. So a pair's value depends on nothing but the pair, and on every processor of the host
//! the bits are the same but for [`Measure::Lp`] with a p that is no small whole number and
//! [`Measure::JensenShannon`], whose functions are the platform's.

mod cpu;
#[cfg(feature = "cube")]
mod device;
mod measures;
mod reference;

pub use cpu::pairwise;
#[cfg(feature = "cube")]
pub use device::pairwise_on;
pub use reference::reference;

/// How a pair of vectors is compared; [`fn@reference`] has the formulas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Squared Euclidean distance.
    L2,
    /// Inner product, a similarity.
    InnerProduct,
    /// Sum of absolute differences.
    L1,
    /// Largest absolute difference.
    Linf,
    /// Sum of absolute differences to the power of p, without a root.
    Lp(f32),
    /// Sum of absolute differences over sums of absolute values.
    Canberra,
    /// Sum of absolute differences over sum of absolute sums.
    BrayCurtis,
    /// Jensen-Shannon divergence.
    JensenShannon,
    /// Sum of minima over sum of maxima, a similarity.
    Jaccard,
    /// Squared Euclidean distance over present components, scaled to all.
    NanEuclidean,
    /// Gower's distance of numbers in `0..=1` and categories below 0.
    Gower,
}

impl Measure {
    /// Whether a larger value is better.
    pub const fn larger_is_better(self) -> bool {
        matches!(self, Self::InnerProduct | Self::Jaccard)
    }

    /// Whether NaN stands for a missing component.
    pub const fn accepts_nan(self) -> bool {
        matches!(self, Self::NanEuclidean | Self::Gower)
    }

    /// Whether it is a quotient of two sums, which may leave the range where the quotient does not.
    pub(crate) const fn is_ratio(self) -> bool {
        matches!(self, Self::BrayCurtis | Self::Jaccard)
    }

    /// Whether a component may be part of a vector.
    #[inline]
    pub fn accepts(self, component: f32) -> bool {
        component.is_finite() || (component.is_nan() && self.accepts_nan())
    }

    /// The exponent when it is a whole number small enough to multiply.
    pub(crate) fn whole(p: f32) -> Option<u32> {
        (p.fract() == 0.0 && (1.0..=16.0).contains(&p)).then_some(p as u32)
    }
}

/// What is written for a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// Its distance or similarity.
    Distances,
    /// A key of which smaller is better, `+inf` for no hit.
    Keys,
}

/// What is written for a pair of this value.
#[inline]
pub(crate) fn written(value: f32, measure: Measure, output: Output) -> f32 {
    match output {
        Output::Distances => value,
        Output::Keys if value.is_nan() => f32::INFINITY,
        Output::Keys if measure.larger_is_better() => (0.0 - value).clamp(f32::MIN, f32::MAX),
        Output::Keys => value.clamp(f32::MIN, f32::MAX),
    }
}

#[cfg(test)]
mod tests;
