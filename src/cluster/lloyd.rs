//! Lloyd's iterations, with faiss's treatment of empty clusters.

use super::{KMeansInit, KMeansParams, KMeansReport, Quantizer, init};
use crate::{
    backend::{Groups, IvfBackend, read, read_int, select_rows},
    error::{Error, Result},
    metric::Metric,
};
use burn::tensor::{DType, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A centroid is split by scaling its components by 1 ± this (faiss's value).
const SPLIT: f32 = 1.0 / 1024.0;

/// Clusters `x`, f32 `[n, d]`, into `nlist` centroids, row-major `[nlist, d]`.
///
/// With exactly `nlist` points these are copied. More than `max_points_per_centroid` per cluster
/// are subsampled; fewer than `min_points_per_centroid` are reported through `log`. The caller has seen
/// that all points are finite.
///
/// # Errors
/// Fewer points than clusters, illegal parameters.
pub(crate) fn train<E: IvfBackend>(
    x: Tensor<E, 2>,
    nlist: usize,
    metric: Metric,
    params: &KMeansParams,
    workspace: usize,
) -> Result<(Vec<f32>, KMeansReport)> {
    let [n, d] = x.dims();
    params.check_data(n, d, nlist)?;
    let limit = nlist.saturating_mul(params.max_points_per_centroid);
    let mut weights = params.weights.clone();
    let x = if n > limit {
        log::info!(
            "training on {limit} of {n} points, {} per centroid",
            params.max_points_per_centroid
        );
        let rows = init::sample(n, limit, &mut init::generator(params.seed, 0));
        weights = weights.map(|w| rows.iter().map(|&row| w[row as usize]).collect());
        select_rows(&x, &rows)
    } else {
        if n < nlist.saturating_mul(params.min_points_per_centroid) && n > nlist {
            log::warn!(
                "{n} training points for {nlist} clusters: fewer than the {} per cluster that make sound clusters; pass more points or lower nlist",
                params.min_points_per_centroid
            );
        }
        x
    };
    let n = x.dims()[0];
    if n == nlist && params.init_centroids.is_none() {
        let report = KMeansReport {
            objective: Vec::new(),
            imbalance: 1.0,
            splits: Vec::new(),
            train_rows: n,
            nlist,
            iterations: 0,
            converged: true,
        };
        return Ok((E::to_host(x)?, report));
    }
    let lloyd = Lloyd {
        x,
        weights: weights.as_deref(),
        d,
        nlist,
        metric,
        spherical: params
            .spherical
            .unwrap_or(matches!(metric, Metric::InnerProduct | Metric::Cosine)),
        params,
        workspace,
    };
    let mut best: Option<(Vec<f32>, KMeansReport)> = None;
    for redo in 0..params.nredo as u64 {
        let run = lloyd.run(&mut init::generator(params.seed, 1 + redo))?;
        let key = |report: &KMeansReport| {
            let last = report.objective.last().copied().unwrap_or(0.0);
            if metric.larger_is_better() {
                -last
            } else {
                last
            }
        };
        if best
            .as_ref()
            .is_none_or(|(_, report)| key(&run.1) < key(report))
        {
            best = Some(run);
        }
    }
    best.ok_or_else(|| crate::error::illegal("nredo", 0, "at least 1"))
}

/// An error that names the first row of `rows` with a NaN or infinite component.
pub(crate) fn check_finite(rows: &[f32], d: usize, what: &'static str) -> Result<()> {
    let bad = |row: &[f32]| row.iter().any(|v| !v.is_finite());
    let mut bad_rows = rows.chunks_exact(d).enumerate().filter(|(_, row)| bad(row));
    match bad_rows.next() {
        None => Ok(()),
        Some((row, _)) => Err(Error::NonFinite {
            what,
            row,
            count: 1 + bad_rows.count(),
        }),
    }
}

struct Lloyd<'a, E: IvfBackend> {
    x: Tensor<E, 2>,
    weights: Option<&'a [f32]>,
    d: usize,
    nlist: usize,
    metric: Metric,
    spherical: bool,
    params: &'a KMeansParams,
    workspace: usize,
}

impl<E: IvfBackend> Lloyd<'_, E> {
    fn run(&self, rng: &mut ChaCha8Rng) -> Result<(Vec<f32>, KMeansReport)> {
        let mut centroids = match &self.params.init_centroids {
            Some(given) => given.clone(),
            None => self.first(rng)?,
        };
        self.normalise(&mut centroids);
        let (mut objective, mut splits) = (Vec::new(), Vec::new());
        let mut imbalance = 1.0;
        let mut converged = false;
        for _ in 0..self.params.niter {
            let (lists, distances) = self.assign(&centroids)?;
            let now = self.objective(&distances);
            imbalance = imbalance_factor(&lists, self.nlist);
            let last = objective.last().copied();
            objective.push(now);
            let (mut sizes, means) = self.update(&lists, &centroids)?;
            centroids = means;
            splits.push(self.split(&mut sizes, &mut centroids, rng));
            self.normalise(&mut centroids);
            if last.is_some_and(|last: f64| (last - now).abs() <= self.params.tol * last.abs()) {
                converged = true;
                break;
            }
        }
        let report = KMeansReport {
            iterations: objective.len(),
            objective,
            imbalance,
            splits,
            train_rows: self.x.dims()[0],
            nlist: self.nlist,
            converged,
        };
        Ok((centroids, report))
    }

    /// The first centroids.
    fn first(&self, rng: &mut ChaCha8Rng) -> Result<Vec<f32>> {
        let rows = match self.params.init {
            KMeansInit::Random => init::sample(self.x.dims()[0], self.nlist, rng),
            KMeansInit::KMeansPlusPlus => {
                let points = E::to_host(self.x.clone())?;
                init::plus_plus((&points, self.weights), self.d, self.nlist, rng)
            }
            KMeansInit::AfkMc2 => {
                let points = E::to_host(self.x.clone())?;
                init::afk_mc2((&points, self.weights), self.d, self.nlist, rng)
            }
        };
        E::to_host(select_rows(&self.x, &rows))
    }

    /// The nearest centroid of every point, and its distance.
    fn assign(&self, centroids: &[f32]) -> Result<(Vec<i64>, Vec<f32>)> {
        let device = self.x.device();
        let shape = [self.nlist, self.d];
        let tensor = Tensor::from_data(
            TensorData::new(centroids.to_vec(), shape),
            (&device, DType::F32),
        );
        let store = super::centroid_list::<E>(tensor)?;
        let quantizer = Quantizer::<E> {
            metric: self.metric,
            store: &store,
            nlist: self.nlist,
            d: self.d,
            workspace: self.workspace,
        };
        let hits = quantizer.nearest(self.x.clone(), 1)?;
        Ok((read_int(hits.labels)?, read(hits.distances)?))
    }

    fn objective(&self, distances: &[f32]) -> f64 {
        distances
            .iter()
            .enumerate()
            .map(|(i, &v)| self.weight(i) * f64::from(v))
            .sum()
    }

    /// Weighted sizes and means of the clusters; an empty cluster keeps its centroid.
    fn update(&self, lists: &[i64], centroids: &[f32]) -> Result<(Vec<f64>, Vec<f32>)> {
        let mut sizes = vec![0.0; self.nlist];
        let mut offsets = vec![0_u32; self.nlist + 1];
        for (point, &list) in lists.iter().enumerate() {
            sizes[list as usize] += self.weight(point);
            offsets[list as usize + 1] += 1;
        }
        for list in 0..self.nlist {
            offsets[list + 1] += offsets[list];
        }
        let mut next = offsets.clone();
        let mut members = vec![0; lists.len()];
        for (point, &list) in lists.iter().enumerate() {
            members[next[list as usize] as usize] = point as u32;
            next[list as usize] += 1;
        }
        let groups = Groups {
            members: &members,
            offsets: &offsets,
            weights: self.weights,
        };
        let mut means = E::means(self.x.clone(), &groups)?;
        let kept = means
            .chunks_exact_mut(self.d)
            .zip(centroids.chunks_exact(self.d));
        for ((mean, old), _) in kept.zip(&sizes).filter(|(_, size)| **size <= 0.0) {
            mean.copy_from_slice(old);
        }
        Ok((sizes, means))
    }

    /// How often a point counts.
    fn weight(&self, point: usize) -> f64 {
        self.weights.map_or(1.0, |w| f64::from(w[point]))
    }

    /// Fills every empty cluster with half of a large one, drawn in proportion to its size less 1
    /// (faiss); the largest when chance finds none. Returns how many were filled.
    fn split(&self, sizes: &mut [f64], centroids: &mut [f32], rng: &mut ChaCha8Rng) -> usize {
        let mut filled = 0;
        for empty in 0..self.nlist {
            if sizes[empty] > 0.0 {
                continue;
            }
            let donor = donor(sizes, rng);
            for t in 0..self.d {
                let value = centroids[donor * self.d + t];
                // The largest values have nothing above them.
                let up = (value * (1.0 + SPLIT)).clamp(f32::MIN, f32::MAX);
                let down = value * (1.0 - SPLIT);
                let (a, b) = if t % 2 == 0 { (up, down) } else { (down, up) };
                centroids[empty * self.d + t] = a;
                centroids[donor * self.d + t] = b;
            }
            sizes[empty] = sizes[donor] / 2.0;
            sizes[donor] -= sizes[empty];
            filled += 1;
        }
        filled
    }

    fn normalise(&self, centroids: &mut [f32]) {
        if !self.spherical {
            return;
        }
        for centroid in centroids.chunks_exact_mut(self.d) {
            let norm = centroid
                .iter()
                .map(|&v| f64::from(v) * f64::from(v))
                .sum::<f64>()
                .sqrt();
            if norm > 0.0 {
                for v in centroid {
                    *v = (f64::from(*v) / norm) as f32;
                }
            }
        }
    }
}

/// A cluster to split.
fn donor(sizes: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let total: f64 = sizes.iter().map(|&size| (size - 1.0).max(0.0)).sum();
    let mut left = rng.random::<f64>() * total;
    if total > 0.0 {
        for (cluster, &size) in sizes.iter().enumerate() {
            left -= (size - 1.0).max(0.0);
            if left < 0.0 {
                return cluster;
            }
        }
    }
    let largest = sizes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    largest.map_or(0, |(cluster, _)| cluster)
}

/// `nlist · Σ size² / n²`.
fn imbalance_factor(lists: &[i64], nlist: usize) -> f64 {
    let mut sizes = vec![0_u64; nlist];
    for &list in lists {
        sizes[list as usize] += 1;
    }
    imbalance(&sizes.iter().map(|&s| s as usize).collect::<Vec<_>>())
}

/// `nlist · Σ size² / n²` of list sizes: 1 is perfect balance; 1 for empty lists.
pub(crate) fn imbalance(sizes: &[usize]) -> f64 {
    let n: f64 = sizes.iter().map(|&s| s as f64).sum();
    if n == 0.0 {
        return 1.0;
    }
    sizes.len() as f64 * sizes.iter().map(|&s| s as f64 * s as f64).sum::<f64>() / (n * n)
}
