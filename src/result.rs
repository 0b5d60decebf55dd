//! What a search returns.

use crate::{
    backend::IvfBackend,
    error::{Error, Result, illegal},
    stats::SearchStats,
};
use burn::tensor::{Int, Tensor, backend::Backend};

/// The nearest vectors of every query.
///
/// Rows are ordered by distance, best first, then by smaller id. Where a query has fewer than k
/// hits, the rest has label -1 and distance `+inf`, or `-inf` where larger is better.
#[derive(Debug, Clone)]
pub struct SearchResult<B: Backend> {
    /// Distances or similarities of the index's metric, f32 `[nq, k]`: L2 is squared.
    pub distances: Tensor<B, 2>,
    /// Ids, `[nq, k]`: i64 where the device has that type, else i32.
    pub labels: Tensor<B, 2, Int>,
    /// How the search was done.
    pub stats: SearchStats,
}

impl<B: IvfBackend> SearchResult<B> {
    /// Copies both tensors to the host, row-major `[nq · k]`. Blocks until they are computed.
    ///
    /// # Panics
    /// When the device cannot be read, as Burn's `to_data` does.
    pub fn to_vecs(&self) -> (Vec<f32>, Vec<i64>) {
        vecs(self.distances.clone(), self.labels.clone())
    }
}

/// Both on the host.
fn vecs<B: IvfBackend>(distances: Tensor<B, 2>, labels: Tensor<B, 2, Int>) -> (Vec<f32>, Vec<i64>) {
    let read = B::to_host(distances).and_then(|d| Ok((d, B::ints_to_host(labels)?)));
    read.unwrap_or_else(|error| panic!("a search result cannot be read: {error}"))
}

/// The vectors within a distance of every query.
#[derive(Debug, Clone)]
pub struct RangeResult<B: Backend> {
    /// Query `i` found entries `lims[i]..lims[i + 1]`: `nq + 1` numbers from 0 on, never falling.
    pub lims: Vec<usize>,
    /// Squared L2 distances or inner products, f32 `[lims[nq]]`.
    pub distances: Tensor<B, 1>,
    /// Ids, `[lims[nq]]`: i64 where the device has that type, else i32.
    pub labels: Tensor<B, 1, Int>,
    /// How the search was done.
    pub stats: SearchStats,
}

impl<B: IvfBackend> RangeResult<B> {
    /// Hits of all queries.
    pub fn len(&self) -> usize {
        self.lims.last().copied().unwrap_or(0)
    }

    /// Whether no query has a hit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies distances and ids to the host. Blocks until they are computed.
    pub fn to_vecs(&self) -> (Vec<f32>, Vec<i64>) {
        if self.is_empty() {
            return (Vec::new(), Vec::new());
        }
        vecs(
            self.distances.clone().unsqueeze(),
            self.labels.clone().unsqueeze(),
        )
    }
}

/// The share of the first `k` true ids found among the first `k` results, over all queries.
///
/// `found` is row-major `[nq, found_k]`, `truth` `[nq, truth_k]`; ids of -1 in `truth` are not
/// asked for. 1 when nothing is asked for.
///
/// # Errors
/// [`Error::IllegalValue`] when `k` exceeds `found_k` or `truth_k`, [`Error::ShapeMismatch`] when the
/// ids are not whole rows, as many found as true.
pub fn recall_at_k(
    found: &[i64],
    truth: &[i64],
    found_k: usize,
    truth_k: usize,
    k: usize,
) -> Result<f64> {
    if k > found_k || k > truth_k {
        let expected = "no more than the ids found and the true ids of a query";
        return Err(illegal("k", k, expected));
    }
    if k == 0 {
        return Ok(1.0);
    }
    let rows = found.len() / found_k;
    if (rows * found_k, rows.checked_mul(truth_k)) != (found.len(), Some(truth.len())) {
        return Err(Error::ShapeMismatch {
            what: "true ids",
            expected: format!("[{rows}, {truth_k}], a row for each of [{rows}, {found_k}] found"),
            found: vec![found.len(), truth.len()],
        });
    }
    let (found, truth) = (found.chunks_exact(found_k), truth.chunks_exact(truth_k));
    let (mut hits, mut asked) = (0_usize, 0_usize);
    for (found, truth) in found.zip(truth) {
        let mut found = found[..k].to_vec();
        found.sort_unstable();
        let truth = truth[..k].iter().filter(|&&id| id != -1);
        asked += truth.clone().count();
        hits += truth.filter(|id| found.binary_search(id).is_ok()).count();
    }
    Ok(if asked == 0 {
        1.0
    } else {
        hits as f64 / asked as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_counts_the_first_k() {
        let found = [1, 2, 3, 9, 8, 7];
        let truth = [3, 2, 5, 7, -1, -1];
        assert_eq!(recall_at_k(&found, &truth, 3, 3, 3).unwrap(), 3.0 / 4.0);
        assert_eq!(recall_at_k(&found, &truth, 3, 3, 1).unwrap(), 0.0);
        assert_eq!(recall_at_k(&found, &truth, 3, 3, 0).unwrap(), 1.0);
    }
}
