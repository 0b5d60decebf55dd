//! Indexes in files, on the ndarray backend: golden files, replacing files, crashes, maps, Burn records.
//! What holds for every backend is in `tests/suite/saving.rs`, damaged files in `persist_hostile.rs`.
#![cfg(feature = "ndarray")]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod crash;
mod files;
mod golden;
mod mapped;
#[cfg(feature = "autodiff")]
mod record;

use burn::{
    backend::NdArray,
    tensor::{Tensor, TensorData},
};
use burn_ivf::{IndexFlat, IndexIvfFlat, KMeansParams, Metric};

type B = NdArray;

/// Numbers that any machine makes alike: multiples of 1/8 between -16 and 16.
fn numbers(n: usize, d: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n * d)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 56) as f32 - 128.0) / 8.0
        })
        .collect()
}

fn tensor(values: Vec<f32>, d: usize) -> Tensor<B, 2> {
    let n = values.len() / d;
    Tensor::from_data(TensorData::new(values, [n, d]), &Default::default())
}

fn flat(n: usize, d: usize, seed: u64) -> IndexFlat<B> {
    let mut index = IndexFlat::new(d, Metric::L2, &Default::default()).unwrap();
    index.add(tensor(numbers(n, d, seed), d)).unwrap();
    index
}

fn ivf(n: usize, d: usize, nlist: usize, seed: u64) -> IndexIvfFlat<B> {
    let kmeans = KMeansParams {
        niter: 2,
        ..KMeansParams::default()
    };
    let builder = IndexIvfFlat::builder(d)
        .nlist(nlist)
        .kmeans(kmeans)
        .nprobe(3);
    let mut index = builder.build(&Default::default()).unwrap();
    let x = tensor(numbers(n, d, seed), d);
    index.train(x.clone()).unwrap();
    index.add(x).unwrap();
    index
}

/// An index as bytes.
macro_rules! bytes {
    ($index:expr) => {{
        let mut bytes = Vec::new();
        $index.write_to(&mut bytes).unwrap();
        bytes
    }};
}
use bytes;
