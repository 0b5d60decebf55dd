//! Tuning: the setting chosen is the smallest that keeps the promise, its figures are those of
//! searches, every option has an effect, and nothing is promised that cannot be kept.

use super::support::*;
use burn_ivf::{
    Error, GroundTruth, IndexIvfFlat, IvfBackend, Metric, Parameter, ParameterSpace, SearchMode,
    SearchParams, TuneOptions, Tuner, pareto, recall_at_k,
};

const K: usize = 10;
const NLIST: usize = 24;

/// Overlapping clusters: a few lists find most neighbours, all of them the rest.
fn index<B: IvfBackend>(device: &B::Device, metric: Metric) -> IndexIvfFlat<B> {
    trained(device, metric, NLIST, &clustered(1500, 8, 40, 0.2, 3))
}

fn queries() -> Rows {
    clustered(220, 8, 40, 0.2, 4)
}

/// Quick searches: time is not what these cases look at.
fn options() -> TuneOptions {
    TuneOptions {
        confidence: 0.9,
        repeats: 1,
        ..TuneOptions::default()
    }
}

fn recall<B: IvfBackend>(index: &IndexIvfFlat<B>, nprobe: usize, nq: usize) -> f64 {
    let queries = queries().range(0..nq);
    let truth = search_ivf(index, &queries, K, &probing(NLIST, SearchMode::Auto));
    let found = search_ivf(index, &queries, K, &probing(nprobe, SearchMode::Auto));
    recall_at_k(&found.i, &truth.i, K, K, K).unwrap()
}

pub fn the_smallest_that_promises_is_chosen<B: IvfBackend>(device: &B::Device) {
    for metric in METRICS {
        let index = index::<B>(device, metric);
        let before = (index.nprobe(), index.ntotal());
        let tuner = Tuner::new(&index, queries().on(device), K, &options()).unwrap();
        let report = tuner.tune(0.9).unwrap();
        assert!(
            report.value > 1 && report.value < NLIST,
            "{metric}: {report}"
        );
        assert!(report.promise >= 0.9 && report.point.recall > report.promise);
        let (low, high) = report.point.interval;
        assert!(low < report.point.recall && report.point.recall < high);
        assert_eq!(
            report.params,
            SearchParams::default().with_nprobe(report.value)
        );
        assert_eq!((report.queries, report.further), (220, 220));
        let expected = recall(&index, report.value, 220);
        assert!((report.point.recall - expected).abs() < 1e-12);
        // what is just below was tried and does not do
        let below = report.trials.iter().find(|t| t.value == report.value - 1);
        assert!(below.unwrap().promise < 0.9, "{:?}", report.trials);
        assert!(report.trials.is_sorted_by(|a, b| a.value < b.value
            && a.promise <= b.promise
            && a.recall <= b.recall));
        // cost: rows of the lists read, and some time
        let counted = SearchParams::default()
            .with_nprobe(report.value)
            .with_counts();
        let found = search_ivf(&index, &queries(), K, &counted);
        let rows = found.stats.rows_scanned.unwrap() as f64 / 220.0;
        assert!((report.point.rows_per_query - rows).abs() < 1e-9);
        assert!(report.point.seconds_per_query > 0.0);
        // more is asked for, more is read; everything is found for sure only in all lists
        let surest = tuner.tune(1.0).unwrap();
        assert!(tuner.tune(0.97).unwrap().value > report.value);
        assert_eq!((surest.value, surest.promise), (NLIST, 1.0));
        assert_eq!(surest.point.interval, (1.0, 1.0));
        assert_eq!(
            (index.nprobe(), index.ntotal()),
            before,
            "the index is as it was"
        );
        let text = report.to_string();
        for word in [&format!("nprobe={}", report.value), "recall", "220", "90 %"] {
            assert!(text.contains(word), "{text}");
        }
    }
}

pub fn options_have_effect<B: IvfBackend>(device: &B::Device) {
    let index = index::<B>(device, Metric::L2);
    let tune = |options: &TuneOptions| {
        index
            .tune_for_recall(queries().on(device), K, 0.9, options)
            .unwrap()
    };
    let plain = tune(&options());
    let surer = tune(&TuneOptions {
        confidence: 0.9999,
        ..options()
    });
    assert!(surer.value > plain.value, "{surer} {plain}");
    let few = tune(&TuneOptions {
        further: Some(3),
        ..options()
    });
    assert!(few.value > plain.value, "{few} {plain}");
    let all = tune(&TuneOptions {
        further: Some(usize::MAX),
        ..options()
    });
    let margin = |r: &burn_ivf::TuneReport| r.point.recall - r.promise;
    assert!(margin(&all) < margin(&plain) || all.value < plain.value);
    assert!(all.to_string().contains("all further ones"), "{all}");
    let sampled = |seed| {
        tune(&TuneOptions {
            sample: 60,
            seed,
            ..options()
        })
    };
    let (small, other) = (sampled(1), sampled(2));
    assert_eq!((small.queries, small.further), (60, 60));
    assert!(small.value >= plain.value, "{small} {plain}");
    assert_ne!(small.trials, other.trials, "other queries were drawn");
    assert_eq!(small.trials, sampled(1).trials, "the seed decides");
    let pieces = tune(&TuneOptions {
        batch: Some(7),
        ..options()
    });
    assert_eq!(pieces.trials, plain.trials);
    assert_eq!(pieces.point.rows_per_query, plain.point.rows_per_query);
    let matrix = tune(&TuneOptions {
        params: SearchParams::default().with_mode(SearchMode::Matrix),
        ..options()
    });
    assert_eq!(matrix.params.mode, Some(SearchMode::Matrix));
    assert_eq!(matrix.trials, plain.trials);
}

pub fn truth_may_be_passed<B: IvfBackend>(device: &B::Device) {
    let index = index::<B>(device, Metric::L2);
    let exact = search_ivf(&index, &queries(), 2 * K, &probing(NLIST, SearchMode::Auto));
    let with = |ids: Vec<i64>| {
        let truth = GroundTruth { ids, width: 2 * K };
        let options = TuneOptions {
            truth: Some(truth),
            sample: 100,
            ..options()
        };
        index.tune_for_recall(queries().on(device), K, 0.9, &options)
    };
    let own = TuneOptions {
        sample: 100,
        ..options()
    };
    let own = index
        .tune_for_recall(queries().on(device), K, 0.9, &own)
        .unwrap();
    assert_eq!(with(exact.i.clone()).unwrap().trials, own.trials);
    // a truth the index cannot know: only 8 of 10 neighbours are rows it holds
    let strange = exact.i.iter().enumerate();
    let strange = strange.map(|(at, &id)| if at % (2 * K) < 2 { 1_000_000 } else { id });
    let error = refused(with(strange.collect()));
    assert!(matches!(error, Error::TargetNotReached { .. }), "{error}");
    assert!(
        error.to_string().contains("100 queries have 0.8000"),
        "{error}"
    );
    // queries without an answer do not count, the others do
    let gaps = exact.i.iter().enumerate();
    let gaps = gaps.map(|(at, &id)| {
        if (at / (2 * K)).is_multiple_of(2) {
            -1
        } else {
            id
        }
    });
    let report = with(gaps.collect()).unwrap();
    assert!(report.queries > 30 && report.queries < 70, "{report}");
    assert!(matches!(
        refused(with(vec![-1; exact.i.len()])),
        Error::IllegalValue {
            name: "queries",
            ..
        }
    ));
    assert!(matches!(
        refused(with(exact.i[2 * K..].to_vec())),
        Error::ShapeMismatch { .. }
    ));
}

/// I9: explore gives a monotone Pareto front over faiss's grid.
pub fn i9_pareto_front<B: IvfBackend>(device: &B::Device) {
    let index = index::<B>(device, Metric::L2);
    let space = ParameterSpace::of(&index);
    let points = index
        .explore(queries().on(device), K, &space, &options())
        .unwrap();
    let values: Vec<_> = points.iter().map(|p| p.params.nprobe.unwrap()).collect();
    assert_eq!(values, [1, 2, 4, 8, 16]);
    for point in &points {
        let nprobe = point.params.nprobe.unwrap();
        assert!((point.recall - recall(&index, nprobe, 220)).abs() < 1e-12);
        assert!(point.interval.0 < point.recall && point.recall < point.interval.1);
    }
    assert!(points.is_sorted_by(|a, b| a.recall < b.recall && a.rows_per_query < b.rows_per_query));
    let front = pareto(&points);
    assert!(
        front
            .is_sorted_by(|a, b| a.recall < b.recall && a.seconds_per_query <= b.seconds_per_query)
    );
    assert_eq!(
        front.last().unwrap().recall,
        points[4].recall,
        "the best stays"
    );
    // a space of one's own
    let space = ParameterSpace::new().with(Parameter::Nprobe, [3, NLIST]);
    let tuner = Tuner::new(&index, queries().on(device), K, &options()).unwrap();
    let points = tuner.explore(&space).unwrap();
    assert_eq!(points.len(), 2);
    assert_eq!((points[1].recall, points[1].interval), (1.0, (1.0, 1.0)));
    assert_eq!(points[1].rows_per_query, 1500.0);
    let one = "nprobe=3".parse().unwrap();
    assert_eq!(tuner.measure(&one).unwrap().recall, points[0].recall);
}

pub fn what_cannot_be_tuned_is_refused<B: IvfBackend>(device: &B::Device) {
    let full = index::<B>(device, Metric::L2);
    let tune = |k, target, options: &TuneOptions| {
        refused(full.tune_for_recall(queries().on(device), k, target, options))
    };
    assert_eq!(tune(0, 0.9, &options()), Error::ZeroK);
    for target in [0.0, -1.0, 1.1, f64::NAN] {
        let error = tune(K, target, &options());
        assert!(matches!(error, Error::IllegalValue { name: "target", .. }));
    }
    let wrong = |change: fn(&mut TuneOptions)| {
        let mut options = options();
        change(&mut options);
        match tune(K, 0.9, &options) {
            Error::IllegalValue { name, .. } => name,
            error => panic!("{error}"),
        }
    };
    assert_eq!(wrong(|o| o.confidence = 1.0), "confidence");
    assert_eq!(wrong(|o| o.confidence = f64::NAN), "confidence");
    assert_eq!(wrong(|o| o.further = Some(0)), "further");
    assert_eq!(wrong(|o| o.sample = 0), "sample");
    assert_eq!(wrong(|o| o.batch = Some(0)), "batch");
    assert_eq!(wrong(|o| o.repeats = 0), "repeats");
    let narrow = |o: &mut TuneOptions| {
        o.truth = Some(GroundTruth {
            ids: vec![0; 220],
            width: 1,
        });
    };
    assert_eq!(wrong(narrow), "truth width");
    // nothing to search, nothing to search with
    let mut empty = index::<B>(device, Metric::L2);
    empty.reset();
    let error = refused(empty.tune_for_recall(queries().on(device), K, 0.9, &options()));
    assert!(
        error.to_string().contains("without a true neighbour"),
        "{error}"
    );
    let none = queries().range(0..0).on(device);
    refused(full.tune_for_recall(none, K, 0.9, &options()));
    let untrained = untrained::<B>(device, Metric::L2, NLIST, 8);
    let error = refused(untrained.tune_for_recall(queries().on(device), K, 0.9, &options()));
    assert_eq!(error, Error::NotTrained);
    // a small sample promises nothing short of everything
    let few = queries().range(0..12).on(device);
    let report = full.tune_for_recall(few, K, 0.95, &options()).unwrap();
    assert_eq!((report.value, report.promise), (NLIST, 1.0));
}

/// A limit is tuned as nprobe is; it cannot make up for lists that are not read.
pub fn limits_are_tuned_too<B: IvfBackend>(device: &B::Device) {
    let index = index::<B>(device, Metric::L2);
    for parameter in [Parameter::MaxCodes, Parameter::CandidateBudget] {
        let within = |nprobe| {
            let options = TuneOptions {
                parameter,
                params: SearchParams::default().with_nprobe(nprobe),
                ..options()
            };
            index.tune_for_recall(queries().on(device), K, 0.9, &options)
        };
        let report = within(NLIST).unwrap();
        assert!(report.promise >= 0.9, "{report}");
        assert!(report.value > 10 && report.value < parameter.most(&index));
        assert_eq!(parameter.get(&report.params), Some(report.value));
        assert_eq!(report.params.nprobe, Some(NLIST));
        let below = report.trials.iter().find(|t| t.value == report.value - 1);
        assert!(below.unwrap().promise < 0.9, "{parameter}: {report}");
        assert!(report.point.rows_per_query < 1500.0);
        if parameter == Parameter::MaxCodes {
            assert!(report.point.rows_per_query <= report.value as f64);
        }
        let error = refused(within(1));
        assert!(matches!(error, Error::TargetNotReached { .. }), "{error}");
    }
    // an index's own limit counts, and full nprobe promises nothing then
    let mut limited = index.clone();
    limited.set_limit(burn_ivf::Limit::max_codes(60)).unwrap();
    let error = refused(limited.tune_for_recall(queries().on(device), K, 0.99, &options()));
    assert!(matches!(error, Error::TargetNotReached { .. }), "{error}");
    let lifted = TuneOptions {
        params: SearchParams::exact(),
        ..options()
    };
    let report = limited
        .tune_for_recall(queries().on(device), K, 0.99, &lifted)
        .unwrap();
    assert!(report.promise >= 0.99);
}
