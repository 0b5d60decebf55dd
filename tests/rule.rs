//! The suite's own rule, tested: the oracle accepts a right answer and rejects every kind of wrong
//! one. Without this, a case that checks nothing would look like one that passes.
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

use burn::backend::NdArray;
use burn_ivf::Metric;
use std::panic::{AssertUnwindSafe, catch_unwind};
use suite::oracle::Oracle;
use suite::support::*;

/// Rows 0, 2 and 4 are equal; the query is nearest to 1, then to those.
fn problem() -> (Rows, Rows, Answer) {
    let base = Rows::of(&[
        &[2.0, 0.0],
        &[0.5, 0.0],
        &[2.0, 0.0],
        &[9.0, 0.0],
        &[2.0, 0.0],
    ]);
    let query = Rows::of(&[&[0.0, 0.0]]);
    let index = flat::<NdArray>(&Default::default(), Metric::L2, &base);
    let found = search_flat(&index, &query, 6);
    assert_eq!(found.i, [1, 0, 2, 4, 3, -1]);
    (base, query, found)
}

fn accepts(change: impl Fn(&mut Answer)) -> bool {
    let (base, query, mut found) = problem();
    change(&mut found);
    let oracle = Oracle::new(Metric::L2, &base);
    catch_unwind(AssertUnwindSafe(|| oracle.check(&query, &found, "rule"))).is_ok()
}

#[test]
fn a_right_answer_is_accepted() {
    assert!(accepts(|_| {}));
    assert!(accepts(|found| found.d[0] *= 1.0 + 1e-7), "rounding");
}

#[test]
fn wrong_answers_are_rejected() {
    type Change<'a> = &'a dyn Fn(&mut Answer);
    let changes: [(&str, Change<'_>); 9] = [
        ("ties out of order", &|found| found.i.swap(1, 2)),
        ("order", &|found| {
            found.i.swap(0, 1);
            found.d.swap(0, 1);
        }),
        ("another id", &|found| found.i[0] = 3),
        ("an id that is no row", &|found| found.i[0] = 77),
        ("a repeat", &|found| found.i[2] = 0),
        ("a distance", &|found| found.d[0] *= 1.001),
        ("a lost hit", &|found| {
            (found.i[4], found.d[4]) = (-1, f32::INFINITY);
        }),
        ("a padding id", &|found| found.i[5] = 0),
        ("a padding distance", &|found| found.d[5] = f32::MAX),
    ];
    for (what, change) in changes {
        assert!(!accepts(change), "accepted: {what}");
    }
}

#[test]
fn a_tie_left_out_is_rejected() {
    // k = 2: of the equal rows 0, 2 and 4 it must be 0
    let (base, query, mut found) = problem();
    let oracle = Oracle::new(Metric::L2, &base);
    found.d.truncate(2);
    found.i.truncate(2);
    found.k = 2;
    oracle.check(&query, &found, "rule");
    found.i[1] = 4;
    let wrong = catch_unwind(AssertUnwindSafe(|| oracle.check(&query, &found, "rule")));
    assert!(wrong.is_err());
}

#[test]
fn near_ties_may_be_swapped_but_not_more() {
    let exact = [1.0 + 5e-7, 1.0, 1.0 + 1e-4];
    let base = Rows::new(exact.map(|v: f64| v.sqrt() as f32).to_vec(), 1);
    let query = Rows::new(vec![0.0], 1);
    let oracle = Oracle::new(Metric::L2, &base);
    let index = flat::<NdArray>(&Default::default(), Metric::L2, &base);
    let right = search_flat(&index, &query, 3);
    let swapped = |a: usize, b: usize| {
        let mut found = right.clone();
        found.i.swap(a, b);
        // reported as another backend might round them
        found.d = vec![1.0, 1.000_000_2, 1.000_1];
        catch_unwind(AssertUnwindSafe(|| oracle.check(&query, &found, "rule"))).is_ok()
    };
    assert!(swapped(0, 1), "within 1e-6");
    assert!(!swapped(1, 2), "beyond it");
}
