//! Selection by sorting every row.

use super::{Best, Selected};
use core::cmp::Ordering;

/// The exact answer of [`super::select`].
///
/// # Panics
/// When `scores` is not a whole number of rows of `n`.
pub fn select(scores: &[f32], n: usize, k: usize, best: Best) -> Selected {
    let k = k.min(n);
    let mut selected = Selected {
        values: Vec::new(),
        columns: Vec::new(),
        k,
    };
    if n == 0 {
        return selected;
    }
    assert_eq!(scores.len() % n, 0, "a whole number of rows");
    for row in scores.chunks_exact(n) {
        let mut columns: Vec<u32> = (0..n as u32).collect();
        columns.sort_by(|&a, &b| compare(row[a as usize], row[b as usize], best).then(a.cmp(&b)));
        for &column in &columns[..k] {
            selected.values.push(row[column as usize]);
            selected.columns.push(column);
        }
    }
    selected
}

fn compare(a: f32, b: f32, best: Best) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let order = if a < b {
                Ordering::Less
            } else if a > b {
                Ordering::Greater
            } else {
                Ordering::Equal
            };
            if best == Best::Largest {
                order.reverse()
            } else {
                order
            }
        }
    }
}
