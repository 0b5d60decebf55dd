//! Who reads what: a block's (query, list) pairs as pieces of lists, each with the queries that read it.

use super::{
    Order, SKIP,
    cpu::{Counts, Job},
    queries::Queries,
    sets::Set,
    worker::{How, Piece},
};
use crate::rows::PANEL;
use core::ops::Range;

/// Pieces per worker, so that none waits long for the last.
const PIECES: u64 = 16;

/// What a piece may cost, of all the work there is, so that `workers` end at about the same time.
pub(super) fn share_of(cost: u64, workers: usize) -> u64 {
    if workers > 1 {
        cost.div_ceil(workers as u64 * PIECES).max(1)
    } else {
        u64::MAX
    }
}

/// `panels` cut into runs of about `share`, where one costs `cost`.
pub(super) fn runs(panels: usize, cost: u64, share: u64) -> impl Iterator<Item = Range<usize>> {
    let step = share.div_ceil(cost.max(1)).clamp(1, panels.max(1) as u64) as usize;
    let runs = (0..panels).step_by(step);
    runs.map(move |first| first..(first + step).min(panels))
}

/// A block's work: pieces of lists, and the queries that read each.
pub(super) struct Work<'a> {
    pub pieces: Vec<Piece>,
    pub members: Vec<u32>,
    /// Members that may be compared with the same rows; none without a restriction.
    pub sets: Vec<Set<'a>>,
}

impl<'a> Job<'a> {
    /// Who reads what, in the order asked for.
    pub fn work(&self, probes: &[u32], queries: &Queries, workers: usize) -> (Work<'a>, Counts) {
        let lists = self.problem.lists;
        let (starts, members) = match self.order {
            Order::ListMajor => {
                let turn: Vec<u32> = (0..(probes.len() / self.nprobe) as u32).collect();
                self.by_list(probes, queries, &turn, |list, query, _| (list, query))
            }
            Order::QueryMajor => {
                let pairs = self.in_turn(probes, queries);
                (
                    Vec::new(),
                    pairs.map(|(list, query, _)| (list, query)).collect(),
                )
            }
        };
        // One group for every list, or for every (rank, query).
        let groups: Vec<(u32, Range<usize>)> = match self.order {
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
        let share = share_of(counts.rows, workers);
        let mut pieces = Vec::with_capacity(groups.len());
        for (list, members) in groups {
            let panels = lists[list as usize].rows().panels();
            for panels in runs(panels, (members.len() * PANEL) as u64, share) {
                pieces.push(Piece {
                    list,
                    panels,
                    members: members.clone(),
                    sets: 0..0,
                    how: How::All,
                });
            }
        }
        let work = Work {
            pieces,
            members: members.into_iter().map(|(_, query)| query).collect(),
            sets: Vec::new(),
        };
        (work, counts)
    }

    /// A block's probes in order of lists (histogram, running sum, scatter), then of queries as they
    /// come in `turn`, each as `of` its list, query and rank: list `l` has those at
    /// `starts[l]..starts[l + 1]`.
    pub fn by_list<T: Copy + Default>(
        &self,
        probes: &[u32],
        queries: &Queries,
        turn: &[u32],
        of: impl Fn(u32, u32, usize) -> T,
    ) -> (Vec<usize>, Vec<T>) {
        let lists = self.problem.lists.len();
        let named = || {
            turn.iter()
                .filter(|&&i| queries.facts(i as usize).searchable)
                .flat_map(|&i| {
                    let probes = probes[i as usize * self.nprobe..].iter().take(self.nprobe);
                    let read = probes.enumerate().filter(|(_, list)| **list != SKIP);
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

    /// Every query's lists, all first ones, then all second ones, and so on, with query and rank: near
    /// lists lower the limits before far ones are read.
    pub fn in_turn(
        &self,
        probes: &[u32],
        queries: &Queries,
    ) -> impl Iterator<Item = (u32, u32, usize)> {
        let nprobe = self.nprobe;
        let n = probes.len() / nprobe;
        (0..nprobe)
            .flat_map(move |rank| (0..n).map(move |i| (probes[i * nprobe + rank], i, rank)))
            .filter(|&(list, i, _)| list != SKIP && queries.facts(i).searchable)
            .map(|(list, i, rank)| (list, i as u32, rank))
    }
}
