//! The vectors of one run on the host, and how they become tensors.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::Result;
use crate::progress::Progress;
use crate::sample::{self, Texts};

/// Rows made per step of the progress bar.
const STEP: usize = 8192;

/// Base and query vectors, row-major f32, and the texts behind them where there are any.
pub struct Dataset {
    pub d: usize,
    pub base: Vec<f32>,
    pub queries: Vec<f32>,
    pub texts: Option<Texts>,
    /// Time it took to make or read all of this.
    pub load_ms: f64,
}

impl Dataset {
    /// Standard normal base and query vectors; equal seeds give equal vectors everywhere.
    pub fn synthetic(
        nb: usize,
        nq: usize,
        d: usize,
        seed: u64,
        progress: &Progress,
    ) -> Result<Self> {
        let start = Instant::now();
        let bar = progress.bar("generating", nb + nq);
        let fill = |rows: usize, stream: u64| -> Result<Vec<f32>> {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            let mut values = Vec::new();
            values.try_reserve_exact(rows * d).map_err(|_| {
                format!("{rows} x {d} vectors do not fit in memory; lower --nb, --nq or --d")
            })?;
            for first in (0..rows).step_by(STEP) {
                let step = STEP.min(rows - first);
                values.extend((0..step * d).map(|_| -> f32 { StandardNormal.sample(&mut rng) }));
                bar.inc(step as u64);
            }
            Ok(values)
        };
        let (base, queries) = (fill(nb, 0)?, fill(nq, 1)?);
        bar.finish_and_clear();
        Ok(Self {
            d,
            base,
            queries,
            texts: None,
            load_ms: start.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// The WordNet sample that ships with the crate, or the one in `dir`.
    pub fn sample(dir: Option<&Path>, progress: &Progress) -> Result<Self> {
        let start = Instant::now();
        let spinner = progress.spinner("loading");
        let sample = sample::read(&sample::locate(dir)?)?;
        spinner.finish_and_clear();
        Ok(Self {
            d: sample.d,
            base: sample.base,
            queries: sample.queries,
            texts: Some(sample.texts),
            load_ms: start.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// Number of base vectors.
    pub fn nb(&self) -> usize {
        self.base.len() / self.d
    }

    /// Number of query vectors.
    pub fn nq(&self) -> usize {
        self.queries.len() / self.d
    }

    /// Base rows `rows` as a tensor `[rows, d]`.
    pub fn base_rows<B: Backend>(&self, rows: Range<usize>, device: &B::Device) -> Tensor<B, 2> {
        rows_of(&self.base, self.d, rows, device)
    }

    /// Query rows `rows` as a tensor `[rows, d]`.
    pub fn query_rows<B: Backend>(&self, rows: Range<usize>, device: &B::Device) -> Tensor<B, 2> {
        rows_of(&self.queries, self.d, rows, device)
    }

    /// `count` base rows at even distances over the whole set, as a tensor `[count, d]`.
    ///
    /// Even distances rather than the first rows: the sample stands in WordNet's order.
    pub fn training_rows<B: Backend>(&self, count: usize, device: &B::Device) -> Tensor<B, 2> {
        let (nb, d) = (self.nb(), self.d);
        if count >= nb {
            return self.base_rows(0..nb, device);
        }
        let mut values = Vec::with_capacity(count * d);
        for i in 0..count {
            let row = (i as u128 * nb as u128 / count as u128) as usize;
            values.extend_from_slice(&self.base[row * d..(row + 1) * d]);
        }
        Tensor::from_data(TensorData::new(values, [count, d]), device)
    }
}

fn rows_of<B: Backend>(
    values: &[f32],
    d: usize,
    rows: Range<usize>,
    device: &B::Device,
) -> Tensor<B, 2> {
    let shape = [rows.len(), d];
    let values = values[rows.start * d..rows.end * d].to_vec();
    Tensor::from_data(TensorData::new(values, shape), device)
}
