//! K-means, its parameters and its report (its edges: `training_edges.rs`).

use super::oracle::measure;
use super::support::*;
use burn_ivf::{IndexIvfFlat, IvfBackend, KMeansInit, KMeansParams, KMeansReport, Metric};

/// Trains an index on `x`: the centroids and the report.
pub fn train<B: IvfBackend>(
    device: &B::Device,
    metric: Metric,
    nlist: usize,
    x: &Rows,
    params: &KMeansParams,
) -> (Rows, KMeansReport) {
    let mut index = IndexIvfFlat::<B>::builder(x.d)
        .nlist(nlist)
        .metric(metric)
        .kmeans(params.clone())
        .build(device)
        .unwrap();
    let report = index.train(x.on(device)).unwrap();
    assert!(index.is_trained());
    assert_eq!(index.ntotal(), 0, "training adds nothing");
    let centroids = index.centroids().unwrap();
    assert_eq!(centroids.dims(), [nlist, x.d]);
    let centroids = Rows::new(floats(centroids), x.d);
    assert!(centroids.data.iter().all(|v| v.is_finite()));
    assert_eq!(report.nlist, nlist);
    (centroids, report)
}

/// Parameters with this many iterations.
pub fn iterations(niter: usize) -> KMeansParams {
    KMeansParams {
        niter,
        ..KMeansParams::default()
    }
}

/// Sum of squared distances to the nearest centroid.
fn objective(x: &Rows, centroids: &Rows) -> f64 {
    (0..x.n())
        .map(|row| {
            (0..centroids.n())
                .map(|c| measure(Metric::L2, x.row(row), centroids.row(c)).0)
                .fold(f64::INFINITY, f64::min)
        })
        .sum()
}

/// G1: two blobs.
pub fn g1_two_blobs<B: IvfBackend>(device: &B::Device) {
    let noise = normal(128, 4, 1).map(|v| 0.1 * v);
    let mut x = noise.clone();
    (64..128).for_each(|row| x.row_mut(row).iter_mut().for_each(|v| *v += 5.0));
    let (centroids, report) = train::<B>(device, Metric::L2, 2, &x, &KMeansParams::default());
    let mut means = [centroids.row(0)[0], centroids.row(1)[0]];
    means.sort_by(f32::total_cmp);
    for (value, expected) in means.iter().zip([0.0, 5.0]) {
        assert!((value - expected).abs() < 0.5, "{means:?}");
    }
    assert!(
        (report.imbalance - 1.0).abs() < 1e-9,
        "{}",
        report.imbalance
    );
    assert_eq!(report.train_rows, 128);
}

/// G3: the objective never rises, is the true one, and falls with more clusters.
pub fn g3_objective_falls<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 2000, 600); // below 256 per centroid: no subsampling
    let x = normal(n, 8, 2);
    let mut last = f64::INFINITY;
    for nlist in [8, 16, 32, 64] {
        let (centroids, report) = train::<B>(device, Metric::L2, nlist, &x, &iterations(8));
        assert_eq!(report.objective.len(), report.iterations);
        assert!(report.iterations <= 8 && report.iterations >= 1);
        for pair in report.objective.windows(2) {
            assert!(pair[1] <= pair[0] * (1.0 + 1e-5), "{:?}", report.objective);
        }
        let end = *report.objective.last().unwrap();
        let exact = objective(&x, &centroids);
        // the report's last entry belongs to the centroids before their last update
        assert!(exact <= end * (1.0 + 1e-4), "{exact} after {end}");
        assert!(end < exact * 1.2, "{end} against {exact}");
        assert!(end < last, "{nlist} clusters: {end} after {last}");
        last = end;
    }
}

/// G5: at most 256 rows per centroid are used, and which ones depends on the seed alone.
pub fn g5_subsampling<B: IvfBackend>(device: &B::Device) {
    let x = normal(300 * 3, 5, 3);
    let (first, report) = train::<B>(device, Metric::L2, 3, &x, &iterations(3));
    assert_eq!(report.train_rows, 256 * 3);
    let (second, again) = train::<B>(device, Metric::L2, 3, &x, &iterations(3));
    assert_eq!(first, second, "deterministic for a seed");
    assert_eq!(report.objective, again.objective);
    let few = KMeansParams {
        max_points_per_centroid: 50,
        ..iterations(3)
    };
    assert_eq!(
        train::<B>(device, Metric::L2, 3, &x, &few).1.train_rows,
        150
    );
    let other = KMeansParams {
        seed: 99,
        ..iterations(3)
    };
    let (third, _) = train::<B>(device, Metric::L2, 3, &x, &other);
    assert_ne!(first, third, "another seed, another sample");
}

/// The builder's seed is the k-means seed.
pub fn builder_seed_reaches_kmeans<B: IvfBackend>(device: &B::Device) {
    let x = normal(200, 4, 4);
    let built = |seed: u64| {
        let builder = IndexIvfFlat::<B>::builder(4).nlist(6).seed(seed);
        let mut index = builder.build(device).unwrap();
        index.train(x.on(device)).unwrap();
        floats(index.centroids().unwrap())
    };
    assert_eq!(built(5), built(5));
    assert_ne!(built(5), built(6));
    let params = KMeansParams {
        seed: 5,
        ..KMeansParams::default()
    };
    assert_eq!(
        built(5),
        train::<B>(device, Metric::L2, 6, &x, &params).0.data
    );
}

/// G6: centroids of an inner-product index have norm 1, unless told otherwise.
pub fn g6_spherical<B: IvfBackend>(device: &B::Device) {
    let x = normal(250, 6, 5).map(|v| 3.0 * v + 1.0);
    let norm = |row: &[f32]| {
        row.iter()
            .map(|&v| f64::from(v).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let (ip, _) = train::<B>(device, Metric::InnerProduct, 5, &x, &iterations(5));
    (0..5).for_each(|c| assert!((norm(ip.row(c)) - 1.0).abs() < 1e-5));
    let plain = KMeansParams {
        spherical: Some(false),
        ..iterations(5)
    };
    let (means, _) = train::<B>(device, Metric::InnerProduct, 1, &x, &plain);
    for (c, &value) in means.row(0).iter().enumerate() {
        let sum: f64 = (0..250).map(|row| f64::from(x.row(row)[c])).sum();
        let mean = sum / 250.0;
        assert!((f64::from(value) - mean).abs() < 1e-5 * mean.abs().max(1.0));
    }
    let forced = KMeansParams {
        spherical: Some(true),
        ..iterations(5)
    };
    let (l2, _) = train::<B>(device, Metric::L2, 5, &x, &forced);
    (0..5).for_each(|c| assert!((norm(l2.row(c)) - 1.0).abs() < 1e-5));
}

/// G7: training resumes from given centroids.
pub fn g7_resume<B: IvfBackend>(device: &B::Device) {
    let x = normal(500, 6, 6);
    let (warm, cold) = train::<B>(device, Metric::L2, 12, &x, &iterations(10));
    let resume = KMeansParams {
        init_centroids: Some(warm.data.clone()),
        ..iterations(5)
    };
    let (_, report) = train::<B>(device, Metric::L2, 12, &x, &resume);
    assert!(
        report.objective[0] < 0.99 * cold.objective[0],
        "{} after {}",
        report.objective[0],
        cold.objective[0]
    );
    let wrong = KMeansParams {
        init_centroids: Some(warm.data[1..].to_vec()),
        ..iterations(5)
    };
    let builder = IndexIvfFlat::<B>::builder(6).nlist(12).kmeans(wrong);
    refused(
        builder
            .build(device)
            .and_then(|mut i| i.train(x.on(device))),
    );
}

/// G8: weights pull centroids.
pub fn g8_weights<B: IvfBackend>(device: &B::Device) {
    // exactly: one centroid is the weighted mean
    let x = normal(60, 3, 7);
    let weights: Vec<f32> = (0..60).map(|row| (row % 7) as f32).collect();
    let params = KMeansParams {
        weights: Some(weights.clone()),
        ..iterations(2)
    };
    let (one, _) = train::<B>(device, Metric::L2, 1, &x, &params);
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    for (c, &value) in one.row(0).iter().enumerate() {
        let sum: f64 = (0..60)
            .map(|row| f64::from(weights[row]) * f64::from(x.row(row)[c]))
            .sum();
        assert!((f64::from(value) - sum / total).abs() < 1e-5, "{value}");
    }
    // five large light blobs, five small heavy ones, five centroids
    let centres = uniform(10, 4, 8).map(|v| 20.0 * v);
    let noise = normal(500, 4, 9).map(|v| 0.1 * v);
    let (mut data, mut weights) = (Vec::new(), Vec::new());
    for row in 0..500 {
        let blob = if row < 450 { row % 5 } else { 5 + row % 5 };
        weights.push(if blob < 5 { 0.01 } else { 10.0 });
        let point = centres.row(blob).iter().zip(noise.row(row));
        data.extend(point.map(|(c, n)| c + n));
    }
    let params = KMeansParams {
        weights: Some(weights),
        init: KMeansInit::KMeansPlusPlus,
        nredo: 12,
        ..iterations(10)
    };
    let (found, _) = train::<B>(device, Metric::L2, 5, &Rows::new(data, 4), &params);
    let off = |blobs: std::ops::Range<usize>| objective(&centres.range(blobs), &found).sqrt();
    assert!(2.0 * off(5..10) < off(0..5), "{} {}", off(5..10), off(0..5));
    // the wrong number of weights
    let short = KMeansParams {
        weights: Some(vec![1.0; 59]),
        ..iterations(2)
    };
    let builder = IndexIvfFlat::<B>::builder(3).nlist(2).kmeans(short);
    refused(
        builder
            .build(device)
            .and_then(|mut i| i.train(x.on(device))),
    );
}

/// G9: within 2 % of plain Lloyd in f64 from the same start.
pub fn g9_quality<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 2000, 500);
    let x = clustered(n, 6, 30, 0.1, 10);
    let start = x.range(0..20);
    let params = KMeansParams {
        init_centroids: Some(start.data.clone()),
        ..iterations(10)
    };
    let (found, _) = train::<B>(device, Metric::L2, 20, &x, &params);
    let reference = lloyd(&x, &start, 10);
    let (found, expected) = (objective(&x, &found), objective(&x, &reference));
    assert!(found <= 1.02 * expected, "{found} against {expected}");
}

/// Plain Lloyd iterations in f64; an empty cluster stays where it is.
fn lloyd(x: &Rows, start: &Rows, niter: usize) -> Rows {
    let mut centroids = start.clone();
    for _ in 0..niter {
        let mut sums = vec![(0.0f64, vec![0.0f64; x.d]); start.n()];
        for row in 0..x.n() {
            let nearest = (0..start.n())
                .map(|c| (measure(Metric::L2, x.row(row), centroids.row(c)).0, c))
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap()
                .1;
            let (count, sum) = &mut sums[nearest];
            *count += 1.0;
            sum.iter_mut()
                .zip(x.row(row))
                .for_each(|(s, &v)| *s += f64::from(v));
        }
        for (c, (count, sum)) in sums.iter().enumerate().filter(|(_, s)| s.0 > 0.0) {
            for (value, s) in centroids.row_mut(c).iter_mut().zip(sum) {
                *value = (s / count) as f32;
            }
        }
    }
    centroids
}

/// More attempts never end worse; a tolerance stops early; both kinds of start work.
pub fn knobs_have_effect<B: IvfBackend>(device: &B::Device) {
    let x = clustered(400, 5, 25, 0.02, 11);
    let last = |report: &KMeansReport| *report.objective.last().unwrap();
    let (_, once) = train::<B>(device, Metric::L2, 20, &x, &iterations(6));
    let redo = KMeansParams {
        nredo: 4,
        ..iterations(6)
    };
    let (_, best) = train::<B>(device, Metric::L2, 20, &x, &redo);
    assert!(last(&best) <= last(&once) * (1.0 + 1e-6));
    let loose = KMeansParams {
        tol: 0.5,
        ..iterations(30)
    };
    let (_, early) = train::<B>(device, Metric::L2, 20, &x, &loose);
    assert!(early.converged && early.iterations < 6, "{early:?}");
    let (_, long) = train::<B>(
        device,
        Metric::L2,
        4,
        &tied(200, 2, 3, 12),
        &iterations(100),
    );
    assert!(long.converged && long.iterations < 100, "{long:?}");
    assert_eq!(
        train::<B>(device, Metric::L2, 4, &x, &iterations(1))
            .1
            .iterations,
        1
    );
    let spread = KMeansParams {
        init: KMeansInit::KMeansPlusPlus,
        ..iterations(1)
    };
    let (_, spread) = train::<B>(device, Metric::L2, 20, &x, &spread);
    assert!(last(&spread) < 1.05 * once.objective[0], "{spread:?}");
    // Both kinds of spreading start far nearer than chance, whatever the seed; with weights, only where
    // there is weight.
    let first = |init, seed, weights: Option<Vec<f32>>| {
        let params = KMeansParams {
            init,
            seed,
            weights,
            ..iterations(1)
        };
        train::<B>(device, Metric::L2, 20, &x, &params).1.objective[0]
    };
    let sum = |init| (0..5).map(|seed| first(init, seed, None)).sum::<f64>();
    let [random, plus_plus, chains] = [
        KMeansInit::Random,
        KMeansInit::KMeansPlusPlus,
        KMeansInit::AfkMc2,
    ]
    .map(sum);
    assert!(plus_plus < 0.8 * random, "{plus_plus} {random}");
    assert!(
        chains < 0.8 * random && chains < 1.3 * plus_plus,
        "{chains} {plus_plus}"
    );
    assert_eq!(
        first(KMeansInit::AfkMc2, 3, None),
        first(KMeansInit::AfkMc2, 3, None)
    );
    let weights: Vec<f32> = (0..400).map(|row| f32::from(u8::from(row < 20))).collect();
    assert_eq!(
        first(KMeansInit::AfkMc2, 4, Some(weights)),
        0.0,
        "the 20 points of weight"
    );
    let same = Rows::new(vec![2.5; 90], 1);
    let params = KMeansParams {
        init: KMeansInit::AfkMc2,
        ..iterations(2)
    };
    train::<B>(device, Metric::L2, 7, &same, &params);
}
