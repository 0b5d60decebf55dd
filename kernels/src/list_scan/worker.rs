//! A worker: takes pieces of a block's work and runs the tile that fits.

use super::{
    seeker::{Block, Seeker},
    tile::{self, EXACT_IP, EXACT_L2, FILTER_IP, FILTER_L2},
};
use crate::{
    Metric,
    order::Slot,
    rows::{Layout, PANEL, Rows},
};
use aligned_vec::{AVec, ConstAlign};
use core::ops::Range;
use pulp::{Simd, WithSimd};

/// Bytes of a list that meet all their queries before the next: half of a 1 MiB L2.
const STRIP_BYTES: usize = 512 << 10;

/// A run of panels of one list, and the queries that read it.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub list: u32,
    pub panels: Range<usize>,
    /// Where its queries lie in the block's table of members.
    pub members: Range<usize>,
}

/// Queries that meet the same rows.
pub(super) struct Group<'a> {
    pub block: &'a Block<'a>,
    pub d: usize,
    /// Their places in the block.
    pub queries: &'a [u32],
}

/// Where survivors of a tile go.
pub(super) trait Sink {
    /// The largest key worth offering.
    fn limit(&self, query: u32) -> f32;
    /// Offers the keys of a panel that begins `at` rows into the strip.
    fn offer(&mut self, query: u32, at: usize, keys: &[f32; PANEL]);
    /// Offers the keys `mask` names.
    fn offer_masked(&mut self, query: u32, at: usize, keys: &[f32; PANEL], mask: u32);
}

/// One worker of a block.
pub(super) struct Worker<'a> {
    block: &'a Block<'a>,
    pub seekers: Vec<Seeker>,
    /// Rows compared exactly.
    pub reranked: u64,
    widened: AVec<f32, ConstAlign<64>>,
    filtered: Vec<u32>,
    unfiltered: Vec<u32>,
}

impl<'a> Worker<'a> {
    pub fn new(block: &'a Block<'a>, queries: usize) -> Self {
        Self {
            block,
            seekers: (0..queries).map(|i| Seeker::new(block, i)).collect(),
            reranked: 0,
            widened: AVec::new(64),
            filtered: Vec::new(),
            unfiltered: Vec::new(),
        }
    }

    /// Scans one piece for its `members`.
    pub fn scan(&mut self, piece: &Piece, members: &[u32]) {
        let unfiltered = |&q: &u32| self.seekers[q as usize].unfiltered;
        if !members.iter().any(unfiltered) {
            self.strips(piece, members, false);
            return;
        }
        let mut filtered = core::mem::take(&mut self.filtered);
        let mut exact = core::mem::take(&mut self.unfiltered);
        let (with, without) = members.iter().partition::<Vec<u32>, _>(|q| !unfiltered(q));
        filtered.clone_from(&with);
        exact.clone_from(&without);
        self.strips(piece, &filtered, false);
        self.strips(piece, &exact, true);
        (self.filtered, self.unfiltered) = (filtered, exact);
    }

    /// Cuts the piece into strips that stay in cache while the group reads them.
    fn strips(&mut self, piece: &Piece, queries: &[u32], exact: bool) {
        if queries.is_empty() {
            return;
        }
        let rows = self.block.problem.lists[piece.list as usize].rows();
        let panel_bytes = if self.widens(rows, exact) {
            PANEL * rows.d() * size_of::<f32>()
        } else {
            rows.panel_bytes()
        };
        let step = (STRIP_BYTES / panel_bytes).max(4);
        let mut first = piece.panels.start;
        while first < piece.panels.end {
            let panels = first..(first + step).min(piece.panels.end);
            first = panels.end;
            let strip = Strip {
                list: piece.list,
                rows,
                panels,
            };
            self.strip(&strip, queries, exact);
        }
    }

    fn widens(&self, rows: &Rows, exact: bool) -> bool {
        rows.layout() != Layout::F32 && (exact || !self.block.isa.rounds_queries())
    }

    fn strip(&mut self, strip: &Strip<'_>, queries: &[u32], exact: bool) {
        let block = self.block;
        let group = Group {
            block,
            d: block.problem.d,
            queries,
        };
        let widen = self.widens(strip.rows, exact);
        let mut widened = core::mem::replace(&mut self.widened, AVec::new(64));
        if widen {
            widened.resize(strip.panels.len() * PANEL * group.d, 0.0);
        }
        let norms = strip.rows.norms(strip.panels.clone());
        let mut sink = StripSink {
            worker: self,
            list: strip.list,
            first: strip.panels.start * PANEL,
            rows: strip.rows.len(),
            exact,
        };
        let metric = block.problem.metric;
        #[cfg(target_arch = "x86_64")]
        let bf16 = block.isa.bf16().filter(|_| !widen && strip.rows.layout() != Layout::F32);
        #[cfg(target_arch = "x86_64")]
        if let Some(bf16) = bf16 {
            let high = strip.rows.high(strip.panels.clone());
            match metric {
                Metric::L2 => super::bf16::scan::<true>(bf16, high, norms, &group, &mut sink),
                Metric::InnerProduct => {
                    super::bf16::scan::<false>(bf16, high, norms, &group, &mut sink);
                }
            }
            self.widened = widened;
            return;
        }
        block.isa.run(Tiles {
            strip,
            widened: widen.then_some(&mut widened[..]),
            norms,
            group: &group,
            exact,
            metric,
            sink: &mut sink,
        });
        self.widened = widened;
    }
}

struct Strip<'a> {
    list: u32,
    rows: &'a Rows,
    panels: Range<usize>,
}

/// The f32 tile over a strip, widened first where it is not f32.
struct Tiles<'a, 'w, 'b> {
    strip: &'a Strip<'a>,
    widened: Option<&'a mut [f32]>,
    norms: &'a [f32],
    group: &'a Group<'a>,
    exact: bool,
    metric: Metric,
    sink: &'a mut StripSink<'w, 'b>,
}

impl WithSimd for Tiles<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let panels = self.strip.panels.clone();
        let panels: &[f32] = match self.widened {
            Some(widened) => {
                self.strip.rows.widen(panels, self.exact, widened);
                widened
            }
            None => self.strip.rows.f32_panels(panels),
        };
        let (norms, group, sink) = (self.norms, self.group, self.sink);
        match (self.metric, self.exact) {
            (Metric::L2, false) => tile::scan::<S, FILTER_L2>(simd, panels, norms, group, sink),
            (Metric::InnerProduct, false) => {
                tile::scan::<S, FILTER_IP>(simd, panels, norms, group, sink);
            }
            (Metric::L2, true) => tile::scan::<S, EXACT_L2>(simd, panels, norms, group, sink),
            (Metric::InnerProduct, true) => {
                tile::scan::<S, EXACT_IP>(simd, panels, norms, group, sink);
            }
        }
    }
}

struct StripSink<'w, 'b> {
    worker: &'w mut Worker<'b>,
    list: u32,
    /// The strip's first row.
    first: usize,
    /// Rows of the list.
    rows: usize,
    exact: bool,
}

impl Sink for StripSink<'_, '_> {
    #[inline(always)]
    fn limit(&self, query: u32) -> f32 {
        if self.exact {
            self.worker.seekers[query as usize].unfiltered_limit
        } else {
            self.worker.block.limit(query as usize)
        }
    }

    #[inline(never)]
    fn offer(&mut self, query: u32, at: usize, keys: &[f32; PANEL]) {
        let limit = self.limit(query);
        let mut mask = 0;
        for (place, &key) in keys.iter().enumerate() {
            // A sum that left the range says nothing.
            let pass = key <= limit || self.exact && !key.is_finite();
            mask |= u32::from(pass) << place;
        }
        if mask != 0 {
            self.offer_masked(query, at, keys, mask);
        }
    }

    #[inline(never)]
    fn offer_masked(&mut self, query: u32, at: usize, keys: &[f32; PANEL], mask: u32) {
        let first = self.first + at;
        let live = PANEL.min(self.rows - first);
        let mask = mask & ((1_u32 << live) - 1);
        let worker = &mut *self.worker;
        let slot = Slot {
            list: self.list,
            slot: first as u32,
        };
        let seeker = &mut worker.seekers[query as usize];
        worker.reranked += seeker.offer(worker.block, query as usize, slot, keys, mask);
    }
}
