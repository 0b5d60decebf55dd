//! `eval`: recall, queries per second and latency of one or several settings.

use crate::{
    Context,
    args::Eval,
    index::{self, AnyIndex},
    measure::Workload,
    output::{Done, Failure, count, usage},
    outputs,
    plot::{self, Tradeoff},
};
use burn_ivf::{IvfBackend, Parameter, ParameterSpace, SearchParams, recall_at_k};
use serde_json::json;
use std::path::PathBuf;

/// Runs the command.
pub fn run<B: IvfBackend>(args: &Eval, context: &mut Context, device: &B::Device) -> Done {
    let inputs = [
        Some(&args.source.index),
        Some(&args.queries),
        args.truth.as_ref(),
    ];
    let inputs = inputs.into_iter().flatten().map(PathBuf::as_path);
    outputs::check(inputs, [args.plot.as_ref()])?;
    let spinner = context.progress.spinner("loading");
    let mut index = AnyIndex::<B>::open(&args.source, device)?;
    let mut file = index::queries(&args.queries, index.d())?;
    let nq = file.len();
    let queries = file.read_block(0, nq).map_err(Failure::at(&args.queries))?;
    spinner.finish_and_clear();
    let settings = settings(args, &index)?;
    let (truth, width, origin) = truth::<B>(args, context, &mut index, &queries, device)?;
    let mut points = Vec::new();
    header(args, context, &index, nq, &origin)?;
    let singles = nq.min(args.latency_queries);
    let bar = context
        .progress
        .bar("measuring", settings.len() * (singles + 1));
    for params in &settings {
        index.prepare(params)?;
        let work = Workload {
            index: &index,
            queries: &queries,
            k: args.k,
            device,
        };
        let (ids, seconds) = work.all(args.batch, params)?;
        bar.inc(1);
        let recall = recall_at_k(&ids, &truth, args.k, width, args.k)?;
        let latency = work.latency(singles, params, &bar)?;
        let ms = |seconds: f64| 1e3 * seconds;
        let qps = work.nq() as f64 / seconds;
        let name = name(params, &index);
        let value = json!({
            "index": args.source.index, "params": params.to_string(), "nprobe": params.nprobe.or(index.nprobe()),
            "k": args.k, "recall": recall, "truth": origin, "queries": nq,
            "qps": qps, "batch": args.batch.min(nq),
            "latency_ms": { "p50": ms(latency.p50), "p95": ms(latency.p95), "p99": ms(latency.p99) },
            "latency_queries": latency.queries, "device": context.device.to_string(),
        });
        let text = format!(
            "{name:24} {recall:10.4} {qps:12.0} {:9.3} {:9.3} {:9.3}",
            ms(latency.p50),
            ms(latency.p95),
            ms(latency.p99)
        );
        bar.suspend(|| {
            context.out.report(&value, text)?;
            context.out.finish()
        })?;
        points.push(Tradeoff { name, recall, qps });
    }
    bar.finish_and_clear();
    match &args.plot {
        Some(path) => plot::tradeoff(path, args.k, &points),
        None => Ok(()),
    }
}

/// The settings to measure, in the order given, then the grid.
fn settings<B: IvfBackend>(args: &Eval, index: &AnyIndex<B>) -> Done<Vec<SearchParams>> {
    let mut settings = args.params.clone();
    if args.grid {
        let Some(nlist) = index.nlist() else {
            return usage("--grid steps through nprobe, which a flat index does not have");
        };
        let powers = std::iter::successors(Some(1_usize), |value| value.checked_mul(2));
        let powers = powers.take_while(|&value| value < nlist.max(2));
        let space = ParameterSpace::new().with(Parameter::Nprobe, powers);
        settings.extend(space.combinations(&SearchParams::default()));
    }
    if settings.is_empty() {
        settings.push(SearchParams::default());
    }
    Ok(settings)
}

/// True neighbours, their number per query, and where they come from.
fn truth<B: IvfBackend>(
    args: &Eval,
    context: &Context,
    index: &mut AnyIndex<B>,
    queries: &[f32],
    device: &B::Device,
) -> Done<(Vec<i64>, usize, String)> {
    let nq = queries.len() / index.d();
    if let Some(path) = &args.truth {
        let (ids, width) = index::truth(path, nq, args.k)?;
        return Ok((ids, width, path.display().to_string()));
    }
    let spinner = context.progress.spinner("exhaustive");
    let all = match index.nlist() {
        Some(nlist) => SearchParams::exact().with_nprobe(nlist),
        None => SearchParams::default(),
    };
    let exhaustive = match index {
        AnyIndex::Mapped(_) => SearchParams {
            nprobe: all.nprobe,
            ..SearchParams::default()
        },
        _ => all,
    };
    let before = index.nprobe();
    index.prepare(&exhaustive)?;
    let work = Workload {
        index: &*index,
        queries,
        k: args.k,
        device,
    };
    let (ids, _) = work.all(args.batch, &exhaustive)?;
    index.prepare(&SearchParams {
        nprobe: before,
        ..SearchParams::default()
    })?;
    spinner.finish_and_clear();
    Ok((ids, args.k, "an exhaustive search of the index".to_owned()))
}

fn header<B: IvfBackend>(
    args: &Eval,
    context: &mut Context,
    index: &AnyIndex<B>,
    nq: usize,
    origin: &str,
) -> Done {
    if context.out.json() {
        return Ok(());
    }
    let latency = "latency of one query in ms";
    context.out.line(format_args!(
        "{}: {} x {}, {}; {} queries, {} at once; truth: {origin}\n{:24} {:>10} {:>12} {latency:>29}\n{:24} {:>10} {:>12} {:>9} {:>9} {:>9}",
        args.source.index.display(),
        count(index.ntotal()),
        index.d(),
        index.metric(),
        count(nq),
        count(args.batch.min(nq)),
        "", "", "",
        "params", format!("recall@{}", args.k), "queries/s", "p50", "p95", "p99",
    ))
}

/// What was set, or what the index says.
fn name<B: IvfBackend>(params: &SearchParams, index: &AnyIndex<B>) -> String {
    let text = params.to_string();
    match index.nprobe() {
        _ if !text.is_empty() => text,
        Some(nprobe) => format!("nprobe={nprobe} (index)"),
        None => "exhaustive".to_owned(),
    }
}
