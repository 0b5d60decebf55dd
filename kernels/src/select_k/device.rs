//! Selection on a GPU: one cube per row, a queue in shared memory for small k, radix passes above.

use super::{
    blueprint::{Blueprint, Output, Route, Select},
    cube::{ShapeLaunch, by_queue, by_radix},
};
use crate::{
    KernelError,
    device::{Gpu, array},
};
use cubecl::{prelude::*, server::Handle};

/// What is selected from.
#[derive(Debug, Clone)]
pub enum Source {
    /// (key bits, rank) pairs, u32 `[rows, n, 2]`, distinct but for empty ones; smaller is better.
    Pairs(Handle),
    /// Pairs as above, of every row only so many as the second buffer says (u32 `[rows]`, or longer;
    /// more than n stands for n).
    Counted(Handle, Handle),
    /// Scores, f32 `[rows, n]`: the smallest, equal ones by smaller column, NaN last.
    Scores(Handle),
}

/// How selected pairs are written.
#[derive(Debug, Clone)]
pub enum Labels {
    /// The rank itself, one word each; [`crate::device::NONE`] (-1) where there is none.
    Ranks,
    /// Words of the id with that rank: `[ranks, words]`, 1 or 2 words (i32, i64) each.
    Ids {
        /// The table.
        table: Handle,
        /// Its length in words.
        len: usize,
        /// Words of an id.
        words: usize,
    },
}

/// The k best of every row, on the device.
#[derive(Debug, Clone)]
pub struct SelectedOnDevice {
    /// f32 `[rows, k]`, best first.
    pub values: Handle,
    /// Labels `[rows, k]`, as many words as [`Labels`] says.
    pub labels: Handle,
}

/// The `k` best of each of `rows` rows of `n`; where there are fewer, `padding` and -1.
///
/// For [`Source::Pairs`] values are distances of `metric`; for [`Source::Scores`] the scores.
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot hold the answer or the scratch it takes.
pub fn select_on<R: Runtime>(
    gpu: &Gpu<R>,
    source: &Source,
    (rows, n): (usize, usize),
    k: usize,
    output: Output,
    labels: &Labels,
) -> Result<SelectedOnDevice, KernelError> {
    if k == 0 {
        let d = 1;
        return Err(KernelError::Sizes { d, k, nq: rows });
    }
    let answer = SelectedOnDevice::empty(gpu, rows, k, labels)?;
    if rows > 0 {
        answer.fill(gpu, source, (rows, n), (0, k), output, labels)?;
    }
    Ok(answer)
}

impl Labels {
    /// Words of a label.
    pub fn words(&self) -> usize {
        match self {
            Self::Ranks => 1,
            Self::Ids { words, .. } => *words,
        }
    }

    /// How pairs are written, and the table of ids, in place of which `any` buffer does where none is read.
    pub(crate) fn how<R: Runtime>(&self, output: Output, any: &Handle) -> (Select, ArrayArg<R>) {
        let (table, ids, words) = match self {
            Self::Ranks => (false, array(any, 1), 1),
            Self::Ids { table, len, words } => (true, array(table, *len), *words),
        };
        let how = Select {
            scores: false,
            counted: false,
            output,
            table,
            words,
        };
        (how, ids)
    }
}

impl SelectedOnDevice {
    /// Room for an answer, contents undefined.
    pub(crate) fn empty<R: Runtime>(
        gpu: &Gpu<R>,
        rows: usize,
        k: usize,
        labels: &Labels,
    ) -> Result<Self, KernelError> {
        let words = rows.saturating_mul(k);
        Ok(Self {
            values: gpu.empty("distances of a search", words)?,
            labels: gpu.empty("labels of a search", words.saturating_mul(labels.words()))?,
        })
    }

    /// Writes the k best of `rows` (at least 1) rows of `n` as rows `first..first + rows`.
    pub(crate) fn fill<R: Runtime>(
        &self,
        gpu: &Gpu<R>,
        source: &Source,
        (rows, n): (usize, usize),
        (first, k): (usize, usize),
        output: Output,
        labels: &Labels,
    ) -> Result<(), KernelError> {
        // Where all n are there, counts are not read; any buffer will do.
        let (input, counts, width) = match source {
            Source::Pairs(pairs) => (pairs, None, 2),
            Source::Counted(pairs, counts) => (pairs, Some(counts), 2),
            Source::Scores(scores) => (scores, None, 1),
        };
        let counted = counts.is_some();
        let counts = counts.map_or_else(|| array(input, 1), |counts| array(counts, rows));
        let (how, ids) = labels.how(output, input);
        let words = how.words;
        let print = Blueprint::new(&gpu.facts(), k, n);
        let how = Select {
            scores: width == 1,
            counted,
            ..how
        };
        let dim = CubeDim::new_1d(print.units as u32);
        let end = (first + rows) * k;
        let scratch = rows.saturating_mul(2 * k.min(n).next_power_of_two().max(2));
        let elements = (rows * n * 2).max(end * words).max(scratch);
        let address = gpu.address("candidates of a selection", elements)?;
        let source = array(input, rows * n * width);
        let values = array(&self.values, end);
        let found = array(&self.labels, end * words);
        let shape = ShapeLaunch::new(rows as u32, n as u32, k as u32, first as u32);
        match print.route {
            // SAFETY: cubes past the last row stop at once; every index is below the lengths
            // passed: pairs by n, ranks by the table of ids that gave them, outputs by k.
            Route::Queue(sizes) => unsafe {
                let cubes = gpu.grid(rows);
                by_queue::launch_unchecked::<R>(
                    gpu.client(),
                    cubes,
                    dim,
                    address,
                    source,
                    counts,
                    ids,
                    values,
                    found,
                    shape,
                    sizes,
                    how,
                );
            },
            Route::Radix { sorted, shared } => {
                // One word where the sort runs in shared memory.
                let len = if shared {
                    1
                } else {
                    rows.saturating_mul(2 * sorted)
                };
                let scratch = gpu.empty("scratch of a selection", len)?;
                let scratch = array(&scratch, len);
                let cubes = gpu.grid(rows);
                // SAFETY: as above; the scratch has `sorted` pairs a row.
                unsafe {
                    by_radix::launch_unchecked::<R>(
                        gpu.client(),
                        cubes,
                        dim,
                        address,
                        source,
                        counts,
                        ids,
                        scratch,
                        values,
                        found,
                        shape,
                        print.units,
                        sorted,
                        shared,
                        how,
                    );
                }
            }
        }
        Ok(())
    }
}
