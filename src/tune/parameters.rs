//! Parameters by name: text to [`SearchParams`] and back, as in faiss's `ParameterSpace`, and the
//! numeric ones that can be tuned.

use crate::{
    backend::IvfBackend,
    error::{Error, Result, illegal},
    index::IndexIvfFlat,
    params::{AutoRule, Budget, BudgetStrategy, Limit, MaxCodes, MaxCodesRule, SearchParams},
};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// A numeric search parameter of which more means better recall and more work.
///
/// A further one needs a variant, its name, and a line in each `match` below; whatever tunes or
/// explores then knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Parameter {
    /// Lists read per query.
    Nprobe,
    /// Rows at which a query stops reading lists ([`MaxCodes`]); 0 lifts any limit.
    MaxCodes,
    /// Rows per query over all its lists ([`Budget`]); 0 lifts any limit. Takes the place of
    /// `MaxCodes`, and that of this.
    CandidateBudget,
}

impl Parameter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nprobe, Self::MaxCodes, Self::CandidateBudget];

    /// The name in parameter strings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nprobe => "nprobe",
            Self::MaxCodes => "max_codes",
            Self::CandidateBudget => "candidate_budget",
        }
    }

    /// The value in `params`; `None` where it is left to the index.
    pub fn get(self, params: &SearchParams) -> Option<usize> {
        match (self, params.limit) {
            (Self::Nprobe, _) => params.nprobe,
            (Self::MaxCodes, Some(Limit::MaxCodes(limit))) => Some(limit.max_codes),
            (Self::MaxCodes, Some(Limit::Unlimited)) => Some(0),
            (Self::CandidateBudget, Some(Limit::Budget(budget))) => Some(budget.rows),
            _ => None,
        }
    }

    /// Sets the value in `params`. The other fields of a limit stay when it is of this kind.
    pub fn set(self, params: &mut SearchParams, value: usize) {
        match (self, params.limit) {
            (Self::Nprobe, _) => params.nprobe = Some(value),
            (_, _) if value == 0 => params.limit = Some(Limit::Unlimited),
            (Self::MaxCodes, limit) => {
                let mut new = MaxCodes::new(value);
                if let Some(Limit::MaxCodes(old)) = limit {
                    (new.rule, new.ensure_topk_full) = (old.rule, old.ensure_topk_full);
                }
                params.limit = Some(Limit::MaxCodes(new));
            }
            (Self::CandidateBudget, limit) => {
                let mut new = Budget::uniform(value);
                if let Some(Limit::Budget(old)) = limit {
                    new = Budget { rows: value, ..old };
                }
                params.limit = Some(Limit::Budget(new));
            }
        }
    }

    /// The largest value that makes a difference for `index`; with it a search is exhaustive as far
    /// as this parameter goes.
    pub fn most<B: IvfBackend>(self, index: &IndexIvfFlat<B>) -> usize {
        let nlist = index.nlist().unwrap_or(1);
        match self {
            Self::Nprobe => nlist,
            Self::MaxCodes => index.ntotal().max(1),
            // an even share must be enough for the longest list
            Self::CandidateBudget => {
                let longest = index.list_sizes().into_iter().max().unwrap_or(0);
                nlist.saturating_mul(longest).max(1)
            }
        }
    }

    /// The values worth a try: powers of two below [`most`](Self::most) (faiss's grid), at least 1.
    pub fn grid<B: IvfBackend>(self, index: &IndexIvfFlat<B>) -> Vec<usize> {
        let most = self.most(index).max(2);
        let powers = core::iter::successors(Some(1_usize), |value| value.checked_mul(2));
        powers.take_while(|&value| value < most).collect()
    }

    /// Whether only one of the two can be set.
    pub(super) fn replaces(self, other: Self) -> bool {
        self == other || (self != Self::Nprobe && other != Self::Nprobe)
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Parameter {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| Error::UnknownName {
            what: "numeric search parameter",
            name: name.to_owned(),
            expected: "\"nprobe\", \"max_codes\" and \"candidate_budget\"",
        })
    }
}

/// The names a parameter string may hold.
const NAMES: &str = "\"nprobe\", \"max_codes\", \"max_codes_rule\", \"ensure_topk_full\", \"candidate_budget\", \"budget_strategy\", \"min_codes_per_list\", \"max_codes_per_list\", \"strict_budget\", \"profile\", \"list_ordering\", \"safe_pruning\", \"mode\", \"auto_rule\", \"workspace_limit\" and \"counts\"";

/// `name=value` of everything that is set, with commas between; nothing where nothing is set.
/// [`FromStr`] reads it back. A selection of ids has no name and is left out; a limit that is lifted
/// is faiss's `max_codes=0`.
impl fmt::Display for SearchParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut part = |name: &str, value: &dyn fmt::Display| parts.push(format!("{name}={value}"));
        for parameter in Parameter::ALL {
            if let Some(value) = parameter.get(self) {
                part(parameter.name(), &value);
            }
        }
        match self.limit {
            Some(Limit::MaxCodes(limit)) => {
                if limit.rule != MaxCodesRule::default() {
                    part("max_codes_rule", &limit.rule);
                }
                if limit.ensure_topk_full {
                    part("ensure_topk_full", &true);
                }
            }
            Some(Limit::Budget(budget)) => {
                if budget.strategy != BudgetStrategy::default() {
                    part("budget_strategy", &strategy_name(budget.strategy));
                }
                if budget.min_codes_per_list > 0 {
                    part("min_codes_per_list", &budget.min_codes_per_list);
                }
                if let Some(rows) = budget.max_codes_per_list {
                    part("max_codes_per_list", &rows);
                }
                if budget.strict {
                    part("strict_budget", &true);
                }
            }
            Some(Limit::Unlimited) | None => {}
        }
        if let Some(profile) = self.profile {
            part("profile", &profile);
        }
        if let Some(ordering) = self.list_ordering {
            part("list_ordering", &ordering);
        }
        if let Some(on) = self.safe_pruning {
            part("safe_pruning", &on);
        }
        if let Some(mode) = self.mode {
            part("mode", &mode);
        }
        match self.auto_rule {
            Some(AutoRule::Measured) => part("auto_rule", &"measured"),
            Some(AutoRule::TorchIvf {
                avg_group_threshold: threshold,
            }) => part("auto_rule", &format_args!("torch-ivf:{threshold}")),
            None => {}
        }
        if let Some(bytes) = self.workspace_limit {
            part("workspace_limit", &bytes);
        }
        if self.counts {
            part("counts", &true);
        }
        f.pad(&parts.join(","))
    }
}

fn strategy_name(strategy: BudgetStrategy) -> &'static str {
    match strategy {
        BudgetStrategy::Uniform => "uniform",
        BudgetStrategy::DistanceWeighted {
            dynamic_nprobe: false,
        } => "distance_weighted",
        BudgetStrategy::DistanceWeighted {
            dynamic_nprobe: true,
        } => "dynamic_nprobe",
    }
}

/// `"nprobe=16"`, or several with commas (and blanks) between. Of a name given twice the last
/// counts, as in faiss. What belongs to a limit follows it: `"max_codes=1000,max_codes_rule=exact_codes"`.
///
/// ```
/// use burn_ivf::{SearchMode, SearchParams};
/// let params: SearchParams = "nprobe=16, mode=csr".parse()?;
/// assert_eq!(params, SearchParams::default().with_nprobe(16).with_mode(SearchMode::Csr));
/// assert_eq!(params.to_string(), "nprobe=16,mode=csr");
/// assert!("nprob=16".parse::<SearchParams>().is_err());
/// # Ok::<(), burn_ivf::Error>(())
/// ```
impl FromStr for SearchParams {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut params = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                illegal("search parameter", part, "name=value, e.g. \"nprobe=16\"")
            })?;
            set(&mut params, name.trim(), value.trim())?;
        }
        Ok(params)
    }
}

fn set(params: &mut SearchParams, name: &str, value: &str) -> Result<()> {
    if let Ok(parameter) = name.parse::<Parameter>() {
        parameter.set(params, number(parameter.name(), value)?);
        return Ok(());
    }
    match name {
        "max_codes_rule" => max_codes(params, name)?.rule = value.parse()?,
        "ensure_topk_full" => {
            max_codes(params, name)?.ensure_topk_full = flag("ensure_topk_full", value)?;
        }
        "budget_strategy" => budget(params, name)?.strategy = strategy(value)?,
        "min_codes_per_list" => {
            budget(params, name)?.min_codes_per_list = number("min_codes_per_list", value)?;
        }
        "max_codes_per_list" => {
            budget(params, name)?.max_codes_per_list = Some(number("max_codes_per_list", value)?);
        }
        "strict_budget" => budget(params, name)?.strict = flag("strict_budget", value)?,
        "profile" => params.profile = Some(value.parse()?),
        "list_ordering" => params.list_ordering = Some(value.parse()?),
        "safe_pruning" => params.safe_pruning = Some(flag("safe_pruning", value)?),
        "mode" => params.mode = Some(value.parse()?),
        "auto_rule" => params.auto_rule = Some(rule(value)?),
        "workspace_limit" => params.workspace_limit = Some(number("workspace_limit", value)?),
        "counts" => params.counts = flag("counts", value)?,
        _ => {
            return Err(Error::UnknownName {
                what: "search parameter",
                name: name.to_owned(),
                expected: NAMES,
            });
        }
    }
    Ok(())
}

fn max_codes<'a>(params: &'a mut SearchParams, name: &str) -> Result<&'a mut MaxCodes> {
    match &mut params.limit {
        Some(Limit::MaxCodes(limit)) => Ok(limit),
        _ => Err(illegal(
            "search parameter",
            name,
            "max_codes=rows before it",
        )),
    }
}

fn budget<'a>(params: &'a mut SearchParams, name: &str) -> Result<&'a mut Budget> {
    match &mut params.limit {
        Some(Limit::Budget(budget)) => Ok(budget),
        _ => Err(illegal(
            "search parameter",
            name,
            "candidate_budget=rows before it",
        )),
    }
}

fn strategy(value: &str) -> Result<BudgetStrategy> {
    let all =
        [false, true].map(|dynamic_nprobe| BudgetStrategy::DistanceWeighted { dynamic_nprobe });
    let mut all = all.into_iter().chain([BudgetStrategy::Uniform]);
    all.find(|&strategy| strategy_name(strategy) == value)
        .ok_or_else(|| Error::UnknownName {
            what: "budget strategy",
            name: value.to_owned(),
            expected: "\"uniform\", \"distance_weighted\" and \"dynamic_nprobe\"",
        })
}

fn flag(name: &'static str, value: &str) -> Result<bool> {
    value
        .parse()
        .map_err(|_| illegal(name, value, "true or false"))
}

fn number(name: &'static str, value: &str) -> Result<usize> {
    value
        .parse()
        .map_err(|_| illegal(name, value, "a whole number"))
}

fn rule(value: &str) -> Result<AutoRule> {
    let torch = value.strip_prefix("torch-ivf");
    match (value, torch, torch.and_then(|rest| rest.strip_prefix(':'))) {
        ("measured", ..) => Ok(AutoRule::Measured),
        (_, Some(""), _) => Ok(AutoRule::torch_ivf()),
        (_, _, Some(threshold)) => match threshold.parse() {
            Ok(avg_group_threshold) => AutoRule::TorchIvf {
                avg_group_threshold,
            }
            .check(),
            Err(_) => Err(illegal("avg_group_threshold", threshold, "a number")),
        },
        _ => Err(Error::UnknownName {
            what: "auto rule",
            name: value.to_owned(),
            expected: "\"measured\", \"torch-ivf\" and \"torch-ivf:threshold\"",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::SearchMode;

    #[test]
    fn strings_and_parameters() {
        let full = SearchParams::default()
            .with_nprobe(7)
            .with_mode(SearchMode::Matrix)
            .with_auto_rule(AutoRule::TorchIvf {
                avg_group_threshold: 2.5,
            })
            .with_workspace_limit(1 << 20)
            .with_counts();
        let text =
            "nprobe=7,mode=matrix,auto_rule=torch-ivf:2.5,workspace_limit=1048576,counts=true";
        assert_eq!(full.to_string(), text);
        assert_eq!(text.parse(), Ok(full));
        assert_eq!("".parse(), Ok(SearchParams::default()));
        assert_eq!(SearchParams::default().to_string(), "");
        assert_eq!(
            " nprobe = 3 ,, nprobe=5 , ".parse(),
            Ok(SearchParams::default().with_nprobe(5))
        );
        assert_eq!(SearchParams::exact().to_string(), "max_codes=0");
        for text in [
            "auto_rule=measured",
            "auto_rule=torch-ivf:8",
            "max_codes=0",
            "nprobe=4,max_codes=100",
            "max_codes=9,max_codes_rule=exact_codes,ensure_topk_full=true,list_ordering=projection",
            "candidate_budget=50",
            "candidate_budget=50,budget_strategy=dynamic_nprobe,min_codes_per_list=2,max_codes_per_list=9,strict_budget=true",
            "profile=approx_fast,safe_pruning=false",
        ] {
            let params: SearchParams = text.parse().unwrap();
            assert_eq!(params.to_string(), text);
            assert_eq!(params.to_string().parse(), Ok(params));
        }
        let exact: SearchParams = "max_codes=5,max_codes=0".parse().unwrap();
        assert_eq!(exact, SearchParams::exact());
    }

    /// I9: a name that is no parameter is an error with the names that are.
    #[test]
    fn wrong_strings_say_what_would_be_right() {
        for (text, words) in [
            ("ht=3", &["ht", "nprobe", "workspace_limit"][..]),
            ("nprobe", &["nprobe=16"]),
            ("nprobe=x", &["nprobe", "\"x\"", "whole number"]),
            ("nprobe=-1", &["-1", "whole number"]),
            ("mode=fast", &["fast", "csr"]),
            ("auto_rule=best", &["best", "measured"]),
            ("auto_rule=torch-ivf:0", &["avg_group_threshold"]),
            ("counts=1", &["true or false"]),
            ("max_codes_rule=exact_codes", &["max_codes=rows"]),
            ("max_codes=3,strict_budget=true", &["candidate_budget=rows"]),
            (
                "candidate_budget=3,budget_strategy=fair",
                &["fair", "uniform"],
            ),
            ("profile=slow", &["approx_fast"]),
        ] {
            let error = text.parse::<SearchParams>().unwrap_err().to_string();
            for word in words.iter().map(|word| word.trim_matches('"')) {
                assert!(error.contains(word), "{text:?}: {error}");
            }
        }
        assert!("mode".parse::<Parameter>().is_err());
        assert_eq!("nprobe".parse(), Ok(Parameter::Nprobe));
    }
}
