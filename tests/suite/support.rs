//! What the cases share: data generators, tensors, searches that read their answer, errors.
//!
//! Owns no expectation: [`super::oracle`] says what an answer must be. Knows the crate only through
//! its public API. Every generator is seeded, so a failing case fails again.

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use burn_ivf::{
    Config, Error, FlatMode, IndexFlat, IndexIvfFlat, IvfBackend, KMeansParams, Metric, SearchMode,
    SearchParams, SearchResult, SearchStats, Tuning,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Both metrics, for cases that run over them.
pub const METRICS: [Metric; 2] = [Metric::L2, Metric::InnerProduct];
/// Every way to search an IVF index.
pub const IVF_MODES: [SearchMode; 3] = [SearchMode::Auto, SearchMode::Matrix, SearchMode::Csr];
/// Every way to search a flat index.
pub const FLAT_MODES: [FlatMode; 3] = [FlatMode::Auto, FlatMode::Matrix, FlatMode::Chunked];

/// Vectors on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub data: Vec<f32>,
    pub d: usize,
}

impl Rows {
    pub fn new(data: Vec<f32>, d: usize) -> Self {
        assert_eq!(data.len() % d, 0, "rows of {d} values");
        Self { data, d }
    }

    /// One vector per inner slice.
    pub fn of(rows: &[&[f32]]) -> Self {
        Self::new(rows.concat(), rows[0].len())
    }

    pub fn n(&self) -> usize {
        self.data.len() / self.d
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.d..(row + 1) * self.d]
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.d..(row + 1) * self.d]
    }

    pub fn range(&self, rows: std::ops::Range<usize>) -> Self {
        Self::new(
            self.data[rows.start * self.d..rows.end * self.d].to_vec(),
            self.d,
        )
    }

    pub fn pick(&self, rows: &[usize]) -> Self {
        Self::new(
            rows.iter().flat_map(|&r| self.row(r).to_vec()).collect(),
            self.d,
        )
    }

    pub fn then(&self, more: &Self) -> Self {
        Self::new([self.data.as_slice(), &more.data].concat(), self.d)
    }

    pub fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self::new(self.data.iter().map(|&v| f(v)).collect(), self.d)
    }

    /// As an f32 tensor `[n, d]`.
    pub fn on<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2> {
        self.on_as(device, DType::F32)
    }

    /// As a tensor `[n, d]` of another float type.
    pub fn on_as<B: Backend>(&self, device: &B::Device, dtype: DType) -> Tensor<B, 2> {
        let data = TensorData::new(self.data.clone(), [self.n(), self.d]);
        Tensor::from_data(data, (device, dtype))
    }
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Uniform in [0, 1).
pub fn uniform(n: usize, d: usize, seed: u64) -> Rows {
    let mut rng = rng(seed);
    Rows::new((0..n * d).map(|_| rng.random::<f32>()).collect(), d)
}

/// Standard normal.
pub fn normal(n: usize, d: usize, seed: u64) -> Rows {
    let rng = rng(seed);
    Rows::new(StandardNormal.sample_iter(rng).take(n * d).collect(), d)
}

/// Small integers: many rows are equal, and every distance is exact in f32.
pub fn tied(n: usize, d: usize, levels: u32, seed: u64) -> Rows {
    let mut rng = rng(seed);
    let data = (0..n * d).map(|_| rng.random_range(0..levels) as f32);
    Rows::new(data.collect(), d)
}

/// `clusters` centres uniform in the unit cube, Gaussian noise of `sigma` around them.
pub fn clustered(n: usize, d: usize, clusters: usize, sigma: f32, seed: u64) -> Rows {
    let centres = uniform(clusters, d, seed);
    let mut rng = rng(seed ^ 0x5eed);
    let mut data = Vec::with_capacity(n * d);
    for _ in 0..n {
        let centre = rng.random_range(0..clusters);
        for &c in centres.row(centre) {
            let noise: f32 = StandardNormal.sample(&mut rng);
            data.push(c + sigma * noise);
        }
    }
    Rows::new(data, d)
}

/// An integer tensor `[n, width]` of list numbers.
pub fn lists<B: Backend>(values: &[i64], width: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    let shape = [values.len() / width, width];
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// The values of a float tensor.
pub fn floats<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Whether the backend runs on CubeCL (a GPU, or software that plays one).
pub fn is_cube<B: IvfBackend>(device: &B::Device) -> bool {
    B::name(device).contains("cubecl")
}

/// The thresholds of a process without a configuration, whatever this one's environment says.
pub fn built_in<B: IvfBackend>(device: &B::Device) -> Tuning {
    let fused_scan = B::capabilities(device).fused_scan;
    Tuning::resolve(&B::device_key(device), fused_scan, &Config::default())
}

/// The size of a case: `host` on CPU backends, `cube` where each launch may run on a software GPU
/// (`host` there too with `BURN_IVF_COVER=all`).
pub fn sized<B: IvfBackend>(device: &B::Device, host: usize, cube: usize) -> usize {
    let all = std::env::var_os("BURN_IVF_COVER").is_some_and(|cover| cover == "all");
    if all || !is_cube::<B>(device) {
        host
    } else {
        cube
    }
}

/// Whether labels are 64 bits wide on this device.
pub fn wide_labels<B: IvfBackend>(device: &B::Device) -> bool {
    B::supports_dtype(device, DType::I64)
}

/// A search's answer on the host.
#[derive(Clone, Debug)]
pub struct Answer {
    pub d: Vec<f32>,
    pub i: Vec<i64>,
    pub nq: usize,
    pub k: usize,
    pub stats: SearchStats,
}

impl Answer {
    /// Reads a result and checks its shapes and types.
    pub fn read<B: IvfBackend>(result: &SearchResult<B>) -> Self {
        let [nq, k] = result.distances.dims();
        assert_eq!(result.labels.dims(), [nq, k], "shape of the labels");
        assert_eq!(result.distances.dtype(), DType::F32, "distances are f32");
        let device = result.distances.device();
        let label = if wide_labels::<B>(&device) {
            DType::I64
        } else {
            DType::I32
        };
        assert_eq!(result.labels.dtype(), label, "type of the labels");
        let (d, i) = result.to_vecs();
        assert_eq!((d.len(), i.len()), (nq * k, nq * k));
        let stats = result.stats.clone();
        // No silent fallback: every backend has kernels of its own.
        let own = if is_cube::<B>(&device) {
            "cube ("
        } else {
            "host ("
        };
        assert!(stats.kernel.starts_with(own), "{stats:?}");
        Self { d, i, nq, k, stats }
    }

    pub fn row(&self, query: usize) -> (&[f32], &[i64]) {
        let range = query * self.k..(query + 1) * self.k;
        (&self.d[range.clone()], &self.i[range])
    }

    /// Fails unless the two answers hold the same bits.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!((self.nq, self.k), (other.nq, other.k), "{what}: shape");
        for at in 0..self.i.len() {
            let (a, b) = ((self.d[at], self.i[at]), (other.d[at], other.i[at]));
            assert!(
                a.0.to_bits() == b.0.to_bits() && a.1 == b.1,
                "{what}: query {}, rank {}: {a:?} against {b:?} ({} / {} against {} / {})",
                at / self.k,
                at % self.k,
                self.stats.mode,
                self.stats.kernel,
                other.stats.mode,
                other.stats.kernel,
            );
        }
    }

    /// Fails unless every slot of a query's row is empty.
    #[track_caller]
    pub fn assert_padding(&self, query: usize, metric: Metric) {
        let (d, i) = self.row(query);
        assert!(i.iter().all(|&id| id == -1), "query {query}: labels {i:?}");
        let pad = padding(metric);
        assert!(
            d.iter().all(|&v| v == pad),
            "query {query}: distances {d:?}"
        );
    }
}

/// The distance of a missing result.
pub fn padding(metric: Metric) -> f32 {
    match metric {
        Metric::InnerProduct | Metric::Cosine | Metric::Jaccard => f32::NEG_INFINITY,
        _ => f32::INFINITY,
    }
}

/// A flat index that holds `base` with automatic ids.
pub fn flat<B: IvfBackend>(device: &B::Device, metric: Metric, base: &Rows) -> IndexFlat<B> {
    let mut index = IndexFlat::new(base.d, metric, device).unwrap();
    index.add(base.on(device)).unwrap();
    index
}

/// An IVF index with the given centroids that holds `base` with automatic ids.
pub fn preset<B: IvfBackend>(
    device: &B::Device,
    metric: Metric,
    centroids: &Rows,
    base: &Rows,
) -> IndexIvfFlat<B> {
    let mut index = IndexIvfFlat::from_centroids(centroids.on(device), metric).unwrap();
    index.add(base.on(device)).unwrap();
    index
}

/// An IVF index trained on `base` in few iterations, which it then holds with automatic ids.
pub fn trained<B: IvfBackend>(
    device: &B::Device,
    metric: Metric,
    nlist: usize,
    base: &Rows,
) -> IndexIvfFlat<B> {
    let mut index = untrained(device, metric, nlist, base.d);
    index.train(base.on(device)).unwrap();
    index.add(base.on(device)).unwrap();
    index
}

/// An empty IVF index whose training takes few iterations.
pub fn untrained<B: IvfBackend>(
    device: &B::Device,
    metric: Metric,
    nlist: usize,
    d: usize,
) -> IndexIvfFlat<B> {
    let quick = KMeansParams {
        niter: 4,
        ..KMeansParams::default()
    };
    IndexIvfFlat::builder(d)
        .nlist(nlist)
        .metric(metric)
        .kmeans(quick)
        .build(device)
        .unwrap()
}

/// The fixture LINE: lists of 3, 4, 5 and 0 rows on a line.
pub fn line<B: IvfBackend>(device: &B::Device) -> IndexIvfFlat<B> {
    let centroids = Rows::new(vec![0.0, 10.0, 20.0, 30.0], 1);
    preset(device, Metric::L2, &centroids, &line_rows())
}

/// The rows of LINE.
pub fn line_rows() -> Rows {
    let rows = [
        0.1, 0.2, 0.3, 10.1, 10.2, 10.3, 10.4, 20.1, 20.2, 20.3, 20.4, 20.5,
    ];
    Rows::new(rows.to_vec(), 1)
}

pub fn search_flat<B: IvfBackend>(index: &IndexFlat<B>, queries: &Rows, k: usize) -> Answer {
    let result = index.search(queries.on(&index.device()), k).unwrap();
    Answer::read(&result)
}

pub fn search_ivf<B: IvfBackend>(
    index: &IndexIvfFlat<B>,
    queries: &Rows,
    k: usize,
    params: &SearchParams,
) -> Answer {
    let queries = queries.on(&index.device());
    Answer::read(&index.search_with(queries, k, params).unwrap())
}

/// Exact search with `nprobe` lists in one mode.
pub fn probing(nprobe: usize, mode: SearchMode) -> SearchParams {
    SearchParams::exact().with_nprobe(nprobe).with_mode(mode)
}

/// The error of a call that must fail.
#[track_caller]
pub fn refused<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("the call was accepted"),
        Err(error) => error,
    }
}

/// Fails unless the error's text names all of the numbers.
#[track_caller]
pub fn assert_names(error: &Error, numbers: &[usize]) {
    let text = error.to_string();
    let found: Vec<&str> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .collect();
    for number in numbers {
        assert!(
            found.contains(&number.to_string().as_str()),
            "{text:?} does not name {number}"
        );
    }
}
