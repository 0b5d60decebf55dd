//! Deciding how to search: pure functions of numbers. No tensor is seen here.

mod auto;
pub(crate) mod budget;
mod config;
mod knobs;
mod tuning;

pub use config::Config;
pub use knobs::{DeviceKey, Knob, Source, Tuning};

use crate::params::{AutoRule, FlatMode, Limit, MaxCodesRule, SearchMode};
use auto::{avg_group, torch_ivf_threshold};
use core::fmt;
use serde::{Deserialize, Serialize};

/// What a plan for an inverted file is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct IvfProblem<'a> {
    pub nq: usize,
    pub d: usize,
    pub nlist: usize,
    pub nprobe: usize,
    pub ntotal: usize,
    /// Data in host memory, scanned by a fused kernel.
    pub fused_scan: bool,
    pub host: bool,
    pub workspace: usize,
    pub limit: Limit,
    /// Results asked for.
    pub k: usize,
    /// The thresholds in force.
    pub tuning: &'a Tuning,
}

impl IvfProblem<'_> {
    /// Rows that a query is compared with, were lists of one length.
    fn rows_per_query(&self) -> u64 {
        self.ntotal as u64 * self.nprobe as u64 / self.nlist.max(1) as u64
    }

    /// The same under the limit.
    fn limited_rows_per_query(&self) -> u64 {
        let all = self.rows_per_query();
        let list = (self.ntotal / self.nlist.max(1)).max(1);
        let rows = match self.limit {
            Limit::Unlimited => return all,
            Limit::Budget(budget) => {
                let least = budget.min_codes_per_list.min(list) * self.nprobe;
                let rows = if budget.strict {
                    budget.rows
                } else {
                    budget.rows.max(least)
                };
                let most = budget.max_codes_per_list.map(|most| most.min(list));
                rows.min(most.map_or(usize::MAX, |most| most * self.nprobe))
            }
            Limit::MaxCodes(max) => {
                let rows = max
                    .max_codes
                    .max(if max.ensure_topk_full { self.k } else { 0 });
                match max.rule {
                    MaxCodesRule::ExactCodes => rows,
                    // Whole lists, the first of them in any case.
                    MaxCodesRule::ListBoundary => (rows / list).max(1) * list,
                }
            }
        };
        all.min(rows as u64)
    }
}

/// In which order a fused scan reads (query, list) pairs. The answer does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// List by list, each with all its queries.
    ListMajor,
    /// Every query's nearest list, then every query's second, and so on.
    QueryMajor,
}

impl Order {
    /// Its name: `"list-major"` or `"query-major"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ListMajor => "list-major",
            Self::QueryMajor => "query-major",
        }
    }
}

/// The order of a scan: a fused scan goes by list once lists are shared by enough queries and there is
/// enough to read; composed of tensor operations, a scan goes by list.
pub(crate) fn order(p: &IvfProblem<'_>) -> Order {
    let at_least = |value: f64, knob| value >= p.tuning.get(knob);
    let bytes = p.rows_per_query() as f64 * p.nq as f64 * (p.d * size_of::<f32>()) as f64;
    let shared = at_least(p.nq as f64, Knob::ListMajorFromQueries)
        && at_least(
            avg_group(p.nq, p.nprobe, p.nlist),
            Knob::ListMajorFromAvgGroup,
        )
        && at_least(bytes, Knob::ListMajorFromBytes);
    if shared || !p.fused_scan {
        Order::ListMajor
    } else {
        Order::QueryMajor
    }
}

/// How a search will be done, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchPlan {
    /// `"matrix"`, `"csr"`, `"chunked"` or `"empty"`.
    pub mode: String,
    /// Why.
    pub reason: String,
    /// In which order csr reads lists. A GPU reads query by query whatever this says where a limit or
    /// a selector leaves rows out; [`SearchStats::order`](crate::SearchStats::order) says what ran.
    pub order: Order,
    /// Average queries per list.
    pub avg_group: f64,
    /// The threshold of torch-ivf's rule, 0 under another.
    pub auto_threshold: f64,
    /// Queries searched at once.
    pub query_chunk: usize,
    /// (query, row) pairs to be compared, estimated from average list sizes and the limit; a selector and
    /// safe pruning may leave out more.
    pub rows_estimate: u64,
    /// Bytes of working memory the search may use.
    pub workspace: usize,
}

impl fmt::Display for SearchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}; about {} rows to compare, {} queries at a time, {} MiB of workspace",
            self.mode,
            self.reason,
            self.rows_estimate,
            self.query_chunk,
            self.workspace >> 20
        )
    }
}

/// The mode a plan settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Matrix,
    Csr,
}

/// Plans a search of an inverted file.
pub(crate) fn ivf(p: &IvfProblem<'_>, mode: SearchMode, rule: AutoRule) -> (Mode, SearchPlan) {
    let avg_group = avg_group(p.nq, p.nprobe, p.nlist);
    let auto_threshold = torch_ivf_threshold(rule, p.nlist);
    let (mode, reason) = match mode {
        SearchMode::Matrix => (Mode::Matrix, "asked for".to_owned()),
        SearchMode::Csr => (Mode::Csr, "asked for".to_owned()),
        SearchMode::Auto => auto::ivf(p, rule, avg_group),
    };
    let rows = p.rows_per_query();
    let query_chunk = match mode {
        // The scan cuts its own blocks.
        Mode::Csr => p.nq,
        Mode::Matrix => matrix_chunk(p.nq, rows as usize, p.d, p.workspace),
    };
    let plan = SearchPlan {
        mode: if mode == Mode::Csr { "csr" } else { "matrix" }.to_owned(),
        reason,
        order: order(p),
        avg_group,
        auto_threshold,
        query_chunk,
        rows_estimate: p.limited_rows_per_query() * p.nq as u64,
        workspace: p.workspace,
    };
    (mode, plan)
}

/// Bytes a matrix search holds per candidate component: gathered, centred, squared.
pub(crate) const MATRIX_COPIES: usize = 4;

/// Queries of a matrix search at once: as many as fit with all their candidates, at least one
/// (whose candidates are then cut too).
pub(crate) fn matrix_chunk(nq: usize, candidates: usize, d: usize, workspace: usize) -> usize {
    let bytes = candidates.saturating_mul((MATRIX_COPIES * d + 8) * size_of::<f32>());
    (workspace / bytes.max(1)).clamp(1, nq.max(1))
}

/// Plans a search of a flat index: whether to take row chunks, and why.
pub(crate) fn flat(
    nq: usize,
    ntotal: usize,
    fused_scan: bool,
    mode: FlatMode,
    threshold: usize,
) -> (bool, String) {
    let bytes = nq.saturating_mul(ntotal).saturating_mul(size_of::<f32>());
    match mode {
        FlatMode::Matrix => (false, "asked for".to_owned()),
        FlatMode::Chunked => (true, "asked for".to_owned()),
        FlatMode::Auto if fused_scan => (true, "the fused scan never stores scores".to_owned()),
        FlatMode::Auto if bytes > threshold => (
            true,
            format!("{bytes} bytes of scores exceed the threshold of {threshold}"),
        ),
        FlatMode::Auto => (
            false,
            format!("{bytes} bytes of scores fit the threshold of {threshold}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Budget, MaxCodes};
    use MaxCodesRule::{ExactCodes, ListBoundary};

    fn tuning(fused_scan: bool, host: bool) -> Tuning {
        let device = DeviceKey {
            backend: if host { "cpu" } else { "other" }.to_owned(),
            ..DeviceKey::default()
        };
        Tuning::resolve(&device, fused_scan, &Config::default())
    }

    fn problem(nq: usize, host: bool, tuning: &Tuning) -> IvfProblem<'_> {
        IvfProblem {
            nq,
            d: 128,
            nlist: 512,
            nprobe: 32,
            ntotal: 262_144,
            fused_scan: host,
            host,
            workspace: 256 << 20,
            limit: Limit::Unlimited,
            k: 20,
            tuning,
        }
    }

    /// Lists have 512 rows, 32 of them are probed.
    #[test]
    fn limits_bound_the_estimate() {
        let tuning = tuning(true, true);
        let max = |rows, rule| Limit::MaxCodes(MaxCodes::new(rows).with_rule(rule));
        for (limit, expected) in [
            (Limit::Unlimited, 16_384),
            (max(100, ListBoundary), 512),
            (max(1100, ListBoundary), 1024),
            (max(1100, ExactCodes), 1100),
            (max(usize::MAX, ExactCodes), 16_384),
            (
                Limit::MaxCodes(MaxCodes::new(5).with_rule(ExactCodes).ensuring_topk_full()),
                20,
            ),
            (Limit::Budget(Budget::uniform(600)), 600),
            (
                Limit::Budget(Budget::uniform(600).with_max_codes_per_list(2)),
                64,
            ),
            (
                Limit::Budget(Budget::uniform(60).with_min_codes_per_list(3)),
                96,
            ),
            (
                Limit::Budget(Budget::uniform(60).with_min_codes_per_list(3).strict()),
                60,
            ),
        ] {
            let p = IvfProblem {
                limit,
                ..problem(3, true, &tuning)
            };
            let (_, plan) = ivf(&p, SearchMode::Auto, AutoRule::Measured);
            assert_eq!(plan.rows_estimate, 3 * expected, "{limit:?}");
        }
    }

    #[test]
    fn torch_ivf_rule_switches_at_its_formula() {
        // csr from an average group of 8.0 at nlist = 512, matrix below; a CPU
        // always takes matrix.
        for (nq, host, expected) in [
            (128, false, Mode::Csr),
            (127, false, Mode::Matrix),
            (128, true, Mode::Matrix),
        ] {
            let tuning = tuning(host, host);
            let p = problem(nq, host, &tuning);
            let (mode, plan) = ivf(&p, SearchMode::Auto, AutoRule::torch_ivf());
            assert_eq!(mode, expected, "{plan}");
            assert_eq!(plan.auto_threshold, 8.0);
        }
        let tuning = tuning(false, false);
        let p = problem(128, false, &tuning);
        let (_, plan) = ivf(&p, SearchMode::Auto, AutoRule::torch_ivf());
        assert_eq!(plan.avg_group, 8.0);
        let wide = IvfProblem { nlist: 1024, ..p };
        let (mode, plan) = ivf(&wide, SearchMode::Auto, AutoRule::torch_ivf());
        assert_eq!((mode, plan.auto_threshold), (Mode::Matrix, 16.0));
    }

    #[test]
    fn a_cpu_always_takes_csr() {
        let tuning = tuning(true, true);
        for nq in [1, 8, 19_600] {
            let p = problem(nq, true, &tuning);
            let (mode, _) = ivf(&p, SearchMode::Auto, AutoRule::Measured);
            assert_eq!(mode, Mode::Csr);
        }
    }

    /// Without a kernel csr is taken from an average of 8 queries per list, or what is set.
    #[test]
    fn the_tuning_decides_and_is_named() {
        let built_in = tuning(false, false);
        let set = built_in.clone().with(Knob::CsrFromAvgGroup, 4.0).unwrap();
        for (tuning, nq, expected, word) in [
            (&built_in, 127, Mode::Matrix, "heuristic"),
            (&built_in, 128, Mode::Csr, "heuristic"),
            (&set, 63, Mode::Matrix, "set by a call"),
            (&set, 64, Mode::Csr, "set by a call"),
        ] {
            let p = problem(nq, false, tuning);
            let (mode, plan) = ivf(&p, SearchMode::Auto, AutoRule::Measured);
            assert_eq!(mode, expected, "{plan}");
            assert!(plan.reason.contains(word), "{plan}");
        }
    }

    #[test]
    fn lists_are_read_query_by_query_only_where_hardly_shared() {
        let cpu = tuning(true, true);
        let gpu = tuning(true, false);
        let one = cpu.clone().with(Knob::ListMajorFromQueries, 1.0).unwrap();
        let nine = cpu.clone().with(Knob::ListMajorFromAvgGroup, 9.5).unwrap();
        for (tuning, fused_scan, host, nq, nprobe, expected) in [
            (&cpu, true, true, 1, 512, Order::QueryMajor),
            (&one, true, true, 1, 512, Order::ListMajor),
            (&cpu, true, true, 3, 17, Order::QueryMajor),
            (&cpu, true, true, 4, 13, Order::ListMajor),
            (&nine, true, true, 9, 512, Order::QueryMajor),
            (&gpu, true, false, 31, 32, Order::QueryMajor),
            (&gpu, true, false, 32, 32, Order::ListMajor),
            (&gpu, false, false, 1, 1, Order::ListMajor),
        ] {
            let p = IvfProblem {
                nprobe,
                fused_scan,
                ..problem(nq, host, tuning)
            };
            assert_eq!(order(&p), expected, "{nq} {nprobe}");
        }
    }

    #[test]
    fn a_gpu_reads_list_by_list_where_there_is_enough_to_save() {
        let gpu = tuning(true, false);
        let many = IvfProblem {
            fused_scan: true,
            ..problem(512, false, &gpu)
        };
        assert_eq!(order(&many), Order::ListMajor);
        for (ntotal, d) in [(2048, 128), (262_144, 1)] {
            let p = IvfProblem { d, ntotal, ..many };
            assert_eq!(order(&p), Order::QueryMajor, "{ntotal} {d}");
        }
    }

    #[test]
    fn forced_modes_are_obeyed_and_chunks_bounded() {
        let tuning = tuning(true, true);
        let p = problem(19_600, true, &tuning);
        let (mode, plan) = ivf(&p, SearchMode::Matrix, AutoRule::Measured);
        assert_eq!(mode, Mode::Matrix);
        let bytes = plan.query_chunk * 16_384 * (MATRIX_COPIES * 128 + 8) * 4;
        assert!(plan.query_chunk >= 1 && bytes <= p.workspace);
        assert_eq!(matrix_chunk(0, 0, 1, 1), 1);
    }

    #[test]
    fn flat_auto_follows_bytes_without_a_fused_kernel() {
        assert!(!flat(10, 100, false, FlatMode::Auto, 4000).0);
        assert!(flat(10, 101, false, FlatMode::Auto, 4000).0);
        assert!(flat(1, 1, true, FlatMode::Auto, 4000).0);
        assert!(!flat(10, 101, true, FlatMode::Matrix, 1).0);
    }
}
