//! Neighbours as part of a computation: their vectors and distances, tracked for gradients.

use crate::{
    error::{Error, Result, illegal},
    metric::Metric,
    result::SearchResult,
};
use burn::tensor::{Bool, DType, Tensor, TensorData, backend::Backend};

/// The vectors behind a [`SearchResult`], and distances that gradients pass through.
#[derive(Debug, Clone)]
pub struct Neighbours<B: Backend> {
    /// The neighbours' vectors, `[nq, k, d]`; 0 where there is none.
    pub vectors: Tensor<B, 3>,
    /// Squared L2 distances or inner products, `[nq, k]`, best first as found; `+inf` (L2) or
    /// `-inf` (inner product) where there is none.
    pub distances: Tensor<B, 2>,
    /// Whether there is a neighbour, `[nq, k]`.
    pub found: Tensor<B, 2, Bool>,
}

impl<B: Backend> SearchResult<B> {
    /// Gathers the neighbours from `base`, `[rows, d]`, where row `r` is the vector of id `r`, and
    /// computes their distances to `queries`, `[nq, d]`, again, as tensor operations.
    ///
    /// The search itself carries no gradient: which rows are nearest has none. Under `Autodiff`,
    /// gradients reach `queries`, and the gathered rows of `base` where it is tracked; pass
    /// `base.detach()` to keep them from it. Missing neighbours, and ids without a row in `base`,
    /// have the padding distance and no gradient. Values agree with the search up to rounding.
    /// Takes memory for `nq · k · d` components. Nothing is read back.
    ///
    /// ```
    /// use burn::{backend::{Autodiff, NdArray}, tensor::Tensor};
    /// use burn_ivf::{IndexFlat, Metric};
    /// type B = Autodiff<NdArray>;
    /// let device = Default::default();
    /// let base = Tensor::<B, 2>::from_floats([[0.0, 0.0], [3.0, 4.0]], &device);
    /// let mut index = IndexFlat::<B>::new(2, Metric::L2, &device)?;
    /// index.add(base.clone())?;
    /// let query = Tensor::<B, 2>::from_floats([[3.0, 3.0]], &device).require_grad();
    /// let near = index.search(query.clone(), 1)?.neighbours(query.clone(), base, Metric::L2)?;
    /// let gradients = near.distances.sum().backward();
    /// let slope = query.grad(&gradients).unwrap().into_data();
    /// assert_eq!(slope.iter::<f32>().collect::<Vec<_>>(), [0.0, -2.0]); // 2 (q - x)
    /// # Ok::<(), burn_ivf::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, a `base` without rows, a metric other than L2 and inner product.
    pub fn neighbours(
        &self,
        queries: Tensor<B, 2>,
        base: Tensor<B, 2>,
        metric: Metric,
    ) -> Result<Neighbours<B>> {
        let ([nq, k], [rows, d]) = (self.labels.dims(), base.dims());
        if queries.dims() != [nq, d] {
            return Err(Error::ShapeMismatch {
                what: "queries",
                expected: format!("[{nq}, {d}], the searched ones, as wide as base"),
                found: queries.dims().to_vec(),
            });
        }
        if d == 0 {
            return Err(Error::ZeroDimension);
        }
        if rows == 0 {
            return Err(illegal("base rows", 0, "the vector of every id"));
        }
        if nq == 0 {
            // Operations on tensors without elements fail on some backends.
            let device = base.device();
            let floats = || TensorData::new(Vec::<f32>::new(), [0, k]);
            return Ok(Neighbours {
                vectors: Tensor::from_data(
                    TensorData::new(Vec::<f32>::new(), [0, k, d]),
                    (&device, DType::F32),
                ),
                distances: Tensor::from_data(floats(), (&device, DType::F32)),
                found: Tensor::from_data(TensorData::new(Vec::<bool>::new(), [0, k]), &device),
            });
        }
        let ids = self.labels.clone();
        let found = ids
            .clone()
            .greater_equal_elem(0)
            .bool_and(ids.clone().lower_elem(rows as i64));
        let missing = found.clone().bool_not();
        let places = ids.mask_fill(missing.clone(), 0);
        let nowhere = missing.clone().reshape([nq, k, 1]).expand([nq, k, d]);
        let gathered = base.select(0, places.reshape([nq * k]));
        let vectors = gathered.reshape([nq, k, d]).mask_fill(nowhere, 0.0);
        let spread = queries.cast(vectors.dtype()).reshape([nq, 1, d]);
        let (terms, padding) = match metric {
            Metric::L2 => {
                let apart = spread - vectors.clone();
                (apart.clone() * apart, f32::INFINITY)
            }
            Metric::InnerProduct => (spread * vectors.clone(), f32::NEG_INFINITY),
            #[allow(unreachable_patterns)]
            _ => return Err(illegal("metric", metric, "l2 or ip")),
        };
        let distances = terms.sum_dim(2).reshape([nq, k]);
        Ok(Neighbours {
            vectors,
            distances: distances.mask_fill(missing, padding),
            found,
        })
    }
}
