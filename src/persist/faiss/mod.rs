//! faiss's own files: read, and written byte for byte as faiss 1.15.1 writes them.
//!
//! A file is one index: four letters that name its type, then its fields in little-endian order, an
//! index within an index (a coarse quantizer, what an id map wraps) standing where the field is.
//! [`names`] owns the letters and numbers, [`header`] the fields that several types share, [`read`]
//! and [`write`] the types, [`load`] and [`pieces`] how rows get into the lists.
//!
//! Not kept by these files: search modes, tuning, the next automatic id, how vectors are stored.

mod header;
mod load;
mod names;
mod pieces;
mod read;
mod write;

pub(crate) use read::{FlatParts, IvfParts, read_flat, read_ivf};
pub(crate) use write::{IvfContent, write_flat, write_ivf};

use crate::error::{Error, Result};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// The most components that files may state (faiss's own bound).
const MAX_D: usize = 1 << 20;

/// How an inverted file is written for faiss.
///
/// ```
/// use burn_ivf::{DirectMap, FaissOptions};
/// let options = FaissOptions::default().with_direct_map(DirectMap::Hashtable);
/// assert_eq!(options.direct_map, DirectMap::Hashtable);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FaissOptions {
    /// The direct map written beside the lists: none by default.
    pub direct_map: DirectMap,
}

impl FaissOptions {
    /// With another direct map.
    #[must_use]
    pub fn with_direct_map(mut self, direct_map: DirectMap) -> Self {
        self.direct_map = direct_map;
        self
    }
}

/// faiss's table from ids to places, which its `reconstruct` and `remove_ids` want. Only faiss needs
/// it: files with one are read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectMap {
    /// No table (faiss `NoMap`).
    #[default]
    None,
    /// A place for each id from 0 to ntotal - 1, which the ids must be.
    Array,
    /// (id, place) pairs, for any ids; of rows with one id the last counts. In list order, where
    /// faiss's is that of a hash table.
    Hashtable,
}

impl DirectMap {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Array => "array",
            Self::Hashtable => "hashtable",
        }
    }
}

impl fmt::Display for DirectMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DirectMap {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::None, Self::Array, Self::Hashtable]
            .into_iter()
            .find(|map| map.name() == name)
            .ok_or_else(|| Error::UnknownName {
                what: "direct map",
                name: name.to_owned(),
                expected: "\"none\", \"array\" and \"hashtable\"",
            })
    }
}
