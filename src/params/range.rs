//! Parameters of range searches.

use super::SearchParams;
use serde::{Deserialize, Serialize};

/// Parameters of a range search.
///
/// ```
/// use burn_ivf::{RangeBound, RangeParams};
/// let params = RangeParams::default().with_bound(RangeBound::Exclusive).sorted();
/// assert!(params.sorted);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RangeParams {
    /// Lists to probe, selectors, workspace: as in a search. A limit must be given here to be
    /// applied, the index's is not.
    #[serde(default)]
    pub search: SearchParams,
    /// Whether a vector exactly at the radius is a hit.
    #[serde(default)]
    pub bound: RangeBound,
    /// Whether a query's hits come best first, ties by smaller id; this reads them back to the
    /// host. Else they come in the order in which the index holds them.
    #[serde(default)]
    pub sorted: bool,
    /// Stops a query after so many lists in a row without a hit (faiss
    /// `max_empty_result_buckets`). Lists are then read one after the other.
    #[serde(default)]
    pub max_empty_lists: Option<usize>,
}

impl RangeParams {
    /// Replaces the parameters it shares with a search.
    #[must_use]
    pub fn with_search(mut self, search: SearchParams) -> Self {
        self.search = search;
        self
    }

    /// Says whether a vector exactly at the radius is a hit.
    #[must_use]
    pub fn with_bound(mut self, bound: RangeBound) -> Self {
        self.bound = bound;
        self
    }

    /// Orders every query's hits best first.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.sorted = true;
        self
    }

    /// Stops a query after `lists` lists in a row without a hit.
    #[must_use]
    pub fn with_max_empty_lists(mut self, lists: usize) -> Self {
        self.max_empty_lists = Some(lists);
        self
    }
}

/// Whether a vector exactly at the radius is a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeBound {
    /// It is: `d <= r`, `s >= r` (torch-ivf).
    #[default]
    Inclusive,
    /// It is not: `d < r`, `s > r` (faiss).
    Exclusive,
}
