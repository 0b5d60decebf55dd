//! Every query against every row in Burn operations: element by element, then a fixed tree.

use super::{pieces, tree_sum};
use crate::{backend::IvfBackend, error::Result};
use burn::tensor::{Bool, DType, Tensor};
use burn_ivf_kernels::pairwise::{Measure, Output};

/// Bytes of the differences of one block.
const BLOCK_BYTES: usize = 16 << 20;

/// [`IvfBackend::pairwise`]: differences of a block of pairs, `[pairs, d]`, summed by halves.
///
/// # Errors
/// When the device cannot be read.
pub fn pairwise<B: IvfBackend>(
    queries: Tensor<B, 2>,
    rows: Tensor<B, 2>,
    measure: Measure,
    output: Output,
) -> Result<Tensor<B, 2>> {
    let ([nq, d], [n, _]) = (queries.dims(), rows.dims());
    let device = queries.device();
    if nq == 0 || n == 0 {
        return Ok(Tensor::zeros([nq, n], (&device, DType::F32)));
    }
    let pairs = (BLOCK_BYTES / (4 * d)).max(1);
    let width = n.min(pairs);
    let mut lines = Vec::new();
    for queries_at in pieces(nq, (pairs / width).max(1)) {
        let q = queries.clone().slice([queries_at, 0..d]);
        let blocks = pieces(n, width)
            .map(|at| block(q.clone(), rows.clone().slice([at, 0..d]), measure))
            .collect();
        lines.push(Tensor::cat(blocks, 1));
    }
    let values = Tensor::cat(lines, 0);
    Ok(match output {
        Output::Distances => values,
        Output::Keys => {
            let none = nan(&values);
            let keys = if measure.larger_is_better() {
                values.neg()
            } else {
                values
            };
            keys.clamp(f32::MIN, f32::MAX)
                .mask_fill(none, f32::INFINITY)
        }
    })
}

/// The values of every pair of a block.
fn block<B: IvfBackend>(q: Tensor<B, 2>, x: Tensor<B, 2>, measure: Measure) -> Tensor<B, 2> {
    let ([nq, d], [n, _]) = (q.dims(), x.dims());
    let q = q.reshape([nq, 1, d]).expand([nq, n, d]);
    let x = x.reshape([1, n, d]).expand([nq, n, d]);
    let (q, x) = (q.reshape([nq * n, d]), x.reshape([nq * n, d]));
    // 0 where every component is legal, else NaN.
    let legal = |v: &Tensor<B, 2>| {
        let v = if measure.accepts_nan() {
            v.clone().mask_fill(nan(v), 0.0)
        } else {
            v.clone()
        };
        tree_sum(v.clone() - v)
    };
    let broken = legal(&q) + legal(&x);
    (value(q, x, measure) + broken).reshape([nq, n])
}

/// The values of pairs of rows of `q` and `x`, both `[pairs, d]`.
fn value<B: IvfBackend>(q: Tensor<B, 2>, x: Tensor<B, 2>, measure: Measure) -> Tensor<B, 1> {
    let d = q.dims()[1];
    let near = (x.clone() - q.clone()).abs();
    match measure {
        Measure::L2 => tree_sum(near.clone() * near),
        Measure::InnerProduct => tree_sum(x * q),
        Measure::L1 => tree_sum(near),
        Measure::Linf => {
            let pairs = near.dims()[0];
            near.max_dim(1).reshape([pairs])
        }
        Measure::Lp(p) => tree_sum(power(near, p)),
        Measure::Canberra => {
            // Smaller ones where the sum would leave the range, or its reciprocal: the quotient is the same.
            let large = q.clone().abs().max_pair(x.clone().abs());
            let large = large.greater_elem(1e18);
            let scaled = |v: Tensor<B, 2>| v.clone().mask_where(large.clone(), v * SMALLER);
            let (q, x) = (scaled(q), scaled(x));
            let near = (x.clone() - q.clone()).abs();
            let sizes = (q.abs() + x.abs()).clamp_min(f32::MIN_POSITIVE);
            tree_sum(near / sizes)
        }
        Measure::BrayCurtis => ratio(q, x, 0.0, |q, x| {
            ((x.clone() - q.clone()).abs(), (x + q).abs())
        }),
        Measure::JensenShannon => {
            let m = q.clone() * 0.5 + x.clone() * 0.5;
            tree_sum((entropy(q, m.clone()) + entropy(x, m)) * 0.5)
        }
        Measure::Jaccard => ratio(q, x, 1.0, |q, x| {
            (q.clone().min_pair(x.clone()), q.max_pair(x))
        }),
        Measure::NanEuclidean => {
            let absent = nan(&near);
            let present = tree_sum(absent.clone().bool_not().float());
            let near = near.mask_fill(absent, 0.0);
            tree_sum(near.clone() * near) * d as f32 / present
        }
        Measure::Gower => {
            let absent = nan(&near);
            let present = tree_sum(absent.clone().bool_not().float());
            let number = |v: &Tensor<B, 2>| {
                let high = v.clone().lower_equal_elem(1.0);
                v.clone().greater_equal_elem(0.0).bool_and(high)
            };
            let category = |v: &Tensor<B, 2>| v.clone().lower_elem(0.0);
            let both: Tensor<B, 2, Bool> = category(&q).bool_and(category(&x));
            let numbers = number(&q).bool_and(number(&x));
            let differ = q.not_equal(x).float();
            let mixed = both
                .clone()
                .bool_or(numbers)
                .bool_or(absent.clone())
                .bool_not();
            let terms = near
                .mask_where(both, differ)
                .mask_fill(mixed, f32::NAN)
                .mask_fill(absent, 0.0);
            tree_sum(terms) / present
        }
    }
}

/// Which elements are NaN: neither below 0 nor not. (`Tensor::is_nan` compares a tensor with itself, and
/// ndarray's comparison by AVX2, macerator 0.3.4, takes NaN for equal to itself.)
fn nan<B: IvfBackend, const D: usize>(v: &Tensor<B, D>) -> Tensor<B, D, Bool> {
    let known = v.clone().greater_equal_elem(0.0);
    known.bool_or(v.clone().lower_elem(0.0)).bool_not()
}

/// `near` to the power of p: by multiplication where p is a small whole number.
fn power<B: IvfBackend>(near: Tensor<B, 2>, p: f32) -> Tensor<B, 2> {
    if p.fract() == 0.0 && p <= 16.0 {
        let factors = (1..p as u32).map(|_| near.clone());
        return factors.fold(near.clone(), |power, near| power * near);
    }
    // 0 to any power is 0, whatever the device's logarithm of 0 is.
    let zero = near.clone().equal_elem(0.0);
    near.powf_scalar(p).mask_fill(zero, 0.0)
}

/// `v ln(v / m)`: 0 for 0, NaN below.
fn entropy<B: IvfBackend>(v: Tensor<B, 2>, m: Tensor<B, 2>) -> Tensor<B, 2> {
    let zero = v.clone().equal_elem(0.0);
    let below = v.clone().lower_elem(0.0);
    let term = v.clone() * (v / m).log();
    term.mask_fill(zero, 0.0).mask_fill(below, f32::NAN)
}

/// 2⁻⁶⁴.
const SMALLER: f32 = 1.0 / (1_u128 << 64) as f32;

/// 2¹²⁶.
const LARGE: f32 = 8.507_059e37;

/// The quotient of two sums of terms, `zero` for 0 / 0. Where a sum leaves the range, that of components
/// over 2⁶⁴: what becomes too small is nothing beside what was too large.
fn ratio<B: IvfBackend>(
    q: Tensor<B, 2>,
    x: Tensor<B, 2>,
    zero: f32,
    terms: impl Fn(Tensor<B, 2>, Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>),
) -> Tensor<B, 1> {
    let sums = |q, x| {
        let (a, b) = terms(q, x);
        (tree_sum(a), tree_sum(b))
    };
    let (a, b) = sums(q.clone(), x.clone());
    // Also so large that a device that divides by way of the reciprocal finds 0 for that.
    let large = |sum: &Tensor<B, 1>| sum.clone().abs().lower_elem(LARGE).bool_not();
    let lost = large(&a).bool_or(large(&b));
    let (smaller_a, smaller_b) = sums(q * SMALLER, x * SMALLER);
    over(a, b, zero).mask_where(lost, over(smaller_a, smaller_b, zero))
}

/// `a / b`, or `zero` for 0 / 0.
fn over<B: IvfBackend>(a: Tensor<B, 1>, b: Tensor<B, 1>, zero: f32) -> Tensor<B, 1> {
    let nothing = a
        .clone()
        .equal_elem(0.0)
        .bool_and(b.clone().equal_elem(0.0));
    (a / b).mask_fill(nothing, zero)
}
