//! The register tile over panels of 16-bit integers, with 256-bit registers, for many queries.
//!
//! `vpmaddwd` multiplies sixteen pairs of 16-bit integers and adds neighbours, twice the products of a fused
//! multiply-add of f32. What the integers stand for, and why no sum leaves 32 bits, is told in
//! [`crate::rows::int16`]. A pair of components of a query is broadcast and meets the sixteen rows of a
//! panel in two registers.

#![allow(
    clippy::needless_range_loop,
    reason = "tiles are arrays of registers, indexed in lockstep"
)]

use super::{
    aside::Aside,
    strip::{Ahead, Group, Places, Sink},
};
use crate::{
    rows::{PANEL, int16, planes},
    simd::Avx2,
};
use core::arch::x86_64::{
    __m256, __m256i, _CMP_LE_OQ, _mm256_add_epi32, _mm256_cmp_ps, _mm256_cvtepi32_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_movemask_ps,
    _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps,
};

/// Queries that meet a panel at once.
const TILE: usize = 6;

/// Panels of integers.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// As [`int16`] lays them out.
    pub values: &'a [u16],
    /// Squared lengths of their rows, `[n, PANEL]`.
    pub norms: &'a [f32],
    /// What an integer counts.
    pub step: f32,
    /// What is rounded next, where it lies in sub-panels: four streams, which a processor does not foresee.
    pub ahead: Ahead<'a>,
}

/// Scans panels for all queries of a group.
pub(super) fn scan<const L2: bool, K: Sink>(
    _proof: Avx2,
    panels: Panels<'_>,
    group: &Group<'_>,
    sink: &mut K,
) {
    // SAFETY: the proof says that the processor has these instructions.
    unsafe { by_queries::<L2, K>(panels, group, sink) }
}

#[target_feature(enable = "avx2,fma")]
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
#[target_feature(enable = "avx2,fma")]
fn by_panels<const L2: bool, const N: usize, K: Sink>(
    panels: &mut Panels<'_>,
    group: &Group<'_>,
    queries: &[u32; N],
    sink: &mut K,
) {
    // The first queries bring what is read next nearer, for all.
    let ahead = core::mem::take(&mut panels.ahead);
    let (size, pairs) = (int16::panel_size(group.d), int16::pairs(group.d));
    let (norms, _) = panels.norms.as_chunks::<PANEL>();
    assert_eq!(panels.values.len(), norms.len() * size, "whole panels");
    let mut components = [core::ptr::null(); N];
    let (mut limits, mut scales) = ([0.0; N], [0.0; N]);
    for n in 0..N {
        let query = queries[n] as usize;
        let values = group.block.queries.half(query);
        assert!(values.len() >= 2 * pairs, "a query has whole pairs");
        components[n] = values.as_ptr();
        let sign = if L2 { -2.0 } else { -1.0 };
        scales[n] = sign * panels.step * group.block.queries.facts(query).step;
        if !K::ALL {
            limits[n] = sink.limit(queries[n]);
        }
    }
    let mut aside = Aside::new();
    for (place, norms) in norms.iter().enumerate() {
        // SAFETY: the panel lies within `values`, and every query holds `pairs` pairs (both asserted above).
        let sums = unsafe {
            let panel = panels.values.as_ptr().add(place * size);
            match ahead.panel(place, planes::panel_size(group.d)) {
                Some(next) => products::<N, true>(panel, pairs, &components, next.as_ptr()),
                None => products::<N, false>(panel, pairs, &components, panel),
            }
        };
        // SAFETY: a panel's norms are the values of two registers.
        let norms = unsafe {
            let norms = norms.as_ptr();
            [
                _mm256_loadu_ps(norms),
                _mm256_loadu_ps(norms.add(PANEL / 2)),
            ]
        };
        if !K::ALL && !aside.has_room(N) {
            drain(&mut aside, queries, sink);
        }
        for n in 0..N {
            let scale = _mm256_set1_ps(scales[n]);
            let mut keys = norms;
            for half in 0..2 {
                let sum = _mm256_cvtepi32_ps(sums[n][half]);
                keys[half] = if L2 {
                    _mm256_fmadd_ps(sum, scale, norms[half])
                } else {
                    _mm256_mul_ps(sum, scale)
                };
            }
            let at = place * PANEL;
            if K::ALL {
                let out = sink.keys(queries[n], at);
                assert!(out.len() >= PANEL, "room for a panel");
                // SAFETY: there is room for both registers.
                unsafe { store(keys, out.as_mut_ptr()) };
                continue;
            }
            let limit = _mm256_set1_ps(limits[n]);
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(keys[0], limit));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(keys[1], limit));
            aside.push(keys, (low | high << (PANEL / 2)) as u16, n, at);
        }
    }
    drain(&mut aside, queries, sink);
}

/// # Safety
/// There is room for a panel's keys at `out`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store(keys: [__m256; 2], out: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        _mm256_storeu_ps(out, keys[0]);
        _mm256_storeu_ps(out.add(PANEL / 2), keys[1]);
    }
}

/// Gives the sink what was put aside.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn drain<const N: usize>(aside: &mut Aside<[__m256; 2]>, queries: &[u32; N], sink: &mut impl Sink) {
    for (keys, mask, n, at) in aside.take() {
        sink.take(queries[n], at, |mut places| write(&mut places, keys, mask));
    }
}

/// Writes the survivors of a panel side by side.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn write(places: &mut Places<'_>, keys: [__m256; 2], mask: u16) -> (usize, f32) {
    let mut values = [0.0; PANEL];
    // SAFETY: there is room for both registers.
    unsafe { store(keys, values.as_mut_ptr()) };
    places.write(&values, u32::from(mask))
}

/// Sums of products of the rows of a panel with N queries; asks for the panel at `next` if `AHEAD`.
///
/// # Safety
/// `panel` holds `pairs` lines of two registers; every query holds `pairs` pairs.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn products<const N: usize, const AHEAD: bool>(
    panel: *const u16,
    pairs: usize,
    queries: &[*const u16; N],
    next: *const u16,
) -> [[__m256i; 2]; N] {
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    for pair in 0..pairs {
        // SAFETY: line `pair` lies in the panel, pair `pair` in every query, see above.
        unsafe {
            let line = panel.add(pair * 2 * PANEL);
            if AHEAD {
                // A line for each of ours, but for what pads its pieces.
                crate::simd::prefetch_later(next.wrapping_add(pair * 2 * PANEL));
            }
            let x = [
                _mm256_loadu_si256(line.cast()),
                _mm256_loadu_si256(line.add(PANEL).cast()),
            ];
            for n in 0..N {
                let q = queries[n].add(2 * pair).cast::<i32>().read_unaligned();
                let q = _mm256_set1_epi32(q);
                for half in 0..2 {
                    let product = _mm256_madd_epi16(x[half], q);
                    sums[n][half] = _mm256_add_epi32(sums[n][half], product);
                }
            }
        }
    }
    sums
}
