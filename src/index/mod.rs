//! The public face: [`IndexFlat`], [`IndexIvfFlat`] and the trait both share.
//!
//! This layer checks what callers pass, hands tensors to the inner backend and takes results
//! back. It computes nothing itself.

mod builder;
mod costs;
mod flat;
#[cfg(all(debug_assertions, feature = "ndarray"))]
mod instances;
mod interop;
mod ivf_flat;
mod ivf_search;
mod ivf_train;
mod kmeans;
mod knn;
mod mapped;
mod module;
mod mutate;
mod range;
mod saving;
mod validate;

pub use builder::IndexIvfFlatBuilder;
pub use flat::IndexFlat;
#[cfg(all(debug_assertions, feature = "ndarray"))]
pub use instances::instances;
pub use ivf_flat::IndexIvfFlat;
pub use kmeans::KMeans;
pub use knn::{KnnAccumulator, KnnLimits, knn, pairwise_distance};
pub use mapped::MappedIndex;
pub use module::{IndexItem, IndexModule, IndexRecord};
pub use mutate::{Missing, Subset};

pub(crate) use validate::k as check_k;

use crate::{backend::IvfBackend, error::Result, metric::Metric, result::SearchResult};
use burn::tensor::Tensor;

/// What every index can do.
///
/// ```
/// use burn::{backend::NdArray, tensor::Tensor};
/// use burn_ivf::{Index, IndexFlat, Metric};
/// let device = Default::default();
/// let mut index: Box<dyn Index<NdArray>> = Box::new(IndexFlat::new(2, Metric::L2, &device)?);
/// index.add(Tensor::from_floats([[0.0, 0.0], [3.0, 4.0]], &device))?;
/// let hits = index.search(Tensor::from_floats([[3.0, 3.0]], &device), 1)?;
/// assert_eq!(hits.to_vecs(), (vec![1.0], vec![1]));
/// # Ok::<(), burn_ivf::Error>(())
/// ```
pub trait Index<B: IvfBackend>: Send + Sync {
    /// Components of a vector.
    fn d(&self) -> usize;

    /// How vectors are compared.
    fn metric(&self) -> Metric;

    /// Vectors held.
    fn ntotal(&self) -> usize;

    /// Whether vectors can be added.
    fn is_trained(&self) -> bool;

    /// Trains on `x`, `[n, d]`; for an index that needs no training only checks it.
    ///
    /// # Errors
    /// Those of the index's own `train`.
    fn train(&mut self, x: Tensor<B, 2>) -> Result<()>;

    /// Adds vectors `x`, `[n, d]`, with automatic ids.
    ///
    /// # Errors
    /// Those of the index's own `add`.
    fn add(&mut self, x: Tensor<B, 2>) -> Result<()>;

    /// Adds vectors `x`, `[n, d]`, with an id each.
    ///
    /// # Errors
    /// Those of the index's own `add_with_ids`.
    fn add_with_ids(&mut self, x: Tensor<B, 2>, ids: &[i64]) -> Result<()>;

    /// The `k` nearest vectors of every query in `queries`, `[nq, d]`.
    ///
    /// # Errors
    /// Those of the index's own `search`.
    fn search(&self, queries: Tensor<B, 2>, k: usize) -> Result<SearchResult<B>>;

    /// Removes all vectors, keeps training and settings; automatic ids start at 0 again.
    fn reset(&mut self);
}

macro_rules! impl_index {
    ($type:ident, |$index:ident, $x:ident| $train:expr) => {
        impl<B: IvfBackend> Index<B> for $type<B> {
            fn d(&self) -> usize {
                self.d()
            }

            fn metric(&self) -> Metric {
                self.metric()
            }

            fn ntotal(&self) -> usize {
                self.ntotal()
            }

            fn is_trained(&self) -> bool {
                self.is_trained()
            }

            fn train(&mut self, $x: Tensor<B, 2>) -> Result<()> {
                let $index = self;
                $train
            }

            fn add(&mut self, x: Tensor<B, 2>) -> Result<()> {
                self.add(x)
            }

            fn add_with_ids(&mut self, x: Tensor<B, 2>, ids: &[i64]) -> Result<()> {
                self.add_with_ids(x, ids)
            }

            fn search(&self, queries: Tensor<B, 2>, k: usize) -> Result<SearchResult<B>> {
                self.search(queries, k)
            }

            fn reset(&mut self) {
                self.reset();
            }
        }
    };
}

impl_index!(IndexFlat, |index, x| validate::vectors::<B>(
    x,
    index.d(),
    &index.device(),
    "training vectors"
)
.map(drop));
impl_index!(IndexIvfFlat, |index, x| index.train(x).map(drop));
