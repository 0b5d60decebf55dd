//! All rows within a distance.

use super::Probes;
use crate::{
    backend::{
        Counts, IvfBackend, RangeHits, Reads, Restriction, RowIds, SKIP, Scan, list_numbers,
        pairs::Pairs, read, read_int,
    },
    error::Result,
    metric::{Compare, Metric},
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

/// The rows that queries are compared with.
#[derive(Debug, Clone)]
pub(crate) struct Ranged<'a, E: IvfBackend> {
    pub metric: Metric,
    /// Components of a vector.
    pub d: usize,
    pub lists: &'a E::Lists,
    pub ids: RowIds<'a>,
    /// f32 `[nq, d]`, prepared for the metric.
    pub queries: Tensor<E, 2>,
    /// Bytes of working memory.
    pub workspace: usize,
    pub restriction: Restriction<'a>,
    /// Whether to count what is compared even where that takes a read of the device.
    pub counts: bool,
}

impl<E: IvfBackend> Ranged<'_, E> {
    /// Number of queries.
    pub fn nq(&self) -> usize {
        self.queries.dims()[0]
    }

    /// The rows of some lists whose key is at most `limit`.
    fn within(&self, reads: &Reads<E>, limit: f32) -> Result<RangeHits<E>> {
        let mut hits = match self.metric.compare() {
            Compare::Scan(metric) => {
                let scan = Scan {
                    metric,
                    d: self.d,
                    k: 1,
                    lists: self.lists,
                    ids: self.ids,
                    queries: self.queries.clone(),
                    workspace: self.workspace,
                    restriction: self.restriction,
                };
                E::range_scan(&scan, reads, limit)?
            }
            Compare::Pairs(_) => {
                let pairs = Pairs {
                    metric: self.metric,
                    k: 1,
                    queries: self.queries.clone(),
                    workspace: self.workspace,
                };
                pairs.range(self.lists, self.ids, reads, self.restriction, limit)?
            }
        };
        if self.counts && hits.counts.is_none() {
            let sizes: Vec<usize> = (0..self.ids.nlist()).map(|l| self.ids.len(l)).collect();
            let (lists, nprobe) = reads.to_host(self.nq())?;
            hits.counts = Some(super::count(&sizes, &lists, nprobe, self.restriction));
        }
        Ok(hits)
    }
}

/// Every row of the probed lists (of the only list without `probes`) within the limit.
pub(crate) fn range<E: IvfBackend>(
    scan: &Ranged<'_, E>,
    probes: Option<&Probes<E>>,
    wanted: Range,
) -> Result<RangeHits<E>> {
    let hits = match (probes, wanted.max_empty_lists) {
        (Some(probes), Some(most)) => list_by_list(scan, probes, wanted.limit, most)?,
        (Some(probes), None) => scan.within(&Reads::Lists(probes.lists.clone()), wanted.limit)?,
        (None, _) => scan.within(&Reads::All, wanted.limit)?,
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

    fn into_hits<E: IvfBackend>(
        self,
        counts: Option<Counts>,
        scan: &Ranged<'_, E>,
    ) -> RangeHits<E> {
        RangeHits::from_rows(self.queries, counts, &scan.queries.device())
    }
}

/// One probe after the other, until a query has met `most` lists in a row without a hit.
fn list_by_list<E: IvfBackend>(
    scan: &Ranged<'_, E>,
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
        let hits = part.within(&Reads::Lists(column), limit)?;
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
    scan: &Ranged<'_, E>,
    hits: RangeHits<E>,
    most: usize,
) -> Result<(RangeHits<E>, Drawn)> {
    let metric = scan.metric;
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
