//! Timing searches: batches for queries per second, single queries for latency.

use crate::{index::AnyIndex, index::tensor, output::Done};
use burn_ivf::{IvfBackend, SearchParams};
use indicatif::ProgressBar;
use std::time::Instant;

/// Searches before the clock counts.
const WARM: usize = 3;

/// Queries in memory and how to search.
pub struct Workload<'a, B: IvfBackend> {
    pub index: &'a AnyIndex<B>,
    /// Row-major `[nq, d]`.
    pub queries: &'a [f32],
    pub k: usize,
    pub device: &'a B::Device,
}

/// Latency of single queries, in seconds.
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub queries: usize,
}

impl<B: IvfBackend> Workload<'_, B> {
    /// Number of queries.
    pub fn nq(&self) -> usize {
        self.queries.len() / self.index.d()
    }

    /// Ids of all queries, `[nq, k]`, and the seconds that searching them in batches took, from
    /// numbers in memory to numbers in memory.
    pub fn all(&self, batch: usize, params: &SearchParams) -> Done<(Vec<i64>, f64)> {
        let (mut ids, mut seconds) = (Vec::new(), 0.0);
        self.one(&self.queries[..self.index.d()], params)?;
        for rows in self.queries.chunks(batch.saturating_mul(self.index.d())) {
            let begin = Instant::now();
            ids.extend(self.one(rows, params)?);
            seconds += begin.elapsed().as_secs_f64();
        }
        Ok((ids, seconds))
    }

    /// Queries one by one.
    pub fn latency(&self, most: usize, params: &SearchParams, bar: &ProgressBar) -> Done<Latency> {
        let rows = self.queries.chunks_exact(self.index.d());
        for row in rows.clone().take(WARM) {
            self.one(row, params)?;
        }
        let mut seconds = Vec::new();
        for row in rows.take(most) {
            let begin = Instant::now();
            self.one(row, params)?;
            seconds.push(begin.elapsed().as_secs_f64());
            bar.inc(1);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(Latency {
            p50: percentile(&seconds, 0.50),
            p95: percentile(&seconds, 0.95),
            p99: percentile(&seconds, 0.99),
            queries: seconds.len(),
        })
    }

    /// Seconds of `repeat` searches of `nq` queries each, ascending; every search takes the queries
    /// that follow, from the first again after the last.
    pub fn times(&self, nq: usize, repeat: usize, params: &SearchParams) -> Done<Vec<f64>> {
        let d = self.index.d();
        let mut rows = self.queries.chunks_exact(d).cycle();
        let mut seconds = Vec::with_capacity(repeat);
        for at in 0..repeat + 1 {
            let batch: Vec<f32> = rows.by_ref().take(nq).flatten().copied().collect();
            let begin = Instant::now();
            self.one(&batch, params)?;
            // The first one warms up.
            if at > 0 {
                seconds.push(begin.elapsed().as_secs_f64());
            }
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds)
    }

    fn one(&self, rows: &[f32], params: &SearchParams) -> Done<Vec<i64>> {
        let queries = tensor::<B>(rows.to_vec(), self.index.d(), self.device);
        Ok(self.index.search(queries, self.k, params)?.to_vecs().1)
    }
}

/// The smallest value that at least this share of them does not exceed.
fn percentile(ascending: &[f64], share: f64) -> f64 {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    let last = ascending.len().saturating_sub(1);
    ascending
        .get(rank.saturating_sub(1).min(last))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.50), 100.0);
        assert_eq!(percentile(&values, 0.95), 190.0);
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }
}
