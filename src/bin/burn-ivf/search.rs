//! `search`: queries from a file, answers to files or stdout.

use crate::{
    Context,
    args::Search,
    index::{AnyIndex, queries, tensor},
    output::{Done, Failure, count},
    outputs,
};
use burn_ivf::{
    IvfBackend,
    io::{VectorFormat, write_ids, write_vectors},
};
use serde_json::json;
use std::time::Instant;

/// Runs the command.
pub fn run<B: IvfBackend>(args: &Search, context: &mut Context, device: &B::Device) -> Done {
    let (ids, distances) = (args.ids.as_ref(), args.distances.as_ref());
    outputs::ends(ids, "--ids", &[VectorFormat::Npy, VectorFormat::Ivecs])?;
    outputs::ends(
        distances,
        "--distances",
        &[VectorFormat::Npy, VectorFormat::Fvecs],
    )?;
    let inputs = [&*args.source.index, &*args.queries];
    outputs::check(inputs, [ids, distances])?;
    let mut index = AnyIndex::<B>::open(&args.source, device)?;
    index.prepare(&args.params)?;
    let d = index.d();
    let mut file = queries(&args.queries, d)?;
    let nq = file.len();
    let to_files = args.ids.is_some() || args.distances.is_some();
    let (mut all_ids, mut all_distances) = (Vec::new(), Vec::new());
    let (mut start, mut seconds) = (0, 0.0);
    // With answers on stdout a bar would stand between them.
    let bar = context.progress.bar("searching", nq);
    while start < nq {
        let rows = args.batch.min(nq - start);
        let block = file.read_block(start, rows);
        let block = tensor::<B>(block.map_err(Failure::at(&args.queries))?, d, device);
        let begin = Instant::now();
        let (distances, ids) = index.search(block, args.k, &args.params)?.to_vecs();
        seconds += begin.elapsed().as_secs_f64();
        if to_files {
            all_ids.extend(ids);
            all_distances.extend(distances);
        } else {
            bar.suspend(|| print(context, start, args.k, &ids, &distances))?;
        }
        start += rows;
        bar.set_position(start as u64);
    }
    bar.finish_and_clear();
    if let Some(path) = &args.ids {
        write_ids(path, &all_ids, args.k).map_err(Failure::at(path))?;
    }
    if let Some(path) = &args.distances {
        write_vectors(path, &all_distances, args.k).map_err(Failure::at(path))?;
    }
    if !to_files {
        return Ok(());
    }
    let value = json!({
        "queries": nq, "k": args.k, "params": args.params.to_string(), "seconds": seconds,
        "qps": nq as f64 / seconds, "ids": args.ids, "distances": args.distances,
        "device": context.device.to_string(),
    });
    let text = format!(
        "{} queries, k = {}, {seconds:.3} s searching",
        count(nq),
        args.k
    );
    context.out.report(&value, text)
}

/// One line per hit (query, rank, id, distance, with tabs between), or one JSON value per query.
fn print(context: &mut Context, start: usize, k: usize, ids: &[i64], distances: &[f32]) -> Done {
    let rows = ids.chunks_exact(k).zip(distances.chunks_exact(k));
    for (row, (ids, distances)) in rows.enumerate() {
        let query = start + row;
        if context.out.json() {
            let value = json!({ "query": query, "ids": ids, "distances": distances });
            context.out.line(value)?;
            continue;
        }
        let hits = ids.iter().zip(distances).enumerate();
        for (rank, (id, distance)) in hits.filter(|(_, (id, _))| **id != -1) {
            context
                .out
                .line(format_args!("{query}\t{rank}\t{id}\t{distance}"))?;
        }
    }
    context.out.finish()
}
