//! The flat index against brute force, in every mode.

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{Error, FlatMode, IndexFlat, IvfBackend, Metric};

/// A1: squared L2 against brute force.
pub fn a1_l2_matches_brute_force<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (uniform(128, 16, 1), uniform(8, 16, 2));
    let index = flat::<B>(device, Metric::L2, &base);
    assert_eq!((index.d(), index.ntotal()), (16, 128));
    assert_eq!(index.metric(), Metric::L2);
    for k in [1, 5] {
        let found = search_flat(&index, &queries, k);
        Oracle::new(Metric::L2, &base).check(&queries, &found, "A1");
    }
}

/// A2: inner product against brute force.
pub fn a2_ip_matches_brute_force<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(200, 32, 3), normal(5, 32, 4));
    let index = flat::<B>(device, Metric::InnerProduct, &base);
    let found = search_flat(&index, &queries, 10);
    Oracle::new(Metric::InnerProduct, &base).check(&queries, &found, "A2");
}

/// A3: chunked equals matrix, bit for bit, and both equal brute force.
pub fn a3_chunked_equals_matrix<B: IvfBackend>(device: &B::Device) {
    for (metric, n, d, k) in [
        (Metric::L2, 500, 24, 5),
        (Metric::InnerProduct, 600, 32, 10),
    ] {
        let (base, queries) = (normal(n, d, 5), normal(7, d, 6));
        let mut index = flat::<B>(device, metric, &base);
        let mut answers = Vec::new();
        for mode in [FlatMode::Matrix, FlatMode::Chunked] {
            index.set_mode(mode);
            assert_eq!(index.mode(), mode);
            let found = search_flat(&index, &queries, k);
            assert_eq!(found.stats.mode, mode.to_string());
            Oracle::new(metric, &base).check(&queries, &found, "A3");
            answers.push(found);
        }
        answers[0].assert_same(&answers[1], "A3: matrix against chunked");
    }
}

/// A4: a threshold of one byte makes auto take the chunked path; a huge one the matrix path.
pub fn a4_auto_follows_its_threshold<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(300, 8, 7), normal(5, 8, 8));
    let mut index = flat::<B>(device, Metric::L2, &base);
    assert_eq!(index.mode(), FlatMode::Auto, "the default mode");
    assert_eq!(index.auto_matrix_bytes_threshold(), 256 << 20);
    let by_default = search_flat(&index, &queries, 5);
    index.set_auto_matrix_bytes_threshold(1).unwrap();
    assert_eq!(index.auto_matrix_bytes_threshold(), 1);
    let small = search_flat(&index, &queries, 5);
    assert_eq!(small.stats.mode, "chunked", "{}", small.stats.reason);
    Oracle::new(Metric::L2, &base).check(&queries, &small, "A4");
    by_default.assert_same(&small, "A4: default threshold against one byte");
    refused(index.set_auto_matrix_bytes_threshold(0));
    assert_eq!(index.auto_matrix_bytes_threshold(), 1, "unchanged");
}

/// A6: more results asked for than rows exist.
pub fn a6_k_beyond_ntotal_pads<B: IvfBackend>(device: &B::Device) {
    let base = Rows::of(&[&[3.0, 0.0], &[1.0, 0.0], &[2.0, 0.0]]);
    for (metric, order) in [
        (Metric::L2, [1, 2, 0, -1, -1]),
        (Metric::InnerProduct, [0, 2, 1, -1, -1]),
    ] {
        let mut index = flat::<B>(device, metric, &base);
        let queries = Rows::of(&[&[1.0, 0.0]]);
        for mode in FLAT_MODES {
            index.set_mode(mode);
            let found = search_flat(&index, &queries, 5);
            assert_eq!(found.i, order, "{metric} {mode}");
            assert!(found.d[3..].iter().all(|&d| d == padding(metric)));
            Oracle::new(metric, &base).check(&queries, &found, "A6");
        }
    }
}

/// A8: no queries give an answer of shape `[0, k]`.
pub fn a8_no_queries<B: IvfBackend>(device: &B::Device) {
    let mut index = flat::<B>(device, Metric::L2, &uniform(20, 4, 9));
    for mode in FLAT_MODES {
        index.set_mode(mode);
        let found = search_flat(&index, &Rows::new(vec![], 4), 3);
        assert_eq!((found.nq, found.k), (0, 3), "{mode}");
    }
}

/// A9: k = 0 and a wrong dimension are errors; the message names both dimensions.
/// (A 1-D or 3-D input does not type-check.)
pub fn a9_wrong_arguments<B: IvfBackend>(device: &B::Device) {
    let mut index = flat::<B>(device, Metric::L2, &uniform(20, 4, 10));
    let error = refused(index.search(uniform(2, 4, 11).on(device), 0));
    assert!(matches!(error, Error::ZeroK), "{error:?}");
    let wrong = uniform(2, 5, 11);
    for error in [
        refused(index.search(wrong.on(device), 3)),
        refused(index.add(wrong.on(device))),
        refused(index.add_with_ids(wrong.on(device), &[7, 8])),
    ] {
        assert!(
            matches!(error, Error::DimensionMismatch { .. }),
            "{error:?}"
        );
        assert_names(&error, &[4, 5]);
    }
    assert_eq!(index.ntotal(), 20, "a refused add changes nothing");
    let error = refused(IndexFlat::<B>::new(0, Metric::L2, device));
    assert!(matches!(error, Error::ZeroDimension), "{error:?}");
}

/// A10: reset empties the index and restarts the automatic ids.
pub fn a10_reset<B: IvfBackend>(device: &B::Device) {
    let base = uniform(50, 6, 12);
    let mut index = flat::<B>(device, Metric::L2, &base);
    let full = index.memory_info();
    assert!(full.vectors >= 50 * 6 * 4, "{full:?}");
    assert!(full.total() >= full.vectors + full.ids, "{full:?}");
    index.reset();
    assert_eq!(index.ntotal(), 0);
    assert!(index.memory_info().total() < full.total(), "released");
    let queries = base.range(0..3);
    let found = search_flat(&index, &queries, 4);
    for query in 0..3 {
        found.assert_padding(query, Metric::L2);
    }
    let second = uniform(10, 6, 13);
    index.add(second.on(device)).unwrap();
    let found = search_flat(&index, &queries, 4);
    Oracle::new(Metric::L2, &second).check(&queries, &found, "A10");
}

/// A11 (search half): explicit ids come back in place of row numbers.
pub fn a11_add_with_ids<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (uniform(50, 8, 14), uniform(6, 8, 15));
    let ids: Vec<i64> = (100..150).collect();
    let mut index = IndexFlat::<B>::new(8, Metric::L2, device).unwrap();
    index.add_with_ids(base.on(device), &ids).unwrap();
    let found = search_flat(&index, &queries, 7);
    let plain = search_flat(&flat::<B>(device, Metric::L2, &base), &queries, 7);
    let shifted: Vec<i64> = plain.i.iter().map(|id| id + 100).collect();
    assert_eq!(found.i, shifted);
    assert_eq!(found.d, plain.d);
    Oracle::with_ids(Metric::L2, &base, ids).check(&queries, &found, "A11");
}

/// A13: equal rows come back in the order of their ids.
pub fn a13_ties_ascend_by_id<B: IvfBackend>(device: &B::Device) {
    let row = normal(1, 12, 16);
    let base = row.pick(&[0; 50]);
    for metric in METRICS {
        let mut index = flat::<B>(device, metric, &base);
        for mode in FLAT_MODES {
            index.set_mode(mode);
            for nq in [1, 25] {
                let queries = normal(nq, 12, 17);
                let found = search_flat(&index, &queries, 5);
                for query in 0..nq {
                    let ids = found.row(query).1;
                    assert_eq!(ids, [0, 1, 2, 3, 4], "{metric} {mode} nq={nq}");
                }
            }
        }
    }
}

/// A14: a squared distance is never negative, and a row is at distance 0 from itself.
pub fn a14_distances_never_negative<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 5000, 400);
    let base = uniform(n, 128, 18);
    let mut index = flat::<B>(device, Metric::L2, &base);
    let queries = base.range(0..n.min(1500));
    for mode in [FlatMode::Matrix, FlatMode::Chunked] {
        index.set_mode(mode);
        let found = search_flat(&index, &queries, 10);
        assert!(found.d.iter().all(|&d| d >= 0.0), "{mode}");
        for query in 0..queries.n() {
            let (d, i) = found.row(query);
            assert_eq!((d[0], i[0]), (0.0, query as i64), "{mode}");
        }
    }
}

/// A19: a query row with NaN or infinity gets padding; the other rows are unaffected.
pub fn a19_broken_queries_get_padding<B: IvfBackend>(device: &B::Device) {
    let (base, good) = (normal(90, 9, 19), normal(7, 9, 20));
    let mut queries = good.clone();
    for (row, value) in [(1, f32::NAN), (3, f32::INFINITY), (6, f32::NEG_INFINITY)] {
        queries.row_mut(row)[row] = value;
    }
    for metric in METRICS {
        let mut index = flat::<B>(device, metric, &base);
        for mode in FLAT_MODES {
            index.set_mode(mode);
            let found = search_flat(&index, &queries, 6);
            let whole = search_flat(&index, &good, 6);
            for row in 0..7 {
                if [1, 3, 6].contains(&row) {
                    found.assert_padding(row, metric);
                } else {
                    assert_eq!(found.row(row), whole.row(row), "{metric} {mode}");
                }
            }
        }
    }
}

/// A large k, beyond and within the number of rows.
pub fn k_4096<B: IvfBackend>(device: &B::Device) {
    for n in [300, sized::<B>(device, 9000, 4300)] {
        let (base, queries) = (normal(n, 5, 21), normal(2, 5, 22));
        for metric in METRICS {
            let mut index = flat::<B>(device, metric, &base);
            let mut answers = Vec::new();
            for mode in [FlatMode::Matrix, FlatMode::Chunked] {
                index.set_mode(mode);
                answers.push(search_flat(&index, &queries, 4096));
            }
            Oracle::new(metric, &base).check(&queries, &answers[0], "k = 4096");
            answers[0].assert_same(&answers[1], "k = 4096");
        }
    }
}

/// A flat index answers before anything was added.
pub fn empty_index_pads<B: IvfBackend>(device: &B::Device) {
    for metric in METRICS {
        let mut index = IndexFlat::<B>::new(3, metric, device).unwrap();
        assert_eq!(index.ntotal(), 0);
        for mode in FLAT_MODES {
            index.set_mode(mode);
            let found = search_flat(&index, &uniform(2, 3, 23), 4);
            found.assert_padding(0, metric);
            found.assert_padding(1, metric);
        }
    }
}

/// Adding in pieces (some of them empty) equals adding at once.
pub fn pieces_equal_whole<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (tied(140, 6, 3, 24), tied(9, 6, 3, 25));
    for metric in METRICS {
        let whole = search_flat(&flat::<B>(device, metric, &base), &queries, 20);
        let mut index = IndexFlat::<B>::new(6, metric, device).unwrap();
        let mut from = 0;
        for size in [1, 0, 2, 61, 7, 33, 36] {
            index.add(base.range(from..from + size).on(device)).unwrap();
            from += size;
            assert_eq!(index.ntotal(), from);
        }
        let found = search_flat(&index, &queries, 20);
        found.assert_same(&whole, "pieces against whole");
        Oracle::new(metric, &base).check(&queries, &found, "pieces");
    }
}

/// Dimensions that fit no vector width.
pub fn odd_dimensions<B: IvfBackend>(device: &B::Device) {
    for d in [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 129, 1000] {
        let (base, queries) = (normal(150, d, 26), normal(6, d, 27));
        for metric in METRICS {
            let mut index = flat::<B>(device, metric, &base);
            let auto = search_flat(&index, &queries, 9);
            Oracle::new(metric, &base).check(&queries, &auto, &format!("d = {d}"));
            for mode in [FlatMode::Matrix, FlatMode::Chunked] {
                index.set_mode(mode);
                search_flat(&index, &queries, 9).assert_same(&auto, &format!("d = {d}"));
            }
        }
    }
}

/// One query at a time equals the batch.
pub fn one_by_one_equals_batch<B: IvfBackend>(device: &B::Device) {
    let nq = sized::<B>(device, 64, 12);
    let (base, queries) = (normal(400, 24, 28), normal(nq, 24, 29));
    for metric in METRICS {
        let index = flat::<B>(device, metric, &base);
        let batch = search_flat(&index, &queries, 10);
        for q in 0..nq {
            let one = search_flat(&index, &queries.range(q..q + 1), 10);
            let bits = |d: &[f32]| d.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(one.i, batch.row(q).1, "{metric}, query {q}");
            assert_eq!(bits(&one.d), bits(batch.row(q).0), "{metric}, query {q}");
        }
    }
}

/// The statistics say what was done.
pub fn stats_are_filled<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(120, 8, 30), normal(4, 8, 31));
    let index = flat::<B>(device, Metric::L2, &base);
    let stats = search_flat(&index, &queries, 3).stats;
    assert_eq!(stats.nq, 4);
    // A flat index on a GPU does not read back which queries were searchable.
    let counted = (!is_cube::<B>(device)).then_some(4 * 120);
    assert_eq!(stats.rows_scanned, counted);
    assert!(stats.query_chunks >= 1);
    assert!(!stats.reason.is_empty());
    assert!(!stats.kernel.is_empty());
    if !is_cube::<B>(device) {
        assert_ne!(stats.kernel, "portable", "no silent fallback on the host");
    }
}
