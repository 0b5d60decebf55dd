//! The rows behind the labels of a search, and their vectors.

use crate::{
    backend::{IvfBackend, ListStore, Scan, Slot, read, select_rows},
    error::Result,
    lists::InvertedLists,
};
use burn::tensor::{DType, Tensor, TensorData};
use std::collections::HashMap;

/// The row behind every label, row-major `[nq, k]`; [`Slot::NONE`] for -1.
///
/// Where several rows share an id, the distance says which of them was found: `compare` gives that of
/// (query, row) pairs once more, and the row nearest to the one reported (of the same bits, where the
/// search's own kernel compares) is taken. `distances` has those of all labels.
pub(crate) fn rows_of_hits<E: IvfBackend>(
    lists: &InvertedLists<E>,
    k: usize,
    (distances, labels): (&[f32], &[i64]),
    compare: impl FnOnce(&[u32], &[Slot]) -> Result<Vec<f32>>,
) -> Result<Vec<Slot>> {
    let mut found = Vec::with_capacity(labels.len());
    // (query, id) → the rows of that id, each with its distance, while it is not taken.
    let mut shared: HashMap<(usize, i64), Vec<Slot>> = HashMap::new();
    for (at, &id) in labels.iter().enumerate() {
        if id == -1 {
            found.push(Slot::NONE);
            continue;
        }
        let rows = lists.rows_of(id);
        found.push(rows.first().copied().unwrap_or(Slot::NONE));
        if rows.len() > 1 {
            shared.insert((at / k, id), rows);
        }
    }
    if shared.is_empty() {
        return Ok(found);
    }
    let (mut queries, mut candidates, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (&(query, id), rows) in &shared {
        for &row in rows {
            queries.push(query as u32);
            candidates.push(row);
            keys.push((query, id));
        }
    }
    let exact = compare(&queries, &candidates)?;
    let mut left: HashMap<(usize, i64), Vec<(f32, Slot)>> = HashMap::new();
    for ((key, row), distance) in keys.into_iter().zip(candidates).zip(exact) {
        left.entry(key).or_default().push((distance, row));
    }
    for (at, &id) in labels.iter().enumerate() {
        let Some(rows) = left.get_mut(&(at / k, id)) else {
            continue;
        };
        let off = |distance: f32| {
            if distance.to_bits() == distances[at].to_bits() {
                0.0
            } else {
                (f64::from(distance) - f64::from(distances[at])).abs()
            }
        };
        let nearest = (0..rows.len()).min_by(|&a, &b| off(rows[a].0).total_cmp(&off(rows[b].0)));
        if let Some(which) = nearest {
            found[at] = rows.remove(which).1;
        }
    }
    Ok(found)
}

/// Distances of (query, row) pairs by the kernel that searches: `scan` with its queries.
pub(crate) fn distances_again<E: IvfBackend>(
    scan: &Scan<'_, E>,
    queries: &[u32],
    rows: &[Slot],
) -> Result<Vec<f32>> {
    let again = Scan {
        k: 1,
        queries: select_rows(&scan.queries, queries),
        ..scan.clone()
    };
    read(E::rerank(&again, rows, 1)?.distances)
}

/// The vectors of rows, f32 `[rows.len(), d]`; NaN for [`Slot::NONE`].
pub(crate) fn vectors<E: IvfBackend>(
    lists: &InvertedLists<E>,
    rows: &[Slot],
    d: usize,
    device: &E::Device,
) -> Result<Tensor<E, 2>> {
    let filled = |n: usize, value: f32| {
        Tensor::from_data(
            TensorData::new(vec![value; n * d], [n, d]),
            (device, DType::F32),
        )
    };
    let held: Vec<Slot> = rows
        .iter()
        .copied()
        .filter(|&at| at != Slot::NONE)
        .collect();
    if held.is_empty() {
        return Ok(filled(rows.len(), f32::NAN));
    }
    let vectors = lists.store().gather(&held)?;
    if held.len() == rows.len() {
        return Ok(vectors);
    }
    // One row of NaN behind them, named by all gaps.
    let mut next = 0;
    let places: Vec<u32> = rows
        .iter()
        .map(|&at| {
            if at == Slot::NONE {
                return held.len() as u32;
            }
            next += 1;
            next - 1
        })
        .collect();
    let vectors = Tensor::cat(vec![vectors, filled(1, f32::NAN)], 0);
    Ok(select_rows(&vectors, &places))
}
