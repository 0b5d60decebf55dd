//! The edges of training: too few points, broken points, repeats, degenerate
//! data, and what is said about them.

use super::oracle::Oracle;
use super::support::*;
use super::training::{iterations, train};
use burn_ivf::{
    Error, IdSelector, IndexIvfFlat, IvfBackend, KMeans, KMeansParams, Metric, NanPolicy,
    SearchMode, SearchParams,
};
use std::sync::{Mutex, OnceLock};

/// B4: fewer points than lists is an error with both counts; as many are copied.
pub fn b4_few_points<B: IvfBackend>(device: &B::Device) {
    let x = normal(9, 4, 13);
    let mut index = untrained::<B>(device, Metric::L2, 11, 4);
    let error = refused(index.train(x.on(device)));
    assert!(matches!(error, Error::TooFewPoints { .. }), "{error:?}");
    assert_names(&error, &[9, 11]);
    assert!(!index.is_trained());
    let mut index = untrained::<B>(device, Metric::L2, 9, 4);
    index.train(x.on(device)).unwrap();
    assert_eq!(floats(index.centroids().unwrap()), x.data, "copied");
    index.add(x.on(device)).unwrap();
    assert_eq!(index.list_sizes(), [1; 9]);
    let none = Rows::new(vec![], 4);
    refused(untrained::<B>(device, Metric::L2, 2, 4).train(none.on(device)));
    let wrong = normal(40, 5, 13);
    let error = refused(untrained::<B>(device, Metric::L2, 2, 4).train(wrong.on(device)));
    assert_names(&error, &[4, 5]);
}

/// B4: few points per list are worth a warning, with the counts.
pub fn b4_warns_through_log<B: IvfBackend>(device: &B::Device) {
    let heard = listen();
    train::<B>(device, Metric::L2, 5, &normal(173, 3, 14), &iterations(2));
    let warned = |words: &[&str]| {
        let heard = heard.lock().unwrap();
        heard
            .iter()
            .any(|line| words.iter().all(|w| line.contains(w)))
    };
    assert!(
        warned(&["173", "195"]) || warned(&["173", "39"]),
        "no warning"
    );
    train::<B>(device, Metric::L2, 5, &normal(197, 3, 14), &iterations(2));
    assert!(!warned(&["197"]), "197 points are enough for 5 lists");
    let silent = KMeansParams {
        min_points_per_centroid: 1,
        ..iterations(2)
    };
    train::<B>(device, Metric::L2, 5, &normal(181, 3, 14), &silent);
    assert!(!warned(&["181"]), "the threshold is a parameter");
}

/// Every warning of this process so far.
fn listen() -> &'static Mutex<Vec<String>> {
    static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static ONCE: OnceLock<()> = OnceLock::new();
    struct Ear;
    impl log::Log for Ear {
        fn enabled(&self, _: &log::Metadata) -> bool {
            true
        }
        fn log(&self, record: &log::Record) {
            if record.level() <= log::Level::Warn {
                HEARD.lock().unwrap().push(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    ONCE.get_or_init(|| {
        log::set_logger(&Ear).expect("no other logger in a test");
        log::set_max_level(log::LevelFilter::Warn);
    });
    &HEARD
}

/// B5: NaN and infinity in the training set are refused.
pub fn b5_broken_training_rows<B: IvfBackend>(device: &B::Device) {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = normal(80, 4, 15);
        x.row_mut(17)[3] = value;
        let mut index = untrained::<B>(device, Metric::L2, 2, 4);
        let error = refused(index.train(x.on(device)));
        assert!(
            matches!(error, Error::NonFinite { row: 17, .. }),
            "{error:?}"
        );
        assert!(!index.is_trained() && index.centroids().is_none());
        // Of 1,500 rows 1,024 are drawn; every one is looked at, and named by its place in the call.
        for row in [3, 700, 1499] {
            let mut x = normal(1500, 2, 15);
            x.row_mut(row)[1] = value;
            let mut index = untrained::<B>(device, Metric::Cosine, 4, 2);
            let error = refused(index.train(x.on(device)));
            let named = matches!(error, Error::NonFinite { row: r, count: 1, .. } if r == row);
            assert!(named, "{error:?}");
            let params = KMeansParams::default();
            let error = refused(KMeans::train(x.on::<B>(device), 4, Metric::L2, &params));
            let named = matches!(error, Error::NonFinite { row: r, count: 1, .. } if r == row);
            assert!(named, "{error:?}");
        }
    }
}

/// [`NanPolicy::Skip`] trains on what is sound, with the weights that belong to it.
pub fn broken_training_rows_are_skipped<B: IvfBackend>(device: &B::Device) {
    let sound = normal(90, 3, 19);
    let mut x = Rows::new(Vec::new(), 3);
    let mut weights = Vec::new();
    for row in 0..90 {
        if row % 7 == 3 {
            x.data.extend([1.0, f32::NAN, f32::INFINITY]);
            weights.push(1e6);
        }
        x.data.extend(sound.row(row));
        weights.push(1.0 + row as f32);
    }
    let own: Vec<f32> = (0..90).map(|row| 1.0 + row as f32).collect();
    let index = |weights: &[f32], policy| {
        let kmeans = KMeansParams {
            weights: Some(weights.to_vec()),
            ..KMeansParams::default()
        };
        let builder = IndexIvfFlat::<B>::builder(3).nlist(5).kmeans(kmeans);
        builder.nan_policy(policy).build(device).unwrap()
    };
    let mut expected = index(&own, NanPolicy::Error);
    expected.train(sound.on(device)).unwrap();
    let mut found = index(&weights, NanPolicy::Skip);
    let report = found.train(x.on(device)).unwrap();
    assert_eq!(report.train_rows, 90);
    let centroids = |index: &IndexIvfFlat<B>| floats(index.centroids().unwrap());
    assert_eq!(centroids(&found), centroids(&expected));
    // Nothing sound is too few points.
    let mut none = index(&[1.0; 2], NanPolicy::Skip);
    let error = refused(none.train(Rows::new(vec![f32::NAN; 6], 3).on(device)));
    assert!(
        matches!(
            error,
            Error::TooFewPoints {
                points: 0,
                nlist: 5
            }
        ),
        "{error}"
    );
}

/// Training anew puts every vector into the list of its nearest new centroid; ids, bits, settings and the
/// next automatic id stay.
pub fn retraining_keeps_what_is_held<B: IvfBackend>(device: &B::Device) {
    let (base, other) = (
        clustered(300, 4, 12, 0.05, 20),
        clustered(200, 4, 12, 0.05, 21),
    );
    for metric in METRICS {
        let mut index = preset::<B>(device, metric, &base.range(0..6), &base);
        index.remove_ids(&IdSelector::range(290..300)).unwrap();
        index.set_nprobe(6).unwrap();
        let before = search_ivf(&index, &other, 9, &SearchParams::exact());
        let error = refused(index.retrain(Some(normal(3, 4, 1).on(device))));
        assert!(
            matches!(
                error,
                Error::TooFewPoints {
                    points: 3,
                    nlist: 6
                }
            ),
            "{error}"
        );
        search_ivf(&index, &other, 9, &SearchParams::exact()).assert_same(&before, "unchanged");
        for x in [None, Some(other.on(device))] {
            let old = floats(index.centroids().unwrap());
            let report = index.retrain(x).unwrap();
            assert_eq!((report.nlist, index.nprobe(), index.ntotal()), (6, 6, 290));
            let centroids = floats(index.centroids().unwrap());
            assert_ne!(centroids, old, "{metric}");
            search_ivf(&index, &other, 9, &SearchParams::exact())
                .assert_same(&before, "every list is probed");
            // As an index of these centroids would have them.
            let centroids = Rows::new(centroids, 4);
            let mut fresh =
                IndexIvfFlat::<B>::from_centroids(centroids.on(device), metric).unwrap();
            let ids: Vec<i64> = (0..290).collect();
            let rows = Rows::new(floats(index.reconstruct_batch(&ids).unwrap()), 4);
            fresh.add_with_ids(rows.on(device), &ids).unwrap();
            for list in 0..6 {
                let mut own = index.list_ids(list).unwrap();
                own.sort_unstable();
                assert_eq!(own, fresh.list_ids(list).unwrap(), "{metric} list {list}");
            }
        }
        index.add(other.range(0..1).on(device)).unwrap();
        assert!(index.reconstruct(300).is_ok(), "the next automatic id");
    }
    let mut untrained = untrained::<B>(device, Metric::L2, 3, 4);
    assert!(matches!(
        refused(untrained.retrain(None)),
        Error::NotTrained
    ));
    untrained.retrain(Some(base.on(device))).unwrap();
    assert!(matches!(
        refused(untrained.retrain(None)),
        Error::TooFewPoints { points: 0, .. }
    ));
}

/// Training an index that holds rows is refused; an empty one may be trained again.
pub fn training_twice<B: IvfBackend>(device: &B::Device) {
    let x = normal(120, 4, 16);
    let mut index = trained::<B>(device, Metric::L2, 3, &x);
    let before = floats(index.centroids().unwrap());
    refused(index.train(normal(120, 4, 17).on(device)));
    assert_eq!(floats(index.centroids().unwrap()), before);
    assert_eq!(index.ntotal(), 120, "unchanged");
    index.reset_all();
    index.train(normal(120, 4, 17).on(device)).unwrap();
    let second = floats(index.centroids().unwrap());
    assert_ne!(second, before);
    // empty: it may be trained again, and a training that fails leaves the last one in force
    refused(index.train(normal(2, 4, 17).on(device)));
    assert_eq!(floats(index.centroids().unwrap()), second);
    index.train(x.on(device)).unwrap();
    assert_eq!(floats(index.centroids().unwrap()), before);
}

/// nlist left open is chosen at training: min(1024, floor(sqrt n)), at least 1.
pub fn nlist_is_chosen<B: IvfBackend>(device: &B::Device) {
    for (n, nlist) in [(1, 1), (3, 1), (99, 9), (100, 10)] {
        let x = normal(n, 3, 18);
        let mut index = IndexIvfFlat::<B>::builder(3).build(device).unwrap();
        assert_eq!(index.nlist(), None);
        let report = index.train(x.on(device)).unwrap();
        assert_eq!(
            (index.nlist(), report.nlist),
            (Some(nlist), nlist),
            "n = {n}"
        );
        assert_eq!(index.nprobe(), nlist.min(8));
        index.add(x.on(device)).unwrap();
        let found = search_ivf(&index, &x.range(0..1), 1, &probing(nlist, SearchMode::Auto));
        assert_eq!(found.i, [0]);
    }
}

/// Fewer distinct points than lists: training ends, centroids are finite, nothing is lost.
pub fn few_distinct_points<B: IvfBackend>(device: &B::Device) {
    let distinct = normal(5, 6, 19);
    let rows: Vec<usize> = (0..200).map(|row| row % 5).collect();
    let base = distinct.pick(&rows);
    for metric in METRICS {
        let index = trained::<B>(device, metric, 10, &base);
        assert_eq!(index.list_sizes().iter().sum::<usize>(), 200);
        let found = search_ivf(&index, &distinct, 45, &probing(10, SearchMode::Csr));
        Oracle::new(metric, &base).check(&distinct, &found, "5 distinct points");
        let one = trained::<B>(device, metric, 4, &distinct.pick(&[2; 160]));
        assert!(
            floats(one.centroids().unwrap())
                .iter()
                .all(|v| v.is_finite())
        );
        assert_eq!(one.list_sizes().iter().sum::<usize>(), 160);
    }
}

/// Empty clusters are refilled by splitting, and the report says how often.
pub fn empty_clusters_are_split<B: IvfBackend>(device: &B::Device) {
    let x = normal(300, 3, 20);
    let far = Rows::new(vec![1e4; 3], 3);
    let start = x.range(0..3).then(&far);
    let params = KMeansParams {
        init_centroids: Some(start.data),
        ..iterations(6)
    };
    let (centroids, report) = train::<B>(device, Metric::L2, 4, &x, &params);
    assert!(report.splits.iter().sum::<usize>() >= 1, "{report:?}");
    assert!(
        centroids.data.iter().all(|v| v.abs() < 10.0),
        "{centroids:?}"
    );
    let index = preset::<B>(device, Metric::L2, &centroids, &x);
    assert!(index.list_sizes().iter().all(|&size| size > 0));
}
