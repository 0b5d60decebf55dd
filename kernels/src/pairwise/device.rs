//! The GPU kernel: a cube compares a square tile of queries and rows, slab by slab of components in
//! shared memory, one pair a unit.

use super::{Measure, Output};
use crate::{
    KernelError,
    device::{Gpu, array, claim},
};
use cubecl::{prelude::*, server::Handle};

/// Components of a slab.
const SLAB: usize = 16;
/// 2^64.
const LARGER: f32 = (1u128 << 64) as f32;
/// From one vector of a slab to the next in shared memory: odd, so that units meet different banks.
const STRIDE: usize = SLAB + 1;

/// A measure without its argument, at compile time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    L2,
    InnerProduct,
    L1,
    Linf,
    /// A power by multiplication.
    Whole(u32),
    Lp,
    Canberra,
    BrayCurtis,
    JensenShannon,
    Jaccard,
    NanEuclidean,
    Gower,
}

impl Kind {
    /// Whether it is a quotient of two sums.
    const fn is_ratio(self) -> bool {
        matches!(self, Self::BrayCurtis | Self::Jaccard)
    }

    /// The kind of a measure, and its argument.
    fn of(measure: Measure) -> (Self, f32) {
        let kind = match measure {
            Measure::L2 => Self::L2,
            Measure::InnerProduct => Self::InnerProduct,
            Measure::L1 => Self::L1,
            Measure::Linf => Self::Linf,
            Measure::Lp(p) => {
                let kind = match Measure::whole(p) {
                    Some(1) => Self::L1,
                    Some(2) => Self::L2,
                    Some(p) => Self::Whole(p),
                    None => Self::Lp,
                };
                return (kind, p);
            }
            Measure::Canberra => Self::Canberra,
            Measure::BrayCurtis => Self::BrayCurtis,
            Measure::JensenShannon => Self::JensenShannon,
            Measure::Jaccard => Self::Jaccard,
            Measure::NanEuclidean => Self::NanEuclidean,
            Measure::Gower => Self::Gower,
        };
        (kind, 0.0)
    }
}

/// What is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct How {
    kind: Kind,
    keys: bool,
    /// Whether a similarity: its key is its negative.
    similar: bool,
    /// Whether NaN stands for a missing component.
    holes: bool,
    /// Queries, and rows, of a tile.
    side: usize,
}

/// Sizes of a launch, and bits no source can name.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Shape {
    nq: u32,
    n: u32,
    d: u32,
    p: f32,
    nan: u32,
    infinity: u32,
}

/// [`super::pairwise`] of `queries`, f32 `[nq, d]`, and `rows`, f32 `[n, d]`, both contiguous, into a
/// new buffer, f32 `[nq, n]`.
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot hold the result.
pub fn pairwise_on<R: Runtime>(
    gpu: &Gpu<R>,
    (queries, rows): (&Handle, &Handle),
    (nq, n, d): (usize, usize, usize),
    measure: Measure,
    output: Output,
) -> Result<Handle, KernelError> {
    let len = nq.saturating_mul(n);
    let out = gpu.empty("distances of pairs", len)?;
    if len == 0 {
        return Ok(out);
    }
    let (kind, p) = Kind::of(measure);
    let side = if gpu.facts().units >= 256 { 16 } else { 8 };
    let how = How {
        kind,
        keys: output == Output::Keys,
        similar: measure.larger_is_better(),
        holes: measure.accepts_nan(),
        side,
    };
    let address = gpu.address("vectors of pairs", len.max(nq * d).max(n * d))?;
    let shape = ShapeLaunch::new(
        nq as u32,
        n as u32,
        d as u32,
        p,
        f32::NAN.to_bits(),
        f32::INFINITY.to_bits(),
    );
    // SAFETY: cubes past the last tile stop at once; components are read below d of vectors below nq
    // and n only, and pairs are written below them only.
    unsafe {
        compare::launch_unchecked::<R>(
            gpu.client(),
            gpu.grid(nq.div_ceil(side) * n.div_ceil(side)),
            CubeDim::new_1d((side * side) as u32),
            address,
            array(queries, nq * d),
            array(rows, n * d),
            array(&out, len),
            shape,
            how,
        );
    }
    Ok(out)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn compare(
    queries: &Array<f32>,
    rows: &Array<f32>,
    out: &mut Array<f32>,
    shape: Shape,
    #[comptime] how: How,
) {
    let side = comptime!(how.side);
    let (nq, n, d) = (shape.nq as usize, shape.n as usize, shape.d as usize);
    let across = n.div_ceil(side);
    if CUBE_POS >= nq.div_ceil(side) * across {
        terminate!();
    }
    let mut q = SharedMemory::<u32>::new(comptime!(how.side * STRIDE));
    let mut x = SharedMemory::<u32>::new(comptime!(how.side * STRIDE));
    let mut broken = SharedMemory::<u32>::new(comptime!(2 * how.side));
    claim::words(&mut q);
    claim::words(&mut x);
    claim::words(&mut broken);
    sync_cube();
    let unit = UNIT_POS as usize;
    let (first_query, first_row) = (CUBE_POS / across * side, CUBE_POS % across * side);
    let (i, j) = (unit / side, unit % side);
    if unit < comptime!(2 * how.side) {
        broken[unit] = 0u32;
    }
    sync_cube();
    let zero = 0.0f32.runtime();
    let (mut a0, mut a1, mut a2, mut a3) = (zero, zero, zero, zero);
    let (mut b0, mut b1, mut b2, mut b3) = (zero, zero, zero, zero);
    let mut void: u32 = 0u32.runtime();
    let mut first = 0usize.runtime();
    while first < d {
        // Neighbouring units read neighbouring components.
        let mut at = unit;
        while at < comptime!(how.side * SLAB) {
            let (vector, t) = (at / SLAB, at % SLAB);
            let place = vector * STRIDE + t;
            let mut word: u32 = 0u32.runtime();
            if first_query + vector < nq && first + t < d {
                word = u32::reinterpret(queries[(first_query + vector) * d + first + t]);
                if is_illegal(word, how) {
                    broken[vector] = 1u32;
                }
            }
            q[place] = word;
            word = 0u32;
            if first_row + vector < n && first + t < d {
                word = u32::reinterpret(rows[(first_row + vector) * d + first + t]);
                if is_illegal(word, how) {
                    broken[vector + side] = 1u32;
                }
            }
            x[place] = word;
            at += comptime!(how.side * how.side);
        }
        sync_cube();
        #[unroll]
        for t in 0..comptime!(SLAB / 4) {
            let (qs, xs) = (i * STRIDE + t * 4, j * STRIDE + t * 4);
            a0 = one(a0, q[qs], x[xs], shape.p, how);
            a1 = one(a1, q[qs + 1], x[xs + 1], shape.p, how);
            a2 = one(a2, q[qs + 2], x[xs + 2], shape.p, how);
            a3 = one(a3, q[qs + 3], x[xs + 3], shape.p, how);
            b0 = two(b0, q[qs], x[xs], how);
            b1 = two(b1, q[qs + 1], x[xs + 1], how);
            b2 = two(b2, q[qs + 2], x[xs + 2], how);
            b3 = two(b3, q[qs + 3], x[xs + 3], how);
            if comptime!(how.kind == Kind::Gower) {
                void |= mixed(q[qs], x[xs]);
                void |= mixed(q[qs + 1], x[xs + 1]);
                void |= mixed(q[qs + 2], x[xs + 2]);
                void |= mixed(q[qs + 3], x[xs + 3]);
            }
        }
        sync_cube();
        first += SLAB;
    }
    let (query, row) = (first_query + i, first_row + j);
    if query < nq && row < n {
        let a = if comptime!(how.kind == Kind::Linf) {
            max(max(a0, a2), max(a1, a3))
        } else {
            (a0 + a2) + (a1 + a3)
        };
        let b = (b0 + b2) + (b1 + b3);
        // Zeros that came after the last component counted as present.
        let past = (d.div_ceil(SLAB) * SLAB - d) as u32;
        let present = b - f32::cast_from(past);
        let empty = select(present < 0.5f32, 1u32, 0u32);
        void |= comptime!(u32::from(how.holes)) & empty;
        let mut value = finish(a, present, b, f32::cast_from(shape.d), how);
        #[expect(
            clippy::collapsible_if,
            reason = "the outer one is decided when compiling"
        )]
        if comptime!(how.kind.is_ratio()) {
            if is_beyond(a) || is_beyond(b) {
                value = ratio_of_smaller(queries, rows, query * d, row * d, d, how);
            }
        }
        let none = broken[i] + broken[j + side] + void > 0u32;
        out[query * n + row] = written(value, none, shape.nan, shape.infinity, how);
    }
}

/// What is written for a pair of this value, or without one.
#[cube]
fn written(value: f32, none: bool, nan: u32, infinity: u32, #[comptime] how: How) -> f32 {
    let mut written = value;
    if comptime!(how.keys) {
        if comptime!(how.similar) {
            written = 0.0f32 - value;
        }
        written = min(max(written, f32::MIN), f32::MAX);
        if none || is_hole(u32::reinterpret(value)) {
            written = f32::reinterpret(infinity);
        }
    } else if none {
        written = f32::reinterpret(nan);
    }
    written
}

/// Whether no vector may hold a component with these bits.
#[cube]
fn is_illegal(word: u32, #[comptime] how: How) -> bool {
    let size = word & 0x7FFF_FFFFu32;
    if comptime!(how.holes) {
        size == 0x7F80_0000u32
    } else if comptime!(how.kind == Kind::JensenShannon) {
        size >= 0x7F80_0000u32 || (word >> 31u32 == 1u32 && size > 0u32)
    } else {
        size >= 0x7F80_0000u32
    }
}

/// Whether bits are those of NaN.
#[cube]
fn is_hole(word: u32) -> bool {
    (word & 0x7FFF_FFFFu32) > 0x7F80_0000u32
}

/// The first sum with one more pair of components.
#[cube]
fn one(sum: f32, q_word: u32, x_word: u32, p: f32, #[comptime] how: How) -> f32 {
    let (q, x) = (f32::reinterpret(q_word), f32::reinterpret(x_word));
    let difference = x - q;
    let near = f32::abs(difference);
    match comptime!(how.kind) {
        Kind::L2 => fma(difference, difference, sum),
        Kind::InnerProduct => fma(x, q, sum),
        Kind::L1 | Kind::BrayCurtis => sum + near,
        Kind::Linf => max(sum, near),
        Kind::Whole(power) => {
            let mut term = near;
            #[unroll]
            for _ in 1..power {
                term *= near;
            }
            sum + term
        }
        Kind::Lp => {
            // 0 to any power is 0, whatever the device's logarithm of 0 is.
            let term = f32::powf(max(near, f32::MIN_POSITIVE), p);
            sum + select(near == 0.0f32, 0.0f32, term)
        }
        Kind::Canberra => {
            // Smaller ones where the sum would leave the range, or its reciprocal: the quotient is the same.
            let large = max(f32::abs(q), f32::abs(x)) > 1e18f32;
            let q = f32::reinterpret(select(large, smaller(q_word), q_word));
            let x = f32::reinterpret(select(large, smaller(x_word), x_word));
            sum + f32::abs(x - q) / max(f32::abs(q) + f32::abs(x), f32::MIN_POSITIVE)
        }
        Kind::JensenShannon => {
            // Of smaller ones where the mean would leave the range, or its reciprocal, and multiplied again.
            let large = max(q, x) > 1e18f32;
            let q = f32::reinterpret(select(large, smaller(q_word), q_word));
            let x = f32::reinterpret(select(large, smaller(x_word), x_word));
            sum + divergence(q, x) * select(large, LARGER, 1.0f32)
        }
        Kind::Jaccard => sum + min(q, x),
        Kind::NanEuclidean => {
            let hole = is_hole(q_word) || is_hole(x_word);
            select(hole, sum, fma(difference, difference, sum))
        }
        Kind::Gower => {
            let hole = is_hole(q_word) || is_hole(x_word);
            let category = q < 0.0f32 && x < 0.0f32;
            let differs = select(q_word == x_word, 0.0f32, 1.0f32);
            select(hole, sum, sum + select(category, differs, near))
        }
    }
}

/// The second sum, where there is one, with one more pair of components.
#[cube]
fn two(sum: f32, q_word: u32, x_word: u32, #[comptime] how: How) -> f32 {
    let (q, x) = (f32::reinterpret(q_word), f32::reinterpret(x_word));
    match comptime!(how.kind) {
        Kind::BrayCurtis => sum + f32::abs(x + q),
        Kind::Jaccard => sum + max(q, x),
        Kind::NanEuclidean | Kind::Gower => {
            let hole = is_hole(q_word) || is_hole(x_word);
            select(hole, sum, sum + 1.0f32)
        }
        _ => sum,
    }
}

/// Whether a sum is infinite, NaN, or so large (2^126) that a device that divides by way of the reciprocal
/// finds 0 for that.
#[cube]
fn is_beyond(sum: f32) -> bool {
    (u32::reinterpret(sum) & 0x7FFF_FFFFu32) >= 0x7E80_0000u32
}

/// A component over 2^64, 0 if it is small. By its exponent: compilers turn `a * c + b * c` into
/// `(a + b) * c`, whose sum is what is to be avoided.
#[cube]
fn smaller(word: u32) -> u32 {
    let size = word & 0x7FFF_FFFFu32;
    select(size >= 0x2080_0000u32, word - 0x2000_0000u32, word - size)
}

/// A quotient whose sums have left the range, from components over 2^64: what becomes too small is nothing
/// beside what was too large.
#[cube]
fn ratio_of_smaller(
    queries: &Array<f32>,
    rows: &Array<f32>,
    query: usize,
    row: usize,
    d: usize,
    #[comptime] how: How,
) -> f32 {
    let zero = 0.0f32.runtime();
    let (mut a, mut b) = (zero, zero);
    let mut first = 0usize.runtime();
    while first < d {
        let (mut some_a, mut some_b) = (zero, zero);
        let mut t = first;
        while t < min(first + SLAB, d) {
            let q = smaller(u32::reinterpret(queries[query + t]));
            let x = smaller(u32::reinterpret(rows[row + t]));
            some_a = one(some_a, q, x, zero, how);
            some_b = two(some_b, q, x, how);
            t += 1;
        }
        a += some_a;
        b += some_b;
        first += SLAB;
    }
    finish(a, b, b, zero, how)
}

/// 1 where a number meets a category, or is above 1.
#[cube]
fn mixed(q_word: u32, x_word: u32) -> u32 {
    let (q, x) = (f32::reinterpret(q_word), f32::reinterpret(x_word));
    let hole = is_hole(q_word) || is_hole(x_word);
    let category = q < 0.0f32 && x < 0.0f32;
    let above_zero = min(q, x) >= 0.0f32;
    let number = above_zero && max(q, x) <= 1.0f32;
    select(hole || category || number, 0u32, 1u32)
}

/// Half of `q ln(q / m) + x ln(x / m)` with `m` their mean, as half of `m ((1 + r) ln(1 + r) + (1 - r) ln(1 - r))`
/// with `r` half their difference over `m`; a series where the two logarithms nearly cancel.
#[cube]
fn divergence(q: f32, x: f32) -> f32 {
    let m = 0.5f32 * q + 0.5f32 * x;
    let r = 0.5f32 * f32::abs(x - q) / max(m, f32::MIN_POSITIVE);
    let s = r * r;
    let near = s
        * (1.0f32
            + s * (1.0f32 / 6.0f32
                + s * (1.0f32 / 15.0f32 + s * (1.0f32 / 28.0f32 + s / 45.0f32))));
    let (up, low) = (1.0f32 + r, max(1.0f32 - r, 0.0f32));
    let far = up * f32::ln(up) + low * f32::ln(max(low, f32::MIN_POSITIVE));
    0.5f32 * m * select(r < 0.25f32, near, far)
}

/// The value of a pair from its sums; `present` is the second sum as a count.
#[cube]
fn finish(a: f32, present: f32, b: f32, d: f32, #[comptime] how: How) -> f32 {
    match comptime!(how.kind) {
        Kind::BrayCurtis => select(a == 0.0f32 && b == 0.0f32, 0.0f32, a / b),
        Kind::Jaccard => select(a == 0.0f32 && b == 0.0f32, 1.0f32, a / b),
        Kind::NanEuclidean => d / present * a,
        Kind::Gower => a / present,
        _ => a,
    }
}
