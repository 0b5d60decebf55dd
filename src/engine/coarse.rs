//! The coarse step: which lists every query reads.

use crate::{
    backend::{IvfBackend, SKIP, read_int},
    cluster::Quantizer,
    error::Result,
};
use burn::tensor::Tensor;

/// The lists every query reads, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probes {
    /// Lists per query.
    pub nprobe: usize,
    /// List numbers, row-major `[nq, nprobe]`; [`SKIP`] reads nothing.
    pub lists: Vec<u32>,
}

/// The `nprobe` nearest lists of every query; a query with NaN or infinity reads none.
pub(crate) fn probe<E: IvfBackend>(
    quantizer: &Quantizer<'_, E>,
    queries: Tensor<E, 2>,
    nprobe: usize,
) -> Result<Probes> {
    let lists = read_int(quantizer.nearest(queries, nprobe)?.labels)?;
    let lists = lists
        .into_iter()
        .map(|l| u32::try_from(l).unwrap_or(SKIP))
        .collect();
    Ok(Probes { nprobe, lists })
}
