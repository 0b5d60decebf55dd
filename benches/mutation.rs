//! Removing, reconstructing and merging on the seed workload: one JSON line per operation.
//!
//! `cargo bench --bench mutation -- [vectors] [d] [nlist]`, by default 262144, 128 and 512, on the CPU.
//! `benches/peers/faiss_mutation.py` prints the same lines for faiss-cpu. Every answer is checked
//! before its time is printed.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[cfg(feature = "ndarray")]
mod bench {
    use burn::{backend::NdArray, tensor::Tensor};
    use burn_ivf::{IdSelector, IndexFlat, IndexIvfFlat, Metric, Subset};
    use rand::{SeedableRng, seq::SliceRandom};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};
    use std::time::Instant;

    type B = NdArray;

    /// Times of five runs on copies that share nothing, smallest and middle.
    fn measure<T, R>(
        what: &str,
        mut start: impl FnMut() -> T,
        mut run: impl FnMut(&mut T) -> R,
        check: impl Fn(&T, R),
    ) {
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let mut state = start();
                let clock = Instant::now();
                let result = run(&mut state);
                let time = clock.elapsed().as_secs_f64() * 1e3;
                check(&state, result);
                time
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{{\"library\":\"burn-ivf\",\"operation\":\"{what}\",\"ms\":{:.3},\"ms_min\":{:.3}}}",
            times[2], times[0]
        );
    }

    pub fn main() {
        let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
        let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
        let (n, d, nlist) = (number(0, 262_144), number(1, 128), number(2, 512));
        let device = Default::default();
        let rng = ChaCha8Rng::seed_from_u64(1);
        let data: Vec<f32> = StandardNormal.sample_iter(rng).take(n * d).collect();
        let x = |from: usize, to: usize| {
            let data =
                burn::tensor::TensorData::new(data[from * d..to * d].to_vec(), [to - from, d]);
            Tensor::<B, 2>::from_data(data, &device)
        };
        // Rows as centroids: lists of the sizes a search would meet, without the training.
        let ivf = |from: usize, to: usize| {
            let mut index = IndexIvfFlat::from_centroids(x(0, nlist), Metric::L2).unwrap();
            index.add(x(from, to)).unwrap();
            index
        };
        let flat = || {
            let mut index = IndexFlat::<B>::new(d, Metric::L2, &device).unwrap();
            index.add(x(0, n)).unwrap();
            index
        };
        let mut ids: Vec<i64> = (0..n as i64).collect();
        ids.shuffle(&mut ChaCha8Rng::seed_from_u64(2));
        for (share, name) in [(n / 100, "1 %"), (n / 2, "50 %")] {
            let gone = IdSelector::batch(ids[..share].iter().copied());
            let what = format!("ivf, remove {name} of ids at random");
            measure(
                &what,
                || ivf(0, n),
                |i| i.remove_ids(&gone).unwrap(),
                |i, r| {
                    assert_eq!((r, i.ntotal()), (share, n - share));
                },
            );
            let what = format!("flat, remove {name} of ids at random");
            measure(
                &what,
                flat,
                |i| i.remove_ids(&gone).unwrap(),
                |i, r| {
                    assert_eq!((r, i.ntotal()), (share, n - share));
                },
            );
        }
        let asked = &ids[..n.min(100_000)];
        let expected = &data[asked[7] as usize * d..][..d];
        let check = |x: Tensor<B, 2>| {
            let row = x.slice([7..8, 0..d]).into_data().to_vec::<f32>().unwrap();
            assert_eq!(row, expected);
        };
        measure(
            "ivf, reconstruct 100000 ids, first call",
            || ivf(0, n),
            |i| i.reconstruct_batch(asked).unwrap(),
            |_, x| check(x),
        );
        let known = || {
            let index = ivf(0, n);
            index.reconstruct(0).unwrap();
            index
        };
        measure(
            "ivf, reconstruct 100000 ids",
            known,
            |i| i.reconstruct_batch(asked).unwrap(),
            |_, x| check(x),
        );
        measure(
            "ivf, merge two halves",
            || (ivf(0, n / 2), ivf(n / 2, n)),
            |(a, b)| a.merge_from(b, (n / 2) as i64).unwrap(),
            |(a, b), ()| assert_eq!((a.ntotal(), b.ntotal()), (n, 0)),
        );
        measure(
            "ivf, copy every second id",
            || ivf(0, n),
            |i| {
                i.copy_subset(&Subset::IdModulo {
                    modulus: 2,
                    remainder: 1,
                })
                .unwrap()
            },
            |_, copy| assert_eq!(copy.ntotal(), n / 2),
        );
    }
}

fn main() {
    #[cfg(feature = "ndarray")]
    bench::main();
}
