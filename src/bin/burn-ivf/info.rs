//! `info`: what an index file holds.

use crate::{
    Context,
    args::Info,
    index::{AnyIndex, Format},
    output::{Done, bytes, count, fail},
    outputs, plot,
};
use burn_ivf::{IvfBackend, MemoryInfo, Storage};
use serde_json::{Value, json};

/// Runs the command.
pub fn run<B: IvfBackend>(args: &Info, context: &mut Context, device: &B::Device) -> Done {
    outputs::check([&*args.index], [args.plot.as_ref()])?;
    let spinner = context.progress.spinner("loading");
    let (index, format) = AnyIndex::<B>::load(&args.index, device)?;
    spinner.finish_and_clear();
    let (kind, mode, storage, memory) = match &index {
        AnyIndex::Flat(index) => (
            "flat",
            index.mode().to_string(),
            index.storage(),
            index.memory_info(),
        ),
        AnyIndex::Ivf(index) => (
            "ivf",
            index.mode().to_string(),
            index.storage(),
            index.memory_info(),
        ),
        AnyIndex::Mapped(_) => (
            "mapped",
            "mapped".to_owned(),
            Storage::Auto,
            MemoryInfo::default(),
        ),
    };
    let sizes = match &index {
        AnyIndex::Ivf(index) => index.list_sizes(),
        _ => Vec::new(),
    };
    let format = match format {
        Format::Own => "burn-ivf",
        Format::Faiss => "faiss",
    };
    let mut value = json!({
        "index": args.index, "format": format, "kind": kind, "metric": index.metric().to_string(),
        "n": index.ntotal(), "d": index.d(), "mode": mode, "storage": storage.to_string(),
        "file_bytes": std::fs::metadata(&args.index)?.len(),
        "memory": {
            "vectors": memory.vectors, "ids": memory.ids, "centroids": memory.centroids,
            "derived": memory.derived, "total": memory.total(),
        },
    });
    let mut text = format!(
        "{}: {kind} index ({format} file), {}\n  vectors    {} x {}\n  storage    {storage}, mode {mode}\n  memory     {}: vectors {}, ids {}, centroids {}",
        args.index.display(),
        index.metric(),
        count(index.ntotal()),
        index.d(),
        bytes(memory.total()),
        bytes(memory.vectors),
        bytes(memory.ids),
        bytes(memory.centroids),
    );
    if let AnyIndex::Ivf(ivf) = &index {
        value["nlist"] = json!(ivf.nlist());
        value["nprobe"] = json!(ivf.nprobe());
        value["trained"] = json!(ivf.is_trained());
        if !sizes.is_empty() {
            let lists = lists(&sizes, ivf.imbalance_factor());
            text += &format!(
                "\n  lists      {}, nprobe {}\n  list sizes {} to {}, median {}, {} empty; imbalance {:.3}",
                count(sizes.len()),
                ivf.nprobe(),
                lists["least"],
                lists["most"],
                lists["median"],
                lists["empty"],
                ivf.imbalance_factor(),
            );
            value["lists"] = lists;
        }
    }
    if let Some(path) = &args.plot {
        if sizes.is_empty() {
            return fail(format!(
                "{} has no lists to draw; --plot is for trained inverted files",
                args.index.display()
            ));
        }
        plot::lists(path, &sizes)?;
    }
    context.out.report(&value, text)
}

fn lists(sizes: &[usize], imbalance: f64) -> Value {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    json!({
        "least": sorted.first(), "most": sorted.last(), "median": sorted[sorted.len() / 2],
        "empty": sorted.iter().filter(|&&size| size == 0).count(), "imbalance": imbalance,
    })
}
