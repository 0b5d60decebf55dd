//! The count against the physical limits of three workloads on an H200.

use super::*;

/// Bytes a second from memory, and operations a second, of the floors below.
const MEMORY: f64 = 4.3e12;
const SUMS: f64 = 50e12;

fn size(lens: &[usize], nq: usize, nprobe: usize, order: Order) -> ScanSize<'_> {
    ScanSize {
        metric: Metric::InnerProduct,
        d: 128,
        element: Element::F32,
        words: 1,
        lens,
        nq,
        k: 20,
        nprobe: Some(nprobe),
        probed: Probed::Evenly,
        workspace: 256 << 20,
        order,
        grain: Grain::DEFAULT,
    }
}

fn of(kernel: &str, size: &ScanSize<'_>) -> KernelCost {
    let costs = scan_cost(&Facts::H200, size);
    let found = costs.iter().find(|cost| cost.kernel == kernel);
    *found.unwrap_or_else(|| panic!("no {kernel} in {costs:?}"))
}

/// The scan query by query, whether it leaves pairs or the answer.
fn by_query(size: &ScanSize<'_>) -> KernelCost {
    let costs = scan_cost(&Facts::H200, size);
    let scans = ["keep_best", "answer_best"];
    let found = costs.iter().find(|cost| scans.contains(&cost.kernel));
    *found.unwrap_or_else(|| panic!("no scan in {costs:?}"))
}

#[track_caller]
fn near(found: f64, expected: f64, within: f64) {
    assert!(
        (found / expected - 1.0).abs() <= within,
        "{found} instead of {expected}"
    );
}

/// The limits of a search of 262,144 rows of 128 components in 512 lists, 32 of which are probed.
/// A rank is read beside every 512 bytes of a row, so bytes are 0.8 % above.
#[test]
fn floors_of_the_seed_workload() {
    let lens = vec![512; 512];
    for (nq, by_query_us, by_list_us, sums_us) in [
        (1, 2.0, 1.9, 0.084),
        (8, 15.6, 12.3, 0.67),
        (32, 62.0, 27.0, 2.7),
        (128, 250.0, 31.0, 10.7),
        (512, 999.0, 31.0, 43.0),
        (2048, 3995.0, 31.0, 172.0),
        (19_600, 38_236.0, 31.0, 1644.0),
    ] {
        let one = by_query(&size(&lens, nq, 32, Order::QueryMajor));
        let n = nq as f64;
        near(one.useful, n * 4_194_304.0, 1e-9);
        near(one.bytes / MEMORY * 1e6, by_query_us, 0.05);
        let all = of("keep_best_by_list", &size(&lens, nq, 32, Order::ListMajor));
        near(all.useful, one.useful, 1e-6);
        near(all.useful / SUMS * 1e6, sums_us, 0.02);
        // Queries and what they leave come on top of the rows.
        let rows = all.distinct - n * (512.0 + 8.0 + 32.0 * 4.0) - n * 32.0 * 20.0 * 8.0;
        near(rows / MEMORY * 1e6, by_list_us, 0.04);
    }
    // Query by query: 8.39 MB a query.
    let one = by_query(&size(&lens, 512, 32, Order::QueryMajor));
    near(one.bytes / 512.0, 8.39e6, 0.02);
    let l2 = ScanSize {
        metric: Metric::L2,
        ..size(&lens, 512, 32, Order::QueryMajor)
    };
    near(by_query(&l2).useful, 1.5 * one.useful, 1e-9);
}

/// List by list a row is read once a tile: at 1225 queries a list, 39 tiles of 32 each (38.3 if all
/// were full).
#[test]
fn a_row_is_read_once_a_tile() {
    let lens = vec![512; 512];
    let all = of(
        "keep_best_by_list",
        &size(&lens, 19_600, 32, Order::ListMajor),
    );
    let counted = [1225; 512];
    let even = ScanSize {
        probed: Probed::Counted(&counted),
        ..size(&lens, 19_600, 32, Order::ListMajor)
    };
    let even = of("keep_best_by_list", &even);
    let rows = 262_144.0 * 516.0;
    for cost in [all, even] {
        let queries = 19_600.0 * 32.0 * 600.0;
        assert!(cost.bytes > 38.0 * rows && cost.bytes < 39.0 * rows + 2.0 * queries);
    }
    // 8.39 MB a query would be 164 GB.
    assert!(all.bytes < 0.04 * 19_600.0 * 8.39e6, "{all:?}");
    // Blocks of 4 queries: 1225 take 307 blocks, 1228 places.
    near(even.flops / even.useful, 1228.0 / 1225.0, 1e-6);
    // Pairs left and read again: 200 MB.
    let costs = scan_cost(&Facts::H200, &size(&lens, 19_600, 32, Order::ListMajor));
    let merge = costs.iter().find(|cost| cost.kernel == "by_queue").unwrap();
    near(2.0 * merge.bytes, 2.0 * (100.4e6 + 19_600.0 * 240.0), 0.01);
    let names: Vec<_> = costs.iter().map(|cost| cost.kernel).collect();
    let expected = [
        "begin",
        "clear",
        "count",
        "accumulate",
        "scatter",
        "lay_out",
        "keep_best_by_list",
        "by_queue",
    ];
    assert_eq!(names, expected);
}

/// Above k = 256 lists are read in rounds: a row is still read once a tile, and queries leave fewer
/// pairs than they have candidates.
#[test]
fn many_results_are_found_in_rounds() {
    let lens = vec![512; 512];
    let asked = |k, order| ScanSize {
        k,
        ..size(&lens, 19_600, 32, order)
    };
    let few = of("keep_best_by_list", &asked(20, Order::ListMajor));
    for k in [257, 1000, 5000] {
        let by_list = scan_cost(&Facts::H200, &asked(k, Order::ListMajor));
        let found = |kernel| *by_list.iter().find(|cost| cost.kernel == kernel).unwrap();
        let (scan, trim) = (found("keep_best_by_list"), found("trim_pairs"));
        let parts = found("begin").launches;
        assert_eq!(scan.launches % parts, 0);
        assert_eq!(scan.launches, trim.launches + parts);
        assert_eq!(scan.launches, found("lay_out").launches);
        near(scan.useful, few.useful, 1e-9);
        let by_query = of("write_keys", &asked(k, Order::QueryMajor));
        assert!(scan.bytes < 0.2 * by_query.bytes, "{scan:?} {by_query:?}");
        assert!(scan.flops < 1.1 * scan.useful, "{scan:?}");
    }
}

/// 10 million rows of 128 components, 10,000 queries, k = 10.
#[test]
fn floors_of_ten_million_rows() {
    for (nlist, nprobe, by_query_ms, sums_ms) in [
        (4096, 32, 93.0, 4.0),
        (4096, 64, 186.0, 8.0),
        (8192, 32, 46.5, 2.0),
        (16_384, 32, 23.3, 1.0),
        (16_384, 64, 46.5, 2.0),
    ] {
        let lens: Vec<usize> = (0..nlist)
            .map(|l| 10_000_000 / nlist + usize::from(l < 10_000_000 % nlist))
            .collect();
        let asked = |order| ScanSize {
            k: 10,
            ..size(&lens, 10_000, nprobe, order)
        };
        let one = by_query(&asked(Order::QueryMajor));
        near(one.bytes / MEMORY * 1e3, by_query_ms, 0.04);
        let all = of("keep_best_by_list", &asked(Order::ListMajor));
        near(all.useful / SUMS * 1e3, sums_ms, 0.03);
        // All lists are probed.
        assert!(all.distinct > 10e6 * 512.0, "{all:?}");
    }
}

/// What is cut differently costs differently: the model follows the cuts.
#[test]
fn costs_follow_the_grain() {
    let lens = vec![512; 512];
    let asked = size(&lens, 19_600, 32, Order::ListMajor);
    let tiny = ScanSize {
        grain: Grain {
            tile: 8,
            ..Grain::DEFAULT
        },
        ..asked
    };
    let (wide, small) = (
        of("keep_best_by_list", &asked),
        of("keep_best_by_list", &tiny),
    );
    assert!(small.bytes > 3.0 * wide.bytes && small.useful == wide.useful);
    let tight = ScanSize {
        workspace: 1 << 20,
        ..asked
    };
    assert!(of("keep_best_by_list", &tight).launches > 1);
    let one = ScanSize {
        nprobe: None,
        lens: &[4096],
        k: 1,
        ..asked
    };
    assert_eq!(of("nearest", &one).launches, 1);
    let many = ScanSize {
        order: Order::QueryMajor,
        k: 300,
        ..asked
    };
    assert_eq!(
        of("by_radix", &many).launches,
        of("write_keys", &many).launches
    );
    let halves = ScanSize {
        element: Element::Bf16,
        ..size(&lens, 512, 32, Order::QueryMajor)
    };
    let full = size(&lens, 512, 32, Order::QueryMajor);
    near(by_query(&halves).bytes, 0.504 * by_query(&full).bytes, 0.01);
    assert!(scan_cost(&Facts::H200, &ScanSize { nq: 0, ..asked }).is_empty());
}
