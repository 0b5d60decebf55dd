//! An index is a value: clones, results read late, threads, moves, and every way a tensor can lie
//! in memory.

use super::support::*;
use burn::tensor::{DType, Tensor, s};
use burn_ivf::{
    Budget, Error, FlatMode, IdSelector, Index, IndexFlat, IvfBackend, Metric, SearchMode,
};

/// Clone, add to both, search both: neither sees the other's rows.
pub fn clones_are_independent<B: IvfBackend>(device: &B::Device) {
    let (base, left, right) = (normal(80, 6, 1), normal(30, 6, 2), normal(50, 6, 3));
    let queries = normal(7, 6, 4);
    let centroids = base.range(0..6);
    let mut a = preset::<B>(device, Metric::L2, &centroids, &base);
    let mut b = a.clone();
    a.add(left.on(device)).unwrap();
    b.add(right.on(device)).unwrap();
    assert_eq!((a.ntotal(), b.ntotal()), (110, 130));
    let whole_a = preset::<B>(device, Metric::L2, &centroids, &base.then(&left));
    let whole_b = preset::<B>(device, Metric::L2, &centroids, &base.then(&right));
    let mut c = flat::<B>(device, Metric::L2, &base);
    let mut d = c.clone();
    c.add(left.on(device)).unwrap();
    d.add(right.on(device)).unwrap();
    for mode in IVF_MODES {
        let params = probing(6, mode);
        let found_a = search_ivf(&a, &queries, 20, &params);
        let found_b = search_ivf(&b, &queries, 20, &params);
        found_a.assert_same(&search_ivf(&whole_a, &queries, 20, &params), "clone a");
        found_b.assert_same(&search_ivf(&whole_b, &queries, 20, &params), "clone b");
        search_flat(&c, &queries, 20).assert_same(&found_a, "flat clone");
        search_flat(&d, &queries, 20).assert_same(&found_b, "flat clone");
    }
    let kept = b.clone();
    b.reset();
    assert_eq!((b.ntotal(), kept.ntotal()), (0, 130));
    let found = search_ivf(&kept, &queries, 20, &probing(6, SearchMode::Csr));
    found.assert_same(&search_flat(&d, &queries, 20), "reset of a clone");
}

/// A result that is read only after the index changed, or is gone, is the result of its time.
pub fn late_reads<B: IvfBackend>(device: &B::Device) {
    let (base, more, queries) = (normal(90, 5, 5), normal(200, 5, 6), normal(6, 5, 7));
    for mode in [SearchMode::Matrix, SearchMode::Csr] {
        let params = probing(4, mode);
        let mut index = preset::<B>(device, Metric::L2, &base.range(0..4), &base);
        let expected = search_ivf(&index, &queries, 10, &params);
        let early = index.search_with(queries.on(device), 10, &params).unwrap();
        index.add(more.on(device)).unwrap();
        let late = index.search_with(queries.on(device), 10, &params).unwrap();
        Answer::read(&early).assert_same(&expected, "read after an add");
        let expected = search_ivf(&index, &queries, 10, &params);
        index.reset();
        let centroids = index.centroids().unwrap();
        index.reset_all();
        drop(index);
        Answer::read(&late).assert_same(&expected, "read after the index is gone");
        assert_eq!(floats(centroids), base.range(0..4).data);
    }
    let mut plain = flat::<B>(device, Metric::InnerProduct, &base);
    for mode in [FlatMode::Matrix, FlatMode::Chunked] {
        plain.set_mode(mode);
        let expected = search_flat(&plain, &queries, 10);
        let early = plain.search(queries.on(device), 10).unwrap();
        plain.add(more.on(device)).unwrap();
        Answer::read(&early).assert_same(&expected, "flat, read after an add");
    }
}

/// The caller's tensors stay usable, and changing them later changes nothing.
pub fn inputs_are_not_kept<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(40, 5, 8), normal(4, 5, 9));
    let x = base.on::<B>(device);
    let mut index = IndexFlat::<B>::new(5, Metric::L2, device).unwrap();
    index.add(x.clone()).unwrap();
    let changed = x.mul_scalar(-3.0) + 1.0;
    assert_eq!(changed.dims(), [40, 5]);
    let expected = search_flat(&flat::<B>(device, Metric::L2, &base), &queries, 5);
    search_flat(&index, &queries, 5).assert_same(&expected, "kept its own copy");
}

/// B19: eight threads with different parameters get the serial results.
pub fn b19_eight_threads<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(400, 8, 10), normal(12, 8, 11));
    let index = preset::<B>(device, Metric::L2, &base.range(0..8), &base);
    let params = |job: usize| {
        let params = probing(1 + job, IVF_MODES[job % 3]);
        match job % 4 {
            0 => params,
            1 => params.with_selector(IdSelector::range(10..300 - 20 * job as i64)),
            2 => params.with_budget(Budget::distance_weighted(20 + job)),
            _ => params.with_safe_pruning(true).with_query_selectors(
                vec![IdSelector::All, IdSelector::range(0..90)],
                [0, 1].repeat(6),
            ),
        }
    };
    let jobs: Vec<_> = (0..8).map(|job| (3 + job, params(job))).collect();
    let serial: Vec<Answer> = jobs
        .iter()
        .map(|(k, params)| search_ivf(&index, &queries, *k, params))
        .collect();
    // One round let the queues of threads mix rarely enough to go unseen.
    let rounds = 5;
    std::thread::scope(|scope| {
        for (job, (k, params)) in jobs.iter().enumerate() {
            let (index, queries, serial) = (&index, &queries, &serial);
            scope.spawn(move || {
                for _ in 0..rounds {
                    let found = search_ivf(index, queries, *k, params);
                    found.assert_same(&serial[job], &format!("thread {job}"));
                }
            });
        }
    });
}

/// B22: a copy on a device answers the same; the source is unchanged; so does a copy on the same
/// backend by way of `to_backend`.
pub fn b22_moves<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(100, 6, 12), normal(5, 6, 13));
    let mut index = preset::<B>(device, Metric::InnerProduct, &base.range(0..5), &base);
    let ids: Vec<i64> = (0..100).map(|row| 1_000_000 - row).collect();
    index.add_with_ids(base.on(device), &ids).unwrap();
    index.set_nprobe(3).unwrap();
    let params = probing(3, SearchMode::Csr);
    let expected = search_ivf(&index, &queries, 10, &params);
    let mut moved = index.to_device(device).unwrap();
    let copied = index.to_backend::<B>(device).unwrap();
    for copy in [&moved, &copied] {
        assert_eq!(copy.ntotal(), 200);
        assert_eq!(copy.list_sizes(), index.list_sizes());
        assert_eq!((copy.nprobe(), copy.metric()), (3, Metric::InnerProduct));
        search_ivf(copy, &queries, 10, &params).assert_same(&expected, "a copy");
        for list in 0..5 {
            assert_eq!(copy.list_ids(list).unwrap(), index.list_ids(list).unwrap());
            let (a, b) = (copy.list_vectors(list), index.list_vectors(list));
            assert_eq!(floats(a.unwrap()), floats(b.unwrap()));
        }
    }
    moved.add(normal(60, 6, 14).on(device)).unwrap();
    assert_eq!((index.ntotal(), moved.ntotal()), (200, 260));
    search_ivf(&index, &queries, 10, &params).assert_same(&expected, "source unchanged");

    let plain = flat::<B>(device, Metric::L2, &base);
    let expected = search_flat(&plain, &queries, 10);
    search_flat(&plain.to_device(device).unwrap(), &queries, 10)
        .assert_same(&expected, "flat copy");
    let copied = plain.to_backend::<B>(device).unwrap();
    search_flat(&copied, &queries, 10).assert_same(&expected, "flat copy");
    // The consuming form: on the same device the index itself.
    let moved = plain.into_device(device).unwrap();
    search_flat(&moved, &queries, 10).assert_same(&expected, "flat moved");
    let expected = search_ivf(&index, &queries, 10, &params);
    let moved = index.into_device(device).unwrap();
    search_ivf(&moved, &queries, 10, &params).assert_same(&expected, "moved");
}

/// Lays rows out as a tensor in its own way.
type Layout<'a, B> = &'a dyn Fn(&Rows) -> Tensor<B, 2>;

/// J3: transposed, sliced, strided and expanded tensors are what they look like.
pub fn j3_strided_inputs<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(60, 6, 15), normal(8, 6, 16));
    let turned = |rows: &Rows| {
        let mut data = vec![0.0; rows.data.len()];
        for row in 0..rows.n() {
            for (c, &value) in rows.row(row).iter().enumerate() {
                data[c * rows.n() + row] = value;
            }
        }
        Rows::new(data, rows.n()).on::<B>(device).swap_dims(0, 1)
    };
    let framed = |rows: &Rows| {
        let n = rows.n();
        let mut frame = normal(n + 5, 11, 17);
        for row in 0..n {
            frame.row_mut(row + 2)[3..9].copy_from_slice(rows.row(row));
        }
        frame.on::<B>(device).slice([2..n + 2, 3..9])
    };
    let spaced = |rows: &Rows| {
        let mut frame = normal(2 * rows.n(), 6, 18);
        for row in 0..rows.n() {
            frame.row_mut(2 * row).copy_from_slice(rows.row(row));
        }
        frame.on::<B>(device).slice(s![..;2, ..])
    };
    let plain = flat::<B>(device, Metric::L2, &base);
    let expected = search_flat(&plain, &queries, 9);
    let layouts: [(&str, Layout<B>); 3] = [
        ("transposed", &turned),
        ("sliced", &framed),
        ("every other row", &spaced),
    ];
    for (what, layout) in layouts {
        let mut index = IndexFlat::<B>::new(6, Metric::L2, device).unwrap();
        index.add(layout(&base)).unwrap();
        let found = index.search(layout(&queries), 9).unwrap();
        Answer::read(&found).assert_same(&expected, what);
        let mut index = untrained::<B>(device, Metric::L2, 4, 6);
        index.train(layout(&base)).unwrap();
        index.add(layout(&base)).unwrap();
        for mode in IVF_MODES {
            let params = probing(4, mode);
            let found = index.search_with(layout(&queries), 9, &params).unwrap();
            Answer::read(&found).assert_same(&expected, what);
        }
    }
    // one query seen nq times
    let repeated = queries.range(0..1).on::<B>(device).expand([7, 6]);
    let found = Answer::read(&plain.search(repeated, 9).unwrap());
    (0..7).for_each(|q| assert_eq!(found.row(q), expected.row(0)));
}

/// Other float types are accepted where the backend holds them; distances are f32 all the same.
pub fn other_float_types<B: IvfBackend>(device: &B::Device) {
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        if !B::supports_dtype(device, dtype) {
            continue;
        }
        // values every type holds exactly
        let (base, queries) = (tied(70, 6, 30, 19), tied(5, 6, 30, 20));
        let mut plain = IndexFlat::<B>::new(6, Metric::L2, device).unwrap();
        plain.add(base.on_as(device, dtype)).unwrap();
        let expected = search_flat(&flat::<B>(device, Metric::L2, &base), &queries, 8);
        let found = plain.search(queries.on_as(device, dtype), 8).unwrap();
        Answer::read(&found).assert_same(&expected, &format!("{dtype:?}"));
        let mut index = untrained::<B>(device, Metric::L2, 3, 6);
        index.train(base.on_as(device, dtype)).unwrap();
        index.add(base.on_as(device, dtype)).unwrap();
        for mode in IVF_MODES {
            let params = probing(3, mode);
            let queries = queries.on_as(device, dtype);
            let found = index.search_with(queries, 8, &params).unwrap();
            Answer::read(&found).assert_same(&expected, &format!("{dtype:?}"));
        }
    }
    if B::supports_dtype(device, DType::F64) {
        // finite as f64, infinite as f32
        let huge = Tensor::<B, 2>::from_data([[1e300f64, 0.0]], (device, DType::F64));
        let mut plain = flat::<B>(device, Metric::L2, &normal(3, 2, 21));
        let error = refused(plain.add(huge.clone()));
        assert!(matches!(error, Error::NonFinite { .. }), "{error:?}");
        let found = Answer::read(&plain.search(huge, 2).unwrap());
        found.assert_padding(0, Metric::L2);
    }
}

/// Both indexes behind the trait, as a caller with either would use them.
pub fn through_the_trait<B: IvfBackend>(device: &B::Device) {
    fn fill<B: IvfBackend>(index: &mut impl Index<B>, x: &Rows, device: &B::Device) -> Answer {
        if !index.is_trained() {
            index.train(x.on(device)).unwrap();
        }
        index.add(x.on(device)).unwrap();
        let ids: Vec<i64> = (1000..1000 + x.n() as i64).collect();
        index.add_with_ids(x.on(device), &ids).unwrap();
        assert_eq!((index.d(), index.ntotal()), (x.d, 2 * x.n()));
        assert_eq!(index.metric(), Metric::L2);
        let found = Answer::read(&index.search(x.range(0..3).on(device), 4).unwrap());
        index.reset();
        assert_eq!(index.ntotal(), 0);
        found
    }
    let x = normal(50, 4, 22);
    let mut plain = IndexFlat::<B>::new(4, Metric::L2, device).unwrap();
    assert!(
        Index::<B>::is_trained(&plain),
        "a flat index needs no training"
    );
    let mut index = untrained::<B>(device, Metric::L2, 3, 4);
    index.set_nprobe(3).unwrap();
    let expected = fill::<B>(&mut plain, &x, device);
    assert_eq!(expected.row(1).1[..2], [1, 1001]);
    fill::<B>(&mut index, &x, device).assert_same(&expected, "through the trait");
}
