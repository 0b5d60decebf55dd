//! The exhaustive index.

use super::validate;
use crate::{
    backend::{Hits, IvfBackend, ListStore, Restriction, Scan},
    engine,
    error::{Error, Result, illegal},
    lists::InvertedLists,
    metric::Metric,
    params::{DEFAULT_WORKSPACE, FlatMode, Storage, check_workspace},
    plan::{self, Order},
    result::{MemoryInfo, SearchResult, SearchStats},
};
use burn::tensor::Tensor;

/// An index that compares every query with every vector (faiss `IndexFlat`).
///
/// ```
/// use burn::{backend::NdArray, tensor::Tensor};
/// use burn_ivf::{IndexFlat, Metric};
/// let device = Default::default();
/// let mut index = IndexFlat::<NdArray>::new(3, Metric::InnerProduct, &device)?;
/// index.add(Tensor::from_floats([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], &device))?;
/// let hits = index.search(Tensor::from_floats([[1.0, 1.0, 1.0]], &device), 3)?;
/// let (distances, labels) = hits.to_vecs();
/// assert_eq!(labels, [1, 0, -1]);
/// assert_eq!(distances, [2.0, 1.0, f32::NEG_INFINITY]);
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct IndexFlat<B: IvfBackend> {
    pub(super) d: usize,
    pub(super) metric: Metric,
    pub(super) device: B::Device,
    pub(super) mode: FlatMode,
    pub(super) auto_matrix_bytes_threshold: usize,
    pub(super) workspace: usize,
    pub(super) lists: InvertedLists<B::Inner>,
}

impl<B: IvfBackend> IndexFlat<B> {
    /// An empty index for vectors of `d` components on `device`.
    ///
    /// # Errors
    /// [`Error::ZeroDimension`] when `d` is 0.
    pub fn new(d: usize, metric: Metric, device: &B::Device) -> Result<Self> {
        if d == 0 {
            return Err(Error::ZeroDimension);
        }
        Ok(Self {
            d,
            metric,
            device: device.clone(),
            mode: FlatMode::Auto,
            auto_matrix_bytes_threshold: DEFAULT_WORKSPACE,
            workspace: DEFAULT_WORKSPACE,
            lists: InvertedLists::new(d, 1, Storage::Auto, device),
        })
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        self.d
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Vectors held.
    pub fn ntotal(&self) -> usize {
        self.lists.ntotal()
    }

    /// Always true.
    pub fn is_trained(&self) -> bool {
        true
    }

    /// Where the vectors are.
    pub fn device(&self) -> B::Device {
        self.device.clone()
    }

    /// How searches are done.
    pub fn mode(&self) -> FlatMode {
        self.mode
    }

    /// Sets how searches are done; results are the same.
    pub fn set_mode(&mut self, mode: FlatMode) {
        self.mode = mode;
    }

    /// Bytes of scores (`4 · nq · ntotal`) above which [`FlatMode::Auto`] takes chunks on a
    /// backend without a fused scan: 256 MiB.
    pub fn auto_matrix_bytes_threshold(&self) -> usize {
        self.auto_matrix_bytes_threshold
    }

    /// Sets [`auto_matrix_bytes_threshold`](Self::auto_matrix_bytes_threshold).
    ///
    /// # Errors
    /// [`Error::IllegalValue`] when `bytes` is 0.
    pub fn set_auto_matrix_bytes_threshold(&mut self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Err(illegal("auto_matrix_bytes_threshold", 0, "at least 1 byte"));
        }
        self.auto_matrix_bytes_threshold = bytes;
        Ok(())
    }

    /// Bytes of working memory a search may use: 256 MiB.
    pub fn workspace_limit(&self) -> usize {
        self.workspace
    }

    /// Sets [`workspace_limit`](Self::workspace_limit).
    ///
    /// # Errors
    /// [`Error::IllegalValue`] below 64 KiB.
    pub fn set_workspace_limit(&mut self, bytes: usize) -> Result<()> {
        self.workspace = check_workspace(bytes)?;
        Ok(())
    }

    /// How vectors are stored: [`Storage::Auto`].
    pub fn storage(&self) -> Storage {
        self.lists.storage()
    }

    /// Stores the vectors, those held and those to come, in another way; results are the same.
    ///
    /// # Errors
    /// [`Error::Storage`] for anything but `Auto` where the backend is no CPU backend.
    pub fn set_storage(&mut self, storage: Storage) -> Result<()> {
        validate::storage::<B>(storage, &self.device)?;
        let chunk = copy_rows(self.d, self.workspace);
        self.lists.set_storage(storage, &self.device, chunk)
    }

    /// Adds vectors `x`, `[n, d]`, with the ids that follow the largest one so far.
    ///
    /// # Errors
    /// Another dimension, NaN or infinite components: nothing is added.
    pub fn add(&mut self, x: Tensor<B, 2>) -> Result<()> {
        let ids = self.lists.auto_ids(x.dims()[0])?;
        self.add_with_ids(x, &ids)
    }

    /// Adds vectors `x`, `[n, d]`, with an id each. Duplicate and negative ids are allowed.
    ///
    /// # Errors
    /// Another dimension or number of ids, an id of -1 or one that the device's labels cannot
    /// hold, NaN or infinite components: nothing is added.
    pub fn add_with_ids(&mut self, x: Tensor<B, 2>, ids: &[i64]) -> Result<()> {
        let rows = x.dims()[0];
        validate::ids::<B>(ids, rows, &self.device)?;
        let x = validate::stored::<B>(x, self.d, &self.device, "vectors")?;
        if rows == 0 {
            return Ok(());
        }
        self.lists.append(x, ids, &vec![0; rows])
    }

    /// The `k` nearest vectors of every query in `queries`, `[nq, d]`: best first, ties by smaller
    /// id, label -1 where there are fewer than `k`. A query with NaN or infinity finds nothing.
    ///
    /// # Errors
    /// Another dimension or device, `k` = 0, or more than 2³² - 1 results.
    pub fn search(&self, queries: Tensor<B, 2>, k: usize) -> Result<SearchResult<B>> {
        let k = validate::k(queries.dims()[0], k)?;
        let queries = validate::vectors::<B>(queries, self.d, &self.device, "queries")?;
        let (nq, ntotal) = (queries.dims()[0], self.ntotal());
        let caps = B::capabilities(&self.device);
        let mut stats = SearchStats {
            nq,
            nprobe: 1,
            avg_group: nq as f64,
            kernel: caps.kernel.clone(),
            ..SearchStats::default()
        };
        if nq == 0 || ntotal == 0 {
            "empty".clone_into(&mut stats.mode);
            let hits = Hits::padding(self.metric, nq, k, &self.device);
            return Ok(lift(hits, stats));
        }
        let (chunked, reason) = plan::flat(
            nq,
            ntotal,
            caps.fused_scan,
            self.mode,
            self.auto_matrix_bytes_threshold,
        );
        stats.reason = reason;
        let scan = Scan {
            metric: self.metric,
            d: self.d,
            k,
            lists: self.lists.store(),
            ids: self.lists.ids(),
            queries,
            workspace: self.workspace,
            restriction: Restriction::default(),
        };
        let hits = if chunked {
            "chunked".clone_into(&mut stats.mode);
            stats.filter = self.lists.store().ranks_by();
            Order::ListMajor.name().clone_into(&mut stats.order);
            stats.query_chunks = 1;
            engine::exhaustive_chunked(&scan)?
        } else {
            "matrix".clone_into(&mut stats.mode);
            let (hits, chunks) = engine::exhaustive_matrix(&scan)?;
            stats.query_chunks = chunks;
            hits
        };
        Ok(lift(hits, stats))
    }

    /// Removes all vectors and releases their memory; automatic ids start at 0 again.
    pub fn reset(&mut self) {
        self.lists = InvertedLists::new(self.d, 1, self.storage(), &self.device);
    }

    /// A copy on another device of the same backend.
    ///
    /// # Errors
    /// When the other device cannot hold it.
    pub fn to_device(&self, device: &B::Device) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            lists: self.lists.to_device(device)?,
            ..self.clone()
        })
    }

    /// A copy on another backend, through the host in pieces; values and ids are kept exactly.
    ///
    /// # Errors
    /// When a device cannot be read, or an id does not fit the other device's labels.
    pub fn to_backend<B2: IvfBackend>(&self, device: &B2::Device) -> Result<IndexFlat<B2>> {
        validate::ids::<B2>(self.lists.list_ids(0), self.ntotal(), device)?;
        Ok(IndexFlat {
            d: self.d,
            metric: self.metric,
            device: device.clone(),
            mode: self.mode,
            auto_matrix_bytes_threshold: self.auto_matrix_bytes_threshold,
            workspace: self.workspace,
            lists: self
                .lists
                .to_backend(device, copy_rows(self.d, self.workspace))?,
        })
    }

    /// Bytes held.
    pub fn memory_info(&self) -> MemoryInfo {
        let (vectors, ids) = self.lists.bytes();
        MemoryInfo {
            vectors,
            ids,
            centroids: 0,
        }
    }
}

/// Rows copied between backends at once.
pub(super) fn copy_rows(d: usize, workspace: usize) -> usize {
    (workspace / (4 * d * size_of::<f32>())).max(1)
}

/// Hands hits back to the user's backend.
pub(super) fn lift<B: IvfBackend>(hits: Hits<B::Inner>, mut stats: SearchStats) -> SearchResult<B> {
    stats.rows_scanned = hits.counts.map(|c| c.rows_scanned);
    stats.lists_scanned = hits.counts.map(|c| c.lists_scanned);
    stats.rows_reranked = hits.counts.map(|c| c.rows_reranked);
    SearchResult {
        distances: B::lift(hits.distances),
        labels: B::lift_int(hits.labels),
        stats,
    }
}
