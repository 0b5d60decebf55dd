//! The coarse step: which lists every query reads.

use crate::{backend::IvfBackend, cluster::Quantizer, error::Result};
use burn::tensor::{Int, Tensor};

/// The lists every query reads, nearest first, left on the device.
#[derive(Debug, Clone)]
pub(crate) struct Probes<E: IvfBackend> {
    /// List numbers, `[nq, nprobe]`; a query with NaN or infinity reads none (-1).
    pub lists: Tensor<E, 2, Int>,
    /// Distances to their centroids, f32 `[nq, nprobe]`.
    pub distances: Tensor<E, 2>,
}

/// The `nprobe` nearest lists of every query.
pub(crate) fn probe<E: IvfBackend>(
    quantizer: &Quantizer<'_, E>,
    queries: Tensor<E, 2>,
    nprobe: usize,
) -> Result<Probes<E>> {
    span!("coarse", nq = queries.dims()[0], nprobe = nprobe);
    let hits = quantizer.nearest(queries, nprobe)?;
    Ok(Probes {
        lists: hits.labels,
        distances: hits.distances,
    })
}
