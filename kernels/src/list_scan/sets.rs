//! Under a restriction: the queries of a list that are left the same rows, and the cheapest way to
//! compare them.
//!
//! Queries that go by one mask and one cap form a [`Set`]. Its rows are read in one of the ways of
//! [`How`]; which one costs least follows from how many rows are left, and to how many queries. Under
//! one mask, the rows of a smaller cap are the first ones of a larger: such sets may share copies.

use super::{
    Order,
    cpu::{Counts, Job},
    queries::Queries,
    restrict::{Allowed, Restriction},
    work::{Work, runs, share_of},
    worker::{How, Piece},
};
use crate::rows::PANEL;
use core::{cmp::Reverse, ops::Range};
use rayon::prelude::*;

/// Queries that are left the same rows of a list.
pub(super) struct Set<'a> {
    pub allowed: Allowed<'a>,
    /// Where they lie in the block's table of members.
    pub members: Range<usize>,
}

/// A query that reads a list.
#[derive(Debug, Clone, Copy, Default)]
struct Member {
    /// Its place in the block.
    query: u32,
    /// Rows that its cap lets pass.
    cap: u32,
}

/// How the rows of a set are read.
struct Reading<'a> {
    list: u32,
    allowed: Allowed<'a>,
    members: Range<usize>,
    /// Rows left to compare.
    rows: usize,
    how: How,
    /// Panels that tiles read to see them all.
    panels: usize,
    /// In rows that a tile reads for one query.
    cost: u64,
    /// Sets of a list with the same number share copies, if they read any.
    copies: usize,
}

/// What comparing one row by name costs, in rows that a tile reads on the way.
fn named_cost(order: Order) -> usize {
    match order {
        Order::ListMajor => 48,
        Order::QueryMajor => 4,
    }
}

/// What copying one row costs.
const GATHER_COST: usize = 32;

/// Panels at a time of a list whose members drop out on the way.
const CHECKED_PANELS: u64 = 8;

impl<'a> Reading<'a> {
    /// The cheapest way.
    fn new(
        list: u32,
        len: usize,
        allowed: Allowed<'a>,
        members: Range<usize>,
        order: Order,
    ) -> Self {
        let rows = allowed.count();
        let reach = if allowed.in_place() {
            allowed.cap()
        } else {
            len
        };
        let (panels, queries) = (reach.div_ceil(PANEL), members.len());
        let tiles = queries * panels * PANEL;
        let named = queries * rows * named_cost(order);
        let (how, panels, cost) = if named < tiles {
            (How::Named, 0, named)
        } else if rows == len {
            (How::All, panels, tiles)
        } else {
            (How::Checked, panels, tiles)
        };
        Self {
            list,
            allowed,
            members,
            rows,
            how,
            panels,
            cost: cost as u64,
            copies: 0,
        }
    }

    /// What reading copies costs, once they are there.
    fn cost_of_copies(&self) -> u64 {
        (self.members.len() * self.rows.next_multiple_of(PANEL)) as u64
    }
}

/// Lets sets of one list and mask read copies, number `copies`, where that costs less. The last set has
/// the largest cap; all are read in the same order.
fn share_copies(sets: &mut [Reading<'_>], copies: usize) {
    let Some(largest) = sets.last() else {
        return;
    };
    let gather = (largest.rows * GATHER_COST) as u64;
    let reads: u64 = sets.iter().map(Reading::cost_of_copies).sum();
    if gather + reads < sets.iter().map(|set| set.cost).sum() {
        for set in &mut *sets {
            set.how = How::Gathered;
            set.panels = set.rows.div_ceil(PANEL);
            set.cost = set.cost_of_copies();
            set.copies = copies;
        }
        sets[0].cost += gather;
    }
}

impl<'a> Job<'a> {
    /// [`work`](Self::work) where a restriction leaves some rows out.
    pub fn restricted_work(
        &self,
        first: usize,
        probes: &[u32],
        queries: &Queries,
        workers: usize,
    ) -> (Work<'a>, Counts) {
        let (members, readings) = match self.order {
            Order::ListMajor => self.read_by_list(first, probes, queries, workers),
            Order::QueryMajor => self.read_in_turn(first, probes, queries),
        };
        let mut counts = Counts::default();
        for reading in &readings {
            counts.rows += (reading.rows * reading.members.len()) as u64;
            counts.lists += reading.members.len() as u64;
        }
        let share = share_of(readings.iter().map(|reading| reading.cost).sum(), workers);
        let mut work = Work {
            pieces: Vec::new(),
            members: Vec::with_capacity(members.len()),
            sets: Vec::with_capacity(readings.len()),
        };
        let together = |a: &Reading<'_>, b: &Reading<'_>| {
            self.order == Order::ListMajor && (a.list, a.how, a.copies) == (b.list, b.how, b.copies)
        };
        for group in readings.chunk_by(together) {
            work.read(group, &members, share);
        }
        (work, counts)
    }

    /// List after list, those read alike side by side.
    fn read_by_list(
        &self,
        first: usize,
        probes: &[u32],
        queries: &Queries,
        workers: usize,
    ) -> (Vec<Member>, Vec<Reading<'a>>) {
        let (restriction, lists) = (self.restriction, self.problem.lists);
        let n = probes.len() / self.nprobe;
        // Queries that share a mask stay side by side in every list.
        let mut turn: Vec<u32> = (0..n as u32).collect();
        turn.sort_by_key(|&query| restriction.mask(first + query as usize));
        let (starts, mut members) = self.by_list(probes, queries, &turn, |list, query, rank| {
            let pair = (first + query as usize) * self.nprobe + rank;
            let cap = restriction.cap(pair, lists[list as usize].len()) as u32;
            Member { query, cap }
        });
        let mut rest = &mut members[..];
        let mut groups = Vec::with_capacity(lists.len());
        for (list, (&start, &end)) in (0..).zip(starts.iter().zip(&starts[1..])) {
            let (own, others) = rest.split_at_mut(end - start);
            rest = others;
            if !own.is_empty() {
                groups.push((list, start, own));
            }
        }
        let read =
            |(list, start, own): (u32, usize, &mut [Member])| self.sets(first, list, start, own);
        let readings = if workers > 1 {
            groups.into_par_iter().flat_map_iter(read).collect()
        } else {
            groups.into_iter().flat_map(read).collect()
        };
        (members, readings)
    }

    /// The sets of a list, whose members begin at `start`.
    fn sets(
        &self,
        first: usize,
        list: u32,
        start: usize,
        members: &mut [Member],
    ) -> Vec<Reading<'a>> {
        let Restriction { caps, .. } = self.restriction;
        let len = self.problem.lists[list as usize].len();
        let kind = |member: &Member| {
            let mask = self.restriction.mask(first + member.query as usize);
            (mask, member.cap)
        };
        if caps.is_some() {
            members.sort_by_key(kind);
        }
        let mut readings = Vec::new();
        let mut at = start;
        for masked in members.chunk_by(|a, b| kind(a).0 == kind(b).0) {
            let from = readings.len();
            for alike in masked.chunk_by(|a, b| a.cap == b.cap) {
                let Member { query, cap } = alike[0];
                let query = first + query as usize;
                let left = self
                    .restriction
                    .left(query, cap as usize, list as usize, len);
                let own = at..at + alike.len();
                at = own.end;
                let reading = Reading::new(list, len, left, own, self.order);
                if reading.rows > 0 {
                    readings.push(reading);
                }
            }
            // Under a reading order, only a set that is left the whole list reads it as inserted.
            let ordered = readings[from..].partition_point(|set| !set.allowed.in_place());
            let (ordered, inserted) = readings[from..].split_at_mut(ordered);
            let next = from + ordered.len();
            share_copies(ordered, from);
            share_copies(inserted, next);
        }
        // Members drop out on the way: the far-reaching first.
        readings.sort_by_key(|read| (read.how, read.copies, Reverse((read.panels, read.rows))));
        readings
    }

    /// All first lists of the queries, then all second ones.
    fn read_in_turn(
        &self,
        first: usize,
        probes: &[u32],
        queries: &Queries,
    ) -> (Vec<Member>, Vec<Reading<'a>>) {
        let (mut members, mut readings) = (Vec::new(), Vec::new());
        for (list, query, rank) in self.in_turn(probes, queries) {
            let (at, pair) = (
                first + query as usize,
                (first + query as usize) * self.nprobe + rank,
            );
            let len = self.problem.lists[list as usize].len();
            let allowed = self.restriction.of(at, pair, list as usize, len);
            let own = members.len()..members.len() + 1;
            let reading = Reading::new(list, len, allowed, own, self.order);
            if reading.rows > 0 {
                readings.push(reading);
                let cap = allowed.cap() as u32;
                members.push(Member { query, cap });
            }
        }
        (members, readings)
    }
}

impl<'a> Work<'a> {
    /// Adds sets of one list that are read alike, in pieces of about `share`.
    fn read(&mut self, group: &[Reading<'a>], from: &[Member], share: u64) {
        let sets = self.sets.len();
        for reading in group {
            let start = self.members.len();
            let members = &from[reading.members.clone()];
            self.members
                .extend(members.iter().map(|member| member.query));
            self.sets.push(Set {
                allowed: reading.allowed,
                members: start..self.members.len(),
            });
        }
        let Reading {
            list, how, panels, ..
        } = group[0];
        let piece = |all: &[Set<'a>], panels, own: Range<usize>| Piece {
            list,
            panels,
            members: all[own.start].members.start..all[own.end - 1].members.end,
            sets: own,
            how,
        };
        if how == How::Named {
            let (mut from, mut sum) = (sets, 0);
            for (at, reading) in (sets..).zip(group) {
                sum += reading.cost;
                if sum >= share || at + 1 == self.sets.len() {
                    self.pieces.push(piece(&self.sets, 0..0, from..at + 1));
                    (from, sum) = (at + 1, 0);
                }
            }
            return;
        }
        let cost = group.iter().map(|reading| reading.cost).sum::<u64>() / panels.max(1) as u64;
        // Short enough that few members drop out within a piece.
        let together = group.last().is_none_or(|last| last.panels == panels);
        let share = if together {
            share
        } else {
            share.min(CHECKED_PANELS * cost)
        };
        for panels in runs(panels, cost, share) {
            let reach = group.partition_point(|reading| reading.panels > panels.start);
            let piece = piece(&self.sets, panels, sets..sets + reach);
            self.pieces.push(piece);
        }
    }
}
