//! Files that nobody wrote: every reader against mutated files and every truncation.
//!
//! ```sh
//! cargo test --features ndarray --test fuzz                                          # 10,000 files
//! BURN_IVF_FUZZ_CASES=1000000 cargo test --features ndarray --test fuzz -- --nocapture
//! ```
//!
//! `.ci/fuzz` runs the same functions under libFuzzer (`fuzz_targets/`, a cargo-fuzz project).
//!
//! `BURN_IVF_FUZZ_SEED` (1) begins another sequence. A reader may refuse a file by a typed error or
//! accept it; what it accepts must work. It may not panic, nor hold more than ten times the file's
//! bytes (and [`targets::SLACK`]) at any time. A failure names seed file, seed and case.
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking and prints how far it came"
)]

mod memory;
mod mutate;
mod targets;

use mutate::Mutator;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};
use targets::{Scratch, seeds};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs one file through its readers; whether one accepted it.
fn run(scratch: &Scratch, kind: targets::Kind, file: &[u8], what: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| targets::run(scratch, kind, file)));
    let Ok(outcome) = outcome else {
        panic!("{what}: panicked on {} bytes: {file:02x?}", file.len());
    };
    outcome.check(file, what);
    outcome.accepted
}

/// What is held is counted over the whole process, so tests take turns.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn readers_survive() {
    let _turn = TURN.lock().unwrap();
    // On a worker of the pool, so that none of a million small files waits for another thread.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(mutated_files);
}

fn mutated_files() {
    let scratch = Scratch::new();
    // Whatever is made once (thread pools, tables) is made before anything is counted.
    for seed in seeds() {
        targets::run(&scratch, seed.kind, &seed.bytes);
    }
    let mut cut = 0_u64;
    for seed in seeds() {
        for len in 0..seed.bytes.len() {
            let what = format!("{} cut to {len}", seed.name);
            let accepted = run(&scratch, seed.kind, &seed.bytes[..len], &what);
            // A file of rows is whole at each row's end.
            assert!(
                !accepted || seed.kind == targets::Kind::Vecs,
                "{what}: accepted"
            );
            cut += 1;
        }
    }
    let (cases, first) = (
        number("BURN_IVF_FUZZ_CASES", 10_000),
        number("BURN_IVF_FUZZ_SEED", 1),
    );
    let all = seeds();
    let (mut accepted, start) = (0_u64, std::time::Instant::now());
    for case in 0..cases {
        let mut mutator = Mutator::new(first, case);
        let seed = mutator.pick(&all);
        let other = mutator.pick(&all);
        let file = mutator.mutate(&seed.bytes, &other.bytes);
        let what = format!("{}, BURN_IVF_FUZZ_SEED={first}, case {case}", seed.name);
        accepted += u64::from(run(&scratch, seed.kind, &file, &what));
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "fuzz: {cut} truncations, {cases} mutated files of {} seeds in {seconds:.0} s, {accepted} \
         accepted, no panic",
        all.len()
    );
    // The mutations reach beyond the first check, and do not leave files as they are.
    assert!(
        accepted > cases / 100 && accepted < cases * 9 / 10,
        "{accepted} accepted"
    );
}

/// Writes the seeds into a folder for each kind, for `.ci/fuzz`, which looks for more by coverage.
#[test]
#[ignore = "a tool: writes to $BURN_IVF_FUZZ_CORPUS"]
fn corpus() {
    let to = std::path::PathBuf::from(std::env::var_os("BURN_IVF_FUZZ_CORPUS").unwrap());
    for seed in seeds() {
        let folder = to.join(format!("{:?}", seed.kind).to_lowercase());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(&seed.name), &seed.bytes).unwrap();
    }
}

/// Long files that are wrong at their end take as long as right ones: about a second in all.
#[test]
fn long_files_take_linear_time() {
    let _turn = TURN.lock().unwrap();
    let start = std::time::Instant::now();
    // 400,000 rows of one component and half a row
    let rows: Vec<u8> = (0..400_000_u32)
        .flat_map(|x| [1_u32.to_le_bytes(), x.to_le_bytes()].concat())
        .collect();
    let ragged = [&rows[..], &[1, 0]].concat();
    let scratch = Scratch::new();
    assert!(!targets::run(&scratch, targets::Kind::Vecs, &ragged).accepted);
    // 100,000 sparse lists of one row each, the last id missing
    let file = targets::sparse_ivf(100_000);
    assert!(targets::run(&scratch, targets::Kind::Faiss, &file).accepted);
    assert!(!targets::run(&scratch, targets::Kind::Faiss, &file[..file.len() - 1]).accepted);
    // a header of brackets
    let mut npy = b"\x93NUMPY\x01\0\x10\x27".to_vec();
    npy.extend(std::iter::repeat_n(b'[', 10_000));
    assert!(!targets::run(&scratch, targets::Kind::Npy, &npy).accepted);
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds < 120.0, "{seconds} s");
}
