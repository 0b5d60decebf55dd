//! Many settings on one sample, and those worth having (faiss's `ParameterSpace` and
//! `OperatingPoints`).

use super::Parameter;
use crate::{backend::IvfBackend, index::IndexIvfFlat, params::SearchParams};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Which values of which parameters to try: every combination of them.
///
/// ```
/// use burn_ivf::{Parameter, ParameterSpace, SearchParams};
/// let space = ParameterSpace::new().with(Parameter::Nprobe, [1, 4, 16]);
/// let names: Vec<_> = space.combinations(&SearchParams::default()).iter().map(|p| p.to_string()).collect();
/// assert_eq!(names, ["nprobe=1", "nprobe=4", "nprobe=16"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ParameterSpace {
    axes: Vec<(Parameter, Vec<usize>)>,
}

impl ParameterSpace {
    /// No parameter yet: one combination, that of the common parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// nprobe = 1, 2, 4, ... below nlist: faiss's grid for an inverted file.
    pub fn of<B: IvfBackend>(index: &IndexIvfFlat<B>) -> Self {
        Self::new().with(Parameter::Nprobe, Parameter::Nprobe.grid(index))
    }

    /// Tries these values of a parameter, in place of those it had, and of a parameter that cannot
    /// be set beside it (`MaxCodes` and `CandidateBudget`).
    #[must_use]
    pub fn with(mut self, parameter: Parameter, values: impl IntoIterator<Item = usize>) -> Self {
        let values = values.into_iter().collect();
        self.axes.retain(|axis| !parameter.replaces(axis.0));
        self.axes.push((parameter, values));
        self
    }

    /// All combinations, set over `common`; the parameter added last changes fastest.
    pub fn combinations(&self, common: &SearchParams) -> Vec<SearchParams> {
        let mut all = vec![common.clone()];
        for (parameter, values) in &self.axes {
            let set = |params: &SearchParams| {
                let params = params.clone();
                values.iter().map(move |&value| {
                    let mut params = params.clone();
                    parameter.set(&mut params, value);
                    params
                })
            };
            all = all.iter().flat_map(set).collect();
        }
        all
    }
}

/// What one setting finds and costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// The setting.
    pub params: SearchParams,
    /// Mean recall@k of the sample.
    pub recall: f64,
    /// Holds the mean recall of all queries like these with
    /// [`TuneOptions::confidence`](super::TuneOptions::confidence).
    pub interval: (f64, f64),
    /// Stored vectors compared per query.
    pub rows_per_query: f64,
    /// Wall time per query, searched in batches of
    /// [`TuneOptions::batch`](super::TuneOptions::batch), answers read.
    pub seconds_per_query: f64,
}

impl fmt::Display for OperatingPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: recall {:.4} ({:.4} to {:.4}), {:.0} rows and {:.1} µs per query",
            self.params,
            self.recall,
            self.interval.0,
            self.interval.1,
            self.rows_per_query,
            self.seconds_per_query * 1e6,
        )
    }
}

/// The points that no other one beats in both time and recall, quickest first: recall rises
/// strictly from each to the next. Of equal points the first stays.
pub fn pareto(points: &[OperatingPoint]) -> Vec<OperatingPoint> {
    let mut sorted: Vec<&OperatingPoint> = points.iter().collect();
    sorted.sort_by(|a, b| {
        let time = a.seconds_per_query.total_cmp(&b.seconds_per_query);
        time.then(b.recall.total_cmp(&a.recall))
    });
    let mut best = f64::NEG_INFINITY;
    sorted.retain(|point| {
        let better = point.recall > best;
        best = best.max(point.recall);
        better
    });
    sorted.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(recall: f64, seconds: f64) -> OperatingPoint {
        OperatingPoint {
            params: SearchParams::default(),
            recall,
            interval: (recall, recall),
            rows_per_query: 0.0,
            seconds_per_query: seconds,
        }
    }

    #[test]
    fn dominated_points_leave() {
        let points = [
            point(0.9, 3.0),
            point(0.5, 1.0),
            point(0.8, 4.0), // slower and worse than the first
            point(0.6, 1.0), // as quick as the second, and better
            point(0.9, 3.5), // as good as the first, and slower
            point(1.0, 9.0),
        ];
        let front: Vec<(f64, f64)> = pareto(&points)
            .iter()
            .map(|p| (p.recall, p.seconds_per_query))
            .collect();
        assert_eq!(front, [(0.6, 1.0), (0.9, 3.0), (1.0, 9.0)]);
        assert!(pareto(&[]).is_empty());
    }

    #[test]
    fn spaces_combine() {
        let common = SearchParams::default().with_workspace_limit(1 << 20);
        let empty = ParameterSpace::new().combinations(&common);
        assert_eq!(empty, core::slice::from_ref(&common));
        let space = ParameterSpace::new()
            .with(Parameter::Nprobe, [9])
            .with(Parameter::Nprobe, [1, 2]);
        let expected = [common.clone().with_nprobe(1), common.clone().with_nprobe(2)];
        assert_eq!(space.combinations(&common), expected);
        let both = space
            .with(Parameter::CandidateBudget, [7])
            .with(Parameter::MaxCodes, [10, 20]);
        let names: Vec<String> = both
            .combinations(&SearchParams::default())
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = [
            "nprobe=1,max_codes=10",
            "nprobe=1,max_codes=20",
            "nprobe=2,max_codes=10",
            "nprobe=2,max_codes=20",
        ];
        assert_eq!(names, expected);
    }
}
