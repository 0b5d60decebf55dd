//! What a scan finds, as tensors on the device.

use super::pairs;
use crate::{metric::Metric, plan::Order, stats::SearchStats};
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use burn_ivf_kernels::list_scan::{Best, Found};
use core::iter::Sum;

/// The k best rows of every query, on the device.
#[derive(Debug, Clone)]
pub struct Hits<B: Backend> {
    /// Distances or inner products, f32 `[nq, k]`, best first.
    pub distances: Tensor<B, 2>,
    /// Ids, `[nq, k]`, dtype [`label_dtype`]; -1 where there is no row.
    pub labels: Tensor<B, 2, Int>,
    /// What was compared; `None` where counting it would take a read of the device.
    pub counts: Option<Counts>,
    /// In which order lists were read; `None` stands for the order asked for.
    pub order: Option<Order>,
    /// What kept rows from being compared; `None` stands for what the lists rank rows by.
    pub filter: Option<&'static str>,
}

impl<B: Backend> Hits<B> {
    /// Hits computed on the host, `k` per query.
    pub fn from_host(best: Best, k: usize, device: &B::Device) -> Self {
        let nq = best.labels.len() / k;
        Self {
            distances: Tensor::from_data(
                TensorData::new(best.distances, [nq, k]),
                (device, DType::F32),
            ),
            labels: labels_from(best.labels, [nq, k], device),
            counts: Some(Counts {
                rows_scanned: best.rows_scanned,
                lists_scanned: best.lists_scanned,
                rows_reranked: best.rows_reranked,
            }),
            order: None,
            filter: None,
        }
    }

    /// Nothing found for any of `nq` queries.
    pub fn padding(metric: impl Into<Metric>, nq: usize, k: usize, device: &B::Device) -> Self {
        Self::from_host(pairs::padding(metric.into(), nq, k), k, device)
    }

    /// Hits of consecutive queries (at least one part), put together.
    pub(crate) fn join(mut parts: Vec<Self>) -> Self {
        span!("merge", parts = parts.len());
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let counts = parts.iter().map(|part| part.counts).sum();
        // The same wish, of an index that is the same.
        let order = parts.first().and_then(|part| part.order);
        let filter = parts.first().and_then(|part| part.filter);
        let (distances, labels) = parts.into_iter().map(|p| (p.distances, p.labels)).unzip();
        Self {
            distances: Tensor::cat(distances, 0),
            labels: Tensor::cat(labels, 0),
            counts,
            order,
            filter,
        }
    }
}

/// The rows within a distance of every query.
#[derive(Debug, Clone)]
pub struct RangeHits<B: Backend> {
    /// Query `i` found entries `lims[i]..lims[i + 1]`; `nq + 1` numbers.
    pub lims: Vec<u64>,
    /// Distances or inner products, f32 `[lims[nq]]`: list after list, as inserted.
    pub distances: Tensor<B, 1>,
    /// Ids, `[lims[nq]]`, dtype [`label_dtype`].
    pub labels: Tensor<B, 1, Int>,
    /// What was compared.
    pub counts: Option<Counts>,
}

impl<B: Backend> RangeHits<B> {
    /// Rows found on the host.
    pub fn from_host(found: Found, device: &B::Device) -> Self {
        let n = found.labels.len();
        Self {
            lims: found.lims,
            distances: Tensor::from_data(
                TensorData::new(found.distances, [n]),
                (device, DType::F32),
            ),
            labels: labels_from::<B, 1>(found.labels, [n], device),
            counts: Some(Counts {
                rows_scanned: found.rows_scanned,
                lists_scanned: found.lists_scanned,
                rows_reranked: found.rows_reranked,
            }),
        }
    }

    /// Distances and ids found on the host, query by query.
    pub(crate) fn from_rows(
        rows: Vec<Vec<(f32, i64)>>,
        counts: Option<Counts>,
        device: &B::Device,
    ) -> Self {
        let mut lims = vec![0];
        let mut sum = 0;
        for rows in &rows {
            sum += rows.len() as u64;
            lims.push(sum);
        }
        let (distances, labels): (Vec<f32>, Vec<i64>) = rows.into_iter().flatten().unzip();
        let n = labels.len();
        Self {
            lims,
            distances: Tensor::from_data(TensorData::new(distances, [n]), (device, DType::F32)),
            labels: labels_from::<B, 1>(labels, [n], device),
            counts,
        }
    }

    /// Nothing found for any of `nq` queries.
    pub fn nothing(nq: usize, device: &B::Device) -> Self {
        let found = Found {
            lims: vec![0; nq + 1],
            distances: Vec::new(),
            labels: Vec::new(),
            rows_scanned: 0,
            rows_reranked: 0,
            lists_scanned: 0,
        };
        Self::from_host(found, device)
    }

    /// Hits of consecutive queries (at least one part), put together.
    pub(crate) fn join(mut parts: Vec<Self>) -> Self {
        span!("merge", parts = parts.len());
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let mut lims = vec![0];
        for part in &parts {
            let before = lims.last().copied().unwrap_or(0);
            lims.extend(part.lims[1..].iter().map(|&lim| before + lim));
        }
        let counts = parts.iter().map(|part| part.counts).sum();
        let (distances, labels) = parts.into_iter().map(|p| (p.distances, p.labels)).unzip();
        Self {
            lims,
            distances: Tensor::cat(distances, 0),
            labels: Tensor::cat(labels, 0),
            counts,
        }
    }
}

/// What a search compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// (query, row) pairs compared.
    pub rows_scanned: u64,
    /// (query, non-empty list) pairs read.
    pub lists_scanned: u64,
    /// (query, row) pairs compared exactly after a filter let them pass.
    pub rows_reranked: u64,
}

impl Counts {
    /// Reports these, or that nothing was counted.
    pub(crate) fn report(counts: Option<Self>, stats: &mut SearchStats) {
        stats.rows_scanned = counts.map(|c| c.rows_scanned);
        stats.lists_scanned = counts.map(|c| c.lists_scanned);
        stats.rows_reranked = counts.map(|c| c.rows_reranked);
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            rows_scanned: a.rows_scanned + b.rows_scanned,
            lists_scanned: a.lists_scanned + b.lists_scanned,
            rows_reranked: a.rows_reranked + b.rows_reranked,
        })
    }
}

/// The integer type of labels on a device: i64 where it has that type, else i32.
pub fn label_dtype<B: Backend>(device: &B::Device) -> DType {
    if B::supports_dtype(device, DType::I64) {
        DType::I64
    } else {
        DType::I32
    }
}

/// Labels as a tensor of [`label_dtype`]; ids were checked at `add`.
pub fn labels_from<B: Backend, const D: usize>(
    labels: Vec<i64>,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D, Int> {
    let dtype = label_dtype::<B>(device);
    let data = match dtype {
        DType::I64 => TensorData::new(labels, shape),
        _ => TensorData::new(labels.into_iter().map(|id| id as i32).collect(), shape),
    };
    Tensor::from_data(data, (device, dtype))
}

/// What a selection on the host found, as tensors `[rows, k]`.
pub(crate) fn selected_from<B: Backend>(
    selected: burn_ivf_kernels::select_k::Selected,
    rows: usize,
    device: &B::Device,
) -> (Tensor<B, 2>, Tensor<B, 2, Int>) {
    let shape = [rows, selected.k];
    let columns: Vec<i64> = selected.columns.into_iter().map(i64::from).collect();
    (
        Tensor::from_data(
            TensorData::new(selected.values, shape),
            (device, DType::F32),
        ),
        Tensor::from_data(TensorData::new(columns, shape), device),
    )
}
