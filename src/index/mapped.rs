//! Searching a saved index in its file, without loading it.

use super::{IndexFlat, IndexIvfFlat, flat::lift, validate};
use crate::{
    backend::{Hits, Isa, IvfBackend, PlainList, PlainProblem, label_dtype, scan_plain},
    error::{Error, Result, illegal},
    metric::Metric,
    params::Limit,
    persist::{FlatSettings, IvfFileSettings, Mapped},
    result::SearchResult,
    stats::SearchStats,
};
use burn::tensor::{DType, Tensor};
use std::path::Path;

/// A saved index that is searched where it lies, in a memory-mapped file: opening it reads no
/// vectors, a search reads the lists it probes. Read only; made by
/// [`IndexFlat::load_mmap`] and [`IndexIvfFlat::load_mmap`].
///
/// Searches run on the CPU, whatever the backend (queries are copied there, results come back), and
/// give the ids and bits of the loaded index on a CPU backend. Every row is compared in full, without
/// the filter of a loaded index: `docs/benchmarks.md` has both times.
///
/// The file must not be written to or cut short meanwhile. Saving another index onto it is fine: the
/// map keeps the old one.
#[derive(Debug)]
pub struct MappedIndex<B: IvfBackend> {
    file: File,
    nprobe: usize,
    device: B::Device,
}

#[derive(Debug)]
enum File {
    Flat(Mapped<FlatSettings>),
    Ivf(Mapped<IvfFileSettings>),
}

/// The same expression for both kinds of file.
macro_rules! either {
    ($file:expr, $mapped:ident => $value:expr) => {
        match $file {
            File::Flat($mapped) => $value,
            File::Ivf($mapped) => $value,
        }
    };
}

impl<B: IvfBackend> IndexFlat<B> {
    /// Opens a saved index for searching in its file; see [`MappedIndex`]. What is small is checked
    /// now, ids and vectors by [`MappedIndex::verify`].
    ///
    /// # Errors
    /// Those of [`load`](Self::load) but for ids and vectors.
    pub fn load_mmap(path: impl AsRef<Path>, device: &B::Device) -> Result<MappedIndex<B>> {
        span!("load");
        MappedIndex::new(File::Flat(Mapped::open(path.as_ref())?), 1, device)
    }
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// Opens a saved index for searching in its file; see [`MappedIndex`]. What is small is checked
    /// now, ids and vectors by [`MappedIndex::verify`].
    ///
    /// ```
    /// use burn::{backend::NdArray, tensor::Tensor};
    /// use burn_ivf::{IndexIvfFlat, Metric};
    /// let device = Default::default();
    /// let centroids = Tensor::from_floats([[0.0, 0.0], [9.0, 9.0]], &device);
    /// let mut index = IndexIvfFlat::<NdArray>::from_centroids(centroids, Metric::L2)?;
    /// index.add(Tensor::from_floats([[0.0, 1.0], [8.0, 8.0]], &device))?;
    /// let folder = tempfile::tempdir().unwrap();
    /// index.save(folder.path().join("a.ivf"))?;
    /// let mapped = IndexIvfFlat::<NdArray>::load_mmap(folder.path().join("a.ivf"), &device)?;
    /// let query = Tensor::from_floats([[8.0, 9.0]], &device);
    /// assert_eq!(mapped.search(query, 1)?.to_vecs(), (vec![1.0], vec![1]));
    /// # Ok::<(), burn_ivf::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`load`](Self::load) but for ids and vectors; [`Error::IllegalValue`] when the index
    /// was saved with a [`Limit`], since a mapped one reads whole lists; [`Error::NotApplicable`] for a
    /// metric other than L2, inner product and cosine.
    pub fn load_mmap(path: impl AsRef<Path>, device: &B::Device) -> Result<MappedIndex<B>> {
        span!("load");
        let mapped = Mapped::<IvfFileSettings>::open(path.as_ref())?;
        let search = &mapped.index.settings.search;
        if search.nprobe == Some(0) {
            return Err(Error::ZeroNprobe);
        }
        if let Some(limit) = search.limit
            && limit != Limit::Unlimited
        {
            let expected = "unlimited: a mapped index reads whole lists; load() it instead";
            return Err(illegal(
                "the limit in the file",
                format!("{limit:?}"),
                expected,
            ));
        }
        let nlist = mapped.index.starts.len().saturating_sub(1);
        let nprobe = search.nprobe_or_default(nlist);
        MappedIndex::new(File::Ivf(mapped), nprobe, device)
    }
}

impl<B: IvfBackend> MappedIndex<B> {
    fn new(file: File, nprobe: usize, device: &B::Device) -> Result<Self> {
        let index = Self {
            file,
            nprobe,
            device: device.clone(),
        };
        // What a search would refuse is refused now.
        index.metric().scanned()?;
        // Only where labels cannot hold every id are these read now.
        if label_dtype::<B::Inner>(device) != DType::I64 {
            let ids = either!(&index.file, mapped => mapped.ids());
            validate::ids::<B>(ids, ids.len(), device)?;
        }
        Ok(index)
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        either!(&self.file, mapped => mapped.index.d)
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        either!(&self.file, mapped => mapped.index.metric)
    }

    /// Vectors in the file.
    pub fn ntotal(&self) -> usize {
        self.starts().last().copied().unwrap_or(0)
    }

    /// Number of lists: 1 for a flat index, 0 for an untrained one.
    pub fn nlist(&self) -> usize {
        self.starts().len().saturating_sub(1)
    }

    /// Where results go.
    pub fn device(&self) -> B::Device {
        self.device.clone()
    }

    /// Lists probed per query; 1 for a flat index.
    pub fn nprobe(&self) -> usize {
        self.nprobe
    }

    /// Sets the number of lists probed per query; above [`nlist`](Self::nlist) is clamped. The file
    /// is not changed.
    ///
    /// # Errors
    /// [`Error::ZeroNprobe`] when it is 0.
    pub fn set_nprobe(&mut self, nprobe: usize) -> Result<()> {
        if nprobe == 0 {
            return Err(Error::ZeroNprobe);
        }
        self.nprobe = nprobe.min(self.nlist().max(1));
        Ok(())
    }

    /// Reads all of the file and checks it as loading would: checksums, ids, finite components.
    ///
    /// # Errors
    /// [`Error::Checksum`] and [`Error::Corrupt`].
    pub fn verify(&self) -> Result<()> {
        either!(&self.file, mapped => mapped.verify())
    }

    /// The `k` nearest vectors of every query in `queries`, `[nq, d]`, among those in its `nprobe`
    /// nearest lists, in the order and with the distances of [`IndexIvfFlat::search`] and
    /// [`IndexFlat::search`].
    ///
    /// # Errors
    /// Those of the other indexes' `search`.
    pub fn search(&self, queries: Tensor<B, 2>, k: usize) -> Result<SearchResult<B>> {
        let (d, metric, nq) = (self.d(), self.metric(), queries.dims()[0]);
        span!("search", nq = nq, k = k);
        let k = validate::k(nq, k)?;
        let queries = validate::vectors::<B>(queries, d, &self.device, "queries")?;
        if self.nlist() == 0 {
            return Err(Error::NotTrained);
        }
        let queries = validate::prepared(metric, queries)?;
        let metric = metric.scanned()?;
        let queries = B::Inner::to_host(queries)?;
        let scan = |lists: &[PlainList<'_>], k, probes: &[u32], nprobe| {
            let problem = PlainProblem {
                metric,
                d,
                k,
                lists,
                queries: &queries,
            };
            scan_plain(&problem, probes, nprobe, Isa::detect())
        };
        let one = vec![0; nq];
        let probes = match &self.file {
            File::Flat(_) => one,
            File::Ivf(mapped) => {
                span!("coarse", nq = nq, nprobe = self.nprobe);
                let rows = mapped.index.centroids.as_deref().unwrap_or_default();
                let centroids = PlainList { rows, ids: None };
                let nearest = scan(&[centroids], self.nprobe, &one, 1)?.labels;
                let number = |l| u32::try_from(l).unwrap_or(crate::backend::SKIP);
                nearest.into_iter().map(number).collect()
            }
        };
        span!(
            "scan",
            nq = nq,
            k = k,
            nprobe = self.nprobe,
            mode = "mapped"
        );
        let best = scan(&self.lists(), k, &probes, self.nprobe)?;
        let stats = SearchStats {
            mode: "mapped".to_owned(),
            kernel: format!("rows in a file ({})", Isa::detect().name()),
            reason: "the index is not loaded".to_owned(),
            filter: "f32 differences".to_owned(),
            order: "list-major".to_owned(),
            nq,
            nprobe: self.nprobe,
            avg_group: (nq * self.nprobe) as f64 / self.nlist() as f64,
            query_chunks: 1,
            ..SearchStats::default()
        };
        Ok(lift(Hits::from_host(best, k, &self.device), stats))
    }

    fn starts(&self) -> &[usize] {
        either!(&self.file, mapped => &mapped.index.starts)
    }

    fn lists(&self) -> Vec<PlainList<'_>> {
        let d = self.d();
        let (ids, rows) = either!(&self.file, mapped => (mapped.ids(), mapped.vectors()));
        let list = |pair: &[usize]| PlainList {
            rows: &rows[pair[0] * d..pair[1] * d],
            ids: Some(&ids[pair[0]..pair[1]]),
        };
        self.starts().windows(2).map(list).collect()
    }
}
