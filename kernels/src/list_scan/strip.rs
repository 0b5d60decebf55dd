//! A strip: panels that stay in a first-level cache while all their queries meet them, and the tile
//! that fits.

#[cfg(target_arch = "x86_64")]
use super::{
    queries::{FEW, Seen},
    shift,
};
use super::{
    seeker::Block,
    tile::{self, EXACT_IP, EXACT_L2, FILTER_IP, FILTER_L2},
};
use crate::{
    Metric,
    order::Slot,
    rows::{Layout, PANEL, Rows},
};
#[cfg(target_arch = "x86_64")]
use crate::{
    rows::int16,
    simd::{Avx2, Bf16},
};
use aligned_vec::{AVec, ConstAlign};
use core::ops::Range;
use pulp::{Simd, WithSimd};

/// Bytes of a list that meet all their queries before the next: most of a first-level cache.
const STRIP_BYTES: usize = 32 << 10;

/// Panels of a strip at most: the keys of a tile with it stay in the first cache.
const STRIP_PANELS: usize = 32;

/// Queries that meet the same rows.
pub(super) struct Group<'a> {
    pub block: &'a Block<'a>,
    pub d: usize,
    /// Their places in the block.
    pub queries: &'a [u32],
}

/// Where the keys of a tile go.
pub(super) trait Sink {
    /// Whether every key is wanted (see [`keys`](Self::keys)), not only survivors.
    const ALL: bool = false;

    /// Where the keys of a panel that begins `at` rows into the strip are written, when all are
    /// wanted.
    fn keys(&mut self, query: u32, at: usize) -> &mut [f32] {
        unreachable!("query {query}, row {at}: only survivors are wanted")
    }

    /// The largest key worth offering.
    fn limit(&self, query: u32) -> f32 {
        unreachable!("query {query}: every key is wanted")
    }

    /// Offers the keys of a panel that begins `at` rows into the strip.
    fn offer(&mut self, query: u32, at: usize, _keys: &[f32; PANEL]) {
        unreachable!("query {query}, row {at}: every key is wanted")
    }

    /// Offers survivors that `write` writes itself: it is given the places to write to, and
    /// returns how many it wrote and their smallest key.
    fn take(&mut self, query: u32, at: usize, _write: impl FnOnce(Places<'_>) -> (usize, f32)) {
        unreachable!("query {query}, row {at}: every key is wanted")
    }
}

/// Where a tile writes survivors of a panel.
pub(super) struct Places<'a> {
    pub keys: &'a mut [f32; PANEL],
    pub at: &'a mut [Slot; PANEL],
    /// The panel's first row.
    pub first: Slot,
    /// Its rows that exist.
    pub live: u32,
}

impl Places<'_> {
    /// Writes the keys that a mask names side by side: how many are of rows that exist, and the smallest.
    #[inline(always)]
    pub fn write(&mut self, keys: &[f32; PANEL], mask: u32) -> (usize, f32) {
        let mut mask = mask & self.live;
        let (mut taken, mut best) = (0, f32::INFINITY);
        while mask != 0 {
            let place = mask.trailing_zeros();
            mask &= mask - 1;
            let key = keys[place as usize];
            best = best.min(key);
            self.keys[taken] = key;
            self.at[taken] = Slot {
                slot: self.first.slot + place,
                ..self.first
            };
            taken += 1;
        }
        (taken, best)
    }
}

/// Queries of a tile at most.
const TILE_QUERIES: usize = 6;

/// What a tile writes on the way.
pub(super) struct Scratch {
    /// Panels as f32.
    widened: AVec<f32, ConstAlign<64>>,
    /// Panels as whole steps.
    #[cfg(target_arch = "x86_64")]
    rounded: AVec<u16, ConstAlign<64>>,
    /// Keys of a tile's queries with a strip.
    scores: AVec<f32, ConstAlign<64>>,
}

impl Scratch {
    pub fn new() -> Self {
        Self {
            widened: AVec::new(64),
            #[cfg(target_arch = "x86_64")]
            rounded: AVec::new(64),
            scores: AVec::new(64),
        }
    }
}

/// A run of panels of one list, or of rows gathered from it.
pub(super) struct Strip<'a> {
    pub list: u32,
    pub rows: &'a Rows,
    pub panels: Range<usize>,
    pub ahead: Ahead<'a>,
}

/// High planes of panels that are read later, to be asked for in time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead<'a> {
    /// Of the same list.
    pub here: &'a [u16],
    /// Of the next piece.
    pub next: &'a [u16],
}

impl<'a> Ahead<'a> {
    /// The `i`-th panel, of `size` values.
    #[inline(always)]
    pub fn panel(&self, i: usize, size: usize) -> Option<&'a [u16]> {
        let at = i * size;
        match at.checked_sub(self.here.len()) {
            None => self.here.get(at..at + size),
            Some(at) => self.next.get(at..at + size),
        }
    }
}

/// How the rows of a strip come to a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// bf16, as they lie.
    #[cfg(target_arch = "x86_64")]
    Bf16(Bf16),
    /// bf16, made f32 in registers.
    #[cfg(target_arch = "x86_64")]
    Shift(Avx2),
    /// Rounded to whole steps first.
    #[cfg(target_arch = "x86_64")]
    Integers(Avx2),
    /// Written out as f32 first.
    Widened,
    /// f32, as they lie.
    Panels,
}

impl Reading {
    /// For `queries` of a block at once.
    fn of(rows: &Rows, block: &Block<'_>, queries: usize, exact: bool) -> Self {
        let layout = rows.layout();
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (block, queries, exact);
        #[cfg(target_arch = "x86_64")]
        if !exact {
            let isa = block.isa;
            match (isa.bf16(), isa.integers(), isa.avx2()) {
                (Some(bf16), ..) if layout.has_high() => return Self::Bf16(bf16),
                (_, Some(avx2), _) if queries > FEW && block.queries.seen() == Seen::Steps => {
                    return Self::Integers(avx2);
                }
                (_, _, Some(avx2)) if queries <= shift::QUERIES && layout.has_high() => {
                    return Self::Shift(avx2);
                }
                _ => {}
            }
        }
        if layout == Layout::F32 {
            Self::Panels
        } else {
            Self::Widened
        }
    }

    /// Bytes of a panel as the tile multiplies it.
    fn panel_bytes(self, rows: &Rows) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Bf16(_) => rows.panel_bytes(),
            #[cfg(target_arch = "x86_64")]
            Self::Integers(_) => int16::panel_size(rows.d()) * size_of::<i16>(),
            // Also for bf16 in registers: shorter strips look at limits more often.
            _ => PANEL * rows.d() * size_of::<f32>(),
        }
    }
}

/// Panels of a strip for `queries` of a block at once.
pub(super) fn strip_panels(rows: &Rows, block: &Block<'_>, queries: usize, exact: bool) -> usize {
    let panel_bytes = Reading::of(rows, block, queries, exact).panel_bytes(rows);
    (STRIP_BYTES / panel_bytes).clamp(4, STRIP_PANELS)
}

/// Runs the tile that fits over a strip, for all queries of a group; by exact values or those of
/// the filter.
pub(super) fn scan_strip(
    strip: &Strip<'_>,
    group: &Group<'_>,
    exact: bool,
    scratch: &mut Scratch,
    sink: &mut impl Sink,
) {
    if group.queries.is_empty() {
        return;
    }
    let (isa, metric) = (group.block.isa, group.block.problem.metric);
    let norms = strip.rows.norms(strip.panels.clone());
    let reading = Reading::of(strip.rows, group.block, group.queries.len(), exact);
    match reading {
        #[cfg(target_arch = "x86_64")]
        Reading::Bf16(proof) => {
            let panels = super::bf16::Panels {
                high: strip.rows.high(strip.panels.clone()),
                norms,
                ahead: strip.ahead,
            };
            match metric {
                Metric::L2 => super::bf16::scan::<true, _>(proof, panels, group, sink),
                Metric::InnerProduct => super::bf16::scan::<false, _>(proof, panels, group, sink),
            }
        }
        #[cfg(target_arch = "x86_64")]
        Reading::Shift(proof) => {
            let high = strip.rows.high(strip.panels.clone());
            match metric {
                Metric::L2 => shift::scan::<true, _>(proof, high, norms, group, sink),
                Metric::InnerProduct => {
                    shift::scan::<false, _>(proof, high, norms, group, sink);
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        Reading::Integers(proof) => {
            let Scratch {
                rounded, widened, ..
            } = scratch;
            rounded.resize(strip.panels.len() * int16::panel_size(group.d), 0);
            let panels = strip.panels.clone();
            let step = strip.rows.round(panels, isa, proof, widened, rounded);
            let panels = super::integers::Panels {
                values: rounded,
                norms,
                step,
                ahead: strip.ahead,
            };
            match metric {
                Metric::L2 => super::integers::scan::<true, _>(proof, panels, group, sink),
                Metric::InnerProduct => {
                    super::integers::scan::<false, _>(proof, panels, group, sink);
                }
            }
        }
        Reading::Widened | Reading::Panels => {
            let rows = strip.panels.len() * PANEL;
            scratch.scores.resize(TILE_QUERIES * rows, 0.0);
            let widen = reading == Reading::Widened;
            if widen {
                scratch.widened.resize(rows * group.d, 0.0);
            }
            isa.run(Tiles {
                strip,
                widened: widen.then_some(&mut scratch.widened[..]),
                scores: &mut scratch.scores,
                norms,
                group,
                exact,
                metric,
                sink,
            });
        }
    }
}

/// The f32 tile over a strip, widened first where it is not f32.
struct Tiles<'a, K> {
    strip: &'a Strip<'a>,
    widened: Option<&'a mut [f32]>,
    scores: &'a mut [f32],
    norms: &'a [f32],
    group: &'a Group<'a>,
    exact: bool,
    metric: Metric,
    sink: &'a mut K,
}

impl<K: Sink> WithSimd for Tiles<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let panels = self.strip.panels.clone();
        let panels: &[f32] = match self.widened {
            Some(widened) => {
                let isa = self.group.block.isa;
                if self.exact {
                    self.strip.rows.widen_exact(panels, isa, widened);
                } else {
                    self.strip.rows.widen(panels, isa, widened);
                }
                widened
            }
            None => self.strip.rows.f32_panels(panels),
        };
        let panels = tile::Panels {
            values: panels,
            norms: self.norms,
        };
        let (group, scores, sink) = (self.group, self.scores, self.sink);
        match (self.metric, self.exact) {
            (Metric::L2, false) => {
                tile::scan::<S, FILTER_L2, K>(simd, panels, group, scores, sink);
            }
            (Metric::InnerProduct, false) => {
                tile::scan::<S, FILTER_IP, K>(simd, panels, group, scores, sink);
            }
            (Metric::L2, true) => {
                tile::scan::<S, EXACT_L2, K>(simd, panels, group, scores, sink);
            }
            (Metric::InnerProduct, true) => {
                tile::scan::<S, EXACT_IP, K>(simd, panels, group, scores, sink);
            }
        }
    }
}
