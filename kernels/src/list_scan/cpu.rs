//! The CPU kernel: who scans what, on which thread.
//!
//! Queries are cut into blocks. Where the lists fit a cache (centroids, say), blocks run side by
//! side, each on one thread. Otherwise one block runs after the other: its queries are grouped by
//! list, lists are cut into pieces of work, and workers take pieces until none is left; what they
//! found for a query is put together and re-ranked at the end. See [`super::seeker`] for how a
//! worker keeps what it finds, [`super::worker`] for how it scans.

use super::{
    Best, ListsIds, Order, Problem, SKIP,
    queries::Queries,
    seeker::{self, Block, Seeker, Waiting},
    table,
    worker::{Piece, Worker},
};
use crate::{
    KernelError,
    bound::Extent,
    check_len,
    order::{Slot, TopK},
    share::share,
    simd::Isa,
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use pulp::{Simd, WithSimd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Queries per block at most: enough that a list's rows, read from memory once, meet many.
const BLOCK_QUERIES: usize = 4096;
/// Queries per block where lists come from cache anyway.
const SMALL_BLOCK_QUERIES: usize = 512;
/// Queries one thread takes at once where all read one small table.
const TABLE_QUERIES: usize = 1024;
/// Bytes of lists that count as cached.
const CACHED_BYTES: usize = 2 << 20;
/// Bytes of buffers, over all workers.
const BUFFER_BYTES: usize = 32 << 20;
/// Queries per block at least, as long as their buffers take no more than [`LEAST_BYTES`] a worker:
/// every block reads its lists anew.
const LEAST_QUERIES: usize = 256;
/// See [`LEAST_QUERIES`].
const LEAST_BYTES: usize = 4 << 20;
/// Component pairs below which waking a second thread costs more than it saves.
const SERIAL_WORK: usize = 1 << 21;
/// Pieces per worker, so that none waits long for the last.
const PIECES: u64 = 16;
/// Queries re-ranked by one thread before it takes the next.
const FINISH: usize = 32;

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
    order: Order,
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
    // A query keeps no more rows than it reads: buffers follow that, not a huge k.
    let read_by = |probes: &[u32]| {
        let lists = probes.iter().filter(|&&l| l != SKIP);
        lists.map(|&l| problem.lists[l as usize].len()).sum()
    };
    let most: usize = probes.chunks_exact(nprobe).map(read_by).max().unwrap_or(0);
    let kept = Problem {
        k: k.min(most).max(1),
        ..*problem
    };
    let job = Job {
        problem: &kept,
        stride: k,
        probes,
        nprobe,
        order,
        isa,
    };
    let read = probes.iter().filter(|&&l| l != SKIP);
    let rows: usize = read.map(|&l| problem.lists[l as usize].len()).sum();
    let threads = if rows.saturating_mul(problem.d) < SERIAL_WORK {
        1
    } else {
        rayon::current_num_threads()
    };
    if table::fits(problem, nprobe) {
        let step = nq.div_ceil(4 * threads).clamp(1, TABLE_QUERIES);
        let distances = best.distances.chunks_mut(step * k);
        let places = distances.zip(best.labels.chunks_mut(step * k)).enumerate();
        let total = Counters::default();
        share(threads, places, |(part, (distances, labels))| {
            let range = part * step..(part * step + step).min(nq);
            let probes = &probes[range.clone()];
            total.add(table::scan(problem, range, probes, isa, distances, labels));
        });
        total.store(&mut best);
        return Ok(best);
    }
    let bytes: usize = problem.lists.iter().map(|list| list.rows().bytes()).sum();
    let buffer = seeker::capacity(kept.k) * (size_of::<f32>() + size_of::<Slot>());
    let limit = (BUFFER_BYTES / threads / buffer)
        .max(LEAST_QUERIES.min(LEAST_BYTES / buffer))
        .max(1);
    let side_by_side = threads > 1 && bytes <= CACHED_BYTES && nq >= 4 * threads;
    // Blocks beside each other, each on one thread, or one after the other, each on all.
    let (step, outer, inner) = if side_by_side {
        let step = nq.div_ceil(4 * threads).min(SMALL_BLOCK_QUERIES).min(limit);
        (step, threads, 1)
    } else {
        // Blocks of about equal size.
        let step = nq.div_ceil(nq.div_ceil(BLOCK_QUERIES.min(limit)));
        (step, 1, threads)
    };
    let distances = best.distances.chunks_mut(step * k);
    let places = distances.zip(best.labels.chunks_mut(step * k)).enumerate();
    let total = Counters::default();
    share(outer, places, |(block, (distances, labels))| {
        total.add(job.block(block * step, inner, distances, labels));
    });
    total.store(&mut best);
    Ok(best)
}

/// What was read, for the statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// (query, row) pairs.
    pub rows: u64,
    /// (query, non-empty list) pairs.
    pub lists: u64,
    /// Rows compared exactly.
    pub reranked: u64,
}

/// [`Counts`] of several threads.
#[derive(Debug, Default)]
struct Counters {
    rows: AtomicU64,
    lists: AtomicU64,
    reranked: AtomicU64,
}

impl Counters {
    fn add(&self, counts: Counts) {
        self.rows.fetch_add(counts.rows, Relaxed);
        self.lists.fetch_add(counts.lists, Relaxed);
        self.reranked.fetch_add(counts.reranked, Relaxed);
    }

    fn store(self, best: &mut Best) {
        best.rows_scanned = self.rows.into_inner();
        best.lists_scanned = self.lists.into_inner();
        best.rows_reranked = self.reranked.into_inner();
    }
}

struct Job<'a> {
    /// The problem, with `k` no larger than the rows a query may find.
    problem: &'a Problem<'a>,
    /// Places per query in the answer.
    stride: usize,
    probes: &'a [u32],
    nprobe: usize,
    order: Order,
    isa: Isa,
}

/// A lock that a panic elsewhere does not spoil: the panic goes on at the end of the scope.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block's work: pieces of lists, and the queries that read each.
struct Work {
    pieces: Vec<Piece>,
    members: Vec<u32>,
}

impl Job<'_> {
    /// Answers the queries from `first` on, as many as `labels` has rows for, with up to `workers`
    /// threads.
    fn block(
        &self,
        first: usize,
        workers: usize,
        distances: &mut [f32],
        labels: &mut [i64],
    ) -> Counts {
        let problem = self.problem;
        let stride = self.stride;
        let n = labels.len() / stride;
        let probes = &self.probes[first * self.nprobe..(first + n) * self.nprobe];
        let extents: Vec<Extent> = probes
            .chunks_exact(self.nprobe)
            .map(|probes| {
                let lists = probes.iter().filter(|&&l| l != SKIP);
                lists
                    .map(|&l| problem.lists[l as usize].rows().extent())
                    .fold(Extent::default(), Extent::max)
            })
            .collect();
        let range = first..first + n;
        let queries = Queries::new(problem, range, &extents, self.isa, workers);
        let (work, mut counts) = self.work(probes, &queries, workers);
        let block = Block::new(problem, queries, n, self.isa);
        let workers = workers.min(work.pieces.len().max(1));
        let idle: Vec<Worker<'_>> = (0..workers).map(|_| Worker::new(&block)).collect();
        // Workers are handed out like work: a thread that comes late finds none.
        let pieces = Mutex::new(work.pieces.iter());
        let found = Mutex::new(Vec::with_capacity(workers));
        share(workers, idle.into_iter(), |mut worker| {
            let take = || lock(&pieces).next();
            let mut piece = take();
            if piece.is_none() {
                return;
            }
            worker.start(n);
            while let Some(now) = piece {
                worker.scan(now, &work.members[now.members.clone()]);
                piece = take();
            }
            lock(&found).push((worker.seekers, worker.reranked));
        });
        let mut found: Vec<(Vec<Seeker>, u64)> =
            found.into_inner().unwrap_or_else(PoisonError::into_inner);
        counts.reranked = found.iter().map(|(_, reranked)| reranked).sum();
        // Every query's finds by all workers, side by side.
        let mut finds: Vec<Vec<&mut Seeker>> = (0..n).map(|_| Vec::new()).collect();
        for (seekers, _) in &mut found {
            for (finds, seeker) in finds.iter_mut().zip(seekers) {
                finds.push(seeker);
            }
        }
        let reranked = AtomicU64::new(counts.reranked);
        let chunks = finds.chunks_mut(FINISH).enumerate();
        let distances = distances.chunks_mut(FINISH * stride);
        let places = distances.zip(labels.chunks_mut(FINISH * stride));
        let workers = workers.min(n.div_ceil(FINISH));
        share(
            workers,
            chunks.zip(places),
            |((chunk, finds), (distances, labels))| {
                let rows = self.isa.run(Finish {
                    block: &block,
                    first: chunk * FINISH,
                    stride,
                    finds,
                    distances,
                    labels,
                });
                reranked.fetch_add(rows, Relaxed);
            },
        );
        counts.reranked = reranked.into_inner();
        counts
    }

    /// Who reads what, in the order asked for.
    fn work(&self, probes: &[u32], queries: &Queries, workers: usize) -> (Work, Counts) {
        let lists = self.problem.lists;
        let (starts, members) = match self.order {
            Order::ListMajor => self.group(probes, queries),
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
            let cost = (members.len() * crate::rows::PANEL) as u64;
            let step = share.div_ceil(cost).clamp(1, panels.max(1) as u64) as usize;
            for first in (0..panels).step_by(step) {
                pieces.push(Piece {
                    list,
                    panels: first..(first + step).min(panels),
                    members: members.clone(),
                });
            }
        }
        let members = members.into_iter().map(|(_, query)| query).collect();
        (Work { pieces, members }, counts)
    }

    /// Groups a block's queries by list (histogram, running sum, scatter): list `l` is read by
    /// `members[starts[l]..starts[l + 1]]`, in order of queries.
    fn group(&self, probes: &[u32], queries: &Queries) -> (Vec<usize>, Vec<(u32, u32)>) {
        let lists = self.problem.lists.len();
        let pairs = || {
            probes
                .chunks_exact(self.nprobe)
                .enumerate()
                .filter(|(i, _)| queries.facts(*i).searchable)
                .flat_map(|(i, probes)| {
                    let read = probes.iter().filter(|&&l| l != SKIP);
                    read.map(move |&l| (l, i as u32))
                })
        };
        let mut starts = vec![0_usize; lists + 1];
        for (list, _) in pairs() {
            starts[list as usize + 1] += 1;
        }
        for l in 0..lists {
            starts[l + 1] += starts[l];
        }
        let mut next = starts.clone();
        let mut members = vec![(0, 0); starts[lists]];
        for (list, query) in pairs() {
            members[next[list as usize]] = (list, query);
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

/// Re-ranks and writes the answers of some queries; returns how many rows were compared exactly.
struct Finish<'s, 'a> {
    block: &'s Block<'s>,
    first: usize,
    stride: usize,
    finds: &'s mut [Vec<&'a mut Seeker>],
    distances: &'s mut [f32],
    labels: &'s mut [i64],
}

impl WithSimd for Finish<'_, '_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        let problem = self.block.problem;
        let ids = ListsIds(problem.lists);
        let mut top = TopK::new(problem.k);
        let mut waiting = Waiting::default();
        let mut reranked = 0;
        let distances = self.distances.chunks_exact_mut(self.stride);
        let labels = self.labels.chunks_exact_mut(self.stride);
        let places = self.finds.iter_mut().zip(distances).zip(labels);
        for (i, ((finds, distances), labels)) in places.enumerate() {
            let query = self.first + i;
            if !self.block.queries.facts(query).searchable {
                continue;
            }
            let finds = finds.iter_mut().map(|seeker| &mut **seeker);
            reranked += seeker::finish(simd, self.block, query, finds, &mut top, &mut waiting);
            top.drain_sorted(&ids, |rank, found| {
                distances[rank] = problem.metric.key(found.key);
                labels[rank] = problem.lists[found.at.list as usize].id(found.at.slot);
            });
        }
        reranked
    }
}
