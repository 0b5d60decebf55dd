//! How a search was done, and what an index holds.

use crate::params::Limit;
use serde::{Deserialize, Serialize};

/// How a search was done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SearchStats {
    /// The mode that ran: `"matrix"`, `"csr"`, `"chunked"`, or `"empty"` when there was nothing
    /// to compare.
    pub mode: String,
    /// The kernel that ran and its instruction set, e.g. `"host (avx512bf16)"` or `"portable"`.
    pub kernel: String,
    /// What rows were ranked by before those that could matter were compared exactly, e.g.
    /// `"bf16 of planes"`; empty when nothing was compared.
    pub filter: String,
    /// In which order lists were read, `"list-major"` or `"query-major"`; empty in matrix mode.
    pub order: String,
    /// Why this mode.
    pub reason: String,
    /// Queries.
    pub nq: usize,
    /// Lists probed per query (1 for a flat index).
    pub nprobe: usize,
    /// Average queries per list, `nq · nprobe / nlist`.
    pub avg_group: f64,
    /// The average above which [`AutoRule::TorchIvf`](crate::AutoRule::TorchIvf) takes csr; 0
    /// under another rule.
    pub auto_threshold: f64,
    /// Pieces the queries were cut into for the workspace limit.
    pub query_chunks: usize,
    /// (query, row) pairs compared; `None` where counting them takes a read of the device that
    /// was not asked for ([`SearchParams::with_counts`](crate::SearchParams::with_counts)).
    pub rows_scanned: Option<u64>,
    /// (query, non-empty list) pairs read; `None` as above.
    pub lists_scanned: Option<u64>,
    /// (query, row) pairs compared exactly after a filter let them pass, which may vary with threads; not those
    /// whose value by the filter is exact, as on a CPU for bytes (SIFT, images) and other short vectors of whole
    /// numbers. `None` as above.
    pub rows_reranked: Option<u64>,
    /// The limit, where it left out any row (torch-ivf `effective_max_codes`);
    /// [`Limit::Unlimited`] where every row of the probed lists was compared.
    #[serde(default)]
    pub effective_limit: Limit,
    /// (query, list) pairs that safe pruning left out.
    #[serde(default)]
    pub lists_pruned: u64,
    /// Kernels of this crate launched on a device, but for the coarse step's.
    #[serde(default)]
    pub launches: u64,
    /// Reads that waited for the device.
    #[serde(default)]
    pub blocking_reads: u64,
    /// Bytes of working memory the search was allowed.
    #[serde(default)]
    pub workspace: usize,
}

/// What one kernel of a search costs on a GPU, over all of its launches, counted without running it:
/// [`IndexIvfFlat::kernel_costs`](crate::IndexIvfFlat::kernel_costs). Prints as a line of a table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KernelCost {
    /// `"coarse"` or `"scan"`.
    pub step: String,
    /// The kernel.
    pub kernel: String,
    /// Launches.
    pub launches: u64,
    /// Bytes that cubes load and store; a row that a cube reads again for its next few queries is taken to
    /// be in its own cache.
    pub bytes: u64,
    /// Bytes of buffers that are touched at all: what memory delivers when nothing is in a cache and
    /// everything stays there.
    pub distinct_bytes: u64,
    /// Operations on components, two for a multiply-add and one for a difference, those of idle units
    /// included.
    pub flops: u64,
    /// Operations that the pairs compared take.
    pub useful_flops: u64,
}

impl core::fmt::Display for KernelCost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mega = |n: u64| n as f64 / 1e6;
        write!(
            f,
            "{:<6} {:<18} {:>4} launches {:>12.3} MB, {:>10.3} MB once, {:>12.3} MFLOP, {:>12.3} useful",
            self.step,
            self.kernel,
            self.launches,
            mega(self.bytes),
            mega(self.distinct_bytes),
            mega(self.flops),
            mega(self.useful_flops)
        )
    }
}

/// Bytes an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryInfo {
    /// Stored vectors, with the slack of their allocations.
    pub vectors: usize,
    /// Ids and list bookkeeping.
    pub ids: usize,
    /// Centroids.
    pub centroids: usize,
    /// Reading orders and radii kept for limits and pruning; none before they were asked for.
    #[serde(default)]
    pub derived: usize,
}

impl MemoryInfo {
    /// All of it.
    pub fn total(&self) -> usize {
        self.vectors + self.ids + self.centroids + self.derived
    }
}
