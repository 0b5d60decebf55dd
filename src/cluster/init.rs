//! The first centroids, and the subsample they are trained on.

use super::KMeansInit;
use crate::{backend::exact_distance, metric::Metric};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// The generator of one purpose: a stream of its own for every `purpose` of a seed.
pub(super) fn generator(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose);
    rng
}

/// `m` distinct numbers below `n`, in random order (a partial Fisher–Yates shuffle).
pub(super) fn sample(n: usize, m: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut all: Vec<u32> = (0..n as u32).collect();
    for i in 0..m.min(n) {
        let j = rng.random_range(i..n);
        all.swap(i, j);
    }
    all.truncate(m);
    all
}

/// First centroids from `points`, `[n, d]`, row-major `[k, d]`.
pub(super) fn centroids(
    init: KMeansInit,
    points: &[f32],
    d: usize,
    k: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let n = points.len() / d;
    let rows = match init {
        KMeansInit::Random => sample(n, k, rng),
        KMeansInit::KMeansPlusPlus => plus_plus(points, d, k, rng),
    };
    rows.iter()
        .flat_map(|&row| &points[row as usize * d..(row as usize + 1) * d])
        .copied()
        .collect()
}

/// k-means++ seeding.
fn plus_plus(points: &[f32], d: usize, k: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let n = points.len() / d;
    let mut chosen = vec![rng.random_range(0..n) as u32];
    let mut nearest = vec![f64::INFINITY; n];
    while chosen.len() < k {
        let last = chosen[chosen.len() - 1] as usize;
        let center = &points[last * d..(last + 1) * d];
        nearest
            .par_iter_mut()
            .zip(points.par_chunks_exact(d))
            .with_min_len(256)
            .for_each(|(nearest, point)| {
                *nearest = nearest.min(exact_distance(Metric::L2, center, point));
            });
        let total: f64 = nearest.iter().sum();
        let next = if total > 0.0 && total.is_finite() {
            let mut left = rng.random::<f64>() * total;
            let hit = nearest.iter().position(|&weight| {
                left -= weight;
                left < 0.0
            });
            hit.unwrap_or(n - 1)
        } else {
            // Every point already lies on a centroid.
            rng.random_range(0..n)
        };
        chosen.push(next as u32);
    }
    chosen
}
