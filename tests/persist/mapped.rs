//! Searching in a mapped file: the answers of the loaded index, bit for bit.

use super::{B, bytes, flat, ivf, numbers, tensor};
use burn_ivf::{Error, IndexFlat, IndexIvfFlat, Metric};
use std::fs;

fn bits(result: &burn_ivf::SearchResult<B>) -> (Vec<u32>, Vec<i64>) {
    let (distances, labels) = result.to_vecs();
    (distances.iter().map(|v| v.to_bits()).collect(), labels)
}

#[test]
fn answers_are_those_of_the_loaded_index() {
    let folder = tempfile::tempdir().unwrap();
    for (n, d, nlist) in [(2000, 16, 20), (900, 33, 7), (50, 1, 3)] {
        let path = folder.path().join("a");
        let mut index = ivf(n, d, nlist, 3);
        index.save(&path).unwrap();
        let mut mapped = IndexIvfFlat::<B>::load_mmap(&path, &Default::default()).unwrap();
        mapped.verify().unwrap();
        assert_eq!((mapped.d(), mapped.ntotal(), mapped.nlist()), (d, n, nlist));
        assert_eq!((mapped.metric(), mapped.nprobe()), (Metric::L2, 3));
        for (nq, k, nprobe) in [(1, 1, 1), (40, 12, 3), (7, 3000, nlist), (0, 4, 2)] {
            let mut queries = numbers(nq, d, 4);
            if nq > 5 {
                queries[2 * d] = f32::NAN;
            }
            index.set_nprobe(nprobe).unwrap();
            mapped.set_nprobe(nprobe).unwrap();
            let found = mapped.search(tensor(queries.clone(), d), k).unwrap();
            let expected = index.search(tensor(queries, d), k).unwrap();
            assert_eq!(bits(&found), bits(&expected), "{n} {d} {nq} {k} {nprobe}");
            let counts = |s: &burn_ivf::SearchStats| (s.rows_scanned, s.lists_scanned);
            if nq > 0 {
                assert_eq!(counts(&found.stats), counts(&expected.stats));
            }
        }
        assert_eq!(mapped.set_nprobe(0), Err(Error::ZeroNprobe));
        // saving onto a mapped file leaves the map as it was
        let queries = tensor(numbers(5, d, 5), d);
        let before = bits(&mapped.search(queries.clone(), 5).unwrap());
        ivf(30, d, 2, 9).save(&path).unwrap();
        assert_eq!(bits(&mapped.search(queries, 5).unwrap()), before);
    }
}

#[test]
fn flat_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for metric in [Metric::L2, Metric::InnerProduct] {
        let mut index = IndexFlat::<B>::new(24, metric, &Default::default()).unwrap();
        let ids: Vec<i64> = (0..3000)
            .map(|i| (i * 7919) % 5000 - 2000 - i64::from(i == 0))
            .collect();
        let ids: Vec<i64> = ids
            .into_iter()
            .map(|id| if id == -1 { 1 << 40 } else { id })
            .collect();
        index
            .add_with_ids(tensor(numbers(3000, 24, 6), 24), &ids)
            .unwrap();
        index.save(&path).unwrap();
        let mapped = IndexFlat::<B>::load_mmap(&path, &Default::default()).unwrap();
        mapped.verify().unwrap();
        assert_eq!(
            (mapped.nlist(), mapped.nprobe(), mapped.ntotal()),
            (1, 1, 3000)
        );
        let queries = tensor(numbers(17, 24, 7), 24);
        let found = mapped.search(queries.clone(), 50).unwrap();
        assert_eq!(
            bits(&found),
            bits(&index.search(queries, 50).unwrap()),
            "{metric}"
        );
        let wrong = mapped.search(tensor(numbers(1, 23, 1), 23), 1).map(drop);
        assert!(matches!(wrong, Err(Error::DimensionMismatch { .. })));
        assert_eq!(
            mapped.search(tensor(numbers(1, 24, 1), 24), 0).map(drop),
            Err(Error::ZeroK)
        );
    }
}

#[test]
fn damage_is_found_by_verify() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut file = bytes!(flat(100, 16, 1));
    let last = file.len() - 200;
    file[last] ^= 1;
    fs::write(&path, &file).unwrap();
    let mapped = IndexFlat::<B>::load_mmap(&path, &Default::default()).unwrap();
    assert!(matches!(mapped.verify(), Err(Error::Checksum { .. })));
    mapped.search(tensor(numbers(3, 16, 1), 16), 100).unwrap();
    let open = |path| IndexFlat::<B>::load_mmap(path, &Default::default()).map(drop);
    fs::write(&path, &file[..file.len() - 1]).unwrap();
    assert!(matches!(open(&path), Err(Error::Truncated { .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(open(&path), Err(Error::NotAnIndex { .. })));
    ivf(30, 4, 2, 1).save(&path).unwrap();
    assert!(matches!(open(&path), Err(Error::WrongKind { .. })));
    // a limit is refused rather than passed over
    let mut limited = ivf(30, 4, 2, 1);
    limited.set_max_codes(5);
    limited.save(&path).unwrap();
    let refused = IndexIvfFlat::<B>::load_mmap(&path, &Default::default()).map(drop);
    assert!(matches!(refused, Err(Error::IllegalValue { .. })));
    // an untrained index can be opened, not searched
    let untrained = IndexIvfFlat::<B>::builder(4)
        .build(&Default::default())
        .unwrap();
    untrained.save(&path).unwrap();
    let mapped = IndexIvfFlat::<B>::load_mmap(&path, &Default::default()).unwrap();
    assert_eq!((mapped.nlist(), mapped.ntotal()), (0, 0));
    let queries = tensor(numbers(1, 4, 1), 4);
    assert_eq!(mapped.search(queries, 1).map(drop), Err(Error::NotTrained));
}
