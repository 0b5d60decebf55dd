//! Hard negatives: the nearest rows of another class.

use super::{Labelled, column, first_kept, look_up};
use crate::{
    backend::IvfBackend,
    error::{Error, Result, illegal},
    index::Index,
};
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// How many negatives, and among how many neighbours they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mining {
    /// Negatives per embedding.
    pub k: usize,
    /// Nearest rows searched per embedding, at least `k`. Rows of the embedding's own class among
    /// them are passed over, so `k` plus the size of the largest class always suffices.
    pub candidates: usize,
}

impl Mining {
    /// `k` negatives among the `4·k + 32` nearest rows.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            candidates: k.saturating_mul(4).saturating_add(32),
        }
    }

    /// Searches this many rows per embedding.
    #[must_use]
    pub fn with_candidates(mut self, candidates: usize) -> Self {
        self.candidates = candidates;
        self
    }
}

/// The ids of the `mining.k` nearest rows of another class than the embedding's, `[n, k]`, nearest
/// first; -1 where the [`candidates`](Mining::candidates) nearest rows hold fewer. `row_classes`,
/// `[rows]`, holds the class of id `r` at place `r`; rows without a place there are never taken.
///
/// From tensor to tensor: nothing is read back, and no gradient passes. A well-trained encoder has
/// only its own class nearby: where -1 becomes frequent, search more candidates.
///
/// ```
/// use burn::{backend::NdArray, tensor::Tensor};
/// use burn_ivf::{IndexFlat, Metric, train::{Labelled, Mining, mine_hard_negatives}};
/// let device = Default::default();
/// let mut index = IndexFlat::<NdArray>::new(1, Metric::L2, &device)?;
/// index.add(Tensor::from_floats([[0.0], [1.0], [2.0], [3.0]], &device))?;
/// let row_classes = Tensor::from_ints([0, 0, 1, 0], &device);
/// let batch = Labelled::new(
///     Tensor::from_floats([[0.1], [2.1]], &device),
///     Tensor::from_ints([0, 1], &device),
/// );
/// let hard = mine_hard_negatives(&index, row_classes, &batch, Mining::new(2))?;
/// assert_eq!(hard.into_data().iter::<i64>().collect::<Vec<_>>(), [2, -1, 3, 1]);
/// # Ok::<(), burn_ivf::Error>(())
/// ```
///
/// # Errors
/// Those of a search; `candidates` below `k`; no row class, another number of classes than
/// embeddings, tensors on different devices.
pub fn mine_hard_negatives<B: IvfBackend>(
    index: &(impl Index<B> + ?Sized),
    row_classes: Tensor<B, 1, Int>,
    batch: &Labelled<B>,
    mining: Mining,
) -> Result<Tensor<B, 2, Int>> {
    let Mining { k, candidates } = mining;
    if k == 0 {
        return Err(Error::ZeroK);
    }
    if candidates < k {
        return Err(illegal("candidates", candidates, "at least k"));
    }
    let own = column::<B>(batch.classes.clone(), &batch.embeddings, "classes")?;
    let found = look_up(index, row_classes, batch.embeddings.clone(), candidates)?;
    if found.ids.dims()[0] == 0 {
        let none = TensorData::new(Vec::<i64>::new(), [0, k]);
        let device = batch.embeddings.device();
        return Ok(Tensor::from_data(none, (&device, found.ids.dtype())));
    }
    let wrong = found
        .classes
        .clone()
        .not_equal(own.expand(found.classes.dims()));
    let hard = first_kept(found.ids, found.known.bool_and(wrong), k)?;
    Ok(B::lift_int(hard))
}
