//! A model and the index of its embeddings, saved and loaded as one.
//!
//! ```sh
//! cargo run --example save_with_model
//! ```
//!
//! The recorder stores weights in half precision; the index is stored as it is, whatever the
//! precision, so its ids and distances come back unchanged.
#![allow(clippy::print_stdout, reason = "a program that prints")]

use burn::{
    backend::{Autodiff, NdArray},
    nn::{Linear, LinearConfig, Relu},
    prelude::*,
    record::{HalfPrecisionSettings, NamedMpkFileRecorder},
    tensor::Distribution,
};
use burn_ivf::{IndexIvfFlat, IndexModule, IvfBackend, Metric};

/// An encoder, and the vectors it made.
#[derive(Module, Debug)]
struct Retriever<B: IvfBackend> {
    hidden: Linear<B>,
    output: Linear<B>,
    index: IndexModule<IndexIvfFlat<B>>,
}

impl<B: IvfBackend> Retriever<B> {
    fn new(device: &B::Device) -> burn_ivf::Result<Self> {
        let index = IndexIvfFlat::builder(32)
            .nlist(16)
            .metric(Metric::InnerProduct);
        Ok(Self {
            hidden: LinearConfig::new(64, 48).init(device),
            output: LinearConfig::new(48, 32).init(device),
            index: index.nprobe(4).build(device)?.into(),
        })
    }

    /// Embeddings `[n, 32]` of inputs `[n, 64]`.
    fn embed(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.output
            .forward(Relu::new().forward(self.hidden.forward(x)))
    }

    /// Fills the index with the embeddings of documents `[n, 64]`.
    fn index(&mut self, documents: Tensor<B, 2>, ids: &[i64]) -> burn_ivf::Result<()> {
        let embeddings = self.embed(documents);
        // by the index's own name: `train` is a method of Burn's modules too
        (*self.index).train(embeddings.clone())?;
        self.index.add_with_ids(embeddings, ids)
    }
}

type B = Autodiff<NdArray>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Default::default();
    let documents = Tensor::<B, 2>::random([2000, 64], Distribution::Default, &device);
    let ids: Vec<i64> = (0..2000).map(|i| (1 << 40) + i).collect();
    let mut model = Retriever::<B>::new(&device)?;
    model.index(documents.clone(), &ids)?;

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("retriever");
    let recorder = NamedMpkFileRecorder::<HalfPrecisionSettings>::new();
    model.clone().save_file(&path, &recorder)?;
    let bytes = std::fs::metadata(path.with_extension("mpk"))?.len();

    // Any backend: trained with gradients, served without.
    let served = Retriever::<NdArray>::new(&device)?.load_file(&path, &recorder, &device)?;
    let queries = model.embed(documents.slice(0..8));
    let before = model.index.search(queries.clone(), 3)?.to_vecs();
    let after = served.index.search(queries.inner(), 3)?.to_vecs();
    assert_eq!(before, after, "the same ids and bits");
    assert_eq!(served.num_params(), 64 * 48 + 48 + 48 * 32 + 32);
    println!(
        "{} parameters and {} vectors in {bytes} bytes; first answer: ids {:?}, scores {:?}",
        served.num_params(),
        served.index.ntotal(),
        &after.1[..3],
        &after.0[..3],
    );
    Ok(())
}
