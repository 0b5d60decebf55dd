//! The readers, each as a function of bytes, and the files that mutations begin with.

use super::memory::most_held;
use burn::{backend::NdArray, tensor::Tensor};
use burn_ivf::{
    Error, FaissOptions, IndexFlat, IndexIvfFlat, Metric,
    io::{VectorFile, VectorFormat, write_ids, write_vectors},
};
use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

type B = NdArray;

/// Which readers a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Faiss,
    Npy,
    Vecs,
}

/// A sound file.
pub struct Seed {
    pub name: String,
    pub kind: Kind,
    pub bytes: Vec<u8>,
}

/// What became of a file.
pub struct Outcome {
    pub accepted: bool,
    /// Bytes held at most by any reader.
    pub held: usize,
}

/// What a reader may hold however small its file: buffers, one list's tables, an error's text.
pub const SLACK: usize = 64 << 10;

impl Outcome {
    /// Fails when a reader held more than ten times the file and [`SLACK`].
    pub fn check(&self, file: &[u8], what: &str) {
        let limit = 10 * file.len() + SLACK;
        assert!(
            self.held <= limit,
            "{what}: {} bytes held for a file of {}",
            self.held,
            file.len()
        );
    }
}

/// A folder for the readers that want a path.
pub struct Scratch {
    _folder: tempfile::TempDir,
    pub path: PathBuf,
}

impl Scratch {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        Self {
            _folder: folder,
            path,
        }
    }
}

/// Every reader for which a file may be meant.
pub fn run(scratch: &Scratch, kind: Kind, file: &[u8]) -> Outcome {
    match kind {
        Kind::Faiss => faiss(&scratch.path, file),
        Kind::Npy => vectors(file, &[VectorFormat::Npy]),
        Kind::Vecs => vectors(
            file,
            &[
                VectorFormat::Fvecs,
                VectorFormat::Bvecs,
                VectorFormat::Ivecs,
            ],
        ),
    }
}

/// A refusal must be an error about the file or what is in it.
fn checked<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(
            error @ (Error::Malformed { .. }
            | Error::Unsupported { .. }
            | Error::NonFinite { .. }
            | Error::PaddingId { .. }
            | Error::TooLarge { .. }),
        ) => {
            assert!(!error.to_string().is_empty());
            None
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn faiss(path: &Path, file: &[u8]) -> Outcome {
    let device = Default::default();
    std::fs::write(path, file).unwrap();
    let (ivf, a) = most_held(|| checked(IndexIvfFlat::<B>::read_faiss(path, &device)));
    let (flat, b) = most_held(|| checked(IndexFlat::<B>::read_faiss(path, &device)));
    let (ivf_stream, c) = most_held(|| checked(IndexIvfFlat::<B>::read_faiss_from(file, &device)));
    let (flat_stream, d) = most_held(|| checked(IndexFlat::<B>::read_faiss_from(file, &device)));
    // A stream may go on behind the index, a file may not.
    assert!(ivf.is_none() || ivf_stream.is_some());
    assert!(flat.is_none() || flat_stream.is_some());
    let accepted = ivf.is_some() || flat.is_some();
    if let Some(index) = ivf_stream {
        works(index.d(), |query| {
            if index.is_trained() {
                index.search(query, 3).unwrap();
            }
        });
        let mut out = Vec::new();
        index
            .write_faiss_to(&mut out, &FaissOptions::default())
            .unwrap();
        let again = IndexIvfFlat::<B>::read_faiss_from(&out[..], &device).unwrap();
        assert_eq!(again.list_sizes(), index.list_sizes());
    }
    if let Some(index) = flat_stream {
        works(index.d(), |query| drop(index.search(query, 3).unwrap()));
        let mut out = Vec::new();
        index.write_faiss_to(&mut out).unwrap();
        let again = IndexFlat::<B>::read_faiss_from(&out[..], &device).unwrap();
        assert_eq!(again.ntotal(), index.ntotal());
    }
    Outcome {
        accepted,
        held: a.max(b).max(c).max(d),
    }
}

/// Searches an accepted index, unless its queries would take longer than all the rest.
fn works(d: usize, search: impl FnOnce(Tensor<B, 2>)) {
    if d <= 4096 {
        search(Tensor::zeros([1, d], &Default::default()));
    }
}

fn vectors(file: &[u8], formats: &[VectorFormat]) -> Outcome {
    let mut outcome = Outcome {
        accepted: false,
        held: 0,
    };
    for &format in formats {
        let (accepted, held) = most_held(|| {
            let Some(mut file) = checked(VectorFile::from_reader(Cursor::new(file), format)) else {
                return false;
            };
            let (len, d) = (file.len(), file.d());
            assert!(d > 0);
            assert!(matches!(
                file.read_block(len, 1),
                Err(Error::IllegalValue { .. })
            ));
            assert!(matches!(
                file.read_block(usize::MAX, usize::MAX),
                Err(Error::IllegalValue { .. })
            ));
            let mut rows = 0;
            for block in file.blocks(7) {
                let Some(block) = checked(block) else {
                    return false;
                };
                rows += block.len() / d;
            }
            assert_eq!(rows, len);
            checked(file.read_ids(0, len));
            true
        });
        outcome.accepted |= accepted;
        outcome.held = outcome.held.max(held);
    }
    outcome
}

/// An inverted file of one component with `n` lists of one row each, but for every third one.
pub fn sparse_ivf(n: usize) -> Vec<u8> {
    let device = Default::default();
    let numbers: Vec<f32> = (0..n).map(|x| x as f32).collect();
    let column = |values: &[f32]| {
        Tensor::<B, 1>::from_floats(values, &device).reshape([values.len() as i32, 1])
    };
    let mut index = IndexIvfFlat::<B>::from_centroids(column(&numbers), Metric::L2).unwrap();
    let lists: Vec<u32> = (0..n as u32).filter(|l| l % 3 == 0).collect();
    let rows: Vec<f32> = lists.iter().map(|&l| l as f32).collect();
    index.add_preassigned(column(&rows), None, &lists).unwrap();
    let mut out = Vec::new();
    index
        .write_faiss_to(&mut out, &FaissOptions::default())
        .unwrap();
    out
}

/// The goldens of faiss that are read here, and small files of vectors.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/faiss");
    for name in [
        "g1",
        "g2",
        "g3",
        "g4",
        "g5",
        "g6",
        "g7",
        "g8",
        "g9",
        "flat_ip",
        "flat_empty",
        "idmap_wide",
        "sq_fp16_plain",
        "sq_bf16_residual",
    ] {
        seeds.push(Seed {
            name: name.to_owned(),
            kind: Kind::Faiss,
            bytes: std::fs::read(goldens.join(format!("{name}.faiss"))).unwrap(),
        });
    }
    seeds.push(Seed {
        name: "sparse lists".to_owned(),
        kind: Kind::Faiss,
        bytes: sparse_ivf(40),
    });
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<f32> = (0..20).map(|x| x as f32).collect();
    let ids: Vec<i64> = (0..20).collect();
    for name in ["a.npy", "b.fvecs", "c.npy", "d.ivecs"] {
        let path = folder.path().join(name);
        match name {
            "a.npy" | "b.fvecs" => write_vectors(&path, &rows, 5).unwrap(),
            _ => write_ids(&path, &ids, 5).unwrap(),
        }
        let npy = path.extension().is_some_and(|extension| extension == "npy");
        seeds.push(Seed {
            name: name.to_owned(),
            kind: if npy { Kind::Npy } else { Kind::Vecs },
            bytes: std::fs::read(&path).unwrap(),
        });
    }
    let bytes = (0..9_u8)
        .flat_map(|row| [3, 0, 0, 0, row, row, row])
        .collect();
    seeds.push(Seed {
        name: "e.bvecs".to_owned(),
        kind: Kind::Vecs,
        bytes,
    });
    seeds
}
