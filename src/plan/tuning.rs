//! Every threshold of the plan, with its origin.

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AutoRow {
    /// csr from this average of queries per list on, matrix below.
    pub csr_from_avg_group: f64,
    /// Why, for people.
    pub reason: &'static str,
}

/// Backends with a fused scan over host memory.
///
/// Origin: `sweep grid`, 2026-11-20, two AVX-512 cores (docs/benchmarks.md, "Auto mode"): csr was
/// the faster mode in every cell, from nq = 1 to 2048.
pub(crate) const FUSED_SCAN: AutoRow = AutoRow {
    csr_from_avg_group: 0.0,
    reason: "the fused scan was fastest in every measured cell",
};

/// Backends with a fused scan on a device.
///
/// Origin: not measured on a GPU. The scan reads nothing back and writes k pairs per query; matrix
/// gathers every candidate and reads its bounds back.
pub(crate) const DEVICE_SCAN: AutoRow = AutoRow {
    csr_from_avg_group: 0.0,
    reason: "the device's scan reads nothing back (not measured against matrix)",
};

/// Average queries per list from which a fused scan reads list by list, query by query below (and
/// for a single query, whose nearest lists then come first).
///
/// Origin: docs/benchmarks.md, "Order of a scan", 2026-11-20, two AVX-512 cores: list by list was
/// faster from two queries on (average 0.125), level for one.
pub(crate) const LIST_MAJOR_FROM_AVG_GROUP: f64 = 0.1;

/// Backends without kernels of their own, where both modes are composed of tensor operations.
///
/// Origin: heuristic, not measured on a GPU. The portable csr body launches a few operations per
/// probed list, matrix a few per chunk of queries, so matrix is taken until lists are shared by
/// as many queries as torch-ivf's threshold at nlist = 512 asks for.
pub(crate) const PORTABLE: AutoRow = AutoRow {
    csr_from_avg_group: 8.0,
    reason: "no kernel for this device yet (heuristic)",
};
