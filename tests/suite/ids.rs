//! Ids: 64 bits, given or automatic, duplicate, negative, extreme; -1 is the padding value.

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{Error, IndexFlat, IndexIvfFlat, IvfBackend, Metric, SearchMode};
use rand::Rng;

fn empty_pair<B: IvfBackend>(
    device: &B::Device,
    metric: Metric,
    centroids: &Rows,
) -> (IndexFlat<B>, IndexIvfFlat<B>) {
    (
        IndexFlat::new(centroids.d, metric, device).unwrap(),
        IndexIvfFlat::from_centroids(centroids.on(device), metric).unwrap(),
    )
}

/// Checks both indexes, in every mode, against the oracle.
fn check<B: IvfBackend>(
    (plain, index): (&mut IndexFlat<B>, &IndexIvfFlat<B>),
    oracle: &Oracle,
    queries: &Rows,
    k: usize,
) {
    let nlist = index.nlist().unwrap();
    for mode in FLAT_MODES {
        plain.set_mode(mode);
        oracle.check(queries, &search_flat(plain, queries, k), "flat ids");
    }
    for mode in IVF_MODES {
        let found = search_ivf(index, queries, k, &probing(nlist, mode));
        oracle.check(queries, &found, "ivf ids");
    }
}

/// B10: random 64-bit ids come back whole; a device without 64-bit labels refuses them.
pub fn b10_random_wide_ids<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(200, 6, 1), normal(7, 6, 2));
    let mut rng = rng(3);
    let mut ids: Vec<i64> = (0..198)
        .map(|_| rng.random_range(0..1_000_000_000_000))
        .collect();
    ids.extend([i64::MIN, i64::MAX]);
    for metric in METRICS {
        let (mut plain, mut index) = empty_pair::<B>(device, metric, &base.range(0..5));
        let added = plain.add_with_ids(base.on(device), &ids);
        let also = index.add_with_ids(base.on(device), &ids);
        if wide_labels::<B>(device) {
            added.and(also).unwrap();
            let oracle = Oracle::with_ids(metric, &base, ids.clone());
            check((&mut plain, &index), &oracle, &queries, 200);
        } else {
            for error in [refused(added), refused(also)] {
                assert!(matches!(error, Error::IdOutOfRange { .. }), "{error:?}");
            }
            assert_eq!((plain.ntotal(), index.ntotal()), (0, 0));
        }
    }
}

/// Ids in no order, equal rows among them: ties still ascend by id, not by insertion.
pub fn ties_follow_ids_not_insertion<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (tied(160, 4, 2, 4), tied(6, 4, 2, 5));
    let ids: Vec<i64> = (0..160).map(|row| (row * 97 + 13) % 160 - 40).collect();
    let ids: Vec<i64> = ids
        .iter()
        .map(|&id| if id == -1 { 777 } else { id })
        .collect();
    for metric in METRICS {
        let (mut plain, mut index) = empty_pair::<B>(device, metric, &normal(6, 4, 6));
        for piece in [0..50, 50..51, 51..160] {
            let x = base.range(piece.clone());
            plain
                .add_with_ids(x.on(device), &ids[piece.clone()])
                .unwrap();
            index.add_with_ids(x.on(device), &ids[piece]).unwrap();
        }
        let oracle = Oracle::with_ids(metric, &base, ids.clone());
        check((&mut plain, &index), &oracle, &queries, 30);
    }
}

/// B11: the same id may be given more than once.
pub fn b11_duplicate_ids<B: IvfBackend>(device: &B::Device) {
    let base = Rows::of(&[&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0], &[1.0, 0.0]]);
    let (mut plain, mut index) = empty_pair::<B>(device, Metric::L2, &normal(2, 2, 7));
    plain.add_with_ids(base.on(device), &[7, 7, 7, 5]).unwrap();
    index.add_with_ids(base.on(device), &[7, 7, 7, 5]).unwrap();
    let query = Rows::of(&[&[1.0, 0.0]]);
    for mode in IVF_MODES {
        let found = search_ivf(&index, &query, 5, &probing(2, mode));
        assert_eq!(found.i, [5, 7, 7, 7, -1], "{mode}");
        assert_eq!(found.d, [0.0, 0.0, 1.0, 2.0, f32::INFINITY], "{mode}");
        search_flat(&plain, &query, 5).assert_same(&found, "duplicate ids");
    }
    assert_eq!(index.ntotal(), 4);
}

/// B12: id -1 is refused, whatever surrounds it; other negative ids are fine.
pub fn b12_padding_id_is_refused<B: IvfBackend>(device: &B::Device) {
    let base = normal(4, 3, 8);
    let (mut plain, mut index) = empty_pair::<B>(device, Metric::L2, &normal(2, 3, 9));
    for error in [
        refused(plain.add_with_ids(base.on(device), &[4, 3, -1, 2])),
        refused(index.add_with_ids(base.on(device), &[4, 3, -1, 2])),
    ] {
        assert!(matches!(error, Error::PaddingId { row: 2 }), "{error:?}");
    }
    assert_eq!((plain.ntotal(), index.ntotal()), (0, 0));
    let ids = vec![-2, -3, 0, -2_000_000_000];
    plain.add_with_ids(base.on(device), &ids).unwrap();
    index.add_with_ids(base.on(device), &ids).unwrap();
    let oracle = Oracle::with_ids(Metric::L2, &base, ids);
    check((&mut plain, &index), &oracle, &base, 4);
}

/// Automatic ids continue where explicit ones do not reach, and restart after a reset.
pub fn automatic_ids<B: IvfBackend>(device: &B::Device) {
    let base = normal(12, 3, 10);
    let (mut plain, mut index) = empty_pair::<B>(device, Metric::L2, &normal(3, 3, 11));
    for piece in [0..5, 5..12] {
        plain.add(base.range(piece.clone()).on(device)).unwrap();
        index.add(base.range(piece).on(device)).unwrap();
    }
    let oracle = Oracle::new(Metric::L2, &base);
    check((&mut plain, &index), &oracle, &base, 12);
    // an automatic id never repeats one that was given before
    let (mut plain, mut index) = empty_pair::<B>(device, Metric::L2, &normal(3, 3, 11));
    plain
        .add_with_ids(base.range(0..2).on(device), &[0, 1])
        .unwrap();
    plain.add(base.range(2..4).on(device)).unwrap();
    index
        .add_with_ids(base.range(0..2).on(device), &[0, 1])
        .unwrap();
    index.add(base.range(2..4).on(device)).unwrap();
    let mut found = search_flat(&plain, &base.range(0..1), 4).i;
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3]);
    let mut found = search_ivf(&index, &base.range(0..1), 4, &probing(3, SearchMode::Auto)).i;
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3]);
}

/// After the largest id there is no next one; explicit ids still work.
pub fn automatic_ids_run_out<B: IvfBackend>(device: &B::Device) {
    let base = normal(4, 3, 12);
    let (mut plain, mut index) = empty_pair::<B>(device, Metric::L2, &normal(3, 3, 11));
    let last = if wide_labels::<B>(device) {
        i64::MAX
    } else {
        i64::from(i32::MAX)
    };
    let one = base.range(0..1);
    plain.add_with_ids(one.on(device), &[last]).unwrap();
    index.add_with_ids(one.on(device), &[last]).unwrap();
    refused(plain.add(one.on(device)));
    refused(index.add(one.on(device)));
    refused(index.add_preassigned(one.on(device), None, &[0]));
    assert_eq!((plain.ntotal(), index.ntotal()), (1, 1));
    let rest = base.range(1..4);
    plain.add_with_ids(rest.on(device), &[1, 2, 3]).unwrap();
    index.add_with_ids(rest.on(device), &[1, 2, 3]).unwrap();
    let oracle = Oracle::with_ids(Metric::L2, &base, vec![last, 1, 2, 3]);
    check((&mut plain, &index), &oracle, &base, 4);
}
