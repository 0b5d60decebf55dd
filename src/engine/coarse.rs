//! The coarse step: which lists every query reads.

use crate::{backend::IvfBackend, cluster::Quantizer, error::Result};
use burn::tensor::{Int, Tensor};

/// The `nprobe` nearest lists of every query, `[nq, nprobe]`, nearest first, left on the device; a
/// query with NaN or infinity reads none (-1).
pub(crate) fn probe<E: IvfBackend>(
    quantizer: &Quantizer<'_, E>,
    queries: Tensor<E, 2>,
    nprobe: usize,
) -> Result<Tensor<E, 2, Int>> {
    Ok(quantizer.nearest(queries, nprobe)?.labels)
}
