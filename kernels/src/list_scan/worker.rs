//! A worker: takes pieces of a block's work and scans them strip by strip.

use super::{
    restrict::Allowed,
    seeker::{Block, Seekers},
    sets::Set,
    strip::{Ahead, Group, Places, Scratch, Sink, Strip, scan_strip, strip_panels},
    work::Work,
};
use crate::{
    order::Slot,
    rows::{PANEL, Rows},
};
use core::ops::Range;

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

/// One worker of a block.
pub(super) struct Worker<'a> {
    block: &'a Block<'a>,
    pub seekers: Seekers,
    /// Rows compared exactly.
    pub reranked: u64,
    scratch: Scratch,
    filtered: Vec<u32>,
    unfiltered: Vec<u32>,
    /// What a piece leaves to each query, while it is read and finds are looked up.
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
            seekers: Seekers::none(),
            reranked: 0,
            scratch: Scratch::new(),
            filtered: Vec::new(),
            unfiltered: Vec::new(),
        }
    }

    /// Makes room for what will be found for the block's `queries`.
    pub fn start(&mut self, queries: usize) {
        self.seekers = Seekers::new(self.block, queries);
    }

    /// Scans one piece; `next` is the one after it.
    pub fn scan(&mut self, piece: &Piece, next: Option<&Piece>, work: &Work<'a>) {
        let next = next.map_or(&[][..], |next| self.high(next));
        let members = &work.members[piece.members.clone()];
        match piece.how {
            How::All => self.tiles(piece, members, next),
            How::Checked => {
                self.allow(piece, work);
                self.tiles(piece, members, next);
                self.allow_all(members);
            }
            How::Named => {
                for set in &work.sets[piece.sets.clone()] {
                    for &query in &work.members[set.members.clone()] {
                        self.named(piece.list, query, &set.allowed);
                    }
                }
            }
            How::Gathered => self.gathered(piece, work),
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
            self.seekers.compare(self.block, query, &self.named);
            self.reranked += self.named.len() as u64;
        }
    }

    /// Looks up in their sets what the piece's queries find.
    fn allow(&mut self, piece: &Piece, work: &Work<'a>) {
        self.allowed.resize(self.seekers.len(), None);
        for set in &work.sets[piece.sets.clone()] {
            for &query in &work.members[set.members.clone()] {
                self.allowed[query as usize] = Some(set.allowed);
            }
        }
    }

    /// Ends what [`allow`](Self::allow) began.
    fn allow_all(&mut self, members: &[u32]) {
        for &query in members {
            if let Some(allowed) = self.allowed.get_mut(query as usize) {
                *allowed = None;
            }
        }
    }

    /// Copies the rows of the piece side by side, as many as stay in cache, for tiles to read.
    fn gathered(&mut self, piece: &Piece, work: &Work<'a>) {
        let members = &work.members[piece.members.clone()];
        let [Set { allowed, .. }, others @ ..] = &work.sets[piece.sets.clone()] else {
            return;
        };
        // The others are left the first of its rows.
        if !others.is_empty() {
            self.allow(piece, work);
        }
        let rows = self.block.problem.lists[piece.list as usize].rows();
        let slots = allowed.slots().skip(piece.panels.start * PANEL);
        let mut slots = slots.take(piece.panels.len() * PANEL);
        let mut copies = match self.gathered.take() {
            Some(copies) if copies.layout() == rows.layout() => copies,
            _ => Rows::new(rows.d(), rows.layout()),
        };
        loop {
            let exact = self.any_unfiltered(members);
            let step = strip_panels(rows, self.block, members.len(), exact) * PANEL;
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
        self.allow_all(members);
    }

    fn any_unfiltered(&self, members: &[u32]) -> bool {
        let mut members = members.iter();
        members.any(|&q| self.seekers.of(q).unfiltered)
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
            if self.seekers.of(query).unfiltered {
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
        let most = strip_panels(rows, self.block, queries.len(), exact);
        // Of about equal size: a short one costs its queries as much to begin.
        let panels = piece.panels.len();
        let step = panels.div_ceil(panels.div_ceil(most).max(1)).max(1);
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
            self.worker.seekers.of(query).unfiltered_limit
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
        self.take(query, at, |mut places| places.write(keys, mask));
    }

    #[inline(always)]
    fn take(&mut self, query: u32, at: usize, write: impl FnOnce(Places<'_>) -> (usize, f32)) {
        let first = self.first + at;
        let live = PANEL.min(self.rows - first);
        let worker = &mut *self.worker;
        let (keys, slots) = worker.seekers.places(query);
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
            let (keys, slots) = worker.seekers.places(query);
            (taken, best) = keep_allowed(allowed, keys, slots, taken);
        }
        worker.reranked += worker.seekers.took(worker.block, query, taken, best);
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
