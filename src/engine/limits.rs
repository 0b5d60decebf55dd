//! From what a search asks for to what its queries are compared with: limits become rows per
//! probe, lists that cannot matter are skipped.

use super::Probes;
use crate::{
    backend::{IvfBackend, SKIP, Scan, list_numbers, read},
    error::Result,
    lists::InvertedLists,
    metric::{Metric, ScanMetric},
    params::{Limit, ResolvedParams},
    plan::{
        Order, Tuning,
        budget::{self, Probed},
    },
};
use burn::tensor::{DType, Int, Tensor, TensorData};
use std::sync::Arc;

/// Rows to read of every probe, row-major `[nq, nprobe]`; `None` where nothing is left out. Reads
/// the coarse step's answer, unless the limit cannot matter.
pub(crate) fn caps<E: IvfBackend>(
    metric: Metric,
    params: &ResolvedParams,
    lists: &InvertedLists<E>,
    probes: &Probes<E>,
    k: usize,
) -> Result<Option<Vec<u32>>> {
    let sizes = lists.sizes();
    let nprobe = probes.lists.dims()[1];
    if budget::never_cuts(params.limit, &sizes, nprobe) {
        return Ok(None);
    }
    let numbers = list_numbers(probes.lists.clone())?;
    let keys = match params.limit {
        Limit::Budget(_) => {
            let distances = read(probes.distances.clone())?;
            distances.into_iter().map(|d| metric.key(d)).collect()
        }
        _ => vec![0.0; numbers.len()],
    };
    let probed = Probed {
        lists: &numbers,
        keys: &keys,
        nprobe,
        sizes: &sizes,
        k,
    };
    Ok(budget::caps(params.limit, &probed))
}

/// Where the rows of every list lie.
pub(crate) struct Balls {
    /// No row is farther from its list's centroid.
    pub radii: Vec<f64>,
    /// Lengths of the centroids.
    pub lengths: Vec<f64>,
}

/// The balls that hold the rows of every list.
pub(crate) fn balls<E: IvfBackend>(
    lists: &InvertedLists<E>,
    centroids: &Tensor<E, 2>,
    workspace: usize,
) -> Result<Balls> {
    let squares = read((centroids.clone() * centroids.clone()).sum_dim(1))?;
    Ok(Balls {
        radii: lists.radii(centroids, workspace)?,
        lengths: squares.into_iter().map(|s| f64::from(s).sqrt()).collect(),
    })
}

/// The probes without the lists that cannot hold one of a query's k best, and how many those are.
///
/// The nearest list is searched first; what its k-th best row proves about the others is exact: a
/// row of list `l` lies within the list's radius of its centroid, so it is no nearer than the
/// centroid's distance less the radius (and an inner product no larger than the centroid's plus the
/// query's length times the radius). Rounding is bounded on both sides.
pub(crate) fn prune<E: IvfBackend>(
    scan: &Scan<'_, E>,
    probes: &Probes<E>,
    balls: &Balls,
    how: (Order, &Arc<Tuning>),
) -> Result<(Tensor<E, 2, Int>, u64)> {
    let [nq, nprobe] = probes.lists.dims();
    let first = probes.lists.clone().slice([0..nq, 0..1]);
    let caps: Option<Vec<u32>> = scan
        .restriction
        .caps
        .map(|caps| caps.iter().step_by(nprobe).copied().collect());
    let nearest = Scan {
        restriction: crate::backend::Restriction {
            caps: caps.as_deref(),
            ..scan.restriction
        },
        ..scan.clone()
    };
    let hits = super::csr(&nearest, first, how)?;
    let kth = read(hits.distances.slice([0..nq, scan.k - 1..scan.k]))?;
    let mut lists = list_numbers(probes.lists.clone())?;
    let distances = read(probes.distances.clone())?;
    let lengths: Vec<f64> = if scan.metric == ScanMetric::L2 {
        Vec::new()
    } else {
        let squares = (scan.queries.clone() * scan.queries.clone()).sum_dim(1);
        let squares = read(squares)?;
        squares.into_iter().map(|s| f64::from(s).sqrt()).collect()
    };
    // Relative error of a sum of d products in f32, with room to spare.
    let slack = (scan.d as f64 + 32.0) / f64::from(1 << 22);
    let mut pruned = 0;
    for (i, lists) in lists.chunks_exact_mut(nprobe).enumerate() {
        // Beyond the range all are alike and ids decide.
        let kth = f64::from(kth[i]);
        if kth == f64::INFINITY {
            continue;
        }
        for (list, &distance) in lists.iter_mut().zip(&distances[i * nprobe..]).skip(1) {
            // A centroid beyond the range of distances says nothing of its rows.
            if *list == SKIP || !distance.is_finite() {
                continue;
            }
            let distance = f64::from(distance);
            let radius = balls.radii[*list as usize];
            let cannot = if scan.metric == ScanMetric::L2 {
                let gap = (distance.max(0.0) * (1.0 - slack)).sqrt() - radius;
                gap > 0.0 && gap * gap > kth * (1.0 + slack) + f64::from(f32::MIN_POSITIVE)
            } else {
                let length = lengths[i] * (1.0 + slack);
                let centroid = balls.lengths[*list as usize];
                let rounding = slack * length * (2.0 * centroid + radius);
                distance + length * radius + rounding + f64::from(f32::MIN_POSITIVE) < kth
            };
            if cannot {
                *list = SKIP;
                pruned += 1;
            }
        }
    }
    let lists: Vec<i32> = lists.into_iter().map(|list| list as i32).collect();
    let lists = TensorData::new(lists, [nq, nprobe]);
    let lists = Tensor::from_data(lists, (&scan.queries.device(), DType::I32));
    Ok((lists, pruned))
}
