//! Files of version 1, read for ever: what `tests/golden_format` holds must load with this content.
//! (Writing them again may give other bytes once there are more settings.)

use super::{B, numbers, tensor};
use burn::tensor::Tensor;
use burn_ivf::{
    AutoRule, FlatMode, IndexFlat, IndexIvfFlat, KMeansInit, KMeansParams, Metric, SearchMode,
    Storage,
};
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden_format");
    PathBuf::from(folder).join(name)
}

const IDS: [i64; 6] = [1 << 40, -7, 0, i64::MAX - 1, 12, -(1 << 50)];

fn flat_index() -> IndexFlat<B> {
    let mut index = IndexFlat::new(5, Metric::InnerProduct, &Default::default()).unwrap();
    index.set_mode(FlatMode::Matrix);
    index.set_auto_matrix_bytes_threshold(77_777).unwrap();
    index.set_workspace_limit(99_999).unwrap();
    index.set_storage(Storage::Copy).unwrap();
    index
        .add_with_ids(tensor(numbers(6, 5, 1), 5), &IDS)
        .unwrap();
    index
}

fn ivf_index() -> IndexIvfFlat<B> {
    let centroids = tensor(numbers(4, 3, 2), 3);
    let mut index = IndexIvfFlat::from_centroids(centroids, Metric::L2).unwrap();
    index.set_nprobe(2).unwrap();
    index.set_mode(SearchMode::Matrix);
    let rule = AutoRule::TorchIvf {
        avg_group_threshold: 0.1,
    };
    index.set_auto_rule(rule).unwrap();
    index.set_workspace_limit(70_000).unwrap();
    index.set_storage(Storage::F32).unwrap();
    let x = tensor(numbers(6, 3, 3), 3);
    index
        .add_preassigned(x, Some(&IDS), &[3, 0, 3, 3, 1, 0])
        .unwrap();
    index
}

fn half_index(storage: Storage) -> IndexFlat<B> {
    let mut index = IndexFlat::new(5, Metric::L2, &Default::default()).unwrap();
    index.set_storage(storage).unwrap();
    index
        .add_with_ids(tensor(numbers(6, 5, 7), 5), &IDS)
        .unwrap();
    index
}

const HALVES: [(Storage, &str); 2] = [
    (Storage::F16, "v1_f16.index"),
    (Storage::Bf16, "v1_bf16.index"),
];

fn untrained_kmeans() -> KMeansParams {
    KMeansParams {
        niter: 3,
        nredo: 2,
        seed: u64::MAX - 1,
        tol: 0.1,
        max_points_per_centroid: 100,
        min_points_per_centroid: 7,
        spherical: Some(false),
        init: KMeansInit::KMeansPlusPlus,
        init_centroids: Some(numbers(2, 4, 4)),
        weights: Some(vec![0.5, f32::MIN_POSITIVE, 3.0]),
    }
}

fn untrained_index() -> IndexIvfFlat<B> {
    let builder = IndexIvfFlat::builder(4).nlist(2).kmeans(untrained_kmeans());
    builder
        .metric(Metric::InnerProduct)
        .build(&Default::default())
        .unwrap()
}

#[test]
fn flat_of_version_1() {
    let index = IndexFlat::<B>::load(path("v1_flat.index"), &Default::default()).unwrap();
    assert_eq!(
        (index.d(), index.metric(), index.ntotal()),
        (5, Metric::InnerProduct, 6)
    );
    assert_eq!(
        (index.mode(), index.storage()),
        (FlatMode::Matrix, Storage::Copy)
    );
    assert_eq!(index.auto_matrix_bytes_threshold(), 77_777);
    assert_eq!(index.workspace_limit(), 99_999);
    let queries = tensor(numbers(3, 5, 9), 5);
    let expected = flat_index().search(queries.clone(), 6).unwrap().to_vecs();
    assert_eq!(index.search(queries, 6).unwrap().to_vecs(), expected);
}

#[test]
fn halves_of_version_1() {
    for (storage, name) in HALVES {
        let index = IndexFlat::<B>::load(path(name), &Default::default()).unwrap();
        assert_eq!((index.storage(), index.ntotal()), (storage, 6));
        for (row, id) in numbers(6, 5, 7).chunks(5).zip(IDS) {
            let nearest = |x: &f32| match storage {
                Storage::F16 => half::f16::from_f32(*x).to_f32(),
                _ => half::bf16::from_f32(*x).to_f32(),
            };
            let found = index.reconstruct(id).unwrap().into_data();
            let expected: Vec<f32> = row.iter().map(nearest).collect();
            assert_eq!(found.into_vec::<f32>().unwrap(), expected, "{storage}");
        }
    }
}

#[test]
fn ivf_of_version_1() {
    let mut index = IndexIvfFlat::<B>::load(path("v1_ivf.index"), &Default::default()).unwrap();
    assert_eq!(
        (index.d(), index.metric(), index.ntotal()),
        (3, Metric::L2, 6)
    );
    assert_eq!((index.nlist(), index.nprobe()), (Some(4), 2));
    assert_eq!(
        (index.mode(), index.storage()),
        (SearchMode::Matrix, Storage::F32)
    );
    assert_eq!(
        index.auto_rule(),
        AutoRule::TorchIvf {
            avg_group_threshold: 0.1
        }
    );
    assert_eq!(index.workspace_limit(), 70_000);
    let vec = |t: Tensor<B, 2>| t.into_data().into_vec::<f32>().unwrap();
    assert_eq!(vec(index.centroids().unwrap()), numbers(4, 3, 2));
    let rows = numbers(6, 3, 3);
    for (l, members) in [vec![1, 5], vec![4], vec![], vec![0, 2, 3]]
        .into_iter()
        .enumerate()
    {
        let ids: Vec<i64> = members.iter().map(|&i| IDS[i]).collect();
        assert_eq!(index.list_ids(l).unwrap(), ids);
        let values: Vec<f32> = members
            .iter()
            .flat_map(|&i| rows[i * 3..][..3].to_vec())
            .collect();
        assert_eq!(vec(index.list_vectors(l).unwrap()), values);
    }
    // the next automatic id is above the largest ever held
    index.add(tensor(numbers(1, 3, 5), 3)).unwrap_err();
    index.reset();
    index.add(tensor(numbers(1, 3, 5), 3)).unwrap();
}

#[test]
fn untrained_of_version_1() {
    let device = Default::default();
    let mut index = IndexIvfFlat::<B>::load(path("v1_untrained.index"), &device).unwrap();
    assert_eq!(
        (index.d(), index.metric(), index.ntotal()),
        (4, Metric::InnerProduct, 0)
    );
    assert_eq!((index.nlist(), index.is_trained()), (Some(2), false));
    let x = tensor(numbers(3, 4, 6), 4);
    assert_eq!(
        index.train(x.clone()).unwrap(),
        untrained_index().train(x).unwrap()
    );
}

/// Writes the files, those that are not there; run once, then committed.
#[test]
#[ignore = "writes the golden files"]
fn write_goldens() {
    let absent = |name: &str| Some(path(name)).filter(|path| !path.exists());
    if let Some(path) = absent("v1_flat.index") {
        flat_index().save(path).unwrap();
    }
    if let Some(path) = absent("v1_ivf.index") {
        ivf_index().save(path).unwrap();
    }
    for (storage, name) in HALVES {
        if let Some(path) = absent(name) {
            half_index(storage).save(path).unwrap();
        }
    }
    if let Some(path) = absent("v1_untrained.index") {
        untrained_index().save(path).unwrap();
    }
}
