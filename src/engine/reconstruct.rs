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
/// Where several rows share an id, the exact distance says which of them was found: those rows are
/// compared once more, which gives the bits of the search. `distances` has those of all labels.
pub(crate) fn rows_of_hits<E: IvfBackend>(
    lists: &InvertedLists<E>,
    scan: &Scan<'_, E>,
    (distances, labels): (&[f32], &[i64]),
) -> Result<Vec<Slot>> {
    let k = scan.k;
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
    let again = Scan {
        k: 1,
        queries: select_rows(&scan.queries, &queries),
        ..scan.clone()
    };
    let exact = read(E::rerank(&again, &candidates, 1)?.distances)?;
    let mut left: HashMap<(usize, i64), Vec<(u32, Slot)>> = HashMap::new();
    for ((key, row), distance) in keys.into_iter().zip(candidates).zip(exact) {
        left.entry(key).or_default().push((distance.to_bits(), row));
    }
    for (at, &id) in labels.iter().enumerate() {
        let Some(rows) = left.get_mut(&(at / k, id)) else {
            continue;
        };
        let bits = distances[at].to_bits();
        if let Some(which) = rows.iter().position(|&(distance, _)| distance == bits) {
            found[at] = rows.remove(which).1;
        }
    }
    Ok(found)
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
