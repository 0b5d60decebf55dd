//! The type of stored components in a file, ours or faiss's.

use crate::{
    error::{Error, Result},
    params::Storage,
};
use half::{bf16, f16};

/// How components lie in a file; their values are those of the index, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    Bf16,
}

/// Appends components of 16 bits as numbers.
pub(super) type Widen = fn(&[u16], &mut Vec<f32>);
/// Appends numbers as the components of 16 bits that they are.
pub(super) type Narrow = fn(&[f32], &mut Vec<u16>);

impl Element {
    /// That of a storage.
    pub fn of(storage: Storage) -> Self {
        match storage {
            Storage::F16 => Self::F16,
            Storage::Bf16 => Self::Bf16,
            Storage::Auto | Storage::Planes | Storage::Copy | Storage::F32 => Self::F32,
        }
    }

    /// The storage that keeps it.
    pub fn storage(self) -> Storage {
        match self {
            Self::F32 => Storage::Auto,
            Self::F16 => Storage::F16,
            Self::Bf16 => Storage::Bf16,
        }
    }

    /// Its number in our own files.
    pub const fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 2,
        }
    }

    /// The one of a number.
    pub fn of_code(code: u32) -> Result<Self> {
        let all = [Self::F32, Self::F16, Self::Bf16];
        let named = all.into_iter().find(|element| element.code() == code);
        named.ok_or_else(|| Error::UnknownInFile {
            what: "vectors of element type",
            found: code.to_string(),
            known: "0 (f32), 1 (f16) and 2 (bf16)",
        })
    }

    /// Bytes of a component.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// How components of 16 bits become numbers; `None` where they are f32.
    pub fn widen(self) -> Option<Widen> {
        match self {
            Self::F32 => None,
            Self::F16 => {
                Some(|from, to| to.extend(from.iter().map(|&x| f16::from_bits(x).to_f32())))
            }
            Self::Bf16 => {
                Some(|from, to| to.extend(from.iter().map(|&x| bf16::from_bits(x).to_f32())))
            }
        }
    }

    /// The way back.
    pub fn narrow(self) -> Option<Narrow> {
        match self {
            Self::F32 => None,
            Self::F16 => {
                Some(|from, to| to.extend(from.iter().map(|&x| f16::from_f32(x).to_bits())))
            }
            Self::Bf16 => {
                Some(|from, to| to.extend(from.iter().map(|&x| bf16::from_f32(x).to_bits())))
            }
        }
    }
}
