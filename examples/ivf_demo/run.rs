//! One run of the library on one backend: train, add, search, each step timed.
//!
//! Generic over the backend; knows nothing of command lines, and prints nothing but progress.

use std::time::Instant;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_ivf::{
    IndexFlat, IndexIvfFlat, IvfBackend, KMeansParams, KMeansReport, SearchParams, SearchResult,
    SearchStats,
};

use crate::Result;
use crate::args::Settings;
use crate::data::Dataset;
use crate::device::Choice;
use crate::progress::Progress;
use crate::report::{Pass, Report, Timings};
use crate::verify;

/// Rows handed to one `add`.
const ADD_BATCH: usize = 16_384;
/// Queries handed to one `search`; a figure of a pass is the sum over its batches.
const QUERY_BATCH: usize = 2048;
/// A search is timed this often, and the median counts, ...
const REPEATS: usize = 3;
/// ... unless it has already taken this long in all.
const LONG_ENOUGH_MS: f64 = 1000.0;

/// Everything a run needs, decided before a backend type is named.
pub struct Job<'a> {
    pub settings: &'a Settings,
    pub data: &'a Dataset,
    pub progress: &'a Progress,
    pub choice: &'a Choice,
}

/// The answer of one pass over all queries: `[nq, depth]`, row-major.
pub struct Answer {
    pub distances: Vec<f32>,
    pub labels: Vec<i64>,
    pub depth: usize,
}

/// Builds the indexes the job needs, searches them and judges the answers.
pub fn run<B: IvfBackend>(device: &B::Device, job: &Job<'_>) -> Result<Report> {
    let (settings, data) = (job.settings, job.data);
    let mut timings = Timings {
        load_ms: data.load_ms,
        ..Timings::default()
    };
    let (index, kmeans) = build_ivf::<B>(device, job, &mut timings)?;
    let ivf = |nprobe: usize| {
        let params = SearchParams::exact()
            .with_nprobe(nprobe)
            .with_mode(settings.mode);
        let index = &index;
        move |queries: Tensor<B, 2>, k: usize| index.search_with(queries, k, &params)
    };

    let mut passes = vec![timed::<B>("ivf", device, job, ivf(settings.nprobe))?];
    passes[0].0.nprobe = Some(settings.nprobe);
    if settings.wants_truth() {
        if settings.nprobe < settings.nlist {
            let mut all = timed::<B>("ivf_all_lists", device, job, ivf(settings.nlist))?;
            all.0.nprobe = Some(settings.nlist);
            passes.push(all);
        }
        let flat = build_flat::<B>(device, job, &mut timings)?;
        passes.push(timed::<B>("flat", device, job, |queries, k| {
            flat.search(queries, k)
        })?);
        verify::fill_quality(job, &mut passes);
    }
    let verdict = if settings.verify {
        Some(verify::judge(job, &passes))
    } else {
        None
    };
    let hits = crate::report::hits(job, &passes[0].1);
    Ok(Report {
        library: "burn-ivf",
        version: env!("CARGO_PKG_VERSION"),
        workload: if data.texts.is_some() {
            "text"
        } else {
            "synthetic"
        },
        backend: job.choice.entry.name,
        backend_name: B::name(device),
        device: format!("{device:?}"),
        device_choice: job.choice.why.clone(),
        nb: data.nb(),
        nq: data.nq(),
        d: data.d,
        settings: settings.clone(),
        kmeans,
        imbalance: index.imbalance_factor(),
        index_bytes: index.memory_info().total() as u64,
        timings,
        headline: passes[0].0.headline(),
        passes: passes.into_iter().map(|(pass, _)| pass).collect(),
        hits,
        verify: verdict,
    })
}

/// Trains on at most `max_train` rows, then adds every row.
fn build_ivf<B: IvfBackend>(
    device: &B::Device,
    job: &Job<'_>,
    timings: &mut Timings,
) -> Result<(IndexIvfFlat<B>, KMeansReport)> {
    let (settings, data) = (job.settings, job.data);
    let kmeans = KMeansParams {
        seed: settings.seed,
        ..KMeansParams::default()
    };
    // The rows are thinned out here, so that a large base is never copied for training; k-means
    // is to use all that it is given.
    let kmeans = KMeansParams {
        max_points_per_centroid: settings
            .max_train
            .div_ceil(settings.nlist)
            .max(kmeans.max_points_per_centroid),
        ..kmeans
    };
    let mut index = IndexIvfFlat::<B>::builder(data.d)
        .nlist(settings.nlist)
        .metric(settings.metric)
        .nprobe(settings.nprobe)
        .mode(settings.mode)
        .kmeans(kmeans)
        .build(device)?;

    let spinner = job.progress.spinner("training");
    let start = Instant::now();
    let report = index.train(data.training_rows(settings.max_train, device))?;
    wait::<B>(device)?;
    timings.train_ms = ms_since(start);
    spinner.finish_and_clear();

    timings.add_ms = add_all::<B>(device, job, "adding", |rows| index.add(rows))?;
    Ok((index, report))
}

/// The exhaustive index over the same rows.
fn build_flat<B: IvfBackend>(
    device: &B::Device,
    job: &Job<'_>,
    timings: &mut Timings,
) -> Result<IndexFlat<B>> {
    let mut flat = IndexFlat::<B>::new(job.data.d, job.settings.metric, device)?;
    timings.flat_add_ms = Some(add_all::<B>(device, job, "adding, flat", |rows| {
        flat.add(rows)
    })?);
    Ok(flat)
}

/// Hands every base row to `add`, batch by batch; returns the milliseconds it took.
fn add_all<B: IvfBackend>(
    device: &B::Device,
    job: &Job<'_>,
    what: &'static str,
    mut add: impl FnMut(Tensor<B, 2>) -> burn_ivf::Result<()>,
) -> Result<f64> {
    let nb = job.data.nb();
    let bar = job.progress.bar(what, nb);
    let start = Instant::now();
    for first in (0..nb).step_by(ADD_BATCH) {
        let rows = first..nb.min(first + ADD_BATCH);
        bar.inc(rows.len() as u64);
        add(job.data.base_rows(rows, device))?;
    }
    wait::<B>(device)?;
    bar.finish_and_clear();
    Ok(ms_since(start))
}

/// Searches all queries, once to warm up and then for the clock.
///
/// The time is from host vectors to host answers: upload, search and read-back.
fn timed<B: IvfBackend>(
    name: &'static str,
    device: &B::Device,
    job: &Job<'_>,
    search: impl Fn(Tensor<B, 2>, usize) -> burn_ivf::Result<SearchResult<B>>,
) -> Result<(Pass, Answer)> {
    let (nq, depth) = (job.data.nq(), job.settings.depth());
    let bar = job.progress.bar("searching", nq * (1 + REPEATS));
    let once = || -> Result<(Answer, Vec<SearchStats>)> {
        let mut answer = Answer {
            distances: Vec::with_capacity(nq * depth),
            labels: Vec::with_capacity(nq * depth),
            depth,
        };
        let mut stats = Vec::new();
        for first in (0..nq).step_by(QUERY_BATCH) {
            let rows = first..nq.min(first + QUERY_BATCH);
            bar.inc(rows.len() as u64);
            let found = search(job.data.query_rows(rows, device), depth)?;
            let (distances, labels) = found.to_vecs();
            answer.distances.extend(distances);
            answer.labels.extend(labels);
            stats.push(found.stats);
        }
        Ok((answer, stats))
    };

    let (answer, stats) = once()?;
    let mut times: Vec<f64> = Vec::new();
    while times.len() < REPEATS && times.iter().sum::<f64>() < LONG_ENOUGH_MS {
        let start = Instant::now();
        once()?;
        times.push(ms_since(start));
    }
    bar.finish_and_clear();
    times.sort_by(f64::total_cmp);
    Ok((Pass::new(name, nq, &times, &stats), answer))
}

/// Waits until the device has done everything it was given.
fn wait<B: Backend>(device: &B::Device) -> Result<()> {
    B::sync(device).map_err(|error| format!("the device failed: {error:?}").into())
}

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
