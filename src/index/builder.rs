//! Building an inverted file.

use super::{IndexIvfFlat, validate};
use crate::{
    backend::IvfBackend,
    cluster::KMeansParams,
    error::{Error, Result},
    metric::Metric,
    params::{AutoRule, IvfSettings, NanPolicy, SearchMode, Storage, check_workspace},
};
use core::marker::PhantomData;

/// Settings of an [`IndexIvfFlat`] before it exists; all have defaults.
///
/// ```
/// use burn::backend::NdArray;
/// use burn_ivf::{IndexIvfFlat, Metric};
/// let index = IndexIvfFlat::<NdArray>::builder(64)
///     .nlist(256)
///     .metric(Metric::InnerProduct)
///     .nprobe(16)
///     .build(&Default::default())?;
/// assert_eq!((index.nlist(), index.nprobe()), (Some(256), 16));
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct IndexIvfFlatBuilder<B: IvfBackend> {
    d: usize,
    nlist: Option<usize>,
    metric: Metric,
    settings: IvfSettings,
    kmeans: KMeansParams,
    backend: PhantomData<fn() -> B>,
}

impl<B: IvfBackend> IndexIvfFlatBuilder<B> {
    pub(super) fn new(d: usize) -> Self {
        Self {
            d,
            nlist: None,
            metric: Metric::L2,
            settings: IvfSettings::default(),
            kmeans: KMeansParams::default(),
            backend: PhantomData,
        }
    }

    /// Number of lists. Without it `train` takes `min(1024, max(1, floor(√n)))`.
    #[must_use]
    pub fn nlist(mut self, nlist: usize) -> Self {
        self.nlist = Some(nlist);
        self
    }

    /// How vectors are compared: L2 by default; L2, inner product, cosine, L1 or Linf.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = metric;
        self
    }

    /// Lists probed per query: `min(8, nlist)` by default; above nlist is clamped.
    #[must_use]
    pub fn nprobe(mut self, nprobe: usize) -> Self {
        self.settings.nprobe = Some(nprobe);
        self
    }

    /// Seed of training: 1234 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.kmeans.seed = seed;
        self
    }

    /// All parameters of training (the seed too).
    #[must_use]
    pub fn kmeans(mut self, params: KMeansParams) -> Self {
        self.kmeans = params;
        self
    }

    /// How searches are done: automatically by default.
    #[must_use]
    pub fn mode(mut self, mode: SearchMode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// How [`SearchMode::Auto`] decides: by measurement by default.
    #[must_use]
    pub fn auto_rule(mut self, rule: AutoRule) -> Self {
        self.settings.auto_rule = rule;
        self
    }

    /// How vectors are stored: [`Storage::Auto`] by default.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.settings.storage = storage;
        self
    }

    /// What training and adding do with vectors that hold NaN or infinite components: refuse the call by
    /// default.
    #[must_use]
    pub fn nan_policy(mut self, policy: NanPolicy) -> Self {
        self.settings.nan_policy = policy;
        self
    }

    /// Bytes of working memory of a search: 256 MiB by default.
    #[must_use]
    pub fn workspace_limit(mut self, bytes: usize) -> Self {
        self.settings.workspace = bytes;
        self
    }

    /// The untrained, empty index on `device`.
    ///
    /// # Errors
    /// A dimension, nlist or nprobe of 0, a dimension above 2²⁸, a metric that only a flat index has, another illegal value, or a storage the backend does not
    /// have.
    pub fn build(mut self, device: &B::Device) -> Result<IndexIvfFlat<B>> {
        validate::dimension(self.d)?;
        if self.nlist == Some(0) {
            return Err(Error::ZeroNlist);
        }
        if self.settings.nprobe == Some(0) {
            return Err(Error::ZeroNprobe);
        }
        if let (Some(nlist), Some(nprobe)) = (self.nlist, &mut self.settings.nprobe) {
            *nprobe = (*nprobe).min(nlist);
        }
        check_workspace(self.settings.workspace)?;
        self.metric.check_ivf()?;
        self.settings.auto_rule.check()?;
        validate::storage::<B>(self.settings.storage, device)?;
        self.kmeans.check()?;
        Ok(IndexIvfFlat::untrained(
            self.d,
            self.nlist,
            self.metric,
            self.settings,
            self.kmeans,
            device,
        ))
    }
}
