//! One index over one data set on one backend, the searches that are timed on it, and the proof of
//! their answers. Called by `run`, `grid` and `profile`.

use crate::Res;
use crate::args::{IndexArgs, Input};
use crate::cost::Cost;
use crate::data::{Base, DataSet, Matrix};
use crate::env::Environment;
use crate::gpu::Tools;
use crate::json::rounded;
use crate::oracle::{Answer, Oracle, refuse, sample};
use crate::record::{Extra, ListSizes, Setting};
use crate::timing::{median, ms_since, rotation};
use burn::tensor::{Tensor, TensorData};
use burn_ivf::{
    Counters, Index, IndexFlat, IndexIvfFlat, IvfBackend, Metric, SearchMode, SearchParams,
    SearchStats,
};
use std::time::Instant;

/// Queries whose answer is judged in f64 per check: a judgement reads the whole base.
const JUDGED: usize = 8;

/// A tensor of `n` rows copied from a host matrix.
pub fn tensor<B: IvfBackend>(
    rows: &Matrix,
    from: usize,
    n: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let values = rows.values[from * rows.d..(from + n) * rows.d].to_vec();
    Tensor::from_data(TensorData::new(values, [n, rows.d]), device)
}

/// The same of base vectors, which may be drawn for it.
pub fn base_tensor<B: IvfBackend>(
    base: &Base,
    from: usize,
    n: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let values = base.block(from, n).into_owned();
    Tensor::from_data(TensorData::new(values, [n, base.d()]), device)
}

/// Adds the base to an index, `piece` vectors at a time, each made and copied to the device before the
/// clock starts. After the first piece room is made for all others (`reserve`), in proportion to the
/// lists as they are then. Milliseconds spent adding.
pub fn add_pieces<B: IvfBackend, I: Index<B>>(
    index: &mut I,
    (base, piece): (&Base, usize),
    device: &B::Device,
    mut reserve: impl FnMut(&mut I, usize) -> Res<()>,
) -> Res<f64> {
    let (nb, mut spent) = (base.rows(), 0.0);
    for from in (0..nb).step_by(piece.max(1)) {
        let n = piece.min(nb - from);
        let rows = base_tensor::<B>(base, from, n, device);
        B::sync(device)?;
        let start = Instant::now();
        index.add(rows)?;
        if from == 0 && n < nb {
            reserve(index, nb - n)?;
        }
        B::sync(device)?;
        spent += ms_since(start);
    }
    Ok(spent)
}

pub struct Workload<'a, B: IvfBackend> {
    pub data: &'a DataSet,
    pub index: IndexIvfFlat<B>,
    pub device: B::Device,
    pub metric: Metric,
    pub nlist: usize,
    pub train_n: usize,
    pub train_ms: f64,
    pub add_ms: f64,
    /// Ids of every list, ascending; rows are their own ids.
    lists: Vec<Vec<i64>>,
    centroids: Base,
    /// Base vectors added at a time.
    piece: usize,
}

impl<'a, B: IvfBackend> Workload<'a, B> {
    /// Trains on the first rows, adds all, and reads the lists back for the judge.
    pub fn build(
        data: &'a DataSet,
        args: &IndexArgs,
        nlist: usize,
        device: &B::Device,
    ) -> Res<Self> {
        let (nb, d) = (data.base.rows(), data.base.d());
        let piece = data.piece.unwrap_or(nb);
        let train_n = args.train_n.min(nb);
        let mut index = IndexIvfFlat::<B>::builder(d)
            .nlist(nlist)
            .metric(args.metric)
            .seed(data.seed)
            .storage(args.storage)
            .build(device)?;
        let rows = base_tensor::<B>(&data.base, 0, train_n, device);
        B::sync(device)?;
        let start = Instant::now();
        index.train(rows)?;
        B::sync(device)?;
        let train_ms = ms_since(start);
        let add_ms = {
            let from = (&data.base, piece);
            add_pieces::<B, _>(&mut index, from, device, |index, more| {
                Ok(index.reserve(more)?)
            })?
        };
        let lists = (0..nlist).map(|list| {
            let mut ids = index.list_ids(list)?;
            ids.sort_unstable();
            Ok(ids)
        });
        let lists = lists.collect::<Res<Vec<_>>>()?;
        let centroids = index.centroids().ok_or("trained, but without centroids")?;
        let values = centroids.into_data().convert::<f32>().into_vec::<f32>();
        let values = values.map_err(|error| format!("centroids: {error:?}"))?;
        let work = Self {
            data,
            index,
            device: device.clone(),
            metric: args.metric,
            nlist,
            train_n,
            train_ms,
            add_ms,
            lists,
            centroids: Base::Held(Matrix::new(values, d)?),
            piece,
        };
        work.check_lists()?;
        Ok(work)
    }

    /// Every row in exactly one list, and the sample in the list of its nearest centroid.
    fn check_lists(&self) -> Res<()> {
        let nb = self.data.base.rows();
        let mut owner = vec![u32::MAX; nb];
        for (list, ids) in self.lists.iter().enumerate() {
            for id in ids {
                let slot = owner
                    .get_mut(*id as usize)
                    .ok_or("an id that was not added")?;
                if *slot != u32::MAX {
                    return Err(format!("row {id} is in two lists").into());
                }
                *slot = list as u32;
            }
        }
        if let Some(row) = owner.iter().position(|list| *list == u32::MAX) {
            return Err(format!("row {row} is in no list").into());
        }
        let judge = self.coarse_judge();
        for row in sample(nb, 4 * JUDGED) {
            let vector = self.data.base.row(row);
            if let Err(text) = judge.check_nearest(&vector, i64::from(owner[row])) {
                return refuse("the list of an added row", row, &text);
            }
        }
        Ok(())
    }

    fn coarse_judge(&self) -> Oracle<'_> {
        Oracle {
            rows: &self.centroids,
            metric: self.metric,
        }
    }

    fn judge(&self) -> Oracle<'_> {
        Oracle {
            rows: &self.data.base,
            metric: self.metric,
        }
    }

    /// What every record of this workload says.
    pub fn setting(&self, environment: &Environment, args: &IndexArgs) -> Setting {
        Setting {
            library: "burn-ivf",
            version: env!("CARGO_PKG_VERSION"),
            device: format!("{:?}", self.device),
            backend: args.backend.clone(),
            backend_type: B::name(&self.device),
            metric: self.metric.to_string(),
            data: self.data.name.clone(),
            seed: self.data.seed,
            nb: self.data.base.rows(),
            d: self.data.base.d(),
            nlist: self.nlist,
            dtype: "f32",
            train_n: self.train_n,
            train_ms: rounded(self.train_ms),
            add_ms: rounded(self.add_ms),
            imbalance: self.index.imbalance_factor(),
            index: "ivf-flat",
            piece: self.piece,
            lists: ListSizes::of(self.lists.iter().map(Vec::len)),
            burn: environment.burn.clone(),
            cubecl: environment.cubecl.clone(),
            adapter: environment.adapter(&args.backend),
            storage: self.index.storage().to_string(),
            index_bytes: self.index.memory_info().total(),
            warmup: 0,
            rotate: true,
            input: Input::Host.name(),
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

    /// Bytes that the vectors of the lists probed by the first `nq` queries take as f32, every list
    /// counted once.
    pub fn list_bytes(&self, nq: usize, nprobe: usize) -> Res<u64> {
        let queries = tensor::<B>(&self.data.queries, 0, nq, &self.device);
        let (_, mut probed) = self.index.coarse(queries, nprobe)?.to_vecs();
        probed.sort_unstable();
        probed.dedup();
        let lists = probed.iter().filter_map(|list| usize::try_from(*list).ok());
        let rows: usize = lists.map(|list| self.lists[list].len()).sum();
        Ok((rows * self.data.base.d() * size_of::<f32>()) as u64)
    }

    /// One untimed search of `nq` queries, the answer on the host.
    pub fn answer(
        &self,
        from: usize,
        nq: usize,
        k: usize,
        params: &SearchParams,
    ) -> Res<(Answer, SearchStats)> {
        let queries = tensor::<B>(&self.data.queries, from, nq, &self.device);
        let hits = self.index.search_with(queries, k, params)?;
        let (distances, labels) = hits.to_vecs();
        let answer = Answer {
            k,
            distances,
            labels,
        };
        if answer.rows() != nq || answer.distances.len() != answer.labels.len() {
            return Err(format!("{} answers to {nq} queries", answer.rows()).into());
        }
        Ok((answer, hits.stats))
    }

    /// How many of the first `nq` queries probe each list.
    fn probed(&self, nq: usize, nprobe: usize) -> Res<Vec<u64>> {
        let queries = tensor::<B>(&self.data.queries, 0, nq, &self.device);
        let (_, probed) = self.index.coarse(queries, nprobe)?.to_vecs();
        let mut counts = vec![0; self.nlist];
        for list in probed.iter().filter_map(|list| usize::try_from(*list).ok()) {
            counts[list] += 1;
        }
        Ok(counts)
    }

    /// What a warm search of the first `nq` queries launches and reads, and what its kernels are counted
    /// to cost with the lists that these queries probe. The result is left on the device.
    pub fn cost(&self, nq: usize, k: usize, params: &SearchParams) -> Res<Cost> {
        let queries = tensor::<B>(&self.data.queries, 0, nq, &self.device);
        drop(self.index.search_with(queries.clone(), k, params)?);
        B::sync(&self.device)?;
        let before = Counters::now();
        let hits = self.index.search_with(queries, k, params)?;
        let spent = Counters::now().since(before);
        let nprobe = hits.stats.nprobe;
        let probed = self.probed(nq, nprobe)?;
        let [rows, k] = hits.distances.dims();
        Ok(Cost {
            spent,
            kernels: self.index.kernel_costs(nq, k, params, Some(&probed))?,
            results: rows * k * (size_of::<f32>() + hits.labels.dtype().size()),
            queries: rows * self.data.base.d() * size_of::<f32>(),
            how: format!("{} in {}", hits.stats.mode, hits.stats.kernel),
        })
    }

    /// The plan and the [`Cost`] of a search, in words.
    pub fn explain(&self, nq: usize, k: usize, params: &SearchParams) -> Res<String> {
        let plan = self.index.explain(nq, k, params)?;
        let cost = self.cost(nq, k, params)?;
        Ok(format!("nq {nq}: {plan}\n{cost}"))
    }

    /// One sample: `times` separate searches in a row, each of the next `nq` queries. Milliseconds
    /// per search; a GPU's queue is empty before the clock starts and when it stops.
    pub fn timed(&self, shape: &Shape, input: Input, params: &SearchParams) -> Res<f64> {
        let at = |turn: usize| shape.from + turn * shape.nq;
        let load = |turn| tensor::<B>(&self.data.queries, at(turn), shape.nq, &self.device);
        let mut spent = 0.0;
        match input {
            Input::Host => {
                B::sync(&self.device)?;
                let start = Instant::now();
                for turn in 0..shape.times {
                    let hits = self.index.search_with(load(turn), shape.k, params)?;
                    std::hint::black_box(hits.to_vecs());
                }
                spent += ms_since(start);
            }
            Input::Device => {
                let ready: Vec<_> = (0..shape.times).map(load).collect();
                B::sync(&self.device)?;
                for queries in ready {
                    let start = Instant::now();
                    let hits = self.index.search_with(queries, shape.k, params)?;
                    B::sync(&self.device)?;
                    spent += ms_since(start);
                    drop(std::hint::black_box(hits));
                }
            }
        }
        Ok(spent / shape.times as f64)
    }

    /// Times of the device itself, queries and results staying there: medians of five.
    pub fn by_device(
        &self,
        tools: &Tools,
        shape: &Shape,
        params: &SearchParams,
        extra: &mut Extra,
    ) -> Res<()> {
        let load = |turn| {
            let at = shape.at(turn, self.data.queries.rows(), true).from;
            tensor::<B>(&self.data.queries, at, shape.nq, &self.device)
        };
        let (mut kernels, mut cold) = (Vec::new(), Vec::new());
        for turn in 0..5 {
            let queries = load(turn);
            B::sync(&self.device)?;
            let mut found = None;
            let timed = tools.time(&mut || {
                found = Some(self.index.search_with(queries.clone(), shape.k, params));
            });
            if let Some(found) = found {
                found?;
            }
            if let Some((ms, own)) = timed {
                kernels.push(ms);
                extra.kernel_clock = Some(if own { "device" } else { "system" });
            }
            if shape.nq <= 128 {
                let queries = load(turn);
                tools.flush()?;
                B::sync(&self.device)?;
                let start = Instant::now();
                let hits = self.index.search_with(queries, shape.k, params)?;
                B::sync(&self.device)?;
                cold.push(ms_since(start));
                drop(hits);
            }
        }
        let middle = |values: &[f64]| (!values.is_empty()).then(|| rounded(median(values)));
        (extra.kernel_ms, extra.cold_ms) = (middle(&kernels), middle(&cold));
        Ok(())
    }

    /// Judges a sample of an answer in f64 over the lists that were to be probed, and the choice of
    /// those lists itself. Returns how many queries were judged, and the largest relative error of a
    /// distance.
    pub fn prove(
        &self,
        what: &str,
        answer: &Answer,
        from: usize,
        nprobe: usize,
    ) -> Res<(usize, f64)> {
        let rows = sample(answer.rows(), JUDGED);
        let mut worst = 0.0_f64;
        for &row in &rows {
            let query = self.data.queries.row(from + row);
            let one = tensor::<B>(&self.data.queries, from + row, 1, &self.device);
            let (near, probed) = self.index.coarse(one, nprobe)?.to_vecs();
            if let Err(text) = self.coarse_judge().check(query, (&probed, &near), None) {
                return refuse(&format!("{what}, coarse step"), from + row, &text);
            }
            let known = probed.iter().filter_map(|list| usize::try_from(*list).ok());
            let mut ids: Vec<i64> = known
                .flat_map(|list| self.lists[list].iter().copied())
                .collect();
            ids.sort_unstable();
            match self.judge().check(query, answer.row(row), Some(&ids)) {
                Ok(error) => worst = worst.max(error),
                Err(text) => return refuse(what, from + row, &text),
            }
        }
        Ok((rows.len(), worst))
    }

    /// nprobe = nlist on a few queries, judged against all rows: an index that loses or invents
    /// rows cannot pass. With `flat`, its answer has to be the same.
    pub fn prove_full_probe(&self, mode: SearchMode, k: usize, flat: Option<&Answer>) -> Res<()> {
        let params = SearchParams::exact()
            .with_nprobe(self.nlist)
            .with_mode(mode);
        let few = JUDGED.min(self.data.queries.rows());
        let (answer, _) = self.answer(0, few, k, &params)?;
        for row in 0..few {
            let query = self.data.queries.row(row);
            if let Err(text) = self.judge().check(query, answer.row(row), None) {
                return refuse(&format!("{mode}, nprobe = nlist"), row, &text);
            }
            if let Some(flat) = flat
                && row < flat.rows()
                && flat.row(row) != answer.row(row)
            {
                eprintln!(
                    "note: {mode} at nprobe = nlist and IndexFlat differ in bits, query {row}"
                );
            }
        }
        Ok(())
    }

    /// The exact answer of the first `nq` queries by `IndexFlat`, a sample of it judged in f64.
    pub fn truth(&self, nq: usize, k: usize) -> Res<Answer> {
        let base = &self.data.base;
        let mut flat = IndexFlat::<B>::new(base.d(), self.metric, &self.device)?;
        flat.reserve(base.rows())?;
        let from = (base, self.piece);
        add_pieces::<B, _>(&mut flat, from, &self.device, |_, _| Ok(()))?;
        let queries = tensor::<B>(&self.data.queries, 0, nq, &self.device);
        let (distances, labels) = flat.search(queries, k)?.to_vecs();
        let answer = Answer {
            k,
            distances,
            labels,
        };
        for row in sample(nq, JUDGED) {
            let query = self.data.queries.row(row);
            if let Err(text) = self.judge().check(query, answer.row(row), None) {
                return refuse("IndexFlat", row, &text);
            }
        }
        Ok(answer)
    }
}

/// What one sample searches.
#[derive(Clone, Copy)]
pub struct Shape {
    pub nq: usize,
    pub k: usize,
    pub from: usize,
    pub times: usize,
}

impl Shape {
    /// The sample of repetition `rep` over a pool of queries.
    pub fn new(nq: usize, k: usize, times: usize) -> Self {
        Self {
            nq,
            k,
            from: 0,
            times,
        }
    }

    pub fn at(self, rep: usize, pool: usize, rotate: bool) -> Self {
        let from = rotation(rep, self.nq * self.times, pool, rotate);
        Self { from, ..self }
    }
}
