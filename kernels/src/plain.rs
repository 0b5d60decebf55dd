//! Lists of plain f32 rows, wherever they lie, compared with queries: no filter, no copy.
//!
//! The contract and the answer, bit for bit, are those of [`list_scan`](crate::list_scan); only
//! speed differs, since every row is compared exactly. Made for rows in a mapped file, of which only
//! the probed lists are read, each once for a block of queries.

use crate::{
    KernelError, Metric, check_len, distance,
    list_scan::{Best, SKIP},
    order::{Candidate, Ids, Slot, TopK},
    simd::Isa,
};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Bytes of rows that are compared with one query after the other: half a second-level cache.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of candidates that a block of queries may hold.
const BLOCK_BYTES: usize = 32 << 20;
/// Queries in a block at most.
const BLOCK_QUERIES: usize = 4096;

/// A list: rows, row-major `[n, d]`, and their ids; without ids a row's id is its place.
#[derive(Debug, Clone, Copy)]
pub struct PlainList<'a> {
    /// The vectors.
    pub rows: &'a [f32],
    /// One id per vector.
    pub ids: Option<&'a [i64]>,
}

/// The inputs of a scan.
#[derive(Debug, Clone, Copy)]
pub struct PlainProblem<'a> {
    /// How vectors are compared.
    pub metric: Metric,
    /// Components of a vector, at least 1.
    pub d: usize,
    /// Results per query, at least 1.
    pub k: usize,
    /// The lists.
    pub lists: &'a [PlainList<'a>],
    /// Queries, row-major `[nq, d]`.
    pub queries: &'a [f32],
}

impl PlainProblem<'_> {
    fn nq(&self) -> usize {
        self.queries.len() / self.d.max(1)
    }

    fn query(&self, i: usize) -> &[f32] {
        &self.queries[i * self.d..(i + 1) * self.d]
    }

    fn check(&self, probes: &[u32], nprobe: usize) -> Result<(), KernelError> {
        let nq = self.nq();
        if self.d == 0 || self.k == 0 || nq.checked_mul(self.k).is_none() {
            let (d, k) = (self.d, self.k);
            return Err(KernelError::Sizes { d, k, nq });
        }
        check_len("queries", nq * self.d, self.queries.len())?;
        check_len("probes", nq * nprobe, probes.len())?;
        for list in self.lists {
            let rows = list.rows.len() / self.d;
            check_len("vectors of a list", rows * self.d, list.rows.len())?;
            check_len("ids of a list", rows, list.ids.map_or(rows, <[i64]>::len))?;
        }
        let lists = self.lists.len();
        match probes.iter().find(|&&l| l != SKIP && l as usize >= lists) {
            Some(&list) => Err(KernelError::List { list, lists }),
            None => Ok(()),
        }
    }
}

impl Ids for PlainProblem<'_> {
    fn id(&self, at: Slot) -> i64 {
        let ids = self.lists[at.list as usize].ids;
        ids.map_or(i64::from(at.slot), |ids| ids[at.slot as usize])
    }
}

/// The best of one query, as workers share it.
struct Shared {
    top: Mutex<TopK>,
    /// Bits of the largest key still worth a look.
    limit: AtomicU32,
}

/// The `k` best rows of every query among the lists it probes, `probes` row-major `[nq, nprobe]`.
///
/// # Errors
/// When lengths do not fit or a probe names a list that does not exist.
pub fn scan(
    problem: &PlainProblem<'_>,
    probes: &[u32],
    nprobe: usize,
    isa: Isa,
) -> Result<Best, KernelError> {
    problem.check(probes, nprobe)?;
    let (nq, k) = (problem.nq(), problem.k);
    let mut best = Best::padding(problem.metric, nq, k);
    if nprobe == 0 {
        return Ok(best);
    }
    let candidates = TopK::capacity(k).saturating_mul(size_of::<Candidate>());
    let block = (BLOCK_BYTES / candidates).clamp(1, BLOCK_QUERIES);
    for first in (0..nq).step_by(block) {
        let queries = first..nq.min(first + block);
        let groups = group(problem, probes, nprobe, queries.clone());
        let shared: Vec<Shared> = queries
            .clone()
            .map(|_| Shared {
                top: Mutex::new(TopK::new(k)),
                limit: AtomicU32::new(f32::INFINITY.to_bits()),
            })
            .collect();
        let per_piece = (PIECE_BYTES / (problem.d * size_of::<f32>())).max(1);
        let mut pieces = Vec::new();
        for (list, members) in &groups {
            let rows = problem.lists[*list as usize].rows.len() / problem.d;
            best.rows_scanned += (rows * members.len()) as u64;
            best.lists_scanned += (usize::from(rows > 0) * members.len()) as u64;
            let starts = (0..rows).step_by(per_piece);
            pieces.extend(starts.map(|row| (*list, row..rows.min(row + per_piece), members)));
        }
        pieces.par_iter().enumerate().for_each_init(
            Vec::new,
            |found, (turn, (list, rows, members))| {
                // Every worker begins elsewhere, so that they do not wait for each other.
                for step in 0..members.len() {
                    let query = members[(turn + step) % members.len()] as usize;
                    let shared = &shared[query - first];
                    found.clear();
                    isa.run(Compare {
                        problem,
                        query: problem.query(query),
                        list: *list,
                        rows: rows.clone(),
                        limit: f32::from_bits(shared.limit.load(Relaxed)),
                        found,
                    });
                    if !found.is_empty() {
                        keep(shared, found, problem);
                    }
                }
            },
        );
        for (query, shared) in queries.zip(shared) {
            let mut top = shared
                .top
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
            top.drain_sorted(problem, |rank, found| {
                best.distances[query * k + rank] = problem.metric.key(found.key);
                best.labels[query * k + rank] = problem.id(found.at);
            });
        }
    }
    best.rows_reranked = best.rows_scanned;
    Ok(best)
}

/// The lists that some query of a block probes, each with its queries; those with a component that
/// is NaN or infinite probe nothing.
fn group(
    problem: &PlainProblem<'_>,
    probes: &[u32],
    nprobe: usize,
    queries: core::ops::Range<usize>,
) -> Vec<(u32, Vec<u32>)> {
    let mut pairs = Vec::new();
    for query in queries {
        if problem.query(query).iter().all(|v| v.is_finite()) {
            let lists = &probes[query * nprobe..(query + 1) * nprobe];
            let lists = lists.iter().filter(|&&list| list != SKIP);
            pairs.extend(lists.map(|&list| (list, query as u32)));
        }
    }
    pairs.sort_unstable();
    pairs
        .chunk_by(|a, b| a.0 == b.0)
        .map(|group| (group[0].0, group.iter().map(|pair| pair.1).collect()))
        .collect()
}

fn keep(shared: &Shared, found: &[Candidate], problem: &PlainProblem<'_>) {
    let mut top = shared.top.lock().unwrap_or_else(PoisonError::into_inner);
    for &candidate in found {
        top.push(candidate, problem);
    }
    top.tighten(problem);
    shared.limit.store(top.threshold().to_bits(), Relaxed);
}

/// One query against some rows of a list, compiled for an instruction set.
struct Compare<'a, 'b> {
    problem: &'a PlainProblem<'b>,
    query: &'a [f32],
    list: u32,
    rows: core::ops::Range<usize>,
    limit: f32,
    found: &'a mut Vec<Candidate>,
}

impl WithSimd for Compare<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let d = self.problem.d;
        let rows = &self.problem.lists[self.list as usize].rows[self.rows.start * d..];
        for (slot, row) in self.rows.zip(rows.chunks_exact(d)) {
            let key = distance::key(simd, self.problem.metric, self.query, row);
            // A key of NaN (a damaged file) is not up to any limit.
            if key <= self.limit {
                self.found.push(Candidate {
                    key,
                    at: Slot {
                        list: self.list,
                        slot: slot as u32,
                    },
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        list_scan::{self, List, ListIds, Order, Problem, WORKSPACE},
        rows::{Layout, Rows},
    };

    /// Small integers, so that ties abound; some lists empty, some queries broken.
    fn value(i: usize) -> f32 {
        ((i * 7919) % 23) as f32 - 11.0 + if i.is_multiple_of(5) { 0.37 } else { 0.0 }
    }

    #[test]
    fn answers_are_those_of_the_list_scan() {
        for (d, k, nq) in [(1, 3, 5), (16, 1, 9), (33, 40, 70), (128, 7, 2)] {
            let sizes = [0, 700, 3, 0, 1500, 17];
            let mut next = 0;
            let mut lists = Vec::new();
            for n in sizes {
                let rows: Vec<f32> = (next * d..(next + n) * d).map(value).collect();
                let ids: Vec<i64> = (0..n)
                    .map(|i| ((next + i) as i64 * 37) % 500 - 250)
                    .collect();
                lists.push((rows, ids));
                next += n;
            }
            let mut queries: Vec<f32> = (0..nq * d).map(|i| value(i * 31 + 1)).collect();
            queries[(nq - 1) * d] = f32::NAN;
            let probes: Vec<u32> = (0..nq)
                .flat_map(|q| {
                    [
                        (q % 6) as u32,
                        SKIP,
                        ((q + 1) % 6) as u32,
                        ((q + 3) % 6) as u32,
                    ]
                })
                .collect();
            let plain: Vec<PlainList<'_>> = lists
                .iter()
                .map(|(rows, ids)| PlainList {
                    rows,
                    ids: Some(ids),
                })
                .collect();
            let stored: Vec<Rows> = lists
                .iter()
                .map(|(rows, _)| {
                    let mut stored = Rows::new(d, Layout::F32);
                    stored.extend(rows);
                    stored
                })
                .collect();
            let views: Vec<List<'_>> = stored
                .iter()
                .zip(&lists)
                .map(|(rows, (_, ids))| List::new(rows, ListIds::Table(ids)).expect("a list"))
                .collect();
            for metric in [Metric::L2, Metric::InnerProduct] {
                let problem = Problem {
                    metric,
                    d,
                    k,
                    lists: &views,
                    queries: &queries,
                    workspace: WORKSPACE,
                };
                let isa = Isa::detect();
                let expected =
                    list_scan::scan(&problem, &probes, 4, Order::ListMajor, isa).expect("a scan");
                for isa in Isa::available() {
                    let problem = PlainProblem {
                        metric,
                        d,
                        k,
                        lists: &plain,
                        queries: &queries,
                    };
                    let found = scan(&problem, &probes, 4, isa).expect("a scan");
                    assert_eq!(found.labels, expected.labels, "{metric} {d} {k}");
                    let bits = |best: &Best| -> Vec<u32> {
                        best.distances.iter().map(|v| v.to_bits()).collect()
                    };
                    assert_eq!(bits(&found), bits(&expected));
                    let counts = (found.rows_scanned, found.lists_scanned);
                    assert_eq!(counts, (expected.rows_scanned, expected.lists_scanned));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (rows, ids) = ([1.0; 6], [1, 2, 3]);
        let list = PlainList {
            rows: &rows,
            ids: Some(&ids),
        };
        let queries = [0.0; 2];
        let of = |d, k, lists: &[PlainList<'_>], probes: &[u32]| {
            let problem = PlainProblem {
                metric: Metric::L2,
                d,
                k,
                lists,
                queries: &queries,
            };
            scan(&problem, probes, 1, Isa::portable()).map(|best| best.labels)
        };
        assert_eq!(of(2, 1, &[list], &[0]), Ok(vec![1]));
        assert!(matches!(
            of(2, 1, &[list], &[1]),
            Err(KernelError::List { .. })
        ));
        assert!(matches!(
            of(0, 1, &[list], &[0]),
            Err(KernelError::Sizes { .. })
        ));
        assert!(matches!(
            of(2, 0, &[list], &[0]),
            Err(KernelError::Sizes { .. })
        ));
        assert!(matches!(
            of(2, 1, &[list], &[]),
            Err(KernelError::Length { .. })
        ));
        let short = PlainList {
            ids: Some(&ids[..2]),
            ..list
        };
        assert!(matches!(
            of(2, 1, &[short], &[0]),
            Err(KernelError::Length { .. })
        ));
    }
}
