//! Indexes and vectors in files: our own format, those of others, and how a file is replaced.
//!
//! This layer knows lists, settings and bytes, not the indexes themselves: `index/saving.rs` takes an
//! index apart into a [`Saved`] and puts one together from a [`Loaded`]. `docs/format.md` describes
//! the bytes. [`faiss`] reads and writes faiss's files, [`readers`]
//! (public as `burn_ivf::io`) plain vectors; both take numbers from a [`source::Source`],
//! which believes no figure of a file before it has seen that there are bytes for it.

mod atomic;
mod element;
pub(crate) mod faiss;
mod format;
mod mapped;
mod pump;
pub mod readers;
mod runs;
pub(crate) mod sink;
pub(crate) mod source;

pub(crate) use atomic::save;
pub(crate) use format::{check, read, write};
pub(crate) use mapped::Mapped;

use crate::{
    backend::IvfBackend,
    cluster::KMeansParams,
    error::{Error, Result},
    lists::InvertedLists,
    metric::Metric,
    params::{DEFAULT_WORKSPACE, FlatMode, IvfSettings, NanPolicy, Storage, is_default},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::Path;

/// The kinds of index a file can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Flat,
    IvfFlat,
}

impl Kind {
    /// The name of its type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "IndexFlat",
            Self::IvfFlat => "IndexIvfFlat",
        }
    }
}

/// Settings as a file holds them: JSON in which fields may be missing (they get their defaults) and
/// unknown ones are passed over.
pub(crate) trait Settings: Serialize + DeserializeOwned {
    const KIND: Kind;

    /// How a CPU stores the vectors.
    fn storage(&self) -> Storage;
}

/// Settings of a flat index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FlatSettings {
    pub mode: FlatMode,
    pub auto_matrix_bytes_threshold: usize,
    pub workspace: usize,
    pub storage: Storage,
    #[serde(skip_serializing_if = "is_default")]
    pub nan_policy: NanPolicy,
}

impl Default for FlatSettings {
    fn default() -> Self {
        Self {
            mode: FlatMode::Auto,
            auto_matrix_bytes_threshold: DEFAULT_WORKSPACE,
            workspace: DEFAULT_WORKSPACE,
            storage: Storage::Auto,
            nan_policy: NanPolicy::Error,
        }
    }
}

impl Settings for FlatSettings {
    const KIND: Kind = Kind::Flat;

    fn storage(&self) -> Storage {
        self.storage
    }
}

/// Settings of an inverted file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IvfFileSettings {
    /// Lists asked for; `None` leaves it to `train`.
    pub nlist: Option<usize>,
    pub search: IvfSettings,
    /// Without the two arrays, which have sections of their own.
    pub kmeans: KMeansParams,
}

impl Settings for IvfFileSettings {
    const KIND: Kind = Kind::IvfFlat;

    fn storage(&self) -> Storage {
        self.search.storage
    }
}

/// An index taken apart, to be written.
#[derive(Debug)]
pub(crate) struct Saved<'a, S, E: IvfBackend> {
    pub d: usize,
    pub metric: Metric,
    pub settings: S,
    /// Whether the lists lie in host memory.
    pub host: bool,
    pub init_centroids: Option<&'a [f32]>,
    pub weights: Option<&'a [f32]>,
    /// `None` before training.
    pub lists: Option<&'a InvertedLists<E>>,
    /// `[nlist, d]`, of a trained inverted file.
    pub centroids: Option<Vec<f32>>,
}

/// An index that was read, still in parts.
#[derive(Debug)]
pub(crate) struct Loaded<S, E: IvfBackend> {
    pub d: usize,
    pub metric: Metric,
    pub settings: S,
    pub init_centroids: Option<Vec<f32>>,
    pub weights: Option<Vec<f32>>,
    pub lists: Option<InvertedLists<E>>,
    pub centroids: Option<Vec<f32>>,
}

/// An [`Error::Io`].
pub(crate) fn io(action: impl Into<String>, error: &std::io::Error) -> Error {
    Error::Io {
        action: action.into(),
        kind: error.kind(),
        message: error.to_string(),
    }
}

/// An [`Error::Corrupt`].
pub(crate) fn corrupt(part: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Corrupt {
        part: part.into(),
        reason: reason.into(),
    }
}

/// Opens a file for reading, with its length if it has one (a pipe has none).
pub(crate) fn open(path: &Path) -> Result<(std::fs::File, Option<u64>)> {
    let failed = |e| io(format!("opening {}", path.display()), &e);
    let file = std::fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok((file, meta.is_file().then_some(meta.len())))
}
