//! What selectors and limits cost and give: seconds per search beside the unrestricted one in the
//! same run, with the share of the right answers found.
//!
//! `cargo bench --bench limits [-- ../shared/data/wordnet-minilm-384-ip]`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss
)]

use burn::{
    backend::NdArray,
    tensor::{DType, Tensor, TensorData},
};
use burn_ivf::{
    Budget, IdSelector, IndexIvfFlat, Limit, ListOrdering, MaxCodes, MaxCodesRule, Metric, Profile,
    SearchParams, recall_at_k,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::{fs::File, io::BufReader, path::Path, time::Instant};

type B = NdArray;

fn main() {
    let folder = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    if let Some(folder) = folder {
        filters(Path::new(&folder));
    }
    limits();
}

fn tensor(data: Vec<f32>, d: usize) -> Tensor<B, 2> {
    let shape = [data.len() / d, d];
    Tensor::from_data(
        TensorData::new(data, shape),
        (&Default::default(), DType::F32),
    )
}

fn normal(n: usize, d: usize, seed: u64) -> Vec<f32> {
    StandardNormal
        .sample_iter(ChaCha8Rng::seed_from_u64(seed))
        .take(n * d)
        .collect()
}

/// The median seconds of some searches, and the last answer's ids.
fn time(mut search: impl FnMut() -> Vec<i64>) -> (f64, Vec<i64>) {
    let mut ids = search();
    let begun = Instant::now();
    while begun.elapsed().as_millis() < 50 {
        ids = search();
    }
    let mut seconds: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            ids = search();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    (seconds[3], ids)
}

fn row(name: &str, seconds: f64, beside: f64, recall: Option<f64>) {
    let recall = recall.map_or_else(|| "-".to_owned(), |recall| format!("{recall:.4}"));
    println!(
        "| {name} | {:.2} ms | {:.2} | {recall} |",
        seconds * 1e3,
        seconds / beside
    );
}

/// Label filters of real data at full probe.
fn filters(folder: &Path) {
    let read = |name: &str| {
        let file = BufReader::new(File::open(folder.join(name)).unwrap());
        let npy = npyz::NpyFile::new(file).unwrap();
        let d = npy
            .shape()
            .get(1)
            .map_or(1, |&d| usize::try_from(d).unwrap());
        let values: Vec<f32> = match npy.dtype().descr().trim_matches('\'') {
            "<f2" => npy
                .into_vec::<half::f16>()
                .unwrap()
                .iter()
                .map(|v| v.to_f32())
                .collect(),
            "<i4" => npy
                .into_vec::<i32>()
                .unwrap()
                .iter()
                .map(|&v| v as f32)
                .collect(),
            "|u1" => npy
                .into_vec::<u8>()
                .unwrap()
                .iter()
                .map(|&v| f32::from(v))
                .collect(),
            other => panic!("{name}: {other}"),
        };
        (values, d)
    };
    let (base, d) = read("base.npy");
    let (queries, _) = read("queries.npy");
    let (labels, _) = read("labels.npy");
    let (asked, _) = read("queries_filter_label.npy");
    let (truth, width) = read("gt_filtered_ip_ids.npy");
    let truth: Vec<i64> = truth.iter().map(|&id| id as i64).collect();
    let selectors: Vec<IdSelector> = (0..45)
        .map(|label| {
            let ids = labels
                .iter()
                .enumerate()
                .filter(|(_, l)| **l == label as f32);
            IdSelector::batch(ids.map(|(id, _)| id as i64))
        })
        .collect();
    let of: Vec<u32> = asked.iter().map(|&label| label as u32).collect();
    let (base, queries) = (tensor(base, d), tensor(queries, d));
    let mut index = IndexIvfFlat::<B>::builder(d)
        .nlist(256)
        .metric(Metric::InnerProduct)
        .build(&Default::default())
        .unwrap();
    index.train(base.clone()).unwrap();
    index.add(base).unwrap();
    println!(
        "| wordnet, 2000 queries, k 10, full probe | time | / unfiltered | recall of the filtered truth |"
    );
    println!("|---|---:|---:|---:|");
    let all = SearchParams::exact().with_nprobe(256);
    let search = |params: &SearchParams| {
        index
            .search_with(queries.clone(), 10, params)
            .unwrap()
            .to_vecs()
            .1
    };
    let (plain, _) = time(|| search(&all));
    row("no selector", plain, plain, None);
    let own = all.clone().with_query_selectors(selectors, of);
    let (seconds, ids) = time(|| search(&own));
    row(
        "a label per query (median 2.6 %)",
        seconds,
        plain,
        recall_at_k(&ids, &truth, 10, width, 10).ok(),
    );
    for keep in [1, 2, 10, 50, 90, 100] {
        let shared = IdSelector::batch((0..50_000).filter(|id| id * 37 % 100 < keep));
        let params = all.clone().with_selector(shared);
        let (seconds, _) = time(|| search(&params));
        row(&format!("one selector, {keep} %"), seconds, plain, None);
    }
}

/// The seed workload under limits.
fn limits() {
    let (n, d, nlist) = (262_144, 128, 512);
    let base = tensor(normal(n, d, 1), d);
    let mut index = IndexIvfFlat::<B>::builder(d)
        .nlist(nlist)
        .nprobe(32)
        .build(&Default::default())
        .unwrap();
    index.train(base.clone().slice([0..20_480, 0..d])).unwrap();
    index.add(base.clone()).unwrap();
    for nq in [1, 512, 2048] {
        let queries = tensor(normal(nq, d, 2), d);
        let own = base.clone().slice([0..nq, 0..d]);
        let search = |params: &SearchParams| {
            index
                .search_with(queries.clone(), 20, params)
                .unwrap()
                .to_vecs()
                .1
        };
        println!(
            "\n| seed workload, nq {nq}, k 20, nprobe 32 | time | / exact | recall@20 against exact | finds itself |"
        );
        println!("|---|---:|---:|---:|---:|");
        let (plain, exact) = time(|| search(&SearchParams::exact()));
        let mut cases = vec![
            ("exact".to_owned(), SearchParams::exact()),
            (
                "safe pruning".to_owned(),
                SearchParams::exact().with_safe_pruning(true),
            ),
            (
                "a selector of all".to_owned(),
                SearchParams::exact().with_selector(IdSelector::All),
            ),
        ];
        for codes in [4096, 8192, 16_384, 32_768] {
            cases.push((
                format!("max_codes {codes}"),
                SearchParams::default().with_max_codes(codes),
            ));
        }
        let cut = MaxCodes::new(8192).with_rule(MaxCodesRule::ExactCodes);
        cases.push((
            "max_codes 8192, exact".to_owned(),
            SearchParams::default().with_limit(Limit::MaxCodes(cut)),
        ));
        for (name, budget) in [
            ("uniform 8192", Budget::uniform(8192)),
            ("by distance 8192", Budget::distance_weighted(8192)),
            ("dynamic 8192", Budget::dynamic_nprobe(8192)),
        ] {
            let near = SearchParams::default().with_budget(budget);
            let params = near.clone().with_list_ordering(ListOrdering::Insertion);
            cases.push((name.to_owned(), params));
            cases.push((format!("{name}, near rows first"), near));
        }
        for profile in Profile::ALL {
            cases.push((profile.to_string(), SearchParams::of(profile)));
        }
        for (name, params) in cases {
            let (seconds, ids) = time(|| search(&params));
            let itself = index
                .search_with(own.clone(), 1, &params)
                .unwrap()
                .to_vecs()
                .1;
            let hits = itself
                .iter()
                .enumerate()
                .filter(|(q, id)| *q as i64 == **id)
                .count();
            println!(
                "| {name} | {:.2} ms | {:.2} | {:.4} | {:.4} |",
                seconds * 1e3,
                seconds / plain,
                recall_at_k(&ids, &exact, 20, 20, 20).unwrap_or(f64::NAN),
                hits as f64 / nq as f64
            );
        }
    }
}
