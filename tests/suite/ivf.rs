//! Searching an IVF index (its contents are `lists.rs`, its training
//! `training.rs`).

use super::oracle::{Oracle, measure};
use super::support::*;
use burn_ivf::{
    AutoRule, Error, IndexIvfFlat, IvfBackend, KMeansParams, Metric, SearchMode, SearchParams,
    recall_at_k,
};
use std::collections::HashMap;

/// Checks an answer against brute force over the lists that the coarse step names.
pub fn check_probed<B: IvfBackend>(
    index: &IndexIvfFlat<B>,
    base: &Rows,
    queries: &Rows,
    found: &Answer,
    sample: &[usize],
) {
    let oracle = Oracle::new(index.metric(), base);
    let nprobe = found.stats.nprobe;
    let coarse = Answer::read(&index.coarse(queries.on(&index.device()), nprobe).unwrap());
    let mut held: HashMap<i64, Vec<usize>> = HashMap::new();
    for &q in sample {
        let mut rows = Vec::new();
        for &list in coarse.row(q).1 {
            let ids = held.entry(list).or_insert_with(|| {
                let ids = index.list_ids(list as usize).unwrap();
                ids.iter().map(|&id| id as usize).collect()
            });
            rows.extend_from_slice(ids);
        }
        oracle.check_query(queries.row(q), found, q, &rows, "probed lists");
    }
}

/// B3: adding, searching and probing before training are typed errors.
pub fn b3_untrained<B: IvfBackend>(device: &B::Device) {
    let mut index = untrained::<B>(device, Metric::L2, 4, 3);
    assert!(!index.is_trained());
    let x = uniform(5, 3, 1);
    for error in [
        refused(index.add(x.on(device))),
        refused(index.add_with_ids(x.on(device), &[1, 2, 3, 4, 5])),
        refused(index.add_preassigned(x.on(device), None, &[0; 5])),
        refused(index.search(x.on(device), 2)),
        refused(index.coarse(x.on(device), 2)),
    ] {
        assert!(matches!(error, Error::NotTrained), "{error:?}");
    }
    assert_eq!(index.ntotal(), 0);
    assert!(index.centroids().is_none());
}

/// B6: constructor and setters.
pub fn b6_settings<B: IvfBackend>(device: &B::Device) {
    let error = refused(IndexIvfFlat::<B>::builder(4).nlist(0).build(device));
    assert!(matches!(error, Error::ZeroNlist), "{error:?}");
    let error = refused(IndexIvfFlat::<B>::builder(0).nlist(4).build(device));
    assert!(matches!(error, Error::ZeroDimension), "{error:?}");
    let built = IndexIvfFlat::<B>::builder(4).nlist(4).nprobe(0);
    let error = refused(built.build(device));
    assert!(matches!(error, Error::ZeroNprobe), "{error:?}");

    let built = IndexIvfFlat::<B>::builder(4).nlist(4).workspace_limit(9);
    refused(built.build(device));
    for broken in [
        KMeansParams {
            niter: 0,
            ..KMeansParams::default()
        },
        KMeansParams {
            nredo: 0,
            ..KMeansParams::default()
        },
        KMeansParams {
            tol: f64::NAN,
            ..KMeansParams::default()
        },
        KMeansParams {
            max_points_per_centroid: 0,
            ..KMeansParams::default()
        },
    ] {
        let built = IndexIvfFlat::<B>::builder(4).nlist(4).kmeans(broken);
        refused(built.build(device));
    }

    let mut index = IndexIvfFlat::<B>::builder(4)
        .nlist(4)
        .build(device)
        .unwrap();
    assert_eq!(index.nprobe(), 4, "min(8, nlist)");
    assert_eq!(index.nlist(), Some(4));
    assert_eq!(index.mode(), SearchMode::Auto);
    index.set_nprobe(2).unwrap();
    let error = refused(index.set_nprobe(0));
    assert!(matches!(error, Error::ZeroNprobe), "{error:?}");
    assert_eq!(index.nprobe(), 2, "unchanged");
    index.set_nprobe(99).unwrap();
    assert_eq!(index.nprobe(), 4, "clamped");
    for mode in IVF_MODES {
        index.set_mode(mode);
        assert_eq!(index.mode(), mode);
    }
    let wide = IndexIvfFlat::<B>::builder(4).nlist(100).build(device);
    assert_eq!(wide.unwrap().nprobe(), 8, "min(8, nlist)");
}

/// B7: an nprobe beyond nlist is clamped, as a parameter too.
pub fn b7_nprobe_clamps<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    for mode in IVF_MODES {
        let found = search_ivf(&index, &Rows::new(vec![0.0], 1), 6, &probing(99, mode));
        assert_eq!(found.i, [0, 1, 2, 3, 4, 5], "{mode}");
        assert_eq!(found.stats.nprobe, 4, "{mode}");
        Oracle::new(Metric::L2, &line_rows()).check(&Rows::new(vec![0.0], 1), &found, "B7");
    }
}

/// B8: fewer hits than k.
pub fn b8_fewer_hits_than_k<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    assert_eq!(index.list_sizes(), [3, 4, 5, 0]);
    for mode in IVF_MODES {
        let query = Rows::new(vec![0.0], 1);
        let found = search_ivf(&index, &query, 6, &probing(1, mode));
        assert_eq!(found.i, [0, 1, 2, -1, -1, -1], "{mode}");
        assert!(found.d[3..].iter().all(|&d| d == f32::INFINITY), "{mode}");
        // the nearest list is the empty one
        let query = Rows::new(vec![31.0], 1);
        let found = search_ivf(&index, &query, 2, &probing(1, mode));
        found.assert_padding(0, Metric::L2);
        let found = search_ivf(&index, &query, 2, &probing(2, mode));
        assert_eq!(found.i, [11, 10], "{mode}");
    }
}

/// The index's own settings are used where the call gives none, and are never changed by it.
pub fn params_inherit_and_never_stick<B: IvfBackend>(device: &B::Device) {
    let mut index = line::<B>(device);
    index.set_nprobe(1).unwrap();
    let query = Rows::new(vec![0.0], 1);
    let own = Answer::read(&index.search(query.on(device), 6).unwrap());
    assert_eq!(own.i, [0, 1, 2, -1, -1, -1]);
    let inherit = SearchParams::exact().with_mode(SearchMode::Csr);
    let inherited = search_ivf(&index, &query, 6, &inherit);
    assert_eq!(inherited.stats.nprobe, 1, "not 1 by accident of a default");
    own.assert_same(&inherited, "params without nprobe");
    let wider = search_ivf(&index, &query, 6, &probing(3, SearchMode::Matrix));
    assert_eq!(wider.i, [0, 1, 2, 3, 4, 5]);
    assert_eq!(wider.stats.mode, "matrix");
    assert_eq!((index.nprobe(), index.mode()), (1, SearchMode::Auto));
    index.set_nprobe(2).unwrap();
    let two = search_ivf(&index, &query, 7, &SearchParams::default());
    assert_eq!(two.i, [0, 1, 2, 3, 4, 5, 6]);
    index.set_mode(SearchMode::Matrix);
    let result = index.search(query.on(device), 1).unwrap();
    assert_eq!(result.stats.mode, "matrix", "{}", result.stats.reason);
}

/// The statistics count lists and rows.
pub fn stats_are_filled<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    for mode in [SearchMode::Matrix, SearchMode::Csr] {
        let query = Rows::new(vec![0.0, 21.0], 1);
        let stats = search_ivf(&index, &query, 2, &probing(2, mode).with_counts()).stats;
        assert_eq!(stats.mode, mode.to_string());
        assert_eq!((stats.nq, stats.nprobe), (2, 2));
        assert!((stats.avg_group - 1.0).abs() < 1e-9, "{}", stats.avg_group);
        // lists 0 and 1 (3 + 4 rows), lists 2 and 3 (5 + 0 rows)
        assert_eq!(stats.rows_scanned, Some(12), "{mode}");
        assert_eq!(
            stats.lists_scanned,
            Some(3),
            "{mode}: one of the four is empty"
        );
        assert!(stats.query_chunks >= 1 && !stats.reason.is_empty());
        assert!(!stats.kernel.is_empty());
        let plan = index.explain(2, 2, &probing(2, mode)).unwrap();
        let text = format!("{plan} {plan:?}");
        assert!(text.to_lowercase().contains(&mode.to_string()), "{text}");
    }
    if !is_cube::<B>(device) {
        let query = Rows::new(vec![0.0], 1);
        let stats = search_ivf(&index, &query, 2, &probing(2, SearchMode::Csr)).stats;
        assert_ne!(stats.kernel, "portable", "no silent fallback on the host");
    }
}

/// B18: one query at a time equals the batch.
pub fn b18_one_by_one_equals_batch<B: IvfBackend>(device: &B::Device) {
    let nq = sized::<B>(device, 64, 10);
    let (base, queries) = (normal(600, 16, 2), normal(nq, 16, 3));
    for metric in METRICS {
        let index = preset::<B>(device, metric, &base.range(0..12), &base);
        for mode in IVF_MODES {
            let params = probing(3, mode);
            let batch = search_ivf(&index, &queries, 10, &params);
            for q in 0..nq {
                let one = search_ivf(&index, &queries.range(q..q + 1), 10, &params);
                assert_eq!(one.i, batch.row(q).1, "{metric} {mode} query {q}");
                assert_eq!(one.d, batch.row(q).0, "{metric} {mode} query {q}");
            }
        }
    }
}

/// B20, B21: repeats and results after every kind of change equal a fresh index.
pub fn b20_b21_repeats_and_changes<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(300, 8, 4), normal(9, 8, 5));
    let centroids = base.range(0..10);
    let mut index = preset::<B>(device, Metric::L2, &centroids, &base.range(0..200));
    for mode in [SearchMode::Matrix, SearchMode::Csr] {
        let params = probing(4, mode);
        let first = search_ivf(&index, &queries, 10, &params);
        let held = index.memory_info();
        for _ in 0..3 {
            search_ivf(&index, &queries, 10, &params).assert_same(&first, "repeat");
        }
        assert_eq!(index.memory_info(), held, "a repeat keeps nothing more");
        search_ivf(&index, &queries, 3, &probing(10, mode)); // another shape in between
        search_ivf(&index, &queries, 10, &params).assert_same(&first, "repeat");
    }
    index.add(base.range(200..300).on(device)).unwrap();
    let fresh = preset::<B>(device, Metric::L2, &centroids, &base);
    for mode in IVF_MODES {
        for nprobe in [1, 4, 10] {
            let params = probing(nprobe, mode);
            let found = search_ivf(&index, &queries, 10, &params);
            let expected = search_ivf(&fresh, &queries, 10, &params);
            found.assert_same(&expected, "after add");
            check_probed(&index, &base, &queries, &found, &[0, 4, 8]);
            let moved = index.to_device(device).unwrap();
            search_ivf(&moved, &queries, 10, &params).assert_same(&expected, "after a move");
        }
    }
}

/// B23: more queries than a GPU launches groups in one dimension.
pub fn b23_large_batch<B: IvfBackend>(device: &B::Device) {
    let nq = sized::<B>(device, 100_000, 66_000);
    let nb = sized::<B>(device, 20_000, 200);
    let nlist = sized::<B>(device, 64, 8);
    let nprobe = sized::<B>(device, 8, 1);
    let k = sized::<B>(device, 10, 2);
    let (base, queries) = (uniform(nb, 3, 6), uniform(nq, 3, 7));
    let index = preset::<B>(device, Metric::L2, &base.range(0..nlist), &base);
    let found = search_ivf(&index, &queries, k, &probing(nprobe, SearchMode::Auto));
    assert_eq!((found.nq, found.k), (nq, k));
    let sample: Vec<usize> = (0..200).map(|s| s * (nq - 1) / 199).collect();
    check_probed(&index, &base, &queries, &found, &sample);
}

/// B24: inner product with a database of negative scores only.
pub fn b24_negative_scores<B: IvfBackend>(device: &B::Device) {
    let base = uniform(80, 6, 8).map(|v| -v - 0.01);
    let queries = uniform(5, 6, 9).map(|v| v + 0.01);
    let index = preset::<B>(device, Metric::InnerProduct, &base.range(0..5), &base);
    for mode in IVF_MODES {
        let found = search_ivf(&index, &queries, 100, &probing(5, mode));
        Oracle::new(Metric::InnerProduct, &base).check(&queries, &found, "B24");
        assert!(
            found.row(0).0[..80]
                .iter()
                .all(|&s| s < 0.0 && s.is_finite())
        );
        assert_eq!(found.row(0).1[80..], [-1; 20]);
    }
}

/// B25: dimensions that fit no vector width; nprobe = nlist equals the flat index.
pub fn b25_odd_dimensions<B: IvfBackend>(device: &B::Device) {
    for d in [1, 3, 7, 33, 129, 1000] {
        let (base, queries) = (normal(160, d, 10), normal(5, d, 11));
        for metric in METRICS {
            let expected = search_flat(&flat::<B>(device, metric, &base), &queries, 10);
            let index = trained::<B>(device, metric, 8, &base);
            for mode in IVF_MODES {
                let found = search_ivf(&index, &queries, 10, &probing(8, mode));
                found.assert_same(&expected, &format!("B25: d = {d}, {metric}, {mode}"));
            }
            Oracle::new(metric, &base).check(&queries, &expected, "B25");
        }
    }
}

/// B26: recall on clustered data rises with nprobe and reaches 1.
pub fn b26_clustered_recall<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 100_000, 3000);
    let nlist = sized::<B>(device, 256, 32);
    let nq = sized::<B>(device, 200, 24);
    let all = clustered(n + nq, 32, n / 200, 0.05, 12);
    let (base, queries) = (all.range(0..n), all.range(n..n + nq));
    let index = trained::<B>(device, Metric::L2, nlist, &base);
    let truth = Oracle::new(Metric::L2, &base).labels(&queries, 10);
    let (mut last, mut nprobe) = (0.0, 1);
    while nprobe <= nlist {
        let found = search_ivf(&index, &queries, 10, &probing(nprobe, SearchMode::Auto));
        let recall = recall_at_k(&found.i, &truth, 10, 10, 10).unwrap();
        assert!(recall >= last, "recall {recall} after {last} at {nprobe}");
        if nprobe >= 16 {
            assert!(recall >= 0.95, "recall {recall} at nprobe {nprobe}");
        }
        (last, nprobe) = (recall, nprobe * 2);
    }
    assert!(last >= 0.9995, "recall {last} when every list is probed");
}

/// B27: one list, and one list per row.
pub fn b27_extreme_nlist<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(60, 5, 13), normal(6, 5, 14));
    for metric in METRICS {
        for nlist in [1, 60] {
            let index = trained::<B>(device, metric, nlist, &base);
            for mode in IVF_MODES {
                let found = search_ivf(&index, &queries, 10, &probing(nlist, mode));
                let what = format!("B27: nlist = {nlist}");
                Oracle::new(metric, &base).check(&queries, &found, &what);
            }
        }
    }
}

/// The coarse step: nearest centroids first, by the same order as everything else.
pub fn coarse_matches_brute_force<B: IvfBackend>(device: &B::Device) {
    let (centroids, queries) = (normal(40, 12, 15), normal(11, 12, 16));
    for metric in METRICS {
        let index = preset::<B>(device, metric, &centroids, &normal(50, 12, 17));
        for nprobe in [1, 7, 40, 99] {
            let result = index.coarse(queries.on(device), nprobe).unwrap();
            let found = Answer::read(&result);
            assert_eq!(found.k, nprobe.min(40), "nprobe beyond nlist is clamped");
            Oracle::new(metric, &centroids).check(&queries, &found, "coarse");
        }
        let error = refused(index.coarse(queries.on(device), 0));
        assert!(matches!(error, Error::ZeroNprobe), "{error:?}");
    }
}

/// Rows go to the list of their nearest centroid (largest score for an inner product).
pub fn rows_go_to_the_best_list<B: IvfBackend>(device: &B::Device) {
    let (centroids, base) = (normal(9, 7, 18), normal(120, 7, 19));
    for metric in METRICS {
        let index = preset::<B>(device, metric, &centroids, &base);
        let lists: Vec<usize> = (0..9).collect();
        let oracle = Oracle::new(metric, &centroids);
        for list in 0..9 {
            for id in index.list_ids(list).unwrap() {
                let row = base.row(id as usize);
                let best = oracle.best(row, &lists, 1)[0];
                let own = measure(metric, row, centroids.row(list));
                let right = list == best.1 || super::oracle::near(own, best.0);
                assert!(right, "{metric}: row {id} in list {list}, not {}", best.1);
            }
        }
    }
}

/// C18: torch-ivf's rule for auto, its formula exact: csr from the threshold on, on a GPU only.
pub fn c18_torch_ivf_rule<B: IvfBackend>(device: &B::Device) {
    let centroids = normal(512, 4, 20);
    let base = normal(600, 4, 21);
    let index = preset::<B>(device, Metric::L2, &centroids, &base);
    let torch = SearchParams::exact()
        .with_nprobe(32)
        .with_auto_rule(AutoRule::torch_ivf());
    assert_eq!(
        AutoRule::torch_ivf(),
        AutoRule::TorchIvf {
            avg_group_threshold: 8.0
        }
    );
    let cube = is_cube::<B>(device);
    for (nq, avg, gpu) in [(128, 8.0, "csr"), (127, 7.9375, "matrix")] {
        let found = search_ivf(&index, &normal(nq, 4, 22), 3, &torch);
        let stats = &found.stats;
        assert!((stats.avg_group - avg).abs() < 1e-9, "{stats:?}");
        assert!((stats.auto_threshold - 8.0).abs() < 1e-9, "{stats:?}");
        assert_eq!(stats.mode, if cube { gpu } else { "matrix" }, "{stats:?}");
    }
    let lower = AutoRule::TorchIvf {
        avg_group_threshold: 4.0,
    };
    let found = search_ivf(&index, &normal(64, 4, 23), 3, &torch.with_auto_rule(lower));
    assert!((found.stats.auto_threshold - 4.0).abs() < 1e-9);
    assert_eq!(found.stats.mode, if cube { "csr" } else { "matrix" });

    for avg_group_threshold in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let rule = AutoRule::TorchIvf {
            avg_group_threshold,
        };
        let built = IndexIvfFlat::<B>::builder(4).nlist(4).auto_rule(rule);
        refused(built.build(device));
        refused(preset::<B>(device, Metric::L2, &base, &base).set_auto_rule(rule));
        let params = SearchParams::exact().with_auto_rule(rule);
        let error = refused(index.search_with(normal(1, 4, 23).on(device), 3, &params));
        assert!(matches!(error, Error::IllegalValue { .. }), "{error:?}");
    }

    // the threshold scales with nlist / 512
    let mut half = preset::<B>(device, Metric::L2, &centroids.range(0..256), &base);
    half.set_auto_rule(AutoRule::torch_ivf()).unwrap();
    half.set_nprobe(300).unwrap();
    let result = half.search(normal(2, 4, 24).on(device), 3).unwrap();
    assert!((result.stats.auto_threshold - 4.0).abs() < 1e-9);
    assert!(
        (result.stats.avg_group - 2.0).abs() < 1e-9,
        "nprobe is clamped"
    );
}
