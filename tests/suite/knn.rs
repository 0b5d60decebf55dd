//! Search, distances and clusters without an index.

use super::metrics::{all, suited};
use super::support::{
    Answer, Rows, assert_names, flat, floats, normal, refused, search_flat, tied, uniform,
};
use burn::tensor::Tensor;
use burn_ivf::{
    Error, IvfBackend, KMeans, KMeansParams, KnnAccumulator, KnnLimits, Metric, knn,
    pairwise_distance,
};

fn nearest<B: IvfBackend>(
    device: &B::Device,
    (base, queries): (&Rows, &Rows),
    k: usize,
    metric: Metric,
    (vectors, queries_limit): (usize, usize),
) -> Answer {
    let limits = KnnLimits {
        vectors,
        queries: queries_limit,
    };
    let (q, x) = (queries.on::<B>(device), base.on(device));
    Answer::read(&knn(q, x, k, metric, &limits).unwrap())
}

/// J1: knn is Flat.search, whatever the limits; k beyond the vectors pads.
pub fn j1_knn_is_flat_search<B: IvfBackend>(device: &B::Device) {
    let data = (&suited(90, 8, 1), &suited(7, 8, 2));
    for metric in all() {
        let index = flat::<B>(device, metric, data.0);
        for k in [5, 95] {
            let expected = search_flat(&index, data.1, k);
            for limits in [(0, 0), (0, 100), (1000, 0), (1000, 100)] {
                let found = nearest::<B>(device, data, k, metric, limits);
                found.assert_same(&expected, &format!("{metric} {limits:?}"));
            }
        }
    }
    // Ties by row number across pieces.
    let data = (&tied(120, 3, 2, 3), &tied(6, 3, 2, 4));
    for metric in [
        Metric::L2,
        Metric::InnerProduct,
        Metric::Cosine,
        Metric::Linf,
    ] {
        let expected = search_flat(&flat::<B>(device, metric, data.0), data.1, 50);
        let found = nearest::<B>(device, data, 50, metric, (500, 24));
        found.assert_same(&expected, "ties");
    }
    // The largest finite distances are hits, wherever they come from.
    let far = Rows::of(&[&[3e38], &[-3e38], &[0.0]]);
    for metric in [Metric::L2, Metric::InnerProduct, Metric::L1, Metric::Linf] {
        let queries = Rows::of(&[&[-3e38]]);
        let expected = search_flat(&flat::<B>(device, metric, &far), &queries, 4);
        let found = nearest::<B>(device, (&far, &queries), 4, metric, (4, 0));
        found.assert_same(&expected, "far");
        assert_eq!((found.i[0], found.i[3]), (1, -1), "{metric}");
        assert!(found.i[..3].iter().all(|&id| id != -1), "{metric}");
    }
}

/// Nothing to search, nothing to find, and wrong arguments.
pub fn edges<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (uniform(5, 4, 5), uniform(3, 4, 6));
    let on = |rows: &Rows| rows.on::<B>(device);
    let none = Tensor::<B, 2>::empty([0, 4], device);
    for metric in [Metric::L2, Metric::Cosine, Metric::L1] {
        let limits = KnnLimits::default();
        let found = Answer::read(&knn(none.clone(), on(&base), 2, metric, &limits).unwrap());
        assert_eq!((found.nq, found.k), (0, 2));
        let found = Answer::read(&knn(on(&queries), none.clone(), 2, metric, &limits).unwrap());
        (0..3).for_each(|query| found.assert_padding(query, metric));
        let error = refused(knn(on(&queries), on(&base), 0, metric, &limits));
        assert!(matches!(error, Error::ZeroK));
        let wrong = uniform(5, 3, 7);
        let error = refused(knn(on(&queries), on(&wrong), 2, metric, &limits));
        assert_names(&error, &[3, 4]);
        let error = refused(pairwise_distance(on(&queries), on(&wrong), metric));
        assert_names(&error, &[3, 4]);
        let table = pairwise_distance(on(&queries), none.clone(), metric).unwrap();
        assert_eq!(table.dims(), [3, 0]);
        let mut broken = base.clone();
        broken.row_mut(2)[1] = f32::NAN;
        let error = refused(knn(on(&queries), on(&broken), 2, metric, &limits));
        assert!(matches!(error, Error::NonFinite { row: 2, .. }), "{error}");
        // In blocks of two vectors too, all of them counted.
        let blocks = KnnLimits {
            vectors: 32,
            queries: 16,
        };
        broken.row_mut(4)[0] = f32::INFINITY;
        let error = refused(knn(on(&queries), on(&broken), 2, metric, &blocks));
        let named = matches!(
            error,
            Error::NonFinite {
                row: 2,
                count: 2,
                ..
            }
        );
        assert!(named, "{error}");
        let mut nearest = KnnAccumulator::<B>::new(on(&queries), 2, metric).unwrap();
        refused(nearest.push(on(&broken)));
        refused(nearest.push_with_ids(on(&base), &[1, 2]));
        refused(nearest.push_with_ids(on(&base), &[1, 2, -1, 3, 4]));
        assert!(nearest.is_empty());
        nearest.push(none.clone()).unwrap();
        let found = Answer::read(&nearest.finish());
        (0..3).for_each(|query| found.assert_padding(query, metric));
    }
    let error = refused(pairwise_distance(on(&queries), on(&base), Metric::Lp(-1.0)));
    assert!(matches!(error, Error::IllegalValue { .. }));
}

/// Blocks of any sizes, with their own ids or counted, are the whole.
pub fn accumulator_is_knn_of_all<B: IvfBackend>(device: &B::Device) {
    let data = (&tied(200, 4, 3, 8), &tied(9, 4, 3, 9));
    let ids: Vec<i64> = (0..200).map(|i| (i * 71) % 200 * 3 - 100).collect();
    let ids: Vec<i64> = ids
        .into_iter()
        .map(|id| if id == -1 { 9999 } else { id })
        .collect();
    for metric in [
        Metric::L2,
        Metric::InnerProduct,
        Metric::Cosine,
        Metric::L1,
        Metric::Jaccard,
    ] {
        let whole = nearest::<B>(device, data, 12, metric, (0, 0));
        let mut named = burn_ivf::IndexFlat::<B>::new(4, metric, device).unwrap();
        named.add_with_ids(data.0.on(device), &ids).unwrap();
        let named = search_flat(&named, data.1, 12);
        for cuts in [
            vec![0, 200],
            vec![0, 5, 100, 100, 200],
            vec![0, 66, 133, 200],
        ] {
            let queries = || data.1.on::<B>(device);
            let mut counted = KnnAccumulator::new(queries(), 12, metric).unwrap();
            let mut with_ids = KnnAccumulator::new(queries(), 12, metric).unwrap();
            for cut in cuts.windows(2).filter(|cut| cut[0] < cut[1]) {
                let block = data.0.range(cut[0]..cut[1]);
                counted.push(block.on(device)).unwrap();
                let ids = &ids[cut[0]..cut[1]];
                with_ids.push_with_ids(block.on(device), ids).unwrap();
            }
            assert_eq!(counted.len(), 200);
            Answer::read(&counted.finish()).assert_same(&whole, "counted");
            Answer::read(&with_ids.finish()).assert_same(&named, "with ids");
        }
    }
}

/// J3: transposed, sliced and repeated tensors give the answer of plain ones.
pub fn j3_strided_inputs<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (suited(40, 6, 10), suited(7, 6, 11));
    let turned = |rows: &Rows| {
        let (n, d) = (rows.n(), rows.d);
        let data = (0..n * d).map(|at| rows.row(at % n)[at / n]);
        Rows::new(data.collect(), n).on::<B>(device).swap_dims(0, 1)
    };
    let framed = |rows: &Rows| {
        let n = rows.n();
        let mut frame = normal(n + 5, 11, 12);
        for row in 0..n {
            frame.row_mut(row + 2)[3..9].copy_from_slice(rows.row(row));
        }
        frame.on::<B>(device).slice([2..n + 2, 3..9])
    };
    for metric in all() {
        let plain = nearest::<B>(device, (&base, &queries), 9, metric, (0, 0));
        let table = pairwise_distance(queries.on::<B>(device), base.on(device), metric);
        let table = floats(table.unwrap());
        for (q, x) in [
            (turned(&queries), turned(&base)),
            (framed(&queries), framed(&base)),
            (turned(&queries), framed(&base)),
        ] {
            let found = knn(q.clone(), x.clone(), 9, metric, &KnnLimits::NONE).unwrap();
            Answer::read(&found).assert_same(&plain, "knn");
            let mut nearest = KnnAccumulator::new(q.clone(), 9, metric).unwrap();
            nearest.push(x.clone()).unwrap();
            Answer::read(&nearest.finish()).assert_same(&plain, "accumulated");
            let found = floats(pairwise_distance(q, x, metric).unwrap());
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found), bits(&table), "{metric}");
        }
    }
}

/// Public k-means: two blobs (G1), report, assignment, spherical (G6), L1, wrong arguments.
pub fn kmeans<B: IvfBackend>(device: &B::Device) {
    let noise = normal(128, 5, 13);
    let mut x = noise.map(|v| v * 0.2);
    for row in 64..128 {
        x.row_mut(row).iter_mut().for_each(|v| *v += 5.0);
    }
    for metric in [Metric::L2, Metric::L1, Metric::Linf] {
        let kmeans = KMeans::train(x.on::<B>(device), 2, metric, &KMeansParams::default());
        let kmeans = kmeans.unwrap();
        assert_eq!((kmeans.k(), kmeans.d(), kmeans.metric()), (2, 5, metric));
        let centroids = Rows::new(floats(kmeans.centroids()), 5);
        let low = usize::from(centroids.row(0)[0] > 2.5);
        for (cluster, centre) in [(low, 0.0), (1 - low, 5.0)] {
            let near = |v: &f32| (v - centre).abs() < 0.5;
            assert!(
                centroids.row(cluster).iter().all(near),
                "{metric}: {centroids:?}"
            );
        }
        let found = Answer::read(&kmeans.assign(x.on(device)).unwrap());
        for row in 0..128 {
            let own = if row < 64 { low } else { 1 - low };
            assert_eq!(found.i[row], own as i64, "{metric} row {row}");
        }
        let report = kmeans.report();
        assert_eq!((report.nlist, report.train_rows), (2, 128));
        let sum: f64 = found.d.iter().map(|&d| f64::from(d)).sum();
        let last = *report.objective.last().unwrap();
        assert!(
            (sum - last).abs() <= 1e-3 * last,
            "{metric}: {sum} for {last}"
        );
        assert_eq!(
            Answer::read(&kmeans.assign(Tensor::empty([0, 5], device)).unwrap()).nq,
            0
        );
        refused(kmeans.assign(Tensor::zeros([1, 4], device)));
    }
    let x = normal(200, 6, 14);
    for (metric, spherical) in [
        (Metric::Cosine, true),
        (Metric::InnerProduct, true),
        (Metric::L2, false),
    ] {
        let kmeans = KMeans::train(x.on::<B>(device), 8, metric, &KMeansParams::default());
        let centroids = floats(kmeans.unwrap().centroids());
        let unit = centroids.chunks(6).all(|c| {
            let norm: f32 = c.iter().map(|v| v * v).sum::<f32>().sqrt();
            (norm - 1.0).abs() < 1e-5
        });
        assert_eq!(unit, spherical, "{metric}");
    }
    let params = KMeansParams::default();
    let train = |k, metric| refused(KMeans::train(x.on::<B>(device), k, metric, &params));
    assert!(matches!(train(0, Metric::L2), Error::ZeroNlist));
    assert_names(&train(201, Metric::L2), &[200, 201]);
    assert!(matches!(train(4, Metric::Jaccard), Error::Metric { .. }));
}
