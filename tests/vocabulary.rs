//! Names, numbers and texts that need no device: parsing, recall, error messages.
#![allow(missing_docs, clippy::unwrap_used)]

use burn_ivf::{AutoRule, Error, FlatMode, KMeansParams, Metric, SearchMode, recall_at_k};

#[test]
fn metric_names() {
    let names = [
        "l2",
        "ip",
        "cosine",
        "l1",
        "linf",
        "lp:3",
        "canberra",
        "bray_curtis",
        "jensen_shannon",
        "jaccard",
        "nan_euclidean",
        "gower",
    ];
    for (metric, name) in Metric::ALL.into_iter().zip(names) {
        assert_eq!(metric.to_string(), name);
        assert_eq!(name.parse::<Metric>().unwrap(), metric);
        let json = serde_json::to_string(&metric).unwrap();
        assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric);
    }
    let error = "euclid".parse::<Metric>().unwrap_err().to_string();
    for word in ["euclid"].iter().chain(&names) {
        assert!(error.contains(word), "{error}");
    }
    // faiss's names are read too
    for (name, metric) in [
        ("METRIC_INNER_PRODUCT", Metric::InnerProduct),
        ("METRIC_Linf", Metric::Linf),
        ("BrayCurtis", Metric::BrayCurtis),
        ("NaNEuclidean", Metric::NanEuclidean),
        ("LP:0.5", Metric::Lp(0.5)),
    ] {
        assert_eq!(name.parse::<Metric>().unwrap(), metric);
    }
    for name in ["lp", "lp:", "lp:x", "lp:0", "lp:-2", "lp:inf", "lp:nan"] {
        assert!(name.parse::<Metric>().is_err(), "{name}");
    }
}

#[test]
fn mode_names() {
    for mode in [SearchMode::Auto, SearchMode::Matrix, SearchMode::Csr] {
        assert_eq!(mode.to_string().parse::<SearchMode>().unwrap(), mode);
    }
    for mode in [FlatMode::Auto, FlatMode::Matrix, FlatMode::Chunked] {
        assert_eq!(mode.to_string().parse::<FlatMode>().unwrap(), mode);
    }
    let error = "fast".parse::<SearchMode>().unwrap_err();
    assert!(matches!(error, Error::UnknownName { .. }), "{error:?}");
    for word in ["fast", "auto", "matrix", "csr"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = "csr".parse::<FlatMode>().unwrap_err().to_string();
    for word in ["csr", "auto", "matrix", "chunked"] {
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(AutoRule::default(), AutoRule::Measured);
}

#[test]
fn training_defaults_are_the_documented_ones() {
    let params = KMeansParams::default();
    assert_eq!((params.niter, params.nredo, params.seed), (10, 1, 1234));
    assert_eq!(params.max_points_per_centroid, 256);
    assert_eq!(params.min_points_per_centroid, 39);
    assert_eq!((params.tol, params.spherical), (0.0, None));
    assert!(params.init_centroids.is_none() && params.weights.is_none());
}

#[test]
fn recall() {
    let truth = [1, 2, 3, 4, 5, 6];
    assert_eq!(recall_at_k(&truth, &truth, 3, 3, 3).unwrap(), 1.0);
    // order inside the first k does not matter, what lies behind them does not count
    assert_eq!(
        recall_at_k(&[3, 1, 2, 6, 5, 4], &truth, 3, 3, 3).unwrap(),
        1.0
    );
    assert_eq!(
        recall_at_k(&[9, 9, 1, 4, 9, 9], &truth, 3, 3, 1).unwrap(),
        0.5
    );
    assert_eq!(
        recall_at_k(&[1, 2, -1, -1, -1, -1], &truth, 3, 3, 3).unwrap(),
        2.0 / 6.0
    );
    // different widths
    assert_eq!(recall_at_k(&[2, 1, 5, 9], &truth, 2, 3, 2).unwrap(), 0.75);
}
