//! The coarse step: which lists every query reads.

use crate::{
    backend::{IvfBackend, portable::pieces},
    cluster::Quantizer,
    error::Result,
};
use burn::tensor::{Int, Tensor};
use core::ops::Range;

/// Bytes of a probe while a search decides what to read: list and distance on the device and on the host,
/// rows to read.
const PROBE_BYTES: usize = 40;

/// The queries that are probed at once, so that what is known of their probes takes no more than a quarter
/// of the workspace.
pub(crate) fn probed_pieces(
    nq: usize,
    nprobe: usize,
    workspace: usize,
) -> impl Iterator<Item = Range<usize>> {
    pieces(nq, workspace / 4 / PROBE_BYTES / nprobe.max(1))
}

/// The lists every query reads, nearest first, left on the device.
#[derive(Debug, Clone)]
pub(crate) struct Probes<E: IvfBackend> {
    /// List numbers, `[nq, nprobe]`; a query with NaN or infinity reads none (-1).
    pub lists: Tensor<E, 2, Int>,
    /// Distances to their centroids, f32 `[nq, nprobe]`.
    pub distances: Tensor<E, 2>,
}

impl<E: IvfBackend> Probes<E> {
    /// Those of some of the queries.
    pub fn slice(&self, queries: Range<usize>) -> Self {
        let [nq, nprobe] = self.lists.dims();
        if queries.len() == nq {
            return self.clone();
        }
        Self {
            lists: self.lists.clone().slice([queries.clone(), 0..nprobe]),
            distances: self.distances.clone().slice([queries, 0..nprobe]),
        }
    }
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
