//! The inverted-file index: training, and training anew.

use super::{IndexIvfFlat, flat::copy_rows, ivf_flat::Trained, validate};
use crate::{
    backend::{IvfBackend, ListStore, Slot, list_numbers, portable::pieces},
    cluster::{self, KMeansReport, Quantizer},
    engine,
    error::{Error, Result},
};
use burn::tensor::{DType, Tensor, TensorData};
use std::borrow::Cow;

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// Trains the centroids on `x`, `[n, d]`, by k-means; see [`KMeansParams`](crate::KMeansParams).
    ///
    /// # Errors
    /// Fewer points than lists, another dimension, NaN or infinite points (unless
    /// [`nan_policy`](Self::nan_policy) says otherwise), illegal parameters; [`Error::NotEmpty`] when
    /// vectors are held ([`retrain`](Self::retrain) keeps them). The index is then as before.
    pub fn train(&mut self, x: Tensor<B, 2>) -> Result<KMeansReport> {
        span!("train", n = x.dims()[0], d = self.d);
        if self.ntotal() > 0 {
            return Err(Error::NotEmpty {
                ntotal: self.ntotal(),
            });
        }
        let (trained, report) = self.centroids_of(x, self.nlist)?;
        self.trained = Some(trained);
        Ok(report)
    }

    /// Trains anew, on `x`, `[n, d]`, or on a sample of the vectors held, and puts every vector held into
    /// the list of its nearest new centroid. The number of lists, ids, settings and the next automatic id
    /// stay; the vectors of a new list come in the order of their old lists. The old lists and the new
    /// ones are held together for a while.
    ///
    /// ```
    /// use burn::{backend::NdArray, tensor::Tensor};
    /// use burn_ivf::{IndexIvfFlat, Metric};
    /// let device = Default::default();
    /// let centroids = Tensor::<NdArray, 2>::from_floats([[0.0], [100.0]], &device);
    /// let mut index = IndexIvfFlat::from_centroids(centroids, Metric::L2)?;
    /// index.add(Tensor::from_floats([[1.0], [2.0], [8.0], [9.0]], &device))?;
    /// assert_eq!(index.list_sizes(), [4, 0]);
    /// index.retrain(None)?;
    /// assert_eq!(index.list_sizes(), [2, 2]);
    /// # Ok::<(), burn_ivf::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`train`](Self::train) but for vectors held; without `x` an index that is not trained, weights
    /// of training points, and fewer vectors held than lists. The index is then as before.
    pub fn retrain(&mut self, x: Option<Tensor<B, 2>>) -> Result<KMeansReport> {
        span!("train", n = self.ntotal(), d = self.d);
        let x = match x {
            Some(x) => x,
            None => self.sample()?,
        };
        let Some(old) = &self.trained else {
            let (trained, report) = self.centroids_of(x, self.nlist)?;
            self.trained = Some(trained);
            return Ok(report);
        };
        let (mut new, report) = self.centroids_of(x, self.nlist())?;
        let chunk = copy_rows(self.d, self.settings.workspace);
        let quantizer = Quantizer {
            store: &new.centroid_lists,
            ..old.quantizer(self.metric, self.settings.workspace)
        };
        for l in 0..old.lists.nlist() {
            let ids = old.lists.list_ids(l);
            for range in pieces(ids.len(), chunk) {
                let rows = old.lists.rows(l, range.clone())?;
                let to = list_numbers(engine::probe(&quantizer, rows.clone(), 1)?.lists)?;
                new.lists.append(rows, &ids[range], &to)?;
            }
        }
        new.lists.follow_ids(&old.lists);
        self.trained = Some(new);
        Ok(report)
    }

    /// As many of the vectors held as training reads, drawn at random.
    fn sample(&self) -> Result<Tensor<B, 2>> {
        let trained = self.trained()?;
        if self.kmeans.weights.is_some() {
            return Err(Error::NotApplicable {
                what: "a weight per training point",
                instead: "without training points retrain() draws from the vectors held; pass x, or train without weights",
            });
        }
        let sizes = trained.lists.sizes();
        let slots = sizes
            .iter()
            .zip(0_u32..)
            .flat_map(|(&size, list)| (0..size as u32).map(move |slot| Slot { list, slot }));
        let slots: Vec<Slot> = slots.collect();
        let most = sizes
            .len()
            .saturating_mul(self.kmeans.max_points_per_centroid);
        let rows = cluster::sample(slots.len(), most, self.kmeans.seed);
        let slots: Vec<Slot> = rows.iter().map(|&row| slots[row as usize]).collect();
        if slots.is_empty() {
            let (points, nlist) = (0, sizes.len());
            return Err(Error::TooFewPoints { points, nlist });
        }
        Ok(B::lift(trained.lists.store().gather(&slots)?))
    }

    /// Centroids of training vectors, and empty lists.
    fn centroids_of(
        &self,
        x: Tensor<B, 2>,
        nlist: Option<usize>,
    ) -> Result<(Trained<B::Inner>, KMeansReport)> {
        let (given, at) = (x.dims()[0], (self.d, &self.device));
        let policy = self.settings.nan_policy;
        let x = validate::accepted::<B>(policy, self.metric, x, at, "training vectors")?;
        let mut kmeans = Cow::Borrowed(&self.kmeans);
        // Weights of another number are refused below, with the numbers of the call.
        if let Some(weights) = &self.kmeans.weights
            && weights.len() == given
        {
            kmeans.to_mut().weights = Some(x.of(weights).into_owned());
        }
        let n = x.rows.dims()[0];
        let nlist = nlist.unwrap_or_else(|| n.isqrt().clamp(1, 1024));
        let workspace = self.settings.workspace;
        let (centroids, report) = cluster::train(x.rows, nlist, self.metric, &kmeans, workspace)?;
        let data = TensorData::new(centroids, [nlist, self.d]);
        let centroids = Tensor::from_data(data, (&self.device, DType::F32));
        let trained = Trained::new(centroids, self.settings.storage, &self.device)?;
        Ok((trained, report))
    }
}
