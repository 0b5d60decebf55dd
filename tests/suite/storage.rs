//! How vectors are stored changes memory and speed, never an answer; a backend that leaves no
//! choice says so.

use super::support::*;
use burn_ivf::{
    Error, IndexFlat, IndexIvfFlat, IvfBackend, Knob, Metric, SearchMode, Storage, backend,
};

const CHOICES: [Storage; 3] = [Storage::Planes, Storage::Copy, Storage::F32];

/// Every storage gives the same bits, in every mode, for dimensions of every padding.
pub fn answers_do_not_depend_on_it<B: IvfBackend>(device: &B::Device) {
    if is_cube::<B>(device) {
        return is_refused_where_there_is_no_choice::<B>(device);
    }
    for (d, metric) in [1, 7, 16, 33, 100]
        .into_iter()
        .flat_map(|d| METRICS.map(|m| (d, m)))
    {
        let (base, more, queries) = (normal(500, d, 1), normal(77, d, 2), normal(20, d, 3));
        let mut ivf = preset::<B>(device, metric, &base.range(0..9), &base);
        let mut exhaustive = flat::<B>(device, metric, &base);
        ivf.add(more.on(device)).unwrap();
        exhaustive.add(more.on(device)).unwrap();
        let expected = search_flat(&exhaustive, &queries, 12);
        for storage in CHOICES {
            let mut ivf = preset::<B>(device, metric, &base.range(0..9), &base);
            let mut exhaustive = flat::<B>(device, metric, &base);
            ivf.set_storage(storage).unwrap();
            exhaustive.set_storage(storage).unwrap();
            assert_eq!((ivf.storage(), exhaustive.storage()), (storage, storage));
            // Some rows were moved, the others go straight to the new storage.
            ivf.add(more.on(device)).unwrap();
            exhaustive.add(more.on(device)).unwrap();
            let what = format!("{storage} d={d} {metric}");
            search_flat(&exhaustive, &queries, 12).assert_same(&expected, &what);
            for mode in IVF_MODES {
                let found = search_ivf(&ivf, &queries, 12, &probing(9, mode));
                found.assert_same(&expected, &what);
            }
            let values = floats(ivf.list_vectors(3).unwrap());
            let ids = ivf.list_ids(3).unwrap();
            let whole = base.then(&more);
            for (row, id) in values.chunks(d).zip(ids) {
                assert_eq!(row, whole.row(id as usize), "{what}: stored bits");
            }
        }
    }
}

/// Values a coarse filter cannot tell apart, and ones it cannot hold.
pub fn filters_lose_nothing<B: IvfBackend>(device: &B::Device) {
    let d = 24;
    let near =
        |i: usize, t: usize| f32::from_bits(1.0_f32.to_bits() + (i * 37 + t * 11) as u32 % 900);
    let rows = |value: &dyn Fn(usize, usize) -> f32| {
        Rows::new((0..400 * d).map(|i| value(i / d, i % d)).collect(), d)
    };
    let noise = normal(400, d, 5);
    let families = [
        ("equal in the upper half", rows(&near)),
        ("far from the origin", noise.map(|v| v + 1000.0)),
        ("one huge row", {
            let mut rows = noise.clone();
            rows.row_mut(399).fill(3e30);
            rows
        }),
        ("tiny", noise.map(|v| v * 1e-30)),
        ("all the same", rows(&|_, t| t as f32)),
    ];
    for (name, base) in families {
        for metric in METRICS {
            let queries = base.range(0..15);
            let matrix = {
                let index = preset::<B>(device, metric, &base.range(0..3), &base);
                search_ivf(&index, &queries, 9, &probing(3, SearchMode::Matrix))
            };
            for storage in CHOICES.into_iter().chain([Storage::Auto]) {
                let mut index = preset::<B>(device, metric, &base.range(0..3), &base);
                if index.set_storage(storage).is_err() {
                    assert!(is_cube::<B>(device), "{storage} on the host");
                    continue;
                }
                let csr = search_ivf(&index, &queries, 9, &probing(3, SearchMode::Csr));
                csr.assert_same(&matrix, &format!("{name}, {metric}, {storage}"));
            }
        }
    }
}

/// A backend without a choice refuses, names the way out, and keeps what it holds.
pub fn is_refused_where_there_is_no_choice<B: IvfBackend>(device: &B::Device) {
    let base = normal(50, 6, 4);
    let mut ivf = preset::<B>(device, Metric::L2, &base.range(0..3), &base);
    let mut exhaustive = flat::<B>(device, Metric::L2, &base);
    assert_eq!(
        (ivf.storage(), exhaustive.storage()),
        (Storage::Auto, Storage::Auto)
    );
    for storage in CHOICES {
        let builder = IndexIvfFlat::<B>::builder(6).nlist(3).storage(storage);
        if !is_cube::<B>(device) {
            assert_eq!(builder.build(device).unwrap().storage(), storage);
            continue;
        }
        for error in [
            refused(builder.build(device)),
            refused(ivf.set_storage(storage)),
            refused(exhaustive.set_storage(storage)),
        ] {
            assert!(matches!(error, Error::Storage { .. }), "{error}");
            assert!(error.to_string().contains("auto"), "{error}");
        }
    }
    ivf.set_storage(Storage::Auto).unwrap();
    assert_eq!((ivf.ntotal(), exhaustive.ntotal()), (50, 50));
    let mut empty = IndexFlat::<B>::new(6, Metric::L2, device).unwrap();
    empty.set_storage(Storage::Auto).unwrap();
}

/// Memory: vectors and ids and at most a tenth more, for the default storage from 16 components on
/// (a row's squared length takes 4 bytes). The log of a GPU backend may have half as much to spare.
pub fn takes_no_more_than_a_tenth_beyond_the_data<B: IvfBackend>(device: &B::Device) {
    for d in [16, 33, 64, 100, 128] {
        let base = uniform(4096, d, 6);
        let exhaustive = flat::<B>(device, Metric::L2, &base);
        let data = 4096 * (d * size_of::<f32>() + size_of::<i64>());
        let held = exhaustive.memory_info().total();
        let spare = if is_cube::<B>(device) {
            data / 2
        } else {
            data / 10
        };
        assert!(held <= data + spare, "d={d}: {held} bytes for {data}");
    }
}

/// The statistics say what ranked, in which order lists were read, and how many rows were compared
/// exactly.
pub fn statistics_name_the_path<B: IvfBackend>(device: &B::Device) {
    let base = normal(600, 32, 7);
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..20), &base);
    index.set_tuning(built_in::<B>(device));
    for (nq, order) in [(1, "query-major"), (60, "list-major")] {
        let queries = base.range(0..nq);
        let csr = search_ivf(&index, &queries, 5, &probing(4, SearchMode::Csr)).stats;
        let expected = if is_cube::<B>(device) {
            "query-major"
        } else {
            order
        };
        assert_eq!(csr.order, expected, "{nq} queries");
        assert!(!csr.filter.is_empty());
        if !is_cube::<B>(device) {
            let (reranked, scanned) = (csr.rows_reranked.unwrap(), csr.rows_scanned.unwrap());
            assert!((5 * nq as u64..=scanned).contains(&reranked), "{csr:?}");
            assert_eq!(csr.filter, "bf16 of planes");
        }
        let plan = index.explain(nq, 5, &probing(4, SearchMode::Csr)).unwrap();
        assert_eq!(plan.order.name(), expected);
        let matrix = search_ivf(&index, &queries, 5, &probing(4, SearchMode::Matrix)).stats;
        assert_eq!(
            (matrix.order.as_str(), matrix.filter.as_str()),
            ("", "f32 matrix product")
        );
    }
}

/// Many queries at once are read list by list, one query by query: the answers are the same bits, and
/// the statistics say which it was.
pub fn both_orders_give_the_same_bits<B: IvfBackend>(device: &B::Device) {
    let base = normal(4096, 64, 8);
    // 128 MiB of rows, read query by query.
    let queries = normal(256, 64, 9);
    let mut index = preset::<B>(device, Metric::L2, &base.range(0..8), &base);
    index.set_tuning(built_in::<B>(device));
    let plain = flat::<B>(device, Metric::InnerProduct, &base);
    // A flat index goes by the process's thresholds.
    let forced = backend::tuning::<B>(device).get(Knob::ListMajorFromBytes) == 0.0;
    let csr = probing(4, SearchMode::Csr);
    let many = search_ivf(&index, &queries, 10, &csr);
    let all = search_flat(&plain, &queries, 10);
    assert_eq!(
        (&*many.stats.order, &*all.stats.order),
        ("list-major", "list-major")
    );
    assert_eq!(
        index.explain(256, 10, &csr).unwrap().order.name(),
        "list-major"
    );
    for q in (0..256).step_by(17) {
        let query = queries.range(q..q + 1);
        let one = search_ivf(&index, &query, 10, &csr);
        assert_eq!(one.stats.order, "query-major");
        assert_eq!(one.row(0), many.row(q), "query {q}");
        let one = search_flat(&plain, &query, 10);
        let by_query = is_cube::<B>(device) && !forced;
        assert_eq!(one.stats.order == "query-major", by_query);
        assert_eq!(one.row(0), all.row(q), "flat, query {q}");
    }
}
