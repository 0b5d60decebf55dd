//! The CPU kernel: four queries share a row's registers, blocks of rows stay in the cache.

use super::{
    Measure, Output,
    measures::{Pair, Run, dispatch},
    reference, written,
};
use crate::{KernelError, check_len, distance::LANES, simd::Isa};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Queries that share the loads of a row.
const TOGETHER: usize = 4;
/// Components of the rows of one block: they stay in a second-level cache while queries pass.
const BLOCK: usize = 1 << 16;
/// Pairs below which one thread is quicker than several.
const SERIAL: usize = 1 << 10;

/// Compares every row of `queries`, row-major `[nq, d]`, with every row of `rows`, `[n, d]`; the
/// answer is row-major `[nq, n]`.
///
/// # Errors
/// [`KernelError::Length`] when a buffer is no whole number of vectors, [`KernelError::Sizes`] when
/// `d` is 0.
pub fn pairwise(
    (queries, rows): (&[f32], &[f32]),
    d: usize,
    measure: Measure,
    output: Output,
    isa: Isa,
) -> Result<Vec<f32>, KernelError> {
    if d == 0 {
        return Err(KernelError::Sizes { d, k: 1, nq: 0 });
    }
    let (nq, n) = (queries.len() / d, rows.len() / d);
    check_len("queries", nq * d, queries.len())?;
    check_len("rows", n * d, rows.len())?;
    let mut out = vec![0.0; nq * n];
    let problem = Problem {
        d,
        measure,
        output,
        isa,
    };
    if nq > 0 && n > 0 {
        dispatch(
            measure,
            Blocks {
                problem,
                queries,
                rows,
                out: &mut out,
            },
        );
    }
    Ok(out)
}

#[derive(Clone, Copy)]
struct Problem {
    d: usize,
    measure: Measure,
    output: Output,
    isa: Isa,
}

/// All pairs, cut for threads.
struct Blocks<'a> {
    problem: Problem,
    queries: &'a [f32],
    rows: &'a [f32],
    out: &'a mut [f32],
}

impl Run for Blocks<'_> {
    type Output = ();

    fn run(self, pair: impl Pair) {
        let Self {
            problem,
            queries,
            rows,
            out,
        } = self;
        let d = problem.d;
        let (nq, n) = (queries.len() / d, rows.len() / d);
        let threads = rayon::current_num_threads();
        let tile = |queries: &[f32], rows: &[f32], out: &mut [f32], width: usize| {
            problem.isa.run(Tile {
                pair,
                problem,
                queries,
                rows,
                out,
                width,
            });
        };
        if nq * n <= SERIAL || threads == 1 {
            tile(queries, rows, out, n);
        } else if nq >= threads * TOGETHER {
            let share = nq.div_ceil(threads * 4).next_multiple_of(TOGETHER);
            out.par_chunks_mut(share * n)
                .zip(queries.par_chunks(share * d))
                .for_each(|(out, queries)| tile(queries, rows, out, n));
        } else {
            // Few queries: their rows are cut instead, one query after the other.
            let share = n.div_ceil(threads * 4).max(SERIAL / 4);
            for (out, query) in out.chunks_mut(n).zip(queries.chunks(d)) {
                out.par_chunks_mut(share)
                    .zip(rows.par_chunks(share * d))
                    .for_each(|(out, rows)| tile(query, rows, out, rows.len() / d));
            }
        }
    }
}

/// Pairs of one thread; `out` has rows of `width`.
struct Tile<'a, P> {
    pair: P,
    problem: Problem,
    queries: &'a [f32],
    rows: &'a [f32],
    out: &'a mut [f32],
    width: usize,
}

impl<P: Pair> WithSimd for Tile<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match LANES / S::F32_LANES {
            1 => self.fill::<S, 1>(simd),
            2 => self.fill::<S, 2>(simd),
            4 => self.fill::<S, 4>(simd),
            8 => self.fill::<S, 8>(simd),
            _ => self.fill::<S, 16>(simd),
        }
    }
}

impl<P: Pair> Tile<'_, P> {
    #[inline(always)]
    fn fill<S: Simd, const R: usize>(self, simd: S) {
        let (d, width) = (self.problem.d, self.width);
        let fine = |row: &[f32]| row.iter().all(|&v| self.problem.measure.accepts(v));
        let fine_queries: Vec<bool> = self.queries.chunks_exact(d).map(fine).collect();
        let block = (BLOCK / d).max(TOGETHER);
        let nq = fine_queries.len();
        for (b, rows) in self.rows.chunks(block * d).enumerate() {
            let fine_rows: Vec<bool> = rows.chunks_exact(d).map(fine).collect();
            let mut first = 0;
            while first < nq {
                let together = (nq - first).min(TOGETHER);
                let queries = &self.queries[first * d..(first + together) * d];
                for (r, row) in rows.chunks_exact(d).enumerate() {
                    let mut values = [f32::NAN; TOGETHER];
                    if together == TOGETHER {
                        values = sums::<S, P, R, TOGETHER>(simd, self.pair, queries, row);
                    } else {
                        for (value, query) in values.iter_mut().zip(queries.chunks_exact(d)) {
                            [*value] = sums::<S, P, R, 1>(simd, self.pair, query, row);
                        }
                    }
                    for (i, &value) in values[..together].iter().enumerate() {
                        let fine = fine_rows[r] && fine_queries[first + i];
                        let value = if !fine {
                            f32::NAN
                        } else if value.is_nan() && self.problem.measure.is_ratio() {
                            let query = &queries[i * d..(i + 1) * d];
                            reference(self.problem.measure, query, row) as f32
                        } else {
                            value
                        };
                        self.out[(first + i) * width + b * block + r] =
                            written(value, self.problem.measure, self.problem.output);
                    }
                }
                first += together;
            }
        }
    }
}

/// The values of `Q` queries with one row, in registers that are [`LANES`] partial sums a query.
#[inline(always)]
fn sums<S: Simd, P: Pair, const R: usize, const Q: usize>(
    simd: S,
    pair: P,
    queries: &[f32],
    row: &[f32],
) -> [f32; Q] {
    let d = row.len();
    let mut registers = [[[simd.splat_f32s(0.0); 2]; R]; Q];
    let mut add = |q: [&[f32; LANES]; Q], x: &[f32; LANES]| {
        let x = S::as_simd_f32s(x).0;
        for (sums, q) in registers.iter_mut().zip(q) {
            let q = S::as_simd_f32s(q).0;
            for r in 0..R {
                pair.step(simd, &mut sums[r], q[r], x[r]);
            }
        }
    };
    let (whole, rest) = row.as_chunks::<LANES>();
    let query: [&[f32]; Q] = core::array::from_fn(|i| &queries[i * d..(i + 1) * d]);
    let pieces = query.map(|query| query.as_chunks::<LANES>());
    for (c, x) in whole.iter().enumerate() {
        add(pieces.map(|(whole, _)| &whole[c]), x);
    }
    if !rest.is_empty() {
        let fill = |rest: &[f32]| {
            let mut piece = [0.0; LANES];
            piece[..rest.len()].copy_from_slice(rest);
            piece
        };
        let ends = pieces.map(|(_, rest)| fill(rest));
        add(core::array::from_fn(|i| &ends[i]), &fill(rest));
    }
    let past = d.next_multiple_of(LANES) - d;
    registers.map(|registers| {
        let mut totals = [0.0; 2];
        for (s, total) in totals.iter_mut().enumerate() {
            let mut lanes = [0.0_f32; LANES];
            let out = S::as_mut_simd_f32s(&mut lanes).0;
            for r in 0..R {
                out[r] = registers[r][s];
            }
            let mut half = LANES / 2;
            while half > 0 {
                for lane in 0..half {
                    lanes[lane] = pair.join(lanes[lane], lanes[lane + half]);
                }
                half /= 2;
            }
            *total = lanes[0];
        }
        pair.value(totals, d, past)
    })
}
