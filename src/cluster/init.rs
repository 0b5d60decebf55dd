//! Which points the first centroids are, and the subsample they are trained on.

use crate::{backend::exact_distance, metric::ScanMetric as Metric};
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

/// k-means++ seeding: each next centroid is drawn in proportion to weight times squared distance
/// from those before it; the first in proportion to weight.
pub(super) fn plus_plus(
    (points, weights): (&[f32], Option<&[f32]>),
    d: usize,
    k: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<u32> {
    let n = points.len() / d;
    let weight = |i: usize| weights.map_or(1.0, |w| f64::from(w[i]));
    let mut nearest = vec![1.0_f64; n];
    let mut chosen = Vec::with_capacity(k);
    while chosen.len() < k {
        let total: f64 = nearest.iter().enumerate().map(|(i, v)| weight(i) * v).sum();
        let next = if total > 0.0 && total.is_finite() {
            let mut left = rng.random::<f64>() * total;
            let hit = nearest.iter().enumerate().position(|(i, v)| {
                left -= weight(i) * v;
                left < 0.0
            });
            hit.unwrap_or(n - 1)
        } else {
            // Every point of weight already lies on a centroid.
            rng.random_range(0..n)
        };
        let center = &points[next * d..(next + 1) * d];
        let first = chosen.is_empty();
        let near = nearest.par_iter_mut().zip(points.par_chunks_exact(d));
        near.with_min_len(256).for_each(|(nearest, point)| {
            let distance = exact_distance(Metric::L2, center, point);
            *nearest = if first {
                distance
            } else {
                nearest.min(distance)
            };
        });
        chosen.push(next as u32);
    }
    chosen
}
