//! Reading and writing faiss's files beside faiss itself, in one run.
//!
//! ```sh
//! pip install numpy faiss-cpu==1.15.1
//! cargo bench --bench files -- --folder /tmp
//! ```
//!
//! `BURN_IVF_PYTHON` names the Python that has faiss. Both libraries take turns on the same file in
//! the same folder, whose pages are in memory after the first turn; both files are compared byte by
//! byte first. Prints one JSON line per operation: medians in ms, and faiss's time over ours.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints, and has no caller to hand an error to"
)]

use burn::{
    backend::NdArray,
    tensor::{Tensor, TensorData},
};
use burn_ivf::{FaissOptions, IndexFlat, IndexIvfFlat, Metric};
use clap::Parser;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

type B = NdArray;

#[derive(Parser)]
struct Args {
    /// Vectors.
    #[arg(long, default_value_t = 262_144)]
    rows: usize,
    /// Components.
    #[arg(long, default_value_t = 128)]
    d: usize,
    /// Inverted lists.
    #[arg(long, default_value_t = 512)]
    nlist: usize,
    /// Turns of each library.
    #[arg(long, default_value_t = 9)]
    repeat: usize,
    /// Where files are written.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Faiss(ChildStdin, BufReader<ChildStdout>, Child);

impl Drop for Faiss {
    fn drop(&mut self) {
        // A process that is gone already needs no end.
        let _ = self.2.kill();
        let _ = self.2.wait();
    }
}

impl Faiss {
    fn start() -> Self {
        let python = std::env::var("BURN_IVF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(python)
            .arg(root.join("benches/peers/faiss_files.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("BURN_IVF_PYTHON names a Python");
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self(child.stdin.take().unwrap(), answers, child)
    }

    fn ask(&mut self, job: &Value) -> Value {
        writeln!(self.0, "{job}").unwrap();
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).expect("an answer of faiss");
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }

    fn ms(&mut self, job: &Value) -> f64 {
        self.ask(job)["ms"].as_f64().unwrap()
    }
}

fn ms<T>(f: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let out = f();
    (1000.0 * start.elapsed().as_secs_f64(), out)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// An index of either kind.
trait Files: Sized {
    fn read(path: &Path) -> Self;
    fn write(&self, path: &Path);
    fn write_plainly(&self, path: &Path);
}

macro_rules! files {
    ($index:ident, |$own:ident, $out:ident| $to:expr) => {
        impl Files for $index<B> {
            fn read(path: &Path) -> Self {
                Self::read_faiss(path, &Default::default()).unwrap()
            }

            fn write(&self, path: &Path) {
                self.write_faiss(path).unwrap();
            }

            fn write_plainly(&self, path: &Path) {
                let ($own, $out) = (self, BufWriter::new(File::create(path).unwrap()));
                $to.unwrap();
            }
        }
    };
}

files!(IndexFlat, |index, out| index.write_faiss_to(out));
files!(IndexIvfFlat, |index, out| index
    .write_faiss_to(out, &FaissOptions::default()));

fn compare<I: Files>(name: &str, index: &I, args: &Args, folder: &Path, faiss: &mut Faiss) {
    let (ours, theirs) = (folder.join("ours.faiss"), folder.join("theirs.faiss"));
    index.write(&ours);
    faiss.ask(&json!({"do": "read", "path": ours}));
    faiss.ask(&json!({"do": "write", "path": theirs}));
    let bytes = std::fs::read(&ours).unwrap();
    assert!(bytes == std::fs::read(&theirs).unwrap(), "the files differ");
    let size = bytes.len();
    drop(bytes);
    let mut times = vec![Vec::new(); 6];
    for _ in 0..=args.repeat {
        let plain = json!({"do": "write", "path": theirs});
        let synced = json!({"do": "write", "path": theirs, "sync": true});
        times[0].push(faiss.ms(&json!({"do": "read", "path": theirs})));
        times[1].push(ms(|| I::read(&theirs)).0);
        times[2].push(faiss.ms(&plain));
        times[3].push(ms(|| index.write_plainly(&ours)).0);
        times[4].push(faiss.ms(&synced));
        times[5].push(ms(|| index.write(&ours)).0);
    }
    // The first turn warms up.
    let times: Vec<f64> = times.into_iter().map(|t| median(t[1..].to_vec())).collect();
    for (what, pair) in ["read", "write", "write, forced to the disk"]
        .iter()
        .zip(times.chunks(2))
    {
        let line = json!({
            "index": name, "operation": what, "bytes": size, "rows": args.rows, "d": args.d,
            "faiss_ms": pair[0], "burn_ivf_ms": pair[1], "ratio": pair[0] / pair[1],
        });
        println!("{line}");
    }
}

fn main() {
    let args = Args::parse();
    let scratch = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.unwrap();
    let mut faiss = Faiss::start();
    println!("{}", faiss.ask(&json!({"do": "hello"})));
    let device = Default::default();
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = StandardNormal
        .sample_iter(rng)
        .take(args.rows * args.d)
        .collect();
    let base = Tensor::<B, 2>::from_data(TensorData::new(values, [args.rows, args.d]), &device);
    let mut flat = IndexFlat::new(args.d, Metric::L2, &device).unwrap();
    flat.add(base.clone()).unwrap();
    compare("Flat", &flat, &args, scratch.path(), &mut faiss);
    drop(flat);
    let centroids = base.clone().slice([0..args.nlist, 0..args.d]);
    let mut ivf = IndexIvfFlat::from_centroids(centroids, Metric::L2).unwrap();
    ivf.add(base).unwrap();
    compare("IVFFlat", &ivf, &args, scratch.path(), &mut faiss);
}
