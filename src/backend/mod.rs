//! What a backend must bring: a place for the lists, and the few custom operations.
//!
//! [`IvfBackend`] is implemented for `NdArray`, `Flex`, every CubeCL backend, `Fusion<B>` and
//! `Autodiff<B>`. This module and its files are the only ones that see the kernels crate's
//! operations and the only ones with backend features; each backend has one small file. Bodies in
//! Burn tensor operations, for backends without kernels of their own, are in [`portable`]; those
//! over host memory, shared by `NdArray` and `Flex`, in `host.rs`.

#[macro_use]
mod shared;

#[cfg(feature = "autodiff")]
mod autodiff;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "fusion")]
mod fusion;
#[cfg(any(feature = "ndarray", feature = "flex"))]
mod host;
#[cfg(feature = "ndarray")]
mod ndarray;
pub(crate) mod pairs;
pub mod portable;

pub use crate::metric::ScanMetric;
use crate::{
    error::{Error, Result},
    metric::Metric,
    params::Storage,
    plan::Order,
};
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
pub(crate) use burn_ivf_kernels::distance::reference as exact_distance;
pub use burn_ivf_kernels::list_scan::restrict::{ListOrder, Masks, ReadingOrder, Restriction};
pub use burn_ivf_kernels::order::Slot;
pub(crate) use burn_ivf_kernels::pairwise::reference as exact_pair;
pub use burn_ivf_kernels::pairwise::{Measure, Output};
pub(crate) use burn_ivf_kernels::rows::places;
pub(crate) use burn_ivf_kernels::{
    mapped::Map,
    plain::{PlainList, PlainProblem, scan as scan_plain},
    simd::Isa,
};
use core::cell::Cell;
use std::sync::Arc;

/// A probe that reads no list.
pub const SKIP: u32 = burn_ivf_kernels::list_scan::SKIP;

/// A backend on which indexes can live.
///
/// The operations have bodies in portable Burn operations ([`portable`]), so another backend needs
/// only the associated types and the four conversions; with `Inner = Self` these are the identity.
pub trait IvfBackend: Backend {
    /// The backend on which the index's data lie and its searches run: `Self` for a plain
    /// backend, the wrapped one for `Autodiff<B>` and `Fusion<B>`.
    type Inner: IvfBackend<Inner = Self::Inner, Device = Self::Device>;

    /// How this backend stores the vectors of inverted lists.
    type Lists: ListStore<Self>;

    /// What this backend and device can do.
    fn capabilities(device: &Self::Device) -> Capabilities;

    /// Hands a tensor to the inner backend; a gradient graph stays behind.
    fn lower<const D: usize>(tensor: Tensor<Self, D>) -> Tensor<Self::Inner, D>;

    /// Hands integers to the inner backend.
    fn lower_int<const D: usize>(tensor: Tensor<Self, D, Int>) -> Tensor<Self::Inner, D, Int>;

    /// Takes a tensor back from the inner backend; it carries no gradient graph.
    fn lift<const D: usize>(tensor: Tensor<Self::Inner, D>) -> Tensor<Self, D>;

    /// Takes integers back from the inner backend.
    fn lift_int<const D: usize>(tensor: Tensor<Self::Inner, D, Int>) -> Tensor<Self, D, Int>;

    /// The `min(k, n)` smallest of every row of `scores`, f32 `[rows, n]`: values and columns, both
    /// `[rows, min(k, n)]`, smallest first; equal values by smaller column, NaN after every number.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn select_k(
        scores: Tensor<Self, 2>,
        k: usize,
    ) -> Result<(Tensor<Self, 2>, Tensor<Self, 2, Int>)> {
        portable::select_k(scores, k)
    }

    /// Copies `rows`, f32 `[n, d]`, to the host, row-major. Blocks until they are computed.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn to_host(rows: Tensor<Self, 2>) -> Result<Vec<f32>> {
        read(rows)
    }

    /// Whether no component of `rows`, f32 `[n, d]`, is NaN or infinite.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn all_finite(rows: Tensor<Self, 2>) -> Result<bool> {
        portable::all_finite(rows)
    }

    /// Weighted means of groups of rows of `rows`, f32 `[n, d]`, row-major `[groups, d]`; undefined
    /// for an empty group.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn means(rows: Tensor<Self, 2>, groups: &Groups<'_>) -> Result<Vec<f32>> {
        let d = rows.dims()[1];
        Ok(portable::means(&Self::to_host(rows)?, d, groups))
    }

    /// `rows`, f32 `[n, d]`, each scaled to length 1 by the contract of the kernels' `unit` module:
    /// what a row becomes depends on nothing but the row.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn unit_rows(rows: Tensor<Self, 2>) -> Result<Tensor<Self, 2>> {
        portable::unit_rows(rows)
    }

    /// Every one of `queries`, f32 `[nq, d]`, against every one of `rows`, f32 `[n, d]`: distances
    /// or keys, f32 `[nq, n]`, as [`Output`] says. A pair's value depends on nothing but the pair.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn pairwise(
        queries: Tensor<Self, 2>,
        rows: Tensor<Self, 2>,
        measure: Measure,
        output: Output,
    ) -> Result<Tensor<Self, 2>> {
        portable::pairwise(queries, rows, measure, output)
    }

    /// The `k` best rows of every query among the lists it probes.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn list_scan(scan: &Scan<'_, Self>, probing: &Probing<Self>) -> Result<Hits<Self>> {
        portable::list_scan(scan, probing)
    }

    /// All rows of the lists probed whose key (`ScanMetric::key`: smaller is better) is at most
    /// `limit`; `scan.k` is not used.
    ///
    /// # Errors
    /// When the device cannot be read or cannot hold them.
    fn range_scan(
        scan: &Scan<'_, Self>,
        reads: &Reads<Self>,
        limit: f32,
    ) -> Result<RangeHits<Self>> {
        portable::range_scan(scan, reads, limit)
    }

    /// The `k` best of the rows in `candidates`, row-major `[nq, per_query]` with [`Slot::NONE`]
    /// as gaps, by the exact distance of this backend: the bits of [`list_scan`](Self::list_scan).
    ///
    /// # Errors
    /// When the device cannot be read.
    fn rerank(scan: &Scan<'_, Self>, candidates: &[Slot], per_query: usize) -> Result<Hits<Self>> {
        portable::rerank(scan, candidates, per_query)
    }
}

/// Rows in groups: group `g` is `members[offsets[g]..offsets[g + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a> {
    /// Row numbers, group by group.
    pub members: &'a [u32],
    /// Where every group starts, and the end.
    pub offsets: &'a [u32],
    /// How often every row counts; once without weights.
    pub weights: Option<&'a [f32]>,
}

/// What a backend and device can do; facts for the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// Whether [`IvfBackend::list_scan`] is a measured kernel (else it is the portable body).
    pub fused_scan: bool,
    /// The name of that kernel.
    pub kernel: String,
    /// Whether data lie in host memory.
    pub host: bool,
    /// Relative error with which a matrix product rounds its f32 inputs: 0, or 2⁻¹⁰ where they
    /// may pass through tensor cores as tf32.
    pub matmul_input_roundoff: f64,
}

/// What a [`ListStore`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The vectors of an index, stored as its user chose (`Auto` where
    /// [`Capabilities::host`] is false).
    Vectors(Storage),
    /// A small table that every query reads: centroids.
    Centroids,
}

/// Where a backend keeps the vectors of inverted lists.
///
/// Rows keep the order in which they were appended, and come back bit for bit. A clone is a
/// snapshot: appending to one does not change the other.
pub trait ListStore<B: Backend>: Clone + core::fmt::Debug + Send + Sync + 'static {
    /// `nlist` empty lists of vectors of `d` components.
    fn new(d: usize, nlist: usize, keep: Keep, device: &B::Device) -> Self;

    /// Appends row `i` of `rows`, f32 `[n, d]`, to list `to.lists[i]`. Nothing changes on an error.
    ///
    /// # Errors
    /// When the device cannot be read or cannot hold them.
    fn append(&mut self, rows: Tensor<B, 2>, to: &Places<'_>) -> Result<()>;

    /// The vectors at `at` (at least one), f32 `[at.len(), d]`, with the exact stored values.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn gather(&self, at: &[Slot]) -> Result<Tensor<B, 2>>;

    /// Appends rows from host memory, f32 `[n, d]`, run after run; `ids` are those of all rows held
    /// now or later. Nothing changes on an error.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn extend(
        &mut self,
        rows: &[f32],
        runs: &[Run],
        ids: RowIds<'_>,
        device: &B::Device,
    ) -> Result<()> {
        let n: usize = runs.iter().map(|run| run.rows).sum();
        let (mut lists, mut new) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for at in runs.iter().flat_map(Run::slots) {
            lists.push(at.list);
            new.push(ids.id(at));
        }
        let data = TensorData::new(rows.to_vec(), [n, rows.len() / n.max(1)]);
        let to = Places {
            lists: &lists,
            ids: &new,
            held: ids,
        };
        self.append(Tensor::from_data(data, (device, DType::F32)), &to)
    }

    /// Copies the rows of `runs` to `out`, f32 `[n, d]` in host memory, with the exact stored
    /// values. Blocks until they are there.
    ///
    /// # Errors
    /// When the device cannot be read or cannot hold them twice.
    fn copy_rows(&self, runs: &[Run], out: &mut [f32]) -> Result<()> {
        let at: Vec<Slot> = runs.iter().flat_map(Run::slots).collect();
        if !at.is_empty() {
            out.copy_from_slice(&read(self.gather(&at)?)?);
        }
        Ok(())
    }

    /// Drops rows: list `l` keeps those whose bit is set in `keep[l]` (bit `i % 32` of word
    /// `i / 32` is row `i`), in order, or all of them without bits. What a clone or a search under
    /// way sees does not change, nor does anything on an error.
    ///
    /// # Errors
    /// When the device cannot hold what that takes.
    fn retain(&mut self, keep: &[Option<Vec<u32>>]) -> Result<()>;

    /// Appends the rows of every list of `other` to the list of the same number, in order.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn merge(&mut self, other: &Self, merging: &Merging<'_>) -> Result<()> {
        portable::merge(self, other, merging)
    }

    /// Makes room for `additional[l]` more rows in list `l`. Nothing but room changes.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn reserve(&mut self, additional: &[usize]) -> Result<()>;

    /// Gives back what is allocated beyond the rows held, whose ids these are.
    ///
    /// # Errors
    /// When the device cannot hold what that takes on the way.
    fn shrink_to_fit(&mut self, ids: RowIds<'_>) -> Result<()>;

    /// Bytes allocated for vectors.
    fn bytes(&self) -> usize;

    /// What a scan ranks by before it compares exactly, e.g. `"bf16 of planes"`.
    fn ranks_by(&self) -> String;

    /// A copy on another device; `ids` are those of the rows held.
    ///
    /// # Errors
    /// When the other device cannot hold it.
    fn to_device(&self, ids: RowIds<'_>, device: &B::Device) -> Result<Self>;
}

/// Where appended rows go, for [`ListStore::append`].
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The list of every row.
    pub lists: &'a [u32],
    /// The id of every row; empty where ids are places ([`RowIds::Places`]).
    pub ids: &'a [i64],
    /// The ids of the rows held so far.
    pub held: RowIds<'a>,
}

/// Rows that follow each other in one list. Runs that are passed together name lists in rising
/// order, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The list.
    pub list: u32,
    /// The first row's place in it.
    pub first: usize,
    /// Rows.
    pub rows: usize,
    /// Rows to make room for in the list, when rows are appended.
    pub room: usize,
}

impl Run {
    /// Where its rows lie.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let Self {
            list, first, rows, ..
        } = *self;
        (first..first + rows).map(move |slot| Slot {
            list,
            slot: slot as u32,
        })
    }
}

/// What becomes of two stores, for [`ListStore::merge`].
#[derive(Debug, Clone, Copy)]
pub struct Merging<'a> {
    /// The ids of every list afterwards: of the rows held, then of those that come.
    pub ids: RowIds<'a>,
    /// Rows held so far in every list.
    pub held: &'a [usize],
    /// Rows a backend without a way of its own moves at once, at least 1.
    pub chunk: usize,
}

/// The ids of the rows of every list.
#[derive(Debug, Clone, Copy)]
pub enum RowIds<'a> {
    /// List `l`'s row `s` has id `tables[l][s]`.
    Tables(&'a [Arc<Vec<i64>>]),
    /// One list of this many rows, whose ids are their places: centroids.
    Places(usize),
}

impl RowIds<'_> {
    /// Number of lists.
    pub fn nlist(&self) -> usize {
        match self {
            Self::Tables(tables) => tables.len(),
            Self::Places(_) => 1,
        }
    }

    /// Rows of list `l`.
    pub fn len(&self, l: usize) -> usize {
        match self {
            Self::Tables(tables) => tables[l].len(),
            Self::Places(rows) => *rows,
        }
    }

    /// The id of the row at `at`.
    pub fn id(&self, at: Slot) -> i64 {
        match self {
            Self::Tables(tables) => tables[at.list as usize][at.slot as usize],
            Self::Places(_) => i64::from(at.slot),
        }
    }
}

impl burn_ivf_kernels::order::Ids for RowIds<'_> {
    fn id(&self, at: Slot) -> i64 {
        RowIds::id(self, at)
    }
}

/// Which lists every query reads, and in which order.
#[derive(Debug, Clone)]
pub struct Probing<B: Backend> {
    /// The lists.
    pub reads: Reads<B>,
    /// In which order a kernel that has the choice reads them.
    pub order: Order,
}

/// Which lists every query reads.
#[derive(Debug, Clone)]
pub enum Reads<B: Backend> {
    /// The only list there is.
    All,
    /// List numbers, `[nq, nprobe]`, distinct within a query; -1 reads nothing.
    Lists(Tensor<B, 2, Int>),
}

impl<B: Backend> Reads<B> {
    /// List numbers on the host, row-major `[nq, nprobe]` with [`SKIP`], and nprobe. Blocks.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn to_host(&self, nq: usize) -> Result<(Vec<u32>, usize)> {
        match self {
            Self::All => Ok((vec![0; nq], 1)),
            Self::Lists(lists) => Ok((list_numbers(lists.clone())?, lists.dims()[1])),
        }
    }
}

/// List numbers on the host, with [`SKIP`] for -1. Blocks until they are computed.
///
/// # Errors
/// When the device cannot be read.
pub fn list_numbers<B: Backend>(lists: Tensor<B, 2, Int>) -> Result<Vec<u32>> {
    let lists = read_int(lists)?;
    Ok(lists
        .into_iter()
        .map(|l| u32::try_from(l).unwrap_or(SKIP))
        .collect())
}

/// The inputs of a scan or re-rank.
#[derive(Debug, Clone)]
pub struct Scan<'a, B: IvfBackend> {
    /// How vectors are compared.
    pub metric: ScanMetric,
    /// Components of a vector.
    pub d: usize,
    /// Results per query, at least 1.
    pub k: usize,
    /// The vectors.
    pub lists: &'a B::Lists,
    /// Their ids.
    pub ids: RowIds<'a>,
    /// Queries, f32 `[nq, d]`.
    pub queries: Tensor<B, 2>,
    /// Bytes of working memory.
    pub workspace: usize,
    /// Which rows of its lists each query is compared with; a re-rank, whose rows are named, does
    /// not look at it.
    pub restriction: Restriction<'a>,
}

impl<B: IvfBackend> Scan<'_, B> {
    /// Number of queries.
    pub fn nq(&self) -> usize {
        self.queries.dims()[0]
    }
}

/// The k best rows of every query, on the device.
#[derive(Debug, Clone)]
pub struct Hits<B: Backend> {
    /// Distances or inner products, f32 `[nq, k]`, best first.
    pub distances: Tensor<B, 2>,
    /// Ids, `[nq, k]`, dtype [`label_dtype`]; -1 where there is no row.
    pub labels: Tensor<B, 2, Int>,
    /// What was compared; `None` where counting it would take a read of the device.
    pub counts: Option<Counts>,
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
    pub fn from_host(found: burn_ivf_kernels::list_scan::Found, device: &B::Device) -> Self {
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

    /// Nothing found for any of `nq` queries.
    pub fn nothing(nq: usize, device: &B::Device) -> Self {
        let found = burn_ivf_kernels::list_scan::Found {
            lims: vec![0; nq + 1],
            distances: Vec::new(),
            labels: Vec::new(),
            rows_scanned: 0,
            rows_reranked: 0,
            lists_scanned: 0,
        };
        Self::from_host(found, device)
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

impl<B: Backend> Hits<B> {
    /// Hits computed on the host, `k` per query.
    pub fn from_host(
        best: burn_ivf_kernels::list_scan::Best,
        k: usize,
        device: &B::Device,
    ) -> Self {
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
        }
    }

    /// Nothing found for any of `nq` queries.
    pub fn padding(metric: impl Into<Metric>, nq: usize, k: usize, device: &B::Device) -> Self {
        Self::from_host(pairs::padding(metric.into(), nq, k), k, device)
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

/// Counts a blocking read that a kernel's operation does by itself.
#[cfg(feature = "cube")]
fn count_read() {
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

/// Rows `indices` of a matrix, in that order.
pub(crate) fn select_rows<B: Backend>(rows: &Tensor<B, 2>, indices: &[u32]) -> Tensor<B, 2> {
    let n = rows.dims()[0];
    if indices.len() == n && indices.iter().enumerate().all(|(i, &r)| i == r as usize) {
        return rows.clone();
    }
    let indices: Vec<i64> = indices.iter().map(|&i| i64::from(i)).collect();
    let shape = [indices.len()];
    rows.clone().select(
        0,
        Tensor::from_data(TensorData::new(indices, shape), &rows.device()),
    )
}
