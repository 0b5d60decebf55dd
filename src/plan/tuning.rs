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

/// Average queries per list from which a GPU's fused scan reads list by list.
///
/// Origin: arithmetic, not measured on a GPU. Query by query, a scan reads every list once per query
/// that probes it; list by list once per tile of them, but it compares whole blocks of 8 queries,
/// of which 4 may be idle before it does more arithmetic than there is time for while a row comes
/// from memory (at 16 FLOP per byte, three per component and query).
pub(crate) const DEVICE_LIST_MAJOR_FROM_AVG_GROUP: f64 = 4.0;

/// Bytes that a scan query by query reads, from which it is read list by list.
///
/// Origin: arithmetic, not measured on a GPU. Grouping takes six more launches, about 3 us each,
/// in which 4 TB/s of memory bring 64 MiB.
pub(crate) const DEVICE_LIST_MAJOR_FROM_BYTES: u64 = 64 << 20;

/// Results per query up to which a GPU's fused scan can read list by list: what its queues in shared
/// memory hold.
pub(crate) const DEVICE_LIST_MAJOR_TO_K: usize = 256;

/// Backends without kernels of their own, where both modes are composed of tensor operations.
///
/// Origin: heuristic, not measured on a GPU. The portable csr body launches a few operations per
/// probed list, matrix a few per chunk of queries, so matrix is taken until lists are shared by
/// as many queries as torch-ivf's threshold at nlist = 512 asks for.
pub(crate) const PORTABLE: AutoRow = AutoRow {
    csr_from_avg_group: 8.0,
    reason: "no kernel for this device yet (heuristic)",
};
