//! The coarse step: the nearest centroids of every query.

use crate::{
    backend::{Hits, IvfBackend, RowIds, SKIP, Scan, read_int},
    error::Result,
    metric::Metric,
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

/// A scan of the centroids.
fn centroid_scan<'a, E: IvfBackend>(
    metric: Metric,
    centroids: &'a E::Lists,
    [nlist, d]: [usize; 2],
    queries: Tensor<E, 2>,
    k: usize,
    workspace: usize,
) -> Result<Hits<E>> {
    let scan = Scan {
        metric,
        d,
        k,
        lists: centroids,
        ids: RowIds::Places(nlist),
        queries,
        workspace,
    };
    super::exhaustive_chunked(&scan)
}

/// The `nprobe` nearest of `nlist` centroids of dimension `d`, ties by smaller list number.
pub(crate) fn nearest<E: IvfBackend>(
    metric: Metric,
    centroids: &E::Lists,
    shape: [usize; 2],
    queries: Tensor<E, 2>,
    nprobe: usize,
    workspace: usize,
) -> Result<Hits<E>> {
    centroid_scan(metric, centroids, shape, queries, nprobe, workspace)
}

/// [`nearest`] as probes; queries with NaN or infinity probe nothing.
pub(crate) fn probe<E: IvfBackend>(
    metric: Metric,
    centroids: &E::Lists,
    shape: [usize; 2],
    queries: Tensor<E, 2>,
    nprobe: usize,
    workspace: usize,
) -> Result<Probes> {
    let hits = nearest::<E>(metric, centroids, shape, queries, nprobe, workspace)?;
    let lists = read_int(hits.labels)?;
    let lists = lists
        .into_iter()
        .map(|l| u32::try_from(l).unwrap_or(SKIP))
        .collect();
    Ok(Probes { nprobe, lists })
}
