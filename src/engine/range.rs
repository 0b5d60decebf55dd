//! All rows within a distance.

use super::Probes;
use crate::{
    backend::{
        Counts, IvfBackend, RangeHits, Reads, SKIP, Scan, labels_from, list_numbers, read, read_int,
    },
    error::Result,
    metric::ScanMetric as Metric,
};
use burn::tensor::{DType, Tensor, TensorData};

/// What is wanted of a range search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    /// The largest key ([`Metric::key`]) wanted.
    pub limit: f32,
    /// Stops a query after so many lists in a row without a hit.
    pub max_empty_lists: Option<usize>,
    /// Whether a query's hits come best first, ties by smaller id; else as the lists hold them.
    pub sorted: bool,
}

/// Every row of the probed lists (of the only list without `probes`) within the limit.
pub(crate) fn range<E: IvfBackend>(
    scan: &Scan<'_, E>,
    probes: Option<&Probes<E>>,
    wanted: Range,
) -> Result<RangeHits<E>> {
    let hits = match (probes, wanted.max_empty_lists) {
        (Some(probes), Some(most)) => list_by_list(scan, probes, wanted.limit, most)?,
        (Some(probes), None) => {
            E::range_scan(scan, &Reads::Lists(probes.lists.clone()), wanted.limit)?
        }
        (None, _) => E::range_scan(scan, &Reads::All, wanted.limit)?,
    };
    if !wanted.sorted {
        return Ok(hits);
    }
    let mut rows = Rows::of(&hits)?;
    for query in &mut rows.queries {
        query.sort_by(|a, b| {
            scan.metric
                .key(a.0)
                .total_cmp(&scan.metric.key(b.0))
                .then(a.1.cmp(&b.1))
        });
    }
    Ok(rows.into_hits(hits.counts, scan))
}

/// Hits on the host, query by query: distance and id.
struct Rows {
    queries: Vec<Vec<(f32, i64)>>,
}

impl Rows {
    fn of<E: IvfBackend>(hits: &RangeHits<E>) -> Result<Self> {
        let distances = read(hits.distances.clone())?;
        let labels = read_int(hits.labels.clone())?;
        let query = |lims: &[u64]| {
            let range = lims[0] as usize..lims[1] as usize;
            let labels = labels[range.clone()].iter().copied();
            distances[range].iter().copied().zip(labels).collect()
        };
        Ok(Self {
            queries: hits.lims.windows(2).map(query).collect(),
        })
    }

    fn into_hits<E: IvfBackend>(self, counts: Option<Counts>, scan: &Scan<'_, E>) -> RangeHits<E> {
        let device = scan.queries.device();
        let mut lims = vec![0];
        let mut sum = 0;
        for rows in &self.queries {
            sum += rows.len() as u64;
            lims.push(sum);
        }
        let (distances, labels): (Vec<f32>, Vec<i64>) = self.queries.into_iter().flatten().unzip();
        let n = labels.len();
        RangeHits {
            lims,
            distances: Tensor::from_data(TensorData::new(distances, [n]), (&device, DType::F32)),
            labels: labels_from(labels, [n], &device),
            counts,
        }
    }
}

/// One probe after the other, until a query has met `most` lists in a row without a hit.
fn list_by_list<E: IvfBackend>(
    scan: &Scan<'_, E>,
    probes: &Probes<E>,
    limit: f32,
    most: usize,
) -> Result<RangeHits<E>> {
    let [nq, nprobe] = probes.lists.dims();
    let lists = list_numbers(probes.lists.clone())?;
    let mut rows = Rows {
        queries: vec![Vec::new(); nq],
    };
    let mut empty = vec![0_usize; nq];
    let mut counts = Vec::new();
    for rank in 0..nprobe {
        let column: Vec<i32> = (0..nq)
            .map(|i| {
                let open = empty[i] < most;
                (if open { lists[i * nprobe + rank] } else { SKIP }) as i32
            })
            .collect();
        if column.iter().all(|&list| list == -1) {
            continue;
        }
        let caps: Option<Vec<u32>> = scan
            .restriction
            .caps
            .map(|caps| caps.iter().skip(rank).step_by(nprobe).copied().collect());
        let mut part = scan.clone();
        part.restriction.caps = caps.as_deref();
        let column = Tensor::from_data(
            TensorData::new(column.clone(), [nq, 1]),
            (&scan.queries.device(), DType::I32),
        );
        let hits = E::range_scan(&part, &Reads::Lists(column), limit)?;
        counts.push(hits.counts);
        for (i, found) in Rows::of(&hits)?.queries.into_iter().enumerate() {
            empty[i] = if found.is_empty() { empty[i] + 1 } else { 0 };
            rows.queries[i].extend(found);
        }
    }
    Ok(rows.into_hits(counts.into_iter().sum(), scan))
}

/// How far a radius was drawn in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Drawn {
    /// All hits fitted.
    Not,
    /// Up to this distance.
    To(f32),
    /// So far that nothing is left, nor will be.
    Shut,
}

/// Drops the farthest hits of all queries until no more than `most` are left, whole ties at a time.
pub(crate) fn shrink<E: IvfBackend>(
    scan: &Scan<'_, E>,
    hits: RangeHits<E>,
    most: usize,
) -> Result<(RangeHits<E>, Drawn)> {
    let metric: Metric = scan.metric;
    if hits.lims.last().copied().unwrap_or(0) <= most as u64 {
        return Ok((hits, Drawn::Not));
    }
    let mut rows = Rows::of(&hits)?;
    let mut keys: Vec<f32> = rows
        .queries
        .iter()
        .flatten()
        .map(|row| metric.key(row.0))
        .collect();
    let (below, &mut next, _) = keys.select_nth_unstable_by(most, f32::total_cmp);
    // The largest key that all its equals fit with.
    let fit = below.iter().copied().filter(|key| *key < next);
    let drawn = if let Some(kept) = fit.max_by(f32::total_cmp) {
        for query in &mut rows.queries {
            query.retain(|row| metric.key(row.0) <= kept);
        }
        Drawn::To(metric.key(kept))
    } else {
        rows.queries.iter_mut().for_each(Vec::clear);
        Drawn::Shut
    };
    Ok((rows.into_hits(hits.counts, scan), drawn))
}
