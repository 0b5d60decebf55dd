//! The command line: options, their defaults, and the checks that need no device.
//!
//! Every value a user can get wrong is refused here, with the remedy in the text, before a
//! device is opened or a vector is made.

use std::path::PathBuf;

use burn_ivf::{Metric, SearchMode};
use clap::Parser;
use serde::Serialize;

use crate::Result;

const DEFAULT_NB: usize = 65_536;
const DEFAULT_NQ: usize = 512;
const DEFAULT_D: usize = 128;
const DEFAULT_K: usize = 10;
/// The crate's own limit for a number of lists nobody chose.
const MOST_DEFAULT_LISTS: usize = 1024;

/// Train, fill and search an inverted-file index on a Burn backend.
///
/// Without options: random vectors (standard normal, seeded). With --text: real sentences
/// searched in WordNet's glosses.
#[derive(Parser, Debug)]
#[command(name = "ivf_demo", after_help = AFTER_HELP)]
pub struct Args {
    /// Backend to use: cpu, or one of the compiled ones by name (ndarray, flex, cuda, rocm,
    /// metal, vulkan, wgpu, webgpu) [default: the first GPU backend that opens, else cpu]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,

    /// Search real text: the WordNet sample that ships with the crate
    #[arg(long)]
    pub text: bool,

    /// Folder of the WordNet sample [default: examples/data/wordnet of the crate]
    #[arg(long, value_name = "DIR", requires = "text")]
    pub data: Option<PathBuf>,

    /// How many queries of the sample are printed with their hits
    #[arg(long, value_name = "N", requires = "text", default_value_t = 5)]
    pub query_count: usize,

    /// Number of random base vectors [default: 65536]
    #[arg(long, conflicts_with = "text")]
    nb: Option<usize>,

    /// Number of random query vectors [default: 512]
    #[arg(long, conflicts_with = "text")]
    nq: Option<usize>,

    /// Dimension of the random vectors [default: 128]
    #[arg(long, conflicts_with = "text")]
    d: Option<usize>,

    /// Number of inverted lists [default: the square root of nb, at most 1024]
    #[arg(long)]
    nlist: Option<usize>,

    /// Lists read per query; more than nlist means all [default: nlist / 16, at least 16]
    #[arg(long)]
    nprobe: Option<usize>,

    /// Results per query [default: 10]
    #[arg(long)]
    k: Option<usize>,

    /// l2 (squared distance) or ip (inner product) [default: l2, with --text: ip]
    #[arg(long)]
    metric: Option<String>,

    /// How lists are searched: auto, matrix or csr
    #[arg(long, default_value = "auto")]
    mode: String,

    /// Most base vectors used for training [default: 256 per list]
    #[arg(long, value_name = "ROWS")]
    max_train: Option<usize>,

    /// Seed of the random vectors and of k-means
    #[arg(long, default_value_t = 1234)]
    pub seed: u64,

    /// Compare with IndexFlat on the same vectors; exit code 1 when the answer is not good enough
    #[arg(long)]
    verify: bool,

    /// Lowest recall@k that --verify accepts [default: see below]
    #[arg(long, value_name = "SHARE", requires = "verify")]
    min_recall: Option<f64>,

    /// Print one JSON object on stdout and nothing else
    #[arg(long)]
    pub json: bool,
}

const AFTER_HELP: &str = "\
What --verify accepts:
  Reading every list must give IndexFlat's answer exactly: the same ids and the same bits in
  every distance. At the chosen nprobe recall@k must reach --min-recall. Its default is
  nprobe/nlist less three standard errors, for random vectors: that is what reading as many
  lists at random would find, and vectors without clusters promise no more. With --text, where
  the vectors do cluster, the default is at least 0.80 from a quarter of the lists upwards
  (k up to 10).

Exit codes: 0 all well, 1 --verify failed, 2 the demo could not run.
RUST_LOG sets what is logged on stderr (default: warn).";

impl Args {
    /// Number of base vectors of the synthetic workload.
    pub fn nb(&self) -> usize {
        self.nb.unwrap_or(DEFAULT_NB)
    }

    /// Number of query vectors of the synthetic workload.
    pub fn nq(&self) -> usize {
        self.nq.unwrap_or(DEFAULT_NQ)
    }

    /// Dimension of the synthetic workload.
    pub fn d(&self) -> usize {
        self.d.unwrap_or(DEFAULT_D)
    }

    /// Refuses what can be refused before a device is opened or a vector exists.
    pub fn check(&self) -> Result<()> {
        if !self.text {
            for (name, value) in [("nb", self.nb()), ("nq", self.nq()), ("d", self.d())] {
                at_least_one(name, value)?;
            }
            Settings::resolve(self, self.nb(), self.d())?;
        }
        Ok(())
    }
}

/// The numbers one run works with, all decided.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub nlist: usize,
    pub nprobe: usize,
    pub k: usize,
    pub metric: Metric,
    pub mode: SearchMode,
    /// Rows k-means may use.
    pub max_train: usize,
    pub seed: u64,
    #[serde(skip)]
    pub verify: bool,
    #[serde(skip)]
    pub min_recall: Option<f64>,
    /// Queries printed with their hits (text only).
    #[serde(skip)]
    pub query_count: usize,
    #[serde(skip)]
    pub text: bool,
}

impl Settings {
    /// Fills in the defaults for `nb` base vectors and refuses values that cannot work.
    pub fn resolve(args: &Args, nb: usize, d: usize) -> Result<Self> {
        let root = (nb as f64).sqrt() as usize;
        let nlist = args.nlist.unwrap_or(root.clamp(1, MOST_DEFAULT_LISTS));
        let nprobe = args.nprobe.unwrap_or((nlist / 16).max(16));
        let k = args.k.unwrap_or(DEFAULT_K);
        let max_train = args.max_train.unwrap_or(nlist.saturating_mul(256));
        for (name, value) in [("nlist", nlist), ("nprobe", nprobe), ("k", k)] {
            at_least_one(name, value)?;
        }
        at_least_one("max-train", max_train)?;
        if nlist > nb {
            return Err(format!(
                "--nlist {nlist} is more than the {nb} base vectors: k-means needs at least one \
                 vector per list; lower --nlist or raise --nb"
            )
            .into());
        }
        if max_train < nlist {
            return Err(format!(
                "--max-train {max_train} is less than nlist {nlist}: k-means needs at least one \
                 training vector per list; raise --max-train or lower --nlist"
            )
            .into());
        }
        if nb
            .checked_mul(d)
            .is_none_or(|values| values > isize::MAX as usize / 4)
        {
            return Err(
                format!("{nb} x {d} vectors do not fit in memory; lower --nb or --d").into(),
            );
        }
        if let Some(floor) = args.min_recall
            && !(0.0..=1.0).contains(&floor)
        {
            return Err(format!("--min-recall {floor} is not a share between 0 and 1").into());
        }
        let metric = args
            .metric
            .as_deref()
            .unwrap_or(if args.text { "ip" } else { "l2" });
        Ok(Self {
            nlist,
            nprobe: nprobe.min(nlist),
            k,
            metric: parse(metric, "--metric", "l2, ip")?,
            mode: parse(&args.mode, "--mode", "auto, matrix, csr")?,
            max_train: max_train.min(nb),
            seed: args.seed,
            verify: args.verify,
            min_recall: args.min_recall,
            query_count: args.query_count,
            text: args.text,
        })
    }

    /// Whether IndexFlat's answer is needed: to verify, or to fill the table of `--text`.
    pub fn wants_truth(&self) -> bool {
        self.verify || self.text
    }

    /// Results asked for per query: `k`, and with `--text` at least the 10 that hit@10 needs.
    pub fn depth(&self) -> usize {
        if self.text { self.k.max(10) } else { self.k }
    }
}

fn at_least_one(name: &str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(format!("--{name} 0 leaves nothing to do; give at least 1").into());
    }
    Ok(())
}

fn parse<T: std::str::FromStr>(text: &str, option: &str, known: &str) -> Result<T> {
    text.parse()
        .map_err(|_| format!("{option} {text} is not known; use one of: {known}").into())
}
