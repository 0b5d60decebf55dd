//! Who reads what: a block's (query, list) pairs as pieces of lists, each with the queries that read it.

use super::{
    Order, SKIP,
    cpu::{Counts, Job},
    queries::Queries,
    restrict::Allowed,
    worker::{How, Piece},
};
use crate::rows::PANEL;
use rayon::prelude::*;

/// Pieces per worker, so that none waits long for the last.
const PIECES: u64 = 16;

/// A block's work: pieces of lists, and the queries that read each.
pub(super) struct Work<'a> {
    pub pieces: Vec<Piece>,
    pub members: Vec<u32>,
    /// What every member may be compared with; empty without a restriction.
    pub allowed: Vec<Allowed<'a>>,
}

/// A (query, list) pair under a restriction.
struct Pair<'a> {
    list: u32,
    /// Its place in the block.
    query: u32,
    allowed: Allowed<'a>,
    /// Rows left to compare.
    rows: usize,
    /// Panels that tiles read to see them all.
    panels: usize,
    how: How,
}

impl Pair<'_> {
    /// In rows read by a tile.
    fn cost(&self, order: Order) -> u64 {
        match self.how {
            How::Named => self.rows as u64 * named_cost(order),
            How::All | How::Checked => (self.panels * PANEL) as u64,
        }
    }
}

/// What comparing one row exactly costs, in rows that a tile reads on the way.
fn named_cost(order: Order) -> u64 {
    match order {
        Order::ListMajor => 16,
        Order::QueryMajor => 4,
    }
}

/// Panels at a time of a list whose members drop out on the way.
const CHECKED_PANELS: usize = 64;

impl<'a> Job<'a> {
    /// Who reads what, in the order asked for.
    pub fn work(&self, probes: &[u32], queries: &Queries, workers: usize) -> (Work<'a>, Counts) {
        let lists = self.problem.lists;
        let (starts, members) = match self.order {
            Order::ListMajor => self.by_list(probes, queries, |list, query, _| (list, query)),
            Order::QueryMajor => (Vec::new(), self.in_turn(probes, queries)),
        };
        // One group for every list, or for every (rank, query).
        let groups: Vec<(u32, core::ops::Range<usize>)> = match self.order {
            Order::ListMajor => (0..lists.len())
                .map(|l| (l as u32, starts[l]..starts[l + 1]))
                .filter(|(_, members)| !members.is_empty())
                .collect(),
            Order::QueryMajor => members
                .iter()
                .enumerate()
                .map(|(i, &(list, _))| (list, i..i + 1))
                .collect(),
        };
        let mut counts = Counts::default();
        for (list, members) in &groups {
            let (rows, members) = (lists[*list as usize].len() as u64, members.len() as u64);
            counts.rows += rows * members;
            counts.lists += if rows > 0 { members } else { 0 };
        }
        let share = if workers > 1 {
            counts.rows.div_ceil(workers as u64 * PIECES).max(1)
        } else {
            u64::MAX
        };
        let mut pieces = Vec::with_capacity(groups.len());
        for (list, members) in groups {
            let panels = lists[list as usize].rows().panels();
            let cost = (members.len() * PANEL) as u64;
            let step = share.div_ceil(cost).clamp(1, panels.max(1) as u64) as usize;
            for first in (0..panels).step_by(step) {
                pieces.push(Piece {
                    list,
                    panels: first..(first + step).min(panels),
                    members: members.clone(),
                    how: How::All,
                });
            }
        }
        let members = members.into_iter().map(|(_, query)| query).collect();
        let allowed = Vec::new();
        (
            Work {
                pieces,
                members,
                allowed,
            },
            counts,
        )
    }

    /// [`work`](Self::work) where a restriction leaves some rows out: of every (query, list) pair
    /// it is known how many are left, and so which way is the cheapest.
    pub fn restricted_work(
        &self,
        first: usize,
        probes: &[u32],
        queries: &Queries,
        workers: usize,
    ) -> (Work<'a>, Counts) {
        let mut pairs = self.pairs(first, probes, queries, workers);
        if self.order == Order::ListMajor {
            // Lists whose rows are checked lose members on the way: the far-reaching first.
            for members in pairs.chunk_by_mut(|a, b| a.list == b.list) {
                members.sort_by_key(|p| (p.how, core::cmp::Reverse(p.panels)));
            }
        }
        let mut counts = Counts::default();
        for pair in &pairs {
            counts.rows += pair.rows as u64;
            counts.lists += 1;
        }
        let cost: u64 = pairs.iter().map(|p| p.cost(self.order)).sum();
        let share = if workers > 1 {
            cost.div_ceil(workers as u64 * PIECES).max(1)
        } else {
            u64::MAX
        };
        let mut pieces = Vec::new();
        let mut at = 0;
        let same = |a: &Pair<'_>, b: &Pair<'_>| {
            self.order == Order::ListMajor && (a.list, a.how) == (b.list, b.how)
        };
        for group in pairs.chunk_by(same) {
            let members = at..at + group.len();
            at = members.end;
            let (list, how) = (group[0].list, group[0].how);
            if how == How::Named {
                let mut from = members.start;
                let mut sum = 0;
                for (i, pair) in members.clone().zip(group) {
                    sum += pair.cost(self.order);
                    if sum >= share || i + 1 == members.end {
                        pieces.push(Piece {
                            list,
                            panels: 0..0,
                            members: from..i + 1,
                            how,
                        });
                        (from, sum) = (i + 1, 0);
                    }
                }
                continue;
            }
            let panels = group[0].panels;
            let cost = (members.len() * PANEL) as u64;
            let step = share.div_ceil(cost).clamp(1, panels.max(1) as u64) as usize;
            // Short enough that few members drop out within a piece.
            let step = if how == How::Checked {
                step.min(CHECKED_PANELS)
            } else {
                step
            };
            for first in (0..panels).step_by(step) {
                let reach = group.partition_point(|p| p.panels > first);
                pieces.push(Piece {
                    list,
                    panels: first..(first + step).min(panels),
                    members: members.start..members.start + reach,
                    how,
                });
            }
        }
        let work = Work {
            pieces,
            members: pairs.iter().map(|p| p.query).collect(),
            allowed: pairs.iter().map(|p| p.allowed).collect(),
        };
        (work, counts)
    }

    /// The (query, list) pairs that leave rows to compare: list after list, or all first lists of the
    /// queries, then all second ones.
    fn pairs(
        &self,
        first: usize,
        probes: &[u32],
        queries: &Queries,
        workers: usize,
    ) -> Vec<Pair<'a>> {
        let lists = self.problem.lists;
        let n = probes.len() / self.nprobe;
        let pair = |i: usize, rank: usize| {
            let list = probes[i * self.nprobe + rank];
            if list == SKIP || !queries.facts(i).searchable {
                return None;
            }
            let len = lists[list as usize].len();
            let (query, probe) = (first + i, (first + i) * self.nprobe + rank);
            let allowed = self.restriction.of(query, probe, list as usize, len);
            let rows = allowed.count();
            let reach = if allowed.in_place() {
                allowed.cap()
            } else {
                len
            };
            let panels = reach.div_ceil(PANEL);
            let how = if rows == len {
                How::All
            } else if rows as u64 * named_cost(self.order) < (panels * PANEL) as u64 {
                How::Named
            } else {
                How::Checked
            };
            (rows > 0).then_some(Pair {
                list,
                query: i as u32,
                allowed,
                rows,
                panels,
                how,
            })
        };
        match self.order {
            Order::ListMajor => {
                let (_, pairs) = self.by_list(probes, queries, |_, query, rank| (query, rank));
                let pair = |&(query, rank): &(u32, usize)| pair(query as usize, rank);
                if workers > 1 {
                    pairs
                        .par_iter()
                        .with_min_len(1024)
                        .filter_map(pair)
                        .collect()
                } else {
                    pairs.iter().filter_map(pair).collect()
                }
            }
            Order::QueryMajor => (0..self.nprobe)
                .flat_map(|rank| (0..n).map(move |i| (i, rank)))
                .filter_map(|(i, rank)| pair(i, rank))
                .collect(),
        }
    }

    /// A block's probes in order of lists (histogram, running sum, scatter), then of queries, each as
    /// `of` its list, query and rank: list `l` has those at `starts[l]..starts[l + 1]`.
    fn by_list<T: Copy + Default>(
        &self,
        probes: &[u32],
        queries: &Queries,
        of: impl Fn(u32, u32, usize) -> T,
    ) -> (Vec<usize>, Vec<T>) {
        let lists = self.problem.lists.len();
        let named = || {
            let of_query = (0..).zip(probes.chunks_exact(self.nprobe));
            of_query
                .filter(|&(i, _)| queries.facts(i as usize).searchable)
                .flat_map(|(i, probes): (u32, _)| {
                    let ranks = probes.iter().enumerate();
                    let read = ranks.filter(|(_, list)| **list != SKIP);
                    read.map(move |(rank, &list)| (list, i, rank))
                })
        };
        let mut starts = vec![0_usize; lists + 1];
        for (list, ..) in named() {
            starts[list as usize + 1] += 1;
        }
        for l in 0..lists {
            starts[l + 1] += starts[l];
        }
        let mut next = starts.clone();
        let mut members = vec![T::default(); starts[lists]];
        for (list, query, rank) in named() {
            members[next[list as usize]] = of(list, query, rank);
            next[list as usize] += 1;
        }
        (starts, members)
    }

    /// Every query's lists, all first ones, then all second ones, and so on: near lists lower the
    /// limits before far ones are read.
    fn in_turn(&self, probes: &[u32], queries: &Queries) -> Vec<(u32, u32)> {
        let n = probes.len() / self.nprobe;
        (0..self.nprobe)
            .flat_map(|rank| (0..n).map(move |i| (probes[i * self.nprobe + rank], i)))
            .filter(|&(l, i)| l != SKIP && queries.facts(i).searchable)
            .map(|(l, i)| (l, i as u32))
            .collect()
    }
}
