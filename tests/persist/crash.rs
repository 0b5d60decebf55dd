//! Crashes: a process that saves without end is killed at random moments. The old file or the new one
//! is there after each, whole.

use super::{
    B, bytes,
    files::{child, child_path},
    ivf,
};
use burn_ivf::IndexIvfFlat;
use rand::{Rng, SeedableRng};
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

fn indexes() -> [IndexIvfFlat<B>; 2] {
    [ivf(3000, 32, 12, 1), ivf(4000, 32, 7, 2)]
}

/// 50 rounds, or as many as `BURN_IVF_CRASHES` says.
#[test]
fn a_killed_save_leaves_a_whole_file() {
    let rounds = std::env::var("BURN_IVF_CRASHES").map_or(50, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an.index");
    let [a, b] = indexes();
    let files = [bytes!(a), bytes!(b)];
    a.save(&path).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let (mut found, mut left) = ([0, 0], 0);
    for round in 0..rounds {
        let ready = folder.path().join("ready");
        let mut command = child("crash::child_saves_for_ever", &path).command;
        let mut process = command.env("BURN_IVF_TEST_READY", &ready).spawn().unwrap();
        let started = Instant::now();
        while !ready.exists() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the child does not start"
            );
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_micros(rng.random_range(0..12_000)));
        process.kill().unwrap();
        process.wait().unwrap();
        let index = IndexIvfFlat::<B>::load(&path, &Default::default());
        let index = index.unwrap_or_else(|e| panic!("round {round}: {e}"));
        let bytes = bytes!(index);
        assert_eq!(bytes, fs::read(&path).unwrap());
        let which = files.iter().position(|file| *file == bytes);
        found[which.unwrap_or_else(|| panic!("round {round}: neither file"))] += 1;
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.path() != path {
                left += usize::from(entry.path() != ready);
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    eprintln!("{rounds} crashes: {found:?} whole files, {left} temporary files left");
    assert!(
        rounds < 50 || left > 0,
        "no save was hit: this test shows nothing"
    );
}

#[test]
#[ignore = "a child process of the test above"]
fn child_saves_for_ever() {
    let (indexes, path) = (indexes(), child_path());
    fs::write(std::env::var("BURN_IVF_TEST_READY").unwrap(), "").unwrap();
    for index in indexes.iter().cycle() {
        index.save(&path).unwrap();
    }
}
