//! Random numbers, and values made to hurt.

use crate::reference::exact_key;
use burn_ivf_kernels::Metric;
use std::ops::RangeInclusive;

/// `SplitMix64`: small, seeded by any number, the same on every machine.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// About normal, full mantissa, within ±3: the sum of three uniform numbers, doubled.
    pub fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let third = |shift: u32| ((bits >> shift) & 0x1f_ffff) as f32 / (1 << 20) as f32 - 1.0;
        third(0) + third(21) + third(42)
    }

    /// A power of ten, log-uniform between `10^-range` and `10^range`.
    pub fn power(&mut self, range: f32) -> f32 {
        let uniform = self.bits() as f64 / u64::MAX as f64;
        10.0_f64.powf((2.0 * uniform - 1.0) * f64::from(range)) as f32
    }

    pub fn signed(&mut self, magnitude: f32) -> f32 {
        if self.one_in(2) {
            magnitude
        } else {
            -magnitude
        }
    }
}

/// A kind of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Family {
    /// Normal, at any moderate scale.
    Normal,
    /// Integers from -3 to 3: sums are exact, ties many.
    Integers,
    /// Whole numbers, bytes or of both signs, of lengths around 2^12: below, sums of their products are exact.
    Whole,
    /// Around 1e18 to beyond the root of the largest f32, 1e30, 3e38.
    Huge,
    /// The last 65536 finite values, most of which round to infinity in fewer bits.
    NearMax,
    /// 1e-20 and less, one in four zero.
    Tiny,
    /// Denormals of any size.
    Denormal,
    /// Normal, far from the origin.
    Offset,
    /// The upper 16 bits the same in every row.
    LowBits,
    /// The upper 16 bits the same, the lower 16 where rounding them off errs most.
    Halfway,
    /// Another scale in every dimension.
    MixedScales,
    /// Any finite bit pattern.
    AnyBits,
    /// Nine in ten zero, of either sign.
    Sparse,
    /// One point and a little noise.
    Clustered,
    /// Corners of a cube around one point: all as far from it, but for rounding.
    NearTies,
    /// Lengths around 1e18, where filters end.
    Brink,
}

/// Lower halves of a value at the ends of, and around the tie of, a rounding to the upper half.
pub const EDGES: [u32; 6] = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];

pub const FAMILIES: [Family; 16] = [
    Family::Normal,
    Family::Integers,
    Family::Whole,
    Family::Huge,
    Family::NearMax,
    Family::Tiny,
    Family::Denormal,
    Family::Offset,
    Family::LowBits,
    Family::Halfway,
    Family::MixedScales,
    Family::AnyBits,
    Family::Sparse,
    Family::Clustered,
    Family::NearTies,
    Family::Brink,
];

/// A stream of vectors of one family.
pub struct Source {
    pub family: Family,
    pub scale: f32,
    /// A point, or the scales of [`Family::MixedScales`].
    pub base: Vec<f32>,
}

impl Source {
    pub fn draw(rng: &mut Rng, family: Family, d: usize) -> Self {
        let root = f32::MAX.sqrt() / (d as f32).sqrt();
        let scale = match family {
            Family::Huge => rng.pick(&[1e18, 1e19, 0.3 * root, 0.5 * root, root, 1e30, 3e38]),
            Family::Whole => {
                let longest = 4096.0 / (d as f32).sqrt();
                rng.pick(&[255.0, 0.5 * longest, longest, 1.5 * longest, 3.0 * longest])
            }
            Family::Tiny => rng.pick(&[1e-18, 1e-20, 1e-22, 1e-30, 1e-38, 1e-42]),
            Family::Offset => rng.pick(&[1e3, 1e6]),
            Family::Brink => 1e18 / (d as f32).sqrt() * rng.pick(&[0.5, 0.99, 0.999, 1.0]),
            Family::Clustered | Family::NearTies => rng.power(5.0).min(1.0),
            _ => rng.power(3.0),
        };
        let span = rng.pick(&[2.0, 6.0, 15.0]);
        let powers = rng.one_in(2);
        let base = (0..d)
            .map(|_| match family {
                Family::MixedScales => rng.power(span),
                // Relative to a power of two the error is largest.
                Family::Halfway if powers => rng.signed(2.0),
                Family::Integers => small_integer(rng),
                _ => rng.normal(),
            })
            .collect();
        Self {
            family,
            scale,
            base,
        }
    }

    pub fn vector<'a>(&'a self, rng: &'a mut Rng) -> impl Iterator<Item = f32> + 'a {
        // In every second row the errors of a rounding all go one way.
        let low = rng.one_in(2).then(|| rng.pick(&EDGES));
        self.base.iter().map(move |&base| {
            let low = low.unwrap_or_else(|| rng.pick(&EDGES));
            self.value(rng, base, low)
        })
    }

    pub fn value(&self, rng: &mut Rng, base: f32, low: u32) -> f32 {
        let high = base.to_bits() & 0xffff_0000;
        let value = match self.family {
            Family::Normal | Family::Huge => rng.normal() * self.scale,
            Family::Integers => small_integer(rng),
            Family::Whole => {
                let value = rng.below(self.scale as usize + 1) as f32;
                if self.scale == 255.0 {
                    value
                } else {
                    rng.signed(value)
                }
            }
            Family::NearMax => {
                let value = f32::from_bits(0x7f7f_0000 + rng.below(0x1_0000) as u32);
                rng.signed(value)
            }
            Family::Tiny if rng.one_in(4) => 0.0,
            Family::Tiny => rng.normal() * self.scale,
            Family::Denormal => {
                let value = f32::from_bits((rng.below(0x80_0000) >> rng.below(23)) as u32);
                rng.signed(value)
            }
            Family::Offset => rng.normal() + self.scale,
            Family::LowBits => f32::from_bits(high | rng.below(0x1_0000) as u32),
            Family::Halfway => f32::from_bits(high | low),
            Family::MixedScales => rng.normal() * base,
            Family::AnyBits => f32::from_bits(rng.bits() as u32),
            Family::Sparse if rng.one_in(10) => rng.normal(),
            Family::Sparse => rng.signed(0.0),
            Family::Clustered => base + rng.normal() * self.scale,
            Family::NearTies => base + rng.signed(self.scale),
            Family::Brink => self.scale * (base.signum() + rng.normal() * 0.001),
        };
        finite(value)
    }
}

pub fn small_integer(rng: &mut Rng) -> f32 {
    rng.below(7) as f32 - 3.0
}

/// The finite value nearest to `value`; 0 for NaN.
pub fn finite(value: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(-f32::MAX, f32::MAX)
    }
}

/// What is done to the rows once they are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Twist {
    None,
    /// Rows are copies of the first few.
    Repeat(usize),
    /// One row is scaled up.
    Outlier,
    /// In every list the rows nearest to the first query come last.
    BestLast,
    /// In every list the rows nearest to the first query come first.
    BestFirst,
}

pub fn repeat(rng: &mut Rng, rows: &mut [f32], d: usize, distinct: usize) {
    let n = rows.len() / d;
    for row in distinct..n {
        let from = rng.below(distinct) * d;
        rows.copy_within(from..from + d, row * d);
    }
}

pub fn make_outlier(rng: &mut Rng, rows: &mut [f32], d: usize) {
    if rows.is_empty() {
        return;
    }
    let factor = rng.pick(&[16.0, 1e4, 1e10, 1e30]);
    let at = rng.below(rows.len() / d) * d;
    for value in &mut rows[at..at + d] {
        *value = finite(*value * factor);
    }
}

/// Sorts the rows of one list by their key for `query`.
pub fn sort_rows(metric: Metric, rows: &mut [f32], query: &[f32], best_first: bool) {
    let mut sorted: Vec<(f64, Vec<f32>)> = rows
        .chunks_exact(query.len())
        .map(|row| (exact_key(metric, query, row).0, row.to_vec()))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    if !best_first {
        sorted.reverse();
    }
    for (to, (_, row)) in rows.chunks_exact_mut(query.len()).zip(&sorted) {
        to.copy_from_slice(row);
    }
}

/// One query: of the family of the rows, a row, beside a row, or none of these.
pub fn query(rng: &mut Rng, source: &Source, rows: &[f32], out: &mut Vec<f32>) {
    let d = source.base.len();
    let row = match rows.len() / d {
        0 => &source.base,
        n => &rows[rng.below(n) * d..][..d],
    };
    let start = out.len();
    match rng.below(20) {
        0 => out.extend((0..d).map(|_| 0.0)),
        1..=4 => out.extend(row),
        5..=6 => out.extend(&source.base),
        7 if source.family != Family::Integers => out.extend(row.iter().map(|v| {
            let step = rng.pick(&[0, 0, 1, 0x8000]);
            finite(f32::from_bits(v.to_bits() ^ step))
        })),
        8..=9 if source.family != Family::Integers => {
            let scale = rng.power(30.0);
            out.extend((0..d).map(|_| rng.normal() * scale));
        }
        _ => out.extend(source.vector(rng)),
    }
    if rng.one_in(30) {
        out[start + rng.below(d)] = rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    }
}
