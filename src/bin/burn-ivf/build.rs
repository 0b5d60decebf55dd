//! `build`: a file of vectors, block by block, into an index and its file.

use crate::{
    Context,
    args::{Build, Nlist},
    index::{block_rows, tensor, vectors},
    output::{Done, Failure, bytes, count, fail},
    outputs,
};
use burn_ivf::{
    Error, IndexFlat, IndexIvfFlat, IvfBackend, KMeansParams, KMeansReport, io::VectorFile,
    suggest_nlist,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Training vectors per list unless told otherwise; k-means takes no more by default.
const TRAIN_PER_LIST: usize = 256;

/// Runs the command.
pub fn run<B: IvfBackend>(args: &Build, context: &mut Context, device: &B::Device) -> Done {
    outputs::own_index(&args.out)?;
    let inputs = [Some(&args.base), args.ids.as_ref()];
    let inputs = inputs.into_iter().flatten().map(PathBuf::as_path);
    outputs::check(inputs, [Some(&args.out)])?;
    let mut base = vectors(&args.base)?;
    if base.is_empty() {
        return fail(format!("{} holds no vectors", args.base.display()));
    }
    let ids = args.ids.as_deref().map(|path| open_ids(path, base.len()));
    let mut ids = ids.transpose()?;
    let summary = if args.flat {
        let mut index = IndexFlat::<B>::new(base.d(), args.metric, device)?;
        index.set_storage(args.storage)?;
        let add = |rows: Vec<f32>, ids: Option<&[i64]>| {
            let rows = tensor::<B>(rows, index.d(), device);
            match ids {
                Some(ids) => index.add_with_ids(rows, ids),
                None => index.add(rows),
            }
        };
        let add_s = fill(args, context, &mut base, &mut ids, add)?;
        write(context, &args.out, |path| index.save(path))?;
        json!({ "kind": "flat", "add_s": add_s, "index_bytes": index.memory_info().total() })
    } else {
        let (mut index, report, train_s) = train::<B>(args, context, &mut base, device)?;
        let add = |rows: Vec<f32>, ids: Option<&[i64]>| {
            let rows = tensor::<B>(rows, index.d(), device);
            match ids {
                Some(ids) => index.add_with_ids(rows, ids),
                None => index.add(rows),
            }
        };
        let add_s = fill(args, context, &mut base, &mut ids, add)?;
        write(context, &args.out, |path| index.save(path))?;
        json!({
            "kind": "ivf", "nlist": index.nlist(), "nprobe": index.nprobe(),
            "train_rows": report.train_rows, "train_iterations": report.iterations,
            "imbalance": index.imbalance_factor(), "train_s": train_s, "add_s": add_s,
            "index_bytes": index.memory_info().total(),
        })
    };
    say(args, context, &base, summary)
}

fn open_ids(path: &Path, n: usize) -> Done<VectorFile> {
    let file = vectors(path)?;
    if file.len() != n || file.d() != 1 {
        return fail(format!(
            "{} holds {} x {} ids for {n} vectors; pass one id per vector",
            path.display(),
            file.len(),
            file.d()
        ));
    }
    Ok(file)
}

fn train<B: IvfBackend>(
    args: &Build,
    context: &Context,
    base: &mut VectorFile,
    device: &B::Device,
) -> Done<(IndexIvfFlat<B>, KMeansReport, f64)> {
    let n = base.len();
    let nlist = match args.nlist {
        Nlist::Auto => suggest_nlist(n),
        Nlist::Lists(nlist) => nlist,
    };
    let most = nlist.saturating_mul(TRAIN_PER_LIST);
    let rows = args.train_size.unwrap_or(most).min(n);
    let kmeans = KMeansParams {
        niter: args.iterations,
        seed: args.seed,
        max_points_per_centroid: rows.div_ceil(nlist).max(TRAIN_PER_LIST),
        ..KMeansParams::default()
    };
    let mut builder = IndexIvfFlat::<B>::builder(base.d())
        .nlist(nlist)
        .metric(args.metric)
        .storage(args.storage)
        .kmeans(kmeans);
    if let Some(nprobe) = args.nprobe {
        builder = builder.nprobe(nprobe);
    }
    let mut index = builder.build(device)?;
    let sample = sample(args, context, base, rows)?;
    let spinner = context.progress.spinner("training");
    let begin = Instant::now();
    let d = base.d();
    let report = index.train(tensor::<B>(sample, d, device));
    spinner.finish_and_clear();
    let report = report.map_err(|error| match error {
        Error::TooFewPoints { points, nlist } => Failure::Failed(format!(
            "{points} training vectors for {nlist} lists; pass a lower --nlist (auto would be {}) or a larger --train-size",
            suggest_nlist(n)
        )),
        Error::NonFinite { count, .. } => Failure::Failed(format!(
            "{count} of the training vectors of {} hold NaN or infinite components; remove them first",
            args.base.display()
        )),
        error => error.into(),
    })?;
    Ok((index, report, begin.elapsed().as_secs_f64()))
}

/// `rows` of the base, each set of them as likely as any other, in the order of the file. One pass.
fn sample(args: &Build, context: &Context, base: &mut VectorFile, rows: usize) -> Done<Vec<f32>> {
    let (n, d) = (base.len(), base.d());
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut chosen = Vec::with_capacity(rows * d);
    let (mut wanted, mut left) = (rows, n);
    let bar = context.progress.bar("sampling", n);
    for block in base.blocks(block_rows(d)) {
        let block = block.map_err(Failure::at(&args.base))?;
        for row in block.chunks_exact(d) {
            if rng.random_range(0..left) < wanted {
                chosen.extend_from_slice(row);
                wanted -= 1;
            }
            left -= 1;
        }
        bar.set_position((n - left) as u64);
        if wanted == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(chosen)
}

/// Adds the whole file, block by block; returns the seconds it took.
fn fill(
    args: &Build,
    context: &Context,
    base: &mut VectorFile,
    ids: &mut Option<VectorFile>,
    mut add: impl FnMut(Vec<f32>, Option<&[i64]>) -> burn_ivf::Result<()>,
) -> Done<f64> {
    let (n, d) = (base.len(), base.d());
    let bar = context.progress.bar("adding", n);
    let begin = Instant::now();
    let mut start = 0;
    while start < n {
        let rows = block_rows(d).min(n - start);
        let block = base.read_block(start, rows);
        let block = block.map_err(Failure::at(&args.base))?;
        let of_ids = args.ids.as_deref().unwrap_or(&args.base);
        let own = match ids {
            Some(file) => Some(file.read_ids(start, rows).map_err(Failure::at(of_ids))?),
            None => None,
        };
        add(block, own.as_deref()).map_err(|error| {
            let path = match error {
                Error::PaddingId { .. } | Error::IdOutOfRange { .. } => of_ids,
                _ => &args.base,
            };
            Failure::at(path)(moved(error, start))
        })?;
        start += rows;
        bar.set_position(start as u64);
    }
    bar.finish_and_clear();
    Ok(begin.elapsed().as_secs_f64())
}

/// The error with rows numbered from the start of the file, not of the block.
fn moved(error: Error, start: usize) -> Error {
    match error {
        Error::NonFinite { what, row, count } => Error::NonFinite {
            what,
            row: row + start,
            count,
        },
        Error::PaddingId { row } => Error::PaddingId { row: row + start },
        Error::IdOutOfRange { row, id } => Error::IdOutOfRange {
            row: row + start,
            id,
        },
        error => error,
    }
}

fn write(context: &Context, path: &Path, save: impl FnOnce(&Path) -> burn_ivf::Result<()>) -> Done {
    let spinner = context.progress.spinner("writing");
    let saved = save(path).map_err(Failure::at(path));
    spinner.finish_and_clear();
    saved
}

fn say(args: &Build, context: &mut Context, base: &VectorFile, mut summary: Value) -> Done {
    let file_bytes = std::fs::metadata(&args.out)?.len();
    let seconds = context.started.elapsed().as_secs_f64();
    for (key, value) in [
        ("out", json!(args.out)),
        ("metric", json!(args.metric.to_string())),
        ("n", json!(base.len())),
        ("d", json!(base.d())),
        ("file_bytes", json!(file_bytes)),
        ("device", json!(context.device.to_string())),
        ("seconds", json!(seconds)),
    ] {
        summary[key] = value;
    }
    let (n, d) = (count(base.len()), base.d());
    let kind = if args.flat {
        "flat".to_owned()
    } else {
        format!(
            "{} lists (imbalance {:.2}), trained on {} vectors in {:.2} s",
            summary["nlist"],
            summary["imbalance"].as_f64().unwrap_or_default(),
            count(summary["train_rows"].as_u64().unwrap_or_default() as usize),
            summary["train_s"].as_f64().unwrap_or_default(),
        )
    };
    let text = format!(
        "{}: {n} x {d}, {}, {kind}\nadded in {:.2} s, {seconds:.2} s in all; {} in memory, {} in the file",
        args.out.display(),
        args.metric,
        summary["add_s"].as_f64().unwrap_or_default(),
        bytes(summary["index_bytes"].as_u64().unwrap_or_default() as usize),
        bytes(file_bytes as usize),
    );
    context.out.report(&summary, text)
}
