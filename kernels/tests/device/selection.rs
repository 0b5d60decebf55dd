//! `select_k` on scores and pairs.

use super::support::{Rng, client, download, guises, poison, upload};
use burn_ivf_kernels::select_k::{self, Best, Labels, Output, Source, select_on};

/// Scores with ties, both zeros, infinities and NaN of either sign.
fn scores(rng: &mut Rng, n: usize) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
        f32::MAX,
        1e-40,
    ];
    (0..n)
        .map(|_| match rng.below(4) {
            0 => rng.pick(&special),
            1 => rng.below(5) as f32 - 2.0,
            _ => rng.float(),
        })
        .collect()
}

#[test]
fn scores_are_selected_as_the_reference_selects() {
    let client = client();
    let mut rng = Rng(11);
    let ks = [1, 2, 10, 33, 64, 100, 256, 257, 2048, 5000];
    let ns = [1, 7, 63, 64, 512, 1000, 6000];
    for gpu in guises(&client) {
        for (i, k) in ks.into_iter().enumerate() {
            for n in [ns[i % ns.len()], ns[(i + 3) % ns.len()]] {
                let rows = rng.pick(&[1, 3, 20]);
                let table = scores(&mut rng, rows * n);
                let expected = select_k::reference::select(&table, n, k, Best::Smallest);
                let k = k.min(n);
                poison(&client, &[rows * k]);
                let source = Source::Scores(upload(&client, &table));
                let found =
                    select_on(&gpu, &source, (rows, n), k, Output::Score, &Labels::Ranks).unwrap();
                let columns: Vec<u32> = download(&client, &found.labels, rows * k);
                assert_eq!(columns, expected.columns, "{gpu:?} k {k} n {n}");
                let values: Vec<u32> = download(&client, &found.values, rows * k);
                let bits: Vec<u32> = expected.values.iter().map(|v| v.to_bits()).collect();
                assert_eq!(values, bits, "{gpu:?} k {k} n {n}");
            }
        }
    }
}

#[test]
fn many_rows_pass_the_limit_of_cubes_on_an_axis() {
    let client = client();
    let gpu = &guises(&client)[0];
    let (rows, n, k) = (70_001, 5, 2);
    let table = scores(&mut Rng(3), rows * n);
    let expected = select_k::reference::select(&table, n, k, Best::Smallest);
    poison(&client, &[rows * k]);
    let source = Source::Scores(upload(&client, &table));
    let found = select_on(gpu, &source, (rows, n), k, Output::Score, &Labels::Ranks).unwrap();
    assert_eq!(
        download::<u32>(&client, &found.labels, rows * k),
        expected.columns
    );
}
