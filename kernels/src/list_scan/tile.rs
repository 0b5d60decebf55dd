//! The register tile: P panels of rows against N queries.
//!
//! Each query component is broadcast once per panel column and meets 16·P rows; a tile of keys is
//! compared with the queries' thresholds in registers, and only survivors leave them.

// Tiles are arrays of registers, indexed in lockstep.
#![allow(clippy::needless_range_loop)]

use crate::{
    Metric, distance,
    list_scan::{ListsIds, Problem},
    order::{Candidate, Slot, TopK},
    panels::PANEL,
};
use pulp::Simd;

/// A run of panels of one list, and the queries that read it.
pub(super) struct Strip<'a> {
    /// List number.
    pub list: u32,
    /// Panels `first..last` of the list.
    pub first: usize,
    pub last: usize,
    /// Queries, as indices into `tops` (and, plus `block`, into the problem's queries).
    pub group: &'a [u32],
    /// The first query of the block.
    pub block: usize,
}

/// Scans one strip for all its queries.
#[inline(always)]
pub(super) fn scan_strip<S: Simd>(
    simd: S,
    problem: &Problem<'_>,
    strip: &Strip<'_>,
    tops: &mut [TopK],
) {
    match PANEL / S::F32_LANES {
        1 => strip_metric::<S, 1, 4, 6>(simd, problem, strip, tops),
        2 => strip_metric::<S, 2, 1, 4>(simd, problem, strip, tops),
        4 => strip_metric::<S, 4, 1, 4>(simd, problem, strip, tops),
        8 => strip_metric::<S, 8, 1, 1>(simd, problem, strip, tops),
        _ => strip_metric::<S, 16, 1, 1>(simd, problem, strip, tops),
    }
}

#[inline(always)]
fn strip_metric<S: Simd, const R: usize, const P: usize, const N: usize>(
    simd: S,
    problem: &Problem<'_>,
    strip: &Strip<'_>,
    tops: &mut [TopK],
) {
    match problem.metric {
        Metric::L2 => strip_queries::<S, true, R, P, N>(simd, problem, strip, tops),
        Metric::InnerProduct => strip_queries::<S, false, R, P, N>(simd, problem, strip, tops),
    }
}

/// Cuts the group into tiles of N queries, the rest into smaller ones.
#[inline(always)]
fn strip_queries<S: Simd, const L2: bool, const R: usize, const P: usize, const N: usize>(
    simd: S,
    problem: &Problem<'_>,
    strip: &Strip<'_>,
    tops: &mut [TopK],
) {
    let (whole, rest) = strip.group.as_chunks::<N>();
    for group in whole {
        strip_panels::<S, L2, R, P, N>(simd, problem, strip, *group, tops);
    }
    let mut rest = rest;
    while let Some((group, tail)) = rest.split_first_chunk::<4>() {
        strip_panels::<S, L2, R, P, 4>(simd, problem, strip, *group, tops);
        rest = tail;
    }
    while let Some((group, tail)) = rest.split_first_chunk::<2>() {
        strip_panels::<S, L2, R, P, 2>(simd, problem, strip, *group, tops);
        rest = tail;
    }
    if let Some((group, _)) = rest.split_first_chunk::<1>() {
        strip_panels::<S, L2, R, P, 1>(simd, problem, strip, *group, tops);
    }
}

#[inline(always)]
fn strip_panels<S: Simd, const L2: bool, const R: usize, const P: usize, const N: usize>(
    simd: S,
    problem: &Problem<'_>,
    strip: &Strip<'_>,
    group: [u32; N],
    tops: &mut [TopK],
) {
    let mut panel = strip.first;
    while panel + P <= strip.last {
        one_tile::<S, L2, R, P, N>(simd, problem, strip, panel, group, tops);
        panel += P;
    }
    while panel < strip.last {
        one_tile::<S, L2, R, 1, N>(simd, problem, strip, panel, group, tops);
        panel += 1;
    }
}

#[inline(always)]
fn one_tile<S: Simd, const L2: bool, const R: usize, const P: usize, const N: usize>(
    simd: S,
    problem: &Problem<'_>,
    strip: &Strip<'_>,
    panel: usize,
    group: [u32; N],
    tops: &mut [TopK],
) {
    let mut queries: [&[f32]; N] = [&[]; N];
    for n in 0..N {
        queries[n] = problem.query(strip.block + group[n] as usize);
    }
    let size = PANEL * problem.d;
    let data = problem.lists[strip.list as usize].panels().data();
    let mut panels: [&[S::f32s]; P] = [&[]; P];
    for p in 0..P {
        panels[p] = S::as_simd_f32s(&data[(panel + p) * size..][..size]).0;
    }
    let keys = tile_keys::<S, L2, R, P, N>(simd, problem.d, &panels, &queries);
    for n in 0..N {
        let top = &mut tops[group[n] as usize];
        let threshold = simd.splat_f32s(top.threshold());
        let mut survivors = false;
        for row in &keys[n] {
            for &key in row {
                survivors |= survives::<S, L2>(simd, key, threshold);
            }
        }
        if survivors {
            let rows = plain_rows::<S, R, P>(&keys[n]);
            keep(problem, strip, panel, rows, queries[n], top);
        }
    }
}

/// Whether any lane can be among the k best. A key that left the f32 range survives too (inner
/// products only; [`keep`] sums it again in f64); an L2 key never is NaN.
#[inline(always)]
fn survives<S: Simd, const L2: bool>(simd: S, key: S::f32s, threshold: S::f32s) -> bool {
    let pass = simd.less_than_or_equal_f32s(key, threshold);
    let pass = if L2 {
        pass
    } else {
        let zero = simd.splat_f32s(0.0);
        let finite = simd.equal_f32s(simd.sub_f32s(key, key), zero);
        let all = simd.equal_f32s(zero, zero);
        simd.or_m32s(pass, simd.xor_m32s(finite, all))
    };
    simd.first_true_m32s(pass) < S::F32_LANES
}

/// Keys of P panels × N queries, summed in the order of [`crate::distance`].
#[inline(always)]
fn tile_keys<S: Simd, const L2: bool, const R: usize, const P: usize, const N: usize>(
    simd: S,
    d: usize,
    panels: &[&[S::f32s]; P],
    queries: &[&[f32]; N],
) -> [[[S::f32s; R]; P]; N] {
    let zero = simd.splat_f32s(0.0);
    let mut total = [[[zero; R]; P]; N];
    let mut from = 0;
    while from < d {
        let to = (from + distance::BLOCK).min(d);
        let mut sum = [[[zero; R]; P]; N];
        for t in from..to {
            let mut x = [[zero; R]; P];
            for p in 0..P {
                for r in 0..R {
                    // SAFETY: panel slices hold d·R registers and t < d.
                    x[p][r] = unsafe { *panels[p].get_unchecked(t * R + r) };
                }
            }
            for n in 0..N {
                // SAFETY: queries hold d components and t < d.
                let q = simd.splat_f32s(unsafe { *queries[n].get_unchecked(t) });
                for p in 0..P {
                    for r in 0..R {
                        sum[n][p][r] = if L2 {
                            let difference = simd.sub_f32s(x[p][r], q);
                            simd.mul_add_f32s(difference, difference, sum[n][p][r])
                        } else {
                            simd.mul_add_f32s(x[p][r], q, sum[n][p][r])
                        };
                    }
                }
            }
        }
        for n in 0..N {
            for p in 0..P {
                for r in 0..R {
                    total[n][p][r] = simd.add_f32s(total[n][p][r], sum[n][p][r]);
                }
            }
        }
        from = to;
    }
    if !L2 {
        for n in 0..N {
            for p in 0..P {
                for r in 0..R {
                    total[n][p][r] = simd.sub_f32s(zero, total[n][p][r]);
                }
            }
        }
    }
    total
}

/// The keys of one query as plain numbers, `P·PANEL` of them.
#[inline(always)]
fn plain_rows<S: Simd, const R: usize, const P: usize>(
    keys: &[[S::f32s; R]; P],
) -> [[f32; PANEL]; P] {
    let mut rows = [[0.0; PANEL]; P];
    for (row, keys) in rows.iter_mut().zip(keys) {
        for (lanes, &key) in row.chunks_exact_mut(S::F32_LANES).zip(keys) {
            lanes.copy_from_slice(bytemuck::cast_slice(core::slice::from_ref(&key)));
        }
    }
    rows
}

/// Offers the survivors of one query's tile to its buffer.
#[inline(never)]
fn keep<const P: usize>(
    problem: &Problem<'_>,
    strip: &Strip<'_>,
    panel: usize,
    rows: [[f32; PANEL]; P],
    query: &[f32],
    top: &mut TopK,
) {
    let ids = ListsIds(problem.lists);
    let list = &problem.lists[strip.list as usize];
    for (p, keys) in rows.iter().enumerate() {
        let first = (panel + p) * PANEL;
        let lanes = PANEL.min(list.len() - first);
        for (lane, &key) in keys[..lanes].iter().enumerate() {
            let key = if problem.metric == Metric::L2 || key.is_finite() {
                key
            } else {
                distance::wide_panel_key(query, list.panel(first), lane)
            };
            if key <= top.threshold() {
                let at = Slot {
                    list: strip.list,
                    slot: (first + lane) as u32,
                };
                top.push(Candidate { key, at }, &ids);
            }
        }
    }
}
