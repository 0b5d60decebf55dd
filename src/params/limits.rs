//! How much of the probed lists a query is compared with, and in which order lists are read.

use super::SearchParams;
use crate::error::{Error, Result, illegal};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// How many rows of its probed lists a query is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// All of them.
    #[default]
    Unlimited,
    /// Lists nearest first, until a number of rows is reached.
    MaxCodes(MaxCodes),
    /// A number of rows, spread over all probed lists.
    Budget(Budget),
}

/// A number of rows at which a query stops reading lists (faiss, torch-ivf `max_codes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MaxCodes {
    /// Rows; at least 1.
    pub max_codes: usize,
    /// What happens to the list in which the number is reached.
    #[serde(default)]
    pub rule: MaxCodesRule,
    /// Goes on to read whole lists until at least k rows were compared (faiss
    /// `ensure_topk_full`).
    #[serde(default)]
    pub ensure_topk_full: bool,
}

impl MaxCodes {
    /// Stops before the list that would exceed `max_codes` rows.
    pub const fn new(max_codes: usize) -> Self {
        Self {
            max_codes,
            rule: MaxCodesRule::ListBoundary,
            ensure_topk_full: false,
        }
    }

    /// Replaces the rule.
    #[must_use]
    pub const fn with_rule(mut self, rule: MaxCodesRule) -> Self {
        self.rule = rule;
        self
    }

    /// Reads on until at least k rows were compared.
    #[must_use]
    pub const fn ensuring_topk_full(mut self) -> Self {
        self.ensure_topk_full = true;
        self
    }
}

/// What happens to the list in which [`MaxCodes::max_codes`] is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxCodesRule {
    /// Whole lists only: the list that would exceed the number is not read, nor are those after
    /// it. The first list that is not empty is always read (torch-ivf).
    #[default]
    ListBoundary,
    /// Exactly so many rows: the list is read up to the number (faiss).
    ExactCodes,
}

/// A number of rows, spread over the lists a query probes.
///
/// Of every list the first rows in [`ListOrdering`] are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Budget {
    /// Rows per query; at least 1 (torch-ivf `candidate_budget`).
    pub rows: usize,
    /// How they are spread.
    #[serde(default)]
    pub strategy: BudgetStrategy,
    /// Rows read at least of every list, even beyond the budget unless it is strict.
    #[serde(default)]
    pub min_codes_per_list: usize,
    /// Rows read at most of any list.
    #[serde(default)]
    pub max_codes_per_list: Option<usize>,
    /// Whether no query may read more than the budget.
    #[serde(default)]
    pub strict: bool,
}

impl Budget {
    /// `rows` per query, the same from every list.
    pub const fn uniform(rows: usize) -> Self {
        Self {
            rows,
            strategy: BudgetStrategy::Uniform,
            min_codes_per_list: 0,
            max_codes_per_list: None,
            strict: false,
        }
    }

    /// `rows` per query, more from nearer lists.
    pub const fn distance_weighted(rows: usize) -> Self {
        Self {
            strategy: BudgetStrategy::DistanceWeighted {
                dynamic_nprobe: false,
            },
            ..Self::uniform(rows)
        }
    }

    /// `rows` per query, more from nearer lists, none from far ones: lists are served
    /// [`min_codes_per_list`](Self::min_codes_per_list) (at least 1) nearest first while the budget
    /// lasts, and the rest is spread over those.
    pub const fn dynamic_nprobe(rows: usize) -> Self {
        Self {
            strategy: BudgetStrategy::DistanceWeighted {
                dynamic_nprobe: true,
            },
            ..Self::uniform(rows)
        }
    }

    /// Reads at least `rows` of every list.
    #[must_use]
    pub const fn with_min_codes_per_list(mut self, rows: usize) -> Self {
        self.min_codes_per_list = rows;
        self
    }

    /// Reads at most `rows` of any list.
    #[must_use]
    pub const fn with_max_codes_per_list(mut self, rows: usize) -> Self {
        self.max_codes_per_list = Some(rows);
        self
    }

    /// Never reads more than the budget.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }
}

/// How a [`Budget`] is spread over lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetStrategy {
    /// The same number from every list, `⌈rows / nprobe⌉`; what a short list leaves is not used.
    #[default]
    Uniform,
    /// By `exp(-3 z)`, where z is a centroid's distance beyond the nearest one's over the median's
    /// beyond it, up to 8 (torch-ivf). What a short list leaves goes to the others.
    DistanceWeighted {
        /// Whether far lists may get nothing.
        dynamic_nprobe: bool,
    },
}

/// In which order the rows of a list are read where not all of them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListOrdering {
    /// As they were added.
    #[default]
    Insertion,
    /// Nearest to the centroid first, by L2 distance: for [`Metric::L2`](crate::Metric::L2)
    /// (torch-ivf `residual_norm_asc`).
    ResidualNorm,
    /// Largest inner product with the centroid first: for
    /// [`Metric::InnerProduct`](crate::Metric::InnerProduct) (torch-ivf `proj_desc`).
    Projection,
}

/// A set of defaults for what neither a search nor its index says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Every row of the probed lists.
    Exact,
    /// What the index says; exact unless it has a limit.
    #[default]
    Speed,
    /// A budget of 32768 rows, near rows first.
    ApproxFast,
    /// A budget of 65536 rows, near rows first.
    ApproxBalanced,
    /// A budget of 131072 rows, near rows first.
    ApproxQuality,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] = [
        Self::Exact,
        Self::Speed,
        Self::ApproxFast,
        Self::ApproxBalanced,
        Self::ApproxQuality,
    ];

    /// Its budget in rows per query; `None` for the exact ones.
    pub const fn budget(self) -> Option<usize> {
        match self {
            Self::Exact | Self::Speed => None,
            Self::ApproxFast => Some(32_768),
            Self::ApproxBalanced => Some(65_536),
            Self::ApproxQuality => Some(131_072),
        }
    }
}

named!(MaxCodesRule, "max_codes rule", "\"list_boundary\" and \"exact_codes\"", ListBoundary => "list_boundary", ExactCodes => "exact_codes");
named!(ListOrdering, "list ordering", "\"insertion\", \"residual_norm\" and \"projection\"", Insertion => "insertion", ResidualNorm => "residual_norm", Projection => "projection");
named!(Profile, "profile", "\"exact\", \"speed\", \"approx_fast\", \"approx_balanced\" and \"approx_quality\"", Exact => "exact", Speed => "speed", ApproxFast => "approx_fast", ApproxBalanced => "approx_balanced", ApproxQuality => "approx_quality");

impl Limit {
    /// [`MaxCodes`] by whole lists; 0 is unlimited, as in faiss.
    pub const fn max_codes(max_codes: usize) -> Self {
        match max_codes {
            0 => Self::Unlimited,
            _ => Self::MaxCodes(MaxCodes::new(max_codes)),
        }
    }

    pub(crate) fn check(self) -> Result<Self> {
        match self {
            Self::MaxCodes(MaxCodes { max_codes: 0, .. }) => Err(illegal(
                "max_codes",
                0,
                "at least 1, or Limit::Unlimited to read everything",
            )),
            Self::Budget(Budget { rows: 0, .. }) => Err(illegal(
                "the rows of a budget",
                0,
                "at least 1, or Limit::Unlimited to read everything",
            )),
            Self::Budget(Budget {
                max_codes_per_list: Some(0),
                ..
            }) => Err(illegal("max_codes_per_list", 0, "at least 1")),
            Self::Budget(Budget {
                min_codes_per_list: least,
                max_codes_per_list: Some(most),
                ..
            }) if least > most => Err(illegal(
                "min_codes_per_list",
                least,
                "no more than max_codes_per_list",
            )),
            limit => Ok(limit),
        }
    }
}

/// Profiles and limits.
impl SearchParams {
    /// The defaults of a profile, for what neither these parameters nor the index say.
    pub fn of(profile: Profile) -> Self {
        match profile {
            Profile::Exact => Self::exact(),
            profile => Self {
                profile: Some(profile),
                ..Self::default()
            },
        }
    }

    /// Replaces the index's limit; [`Limit::Unlimited`] lifts it.
    #[must_use]
    pub fn with_limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Stops a query before the list that would exceed `max_codes` rows; 0 lifts the index's limit.
    #[must_use]
    pub fn with_max_codes(self, max_codes: usize) -> Self {
        self.with_limit(Limit::max_codes(max_codes))
    }

    /// Spreads a budget of rows over the probed lists; of each, rows near its centroid first unless a
    /// list ordering says otherwise.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        self.with_limit(Limit::Budget(budget))
    }

    /// Replaces the order in which rows of a list are read when a limit leaves some out.
    #[must_use]
    pub fn with_list_ordering(mut self, ordering: ListOrdering) -> Self {
        self.list_ordering = Some(ordering);
        self
    }

    /// Whether lists that cannot hold one of the k best are left out; the answer is the same.
    ///
    /// The nearest list is searched first; then a list is skipped when no row within its radius
    /// around its centroid can be as near as the k-th found. It pays where lists are well apart and
    /// many are probed. For L2, inner product and cosine; under L1 and Linf it is an error.
    #[must_use]
    pub fn with_safe_pruning(mut self, on: bool) -> Self {
        self.safe_pruning = Some(on);
        self
    }
}
