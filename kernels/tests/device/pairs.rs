//! `pairwise` and `unit_rows`: values against the reference, bits that depend on the pair alone.

use super::support::{Rng, client, download, guises, poison, upload};
use burn_ivf_kernels::{
    device::{Facts, Gpu},
    pairwise::{Measure, Output, pairwise_on, reference},
    unit::{unit_rows, unit_rows_on},
};

const MEASURES: [Measure; 13] = [
    Measure::L2,
    Measure::InnerProduct,
    Measure::L1,
    Measure::Linf,
    Measure::Lp(3.0),
    Measure::Lp(2.0),
    Measure::Lp(0.5),
    Measure::Canberra,
    Measure::BrayCurtis,
    Measure::JensenShannon,
    Measure::Jaccard,
    Measure::NanEuclidean,
    Measure::Gower,
];

/// Components in 0..1, some 0, some that a measure may refuse.
fn rows(rng: &mut Rng, n: usize, d: usize) -> Vec<f32> {
    let mut rows: Vec<f32> = (0..n * d).map(|_| rng.float().abs()).collect();
    for v in rows.iter_mut().step_by(7) {
        *v = 0.0;
    }
    if n > 4 {
        rows[d - 1] = f32::NAN;
        rows[d] = f32::INFINITY;
        rows[2 * d] = -0.75;
        rows[3 * d..4 * d].fill(0.0);
    }
    rows
}

#[test]
fn pairs_are_those_of_the_reference() {
    let client = client();
    let mut rng = Rng(11);
    let facts = Facts::of(&client);
    let mut devices = vec![guises(&client).swap_remove(0)];
    devices.push(Gpu::with(&client, Facts { units: 64, ..facts }));
    for (nq, n, d) in [(1, 1, 1), (20, 35, 16), (6, 50, 33), (17, 5, 129)] {
        let (q, x) = (rows(&mut rng, nq, d), rows(&mut rng, n, d));
        let (on_q, on_x) = (upload(&client, &q), upload(&client, &x));
        for measure in MEASURES {
            let mut seen: Option<Vec<u32>> = None;
            for gpu in &devices {
                poison(&client, &[nq * n]);
                let run = |output| {
                    let found = pairwise_on(gpu, (&on_q, &on_x), (nq, n, d), measure, output);
                    download::<f32>(&client, &found.unwrap(), nq * n)
                };
                let (found, keys) = (run(Output::Distances), run(Output::Keys));
                for (at, (&value, &key)) in found.iter().zip(&keys).enumerate() {
                    let (i, j) = (at / n, at % n);
                    let expected = reference(measure, &q[i * d..][..d], &x[j * d..][..d]);
                    let what =
                        format!("{measure:?} {nq}x{n}x{d} pair {at}: {value} for {expected}");
                    if expected.is_nan() {
                        assert!(value.is_nan() && key == f32::INFINITY, "{what}, key {key}");
                        continue;
                    }
                    let off = (f64::from(value) - expected).abs();
                    assert!(
                        off <= 1e-5 * expected.abs() + 2e-6 || f64::from(value) == expected,
                        "{what}"
                    );
                    let own = match measure {
                        Measure::InnerProduct | Measure::Jaccard => 0.0 - value,
                        _ => value,
                    };
                    assert_eq!(key, own.clamp(f32::MIN, f32::MAX), "{what}");
                }
                // Whatever the size of a tile.
                let bits: Vec<u32> = found.iter().map(|v| v.to_bits()).collect();
                let same = seen.get_or_insert_with(|| bits.clone());
                assert_eq!(*same, bits, "{measure:?}");
            }
        }
    }
}

/// Sums that leave the range where the value does not; pairs beside them keep theirs.
#[test]
fn huge_components_have_their_value() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(13);
    for d in [1, 2, 16, 37] {
        let (nq, n) = (6, 23);
        let mut sized = |n: usize| -> Vec<f32> {
            let scales = [3.4e38, 1e38, 1.0, 1e-30];
            let of = |at: usize| scales[at / d % 4];
            (0..n * d).map(|at| rng.float().abs() * of(at)).collect()
        };
        let (q, mut x) = (sized(nq), sized(n));
        x[..d].fill(f32::MAX);
        let (on_q, on_x) = (upload(&client, &q), upload(&client, &x));
        for measure in [
            Measure::Canberra,
            Measure::BrayCurtis,
            Measure::JensenShannon,
            Measure::Jaccard,
        ] {
            poison(&client, &[nq * n]);
            let output = Output::Distances;
            let found = pairwise_on(gpu, (&on_q, &on_x), (nq, n, d), measure, output).unwrap();
            for (at, value) in download::<f32>(&client, &found, nq * n).iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let expected = reference(measure, &q[i * d..][..d], &x[j * d..][..d]);
                if expected >= f64::from(f32::MAX) {
                    assert_eq!(*value, f32::INFINITY);
                    continue;
                }
                let off = (f64::from(*value) - expected).abs();
                // What is near the smallest number may be taken for 0.
                let what = format!("{measure:?} d {d} pair {at}: {value} for {expected}");
                assert!(off <= 2e-5 * expected.abs() + 1e-6, "{what}");
            }
        }
    }
}

#[test]
fn rows_become_as_long_as_one() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(12);
    for (n, d) in [(1, 1), (50, 3), (40, 128), (5, 1000)] {
        let mut rows: Vec<f32> = (0..n * d).map(|_| rng.float()).collect();
        for (i, row) in rows.chunks_exact_mut(d).enumerate() {
            let scale = [1.0, 1e30, 1e-30, 0.0, 3e38][i % 5];
            row.iter_mut().for_each(|v| *v *= scale);
        }
        let mut expected = rows.clone();
        unit_rows(&mut expected, d);
        poison(&client, &[n * d]);
        let found = unit_rows_on(gpu, &upload(&client, &rows), (n, d)).unwrap();
        let found: Vec<f32> = download(&client, &found, n * d);
        for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() <= 1e-6 * b.abs() + 1e-12,
                "{n}x{d} {at}: {a} for {b}"
            );
        }
        let again = unit_rows_on(gpu, &upload(&client, &expected), (n, d)).unwrap();
        assert_eq!(
            download::<f32>(&client, &again, n * d),
            expected,
            "length 1 stays"
        );
    }
    let broken = [f32::NAN, 1.0, f32::INFINITY, 1.0, f32::NAN, 0.0];
    let found = unit_rows_on(gpu, &upload(&client, &broken), (3, 2)).unwrap();
    for row in download::<f32>(&client, &found, 6).chunks(2) {
        assert!(row.iter().any(|v| !v.is_finite()), "{row:?}");
    }
}
