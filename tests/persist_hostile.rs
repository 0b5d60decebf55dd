//! Damaged and hostile files: an error for each, no panic, no memory beyond ten times the file.
//!
//! `BURN_IVF_MUTATIONS` sets how many files are tried, 10,000 by default. Half are damaged at random,
//! which a checksum must notice; in the others checksums are made right again, so that what lies
//! behind them is tried too.
#![cfg(feature = "ndarray")]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

#[path = "fuzz/own.rs"]
mod own;

use burn::{
    backend::NdArray,
    tensor::{Tensor, TensorData},
};
use burn_ivf::{Error, IndexFlat, IndexIvfFlat, KMeansParams, Metric};
use own::{allowed, load, load_file, number, reseal, sections};
use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

type B = NdArray;

/// One test at a time: memory is counted for the process.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // threads and their buffers are made before anything is counted
    rayon::broadcast(|_| ());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes taken while `work` ran, beyond those held before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = work();
    (result, MEMORY.peak_usage().saturating_sub(before))
}

fn values(n: usize, d: usize) -> Tensor<B, 2> {
    let values = (0..n * d)
        .map(|i| ((i * 7919) % 1009) as f32 / 16.0)
        .collect();
    Tensor::from_data(
        TensorData::new::<f32, _>(values, [n, d]),
        &Default::default(),
    )
}

/// Whole files, each with whether it holds a flat index: the golden ones and larger ones.
fn files() -> Vec<(Vec<u8>, bool)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_format");
    let mut files: Vec<(Vec<u8>, bool)> = ["v1_flat", "v1_ivf", "v1_untrained"]
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(golden.join(format!("{name}.index"))).unwrap();
            (bytes, name == "v1_flat")
        })
        .collect();
    let mut bytes = Vec::new();
    let mut flat = IndexFlat::<B>::new(9, Metric::L2, &Default::default()).unwrap();
    flat.add(values(60, 9)).unwrap();
    flat.write_to(&mut bytes).unwrap();
    files.push((core::mem::take(&mut bytes), true));
    let kmeans = KMeansParams {
        niter: 1,
        ..KMeansParams::default()
    };
    let builder = IndexIvfFlat::<B>::builder(16)
        .nlist(11)
        .kmeans(kmeans)
        .nprobe(2);
    let mut ivf = builder.build(&Default::default()).unwrap();
    ivf.train(values(150, 16)).unwrap();
    ivf.add(values(150, 16)).unwrap();
    ivf.write_to(&mut bytes).unwrap();
    files.push((bytes, false));
    files
}

/// Numbers that break what is careless with numbers.
fn nasty(rng: &mut ChaCha8Rng) -> u64 {
    let known = [
        0,
        1,
        2,
        3,
        7,
        8,
        63,
        64,
        65,
        255,
        1 << 16,
        (1 << 31) - 1,
        1 << 31,
        u64::MAX,
    ];
    let more = [
        u64::MAX - 7,
        1 << 62,
        1 << 63,
        u64::from(u32::MAX),
        1 << 40,
        1 << 28,
    ];
    match rng.random_range(0..3) {
        0 => *known.choose(rng).unwrap(),
        1 => *more.choose(rng).unwrap(),
        _ => rng.random(),
    }
}

fn write_number(file: &mut [u8], at: usize, value: u64, bytes: usize) {
    let end = (at + bytes).min(file.len());
    if at < end {
        file[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
    }
}

/// Changes a file somewhere.
fn mutate(file: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..file.len().max(1));
        match rng.random_range(0..9) {
            0 if !file.is_empty() => file[at] ^= 1 << rng.random_range(0..8),
            1 if !file.is_empty() => file[at] = rng.random(),
            2 => file.truncate(at),
            3 => file.extend((0..rng.random_range(1..200)).map(|_| rng.random::<u8>())),
            4 if at < file.len() => {
                drop(file.drain(at..(at + rng.random_range(1..80)).min(file.len())))
            }
            // a number of the header, of a table entry, or of a section
            5 => write_number(
                file,
                [8, 12, 16, 20, 24, 32][rng.random_range(0..6)],
                nasty(rng),
                4,
            ),
            6 => {
                let entry = 64 + 32 * rng.random_range(0..8);
                let (field, bytes) =
                    [(0, 4), (4, 4), (8, 8), (16, 8), (24, 8)][rng.random_range(0..5)];
                write_number(file, entry + field, nasty(rng), bytes);
            }
            _ => {
                let sections = if file.len() < 64 {
                    Vec::new()
                } else {
                    sections(file)
                };
                if let Some(&(_, offset, length)) = sections.choose(rng) {
                    let at = offset + rng.random_range(0..length.max(1)) / 4 * 4;
                    let bytes = if rng.random() { 4 } else { 8 };
                    write_number(
                        file,
                        at,
                        nasty(rng),
                        bytes.min(offset + length - at.min(offset + length)),
                    );
                }
            }
        }
    }
}

#[test]
fn mutated_files() {
    let _turn = alone();
    let files = files();
    let tries: usize = std::env::var("BURN_IVF_MUTATIONS").map_or(10_000, |n| n.parse().unwrap());
    let seed = std::env::var("BURN_IVF_MUTATIONS_SEED").map_or(1, |n| n.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an.index");
    let (mut sound, mut kinds) = (0, std::collections::BTreeMap::new());
    for i in 0..tries {
        let (original, flat) = files.choose(&mut rng).unwrap();
        let mut file = original.clone();
        mutate(&mut file, &mut rng);
        let sealed = i % 2 == 1;
        if sealed {
            reseal(&mut file);
        }
        let (result, taken) = peak(|| load(&file, *flat));
        assert!(
            taken <= allowed(&file),
            "{taken} bytes for a file of {}: {result:?}",
            file.len()
        );
        // On the disk, where lengths are known; not every time, for the time it takes.
        if i % 16 < 2 {
            std::fs::write(&path, &file).unwrap();
            let (on_disk, taken) = peak(|| load_file(&path, *flat));
            assert!(
                taken <= allowed(&file),
                "{taken} bytes for {} on disk",
                file.len()
            );
            assert!(on_disk.is_err() || result.is_ok(), "{on_disk:?} {result:?}");
        }
        match result {
            // What is read may be followed by more in a stream.
            Ok(_) if !sealed => assert!(file.starts_with(original), "damage went unnoticed"),
            Ok(again) => {
                sound += 1;
                load(&again, *flat).unwrap();
            }
            Err(error) => {
                let name = format!("{error:?}");
                let name = name.split([' ', '(']).next().unwrap().to_owned();
                *kinds.entry(name).or_insert(0) += 1;
            }
        }
    }
    eprintln!("{tries} files: {kinds:?}, {sound} sound after all");
    for kind in [
        "NotAnIndex",
        "NewerFormat",
        "Truncated",
        "Checksum",
        "Corrupt",
        "UnknownInFile",
    ] {
        assert!(
            kinds.contains_key(kind) || tries < 1000,
            "no file led to {kind}"
        );
    }
}

#[test]
fn every_truncation() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an.index");
    for (file, flat) in files() {
        for len in 0..file.len() {
            let (result, taken) = peak(|| load(&file[..len], flat));
            let error = result.unwrap_err();
            let right = matches!(error, Error::Truncated { .. } | Error::NotAnIndex { .. });
            assert!(right, "{len} of {}: {error}", file.len());
            assert!(taken <= allowed(&file[..len]), "{taken} bytes for {len}");
            if len % 13 == 0 {
                std::fs::write(&path, &file[..len]).unwrap();
                load_file(&path, flat).unwrap_err();
            }
        }
    }
}

/// Every single bit of a file matters.
#[test]
fn every_flipped_bit_is_noticed() {
    let _turn = alone();
    for (file, flat) in files() {
        let mut damaged = file.clone();
        for bit in 0..8 * file.len() {
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = load(&damaged, flat).unwrap_err();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(error, Error::Io { .. }), "{error}");
        }
        assert_eq!(damaged, file);
    }
}

/// A stream that claims to hold more than there is gets no more memory for it.
#[test]
fn claims_cost_nothing() {
    let _turn = alone();
    let (file, _) = files().remove(4);
    let (_, info, _) = sections(&file)[0];
    for (at, value) in [(info, 1 << 28), (info + 8, 1 << 31), (info + 16, 1 << 31)] {
        let mut claim = file.clone();
        write_number(&mut claim, at, value, 8);
        reseal(&mut claim);
        let (result, taken) = peak(|| load(&claim, false));
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
        assert!(taken <= allowed(&claim));
    }
    // a table that agrees with the claim: 2^26 components, 2^20 lists, 2^30 rows
    for (d, nlist, ntotal) in [
        (1_u64 << 26, 11, 150),
        (16, 1 << 20, 150),
        (16, 11, 1 << 30),
    ] {
        let mut claim = file.clone();
        for (i, value) in [d, nlist, ntotal].into_iter().enumerate() {
            write_number(&mut claim, info + 8 * i, value, 8);
        }
        let mut at = 0;
        for i in 0..number(&file, 16, 4) as usize {
            let entry = 64 + 32 * i;
            let length = match &file[entry..entry + 4] {
                b"CENT" => 4 * nlist * d,
                b"SIZE" => 8 * nlist,
                b"IDS " => 8 * ntotal,
                b"VECS" => 4 * ntotal * d,
                _ => number(&file, entry + 16, 8),
            };
            let offset = if i == 0 { info as u64 } else { at };
            write_number(&mut claim, entry + 8, offset, 8);
            write_number(&mut claim, entry + 16, length, 8);
            at = (offset + length + 8).next_multiple_of(64);
        }
        write_number(&mut claim, 24, at, 8);
        reseal(&mut claim);
        let (result, taken) = peak(|| load(&claim, false));
        assert!(result.is_err(), "{result:?}");
        assert!(
            taken <= allowed(&claim) + (2 << 20),
            "{taken} bytes for a claim"
        );
    }
}
