//! Values against the reference, on every instruction set; bits that depend on nothing but the pair.

use super::{Measure, Output, pairwise, reference};
use crate::simd::Isa;

const ALL: [Measure; 12] = [
    Measure::L2,
    Measure::InnerProduct,
    Measure::L1,
    Measure::Linf,
    Measure::Lp(3.0),
    Measure::Lp(0.5),
    Measure::Canberra,
    Measure::BrayCurtis,
    Measure::JensenShannon,
    Measure::Jaccard,
    Measure::NanEuclidean,
    Measure::Gower,
];

/// Components that suit every measure: in 0..=1, some of them 0.
fn rows(n: usize, d: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n * d)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let v = (state >> 8) as f32 / (1 << 24) as f32;
            if v < 0.05 { 0.0 } else { v }
        })
        .collect()
}

fn distances(q: &[f32], x: &[f32], d: usize, measure: Measure, isa: Isa) -> Vec<f32> {
    pairwise((q, x), d, measure, Output::Distances, isa).unwrap()
}

fn close(found: f32, expected: f64) -> bool {
    let found = f64::from(found);
    if expected.is_nan() || found.is_nan() {
        return expected.is_nan() && found.is_nan();
    }
    found == expected || (found - expected).abs() <= 2e-6 * expected.abs().max(0.01)
}

#[test]
fn values_are_the_reference() {
    for (nq, n, d) in [(1, 1, 1), (5, 7, 3), (4, 9, 16), (7, 50, 33), (3, 20, 129)] {
        let (mut q, mut x) = (rows(nq, d, 1), rows(n, d, 2));
        for holes in [false, true] {
            if holes {
                // A missing component, a category, and nothing in common.
                q[0] = f32::NAN;
                x[d / 2] = -3.0;
            }
            for measure in ALL {
                for isa in Isa::available() {
                    let found = distances(&q, &x, d, measure, isa);
                    for (at, &value) in found.iter().enumerate() {
                        let (i, j) = (at / n, at % n);
                        let (q, x) = (&q[i * d..][..d], &x[j * d..][..d]);
                        let expected = reference(measure, q, x);
                        assert!(
                            close(value, expected),
                            "{measure:?} d {d} {}: {value} for {expected}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_pair_has_one_value() {
    let d = 37;
    let (q, x) = (rows(9, d, 3), rows(3000, d, 4));
    for measure in ALL {
        let whole = distances(&q, &x, d, measure, Isa::portable());
        for isa in Isa::available() {
            assert_eq!(distances(&q, &x, d, measure, isa), whole, "{measure:?}");
        }
        for i in [0, 3, 8] {
            let one = distances(&q[i * d..][..d], &x, d, measure, Isa::detect());
            assert_eq!(one, whole[i * 3000..][..3000], "{measure:?} query {i}");
            let few = distances(
                &q[i * d..][..d],
                &x[70 * d..][..d],
                d,
                measure,
                Isa::detect(),
            );
            assert_eq!(few[0], one[70]);
        }
    }
}

#[test]
fn zeros_and_broken_vectors() {
    let zero = [0.0_f32; 3];
    let of = |measure, q: &[f32], x: &[f32]| distances(q, x, 3, measure, Isa::detect())[0];
    assert_eq!(of(Measure::Canberra, &zero, &zero), 0.0);
    assert_eq!(of(Measure::BrayCurtis, &zero, &zero), 0.0);
    assert_eq!(of(Measure::Jaccard, &zero, &zero), 1.0);
    assert_eq!(of(Measure::JensenShannon, &zero, &zero), 0.0);
    assert!(of(Measure::JensenShannon, &[-1.0, 1.0, 0.0], &zero).is_nan());
    for measure in ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let q = [0.5, bad, 0.5];
            let good = bad.is_nan() && measure.accepts_nan();
            assert_eq!(
                !of(measure, &q, &[0.5; 3]).is_nan(),
                good,
                "{measure:?} {bad}"
            );
            assert_eq!(
                !of(measure, &[0.5; 3], &q).is_nan(),
                good,
                "{measure:?} {bad}"
            );
            let key = pairwise((&q, &[0.5; 3]), 3, measure, Output::Keys, Isa::detect());
            assert_eq!(key.unwrap()[0] != f32::INFINITY, good, "{measure:?} {bad}");
        }
    }
}

/// Sums that leave the range where the value does not; pairs beside them keep theirs.
#[test]
fn huge_components_have_their_value() {
    for d in [1, 2, 16, 37] {
        let sized = |rows: Vec<f32>| -> Vec<f32> {
            let scales = [3.4e38, 1e38, 1.0, 1e-30];
            let rows = rows.chunks(d).zip(scales.iter().cycle());
            rows.flat_map(|(row, scale)| row.iter().map(move |v| v * scale))
                .collect()
        };
        let (q, mut x) = (sized(rows(6, d, 5)), sized(rows(23, d, 6)));
        x[..d].fill(f32::MAX);
        x[4 * d..5 * d].fill(-f32::MAX);
        for measure in [
            Measure::Canberra,
            Measure::BrayCurtis,
            Measure::JensenShannon,
            Measure::Jaccard,
        ] {
            for isa in Isa::available() {
                let found = distances(&q, &x, d, measure, isa);
                for (at, &value) in found.iter().enumerate() {
                    let (i, j) = (at / 23, at % 23);
                    let expected = reference(measure, &q[i * d..][..d], &x[j * d..][..d]);
                    let what = format!("{measure:?} d {d} {}: {at}", isa.name());
                    assert!(
                        close(value, f64::from(expected as f32)),
                        "{what}: {value} for {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn keys_are_better_when_smaller() {
    let keys = |measure| {
        let rows = [1.0, 2.0, 3.0, 0.5, 0.25, 4.0];
        pairwise(
            (&[2.0, 2.0, 1.0], &rows),
            3,
            measure,
            Output::Keys,
            Isa::detect(),
        )
        .unwrap()
    };
    assert_eq!(keys(Measure::L1), [3.0, 6.25]);
    assert_eq!(keys(Measure::Jaccard), [-4.0 / 7.0, -0.21875]);
    assert_eq!(keys(Measure::InnerProduct), [-9.0, -5.5]);
}
