//! The measures as steps on registers: what one pair of components adds to up to two sums.

use super::Measure;
use bytemuck::{cast_slice, cast_slice_mut};
use core::slice::{from_mut, from_ref};
use pulp::Simd;

/// A measure, written once for every register width.
///
/// Components past the end of a vector are 0 in both.
pub(super) trait Pair: Copy + Sync {
    /// Takes in one register of components of a query and a row.
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s);

    /// Two partial sums put together.
    #[inline(always)]
    fn join(self, a: f32, b: f32) -> f32 {
        a + b
    }

    /// The value, given the sums, the components and how many zeros came after them.
    fn value(self, sums: [f32; 2], d: usize, past: usize) -> f32;
}

/// What runs on one measure's type.
pub(super) trait Run {
    type Output;
    fn run(self, pair: impl Pair) -> Self::Output;
}

/// Runs `op` on the type of a measure.
pub(super) fn dispatch<Op: Run>(measure: Measure, op: Op) -> Op::Output {
    match measure {
        Measure::L2 => op.run(L2),
        Measure::InnerProduct => op.run(InnerProduct),
        Measure::L1 => op.run(L1),
        Measure::Linf => op.run(Linf),
        Measure::Lp(p) => match Measure::whole(p) {
            Some(1) => op.run(L1),
            Some(2) => op.run(L2),
            Some(p) => op.run(Whole(p)),
            None => op.run(Lp(p)),
        },
        Measure::Canberra => op.run(Canberra),
        Measure::BrayCurtis => op.run(BrayCurtis),
        Measure::JensenShannon => op.run(JensenShannon),
        Measure::Jaccard => op.run(Jaccard),
        Measure::NanEuclidean => op.run(NanEuclidean),
        Measure::Gower => op.run(Gower),
    }
}

/// Component by component, for what registers have no instruction for.
#[inline(always)]
fn each<S: Simd>(
    simd: S,
    sum: &mut S::f32s,
    q: S::f32s,
    x: S::f32s,
    term: impl Fn(f32, f32) -> f32,
) {
    let mut terms = simd.splat_f32s(0.0);
    let out: &mut [f32] = cast_slice_mut(from_mut(&mut terms));
    let (q, x): (&[f32], &[f32]) = (cast_slice(from_ref(&q)), cast_slice(from_ref(&x)));
    for ((out, &q), &x) in out.iter_mut().zip(q).zip(x) {
        *out = term(q, x);
    }
    *sum = simd.add_f32s(*sum, terms);
}

#[inline(always)]
fn distance<S: Simd>(simd: S, q: S::f32s, x: S::f32s) -> S::f32s {
    simd.abs_f32s(simd.sub_f32s(x, q))
}

/// `a / b`, or `zero` for 0 / 0; NaN where a sum has left the range, for which the caller takes the
/// reference.
#[inline(always)]
fn over(a: f32, b: f32, zero: f32) -> f32 {
    if a == 0.0 && b == 0.0 {
        zero
    } else if a.is_finite() && b.is_finite() {
        a / b
    } else {
        f32::NAN
    }
}

#[derive(Clone, Copy)]
struct L2;

impl Pair for L2 {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        let difference = simd.sub_f32s(x, q);
        sums[0] = simd.mul_add_f32s(difference, difference, sums[0]);
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

#[derive(Clone, Copy)]
struct InnerProduct;

impl Pair for InnerProduct {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        sums[0] = simd.mul_add_f32s(x, q, sums[0]);
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

#[derive(Clone, Copy)]
struct L1;

impl Pair for L1 {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        sums[0] = simd.add_f32s(sums[0], distance(simd, q, x));
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

#[derive(Clone, Copy)]
struct Linf;

impl Pair for Linf {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        sums[0] = simd.max_f32s(sums[0], distance(simd, q, x));
    }

    #[inline(always)]
    fn join(self, a: f32, b: f32) -> f32 {
        a.max(b)
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

/// Powers by multiplication.
#[derive(Clone, Copy)]
struct Whole(u32);

impl Pair for Whole {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        let base = distance(simd, q, x);
        let mut power = base;
        for _ in 1..self.0 {
            power = simd.mul_f32s(power, base);
        }
        sums[0] = simd.add_f32s(sums[0], power);
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

#[derive(Clone, Copy)]
struct Lp(f32);

impl Pair for Lp {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        each(simd, &mut sums[0], q, x, |q, x| (x - q).abs().powf(self.0));
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

#[derive(Clone, Copy)]
struct Canberra;

impl Pair for Canberra {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        // Halves where the sum would leave the range: the quotient is the same.
        let (size, most) = (
            simd.max_f32s(simd.abs_f32s(q), simd.abs_f32s(x)),
            simd.splat_f32s(0.25 * f32::MAX),
        );
        let (half, one) = (simd.splat_f32s(0.5), simd.splat_f32s(1.0));
        let scale = simd.select_f32s(simd.greater_than_f32s(size, most), half, one);
        let (q, x) = (simd.mul_f32s(q, scale), simd.mul_f32s(x, scale));
        let (near, sizes) = (
            distance(simd, q, x),
            simd.add_f32s(simd.abs_f32s(q), simd.abs_f32s(x)),
        );
        // Where both are 0 the difference is too: 0 over the smallest number is 0.
        let sizes = simd.max_f32s(sizes, simd.splat_f32s(f32::MIN_POSITIVE));
        sums[0] = simd.add_f32s(sums[0], simd.div_f32s(near, sizes));
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

#[derive(Clone, Copy)]
struct BrayCurtis;

impl Pair for BrayCurtis {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        sums[0] = simd.add_f32s(sums[0], distance(simd, q, x));
        sums[1] = simd.add_f32s(sums[1], simd.abs_f32s(simd.add_f32s(x, q)));
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        over(sums[0], sums[1], 0.0)
    }
}

#[derive(Clone, Copy)]
struct JensenShannon;

/// `v ln(v / m)`; NaN for v below 0. In f64, for the two of a component nearly cancel.
#[inline(always)]
fn entropy(v: f64, m: f64) -> f64 {
    if v > 0.0 {
        v * (v / m).ln()
    } else if v == 0.0 {
        0.0
    } else {
        f64::NAN
    }
}

impl Pair for JensenShannon {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        each(simd, &mut sums[0], q, x, |q, x| {
            let (q, x) = (f64::from(q), f64::from(x));
            let m = 0.5 * (q + x);
            (0.5 * (entropy(q, m) + entropy(x, m))) as f32
        });
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        sums[0]
    }
}

#[derive(Clone, Copy)]
struct Jaccard;

impl Pair for Jaccard {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        sums[0] = simd.add_f32s(sums[0], simd.min_f32s(q, x));
        sums[1] = simd.add_f32s(sums[1], simd.max_f32s(q, x));
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, _: usize) -> f32 {
        over(sums[0], sums[1], 1.0)
    }
}

#[derive(Clone, Copy)]
struct NanEuclidean;

impl Pair for NanEuclidean {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        let difference = simd.sub_f32s(x, q);
        // Only NaN differs from itself; infinities are refused before.
        let present = simd.equal_f32s(difference, difference);
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let difference = simd.select_f32s(present, difference, zero);
        sums[0] = simd.mul_add_f32s(difference, difference, sums[0]);
        sums[1] = simd.add_f32s(sums[1], simd.select_f32s(present, one, zero));
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], d: usize, past: usize) -> f32 {
        d as f32 / (sums[1] - past as f32) * sums[0]
    }
}

#[derive(Clone, Copy)]
struct Gower;

impl Pair for Gower {
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, sums: &mut [S::f32s; 2], q: S::f32s, x: S::f32s) {
        let [sum, count] = sums;
        each(simd, sum, q, x, |q, x| {
            if q.is_nan() || x.is_nan() {
                0.0
            } else if q < 0.0 && x < 0.0 {
                f32::from(u8::from(q != x))
            } else if (0.0..=1.0).contains(&q) && (0.0..=1.0).contains(&x) {
                (x - q).abs()
            } else {
                f32::NAN
            }
        });
        each(simd, count, q, x, |q, x| {
            f32::from(u8::from(!q.is_nan() && !x.is_nan()))
        });
    }

    #[inline(always)]
    fn value(self, sums: [f32; 2], _: usize, past: usize) -> f32 {
        sums[0] / (sums[1] - past as f32)
    }
}
