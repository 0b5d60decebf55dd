//! The f64 reference: the keys a row may be given.

use crate::case::Case;
use burn_ivf_kernels::{Metric, distance::LANES};
use std::{cmp::Reverse, collections::BinaryHeap};

/// The key of a row (smaller is better) and the sum of the magnitudes of its terms.
pub fn exact_key(metric: Metric, query: &[f32], row: &[f32]) -> (f64, f64) {
    const LANES: usize = 8;
    let term = |q: f32, x: f32| {
        let (q, x) = (f64::from(q), f64::from(x));
        match metric {
            Metric::L2 => (x - q) * (x - q),
            Metric::InnerProduct => -x * q,
        }
    };
    let (queries, query) = query.as_chunks::<LANES>();
    let (rows, row) = row.as_chunks::<LANES>();
    let (mut key, mut magnitude) = ([0.0; LANES], [0.0; LANES]);
    for (query, row) in queries.iter().zip(rows) {
        for lane in 0..LANES {
            let term = term(query[lane], row[lane]);
            key[lane] += term;
            magnitude[lane] += term.abs();
        }
    }
    for (&q, &x) in query.iter().zip(row) {
        let term = term(q, x);
        key[0] += term;
        magnitude[0] += term.abs();
    }
    (key.iter().sum(), magnitude.iter().sum())
}

/// The keys a row may be given: an id and a range of keys, as [`ordered`] numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    pub id: i64,
    pub low: i64,
    pub high: i64,
}

/// An integer that compares as `value` does; both zeros are the same.
pub fn ordered(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The value behind an [`ordered`] number.
pub fn value(ordered: i64) -> f64 {
    f64::from_bits((ordered ^ (((ordered >> 63) as u64) >> 1) as i64) as u64)
}

impl Allowed {
    /// The f64 key, give or take the error documented in [`burn_ivf_kernels::distance`]: relative
    /// to the sum of the terms' magnitudes, plus half the smallest denormal per operation. Within
    /// that error of the end of the f32 range, the key may be infinite; beyond it, it must be.
    pub fn new(case: &Case, query: &[f32], row: &[f32], id: i64) -> Self {
        let d = case.shape.d;
        let (key, magnitude) = exact_key(case.shape.metric, query, row);
        let slack = if case.exact {
            0.0
        } else {
            let roundings = (d / LANES + 8) as f64;
            let half_denormal = f64::from(f32::from_bits(1)) / 2.0;
            roundings * f64::from(f32::EPSILON) / 2.0 * magnitude + (2 * d) as f64 * half_denormal
        };
        let widen = |bound: f64| {
            if bound.abs() >= f64::from(f32::MAX) {
                f64::INFINITY.copysign(bound)
            } else {
                bound
            }
        };
        let (mut low, mut high) = (key - slack, key + slack);
        if low < 0.0 {
            low = widen(low);
        }
        if high > 0.0 {
            high = widen(high);
        }
        Self {
            id,
            low: ordered(low),
            high: ordered(high),
        }
    }
}

/// Every row query `i` reads, with the keys it may be given, sorted.
pub fn allowed_rows(case: &Case, i: usize) -> Vec<Allowed> {
    let lists: Vec<_> = case.lists().collect();
    let mut allowed = Vec::with_capacity(case.probed_rows(i));
    for list in case.probed(i) {
        let (rows, ids) = lists[list];
        for (slot, row) in rows.chunks_exact(case.shape.d).enumerate() {
            let id = ids.map_or(slot as i64, |ids| ids[slot]);
            allowed.push(Allowed::new(case, case.query(i), row, id));
        }
    }
    allowed.sort_unstable();
    allowed
}

/// Whether the `found` (id, key) pairs are the `allowed` rows, one each; both are sorted. Rows of
/// one id are told apart by their keys: each key takes, of the open ranges, the one ending first.
pub fn matches(found: &[(i64, i64)], allowed: &[Allowed]) -> Result<(), String> {
    if found.len() != allowed.len() {
        return Err(format!("{} hits of {} rows", found.len(), allowed.len()));
    }
    let mut waiting = allowed.iter().peekable();
    let mut open: BinaryHeap<Reverse<(i64, i64)>> = BinaryHeap::new();
    for &(id, key) in found {
        while let Some(row) = waiting.next_if(|row| (row.id, row.low) <= (id, key)) {
            open.push(Reverse((row.id, row.high)));
        }
        match open.pop() {
            Some(Reverse((row, high))) if row == id && key <= high => {}
            open => {
                let key = value(key);
                let range = open.map(|Reverse((id, high))| (id, value(high)));
                return Err(format!(
                    "id {id} has key {key:e}; the next row allowed one has (id, highest key) {range:?}"
                ));
            }
        }
    }
    Ok(())
}
