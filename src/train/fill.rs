//! Filling an index from batches and an encoder.

use crate::{backend::IvfBackend, error::Result, index::Index};
use burn::tensor::Tensor;
use core::ops::ControlFlow;
use serde::{Deserialize, Serialize};

/// What a batch becomes: vectors, and ids where they are not to be automatic.
#[derive(Debug, Clone)]
pub struct Embedded<B: IvfBackend> {
    /// Vectors, `[n, d]`.
    pub vectors: Tensor<B, 2>,
    /// An id each.
    pub ids: Option<Vec<i64>>,
}

impl<B: IvfBackend> From<Tensor<B, 2>> for Embedded<B> {
    fn from(vectors: Tensor<B, 2>) -> Self {
        Self { vectors, ids: None }
    }
}

impl<B: IvfBackend> From<(Tensor<B, 2>, Vec<i64>)> for Embedded<B> {
    fn from((vectors, ids): (Tensor<B, 2>, Vec<i64>)) -> Self {
        Self {
            vectors,
            ids: Some(ids),
        }
    }
}

/// How far filling has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Filled {
    /// Batches added.
    pub batches: usize,
    /// Vectors added.
    pub rows: usize,
}

/// Adds every batch of `batches` (any iterator, such as a Burn `DataLoader`'s `iter()`) to a trained
/// index, as `embed` makes vectors of it: a tensor `[n, d]`, or a tensor and ids. Automatic ids
/// follow the order of the batches, so an encoder's rows keep their place only where the loader
/// does not shuffle; else give ids.
///
/// One batch and its vectors are held at a time beside the index. `progress` is told after each
/// batch and may end the filling.
///
/// ```
/// use burn::{backend::NdArray, tensor::{Distribution, Tensor}};
/// use burn_ivf::{IndexFlat, Metric, train::fill};
/// use core::ops::ControlFlow;
/// let device = Default::default();
/// let mut index = IndexFlat::<NdArray>::new(4, Metric::L2, &device)?;
/// let batches = (0..3).map(|_| Tensor::<NdArray, 2>::random([100, 8], Distribution::Default, &device));
/// let encoder = |x: Tensor<NdArray, 2>| x.slice([0..100, 0..4]);
/// let filled = fill(&mut index, batches, encoder, |_| ControlFlow::Continue(()))?;
/// assert_eq!((filled.batches, filled.rows, index.ntotal()), (3, 300, 300));
/// # Ok::<(), burn_ivf::Error>(())
/// ```
///
/// # Errors
/// Those of `add` and `add_with_ids`; batches added before stay.
pub fn fill<B: IvfBackend, T, V: Into<Embedded<B>>>(
    index: &mut (impl Index<B> + ?Sized),
    batches: impl IntoIterator<Item = T>,
    mut embed: impl FnMut(T) -> V,
    mut progress: impl FnMut(Filled) -> ControlFlow<()>,
) -> Result<Filled> {
    let mut filled = Filled::default();
    for batch in batches {
        let Embedded { vectors, ids } = embed(batch).into();
        let rows = vectors.dims()[0];
        match ids {
            Some(ids) => index.add_with_ids(vectors, &ids)?,
            None => index.add(vectors)?,
        }
        filled = Filled {
            batches: filled.batches + 1,
            rows: filled.rows + rows,
        };
        if progress(filled).is_break() {
            break;
        }
    }
    Ok(filled)
}

/// Empties the index and fills it again, because the encoder has moved. With `retrain`, `[n, d]`
/// (embeddings of a sample by the encoder as it is now), an inverted file is trained on it first;
/// without, vectors go to the lists of the old centroids: searches stay right, but as the encoder
/// moves lists become uneven ([`imbalance_factor`](crate::IndexIvfFlat::imbalance_factor)) and more of
/// them must be probed.
///
/// # Errors
/// As [`fill`] and `train`; the index is then empty or partly filled.
pub fn refresh<B: IvfBackend, T, V: Into<Embedded<B>>>(
    index: &mut (impl Index<B> + ?Sized),
    retrain: Option<Tensor<B, 2>>,
    batches: impl IntoIterator<Item = T>,
    embed: impl FnMut(T) -> V,
    progress: impl FnMut(Filled) -> ControlFlow<()>,
) -> Result<Filled> {
    index.reset();
    if let Some(sample) = retrain {
        index.train(sample)?;
    }
    fill(index, batches, embed, progress)
}
