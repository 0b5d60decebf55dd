//! Hard numbers: far from the origin, huge, tiny, denormal, zero, and mixtures of them.

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{FlatMode, IvfBackend, Metric, SearchMode};

/// The flat index in both modes and the IVF index in all, each against the oracle, bit-equal.
fn everywhere<B: IvfBackend>(
    device: &B::Device,
    metric: Metric,
    base: &Rows,
    queries: &Rows,
    k: usize,
    what: &str,
) -> Answer {
    let mut plain = flat::<B>(device, metric, base);
    plain.set_mode(FlatMode::Matrix);
    let expected = search_flat(&plain, queries, k);
    Oracle::new(metric, base).check(queries, &expected, what);
    plain.set_mode(FlatMode::Chunked);
    search_flat(&plain, queries, k).assert_same(&expected, what);
    let lists = 4.min(base.n());
    let index = preset::<B>(device, metric, &base.range(0..lists), base);
    for mode in IVF_MODES {
        search_ivf(&index, queries, k, &probing(lists, mode)).assert_same(&expected, what);
    }
    expected
}

/// D10: +1000 on every coordinate; every row still finds itself first.
pub fn far_from_origin<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 2000, 300);
    let nq = sized::<B>(device, 2000, 60);
    for (offset, sigma) in [(1000.0, 1.0), (-1e6, 8.0)] {
        let base = normal(n, 128, 1).map(|v| sigma * v + offset);
        let queries = base.range(0..nq);
        let mut plain = flat::<B>(device, Metric::L2, &base);
        for mode in [FlatMode::Matrix, FlatMode::Chunked] {
            plain.set_mode(mode);
            let found = search_flat(&plain, &queries, 3);
            let right = (0..nq).filter(|&q| found.row(q).1[0] == q as i64).count();
            assert_eq!(right, nq, "offset {offset}, {mode}");
            assert!((0..nq).all(|q| found.row(q).0[0] == 0.0));
        }
        let few = queries.range(0..20);
        let index = trained::<B>(device, Metric::L2, 8, &base);
        let oracle = Oracle::new(Metric::L2, &base);
        oracle.check(&few, &search_flat(&plain, &few, 10), "far from the origin");
        for mode in IVF_MODES {
            // its own list is the nearest: the coarse step must not lose it either
            let found = search_ivf(&index, &queries, 1, &probing(1, mode));
            let right = (0..nq).filter(|&q| found.i[q] == q as i64).count();
            assert_eq!(right, nq, "offset {offset}, {mode}, one probe");
            let found = search_ivf(&index, &few, 10, &probing(8, mode));
            oracle.check(&few, &found, "far from the origin");
        }
    }
}

/// One far coordinate, and data whose offset changes between adds.
pub fn moving_offsets<B: IvfBackend>(device: &B::Device) {
    let near = normal(120, 16, 2);
    let far = normal(120, 16, 3).map(|v| v + 5e4);
    let mut lopsided = normal(120, 16, 4);
    (0..120).for_each(|row| lopsided.row_mut(row)[7] += 1e5);
    let base = near.then(&far).then(&lopsided);
    let queries = base.pick(&[3, 100, 130, 239, 240, 359]);
    let found = everywhere::<B>(device, Metric::L2, &base, &queries, 12, "moving offsets");
    assert_eq!(found.row(2).1[0], 130);
    let mut index = preset::<B>(device, Metric::L2, &base.pick(&[0, 130, 250]), &near);
    index.add(far.on(device)).unwrap();
    index.add(lopsided.on(device)).unwrap();
    for mode in IVF_MODES {
        let pieces = search_ivf(&index, &queries, 12, &probing(3, mode));
        pieces.assert_same(&found, "offsets that change between adds");
    }
}

/// Distances that overflow are hits, in the order of their ids, before any padding.
pub fn overflowing_distances<B: IvfBackend>(device: &B::Device) {
    let base = Rows::of(&[
        &[3e38, 0.0],
        &[1.0, 2.0],
        &[-3e38, 3e38],
        &[1e19, 0.0],
        &[0.0, 0.0],
        &[2e19, 2e19],
    ]);
    let queries = Rows::of(&[&[0.0, 0.0], &[1.0, 1.0], &[-3e38, -3e38]]);
    let found = everywhere::<B>(device, Metric::L2, &base, &queries, 9, "overflow");
    // 1e19 squared is 1e38, a number; the others overflow
    assert_eq!(found.row(0).1, [4, 1, 3, 0, 2, 5, -1, -1, -1]);
    assert!(found.row(0).0[3..].iter().all(|&d| d == f32::INFINITY));
    assert_eq!(found.row(2).1, [0, 1, 2, 3, 4, 5, -1, -1, -1]);

    let queries = Rows::of(&[&[1e10, 0.0], &[-1e10, 0.0], &[1.0, 0.0]]);
    let found = everywhere::<B>(device, Metric::InnerProduct, &base, &queries, 9, "overflow");
    assert_eq!(found.row(0).1, [0, 5, 3, 1, 4, 2, -1, -1, -1]);
    assert_eq!(found.row(0).0[0], f32::INFINITY);
    let (d, i) = found.row(0);
    assert_eq!((d[5], i[5]), (f32::NEG_INFINITY, 2), "a hit at -inf");
}

/// Large magnitudes with room to spare, among ordinary rows: the ordinary ones keep their order.
pub fn huge_rows_among_small<B: IvfBackend>(device: &B::Device) {
    let mut base = normal(150, 8, 5);
    for (row, value) in [(10, 1e18), (20, -3e18), (30, 1e15), (40, -1e12), (50, 2e17)] {
        base.row_mut(row).fill(value);
    }
    let queries = base.pick(&[0, 7, 149, 10, 30]);
    for metric in METRICS {
        everywhere::<B>(device, metric, &base, &queries, 20, "huge among small");
    }
    // rows at the end of the range: sums over them overflow, the ordinary rows must not suffer
    for row in [5, 15, 25] {
        base.row_mut(row).fill(f32::MAX);
        base.row_mut(row + 1).fill(-f32::MAX);
    }
    let queries = base.pick(&[0, 7, 149]);
    let found = everywhere::<B>(device, Metric::L2, &base, &queries, 60, "maximal rows");
    assert_eq!(found.row(1).1[0], 7);
    assert_eq!(found.row(1).0[0], 0.0);
}

/// Numbers so small that their products vanish.
pub fn tiny_values<B: IvfBackend>(device: &B::Device) {
    let denormal = normal(60, 6, 6).map(|v| v * 1e-40);
    let small = normal(60, 6, 7).map(|v| v * 1e-17);
    let base = denormal.then(&small);
    let queries = base.pick(&[0, 70]).then(&normal(2, 6, 8));
    let flushed = is_cube::<B>(device);
    for metric in METRICS {
        let index = flat::<B>(device, metric, &base);
        let found = search_flat(&index, &queries, 30);
        // a GPU may flush denormals to zero, which the oracle's floor allows for
        Oracle::new(metric, &base).check(&queries, &found, "tiny values");
    }
    let scaled = normal(60, 6, 9).map(|v| v * 1e-12);
    let queries = scaled.range(0..4);
    everywhere::<B>(device, Metric::L2, &scaled, &queries, 10, "small values");
    if !flushed {
        everywhere::<B>(
            device,
            Metric::InnerProduct,
            &base,
            &queries,
            10,
            "tiny values",
        );
    }
}

/// Zero vectors as rows, as queries, as everything; negative zero is zero.
pub fn zero_vectors<B: IvfBackend>(device: &B::Device) {
    let mut base = normal(40, 5, 10);
    for row in [0, 3, 17, 39] {
        base.row_mut(row).fill(0.0);
    }
    base.row_mut(25).fill(-0.0);
    let queries = Rows::new(vec![0.0; 5], 5)
        .then(&Rows::new(vec![-0.0; 5], 5))
        .then(&normal(3, 5, 11));
    let found = everywhere::<B>(device, Metric::L2, &base, &queries, 10, "zeros");
    for q in [0, 1] {
        assert_eq!(found.row(q).1[..5], [0, 3, 17, 25, 39], "query {q}");
        assert!(found.row(q).0[..5].iter().all(|&d| d == 0.0));
    }
    let found = everywhere::<B>(device, Metric::InnerProduct, &base, &queries, 10, "zeros");
    let first: Vec<i64> = (0..10).collect();
    assert_eq!(found.row(0).1, first, "every score is 0");
    assert!(found.row(0).0.iter().all(|&d| d == 0.0));
    let nothing = Rows::new(vec![0.0; 50], 5);
    let index = trained::<B>(device, Metric::L2, 3, &nothing);
    let found = search_ivf(&index, &queries, 4, &probing(3, SearchMode::Csr));
    assert_eq!(found.row(4).1, [0, 1, 2, 3]);
}

/// Inner products whose partial sums overflow with both signs are still numbers.
pub fn cancelling_scores<B: IvfBackend>(device: &B::Device) {
    let mut base = normal(30, 4, 12);
    for (row, value) in [(4, 3e38f32), (9, 2e38), (11, 3e37)] {
        base.row_mut(row)
            .copy_from_slice(&[value, -value, value, -value]);
    }
    let queries = Rows::of(&[
        &[3e38, 3e38, 3e38, 3e38],
        &[1.0, 1.0, 0.0, 0.0],
        &[1e10, 1e10, 1e-3, 1e-3],
    ]);
    let what = "cancelling scores";
    let found = everywhere::<B>(device, Metric::InnerProduct, &base, &queries, 30, what);
    assert!(found.d.iter().all(|score| !score.is_nan()));
}

/// Near-duplicates that a ranking by norms would confuse: the exact re-rank decides.
pub fn near_duplicates<B: IvfBackend>(device: &B::Device) {
    let centre = normal(1, 32, 14).map(|v| v * 50.0);
    let noise = normal(sized::<B>(device, 1500, 250), 32, 15);
    let mut base = noise.clone();
    for row in 0..base.n() {
        let values = base.row_mut(row).iter_mut().zip(centre.row(0));
        values.for_each(|(v, c)| *v = c + *v * 1e-3);
    }
    let queries = base.pick(&[0, 9, 99, 200]);
    let found = everywhere::<B>(device, Metric::L2, &base, &queries, 25, "near duplicates");
    assert_eq!(found.row(2).1[0], 99);
    assert_eq!(found.row(2).0[0], 0.0);
}
