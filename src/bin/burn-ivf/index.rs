//! An index file of any kind, opened; vectors and ids from files.

use crate::{
    args::Source,
    output::{Done, Failure, fail, usage},
};
use burn::tensor::{Tensor, TensorData};
use burn_ivf::{
    Error, IndexFlat, IndexIvfFlat, IvfBackend, MappedIndex, Metric, SearchParams, SearchResult,
    io::VectorFile,
};
use std::{fs::File, io::Read, path::Path};

/// Bytes of vectors that are read at a time.
const BLOCK: usize = 64 << 20;

/// First bytes of faiss's files that hold a flat index, or one under an id map.
const FAISS_FLAT: [&[u8; 4]; 5] = [b"IxF2", b"IxFI", b"IxFl", b"IxMp", b"IxM2"];
/// First bytes of faiss's files that hold an inverted file with vectors as they are.
const FAISS_IVF: [&[u8; 4]; 3] = [b"IwFl", b"IwSq", b"IwSQ"];

/// An index of either kind, or one that stays in its file.
pub enum AnyIndex<B: IvfBackend> {
    Flat(IndexFlat<B>),
    Ivf(Box<IndexIvfFlat<B>>),
    Mapped(Box<MappedIndex<B>>),
}

/// Where an index file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Own,
    Faiss,
}

impl<B: IvfBackend> AnyIndex<B> {
    /// Opens what a command names.
    pub fn open(source: &Source, device: &B::Device) -> Done<Self> {
        if source.mmap {
            Self::map(&source.index, device)
        } else {
            Ok(Self::load(&source.index, device)?.0)
        }
    }

    /// Loads an index file of this library or of faiss.
    pub fn load(path: &Path, device: &B::Device) -> Done<(Self, Format)> {
        let at = Failure::at(path);
        let magic = first_bytes(path)?;
        let known = |names: &[&[u8; 4]]| names.iter().any(|name| magic == name[..]);
        if known(&FAISS_FLAT) {
            let index = IndexFlat::read_faiss(path, device).map_err(at)?;
            return Ok((Self::Flat(index), Format::Faiss));
        }
        if known(&FAISS_IVF) {
            let index = IndexIvfFlat::read_faiss(path, device).map_err(at)?;
            return Ok((Self::Ivf(Box::new(index)), Format::Faiss));
        }
        match IndexIvfFlat::load(path, device) {
            Ok(index) => Ok((Self::Ivf(Box::new(index)), Format::Own)),
            Err(Error::WrongKind { .. }) => {
                let index = IndexFlat::load(path, device).map_err(at)?;
                Ok((Self::Flat(index), Format::Own))
            }
            Err(Error::NotAnIndex { .. }) => fail(format!(
                "{}: not an index of burn-ivf, nor one of faiss's that is read (IndexFlat, \
                 IndexIVFFlat, IndexIDMap over them); build one with `burn-ivf build`",
                path.display()
            )),
            Err(error) => Err(at(error)),
        }
    }

    fn map(path: &Path, device: &B::Device) -> Done<Self> {
        let at = Failure::at(path);
        let mapped = match IndexIvfFlat::<B>::load_mmap(path, device) {
            Err(Error::WrongKind { .. }) => IndexFlat::<B>::load_mmap(path, device),
            mapped => mapped,
        };
        match mapped {
            Ok(index) => Ok(Self::Mapped(Box::new(index))),
            Err(Error::NotAnIndex { .. }) => fail(format!(
                "{}: --mmap searches this library's files; make one with `burn-ivf convert {} OUT.ivf`",
                path.display(),
                path.display()
            )),
            Err(error) => Err(at(error)),
        }
    }

    /// The inverted file, or an error that says what a command wants with one.
    pub fn ivf(self, path: &Path, what: &str) -> Done<IndexIvfFlat<B>> {
        match self {
            Self::Ivf(index) => Ok(*index),
            Self::Flat(_) | Self::Mapped(_) => fail(format!(
                "{} holds a flat index, which has no lists to {what}; build one without --flat",
                path.display()
            )),
        }
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        match self {
            Self::Flat(index) => index.d(),
            Self::Ivf(index) => index.d(),
            Self::Mapped(index) => index.d(),
        }
    }

    /// Vectors held.
    pub fn ntotal(&self) -> usize {
        match self {
            Self::Flat(index) => index.ntotal(),
            Self::Ivf(index) => index.ntotal(),
            Self::Mapped(index) => index.ntotal(),
        }
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        match self {
            Self::Flat(index) => index.metric(),
            Self::Ivf(index) => index.metric(),
            Self::Mapped(index) => index.metric(),
        }
    }

    /// Number of lists; `None` for a flat index.
    pub fn nlist(&self) -> Option<usize> {
        match self {
            Self::Flat(_) => None,
            Self::Ivf(index) => index.nlist(),
            Self::Mapped(index) => (index.nlist() > 1).then(|| index.nlist()),
        }
    }

    /// Lists a search reads unless told otherwise; `None` for a flat index.
    pub fn nprobe(&self) -> Option<usize> {
        match self {
            Self::Flat(_) => None,
            Self::Ivf(index) => Some(index.nprobe()),
            Self::Mapped(index) => self.nlist().map(|_| index.nprobe()),
        }
    }

    /// Makes a mapped index search as `params` say; others take them with every search.
    pub fn prepare(&mut self, params: &SearchParams) -> Done {
        if let Self::Mapped(index) = self {
            if let Some(nprobe) = params.nprobe {
                index.set_nprobe(nprobe)?;
            }
            let only_nprobe = SearchParams {
                nprobe: params.nprobe,
                ..SearchParams::default()
            };
            if *params != only_nprobe {
                return usage(format!(
                    "--mmap knows nprobe only, not {params}; leave --mmap out"
                ));
            }
        }
        Ok(())
    }

    /// The k nearest of every query.
    pub fn search(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        params: &SearchParams,
    ) -> burn_ivf::Result<SearchResult<B>> {
        match self {
            Self::Flat(index) => index.search_with(queries, k, params),
            Self::Ivf(index) => index.search_with(queries, k, params),
            Self::Mapped(index) => index.search(queries, k),
        }
    }
}

fn first_bytes(path: &Path) -> Done<Vec<u8>> {
    let failed = |error| Failure::Failed(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    // What is read here is gone from a pipe.
    if !file.metadata().map_err(failed)?.is_file() {
        return fail(format!(
            "{} is no regular file; an index is read from one",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.by_ref()
        .take(4)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Opens a file of vectors.
pub fn vectors(path: &Path) -> Done<VectorFile> {
    VectorFile::open(path).map_err(Failure::at(path))
}

/// Opens queries for vectors of `d` components.
pub fn queries(path: &Path, d: usize) -> Done<VectorFile> {
    let file = vectors(path)?;
    if file.is_empty() {
        return fail(format!("{} holds no queries", path.display()));
    }
    if file.d() == 1 && file.len() == d {
        return fail(format!(
            "{} holds {d} vectors of one component, the index has d = {d}; a single query is an array of shape [1, {d}]",
            path.display()
        ));
    }
    if file.d() != d {
        return fail(format!(
            "{} holds vectors of {} components, the index has d = {d}; take the queries from the same model",
            path.display(),
            file.d()
        ));
    }
    Ok(file)
}

/// Rows of `d` components to read at a time.
pub fn block_rows(d: usize) -> usize {
    (BLOCK / (4 * d.max(1))).max(1)
}

/// Rows as a tensor.
pub fn tensor<B: IvfBackend>(rows: Vec<f32>, d: usize, device: &B::Device) -> Tensor<B, 2> {
    let n = rows.len() / d.max(1);
    Tensor::from_data(TensorData::new(rows, [n, d]), device)
}

/// True neighbours of `nq` queries, at least `k` each, and how many there are.
pub fn truth(path: &Path, nq: usize, k: usize) -> Done<(Vec<i64>, usize)> {
    let mut file = vectors(path)?;
    if file.len() != nq {
        return fail(format!(
            "{} holds neighbours of {} queries, there are {nq}; pass the truth of these queries",
            path.display(),
            file.len()
        ));
    }
    let width = file.d();
    if width < k {
        return fail(format!(
            "{} holds {width} neighbours a query, k is {k}; pass --k {width} or less",
            path.display()
        ));
    }
    let ids = file.read_ids(0, nq).map_err(Failure::at(path))?;
    Ok((ids, width))
}
