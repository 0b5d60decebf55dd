//! One measured cell as one JSON line. The field names are a contract (benches/README.md).

use crate::env::Host;
use crate::json::rounded;
use crate::roofline::{Reached, Roofline};
use crate::timing::{Memory, median, minimum};
use burn_ivf::SearchStats;
use serde::Serialize;
use std::fmt;

/// What stays the same over all cells of a run.
#[derive(Serialize, Clone)]
pub struct Setting {
    pub library: &'static str,
    pub version: &'static str,
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
    pub host: Host,
    /// What the processor can do, measured in the same run; none for a GPU backend.
    pub roofline: Option<Roofline>,
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
    pub search_ms_min: f64,
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
            search_ms_min: rounded(minimum(&cell.times_ms)),
            times_ms: cell.times_ms.iter().copied().map(rounded).collect(),
            searches_per_sample: cell.searches_per_sample,
            repeat: cell.times_ms.len(),
            qps: (cell.nq as f64 / search_ms * 1e4).round() / 10.0,
            reached,
            recall: cell.recall,
            recall_nq: cell.recall_nq,
            verified: cell.verified,
            rss_mib_before: cell.before.now_mib,
            rss_mib_peak: cell.after.peak_mib,
            load_average: cell.load_average,
            timestamp: crate::timing::timestamp(),
        }
    }
}
