//! Scores by a matrix product, with an interval that is sure to hold the exact key.

use super::ROUNDOFF;
use crate::{
    backend::{IvfBackend, Slot, read},
    error::Result,
    metric::ScanMetric as Metric,
};
use burn::tensor::Tensor;
use burn_ivf_kernels::order::Candidate;

/// The smallest normal f32, `2⁻¹²⁶`: what lies below may be flushed to zero.
const SMALLEST: f64 = f32::MIN_POSITIVE as f64;

/// Scores of a block of queries against a block of rows.
pub(super) struct BlockScores {
    metric: Metric,
    d: usize,
    roundoff: f64,
    rows: usize,
    /// `[g + 1, rows + 1]`: scores, the queries' squared norms in the last column, the rows' in
    /// the last line.
    table: Vec<f32>,
}

/// Half of the error a score from a matrix product may have, given `scale`: `(|q| + |x|)²` for L2
/// (both centred), `|q|·|x|` for inner products, of [`length`]s.
///
/// Rounding of the product's inputs costs `2·input` per term, its sum at most `d` roundoffs, the
/// norms as much again, centring 4, the exact key itself (pairwise tree or blocks of 32) the rest.
/// What underflows, or is flushed to zero, adds at most `2⁻¹²⁶` per operation, absolutely.
pub(crate) fn score_error(scale: f64, d: usize, input_roundoff: f64) -> f64 {
    let rounding = 4.0 * input_roundoff + (4 * d + 64) as f64 * ROUNDOFF;
    scale * rounding + (d + 16) as f64 * 16.0 * SMALLEST
}

/// The length of a vector given its square, summed in f32: no less than the true length, but for
/// rounding, where squares and sums were flushed to zero.
pub(crate) fn length(square: f32, d: usize) -> f64 {
    (f64::from(square) + 2.0 * d as f64 * SMALLEST).sqrt()
}

/// Scores `q`, `[g, d]`, against `x`, `[m, d]`; L2 on data centred at the mean of `x`, so that data
/// far from the origin keep tight intervals. One read.
pub(super) fn block_scores<B: IvfBackend>(
    metric: Metric,
    q: Tensor<B, 2>,
    x: Tensor<B, 2>,
    roundoff: f64,
) -> Result<BlockScores> {
    let ([g, d], [m, _]) = (q.dims(), x.dims());
    let (q, x) = match metric {
        Metric::L2 => {
            let mean = x.clone().mean_dim(0);
            (q - mean.clone(), x - mean)
        }
        Metric::InnerProduct => (q, x),
    };
    let qn = (q.clone() * q.clone()).sum_dim(1);
    let xn = (x.clone() * x.clone()).sum_dim(1).reshape([1, m]);
    let product = q.matmul(x.transpose());
    let scores = match metric {
        Metric::L2 => qn.clone() + xn.clone() - product * 2.0,
        Metric::InnerProduct => product.neg(),
    };
    let corner = qn.clone().slice([0..1, 0..1]);
    let top = Tensor::cat(vec![scores, qn], 1);
    let table = Tensor::cat(vec![top, Tensor::cat(vec![xn, corner], 1)], 0);
    let table = read(table)?;
    debug_assert_eq!(table.len(), (g + 1) * (m + 1));
    Ok(BlockScores {
        metric,
        d,
        roundoff,
        rows: m,
        table,
    })
}

impl BlockScores {
    /// Gives query `i`'s every row of the block to `offer`, with the ends of the interval that is
    /// sure to hold its exact key.
    pub(super) fn each(&self, i: usize, at: &[Slot], mut offer: impl FnMut(f64, f64, Slot)) {
        let width = self.rows + 1;
        let line = &self.table[i * width..(i + 1) * width];
        let norms = &self.table[self.table.len() - width..];
        let qn = length(line[self.rows], self.d);
        for ((&score, &xn), &at) in line.iter().zip(norms).zip(at) {
            let xn = length(xn, self.d);
            let scale = match self.metric {
                Metric::L2 => (qn + xn) * (qn + xn),
                Metric::InnerProduct => qn * xn,
            };
            let error = score_error(scale, self.d, self.roundoff);
            let (lower, upper) = (f64::from(score) - error, f64::from(score) + error);
            if lower.is_finite() && upper.is_finite() && error < 1e37 {
                offer(lower, upper, at);
            } else {
                offer(f64::NEG_INFINITY, f64::INFINITY, at);
            }
        }
    }
}

/// The rows of one query that may be among its k best, each with an interval for its exact key.
#[derive(Debug, Clone)]
pub(super) struct Intervals {
    k: usize,
    threshold: f64,
    entries: Vec<(f64, f64, Slot)>,
}

impl Intervals {
    /// Bytes of an entry.
    pub(super) const ENTRY_BYTES: usize = size_of::<(f64, f64, Slot)>();

    /// Entries kept at most between two calls of [`is_full`](Self::is_full), but for one block.
    pub(super) const fn capacity(k: usize) -> usize {
        4 * k + 256
    }

    pub(super) fn new(k: usize) -> Self {
        Self {
            k,
            threshold: f64::INFINITY,
            entries: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, lower: f64, upper: f64, at: Slot) {
        if lower <= self.threshold {
            self.entries.push((lower, upper, at));
            if self.entries.len().is_multiple_of(Self::capacity(self.k)) {
                self.cut();
            }
        }
    }

    /// Lowers the threshold to the k-th smallest upper end and drops what lies above it.
    fn cut(&mut self) {
        if self.entries.len() > self.k {
            self.entries
                .select_nth_unstable_by(self.k - 1, |a, b| a.1.total_cmp(&b.1));
            self.threshold = self.entries[self.k - 1].1;
            let threshold = self.threshold;
            self.entries.retain(|entry| entry.0 <= threshold);
        }
    }

    /// Whether more is held than should be kept.
    pub(super) fn is_full(&mut self) -> bool {
        self.cut();
        self.entries.len() > Self::capacity(self.k) / 2
    }

    /// Takes all rows that may be among the k best.
    pub(super) fn take(&mut self) -> Vec<Slot> {
        self.cut();
        self.entries.drain(..).map(|entry| entry.2).collect()
    }

    /// Puts back a row with its exact key.
    pub(super) fn settle(&mut self, best: Candidate) {
        let key = f64::from(best.key);
        self.entries.push((key, key, best.at));
    }
}
