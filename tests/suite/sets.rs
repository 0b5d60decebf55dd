//! Real vectors from the folder beside the repository: `../shared/data`. A set that is not there is
//! skipped with a printed reason.

use super::support::Rows;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// A set of the shared folder, or a printed reason why not.
pub fn shared(set: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data")
        .join(set);
    if folder.is_dir() {
        Some(folder)
    } else {
        super::open::say(&format!("{set} skipped, no folder {}", folder.display()));
        None
    }
}

/// Reads a matrix of any of the element types the sets use.
pub fn npy<T: Default + Copy>(path: &Path, convert: impl Fn(f64) -> T) -> (Vec<T>, usize) {
    let file = BufReader::new(File::open(path).unwrap_or_else(|e| panic!("{path:?}: {e}")));
    let npy = npyz::NpyFile::new(file).unwrap();
    let shape = npy.shape().to_vec();
    let width = shape.get(1).map_or(1, |&width| width as usize);
    let kind = npy.dtype().descr();
    let values: Vec<f64> = match kind.trim_matches('\'') {
        "<f2" => npy
            .into_vec::<half::f16>()
            .unwrap()
            .iter()
            .map(|v| v.to_f64())
            .collect(),
        "<f4" => npy
            .into_vec::<f32>()
            .unwrap()
            .iter()
            .map(|&v| v.into())
            .collect(),
        "<i4" => npy
            .into_vec::<i32>()
            .unwrap()
            .iter()
            .map(|&v| v.into())
            .collect(),
        "|u1" => npy
            .into_vec::<u8>()
            .unwrap()
            .iter()
            .map(|&v| v.into())
            .collect(),
        other => panic!("{path:?}: element type {other}"),
    };
    (values.into_iter().map(convert).collect(), width)
}

pub fn vectors(path: &Path) -> Rows {
    let (data, d) = npy(path, |v| v as f32);
    Rows::new(data, d)
}
