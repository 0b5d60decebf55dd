//! The command line: every command and option, with its help.

use crate::device::Device;
use burn_ivf::{Metric, SearchParams, Storage, io::VectorFormat};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Vector search from the shell: build, search, measure and tune indexes
#[derive(Debug, Parser)]
#[command(name = "burn-ivf", version, max_term_width = 100)]
#[command(
    after_help = "Vectors are .npy (f16, f32, f64, u8, i32, i64), .fvecs or .bvecs files, ids .npy or .ivecs.\n\
                  Exit codes: 0 well, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    /// Where to compute; the first that is compiled in if left out
    #[arg(long, global = true, value_enum)]
    pub device: Option<Device>,
    /// JSON on stdout, one value per line
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on stderr (there is none where stderr is no terminal)
    #[arg(long, short, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an index from a file of vectors
    Build(Build),
    /// Search an index for the nearest vectors of each query
    Search(Search),
    /// Say what an index file holds
    Info(Info),
    /// Convert vectors between npy, fvecs, bvecs and ivecs, an index to or from faiss
    Convert(Convert),
    /// Measure recall, queries per second and latency
    Eval(Eval),
    /// Find the smallest nprobe that promises a recall
    Tune(Tune),
    /// Measure queries per second for several numbers of queries at once
    Bench(Bench),
    /// Print the tuning in force for the device: every knob, its value, unit and source
    Config,
    /// Draw queries per second against queries at once, from recorded JSON lines
    Plot(Plot),
    /// Print a completion script
    Completions(Completions),
    /// Print the manual page, or write those of all commands
    Man(Man),
}

/// `auto`, or a number of lists.
#[derive(Debug, Clone, Copy)]
pub enum Nlist {
    Auto,
    Lists(usize),
}

fn nlist(text: &str) -> Result<Nlist, String> {
    if text == "auto" {
        return Ok(Nlist::Auto);
    }
    let lists = text.parse().ok().filter(|&lists| lists > 0);
    lists
        .map(Nlist::Lists)
        .ok_or_else(|| "give auto, or a number of lists from 1 on".to_owned())
}

fn positive(text: &str) -> Result<usize, String> {
    let value = text.parse().ok().filter(|&value| value > 0);
    value.ok_or_else(|| "give a whole number from 1 on".to_owned())
}

fn up_to_ten_million(text: &str) -> Result<usize, String> {
    let value = positive(text).ok().filter(|&value| value <= 10_000_000);
    value.ok_or_else(|| "give a whole number from 1 to 10,000,000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok();
    let value = value.filter(|value| *value > 0.0 && *value <= 1.0);
    value.ok_or_else(|| "give a number above 0, at most 1".to_owned())
}

fn confidence(text: &str) -> Result<f64, String> {
    let value = text.parse().ok();
    let value = value.filter(|value| (0.5..1.0).contains(value));
    value.ok_or_else(|| "give a number from 0.5 on, below 1".to_owned())
}

#[derive(Debug, Args)]
pub struct Build {
    /// The vectors
    pub base: PathBuf,
    /// The index file to write
    #[arg(long, short)]
    pub out: PathBuf,
    /// Metric: l2 (squared), ip, cosine, l1 or linf; with --flat also lp:P, canberra, jaccard and others
    #[arg(long, default_value = "l2")]
    pub metric: Metric,
    /// Number of lists; auto is 4·√n, at most n / 39
    #[arg(long, default_value = "auto", value_parser = nlist)]
    pub nlist: Nlist,
    /// No lists: an index that is searched exhaustively
    #[arg(long, conflicts_with_all = ["nlist", "train_size", "nprobe", "seed", "iterations"])]
    pub flat: bool,
    /// Vectors to train on, drawn at random [default: 256 per list]
    #[arg(long, value_parser = positive)]
    pub train_size: Option<usize>,
    /// Iterations of k-means
    #[arg(long, default_value_t = 10, value_parser = positive)]
    pub iterations: usize,
    /// What random choices depend on
    #[arg(long, default_value_t = 1234)]
    pub seed: u64,
    /// Lists that a search reads unless it says otherwise [default: 8]
    #[arg(long, value_parser = positive)]
    pub nprobe: Option<usize>,
    /// An id per vector (.npy or .ivecs, one column) [default: row numbers]
    #[arg(long)]
    pub ids: Option<PathBuf>,
    /// How vectors are kept: f16 and bf16 take half the bytes; auto, planes, copy and f32 hold every bit
    #[arg(long, default_value = "auto")]
    pub storage: Storage,
}

#[derive(Debug, Args)]
pub struct Source {
    /// The index: this library's file or faiss's
    pub index: PathBuf,
    /// Search in the file without loading it: larger than memory, but slower (own format, CPU; f32
    /// vectors; l2, ip or cosine)
    #[arg(long)]
    pub mmap: bool,
}

#[derive(Debug, Args)]
pub struct Search {
    #[command(flatten)]
    pub source: Source,
    /// The queries
    pub queries: PathBuf,
    /// Results per query
    #[arg(long, short, default_value_t = 10, value_parser = positive)]
    pub k: usize,
    /// How to search, e.g. "nprobe=16,mode=csr"
    #[arg(long, default_value = "", hide_default_value = true)]
    pub params: SearchParams,
    /// Write ids here (.npy or .ivecs), [nq, k], -1 where there are fewer
    #[arg(long)]
    pub ids: Option<PathBuf>,
    /// Write distances here (.npy or .fvecs), [nq, k]
    #[arg(long)]
    pub distances: Option<PathBuf>,
    /// Queries searched at once
    #[arg(long, default_value_t = 4096, value_parser = positive)]
    pub batch: usize,
}

#[derive(Debug, Args)]
pub struct Info {
    /// The index file
    pub index: PathBuf,
    /// Draw a histogram of list sizes
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// What a conversion writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// This library's index file
    Own,
    /// A faiss index file
    Faiss,
    /// Vectors, as the extension says
    Vectors,
}

#[derive(Debug, Args)]
pub struct Convert {
    /// Vectors or an index
    pub from: PathBuf,
    /// The file to write; .faiss is an index for faiss
    pub to: PathBuf,
    /// What to write [default: by the extension]
    #[arg(long, value_enum)]
    pub format: Option<Target>,
}

impl Convert {
    /// Whether plain vectors are to be read.
    pub fn is_vectors(&self) -> bool {
        VectorFormat::of(&self.from).is_ok()
    }

    /// What to write.
    pub fn target(&self) -> Target {
        self.format.unwrap_or_else(|| target(&self.to))
    }
}

fn target(path: &Path) -> Target {
    if VectorFormat::of(path).is_ok() {
        Target::Vectors
    } else if path
        .extension()
        .is_some_and(|extension| extension == "faiss")
    {
        Target::Faiss
    } else {
        Target::Own
    }
}

#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    pub source: Source,
    /// The queries
    pub queries: PathBuf,
    /// True neighbours, best first (.npy or .ivecs) [default: an exhaustive search of the index]
    #[arg(long)]
    pub truth: Option<PathBuf>,
    /// Recall among this many
    #[arg(long, short, default_value_t = 10, value_parser = positive)]
    pub k: usize,
    /// How to search; may be given several times [default: as the index says]
    #[arg(long)]
    pub params: Vec<SearchParams>,
    /// nprobe = 1, 2, 4, .. below the number of lists
    #[arg(long)]
    pub grid: bool,
    /// Queries at once when measuring queries per second
    #[arg(long, default_value_t = 1024, value_parser = positive)]
    pub batch: usize,
    /// Queries searched one by one for the latency
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    pub latency_queries: usize,
    /// Draw recall against queries per second
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Tune {
    /// The index: this library's file or faiss's
    pub index: PathBuf,
    /// Queries like those to come
    pub queries: PathBuf,
    /// The recall to reach
    #[arg(long, value_parser = share)]
    pub target: f64,
    /// Recall among this many
    #[arg(long, short, default_value_t = 10, value_parser = positive)]
    pub k: usize,
    /// True neighbours (.npy or .ivecs) [default: an exhaustive search of the index]
    #[arg(long)]
    pub truth: Option<PathBuf>,
    /// How sure the promise is to be
    #[arg(long, default_value_t = 0.99, value_parser = confidence)]
    pub confidence: f64,
    /// Queries used at most, drawn at random
    #[arg(long, default_value_t = 4096, value_parser = positive)]
    pub sample: usize,
    /// What all searches have in common, e.g. "mode=csr"
    #[arg(long, default_value = "", hide_default_value = true)]
    pub params: SearchParams,
    /// Write the nprobe found into the index file
    #[arg(long)]
    pub save: bool,
    /// Also measure nprobe = 1, 2, 4, .. and list the settings no other beats
    #[arg(long)]
    pub pareto: bool,
    /// Draw recall against queries per second (implies --pareto)
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    pub source: Source,
    /// The queries; taken again from the first where there are too few
    pub queries: PathBuf,
    /// Queries at once
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128,512,2048", value_parser = up_to_ten_million)]
    pub nq: Vec<usize>,
    /// Results per query
    #[arg(long, short, default_value_t = 10, value_parser = positive)]
    pub k: usize,
    /// How to search, e.g. "nprobe=16"
    #[arg(long, default_value = "", hide_default_value = true)]
    pub params: SearchParams,
    /// Searches per number of queries, of which the median counts
    #[arg(long, default_value_t = 7, value_parser = up_to_ten_million)]
    pub repeat: usize,
    /// Draw queries per second against queries at once
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Records of other runs or libraries (JSON lines) to draw beside
    #[arg(long, value_name = "FILE.jsonl", requires = "plot")]
    pub beside: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Plot {
    /// JSON lines of `bench --json`, `cargo bench --bench sweep` or benches/peers
    #[arg(required = true)]
    pub records: Vec<PathBuf>,
    /// The picture
    #[arg(long, short, value_name = "FILE.svg")]
    pub out: PathBuf,
    /// The line above it
    #[arg(long, default_value = "Searches per second against queries at once")]
    pub title: String,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct Man {
    /// Write a page per command into this folder
    #[arg(long)]
    pub out: Option<PathBuf>,
}
