//! An index in a training loop: accuracy by neighbours, hard negatives, neighbours with gradients,
//! filling an index from batches.
//!
//! Everything takes and returns tensors on the caller's backend. Classes are whole numbers; row `r`
//! of an index has the label (id) `r`, as automatic ids give it, and its class at place `r` of
//! `row_classes`. `metrics` (feature `train`) brings the accuracies as metrics of `burn-train`.
//!
//! docs/training.md shows all of it together; `examples/train_embedder.rs` trains an encoder.

mod accuracy;
mod fill;
#[cfg(feature = "train")]
mod metrics;
mod mine;
mod neighbours;

pub use accuracy::{class_recall_at_k, knn_accuracy, knn_classify};
pub use fill::{Embedded, Filled, fill, refresh};
#[cfg(feature = "train")]
pub use metrics::{Gallery, KnnAccuracyMetric, RecallAtKMetric};
pub use mine::{Mining, mine_hard_negatives};
pub use neighbours::Neighbours;

use crate::{
    backend::{IvfBackend, label_dtype},
    error::{Error, Result, illegal},
    index::Index,
};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData, backend::Backend};

/// Embeddings and what is known about them.
#[derive(Debug, Clone)]
pub struct Labelled<B: Backend> {
    /// Embeddings, `[n, d]`.
    pub embeddings: Tensor<B, 2>,
    /// Their classes, `[n]`.
    pub classes: Tensor<B, 1, Int>,
    /// The ids under which the same vectors lie in the index, `[n]`, so that none counts as its own
    /// neighbour; `None` where they are not in it.
    pub ids: Option<Tensor<B, 1, Int>>,
}

impl<B: Backend> Labelled<B> {
    /// Embeddings, `[n, d]`, that are not in the index, with their classes, `[n]`.
    pub fn new(embeddings: Tensor<B, 2>, classes: Tensor<B, 1, Int>) -> Self {
        Self {
            embeddings,
            classes,
            ids: None,
        }
    }

    /// Says under which ids, `[n]`, the index holds the embeddings themselves.
    #[must_use]
    pub fn with_ids(mut self, ids: Tensor<B, 1, Int>) -> Self {
        self.ids = Some(ids);
        self
    }
}

/// What a search found, on the inner backend: ids `[n, c]`, best first, and of each its class.
struct Found<E: Backend> {
    ids: Tensor<E, 2, Int>,
    classes: Tensor<E, 2, Int>,
    /// Whether there is a row with a class at that place.
    known: Tensor<E, 2, Bool>,
}

/// Searches `k` rows per embedding and looks their classes up. A row whose id has no place in
/// `row_classes` counts as not found; nothing is read back.
fn look_up<B: IvfBackend>(
    index: &(impl Index<B> + ?Sized),
    row_classes: Tensor<B, 1, Int>,
    embeddings: Tensor<B, 2>,
    k: usize,
) -> Result<Found<B::Inner>> {
    let rows = row_classes.dims()[0];
    if rows == 0 {
        return Err(illegal("row classes", 0, "one per row of the index"));
    }
    let row_classes = integers::<B>(row_classes, &embeddings, "row classes")?;
    let ids = B::lower_int(index.search(embeddings, k)?.labels);
    let [n, k] = ids.dims();
    if n == 0 {
        return Ok(Found {
            known: nowhere(k, &ids.device()),
            classes: ids.clone(),
            ids,
        });
    }
    let known = ids
        .clone()
        .greater_equal_elem(0)
        .bool_and(ids.clone().lower_elem(rows as i64));
    let places = ids.clone().mask_fill(known.clone().bool_not(), 0);
    let classes = row_classes
        .select(0, places.reshape([n * k]))
        .reshape([n, k]);
    Ok(Found {
        ids,
        classes,
        known,
    })
}

/// Marks of no row, `[0, k]`: operations on tensors without elements fail on some backends.
fn nowhere<E: IvfBackend>(k: usize, device: &E::Device) -> Tensor<E, 2, Bool> {
    Tensor::from_data(TensorData::new(Vec::<bool>::new(), [0, k]), device)
}

/// Integers on the inner backend as its labels are, when they are where the embeddings are.
fn integers<B: IvfBackend>(
    integers: Tensor<B, 1, Int>,
    embeddings: &Tensor<B, 2>,
    what: &'static str,
) -> Result<Tensor<B::Inner, 1, Int>> {
    let (found, expected) = (integers.device(), embeddings.device());
    if found != expected {
        return Err(Error::DeviceMismatch {
            what,
            index: format!("{expected:?}"),
            found: format!("{found:?}"),
        });
    }
    Ok(B::lower_int(integers).cast(label_dtype::<B::Inner>(&found)))
}

/// One integer per embedding, as a column `[n, 1]`.
fn column<B: IvfBackend>(
    values: Tensor<B, 1, Int>,
    embeddings: &Tensor<B, 2>,
    what: &'static str,
) -> Result<Tensor<B::Inner, 2, Int>> {
    let (rows, found) = (embeddings.dims()[0], values.dims()[0]);
    if rows != found {
        return Err(Error::Count { what, rows, found });
    }
    Ok(integers::<B>(values, embeddings, what)?.reshape([rows, 1]))
}

/// Of every row of `values`, `[n, c]`, the first `k` (at most `c`) that are kept, in their order,
/// then -1. On the device.
fn first_kept<E: IvfBackend>(
    values: Tensor<E, 2, Int>,
    keep: Tensor<E, 2, Bool>,
    k: usize,
) -> Result<Tensor<E, 2, Int>> {
    let [n, c] = values.dims();
    if n == 0 {
        return Ok(values.slice([0..0, 0..k]));
    }
    let places = Tensor::<E, 1, Int>::arange(0..c as i64, &values.device())
        .float()
        .cast(DType::F32)
        .reshape([1, c])
        .expand([n, c]);
    // The k smallest places that are kept; c stands for none.
    let places = places.mask_fill(keep.bool_not(), c as f32);
    let (places, columns) = E::select_k(places, k)?;
    let none = places.greater_equal_elem(c as f32);
    Ok(values.gather(1, columns).mask_fill(none, -1))
}
