//! Differential fuzz of the list scan: random cases, every answer compared with plain f64 sums.
//!
//! A case is drawn from one `u64` seed: sizes, values made to hurt (exact ties, values that differ
//! only in bits a narrow copy drops, overflow, denormals, a common offset, …), ids, probes, and the
//! instruction sets and thread counts to run on. Three things are then checked:
//!
//! 1. the *full ranking*, [`rerank`] over every probed row with room for all of them, is in the
//!    total order, holds every row once, and each distance is as close to the f64 sum as
//!    [`burn_ivf_kernels::distance`] promises (`check_ranking`);
//! 2. [`scan`] returns the first `k` of that ranking bit for bit, then padding; so no row is left
//!    out, ties included, and neither instruction set, threads nor pruning changes a bit;
//! 3. so does [`rerank`] with the case's own `k`.
//!
//! A failure names its seed. Two environment variables steer the run:
//!
//! * `BURN_IVF_FUZZ_CASES`: number of cases, 400 if unset;
//! * `BURN_IVF_FUZZ_SEED`: the first seed, 0 if unset; alone, it replays that one case.

mod case;
mod checks;
mod reference;
mod values;

use burn_ivf_kernels::Metric;
use case::Case;
use checks::check;
use reference::{Allowed, matches};
use std::panic::{AssertUnwindSafe, catch_unwind};
use values::FAMILIES;

/// Cases when the environment names no number.
const CASES: u64 = 400;

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let Ok(value) = value.parse() else {
        panic!("{name} must be a whole number, not {value:?}");
    };
    Some(value)
}

/// Checks the cases the environment asks for, `default` many if it does not say.
fn run(draw: fn(u64) -> Case, default: u64) {
    let seed = from_env("BURN_IVF_FUZZ_SEED");
    let cases = from_env("BURN_IVF_FUZZ_CASES").unwrap_or(if seed.is_some() { 1 } else { default });
    let first = seed.unwrap_or(0);
    for seed in first..first.saturating_add(cases) {
        let case = draw(seed);
        let result = catch_unwind(AssertUnwindSafe(|| check(&case)))
            .unwrap_or_else(|_| Err("panicked (see above)".into()));
        if let Err(why) = result {
            panic!(
                "seed {seed}: {why}\n  {}\n  replay with BURN_IVF_FUZZ_SEED={seed}",
                case.describe()
            );
        }
    }
}

#[test]
fn scan_and_rerank_agree_with_f64() {
    run(Case::draw, CASES);
}

#[test]
fn crowded_scans_agree_with_f64() {
    run(Case::draw_crowded, CASES / 4);
}

/// The cases drawn by default meet what the module doc promises.
#[test]
fn default_cases_cover_the_sizes() {
    let cases: Vec<Case> = (0..CASES).map(Case::draw).collect();
    let any = |what: fn(&Case) -> bool| cases.iter().any(what);
    for residue in 0..16 {
        assert!(
            cases.iter().any(|case| case.shape.d % 16 == residue),
            "no d = {residue} mod 16"
        );
    }
    for family in FAMILIES {
        for metric in Metric::ALL {
            assert!(
                cases
                    .iter()
                    .any(|case| (case.family, case.shape.metric) == (family, metric)),
                "no {family:?} under {metric}"
            );
        }
    }
    assert!(any(|case| case.shape.d > 768));
    assert!(any(|case| case.shape.nq == 0));
    assert!(any(|case| case.shape.nprobe == 0));
    assert!(any(|case| case.rows.is_empty()));
    assert!(any(|case| case.shape.rows() > 2000));
    assert!(any(|case| case.shape.k > case.shape.rows()));
    assert!(any(|case| case.shape.sizes.contains(&1)));
    assert!(any(|case| case.ids.is_none()));
    assert!(any(|case| case.exact && !case.rows.is_empty()));
    assert!(any(
        |case| (0..case.shape.nq).any(|i| !case.is_searchable(i))
    ));
    assert!(
        cases
            .iter()
            .all(|case| case.rows.iter().all(|v| v.is_finite()))
    );
}

/// The matching of hits to rows of one id finds a solution where there is one, and only there.
#[test]
fn rows_of_one_id_are_told_apart_by_key() {
    let row = |low, high| Allowed { id: 1, low, high };
    let rows = [row(0, 9), row(1, 2), row(3, 5)];
    assert!(matches(&[(1, 1), (1, 4), (1, 6)], &rows).is_ok());
    assert!(matches(&[(1, 1), (1, 2), (1, 5)], &rows).is_ok());
    assert!(matches(&[(1, 1), (1, 6), (1, 7)], &rows).is_err());
    assert!(matches(&[(1, 1), (1, 4)], &rows).is_err());
    assert!(matches(&[(1, 1), (1, 4), (2, 6)], &rows).is_err());
}
