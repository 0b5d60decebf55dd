//! A worker: takes pieces of a block's work and runs the tile that fits.

use super::{
    restrict::Allowed,
    seeker::{Block, Seeker},
    sets::Set,
    tile::{self, EXACT_IP, EXACT_L2, FILTER_IP, FILTER_L2},
    work::Work,
};
use crate::{
    Metric,
    order::Slot,
    rows::{Layout, PANEL, Rows},
    simd::Isa,
};
use aligned_vec::{AVec, ConstAlign};
use core::ops::Range;
use pulp::{Simd, WithSimd};

/// Bytes of a list that meet all their queries before the next: most of a first-level cache.
const STRIP_BYTES: usize = 32 << 10;

/// Panels of a strip at most: the keys of a tile with it stay in the first cache.
const STRIP_PANELS: usize = 32;

/// A run of panels of one list, and the queries that read it.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub list: u32,
    /// Panels of the list, or of what is gathered of it.
    pub panels: Range<usize>,
    /// Where its queries lie in the block's table of members.
    pub members: Range<usize>,
    /// Their sets, in the block's table of sets.
    pub sets: Range<usize>,
    pub how: How,
}

/// How the rows of a piece are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// Tiles read them all.
    All,
    /// Tiles read them all; what passes the filter is looked up in the restriction.
    Checked,
    /// The few rows that the restriction leaves are compared one by one.
    Named,
    /// The rows that the restriction leaves to many queries are copied side by side for tiles to read.
    Gathered,
}

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

/// One worker of a block.
pub(super) struct Worker<'a> {
    block: &'a Block<'a>,
    pub seekers: Vec<Seeker>,
    /// Rows compared exactly.
    pub reranked: u64,
    scratch: Scratch,
    filtered: Vec<u32>,
    unfiltered: Vec<u32>,
    /// What a checked piece leaves to each query, while it is read.
    allowed: Vec<Option<Allowed<'a>>>,
    /// Rows of a named or gathered piece.
    named: Vec<Slot>,
    /// Copies of them.
    gathered: Option<Rows>,
}

/// Rows named at once.
const NAMED_ROWS: usize = 1024;

impl<'a> Worker<'a> {
    pub fn new(block: &'a Block<'a>) -> Self {
        Self {
            block,
            allowed: Vec::new(),
            named: Vec::new(),
            gathered: None,
            seekers: Vec::new(),
            reranked: 0,
            scratch: Scratch::new(),
            filtered: Vec::new(),
            unfiltered: Vec::new(),
        }
    }

    /// Makes room for what will be found for the block's `queries`.
    pub fn start(&mut self, queries: usize) {
        self.seekers = (0..queries).map(|i| Seeker::new(self.block, i)).collect();
    }

    /// Scans one piece; `next` is the one after it.
    pub fn scan(&mut self, piece: &Piece, next: Option<&Piece>, work: &Work<'a>) {
        let next = next.map_or(&[][..], |next| self.high(next));
        let members = &work.members[piece.members.clone()];
        let sets = &work.sets[piece.sets.clone()];
        let queries = |set: &Set<'a>| work.members[set.members.clone()].iter();
        match piece.how {
            How::All => self.tiles(piece, members, next),
            How::Checked => {
                self.allowed.resize(self.seekers.len(), None);
                for set in sets {
                    queries(set).for_each(|&q| self.allowed[q as usize] = Some(set.allowed));
                }
                self.tiles(piece, members, next);
                for &query in members {
                    self.allowed[query as usize] = None;
                }
            }
            How::Named => {
                for set in sets {
                    queries(set).for_each(|&q| self.named(piece.list, q, &set.allowed));
                }
            }
            How::Gathered => {
                for set in sets {
                    self.gathered(piece, members, &set.allowed);
                }
            }
        }
    }

    fn named(&mut self, list: u32, query: u32, allowed: &Allowed<'a>) {
        let mut slots = allowed.slots();
        loop {
            self.named.clear();
            let rows = slots.by_ref().take(NAMED_ROWS);
            self.named.extend(rows.map(|slot| Slot { list, slot }));
            if self.named.is_empty() {
                return;
            }
            self.seekers[query as usize].compare(self.block, query as usize, &self.named);
            self.reranked += self.named.len() as u64;
        }
    }

    /// Copies the rows of the piece side by side, as many as stay in cache, for tiles to read.
    fn gathered(&mut self, piece: &Piece, members: &[u32], allowed: &Allowed<'a>) {
        let rows = self.block.problem.lists[piece.list as usize].rows();
        let slots = allowed.slots().skip(piece.panels.start * PANEL);
        let mut slots = slots.take(piece.panels.len() * PANEL);
        let mut copies = match self.gathered.take() {
            Some(copies) if copies.layout() == rows.layout() => copies,
            _ => Rows::new(rows.d(), rows.layout()),
        };
        loop {
            let exact = self.any_unfiltered(members);
            let step = strip_panels(rows, exact, self.block.isa) * PANEL;
            let list = piece.list;
            self.named.clear();
            let next = slots.by_ref().take(step);
            self.named.extend(next.map(|slot| Slot { list, slot }));
            if self.named.is_empty() {
                break;
            }
            let next = self.named.iter().map(|at| at.slot as usize);
            copies.gather(rows, next, exact);
            let strip = Strip {
                list,
                rows: &copies,
                panels: 0..copies.panels(),
                ahead: Ahead::default(),
            };
            self.split(members, |worker, queries, exact| {
                worker.strip(&strip, queries, exact, true);
            });
        }
        self.gathered = Some(copies);
    }

    fn any_unfiltered(&self, members: &[u32]) -> bool {
        let mut members = members.iter();
        members.any(|&q| self.seekers[q as usize].unfiltered)
    }

    /// The high planes that a filter reads of a piece, if it does.
    fn high(&self, piece: &Piece) -> &'a [u16] {
        let rows = self.block.problem.lists[piece.list as usize].rows();
        if rows.layout().has_high() {
            rows.high(piece.panels.clone())
        } else {
            &[]
        }
    }

    fn tiles(&mut self, piece: &Piece, members: &[u32], next: &[u16]) {
        self.split(members, |worker, queries, exact| {
            worker.strips(piece, queries, exact, next);
        });
    }

    /// Scans for the members that go by the filter, and for those that do not.
    fn split(&mut self, members: &[u32], scan: impl Fn(&mut Self, &[u32], bool)) {
        if !self.any_unfiltered(members) {
            scan(self, members, false);
            return;
        }
        let mut filtered = core::mem::take(&mut self.filtered);
        let mut exact = core::mem::take(&mut self.unfiltered);
        filtered.clear();
        exact.clear();
        for &query in members {
            if self.seekers[query as usize].unfiltered {
                exact.push(query);
            } else {
                filtered.push(query);
            }
        }
        scan(self, &filtered, false);
        scan(self, &exact, true);
        (self.filtered, self.unfiltered) = (filtered, exact);
    }

    /// Cuts the piece into strips that stay in cache while the group reads them.
    fn strips(&mut self, piece: &Piece, queries: &[u32], exact: bool, next: &[u16]) {
        if queries.is_empty() {
            return;
        }
        let rows = self.block.problem.lists[piece.list as usize].rows();
        let step = strip_panels(rows, exact, self.block.isa);
        let size = rows.panel_bytes() / size_of::<u16>();
        let own = self.high(piece);
        let mut first = piece.panels.start;
        while first < piece.panels.end {
            let panels = first..(first + step).min(piece.panels.end);
            // A strip further on, here or in the next piece.
            let on = (first + step - piece.panels.start) * size;
            let ahead = Ahead {
                here: own.get(on..).unwrap_or_default(),
                next: next.get(on.saturating_sub(own.len())..).unwrap_or_default(),
            };
            first = panels.end;
            let strip = Strip {
                list: piece.list,
                rows,
                panels,
                ahead,
            };
            self.strip(&strip, queries, exact, false);
        }
    }

    /// `gathered`: the strip's rows are copies of the named ones.
    fn strip(&mut self, strip: &Strip<'_>, queries: &[u32], exact: bool, gathered: bool) {
        let block = self.block;
        let group = Group {
            block,
            d: block.problem.d,
            queries,
        };
        let mut scratch = core::mem::replace(&mut self.scratch, Scratch::new());
        let mut sink = StripSink {
            worker: self,
            list: strip.list,
            first: strip.panels.start * PANEL,
            rows: strip.rows.len(),
            gathered,
            exact,
        };
        scan_strip(strip, &group, exact, &mut scratch, &mut sink);
        self.scratch = scratch;
    }
}

/// Queries of a tile at most.
const TILE_QUERIES: usize = 6;

/// What a tile writes on the way.
pub(super) struct Scratch {
    /// Panels as f32.
    widened: AVec<f32, ConstAlign<64>>,
    /// Keys of a tile's queries with a strip.
    scores: AVec<f32, ConstAlign<64>>,
}

impl Scratch {
    pub fn new() -> Self {
        Self {
            widened: AVec::new(64),
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

/// Panels of a strip.
fn strip_panels(rows: &Rows, exact: bool, isa: Isa) -> usize {
    let panel_bytes = if widens(rows, exact, isa) {
        PANEL * rows.d() * size_of::<f32>()
    } else {
        rows.panel_bytes()
    };
    (STRIP_BYTES / panel_bytes).clamp(4, STRIP_PANELS)
}

/// Whether a tile reads panels that were written out as f32 first.
fn widens(rows: &Rows, exact: bool, isa: Isa) -> bool {
    match rows.layout() {
        Layout::F32 => false,
        Layout::F16 => true,
        Layout::Planes | Layout::Copy | Layout::Bf16 => exact || !isa.rounds_queries(),
    }
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
    let widen = widens(strip.rows, exact, isa);
    #[cfg(target_arch = "x86_64")]
    if let Some(bf16) = isa.bf16()
        && !widen
        && strip.rows.layout().has_high()
    {
        let panels = super::bf16::Panels {
            high: strip.rows.high(strip.panels.clone()),
            norms,
            ahead: strip.ahead,
        };
        match metric {
            Metric::L2 => super::bf16::scan::<true, _>(bf16, panels, group, sink),
            Metric::InnerProduct => super::bf16::scan::<false, _>(bf16, panels, group, sink),
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = isa.avx2()
        && widen
        && !exact
        && strip.rows.layout().has_high()
        && group.queries.len() <= super::shift::QUERIES
    {
        let high = strip.rows.high(strip.panels.clone());
        match metric {
            Metric::L2 => super::shift::scan::<true, _>(avx2, high, norms, group, sink),
            Metric::InnerProduct => super::shift::scan::<false, _>(avx2, high, norms, group, sink),
        }
        return;
    }
    let rows = strip.panels.len() * PANEL;
    scratch.scores.resize(TILE_QUERIES * rows, 0.0);
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

struct StripSink<'w, 'b> {
    worker: &'w mut Worker<'b>,
    list: u32,
    /// The strip's first row.
    first: usize,
    /// Rows that there are to read.
    rows: usize,
    /// Whether they are copies of the worker's named rows.
    gathered: bool,
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

    #[inline(always)]
    fn offer(&mut self, query: u32, at: usize, keys: &[f32; PANEL]) {
        let limit = self.limit(query);
        let mut mask = 0;
        for (place, &key) in keys.iter().enumerate() {
            // A sum that left the range says nothing.
            let pass = key <= limit || self.exact && !key.is_finite();
            mask |= u32::from(pass) << place;
        }
        if mask == 0 {
            return;
        }
        self.take(query, at, |places| {
            let mut mask = mask & places.live;
            let (mut taken, mut best) = (0, f32::INFINITY);
            while mask != 0 {
                let place = mask.trailing_zeros();
                mask &= mask - 1;
                let key = keys[place as usize];
                best = best.min(key);
                places.keys[taken] = key;
                places.at[taken] = Slot {
                    slot: places.first.slot + place,
                    ..places.first
                };
                taken += 1;
            }
            (taken, best)
        });
    }

    #[inline(always)]
    fn take(&mut self, query: u32, at: usize, write: impl FnOnce(Places<'_>) -> (usize, f32)) {
        let first = self.first + at;
        let live = PANEL.min(self.rows - first);
        let worker = &mut *self.worker;
        let seeker = &mut worker.seekers[query as usize];
        let (keys, slots) = seeker.places(worker.block.problem.k);
        let (mut taken, mut best) = write(Places {
            keys,
            at: slots,
            first: Slot {
                list: self.list,
                slot: first as u32,
            },
            live: (1 << live) - 1,
        });
        if self.gathered {
            for at in &mut slots[..taken] {
                *at = worker.named[at.slot as usize];
            }
        }
        if let Some(Some(allowed)) = worker.allowed.get(query as usize) {
            let (keys, slots) = seeker.places(worker.block.problem.k);
            (taken, best) = keep_allowed(allowed, keys, slots, taken);
        }
        worker.reranked += seeker.took(worker.block, query as usize, taken, best);
    }
}

/// Keeps the first `taken` finds that are allowed; how many those are and their smallest key.
#[inline(never)]
fn keep_allowed(
    allowed: &Allowed<'_>,
    keys: &mut [f32; PANEL],
    slots: &mut [Slot; PANEL],
    taken: usize,
) -> (usize, f32) {
    let (mut kept, mut best) = (0, f32::INFINITY);
    for i in 0..taken {
        if allowed.contains(slots[i].slot) {
            (keys[kept], slots[kept]) = (keys[i], slots[i]);
            best = best.min(keys[i]);
            kept += 1;
        }
    }
    (kept, best)
}
