//! Every threshold of the plan, with its origin: values measured per device, and what is assumed of
//! a device without a measurement.

use super::knobs::{DeviceKey, Knob, Source};

/// A measured value.
struct Row {
    /// The device, as [`DeviceKey`] names it.
    device: &'static str,
    knob: Knob,
    value: f64,
    origin: &'static str,
}

/// What was measured.
const TABLE: [Row; 3] = [
    Row {
        device: "avx512bf16",
        knob: Knob::CsrFromAvgGroup,
        value: 0.0,
        // docs/benchmarks.md, "Auto mode": nq from 1 to 2048.
        origin: "csr was the faster mode in every cell of `sweep grid`, 2026-11-20, two cores",
    },
    Row {
        device: "avx512bf16",
        knob: Knob::ListMajorFromAvgGroup,
        value: 0.1,
        // docs/benchmarks.md, "Order of a scan": averages from 0.0625 to 2.
        origin: "list by list was faster from an average of 0.125 on, 2026-11-20, two cores",
    },
    Row {
        device: "avx512bf16",
        knob: Knob::ListMajorFromQueries,
        value: 2.0,
        // The same table.
        origin: "one query was no faster list by list, 2026-11-20, two cores",
    },
];

/// The measured value of the row that names the device best.
pub(super) fn measured(knob: Knob, device: &DeviceKey) -> Option<(f64, Source)> {
    let rows = TABLE.iter().filter(|row| row.knob == knob);
    let ranked = rows.filter_map(|row| Some((device.rank(row.device)?, row)));
    let (_, row) = ranked.max_by_key(|(rank, _)| *rank)?;
    let source = Source::Table {
        device: row.device,
        origin: row.origin,
    };
    Some((row.value, source))
}

/// What is assumed where nothing was measured.
pub(super) fn heuristic(knob: Knob, device: &DeviceKey, fused_scan: bool) -> (f64, Source) {
    let cpu = device.backend == "cpu";
    let (value, reason) = match knob {
        Knob::CsrFromAvgGroup if fused_scan && cpu => {
            (0.0, "the fused scan was faster on the CPU measured")
        }
        // matrix gathers every candidate and reads its bounds back.
        Knob::CsrFromAvgGroup if fused_scan => (0.0, "the device's scan reads nothing back"),
        // The portable csr body launches a few operations per probed list, matrix a few per chunk
        // of queries: matrix until lists are shared by as many queries as torch-ivf's threshold at
        // nlist = 512 asks for.
        Knob::CsrFromAvgGroup => (8.0, "no kernel for this device"),
        Knob::ListMajorFromAvgGroup if cpu || !fused_scan => (0.1, "as on the CPU measured"),
        // Query by query, a scan reads every list once per query that probes it; list by list once from memory, with
        // tiles of twice as many queries as share a list on average. From two queries a list on half of the bytes
        // are saved, and more where long lists are probed more often than short ones (on the seed workload a
        // query reads 1.9 times the rows of as many average lists).
        Knob::ListMajorFromAvgGroup => (2.0, "arithmetic, not measured on a GPU"),
        Knob::ListMajorFromQueries => (2.0, "as on the CPU measured"),
        Knob::ListMajorFromBytes if cpu || !fused_scan => (0.0, "grouping costs no launch"),
        // Grouping takes six more launches, about 3 us each, in which 4 TB/s of memory bring 64 MiB: half of this.
        Knob::ListMajorFromBytes => (f64::from(128 << 20), "arithmetic, not measured on a GPU"),
        // A tile of `t` queries does `2 · t · d` multiply-adds and differences on `4 · d` bytes: 16
        // FLOP per byte want 8 queries from memory, and lists that several tiles read come from a
        // cache. At 32, k = 20 and d = 128 a cube takes 50 KB of shared memory, so several fit.
        Knob::ScanTileQueries => (32.0, "arithmetic, not measured on a GPU"),
        // 96 or 112 may wait beside 32 or 16 kept; a cube compares 64 rows with a query between two looks, all of which
        // are wanted at first: with 64 pairs it would sort twice as often until limits are known.
        Knob::ScanQueuePairs => (128.0, "arithmetic, not measured on a GPU"),
        // Two looks at a query's queue.
        Knob::ScanRowsPerCube => (256.0, "a guess, not measured on a GPU"),
        Knob::ScanCubesPerProcessor => (4.0, "a guess, not measured on a GPU"),
        Knob::ScanUnits => (128.0, "a guess, not measured on a GPU"),
        // Bounds save arithmetic, but look at every pair once more.
        Knob::ScanFilter => (0.0, "none was timed on a GPU"),
    };
    (value, Source::Heuristic(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_values_are_legal_and_dated() {
        let mut known = Vec::new();
        for row in &TABLE {
            assert!(row.knob.allows(row.value), "{}", row.knob);
            assert!(row.origin.contains("20") && !row.device.is_empty());
            assert!(!known.contains(&(row.device, row.knob)), "told twice");
            known.push((row.device, row.knob));
        }
        for (backend, fused_scan) in [("cpu", true), ("cuda", true), ("other", false)] {
            let device = DeviceKey {
                backend: backend.to_owned(),
                ..DeviceKey::default()
            };
            for knob in Knob::ALL {
                assert_eq!(measured(knob, &device), None);
                let (value, _) = heuristic(knob, &device, fused_scan);
                assert!(knob.allows(value), "{knob}");
            }
        }
    }
}
