//! Copies to the host, counted.

use crate::error::{Error, Result};
use burn::tensor::{DType, Int, Tensor, backend::Backend};
use core::cell::Cell;

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// What the calling thread has asked of devices so far; the difference of two is what the calls
/// between them cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Kernels of this crate launched (Burn's own operations are not counted).
    pub launches: u64,
    /// Bytes copied to devices for these kernels (tensors are not counted).
    pub uploaded: u64,
    /// Tensors copied to the host, each of which waits until it is computed. Every read of this
    /// crate is counted; backends over host memory only look.
    pub blocking_reads: u64,
}

impl Counters {
    /// Those of the calling thread, now.
    pub fn now() -> Self {
        #[cfg(feature = "cube")]
        use burn_ivf_kernels::device::{launches, uploaded};
        #[cfg(not(feature = "cube"))]
        let (launches, uploaded) = (|| 0, || 0);
        Self {
            launches: launches(),
            uploaded: uploaded(),
            blocking_reads: READS.get(),
        }
    }

    /// What has been added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            launches: self.launches - earlier.launches,
            uploaded: self.uploaded - earlier.uploaded,
            blocking_reads: self.blocking_reads - earlier.blocking_reads,
        }
    }
}

impl core::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            launches: self.launches + other.launches,
            uploaded: self.uploaded + other.uploaded,
            blocking_reads: self.blocking_reads + other.blocking_reads,
        }
    }
}

/// Counts a blocking read that a kernel's operation does by itself.
#[cfg(feature = "cube")]
pub(super) fn count_read() {
    READS.set(READS.get() + 1);
}

/// Copies a float tensor to the host as f32. Blocks until it is computed.
///
/// # Errors
/// When the device cannot be read.
pub fn read<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<Vec<f32>> {
    READS.set(READS.get() + 1);
    let data = tensor
        .try_into_data()
        .map_err(|e| Error::Device(format!("{e:?}")))?;
    match data.dtype {
        DType::F32 => data.into_vec().map_err(|e| Error::Device(format!("{e:?}"))),
        _ => Ok(data.iter::<f32>().collect()),
    }
}

/// Copies an integer tensor to the host as i64. Blocks until it is computed.
///
/// # Errors
/// When the device cannot be read.
pub fn read_int<B: Backend, const D: usize>(tensor: Tensor<B, D, Int>) -> Result<Vec<i64>> {
    READS.set(READS.get() + 1);
    let data = tensor
        .try_into_data()
        .map_err(|e| Error::Device(format!("{e:?}")))?;
    match data.dtype {
        DType::I64 => data.into_vec().map_err(|e| Error::Device(format!("{e:?}"))),
        _ => Ok(data.iter::<i64>().collect()),
    }
}
