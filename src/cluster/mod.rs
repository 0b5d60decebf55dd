//! k-means: Lloyd's algorithm as faiss runs it for inverted files.
//!
//! Assignment is the backend's list scan with k = 1 (exact, ties by smaller centroid); the means
//! are summed on the host in f64, row after row, so training is deterministic for a seed on a
//! backend, whatever the number of threads.

mod init;
mod lloyd;
mod quantizer;

pub(crate) use lloyd::{check_finite, imbalance, train};
pub(crate) use quantizer::{Quantizer, centroid_list};

/// Numbers of at most `most` of `n` points to train on, drawn by a seed.
pub(crate) fn sample(n: usize, most: usize, seed: u64) -> Vec<u32> {
    init::sample(n, most.min(n), &mut init::generator(seed, 0))
}

use crate::error::{Error, Result, illegal};
use serde::{Deserialize, Serialize};

/// How the first centroids are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KMeansInit {
    /// Distinct training points, uniformly (faiss).
    #[default]
    Random,
    /// k-means++ (Arthur and Vassilvitskii 2007): points drawn in proportion to their squared
    /// distance from the centroids chosen so far (times their weight).
    KMeansPlusPlus,
    /// AFK-MC² (Bachem, Lucic, Hassani and Krause 2016): k-means++ seeding approximated by Markov chains
    /// of 200 steps, whose proposals mix the distance from the first centroid with chance. For each next
    /// centroid it compares 200 points with those before, where k-means++ compares all with it.
    AfkMc2,
}

/// Parameters of training; the defaults are faiss's for inverted files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KMeansParams {
    /// Iterations at most: 10.
    pub niter: usize,
    /// Runs with different seeds, of which the best objective is kept: 1.
    pub nredo: usize,
    /// Seed of every random choice: 1234.
    pub seed: u64,
    /// Stop when the objective changes by at most this fraction: 0, so only when it does not
    /// change at all.
    pub tol: f64,
    /// Training points above this many per centroid are subsampled: 256.
    pub max_points_per_centroid: usize,
    /// A warning is logged below this many training points per centroid: 39.
    pub min_points_per_centroid: usize,
    /// Whether centroids are scaled to norm 1; `None`: for inner product and cosine only.
    pub spherical: Option<bool>,
    /// How the first centroids are chosen.
    pub init: KMeansInit,
    /// First centroids, row-major `[nlist · d]`, instead of `init`.
    pub init_centroids: Option<Vec<f32>>,
    /// A weight per training point, at least 0, not all 0.
    pub weights: Option<Vec<f32>>,
}

impl Default for KMeansParams {
    fn default() -> Self {
        Self {
            niter: 10,
            nredo: 1,
            seed: 1234,
            tol: 0.0,
            max_points_per_centroid: 256,
            min_points_per_centroid: 39,
            spherical: None,
            init: KMeansInit::Random,
            init_centroids: None,
            weights: None,
        }
    }
}

impl KMeansParams {
    /// Checks the values that do not depend on data.
    pub(crate) fn check(&self) -> Result<()> {
        if self.niter == 0 {
            return Err(illegal("niter", 0, "at least 1"));
        }
        if self.nredo == 0 {
            return Err(illegal("nredo", 0, "at least 1"));
        }
        if !(self.tol >= 0.0 && self.tol.is_finite()) {
            return Err(illegal("tol", self.tol, "a finite number, at least 0"));
        }
        if self.max_points_per_centroid == 0 {
            return Err(illegal("max_points_per_centroid", 0, "at least 1"));
        }
        if self.min_points_per_centroid > self.max_points_per_centroid {
            return Err(illegal(
                "min_points_per_centroid",
                self.min_points_per_centroid,
                "at most max_points_per_centroid",
            ));
        }
        Ok(())
    }

    /// Checks the values that go with `n` points of `d` components in `nlist` clusters.
    pub(crate) fn check_data(&self, n: usize, d: usize, nlist: usize) -> Result<()> {
        self.check()?;
        if n < nlist {
            return Err(Error::TooFewPoints { points: n, nlist });
        }
        if let Some(centroids) = &self.init_centroids {
            if centroids.len() != nlist * d {
                return Err(Error::ShapeMismatch {
                    what: "init_centroids",
                    expected: format!("nlist · d = {} values", nlist * d),
                    found: vec![centroids.len()],
                });
            }
            if centroids.iter().any(|v| !v.is_finite()) {
                return Err(illegal(
                    "init_centroids",
                    "NaN or infinite",
                    "finite values",
                ));
            }
        }
        if let Some(weights) = &self.weights {
            if weights.len() != n {
                return Err(Error::Count {
                    what: "weights",
                    rows: n,
                    found: weights.len(),
                });
            }
            if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
                return Err(illegal("weights", bad, "finite numbers, at least 0"));
            }
            if weights.iter().all(|&w| w == 0.0) {
                return Err(illegal("weights", 0, "not all 0"));
            }
        }
        Ok(())
    }
}

/// What training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KMeansReport {
    /// The objective of every iteration of the best run, before its update: the sum of squared
    /// distances (L2; it does not rise but after a split) or of inner products to the nearest
    /// centroid, weighted if weights were given.
    pub objective: Vec<f64>,
    /// `nlist · Σ size² / n²` of the last assignment; 1 is perfect balance.
    pub imbalance: f64,
    /// Empty clusters filled in every iteration, by splitting a large one.
    pub splits: Vec<usize>,
    /// Training points used, after subsampling.
    pub train_rows: usize,
    /// Clusters.
    pub nlist: usize,
    /// Iterations of the best run.
    pub iterations: usize,
    /// Whether it stopped because the objective no longer changed.
    pub converged: bool,
}
