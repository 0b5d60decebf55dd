//! The f64 oracle: brute force in plain loops, and the rule that says when an answer is right.
//!
//! The rule (`docs/semantics.md`): results are in the total order "better distance,
//! then smaller id"; an id may differ from the oracle's only where the two f64 distances differ by
//! less than 1e-6 relative; rows with equal bits always come in the order of their ids. For an
//! inner product "relative" means relative to the sum of the magnitudes of its terms.

use super::support::{Answer, Rows, padding};
use burn_ivf::Metric;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// Two distances closer than this, relative, may be swapped.
pub const TIE: f64 = 1e-6;
/// A reported f32 distance may be this far from the f64 one, relative.
pub const VALUE: f64 = 1e-5;

/// The distance of a pair in f64, and the scale that rounding errors are relative to.
pub fn measure(metric: Metric, q: &[f32], x: &[f32]) -> (f64, f64) {
    let pairs = q.iter().zip(x).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    if metric == Metric::L2 {
        let value = pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        (value, value)
    } else {
        pairs.fold((0.0, 0.0), |(sum, scale), (a, b)| {
            (sum + a * b, scale + (a * b).abs())
        })
    }
}

/// Better first; a value that no f32 holds counts as infinite, as it does in an answer.
fn by_value(metric: Metric, a: f64, b: f64) -> Ordering {
    let clip = |v: f64| {
        if (v as f32).is_infinite() {
            f64::from(v as f32)
        } else {
            v
        }
    };
    if metric == Metric::L2 {
        clip(a).total_cmp(&clip(b))
    } else {
        clip(b).total_cmp(&clip(a))
    }
}

/// Whether two distances are a near-tie.
pub fn near(a: (f64, f64), b: (f64, f64)) -> bool {
    if a.0 as f32 == b.0 as f32 {
        return true;
    }
    let floor = f64::from(f32::MIN_POSITIVE) * 1024.0;
    (a.0 - b.0).abs() <= TIE * a.1.max(b.1) + floor
}

/// Rows with ids, searched by brute force.
pub struct Oracle<'a> {
    metric: Metric,
    base: &'a Rows,
    ids: Vec<i64>,
    by_id: HashMap<i64, Vec<usize>>,
    /// Rows with equal bits, in the order of their ids.
    twins: Vec<Option<usize>>,
}

impl<'a> Oracle<'a> {
    /// Rows with automatic ids.
    pub fn new(metric: Metric, base: &'a Rows) -> Self {
        let ids = (0..base.n() as i64).collect();
        Self::with_ids(metric, base, ids)
    }

    pub fn with_ids(metric: Metric, base: &'a Rows, ids: Vec<i64>) -> Self {
        assert_eq!(base.n(), ids.len());
        let mut by_id: HashMap<i64, Vec<usize>> = HashMap::new();
        for (row, &id) in ids.iter().enumerate() {
            by_id.entry(id).or_default().push(row);
        }
        let mut order: Vec<usize> = (0..base.n()).collect();
        order.sort_by_key(|&row| (ids[row], row));
        let mut last: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut twins = vec![None; base.n()];
        for row in order {
            let bits = base.row(row).iter().map(|v| v.to_bits()).collect();
            twins[row] = last.insert(bits, row);
        }
        Self {
            metric,
            base,
            ids,
            by_id,
            twins,
        }
    }

    /// The `k` best of `rows` in the total order: value, scale, row.
    pub fn best(&self, q: &[f32], rows: &[usize], k: usize) -> Vec<((f64, f64), usize)> {
        let mut all: Vec<_> = rows
            .iter()
            .map(|&row| (measure(self.metric, q, self.base.row(row)), row))
            .collect();
        let order = |a: &((f64, f64), usize), b: &((f64, f64), usize)| {
            by_value(self.metric, a.0.0, b.0.0).then(self.ids[a.1].cmp(&self.ids[b.1]))
        };
        if k < all.len() {
            all.select_nth_unstable_by(k, order);
            all.truncate(k);
        }
        all.sort_by(order);
        all
    }

    /// The exact labels of the `k` best, padded with -1, row-major.
    pub fn labels(&self, queries: &Rows, k: usize) -> Vec<i64> {
        let rows: Vec<usize> = (0..self.base.n()).collect();
        let mut labels = Vec::with_capacity(queries.n() * k);
        for q in 0..queries.n() {
            let best = self.best(queries.row(q), &rows, k);
            labels.extend(best.iter().map(|hit| self.ids[hit.1]));
            labels.resize((q + 1) * k, -1);
        }
        labels
    }

    /// Fails unless `found` is a right answer over all rows.
    #[track_caller]
    pub fn check(&self, queries: &Rows, found: &Answer, what: &str) {
        let rows: Vec<usize> = (0..self.base.n()).collect();
        assert_eq!(queries.n(), found.nq, "{what}: one row per query");
        for q in 0..found.nq {
            self.check_query(queries.row(q), found, q, &rows, what);
        }
    }

    /// Fails unless the answer to query `at` is right over `rows` alone.
    #[track_caller]
    pub fn check_query(&self, q: &[f32], found: &Answer, at: usize, rows: &[usize], what: &str) {
        let what = format!("{what} ({}, {}), query {at}", self.metric, found.stats.mode);
        let (d, i) = found.row(at);
        let best = self.best(q, rows, found.k);
        let allowed: HashSet<usize> = rows.iter().copied().collect();
        let mut seen = HashSet::new();
        for (rank, &(value, row)) in best.iter().enumerate() {
            let what = format!("{what}, rank {rank}");
            let hit = self.identify(q, (d[rank], i[rank]), &allowed, &seen, &what);
            seen.insert(hit);
            let exact = measure(self.metric, q, self.base.row(hit));
            if i[rank] != self.ids[row] {
                assert!(
                    near(exact, value),
                    "{what}: id {} at {exact:?}, expected id {} at {value:?}",
                    i[rank],
                    self.ids[row]
                );
            }
            assert_close(d[rank], exact, &what);
            self.assert_twin_before(hit, &allowed, &seen, &what);
        }
        self.assert_order(d, i, best.len(), &what);
        for rank in best.len()..found.k {
            let empty = i[rank] == -1 && d[rank] == padding(self.metric);
            assert!(
                empty,
                "{what}, rank {rank}: {:?} where padding is due",
                (d[rank], i[rank])
            );
        }
    }

    /// The row an answer's slot means: one with its id, not used before, closest in value.
    fn identify(
        &self,
        q: &[f32],
        (d, id): (f32, i64),
        allowed: &HashSet<usize>,
        seen: &HashSet<usize>,
        what: &str,
    ) -> usize {
        let off = |row: usize| {
            (measure(self.metric, q, self.base.row(row)).0 as f32 - d)
                .abs()
                .to_bits()
        };
        self.by_id
            .get(&id)
            .into_iter()
            .flatten()
            .copied()
            .filter(|row| allowed.contains(row) && !seen.contains(row))
            .min_by_key(|&row| off(row))
            .unwrap_or_else(|| panic!("{what}: id {id} is no row, out of bounds, or a repeat"))
    }

    /// A row with the same bits and a smaller id must have come earlier.
    fn assert_twin_before(
        &self,
        hit: usize,
        allowed: &HashSet<usize>,
        seen: &HashSet<usize>,
        what: &str,
    ) {
        let mut twin = self.twins[hit];
        while let Some(row) = twin {
            if allowed.contains(&row) {
                assert!(
                    self.ids[row] == self.ids[hit] || seen.contains(&row),
                    "{what}: id {} before its twin {}",
                    self.ids[hit],
                    self.ids[row]
                );
                return;
            }
            twin = self.twins[row];
        }
    }

    /// Reported distances best first, equal ones by id.
    fn assert_order(&self, d: &[f32], i: &[i64], hits: usize, what: &str) {
        for rank in 1..hits {
            let (a, b) = (d[rank - 1], d[rank]);
            let order = if self.metric == Metric::L2 {
                a.partial_cmp(&b)
            } else {
                b.partial_cmp(&a)
            };
            let right = match order {
                Some(Ordering::Less) => true,
                Some(Ordering::Equal) => i[rank - 1] <= i[rank],
                _ => false,
            };
            assert!(right, "{what}, rank {rank}: order of {d:?} {i:?}");
        }
    }
}

/// Fails unless a reported distance is the f64 one up to rounding.
#[track_caller]
pub fn assert_close(found: f32, (value, scale): (f64, f64), what: &str) {
    let rounded = value as f32;
    if rounded.is_infinite() {
        assert_eq!(found, rounded, "{what}: the distance {value} overflows");
        return;
    }
    let slack = VALUE * scale + f64::from(f32::MIN_POSITIVE) * 1024.0;
    assert!(
        (f64::from(found) - value).abs() <= slack,
        "{what}: distance {found}, exactly {value}"
    );
}
