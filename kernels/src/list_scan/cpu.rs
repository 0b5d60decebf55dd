//! The CPU kernel: who scans what, on which thread.
//!
//! Queries are cut into blocks. Where the lists fit a cache (centroids, say), blocks run side by
//! side, each on one thread. Otherwise one block runs after the other: its queries are grouped by
//! list, lists are cut into pieces of work, and workers take pieces until none is left; what they
//! found for a query is put together and re-ranked at the end ([`super::finish`]). See [`super::seeker`] for
//! how a worker keeps what it finds, [`super::worker`] for how it scans.

use super::{
    Best, Order, Problem, SKIP,
    finish::{self, Places},
    queries::Queries,
    restrict::Restriction,
    seeker::{self, Block, Seeker, Seekers},
    table,
    work::Work,
    worker::Worker,
};
use crate::{KernelError, bound::Extent, check_len, order::Slot, share::share, simd::Isa};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
/// Bytes of a component of a prepared query: f32 and bf16.
const QUERY_BYTES: usize = 6;
/// Bytes of a (query, list) pair while work is divided.
const PAIR_BYTES: usize = 24;
/// The same under a restriction, where a pair may be a set of its own.
const RESTRICTED_PAIR_BYTES: usize = 256;

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
    let all = Restriction::default();
    scan_restricted(problem, probes, nprobe, order, isa, all)
}

/// Checks the inputs of a scan.
pub(super) fn check(
    problem: &Problem<'_>,
    probes: &[u32],
    nprobe: usize,
    restriction: &Restriction<'_>,
) -> Result<(), KernelError> {
    problem.check()?;
    let nq = problem.nq();
    check_len("probes", nq * nprobe, probes.len())?;
    let lists = problem.lists.len();
    if let Some(&list) = probes.iter().find(|&&l| l != SKIP && l as usize >= lists) {
        return Err(KernelError::List { list, lists });
    }
    if !restriction.is_none() {
        let lens: Vec<usize> = problem.lists.iter().map(super::List::len).collect();
        restriction.check(nq, nprobe, &lens)?;
    }
    Ok(())
}

/// [`scan`] among the rows that a restriction leaves.
///
/// # Errors
/// As `scan`; also when the restriction does not fit the lists.
pub fn scan_restricted(
    problem: &Problem<'_>,
    probes: &[u32],
    nprobe: usize,
    order: Order,
    isa: Isa,
    restriction: Restriction<'_>,
) -> Result<Best, KernelError> {
    check(problem, probes, nprobe, &restriction)?;
    let (nq, k) = (problem.nq(), problem.k);
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
        restriction,
        within: None,
    };
    let read = probes.iter().filter(|&&l| l != SKIP);
    let rows: usize = read.map(|&l| problem.lists[l as usize].len()).sum();
    let threads = if rows.saturating_mul(problem.d) < SERIAL_WORK {
        1
    } else {
        rayon::current_num_threads()
    };
    if restriction.is_none() && table::fits(problem, nprobe) {
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
    let cut = Blocks::new(&job, kept.k, threads);
    let distances = best.distances.chunks_mut(cut.step * k);
    let places = distances
        .zip(best.labels.chunks_mut(cut.step * k))
        .enumerate();
    let total = Counters::default();
    share(cut.outer, places, |(block, (distances, labels))| {
        total.add(job.block(block * cut.step, cut.inner, distances, labels));
    });
    total.store(&mut best);
    Ok(best)
}

/// How queries are cut into blocks.
pub(super) struct Blocks {
    /// Queries of a block.
    pub step: usize,
    /// Blocks at once.
    pub outer: usize,
    /// Threads a block may use.
    pub inner: usize,
}

impl Blocks {
    /// For queries that keep `k` rows.
    pub fn new(job: &Job<'_>, k: usize, threads: usize) -> Self {
        let problem = job.problem;
        let nq = problem.nq();
        let bytes: usize = problem.lists.iter().map(|list| list.rows().bytes()).sum();
        let buffer = seeker::capacity(k) * (size_of::<f32>() + size_of::<Slot>());
        let limit = (BUFFER_BYTES / threads / buffer)
            .max(LEAST_QUERIES.min(LEAST_BYTES / buffer))
            .max(1);
        let pairs = if job.restriction.is_none() {
            PAIR_BYTES
        } else {
            RESTRICTED_PAIR_BYTES
        };
        let query = problem.d * QUERY_BYTES + threads * (size_of::<Seeker>() + buffer);
        let limit = limit
            .min(problem.workspace / (query + job.nprobe * pairs))
            .max(1);
        let side_by_side = threads > 1 && bytes <= CACHED_BYTES && nq >= 4 * threads;
        // Blocks beside each other, each on one thread, or one after the other, each on all.
        if side_by_side {
            let step = nq.div_ceil(4 * threads).min(SMALL_BLOCK_QUERIES).min(limit);
            Self {
                step,
                outer: threads,
                inner: 1,
            }
        } else {
            // Blocks of about equal size.
            let step = nq.div_ceil(nq.div_ceil(BLOCK_QUERIES.min(limit)));
            Self {
                step,
                outer: 1,
                inner: threads,
            }
        }
    }
}

/// What was read, for the statistics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
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

pub(super) struct Job<'a> {
    /// The problem, with `k` no larger than the rows a query may find.
    pub problem: &'a Problem<'a>,
    /// Places per query in the answer.
    pub stride: usize,
    pub probes: &'a [u32],
    pub nprobe: usize,
    pub order: Order,
    pub isa: Isa,
    pub restriction: Restriction<'a>,
    /// See [`Block::within`].
    pub within: Option<f32>,
}

/// A lock that a panic elsewhere does not spoil: the panic goes on at the end of the scope.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Job<'a> {
    /// Answers the queries from `first` on, as many as `labels` has rows for, with up to `workers`
    /// threads.
    fn block(
        &self,
        first: usize,
        workers: usize,
        distances: &mut [f32],
        labels: &mut [i64],
    ) -> Counts {
        let stride = self.stride;
        let n = labels.len() / stride;
        let (block, work, mut counts) = self.prepare(first, n, workers);
        let workers = workers.min(work.pieces.len().max(1));
        let found = Self::run(&block, &work, n, workers);
        let (found, reranked): (Vec<Seekers>, Vec<u64>) = found.into_iter().unzip();
        let places = Places {
            stride,
            distances,
            labels,
        };
        counts.reranked =
            reranked.iter().sum::<u64>() + finish::finish(&block, &found, workers, places);
        counts
    }

    /// A block of `n` queries from `first` on, and its work.
    pub fn prepare(&self, first: usize, n: usize, workers: usize) -> (Block<'a>, Work<'a>, Counts) {
        let problem = self.problem;
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
        let (work, counts) = if self.restriction.is_none() {
            self.work(probes, &queries, workers)
        } else {
            self.restricted_work(first, probes, &queries, workers)
        };
        let block = Block::new(problem, queries, n, self.isa);
        let block = match self.within {
            Some(within) => block.within(within),
            None => block,
        };
        (block, work, counts)
    }

    /// What workers find for the block's `n` queries, and rows compared exactly, worker by worker.
    pub fn run(
        block: &Block<'_>,
        work: &Work<'_>,
        n: usize,
        workers: usize,
    ) -> Vec<(Seekers, u64)> {
        let idle: Vec<Worker<'_>> = (0..workers).map(|_| Worker::new(block)).collect();
        // Workers are handed out like work: a thread that comes late finds none.
        let pieces = Mutex::new(work.pieces.iter());
        // A worker knows its next piece before it begins one, except near the end.
        let early = 4 * workers;
        let found = Mutex::new(Vec::with_capacity(workers));
        share(workers, idle.into_iter(), |mut worker| {
            let take = || lock(&pieces).next();
            let take_early = || {
                let mut pieces = lock(&pieces);
                (pieces.len() > early).then(|| pieces.next()).flatten()
            };
            let mut piece = take();
            if piece.is_none() {
                return;
            }
            worker.start(n);
            while let Some(now) = piece {
                let next = take_early();
                worker.scan(now, next, work);
                piece = next.or_else(take);
            }
            lock(&found).push((worker.seekers, worker.reranked));
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
