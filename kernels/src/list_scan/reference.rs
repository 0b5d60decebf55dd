//! The scan in plain f64 loops: compute everything, sort, take k.

use super::{Best, Problem, SKIP};
use crate::{distance, order::Slot};

/// The exact answer of [`super::scan`] for `probes` (row-major `[nq, nprobe]`), with f64 distances
/// as keys: rows whose f64 distances differ by less than f32 rounding may come in another order.
pub fn scan(problem: &Problem<'_>, probes: &[u32], nprobe: usize) -> (Best, Vec<f64>) {
    let (nq, k) = (problem.nq(), problem.k);
    let mut best = Best::padding(problem.metric, nq, k);
    let mut wide = vec![f64::from(problem.metric.padding()); nq * k];
    let mut row = vec![0.0; problem.d];
    for i in 0..nq {
        if !problem.is_searchable(i) {
            continue;
        }
        let mut found: Vec<(f64, i64, Slot)> = Vec::new();
        for &list in probes[i * nprobe..(i + 1) * nprobe]
            .iter()
            .filter(|&&l| l != SKIP)
        {
            let rows = &problem.lists[list as usize];
            best.lists_scanned += u64::from(!rows.is_empty());
            for slot in 0..rows.len() as u32 {
                rows.rows().copy_row(slot as usize, &mut row);
                let distance = distance::reference(problem.metric, problem.query(i), &row);
                found.push((distance, rows.id(slot), Slot { list, slot }));
            }
        }
        best.rows_scanned += found.len() as u64;
        let sign = if problem.metric.larger_is_better() {
            -1.0
        } else {
            1.0
        };
        found.sort_by(|a, b| {
            // Adding 0 makes -0 and 0 tie.
            (sign * a.0 + 0.0)
                .total_cmp(&(sign * b.0 + 0.0))
                .then((a.1, a.2).cmp(&(b.1, b.2)))
        });
        for (rank, &(distance, id, _)) in found.iter().take(k).enumerate() {
            best.distances[i * k + rank] = distance as f32;
            best.labels[i * k + rank] = id;
            wide[i * k + rank] = distance;
        }
    }
    (best, wide)
}
