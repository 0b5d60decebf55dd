//! The type of stored components in a file.

use crate::{
    error::{Error, Result},
    params::Storage,
};
use half::{bf16, f16};

/// How components lie in a file; their values are those of the index, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    /// That of a storage.
    pub fn of(storage: Storage) -> Self {
        match storage {
            Storage::F16 => Self::F16,
            Storage::Bf16 => Self::Bf16,
            Storage::Auto | Storage::Planes | Storage::Copy | Storage::F32 => Self::F32,
        }
    }

    /// Its number.
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

    /// Components of 16 bits as numbers.
    pub fn widen(self, stored: &[u16], values: &mut Vec<f32>) {
        values.clear();
        match self {
            Self::F16 => values.extend(stored.iter().map(|&x| f16::from_bits(x).to_f32())),
            Self::Bf16 | Self::F32 => {
                values.extend(stored.iter().map(|&x| bf16::from_bits(x).to_f32()));
            }
        }
    }

    /// Numbers as the components of 16 bits that they are.
    pub fn narrow(self, values: &[f32], stored: &mut Vec<u16>) {
        stored.clear();
        match self {
            Self::F16 => stored.extend(values.iter().map(|&x| f16::from_f32(x).to_bits())),
            Self::Bf16 | Self::F32 => {
                stored.extend(values.iter().map(|&x| bf16::from_f32(x).to_bits()));
            }
        }
    }
}
