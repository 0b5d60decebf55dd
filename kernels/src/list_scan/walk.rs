//! The candidates of a query, in order: list after list, or name after name.

use super::{
    blueprint::{Blueprint, Names},
    cube::PartArgs,
};
use crate::device::{claim, distance::is_searchable};
use cubecl::prelude::*;

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
        Walk {
            query,
            rows,
            names: query as usize * part.per_query as usize,
            count: part.per_query,
            probe: 0u32.runtime(),
            before: 0u32.runtime(),
            end: 0u32.runtime(),
            start: 0u32.runtime(),
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
        #[comptime] print: Blueprint,
    ) -> u32 {
        let at = self.query as usize * comptime!(print.compare.vectors);
        let flags = &self.flags;
        let searchable = is_searchable::<N>(queries, at, kept, flags, print.compare, print.keep);
        let mut total = self.count;
        if comptime!(print.staged > 0) {
            total = self.stage(placed, named, print);
        } else if comptime!(print.names != Names::Rows) {
            total = self.count_rows(placed, named, print);
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
                    let list = list_at(named, self.names + i, placed, print);
                    if list != u32::MAX {
                        start = placed[list as usize * 2];
                        len = placed[list as usize * 2 + 1];
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
        #[comptime] print: Blueprint,
    ) -> u32 {
        if UNIT_POS == 0 {
            self.flags[1].store(0u32);
        }
        sync_cube();
        let mut mine = 0u32.runtime();
        let mut i = UNIT_POS;
        while i < self.count {
            let list = list_at(named, self.names + i as usize, placed, print);
            if list != u32::MAX {
                mine += placed[list as usize * 2 + 1];
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
                position = self.begins[self.probe as usize] + (candidate - before);
            } else {
                while candidate >= self.end {
                    let list = list_at(named, self.names + self.probe as usize, placed, print);
                    self.before = self.end;
                    if list != u32::MAX {
                        self.start = placed[list as usize * 2];
                        self.end += placed[list as usize * 2 + 1];
                    }
                    self.probe += 1u32;
                }
                position = self.start + (candidate - self.before);
            }
        }
        position
    }
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
