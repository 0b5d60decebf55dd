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

/// Steps of a chain of [`afk_mc2`], the number of its authors' experiments.
const CHAIN: usize = 200;

/// AFK-MC² seeding: each next centroid is the end of a Metropolis-Hastings chain whose stationary
/// distribution is that of k-means++, and whose proposals are half by squared distance from the first
/// centroid, half by weight alone.
pub(super) fn afk_mc2(
    (points, weights): (&[f32], Option<&[f32]>),
    d: usize,
    k: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<u32> {
    let n = points.len() / d;
    let weight = |i: usize| weights.map_or(1.0, |w| f64::from(w[i]));
    let point = |i: usize| &points[i * d..(i + 1) * d];
    let by_weight: Vec<f64> = ascending((0..n).map(weight));
    let first = draw(&by_weight, rng);
    let far: Vec<f64> = (0..n)
        .into_par_iter()
        .with_min_len(256)
        .map(|i| weight(i) * exact_distance(Metric::L2, point(first), point(i)))
        .collect();
    let by_distance = ascending(far.iter().copied());
    let (all_far, all) = (by_distance[n - 1], by_weight[n - 1]);
    let spread = all_far > 0.0 && all_far.is_finite();
    // How likely a point is proposed.
    let proposed = |i: usize| {
        let chance = weight(i) / all;
        if spread {
            0.5 * (far[i] / all_far + chance)
        } else {
            chance
        }
    };
    let mut chosen = vec![first as u32];
    while chosen.len() < k {
        let candidates: Vec<usize> = (0..CHAIN)
            .map(|_| {
                let near = !spread || rng.random::<bool>();
                draw(if near { &by_weight } else { &by_distance }, rng)
            })
            .collect();
        // What k-means++ would draw by, over how likely the proposal was.
        let worth: Vec<f64> = candidates
            .par_iter()
            .map(|&i| {
                let distances = chosen.iter().map(|&c| point(c as usize));
                let distances = distances.map(|c| exact_distance(Metric::L2, c, point(i)));
                weight(i) * distances.fold(f64::INFINITY, f64::min) / proposed(i)
            })
            .collect();
        let mut at = 0;
        for step in 1..CHAIN {
            let accept = rng.random::<f64>() * worth[at] < worth[step];
            if accept || worth[at] <= 0.0 {
                at = step;
            }
        }
        chosen.push(candidates[at] as u32);
    }
    chosen
}

/// Running sums.
fn ascending(parts: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    parts
        .map(|part| {
            sum += part;
            sum
        })
        .collect()
}

/// A place drawn in proportion to its part of the running sums.
fn draw(sums: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let last = sums.len() - 1;
    let mark = rng.random::<f64>() * sums[last];
    sums.partition_point(|&sum| sum <= mark).min(last)
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
