//! Accuracy by neighbours as metrics of `burn-train`, for its dashboard and its logs.
//!
//! Knows how to keep a gallery and to hand numbers on; [`super::accuracy`] judges.

use super::{Labelled, class_recall_at_k, knn_accuracy};
use crate::{
    backend::IvfBackend,
    error::{Result, illegal},
    index::{Index, IndexFlat},
    metric::Metric as Distance,
};
use burn::tensor::{Int, Tensor};
use burn_train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
    state::{FormatOptions, NumericMetricState},
};
use std::sync::{Arc, PoisonError, RwLock};

/// An index that metrics search, with the classes of its rows; clones share it.
///
/// Put the embeddings of another set there (those of the training set, say), again whenever the
/// encoder has moved; metrics built over it then judge validation batches by it.
#[derive(Clone)]
pub struct Gallery<B: IvfBackend>(Arc<RwLock<Option<Hung<B>>>>);

struct Hung<B: IvfBackend> {
    index: Box<dyn Index<B>>,
    row_classes: Tensor<B, 1, Int>,
}

impl<B: IvfBackend> Default for Gallery<B> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<B: IvfBackend> Gallery<B> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is there by an index and the class of its id `r` at place `r`.
    pub fn set(&self, index: impl Index<B> + 'static, row_classes: Tensor<B, 1, Int>) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Hung {
            index: Box::new(index),
            row_classes,
        });
    }
}

type Judge<B> = fn(&dyn Index<B>, Tensor<B, 1, Int>, &Labelled<B>, usize) -> Result<f64>;

/// Where neighbours are looked for.
#[derive(Clone)]
enum Source<B: IvfBackend> {
    Gallery(Gallery<B>),
    /// The batches seen since the last `clear`.
    Seen {
        distance: Distance,
        rows: Option<(IndexFlat<B>, Tensor<B, 1, Int>)>,
    },
}

/// What both metrics are.
#[derive(Clone)]
struct Judged<B: IvfBackend> {
    name: MetricName,
    k: usize,
    source: Source<B>,
    state: NumericMetricState,
    judge: Judge<B>,
}

impl<B: IvfBackend> Judged<B> {
    fn new(name: String, k: usize, source: Source<B>, judge: Judge<B>) -> Self {
        Self {
            name: MetricName::new(name),
            k,
            source,
            state: NumericMetricState::new(),
            judge,
        }
    }

    fn percent(&mut self, batch: &Labelled<B>) -> Result<f64> {
        let share = match &mut self.source {
            Source::Gallery(gallery) => {
                let hung = gallery.0.read().unwrap_or_else(PoisonError::into_inner);
                let hung = hung.as_ref().ok_or_else(|| {
                    illegal("gallery", "empty", "an index; call Gallery::set() first")
                })?;
                (self.judge)(&*hung.index, hung.row_classes.clone(), batch, self.k)
            }
            Source::Seen { distance, rows } => {
                let (x, classes) = (batch.embeddings.clone(), batch.classes.clone());
                let [n, d] = x.dims();
                let (mut index, row_classes) = match rows.take() {
                    Some((index, before)) => (index, Tensor::cat(vec![before, classes], 0)),
                    None => (IndexFlat::new(d, *distance, &x.device())?, classes),
                };
                let first = index.ntotal() as i64;
                index.add(x.clone())?;
                let ids = Tensor::arange(first..first + n as i64, &x.device());
                let batch = batch.clone().with_ids(ids);
                let share = (self.judge)(&index, row_classes.clone(), &batch, self.k);
                *rows = Some((index, row_classes));
                share
            }
        }?;
        Ok(100.0 * share)
    }

    fn update(&mut self, batch: &Labelled<B>) -> SerializedEntry {
        let n = batch.embeddings.dims()[0];
        let format = FormatOptions::new(self.name.clone()).unit("%").precision(2);
        match self.percent(batch) {
            Ok(_) if n == 0 => Self::nothing("an empty batch"),
            Ok(percent) => self.state.update(percent, n, format),
            // A metric cannot fail; what it says then is seen in the dashboard, and counts nothing.
            Err(error) => {
                log::error!("{}: {error}", self.name);
                Self::nothing(&error.to_string())
            }
        }
    }

    fn nothing(why: &str) -> SerializedEntry {
        let nothing = NumericEntry::Aggregated {
            aggregated_value: 0.0,
            count: 0,
        };
        SerializedEntry::new(format!("not measured: {why}"), nothing.serialize())
    }

    fn clear(&mut self) {
        self.state.reset();
        if let Source::Seen { rows, .. } = &mut self.source {
            *rows = None;
        }
    }
}

macro_rules! metric {
    ($(#[$doc:meta])* $type:ident, $name:literal, $what:literal, $judge:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $type<B: IvfBackend>(Judged<B>);

        impl<B: IvfBackend> $type<B> {
            /// Over the validation embeddings themselves: a batch is judged by all batches of the
            /// epoch so far and the rest of itself (no row is its own neighbour), by exhaustive
            /// search. Early batches have fewer rows to be found; the epoch's value is the mean.
            pub fn new(k: usize, distance: Distance) -> Self {
                let rows = Source::Seen { distance, rows: None };
                Self(Judged::new(format!($name, k), k, rows, |i, c, b, k| $judge(i, c, b, k)))
            }

            /// Over an index of one's own, whose rows are not those judged unless the batch says so
            /// ([`Labelled::with_ids`]).
            pub fn over(gallery: &Gallery<B>, k: usize) -> Self {
                let source = Source::Gallery(gallery.clone());
                Self(Judged::new(format!($name, k), k, source, |i, c, b, k| $judge(i, c, b, k)))
            }
        }

        impl<B: IvfBackend> Metric for $type<B> {
            type Input = Labelled<B>;

            fn name(&self) -> MetricName {
                self.0.name.clone()
            }

            fn description(&self) -> Option<String> {
                Some($what.to_owned())
            }

            fn attributes(&self) -> MetricAttributes {
                NumericAttributes {
                    unit: Some("%".to_owned()),
                    higher_is_better: true,
                }
                .into()
            }

            fn update(&mut self, batch: &Labelled<B>, _: &MetricMetadata) -> SerializedEntry {
                self.0.update(batch)
            }

            fn clear(&mut self) {
                self.0.clear();
            }
        }

        impl<B: IvfBackend> Numeric for $type<B> {
            fn value(&self) -> NumericEntry {
                self.0.state.current_value()
            }

            fn running_value(&self) -> NumericEntry {
                self.0.state.running_value()
            }
        }
    };
}

metric!(
    /// [`knn_accuracy`] in per cent, as a metric of `burn-train`. Its input is a [`Labelled`] batch:
    /// implement `Adaptor<Labelled<B>>` for the output of the validation step.
    KnnAccuracyMetric,
    "kNN accuracy @ {}",
    "share of embeddings whose class most of their k nearest neighbours have",
    knn_accuracy
);

metric!(
    /// [`class_recall_at_k`] in per cent, as a metric of `burn-train`. Its input is a [`Labelled`]
    /// batch: implement `Adaptor<Labelled<B>>` for the output of the validation step.
    RecallAtKMetric,
    "Recall @ {}",
    "share of embeddings with one of their class among their k nearest neighbours",
    class_recall_at_k
);
