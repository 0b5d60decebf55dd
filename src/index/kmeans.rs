//! k-means for its own sake.

use super::{flat::lift, validate};
use crate::{
    backend::{IvfBackend, label_dtype},
    cluster::{self, KMeansParams, KMeansReport, Quantizer},
    error::{Error, Result},
    metric::Metric,
    params::DEFAULT_WORKSPACE,
    result::SearchResult,
    stats::SearchStats,
};
use burn::tensor::{DType, Tensor, TensorData};

/// Clusters found by k-means (faiss `Kmeans`): the training of
/// [`IndexIvfFlat`](crate::IndexIvfFlat), without an index.
///
/// ```
/// use burn::{backend::NdArray, tensor::Tensor};
/// use burn_ivf::{KMeans, KMeansParams, Metric};
/// let device = Default::default();
/// let x = Tensor::<NdArray, 2>::from_floats([[0.0], [2.0], [10.0], [12.0]], &device);
/// let params = KMeansParams { niter: 25, ..KMeansParams::default() };
/// let kmeans = KMeans::train(x.clone(), 2, Metric::L2, &params)?;
/// assert_eq!(kmeans.centroids().dims(), [2, 1]);
/// assert_eq!(kmeans.report().train_rows, 4);
/// let (distances, clusters) = kmeans.assign(x)?.to_vecs();
/// assert_eq!((distances, clusters[0] == clusters[1]), (vec![1.0; 4], true));
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KMeans<B: IvfBackend> {
    metric: Metric,
    device: B::Device,
    store: <B::Inner as IvfBackend>::Lists,
    centroids: Tensor<B::Inner, 2>,
    report: KMeansReport,
}

impl<B: IvfBackend> KMeans<B> {
    /// Clusters `x`, `[n, d]`, into `k` clusters: points go to the nearest centroid by `metric`,
    /// centroids are means of their points, of length 1 where [`KMeansParams::spherical`] says so.
    ///
    /// # Errors
    /// No component, fewer points than clusters, `k` = 0, NaN or infinite points, illegal parameters,
    /// a metric other than L2, inner product, cosine, L1 and Linf.
    pub fn train(x: Tensor<B, 2>, k: usize, metric: Metric, params: &KMeansParams) -> Result<Self> {
        span!("train", n = x.dims()[0], d = x.dims()[1]);
        let (d, device) = (x.dims()[1], x.device());
        validate::dimension(d)?;
        if k == 0 {
            return Err(Error::ZeroNlist);
        }
        let metric = metric.check_ivf()?;
        let x = validate::stored_for::<B>(metric, x, d, &device, "training vectors")?;
        let (centroids, report) = cluster::train(x, k, metric, params, DEFAULT_WORKSPACE)?;
        let data = TensorData::new(centroids, [k, d]);
        let centroids = Tensor::from_data(data, (&device, DType::F32));
        Ok(Self {
            metric,
            store: cluster::centroid_list(centroids.clone())?,
            device,
            centroids,
            report,
        })
    }

    /// Number of clusters.
    pub fn k(&self) -> usize {
        self.centroids.dims()[0]
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        self.centroids.dims()[1]
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The centroids, f32 `[k, d]`.
    pub fn centroids(&self) -> Tensor<B, 2> {
        B::lift(self.centroids.clone())
    }

    /// What training did.
    pub fn report(&self) -> &KMeansReport {
        &self.report
    }

    /// The nearest centroid of every vector in `x`, `[n, d]`: distances and cluster numbers, `[n, 1]`,
    /// ties by smaller number; -1 for a vector with NaN or infinity.
    ///
    /// # Errors
    /// Another dimension or device.
    pub fn assign(&self, x: Tensor<B, 2>) -> Result<SearchResult<B>> {
        let x = validate::vectors::<B>(x, self.d(), &self.device, "vectors")?;
        let x = validate::prepared(self.metric, x)?;
        let nq = x.dims()[0];
        let quantizer = Quantizer::<B::Inner> {
            metric: self.metric,
            store: &self.store,
            nlist: self.k(),
            d: self.d(),
            workspace: DEFAULT_WORKSPACE,
        };
        let mut hits = if nq == 0 {
            crate::backend::Hits::padding(self.metric, 0, 1, &self.device)
        } else {
            quantizer.nearest(x, 1)?
        };
        hits.labels = hits.labels.cast(label_dtype::<B::Inner>(&self.device));
        let stats = SearchStats {
            mode: "chunked".to_owned(),
            kernel: B::capabilities(&self.device).kernel,
            reason: "assignment to centroids".to_owned(),
            nq,
            nprobe: 1,
            avg_group: nq as f64,
            query_chunks: 1,
            ..SearchStats::default()
        };
        Ok(lift(hits, stats))
    }
}
