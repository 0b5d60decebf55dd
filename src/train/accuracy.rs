//! How well neighbours tell classes.

use super::{Labelled, column, first_kept, look_up};
use crate::{
    backend::{IvfBackend, read_int},
    error::{Error, Result},
    index::Index,
};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

/// The class most of an embedding's `k` nearest rows have, `[n]`; among equally frequent ones that
/// of the nearest row; -1 without a neighbour. `row_classes`, `[rows]`, holds the class of id `r` at
/// place `r`; rows without a place there do not count. Nothing is read back. Every two neighbours of an
/// embedding are compared, n·k² pairs, some millions at a time.
///
/// # Errors
/// Those of a search; no row class; another number of ids than embeddings; tensors on different devices.
pub fn knn_classify<B: IvfBackend>(
    index: &(impl Index<B> + ?Sized),
    row_classes: Tensor<B, 1, Int>,
    batch: &Labelled<B>,
    k: usize,
) -> Result<Tensor<B, 1, Int>> {
    let classes = neighbours(index, row_classes, batch, k)?;
    let n = classes.dims()[0];
    if n == 0 {
        let none = TensorData::new(Vec::<i64>::new(), [0]);
        return Ok(Tensor::from_data(
            none,
            (&batch.embeddings.device(), classes.dtype()),
        ));
    }
    // There are no more neighbours than rows.
    let k = k.min(index.ntotal().max(1));
    let classes = classes.slice([0..n, 0..k]);
    let voters = classes.clone().not_equal_elem(-1);
    let votes = votes(&classes);
    // More votes first, then the nearer row: one number orders both.
    let places = Tensor::<B::Inner, 1, Int>::arange(0..k as i64, &classes.device());
    let places = places.cast(votes.dtype()).reshape([1, k]).expand([n, k]);
    let rank = (votes * k as i64 - places).mask_fill(voters.bool_not(), -1);
    let winner = rank.argmax(1);
    Ok(B::lift_int(classes.gather(1, winner).reshape([n])))
}

/// Pairs of classes compared at once.
const PAIRS: usize = 1 << 22;

/// How many of a row's classes, `[n, k]`, are the same as each of them.
fn votes<B: Backend>(classes: &Tensor<B, 2, Int>) -> Tensor<B, 2, Int> {
    let [n, k] = classes.dims();
    let columns = (PAIRS / k).clamp(1, k);
    let rows = (PAIRS / (k * columns)).max(1);
    let block = |first: usize| {
        let rows = first..(first + rows).min(n);
        let voted = classes.clone().slice([rows.clone(), 0..k]);
        let (n, mut votes) = (rows.len(), voted.zeros_like());
        for first in (0..k).step_by(columns) {
            let columns = first..(first + columns).min(k);
            let shape = [n, k, columns.len()];
            let voters = voted.clone().slice([0..n, columns.clone()]);
            let voters = voters.reshape([n, 1, columns.len()]).expand(shape);
            let same = voted.clone().reshape([n, k, 1]).expand(shape).equal(voters);
            votes = votes + same.int().cast(voted.dtype()).sum_dim(2).reshape([n, k]);
        }
        votes
    };
    Tensor::cat((0..n).step_by(rows).map(block).collect(), 0)
}

/// The share of embeddings whose class [`knn_classify`] names; 1 for no embedding. Reads one
/// integer per embedding.
///
/// ```
/// use burn::{backend::NdArray, tensor::Tensor};
/// use burn_ivf::{IndexFlat, Metric, train::{Labelled, knn_accuracy}};
/// let device = Default::default();
/// let mut index = IndexFlat::<NdArray>::new(1, Metric::L2, &device)?;
/// index.add(Tensor::from_floats([[0.0], [1.0], [10.0], [11.0]], &device))?;
/// let row_classes = Tensor::from_ints([0, 0, 1, 1], &device);
/// let queries = Tensor::from_floats([[0.4], [9.0], [4.0]], &device);
/// let batch = Labelled::new(queries, Tensor::from_ints([0, 1, 1], &device));
/// assert_eq!(knn_accuracy(&index, row_classes, &batch, 3)?, 2.0 / 3.0);
/// # Ok::<(), burn_ivf::Error>(())
/// ```
///
/// # Errors
/// As [`knn_classify`]; another number of classes than embeddings.
pub fn knn_accuracy<B: IvfBackend>(
    index: &(impl Index<B> + ?Sized),
    row_classes: Tensor<B, 1, Int>,
    batch: &Labelled<B>,
    k: usize,
) -> Result<f64> {
    let classes = column::<B>(batch.classes.clone(), &batch.embeddings, "classes")?;
    let n = classes.dims()[0];
    let named = knn_classify(index, row_classes, batch, k)?;
    if n == 0 {
        return Ok(1.0);
    }
    let named = B::lower_int(named);
    Ok(share(&read_int(
        named.reshape([n, 1]).equal(classes).int(),
    )?))
}

/// The share of embeddings with a row of their own class among their `k` nearest: Recall@k as
/// metric learning has it ([`recall_at_k`](crate::recall_at_k) compares with true neighbours
/// instead); 1 for no embedding. Reads one integer per embedding.
///
/// # Errors
/// As [`knn_accuracy`].
pub fn class_recall_at_k<B: IvfBackend>(
    index: &(impl Index<B> + ?Sized),
    row_classes: Tensor<B, 1, Int>,
    batch: &Labelled<B>,
    k: usize,
) -> Result<f64> {
    let own = column::<B>(batch.classes.clone(), &batch.embeddings, "classes")?;
    let classes = neighbours(index, row_classes, batch, k)?;
    let n = classes.dims()[0];
    if n == 0 {
        return Ok(1.0);
    }
    let right = classes.clone().equal(own.expand([n, k]));
    let right = right.bool_and(classes.not_equal_elem(-1));
    Ok(share(&read_int(
        right.int().sum_dim(1).greater_elem(0).int(),
    )?))
}

fn share(right: &[i64]) -> f64 {
    let count = right.iter().filter(|&&right| right != 0).count();
    if right.is_empty() {
        1.0
    } else {
        count as f64 / right.len() as f64
    }
}

/// Classes of the `k` nearest rows that are not the embedding itself, `[n, k]`, then -1.
fn neighbours<B: IvfBackend>(
    index: &(impl Index<B> + ?Sized),
    row_classes: Tensor<B, 1, Int>,
    batch: &Labelled<B>,
    k: usize,
) -> Result<Tensor<B::Inner, 2, Int>> {
    if k == 0 {
        return Err(Error::ZeroK);
    }
    let embeddings = batch.embeddings.clone();
    let Some(own) = &batch.ids else {
        let found = look_up(index, row_classes, embeddings, k)?;
        if found.ids.dims()[0] == 0 {
            return Ok(found.ids);
        }
        return Ok(found.classes.mask_fill(found.known.bool_not(), -1));
    };
    let own = column::<B>(own.clone(), &embeddings, "ids")?;
    let found = look_up(index, row_classes, embeddings, k.saturating_add(1))?;
    if found.ids.dims()[0] == 0 {
        let none = TensorData::new(Vec::<i64>::new(), [0, k]);
        let device = batch.embeddings.device();
        return Ok(Tensor::from_data(none, (&device, found.ids.dtype())));
    }
    let other = found.ids.clone().not_equal(own.expand(found.ids.dims()));
    first_kept(found.classes, found.known.bool_and(other), k)
}
