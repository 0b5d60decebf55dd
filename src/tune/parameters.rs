//! Parameters by name: text to [`SearchParams`] and back, as in faiss's `ParameterSpace`, and the
//! numeric ones that can be tuned.

use crate::{
    backend::IvfBackend,
    error::{Error, Result, illegal},
    index::IndexIvfFlat,
    params::{AutoRule, SearchParams},
};
use core::{fmt, str::FromStr};

/// A numeric search parameter of which more means better recall and more work.
///
/// A further one needs a variant, its name, and a line in each `match` below; whatever tunes or
/// explores then knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parameter {
    /// Lists read per query.
    Nprobe,
}

impl Parameter {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Nprobe];

    /// The name in parameter strings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nprobe => "nprobe",
        }
    }

    /// The value in `params`; `None` where it is left to the index.
    pub fn get(self, params: &SearchParams) -> Option<usize> {
        match self {
            Self::Nprobe => params.nprobe,
        }
    }

    /// Sets the value in `params`.
    pub fn set(self, params: &mut SearchParams, value: usize) {
        match self {
            Self::Nprobe => params.nprobe = Some(value),
        }
    }

    /// The largest value that makes a difference for `index`; with it a search is exhaustive as far
    /// as this parameter goes.
    pub fn most<B: IvfBackend>(self, index: &IndexIvfFlat<B>) -> usize {
        match self {
            Self::Nprobe => index.nlist().unwrap_or(1),
        }
    }

    /// The values worth a try: powers of two below [`most`](Self::most) (faiss's grid), at least 1.
    pub fn grid<B: IvfBackend>(self, index: &IndexIvfFlat<B>) -> Vec<usize> {
        let most = self.most(index).max(2);
        let powers = core::iter::successors(Some(1_usize), |value| value.checked_mul(2));
        powers.take_while(|&value| value < most).collect()
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
            expected: "\"nprobe\"",
        })
    }
}

/// The names a parameter string may hold.
const NAMES: &str = "\"nprobe\", \"mode\", \"auto_rule\", \"workspace_limit\" and \"counts\"";

/// `name=value` of everything that is set, with commas between; nothing where nothing is set.
/// [`FromStr`] reads it back.
impl fmt::Display for SearchParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Parameter::ALL
            .into_iter()
            .filter_map(|p| p.get(self).map(|value| format!("{p}={value}")))
            .collect();
        parts.extend(self.mode.map(|mode| format!("mode={mode}")));
        parts.extend(self.auto_rule.map(|rule| match rule {
            AutoRule::Measured => "auto_rule=measured".to_owned(),
            AutoRule::TorchIvf {
                avg_group_threshold,
            } => format!("auto_rule=torch-ivf:{avg_group_threshold}"),
        }));
        parts.extend(
            self.workspace_limit
                .map(|bytes| format!("workspace_limit={bytes}")),
        );
        parts.extend(self.counts.then(|| "counts=true".to_owned()));
        f.pad(&parts.join(","))
    }
}

/// `"nprobe=16"`, or several with commas (and blanks) between. Of a name given twice the last
/// counts, as in faiss.
///
/// ```
/// use burn_ivf::{SearchMode, SearchParams};
/// let params: SearchParams = "nprobe=16, mode=csr".parse()?;
/// assert_eq!(params, SearchParams::exact().with_nprobe(16).with_mode(SearchMode::Csr));
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
        "mode" => params.mode = Some(value.parse()?),
        "auto_rule" => params.auto_rule = Some(rule(value)?),
        "workspace_limit" => params.workspace_limit = Some(number("workspace_limit", value)?),
        "counts" => {
            params.counts = value
                .parse()
                .map_err(|_| illegal("counts", value, "true or false"))?;
        }
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
        let full = SearchParams::exact()
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
            Ok(SearchParams::exact().with_nprobe(5))
        );
        for rule in ["auto_rule=measured", "auto_rule=torch-ivf:8"] {
            let params: SearchParams = rule.parse().unwrap();
            assert_eq!(params.to_string(), rule);
        }
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
