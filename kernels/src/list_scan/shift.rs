//! The register tile over high planes with 256-bit registers, for few queries.
//!
//! A bf16 is the upper half of an f32, so the odd components of a line become f32 by a mask and the
//! even ones by a shift. With many queries it is cheaper to widen panels once and read them as f32;
//! with up to [`QUERIES`] it is not. A register holds four partial sums of two rows; two levels of
//! unpack-and-add turn the registers of four sub-panels into sums of rows in order.

#![allow(
    clippy::needless_range_loop,
    reason = "tiles are arrays of registers, indexed in lockstep"
)]

use super::strip::{Group, Sink};
use crate::{
    rows::{
        PANEL,
        planes::{PIECE, SUBPANELS, panel_size},
    },
    simd::Avx2,
};
use core::arch::x86_64::{
    __m256, _CMP_LE_OQ, _mm_loadu_ps, _mm_shuffle_ps, _mm256_add_ps, _mm256_and_si256,
    _mm256_castpd_ps, _mm256_castps_pd, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_fmadd_ps,
    _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_movemask_ps, _mm256_or_ps,
    _mm256_set_m128, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32,
    _mm256_storeu_ps, _mm256_sub_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd,
    _mm256_unpacklo_ps,
};

/// Queries up to which this tile is quicker than widening.
pub(super) const QUERIES: usize = 8;

/// Scans panels of high planes for each query of a group.
pub(super) fn scan<const L2: bool, K: Sink>(
    _proof: Avx2,
    panels: &[u16],
    norms: &[f32],
    group: &Group<'_>,
    sink: &mut K,
) {
    for &query in group.queries {
        // SAFETY: the proof says that the processor has these instructions.
        unsafe { one_query::<L2, K>(panels, norms, group, query, sink) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn one_query<const L2: bool, K: Sink>(
    panels: &[u16],
    norms: &[f32],
    group: &Group<'_>,
    query: u32,
    sink: &mut K,
) {
    let size = panel_size(group.d);
    let full = group.block.queries.full(query as usize);
    let (pieces, _) = full.as_chunks::<PIECE>();
    let pieces = &pieces[..group.d.div_ceil(PIECE)];
    let limit = if K::ALL { 0.0 } else { sink.limit(query) };
    let limit = _mm256_set1_ps(limit);
    let panels = panels.chunks_exact(size).zip(norms.as_chunks::<PANEL>().0);
    for (panel, (rows, norms)) in panels.enumerate() {
        let sums = products(rows, pieces);
        let mut keys = [0.0; PANEL];
        let mut pass = _mm256_setzero_ps();
        for half in 0..2 {
            let key = if L2 {
                // SAFETY: each half of a panel's norms is the 8 values of a register.
                let norms = unsafe { _mm256_loadu_ps(norms[half * 8..].as_ptr()) };
                _mm256_fnmadd_ps(sums[half], _mm256_set1_ps(2.0), norms)
            } else {
                _mm256_sub_ps(_mm256_setzero_ps(), sums[half])
            };
            // SAFETY: each half of its keys is the 8 values of a register.
            unsafe { _mm256_storeu_ps(keys[half * 8..].as_mut_ptr(), key) };
            pass = _mm256_or_ps(pass, _mm256_cmp_ps::<_CMP_LE_OQ>(key, limit));
        }
        if K::ALL {
            sink.keys(query, panel * PANEL).copy_from_slice(&keys);
        } else if _mm256_movemask_ps(pass) != 0 {
            sink.offer(query, panel * PANEL, &keys);
        }
    }
}

/// Products of the 16 rows of a panel with a query, rows in order.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn products(panel: &[u16], query: &[[f32; PIECE]]) -> [__m256; 2] {
    const HALF: usize = 2 * PIECE;
    let steps = query.len();
    assert_eq!(panel.len(), SUBPANELS * steps * 2 * HALF, "a whole panel");
    let odd = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    let mut sums = [[_mm256_setzero_ps(); SUBPANELS]; 2];
    for (step, piece) in query.iter().enumerate() {
        // SAFETY: a piece holds eight values.
        let (low, high) = unsafe {
            (
                _mm_loadu_ps(piece.as_ptr()),
                _mm_loadu_ps(piece[4..].as_ptr()),
            )
        };
        let even_q = _mm_shuffle_ps::<0x88>(low, high);
        let odd_q = _mm_shuffle_ps::<0xdd>(low, high);
        let (even_q, odd_q) = (
            _mm256_set_m128(even_q, even_q),
            _mm256_set_m128(odd_q, odd_q),
        );
        for sub in 0..SUBPANELS {
            for half in 0..2 {
                let at = (sub * steps + step) * 2 * HALF + half * HALF;
                // SAFETY: half a line is 32 bytes and lies in the panel, whose length was asserted.
                let x = unsafe { _mm256_loadu_si256(panel.as_ptr().add(at).cast()) };
                let even = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x));
                let odd = _mm256_castsi256_ps(_mm256_and_si256(x, odd));
                let sum = _mm256_fmadd_ps(even, even_q, sums[half][sub]);
                sums[half][sub] = _mm256_fmadd_ps(odd, odd_q, sum);
            }
        }
        let ahead = panel.as_ptr().wrapping_add(panel.len() + step * 2 * HALF);
        for sub in 0..SUBPANELS {
            crate::simd::prefetch(ahead.wrapping_add(sub * steps * 2 * HALF));
        }
    }
    let mut transposed = [_mm256_setzero_ps(); 2];
    for half in 0..2 {
        let [a, b, c, d] = sums[half];
        let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
        transposed[half] = _mm256_add_ps(
            _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)),
        );
    }
    transposed
}
