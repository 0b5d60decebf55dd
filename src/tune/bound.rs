//! How sure a recall measured on a sample of queries is. Numbers only; knows no index.
//!
//! Recall per query is a share in [0, 1], not a coin: most queries find everything, a few find
//! little. An interval for coins (Wilson) would be far too wide, one from the normal distribution
//! too narrow exactly where it matters: when no query of the sample happened to fail. The bounds
//! here weight the observations, and one more at the end of the range, by a random point of the
//! simplex (the Bayesian bootstrap with one pessimistic observation: Gaffke, *Three test statistics
//! for a nonparametric one-sided hypothesis on the mean of a nonnegative variable*, 2005). For
//! coins this *is* Clopper and Pearson's bound; for anything else it uses the variance there is. It
//! grows with every observation, so that of two settings of which one finds more for every query
//! the better one never gets the lower bound: choosing the smallest that passes needs no
//! correction for having looked at several.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Gamma};

/// Random weightings behind a bound. At 99 % the bound then moves by 4 % of the mean's standard
/// error between seeds.
const DRAWS: usize = 10_000;

/// Recalls of a sample, grouped by value: with k neighbours there are at most k + 1.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    /// Values, ascending, and how often each was seen.
    groups: Vec<(f64, usize)>,
    n: usize,
}

impl Observed {
    pub fn new(recalls: &[f64]) -> Self {
        let mut sorted = recalls.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut groups: Vec<(f64, usize)> = Vec::new();
        for value in sorted {
            match groups.last_mut() {
                Some((last, count)) if *last == value => *count += 1,
                _ => groups.push((value, 1)),
            }
        }
        Self {
            groups,
            n: recalls.len(),
        }
    }

    pub fn n(&self) -> usize {
        self.n
    }

    pub fn mean(&self) -> f64 {
        let sum: f64 = self.groups.iter().map(|&(v, c)| v * c as f64).sum();
        sum / self.n as f64
    }

    /// Whether every query found everything.
    pub fn perfect(&self) -> bool {
        self.groups.iter().all(|&(value, _)| value >= 1.0)
    }

    /// The two-sided interval that holds the mean over all queries like these with `confidence`.
    pub fn interval(&self, confidence: f64, seed: u64) -> (f64, f64) {
        let tail = f64::midpoint(1.0, confidence);
        let low = self.least(tail, usize::MAX, seed);
        let flipped: Vec<(f64, usize)> = self
            .groups
            .iter()
            .rev()
            .map(|&(v, c)| (1.0 - v, c))
            .collect();
        let mirrored = Self {
            groups: flipped,
            n: self.n,
        };
        (low, 1.0 - mirrored.least(tail, usize::MAX, seed))
    }

    /// What the mean recall of `further` queries like these reaches with `confidence`;
    /// `usize::MAX` for the mean over all there could be.
    pub fn least(&self, confidence: f64, further: usize, seed: u64) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut groups = self.groups.clone();
        match groups.first_mut() {
            Some((value, count)) if *value == 0.0 => *count += 1,
            _ => groups.insert(0, (0.0, 1)),
        }
        // The shape of a gamma variable is a count, at least 1, so it is always legal.
        let gammas: Vec<Gamma<f64>> = groups
            .iter()
            .filter_map(|&(_, count)| Gamma::new(count as f64, 1.0).ok())
            .collect();
        let mut weights = vec![0.0; groups.len()];
        let mut means: Vec<f64> = (0..DRAWS)
            .map(|_| {
                for (weight, gamma) in weights.iter_mut().zip(&gammas) {
                    *weight = gamma.sample(&mut rng);
                }
                mean_of_further(&groups, &weights, further, &mut rng)
            })
            .collect();
        means.sort_by(f64::total_cmp);
        means[((1.0 - confidence) * DRAWS as f64) as usize]
    }
}

/// The mean of `further` values drawn with these weights (of any sum).
fn mean_of_further(
    groups: &[(f64, usize)],
    weights: &[f64],
    further: usize,
    rng: &mut ChaCha8Rng,
) -> f64 {
    let mut rest: f64 = weights.iter().sum();
    if further == usize::MAX {
        let sum: f64 = groups.iter().zip(weights).map(|(g, w)| g.0 * w).sum();
        return sum / rest;
    }
    let (mut left, mut sum) = (further as u64, 0.0);
    for (i, (&(value, _), &weight)) in groups.iter().zip(weights).enumerate() {
        let share = (weight / rest).clamp(0.0, 1.0);
        let drawn = match Binomial::new(left, share) {
            Ok(binomial) if i + 1 < groups.len() => binomial.sample(rng).min(left),
            _ => left,
        };
        sum += value * drawn as f64;
        left -= drawn;
        rest -= weight;
    }
    sum / further as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    fn coins(right: usize, wrong: usize) -> Observed {
        let mut recalls = vec![1.0; right];
        recalls.extend(vec![0.0; wrong]);
        Observed::new(&recalls)
    }

    /// Clopper and Pearson's limits for coins, from tables: 95 % one-sided.
    #[test]
    fn coins_get_clopper_pearson() {
        for (right, wrong, low) in [(100, 0, 0.970_49), (95, 5, 0.897_75), (45, 5, 0.800_54)] {
            let found = coins(right, wrong).least(0.95, usize::MAX, 1);
            assert!((found - low).abs() < 2e-3, "{right}/{wrong}: {found}");
        }
        let (low, high) = coins(95, 5).interval(0.95, 1);
        assert!((low - 0.887_17).abs() < 2e-3, "{low}");
        assert!((high - 0.983_57).abs() < 2e-3, "{high}");
    }

    #[test]
    fn bounds_follow_their_arguments() {
        let recalls: Vec<f64> = (0..400).map(|i| 1.0 - f64::from(i % 5) / 20.0).collect();
        let seen = Observed::new(&recalls);
        assert!((seen.mean() - 0.9).abs() < 1e-12);
        let all = seen.least(0.95, usize::MAX, 7);
        assert!(all < 0.9 && all > 0.88, "{all}");
        assert!(seen.least(0.99, usize::MAX, 7) < all, "surer is lower");
        assert!(
            seen.least(0.95, 400, 7) < all,
            "few queries vary more than all"
        );
        assert!(seen.least(0.95, 20, 7) < seen.least(0.95, 400, 7));
        let half = Observed::new(&recalls[..200]);
        assert!(
            half.least(0.95, usize::MAX, 7) < all,
            "more queries are surer"
        );
        let better: Vec<f64> = recalls.iter().map(|r| f64::midpoint(*r, 1.0)).collect();
        assert!(Observed::new(&better).least(0.95, usize::MAX, 7) > all);
    }

    /// The promise is kept as often as it says, for recalls that are skewed as real ones are.
    #[test]
    fn promises_are_kept() {
        type Draw = fn(&mut ChaCha8Rng) -> f64;
        let rare: Draw = |rng| if rng.random_bool(0.02) { 0.0 } else { 1.0 };
        let skewed: Draw = |rng| 1.0 - (rng.random::<f64>().powi(6) * 10.0).round() / 10.0;
        let wide: Draw = |rng| (rng.random::<f64>() * 10.0).round() / 10.0;
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        for (name, draw, n, further) in [
            ("rare", rare, 100, 100),
            ("skewed", skewed, 60, 200),
            ("wide", wide, 40, 40),
        ] {
            let trials = 200;
            let mut kept = 0;
            for trial in 0..trials {
                let sample: Vec<f64> = (0..n).map(|_| draw(&mut rng)).collect();
                let promise = Observed::new(&sample).least(0.9, further, trial);
                let later: f64 = (0..further).map(|_| draw(&mut rng)).sum();
                kept += usize::from(later / further as f64 >= promise - 1e-12);
            }
            // 0.9 less two standard deviations of 200 trials
            let share = kept as f64 / f64::from(trials as u32);
            assert!(share > 0.9 - 0.043, "{name}: {share}");
            assert!(share < 1.0, "{name}: a bound that never fails is too low");
        }
    }
}
