//! An index in a mapped file: its small sections read and checked, ids and vectors where they lie.

use super::{Settings, corrupt, format, io, open};
use crate::{backend::Map, error::Result, metric::Metric};
use core::ops::Range;
use std::path::Path;

/// Where a mapped file has what is not read when it is opened.
#[derive(Debug)]
pub(crate) struct Located<S> {
    pub d: usize,
    pub metric: Metric,
    pub settings: S,
    pub centroids: Option<Vec<f32>>,
    /// Row numbers at which lists begin, and the end; empty before training.
    pub starts: Vec<usize>,
    /// Bytes of the ids and of the vectors.
    pub ids: Range<usize>,
    pub vectors: Range<usize>,
}

/// An index in a mapped file.
#[derive(Debug)]
pub(crate) struct Mapped<S> {
    map: Map,
    pub index: Located<S>,
}

impl<S: Settings> Mapped<S> {
    /// Maps the file at `path` and reads all but ids and vectors.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, length) = open(path)?;
        let failed = |e| io(format!("mapping {}", path.display()), &e);
        if length == Some(0) {
            format::check::<S>(&[])?;
        }
        if length.is_none() || cfg!(target_endian = "big") {
            return Err(failed(std::io::ErrorKind::Unsupported.into()));
        }
        let map = Map::new(&file).map_err(failed)?;
        let mapped = Self {
            index: format::locate(map.bytes())?,
            map,
        };
        // Whether they can be seen as numbers, once for all.
        bytemuck::try_cast_slice::<u8, i64>(&mapped.map.bytes()[mapped.index.ids.clone()])
            .map_err(|e| corrupt("ids", e.to_string()))?;
        bytemuck::try_cast_slice::<u8, f32>(&mapped.map.bytes()[mapped.index.vectors.clone()])
            .map_err(|e| corrupt("vectors", e.to_string()))?;
        Ok(mapped)
    }

    /// Ids of all rows, list by list.
    pub fn ids(&self) -> &[i64] {
        bytemuck::cast_slice(&self.map.bytes()[self.index.ids.clone()])
    }

    /// All rows, row-major, list by list.
    pub fn vectors(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map.bytes()[self.index.vectors.clone()])
    }

    /// Reads the whole file and checks everything, as loading does.
    pub fn verify(&self) -> Result<()> {
        format::check::<S>(self.map.bytes())
    }
}
