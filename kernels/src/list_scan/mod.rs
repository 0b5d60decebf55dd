//! Distances from queries to the rows of the lists they probe, and the k best of them.
//!
//! **Contract.** For each of `nq` queries and each list it probes (a probe may be
//! [`SKIP`]; a list probed twice by one query counts its rows twice), every row is compared by
//! [`crate::distance`]; the `k` best in the total order of [`crate::order`] are returned, best
//! first, as distances (f32) and labels (the rows' ids). Fewer than `k` rows leave
//! [`Metric::padding`] and label -1. A query with a component that is NaN or infinite gets only
//! padding. The answer depends on nothing else: not on threads, blocks or the instruction set.
//!
//! [`mod@reference`] says the same in plain f64 loops, [`scan`] is the CPU kernel, [`rerank`] does
//! the same for rows chosen by somebody else.

#[cfg(target_arch = "x86_64")]
mod aside;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(feature = "cube")]
mod blueprint;
#[cfg(feature = "cube")]
mod by_list;
#[cfg(feature = "cube")]
mod cost;
mod cpu;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cube")]
mod device;
mod exact;
mod finish;
#[cfg(target_arch = "x86_64")]
mod integers;
mod kth;
#[cfg(feature = "cube")]
mod limits;
mod queries;
mod range;
#[cfg(feature = "cube")]
mod range_cube;
#[cfg(feature = "cube")]
mod range_device;
pub mod reference;
mod rerank;
pub mod restrict;
mod seeker;
mod sets;
#[cfg(target_arch = "x86_64")]
mod shift;
mod strip;
mod table;
mod tile;
#[cfg(feature = "cube")]
mod walk;
mod work;
mod worker;

#[cfg(feature = "cube")]
pub use cost::{KernelCost, Probed, ScanSize, scan_cost};
pub use cpu::{Counts, scan, scan_restricted};
#[cfg(feature = "cube")]
pub use device::{DeviceProblem, Reads, filter_on, order_on, scan_on, scan_restricted_on};
#[cfg(feature = "cube")]
pub use limits::Orders;
pub use range::{Found, within};
#[cfg(feature = "cube")]
pub use range_device::{FoundOnDevice, within_on};
pub use rerank::rerank;

use crate::{
    KernelError, Metric, check_len,
    order::{Ids, Slot},
    rows::Rows,
    simd::prefetch,
};

/// A probe that reads no list.
pub const SKIP: u32 = u32::MAX;

/// In which order (query, list) pairs are read. The answer does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// List by list, each with all its queries: rows are read once for many.
    ListMajor,
    /// Every query's first list, then every query's second: for few queries, whose lists differ.
    QueryMajor,
}

impl Order {
    /// Both orders.
    pub const ALL: [Self; 2] = [Self::ListMajor, Self::QueryMajor];

    /// Its name: `"list-major"` or `"query-major"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ListMajor => "list-major",
            Self::QueryMajor => "query-major",
        }
    }
}

/// One list: its vectors and their ids, in insertion order.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    rows: &'a Rows,
    ids: ListIds<'a>,
}

/// The ids of a list's rows.
#[derive(Debug, Clone, Copy)]
pub enum ListIds<'a> {
    /// One id per row.
    Table(&'a [i64]),
    /// Row `s` has id `s`: for centroids, whose ids are list numbers.
    Place,
}

impl<'a> List<'a> {
    /// A list of the vectors in `rows`, one id each.
    ///
    /// # Errors
    /// When there are not as many ids as vectors.
    pub fn new(rows: &'a Rows, ids: ListIds<'a>) -> Result<Self, KernelError> {
        if let ListIds::Table(ids) = ids {
            check_len("ids of a list", rows.len(), ids.len())?;
        }
        Ok(Self { rows, ids })
    }

    /// Rows in the list.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the list holds no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The vectors.
    pub fn rows(&self) -> &'a Rows {
        self.rows
    }

    /// Asks for the id of a row.
    #[inline(always)]
    fn prefetch_id(&self, slot: u32) {
        if let ListIds::Table(ids) = self.ids {
            prefetch(ids.as_ptr().wrapping_add(slot as usize));
        }
    }

    fn id(&self, slot: u32) -> i64 {
        match self.ids {
            ListIds::Table(ids) => ids[slot as usize],
            ListIds::Place => i64::from(slot),
        }
    }
}

impl Ids for [List<'_>] {
    #[inline]
    fn id(&self, at: Slot) -> i64 {
        self[at.list as usize].id(at.slot)
    }
}

/// Ids behind a reference, so that `&[List]` can be passed where `&impl Ids` is asked for.
pub(crate) struct ListsIds<'a, 'b>(pub &'a [List<'b>]);

impl Ids for ListsIds<'_, '_> {
    #[inline]
    fn id(&self, at: Slot) -> i64 {
        self.0.id(at)
    }
}

/// The inputs of a scan or re-rank.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// How vectors are compared.
    pub metric: Metric,
    /// Components of a vector, at least 1.
    pub d: usize,
    /// Results per query, at least 1.
    pub k: usize,
    /// The lists.
    pub lists: &'a [List<'a>],
    /// Queries, row-major `[nq, d]`.
    pub queries: &'a [f32],
    /// Bytes that a scan may take beside the lists, the queries, the probes and the answer; it goes on
    /// with one query at a time where they do not suffice for two.
    pub workspace: usize,
}

/// A workspace in which a scan cuts its queries as is best for its speed.
pub const WORKSPACE: usize = 256 << 20;

impl<'a> Problem<'a> {
    /// Number of queries.
    pub fn nq(&self) -> usize {
        self.queries.len() / self.d.max(1)
    }

    fn query(&self, i: usize) -> &'a [f32] {
        &self.queries[i * self.d..(i + 1) * self.d]
    }

    fn is_searchable(&self, i: usize) -> bool {
        self.query(i).iter().all(|v| v.is_finite())
    }

    fn check(&self) -> Result<(), KernelError> {
        if self.d == 0 || self.k == 0 || self.nq().checked_mul(self.k).is_none() {
            return Err(KernelError::Sizes {
                d: self.d,
                k: self.k,
                nq: self.queries.len() / self.d.max(1),
            });
        }
        check_len("queries", self.nq() * self.d, self.queries.len())?;
        for list in self.lists {
            check_len("components of a list's vectors", self.d, list.rows.d())?;
        }
        Ok(())
    }
}

/// The k best rows of every query.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// Distances or inner products, row-major `[nq, k]`, best first.
    pub distances: Vec<f32>,
    /// Ids, row-major `[nq, k]`; -1 where there is no row.
    pub labels: Vec<i64>,
    /// Rows compared, over all queries.
    pub rows_scanned: u64,
    /// Rows compared exactly after a filter let them pass; may vary with threads. Those whose filter
    /// key is exact already (`bound.rs`) are not counted.
    pub rows_reranked: u64,
    /// Non-empty (query, list) pairs read.
    pub lists_scanned: u64,
}

impl Best {
    /// Nothing found for any of `nq` queries.
    pub fn padding(metric: Metric, nq: usize, k: usize) -> Self {
        Self {
            distances: vec![metric.padding(); nq * k],
            labels: vec![-1; nq * k],
            rows_scanned: 0,
            rows_reranked: 0,
            lists_scanned: 0,
        }
    }
}

#[cfg(test)]
mod tests;
