//! Trains a small encoder with negatives that an index finds, and with random ones, and compares.
//!
//! `cargo run --release --example train_embedder -- [--quick] [FOLDER]`: the folder holds
//! `base.npy` (vectors) and `labels.npy` (a class each), as `../shared/data/mnist-784-l2` does;
//! without one the shipped sentence embeddings and their WordNet categories are used.
#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::backend::{Autodiff, NdArray};
use burn::module::{AutodiffModule, Module};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::record::{FullPrecisionSettings, NamedMpkFileRecorder};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use burn_ivf::train::{Labelled, Mining, knn_accuracy, mine_hard_negatives, refresh};
use burn_ivf::{IndexIvfFlat, IndexModule, IvfBackend, Metric, suggest_nlist};
use clap::Parser;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Plain = NdArray;
type Tracked = Autodiff<Plain>;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Anchors per step, and negatives per anchor.
const BATCH: usize = 128;
const NEGATIVES: usize = 8;
/// Components of an embedding.
const WIDTH: usize = 32;
/// Cosines are divided by this before the softmax.
const TEMPERATURE: f32 = 0.1;
/// Rows encoded at once when the index is filled.
const FILL: usize = 1024;
/// Neighbours that vote.
const K: usize = 5;

/// What to run.
#[derive(Parser)]
struct Args {
    /// A fifth of the rows and few epochs: some seconds.
    #[arg(long)]
    quick: bool,
    /// Passes over the training rows.
    #[arg(long)]
    epochs: Option<usize>,
    /// Saves the encoder trained with mined negatives and its index as one file, FILE.mpk.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Folder with base.npy and labels.npy.
    folder: Option<PathBuf>,
}

/// Vectors on the host with their classes.
#[derive(Default)]
struct Rows {
    data: Vec<f32>,
    d: usize,
    classes: Vec<i64>,
}

impl Rows {
    fn n(&self) -> usize {
        self.classes.len()
    }

    fn pick(&self, rows: &[usize]) -> Self {
        let row = |&r: &usize| self.data[r * self.d..][..self.d].iter().copied();
        Self {
            data: rows.iter().flat_map(row).collect(),
            d: self.d,
            classes: rows.iter().map(|&r| self.classes[r]).collect(),
        }
    }

    fn vectors<B: Backend>(&self) -> Tensor<B, 2> {
        let data = TensorData::new(self.data.clone(), [self.n(), self.d]);
        Tensor::from_data(data, &B::Device::default())
    }

    fn classes<B: Backend>(&self) -> Tensor<B, 1, Int> {
        whole(self.classes.clone())
    }
}

fn whole<B: Backend>(values: Vec<i64>) -> Tensor<B, 1, Int> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), &B::Device::default())
}

fn npy(path: &Path) -> Result<(Vec<f32>, usize)> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let npy = npyz::NpyFile::new(BufReader::new(file))?;
    let width = npy.shape().get(1).map_or(1, |&width| width as usize);
    let values = match npy.dtype().descr().trim_matches('\'') {
        "<f4" => npy.into_vec::<f32>()?,
        "<f2" => npy
            .into_vec::<half::f16>()?
            .into_iter()
            .map(f32::from)
            .collect(),
        "|u1" => npy
            .into_vec::<u8>()?
            .into_iter()
            .map(|v| f32::from(v) / 255.0)
            .collect(),
        other => return Err(format!("{}: element type {other}", path.display()).into()),
    };
    Ok((values, width))
}

/// The set of `folder`, or the shipped one, whose classes stand in a column of its texts.
fn load(folder: Option<&Path>) -> Result<Rows> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/wordnet");
    let (data, d) = npy(&folder.unwrap_or(&shipped).join("base.npy"))?;
    let classes = if let Some(folder) = folder {
        let (classes, _) = npy(&folder.join("labels.npy"))?;
        classes.iter().map(|v| (v * 255.0).round() as i64).collect()
    } else {
        let text = std::fs::read_to_string(shipped.join("base.tsv"))?;
        let class = |line: &str| line.split('\t').nth(1).and_then(|field| field.parse().ok());
        text.lines()
            .map(|line| class(line).ok_or("a line of base.tsv without class"))
            .collect::<std::result::Result<_, _>>()?
    };
    Ok(Rows { data, d, classes })
}

/// Two layers and unit length.
#[derive(Module, Debug)]
struct Encoder<B: Backend> {
    wide: Linear<B>,
    narrow: Linear<B>,
}

impl<B: Backend> Encoder<B> {
    fn new(d: usize) -> Self {
        let device = B::Device::default();
        Self {
            wide: LinearConfig::new(d, 128).init(&device),
            narrow: LinearConfig::new(128, WIDTH).init(&device),
        }
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = self.narrow.forward(relu(self.wide.forward(x)));
        let norm = (y.clone() * y.clone()).sum_dim(1).add_scalar(1e-12).sqrt();
        y / norm
    }
}

/// An index over what the encoder makes of `rows`, filled batch by batch.
struct Searcher {
    index: IndexIvfFlat<Plain>,
}

impl Searcher {
    fn new(rows: usize) -> Result<Self> {
        let index = IndexIvfFlat::builder(WIDTH)
            .nlist(suggest_nlist(rows))
            .metric(Metric::InnerProduct)
            .nprobe(16)
            .build(&Default::default())?;
        Ok(Self { index })
    }

    /// The encoder has moved: new centroids from a quarter of the rows, all embeddings again.
    fn refresh(&mut self, encoder: &Encoder<Plain>, rows: &Rows) -> Result<()> {
        let x = rows.vectors::<Plain>();
        let quarter: Vec<i64> = (0..rows.n() as i64).step_by(4).collect();
        let nlist = self.index.nlist().unwrap_or(1);
        let sample = if quarter.len() >= nlist {
            x.clone().select(0, whole(quarter))
        } else {
            x.clone()
        };
        let batches = (0..rows.n()).step_by(FILL).map(|start| {
            x.clone()
                .slice([start..(start + FILL).min(rows.n()), 0..rows.d])
        });
        let embed = |batch| encoder.forward(batch);
        let go = |_| ControlFlow::Continue(());
        refresh(
            &mut self.index,
            Some(encoder.forward(sample)),
            batches,
            embed,
            go,
        )?;
        Ok(())
    }

    fn accuracy(&self, encoder: &Encoder<Plain>, train: &Rows, test: &Rows) -> Result<f64> {
        let batch = Labelled::new(encoder.forward(test.vectors()), test.classes());
        Ok(knn_accuracy(&self.index, train.classes(), &batch, K)?)
    }
}

/// What is saved: encoder and index in one record.
#[derive(Module, Debug)]
struct Retriever<B: IvfBackend> {
    encoder: Encoder<B>,
    index: IndexModule<IndexIvfFlat<B>>,
}

/// Saves and loads again; the loaded pair must give the same answers.
fn save(
    path: &Path,
    encoder: Encoder<Plain>,
    index: IndexIvfFlat<Plain>,
    test: &Rows,
) -> Result<()> {
    let recorder = NamedMpkFileRecorder::<FullPrecisionSettings>::new();
    let index = index.into();
    let trained = Retriever { encoder, index };
    trained.clone().save_file(path, &recorder)?;
    let fresh = Retriever {
        encoder: Encoder::<Plain>::new(test.d),
        index: Searcher::new(1)?.index.into(),
    };
    let loaded = fresh.load_file(path, &recorder, &Default::default())?;
    let answer = |r: &Retriever<Plain>| -> Result<_> {
        Ok(r.index
            .search(r.encoder.forward(test.vectors()), K)?
            .to_vecs())
    };
    if answer(&trained)? != answer(&loaded)? {
        return Err("the loaded pair answers otherwise".into());
    }
    println!("saved to {} (.mpk), loaded, same answers", path.display());
    Ok(())
}

/// Where an anchor's negatives come from.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Negatives {
    Random,
    /// Half of them mined, the other half random.
    Mined,
}

/// The rows of one step.
struct Draw {
    anchors: Vec<usize>,
    positives: Vec<usize>,
    /// `[anchors, NEGATIVES]`.
    negatives: Vec<i64>,
}

fn draw(anchors: &[usize], train: &Rows, of: &[Vec<usize>], rng: &mut ChaCha8Rng) -> Draw {
    let (mut positives, mut negatives) = (Vec::new(), Vec::new());
    for &anchor in anchors {
        let class = train.classes[anchor];
        let same = &of[class as usize];
        positives.push(same[rng.random_range(0..same.len())]);
        for _ in 0..NEGATIVES {
            let other = loop {
                let row = rng.random_range(0..train.n());
                if train.classes[row] != class {
                    break row;
                }
            };
            negatives.push(other as i64);
        }
    }
    Draw {
        anchors: anchors.to_vec(),
        positives,
        negatives,
    }
}

/// Trains an encoder, the same start and the same draws for both kinds; says how it goes.
fn train(
    kind: Negatives,
    epochs: usize,
    rows: &Rows,
    test: &Rows,
) -> Result<(Encoder<Plain>, Searcher, f64)> {
    let device = Default::default();
    Tracked::seed(&device, 7);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut encoder = Encoder::<Tracked>::new(rows.d);
    let mut optimizer = AdamConfig::new().init();
    let x = rows.vectors::<Tracked>();
    let row_classes = rows.classes::<Plain>();
    let classes = rows.classes.iter().max().map_or(0, |&c| c as usize + 1);
    let mut of = vec![Vec::new(); classes];
    for (row, &class) in rows.classes.iter().enumerate() {
        of[class as usize].push(row);
    }
    let mut searcher = Searcher::new(rows.n())?;
    let mut order: Vec<usize> = (0..rows.n()).collect();
    let began = Instant::now();
    for epoch in 1..=epochs {
        if kind == Negatives::Mined {
            searcher.refresh(&encoder.valid(), rows)?;
        }
        order.shuffle(&mut rng);
        let (mut sum, mut steps) = (0.0, 0);
        for anchors in order.chunks_exact(BATCH) {
            let draw = draw(anchors, rows, &of, &mut rng);
            let classes = anchors.iter().map(|&a| rows.classes[a]).collect();
            let index = |rows: &[usize]| whole(rows.iter().map(|&r| r as i64).collect());
            let anchor = encoder.forward(x.clone().select(0, index(&draw.anchors)));
            let mut negatives = whole::<Plain>(draw.negatives).reshape([BATCH, NEGATIVES]);
            if kind == Negatives::Mined {
                let batch = Labelled::new(anchor.clone().inner(), whole(classes));
                let mining = Mining::new(NEGATIVES / 2).with_candidates(128);
                let hard =
                    mine_hard_negatives(&searcher.index, row_classes.clone(), &batch, mining)?;
                // a random one stands in where nothing wrong is near
                let half = [0..BATCH, 0..NEGATIVES / 2];
                let none = hard.clone().equal_elem(-1);
                let hard = hard.mask_where(none, negatives.clone().slice(half.clone()));
                negatives = negatives.slice_assign(half, hard);
            }
            let positive = encoder.forward(x.clone().select(0, index(&draw.positives)));
            let negatives = Tensor::from_inner(negatives.reshape([BATCH * NEGATIVES]));
            let negative = encoder
                .forward(x.clone().select(0, negatives))
                .reshape([BATCH, NEGATIVES, WIDTH]);
            let near = (anchor.clone() * positive).sum_dim(1);
            let far = (anchor.reshape([BATCH, 1, WIDTH]) * negative).sum_dim(2);
            let logits = Tensor::cat(vec![near, far.reshape([BATCH, NEGATIVES])], 1);
            let loss = log_softmax(logits / TEMPERATURE, 1);
            let loss = loss.slice([0..BATCH, 0..1]).mean().neg();
            sum += loss.clone().into_scalar();
            steps += 1;
            let gradients = GradientsParams::from_grads(loss.backward(), &encoder);
            encoder = optimizer.step(1e-3, encoder, gradients);
        }
        println!("  {kind:?}, epoch {epoch}: loss {:.4}", sum / steps as f32);
    }
    let seconds = began.elapsed().as_secs_f64();
    let encoder = encoder.valid();
    searcher.refresh(&encoder, rows)?;
    let accuracy = searcher.accuracy(&encoder, rows, test)?;
    println!("  {kind:?}: kNN accuracy {accuracy:.4} after {seconds:.1} s");
    Ok((encoder, searcher, accuracy))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let all = load(args.folder.as_deref())?;
    let mut order: Vec<usize> = (0..all.n()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
    if args.quick {
        order.truncate(all.n() / 5);
    }
    let (test, rows) = order.split_at(order.len() / 4);
    let (test, rows) = (all.pick(test), all.pick(rows));
    let epochs = args.epochs.unwrap_or(if args.quick { 2 } else { 10 });
    println!(
        "{} rows to train on, {} to test, {} components",
        rows.n(),
        test.n(),
        rows.d
    );

    Tracked::seed(&Default::default(), 7);
    let untrained = Encoder::<Tracked>::new(rows.d).valid();
    let mut searcher = Searcher::new(rows.n())?;
    searcher.refresh(&untrained, &rows)?;
    let before = searcher.accuracy(&untrained, &rows, &test)?;
    println!("before training: kNN accuracy {before:.4}");
    let (_, _, random) = train(Negatives::Random, epochs, &rows, &test)?;
    let (encoder, searcher, mined) = train(Negatives::Mined, epochs, &rows, &test)?;
    println!(
        "kNN accuracy @ {K}: before {before:.4}, random negatives {random:.4}, mined {mined:.4}"
    );
    if let Some(path) = args.save {
        save(&path, encoder, searcher.index, &test)?;
    }
    Ok(())
}
