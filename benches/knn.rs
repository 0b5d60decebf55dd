//! Time of `knn` by each metric, one JSON line a metric; `benches/peers/knn.py` prints the same for
//! faiss. Sizes: `--nb 100000 --d 128 --nq 512 --k 10 --repeat 3`, metrics as words.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

#[cfg(feature = "ndarray")]
fn main() {
    use burn::{
        backend::NdArray,
        tensor::{Distribution, Tensor},
    };
    use burn_ivf::{KnnLimits, Metric, knn};
    use std::time::Instant;

    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: usize| {
        let at = words.iter().position(|word| word == name);
        at.map_or(default, |at| words[at + 1].parse().unwrap())
    };
    let (nb, d) = (number("--nb", 100_000), number("--d", 128));
    let (nq, k) = (number("--nq", 512), number("--k", 10));
    let repeat = number("--repeat", 3);
    let mut metrics: Vec<Metric> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if metrics.is_empty() {
        metrics = Metric::ALL.to_vec();
    }
    let device = Default::default();
    let uniform = Distribution::Default;
    let xb = Tensor::<NdArray, 2>::random([nb, d], uniform, &device);
    let xq = Tensor::<NdArray, 2>::random([nq, d], uniform, &device);
    for metric in metrics {
        let mut times: Vec<f64> = (0..=repeat)
            .map(|_| {
                let start = Instant::now();
                let hits = knn(xq.clone(), xb.clone(), k, metric, &KnnLimits::NONE).unwrap();
                assert_eq!(hits.to_vecs().1.len(), nq * k);
                start.elapsed().as_secs_f64() * 1e3
            })
            .skip(1)
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{{\"library\":\"burn-ivf\",\"metric\":\"{metric}\",\"nb\":{nb},\"d\":{d},\"nq\":{nq},\"k\":{k},\"ms\":{:.1},\"ms_min\":{:.1}}}",
            times[times.len() / 2],
            times[0]
        );
    }
}

#[cfg(not(feature = "ndarray"))]
fn main() {}
