//! Neighbours as part of a computation: gradients, on `Autodiff` over the backend.

use super::support::*;
use burn_ivf::{IndexIvfFlat, IvfBackend, Metric};

type Ad<B> = burn::backend::Autodiff<B>;

/// Gradients of the neighbours' distances against finite differences in f64, for the queries and
/// the gathered rows; padding has none.
pub fn gradients_match_finite_differences<B: IvfBackend>(device: &B::Device) {
    let (nq, d, k) = (4, 5, 12);
    let base = normal(12, d, 61);
    let queries = normal(nq, d, 62);
    let weights = uniform(nq, k, 63);
    for metric in METRICS {
        // two of four lists: some slots stay empty
        let mut index =
            IndexIvfFlat::<Ad<B>>::from_centroids(base.range(0..4).on(device), metric).unwrap();
        index.add(base.on(device)).unwrap();
        index.set_nprobe(2).unwrap();
        let x = base.on::<Ad<B>>(device).require_grad();
        let q = queries.on::<Ad<B>>(device).require_grad();
        let result = index.search(q.clone(), k).unwrap();
        let answer = Answer::read(&result);
        assert!(answer.i.contains(&-1), "a case with padding");
        let near = result.neighbours(q.clone(), x.clone(), metric).unwrap();
        // values: as found, padding included
        for (at, (&a, b)) in answer
            .d
            .iter()
            .zip(floats(near.distances.clone()))
            .enumerate()
        {
            let same = a == b || (a - b).abs() <= 1e-5 * a.abs().max(1.0);
            assert!(same, "{metric}, {at}: {a} {b}");
        }
        let found: Vec<bool> = near.found.clone().into_data().iter::<bool>().collect();
        assert!(found.iter().zip(&answer.i).all(|(&f, &id)| f == (id != -1)));
        // a loss that is not linear in the distances
        let finite = near.distances.mask_fill(near.found.bool_not(), 0.0);
        let loss = (finite.clone() * finite * weights.on::<Ad<B>>(device)).sum();
        let gradients = loss.backward();
        let slopes = [q.grad(&gradients).unwrap(), x.grad(&gradients).unwrap()].map(floats);
        let host = |queries: &[f64], base: &[f64]| -> f64 {
            let mut sum = 0.0;
            for (at, &id) in answer.i.iter().enumerate().filter(|(_, id)| **id != -1) {
                let (q, x) = (&queries[at / k * d..][..d], &base[id as usize * d..][..d]);
                let pairs = q.iter().zip(x);
                let distance: f64 = if metric == Metric::L2 {
                    pairs.map(|(q, x)| (q - x) * (q - x)).sum()
                } else {
                    pairs.map(|(q, x)| q * x).sum()
                };
                sum += f64::from(weights.data[at]) * distance * distance;
            }
            sum
        };
        let wide = |rows: &Rows| -> Vec<f64> { rows.data.iter().map(|&v| v.into()).collect() };
        let inputs = [wide(&queries), wide(&base)];
        for side in 0..2 {
            let largest = slopes[side].iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            assert!(largest > 0.1);
            for at in 0..inputs[side].len() {
                let shifted = |by: f64| {
                    let mut inputs = inputs.clone();
                    inputs[side][at] += by;
                    host(&inputs[0], &inputs[1])
                };
                let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                let got = f64::from(slopes[side][at]);
                let scale = expected.abs().max(1e-3 * f64::from(largest));
                assert!(
                    (got - expected).abs() <= 1e-3 * scale,
                    "{metric}, input {side}, component {at}: {got} against {expected}"
                );
            }
        }
        // detached rows get nothing, the query still does
        let near = result
            .neighbours(q.clone(), x.clone().detach(), metric)
            .unwrap();
        let sum = near.distances.mask_fill(near.found.bool_not(), 0.0).sum();
        let gradients = sum.backward();
        assert!(x.grad(&gradients).is_none() && q.grad(&gradients).is_some());
        // the padding distance has no gradient either, though it is infinite
        let near = result.neighbours(q.clone(), x.clone(), metric).unwrap();
        let gradients = near.distances.sum().backward();
        let slope = floats(q.grad(&gradients).unwrap());
        assert!(slope.iter().all(|v| v.is_finite()), "{slope:?}");
    }
}
