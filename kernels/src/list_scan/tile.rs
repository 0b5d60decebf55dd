//! The register tile over f32 panels: P panels of rows against N queries.
//!
//! Each query component is broadcast once and meets 16·P rows. The keys of N queries with a strip
//! are written down, then compared with the queries' limits. The tile ranks only: survivors are
//! compared again, exactly.

#![allow(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "tiles are arrays of registers, indexed in lockstep"
)]

use super::strip::{Group, Sink};
use crate::rows::PANEL;
use pulp::Simd;

/// `‖x‖² - 2·q·x`.
pub(super) const FILTER_L2: u8 = 0;
/// `-q·x`.
pub(super) const FILTER_IP: u8 = 1;
/// `‖x - q‖²`, from differences.
pub(super) const EXACT_L2: u8 = 2;
/// `-q·x`; a sum that left the f32 range passes too.
pub(super) const EXACT_IP: u8 = 3;

/// Panels of rows as f32.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// `[n, d, PANEL]`.
    pub values: &'a [f32],
    /// Squared lengths of their rows, `[n, PANEL]`.
    pub norms: &'a [f32],
}

/// Scans panels for all queries of a group.
#[inline(always)]
pub(super) fn scan<S: Simd, const KEY: u8, K: Sink>(
    simd: S,
    panels: Panels<'_>,
    group: &Group<'_>,
    scores: &mut [f32],
    sink: &mut K,
) {
    match PANEL / S::F32_LANES {
        1 => by_queries::<S, KEY, 1, 4, 6, K>(simd, panels, group, scores, sink),
        2 => by_queries::<S, KEY, 2, 1, 6, K>(simd, panels, group, scores, sink),
        4 => by_queries::<S, KEY, 4, 1, 4, K>(simd, panels, group, scores, sink),
        8 => by_queries::<S, KEY, 8, 1, 1, K>(simd, panels, group, scores, sink),
        _ => by_queries::<S, KEY, 16, 1, 1, K>(simd, panels, group, scores, sink),
    }
}

/// Cuts the group into tiles of N queries, the rest into smaller ones.
#[inline(always)]
fn by_queries<S: Simd, const KEY: u8, const R: usize, const P: usize, const N: usize, K: Sink>(
    simd: S,
    panels: Panels<'_>,
    group: &Group<'_>,
    scores: &mut [f32],
    sink: &mut K,
) {
    let (whole, mut rest) = group.queries.as_chunks::<N>();
    for queries in whole {
        by_panels::<S, KEY, R, P, N, K>(simd, panels, group, queries, scores, sink);
    }
    while let Some((queries, tail)) = rest.split_first_chunk::<4>() {
        by_panels::<S, KEY, R, P, 4, K>(simd, panels, group, queries, scores, sink);
        rest = tail;
    }
    while let Some((queries, tail)) = rest.split_first_chunk::<2>() {
        by_panels::<S, KEY, R, P, 2, K>(simd, panels, group, queries, scores, sink);
        rest = tail;
    }
    if let Some((queries, _)) = rest.split_first_chunk::<1>() {
        by_panels::<S, KEY, R, P, 1, K>(simd, panels, group, queries, scores, sink);
    }
}

#[inline(always)]
fn by_panels<S: Simd, const KEY: u8, const R: usize, const P: usize, const N: usize, K: Sink>(
    simd: S,
    panels: Panels<'_>,
    group: &Group<'_>,
    queries: &[u32; N],
    scores: &mut [f32],
    sink: &mut K,
) {
    let (count, mut panel) = (panels.norms.len() / PANEL, 0);
    while panel + P <= count {
        let place = (panel * PANEL, count);
        tile::<S, KEY, R, P, N, K>(simd, panels, group, queries, place, scores, sink);
        panel += P;
    }
    while panel < count {
        let place = (panel * PANEL, count);
        tile::<S, KEY, R, 1, N, K>(simd, panels, group, queries, place, scores, sink);
        panel += 1;
    }
    if K::ALL {
        return;
    }
    let rows = count * PANEL;
    for n in 0..N {
        let limit = simd.splat_f32s(sink.limit(queries[n]));
        let (scores, _) = scores[n * rows..][..rows].as_chunks::<PANEL>();
        for (panel, scores) in scores.iter().enumerate() {
            let keys = S::as_simd_f32s(scores).0;
            let mut any = false;
            for r in 0..R {
                any |= passes::<S, KEY>(simd, keys[r], limit);
            }
            if any {
                sink.offer(queries[n], panel * PANEL, scores);
            }
        }
    }
}

/// One tile: its keys begin `at` rows into a strip of `strip` panels.
#[inline(always)]
fn tile<S: Simd, const KEY: u8, const R: usize, const P: usize, const N: usize, K: Sink>(
    simd: S,
    panels: Panels<'_>,
    group: &Group<'_>,
    queries: &[u32; N],
    (at, strip): (usize, usize),
    scores: &mut [f32],
    sink: &mut K,
) {
    let size = PANEL * group.d;
    let mut columns: [&[S::f32s]; P] = [&[]; P];
    for p in 0..P {
        let from = (at / PANEL + p) * size;
        columns[p] = S::as_simd_f32s(&panels.values[from..][..size]).0;
    }
    let mut components: [&[f32]; N] = [&[]; N];
    for n in 0..N {
        components[n] = &group.block.queries.full(queries[n] as usize)[..group.d];
    }
    let mut keys = products::<S, KEY, R, P, N>(simd, group.d, &columns, &components);
    let norms = S::as_simd_f32s(&panels.norms[at..][..P * PANEL]).0;
    let (zero, minus_two) = (simd.splat_f32s(0.0), simd.splat_f32s(-2.0));
    for n in 0..N {
        for p in 0..P {
            for r in 0..R {
                let sum = keys[n][p][r];
                keys[n][p][r] = match KEY {
                    FILTER_L2 => simd.mul_add_f32s(sum, minus_two, norms[p * R + r]),
                    EXACT_L2 => sum,
                    _ => simd.sub_f32s(zero, sum),
                };
            }
        }
    }
    // All keys are written down before any is looked at: a branch on them here would keep the
    // accumulators in memory.
    let rows = strip * PANEL;
    for n in 0..N {
        for p in 0..P {
            let at = at + p * PANEL;
            let out = if K::ALL {
                sink.keys(queries[n], at)
            } else {
                &mut scores[n * rows + at..][..PANEL]
            };
            let out = S::as_mut_simd_f32s(out).0;
            for r in 0..R {
                out[r] = keys[n][p][r];
            }
        }
    }
}

/// Whether any lane can be among the k best.
#[inline(always)]
fn passes<S: Simd, const KEY: u8>(simd: S, key: S::f32s, limit: S::f32s) -> bool {
    let mut pass = simd.less_than_or_equal_f32s(key, limit);
    if KEY == EXACT_IP {
        let zero = simd.splat_f32s(0.0);
        let finite = simd.equal_f32s(simd.sub_f32s(key, key), zero);
        let all = simd.equal_f32s(zero, zero);
        pass = simd.or_m32s(pass, simd.xor_m32s(finite, all));
    }
    simd.first_true_m32s(pass) < S::F32_LANES
}

/// Sums of P panels × N queries: products, or squared differences.
#[inline(always)]
fn products<S: Simd, const KEY: u8, const R: usize, const P: usize, const N: usize>(
    simd: S,
    d: usize,
    panels: &[&[S::f32s]; P],
    queries: &[&[f32]; N],
) -> [[[S::f32s; R]; P]; N] {
    let zero = simd.splat_f32s(0.0);
    let mut sum = [[[zero; R]; P]; N];
    for t in 0..d {
        let mut x = [[zero; R]; P];
        for p in 0..P {
            for r in 0..R {
                // SAFETY: a panel holds d·R registers and t < d.
                x[p][r] = unsafe { *panels[p].get_unchecked(t * R + r) };
            }
        }
        for n in 0..N {
            // SAFETY: a query holds d components and t < d.
            let q = simd.splat_f32s(unsafe { *queries[n].get_unchecked(t) });
            for p in 0..P {
                for r in 0..R {
                    sum[n][p][r] = if KEY == EXACT_L2 {
                        let difference = simd.sub_f32s(x[p][r], q);
                        simd.mul_add_f32s(difference, difference, sum[n][p][r])
                    } else {
                        simd.mul_add_f32s(x[p][r], q, sum[n][p][r])
                    };
                }
            }
        }
    }
    sum
}
