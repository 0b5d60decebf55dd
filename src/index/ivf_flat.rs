//! The inverted-file index: building, adding, looking inside.

use super::{builder::IndexIvfFlatBuilder, flat::copy_rows, validate};
use crate::{
    backend::{self, IvfBackend, ListStore, RowIds, list_numbers, read},
    cluster::{self, KMeansParams, Quantizer},
    engine,
    error::{Error, Result},
    lists::InvertedLists,
    metric::Metric,
    params::{
        AutoRule, IvfSettings, Limit, ListOrdering, NanPolicy, SearchMode, SearchParams, Storage,
        check_workspace,
    },
    plan::Tuning,
    stats::MemoryInfo,
};
use burn::tensor::{DType, Tensor, TensorData};
use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

/// An inverted file over exact vectors (faiss `IndexIVFFlat`).
///
/// Vectors are put into the list of their nearest centroid; a search reads the `nprobe` nearest
/// lists of each query. Searching takes `&self` and the index is `Send + Sync`; a clone is a
/// snapshot that shares memory until one of the two changes.
///
/// ```
/// use burn::{backend::NdArray, tensor::{Distribution, Tensor}};
/// use burn_ivf::{IndexIvfFlat, SearchParams};
/// let device = Default::default();
/// let x = Tensor::<NdArray, 2>::random([2000, 16], Distribution::Default, &device);
/// let mut index = IndexIvfFlat::<NdArray>::builder(16).nlist(20).build(&device)?;
/// index.train(x.clone())?;
/// index.add(x.clone())?;
/// let queries = x.slice([0..5, 0..16]);
/// let hits = index.search_with(queries, 3, &SearchParams::exact().with_nprobe(4))?;
/// let (distances, labels) = hits.to_vecs();
/// assert_eq!((labels[0], distances[0]), (0, 0.0));
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct IndexIvfFlat<B: IvfBackend> {
    pub(super) d: usize,
    pub(super) metric: Metric,
    pub(super) device: B::Device,
    pub(super) settings: IvfSettings,
    pub(super) nlist: Option<usize>,
    pub(super) kmeans: KMeansParams,
    pub(super) trained: Option<Trained<B::Inner>>,
    /// The device's, once looked up, or that set by hand.
    pub(super) tuning: OnceLock<Arc<Tuning>>,
}

/// What training makes: centroids, in the store's layout and as a tensor, and the lists.
#[derive(Debug, Clone)]
pub(super) struct Trained<E: IvfBackend> {
    /// One list, row `l` is centroid `l`.
    pub centroid_lists: E::Lists,
    pub centroids: Tensor<E, 2>,
    pub lists: InvertedLists<E>,
}

impl<E: IvfBackend> Trained<E> {
    pub fn new(centroids: Tensor<E, 2>, storage: Storage, device: &E::Device) -> Result<Self> {
        let [nlist, d] = centroids.dims();
        Self::with_lists(centroids, InvertedLists::new(d, nlist, storage, device))
    }

    /// As many lists as centroids.
    pub fn with_lists(centroids: Tensor<E, 2>, lists: InvertedLists<E>) -> Result<Self> {
        Ok(Self {
            centroid_lists: cluster::centroid_list(centroids.clone())?,
            centroids,
            lists,
        })
    }
}

impl<E: IvfBackend> Trained<E> {
    /// The coarse quantizer.
    pub fn quantizer(&self, metric: Metric, workspace: usize) -> Quantizer<'_, E> {
        let [nlist, d] = self.centroids.dims();
        Quantizer {
            metric,
            store: &self.centroid_lists,
            nlist,
            d,
            workspace,
        }
    }
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// Starts an index for vectors of `d` components.
    pub fn builder(d: usize) -> IndexIvfFlatBuilder<B> {
        IndexIvfFlatBuilder::new(d)
    }

    pub(super) fn untrained(
        d: usize,
        nlist: Option<usize>,
        metric: Metric,
        settings: IvfSettings,
        kmeans: KMeansParams,
        device: &B::Device,
    ) -> Self {
        Self {
            d,
            metric,
            device: device.clone(),
            settings,
            nlist,
            kmeans,
            trained: None,
            tuning: OnceLock::new(),
        }
    }

    /// A trained, empty index around given centroids, `[nlist, d]`, with default settings.
    ///
    /// # Errors
    /// No centroid, no component, NaN or infinite components, a metric that only a flat index has.
    pub fn from_centroids(centroids: Tensor<B, 2>, metric: Metric) -> Result<Self> {
        let [nlist, d] = centroids.dims();
        validate::dimension(d)?;
        if nlist == 0 {
            return Err(Error::ZeroNlist);
        }
        let device = centroids.device();
        let metric = metric.check_ivf()?;
        let centroids = validate::stored_for::<B>(metric, centroids, d, &device, "centroids")?;
        let mut index = Self::untrained(
            d,
            Some(nlist),
            metric,
            IvfSettings::default(),
            KMeansParams::default(),
            &device,
        );
        index.trained = Some(Trained::new(centroids, Storage::Auto, &device)?);
        Ok(index)
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        self.d
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Where the vectors are.
    pub fn device(&self) -> B::Device {
        self.device.clone()
    }

    /// Vectors held.
    pub fn ntotal(&self) -> usize {
        self.trained.as_ref().map_or(0, |t| t.lists.ntotal())
    }

    /// Number of lists; `None` while it is left to `train`.
    pub fn nlist(&self) -> Option<usize> {
        self.nlist
            .or(self.trained.as_ref().map(|t| t.lists.nlist()))
    }

    /// How vectors are stored.
    pub fn storage(&self) -> Storage {
        self.settings.storage
    }

    /// Stores the vectors, those held and those to come, in another way; results are the same but for
    /// what 16 bits cannot hold. What was rounded once stays so.
    ///
    /// # Errors
    /// [`Error::Storage`] for one that the backend or its device does not have; [`Error::Overflow`] when
    /// a vector is beyond its range. Nothing changes then.
    pub fn set_storage(&mut self, storage: Storage) -> Result<()> {
        validate::storage::<B>(storage, &self.device)?;
        let chunk = copy_rows(self.d, self.settings.workspace);
        if let Some(trained) = &mut self.trained {
            trained.lists.set_storage(storage, &self.device, chunk)?;
        }
        self.settings.storage = storage;
        Ok(())
    }

    /// Whether vectors can be added and searched.
    pub fn is_trained(&self) -> bool {
        self.trained.is_some()
    }

    /// Lists probed per query.
    pub fn nprobe(&self) -> usize {
        self.settings
            .nprobe_or_default(self.nlist().unwrap_or(usize::MAX))
    }

    /// Sets the number of lists probed per query; above nlist is clamped.
    ///
    /// # Errors
    /// [`Error::ZeroNprobe`] when it is 0.
    pub fn set_nprobe(&mut self, nprobe: usize) -> Result<()> {
        if nprobe == 0 {
            return Err(Error::ZeroNprobe);
        }
        self.settings.nprobe = Some(nprobe.min(self.nlist().unwrap_or(usize::MAX)));
        Ok(())
    }

    /// How searches are done.
    pub fn mode(&self) -> SearchMode {
        self.settings.mode
    }

    /// Sets how searches are done; results are the same.
    pub fn set_mode(&mut self, mode: SearchMode) {
        self.settings.mode = mode;
    }

    /// How [`SearchMode::Auto`] decides.
    pub fn auto_rule(&self) -> AutoRule {
        self.settings.auto_rule
    }

    /// Sets how [`SearchMode::Auto`] decides.
    ///
    /// # Errors
    /// [`Error::IllegalValue`] for a threshold that is not a finite number above 0.
    pub fn set_auto_rule(&mut self, rule: AutoRule) -> Result<()> {
        self.settings.auto_rule = rule.check()?;
        Ok(())
    }

    /// Bytes of working memory a search may use.
    pub fn workspace_limit(&self) -> usize {
        self.settings.workspace
    }

    /// Sets [`workspace_limit`](Self::workspace_limit).
    ///
    /// # Errors
    /// [`Error::IllegalValue`] below 64 KiB.
    pub fn set_workspace_limit(&mut self, bytes: usize) -> Result<()> {
        self.settings.workspace = check_workspace(bytes)?;
        Ok(())
    }

    /// The limit of searches that bring none of their own.
    pub fn limit(&self) -> Limit {
        self.settings.limit.unwrap_or_default()
    }

    /// Sets the limit of searches that bring none of their own.
    ///
    /// # Errors
    /// [`Error::IllegalValue`] for a limit of no row, or bounds that contradict each other.
    pub fn set_limit(&mut self, limit: Limit) -> Result<()> {
        self.settings.limit = Some(limit.check()?);
        Ok(())
    }

    /// Sets [`Limit::max_codes`] for searches that bring no limit of their own; 0 is unlimited.
    pub fn set_max_codes(&mut self, max_codes: usize) {
        self.settings.limit = Some(Limit::max_codes(max_codes));
    }

    /// Sets the order in which rows of a list are read where a limit leaves some out, for searches
    /// that name none.
    ///
    /// # Errors
    /// [`Error::ListOrdering`] when the order says nothing about the index's metric.
    pub fn set_list_ordering(&mut self, ordering: ListOrdering) -> Result<()> {
        let settings = IvfSettings {
            list_ordering: Some(ordering),
            ..self.settings
        };
        SearchParams::default().resolve(&settings, 1, self.metric)?;
        self.settings = settings;
        Ok(())
    }

    /// What training and adding do with vectors that hold NaN or infinite components.
    pub fn nan_policy(&self) -> NanPolicy {
        self.settings.nan_policy
    }

    /// Sets what training and adding do with vectors that hold NaN or infinite components.
    pub fn set_nan_policy(&mut self, policy: NanPolicy) {
        self.settings.nan_policy = policy;
    }

    /// Whether searches leave out lists that cannot hold one of the k best, unless they say
    /// otherwise; see [`SearchParams::with_safe_pruning`].
    ///
    /// # Errors
    /// [`Error::NotApplicable`] for L1 and Linf, by which nothing bounds the rows of a list.
    pub fn set_safe_pruning(&mut self, on: bool) -> Result<()> {
        let settings = IvfSettings {
            safe_pruning: on,
            ..self.settings
        };
        SearchParams::default().resolve(&settings, 1, self.metric)?;
        self.settings = settings;
        Ok(())
    }

    /// The thresholds searches go by, each with its source: those of the device
    /// ([`backend::tuning`](crate::backend::tuning)) unless set.
    pub fn tuning(&self) -> &Tuning {
        self.shared_tuning()
    }

    pub(super) fn shared_tuning(&self) -> &Arc<Tuning> {
        self.tuning
            .get_or_init(|| backend::tuning::<B>(&self.device))
    }

    /// Sets the thresholds searches go by; results are the same. They are not saved, and a copy
    /// on another device has that device's.
    pub fn set_tuning(&mut self, tuning: Tuning) {
        self.tuning = OnceLock::from(Arc::new(tuning));
    }

    pub(super) fn trained(&self) -> Result<&Trained<B::Inner>> {
        self.trained.as_ref().ok_or(Error::NotTrained)
    }

    /// Adds vectors `x`, `[n, d]`, with the ids that follow the largest one so far.
    ///
    /// # Errors
    /// Not trained, another dimension, NaN or infinite components (unless
    /// [`nan_policy`](Self::nan_policy) says otherwise), or ones beyond the range of the storage: nothing
    /// is added.
    pub fn add(&mut self, x: Tensor<B, 2>) -> Result<()> {
        let trained = self.trained()?;
        validate::alike::<B>(&x, self.d, &self.device, "vectors")?;
        let ids = trained.lists.auto_ids(x.dims()[0])?;
        self.add_checked(x, &ids, None)?;
        self.gave(&ids);
        Ok(())
    }

    fn gave(&mut self, ids: &[i64]) {
        if let Some(trained) = &mut self.trained {
            trained.lists.gave(ids);
        }
    }

    /// Adds vectors `x`, `[n, d]`, with an id each. Duplicate and negative ids are allowed.
    ///
    /// # Errors
    /// As [`add`](Self::add); another number of ids, an id of -1 or one that the device's labels
    /// cannot hold.
    pub fn add_with_ids(&mut self, x: Tensor<B, 2>, ids: &[i64]) -> Result<()> {
        self.add_checked(x, ids, None)
    }

    /// Adds vector `i` of `x`, `[n, d]`, to list `lists[i]` without looking for the nearest one
    /// (faiss `add_core` with precomputed assignment); automatic ids without `ids`.
    ///
    /// # Errors
    /// As [`add_with_ids`](Self::add_with_ids); another number of lists, or one that does not
    /// exist.
    pub fn add_preassigned(
        &mut self,
        x: Tensor<B, 2>,
        ids: Option<&[i64]>,
        lists: &[u32],
    ) -> Result<()> {
        if let Some(ids) = ids {
            return self.add_checked(x, ids, Some(lists));
        }
        let trained = self.trained()?;
        validate::alike::<B>(&x, self.d, &self.device, "vectors")?;
        let ids = trained.lists.auto_ids(x.dims()[0])?;
        self.add_checked(x, &ids, Some(lists))?;
        self.gave(&ids);
        Ok(())
    }

    fn add_checked(&mut self, x: Tensor<B, 2>, ids: &[i64], lists: Option<&[u32]>) -> Result<()> {
        span!("add", n = x.dims()[0]);
        let (metric, workspace) = (self.metric, self.settings.workspace);
        let trained = self.trained.as_mut().ok_or(Error::NotTrained)?;
        let rows = x.dims()[0];
        validate::ids::<B>(ids, rows, &self.device)?;
        let nlist = trained.lists.nlist();
        if let Some(lists) = lists {
            if lists.len() != rows {
                return Err(Error::Count {
                    what: "list numbers",
                    rows,
                    found: lists.len(),
                });
            }
            if let Some(&list) = lists.iter().find(|&&l| l as usize >= nlist) {
                return Err(Error::ListOutOfRange {
                    list: i64::from(list),
                    nlist,
                    hint: "",
                });
            }
        }
        let (policy, at) = (self.settings.nan_policy, (self.d, &self.device));
        let x = validate::accepted::<B>(policy, metric, x, at, "vectors")?;
        let ids = x.of(ids);
        if ids.is_empty() {
            return Ok(());
        }
        let lists = if let Some(lists) = lists {
            x.of(lists)
        } else {
            let quantizer = trained.quantizer(metric, workspace);
            let lists = engine::probe(&quantizer, x.rows.clone(), 1)?.lists;
            Cow::Owned(list_numbers(lists)?)
        };
        trained.lists.append(x.rows, &ids, &lists)
    }

    /// Removes all vectors and releases their memory; training and settings stay, automatic ids
    /// start at 0 again.
    pub fn reset(&mut self) {
        if let Some(trained) = &mut self.trained {
            let nlist = trained.lists.nlist();
            trained.lists = InvertedLists::new(self.d, nlist, self.settings.storage, &self.device);
        }
    }

    /// Removes all vectors and the training; settings stay.
    pub fn reset_all(&mut self) {
        self.trained = None;
    }

    /// The centroids, f32 `[nlist, d]`, once trained.
    pub fn centroids(&self) -> Option<Tensor<B, 2>> {
        self.trained.as_ref().map(|t| B::lift(t.centroids.clone()))
    }

    /// Vectors in every list; empty before training.
    pub fn list_sizes(&self) -> Vec<usize> {
        self.trained
            .as_ref()
            .map_or_else(Vec::new, |t| t.lists.sizes())
    }

    /// The ids of list `l`, in insertion order.
    ///
    /// # Errors
    /// Not trained, or no such list.
    pub fn list_ids(&self, l: usize) -> Result<Vec<i64>> {
        Ok(self.list(l)?.lists.list_ids(l).to_vec())
    }

    /// The vectors of list `l`, f32 `[size, d]`, in insertion order, bit for bit as added (scaled to
    /// length 1 for [`Metric::Cosine`]).
    ///
    /// # Errors
    /// Not trained, or no such list.
    pub fn list_vectors(&self, l: usize) -> Result<Tensor<B, 2>> {
        let lists = &self.list(l)?.lists;
        let size = lists.list_ids(l).len();
        Ok(B::lift(if size == 0 {
            Tensor::from_data(
                TensorData::new(Vec::<f32>::new(), [0, self.d]),
                (&self.device, DType::F32),
            )
        } else {
            lists.rows(l, 0..size)?
        }))
    }

    fn list(&self, l: usize) -> Result<&Trained<B::Inner>> {
        let trained = self.trained()?;
        let nlist = trained.lists.nlist();
        if l >= nlist {
            return Err(Error::ListOutOfRange {
                list: l as i64,
                nlist,
                hint: "",
            });
        }
        Ok(trained)
    }

    /// `nlist · Σ size² / ntotal²` of the lists: 1 is perfect balance (faiss `imbalance_factor`).
    pub fn imbalance_factor(&self) -> f64 {
        cluster::imbalance(&self.list_sizes())
    }

    /// A copy on another device of the same backend.
    ///
    /// # Errors
    /// When the other device cannot hold it; [`Error::Storage`] when it lacks the type of the vectors,
    /// [`Error::IdOutOfRange`] when its labels are too narrow for an id.
    pub fn to_device(&self, device: &B::Device) -> Result<Self> {
        validate::storage::<B>(self.storage(), device)?;
        self.check_ids::<B>(device)?;
        let trained = match &self.trained {
            None => None,
            Some(t) => Some(Trained {
                centroid_lists: t
                    .centroid_lists
                    .to_device(RowIds::Places(t.lists.nlist()), device)?,
                centroids: t.centroids.clone().to_device(device),
                lists: t.lists.to_device(device)?,
            }),
        };
        Ok(Self {
            device: device.clone(),
            trained,
            tuning: OnceLock::new(),
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

    /// Whether the labels of another device can hold every id.
    fn check_ids<B2: IvfBackend>(&self, device: &B2::Device) -> Result<()> {
        let Some(trained) = &self.trained else {
            return Ok(());
        };
        for l in 0..trained.lists.nlist() {
            let ids = trained.lists.list_ids(l);
            validate::ids::<B2>(ids, ids.len(), device)?;
        }
        Ok(())
    }

    /// A copy on another backend, through the host in pieces; values, ids and settings are kept
    /// exactly.
    ///
    /// # Errors
    /// When a device cannot be read, or an id does not fit the other device's labels.
    pub fn to_backend<B2: IvfBackend>(&self, device: &B2::Device) -> Result<IndexIvfFlat<B2>> {
        self.check_ids::<B2>(device)?;
        let trained = match &self.trained {
            None => None,
            Some(trained) => {
                let data =
                    TensorData::new(read(trained.centroids.clone())?, trained.centroids.dims());
                let centroids = Tensor::from_data(data, (device, DType::F32));
                let mut copy = Trained::new(centroids, Storage::Auto, device)?;
                copy.lists = trained
                    .lists
                    .to_backend(device, copy_rows(self.d, self.settings.workspace))?;
                Some(copy)
            }
        };
        let mut settings = self.settings;
        settings.storage = B2::capabilities(device).storage(settings.storage);
        Ok(IndexIvfFlat {
            d: self.d,
            metric: self.metric,
            device: device.clone(),
            settings,
            nlist: self.nlist,
            kmeans: self.kmeans.clone(),
            trained,
            tuning: OnceLock::new(),
        })
    }

    /// Bytes held.
    pub fn memory_info(&self) -> MemoryInfo {
        self.trained.as_ref().map_or_else(MemoryInfo::default, |t| {
            let (vectors, ids) = t.lists.bytes();
            let centroids = t.centroid_lists.bytes()
                + t.centroids.dims().iter().product::<usize>() * size_of::<f32>();
            MemoryInfo {
                vectors,
                ids,
                centroids,
                derived: t.lists.derived_bytes(),
            }
        })
    }
}
