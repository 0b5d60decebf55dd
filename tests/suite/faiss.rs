//! Files of faiss: the goldens G1 to G9 of its release 1.15.1 are read and written again byte for
//! byte; everything else a file may hold is refused by name.
//!
//! `tests/goldens/faiss` holds the files. G1 to G9 were specified; the others were written by
//! faiss-cpu 1.15.1 for what their names say.

use super::support::{Rows, assert_names, floats, normal, refused, trained, uniform, wide_labels};
use burn_ivf::{
    DirectMap, Error, FaissOptions, IndexFlat, IndexIvfFlat, IvfBackend, Metric, SearchMode,
};
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/faiss");
    goldens.join(format!("{name}.faiss"))
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn ivf<B: IvfBackend>(name: &str, device: &B::Device) -> IndexIvfFlat<B> {
    let index = IndexIvfFlat::read_faiss(path(name), device).unwrap();
    let streamed = IndexIvfFlat::<B>::read_faiss_from(&bytes(name)[..], device).unwrap();
    assert_eq!(
        content(&index),
        content(&streamed),
        "{name}: file and stream"
    );
    index
}

fn flat<B: IvfBackend>(name: &str, device: &B::Device) -> IndexFlat<B> {
    let index = IndexFlat::read_faiss(path(name), device).unwrap();
    let streamed = IndexFlat::<B>::read_faiss_from(&bytes(name)[..], device).unwrap();
    assert_eq!(
        written_flat(&index),
        written_flat(&streamed),
        "{name}: file and stream"
    );
    index
}

/// Every list's ids and vectors.
fn content<B: IvfBackend>(index: &IndexIvfFlat<B>) -> Vec<(Vec<i64>, Vec<f32>)> {
    (0..index.list_sizes().len())
        .map(|l| {
            let vectors = floats(index.list_vectors(l).unwrap());
            (index.list_ids(l).unwrap(), vectors)
        })
        .collect()
}

fn written<B: IvfBackend>(index: &IndexIvfFlat<B>, map: DirectMap) -> Vec<u8> {
    let mut out = Vec::new();
    let options = FaissOptions::default().with_direct_map(map);
    index.write_faiss_to(&mut out, &options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    index.write_faiss_with(&path, &options).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), out, "file and stream");
    out
}

fn written_flat<B: IvfBackend>(index: &IndexFlat<B>) -> Vec<u8> {
    let mut out = Vec::new();
    index.write_faiss_to(&mut out).unwrap();
    out
}

pub fn g1_full_lists<B: IvfBackend>(device: &B::Device) {
    let index = ivf::<B>("g1", device);
    assert_eq!(
        (index.d(), index.metric(), index.ntotal()),
        (2, Metric::L2, 3)
    );
    assert_eq!((index.nlist(), index.nprobe()), (Some(3), 2));
    let centroids = floats(index.centroids().unwrap());
    assert_eq!(centroids, [0.0, 0.0, 10.0, 0.0, 20.0, 0.0]);
    let lists = [
        (vec![100, 300], vec![1.0, 2.0, 0.0, 5.0]),
        (vec![200], vec![11.0, 3.0]),
        (vec![], vec![]),
    ];
    assert_eq!(content(&index), lists);
    assert_eq!(written(&index, DirectMap::None), bytes("g1"));
    let query = Rows::of(&[&[1.0, 2.0]]);
    let hits = index.search(query.on(device), 3).unwrap().to_vecs();
    assert_eq!(hits, (vec![0.0, 10.0, 101.0], vec![100, 300, 200]));
}

pub fn g2_sparse_lists<B: IvfBackend>(device: &B::Device) {
    let index = ivf::<B>("g2", device);
    assert_eq!((index.nprobe(), index.list_sizes()), (1, vec![1, 0, 0]));
    assert_eq!(written(&index, DirectMap::None), bytes("g2"));
    // the same index made here
    let centroids = Rows::new(vec![0.0, 0.0, 10.0, 0.0, 20.0, 0.0], 2);
    let mut made = IndexIvfFlat::<B>::from_centroids(centroids.on(device), Metric::L2).unwrap();
    made.set_nprobe(1).unwrap();
    made.add(Rows::of(&[&[1.0, 2.0]]).on(device)).unwrap();
    assert_eq!(written(&made, DirectMap::None), bytes("g2"));
}

pub fn g3_g4_h5_direct_maps<B: IvfBackend>(device: &B::Device) {
    for (name, map, id) in [
        ("g3", DirectMap::Array, 0),
        ("g4", DirectMap::Hashtable, 77),
    ] {
        let mut index = ivf::<B>(name, device);
        let plain = vec![
            (vec![id], vec![1.0, 2.0]),
            (vec![], vec![]),
            (vec![], vec![]),
        ];
        assert_eq!(content(&index), plain);
        assert_eq!(written(&index, map), bytes(name));
        assert_eq!(floats(index.reconstruct(id).unwrap()), [1.0, 2.0]);
        // automatic ids go on after the largest
        index.add(Rows::of(&[&[9.0, 0.0]]).on(device)).unwrap();
        assert_eq!(index.list_ids(1).unwrap(), [id + 1]);
    }
    let index = ivf::<B>("g4", device);
    let array = FaissOptions::default().with_direct_map(DirectMap::Array);
    let error = refused(index.write_faiss_to(Vec::new(), &array));
    assert_names(&error, &[77, 1]);
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

pub fn g5_inner_product<B: IvfBackend>(device: &B::Device) {
    let index = ivf::<B>("g5", device);
    assert_eq!(index.metric(), Metric::InnerProduct);
    let lists = [(vec![0], vec![3.0, 1.0]), (vec![1], vec![1.0, 3.0])];
    assert_eq!(content(&index), lists);
    assert_eq!(written(&index, DirectMap::None), bytes("g5"));
}

pub fn g6_h8_untrained<B: IvfBackend>(device: &B::Device) {
    let mut index = ivf::<B>("g6", device);
    assert!(!index.is_trained());
    assert_eq!((index.d(), index.nlist(), index.nprobe()), (2, Some(3), 1));
    for map in [DirectMap::None, DirectMap::Array, DirectMap::Hashtable] {
        let out = written(&index, map);
        if map == DirectMap::None {
            assert_eq!(out, bytes("g6"));
        }
        let again = IndexIvfFlat::<B>::read_faiss_from(&out[..], device).unwrap();
        assert!(!again.is_trained());
        assert_eq!(written(&again, map), out);
    }
    // it can be trained
    index.train(uniform(30, 2, 1).on(device)).unwrap();
    assert_eq!(index.list_sizes().len(), 3);
    // nlist must be known
    let open = IndexIvfFlat::<B>::builder(2).build(device).unwrap();
    let error = refused(open.write_faiss_to(Vec::new(), &FaissOptions::default()));
    assert!(error.to_string().contains("nlist"), "{error}");
}

pub fn g7_flat<B: IvfBackend>(device: &B::Device) {
    let index = flat::<B>("g7", device);
    assert_eq!(
        (index.d(), index.metric(), index.ntotal()),
        (2, Metric::L2, 1)
    );
    assert_eq!(written_flat(&index), bytes("g7"));
    for name in ["flat_ip", "flat_empty"] {
        let index = flat::<B>(name, device);
        assert_eq!(written_flat(&index), bytes(name), "{name}");
    }
    assert_eq!(flat::<B>("flat_ip", device).metric(), Metric::InnerProduct);
    // IndexFlat with L2 says what IndexFlatL2 says, and is written as that
    let index = flat::<B>("flat_generic_l2", device);
    let query = Rows::of(&[&[9.0, 0.0]]);
    let hits = index.search(query.on(device), 3).unwrap().to_vecs();
    assert_eq!(hits.1, [1, 0, -1]);
}

pub fn g8_h6_id_map<B: IvfBackend>(device: &B::Device) {
    let index = flat::<B>("g8", device);
    assert_eq!(written_flat(&index), bytes("g8"));
    let query = Rows::of(&[&[1.0, 1.0]]);
    let hits = index.search(query.on(device), 1).unwrap().to_vecs();
    assert_eq!(hits, (vec![0.0], vec![9]));
    // B10: ids of 64 bits stay what they are, or are refused where labels have 32
    if wide_labels::<B>(device) {
        let index = flat::<B>("idmap_wide", device);
        let query = Rows::of(&[&[1.0, 0.0]]);
        let hits = index.search(query.on(device), 2).unwrap().to_vecs();
        assert_eq!(hits.1, [-5, 1 << 40]);
        // the wrapper is written as IDMap2
        let mut expected = bytes("idmap_wide");
        expected[..4].copy_from_slice(b"IxM2");
        assert_eq!(written_flat(&index), expected);
    } else {
        let error = refused(IndexFlat::<B>::read_faiss(path("idmap_wide"), device));
        assert_eq!(
            error,
            Error::IdOutOfRange {
                row: 0,
                id: 1 << 40
            }
        );
    }
}

pub fn g9_h6_scalar_quantizers<B: IvfBackend>(device: &B::Device) {
    let index = ivf::<B>("g9", device);
    assert_eq!(content(&index), [(vec![0], vec![1.0, 2.0])]);
    let lists = [(vec![5], vec![1.0, 2.0]), (vec![6], vec![11.0, 3.0])];
    for name in ["sq_fp16_plain", "sq_bf16_residual"] {
        assert_eq!(content(&ivf::<B>(name, device)), lists, "{name}");
    }
    // an older file says nothing of residuals, which it always has
    let mut old = bytes("g9");
    old[..4].copy_from_slice(b"IwSQ");
    let flag = old.windows(4).position(|four| four == b"ilar").unwrap() - 1;
    assert_eq!(old.remove(flag), 1);
    let index = IndexIvfFlat::<B>::read_faiss_from(&old[..], device).unwrap();
    assert_eq!(content(&index), [(vec![0], vec![1.0, 2.0])]);
}

/// Metrics beyond L2 and inner product: read, searched as an index of the same vectors, written again byte
/// for byte; NaN where the metric accepts it.
pub fn other_metrics<B: IvfBackend>(device: &B::Device) {
    for (name, metric) in [
        ("flat_l1", Metric::L1),
        ("flat_linf", Metric::Linf),
        ("flat_lp3", Metric::Lp(3.0)),
        ("flat_canberra", Metric::Canberra),
        ("flat_bray_curtis", Metric::BrayCurtis),
        ("flat_jensen_shannon", Metric::JensenShannon),
        ("flat_jaccard", Metric::Jaccard),
        ("flat_nan_euclidean", Metric::NanEuclidean),
        ("flat_gower", Metric::Gower),
    ] {
        let index = flat::<B>(name, device);
        assert_eq!(index.metric(), metric, "{name}");
        assert_eq!(written_flat(&index), bytes(name), "{name}");
        let (n, d) = (index.ntotal(), index.d());
        let rows = Rows::new(floats(index.reconstruct_n(0, n).unwrap()), d);
        let hits = index.search(rows.on(device), 1).unwrap().to_vecs();
        let mut own = IndexFlat::<B>::new(d, metric, device).unwrap();
        own.add(rows.on(device)).unwrap();
        assert_eq!(own.search(rows.on(device), 1).unwrap().to_vecs(), hits);
    }
    for (name, metric) in [("ivf_l1", Metric::L1), ("ivf_linf", Metric::Linf)] {
        let index = ivf::<B>(name, device);
        assert_eq!(
            (index.metric(), index.nprobe(), index.ntotal()),
            (metric, 2, 4)
        );
        assert_eq!(written(&index, DirectMap::None), bytes(name), "{name}");
        let row = Rows::new(floats(index.reconstruct(9).unwrap()), 2);
        let hits = index.search(row.on(device), 1).unwrap().to_vecs();
        assert_eq!(hits, (vec![0.0], vec![9]));
    }
    let mut broken = bytes("flat_lp3");
    let at = broken
        .windows(4)
        .position(|four| four == 3.0_f32.to_le_bytes())
        .unwrap();
    broken[at..at + 4].copy_from_slice(&(-1.0_f32).to_le_bytes());
    let error = refused(IndexFlat::<B>::read_faiss_from(&broken[..], device));
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    let cosine = IndexFlat::<B>::new(2, Metric::Cosine, device).unwrap();
    let error = refused(cosine.write_faiss_to(Vec::new()));
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// ntotal may count rows with NaN, which no list holds; in a flat file they stand, and are refused.
pub fn rows_with_nan<B: IvfBackend>(device: &B::Device) {
    let index = ivf::<B>("ivf_nan", device);
    assert_eq!((index.ntotal(), index.list_sizes()), (2, vec![1, 1]));
    let error = refused(IndexFlat::<B>::read_faiss(path("flat_nan"), device));
    let (row, count) = (1, 1);
    assert!(
        matches!(error, Error::NonFinite { row: r, count: c, .. } if (r, c) == (row, count)),
        "{error}"
    );
}

pub fn other_types_are_refused_by_name<B: IvfBackend>(device: &B::Device) {
    let named = |error: Error, words: &[&str]| {
        let text = error.to_string();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        for word in words {
            assert!(text.contains(word), "{text:?} does not name {word}");
        }
    };
    for (name, words) in [
        ("ivfpq", &["IwPQ", "IndexIVFPQ", "IwFl"][..]),
        ("pretransform", &["IxPT", "IndexPreTransform"]),
        ("hnsw", &["IHNf", "IndexHNSWFlat"]),
        ("ivf_hnsw_quantizer", &["IHNf", "coarse quantizer"]),
        ("sq_8bit", &["IwSq", "8bit", "fp16"]),
        ("ivf_canberra", &["canberra", "linf"]),
        ("g7", &["IxF2", "IndexFlat::read_faiss"]),
    ] {
        named(
            refused(IndexIvfFlat::<B>::read_faiss(path(name), device)),
            words,
        );
    }
    for (name, words) in [
        ("ivfpq", &["IwPQ", "IxF2"][..]),
        ("idmap_ivf", &["IxMp", "IwFl", "IndexIVFFlat"]),
        ("g1", &["IwFl", "IndexIvfFlat::read_faiss"]),
    ] {
        named(
            refused(IndexFlat::<B>::read_faiss(path(name), device)),
            words,
        );
    }
    let mut legacy = bytes("g1");
    for letters in [
        *b"IvFL",
        *b"IvFl",
        *b"IvPQ",
        *b"IvSQ",
        *b"Xxxx",
        *b"\0\xff\"\n",
    ] {
        legacy[..4].copy_from_slice(&letters);
        let error = refused(IndexIvfFlat::<B>::read_faiss_from(&legacy[..], device));
        let known = letters[0] == b'I';
        let word = if known { "legacy" } else { "unknown type" };
        named(error, &[&letters.escape_ascii().to_string(), word]);
    }
    let mut missing = bytes("g1");
    let at = missing.windows(4).position(|four| four == b"ilar").unwrap();
    missing[at..at + 4].copy_from_slice(b"il00");
    let error = refused(IndexIvfFlat::<B>::read_faiss_from(&missing[..], device));
    named(error, &["il00"]);
    missing[at..at + 4].copy_from_slice(b"ilod");
    let error = refused(IndexIvfFlat::<B>::read_faiss_from(&missing[..], device));
    named(error, &["ilod"]);
}

/// Figures that cannot be true, at their offsets in G1.
pub fn figures_are_checked<B: IvfBackend>(device: &B::Device) {
    let whole = bytes("g1");
    let with = |at: usize, value: &[u8]| {
        let mut file = whole.clone();
        file[at..at + value.len()].copy_from_slice(value);
        file
    };
    let find = |letters: &[u8]| whole.windows(4).position(|four| four == letters).unwrap();
    let (quantizer, lists) = (find(b"IxF2"), find(b"ilar"));
    let folder = tempfile::tempdir().unwrap();
    let huge = u64::MAX.to_le_bytes();
    for (what, file) in [
        ("d = 0", with(4, &0_i32.to_le_bytes())),
        ("d < 0", with(4, &(-2_i32).to_le_bytes())),
        ("d too large", with(4, &(1_i32 << 21).to_le_bytes())),
        ("d of another quantizer", with(4, &4_i32.to_le_bytes())),
        ("ntotal < 0", with(8, &(-1_i64).to_le_bytes())),
        ("ntotal below the lists", with(8, &2_i64.to_le_bytes())),
        ("is_trained", with(32, &[2])),
        ("no such metric", with(33, &7_i32.to_le_bytes())),
        ("nlist = 0", with(37, &0_u64.to_le_bytes())),
        ("nlist of another quantizer", with(37, &4_u64.to_le_bytes())),
        ("nlist huge", with(37, &huge)),
        ("nprobe = 0", with(45, &0_u64.to_le_bytes())),
        (
            "metric of the quantizer",
            with(quantizer + 33, &0_i32.to_le_bytes()),
        ),
        ("count of centroids", with(quantizer + 37, &huge)),
        ("type of the direct map", with(lists - 9, &[3])),
        ("array without a map", with(lists - 8, &1_u64.to_le_bytes())),
        ("array beyond the file", with(lists - 8, &huge)),
        ("lists", with(lists + 4, &2_u64.to_le_bytes())),
        ("code size", with(lists + 12, &12_u64.to_le_bytes())),
        ("kind of sizes", with(lists + 20, b"both")),
        ("count of sizes", with(lists + 24, &2_u64.to_le_bytes())),
        ("size of a list", with(lists + 32, &3_u64.to_le_bytes())),
        ("size of a list, huge", with(lists + 32, &huge)),
        ("bytes that follow", [&whole[..], &[0]].concat()),
    ] {
        let path = folder.path().join("broken");
        std::fs::write(&path, &file).unwrap();
        let error = refused(IndexIvfFlat::<B>::read_faiss(&path, device));
        let typed = matches!(error, Error::Malformed { .. } | Error::Unsupported { .. });
        assert!(
            typed && error.to_string().contains("broken"),
            "{what}: {error}"
        );
        if what != "bytes that follow" {
            refused(IndexIvfFlat::<B>::read_faiss_from(&file[..], device));
        }
    }
    let id = whole.len() - 8;
    let error = refused(IndexIvfFlat::<B>::read_faiss_from(
        &with(id, &huge)[..],
        device,
    ));
    assert_eq!(error, Error::PaddingId { row: 2 });
    let nan = with(id - 8, &f32::NAN.to_le_bytes());
    let error = refused(IndexIvfFlat::<B>::read_faiss_from(&nan[..], device));
    assert!(
        matches!(
            error,
            Error::NonFinite {
                row: 2,
                count: 1,
                ..
            }
        ),
        "{error}"
    );
    let nan = with(quantizer + 45 + 12, &f32::INFINITY.to_le_bytes());
    let error = refused(IndexIvfFlat::<B>::read_faiss_from(&nan[..], device));
    assert!(
        matches!(
            error,
            Error::NonFinite {
                row: 1,
                count: 1,
                ..
            }
        ),
        "{error}"
    );
    // a stream is left where the index ends
    let two = [&whole[..], &whole[..]].concat();
    let mut rest = &two[..];
    IndexIvfFlat::<B>::read_faiss_from(&mut rest, device).unwrap();
    assert_eq!(rest.len(), whole.len());
}

/// Every truncation of every golden is an error of the file.
pub fn truncations_are_refused<B: IvfBackend>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9"] {
        let whole = bytes(name);
        for len in 0..whole.len() {
            let cut = &whole[..len];
            let path = folder.path().join("cut");
            std::fs::write(&path, cut).unwrap();
            let errors = if ["g7", "g8"].contains(&name) {
                [
                    refused(IndexFlat::<B>::read_faiss(&path, device)),
                    refused(IndexFlat::<B>::read_faiss_from(cut, device)),
                ]
            } else {
                [
                    refused(IndexIvfFlat::<B>::read_faiss(&path, device)),
                    refused(IndexIvfFlat::<B>::read_faiss_from(cut, device)),
                ]
            };
            for error in errors {
                assert!(
                    matches!(error, Error::Malformed { .. }),
                    "{name} {len}: {error}"
                );
            }
        }
    }
}

/// Searches after a round trip are bit-equal, for lists and flat vectors larger than a piece.
pub fn round_trips_are_exact<B: IvfBackend>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    for (metric, n, d, nlist) in [
        (Metric::L2, 600, 24, 8),
        (Metric::InnerProduct, 300, 7, 5),
        // a piece is 256 of these rows, so one list spans three
        (Metric::L2, 700, 4096, 1),
    ] {
        let base = normal(n, d, 3);
        let queries = normal(9, d, 4);
        let mut index = trained::<B>(device, metric, nlist, &base);
        index.set_nprobe(3).unwrap();
        let path = folder.path().join("ivf");
        index.write_faiss(&path).unwrap();
        let again = IndexIvfFlat::<B>::read_faiss(&path, device).unwrap();
        assert_eq!(again.nprobe(), index.nprobe());
        assert_eq!(content(&again), content(&index));
        let streamed = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let streamed = IndexIvfFlat::<B>::read_faiss_from(streamed, device).unwrap();
        assert_eq!(content(&streamed), content(&index));
        for mode in [SearchMode::Csr, SearchMode::Matrix] {
            let params = super::support::probing(3, mode);
            let found = super::support::search_ivf(&again, &queries, 10, &params);
            let expected = super::support::search_ivf(&index, &queries, 10, &params);
            found.assert_same(&expected, "after a round trip");
        }

        let ids: Vec<i64> = (0..n as i64).map(|i| (i * 37) % 1009 - 200).collect();
        let ids: Vec<i64> = ids
            .iter()
            .map(|&id| if id == -1 { 5000 } else { id })
            .collect();
        for ids in [(0..n as i64).collect(), ids] {
            let mut index = IndexFlat::<B>::new(d, metric, device).unwrap();
            index.add_with_ids(base.on(device), &ids).unwrap();
            index.write_faiss(&path).unwrap();
            let again = IndexFlat::<B>::read_faiss(&path, device).unwrap();
            let found = super::support::search_flat(&again, &queries, 10);
            let expected = super::support::search_flat(&index, &queries, 10);
            found.assert_same(&expected, "after a round trip");
            let file = std::fs::read(&path).unwrap();
            let streamed = IndexFlat::<B>::read_faiss_from(&file[..], device).unwrap();
            assert_eq!(written_flat(&streamed), file);
        }
    }
}

/// Duplicate ids: the last place stands in a hash table, all rows stay.
pub fn duplicate_ids_travel<B: IvfBackend>(device: &B::Device) {
    let centroids = Rows::new(vec![0.0, 10.0], 1);
    let mut index = IndexIvfFlat::<B>::from_centroids(centroids.on(device), Metric::L2).unwrap();
    let rows = Rows::new(vec![1.0, 11.0, 2.0], 1);
    index.add_with_ids(rows.on(device), &[4, 4, 9]).unwrap();
    let out = written(&index, DirectMap::Hashtable);
    let lists = out.windows(4).position(|four| four == b"ilar").unwrap();
    let words: Vec<i64> = out[lists - 40..lists]
        .chunks(8)
        .map(|eight| i64::from_le_bytes(eight.try_into().unwrap()))
        .collect();
    assert_eq!(words, [2, 4, 1 << 32, 9, 1]);
    let again = IndexIvfFlat::<B>::read_faiss_from(&out[..], device).unwrap();
    assert_eq!(content(&again), content(&index));
}

/// A write that fails leaves the old file, and nothing beside it.
pub fn failed_writes_change_nothing<B: IvfBackend>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let old = ivf::<B>("g1", device);
    old.write_faiss(&path).unwrap();
    let array = FaissOptions::default().with_direct_map(DirectMap::Array);
    refused(old.write_faiss_with(&path, &array));
    assert_eq!(std::fs::read(&path).unwrap(), bytes("g1"));
    let missing = folder.path().join("no such folder").join("index");
    for error in [
        refused(old.write_faiss(&missing)),
        refused(IndexIvfFlat::<B>::read_faiss(&missing, device)),
        refused(IndexIvfFlat::<B>::read_faiss(folder.path(), device)),
    ] {
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    // a new file replaces the old one, a link is followed
    let other = ivf::<B>("g2", device);
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        other.write_faiss(&link).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&path).unwrap(), bytes("g2"));
    }
    #[cfg(not(unix))]
    other.write_faiss(&path).unwrap();
    // a stream that is full
    let mut little = [0_u8; 100];
    let error = refused(old.write_faiss_to(&mut little[..], &FaissOptions::default()));
    assert!(
        matches!(
            error,
            Error::Io {
                kind: std::io::ErrorKind::WriteZero,
                ..
            }
        ),
        "{error}"
    );
}
