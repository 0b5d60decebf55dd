//! The `grid` sub-command: is `auto` ever much slower than the best mode one could force?
//!
//! In every cell auto and the forced modes are timed in turns, on the same queries, so that drift
//! of the machine hits all alike. The figure is auto / best forced; the last line is the worst.

use crate::Res;
use crate::args::{DataArgs, GridArgs};
use crate::backends::{self, Job};
use crate::data;
use crate::env::Environment;
use crate::json::{Lines, rounded};
use crate::timing::{median, minimum, searches_per_sample, settle, timestamp};
use crate::workload::{Shape, Workload};
use burn_ivf::{IvfBackend, SearchMode, SearchParams};
use serde::Serialize;
use std::collections::BTreeMap;

/// Auto first, then the modes it chooses among.
const MODES: [SearchMode; 3] = [SearchMode::Auto, SearchMode::Csr, SearchMode::Matrix];

pub fn start(args: GridArgs) -> Res<()> {
    let backend = args.index.backend.clone();
    backends::dispatch(&backend, Grid { args })
}

struct Grid {
    args: GridArgs,
}

#[derive(Serialize)]
struct Row {
    library: &'static str,
    what: &'static str,
    backend: String,
    metric: String,
    data: String,
    nb: usize,
    d: usize,
    nlist: usize,
    nprobe: usize,
    nq: usize,
    topk: usize,
    max_codes: usize,
    auto_chose: String,
    reason: String,
    avg_group: f64,
    /// Median per search and per mode that was timed.
    ms: BTreeMap<String, f64>,
    ms_min: BTreeMap<String, f64>,
    /// Per mode that was not timed: why.
    skipped: BTreeMap<String, String>,
    best_forced: String,
    /// auto / best forced, from the medians and from the minima.
    ratio: f64,
    ratio_min: f64,
    git: Option<String>,
    env_id: String,
    timestamp: String,
}

/// What is measured once per cell.
struct Point {
    nlist: usize,
    nprobe: usize,
    nq: usize,
}

impl Job for Grid {
    fn run<B: IvfBackend>(self, device: B::Device) -> Res<()> {
        let args = &self.args;
        let environment = Environment::take();
        let mut lines = Lines::open(args.out.as_deref())?;
        let mut worst: Option<(f64, f64, String)> = None;
        let mut cells = 0;
        table_head();
        for (&nb, &d) in args
            .nb
            .iter()
            .flat_map(|nb| args.d.iter().map(move |d| (nb, d)))
        {
            let set = data::load(
                &source(args, nb, d),
                args.nq.iter().copied().max().unwrap_or(1),
            )?;
            for &nlist in args.nlist.iter().filter(|nlist| **nlist * 4 <= nb) {
                let work = Workload::<B>::build(&set, &args.index, nlist, &device)?;
                for mode in MODES {
                    work.prove_full_probe(mode, args.k, None)?;
                }
                for &nprobe in args.nprobe.iter().filter(|nprobe| **nprobe <= nlist) {
                    let mut pace = Pace::default();
                    for &nq in &args.nq {
                        let point = Point { nlist, nprobe, nq };
                        let row = cell(&work, args, &environment, &point, &mut pace)?;
                        lines.write(&row)?;
                        print(&row);
                        cells += 1;
                        if worst
                            .as_ref()
                            .is_none_or(|(ratio, _, _)| row.ratio > *ratio)
                        {
                            let at = format!("nb={nb} d={d} nlist={nlist} nprobe={nprobe} nq={nq}");
                            worst = Some((row.ratio, row.ratio_min, at));
                        }
                    }
                }
            }
        }
        let (ratio, ratio_min, at) = worst.ok_or("no cell fits these sizes")?;
        lines.write(&serde_json::json!({
            "library": "burn-ivf", "what": "grid-worst", "backend": args.index.backend, "cells": cells,
            "worst_ratio": ratio, "worst_ratio_min": ratio_min, "at": at,
            "git": environment.git, "env_id": environment.id(), "timestamp": timestamp(),
        }))?;
        eprintln!(
            "worst of {cells} cells: auto = {ratio:.3} x the best forced mode (minima: {ratio_min:.3}), {at}"
        );
        match args.fail_above {
            Some(limit) if ratio > limit => Err(format!("{ratio:.3} is above {limit}").into()),
            _ => Ok(()),
        }
    }
}

fn source(args: &GridArgs, nb: usize, d: usize) -> DataArgs {
    DataArgs {
        data: args.data.clone(),
        queries: None,
        nb: Some(nb),
        d: Some(d),
        normalize: false,
        piece: None,
        seed: args.seed,
    }
}

/// The slowest time per query each mode has shown so far at one nprobe: what a larger nq will take
/// at most, since a bigger batch shares work.
#[derive(Default)]
struct Pace {
    seconds_per_query: BTreeMap<String, f64>,
}

impl Pace {
    fn predicted(&self, mode: SearchMode, nq: usize) -> f64 {
        let known = self.seconds_per_query.get(&mode.to_string());
        known.copied().unwrap_or(0.0) * nq as f64
    }

    fn learn(&mut self, mode: SearchMode, nq: usize, ms: f64) {
        let pace = ms / 1e3 / nq as f64;
        self.seconds_per_query.insert(mode.to_string(), pace);
    }
}

fn cell<B: IvfBackend>(
    work: &Workload<'_, B>,
    args: &GridArgs,
    environment: &Environment,
    point: &Point,
    pace: &mut Pace,
) -> Res<Row> {
    let (nq, nprobe, k) = (point.nq, point.nprobe, args.k);
    let pool = work.data.queries.rows();
    let params = |mode| SearchParams::exact().with_nprobe(nprobe).with_mode(mode);
    let mut skipped = BTreeMap::new();
    let mut modes = Vec::new();
    let mut answers = Vec::new();
    let mut auto_stats = None;
    for mode in MODES {
        let predicted = pace.predicted(mode, nq);
        if mode != SearchMode::Auto && predicted > args.bound_s {
            let bound = args.bound_s;
            let why = format!("about {predicted:.0} s per search, more than {bound} s");
            skipped.insert(mode.to_string(), why);
            continue;
        }
        let (answer, stats) = work.answer(0, nq, k, &params(mode))?;
        work.prove(
            &format!("{mode} nprobe {nprobe} nq {nq}"),
            &answer,
            0,
            nprobe,
        )?;
        modes.push(mode);
        answers.push(answer.labels);
        auto_stats.get_or_insert(stats);
    }
    if answers.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(format!("nprobe {nprobe} nq {nq}: the modes give different ids").into());
    }
    drop(answers);
    let stats = auto_stats.ok_or("auto was not searched")?;

    let times = searches_per_sample(nq, pool);
    let shape = Shape::new(nq, k, times);
    let mut samples = vec![Vec::new(); modes.len()];
    let mut spent = 0.0;
    for rep in 0..args.clock.warmup + args.clock.repeat.max(1) {
        let sample = shape.at(rep, pool, args.clock.rotate);
        for turn in 0..modes.len() {
            // Every order comes up in turn, so that no mode finds its lists in cache more often
            // than another because of the one before it.
            let forward = (turn + rep / 2) % modes.len();
            let which = if rep % 2 == 0 {
                forward
            } else {
                modes.len() - 1 - forward
            };
            settle();
            let ms = work.timed(&sample, args.clock.input, &params(modes[which]))?;
            spent += ms * times as f64 / 1e3;
            if rep >= args.clock.warmup {
                samples[which].push(ms);
            }
        }
        if spent > args.clock.cell_s && samples.iter().all(|s| !s.is_empty()) {
            break;
        }
    }
    for (mode, sample) in modes.iter().zip(&samples) {
        pace.learn(*mode, nq, median(sample));
    }
    row(
        work,
        args,
        environment,
        point,
        (&modes, &samples, skipped, &stats),
    )
}

type Measured<'a> = (
    &'a [SearchMode],
    &'a [Vec<f64>],
    BTreeMap<String, String>,
    &'a burn_ivf::SearchStats,
);

fn row<B: IvfBackend>(
    work: &Workload<'_, B>,
    args: &GridArgs,
    environment: &Environment,
    point: &Point,
    (modes, samples, skipped, stats): Measured<'_>,
) -> Res<Row> {
    let forced = |figure: fn(&[f64]) -> f64| {
        let figures = samples[1..].iter().map(|s| figure(s));
        figures.enumerate().min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (best, best_ms) = forced(median).ok_or("every forced mode was skipped; raise --bound-s")?;
    let (_, best_min) = forced(minimum).ok_or("no forced mode")?;
    let figures = |figure: fn(&[f64]) -> f64| {
        let named = modes.iter().zip(samples);
        named
            .map(|(mode, s)| (mode.to_string(), rounded(figure(s))))
            .collect()
    };
    Ok(Row {
        library: "burn-ivf",
        what: "grid",
        backend: args.index.backend.clone(),
        metric: work.metric.to_string(),
        data: work.data.name.clone(),
        nb: work.data.base.rows(),
        d: work.data.base.d(),
        nlist: point.nlist,
        nprobe: point.nprobe,
        nq: point.nq,
        topk: args.k,
        max_codes: 0,
        auto_chose: stats.mode.to_string(),
        reason: stats.reason.clone(),
        avg_group: stats.avg_group,
        ms: figures(median),
        ms_min: figures(minimum),
        skipped,
        best_forced: modes[best + 1].to_string(),
        ratio: rounded(median(&samples[0]) / best_ms),
        ratio_min: rounded(minimum(&samples[0]) / best_min),
        git: environment.git.clone(),
        env_id: environment.id(),
        timestamp: timestamp(),
    })
}

fn table_head() {
    eprintln!(
        "{:>8}{:>6}{:>7}{:>8}{:>7}{:>12}{:>12}{:>12}  {:<8}{:>7}",
        "nb", "d", "nlist", "nprobe", "nq", "auto ms", "csr ms", "matrix ms", "chose", "ratio"
    );
}

fn print(row: &Row) {
    let ms = |mode: &str| match row.ms.get(mode) {
        Some(ms) => format!("{ms:.4}"),
        None => "skipped".to_owned(),
    };
    let note = row
        .skipped
        .iter()
        .map(|(mode, why)| format!("  ({mode}: {why})"));
    eprintln!(
        "{:>8}{:>6}{:>7}{:>8}{:>7}{:>12}{:>12}{:>12}  {:<8}{:>7.3}{}",
        row.nb,
        row.d,
        row.nlist,
        row.nprobe,
        row.nq,
        ms("auto"),
        ms("csr"),
        ms("matrix"),
        row.auto_chose,
        row.ratio,
        note.collect::<String>()
    );
}
