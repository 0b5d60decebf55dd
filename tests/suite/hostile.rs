//! Arguments and rows that a careless or hostile caller passes: each is answered or refused, never
//! a panic, and a refused call changes nothing.

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{
    Error, IndexFlat, IndexIvfFlat, IvfBackend, Metric, NanPolicy, Profile, SearchMode,
    SearchParams,
};

/// k = 4096, with fewer and with more rows than that.
pub fn k_4096<B: IvfBackend>(device: &B::Device) {
    for n in [300, sized::<B>(device, 9000, 4300)] {
        let (base, queries) = (normal(n, 4, 1), normal(2, 4, 2));
        for metric in METRICS {
            let index = preset::<B>(device, metric, &base.range(0..6), &base);
            let expected = search_flat(&flat::<B>(device, metric, &base), &queries, 4096);
            for mode in IVF_MODES {
                let found = search_ivf(&index, &queries, 4096, &probing(6, mode));
                found.assert_same(&expected, "k = 4096");
            }
            Oracle::new(metric, &base).check(&queries, &expected, "k = 4096");
        }
    }
}

/// No queries: an answer of shape `[0, k]`, in every mode, on a full and an empty index.
pub fn no_queries<B: IvfBackend>(device: &B::Device) {
    let base = normal(50, 4, 3);
    let none = Rows::new(vec![], 4);
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..5), &base);
    for _ in 0..2 {
        for mode in IVF_MODES {
            let found = search_ivf(&index, &none, 7, &probing(3, mode));
            assert_eq!((found.nq, found.k), (0, 7), "{mode}");
            let probes = index.coarse(none.on(device), 3).unwrap();
            assert_eq!(probes.labels.dims(), [0, 3]);
            let params = probing(3, mode);
            let found = index
                .search_preassigned(none.on(device), 7, probes.labels, &params)
                .unwrap();
            assert_eq!(found.labels.dims(), [0, 7]);
        }
        index.reset();
    }
}

/// k = 0 is refused everywhere, by parameters or not.
pub fn zero_k<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let query = || Rows::new(vec![0.0], 1).on::<B>(device);
    for error in [
        refused(index.search(query(), 0)),
        refused(index.search_with(query(), 0, &SearchParams::exact())),
        refused(index.explain(1, 0, &SearchParams::exact())),
    ] {
        assert!(matches!(error, Error::ZeroK), "{error:?}");
    }
    let error = refused(index.search_with(query(), 1, &SearchParams::exact().with_nprobe(0)));
    assert!(matches!(error, Error::ZeroNprobe), "{error:?}");
}

/// More results than can be held are refused before any memory is asked for.
pub fn too_many_results<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let flat = IndexFlat::<B>::new(1, Metric::L2, device).unwrap();
    let queries = || Rows::new(vec![0.0; 3], 1).on::<B>(device);
    for k in [usize::MAX, usize::MAX / 3, 1 << 31] {
        for error in [
            refused(index.search(queries(), k)),
            refused(index.explain(3, k, &SearchParams::exact())),
            refused(flat.search(queries(), k)),
        ] {
            assert!(
                matches!(error, Error::TooManyResults { nq: 3, .. }),
                "{error:?}"
            );
            assert_names(&error, &[3, k]);
        }
    }
}

/// A wrong dimension is refused everywhere; the message names both numbers.
pub fn wrong_dimension<B: IvfBackend>(device: &B::Device) {
    let base = normal(40, 6, 4);
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..4), &base);
    for d in [1, 5, 7] {
        let wrong = normal(3, d, 5);
        for error in [
            refused(index.search(wrong.on(device), 2)),
            refused(index.coarse(wrong.on(device), 2)),
            refused(index.add(wrong.on(device))),
            refused(index.add_with_ids(wrong.on(device), &[1, 2, 3])),
            refused(index.add_preassigned(wrong.on(device), None, &[0, 0, 0])),
        ] {
            assert!(
                matches!(error, Error::DimensionMismatch { expected: 6, found, .. } if found == d),
                "{error:?}"
            );
            assert_names(&error, &[6, d]);
        }
    }
    // also when there is nothing to search for, or in
    let error = refused(index.search(Rows::new(vec![], 5).on(device), 2));
    assert_names(&error, &[6, 5]);
    index.reset();
    let error = refused(index.search(normal(1, 5, 5).on(device), 2));
    assert_names(&error, &[6, 5]);
    assert_eq!(index.ntotal(), 0);
}

/// Rows with NaN or infinity are refused as a whole; the index is unchanged.
pub fn broken_rows_are_refused<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(60, 5, 6), normal(4, 5, 7));
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..4), &base);
    let mut plain = flat::<B>(device, Metric::L2, &base);
    let before = search_flat(&plain, &queries, 10);
    let sizes = index.list_sizes();
    for (row, value) in [(0, f32::NAN), (7, f32::INFINITY), (9, f32::NEG_INFINITY)] {
        let mut broken = normal(10, 5, 8);
        broken.row_mut(row)[4] = value;
        let ids: Vec<i64> = (900..910).collect();
        for error in [
            refused(index.add(broken.on(device))),
            refused(index.add_with_ids(broken.on(device), &ids)),
            refused(index.add_preassigned(broken.on(device), None, &[1; 10])),
            refused(plain.add(broken.on(device))),
            refused(plain.add_with_ids(broken.on(device), &ids)),
        ] {
            let named = matches!(error, Error::NonFinite { row: r, count: 1, .. } if r == row);
            assert!(named, "{error:?}");
        }
    }
    assert_eq!((index.ntotal(), plain.ntotal()), (60, 60));
    assert_eq!(index.list_sizes(), sizes);
    for mode in IVF_MODES {
        search_ivf(&index, &queries, 10, &probing(4, mode)).assert_same(&before, "unchanged");
    }
    search_flat(&plain, &queries, 10).assert_same(&before, "unchanged");
    // the next automatic id is not consumed either
    index.add(queries.range(0..1).on(device)).unwrap();
    let found = search_ivf(&index, &queries.range(0..1), 1, &SearchParams::default());
    assert_eq!(found.i, [60]);
}

/// [`NanPolicy::Skip`]: what is sound is added, under the ids of its rows.
pub fn broken_rows_are_skipped<B: IvfBackend>(device: &B::Device) {
    let base = normal(60, 5, 6);
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..4), &base);
    let mut plain = flat::<B>(device, Metric::L2, &base);
    index.set_nan_policy(NanPolicy::Skip);
    plain.set_nan_policy(NanPolicy::Skip);
    let fresh = normal(10, 5, 8);
    let mut broken = fresh.clone();
    broken.row_mut(0)[4] = f32::NAN;
    broken.row_mut(7)[0] = f32::INFINITY;
    broken.row_mut(9)[2] = f32::NEG_INFINITY;
    index.add(broken.on(device)).unwrap();
    plain.add(broken.on(device)).unwrap();
    let own: Vec<i64> = (900..910).collect();
    index.add_with_ids(broken.on(device), &own).unwrap();
    plain.add_with_ids(broken.on(device), &own).unwrap();
    index
        .add_preassigned(broken.on(device), None, &[0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
        .unwrap();
    plain.add(broken.on(device)).unwrap();
    assert_eq!((index.ntotal(), plain.ntotal()), (60 + 3 * 7, 60 + 3 * 7));
    // The largest id held is 908: given ids are noted with their vectors.
    for (first, list) in [(60, None), (900, None), (909, Some(1))] {
        for row in 0..10 {
            let id = first + row as i64;
            let whole = ![0, 7, 9].contains(&row);
            assert_eq!(index.reconstruct(id).is_ok(), whole, "{id}");
            assert_eq!(plain.reconstruct(id).is_ok(), whole, "{id}");
            if whole {
                assert_eq!(floats(index.reconstruct(id).unwrap()), fresh.row(row));
                assert_eq!(floats(plain.reconstruct(id).unwrap()), fresh.row(row));
            }
        }
        if let Some(list) = list {
            assert!(index.list_ids(list).unwrap().ends_with(&[910, 914]));
        }
    }
    // The id of a last row that was left out is not given again; a call of nothing sound adds nothing.
    let nothing = Rows::new(vec![f32::NAN; 10], 5);
    index.add(nothing.on(device)).unwrap();
    plain.add(nothing.on(device)).unwrap();
    index.add(fresh.range(0..1).on(device)).unwrap();
    plain.add(fresh.range(0..1).on(device)).unwrap();
    assert!(index.reconstruct(921).is_ok() && plain.reconstruct(921).is_ok());
    // Ids are checked all the same, and the policy is saved.
    assert!(index.add_with_ids(broken.on(device), &own[..9]).is_err());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    index.save(&path).unwrap();
    let index = IndexIvfFlat::<B>::load(&path, device).unwrap();
    plain.save(&path).unwrap();
    let plain = IndexFlat::<B>::load(&path, device).unwrap();
    assert_eq!(
        (index.nan_policy(), plain.nan_policy()),
        (NanPolicy::Skip, NanPolicy::Skip)
    );
}

/// Parameters of inverted files mean nothing to a flat index: each is an error, none is passed over.
pub fn parameters_of_others_are_refused<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(60, 5, 6), normal(2, 5, 7));
    let plain = flat::<B>(device, Metric::L2, &base);
    for params in [
        SearchParams::default().with_nprobe(3),
        SearchParams::default().with_max_codes(3),
        SearchParams::default().with_mode(SearchMode::Csr),
        SearchParams::default().with_safe_pruning(true),
        SearchParams::of(Profile::ApproxFast),
    ] {
        let error = refused(plain.search_with(queries.on(device), 3, &params));
        assert!(
            matches!(error, Error::NotApplicable { .. }),
            "{params}: {error}"
        );
    }
    for params in [SearchParams::exact(), SearchParams::of(Profile::Speed)] {
        plain.search_with(queries.on(device), 3, &params).unwrap();
    }
    // Nothing bounds the rows of a list by L1.
    let mut index = preset::<B>(device, Metric::L1, &base.range(0..4), &base);
    let error = refused(index.set_safe_pruning(true));
    assert!(matches!(error, Error::NotApplicable { .. }), "{error}");
    index.set_safe_pruning(false).unwrap();
    for nprobe in [1, 4] {
        let params = SearchParams::exact()
            .with_nprobe(nprobe)
            .with_safe_pruning(true);
        let error = refused(index.search_with(queries.on(device), 3, &params));
        assert!(matches!(error, Error::NotApplicable { .. }), "{error}");
    }
}

/// A query row with NaN or infinity gets padding; the other rows are unaffected, whatever mode.
pub fn broken_queries_get_padding<B: IvfBackend>(device: &B::Device) {
    let (base, good) = (normal(200, 9, 9), normal(9, 9, 10));
    let mut queries = good.clone();
    for (row, value) in [
        (0, f32::NAN),
        (4, f32::INFINITY),
        (5, f32::NEG_INFINITY),
        (8, f32::NAN),
    ] {
        queries.row_mut(row)[row] = value;
    }
    for metric in METRICS {
        let index = preset::<B>(device, metric, &base.range(0..10), &base);
        for mode in IVF_MODES {
            for nprobe in [2, 10] {
                let params = probing(nprobe, mode);
                let found = search_ivf(&index, &queries, 8, &params);
                let whole = search_ivf(&index, &good, 8, &params);
                for row in 0..9 {
                    if [0, 4, 5, 8].contains(&row) {
                        found.assert_padding(row, metric);
                    } else {
                        assert_eq!(found.row(row), whole.row(row), "{metric} {mode}");
                    }
                }
            }
        }
        // every query broken
        let broken = queries.pick(&[0, 4]);
        for mode in IVF_MODES {
            let found = search_ivf(&index, &broken, 3, &probing(3, mode));
            (0..2).for_each(|q| found.assert_padding(q, metric));
        }
    }
}

/// Rows that are all equal tie by id, in every mode, few and many queries, both metrics.
pub fn identical_rows<B: IvfBackend>(device: &B::Device) {
    let row = normal(1, 12, 11);
    let base = row.pick(&[0; 90]);
    for metric in METRICS {
        let spread: Vec<u32> = (0..90).map(|row| (row * 7 % 5) as u32).collect();
        let centroids = normal(5, 12, 12);
        let mut index = IndexIvfFlat::<B>::from_centroids(centroids.on(device), metric).unwrap();
        index
            .add_preassigned(base.on(device), None, &spread)
            .unwrap();
        for nq in [1, 25] {
            let queries = normal(nq, 12, 13);
            for mode in IVF_MODES {
                let found = search_ivf(&index, &queries, 7, &probing(5, mode));
                for query in 0..nq {
                    let ids = found.row(query).1;
                    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6], "{metric} {mode} nq={nq}");
                }
            }
        }
        // as an ordinary add: all in one list
        let index = trained::<B>(device, metric, 5, &base);
        for mode in IVF_MODES {
            let found = search_ivf(&index, &row, 4, &probing(5, mode));
            assert_eq!(found.i, [0, 1, 2, 3], "{metric} {mode}");
        }
    }
}

/// The smallest workspace works; anything below is refused, as a setting and as a parameter.
pub fn tiny_workspace<B: IvfBackend>(device: &B::Device) {
    let least = 64 << 10;
    let (base, queries) = (normal(150, 6, 14), normal(5, 6, 15));
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..4), &base);
    let mut plain = flat::<B>(device, Metric::L2, &base);
    let expected = search_flat(&plain, &queries, 9);
    for bytes in [0, 1, least - 1] {
        let params = SearchParams::exact().with_workspace_limit(bytes);
        for error in [
            refused(index.set_workspace_limit(bytes)),
            refused(plain.set_workspace_limit(bytes)),
            refused(index.search_with(queries.on(device), 9, &params)),
        ] {
            assert!(matches!(error, Error::IllegalValue { .. }), "{error:?}");
            assert_names(&error, &[bytes, least]);
        }
    }
    index.set_workspace_limit(least).unwrap();
    plain.set_workspace_limit(least).unwrap();
    assert_eq!(plain.workspace_limit(), least);
    for mode in FLAT_MODES {
        plain.set_mode(mode);
        search_flat(&plain, &queries, 9).assert_same(&expected, "flat, least workspace");
    }
    for mode in IVF_MODES {
        let found = search_ivf(&index, &queries, 9, &probing(4, mode));
        found.assert_same(&expected, "ivf, least workspace");
    }
}

/// The wrong number of ids is refused.
pub fn wrong_id_count<B: IvfBackend>(device: &B::Device) {
    let x = normal(3, 4, 16);
    let mut plain = IndexFlat::<B>::new(4, Metric::L2, device).unwrap();
    let mut index =
        IndexIvfFlat::<B>::from_centroids(normal(2, 4, 17).on(device), Metric::L2).unwrap();
    for ids in [&[1, 2][..], &[1, 2, 3, 4], &[]] {
        for error in [
            refused(plain.add_with_ids(x.on(device), ids)),
            refused(index.add_with_ids(x.on(device), ids)),
        ] {
            assert!(matches!(error, Error::Count { .. }), "{error:?}");
            assert_names(&error, &[3, ids.len()]);
        }
    }
    assert_eq!((plain.ntotal(), index.ntotal()), (0, 0));
}
