//! The `run` sub-command: one record per cell of mode x nprobe x k x nq.
//!
//! Order of things in a cell: answer, judge the answer, warm up, time. A wrong answer ends the run.

use crate::Res;
use crate::args::{Input, RunArgs};
use crate::backends::{self, Job};
use crate::data;
use crate::env::Environment;
use crate::gpu::Tools;
use crate::json::{Lines, rounded};
use crate::oracle::{Answer, refuse};
use crate::record::{Cell, Extra, Record};
use crate::roofline::Roofline;
use crate::timing::{self, memory, ms_since, reset_peak, settle};
use crate::workload::{Shape, Workload};
use burn_ivf::{IvfBackend, SearchMode, SearchParams, recall_at_k};
use std::time::Instant;

pub fn start(args: RunArgs) -> Res<()> {
    let backend = args.index.backend.clone();
    backends::dispatch(&backend, Run { args })
}

struct Run {
    args: RunArgs,
}

/// A search setting whose answers to the first queries are known.
struct Setup<'a> {
    mode: SearchMode,
    nprobe: usize,
    k: usize,
    params: SearchParams,
    /// Answers to the first `--gt-nq` queries, searched as one batch.
    first: Option<&'a Answer>,
    recall: Option<f64>,
}

impl Job for Run {
    fn run<B: IvfBackend>(self, device: B::Device) -> Res<()> {
        let args = &self.args;
        let environment = Environment::take();
        let mut lines = Lines::open(args.out.as_deref())?;
        if let Some(out) = &args.out {
            environment.save_beside(out)?;
        }
        let most = args.nq.iter().copied().max().unwrap_or(0);
        let set = data::load(&args.data, most.max(args.gt_nq))?;
        if args.nq.contains(&0) || args.k.contains(&0) {
            return Err("nothing to time at nq = 0 or k = 0".into());
        }
        let work = Workload::<B>::build(&set, &args.index, args.nlist, &device)?;
        let (train, add) = (work.train_ms, work.add_ms);
        eprintln!("train {train:.0} ms, add {add:.0} ms; judging the answers");
        let mut setting = work.setting(&environment, &args.index);
        setting.warmup = args.clock.warmup;
        setting.rotate = args.clock.rotate;
        setting.input = args.clock.input.name();

        let largest_k = args.k.iter().copied().max().unwrap_or(1);
        let truth = match args.gt_nq {
            0 => None,
            nq => Some(work.truth(nq, largest_k)?),
        };
        for mode in &args.mode {
            work.prove_full_probe(*mode, largest_k, truth.as_ref())?;
        }
        let tools = backends::tools(&args.index.backend);
        if let Some(tools) = tools.as_ref().filter(|_| args.roofline) {
            setting.ceilings = Some(tools.ceilings()?);
        }
        if args.roofline && backends::on_host(&args.index.backend) {
            let probe = Roofline::measure();
            eprintln!("{probe}");
            setting.roofline = Some(probe);
        }
        for &mode in &args.mode {
            for &nprobe in &args.nprobe {
                for &k in &args.k {
                    let params = SearchParams::exact().with_nprobe(nprobe).with_mode(mode);
                    let first = match args.gt_nq {
                        0 => None,
                        nq => Some(work.answer(0, nq, k, &params)?.0),
                    };
                    let setup = Setup {
                        mode,
                        nprobe,
                        k,
                        params,
                        first: first.as_ref(),
                        recall: recall(first.as_ref(), truth.as_ref()),
                    };
                    for &nq in args.nq.iter().filter(|_| args.explain) {
                        println!("{}", work.explain(nq, k, &setup.params)?);
                    }
                    for &nq in &args.nq {
                        let cell = cell(&work, args, &setup, nq, tools.as_ref())?;
                        let record = Record::new(&setting, cell);
                        eprintln!("{record}");
                        lines.write(&record)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Share of the exact `k` nearest among the `k` found.
fn recall(found: Option<&Answer>, truth: Option<&Answer>) -> Option<f64> {
    let (found, truth) = (found?, truth?);
    let share = recall_at_k(&found.labels, &truth.labels, found.k, truth.k, found.k).ok()?;
    Some((share * 1e6).round() / 1e6)
}

fn cell<B: IvfBackend>(
    work: &Workload<'_, B>,
    args: &RunArgs,
    setup: &Setup<'_>,
    nq: usize,
    tools: Option<&Tools>,
) -> Res<Cell> {
    let what = format!(
        "{} nprobe {} k {} nq {nq}",
        setup.mode, setup.nprobe, setup.k
    );
    reset_peak();
    let before = memory();
    let start = Instant::now();
    let (answer, stats) = work.answer(0, nq, setup.k, &setup.params.clone().with_counts())?;
    let first_ms = ms_since(start);
    let after = memory();
    let held = tools.and_then(Tools::memory);
    let (verified, distance_error) = work.prove(&what, &answer, 0, setup.nprobe)?;
    if let Some(first) = setup.first {
        let both = first.rows().min(answer.rows());
        if let Some(row) = (0..both).find(|row| first.row(*row) != answer.row(*row)) {
            return refuse(&what, row, "the size of the batch changes the answer");
        }
    }
    drop(answer);

    let pool = work.data.queries.rows();
    let times = timing::searches_per_sample(nq, pool);
    let shape = Shape::new(nq, setup.k, times);
    let load_average = timing::load_average();
    let mut times_ms = Vec::new();
    let mut spent = 0.0;
    for rep in 0..args.clock.warmup + args.clock.repeat.max(1) {
        let sample = shape.at(rep + 1, pool, args.clock.rotate);
        settle();
        let ms = work.timed(&sample, args.clock.input, &setup.params)?;
        spent += ms * times as f64 / 1e3;
        if rep >= args.clock.warmup {
            times_ms.push(ms);
        }
        if spent > args.clock.cell_s && !times_ms.is_empty() {
            break;
        }
    }
    let list_bytes = work.list_bytes(nq, setup.nprobe)?;
    let mib = |bytes: u64| rounded(bytes as f64 / 1_048_576.0);
    let mut extra = Extra {
        first_ms: rounded(first_ms),
        device_mib_in_use: held.map(|(used, _)| mib(used)),
        device_mib_held: held.map(|(_, held)| mib(held)),
        ..Extra::default()
    };
    if let (Some(tools), Input::Device) = (tools, args.clock.input) {
        work.by_device(tools, &shape, &setup.params, &mut extra)?;
    }
    Ok(Cell {
        nq,
        nprobe: setup.nprobe.min(work.nlist),
        k: setup.k,
        mode: setup.mode.to_string(),
        stats,
        list_bytes,
        times_ms,
        searches_per_sample: times,
        recall: setup.recall,
        recall_nq: args.gt_nq,
        verified,
        distance_error,
        extra,
        cost: work.cost(nq, setup.k, &setup.params)?,
        before,
        after,
        load_average,
    })
}
