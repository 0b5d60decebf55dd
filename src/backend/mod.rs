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
mod hits;
#[cfg(any(feature = "ndarray", feature = "flex"))]
mod host;
#[cfg(feature = "ndarray")]
mod ndarray;
pub(crate) mod pairs;
pub mod portable;
mod reads;
mod store;

pub(crate) use self::hits::selected_from;
#[cfg(feature = "cube")]
use self::reads::count_read;
pub use self::{
    hits::{Counts, Hits, RangeHits, label_dtype, labels_from},
    reads::{Counters, read, read_int},
    store::{Filling, Keep, ListStore, Merging, Places, RowIds, Run},
};
pub use crate::metric::ScanMetric;
use crate::{
    error::Result,
    params::{Limit, Storage},
    plan::{self, DeviceKey, IvfProblem, Order, Tuning},
    stats::KernelCost,
};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
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

    /// What this device is called where tuned values are looked up for it.
    fn device_key(device: &Self::Device) -> DeviceKey {
        DeviceKey::from_backend(&Self::name(device))
    }

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

    /// Copies integers, `[n, m]`, to the host, row-major. Blocks until they are computed.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn ints_to_host(ints: Tensor<Self, 2, Int>) -> Result<Vec<i64>> {
        read_int(ints)
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

    /// What [`list_scan`](Self::list_scan) costs, kernel by kernel; nothing where there is no count of it.
    fn scan_cost(_: &Self::Lists, _: &ScanSize<'_>) -> Vec<KernelCost> {
        Vec::new()
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

/// The value of every knob in force on `device`, with its source. Resolved once per process and
/// device; prints as a table.
///
/// ```
/// use burn::backend::NdArray;
/// use burn_ivf::{Knob, backend::tuning};
/// let tuning = tuning::<NdArray>(&Default::default());
/// assert_eq!(tuning.get(Knob::CsrFromAvgGroup), 0.0);
/// println!("{tuning}");
/// ```
pub fn tuning<B: IvfBackend>(device: &B::Device) -> Arc<Tuning> {
    let fused_scan = B::capabilities(device).fused_scan;
    Tuning::for_device(&B::device_key(device), fused_scan)
}

/// What [`tuning`] prints: every knob with its value, unit and source.
pub fn dump_config<B: IvfBackend>(device: &B::Device) -> String {
    tuning::<B>(device).to_string()
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
    /// How lists can store vectors, [`Storage::Auto`] among them.
    pub storages: Vec<Storage>,
    /// Relative error with which a matrix product rounds its f32 inputs: 0, or 2⁻¹⁰ where they
    /// may pass through tensor cores as tf32.
    pub matmul_input_roundoff: f64,
}

impl Capabilities {
    /// Whether vectors can be stored so.
    pub fn stores(&self, storage: Storage) -> bool {
        self.storages.contains(&storage)
    }

    /// This storage, or [`Storage::Auto`] where there is no such one; every value fits.
    pub(crate) fn storage(&self, wanted: Storage) -> Storage {
        if self.stores(wanted) {
            wanted
        } else {
            Storage::Auto
        }
    }
}

/// Which lists every query reads, and in which order.
#[derive(Debug, Clone)]
pub struct Probing<B: Backend> {
    /// The lists.
    pub reads: Reads<B>,
    /// In which order a kernel that has the choice reads them.
    pub order: Order,
    /// The thresholds in force; they change no answer.
    pub tuning: Arc<Tuning>,
}

impl<B: IvfBackend> Probing<B> {
    /// The only list of a scan, whole, for all of its queries.
    pub(crate) fn all(scan: &Scan<'_, B>) -> Self {
        let device = scan.queries.device();
        let tuning = tuning::<B>(&device);
        let rows = scan.ids.len(0);
        Self {
            reads: Reads::All,
            order: order_of_all::<B>(&device, scan.nq(), (rows, scan.d), &tuning),
            tuning,
        }
    }
}

/// In which order one list of `n` rows of `d` components is read, whole, for `nq` queries.
pub(crate) fn order_of_all<B: IvfBackend>(
    device: &B::Device,
    nq: usize,
    (n, d): (usize, usize),
    tuning: &Tuning,
) -> Order {
    let caps = B::capabilities(device);
    if caps.host {
        return Order::ListMajor;
    }
    plan::order(&IvfProblem {
        nq,
        d,
        nlist: 1,
        nprobe: 1,
        ntotal: n,
        fused_scan: caps.fused_scan,
        host: caps.host,
        workspace: 0,
        limit: Limit::Unlimited,
        k: 1,
        tuning,
    })
}

/// A scan without a restriction, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct ScanSize<'a> {
    /// How vectors are compared.
    pub metric: ScanMetric,
    /// Queries.
    pub nq: usize,
    /// Results per query.
    pub k: usize,
    /// Lists a query reads; `None` for all of the only list there is.
    pub nprobe: Option<usize>,
    /// How many queries probe each list; `None`: any list is as likely as any other.
    pub probed: Option<&'a [u64]>,
    /// Bytes of working memory.
    pub workspace: usize,
    /// In which order a kernel that has the choice reads lists.
    pub order: Order,
    /// The thresholds in force.
    pub tuning: &'a Tuning,
}

/// Which lists every query reads.
#[derive(Debug, Clone)]
pub enum Reads<B: Backend> {
    /// The only list there is.
    All,
    /// List numbers, `[nq, nprobe]`, distinct within a query; -1 reads nothing.
    Lists(Tensor<B, 2, Int>),
}

impl<B: IvfBackend> Reads<B> {
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
pub fn list_numbers<B: IvfBackend>(lists: Tensor<B, 2, Int>) -> Result<Vec<u32>> {
    let lists = B::ints_to_host(lists)?;
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

/// A run of rows of a matrix.
pub(crate) fn rows_of<B: Backend>(
    rows: &Tensor<B, 2>,
    range: core::ops::Range<usize>,
) -> Tensor<B, 2> {
    let [n, d] = rows.dims();
    if range.len() == n {
        return rows.clone();
    }
    rows.clone().slice([range, 0..d])
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
