//! The register tile over high planes with AVX-512's dot products of bf16.
//!
//! A line of a sub-panel (four rows × eight components) meets a query's eight components, repeated
//! four times: `vdpbf16ps` adds their products in pairs. Four sub-panels give four registers of
//! partial sums, which two levels of unpack-and-add turn into the sums of 16 rows in order.

#![allow(
    clippy::needless_range_loop,
    reason = "tiles are arrays of registers, indexed in lockstep"
)]

use super::{
    aside::Aside,
    strip::{Ahead, Group, Places, Sink},
};
use crate::{
    rows::{
        PANEL,
        planes::{PIECE, SUBPANELS, panel_size},
    },
    simd::Bf16,
};
use core::arch::x86_64::{
    __m512, __m512bh, __m512i, _CMP_LE_OQ, _mm_loadu_si128, _mm512_add_epi64, _mm512_add_ps,
    _mm512_broadcast_i32x4, _mm512_castpd_ps, _mm512_castps_pd, _mm512_cmp_ps_mask,
    _mm512_dpbf16_ps, _mm512_fnmadd_ps, _mm512_load_ps, _mm512_load_si512, _mm512_mask_mov_ps,
    _mm512_maskz_compress_epi64, _mm512_maskz_compress_ps, _mm512_reduce_min_ps, _mm512_set1_epi64,
    _mm512_set1_ps, _mm512_setr_epi64, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512,
    _mm512_sub_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// Queries that meet a panel at once.
const TILE: usize = 6;

/// Panels of high planes, their squared lengths, and what is read next.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub high: &'a [u16],
    pub norms: &'a [f32],
    pub ahead: Ahead<'a>,
}

/// Scans panels of high planes for all queries of a group.
pub(super) fn scan<const L2: bool, K: Sink>(
    _proof: Bf16,
    panels: Panels<'_>,
    group: &Group<'_>,
    sink: &mut K,
) {
    // SAFETY: the proof says that the processor has these instructions.
    unsafe { by_queries::<L2, K>(panels, group, sink) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn by_queries<const L2: bool, K: Sink>(mut panels: Panels<'_>, group: &Group<'_>, sink: &mut K) {
    let (whole, mut rest) = group.queries.as_chunks::<TILE>();
    for queries in whole {
        by_panels::<L2, TILE, K>(&mut panels, group, queries, sink);
    }
    while let Some((queries, tail)) = rest.split_first_chunk::<3>() {
        by_panels::<L2, 3, K>(&mut panels, group, queries, sink);
        rest = tail;
    }
    if let Some((queries, tail)) = rest.split_first_chunk::<2>() {
        by_panels::<L2, 2, K>(&mut panels, group, queries, sink);
        rest = tail;
    }
    if let Some((queries, _)) = rest.split_first_chunk::<1>() {
        by_panels::<L2, 1, K>(&mut panels, group, queries, sink);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn by_panels<const L2: bool, const N: usize, K: Sink>(
    panels: &mut Panels<'_>,
    group: &Group<'_>,
    queries: &[u32; N],
    sink: &mut K,
) {
    let size = panel_size(group.d);
    let steps = group.d.div_ceil(PIECE);
    let mut components = [core::ptr::null(); N];
    for n in 0..N {
        let half = group.block.queries.half(queries[n] as usize);
        assert_eq!(half.len(), steps * PIECE, "a query has whole pieces");
        components[n] = half.as_ptr();
    }
    // The first queries bring what is read next nearer, for all.
    let ahead = core::mem::take(&mut panels.ahead);
    let &mut Panels { high, norms, .. } = panels;
    let count = norms.len() / PANEL;
    assert_eq!(high.len(), count * size, "whole panels");
    let mut limits = [0.0; N];
    if !K::ALL {
        for n in 0..N {
            limits[n] = sink.limit(queries[n]);
        }
    }
    let mut aside = Aside::new();
    for panel in 0..count {
        let next = ahead.panel(panel, size);
        // SAFETY: the panel lies within `high`, which begins on a cache line as `size` is a
        // multiple of one; the queries hold `steps` pieces each (both asserted above).
        let sums = unsafe {
            let panel = high.as_ptr().add(panel * size);
            match next {
                Some(next) => products::<N, true>(panel, steps, &components, next.as_ptr()),
                None => products::<N, false>(panel, steps, &components, panel),
            }
        };
        let at = panel * PANEL;
        // SAFETY: `norms` holds PANEL values a panel, aligned as the panels are.
        let norms = unsafe { _mm512_load_ps(norms[at..at + PANEL].as_ptr()) };
        if !K::ALL && !aside.has_room(N) {
            drain(&mut aside, queries, sink);
        }
        for n in 0..N {
            let key = if L2 {
                _mm512_fnmadd_ps(sums[n], _mm512_set1_ps(2.0), norms)
            } else {
                _mm512_sub_ps(_mm512_setzero_ps(), sums[n])
            };
            if K::ALL {
                let keys = sink.keys(queries[n], at);
                assert!(keys.len() >= PANEL, "room for a panel");
                // SAFETY: there is room for the register.
                unsafe { _mm512_storeu_ps(keys.as_mut_ptr(), key) };
                continue;
            }
            let mask = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(key, _mm512_set1_ps(limits[n]));
            aside.push(key, mask, n, at);
        }
    }
    drain(&mut aside, queries, sink);
}

/// Gives the sink what was put aside.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn drain<const N: usize>(aside: &mut Aside<__m512>, queries: &[u32; N], sink: &mut impl Sink) {
    for (keys, mask, n, at) in aside.take() {
        sink.take(queries[n], at, |mut places| write(&mut places, keys, mask));
    }
}

/// Writes the survivors of a panel side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn write(places: &mut Places<'_>, keys: __m512, mask: u16) -> (usize, f32) {
    let mask = mask & places.live as u16;
    let packed = _mm512_maskz_compress_ps(mask, keys);
    // A slot as u64: the list below, the place above (little-endian).
    let first = u64::from(places.first.list) | u64::from(places.first.slot) << 32;
    let first = _mm512_set1_epi64(first.cast_signed());
    let low = _mm512_setr_epi64(
        0,
        1 << 32,
        2 << 32,
        3 << 32,
        4 << 32,
        5 << 32,
        6 << 32,
        7 << 32,
    );
    let low = _mm512_add_epi64(first, low);
    let high = _mm512_add_epi64(low, _mm512_set1_epi64(8 << 32));
    let low = _mm512_maskz_compress_epi64(mask as u8, low);
    let high = _mm512_maskz_compress_epi64((mask >> 8) as u8, high);
    let below = (mask as u8).count_ones() as usize;
    let at = places.at.as_mut_ptr();
    // SAFETY: `keys` holds 16 values; `at` holds 16 slots of 8 bytes (`repr(C)`), of which the
    // first store writes 8 and the second the 8 from `below <= 8` on.
    unsafe {
        _mm512_storeu_ps(places.keys.as_mut_ptr(), packed);
        _mm512_storeu_si512(at.cast(), low);
        _mm512_storeu_si512(at.add(below).cast(), high);
    }
    let infinity = _mm512_set1_ps(f32::INFINITY);
    let best = _mm512_reduce_min_ps(_mm512_mask_mov_ps(infinity, mask, keys));
    (mask.count_ones() as usize, best)
}

/// Products of the 16 rows of a panel with N queries; asks for the panel at `next` if `AHEAD`.
///
/// # Safety
/// `panel` is aligned to 64 bytes and holds [`SUBPANELS`]·`steps` lines; every query holds `steps`
/// pieces.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn products<const N: usize, const AHEAD: bool>(
    panel: *const u16,
    steps: usize,
    queries: &[*const u16; N],
    next: *const u16,
) -> [__m512; N] {
    const LINE: usize = 4 * PIECE;
    let mut sums = [[_mm512_setzero_ps(); SUBPANELS]; N];
    for step in 0..steps {
        let mut x = [bf16_from_bits(zero_bits()); SUBPANELS];
        for sub in 0..SUBPANELS {
            // SAFETY: line `sub·steps + step` lies in the panel, see above.
            unsafe {
                let at = (sub * steps + step) * LINE;
                x[sub] = bf16_from_bits(_mm512_load_si512(panel.add(at).cast()));
                if AHEAD {
                    crate::simd::prefetch_later(next.wrapping_add(at));
                }
            }
        }
        for n in 0..N {
            // SAFETY: piece `step` lies in the query, see above.
            let piece = unsafe { _mm_loadu_si128(queries[n].add(step * PIECE).cast()) };
            let q = bf16_from_bits(_mm512_broadcast_i32x4(piece));
            for sub in 0..SUBPANELS {
                sums[n][sub] = _mm512_dpbf16_ps(sums[n][sub], x[sub], q);
            }
        }
    }
    let mut transposed = [_mm512_setzero_ps(); N];
    for n in 0..N {
        let [a, b, c, d] = sums[n];
        let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
        transposed[n] = _mm512_add_ps(
            _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
        );
    }
    transposed
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero_bits() -> __m512i {
    core::arch::x86_64::_mm512_setzero_si512()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bf16_from_bits(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of plain data.
    unsafe { core::mem::transmute(bits) }
}
