//! Search and distances without an index.

use super::{
    flat::lift,
    validate::{self, prepared, stored_for, vectors},
};
use crate::{
    backend::{
        Hits, IvfBackend, Output, label_dtype, labels_from,
        pairs::{Pairs, Table},
        portable::pieces,
        read, read_int, rows_of, select_rows,
    },
    cluster::{Quantizer, centroid_list},
    error::{Error, Result},
    metric::{Compare, Metric},
    params::DEFAULT_WORKSPACE,
    result::SearchResult,
    stats::SearchStats,
};
use burn::tensor::{DType, Tensor, TensorData};
use core::cmp::Ordering;
use serde::{Deserialize, Serialize};

/// How many bytes of vectors and of queries [`knn`] takes at once (faiss `vectorsMemoryLimit`,
/// `queriesMemoryLimit`), at least one vector each; 0 takes all. Answers do not depend on it.
///
/// A search copies the vectors it takes into the layout its kernels read, so `vectors` bounds that
/// copy; more than one piece of vectors costs a read of the device per piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KnnLimits {
    /// Bytes of vectors, 4 a component.
    pub vectors: usize,
    /// Bytes of queries, 4 a component.
    pub queries: usize,
}

impl KnnLimits {
    /// All at once.
    pub const NONE: Self = Self {
        vectors: 0,
        queries: 0,
    };

    /// Vectors of `d` components in `bytes`.
    fn rows(bytes: usize, d: usize) -> usize {
        if bytes == 0 {
            usize::MAX
        } else {
            (bytes / (4 * d)).max(1)
        }
    }
}

/// The `k` nearest of the vectors `xb`, `[nb, d]`, for every query in `xq`, `[nq, d]`, without an
/// index (faiss `knn`): distances and row numbers, `[nq, k]`, best first, ties by smaller row, -1
/// where there are fewer than `k`. The bits are those of [`IndexFlat`](crate::IndexFlat), whatever
/// the limits. A query with NaN or infinity finds nothing (NaN is a missing component for metrics
/// that [accept it](Metric::accepts_nan)).
///
/// # Errors
/// Different dimensions or devices, `k` = 0, more than 2³² - 1 results, NaN or infinite components
/// in `xb`, an illegal metric.
///
/// ```
/// use burn::{backend::NdArray, tensor::Tensor};
/// use burn_ivf::{KnnLimits, Metric, knn};
/// let device = Default::default();
/// let xb = Tensor::<NdArray, 2>::from_floats([[1.0, 2.0, 3.0], [0.5, 0.25, 4.0]], &device);
/// let xq = Tensor::from_floats([[2.0, 2.0, 1.0]], &device);
/// let hits = knn(xq, xb, 2, Metric::L1, &KnnLimits::NONE)?;
/// assert_eq!(hits.to_vecs(), (vec![3.0, 6.25], vec![0, 1]));
/// # Ok::<(), burn_ivf::Error>(())
/// ```
pub fn knn<B: IvfBackend>(
    xq: Tensor<B, 2>,
    xb: Tensor<B, 2>,
    k: usize,
    metric: Metric,
    limits: &KnnLimits,
) -> Result<SearchResult<B>> {
    let ([nq, d], [nb, _], device) = (xq.dims(), xb.dims(), xq.device());
    validate::k(nq, k)?;
    let whole = KnnAccumulator::new(xq, k, metric)?;
    let xb = vectors::<B>(xb, d, &device, "vectors")?;
    let blocks = || pieces(nb, KnnLimits::rows(limits.vectors, d).min(nb.max(1)));
    let mut broken: Option<(usize, usize)> = None;
    for range in blocks() {
        match validate::finite(metric, &rows_of(&xb, range.clone()), "vectors") {
            Err(Error::NonFinite { row, count, .. }) => {
                let (first, before) = broken.unwrap_or((range.start + row, 0));
                broken = Some((first, before + count));
            }
            others => others?,
        }
    }
    if let Some((row, count)) = broken {
        let what = "vectors";
        return Err(Error::NonFinite { what, row, count });
    }
    let mut parts = Vec::new();
    for range in pieces(nq.max(1), KnnLimits::rows(limits.queries, d).min(nq.max(1))) {
        let mut part = whole.part(range.start..range.end.min(nq));
        for range in blocks() {
            part.take(rows_of(&xb, range))?;
        }
        parts.push(part.hits());
    }
    let mut stats = whole.stats();
    stats.query_chunks = parts.len();
    Ok(lift(Hits::join(parts), stats))
}

/// The distance or similarity of every one of `xq`, `[nq, d]`, and every one of `xb`, `[nb, d]`, f32
/// `[nq, nb]` (faiss `pairwise_distances`); L2 is squared. NaN for a pair with a component that is
/// NaN or infinite (NaN is legal for metrics that [accept it](Metric::accepts_nan)), and where the
/// metric has no value.
///
/// # Errors
/// Different dimensions or devices, vectors without components, an illegal metric.
///
/// ```
/// use burn::{backend::NdArray, tensor::Tensor};
/// use burn_ivf::{Metric, pairwise_distance};
/// let device = Default::default();
/// let xb = Tensor::<NdArray, 2>::from_floats([[1.0, 2.0, 3.0], [0.5, 0.25, 4.0]], &device);
/// let xq = Tensor::from_floats([[2.0, 2.0, 1.0]], &device);
/// let table = pairwise_distance(xq, xb, Metric::Lp(3.0))?;
/// assert_eq!(table.into_data().to_vec::<f32>().unwrap(), [9.0, 35.734375]);
/// # Ok::<(), burn_ivf::Error>(())
/// ```
pub fn pairwise_distance<B: IvfBackend>(
    xq: Tensor<B, 2>,
    xb: Tensor<B, 2>,
    metric: Metric,
) -> Result<Tensor<B, 2>> {
    let (d, device) = (xq.dims()[1], xq.device());
    let metric = metric.check()?;
    validate::dimension(d)?;
    let q = prepared(metric, vectors::<B>(xq, d, &device, "queries")?)?;
    let x = prepared(metric, vectors::<B>(xb, d, &device, "vectors")?)?;
    let table = B::Inner::pairwise(q, x, metric.measure(), Output::Distances)?;
    Ok(B::lift(table))
}

/// The `k` nearest vectors of queries, of vectors that come block by block: for data that do not fit
/// in memory (faiss `knn_ground_truth`). The answer is that of [`knn`] on all blocks together, bit
/// for bit, in whatever blocks they come.
///
/// The first block stays on the device; from the second on the best so far are merged on the host,
/// which reads `[nq, k]` results a block.
///
/// ```
/// use burn::{backend::NdArray, tensor::{Distribution, Tensor}};
/// use burn_ivf::{KnnAccumulator, KnnLimits, Metric, knn};
/// let device = Default::default();
/// let xb = Tensor::<NdArray, 2>::random([1000, 8], Distribution::Default, &device);
/// let xq = xb.clone().slice([0..5, 0..8]);
/// let mut nearest = KnnAccumulator::new(xq.clone(), 10, Metric::L2)?;
/// for block in xb.clone().split(300, 0) {
///     nearest.push(block)?;
/// }
/// let whole = knn(xq, xb, 10, Metric::L2, &KnnLimits::NONE)?;
/// assert_eq!(nearest.finish().to_vecs(), whole.to_vecs());
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KnnAccumulator<B: IvfBackend> {
    metric: Metric,
    k: usize,
    /// Prepared for the metric.
    queries: Tensor<B::Inner, 2>,
    device: B::Device,
    /// Rows pushed; the id of the next row of [`push`](Self::push).
    pushed: usize,
    best: Best<B::Inner>,
}

/// The best so far.
#[derive(Debug, Clone)]
enum Best<E: IvfBackend> {
    Nothing,
    /// Of one block, whose ids are its row numbers.
    Device(Hits<E>),
    /// Distances and labels, row-major `[nq, k]`.
    Host(Vec<f32>, Vec<i64>),
}

impl<B: IvfBackend> KnnAccumulator<B> {
    /// Starts with nothing found for `queries`, `[nq, d]`.
    ///
    /// # Errors
    /// Queries without components, `k` = 0, more than 2³² - 1 results, an illegal metric.
    pub fn new(queries: Tensor<B, 2>, k: usize, metric: Metric) -> Result<Self> {
        let ([nq, d], device) = (queries.dims(), queries.device());
        validate::dimension(d)?;
        let metric = metric.check()?;
        let k = validate::k(nq, k)?;
        let queries = prepared(metric, vectors::<B>(queries, d, &device, "queries")?)?;
        Ok(Self {
            metric,
            k,
            queries,
            device,
            pushed: 0,
            best: Best::Nothing,
        })
    }

    /// The same with nothing found for some of the queries.
    fn part(&self, range: core::ops::Range<usize>) -> Self {
        let d = self.queries.dims()[1];
        let queries = if range.len() == self.queries.dims()[0] {
            self.queries.clone()
        } else {
            self.queries.clone().slice([range, 0..d])
        };
        Self {
            queries,
            best: Best::Nothing,
            pushed: 0,
            ..self.clone()
        }
    }

    /// Vectors taken in.
    pub fn len(&self) -> usize {
        self.pushed
    }

    /// Whether no vector has been taken in.
    pub fn is_empty(&self) -> bool {
        self.pushed == 0
    }

    /// Takes in a block, `[n, d]`, whose ids are the numbers of its rows, counted on over all
    /// blocks.
    ///
    /// # Errors
    /// Another dimension or device, NaN or infinite components, an id that does not fit the device's
    /// labels: nothing is taken in.
    pub fn push(&mut self, block: Tensor<B, 2>) -> Result<()> {
        let d = self.queries.dims()[1];
        let block = vectors::<B>(block, d, &self.device, "vectors")?;
        validate::finite(self.metric, &block, "vectors")?;
        self.take(block)
    }

    /// Takes in a block that has been checked.
    fn take(&mut self, block: Tensor<B::Inner, 2>) -> Result<()> {
        let (first, n) = (self.pushed as i64, block.dims()[0]);
        if n == 0 {
            return Ok(());
        }
        validate::ids::<B>(&[first + n as i64 - 1], 1, &self.device)?;
        let block = prepared(self.metric, block)?;
        let hits = self.search(block)?;
        if matches!(self.best, Best::Nothing) && first == 0 {
            self.best = Best::Device(hits);
        } else {
            self.merge(hits, |row| first + row)?;
        }
        self.pushed += n;
        Ok(())
    }

    /// Takes in a block, `[n, d]`, with an id each, in any order; ids may repeat.
    ///
    /// # Errors
    /// As [`push`](Self::push); another number of ids, an id of -1.
    pub fn push_with_ids(&mut self, block: Tensor<B, 2>, ids: &[i64]) -> Result<()> {
        let n = block.dims()[0];
        validate::ids::<B>(ids, n, &self.device)?;
        let d = self.queries.dims()[1];
        let block = stored_for::<B>(self.metric, block, d, &self.device, "vectors")?;
        if n == 0 {
            return Ok(());
        }
        // In order of ids, so that ties by smaller row are ties by smaller id.
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by_key(|&row| ids[row as usize]);
        let hits = self.search(select_rows(&block, &order))?;
        self.merge(hits, |row| ids[order[row as usize] as usize])?;
        self.pushed += n;
        Ok(())
    }

    /// The best of a block; labels are its row numbers.
    fn search(&self, block: Tensor<B::Inner, 2>) -> Result<Hits<B::Inner>> {
        let [n, d] = block.dims();
        let (nq, k) = (self.queries.dims()[0], self.k);
        if nq == 0 {
            return Ok(Hits::padding(self.metric, nq, k, &self.device));
        }
        let queries = self.queries.clone();
        match self.metric.compare() {
            Compare::Scan(_) => {
                let store = centroid_list::<B::Inner>(block)?;
                let quantizer = Quantizer {
                    metric: self.metric,
                    store: &store,
                    nlist: n,
                    d,
                    workspace: DEFAULT_WORKSPACE,
                };
                let mut hits = quantizer.nearest(queries, k)?;
                hits.labels = hits.labels.cast(label_dtype::<B::Inner>(&self.device));
                Ok(hits)
            }
            Compare::Pairs(_) => {
                let pairs = Pairs {
                    metric: self.metric,
                    k,
                    queries,
                    workspace: DEFAULT_WORKSPACE,
                };
                let rows = |range| Ok(block.clone().slice([range, 0..d]));
                pairs.search(n, rows, &Table::Places)
            }
        }
    }

    /// Keeps the best of what there was and of `hits`, whose labels `id` turns into ids.
    fn merge(&mut self, hits: Hits<B::Inner>, id: impl Fn(i64) -> i64) -> Result<()> {
        let named = |label| if label == -1 { -1 } else { id(label) };
        let distances = read(hits.distances)?;
        let labels: Vec<i64> = read_int(hits.labels)?.into_iter().map(named).collect();
        self.best = match &self.best {
            Best::Nothing => Best::Host(distances, labels),
            Best::Device(before) => {
                let before = before.clone();
                let before = (read(before.distances)?, read_int(before.labels)?);
                self.merged((&before.0, &before.1), (&distances, &labels))
            }
            Best::Host(d, i) => self.merged((d, i), (&distances, &labels)),
        };
        Ok(())
    }

    fn merged(&self, a: (&[f32], &[i64]), b: (&[f32], &[i64])) -> Best<B::Inner> {
        let (k, metric) = (self.k, self.metric);
        let (mut distances, mut labels) = (Vec::with_capacity(a.0.len()), Vec::new());
        for query in 0..a.0.len() / k {
            let (mut i, mut j) = (query * k, query * k);
            for _ in 0..k {
                let (x, y) = ((a.0[i], a.1[i]), (b.0[j], b.1[j]));
                let (best, next) = if before(metric, y, x) {
                    (y, &mut j)
                } else {
                    (x, &mut i)
                };
                // The last of a row is taken once at most: k are taken of 2k.
                *next += usize::from(*next + 1 < (query + 1) * k);
                distances.push(best.0);
                labels.push(best.1);
            }
        }
        Best::Host(distances, labels)
    }

    fn hits(self) -> Hits<B::Inner> {
        let nq = self.queries.dims()[0];
        match self.best {
            Best::Nothing => Hits::padding(self.metric, nq, self.k, &self.device),
            Best::Device(hits) => hits,
            Best::Host(distances, labels) => Hits {
                distances: Tensor::from_data(
                    TensorData::new(distances, [nq, self.k]),
                    (&self.device, DType::F32),
                ),
                labels: labels_from(labels, [nq, self.k], &self.device),
                counts: None,
                order: None,
                filter: None,
            },
        }
    }

    fn stats(&self) -> SearchStats {
        let nq = self.queries.dims()[0];
        SearchStats {
            mode: match self.metric.compare() {
                Compare::Scan(_) => "chunked".to_owned(),
                Compare::Pairs(_) => "pairs".to_owned(),
            },
            kernel: B::capabilities(&self.device).kernel,
            reason: "search without an index".to_owned(),
            nq,
            nprobe: 1,
            avg_group: nq as f64,
            query_chunks: 1,
            ..SearchStats::default()
        }
    }

    /// The best of all blocks.
    pub fn finish(self) -> SearchResult<B> {
        let stats = self.stats();
        lift(self.hits(), stats)
    }
}

/// Whether a hit comes before another: better distance, then smaller id; padding is last.
fn before(metric: Metric, a: (f32, i64), b: (f32, i64)) -> bool {
    let order = if metric.larger_is_better() {
        b.0.partial_cmp(&a.0)
    } else {
        a.0.partial_cmp(&b.0)
    };
    match (a.1, b.1) {
        (-1, _) => false,
        (_, -1) => true,
        _ => order.unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1)) == Ordering::Less,
    }
}
