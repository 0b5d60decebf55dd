//! What a caller may choose: modes, rules, parameters of one search.

use crate::{
    error::{Error, Result, illegal},
    metric::{Compare, Metric},
    selector::{IdSelector, Selection},
};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// Memory a search may use beyond the index, the queries and the results: 256 MiB.
pub const DEFAULT_WORKSPACE: usize = 256 << 20;

macro_rules! named {
    ($type:ident, $what:literal, $names:literal, $($variant:ident => $name:literal),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $name),+ })
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(Error::UnknownName { what: $what, name: name.to_owned(), expected: $names }),
                }
            }
        }
    };
}

mod limits;
mod range;

pub use limits::{Budget, BudgetStrategy, Limit, ListOrdering, MaxCodes, MaxCodesRule, Profile};
pub use range::{RangeBound, RangeParams};

/// How an inverted file is searched. Every mode returns the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// The plan decides by [`AutoRule`].
    #[default]
    Auto,
    /// Gather every query's candidates, one batched matrix product, select, re-rank.
    Matrix,
    /// Lists as slices, queries grouped by list, online k best.
    Csr,
}

named!(SearchMode, "search mode", "\"auto\", \"matrix\" and \"csr\"", Auto => "auto", Matrix => "matrix", Csr => "csr");

/// How a flat index is searched. Every mode returns the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlatMode {
    /// `Chunked` where the backend has a fused scan kernel; elsewhere `Matrix`, unless the score
    /// matrix would exceed [`auto_matrix_bytes_threshold`](crate::IndexFlat::auto_matrix_bytes_threshold).
    #[default]
    Auto,
    /// The score matrix of a block of queries against all rows, select, re-rank.
    Matrix,
    /// Block by block of rows with online k best: memory does not grow with the index.
    Chunked,
}

named!(FlatMode, "flat mode", "\"auto\", \"matrix\" and \"chunked\"", Auto => "auto", Matrix => "matrix", Chunked => "chunked");

/// How vectors are stored.
///
/// Searches on a CPU read a coarse copy of the vectors first (a *filter* with a proven error bound) and
/// compare exactly what passes it. `Planes`, `Copy` and `F32` are choices of a CPU backend between memory
/// and speed; answers do not depend on them. `F16` and `Bf16` halve the memory on every backend whose
/// device has the type: a vector becomes the nearest one of such components (ties to even), and all answers
/// are those of an index of these vectors. Distances, sums, queries and centroids stay f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// `Planes`, or `F32` where padding would take more than 8 % of the vectors (few components);
    /// on a GPU, what its kernels read.
    #[default]
    Auto,
    /// Every f32 once, as its upper and lower 16 bits: filters read the upper ones. 4 bytes a
    /// component.
    Planes,
    /// f32 rows and a bf16 copy for the filter: the quickest, 6 bytes a component.
    Copy,
    /// f32 only, filtered in f32. 4 bytes a component.
    F32,
    /// f16: 11 significant bits, magnitudes up to 65504 (larger ones are refused), steps of 2⁻²⁴ near 0.
    /// 2 bytes a component.
    F16,
    /// bf16: 8 significant bits, the range of f32. 2 bytes a component, which a CPU's filter reads as they
    /// are.
    Bf16,
}

named!(
    Storage, "storage", "\"auto\", \"planes\", \"copy\", \"f32\", \"f16\" and \"bf16\"",
    Auto => "auto", Planes => "planes", Copy => "copy", F32 => "f32", F16 => "f16", Bf16 => "bf16"
);

impl Storage {
    /// Every storage.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::Planes,
        Self::Copy,
        Self::F32,
        Self::F16,
        Self::Bf16,
    ];

    /// The magnitude from which on components become infinite; `None` where every f32 is kept.
    pub(crate) fn overflow(self) -> Option<f32> {
        match self {
            // Half a step beyond the largest.
            Self::F16 => Some(65_520.0),
            Self::Bf16 => Some(f32::from_bits(0x7F7F_8000)),
            Self::Auto | Self::Planes | Self::Copy | Self::F32 => None,
        }
    }
}

/// What adding and training do with vectors that hold NaN or infinite components (NaN is legal where the
/// metric [accepts it](crate::Metric::accepts_nan)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NanPolicy {
    /// Refuse the whole call, naming the first of them.
    #[default]
    Error,
    /// Leave them out, with a warning in the log that counts them. Automatic ids stay those of the rows of
    /// the call: a row left out leaves its id unused (faiss leaves such rows out of its lists too, but
    /// counts them in ntotal).
    Skip,
}

named!(NanPolicy, "NaN policy", "\"error\" and \"skip\"", Error => "error", Skip => "skip");

/// How [`SearchMode::Auto`] decides.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub enum AutoRule {
    /// By the index's [`Tuning`](crate::Tuning): measurements, or what users configured.
    #[default]
    Measured,
    /// torch-ivf's rule: on a GPU csr when `nq · min(nprobe, nlist) / nlist` reaches
    /// `avg_group_threshold · nlist / 512`, otherwise matrix; on a CPU always matrix.
    TorchIvf {
        /// Average queries per list at nlist = 512; torch-ivf's default is 8.
        avg_group_threshold: f64,
    },
}

impl AutoRule {
    /// torch-ivf's rule with its default threshold of 8.
    pub const fn torch_ivf() -> Self {
        Self::TorchIvf {
            avg_group_threshold: 8.0,
        }
    }

    pub(crate) fn check(self) -> Result<Self> {
        match self {
            Self::TorchIvf {
                avg_group_threshold: t,
            } if !(t > 0.0 && t.is_finite()) => {
                Err(illegal("avg_group_threshold", t, "a finite number above 0"))
            }
            rule => Ok(rule),
        }
    }
}

/// Parameters of one search. What is not set is taken from the index, which is never changed.
///
/// ```
/// use burn_ivf::{SearchMode, SearchParams};
/// let params = SearchParams::exact().with_nprobe(32).with_mode(SearchMode::Csr);
/// assert_eq!(params.nprobe, Some(32));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SearchParams {
    /// Lists to probe per query; above nlist is clamped.
    pub nprobe: Option<usize>,
    /// How to search.
    pub mode: Option<SearchMode>,
    /// How [`SearchMode::Auto`] decides.
    pub auto_rule: Option<AutoRule>,
    /// Bytes of working memory.
    pub workspace_limit: Option<usize>,
    /// Whether to count what was compared even where that takes a read of the device.
    #[serde(default)]
    pub counts: bool,
    /// Defaults for what neither these parameters nor the index say.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// How many rows a query is compared with.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// In which order lists are read where a limit leaves rows out.
    #[serde(default)]
    pub list_ordering: Option<ListOrdering>,
    /// Whether lists that cannot hold one of the k best are left out.
    #[serde(default)]
    pub safe_pruning: Option<bool>,
    /// Which ids may be found; all when absent.
    #[serde(default)]
    pub selection: Option<Selection>,
}

impl SearchParams {
    /// Every row of the probed lists, whatever limit the index has.
    pub fn exact() -> Self {
        Self::default().with_limit(Limit::Unlimited)
    }

    /// Finds only the ids in `selector`. Which lists are probed does not change.
    #[must_use]
    pub fn with_selector(mut self, selector: IdSelector) -> Self {
        self.selection = Some(Selection::Shared(selector));
        self
    }

    /// Gives every query a selector of its own: query `i` finds only ids in
    /// `selectors[of[i]]`. Queries that share a selector share its evaluation.
    #[must_use]
    pub fn with_query_selectors(mut self, selectors: Vec<IdSelector>, of: Vec<u32>) -> Self {
        self.selection = Some(Selection::PerQuery { selectors, of });
        self
    }

    /// Probes `nprobe` lists per query (0 is an error at the search, above nlist is clamped).
    #[must_use]
    pub fn with_nprobe(mut self, nprobe: usize) -> Self {
        self.nprobe = Some(nprobe);
        self
    }

    /// Forces a mode.
    #[must_use]
    pub fn with_mode(mut self, mode: SearchMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Replaces the rule by which [`SearchMode::Auto`] decides.
    #[must_use]
    pub fn with_auto_rule(mut self, rule: AutoRule) -> Self {
        self.auto_rule = Some(rule);
        self
    }

    /// Limits working memory to `bytes` (beyond the index, the queries and the results).
    #[must_use]
    pub fn with_workspace_limit(mut self, bytes: usize) -> Self {
        self.workspace_limit = Some(bytes);
        self
    }

    /// Counts the rows and lists compared ([`SearchStats`](crate::SearchStats)) on every backend. A
    /// CPU backend always counts; on a GPU this waits for the coarse step and reads its answer.
    #[must_use]
    pub fn with_counts(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Fills what is not set from the index's settings, then the profile, and checks the rest.
    pub(crate) fn resolve(
        &self,
        index: &IvfSettings,
        nlist: usize,
        metric: Metric,
    ) -> Result<ResolvedParams> {
        let nprobe = self
            .nprobe
            .unwrap_or_else(|| index.nprobe_or_default(nlist));
        if nprobe == 0 {
            return Err(Error::ZeroNprobe);
        }
        let profile = self.profile.unwrap_or_default();
        let near_first = match metric {
            Metric::InnerProduct | Metric::Cosine => ListOrdering::Projection,
            _ => ListOrdering::ResidualNorm,
        };
        let limit = match profile.budget() {
            None => Limit::Unlimited,
            Some(rows) => Limit::Budget(Budget::distance_weighted(rows)),
        };
        let limit = self.limit.or(index.limit).unwrap_or(limit).check()?;
        // A budget that is to be spent well; max_codes reads lists as they are.
        let ordering = match limit {
            Limit::Budget(_) => near_first,
            Limit::Unlimited | Limit::MaxCodes(_) => ListOrdering::Insertion,
        };
        let ordering = self
            .list_ordering
            .or(index.list_ordering)
            .unwrap_or(ordering);
        if ordering != ListOrdering::Insertion && ordering != near_first {
            return Err(Error::ListOrdering {
                ordering,
                metric,
                instead: near_first,
            });
        }
        let safe_pruning = self.safe_pruning.unwrap_or(index.safe_pruning);
        if safe_pruning && matches!(metric.compare(), Compare::Pairs(_)) {
            return Err(Error::NotApplicable {
                what: "safe pruning by a metric other than l2, ip and cosine",
                instead: "nothing bounds the rows of a list by it; leave safe pruning off",
            });
        }
        Ok(ResolvedParams {
            nprobe: nprobe.min(nlist),
            mode: self.mode.unwrap_or(index.mode),
            auto_rule: self.auto_rule.unwrap_or(index.auto_rule).check()?,
            workspace: check_workspace(self.workspace_limit.unwrap_or(index.workspace))?,
            counts: self.counts,
            limit,
            ordering,
            safe_pruning,
        })
    }
}

/// Parameters with every gap filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ResolvedParams {
    pub nprobe: usize,
    pub mode: SearchMode,
    pub auto_rule: AutoRule,
    pub workspace: usize,
    pub counts: bool,
    pub limit: Limit,
    pub ordering: ListOrdering,
    pub safe_pruning: bool,
}

/// Search settings an inverted file keeps. A saved index holds them under these names: a field added
/// here is saved with the rest, and has its default in older files.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IvfSettings {
    pub nprobe: Option<usize>,
    pub mode: SearchMode,
    pub auto_rule: AutoRule,
    pub workspace: usize,
    pub storage: Storage,
    pub limit: Option<Limit>,
    pub list_ordering: Option<ListOrdering>,
    pub safe_pruning: bool,
    // Left out where it is the default, so that such files keep their bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub nan_policy: NanPolicy,
}

/// Whether a setting need not be saved.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for IvfSettings {
    fn default() -> Self {
        Self {
            nprobe: None,
            mode: SearchMode::Auto,
            auto_rule: AutoRule::Measured,
            workspace: DEFAULT_WORKSPACE,
            storage: Storage::Auto,
            limit: None,
            list_ordering: None,
            safe_pruning: false,
            nan_policy: NanPolicy::Error,
        }
    }
}

impl IvfSettings {
    /// The nprobe in force: as set, or `min(8, nlist)`.
    pub fn nprobe_or_default(&self, nlist: usize) -> usize {
        self.nprobe.unwrap_or(8).min(nlist.max(1))
    }
}

/// The smallest workspace that is accepted: 64 KiB.
pub(crate) const MIN_WORKSPACE: usize = 64 << 10;

pub(crate) fn check_workspace(bytes: usize) -> Result<usize> {
    if bytes < MIN_WORKSPACE {
        Err(illegal("workspace_limit", bytes, "at least 65536 bytes"))
    } else {
        Ok(bytes)
    }
}
