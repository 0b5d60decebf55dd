//! Group F: two indexes become one, a part of an index becomes one.

use super::mutation::{all_ids, assert_same_content, everything};
use super::support::*;
use burn_ivf::{Error, IndexFlat, IndexIvfFlat, IvfBackend, Metric, Subset};

/// F6: one index out of two halves, ids moved; the other is empty and usable.
pub fn f6_merge<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(200, 9, 5), normal(7, 9, 6));
    let centroids = base.range(0..6);
    for metric in METRICS {
        for cut in [0, 1, 90, 200] {
            let mut halves = [0..cut, cut..200].map(|rows| {
                let mut index =
                    IndexIvfFlat::<B>::from_centroids(centroids.on(device), metric).unwrap();
                if !rows.is_empty() {
                    index.add(base.range(rows).on(device)).unwrap();
                }
                index
            });
            let [first, second] = &mut halves;
            let kept = second.clone();
            first.merge_from(second, cut as i64).unwrap();
            assert_eq!((first.ntotal(), second.ntotal()), (200, 0));
            let whole = preset::<B>(device, metric, &centroids, &base);
            assert_eq!(all_ids(first), all_ids(&whole));
            assert_same_content(first, &whole, &queries, "merged");
            assert_eq!(floats(first.reconstruct(150).unwrap()), base.row(150));
            assert_eq!(kept.ntotal(), 200 - cut);
            // both go on
            second.add(queries.on(device)).unwrap();
            first.add(queries.on(device)).unwrap();
            let next = (200 - cut) as i64;
            let mut ids = all_ids(second);
            ids.sort_unstable();
            assert_eq!(ids, (next..next + 7).collect::<Vec<_>>());
            assert_eq!(floats(first.reconstruct(203).unwrap()), queries.row(3));
        }
    }
    let (mut a, mut b) = (
        flat::<B>(device, Metric::L2, &base.range(0..80)),
        flat::<B>(device, Metric::L2, &base.range(80..200)),
    );
    a.merge_from(&mut b, 80).unwrap();
    let whole = flat::<B>(device, Metric::L2, &base);
    search_flat(&a, &queries, 9).assert_same(&search_flat(&whole, &queries, 9), "flat");
    assert_eq!((a.ntotal(), b.ntotal()), (200, 0));
    // ids that come in no order, and shared ones
    let mut c = flat::<B>(device, Metric::L2, &base.range(0..3));
    let mut d = IndexFlat::<B>::new(9, Metric::L2, device).unwrap();
    d.add_with_ids(base.range(3..6).on(device), &[7, -5, 0])
        .unwrap();
    c.merge_from(&mut d, 1).unwrap();
    let found = search_flat(&c, &base.range(0..6), 1);
    assert_eq!(found.i, [0, 1, 2, 8, -4, 1]);
}

/// F6: what cannot be merged is refused, and both stay as they are.
pub fn f6_merge_refused<B: IvfBackend>(device: &B::Device) {
    let base = line_rows();
    let other = |centroids: &[f32], metric| {
        preset::<B>(device, metric, &Rows::new(centroids.to_vec(), 1), &base)
    };
    let mut index = line::<B>(device);
    let mut wide = preset::<B>(device, Metric::L2, &normal(4, 2, 1), &normal(5, 2, 2));
    let mut different = [
        (
            "centroid",
            other(&[0.0, 10.0, 20.0, 30.000_002], Metric::L2),
        ),
        ("centroid", other(&[-0.0, 10.0, 20.0, 30.0], Metric::L2)),
        ("nlist", other(&[0.0, 10.0, 20.0], Metric::L2)),
        (
            "metric",
            other(&[0.0, 10.0, 20.0, 30.0], Metric::InnerProduct),
        ),
    ];
    let error = refused(index.merge_from(&mut wide, 12));
    assert!(
        matches!(error, Error::Unlike { what: "d =", .. }),
        "{error}"
    );
    for (what, other) in &mut different {
        let error = refused(index.merge_from(other, 12));
        assert!(error.to_string().contains(*what), "{error}");
        assert_eq!((index.ntotal(), other.ntotal()), (12, 12));
    }
    let mut twin = line::<B>(device);
    let add_id = i64::MAX - 5;
    let error = refused(index.merge_from(&mut twin, add_id));
    if wide_labels::<B>(device) {
        assert_eq!(error, Error::IdOverflow { id: 6, add_id });
    } else {
        assert!(
            matches!(error, Error::IdOutOfRange { row: 0, .. }),
            "{error}"
        );
    }
    let error = refused(index.merge_from(&mut twin, -4));
    assert_eq!(error, Error::PaddingId { row: 3 });
    if !wide_labels::<B>(device) {
        let error = refused(index.merge_from(&mut twin, i64::from(i32::MAX) - 3));
        assert!(matches!(error, Error::IdOutOfRange { .. }), "{error}");
    }
    let mut raw = untrained::<B>(device, Metric::L2, 4, 1);
    assert_eq!(refused(index.merge_from(&mut raw, 0)), Error::NotTrained);
    assert_eq!(all_ids(&index), (0..12).collect::<Vec<_>>());
    assert_eq!(all_ids(&twin), all_ids(&index));
}

/// F7: parts of LINE; the ids of every type are those faiss-cpu 1.15.1 gives.
pub fn f7_copy_subset<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let reversed = (9, 2);
    let modulo = |modulus, remainder| Subset::IdModulo { modulus, remainder };
    let cases = [
        (Subset::Ids(2..5), vec![2, 3, 4]),
        (modulo(3, 1), vec![1, 4, 7, 10]),
        (Subset::Elements(2..7), vec![0, 4, 5, 8, 9]),
        (Subset::Elements(0..12), (0..12).collect()),
        (Subset::Elements(5..6), vec![4]),
        (
            Subset::Elements(1..11),
            vec![0, 1, 3, 4, 5, 6, 8, 9, 10, 11],
        ),
        (Subset::Fraction { of: 2, part: 0 }, vec![0, 3, 4, 7, 8]),
        (
            Subset::Fraction { of: 2, part: 1 },
            vec![1, 2, 5, 6, 9, 10, 11],
        ),
        (Subset::Fraction { of: 3, part: 1 }, vec![1, 4, 8, 9]),
        (Subset::Lists(0..2), (0..7).collect()),
        (Subset::Lists(3..4), vec![]),
        (Subset::Ids(reversed.0..reversed.1), vec![]),
    ];
    for (subset, ids) in cases {
        let part = index.copy_subset(&subset).unwrap();
        assert_eq!(all_ids(&part), ids, "{subset:?}");
        assert_eq!(part.ntotal(), ids.len());
        let mut expected = ids.clone();
        expected.resize(13, -1);
        assert_eq!(everything(&part, 13), expected, "{subset:?}");
        assert_eq!(
            (part.nlist(), part.nprobe()),
            (index.nlist(), index.nprobe())
        );
    }
    assert_eq!(index.ntotal(), 12);
    // parts put together again, in any order, are the whole
    let mut whole = index.copy_subset(&modulo(3, 2)).unwrap();
    for part in [0, 1] {
        let mut part = index.copy_subset(&modulo(3, part)).unwrap();
        whole.merge_from(&mut part, 0).unwrap();
    }
    assert_eq!(everything(&whole, 12), everything(&index, 12));
    whole.add(Rows::new(vec![3.0], 1).on(device)).unwrap();
    assert_eq!(floats(whole.reconstruct(12).unwrap()), [3.0]);
    // negative ids are in one part each
    let mut plain = IndexFlat::<B>::new(1, Metric::L2, device).unwrap();
    plain
        .add_with_ids(line_rows().range(0..4).on(device), &[-5, -3, 0, 4])
        .unwrap();
    let sizes = [0, 1, 2].map(|r| plain.copy_subset(&modulo(3, r)).unwrap().ntotal());
    assert_eq!(sizes, [2, 2, 0]);
    for wrong in [
        modulo(0, 0),
        modulo(-3, 0),
        modulo(3, 3),
        modulo(3, -1),
        Subset::Elements(3..13),
        Subset::Elements(reversed.0 as usize..reversed.1 as usize),
        Subset::Fraction { of: 0, part: 0 },
        Subset::Fraction { of: 2, part: 2 },
        Subset::Lists(2..5),
    ] {
        let error = refused(index.copy_subset(&wrong));
        assert!(
            matches!(error, Error::IllegalValue { .. }),
            "{wrong:?}: {error}"
        );
    }
}
