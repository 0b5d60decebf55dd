//! The index in a training loop: accuracy by neighbours, mined negatives, filling.

use super::support::*;
use burn::tensor::{Int, Tensor, TensorData};
use burn_ivf::train::{
    Embedded, Filled, Labelled, Mining, class_recall_at_k, fill, knn_accuracy, knn_classify,
    mine_hard_negatives, refresh,
};
use burn_ivf::{Counters, Error, IndexFlat, IvfBackend, Metric, SearchMode};
use core::ops::ControlFlow;

const GO: fn(Filled) -> ControlFlow<()> = |_| ControlFlow::Continue(());

fn ints<B: IvfBackend>(values: &[i64], device: &B::Device) -> Tensor<B, 1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn whole<B: IvfBackend, const D: usize>(tensor: Tensor<B, D, Int>) -> Vec<i64> {
    tensor.into_data().iter::<i64>().collect()
}

/// 300 rows of 5 overlapping classes, 40 embeddings of the same.
fn classes() -> (Rows, Vec<i64>, Rows, Vec<i64>) {
    let (base, queries) = (normal(300, 6, 31), normal(40, 6, 32));
    let class = |rows: &Rows| -> Vec<i64> {
        let of = |r| {
            rows.row(r)[..2]
                .iter()
                .map(|v| (v * 1.5).round())
                .sum::<f32>()
        };
        (0..rows.n())
            .map(|r| (of(r) as i64).rem_euclid(5))
            .collect()
    };
    let (a, b) = (class(&base), class(&queries));
    (base, a, queries, b)
}

fn batch<B: IvfBackend>(rows: &Rows, classes: &[i64], device: &B::Device) -> Labelled<B> {
    Labelled::new(rows.on(device), ints::<B>(classes, device))
}

/// The nearest rows of another class, in the order of the search, and -1 after the candidates.
pub fn mined_negatives_are_the_nearest_wrong_ones<B: IvfBackend>(device: &B::Device) {
    let (base, row_classes, queries, own) = classes();
    for metric in METRICS {
        let index = flat::<B>(device, metric, &base);
        let all = search_flat(&index, &queries, 300);
        let rows = ints::<B>(&row_classes, device);
        for (k, candidates) in [(4, 300), (4, 9), (1, 1), (7, 7), (20, 52)] {
            let mining = Mining { k, candidates };
            let asked = batch::<B>(&queries, &own, device);
            let before = Counters::now();
            let hard = mine_hard_negatives(&index, rows.clone(), &asked, mining).unwrap();
            let cost = Counters::now().since(before);
            if is_cube::<B>(device) {
                assert_eq!(cost.blocking_reads, 0, "no host trip");
            }
            assert_eq!(hard.dims(), [40, k]);
            let mut expected = Vec::new();
            for (q, &class) in own.iter().enumerate() {
                let near = all.row(q).1[..candidates].iter().copied();
                let mut wrong: Vec<i64> = near
                    .filter(|&id| row_classes[id as usize] != class)
                    .collect();
                wrong.resize(wrong.len().max(k), -1);
                expected.extend_from_slice(&wrong[..k]);
            }
            assert_eq!(whole(hard), expected, "{metric}, {k} of {candidates}");
        }
        assert_eq!(Mining::new(20).candidates, 112);
    }
}

/// Rows without a class, empty slots and empty batches.
pub fn mining_at_the_edges<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let query = Rows::new(vec![0.0], 1);
    let mine = |row_classes: &[i64], class: i64, mining: Mining| {
        let rows = ints::<B>(row_classes, device);
        mine_hard_negatives(&index, rows, &batch::<B>(&query, &[class], device), mining)
    };
    // rows 2 to 11 have no class
    let two = mine(&[7, 8], 7, Mining::new(3)).unwrap();
    assert_eq!(whole(two), [1, -1, -1]);
    let none = mine(&[7; 12], 7, Mining::new(3)).unwrap();
    assert_eq!(whole(none), [-1, -1, -1]);
    let rows = ints::<B>(&[0; 12], device);
    let empty = Rows::new(vec![], 1);
    let empty = batch::<B>(&empty, &[], device);
    let hard = mine_hard_negatives(&index, rows.clone(), &empty, Mining::new(3)).unwrap();
    assert_eq!(hard.dims(), [0, 3]);
    assert_eq!(knn_accuracy(&index, rows.clone(), &empty, 3).unwrap(), 1.0);
    assert_eq!(
        class_recall_at_k(&index, rows.clone(), &empty, 3).unwrap(),
        1.0
    );
    let named = knn_classify(&index, rows.clone(), &empty, 3).unwrap();
    assert_eq!(named.dims(), [0]);
    let broken = Rows::new(vec![f32::NAN], 1);
    let named = knn_classify(&index, rows.clone(), &batch::<B>(&broken, &[0], device), 3);
    assert_eq!(whole(named.unwrap()), [-1]);
    // what a caller can get wrong
    let zero = refused(mine(&[0; 12], 0, Mining::new(0)));
    assert_eq!(zero, Error::ZeroK);
    let narrow = refused(mine(&[0; 12], 0, Mining::new(3).with_candidates(2)));
    assert!(matches!(
        narrow,
        Error::IllegalValue {
            name: "candidates",
            ..
        }
    ));
    assert!(matches!(
        refused(mine(&[], 0, Mining::new(3))),
        Error::IllegalValue {
            name: "row classes",
            ..
        }
    ));
    let two = batch::<B>(&query, &[0, 1], device);
    let count = refused(knn_accuracy(&index, rows.clone(), &two, 3));
    assert!(
        matches!(
            count,
            Error::Count {
                rows: 1,
                found: 2,
                ..
            }
        ),
        "{count}"
    );
    let ids = batch::<B>(&query, &[0], device).with_ids(ints::<B>(&[1, 2, 3], device));
    let count = refused(knn_classify(&index, rows.clone(), &ids, 3));
    assert!(
        matches!(
            count,
            Error::Count {
                rows: 1,
                found: 3,
                ..
            }
        ),
        "{count}"
    );
    assert_eq!(refused(knn_accuracy(&index, rows, &ids, 0)), Error::ZeroK);
}

/// Votes are counted as by hand: most frequent class, of equals the nearer one's.
pub fn accuracy_matches_counting<B: IvfBackend>(device: &B::Device) {
    let (base, row_classes, queries, own) = classes();
    let index = flat::<B>(device, Metric::L2, &base);
    let rows = ints::<B>(&row_classes, device);
    for k in [1, 2, 5, 12] {
        // embeddings that are not in the index, and the index's own rows
        let inside: Vec<i64> = (100..140).collect();
        let outside = batch::<B>(&queries, &own, device);
        let itself = batch::<B>(&base.range(100..140), &row_classes[100..140], device);
        let itself = itself.with_ids(ints::<B>(&inside, device));
        let (mut right, mut recalled) = ([0; 2], [0; 2]);
        let mut named = [Vec::new(), Vec::new()];
        for side in 0..2 {
            let asked = if side == 0 {
                queries.clone()
            } else {
                base.range(100..140)
            };
            let found = search_flat(&index, &asked, k + side);
            for q in 0..40 {
                let mut near = found.row(q).1.to_vec();
                near.retain(|&id| side == 0 || id != inside[q]);
                let near: Vec<i64> = near[..k]
                    .iter()
                    .map(|&id| row_classes[id as usize])
                    .collect();
                let votes = |class: i64| near.iter().filter(|&&c| c == class).count();
                let most = near.iter().map(|&c| votes(c)).max().unwrap();
                let winner = *near.iter().find(|&&c| votes(c) == most).unwrap();
                let class = if side == 0 {
                    own[q]
                } else {
                    row_classes[100 + q]
                };
                right[side] += usize::from(winner == class);
                recalled[side] += usize::from(near.contains(&class));
                named[side].push(winner);
            }
        }
        for (side, asked) in [outside, itself].iter().enumerate() {
            let found = knn_classify(&index, rows.clone(), asked, k).unwrap();
            assert_eq!(whole(found), named[side], "k = {k}");
            let share = knn_accuracy(&index, rows.clone(), asked, k).unwrap();
            assert_eq!(share, right[side] as f64 / 40.0);
            let share = class_recall_at_k(&index, rows.clone(), asked, k).unwrap();
            assert_eq!(share, recalled[side] as f64 / 40.0);
        }
        assert!(
            right[0] < 40 && recalled[0] > 8,
            "a case that tells something"
        );
    }
}

/// More neighbours than can vote at once, and than there are rows.
pub fn thousands_of_neighbours_vote<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(2500, 3, 33), normal(2, 3, 34));
    let index = flat::<B>(device, Metric::L2, &base);
    let row_classes: Vec<i64> = (0..2500).map(|r| r * r % 31 % 7).collect();
    let asked = batch::<B>(&queries, &[0, 0], device);
    let found = knn_classify(&index, ints::<B>(&row_classes, device), &asked, 3000).unwrap();
    // Every row votes, so all embeddings get the class that most rows have.
    let votes = |class: i64| row_classes.iter().filter(|&&c| c == class).count();
    let most = (0..7).max_by_key(|&class| votes(class)).unwrap();
    let equal = (0..7).filter(|&class| votes(class) == votes(most)).count();
    assert_eq!(equal, 1, "no draw");
    assert_eq!(whole(found), [most, most]);
}

/// Batch by batch is as all at once; progress counts, and may end it.
pub fn filling_from_batches<B: IvfBackend>(device: &B::Device) {
    let base = normal(250, 5, 41);
    let starts: Vec<usize> = (0..250).step_by(60).collect();
    let load = |start: usize| base.range(start..(start + 60).min(250)).on::<B>(device);
    let mut index = IndexFlat::<B>::new(5, Metric::L2, device).unwrap();
    let mut told = Vec::new();
    let filled = fill(&mut index, starts.clone(), load, |at| {
        told.push((at.batches, at.rows));
        ControlFlow::Continue(())
    });
    let filled = filled.unwrap();
    assert_eq!((filled.batches, filled.rows), (5, 250));
    assert_eq!(told, [(1, 60), (2, 120), (3, 180), (4, 240), (5, 250)]);
    let queries = normal(9, 5, 42);
    let once = flat::<B>(device, Metric::L2, &base);
    let expected = search_flat(&once, &queries, 8);
    search_flat(&index, &queries, 8).assert_same(&expected, "in batches");
    // an end when the caller says so
    let stop = |at: Filled| {
        if at.rows >= 100 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let mut part = IndexFlat::<B>::new(5, Metric::L2, device).unwrap();
    assert_eq!(
        fill(&mut part, starts.clone(), load, stop).unwrap().rows,
        120
    );
    assert_eq!(part.ntotal(), 120);
    // ids of one's own, through a boxed index
    let mut boxed: Box<dyn burn_ivf::Index<B>> =
        Box::new(IndexFlat::<B>::new(5, Metric::L2, device).unwrap());
    let named = |start: usize| {
        let end = (start + 60).min(250) as i64;
        let ids: Vec<i64> = (start as i64..end).map(|id| 1000 - id).collect();
        Embedded::from((load(start), ids))
    };
    fill(&mut *boxed, starts.iter().rev().copied(), named, GO).unwrap();
    let found = Answer::read(&boxed.search(queries.on(device), 8).unwrap());
    assert_eq!(found.d, expected.d);
    let back: Vec<i64> = found.i.iter().map(|id| 1000 - id).collect();
    assert_eq!(back, expected.i);
    // an untrained index says so
    let mut bare = untrained::<B>(device, Metric::L2, 4, 5);
    assert_eq!(
        refused(fill(&mut bare, starts, load, GO)),
        Error::NotTrained
    );
}

/// After a refresh the index is as one made of the new embeddings.
pub fn refreshing<B: IvfBackend>(device: &B::Device) {
    let base = normal(240, 4, 51);
    let moved = base.map(|v| 30.0 - 2.0 * v);
    let mut index = trained::<B>(device, Metric::L2, 6, &base);
    index.set_nprobe(6).unwrap();
    let old = floats(index.centroids().unwrap());
    let batches = || (0..4).map(|i| moved.range(60 * i..60 * (i + 1)).on::<B>(device));
    let queries = moved.range(0..7);
    let expected = search_flat(&flat::<B>(device, Metric::L2, &moved), &queries, 5);
    refresh(&mut index, None, batches(), |x| x, GO).unwrap();
    assert_eq!(floats(index.centroids().unwrap()), old, "lists stay");
    let kept = index.imbalance_factor();
    let found = search_ivf(&index, &queries, 5, &probing(6, SearchMode::Auto));
    found.assert_same(&expected, "old lists");
    refresh(&mut index, Some(moved.on(device)), batches(), |x| x, GO).unwrap();
    assert_ne!(floats(index.centroids().unwrap()), old, "lists are new");
    assert!(index.imbalance_factor() < kept, "and even again");
    let found = search_ivf(&index, &queries, 5, &probing(6, SearchMode::Auto));
    found.assert_same(&expected, "new lists");
}

pub fn neighbours_of_nothing<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let none = Tensor::<B, 2>::zeros([0, 1], device);
    let result = index.search(none.clone(), 3).unwrap();
    let base = line_rows().on::<B>(device);
    let near = result
        .neighbours(none.clone(), base.clone(), Metric::L2)
        .unwrap();
    assert_eq!(
        (near.vectors.dims(), near.distances.dims()),
        ([0, 3, 1], [0, 3])
    );
    let query = Rows::new(vec![0.0], 1).on::<B>(device);
    let result = index.search(query.clone(), 3).unwrap();
    // ids beyond the rows given are as missing
    let two = line_rows().range(0..2).on::<B>(device);
    let near = result.neighbours(query.clone(), two, Metric::L2).unwrap();
    let distances = floats(near.distances);
    assert!((distances[1] - 0.04).abs() < 1e-6 && distances[2] == f32::INFINITY);
    assert_eq!(floats(near.vectors)[2], 0.0);
    let wide = Tensor::<B, 2>::zeros([1, 2], device);
    assert!(matches!(
        refused(result.neighbours(wide, base, Metric::L2)),
        Error::ShapeMismatch { .. }
    ));
    let error = refused(result.neighbours(query, none, Metric::L2));
    assert!(matches!(
        error,
        Error::IllegalValue {
            name: "base rows",
            ..
        }
    ));
}
