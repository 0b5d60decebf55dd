//! The command line of `sweep`. Owns names, defaults and help texts; knows no tensor type.

use burn_ivf::{Metric, SearchMode, Storage};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// How many queries a synthetic data set holds when nothing asks for more.
pub const QUERY_POOL: usize = 19_600;

#[derive(Parser)]
#[command(
    name = "sweep",
    about = "Benchmarks of burn-ivf: proven answers first, then times as JSON lines"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// One JSON line per cell of nq x nprobe x k x mode
    Run(RunArgs),
    /// One JSON line per cell of nq x k of an exhaustive search (IndexFlat)
    Flat(FlatArgs),
    /// Auto against every forced mode over a grid, interleaved
    Grid(GridArgs),
    /// Answer requests on stdin over an exported index (the line protocol of benches/README.md)
    Serve(ServeArgs),
    /// Time per step of one search
    Profile(ProfileArgs),
    /// Write a synthetic data set as .npy, for other libraries
    Data(ExportArgs),
    /// The environment snapshot the records refer to
    Env,
    /// What this processor can do at most: operations and bytes read per second
    Roofline,
}

#[derive(Args, Clone)]
pub struct DataArgs {
    /// normal | clustered | base.npy | base.fvecs
    #[arg(long, default_value = "normal")]
    pub data: String,
    /// Query vectors (.npy or .fvecs) when --data is a file
    #[arg(long)]
    pub queries: Option<PathBuf>,
    /// Base vectors: how many to draw (default 262144), or how many of the file to take (default all)
    #[arg(long)]
    pub nb: Option<usize>,
    /// Dimensions of synthetic data (default 128)
    #[arg(long)]
    pub d: Option<usize>,
    /// Scale every vector to length 1 (inner product then is the cosine)
    #[arg(long)]
    pub normalize: bool,
    /// Draw and add so many base vectors at a time, and hold no more of them
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub piece: Option<usize>,
    /// Seed of the data and of training
    #[arg(long, default_value_t = 1234)]
    pub seed: u64,
}

#[derive(Args, Clone)]
pub struct IndexArgs {
    #[arg(long, default_value_t = Metric::L2, value_parser = metric)]
    pub metric: Metric,
    /// Rows of the base that train the lists
    #[arg(long, default_value_t = 20_480)]
    pub train_n: usize,
    /// One of the backends compiled in (`env` lists them); default: the first
    #[arg(long, default_value_t = crate::backends::default_name())]
    pub backend: String,
    /// How vectors are stored: auto, planes, copy or f32 (CPU backends)
    #[arg(long, default_value_t = Storage::Auto)]
    pub storage: Storage,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The clock covers the query tensor's creation, the search, and the answer as host vectors
    Host,
    /// The query tensor exists before; the clock stops when the device has finished
    Device,
}

impl Input {
    pub fn name(self) -> &'static str {
        match self {
            Input::Host => "host",
            Input::Device => "device",
        }
    }
}

#[derive(Args, Clone)]
pub struct ClockArgs {
    /// Untimed samples before the timed ones
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Timed samples; the median and the minimum are reported
    #[arg(long, default_value_t = 7)]
    pub repeat: usize,
    /// Start no further sample of a cell after this many seconds
    #[arg(long, default_value_t = 60.0)]
    pub cell_s: f64,
    /// Search other queries in every repetition
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub rotate: bool,
    /// What the clock covers
    #[arg(long, value_enum, default_value_t = Input::Host)]
    pub input: Input,
}

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub index: IndexArgs,
    #[command(flatten)]
    pub clock: ClockArgs,
    #[arg(long, visible_alias = "nq-list", value_delimiter = ',',
          default_values_t = [1, 8, 32, 128, 512, 2048, 19_600])]
    pub nq: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [32])]
    pub nprobe: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [20])]
    pub k: Vec<usize>,
    #[arg(long, default_value_t = 512)]
    pub nlist: usize,
    #[arg(long, value_delimiter = ',', default_values_t = [SearchMode::Auto])]
    pub mode: Vec<SearchMode>,
    /// Print how each search is done: plan, launches, bytes, blocking reads
    #[arg(long)]
    pub explain: bool,
    /// Recall is taken over this many first queries (0: no recall, no exact search)
    #[arg(long, default_value_t = 1000)]
    pub gt_nq: usize,
    /// Measure what the processor can do, and say what share of it every search reaches (CPU backends)
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub roofline: bool,
    /// Append the JSON lines to this file instead of stdout
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct FlatArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub index: IndexArgs,
    #[command(flatten)]
    pub clock: ClockArgs,
    #[arg(long, visible_alias = "nq-list", value_delimiter = ',', default_values_t = [1, 32, 1000])]
    pub nq: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [10])]
    pub k: Vec<usize>,
    /// Append the JSON lines to this file instead of stdout
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct GridArgs {
    /// normal | clustered
    #[arg(long, default_value = "normal")]
    pub data: String,
    #[arg(long, default_value_t = 1234)]
    pub seed: u64,
    #[command(flatten)]
    pub index: IndexArgs,
    #[command(flatten)]
    pub clock: ClockArgs,
    #[arg(long, value_delimiter = ',', default_values_t = [16_384, 131_072])]
    pub nb: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [32, 128])]
    pub d: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512])]
    pub nlist: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    pub nprobe: Vec<usize>,
    #[arg(long, visible_alias = "nq-list", value_delimiter = ',', default_values_t = [1, 8, 64, 512])]
    pub nq: Vec<usize>,
    #[arg(long, default_value_t = 20)]
    pub k: usize,
    /// Leave a forced mode out of a cell when one search of it would take longer than this (seconds)
    #[arg(long, default_value_t = 10.0)]
    pub bound_s: f64,
    /// Exit with an error when auto is slower than this times the best forced mode somewhere
    #[arg(long)]
    pub fail_above: Option<f64>,
    /// Append the JSON lines to this file instead of stdout (the table stays on stderr)
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct ServeArgs {
    /// Folder with base.npy, queries.npy, centroids.npy, assign.npy, meta.json
    #[arg(long)]
    pub dir: PathBuf,
    #[arg(long, default_value_t = crate::backends::default_name())]
    pub backend: String,
    #[arg(long, default_value_t = SearchMode::Auto)]
    pub mode: SearchMode,
    /// How vectors are stored: auto, planes, copy or f32 (CPU backends)
    #[arg(long, default_value_t = Storage::Auto)]
    pub storage: Storage,
}

#[derive(Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub index: IndexArgs,
    #[command(flatten)]
    pub clock: ClockArgs,
    #[arg(long, visible_alias = "nq-list", value_delimiter = ',', default_values_t = [1, 32, 512, 2048])]
    pub nq: Vec<usize>,
    #[arg(long, default_value_t = 32)]
    pub nprobe: usize,
    #[arg(long, default_value_t = 20)]
    pub k: usize,
    #[arg(long, default_value_t = 512)]
    pub nlist: usize,
    #[arg(long, default_value_t = SearchMode::Auto)]
    pub mode: SearchMode,
    /// JSON lines instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Queries to draw
    #[arg(long, default_value_t = QUERY_POOL)]
    pub nq: usize,
    /// Folder to write base.npy and queries.npy to
    #[arg(long)]
    pub out: PathBuf,
}

/// A metric the oracle knows.
fn metric(name: &str) -> Result<Metric, String> {
    match name.parse() {
        Ok(metric @ (Metric::L2 | Metric::InnerProduct)) => Ok(metric),
        _ => Err(format!("{name:?} is not measured here; choose l2 or ip")),
    }
}
