//! What an IVF index holds: lists, ids and vectors, preassigned adds and searches, resets.

use super::oracle::{Oracle, measure};
use super::support::*;
use burn_ivf::{Error, IndexIvfFlat, IvfBackend, Metric, SearchMode, SearchParams};
use std::cmp::Ordering;

/// B13: reset keeps the training, `reset_all` drops it.
pub fn b13_resets<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(90, 6, 1), normal(4, 6, 2));
    let mut index = trained::<B>(device, Metric::L2, 6, &base);
    let full = index.memory_info();
    assert!(full.vectors >= 90 * 6 * 4 && full.centroids >= 6 * 6 * 4);
    let before = search_ivf(&index, &queries, 8, &probing(3, SearchMode::Csr));
    index.reset();
    assert!(index.is_trained());
    assert_eq!((index.ntotal(), index.list_sizes()), (0, vec![0; 6]));
    assert!(index.memory_info().total() < full.total(), "released");
    let empty = search_ivf(&index, &queries, 8, &probing(3, SearchMode::Csr));
    (0..4).for_each(|q| empty.assert_padding(q, Metric::L2));
    index.add(base.on(device)).unwrap();
    let after = search_ivf(&index, &queries, 8, &probing(3, SearchMode::Csr));
    after.assert_same(&before, "B13: ids restart at 0");
    index.reset_all();
    assert!(!index.is_trained() && index.centroids().is_none());
    assert_eq!(index.ntotal(), 0);
    let error = refused(index.add(base.on(device)));
    assert!(matches!(error, Error::NotTrained), "{error:?}");
    index.train(base.on(device)).unwrap();
    index.add(base.on(device)).unwrap();
    let again = search_ivf(&index, &queries, 8, &probing(3, SearchMode::Csr));
    again.assert_same(&before, "B13: trained again");
}

/// B15: preset centroids make a trained index; what cannot be centroids is refused.
pub fn b15_from_centroids<B: IvfBackend>(device: &B::Device) {
    let centroids = normal(5, 3, 3);
    let mut index =
        IndexIvfFlat::<B>::from_centroids(centroids.on(device), Metric::InnerProduct).unwrap();
    assert!(index.is_trained());
    assert_eq!((index.d(), index.nlist(), index.ntotal()), (3, Some(5), 0));
    assert_eq!(index.metric(), Metric::InnerProduct);
    assert_eq!(index.nprobe(), 5);
    assert_eq!(floats(index.centroids().unwrap()), centroids.data);
    let error = refused(index.add(normal(2, 4, 4).on(device)));
    assert!(
        matches!(error, Error::DimensionMismatch { .. }),
        "{error:?}"
    );
    assert_names(&error, &[3, 4]);

    let none = Rows::new(vec![], 3);
    refused(IndexIvfFlat::<B>::from_centroids(
        none.on(device),
        Metric::L2,
    ));
    let mut broken = centroids.clone();
    broken.row_mut(2)[1] = f32::NAN;
    let error = refused(IndexIvfFlat::<B>::from_centroids(
        broken.on(device),
        Metric::L2,
    ));
    assert!(
        matches!(error, Error::NonFinite { row: 2, .. }),
        "{error:?}"
    );
}

/// B16: searching the index's own coarse result equals search; -1 skips a probe.
pub fn b16_search_preassigned<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(240, 7, 5), normal(6, 7, 6));
    for metric in METRICS {
        let index = preset::<B>(device, metric, &base.range(0..9), &base);
        for mode in IVF_MODES {
            let params = probing(4, mode);
            let own = search_ivf(&index, &queries, 10, &params);
            let coarse = index.coarse(queries.on(device), 4).unwrap();
            let given = index
                .search_preassigned(queries.on(device), 10, coarse.labels.clone(), &params)
                .unwrap();
            Answer::read(&given).assert_same(&own, "B16: own coarse result");

            // skipping the last two probes equals probing two lists
            let mut probes = Answer::read(&coarse).i;
            for row in probes.chunks_mut(4) {
                row[2..].fill(-1);
                row.swap(0, 3); // the place of a skip does not matter
            }
            let search = |probes: &[i64]| {
                let probes = lists::<B>(probes, 4, device);
                let found = index.search_preassigned(queries.on(device), 10, probes, &params);
                Answer::read(&found.unwrap())
            };
            let two = search_ivf(&index, &queries, 10, &probing(2, mode));
            search(&probes).assert_same(&two, "B16: -1 skips");
            // a list named twice is read once
            let mut twice = Answer::read(&coarse).i;
            for row in twice.chunks_mut(4) {
                (row[2], row[3]) = (row[1], row[0]);
            }
            search(&twice).assert_same(&two, "B16: repeats");
            let none = search(&[-1; 24]);
            (0..6).for_each(|q| none.assert_padding(q, metric));
        }
    }
}

/// Probes that cannot be: a list that does not exist, a wrong number of rows.
pub fn wrong_probes_are_refused<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let queries = Rows::new(vec![0.0, 21.0], 1);
    let exact = SearchParams::exact();
    let short = lists::<B>(&[0, 1], 2, device);
    refused(index.search_preassigned(queries.on(device), 1, short, &exact));
    for list in [4, -2, 1_000_000] {
        let beyond = lists::<B>(&[0, 1, list, 3], 2, device);
        let error = refused(index.search_preassigned(queries.on(device), 1, beyond, &exact));
        assert!(matches!(error, Error::ListOutOfRange { .. }), "{error:?}");
    }
    let fine = lists::<B>(&[0, 1, 2, 3], 2, device);
    let error = refused(index.search_preassigned(queries.on(device), 0, fine.clone(), &exact));
    assert!(matches!(error, Error::ZeroK), "{error:?}");
    let wrong = normal(2, 2, 7).on(device);
    let error = refused(index.search_preassigned(wrong, 1, fine, &exact));
    assert!(
        matches!(error, Error::DimensionMismatch { .. }),
        "{error:?}"
    );
}

/// B17: a scan over blocks of lists, merged, equals the full search bit for bit.
pub fn b17_sequential_scan<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (tied(300, 5, 4, 8), tied(8, 5, 4, 9));
    let k = 12;
    for metric in METRICS {
        let index = preset::<B>(device, metric, &normal(12, 5, 10), &base);
        for mode in [SearchMode::Matrix, SearchMode::Csr] {
            let params = probing(7, mode);
            let whole = search_ivf(&index, &queries, k, &params);
            let coarse = Answer::read(&index.coarse(queries.on(device), 7).unwrap());
            let mut merged: Vec<Vec<(f32, i64)>> = vec![Vec::new(); 8];
            for block in [0..4, 4..5, 5..12] {
                let within = |&l: &i64| if block.contains(&l) { l } else { -1 };
                let probes: Vec<i64> = coarse.i.iter().map(within).collect();
                let probes = lists::<B>(&probes, 7, device);
                let found = index.search_preassigned(queries.on(device), k, probes, &params);
                let found = Answer::read(&found.unwrap());
                for (q, hits) in merged.iter_mut().enumerate() {
                    let (d, i) = found.row(q);
                    hits.extend(d.iter().copied().zip(i.iter().copied()));
                }
            }
            for (q, hits) in merged.iter_mut().enumerate() {
                hits.retain(|hit| hit.1 >= 0);
                hits.sort_by(|a, b| best_first(metric, a, b));
                hits.resize(k.max(hits.len()), (padding(metric), -1));
                let (d, i) = whole.row(q);
                for (rank, hit) in hits[..k].iter().enumerate() {
                    let same = hit.0.to_bits() == d[rank].to_bits() && hit.1 == i[rank];
                    assert!(same, "B17: {metric} {mode} query {q} rank {rank}");
                }
            }
        }
    }
}

fn best_first(metric: Metric, a: &(f32, i64), b: &(f32, i64)) -> Ordering {
    let by_value = if metric == Metric::L2 {
        a.0.total_cmp(&b.0)
    } else {
        b.0.total_cmp(&a.0)
    };
    by_value.then(a.1.cmp(&b.1))
}

/// Lists keep insertion order and the exact bits of the vectors.
pub fn lists_keep_order_and_bits<B: IvfBackend>(device: &B::Device) {
    let base = normal(150, 9, 11);
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..7), &base.range(0..40));
    for piece in [40..41, 41..100, 100..150] {
        index.add(base.range(piece).on(device)).unwrap();
    }
    let sizes = index.list_sizes();
    assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (7, 150));
    let mut seen = Vec::new();
    for (list, &size) in sizes.iter().enumerate() {
        let ids = index.list_ids(list).unwrap();
        assert_eq!(ids.len(), size);
        assert!(ids.is_sorted(), "list {list}: {ids:?}");
        let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
        let held = index.list_vectors(list).unwrap();
        assert_eq!(held.dims(), [size, 9]);
        assert_eq!(floats(held), base.pick(&rows).data, "list {list}");
        seen.extend(rows);
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..150), "each row in one list");
    refused(index.list_ids(7));
    refused(index.list_vectors(7));
    let squares: usize = sizes.iter().map(|s| s * s).sum();
    let imbalance = 7.0 * squares as f64 / (150.0 * 150.0);
    assert!((index.imbalance_factor() - imbalance).abs() < 1e-9);
}

/// Rows go where they are told, ids given or automatic; nonsense is refused.
pub fn add_preassigned<B: IvfBackend>(device: &B::Device) {
    let base = normal(20, 4, 12);
    let mut index =
        IndexIvfFlat::<B>::from_centroids(normal(3, 4, 13).on(device), Metric::L2).unwrap();
    let to: Vec<u32> = (0..20).map(|row| [2, 0, 0, 2][row % 4]).collect();
    index.add_preassigned(base.on(device), None, &to).unwrap();
    assert_eq!(index.list_sizes(), [10, 0, 10]);
    assert_eq!(index.list_ids(2).unwrap()[..3], [0, 3, 4]);
    let ids: Vec<i64> = (500..520).collect();
    index
        .add_preassigned(base.on(device), Some(&ids), &[1; 20])
        .unwrap();
    assert_eq!(index.list_ids(1).unwrap(), ids);
    let both: Vec<i64> = (0..20).chain(500..520).collect();
    let queries = normal(4, 4, 14);
    for mode in IVF_MODES {
        let found = search_ivf(&index, &queries, 40, &probing(3, mode));
        Oracle::with_ids(Metric::L2, &base.then(&base), both.clone()).check(
            &queries,
            &found,
            "add_preassigned",
        );
    }
    let more = base.range(0..2);
    let error = refused(index.add_preassigned(more.on(device), None, &[0, 3]));
    assert!(matches!(error, Error::ListOutOfRange { .. }), "{error:?}");
    refused(index.add_preassigned(more.on(device), None, &[0]));
    refused(index.add_preassigned(more.on(device), Some(&[1]), &[0, 1]));
    refused(index.add_preassigned(more.on(device), Some(&[1, -1]), &[0, 1]));
    assert_eq!(
        index.list_sizes(),
        [10, 20, 10],
        "refused adds change nothing"
    );
}

/// One list holds everything, the others are empty; every probe order gives the same hits.
pub fn one_giant_list<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 3000, 300);
    let (base, queries) = (tied(n, 6, 4, 15), tied(10, 6, 4, 16));
    for metric in METRICS {
        let mut index =
            IndexIvfFlat::<B>::from_centroids(normal(16, 6, 17).on(device), metric).unwrap();
        index
            .add_preassigned(base.on(device), None, &vec![3; n])
            .unwrap();
        let imbalance = index.imbalance_factor();
        assert!((imbalance - 16.0).abs() < 1e-9, "{imbalance}");
        let expected = search_flat(&flat::<B>(device, metric, &base), &queries, 50);
        Oracle::new(metric, &base).check(&queries, &expected, "one giant list");
        for mode in IVF_MODES {
            let found = search_ivf(&index, &queries, 50, &probing(16, mode));
            found.assert_same(&expected, "one giant list");
            // with one probe a query either meets the list or nothing at all
            let found = search_ivf(&index, &queries, 50, &probing(1, mode));
            let coarse = Answer::read(&index.coarse(queries.on(device), 1).unwrap());
            for q in 0..10 {
                if coarse.i[q] == 3 {
                    assert_eq!(found.row(q), expected.row(q), "{metric} {mode}");
                } else {
                    found.assert_padding(q, metric);
                }
            }
        }
    }
}

/// An index with no rows at all, and one whose probed lists are all empty.
pub fn empty_lists<B: IvfBackend>(device: &B::Device) {
    let queries = normal(3, 4, 18);
    for metric in METRICS {
        let mut index =
            IndexIvfFlat::<B>::from_centroids(normal(5, 4, 19).on(device), metric).unwrap();
        assert!((index.list_sizes(), index.ntotal()) == (vec![0; 5], 0));
        assert!(index.imbalance_factor().is_finite());
        for mode in IVF_MODES {
            let found = search_ivf(&index, &queries, 3, &probing(5, mode));
            (0..3).for_each(|q| found.assert_padding(q, metric));
        }
        assert_eq!(index.list_ids(1).unwrap(), Vec::<i64>::new());
        assert_eq!(index.list_vectors(1).unwrap().dims(), [0, 4]);
        index.add(Rows::new(vec![], 4).on(device)).unwrap();
        assert_eq!(index.ntotal(), 0, "adding nothing adds nothing");
    }
}

/// Distances reported by an IVF index are those of the whole vectors, not of residuals.
pub fn distances_are_plain<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(64, 10, 20), normal(3, 10, 21));
    for metric in METRICS {
        let index = trained::<B>(device, metric, 4, &base);
        let found = search_ivf(&index, &queries, 64, &probing(4, SearchMode::Csr));
        for q in 0..3 {
            let (d, i) = found.row(q);
            for (d, &id) in d.iter().zip(i) {
                let exact = measure(metric, queries.row(q), base.row(id as usize));
                super::oracle::assert_close(*d, exact, "distance");
            }
        }
    }
}

/// Vectors that come piece by piece after room was made for them, spread over the lists as those
/// before them, stay where they are, and no list moves: the bytes held do not change on a device.
pub fn pieces_fit_into_what_was_reserved<B: IvfBackend>(device: &B::Device) {
    let (times, piece) = (sized::<B>(device, 12, 6), 500);
    let n = times * piece;
    // Every piece has as many rows for a list as the first, whose spread the room is made by.
    let base = Rows::new(normal(piece, 8, 171).data.repeat(times), 8);
    let whole = preset::<B>(device, Metric::L2, &base.range(0..10), &base);
    let mut pieces = preset::<B>(
        device,
        Metric::L2,
        &base.range(0..10),
        &base.range(0..piece),
    );
    pieces.reserve(n - piece).unwrap();
    let held = pieces.memory_info().vectors;
    assert!(held >= n * 8 * 4, "room for all: {held}");
    for from in (piece..n).step_by(piece) {
        pieces
            .add(base.range(from..from + piece).on(device))
            .unwrap();
        if is_cube::<B>(device) {
            assert_eq!(pieces.memory_info().vectors, held, "after row {from}");
        }
    }
    let queries = normal(20, 8, 172);
    let params = probing(4, SearchMode::Csr);
    let expected = search_ivf(&whole, &queries, 7, &params);
    search_ivf(&pieces, &queries, 7, &params).assert_same(&expected, "pieces");
}
