//! The hot loops of `burn-ivf`, free of any tensor library.
//!
//! One folder per operation, each with its contract in `mod.rs`, a plain-loop f64
//! [reference](list_scan::reference) that says what the answer is, and the CPU kernel:
//!
//! * [`select_k`]: the k best of every row of a score matrix;
//! * [`list_scan`]: distances from queries to the rows of their probed lists, and the k best of
//!   them, without ever storing a score matrix. A flat index is one list, the coarse step is a
//!   scan of the centroids, k-means assignment is the same with `k = 1`;
//! * [`pairwise`]: every query against every row, by any of eleven measures.
//!
//! [`plain`] compares rows where they lie, in a [`mapped`] file say; [`mod@unit`] scales rows to length 1,
//! for cosine; [`means`] sums rows for k-means. [`rows`] is how lists store vectors, [`distance`] fixes
//! the order of summation (so that every
//! path returns the same bits), `bound` says how far a filter may be off, [`order`] is the total
//! order of results, [`simd`] the only place that looks at the instruction set.
//!
//! This crate never imports Burn; the glue lives in `burn-ivf`'s `backend` module.

#![warn(clippy::pedantic)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::doc_markdown,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    // Kernels must be inlined into the function compiled for their instruction set.
    clippy::inline_always,
    clippy::must_use_candidate,
    clippy::many_single_char_names,
    clippy::module_name_repetitions
)]
// What the GPU language has, it has in its own words: buffers are handles passed by reference, and
// there is `%` but no `is_multiple_of`.
#![cfg_attr(
    feature = "cube",
    allow(
        clippy::trivially_copy_pass_by_ref,
        clippy::manual_is_multiple_of,
        clippy::too_many_arguments
    )
)]

mod bound;
mod compact;
#[cfg(feature = "cube")]
pub mod device;
pub mod distance;
#[cfg(feature = "cube")]
pub mod group_tasks;
pub mod list_scan;
pub mod mapped;
pub mod means;
mod metric;
#[cfg(feature = "cube")]
mod nearest_centroid;
pub mod order;
pub mod pairwise;
pub mod plain;
pub mod relay;
pub mod rows;
pub mod select_k;
mod share;
pub mod simd;
mod spare;
mod spread;
pub mod unit;

pub use metric::{Metric, UnknownMetric};

/// A score matrix, query block or list whose sizes do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A buffer does not hold as many elements as its shape says.
    #[error("{what}: the shape asks for {expected} elements, the buffer holds {found}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements the shape asks for.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// No component, no result asked for, or more results than can be counted.
    #[error(
        "d = {d} and k = {k} for {nq} queries; d and k must be at least 1 and nq · k countable"
    )]
    Sizes {
        /// Components of a vector.
        d: usize,
        /// Results per query.
        k: usize,
        /// Queries.
        nq: usize,
    },
    /// A probe names a list that does not exist.
    #[error("probe names list {list}, but there are {lists} lists")]
    List {
        /// The list named.
        list: u32,
        /// Number of lists.
        lists: usize,
    },
    /// A scan of lists that hold no row.
    #[error("no list holds a row; there is nothing to scan")]
    Empty,
    /// Components cannot be stored in this way.
    #[cfg(feature = "cube")]
    #[error("this {what} cannot store components as {element:?}; use F32")]
    Type {
        /// The way.
        element: rows::device::Element,
        /// What refuses.
        what: &'static str,
    },
    /// More memory than the system gives.
    #[error("{what}: {bytes} bytes of memory are not to be had")]
    Memory {
        /// What for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// A buffer larger than the device can hold in one piece.
    #[error(
        "{what}: {bytes} bytes asked for, but this device's largest buffer holds {limit} bytes"
    )]
    Buffer {
        /// What for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
        /// The device's limit.
        limit: usize,
    },
    /// A device that could not be read.
    #[error("the device could not be read: {0}")]
    Read(String),
    /// A candidate names a row its list does not hold.
    #[error("candidate names row {slot} of list {list}, which holds {len} rows")]
    Slot {
        /// The list named.
        list: u32,
        /// The row named.
        slot: u32,
        /// Rows of the list.
        len: usize,
    },
}

pub(crate) fn check_len(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), KernelError> {
    if expected == found {
        Ok(())
    } else {
        Err(KernelError::Length {
            what,
            expected,
            found,
        })
    }
}
