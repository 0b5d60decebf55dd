//! One measured cell as one JSON line. The field names are a contract (benches/README.md).

use crate::cost::Cost;
use crate::env::Host;
use crate::gpu::Ceilings;
use crate::json::rounded;
use crate::roofline::{Reached, Roofline};
use crate::timing::{Memory, median, minimum, quantile};
use burn_ivf::{KernelCost, SearchStats};
use serde::Serialize;
use std::fmt;

/// How long the lists are.
#[derive(Serialize, Clone, Copy)]
pub struct ListSizes {
    pub min: usize,
    pub mean: f64,
    pub max: usize,
    /// Standard deviation over mean.
    pub cv: f64,
}

impl ListSizes {
    pub fn of(sizes: impl Iterator<Item = usize> + Clone) -> Self {
        let n = sizes.clone().count().max(1) as f64;
        let mean = sizes.clone().sum::<usize>() as f64 / n;
        let squares = sizes.clone().map(|size| (size as f64 - mean).powi(2));
        let deviation = (squares.sum::<f64>() / n).sqrt();
        Self {
            min: sizes.clone().min().unwrap_or(0),
            mean: rounded(mean),
            max: sizes.max().unwrap_or(0),
            cv: rounded(deviation / mean.max(1e-9)),
        }
    }
}

/// What stays the same over all cells of a run.
#[derive(Serialize, Clone)]
pub struct Setting {
    pub library: &'static str,
    pub version: &'static str,
    pub burn: Option<String>,
    pub cubecl: Option<String>,
    /// The card and its driver, where the backend has one.
    pub adapter: Option<String>,
    /// `"ivf-flat"` or `"flat"`.
    pub index: &'static str,
    /// Base vectors drawn and added at a time.
    pub piece: usize,
    pub lists: ListSizes,
    pub device: String,
    pub backend: String,
    pub backend_type: String,
    pub metric: String,
    pub data: String,
    pub seed: u64,
    pub nb: usize,
    pub d: usize,
    pub nlist: usize,
    pub dtype: &'static str,
    pub train_n: usize,
    pub train_ms: f64,
    pub add_ms: f64,
    pub imbalance: f64,
    pub storage: String,
    /// Bytes of stored vectors, ids and centroids.
    pub index_bytes: usize,
    pub warmup: usize,
    pub rotate: bool,
    pub input: &'static str,
    pub threads: usize,
    pub git: Option<String>,
    pub git_dirty: Option<bool>,
    pub env_id: String,
    /// Knobs that the environment sets, as `name=value`.
    pub knobs: Vec<String>,
    pub host: Host,
    /// What the processor can do, measured in the same run; none for a GPU backend.
    pub roofline: Option<Roofline>,
    /// What the device can do, measured in the same run; none for a CPU backend.
    pub ceilings: Option<Ceilings>,
}

/// What a search asked of the device, against what it was counted to cost.
#[derive(Serialize, Default)]
pub struct Counted {
    pub launches: u64,
    pub blocking_reads: u64,
    pub uploaded_bytes: u64,
    /// Of the kernels below, together; 0 where nothing is counted.
    pub counted_launches: u64,
    pub counted_bytes: u64,
    pub counted_bytes_once: u64,
    pub counted_flops: u64,
    pub counted_useful_flops: u64,
    pub kernels: Vec<KernelCost>,
    /// `counted_bytes_once` over the time and `ceilings.copy_gbps`; above 1 where lists stay in a cache.
    pub memory_fraction: Option<f64>,
    /// `counted_flops` over the time and `ceilings.fma_gflops`.
    pub fma_fraction: Option<f64>,
}

impl Counted {
    fn new(cost: &Cost, ms: f64, ceilings: Option<Ceilings>) -> Self {
        let sums = cost.sums();
        let share = |done: u64, ceiling: f64| rounded(done as f64 / (ms * 1e6) / ceiling);
        let ceilings = ceilings.filter(|_| !cost.kernels.is_empty());
        Self {
            launches: cost.spent.launches,
            blocking_reads: cost.spent.blocking_reads,
            uploaded_bytes: cost.spent.uploaded,
            counted_launches: sums.launches,
            counted_bytes: sums.bytes,
            counted_bytes_once: sums.distinct_bytes,
            counted_flops: sums.flops,
            counted_useful_flops: sums.useful_flops,
            memory_fraction: ceilings.map(|c| share(sums.distinct_bytes, c.copy_gbps)),
            fma_fraction: ceilings.map(|c| share(sums.flops, c.fma_gflops)),
            kernels: cost.kernels.clone(),
        }
    }
}

/// Times beside the samples.
#[derive(Serialize, Default, Clone)]
pub struct Extra {
    /// The very first search of this cell: kernels are compiled in it where they are new.
    pub first_ms: f64,
    /// Median with all caches flushed before every search (GPU, up to 128 queries).
    pub cold_ms: Option<f64>,
    /// Median between the device's first and last kernel of a search, and who held that clock
    /// (`"device"` or `"system"`).
    pub kernel_ms: Option<f64>,
    pub kernel_clock: Option<&'static str>,
    /// CubeCL's memory after the first search: in use, and held.
    pub device_mib_in_use: Option<f64>,
    pub device_mib_held: Option<f64>,
}

#[derive(Serialize)]
pub struct Record {
    #[serde(flatten)]
    pub setting: Setting,
    pub nq: usize,
    pub nprobe: usize,
    /// 0: no limit on the vectors scanned per query.
    pub max_codes: usize,
    pub topk: usize,
    pub mode: String,
    pub chosen_mode: String,
    pub kernel: String,
    pub reason: String,
    pub filter: String,
    pub order: String,
    pub avg_group: f64,
    pub auto_threshold: f64,
    pub query_chunks: usize,
    pub rows_scanned: Option<u64>,
    pub lists_scanned: Option<u64>,
    pub rows_reranked: Option<u64>,
    /// Median over the samples, per search.
    pub search_ms: f64,
    pub search_ms_p10: f64,
    pub search_ms_p90: f64,
    pub search_ms_min: f64,
    #[serde(flatten)]
    pub extra: Extra,
    #[serde(flatten)]
    pub counted: Counted,
    /// Rows compared per query.
    pub candidates: Option<f64>,
    pub times_ms: Vec<f64>,
    pub searches_per_sample: usize,
    pub repeat: usize,
    pub qps: f64,
    #[serde(flatten)]
    pub reached: Reached,
    pub recall: Option<f64>,
    pub recall_nq: usize,
    /// The answers checked in f64 before the clock started.
    pub verified: usize,
    /// The largest relative error of a distance among those.
    pub distance_error: f64,
    pub rss_mib_before: Option<f64>,
    pub rss_mib_peak: Option<f64>,
    pub load_average: Option<f64>,
    pub timestamp: String,
}

/// One line for the reader who waits.
impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} nprobe {} k {} nq {}: {:.3} ms, {}, {}",
            self.mode,
            self.nprobe,
            self.topk,
            self.nq,
            self.search_ms,
            self.chosen_mode,
            self.reached
        )
    }
}

/// What one cell measured.
pub struct Cell {
    pub nq: usize,
    pub nprobe: usize,
    pub k: usize,
    pub mode: String,
    pub stats: SearchStats,
    /// Bytes of the probed lists' f32 vectors, each list once.
    pub list_bytes: u64,
    pub times_ms: Vec<f64>,
    pub searches_per_sample: usize,
    pub recall: Option<f64>,
    pub recall_nq: usize,
    pub verified: usize,
    pub distance_error: f64,
    pub extra: Extra,
    pub cost: Cost,
    pub before: Memory,
    pub after: Memory,
    pub load_average: Option<f64>,
}

impl Record {
    pub fn new(setting: &Setting, cell: Cell) -> Self {
        let search_ms = median(&cell.times_ms);
        let reached = Reached::new(
            setting.d,
            cell.stats.rows_scanned.unwrap_or(0),
            cell.list_bytes,
            search_ms,
            setting.roofline.as_ref(),
        );
        let counted = Counted::new(&cell.cost, search_ms, setting.ceilings);
        let rows = cell.stats.rows_scanned;
        let candidates = rows.map(|rows| rounded(rows as f64 / cell.nq as f64));
        Self {
            setting: setting.clone(),
            nq: cell.nq,
            nprobe: cell.nprobe,
            max_codes: 0,
            topk: cell.k,
            mode: cell.mode,
            chosen_mode: cell.stats.mode,
            kernel: cell.stats.kernel,
            reason: cell.stats.reason,
            filter: cell.stats.filter,
            order: cell.stats.order,
            avg_group: cell.stats.avg_group,
            auto_threshold: cell.stats.auto_threshold,
            query_chunks: cell.stats.query_chunks,
            rows_scanned: cell.stats.rows_scanned,
            lists_scanned: cell.stats.lists_scanned,
            rows_reranked: cell.stats.rows_reranked,
            search_ms: rounded(search_ms),
            search_ms_p10: rounded(quantile(&cell.times_ms, 0.1)),
            search_ms_p90: rounded(quantile(&cell.times_ms, 0.9)),
            search_ms_min: rounded(minimum(&cell.times_ms)),
            extra: cell.extra,
            counted,
            candidates,
            times_ms: cell.times_ms.iter().copied().map(rounded).collect(),
            searches_per_sample: cell.searches_per_sample,
            repeat: cell.times_ms.len(),
            qps: (cell.nq as f64 / search_ms * 1e4).round() / 10.0,
            reached,
            recall: cell.recall,
            recall_nq: cell.recall_nq,
            verified: cell.verified,
            distance_error: cell.distance_error,
            rss_mib_before: cell.before.now_mib,
            rss_mib_peak: cell.after.peak_mib,
            load_average: cell.load_average,
            timestamp: crate::timing::timestamp(),
        }
    }
}
