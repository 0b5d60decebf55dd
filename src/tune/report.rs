//! What tuning found.

use super::{OperatingPoint, Parameter};
use crate::params::SearchParams;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The smallest value that promises the target, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuneReport {
    /// The parameters to search with.
    pub params: SearchParams,
    /// What was tuned.
    pub parameter: Parameter,
    /// The value chosen.
    pub value: usize,
    /// The recall asked for.
    pub target: f64,
    /// The mean recall that [`further`](Self::further) queries like the sample's reach with
    /// [`confidence`](Self::confidence); at least the target.
    pub promise: f64,
    /// How sure the promise and the interval of [`point`](Self::point) are.
    pub confidence: f64,
    /// Queries of the sample that have a neighbour.
    pub queries: usize,
    /// Queries the promise is about; `usize::MAX` for all there could be.
    pub further: usize,
    /// Recall of the sample and cost.
    pub point: OperatingPoint,
    /// Every value tried, ascending: those below the chosen one promise less than the target.
    pub trials: Vec<Trial>,
}

/// One value tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The value.
    pub value: usize,
    /// Mean recall of the sample.
    pub recall: f64,
    /// As [`TuneReport::promise`].
    pub promise: f64,
    /// Queries that count.
    pub queries: usize,
}

impl fmt::Display for TuneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, point) = (100.0 * self.confidence, &self.point);
        write!(
            f,
            "{}={}: recall {:.4} on {} queries ({:.4} to {:.4} in the mean, {percent} % sure), at least {:.4} on ",
            self.parameter,
            self.value,
            point.recall,
            self.queries,
            point.interval.0,
            point.interval.1,
            self.promise,
        )?;
        match self.further {
            usize::MAX => f.write_str("all further ones together")?,
            further => write!(f, "the next {further}")?,
        }
        write!(
            f,
            " ({percent} % sure; asked for {}); {:.0} rows and {:.1} µs per query",
            self.target,
            point.rows_per_query,
            point.seconds_per_query * 1e6,
        )
    }
}
