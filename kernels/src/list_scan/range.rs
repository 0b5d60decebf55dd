//! All rows within a distance, on the CPU.
//!
//! The same blocks, tiles and filters as [`super::scan`], with a limit that is known from the
//! start: what passes it is compared exactly and kept if it is near enough.

use super::{
    ListsIds, Order, Problem,
    cpu::{Blocks, Counts, Job, check},
    restrict::Restriction,
};
use crate::{
    KernelError, Metric,
    order::{Candidate, Ids},
    share::share,
    simd::Isa,
};
use std::sync::{Mutex, PoisonError};

/// Rows a query's buffer holds while they wait for their exact key.
const WAITING: usize = 256;

/// The rows within a distance of every query.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Query `i` found entries `lims[i]..lims[i + 1]`; `nq + 1` numbers.
    pub lims: Vec<u64>,
    /// Distances or inner products: list after list, as inserted.
    pub distances: Vec<f32>,
    /// Their ids.
    pub labels: Vec<i64>,
    /// (query, row) pairs compared.
    pub rows_scanned: u64,
    /// (query, row) pairs compared exactly.
    pub rows_reranked: u64,
    /// (query, non-empty list) pairs read.
    pub lists_scanned: u64,
}

/// Every row of the lists named by `probes`, row-major `[nq, nprobe]`, whose key
/// ([`Metric::key`]: smaller is better) is at most `limit`. `problem.k` is not used.
///
/// # Errors
/// As [`super::scan_restricted`].
pub fn within(
    problem: &Problem<'_>,
    limit: f32,
    probes: &[u32],
    nprobe: usize,
    isa: Isa,
    restriction: Restriction<'_>,
) -> Result<Found, KernelError> {
    let problem = &Problem {
        k: WAITING,
        ..*problem
    };
    check(problem, probes, nprobe, &restriction)?;
    let nq = problem.nq();
    let mut rows: Vec<Vec<Candidate>> = vec![Vec::new(); nq];
    let mut counts = Counts::default();
    if nq > 0 && nprobe > 0 {
        let job = Job {
            problem,
            stride: 1,
            probes,
            nprobe,
            order: Order::ListMajor,
            isa,
            restriction,
            within: Some(limit),
        };
        let threads = rayon::current_num_threads();
        let step = Blocks::new(&job, WAITING, threads).step;
        for first in (0..nq).step_by(step) {
            let n = step.min(nq - first);
            let (block, work, read) = job.prepare(first, n, threads);
            let workers = threads.min(work.pieces.len().max(1));
            let mut found = Job::run(&block, &work, n, workers);
            counts.rows += read.rows;
            counts.lists += read.lists;
            let mut finds: Vec<Vec<_>> = (0..n).map(|_| Vec::new()).collect();
            for (seekers, reranked) in &mut found {
                counts.reranked += *reranked;
                for (finds, seeker) in finds.iter_mut().zip(seekers.iter_mut()) {
                    finds.push(seeker);
                }
            }
            let reranked = Mutex::new(0);
            let places = rows[first..first + n].iter_mut().zip(finds).enumerate();
            share(workers, places, |(query, (rows, finds))| {
                let mut compared = 0;
                for (seeker, waiting) in finds {
                    let (found, more) = seeker.found(&block, query, waiting);
                    compared += more;
                    rows.extend(found);
                }
                rows.sort_unstable_by_key(|found| (found.at.list, found.at.slot));
                *reranked.lock().unwrap_or_else(PoisonError::into_inner) += compared;
            });
            counts.reranked += reranked
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
    let ids = ListsIds(problem.lists);
    Ok(Found::new(problem.metric, &rows, &ids, counts))
}

impl Found {
    /// What was found, query by query.
    pub fn new(metric: Metric, rows: &[Vec<Candidate>], ids: &impl Ids, counts: Counts) -> Self {
        let mut lims = Vec::with_capacity(rows.len() + 1);
        let mut sum = 0;
        lims.push(sum);
        for rows in rows {
            sum += rows.len() as u64;
            lims.push(sum);
        }
        let all = || rows.iter().flatten();
        Self {
            lims,
            distances: all().map(|found| metric.key(found.key)).collect(),
            labels: all().map(|found| ids.id(found.at)).collect(),
            rows_scanned: counts.rows,
            rows_reranked: counts.reranked,
            lists_scanned: counts.lists,
        }
    }
}
