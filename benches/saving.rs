//! How fast indexes are saved, loaded and searched in their file, and how much memory that takes.
//!
//! ```sh
//! cargo bench --bench saving -- serve PATH [n d nlist]   # for benches/peers/saving.py, which compares with faiss
//! /usr/bin/time -v cargo bench --bench saving -- save PATH [n d nlist]
//! /usr/bin/time -v cargo bench --bench saving -- load PATH
//! /usr/bin/time -v cargo bench --bench saving -- copy PATH OTHER   # load, then save
//! ```
//!
//! `serve` answers each line of its input by milliseconds: `write` (to a new file, without waiting for
//! the disk, as faiss does), `save` (replaces the file, on the disk when it returns), `load`, and
//! `search NQ` and `mapped NQ` (searches of the loaded index and in the file).
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use burn::{
    backend::NdArray,
    tensor::{DType, Tensor, TensorData},
};
use burn_ivf::{IndexIvfFlat, Metric};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{fs::File, io::BufRead, time::Instant};

type B = NdArray;

/// Uniform vectors.
fn vectors(n: usize, d: usize, rng: &mut ChaCha8Rng) -> Tensor<B, 2> {
    let values: Vec<f32> = (0..n * d).map(|_| rng.random()).collect();
    let data = TensorData::new(values, [n, d]);
    Tensor::from_data(data, (&Default::default(), DType::F32))
}

/// An index of random vectors in random lists: what is stored matters here, not what is found.
fn build(n: usize, d: usize, nlist: usize) -> IndexIvfFlat<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let centroids = vectors(nlist, d, &mut rng);
    let mut index = IndexIvfFlat::from_centroids(centroids, Metric::L2).unwrap();
    let mut left = n;
    while left > 0 {
        let rows = left.min((64 << 20) / (4 * d));
        let lists: Vec<u32> = (0..rows)
            .map(|_| rng.random_range(0..nlist as u32))
            .collect();
        index
            .add_preassigned(vectors(rows, d, &mut rng), None, &lists)
            .unwrap();
        left -= rows;
    }
    index
}

fn milliseconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed().as_secs_f64() * 1e3, result)
}

fn serve(path: &str, (n, d, nlist): (usize, usize, usize)) {
    let device = Default::default();
    let mut index = build(n, d, nlist);
    index.set_nprobe(32.min(nlist)).unwrap();
    index.save(path).unwrap();
    let mapped = IndexIvfFlat::<B>::load_mmap(path, &device).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (command, nq) = line.split_once(' ').unwrap_or((&line, "1"));
        let queries = || vectors(nq.parse().unwrap(), d, &mut rng);
        let took = match command {
            "write" => {
                let other = format!("{path}.written");
                let took =
                    milliseconds(|| index.write_to(File::create(&other).unwrap()).unwrap()).0;
                std::fs::remove_file(other).unwrap();
                took
            }
            "save" => milliseconds(|| index.save(path).unwrap()).0,
            "load" => {
                let (took, loaded) =
                    milliseconds(|| IndexIvfFlat::<B>::load(path, &device).unwrap());
                assert_eq!(loaded.ntotal(), n);
                took
            }
            "search" => {
                let queries = { queries }();
                milliseconds(|| index.search(queries, 20).unwrap().to_vecs()).0
            }
            "mapped" => {
                let queries = { queries }();
                milliseconds(|| mapped.search(queries, 20).unwrap().to_vecs()).0
            }
            _ => panic!("{line}?"),
        };
        println!("{took:.3}");
    }
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let number = |i: usize, default| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let sizes = (number(2, 262_144), number(3, 128), number(4, 512));
    let path = args.get(1).map_or("saving.index", String::as_str);
    match args.first().map(String::as_str) {
        Some("serve") => serve(path, sizes),
        Some("save") => {
            let index = build(sizes.0, sizes.1, sizes.2);
            let (took, ()) = milliseconds(|| index.save(path).unwrap());
            let bytes = std::fs::metadata(path).unwrap().len();
            println!(
                "saved {bytes} bytes in {took:.0} ms; the index: {:?}",
                index.memory_info()
            );
        }
        Some("load" | "copy") => {
            let load = || IndexIvfFlat::<B>::load(path, &Default::default()).unwrap();
            let (took, index) = milliseconds(load);
            if args[0] == "copy" {
                index.save(&args[2]).unwrap();
            }
            println!(
                "loaded in {took:.0} ms: {} vectors, {:?}",
                index.ntotal(),
                index.memory_info()
            );
        }
        // `cargo test --benches` and `cargo bench` without arguments: that it works
        _ => {
            let index = build(1000, 16, 8);
            let mut bytes = Vec::new();
            index.write_to(&mut bytes).unwrap();
            let loaded = IndexIvfFlat::<B>::read_from(bytes.as_slice(), &Default::default());
            assert_eq!(loaded.unwrap().ntotal(), 1000);
            println!("works; see the head of benches/saving.rs");
        }
    }
}
