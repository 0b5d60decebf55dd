//! `select_k` and `all_finite`.

use super::*;
use crate::backend::portable;
use burn_ivf_kernels::select_k::{Best, reference};

/// Fails unless the selection is the reference's.
#[track_caller]
fn check(scores: &[f32], n: usize, k: usize) {
    check_tensor(tensor(scores, n), scores, n, k);
}

#[track_caller]
fn check_tensor(on_device: Tensor<B, 2>, scores: &[f32], n: usize, k: usize) {
    let expected = reference::select(scores, n, k, Best::Smallest);
    let (values, columns) = portable::select_k(on_device, k).unwrap();
    let shape = [scores.len() / n, k.min(n)];
    assert_eq!(values.dims(), shape, "n {n}, k {k}");
    assert_eq!(columns.dims(), shape, "n {n}, k {k}");
    let columns = read_int(columns).unwrap();
    let wanted: Vec<i64> = expected.columns.iter().map(|&c| c.into()).collect();
    assert_eq!(columns, wanted, "n {n}, k {k}");
    let values = read(values).unwrap();
    assert_eq!(bits(&values), bits(&expected.values), "n {n}, k {k}");
}

/// Numbers with ties, both zeros, both infinities and NaN.
fn awkward(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng(seed);
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let mut value = || match rng.random_range(0..4) {
        0 => special[rng.random_range(0..special.len())],
        1 => rng.random_range(-3_i8..3).into(),
        _ => rng.random::<f32>(),
    };
    (0..count).map(|_| value()).collect()
}

#[test]
fn selection_is_the_reference_s() {
    for n in [1, 2, 31, 400] {
        let scores = awkward(13 * n, n as u64);
        for k in [1, 2, 7, 100, 400, 1000] {
            check(&scores, n, k);
        }
    }
}

#[test]
fn nan_comes_after_infinity_and_zeros_tie_by_column() {
    let scores = [
        f32::NAN,
        f32::INFINITY,
        0.0,
        -0.0,
        f32::NEG_INFINITY,
        f32::NAN,
        -0.0,
    ];
    let (values, columns) = portable::select_k(tensor(&scores, 7), 9).unwrap();
    assert_eq!(read_int(columns).unwrap(), [4, 2, 3, 6, 1, 0, 5]);
    assert!(read(values).unwrap()[5..].iter().all(|v| v.is_nan()));
    check(&[f32::NAN; 12], 6, 4);
    check(&[0.0; 2000], 1000, 50);
}

#[test]
fn a_transposed_matrix_is_read_by_its_rows() {
    let (rows, n) = (30, 20);
    let scores = awkward(rows * n, 2);
    let columns: Vec<f32> = (0..rows * n)
        .map(|at| scores[at % rows * n + at / rows])
        .collect();
    check_tensor(tensor(&columns, rows).transpose(), &scores, n, 5);
}

#[test]
fn no_rows_select_nothing() {
    let (values, columns) = portable::select_k(tensor(&[], 5), 3).unwrap();
    assert_eq!((values.dims(), columns.dims()), ([0, 3], [0, 3]));
}

#[test]
fn one_component_that_is_not_finite_is_noticed() {
    let mut rows = normal(500, 33, 3);
    (rows[0], rows[1], rows[2]) = (f32::MAX, f32::MIN, 1e-45);
    let finite = |rows: &[f32]| portable::all_finite(tensor(rows, 33)).unwrap();
    assert!(finite(&rows));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 7000, rows.len() - 1] {
            let mut broken = rows.clone();
            broken[at] = value;
            assert!(!finite(&broken), "{value} at {at}");
        }
    }
    // Two that would cancel.
    (rows[4], rows[9]) = (f32::INFINITY, f32::NEG_INFINITY);
    assert!(!finite(&rows));
}
