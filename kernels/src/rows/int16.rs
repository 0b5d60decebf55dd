//! Panels as 16-bit integers, for filters that multiply integers.
//!
//! Where a processor multiplies 16-bit integers at twice the rate of f32 and has no instruction for
//! bf16 (AVX2: `vpmaddwd`, sixteen products added in pairs), a filter may read vectors as whole
//! multiples of a *step*: `x̂ = step·X`, `X = round(x / step)`, where the step is the largest length in
//! the list divided by [`REACH`]. No component is longer than its vector, so every `X` fits 16
//! bits, and a sum of products of two such vectors is at most `|Q|·|X|` (Cauchy-Schwarz), which
//! fits 32 bits however its terms are grouped. The sum is exact; what rounding takes from a vector is at
//! most half a step a component ([`rounding`]).
//!
//! A panel lies as `[pairs, PANEL, 2]`: two components of a row side by side, sixteen rows after
//! each other, then the next two components; the last is 0 where `d` is odd.

#[cfg(target_arch = "x86_64")]
use super::{PANEL, planes};

/// The length of the longest vector of a list, in steps.
pub(crate) const REACH: f64 = 32_700.0;
/// Components of a vector at most: with more, half a step each adds up to more than rounding to bf16
/// takes.
pub(crate) const COMPONENTS: usize = 8192;
/// Values of a pair of components.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 2 * PANEL;
/// The largest distance from `x / step` to the integer it becomes: one half, and what computing the
/// quotient in f32 adds.
const ROUNDING: f64 = 0.51;

/// The length of what rounding takes from a vector of `d` components, in lists whose longest has
/// length `norm`; at most.
pub(crate) fn rounding(d: usize, norm: f64) -> f64 {
    ROUNDING * (d as f64).sqrt() * norm / REACH
}

/// Steps in a unit, for lists whose longest vector has length `norm`; of vectors that are `whole`
/// ([`Extent::is_whole`](crate::bound::Extent::is_whole)) as they are.
pub(crate) fn steps(norm: f64, whole: bool) -> f32 {
    if whole { 1.0 } else { (REACH / norm) as f32 }
}

/// The step, for the same lists.
pub(crate) fn step(norm: f64, whole: bool) -> f32 {
    if whole { 1.0 } else { (norm / REACH) as f32 }
}

/// Pairs of components.
#[cfg(target_arch = "x86_64")]
pub(crate) const fn pairs(d: usize) -> usize {
    d.div_ceil(2)
}

/// Values in a panel.
#[cfg(target_arch = "x86_64")]
pub(crate) const fn panel_size(d: usize) -> usize {
    pairs(d) * LINE
}

/// The values of a query: `[2 · pairs]`, the last 0 where `d` is odd.
#[inline(always)]
pub(crate) fn round_query(query: &[f32], steps: f32, out: &mut [u16]) {
    // Added to a number of less than 2^22, this leaves its nearest integer in the last bits.
    const LAST: f32 = 1.5 * (1 << 23) as f32;
    for (out, &x) in out.iter_mut().zip(query) {
        *out = (x * steps + LAST).to_bits() as u16;
    }
}

/// Rounds a panel of high planes.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn round_high_avx2(panel: &[u16], d: usize, steps: f32, out: &mut [u16]) {
    use core::arch::x86_64::{
        _mm256_castsi256_ps, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_si256,
        _mm256_unpackhi_epi16, _mm256_unpacklo_epi16,
    };
    assert_eq!(panel.len(), planes::panel_size(d), "a whole panel");
    assert_eq!(out.len(), panel_size(d), "room for a panel");
    let pieces = d.div_ceil(planes::PIECE);
    let (zero, steps) = (_mm256_setzero_si256(), _mm256_set1_ps(steps));
    let (lines, _) = out.as_chunks_mut::<LINE>();
    for (piece, lines) in lines.chunks_mut(planes::PIECE / 2).enumerate() {
        for half in 0..2 {
            let pairs = planes::transposed_avx2(panel, pieces, piece, half);
            for (pair, line) in pairs.into_iter().zip(&mut *lines) {
                // A bf16 is the upper half of an f32.
                let even = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, pair));
                let odd = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, pair));
                let rounded = round_pairs(even, odd, steps);
                // SAFETY: half a line is the sixteen values of a register.
                unsafe {
                    _mm256_storeu_si256(line[half * PANEL..].as_mut_ptr().cast(), rounded);
                }
            }
        }
    }
}

/// Rounds a panel of f32, `[d, PANEL]`.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn round_full_avx2(panel: &[f32], d: usize, steps: f32, out: &mut [u16]) {
    use core::arch::x86_64::{_mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_si256};
    assert_eq!(panel.len(), PANEL * d, "a whole panel");
    assert_eq!(out.len(), panel_size(d), "room for a panel");
    let steps = _mm256_set1_ps(steps);
    let (columns, _) = panel.as_chunks::<PANEL>();
    for (columns, line) in columns.chunks(2).zip(out.as_chunks_mut::<LINE>().0) {
        let even = &columns[0];
        let odd = columns.get(1).unwrap_or(&[0.0; PANEL]);
        for half in 0..2 {
            let at = half * PANEL / 2;
            // SAFETY: half a column is the eight values of a register, half a line sixteen.
            unsafe {
                let even = _mm256_loadu_ps(even[at..].as_ptr());
                let odd = _mm256_loadu_ps(odd[at..].as_ptr());
                let rounded = round_pairs(even, odd, steps);
                _mm256_storeu_si256(line[half * PANEL..].as_mut_ptr().cast(), rounded);
            }
        }
    }
}

/// Two components of eight rows, side by side.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn round_pairs(
    even: core::arch::x86_64::__m256,
    odd: core::arch::x86_64::__m256,
    steps: core::arch::x86_64::__m256,
) -> core::arch::x86_64::__m256i {
    use core::arch::x86_64::{
        _mm256_blend_epi16, _mm256_cvtps_epi32, _mm256_mul_ps, _mm256_slli_epi32,
    };
    let even = _mm256_cvtps_epi32(_mm256_mul_ps(even, steps));
    let odd = _mm256_cvtps_epi32(_mm256_mul_ps(odd, steps));
    _mm256_blend_epi16::<0xaa>(even, _mm256_slli_epi32::<16>(odd))
}
