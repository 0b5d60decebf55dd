//! The candidates of a query, in order: list after list, or name after name.
//!
//! Under a restriction the candidates are what it leaves. A cap shortens a list. Masks come with the
//! number of bits set before each word, so that the j-th row that a mask lets pass is found by a
//! binary search: whatever share of the rows passes, cubes get equal slices of those that do, and
//! read no others.

use super::{
    blueprint::{Blueprint, Names, Ordered},
    cube::PartArgs,
};
use crate::device::{claim, distance::is_searchable};
use cubecl::prelude::*;

/// What keeps rows out; [`super::limits`] fills it. Only what [`Blueprint::limits`] says is there.
#[derive(CubeLaunch, CubeType)]
pub(super) struct LimitArgs {
    /// Rows read of every probe `[nq, nprobe]`.
    caps: ComptimeOption<Array<u32>>,
    /// The first query spoken of; where every list's words start (in words, `[nlist]`); where each
    /// of the following queries' mask starts (in this array); then the masks: per word its bits and
    /// how many are set before it, and one more word without any.
    marks: ComptimeOption<Array<u32>>,
    /// By position: the position of the row read at this place, or the place at which this row is
    /// read ([`Ordered`]).
    order: ComptimeOption<Array<u32>>,
    /// In which order the probes of each query of the launch are read, `[count, nprobe]`.
    turns: ComptimeOption<Array<u32>>,
}

/// A walk over a query's candidates.
///
/// Up to [`Blueprint::staged`] lists are looked up once by the whole cube: where they start, and how
/// many candidates lie before the end of each. More are looked up one after the other by every unit.
#[derive(CubeType)]
pub(super) struct Walk {
    query: u32,
    /// Rows in memory.
    rows: u32,
    /// Where the query's names start, and how many there are.
    names: usize,
    count: u32,
    /// The list reached; the next to look up where they are not staged.
    probe: u32,
    /// Candidates before the present list and up to its end.
    before: u32,
    end: u32,
    /// Where the present list starts.
    start: u32,
    /// Where the query's order of probes starts.
    turns: usize,
    /// Where the query's mask starts.
    mask: usize,
    /// The list that the next four are of (a probe + 1): where its words start, how many are looked
    /// at, the word reached, rows it may be read to.
    entered: u32,
    words: usize,
    word_count: u32,
    word: u32,
    cap: u32,
    /// Where each list starts, and candidates up to its end.
    begins: SharedMemory<u32>,
    ends: SharedMemory<u32>,
    /// The sum of list lengths, and whether the query is searchable.
    flags: SharedMemory<Atomic<u32>>,
}

#[cube]
impl Walk {
    /// Claims its memory; [`open`](Self::open) it before use.
    pub fn new(part: &PartArgs, query: u32, rows: u32, #[comptime] print: Blueprint) -> Walk {
        let size = comptime!(if print.staged == 0 { 1 } else { print.staged });
        let mut begins = SharedMemory::<u32>::new(size);
        let mut ends = SharedMemory::<u32>::new(size);
        let flags = SharedMemory::<Atomic<u32>>::new(2usize);
        claim::words(&mut begins);
        claim::words(&mut ends);
        claim::counters(&flags);
        let mut turns = 0usize.runtime();
        if comptime!(print.limits.sorted) {
            turns = (query - part.first) as usize * part.per_query as usize;
        }
        Walk {
            query,
            rows,
            names: query as usize * part.per_query as usize,
            count: part.per_query,
            probe: 0u32.runtime(),
            before: 0u32.runtime(),
            end: 0u32.runtime(),
            start: 0u32.runtime(),
            turns,
            mask: 0usize.runtime(),
            entered: 0u32.runtime(),
            words: 0usize.runtime(),
            word_count: 0u32.runtime(),
            word: 0u32.runtime(),
            cap: 0u32.runtime(),
            begins,
            ends,
            flags,
        }
    }

    /// Copies the query to shared memory (where it is kept) and counts its candidates: the rows of
    /// all its lists; none if the query has a component that is NaN or infinite. All units call it.
    pub fn open<N: Size>(
        &mut self,
        queries: &Array<Vector<f32, N>>,
        kept: &mut SharedMemory<Vector<f32, N>>,
        placed: &Array<u32>,
        named: &Array<u32>,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) -> u32 {
        let at = self.query as usize * comptime!(print.compare.vectors);
        let flags = &self.flags;
        let searchable = is_searchable::<N>(queries, at, kept, flags, print.compare, print.keep);
        let mut total = self.count;
        if comptime!(print.limits.masked) {
            let marks = limits.marks.as_ref().unwrap();
            let of = 1u32 + placed.len() as u32 / 2u32 + self.query - marks[0];
            self.mask = marks[of as usize] as usize;
        }
        if comptime!(print.staged > 0) {
            total = self.stage(placed, named, limits, print);
        } else if comptime!(print.names != Names::Rows) {
            total = self.count_rows(placed, named, limits, print);
        }
        if !searchable {
            total = 0u32;
        }
        total
    }

    /// Looks all lists up and sums their lengths (Hillis and Steele 1986). All units call it.
    fn stage(
        &mut self,
        placed: &Array<u32>,
        named: &Array<u32>,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) -> u32 {
        let staged = comptime!(print.staged);
        let units = comptime!(print.queue.units);
        let turns = comptime!(print.staged.div_ceil(print.queue.units));
        #[unroll]
        for turn in 0..turns {
            let i = UNIT_POS as usize + turn * units;
            if i < staged {
                let mut start = 0u32.runtime();
                let mut len = 0u32.runtime();
                if (i as u32) < self.count {
                    let pair = self.pair(i as u32, limits, print);
                    let list = list_at(named, pair, placed, print);
                    if list != u32::MAX {
                        start = placed[list as usize * 2];
                        len = self.rows_of(list, pair, placed, limits, print);
                    }
                }
                self.begins[i] = start;
                self.ends[i] = len;
            }
        }
        sync_cube();
        let mut reach = 1usize.runtime();
        while reach < staged {
            let mut before = Array::<u32>::new(turns);
            #[unroll]
            for turn in 0..turns {
                let i = UNIT_POS as usize + turn * units;
                before[turn] = 0u32;
                if i < staged && i >= reach {
                    before[turn] = self.ends[i - reach];
                }
            }
            sync_cube();
            #[unroll]
            for turn in 0..turns {
                let i = UNIT_POS as usize + turn * units;
                if i < staged {
                    self.ends[i] += before[turn];
                }
            }
            sync_cube();
            reach *= 2;
        }
        self.ends[comptime!(print.staged - 1)]
    }

    /// The sum of the lists' lengths. All units call it.
    fn count_rows(
        &mut self,
        placed: &Array<u32>,
        named: &Array<u32>,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) -> u32 {
        if UNIT_POS == 0 {
            self.flags[1].store(0u32);
        }
        sync_cube();
        let mut mine = 0u32.runtime();
        let mut i = UNIT_POS;
        while i < self.count {
            let pair = self.pair(i, limits, print);
            let list = list_at(named, pair, placed, print);
            if list != u32::MAX {
                mine += self.rows_of(list, pair, placed, limits, print);
            }
            i += comptime!(print.queue.units as u32);
        }
        if mine > 0u32 {
            self.flags[1].fetch_add(mine);
        }
        sync_cube();
        self.flags[1].load()
    }

    /// Goes to the list of candidate `from`, the first to be asked for.
    pub fn seek(&mut self, from: u32, #[comptime] print: Blueprint) {
        if comptime!(print.staged > 0) {
            // The number of lists that end at or before it.
            let mut step = comptime!(print.staged as u32 / 2).runtime();
            let mut probe = 0u32.runtime();
            while step > 0u32 {
                if self.ends[(probe + step) as usize - 1] <= from {
                    probe += step;
                }
                step /= 2u32;
            }
            self.probe = probe;
        }
    }

    /// The position of a candidate below `to`, not before the last one asked for; else MAX.
    pub fn position(
        &mut self,
        candidate: u32,
        to: u32,
        placed: &Array<u32>,
        named: &Array<u32>,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) -> u32 {
        let mut position = u32::MAX.runtime();
        if candidate < to {
            if comptime!(print.names == Names::Rows) {
                position = named[self.names + candidate as usize];
                // A row that is not there is a gap.
                if position >= self.rows {
                    position = u32::MAX;
                }
            } else if comptime!(print.staged > 0) {
                while candidate >= self.ends[self.probe as usize] {
                    self.probe += 1u32;
                }
                let mut before = 0u32.runtime();
                if self.probe > 0u32 {
                    before = self.ends[self.probe as usize - 1];
                }
                if comptime!(print.limits.enters()) {
                    self.arrive(placed, named, limits, print);
                }
                let start = self.begins[self.probe as usize];
                position = self.row(start, candidate - before, limits, print);
            } else {
                while candidate >= self.end {
                    let pair = self.pair(self.probe, limits, print);
                    let list = list_at(named, pair, placed, print);
                    self.before = self.end;
                    if list != u32::MAX {
                        self.start = placed[list as usize * 2];
                        self.end += self.rows_of(list, pair, placed, limits, print);
                        self.enter(list, pair, placed, limits, print);
                    }
                    self.probe += 1u32;
                }
                position = self.row(self.start, candidate - self.before, limits, print);
            }
        }
        position
    }

    /// The place, among all queries' probes, of the probe read as the `i`-th.
    fn pair(&self, i: u32, limits: &LimitArgs, #[comptime] print: Blueprint) -> usize {
        if comptime!(print.limits.sorted) {
            self.names + limits.turns.as_ref().unwrap()[self.turns + i as usize] as usize
        } else {
            self.names + i as usize
        }
    }

    /// Candidates of a list: its rows, or those that are left of them.
    fn rows_of(
        &self,
        list: u32,
        pair: usize,
        placed: &Array<u32>,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) -> u32 {
        let mut rows = placed[list as usize * 2 + 1];
        if comptime!(print.limits.shortened()) {
            rows = min(rows, limits.caps.as_ref().unwrap()[pair]);
        }
        if comptime!(print.limits.masked) {
            let marks = limits.marks.as_ref().unwrap();
            let words = self.mask + marks[1 + list as usize] as usize * 2;
            let end = words + (rows / 32u32) as usize * 2;
            let rest = marks[end] & ((1u32 << (rows % 32u32)) - 1u32);
            rows = marks[end + 1] + rest.count_ones() - marks[words + 1];
        }
        rows
    }

    /// Looks up what [`row`](Self::row) needs of the list reached, if it is another than before.
    fn arrive(
        &mut self,
        placed: &Array<u32>,
        named: &Array<u32>,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) {
        if self.entered != self.probe + 1u32 {
            let pair = self.pair(self.probe, limits, print);
            let list = list_at(named, pair, placed, print);
            self.enter(list, pair, placed, limits, print);
            self.entered = self.probe + 1u32;
        }
    }

    /// Looks up what [`row`](Self::row) needs of a list.
    fn enter(
        &mut self,
        list: u32,
        pair: usize,
        placed: &Array<u32>,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) {
        if comptime!(print.limits.masked) {
            let marks = limits.marks.as_ref().unwrap();
            self.words = self.mask + marks[1 + list as usize] as usize * 2;
            // Perhaps one too many, which is behind every bit of this list.
            self.word_count = placed[list as usize * 2 + 1] / 32u32 + 1u32;
            self.word = 0u32.runtime();
        }
        if comptime!(print.limits.filtered()) {
            self.cap = limits.caps.as_ref().unwrap()[pair];
        }
    }

    /// The position of the `nth` candidate of the present list, which starts at `start`; MAX where it
    /// is one that the cap keeps out. Later calls for a list ask for later candidates.
    fn row(
        &mut self,
        start: u32,
        nth: u32,
        limits: &LimitArgs,
        #[comptime] print: Blueprint,
    ) -> u32 {
        let mut position = start + nth;
        if comptime!(print.limits.masked) {
            position = start + self.passed(nth, limits);
        }
        match comptime!(print.limits.order) {
            Ordered::Rows => {
                position = limits.order.as_ref().unwrap()[position as usize];
            }
            Ordered::Places => {
                if limits.order.as_ref().unwrap()[position as usize] >= self.cap {
                    position = u32::MAX;
                }
            }
            Ordered::Slots => {}
        }
        position
    }

    /// The slot of the `nth` row that the mask lets pass: the last word with no more than so many
    /// bits set before it, then the bit in that.
    fn passed(&mut self, nth: u32, limits: &LimitArgs) -> u32 {
        let marks = limits.marks.as_ref().unwrap();
        let nth = marks[self.words + 1] + nth;
        let mut low = self.word;
        let mut high = self.word_count;
        while high - low > 1u32 {
            let middle = low + (high - low) / 2u32;
            if marks[self.words + middle as usize * 2 + 1] <= nth {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.word = low;
        let at = self.words + low as usize * 2;
        low * 32u32 + nth_bit(marks[at], nth - marks[at + 1])
    }
}

/// The place of the `nth` bit that is set.
#[cube]
fn nth_bit(word: u32, nth: u32) -> u32 {
    let mut bits = word;
    let mut left = nth;
    let mut place = 0u32.runtime();
    #[unroll]
    for halving in 0..5u32 {
        let half = comptime!(16u32 >> halving);
        let low = bits & comptime!((1u32 << half) - 1);
        let count = low.count_ones();
        let upper = left >= count;
        left = select(upper, left - count, left);
        place = select(upper, place + half, place);
        bits = select(upper, bits >> half, low);
    }
    place
}

/// The list named, or the only one; MAX for none.
#[cube]
fn list_at(
    named: &Array<u32>,
    at: usize,
    placed: &Array<u32>,
    #[comptime] print: Blueprint,
) -> u32 {
    let mut list = 0u32.runtime();
    if comptime!(print.names == Names::Lists) {
        list = named[at];
        // A list that does not exist is not read.
        if list as usize >= placed.len() / 2 {
            list = u32::MAX;
        }
    }
    list
}
