//! `bench`: queries per second for several numbers of queries at once.

use crate::{
    Context,
    args::Bench,
    index::{self, AnyIndex},
    measure::Workload,
    output::{Done, Failure, count},
    outputs,
    plot::{self, Record},
};
use burn_ivf::IvfBackend;
use serde_json::json;
use std::path::PathBuf;

/// Runs the command.
pub fn run<B: IvfBackend>(args: &Bench, context: &mut Context, device: &B::Device) -> Done {
    let inputs = [&*args.source.index, &*args.queries];
    let inputs = inputs
        .into_iter()
        .chain(args.beside.iter().map(PathBuf::as_path));
    outputs::check(inputs, [args.plot.as_ref()])?;
    let spinner = context.progress.spinner("loading");
    let mut index = AnyIndex::<B>::open(&args.source, device)?;
    index.prepare(&args.params)?;
    let mut file = index::queries(&args.queries, index.d())?;
    let nq = file.len();
    let queries = file.read_block(0, nq).map_err(Failure::at(&args.queries))?;
    spinner.finish_and_clear();
    let mut records = Vec::new();
    for path in &args.beside {
        records.extend(plot::read(path)?);
    }
    if !context.out.json() {
        context.out.line(format_args!(
            "{}: {} x {}, {}; k = {}, {}, device {}\n{:>9} {:>12} {:>12} {:>12}",
            args.source.index.display(),
            count(index.ntotal()),
            index.d(),
            index.metric(),
            args.k,
            index
                .nprobe()
                .map_or("exhaustive".to_owned(), |own| format!(
                    "nprobe {}",
                    args.params.nprobe.unwrap_or(own)
                )),
            context.device,
            "at once",
            "median ms",
            "fastest ms",
            "queries/s",
        ))?;
    }
    let work = Workload {
        index: &index,
        queries: &queries,
        k: args.k,
        device,
    };
    let bar = context.progress.bar("measuring", args.nq.len());
    for &nq in &args.nq {
        let times = work.times(nq, args.repeat, &args.params)?;
        bar.inc(1);
        let (median, least) = (times[times.len() / 2], times[0]);
        let qps = nq as f64 / median;
        let mode = args
            .params
            .mode
            .map_or("auto".to_owned(), |mode| mode.to_string());
        let value = json!({
            "library": "burn-ivf", "version": env!("CARGO_PKG_VERSION"),
            "backend": context.device.to_string(), "data": args.source.index, "mode": mode,
            "metric": index.metric().to_string(), "nb": index.ntotal(), "d": index.d(),
            "nlist": index.nlist(), "nprobe": args.params.nprobe.or(index.nprobe()), "topk": args.k,
            "nq": nq, "search_ms": 1e3 * median, "search_ms_min": 1e3 * least, "repeat": args.repeat,
            "times_ms": times.iter().map(|s| 1e3 * s).collect::<Vec<_>>(), "qps": qps,
        });
        let text = format!(
            "{nq:9} {:12.3} {:12.3} {qps:12.0}",
            1e3 * median,
            1e3 * least
        );
        bar.suspend(|| {
            context.out.report(&value, text)?;
            context.out.finish()
        })?;
        records.push(Record {
            series: plot::series("burn-ivf", &mode, &context.device.to_string()),
            nq: nq as f64,
            qps,
        });
    }
    bar.finish_and_clear();
    match &args.plot {
        Some(path) => plot::throughput(
            path,
            "Searches per second against queries at once",
            &records,
        ),
        None => Ok(()),
    }
}
