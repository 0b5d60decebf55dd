//! `tune`: the smallest nprobe that promises a recall, and what every setting costs.

use crate::{
    Context,
    args::Tune,
    index::{self, AnyIndex, Format},
    output::{Done, Failure, count, fail},
    outputs,
    plot::{self, Tradeoff},
};
use burn_ivf::{
    GroundTruth, IndexIvfFlat, IvfBackend, OperatingPoint, ParameterSpace, TuneOptions, TuneReport,
    Tuner, pareto,
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Runs the command.
pub fn run<B: IvfBackend>(args: &Tune, context: &mut Context, device: &B::Device) -> Done {
    let inputs = [Some(&args.queries), args.truth.as_ref()];
    let inputs = inputs.into_iter().flatten().map(PathBuf::as_path);
    let index = args.save.then_some(&args.index);
    outputs::check(inputs, [index, args.plot.as_ref()])?;
    let spinner = context.progress.spinner("tuning");
    let (index, format) = AnyIndex::<B>::load(&args.index, device)?;
    if args.save && format == Format::Faiss {
        return fail(format!(
            "--save writes this library's files, {} is faiss's; run `burn-ivf convert {} OUT.ivf` first",
            args.index.display(),
            args.index.display()
        ));
    }
    let mut index = index.ivf(&args.index, "tune")?;
    let mut file = index::queries(&args.queries, index.d())?;
    let nq = file.len();
    let rows = file.read_block(0, nq).map_err(Failure::at(&args.queries))?;
    let truth = args
        .truth
        .as_deref()
        .map(|path| index::truth(path, nq, args.k))
        .transpose()?;
    let options = TuneOptions {
        confidence: args.confidence,
        sample: args.sample,
        params: args.params.clone(),
        truth: truth.map(|(ids, width)| GroundTruth { ids, width }),
        ..TuneOptions::default()
    };
    let queries = index::tensor::<B>(rows, index.d(), device);
    let (report, points) = measure(args, &index, queries, &options)?;
    spinner.finish_and_clear();
    if args.save {
        index.set_nprobe(report.value)?;
        index.save(&args.index).map_err(Failure::at(&args.index))?;
    }
    say(args, context, &report, &points)?;
    if let Some(path) = &args.plot {
        let tradeoffs: Vec<Tradeoff> = points.iter().map(tradeoff).collect();
        plot::tradeoff(path, args.k, &tradeoffs)?;
    }
    Ok(())
}

fn measure<B: IvfBackend>(
    args: &Tune,
    index: &IndexIvfFlat<B>,
    queries: burn::tensor::Tensor<B, 2>,
    options: &TuneOptions,
) -> Done<(TuneReport, Vec<OperatingPoint>)> {
    let tuner = Tuner::new(index, queries, args.k, options)?;
    let report = tuner.tune(args.target)?;
    let points = if args.pareto || args.plot.is_some() {
        let mut points = tuner.explore(&ParameterSpace::of(index))?;
        points.push(report.point.clone());
        pareto(&points)
    } else {
        Vec::new()
    };
    Ok((report, points))
}

fn tradeoff(point: &OperatingPoint) -> Tradeoff {
    Tradeoff {
        name: point.params.to_string(),
        recall: point.recall,
        qps: 1.0 / point.seconds_per_query,
    }
}

fn say(args: &Tune, context: &mut Context, report: &TuneReport, points: &[OperatingPoint]) -> Done {
    let trials: Vec<Value> = report
        .trials
        .iter()
        .map(|trial| json!({ "value": trial.value, "recall": trial.recall, "promise": trial.promise }))
        .collect();
    // All there could be has no number in JSON.
    let further = (report.further != usize::MAX).then_some(report.further);
    let value = json!({
        "index": args.index, "params": report.params.to_string(),
        "parameter": report.parameter.to_string(), "value": report.value, "k": args.k,
        "target": report.target, "promise": report.promise, "confidence": report.confidence,
        "queries": report.queries, "further": further, "point": point(&report.point),
        "trials": trials, "pareto": points.iter().map(point).collect::<Vec<_>>(),
        "saved": args.save, "device": context.device.to_string(),
    });
    let (chosen, percent) = (&report.point, 100.0 * report.confidence);
    let mut text = format!(
        "{}\n  recall@{}   {:.4} on {} queries, at least {:.4} promised for as many more ({percent} % sure; asked for {})\n  cost        {:.0} vectors compared and {:.1} µs per query ({} queries/s)",
        report.params,
        args.k,
        chosen.recall,
        count(report.queries),
        report.promise,
        report.target,
        chosen.rows_per_query,
        1e6 * chosen.seconds_per_query,
        count((1.0 / chosen.seconds_per_query) as usize),
    );
    if args.save {
        text += &format!("\n  saved       {}", args.index.display());
    }
    if !points.is_empty() {
        text += "\nsettings that no other beats:";
        for point in points {
            text += &format!("\n  {point}");
        }
    }
    context.out.report(&value, text)
}

fn point(point: &OperatingPoint) -> Value {
    json!({
        "params": point.params.to_string(), "recall": point.recall,
        "interval": [point.interval.0, point.interval.1],
        "rows_per_query": point.rows_per_query, "seconds_per_query": point.seconds_per_query,
    })
}
