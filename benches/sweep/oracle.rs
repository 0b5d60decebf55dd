//! The judge: plain loops in f64, sharing no code with the crate. Nothing is timed before an
//! answer has passed here.
//!
//! What passes: every row in the total order (better distance first, then smaller id), with the
//! reported f32 distance within the rounding of a d-term sum, and padding only where there are no
//! more candidates. Where two candidates differ by less than `NEAR_TIE` relative either may stand
//! first.

use crate::Res;
use crate::data::{Base, STRETCH};
use burn_ivf::Metric;
use rayon::prelude::*;

/// Two f64 distances closer than this (relative) count as equal for the order of ids.
pub const NEAR_TIE: f64 = 1e-6;

/// One search's answer on the host, row-major `[rows, k]`.
pub struct Answer {
    pub k: usize,
    pub distances: Vec<f32>,
    pub labels: Vec<i64>,
}

impl Answer {
    pub fn rows(&self) -> usize {
        self.labels.len() / self.k
    }

    pub fn row(&self, i: usize) -> (&[i64], &[f32]) {
        let span = i * self.k..(i + 1) * self.k;
        (&self.labels[span.clone()], &self.distances[span])
    }
}

/// Exact distances to rows whose ids are their row numbers.
pub struct Oracle<'a> {
    pub rows: &'a Base,
    pub metric: Metric,
}

/// A distance and the magnitude its rounding errors are relative to.
#[derive(Clone, Copy)]
struct Exact {
    value: f64,
    scale: f64,
}

impl Oracle<'_> {
    fn exact(&self, query: &[f32], id: i64) -> Exact {
        self.of(query, &self.rows.row(id as usize))
    }

    fn of(&self, query: &[f32], row: &[f32]) -> Exact {
        let pairs = query.iter().zip(row);
        let pairs = pairs.map(|(q, x)| (f64::from(*q), f64::from(*x)));
        match self.metric {
            Metric::L2 => {
                let value = pairs.map(|(q, x)| (q - x) * (q - x)).sum();
                Exact {
                    value,
                    scale: value,
                }
            }
            // The arguments let no other metric through.
            _ => {
                let (value, scale) = pairs.fold((0.0, 0.0), |(value, scale), (q, x)| {
                    (value + q * x, scale + (q * x).abs())
                });
                Exact { value, scale }
            }
        }
    }

    /// The sort key: smaller is better for every metric.
    fn key(&self, value: f64) -> f64 {
        match self.metric {
            Metric::L2 => value,
            _ => -value,
        }
    }

    /// The `k` best of `ids` (ascending; all rows if `None`), best first.
    fn best(&self, query: &[f32], ids: Option<&[i64]>, k: usize) -> Vec<(f64, i64)> {
        let (d, rows) = (self.rows.d(), self.rows.rows());
        let mut all: Vec<(f64, i64)> = Vec::new();
        // Stretch by stretch: the base may be drawn as it is looked at.
        for from in (0..rows).step_by(STRETCH) {
            let n = STRETCH.min(rows - from);
            let own = ids.map(|ids| {
                let at = |row: usize| ids.partition_point(|id| *id < row as i64);
                &ids[at(from)..at(from + n)]
            });
            if own.is_some_and(<[i64]>::is_empty) {
                continue;
            }
            let block = self.rows.block(from, n);
            let keyed = |id: i64| {
                let row = &block[(id as usize - from) * d..][..d];
                (self.key(self.of(query, row).value), id)
            };
            match own {
                Some(ids) => all.par_extend(ids.par_iter().map(|id| keyed(*id))),
                None => {
                    let ids = from as i64..(from + n) as i64;
                    all.par_extend(ids.into_par_iter().map(keyed));
                }
            }
        }
        let order = |a: &(f64, i64), b: &(f64, i64)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if all.len() > k {
            all.select_nth_unstable_by(k, order);
            all.truncate(k);
        }
        all.sort_by(order);
        all
    }

    /// Checks one row of an answer; `ids` (ascending) are the rows it may name, all if `None`. Returns the
    /// largest relative error of its distances.
    pub fn check(
        &self,
        query: &[f32],
        found: (&[i64], &[f32]),
        ids: Option<&[i64]>,
    ) -> Result<f64, String> {
        let mut worst = 0.0_f64;
        let (labels, distances) = found;
        let expected = self.best(query, ids, labels.len());
        let empty = self.key(1.0) as f32 * f32::INFINITY;
        let mut seen = labels.to_vec();
        seen.retain(|id| *id >= 0);
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("an id twice in {labels:?}"));
        }
        for (slot, (&label, &distance)) in labels.iter().zip(distances).enumerate() {
            let Some(&(key, id)) = expected.get(slot) else {
                if label != -1 || distance != empty {
                    return Err(format!(
                        "slot {slot}: ({label}, {distance}), expected padding"
                    ));
                }
                continue;
            };
            let known = match ids {
                Some(ids) => ids.binary_search(&label).is_ok(),
                None => (0..self.rows.rows() as i64).contains(&label),
            };
            if !known {
                return Err(format!(
                    "slot {slot}: id {label} is no candidate, expected {id}"
                ));
            }
            let exact = self.exact(query, label);
            let apart = (self.key(exact.value) - key).abs();
            if label != id && apart > NEAR_TIE * exact.scale.max(key.abs()) {
                let is = exact.value;
                return Err(format!(
                    "slot {slot}: id {label} at {is}, expected {id} at {key}"
                ));
            }
            self.check_distance(exact, distance)
                .map_err(|text| format!("slot {slot}, id {label}: {text}"))?;
            let error = (f64::from(distance) - exact.value).abs();
            worst = worst.max(error / exact.scale.max(1e-30));
        }
        Ok(worst)
    }

    /// Checks that `id` is the best row, or as good as the best.
    pub fn check_nearest(&self, query: &[f32], id: i64) -> Result<(), String> {
        let Some(&(key, best)) = self.best(query, None, 1).first() else {
            return Err("nothing to choose from".to_owned());
        };
        let exact = self.exact(query, id);
        let apart = self.key(exact.value) - key;
        if id == best || apart <= NEAR_TIE * exact.scale.max(key.abs()) {
            return Ok(());
        }
        let is = self.key(exact.value);
        Err(format!("{id} at {is}, expected {best} at {key}"))
    }

    /// An f32 sum of d products, in any order, lies within d+8 roundings of the truth.
    fn check_distance(&self, exact: Exact, reported: f32) -> Result<(), String> {
        let terms = self.rows.d() as f64 + 8.0;
        let allowed = terms * f64::from(f32::EPSILON) * exact.scale + 1e-30;
        let error = (f64::from(reported) - exact.value).abs();
        if error <= allowed {
            return Ok(());
        }
        let value = exact.value;
        Err(format!(
            "distance {reported}, exactly {value}: off by {error:.3e}"
        ))
    }
}

/// `count` row numbers spread evenly over `0..rows`, first and last included.
pub fn sample(rows: usize, count: usize) -> Vec<usize> {
    match rows {
        0 => Vec::new(),
        _ if rows <= count => (0..rows).collect(),
        _ => (0..count).map(|i| i * (rows - 1) / (count - 1)).collect(),
    }
}

/// Wraps a failed check: the sub-command stops and prints no number.
pub fn refuse<T>(what: &str, row: usize, text: &str) -> Res<T> {
    Err(format!("WRONG ANSWER, nothing is timed: {what}, query {row}: {text}").into())
}
