//! The metrics for `burn-train`: values, running values, and what they say when they cannot judge.
#![cfg(all(feature = "ndarray", feature = "train"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

use burn::backend::NdArray;
use burn::data::dataloader::Progress;
use burn::tensor::{Int, Tensor};
use burn_ivf::train::{Gallery, KnnAccuracyMetric, Labelled, RecallAtKMetric};
use burn_ivf::{IndexFlat, Metric};
use burn_train::metric::{Adaptor, Metric as _, MetricAttributes, MetricMetadata, Numeric};

type B = NdArray;

fn metadata() -> MetricMetadata {
    let progress = || Progress {
        items_processed: 0,
        items_total: 1,
    };
    MetricMetadata {
        progress: progress(),
        global_progress: progress(),
        iteration: None,
        lr: None,
    }
}

fn batch(x: &[f32], classes: &[i32]) -> Labelled<B> {
    let device = Default::default();
    let x = Tensor::<B, 1>::from_floats(x, &device).reshape([x.len(), 1]);
    Labelled::new(x, Tensor::from_ints(classes, &device))
}

/// Over the batches seen: the first is judged by itself, later ones by all.
#[test]
fn validation_embeddings_judge_each_other() {
    let mut metric = KnnAccuracyMetric::<B>::new(1, Metric::L2);
    // nearest others: 1 -> 0, 0 -> 1 (right), 5 -> 1 (wrong), 6 -> 5 (wrong)
    let first = batch(&[0.0, 1.0, 4.0, 5.5], &[0, 0, 1, 0]);
    let entry = metric.update(&first, &metadata());
    assert_eq!(metric.value().current(), 50.0);
    assert!(entry.formatted.contains('%'), "{}", entry.formatted);
    // 4.1 -> 4 (right), 5.6 -> 5.5 (right)
    metric.update(&batch(&[4.1, 5.6], &[1, 0]), &metadata());
    assert_eq!(metric.value().current(), 100.0);
    let mean = metric.running_value().current();
    assert!((mean - 400.0 / 6.0).abs() < 1e-9, "{mean}");
    // a new epoch: another encoder may even have another width
    metric.clear();
    metric.update(&first, &metadata());
    assert_eq!(metric.running_value().current(), 50.0);
    assert_eq!(*metric.name(), "kNN accuracy @ 1");
    match metric.attributes() {
        MetricAttributes::Numeric(n) => assert!(n.higher_is_better && n.unit.unwrap() == "%"),
        MetricAttributes::None => panic!("not numeric"),
    }
}

#[test]
fn galleries_are_shared() {
    let device = Default::default();
    let gallery = Gallery::<B>::new();
    let mut accuracy = KnnAccuracyMetric::over(&gallery, 3);
    let mut recall = RecallAtKMetric::over(&gallery, 3);
    let asked = batch(&[0.1, 9.0], &[0, 1]);
    let entry = accuracy.update(&asked, &metadata());
    assert!(
        entry.formatted.contains("Gallery::set"),
        "{}",
        entry.formatted
    );
    let mut index = IndexFlat::new(1, Metric::L2, &device).unwrap();
    let rows = Tensor::<B, 2>::from_floats([[0.0], [1.0], [8.0], [0.5]], &device);
    index.add(rows).unwrap();
    let classes: Tensor<B, 1, Int> = Tensor::from_ints([0, 0, 1, 0], &device);
    gallery.set(index, classes);
    // 9.0 sees 8.0, 1.0 and 0.5: outvoted, but recalled
    accuracy.update(&asked, &metadata());
    recall.update(&asked, &metadata());
    assert_eq!(accuracy.value().current(), 50.0);
    assert_eq!(
        accuracy.running_value().current(),
        50.0,
        "the failure counts nothing"
    );
    assert_eq!(recall.value().current(), 100.0);
    assert_eq!(*recall.name(), "Recall @ 3");
    // wrong width: said, not thrown
    let wide = Labelled::new(
        Tensor::<B, 2>::zeros([1, 3], &device),
        Tensor::from_ints([0], &device),
    );
    let entry = recall.update(&wide, &metadata());
    assert!(entry.formatted.contains("d = 1"), "{}", entry.formatted);
    assert_eq!(recall.running_value().current(), 100.0);
}

/// What a model's output must be for the dashboard.
#[test]
fn outputs_adapt() {
    struct Output(Tensor<B, 2>, Tensor<B, 1, Int>);
    impl Adaptor<Labelled<B>> for Output {
        fn adapt(&self) -> Labelled<B> {
            Labelled::new(self.0.clone(), self.1.clone())
        }
    }
    let device = Default::default();
    let output = Output(
        Tensor::from_floats([[0.0], [0.1], [5.0], [5.1]], &device),
        Tensor::from_ints([0, 0, 1, 1], &device),
    );
    let mut metric = RecallAtKMetric::new(1, Metric::L2);
    metric.update(&output.adapt(), &metadata());
    assert_eq!(metric.value().current(), 100.0);
}
