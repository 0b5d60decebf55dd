//! The exhaustive index.

use super::validate;
use crate::{
    backend::{
        Counters, Counts, Hits, IvfBackend, ListStore, Masks, Restriction, Scan, pairs::Pairs,
        rows_of,
    },
    engine,
    error::{Error, Result, illegal},
    lists::InvertedLists,
    metric::{Compare, Metric},
    params::{
        DEFAULT_WORKSPACE, FlatMode, Limit, NanPolicy, SearchParams, Storage, check_workspace,
    },
    plan::{self, Order},
    result::SearchResult,
    stats::{MemoryInfo, SearchStats},
};
use burn::tensor::{DType, Tensor};

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
    pub(super) nan_policy: NanPolicy,
    pub(super) auto_matrix_bytes_threshold: usize,
    pub(super) workspace: usize,
    pub(super) lists: InvertedLists<B::Inner>,
}

impl<B: IvfBackend> IndexFlat<B> {
    /// An empty index for vectors of `d` components on `device`.
    ///
    /// # Errors
    /// [`Error::ZeroDimension`] when `d` is 0, [`Error::IllegalValue`] above 2²⁸ and for an illegal p
    /// of [`Metric::Lp`].
    pub fn new(d: usize, metric: Metric, device: &B::Device) -> Result<Self> {
        let d = validate::dimension(d)?;
        Ok(Self {
            d,
            metric: metric.check()?,
            device: device.clone(),
            mode: FlatMode::Auto,
            nan_policy: NanPolicy::Error,
            auto_matrix_bytes_threshold: DEFAULT_WORKSPACE,
            workspace: DEFAULT_WORKSPACE,
            lists: InvertedLists::new(d, 1, Storage::Auto, device),
        })
    }

    pub(super) fn lists(&self) -> &InvertedLists<B::Inner> {
        &self.lists
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

    /// What `add` does with vectors that hold NaN or infinite components: refuses them.
    pub fn nan_policy(&self) -> NanPolicy {
        self.nan_policy
    }

    /// Sets what `add` does with vectors that hold NaN or infinite components.
    ///
    /// ```
    /// use burn::{backend::NdArray, tensor::Tensor};
    /// use burn_ivf::{IndexFlat, Metric, NanPolicy};
    /// let device = Default::default();
    /// let mut index = IndexFlat::<NdArray>::new(1, Metric::L2, &device)?;
    /// let x = Tensor::from_floats([[0.0], [f32::NAN], [2.0]], &device);
    /// assert!(index.add(x.clone()).is_err());
    /// index.set_nan_policy(NanPolicy::Skip);
    /// index.add(x)?;
    /// let (_, labels) = index.search(Tensor::from_floats([[2.0]], &device), 3)?.to_vecs();
    /// assert_eq!((index.ntotal(), labels), (2, vec![2, 0, -1]));
    /// # Ok::<(), burn_ivf::Error>(())
    /// ```
    pub fn set_nan_policy(&mut self, policy: NanPolicy) {
        self.nan_policy = policy;
    }

    /// How vectors are stored: [`Storage::Auto`].
    pub fn storage(&self) -> Storage {
        self.lists.storage()
    }

    /// Stores the vectors, those held and those to come, in another way; results are the same but for
    /// what 16 bits cannot hold. What was rounded once stays so.
    ///
    /// # Errors
    /// [`Error::Storage`] for one that the backend or its device does not have; [`Error::Overflow`] when
    /// a vector is beyond its range. Nothing changes then.
    pub fn set_storage(&mut self, storage: Storage) -> Result<()> {
        validate::storage::<B>(storage, &self.device)?;
        let chunk = copy_rows(self.d, self.workspace);
        self.lists.set_storage(storage, &self.device, chunk)
    }

    /// Adds vectors `x`, `[n, d]`, with the ids that follow the largest one so far.
    ///
    /// # Errors
    /// Another dimension, NaN or infinite components (unless [`nan_policy`](Self::nan_policy) says
    /// otherwise), or ones beyond the range of the storage: nothing is added.
    pub fn add(&mut self, x: Tensor<B, 2>) -> Result<()> {
        validate::alike::<B>(&x, self.d, &self.device, "vectors")?;
        let ids = self.lists.auto_ids(x.dims()[0])?;
        self.add_with_ids(x, &ids)?;
        self.lists.gave(&ids);
        Ok(())
    }

    /// Adds vectors `x`, `[n, d]`, with an id each. Duplicate and negative ids are allowed.
    ///
    /// # Errors
    /// Another dimension or number of ids, an id of -1 or one that the device's labels cannot
    /// hold, NaN or infinite components: nothing is added.
    pub fn add_with_ids(&mut self, x: Tensor<B, 2>, ids: &[i64]) -> Result<()> {
        let rows = x.dims()[0];
        span!("add", n = rows);
        validate::ids::<B>(ids, rows, &self.device)?;
        let at = (self.d, &self.device);
        let x = validate::accepted::<B>(self.nan_policy, self.metric, x, at, "vectors")?;
        let ids = x.of(ids);
        if ids.is_empty() {
            return Ok(());
        }
        self.lists.append(x.rows, &ids, &vec![0; ids.len()])
    }

    /// The `k` nearest vectors of every query in `queries`, `[nq, d]`: best first, ties by smaller
    /// id, label -1 where there are fewer than `k`. A query with NaN or infinity finds nothing.
    ///
    /// # Errors
    /// Another dimension or device, `k` = 0, or more than 2³² - 1 results.
    pub fn search(&self, queries: Tensor<B, 2>, k: usize) -> Result<SearchResult<B>> {
        self.search_with(queries, k, &SearchParams::default())
    }

    /// [`search`](Self::search) with parameters of its own: a selector, a workspace limit.
    ///
    /// # Errors
    /// As `search`; [`Error::NotApplicable`] for parameters of inverted files.
    pub fn search_with(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        params: &SearchParams,
    ) -> Result<SearchResult<B>> {
        span!("search", nq = queries.dims()[0], k = k);
        let workspace = self.check_params(params, queries.dims()[0])?;
        let before = Counters::now();
        let k = validate::k(queries.dims()[0], k)?;
        let queries = validate::vectors::<B>(queries, self.d, &self.device, "queries")?;
        let queries = validate::prepared(self.metric, queries)?;
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
        if let Compare::Pairs(_) = self.metric.compare() {
            "pairs".clone_into(&mut stats.mode);
            stats.reason = format!("metric {} compares every pair", self.metric);
        } else if chunked {
            "chunked".clone_into(&mut stats.mode);
            stats.filter = self.lists.store().ranks_by();
        } else {
            "matrix".clone_into(&mut stats.mode);
        }
        span!(
            "scan",
            nq = nq,
            k = k,
            nprobe = 1,
            mode = stats.mode.as_str()
        );
        let selection = params.selection.as_ref();
        let words = self.lists.mask_words();
        let mut parts = Vec::new();
        for range in engine::selected_pieces(selection, nq, words, workspace) {
            let masks = selection.map(|selection| self.lists.masks(selection, range.clone()));
            let own = range.len();
            let queries = rows_of(&queries, range);
            let (mut hits, chunks) = if let Compare::Pairs(_) = self.metric.compare() {
                (self.search_pairs(queries, k, workspace, masks.as_ref())?, 1)
            } else {
                let scan = self.scan(queries, k, workspace, masks.as_ref())?;
                if chunked {
                    (engine::exhaustive_chunked(&scan)?, 1)
                } else {
                    engine::exhaustive_matrix(&scan)?
                }
            };
            if params.counts && hits.counts.is_none() {
                let restriction = Restriction {
                    masks: masks.as_ref(),
                    ..Restriction::default()
                };
                hits.counts = Some(engine::count(&[ntotal], &vec![0; own], 1, restriction));
            }
            stats.query_chunks += chunks;
            parts.push(hits);
        }
        let spent = Counters::now().since(before);
        stats.launches = spent.launches;
        stats.blocking_reads = spent.blocking_reads;
        stats.workspace = workspace;
        let hits = Hits::join(parts);
        if stats.mode == "chunked" {
            let order = hits.order.unwrap_or(Order::ListMajor);
            order.name().clone_into(&mut stats.order);
            if let Some(filter) = hits.filter {
                filter.clone_into(&mut stats.filter);
            }
        }
        Ok(lift(hits, stats))
    }

    /// The workspace of a search, when its parameters are those of a flat index.
    pub(super) fn check_params(&self, params: &SearchParams, nq: usize) -> Result<usize> {
        let instead = "a flat index has one list and compares with all of it; leave it out";
        let refused = [
            ("nprobe", params.nprobe.is_some()),
            (
                "a limit",
                !matches!(params.limit, None | Some(Limit::Unlimited)),
            ),
            ("a list ordering", params.list_ordering.is_some()),
            ("an auto rule", params.auto_rule.is_some()),
            (
                "a profile with a budget",
                params
                    .profile
                    .is_some_and(|profile| profile.budget().is_some()),
            ),
            ("safe pruning", params.safe_pruning == Some(true)),
        ];
        if let Some((what, _)) = refused.into_iter().find(|(_, set)| *set) {
            return Err(Error::NotApplicable { what, instead });
        }
        if params.mode.is_some() {
            return Err(Error::NotApplicable {
                what: "a search mode",
                instead: "a flat index has set_mode()",
            });
        }
        if let Some(selection) = &params.selection {
            selection.check(nq)?;
        }
        check_workspace(params.workspace_limit.unwrap_or(self.workspace))
    }

    /// The inputs of a scan of the one list.
    ///
    /// # Errors
    /// A metric that no scan knows.
    pub(super) fn scan<'a>(
        &'a self,
        queries: Tensor<B::Inner, 2>,
        k: usize,
        workspace: usize,
        masks: Option<&'a Masks>,
    ) -> Result<Scan<'a, B::Inner>> {
        Ok(Scan {
            metric: self.metric.scanned()?,
            d: self.d,
            k,
            lists: self.lists.store(),
            ids: self.lists.ids(),
            queries,
            workspace,
            restriction: Restriction {
                masks,
                ..Restriction::default()
            },
        })
    }

    /// A search by a metric that compares every pair as it is, whatever the mode.
    fn search_pairs(
        &self,
        queries: Tensor<B::Inner, 2>,
        k: usize,
        workspace: usize,
        masks: Option<&Masks>,
    ) -> Result<Hits<B::Inner>> {
        let nq = queries.dims()[0];
        let pairs = Pairs {
            metric: self.metric,
            k,
            queries,
            workspace,
        };
        let (store, ids) = (self.lists.store(), self.lists.ids());
        if masks.is_none() {
            return pairs.one_list(store, ids);
        }
        let restriction = Restriction {
            masks,
            ..Restriction::default()
        };
        let all = Tensor::zeros([nq, 1], (&self.device, DType::I32));
        pairs.lists(store, ids, all, restriction)
    }

    /// Removes all vectors and releases their memory; automatic ids start at 0 again.
    pub fn reset(&mut self) {
        self.lists = InvertedLists::new(self.d, 1, self.storage(), &self.device);
    }

    /// A copy on another device of the same backend.
    ///
    /// # Errors
    /// When the other device cannot hold it; [`Error::Storage`] when it lacks the type of the vectors,
    /// [`Error::IdOutOfRange`] when its labels are too narrow for an id.
    pub fn to_device(&self, device: &B::Device) -> Result<Self> {
        validate::storage::<B>(self.storage(), device)?;
        validate::ids::<B>(self.lists.list_ids(0), self.ntotal(), device)?;
        Ok(Self {
            device: device.clone(),
            lists: self.lists.to_device(device)?,
            ..self.clone()
        })
    }

    /// The index on another device of the same backend; what is here is given back, and on the same
    /// device nothing is copied.
    ///
    /// # Errors
    /// As [`to_device`](Self::to_device).
    pub fn into_device(self, device: &B::Device) -> Result<Self> {
        if self.device == *device {
            return Ok(self);
        }
        self.to_device(device)
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
            nan_policy: self.nan_policy,
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
            derived: 0,
        }
    }
}

/// Rows copied between backends at once.
pub(super) fn copy_rows(d: usize, workspace: usize) -> usize {
    (workspace / (4 * d * size_of::<f32>())).max(1)
}

/// Hands hits back to the user's backend.
pub(super) fn lift<B: IvfBackend>(hits: Hits<B::Inner>, mut stats: SearchStats) -> SearchResult<B> {
    Counts::report(hits.counts, &mut stats);
    SearchResult {
        distances: B::lift(hits.distances),
        labels: B::lift_int(hits.labels),
        stats,
    }
}
