//! Tuning: the cheapest setting of an inverted file that reaches a goal, on its user's own queries.
//!
//! [`Tuner`] holds an index, a sample of queries and their true neighbours, and searches. It owns no
//! search of its own and changes no index: what it returns are [`SearchParams`] and what they cost.
//! `bound.rs` says how sure a measured recall is, `parameters.rs` what can be set and by which name.

mod bound;
mod explore;
mod nlist;
mod parameters;
mod report;

pub use explore::{OperatingPoint, ParameterSpace, pareto};
pub use nlist::suggest_nlist;
pub use parameters::Parameter;
pub use report::{Trial, TuneReport};

use crate::{
    backend::{IvfBackend, select_rows},
    error::{Error, Result, illegal},
    index::{IndexIvfFlat, check_k},
    params::{Limit, SearchParams},
    selector::Selection,
};
use bound::Observed;
use burn::tensor::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How to tune.
///
/// ```
/// use burn_ivf::{SearchParams, TuneOptions};
/// let options = TuneOptions {
///     confidence: 0.95,
///     params: SearchParams::default().with_workspace_limit(64 << 20),
///     ..TuneOptions::default()
/// };
/// assert_eq!(options.repeats, 3);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TuneOptions {
    /// How sure the promise and the intervals are to be, in [0.5, 1): 0.99.
    pub confidence: f64,
    /// How many further queries the promise is about: their mean recall reaches the target with
    /// `confidence`. `None`: as many as the sample has. `usize::MAX`: the mean over all queries
    /// there could be. The fewer, the more their mean may stray, and the more is read.
    pub further: Option<usize>,
    /// Queries used at most, drawn at random from those given: 4096.
    pub sample: usize,
    /// Queries per search; recall does not depend on it, time does. `None`: the whole sample.
    pub batch: Option<usize>,
    /// Searches whose median is the measured time, after the one that measures recall: 3.
    pub repeats: usize,
    /// What random choices depend on: which queries are drawn, and the bounds.
    pub seed: u64,
    /// What all searches have in common (a selector, an ordering, nprobe when a limit is tuned);
    /// what is tuned is set over it. The index's own truth keeps the selector and lifts limits.
    pub params: SearchParams,
    /// What [`Tuner::tune`] looks for the smallest value of.
    pub parameter: Parameter,
    /// True neighbours of all queries given; `None`: those an exhaustive search of the index finds.
    pub truth: Option<GroundTruth>,
}

impl Default for TuneOptions {
    fn default() -> Self {
        Self {
            confidence: 0.99,
            further: None,
            sample: 4096,
            batch: None,
            repeats: 3,
            seed: 0x7e5e,
            params: SearchParams::default(),
            parameter: Parameter::Nprobe,
            truth: None,
        }
    }
}

/// The true neighbours of queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// Ids, row-major `[nq, width]`, best first; -1 where there are fewer.
    pub ids: Vec<i64>,
    /// Ids per query, at least k.
    pub width: usize,
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// The smallest nprobe with which queries like these reach `target` (above 0, at most 1) as
    /// their mean recall@`k`: the share of the `k` true neighbours found.
    ///
    /// The choice is made to hold for queries not seen: the *promise*, a lower bound for the mean
    /// recall of further queries ([`TuneOptions::further`], [`TuneOptions::confidence`]), must reach
    /// the target, so the recall of the sample lies above it. A larger sample needs less margin. One
    /// exhaustive search of the sample, unless the truth is passed, and about 2·log₂(nprobe) others.
    /// [`Tuner`] is for several goals on one sample.
    ///
    /// ```
    /// use burn::{backend::NdArray, tensor::{Distribution, Tensor}};
    /// use burn_ivf::{IndexIvfFlat, TuneOptions};
    /// let device = Default::default();
    /// let x = Tensor::<NdArray, 2>::random([4000, 8], Distribution::Default, &device);
    /// let mut index = IndexIvfFlat::<NdArray>::builder(8).nlist(40).build(&device)?;
    /// index.train(x.clone())?;
    /// index.add(x)?;
    /// let like_yours = Tensor::random([500, 8], Distribution::Default, &device);
    /// let report = index.tune_for_recall(like_yours.clone(), 10, 0.9, &TuneOptions::default())?;
    /// assert!(report.promise >= 0.9 && report.value < 40);
    /// let hits = index.search_with(like_yours, 10, &report.params)?;  // or index.set_nprobe(report.value)
    /// # Ok::<(), burn_ivf::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a search; illegal options; no query with a neighbour; [`Error::TargetNotReached`]
    /// when even reading everything does not reach the target (which takes a truth passed in).
    pub fn tune_for_recall(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        target: f64,
        options: &TuneOptions,
    ) -> Result<TuneReport> {
        Tuner::new(self, queries, k, options)?.tune(target)
    }

    /// Recall and cost of every combination of `space`, in its order; [`pareto`] picks those worth
    /// having.
    ///
    /// # Errors
    /// As [`tune_for_recall`](Self::tune_for_recall).
    pub fn explore(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        space: &ParameterSpace,
        options: &TuneOptions,
    ) -> Result<Vec<OperatingPoint>> {
        Tuner::new(self, queries, k, options)?.explore(space)
    }
}

/// An index, a sample of queries and what is true for them; measures settings.
///
/// ```
/// use burn::{backend::NdArray, tensor::{Distribution, Tensor}};
/// use burn_ivf::{IndexIvfFlat, TuneOptions, Tuner};
/// # let device = Default::default();
/// # let x = Tensor::<NdArray, 2>::random([3000, 8], Distribution::Default, &device);
/// # let mut index = IndexIvfFlat::<NdArray>::builder(8).nlist(30).build(&device)?;
/// # index.train(x.clone())?;
/// # index.add(x)?;
/// # let queries = Tensor::random([400, 8], Distribution::Default, &device);
/// // presets of one's own: the sample is searched exhaustively once
/// let tuner = Tuner::new(&index, queries, 10, &TuneOptions::default())?;
/// let [fast, balanced] = [tuner.tune(0.8)?, tuner.tune(0.95)?];
/// assert!(fast.value <= balanced.value);
/// println!("{fast}\n{balanced}");
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tuner<'a, B: IvfBackend> {
    index: &'a IndexIvfFlat<B>,
    queries: Tensor<B, 2>,
    k: usize,
    truth: GroundTruth,
    /// Whether `truth` is the index's own, so that an exhaustive search is right by definition.
    own_truth: bool,
    options: TuneOptions,
}

impl<'a, B: IvfBackend> Tuner<'a, B> {
    /// Draws the sample from `queries`, `[nq, d]`, and finds its true neighbours.
    ///
    /// # Errors
    /// As [`IndexIvfFlat::tune_for_recall`].
    pub fn new(
        index: &'a IndexIvfFlat<B>,
        queries: Tensor<B, 2>,
        k: usize,
        options: &TuneOptions,
    ) -> Result<Self> {
        check(options)?;
        let [nq, found] = queries.dims();
        // All of the sample's results are held, in whatever batches they come.
        check_k(nq, k)?;
        if found != index.d() {
            return Err(Error::DimensionMismatch {
                what: "queries",
                expected: index.d(),
                found,
            });
        }
        if let Some(truth) = &options.truth {
            truth.check(nq, k)?;
        }
        let chosen = draw(nq, options.sample, options.seed);
        let mut tuner = Self {
            index,
            queries: select_rows(&queries, &chosen),
            k,
            truth: GroundTruth {
                ids: Vec::new(),
                width: k,
            },
            own_truth: options.truth.is_none(),
            options: TuneOptions {
                truth: None,
                ..options.clone()
            },
        };
        if let Some(truth) = &options.truth {
            tuner.truth = truth.pick(&chosen);
        } else {
            tuner.truth.ids = tuner.search(&tuner.exhaustive(), false)?.labels;
        }
        let asked = |row: &[i64]| row[..k].iter().any(|&id| id != -1);
        if !tuner.truth.rows().any(asked) {
            return Err(illegal(
                "queries",
                format!("{nq} without a true neighbour"),
                "at least one query with a neighbour; add vectors to the index, pass queries",
            ));
        }
        Ok(tuner)
    }

    /// The smallest value of [`TuneOptions::parameter`] that promises `target` (above 0, at most 1).
    ///
    /// Doubles the value until the promise reaches the target, then halves the gap. The promise
    /// grows with nprobe and with max_codes, so values in between need no look (a budget's shares
    /// are rounded, so for it this holds but for a row here or there).
    ///
    /// # Errors
    /// As [`IndexIvfFlat::tune_for_recall`].
    pub fn tune(&self, target: f64) -> Result<TuneReport> {
        if !(target > 0.0 && target <= 1.0) {
            return Err(illegal("target", target, "above 0 and at most 1"));
        }
        let parameter = self.options.parameter;
        let most = parameter.most(self.index);
        let mut trials = Vec::new();
        let mut attempt = |value: usize| -> Result<bool> {
            let trial = self.attempt(value)?;
            let reached = trial.promise >= target;
            trials.push(trial);
            Ok(reached)
        };
        let (mut low, mut high) = (0, 1.min(most));
        while !attempt(high)? {
            if high == most {
                let best = &trials[trials.len() - 1];
                return Err(Error::TargetNotReached {
                    target,
                    recall: best.recall,
                    promise: best.promise,
                    queries: best.queries,
                });
            }
            low = high;
            high = high.saturating_mul(2).min(most);
        }
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if attempt(middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        trials.sort_by_key(|trial| trial.value);
        self.report(target, high, trials)
    }

    /// Recall and cost of every combination of `space`, in its order.
    ///
    /// # Errors
    /// Those of a search.
    pub fn explore(&self, space: &ParameterSpace) -> Result<Vec<OperatingPoint>> {
        let settings = space.combinations(&self.options.params);
        settings.iter().map(|params| self.measure(params)).collect()
    }

    /// Recall and cost of one setting, which is used as it is.
    ///
    /// # Errors
    /// Those of a search.
    pub fn measure(&self, params: &SearchParams) -> Result<OperatingPoint> {
        let counted = self.search(&params.clone().with_counts(), false)?;
        let seen = self.observe(&counted.labels);
        let (confidence, seed) = (self.options.confidence, self.options.seed);
        let mut seconds = Vec::new();
        for _ in 0..self.options.repeats {
            seconds.push(self.search(params, true)?.seconds);
        }
        seconds.sort_by(f64::total_cmp);
        let nq = self.queries.dims()[0] as f64;
        Ok(OperatingPoint {
            params: params.clone(),
            recall: seen.mean(),
            interval: if self.certain(params, &seen) {
                (1.0, 1.0)
            } else {
                seen.interval(confidence, seed)
            },
            rows_per_query: counted.rows as f64 / nq,
            seconds_per_query: seconds[seconds.len() / 2] / nq,
        })
    }

    fn report(&self, target: f64, value: usize, trials: Vec<Trial>) -> Result<TuneReport> {
        let params = self.with(value);
        let chosen = trials.iter().find(|trial| trial.value == value);
        let (promise, queries) = chosen.map_or((0.0, 0), |trial| (trial.promise, trial.queries));
        Ok(TuneReport {
            point: self.measure(&params)?,
            parameter: self.options.parameter,
            value,
            params,
            target,
            promise,
            confidence: self.options.confidence,
            queries,
            further: self.options.further.unwrap_or(queries),
            trials,
        })
    }

    fn attempt(&self, value: usize) -> Result<Trial> {
        let params = self.with(value);
        let seen = self.observe(&self.search(&params, false)?.labels);
        let TuneOptions {
            confidence, seed, ..
        } = self.options;
        Ok(Trial {
            value,
            recall: seen.mean(),
            promise: if self.certain(&params, &seen) {
                1.0
            } else {
                let further = self.options.further.unwrap_or(seen.n());
                seen.least(confidence, further, seed)
            },
            queries: seen.n(),
        })
    }

    fn with(&self, value: usize) -> SearchParams {
        let mut params = self.options.params.clone();
        self.options.parameter.set(&mut params, value);
        params
    }

    /// The common parameters with nothing left out.
    fn exhaustive(&self) -> SearchParams {
        let mut params = self.options.params.clone().with_limit(Limit::Unlimited);
        Parameter::Nprobe.set(&mut params, Parameter::Nprobe.most(self.index));
        params
    }

    /// Whether these parameters find every true neighbour of any query, by definition.
    fn certain(&self, params: &SearchParams, seen: &Observed) -> bool {
        let profile = params.profile.unwrap_or_default().budget();
        let whole = match params.limit.unwrap_or_else(|| self.index.limit()) {
            Limit::Unlimited => params.limit.is_some() || profile.is_none(),
            Limit::MaxCodes(limit) => limit.max_codes >= self.index.ntotal(),
            Limit::Budget(_) => false,
        };
        let nprobe = params.nprobe.unwrap_or_else(|| self.index.nprobe());
        let all = nprobe >= Parameter::Nprobe.most(self.index);
        self.own_truth && seen.perfect() && whole && all
    }

    /// Recall of every query that has a neighbour.
    fn observe(&self, labels: &[i64]) -> Observed {
        let found = labels.chunks_exact(self.k);
        let recalls: Vec<f64> = self
            .truth
            .rows()
            .zip(found)
            .filter_map(|(truth, found)| share(&truth[..self.k], found))
            .collect();
        Observed::new(&recalls)
    }

    /// Searches the sample batch by batch and waits for the answers.
    fn search(&self, params: &SearchParams, time: bool) -> Result<Searched> {
        let [nq, d] = self.queries.dims();
        let batch = self.options.batch.unwrap_or(nq).max(1);
        let mut all = Searched::default();
        for start in (0..nq).step_by(batch) {
            let queries = self.queries.clone();
            let queries = queries.slice([start..(start + batch).min(nq), 0..d]);
            let begin = Instant::now();
            let result = self.index.search_with(queries, self.k, params)?;
            let labels = crate::backend::read_int(result.labels)?;
            all.seconds += begin.elapsed().as_secs_f64();
            all.rows += result.stats.rows_scanned.unwrap_or(0);
            if !time {
                all.labels.extend(labels);
            }
        }
        Ok(all)
    }
}

/// What searches of the whole sample gave.
#[derive(Default)]
struct Searched {
    /// Row-major `[nq, k]`; empty where only time was asked for.
    labels: Vec<i64>,
    rows: u64,
    seconds: f64,
}

impl GroundTruth {
    fn check(&self, nq: usize, k: usize) -> Result<()> {
        if self.width < k {
            let least = "at least k ids per query";
            return Err(illegal("truth width", self.width, least));
        }
        if nq.checked_mul(self.width) != Some(self.ids.len()) {
            return Err(Error::ShapeMismatch {
                what: "true neighbours",
                expected: format!("[{nq}, {}]", self.width),
                found: vec![self.ids.len() / self.width, self.width],
            });
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = &[i64]> {
        self.ids.chunks_exact(self.width)
    }

    fn pick(&self, rows: &[u32]) -> Self {
        let row = |&row: &u32| &self.ids[row as usize * self.width..][..self.width];
        Self {
            ids: rows.iter().flat_map(row).copied().collect(),
            width: self.width,
        }
    }
}

/// More searches of a sample than anyone waits for.
const MAX_REPEATS: usize = 1_000_000;

fn check(options: &TuneOptions) -> Result<()> {
    let confidence = options.confidence;
    if !(0.5..1.0).contains(&confidence) {
        return Err(illegal(
            "confidence",
            confidence,
            "at least 0.5 and below 1",
        ));
    }
    if let Some(Selection::PerQuery { .. }) = options.params.selection {
        let shared =
            "one selector for all queries, since queries are drawn and searched in batches";
        return Err(illegal("selection", "per query", shared));
    }
    for (name, value) in [
        ("further", options.further.unwrap_or(1)),
        ("sample", options.sample),
        ("batch", options.batch.unwrap_or(1)),
        ("repeats", options.repeats),
    ] {
        if value == 0 {
            return Err(illegal(name, value, "at least 1"));
        }
    }
    if options.repeats > MAX_REPEATS {
        return Err(illegal("repeats", options.repeats, "at most 1000000"));
    }
    Ok(())
}

/// At most `most` of `nq` rows, ascending, each as likely as any other.
fn draw(nq: usize, most: usize, seed: u64) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..nq as u32).collect();
    if nq > most {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for i in 0..most {
            rows.swap(i, rng.random_range(i..nq));
        }
        rows.truncate(most);
        rows.sort_unstable();
    }
    rows
}

/// The share of true ids that were found; `None` where there are none.
fn share(truth: &[i64], found: &[i64]) -> Option<f64> {
    let mut found = found.to_vec();
    found.sort_unstable();
    let asked = truth.iter().filter(|&&id| id != -1).count();
    let hits = truth
        .iter()
        .filter(|&&id| id != -1 && found.binary_search(&id).is_ok())
        .count();
    (asked > 0).then(|| hits as f64 / asked as f64)
}
