//! The CPU kernel: queries grouped by list, list by list through the register tile.
//!
//! Queries are cut into blocks. Within a block they are grouped by list; every list then passes
//! once through the cache in strips of [`STRIP_BYTES`], each strip meeting all queries of its
//! group. With fewer blocks than threads a block is cut again into parts of about equal work
//! (lists, or pieces of a long list), whose buffers are merged at the end.

use super::{
    Best, ListsIds, Problem, SKIP,
    tile::{Strip, scan_strip},
};
use crate::{
    KernelError, check_len,
    order::{Candidate, TopK},
    panels::PANEL,
    simd::Isa,
};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Rows of a list that are read by all their queries before the next: half of a 1 MiB L2.
const STRIP_BYTES: usize = 512 << 10;
/// Queries per block at most: enough that a list's rows, read from memory once, meet many.
const BLOCK_QUERIES: usize = 1024;
/// Bytes of candidate buffers per block at most.
const BLOCK_BYTES: usize = 16 << 20;
/// Component pairs below which waking a second thread costs more than it saves (about 0.1 ms).
const SERIAL_WORK: usize = 1 << 21;

/// The `k` best rows among the lists named by `probes`, row-major `[nq, nprobe]`.
///
/// Runs in the current rayon pool; work too small for threads stays on the calling one.
///
/// # Errors
/// When a buffer's length does not fit or a probe names a list that does not exist.
pub fn scan(
    problem: &Problem<'_>,
    probes: &[u32],
    nprobe: usize,
    isa: Isa,
) -> Result<Best, KernelError> {
    problem.check()?;
    let (nq, k) = (problem.nq(), problem.k);
    check_len("probes", nq * nprobe, probes.len())?;
    let lists = problem.lists.len();
    if let Some(&list) = probes.iter().find(|&&l| l != SKIP && l as usize >= lists) {
        return Err(KernelError::List { list, lists });
    }
    let mut best = Best::padding(problem.metric, nq, k);
    if nq == 0 || nprobe == 0 {
        return Ok(best);
    }
    let job = Job {
        problem,
        probes,
        nprobe,
        isa,
    };
    let work: usize = probes
        .iter()
        .filter(|&&l| l != SKIP)
        .map(|&l| problem.lists[l as usize].len())
        .sum();
    let threads = if work.saturating_mul(problem.d) < SERIAL_WORK {
        1
    } else {
        rayon::current_num_threads()
    };
    let block = block_queries(nq, k, threads);
    let parts = if threads > 1 {
        (2 * threads).div_ceil(nq.div_ceil(block))
    } else {
        1
    };
    let parts = if nq.div_ceil(block) >= threads {
        1
    } else {
        parts
    };
    let block_results = |(index, (distances, labels)): (usize, (&mut [f32], &mut [i64]))| {
        job.block(index * block, parts, distances, labels)
    };
    let add = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
    (best.rows_scanned, best.lists_scanned) = if threads == 1 {
        best.distances
            .chunks_mut(block * k)
            .zip(best.labels.chunks_mut(block * k))
            .enumerate()
            .map(block_results)
            .fold((0, 0), add)
    } else {
        best.distances
            .par_chunks_mut(block * k)
            .zip(best.labels.par_chunks_mut(block * k))
            .enumerate()
            .map(block_results)
            .reduce(|| (0, 0), add)
    };
    Ok(best)
}

/// Queries per block: bounded by buffers, and small enough that all threads have blocks.
fn block_queries(nq: usize, k: usize, threads: usize) -> usize {
    let buffers = (BLOCK_BYTES / (TopK::capacity(k) * size_of::<Candidate>())).max(1);
    let share = if nq >= 64 * threads {
        nq.div_ceil(2 * threads)
    } else {
        nq
    };
    share.min(buffers).clamp(1, BLOCK_QUERIES)
}

struct Job<'a> {
    problem: &'a Problem<'a>,
    probes: &'a [u32],
    nprobe: usize,
    isa: Isa,
}

/// The queries of a block grouped by list: list `l` is read by `members[starts[l]..starts[l+1]]`.
struct Groups {
    starts: Vec<u32>,
    members: Vec<u32>,
}

/// A run of panels of one list, part of a block's work.
struct Piece {
    list: u32,
    first: usize,
    last: usize,
}

impl Job<'_> {
    /// Answers the queries from `first` on, as many as `labels` has rows for.
    fn block(
        &self,
        first: usize,
        parts: usize,
        distances: &mut [f32],
        labels: &mut [i64],
    ) -> (u64, u64) {
        let k = self.problem.k;
        let queries = labels.len() / k;
        let groups = self.group(first, queries);
        let mut rows = 0;
        let mut lists = 0;
        for (l, list) in self.problem.lists.iter().enumerate() {
            let members = u64::from(groups.starts[l + 1] - groups.starts[l]);
            rows += members * list.len() as u64;
            lists += if list.is_empty() { 0 } else { members };
        }
        let pieces = self.pieces(&groups, parts, rows);
        let scan = |pieces: &[Piece]| {
            let mut tops = vec![TopK::new(k); queries];
            self.isa.run(ScanPieces {
                job: self,
                first,
                groups: &groups,
                pieces,
                tops: &mut tops,
            });
            tops
        };
        let ids = ListsIds(self.problem.lists);
        let mut tops = if pieces.len() <= 1 {
            scan(pieces.first().map_or(&[], Vec::as_slice))
        } else {
            let mut found: Vec<Vec<TopK>> = pieces.par_iter().map(|p| scan(p)).collect();
            let mut tops = found.swap_remove(0);
            for mut other in found {
                for (top, other) in tops.iter_mut().zip(&mut other) {
                    top.absorb(other, &ids);
                }
            }
            tops
        };
        for (i, top) in tops.iter_mut().enumerate() {
            top.drain_sorted(&ids, |rank, found| {
                distances[i * k + rank] = self.problem.metric.key(found.key);
                labels[i * k + rank] = self.problem.lists[found.at.list as usize].id(found.at.slot);
            });
        }
        (rows, lists)
    }

    /// Groups a block's queries by list: histogram, running sum, scatter.
    fn group(&self, first: usize, queries: usize) -> Groups {
        let lists = self.problem.lists.len();
        let probes = &self.probes[first * self.nprobe..(first + queries) * self.nprobe];
        let searchable: Vec<bool> = (first..first + queries)
            .map(|i| self.problem.is_searchable(i))
            .collect();
        let pairs = || {
            probes
                .chunks_exact(self.nprobe)
                .zip(&searchable)
                .enumerate()
                .flat_map(|(i, (probes, &searchable))| {
                    probes
                        .iter()
                        .filter(move |&&l| searchable && l != SKIP)
                        .map(move |&l| (i as u32, l as usize))
                })
        };
        let mut starts = vec![0_u32; lists + 1];
        for (_, list) in pairs() {
            starts[list + 1] += 1;
        }
        for l in 0..lists {
            starts[l + 1] += starts[l];
        }
        let mut next = starts.clone();
        let mut members = vec![0; starts[lists] as usize];
        for (query, list) in pairs() {
            members[next[list] as usize] = query;
            next[list] += 1;
        }
        Groups { starts, members }
    }

    /// Cuts the block's work of `rows` (query, row) pairs into about equal parts.
    fn pieces(&self, groups: &Groups, parts: usize, rows: u64) -> Vec<Vec<Piece>> {
        let share = rows.div_ceil(parts as u64).max(1);
        let mut cut = vec![Vec::new()];
        let mut room = share;
        for (l, list) in self.problem.lists.iter().enumerate() {
            let members = u64::from(groups.starts[l + 1] - groups.starts[l]);
            if members == 0 || list.is_empty() {
                continue;
            }
            let panels = list.len().div_ceil(PANEL);
            let cost = members * PANEL as u64;
            let mut first = 0;
            while first < panels {
                if room == 0 {
                    cut.push(Vec::new());
                    room = share;
                }
                let take = (room.div_ceil(cost) as usize).min(panels - first);
                let piece = Piece {
                    list: l as u32,
                    first,
                    last: first + take,
                };
                if let Some(part) = cut.last_mut() {
                    part.push(piece);
                }
                room = room.saturating_sub(take as u64 * cost);
                first += take;
            }
        }
        cut
    }
}

struct ScanPieces<'a> {
    job: &'a Job<'a>,
    first: usize,
    groups: &'a Groups,
    pieces: &'a [Piece],
    tops: &'a mut [TopK],
}

impl WithSimd for ScanPieces<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let problem = self.job.problem;
        let strip_panels = (STRIP_BYTES / (PANEL * problem.d * size_of::<f32>())).max(4);
        for piece in self.pieces {
            let l = piece.list as usize;
            let (a, b) = (
                self.groups.starts[l] as usize,
                self.groups.starts[l + 1] as usize,
            );
            let mut first = piece.first;
            while first < piece.last {
                let last = (first + strip_panels).min(piece.last);
                let strip = Strip {
                    list: piece.list,
                    first,
                    last,
                    group: &self.groups.members[a..b],
                    block: self.first,
                };
                scan_strip(simd, problem, &strip, self.tops);
                first = last;
            }
        }
    }
}
