//! Selection by threshold: read a row once, keep what can still be among the k best.

use super::{Best, Selected};
use crate::{KernelError, check_len, simd::Isa};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Columns compared with the threshold at once.
const CHUNK: usize = 64;
/// Scores below which a second thread does not pay.
const SERIAL_SCORES: usize = 1 << 16;

/// The `min(k, n)` best of every row of `scores`, row-major `[rows, n]`.
///
/// # Errors
/// When `scores` is not a whole number of rows of `n`.
pub fn select(
    scores: &[f32],
    n: usize,
    k: usize,
    best: Best,
    isa: Isa,
) -> Result<Selected, KernelError> {
    let rows = scores.len().checked_div(n).unwrap_or(0);
    check_len("scores", rows * n, scores.len())?;
    let k = k.min(n);
    let mut selected = Selected {
        values: vec![0.0; rows * k],
        columns: vec![0; rows * k],
        k,
    };
    if rows * k == 0 {
        return Ok(selected);
    }
    let row = |((row, values), columns): ((&[f32], &mut [f32]), &mut [u32])| {
        isa.run(SelectRow {
            scores: row,
            best,
            values,
            columns,
        });
    };
    if scores.len() < SERIAL_SCORES {
        scores
            .chunks_exact(n)
            .zip(selected.values.chunks_exact_mut(k))
            .zip(selected.columns.chunks_exact_mut(k))
            .for_each(row);
    } else {
        scores
            .par_chunks_exact(n)
            .zip(selected.values.par_chunks_exact_mut(k))
            .zip(selected.columns.par_chunks_exact_mut(k))
            .for_each(row);
    }
    Ok(selected)
}

struct SelectRow<'a> {
    scores: &'a [f32],
    best: Best,
    values: &'a mut [f32],
    columns: &'a mut [u32],
}

/// An order-preserving key, NaN last, in the high half, the column in the low half: one u64
/// comparison is the whole total order.
#[inline(always)]
fn packed(value: f32, column: u32, best: Best) -> u64 {
    let value = if best == Best::Largest {
        0.0 - value
    } else {
        value + 0.0
    };
    let key = if value.is_nan() {
        u32::MAX
    } else {
        let bits = value.to_bits();
        if bits >> 31 == 1 {
            !bits
        } else {
            bits | 0x8000_0000
        }
    };
    u64::from(key) << 32 | u64::from(column)
}

impl WithSimd for SelectRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            scores: row,
            best,
            values,
            columns,
        } = self;
        let k = columns.len();
        let capacity = 2 * k + CHUNK;
        let mut buffer: Vec<u64> = Vec::with_capacity((capacity + CHUNK).min(row.len() + CHUNK));
        // The worst key that can still be among the k best, and the value that goes with it.
        let (mut limit, mut bound) = (u64::MAX, None::<f32>);
        for (c, chunk) in row.chunks(CHUNK).enumerate() {
            if bound.is_some_and(|bound| !any_within(simd, chunk, bound, best)) {
                continue;
            }
            let first = (c * CHUNK) as u32;
            for (i, &value) in chunk.iter().enumerate() {
                let key = packed(value, first + i as u32, best);
                if key <= limit {
                    buffer.push(key);
                }
            }
            if buffer.len() >= capacity {
                buffer.select_nth_unstable(k - 1);
                buffer.truncate(k);
                limit = buffer[k - 1];
                let value = row[(limit & 0xffff_ffff) as usize];
                bound = (!value.is_nan()).then_some(value);
            }
        }
        if buffer.len() > k {
            buffer.select_nth_unstable(k - 1);
            buffer.truncate(k);
        }
        buffer.sort_unstable();
        for (rank, key) in buffer.into_iter().enumerate() {
            let column = (key & 0xffff_ffff) as u32;
            values[rank] = row[column as usize];
            columns[rank] = column;
        }
    }
}

/// Whether any value of a chunk is as good as `bound` (NaN never is).
#[inline(always)]
fn any_within<S: Simd>(simd: S, chunk: &[f32], bound: f32, best: Best) -> bool {
    let (lanes, tail) = S::as_simd_f32s(chunk);
    let limit = simd.splat_f32s(bound);
    let within = |a: f32| {
        if best == Best::Largest {
            a >= bound
        } else {
            a <= bound
        }
    };
    for &lane in lanes {
        let pass = if best == Best::Largest {
            simd.greater_than_or_equal_f32s(lane, limit)
        } else {
            simd.less_than_or_equal_f32s(lane, limit)
        };
        if simd.first_true_m32s(pass) < S::F32_LANES {
            return true;
        }
    }
    tail.iter().any(|&a| within(a))
}
