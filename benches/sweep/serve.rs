//! The `serve` sub-command: one JSON request per stdin line, one JSON reply per stdout line, over an
//! index that another library trained (same centroids, same assignment), so that a driver can
//! measure both side by side by its own clock. The protocol is written down in benches/README.md.
//!
//! Nothing is cached between requests: each search makes its query tensor from the host array, as a
//! user would, and reads the answer back. Between requests the process sleeps on stdin.

use crate::Res;
use crate::args::ServeArgs;
use crate::backends::{self, Job};
use crate::data::Matrix;
use crate::files;
use crate::timing::ms_since;
use crate::workload::tensor;
use burn::tensor::{Tensor, TensorData};
use burn_ivf::{
    IndexFlat, IndexIvfFlat, IvfBackend, KMeansParams, Metric, SearchMode, SearchParams, Storage,
    recall_at_k,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

pub fn start(args: ServeArgs) -> Res<()> {
    let backend = args.backend.clone();
    backends::dispatch(&backend, Serve { args })
}

struct Serve {
    args: ServeArgs,
}

/// A request; which fields are needed depends on `op` (a request without one is a search).
#[derive(Deserialize)]
struct Request {
    op: Option<String>,
    #[serde(default)]
    nq: usize,
    #[serde(default)]
    offset: usize,
    times: Option<usize>,
    k: Option<usize>,
    nprobe: Option<usize>,
    #[serde(default)]
    max_codes: u64,
    n: Option<usize>,
    nlist: Option<usize>,
    niter: Option<usize>,
    out: Option<String>,
}

/// What meta.json says of the exported index.
#[derive(Deserialize)]
struct Meta {
    metric: String,
    nlist: usize,
    nprobe: usize,
    k: usize,
    train_n: usize,
    #[serde(default = "default_seed")]
    seed: u64,
}

fn default_seed() -> u64 {
    1234
}

struct Server<B: IvfBackend> {
    device: B::Device,
    meta: Meta,
    metric: Metric,
    mode: SearchMode,
    storage: Storage,
    base: Tensor<B, 2>,
    queries: Matrix,
    centroids: Matrix,
    index: IndexIvfFlat<B>,
    /// Made at the first `flat` request, outside its own clock.
    flat: Option<IndexFlat<B>>,
    /// The index `add` fills: trained, emptied before each time.
    filled: Option<IndexIvfFlat<B>>,
    /// The answer of the last search, for `dump`.
    last: Option<(Vec<f32>, Vec<i64>)>,
    /// Exact ids and how many per query, where the folder has them.
    exact: Option<(Vec<i64>, usize)>,
}

impl Job for Serve {
    fn run<B: IvfBackend>(self, device: B::Device) -> Res<()> {
        let mut server = Server::<B>::open(&self.args, device)?;
        let mut stdout = std::io::stdout().lock();
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let reply = server
                .reply(&line)
                .unwrap_or_else(|error| json!({ "error": error.to_string() }));
            writeln!(stdout, "{reply}")?;
            stdout.flush()?;
        }
        Ok(())
    }
}

impl<B: IvfBackend> Server<B> {
    fn open(args: &ServeArgs, device: B::Device) -> Res<Self> {
        let dir = &args.dir;
        let meta: Meta = serde_json::from_str(&fs::read_to_string(dir.join("meta.json"))?)?;
        let metric: Metric = meta.metric.parse()?;
        let base = files::read_matrix(&dir.join("base.npy"))?;
        let queries = files::read_matrix(&dir.join("queries.npy"))?;
        let centroids = files::read_matrix(&dir.join("centroids.npy"))?;
        let assign = files::read_npy_ints(&dir.join("assign.npy"))?;
        let lists = assign.iter().map(|list| u32::try_from(*list));
        let lists = lists.collect::<Result<Vec<u32>, _>>()?;
        let (nb, d) = (base.rows(), base.d);
        let base = Tensor::from_data(TensorData::new(base.values, [nb, d]), &device);
        let start = Instant::now();
        let mut index = emptied::<B>(&centroids, metric, args.storage, &device)?;
        index.add_preassigned(base.clone(), None, &lists)?;
        index.set_nprobe(meta.nprobe)?;
        B::sync(&device)?;
        let ms = ms_since(start);
        let lists = centroids.rows();
        eprintln!(
            "serving {nb} x {d}, {lists} lists, {metric}, on {}; index made in {ms:.0} ms",
            B::name(&device)
        );
        Ok(Self {
            exact: exact_ids(dir, queries.rows())?,
            mode: args.mode,
            storage: args.storage,
            device,
            meta,
            metric,
            base,
            queries,
            centroids,
            index,
            flat: None,
            filled: None,
            last: None,
        })
    }

    fn reply(&mut self, line: &str) -> Res<Value> {
        let request: Request = serde_json::from_str(line)?;
        match request.op.as_deref() {
            Some("search") => {
                let ms = self.search(&request)?;
                Ok(json!({ "ms": ms }))
            }
            None => {
                let ms = self.search(&request)?;
                Ok(json!({ "search_ms": ms, "recall": self.recall(&request) }))
            }
            Some("flat") => Ok(json!({ "ms": self.exhaustive(&request)? })),
            Some("train") => Ok(json!({ "ms": self.train(&request)? })),
            Some("add") => Ok(json!({ "ms": self.add()? })),
            Some("dump") => self.dump(&request),
            Some(other) => Err(format!("unknown op `{other}`").into()),
        }
    }

    fn k(&self, request: &Request) -> usize {
        request.k.unwrap_or(self.meta.k)
    }

    /// `nq` queries from `offset` as a fresh tensor.
    fn block(&self, offset: usize, nq: usize) -> Res<Tensor<B, 2>> {
        let have = self.queries.rows();
        if offset.saturating_add(nq) > have {
            return Err(format!("queries {offset}..+{nq} of {have}").into());
        }
        Ok(tensor::<B>(&self.queries, offset, nq, &self.device))
    }

    fn search(&mut self, request: &Request) -> Res<f64> {
        if request.max_codes != 0 {
            return Err("max_codes other than 0 is not supported by this version".into());
        }
        let nprobe = request.nprobe.unwrap_or(self.meta.nprobe);
        let params = SearchParams::exact()
            .with_nprobe(nprobe)
            .with_mode(self.mode);
        let k = self.k(request);
        let start = Instant::now();
        for turn in 0..request.times.unwrap_or(1) {
            let queries = self.block(request.offset + turn * request.nq, request.nq)?;
            let hits = self.index.search_with(queries, k, &params)?;
            self.last = Some(hits.to_vecs());
        }
        Ok(ms_since(start))
    }

    fn exhaustive(&mut self, request: &Request) -> Res<f64> {
        let k = self.k(request);
        if self.flat.is_none() {
            let d = self.queries.d;
            let mut flat = IndexFlat::<B>::new(d, self.metric, &self.device)?;
            flat.set_storage(self.storage)?;
            flat.add(self.base.clone())?;
            B::sync(&self.device)?;
            self.flat = Some(flat);
        }
        let flat = self.flat.as_ref().ok_or("no flat index")?;
        let start = Instant::now();
        let queries = self.block(request.offset, request.nq)?;
        self.last = Some(flat.search(queries, k)?.to_vecs());
        Ok(ms_since(start))
    }

    /// A fresh k-means over the first `n` rows.
    fn train(&self, request: &Request) -> Res<f64> {
        let [nb, d] = self.base.dims();
        let n = request.n.unwrap_or(self.meta.train_n).min(nb);
        let defaults = KMeansParams::default();
        let kmeans = KMeansParams {
            niter: request.niter.unwrap_or(defaults.niter),
            seed: self.meta.seed,
            ..defaults
        };
        let start = Instant::now();
        let mut fresh = IndexIvfFlat::<B>::builder(d)
            .storage(self.storage)
            .nlist(request.nlist.unwrap_or(self.meta.nlist))
            .metric(self.metric)
            .kmeans(kmeans)
            .build(&self.device)?;
        fresh.train(self.base.clone().slice([0..n, 0..d]))?;
        B::sync(&self.device)?;
        Ok(ms_since(start))
    }

    /// The whole base into an emptied, trained index: assignment and storage.
    fn add(&mut self) -> Res<f64> {
        let mut filled = match self.filled.take() {
            Some(index) => index,
            None => emptied::<B>(&self.centroids, self.metric, self.storage, &self.device)?,
        };
        let start = Instant::now();
        filled.reset();
        filled.add(self.base.clone())?;
        B::sync(&self.device)?;
        let ms = ms_since(start);
        self.filled = Some(filled);
        Ok(ms)
    }

    /// Raw little-endian i64 labels and f32 distances of the last search.
    fn dump(&self, request: &Request) -> Res<Value> {
        let prefix = request.out.as_deref().ok_or("dump needs `out`")?;
        let (distances, labels) = self.last.as_ref().ok_or("dump before any search")?;
        let labels: Vec<u8> = labels.iter().flat_map(|x| x.to_le_bytes()).collect();
        let distances: Vec<u8> = distances.iter().flat_map(|x| x.to_le_bytes()).collect();
        fs::write(format!("{prefix}.labels"), labels)?;
        fs::write(format!("{prefix}.distances"), distances)?;
        Ok(json!({ "ok": true }))
    }

    /// Recall of the last answer against the folder's exact ids, if it has them for these queries.
    fn recall(&self, request: &Request) -> Option<f64> {
        let (exact, exact_k) = self.exact.as_ref()?;
        let (_, labels) = self.last.as_ref()?;
        let k = self.k(request);
        let rows = request.nq.min(exact.len() / exact_k);
        if request.offset != 0 || request.times.unwrap_or(1) != 1 || k > *exact_k || rows == 0 {
            return None;
        }
        let (found, truth) = (&labels[..rows * k], &exact[..rows * exact_k]);
        recall_at_k(found, truth, k, *exact_k, k).ok()
    }
}

/// A trained index without rows.
fn emptied<B: IvfBackend>(
    centroids: &Matrix,
    metric: Metric,
    storage: Storage,
    device: &B::Device,
) -> Res<IndexIvfFlat<B>> {
    let rows = tensor::<B>(centroids, 0, centroids.rows(), device);
    let mut index = IndexIvfFlat::from_centroids(rows, metric)?;
    index.set_storage(storage)?;
    Ok(index)
}

/// The exact ids a folder may hold for its first queries, with the number per query.
fn exact_ids(dir: &Path, queries: usize) -> Res<Option<(Vec<i64>, usize)>> {
    let path = dir.join("expect_I_exact.npy");
    if !path.exists() {
        return Ok(None);
    }
    let shape = files::npy_shape(&path)?;
    let &[rows, k] = shape.as_slice() else {
        return Err(format!("{}: shape {shape:?}", path.display()).into());
    };
    if rows as usize > queries || k == 0 {
        return Err(format!("{}: {rows} rows for {queries} queries", path.display()).into());
    }
    Ok(Some((files::read_npy_ints(&path)?, k as usize)))
}
