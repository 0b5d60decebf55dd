//! Group F: removing, replacing, giving back vectors; A20, A21, B11.
//!
//! `parts` has joining and parting, `mutation_model` runs thousands of random steps against plain lists.

use super::support::*;
use burn_ivf::{
    Error, IdSelector, IndexFlat, IndexIvfFlat, IvfBackend, Metric, Missing, SearchMode,
    SearchParams,
};
use rand::{Rng, seq::SliceRandom};

pub fn line_centroids() -> Rows {
    Rows::new(vec![0.0, 10.0, 20.0, 30.0], 1)
}

/// All ids, list by list.
pub fn all_ids<B: IvfBackend>(index: &IndexIvfFlat<B>) -> Vec<i64> {
    let lists = 0..index.nlist().unwrap();
    lists.flat_map(|l| index.list_ids(l).unwrap()).collect()
}

/// What LINE answers from all lists to a query at 0.
pub fn everything<B: IvfBackend>(index: &IndexIvfFlat<B>, k: usize) -> Vec<i64> {
    let query = Rows::new(vec![0.0], 1);
    search_ivf(index, &query, k, &probing(4, SearchMode::Auto)).i
}

/// The two indexes hold the same vectors: the same answers in every mode, at every nprobe.
#[track_caller]
pub fn assert_same_content<B: IvfBackend>(
    a: &IndexIvfFlat<B>,
    b: &IndexIvfFlat<B>,
    queries: &Rows,
    what: &str,
) {
    assert_eq!(a.ntotal(), b.ntotal(), "{what}");
    for mode in [SearchMode::Matrix, SearchMode::Csr] {
        for nprobe in [1, a.nlist().unwrap()] {
            let params = probing(nprobe, mode);
            let found = search_ivf(a, queries, 9, &params);
            found.assert_same(&search_ivf(b, queries, 9, &params), what);
        }
    }
}

/// F1: how many went, what is left, unknown ids, the same call again.
pub fn f1_remove_counts<B: IvfBackend>(device: &B::Device) {
    let mut index = line::<B>(device);
    let gone = IdSelector::batch([0, 3]);
    assert_eq!(index.remove_ids(&gone).unwrap(), 2);
    assert_eq!(index.ntotal(), 10);
    assert_eq!(index.list_sizes(), [2, 3, 5, 0]);
    assert_eq!(everything(&index, 11), [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, -1]);
    assert_eq!(index.remove_ids(&gone).unwrap(), 0);
    let unknown = IdSelector::batch([-9, 12, 1 << 40]);
    assert_eq!(index.remove_ids(&unknown).unwrap(), 0);
    assert_eq!(index.remove_ids(&IdSelector::batch([])).unwrap(), 0);
    assert_eq!(index.ntotal(), 10);
    let untrained = untrained::<B>(device, Metric::L2, 4, 1);
    let error = refused(untrained.clone().remove_ids(&gone));
    assert_eq!(error, Error::NotTrained);
    assert_eq!(refused(untrained.reconstruct(0)), Error::NotTrained);
}

/// F3: removing by every kind of selector equals building without; order within lists stays.
pub fn f3_selectors_equal_rebuild<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(300, 6, 1), normal(9, 6, 2));
    let centroids = base.range(0..7);
    let bits: Vec<u8> = (0..30).map(|i| (i * 37) as u8).collect();
    let selectors = [
        ("range", IdSelector::range(50..180)),
        ("bitmap", IdSelector::bitmap(bits.clone())),
        ("words", IdSelector::bitmap_u32(&[0xdead_beef, 7, u32::MAX])),
        ("few", IdSelector::batch([3, 299, 17, 4])),
        ("many", (0..300).filter(|id| id % 3 > 0).collect()),
        ("not", !IdSelector::range(100..110)),
        ("and", IdSelector::range(20..200) & IdSelector::bitmap(bits)),
        ("or", IdSelector::range(0..20) | IdSelector::range(280..900)),
        (
            "xor",
            IdSelector::range(0..250) ^ IdSelector::range(200..300),
        ),
        ("all", IdSelector::All),
    ];
    for metric in METRICS {
        let whole = preset::<B>(device, metric, &centroids, &base);
        let plain = flat::<B>(device, metric, &base);
        for (name, selector) in &selectors {
            let left: Vec<i64> = (0..300).filter(|&id| !selector.contains(id)).collect();
            let rows: Vec<usize> = left.iter().map(|&id| id as usize).collect();
            let mut index = whole.clone();
            assert_eq!(index.remove_ids(selector).unwrap(), 300 - left.len());
            let mut cut = plain.clone();
            assert_eq!(cut.remove_ids(selector).unwrap(), 300 - left.len());
            let mut built =
                IndexIvfFlat::<B>::from_centroids(centroids.on(device), metric).unwrap();
            let mut rebuilt = IndexFlat::<B>::new(6, metric, device).unwrap();
            if !left.is_empty() {
                let kept = base.pick(&rows);
                built.add_with_ids(kept.on(device), &left).unwrap();
                rebuilt.add_with_ids(kept.on(device), &left).unwrap();
            }
            assert_eq!(all_ids(&index), all_ids(&built), "{name}");
            assert_same_content(&index, &built, &queries, name);
            search_flat(&cut, &queries, 9).assert_same(&search_flat(&rebuilt, &queries, 9), name);
            for l in 0..7 {
                let (a, b) = (index.list_vectors(l), built.list_vectors(l));
                assert_eq!(floats(a.unwrap()), floats(b.unwrap()), "{name}, list {l}");
            }
        }
        // clones of `whole` lost rows, it did not
        assert_eq!(all_ids(&whole).len(), 300);
        let fresh = preset::<B>(device, metric, &centroids, &base);
        assert_same_content(&whole, &fresh, &queries, "the source of clones");
    }
}

/// F4: vectors by any 64-bit id, before and after removals and additions.
pub fn f4_reconstruct_any_id<B: IvfBackend>(device: &B::Device) {
    let base = normal(120, 5, 3);
    let mut rng = rng(4);
    let mut ids: Vec<i64> = (0..120)
        .map(|_| {
            let id: i64 = rng.random();
            if wide_labels::<B>(device) {
                id | 2
            } else {
                (id >> 33) | 2
            }
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let base = base.range(0..ids.len());
    ids.shuffle(&mut rng);
    let mut index =
        IndexIvfFlat::<B>::from_centroids(base.range(0..5).on(device), Metric::L2).unwrap();
    let mut plain = IndexFlat::<B>::new(5, Metric::L2, device).unwrap();
    index.add_with_ids(base.on(device), &ids).unwrap();
    plain.add_with_ids(base.on(device), &ids).unwrap();
    for round in 0..4 {
        let asked: Vec<i64> = ids.iter().rev().copied().collect();
        let rows: Vec<usize> = (0..ids.len()).rev().collect();
        let expected = base.pick(&rows[..]).data;
        // rows removed below are those whose id comes first
        let (asked, expected) = (&asked[..], &expected[..]);
        let at = (ids.len() - 20 * round) * 5;
        let n = ids.len() - 20 * round;
        let found = index.reconstruct_batch(&asked[..n]).unwrap();
        assert_eq!(found.dims(), [n, 5]);
        assert_eq!(floats(found), expected[..at], "round {round}");
        let found = plain.reconstruct_batch(&asked[..n]).unwrap();
        assert_eq!(floats(found), expected[..at], "round {round}");
        let one = index.reconstruct(ids[100 - 5 * round]).unwrap();
        assert_eq!(one.dims(), [5]);
        assert_eq!(floats(one), base.row(100 - 5 * round));
        let gone = IdSelector::batch(ids[20 * round..20 * (round + 1)].iter().copied());
        assert_eq!(index.remove_ids(&gone).unwrap(), 20);
        assert_eq!(plain.remove_ids(&gone).unwrap(), 20);
        let missing = ids[20 * round + 7];
        for error in [
            refused(index.reconstruct(missing)),
            refused(plain.reconstruct(missing)),
            refused(plain.reconstruct_batch(&[asked[0], missing])),
        ] {
            assert_eq!(error, Error::MissingId { id: missing });
            assert!(error.to_string().contains(&missing.to_string()));
        }
    }
    assert_eq!(index.reconstruct_batch(&[]).unwrap().dims(), [0, 5]);
    let mut bytes = Vec::new();
    index.write_to(&mut bytes).unwrap();
    let loaded = IndexIvfFlat::<B>::read_from(&bytes[..], device).unwrap();
    let left = &ids[80..];
    let found = loaded.reconstruct_batch(left).unwrap();
    assert_eq!(
        floats(found),
        base.range(80..ids.len()).data,
        "after saving"
    );
    let error = refused(loaded.reconstruct(ids[3]));
    assert_eq!(error, Error::MissingId { id: ids[3] });
}

/// F5: the vector moves to its new list, ntotal stays, the old vector is not to be found.
pub fn f5_update_moves<B: IvfBackend>(device: &B::Device) {
    let mut index = line::<B>(device);
    let to = Rows::new(vec![29.0], 1);
    let moved = index.update_vectors(&[4], to.on(device), Missing::Error);
    assert_eq!(moved.unwrap(), 1);
    assert_eq!(index.ntotal(), 12);
    assert_eq!(index.list_sizes(), [3, 3, 5, 1]);
    let found = search_ivf(&index, &to, 1, &probing(1, SearchMode::Auto));
    assert_eq!((found.i[0], found.d[0]), (4, 0.0));
    let old = Rows::new(vec![10.2], 1);
    let found = search_ivf(&index, &old, 1, &probing(4, SearchMode::Auto));
    assert!(found.i[0] != 4 && found.d[0] > 0.0);
    // to the end of its own list, twice the same id: the last stays
    let to = Rows::new(vec![0.15, 5.0, 0.25], 1);
    let moved = index.update_vectors(&[0, 99, 0], to.on(device), Missing::Insert);
    assert_eq!(moved.unwrap(), 1);
    assert_eq!(index.list_ids(0).unwrap(), [1, 2, 99, 0]);
    assert_eq!(floats(index.reconstruct(0).unwrap()), [0.25]);
    // missing: all or nothing
    let before = all_ids(&index);
    let two = Rows::new(vec![1.0, 2.0], 1);
    let error = refused(index.update_vectors(&[1, 55], two.on(device), Missing::Error));
    assert_eq!(error, Error::MissingId { id: 55 });
    let broken = Rows::new(vec![1.0, f32::NAN], 1);
    let error = refused(index.update_vectors(&[1, 55], broken.on(device), Missing::Insert));
    assert!(matches!(error, Error::NonFinite { .. }));
    let error = refused(index.update_vectors(&[1], two.on(device), Missing::Insert));
    assert!(matches!(error, Error::Count { .. }));
    let error = refused(index.update_vectors(&[1, -1], two.on(device), Missing::Insert));
    assert!(matches!(error, Error::PaddingId { .. }));
    assert_eq!(all_ids(&index), before);
    // all that share an id go
    let mut plain = IndexFlat::<B>::new(1, Metric::L2, device).unwrap();
    plain
        .add_with_ids(line_rows().range(0..4).on(device), &[5, 6, 5, 5])
        .unwrap();
    let moved = plain.update_vectors(&[5], Rows::new(vec![7.0], 1).on(device), Missing::Error);
    assert_eq!((moved.unwrap(), plain.ntotal()), (3, 2));
    let found = search_flat(&plain, &Rows::new(vec![7.0], 1), 3);
    assert_eq!(found.i, [5, 6, -1]);
    // an id that is inserted counts for the automatic ones
    plain.add(two.on(device)).unwrap();
    assert_eq!(search_flat(&plain, &two, 1).i, [7, 8]);
    let none = Rows::new(vec![], 1);
    assert_eq!(
        plain
            .update_vectors(&[], none.on(device), Missing::Error)
            .unwrap(),
        0
    );
}

/// F9: removing all and shrinking gives back the bytes; reserved room is used and given back.
pub fn f9_memory<B: IvfBackend>(device: &B::Device) {
    let base = normal(2000, 16, 7);
    let centroids = base.range(0..10);
    let fresh = IndexIvfFlat::<B>::from_centroids(centroids.on(device), Metric::L2).unwrap();
    let mut index = preset::<B>(device, Metric::L2, &centroids, &base);
    let full = index.memory_info();
    assert!(full.vectors >= 2000 * 64);
    index.reconstruct(3).unwrap();
    assert!(
        index.memory_info().ids > full.ids,
        "the table of ids is counted"
    );
    assert_eq!(index.remove_ids(&IdSelector::range(0..1000)).unwrap(), 1000);
    let before = index.memory_info().total();
    let given = index.shrink_to_fit().unwrap();
    let half = index.memory_info();
    assert_eq!(before - half.total(), given);
    assert!(half.vectors < full.vectors * 6 / 10, "{half:?} of {full:?}");
    assert!(half.ids < full.ids * 6 / 10, "{half:?} of {full:?}");
    assert_eq!(floats(index.reconstruct(1500).unwrap()), base.row(1500));
    assert_eq!(index.remove_ids(&IdSelector::All).unwrap(), 1000);
    index.shrink_to_fit().unwrap();
    let empty = index.memory_info();
    assert!(
        empty.total() <= fresh.memory_info().total() + 1024,
        "{empty:?}"
    );
    assert_eq!(index.shrink_to_fit().unwrap(), 0);
    index.add(base.on(device)).unwrap();
    assert_eq!(floats(index.reconstruct(3999).unwrap()), base.row(1999));

    // room for what comes: nothing more is allocated until it is there
    let mut plain = IndexFlat::<B>::new(16, Metric::L2, device).unwrap();
    plain.reserve(2000).unwrap();
    let reserved = plain.memory_info();
    assert!(reserved.vectors >= 2000 * 64, "{reserved:?}");
    for piece in 0..4 {
        plain
            .add(base.range(500 * piece..500 * (piece + 1)).on(device))
            .unwrap();
        assert_eq!(plain.memory_info(), reserved, "piece {piece}");
    }
    plain.reserve(4000).unwrap();
    let given = plain.shrink_to_fit().unwrap();
    assert!(given >= 4000 * 64, "{given}");
    let queries = base.range(0..5);
    let expected = search_flat(&flat::<B>(device, Metric::L2, &base), &queries, 4);
    search_flat(&plain, &queries, 4).assert_same(&expected, "after shrinking");
}

/// A20: what is left keeps its vectors; the next automatic id is the one after the last.
pub fn a20_automatic_ids_are_not_reused<B: IvfBackend>(device: &B::Device) {
    let base = normal(6, 3, 8);
    let mut plain = flat::<B>(device, Metric::L2, &base);
    assert_eq!(plain.remove_ids(&IdSelector::batch([1, 2])).unwrap(), 2);
    assert_eq!(search_flat(&plain, &base, 1).i[3..], [3, 4, 5]);
    let found = plain.reconstruct_batch(&[0, 3, 4, 5]).unwrap();
    assert_eq!(floats(found), base.pick(&[0, 3, 4, 5]).data);
    let more = normal(1, 3, 9);
    plain.add(more.on(device)).unwrap();
    assert_eq!(search_flat(&plain, &more, 1).i, [6]);
    // not even when nothing is left
    assert_eq!(plain.remove_ids(&IdSelector::All).unwrap(), 5);
    plain.add(more.on(device)).unwrap();
    assert_eq!(search_flat(&plain, &more, 2).i, [7, -1]);
    plain.reset();
    plain.add(more.on(device)).unwrap();
    assert_eq!(search_flat(&plain, &more, 2).i, [0, -1]);
}

/// A21: the bits that were added, by id and by range; beyond the last id is an error.
pub fn a21_reconstruct<B: IvfBackend>(device: &B::Device) {
    let mut base = normal(10, 7, 10);
    base.row_mut(4)
        .copy_from_slice(&[-0.0, 1e-30, 3e38, -7.0, 1.0 / 3.0, 0.0, 65504.0]);
    let plain = flat::<B>(device, Metric::L2, &base);
    let bits = |rows: &[f32]| rows.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for id in 0..10 {
        let found = floats(plain.reconstruct(id).unwrap());
        assert_eq!(bits(&found), bits(base.row(id as usize)));
    }
    assert_eq!(refused(plain.reconstruct(10)), Error::MissingId { id: 10 });
    let found = floats(plain.reconstruct_n(0, 10).unwrap());
    assert_eq!(bits(&found), bits(&base.data));
    assert_eq!(plain.reconstruct_n(3, 0).unwrap().dims(), [0, 7]);
    assert_eq!(
        refused(plain.reconstruct_n(8, 3)),
        Error::MissingId { id: 10 }
    );
    let error = refused(plain.reconstruct_n(i64::MAX, 3));
    assert!(matches!(error, Error::IllegalValue { .. }), "{error}");
}

/// B11: duplicates are all removed; a vector given back is the first of them.
pub fn b11_duplicates_are_removed<B: IvfBackend>(device: &B::Device) {
    let mut index =
        IndexIvfFlat::<B>::from_centroids(line_centroids().on(device), Metric::L2).unwrap();
    let rows = Rows::new(vec![20.0, 0.5, 0.25], 1);
    index.add_with_ids(rows.on(device), &[7, 7, 7]).unwrap();
    assert_eq!(everything(&index, 4), [7, 7, 7, -1]);
    assert_eq!(floats(index.reconstruct(7).unwrap()), [0.5]);
    assert_eq!(index.remove_ids(&IdSelector::batch([7])).unwrap(), 3);
    assert_eq!((index.ntotal(), everything(&index, 1)), (0, vec![-1]));
    assert_eq!(refused(index.reconstruct(7)), Error::MissingId { id: 7 });
}

/// Vectors come with the hits: those that were found even where ids are shared, NaN behind the last.
pub fn search_and_reconstruct<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let query = Rows::new(vec![0.0, 30.0], 1);
    let params = probing(1, SearchMode::Auto);
    let (hits, vectors) = index
        .search_and_reconstruct(query.on(device), 5, &params)
        .unwrap();
    assert_eq!(Answer::read(&hits).i, [0, 1, 2, -1, -1, -1, -1, -1, -1, -1]);
    assert_eq!(vectors.dims(), [2, 5, 1]);
    let found = floats(vectors);
    assert_eq!(found[..3], [0.1, 0.2, 0.3]);
    assert!(found[3..].iter().all(|v| v.is_nan()), "{found:?}");

    let any = SearchParams::default();
    let (base, queries) = (normal(90, 6, 11), normal(8, 6, 12));
    let ids: Vec<i64> = (0..90).map(|row| row % 20).collect();
    for metric in METRICS {
        let mut plain = IndexFlat::<B>::new(6, metric, device).unwrap();
        plain.add_with_ids(base.on(device), &ids).unwrap();
        let unique = flat::<B>(device, metric, &base);
        let expected = search_flat(&unique, &queries, 12);
        let (hits, vectors) = plain
            .search_and_reconstruct(queries.on(device), 12, &any)
            .unwrap();
        let found = Answer::read(&hits);
        let vectors = floats(vectors);
        for (at, &row) in expected.i.iter().enumerate() {
            assert_eq!(found.i[at], row % 20);
            assert_eq!(vectors[6 * at..6 * (at + 1)], *base.row(row as usize));
        }
    }
    let empty = IndexFlat::<B>::new(6, Metric::L2, device).unwrap();
    let (_, vectors) = empty
        .search_and_reconstruct(queries.on(device), 2, &any)
        .unwrap();
    assert_eq!(vectors.dims(), [8, 2, 6]);
    assert!(floats(vectors).iter().all(|v| v.is_nan()));
    let none = Rows::new(vec![], 6);
    let (_, vectors) = empty
        .search_and_reconstruct(none.on(device), 2, &any)
        .unwrap();
    assert_eq!(vectors.dims(), [0, 2, 6]);
}

/// Clones, and searches that are read late, see what there was.
pub fn snapshots_keep_what_they_saw<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(240, 6, 13), normal(6, 6, 14));
    let centroids = base.range(0..5);
    let params = probing(5, SearchMode::Csr);
    let mut index = preset::<B>(device, Metric::L2, &centroids, &base);
    let expected = search_ivf(&index, &queries, 10, &params);
    let clone = index.clone();
    let early = index.search_with(queries.on(device), 10, &params).unwrap();
    let rows = index.reconstruct_batch(&[7, 9]).unwrap();
    index.remove_ids(&IdSelector::range(0..100)).unwrap();
    let once = search_ivf(&index, &queries, 10, &params);
    // alone now: rows move within the buffer
    let mut alone = preset::<B>(device, Metric::L2, &centroids, &base);
    let queued = alone.search_with(queries.on(device), 10, &params).unwrap();
    alone.remove_ids(&IdSelector::range(0..50)).unwrap();
    alone.remove_ids(&IdSelector::range(30..100)).unwrap();
    search_ivf(&alone, &queries, 10, &params).assert_same(&once, "in place");
    alone.add(queries.on(device)).unwrap();
    Answer::read(&queued).assert_same(&expected, "queued before");
    Answer::read(&early).assert_same(&expected, "read late");
    assert_eq!(floats(rows), base.pick(&[7, 9]).data);
    search_ivf(&clone, &queries, 10, &params).assert_same(&expected, "clone");
    assert_eq!(floats(clone.reconstruct(7).unwrap()), base.row(7));
    assert_eq!(refused(index.reconstruct(7)), Error::MissingId { id: 7 });
}

/// Adding, removing, updating in any order equals a fresh build: ids and bits of distances.
pub fn any_order_equals_a_fresh_build<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (clustered(400, 8, 12, 0.1, 15), normal(9, 8, 16));
    let centroids = base.range(0..8);
    for metric in METRICS {
        let mut rng = rng(17);
        let mut index = IndexIvfFlat::<B>::from_centroids(centroids.on(device), metric).unwrap();
        let mut plain = IndexFlat::<B>::new(8, metric, device).unwrap();
        // what is to stay, and other vectors first under some of its ids
        let mut order: Vec<usize> = (0..400).collect();
        order.shuffle(&mut rng);
        for piece in order.chunks(57) {
            let ids: Vec<i64> = piece.iter().map(|&row| row as i64).collect();
            let wrong: Vec<usize> = piece.iter().map(|&row| 399 - row).collect();
            let extra: Vec<i64> = ids.iter().map(|id| id + 1000).collect();
            index
                .add_with_ids(base.pick(&wrong).on(device), &ids)
                .unwrap();
            plain
                .add_with_ids(base.pick(&wrong).on(device), &ids)
                .unwrap();
            index
                .add_with_ids(base.pick(piece).on(device), &extra)
                .unwrap();
            plain
                .add_with_ids(base.pick(piece).on(device), &extra)
                .unwrap();
            let some = piece.len() / 2;
            let right = base.pick(&piece[..some]);
            index
                .update_vectors(&ids[..some], right.on(device), Missing::Error)
                .unwrap();
            plain
                .update_vectors(&ids[..some], right.on(device), Missing::Error)
                .unwrap();
            let rest = IdSelector::batch(ids[some..].iter().copied());
            index
                .remove_ids(&(rest.clone() | IdSelector::range(1000..2000)))
                .unwrap();
            plain
                .remove_ids(&(rest | IdSelector::range(1000..2000)))
                .unwrap();
            index
                .add_with_ids(base.pick(&piece[some..]).on(device), &ids[some..])
                .unwrap();
            plain
                .add_with_ids(base.pick(&piece[some..]).on(device), &ids[some..])
                .unwrap();
        }
        let fresh = preset::<B>(device, metric, &centroids, &base);
        assert_same_content(&index, &fresh, &queries, "any order");
        let expected = search_flat(&flat::<B>(device, metric, &base), &queries, 9);
        search_flat(&plain, &queries, 9).assert_same(&expected, "any order, flat");
    }
}
