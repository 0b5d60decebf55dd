//! The `profile` sub-command: where the time of one search goes, step by step, from public calls.
//!
//! The steps are measured interleaved on the same queries. `search` is measured as a whole too, so
//! that the parts can be held against it: coarse + scan may exceed it, since between them a list
//! table crosses the public interface.

use crate::Res;
use crate::args::ProfileArgs;
use crate::backends::{self, Job};
use crate::data;
use crate::env::Environment;
use crate::json::rounded;
use crate::timing::{median, minimum, ms_since, settle};
use crate::workload::{Shape, Workload, tensor};
use burn_ivf::{IvfBackend, SearchParams};
use std::time::Instant;

const STEPS: [&str; 6] = [
    "query tensor",
    "coarse",
    "scan",
    "search",
    "read answer",
    "search - coarse - scan",
];

pub fn start(args: ProfileArgs) -> Res<()> {
    let backend = args.index.backend.clone();
    backends::dispatch(&backend, Profile { args })
}

struct Profile {
    args: ProfileArgs,
}

impl Job for Profile {
    fn run<B: IvfBackend>(self, device: B::Device) -> Res<()> {
        let args = &self.args;
        let environment = Environment::take();
        let most = args.nq.iter().copied().max().unwrap_or(1);
        let set = data::load(&args.data, most)?;
        let work = Workload::<B>::build(&set, &args.index, args.nlist, &device)?;
        work.prove_full_probe(args.mode, args.k, None)?;
        let params = SearchParams::exact()
            .with_nprobe(args.nprobe)
            .with_mode(args.mode);
        if !args.json {
            let (nb, d, nlist, nprobe, k) = (
                set.base.rows(),
                set.base.d(),
                args.nlist,
                args.nprobe,
                args.k,
            );
            println!(
                "{} on {}: nb={nb} d={d} nlist={nlist} nprobe={nprobe} k={k}, env {}",
                set.name,
                args.index.backend,
                environment.id()
            );
            println!(
                "{:>6}  {:<24}{:>12}{:>12}{:>9}",
                "nq", "step", "median ms", "min ms", "share"
            );
        }
        for &nq in &args.nq {
            let (answer, stats) = work.answer(0, nq, args.k, &params)?;
            work.prove("profile", &answer, 0, args.nprobe)?;
            let steps = measure(&work, args, nq, &params)?;
            if args.json {
                print_json(&steps, args, nq, &environment, &stats.mode)?;
            } else {
                print_table(&steps, nq, &stats.mode, &stats.kernel);
            }
        }
        Ok(())
    }
}

/// Milliseconds of every step, one value per repetition, in the order of `STEPS`.
type Steps = [Vec<f64>; STEPS.len()];

fn measure<B: IvfBackend>(
    work: &Workload<'_, B>,
    args: &ProfileArgs,
    nq: usize,
    params: &SearchParams,
) -> Res<Steps> {
    let mut steps = Steps::default();
    let pool = work.data.queries.rows();
    let device = &work.device;
    let index = &work.index;
    // Small searches need more repetitions for a steady median.
    let repeat = args.clock.repeat.max(256 / nq.max(1));
    let started = Instant::now();
    for rep in 0..args.clock.warmup + repeat {
        let from = Shape::new(nq, args.k, 1)
            .at(rep, pool, args.clock.rotate)
            .from;
        settle();
        B::sync(device)?;
        let start = Instant::now();
        let queries = tensor::<B>(&work.data.queries, from, nq, device);
        B::sync(device)?;
        let create = ms_since(start);

        let start = Instant::now();
        let near = index.coarse(queries.clone(), args.nprobe)?;
        B::sync(device)?;
        let coarse = ms_since(start);

        let start = Instant::now();
        let hits = index.search_preassigned(queries.clone(), args.k, near.labels, params)?;
        B::sync(device)?;
        let scan = ms_since(start);
        drop(hits);

        let start = Instant::now();
        let hits = index.search_with(queries, args.k, params)?;
        B::sync(device)?;
        let search = ms_since(start);

        let start = Instant::now();
        std::hint::black_box(hits.to_vecs());
        let read = ms_since(start);
        if rep >= args.clock.warmup {
            let rest = search - coarse - scan;
            for (step, ms) in steps
                .iter_mut()
                .zip([create, coarse, scan, search, read, rest])
            {
                step.push(ms);
            }
            if started.elapsed().as_secs_f64() > args.clock.cell_s {
                break;
            }
        }
    }
    Ok(steps)
}

fn print_table(steps: &Steps, nq: usize, mode: &str, kernel: &str) {
    let whole = [0, 3, 4].iter().map(|i| median(&steps[*i])).sum::<f64>();
    for (name, times) in STEPS.iter().zip(steps) {
        let (mid, min) = (median(times), minimum(times));
        let share = 100.0 * mid / whole;
        println!("{nq:>6}  {name:<24}{mid:>12.4}{min:>12.4}{share:>8.1}%");
    }
    println!(
        "{nq:>6}  {:<24}{whole:>12.4}  ({mode}; {kernel})\n",
        "tensor + search + read"
    );
}

fn print_json(
    steps: &Steps,
    args: &ProfileArgs,
    nq: usize,
    environment: &Environment,
    mode: &str,
) -> Res<()> {
    let mut row = serde_json::json!({
        "library": "burn-ivf", "what": "profile", "backend": args.index.backend, "nq": nq,
        "nlist": args.nlist, "nprobe": args.nprobe, "topk": args.k, "chosen_mode": mode,
        "git": environment.git, "env_id": environment.id(),
    });
    for (name, times) in STEPS.iter().zip(steps) {
        row[format!("{name} ms")] = rounded(median(times)).into();
    }
    println!("{row}");
    Ok(())
}
