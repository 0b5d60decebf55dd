//! The `flat` sub-command: exhaustive search by `IndexFlat`, one record per cell of k x nq.
//!
//! Order of things in a cell as in `run`: answer, judge the answer, warm up, time.

use crate::Res;
use crate::args::{FlatArgs, Input};
use crate::backends::{self, Job};
use crate::cost::Cost;
use crate::data::{self, DataSet};
use crate::env::Environment;
use crate::gpu::Tools;
use crate::json::{Lines, rounded};
use crate::oracle::{Oracle, refuse, sample};
use crate::record::{Cell, Extra, ListSizes, Record, Setting};
use crate::roofline::Roofline;
use crate::timing::{self, memory, ms_since, reset_peak, settle};
use crate::workload::{Shape, add_pieces, tensor};
use burn::tensor::Tensor;
use burn_ivf::{Counters, IndexFlat, IvfBackend};
use std::time::Instant;

/// Queries whose answer is judged: a judgement reads the whole base.
const JUDGED: usize = 4;

pub fn start(args: FlatArgs) -> Res<()> {
    let backend = args.index.backend.clone();
    backends::dispatch(&backend, Flat { args })
}

struct Flat {
    args: FlatArgs,
}

struct Bench<'a, B: IvfBackend> {
    data: &'a DataSet,
    args: &'a FlatArgs,
    index: IndexFlat<B>,
    device: B::Device,
}

impl Job for Flat {
    fn run<B: IvfBackend>(self, device: B::Device) -> Res<()> {
        let args = &self.args;
        if args.nq.contains(&0) || args.k.contains(&0) {
            return Err("nothing to time at nq = 0 or k = 0".into());
        }
        let environment = Environment::take();
        let mut lines = Lines::open(args.out.as_deref())?;
        if let Some(out) = &args.out {
            environment.save_beside(out)?;
        }
        let most = args.nq.iter().copied().max().unwrap_or(0);
        let set = data::load(&args.data, most)?;
        let mut index = IndexFlat::<B>::new(set.base.d(), args.index.metric, &device)?;
        index.set_storage(args.index.storage)?;
        index.reserve(set.base.rows())?;
        let piece = set.piece.unwrap_or(set.base.rows());
        let from = (&set.base, piece);
        let add_ms = add_pieces::<B, _>(&mut index, from, &device, |_, _| Ok(()))?;
        eprintln!("add {add_ms:.0} ms");
        let bench = Bench {
            data: &set,
            args,
            index,
            device,
        };
        let mut setting = bench.setting(&environment, piece, add_ms);
        let tools = backends::tools(&args.index.backend);
        if let Some(tools) = &tools {
            setting.ceilings = Some(tools.ceilings()?);
        } else if backends::on_host(&args.index.backend) {
            setting.roofline = Some(Roofline::measure());
        }
        for &k in &args.k {
            for &nq in &args.nq {
                let cell = bench.cell(nq, k, tools.as_ref())?;
                let record = Record::new(&setting, cell);
                eprintln!("{record}");
                lines.write(&record)?;
            }
        }
        Ok(())
    }
}

impl<B: IvfBackend> Bench<'_, B> {
    fn queries(&self, from: usize, nq: usize) -> Tensor<B, 2> {
        tensor::<B>(&self.data.queries, from, nq, &self.device)
    }

    fn setting(&self, environment: &Environment, piece: usize, add_ms: f64) -> Setting {
        let (args, base) = (self.args, &self.data.base);
        Setting {
            library: "burn-ivf",
            version: env!("CARGO_PKG_VERSION"),
            burn: environment.burn.clone(),
            cubecl: environment.cubecl.clone(),
            adapter: environment.adapter(&args.index.backend),
            index: "flat",
            piece,
            lists: ListSizes::of(std::iter::once(base.rows())),
            device: format!("{:?}", self.device),
            backend: args.index.backend.clone(),
            backend_type: B::name(&self.device),
            metric: args.index.metric.to_string(),
            data: self.data.name.clone(),
            seed: self.data.seed,
            nb: base.rows(),
            d: base.d(),
            nlist: 1,
            dtype: "f32",
            train_n: 0,
            train_ms: 0.0,
            add_ms: rounded(add_ms),
            imbalance: 1.0,
            storage: self.index.storage().to_string(),
            index_bytes: self.index.memory_info().total(),
            warmup: args.clock.warmup,
            rotate: args.clock.rotate,
            input: args.clock.input.name(),
            threads: environment.rayon_threads,
            git: environment.git.clone(),
            git_dirty: environment.git_dirty,
            env_id: environment.id(),
            knobs: crate::env::knobs(),
            host: environment.host(),
            roofline: None,
            ceilings: None,
        }
    }

    fn cell(&self, nq: usize, k: usize, tools: Option<&Tools>) -> Res<Cell> {
        let what = format!("flat k {k} nq {nq}");
        reset_peak();
        let before = memory();
        let start = Instant::now();
        let hits = self.index.search(self.queries(0, nq), k)?;
        let (distances, labels) = hits.to_vecs();
        let first_ms = ms_since(start);
        let after = memory();
        let held = tools.and_then(Tools::memory);
        let judge = Oracle {
            rows: &self.data.base,
            metric: self.args.index.metric,
        };
        let (judged, mut worst) = (sample(nq, JUDGED), 0.0_f64);
        for &row in &judged {
            let found = (&labels[row * k..][..k], &distances[row * k..][..k]);
            match judge.check(self.data.queries.row(row), found, None) {
                Ok(error) => worst = worst.max(error),
                Err(text) => return refuse(&what, row, &text),
            }
        }
        let mut stats = hits.stats;
        stats.rows_scanned = Some((nq * self.data.base.rows()) as u64);
        let mib = |bytes: u64| rounded(bytes as f64 / 1_048_576.0);
        let mut extra = Extra {
            first_ms: rounded(first_ms),
            device_mib_in_use: held.map(|(used, _)| mib(used)),
            device_mib_held: held.map(|(_, held)| mib(held)),
            ..Extra::default()
        };
        let load_average = timing::load_average();
        let (times_ms, times) = self.samples(nq, k)?;
        if let (Some(tools), Input::Device) = (tools, self.args.clock.input) {
            self.by_device(tools, nq, k, &mut extra)?;
        }
        let base = &self.data.base;
        Ok(Cell {
            nq,
            nprobe: 1,
            k,
            mode: "flat".to_owned(),
            stats,
            list_bytes: (base.rows() * base.d() * size_of::<f32>()) as u64,
            times_ms,
            searches_per_sample: times,
            recall: None,
            recall_nq: 0,
            verified: judged.len(),
            distance_error: worst,
            extra,
            cost: self.cost(nq, k)?,
            before,
            after,
            load_average,
        })
    }

    /// Milliseconds per search of every sample, and the searches of a sample.
    fn samples(&self, nq: usize, k: usize) -> Res<(Vec<f64>, usize)> {
        let (clock, pool) = (&self.args.clock, self.data.queries.rows());
        let times = timing::searches_per_sample(nq, pool);
        let (mut found, mut spent) = (Vec::new(), 0.0);
        for rep in 0..clock.warmup + clock.repeat.max(1) {
            let shape = Shape::new(nq, k, times).at(rep + 1, pool, clock.rotate);
            settle();
            let ready: Vec<_> = match clock.input {
                Input::Device => (0..times)
                    .map(|turn| self.queries(shape.from + turn * nq, nq))
                    .collect(),
                Input::Host => Vec::new(),
            };
            B::sync(&self.device)?;
            let start = Instant::now();
            for turn in 0..times {
                match ready.get(turn) {
                    Some(queries) => drop(self.index.search(queries.clone(), k)?),
                    None => {
                        let queries = self.queries(shape.from + turn * nq, nq);
                        std::hint::black_box(self.index.search(queries, k)?.to_vecs());
                    }
                }
                B::sync(&self.device)?;
            }
            let ms = ms_since(start) / times as f64;
            spent += ms * times as f64 / 1e3;
            if rep >= clock.warmup {
                found.push(ms);
            }
            if spent > clock.cell_s && !found.is_empty() {
                break;
            }
        }
        Ok((found, times))
    }

    fn by_device(&self, tools: &Tools, nq: usize, k: usize, extra: &mut Extra) -> Res<()> {
        let mut kernels = Vec::new();
        for _ in 0..5 {
            let queries = self.queries(0, nq);
            B::sync(&self.device)?;
            let mut found = None;
            let timed = tools.time(&mut || found = Some(self.index.search(queries.clone(), k)));
            if let Some(found) = found {
                found?;
            }
            if let Some((ms, own)) = timed {
                kernels.push(ms);
                extra.kernel_clock = Some(if own { "device" } else { "system" });
            }
        }
        if !kernels.is_empty() {
            extra.kernel_ms = Some(rounded(timing::median(&kernels)));
        }
        Ok(())
    }

    fn cost(&self, nq: usize, k: usize) -> Res<Cost> {
        let queries = self.queries(0, nq);
        B::sync(&self.device)?;
        let before = Counters::now();
        let hits = self.index.search(queries, k)?;
        let spent = Counters::now().since(before);
        let [rows, k] = hits.distances.dims();
        Ok(Cost {
            spent,
            kernels: self.index.kernel_costs(nq, k)?,
            results: rows * k * (size_of::<f32>() + hits.labels.dtype().size()),
            queries: rows * self.data.base.d() * size_of::<f32>(),
            how: format!("{} in {}", hits.stats.mode, hits.stats.kernel),
        })
    }
}
