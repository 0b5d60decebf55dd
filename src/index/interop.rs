//! Indexes from faiss's files and into them.
//!
//! The bytes are `persist/faiss`; here its parts become indexes and indexes its parts.

use super::{IndexFlat, IndexIvfFlat, ivf_flat::Trained};
use crate::{
    backend::{IvfBackend, read},
    cluster::KMeansParams,
    error::{Error, Result},
    params::{DEFAULT_WORKSPACE, FlatMode, IvfSettings, NanPolicy},
    persist::{
        self,
        faiss::{
            FaissOptions, FlatParts, IvfContent, IvfParts, read_flat, read_ivf, write_flat,
            write_ivf,
        },
        sink::Sink,
        source::Source,
    },
};
use burn::tensor::{DType, Tensor, TensorData};
use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::Path,
};

impl<B: IvfBackend> IndexFlat<B> {
    /// Reads a file that faiss's `write_index` wrote: `IndexFlatL2`, `IndexFlatIP`, `IndexFlat`
    /// with any metric, and `IndexIDMap` or `IndexIDMap2` over them, whose ids become the
    /// index's own. Rows keep their order; automatic ids go on after the largest.
    ///
    /// Beside the index a few MiB are held.
    ///
    /// ```
    /// use burn::{backend::NdArray, tensor::Tensor};
    /// use burn_ivf::{IndexFlat, Metric};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("a.faiss");
    /// let device = Default::default();
    /// let mut index = IndexFlat::<NdArray>::new(2, Metric::L2, &device)?;
    /// index.add_with_ids(Tensor::from_floats([[1.0, 2.0], [3.0, 4.0]], &device), &[70, 50])?;
    /// index.write_faiss(&path)?;
    /// let same = IndexFlat::<NdArray>::read_faiss(&path, &device)?;
    /// let hits = same.search(Tensor::from_floats([[3.0, 4.0]], &device), 2)?;
    /// assert_eq!(hits.to_vecs().1, [50, 70]);
    /// # Ok::<(), burn_ivf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for bytes that contradict the format, end too early or go
    /// on; [`Error::Unsupported`] for other types, by name; vectors or ids that
    /// [`add_with_ids`](Self::add_with_ids) refuses.
    pub fn read_faiss(path: impl AsRef<Path>, device: &B::Device) -> Result<Self> {
        let mut source = Source::open(path.as_ref())?;
        let index = Self::read_source(&mut source, device)?;
        source.end()?;
        Ok(index)
    }

    /// [`read_faiss`](Self::read_faiss) from a stream, of which no byte behind the index is taken.
    /// Where ids follow the vectors, all of them are held beside the index. Give a buffered reader:
    /// small fields are read one by one.
    ///
    /// # Errors
    /// As [`read_faiss`](Self::read_faiss).
    pub fn read_faiss_from(reader: impl Read, device: &B::Device) -> Result<Self> {
        Self::read_source(&mut Source::stream(reader), device)
    }

    fn read_source(source: &mut Source<impl Read>, device: &B::Device) -> Result<Self> {
        let FlatParts { d, metric, lists } = read_flat::<B::Inner, _>(source, device)?;
        Ok(Self {
            d,
            metric,
            device: device.clone(),
            mode: FlatMode::Auto,
            nan_policy: NanPolicy::Error,
            auto_matrix_bytes_threshold: DEFAULT_WORKSPACE,
            workspace: DEFAULT_WORKSPACE,
            lists,
        })
    }

    /// Writes a file for faiss's `read_index`, byte for byte as its `write_index` would: a bare
    /// `IndexFlatL2`, `IndexFlatIP` or, for other metrics, `IndexFlat` when ids are 0, 1, 2 and so on in the order of rows, else
    /// within an `IndexIDMap2`.
    ///
    /// The file appears whole or not at all: what was at `path` is replaced when all is on the
    /// disk.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unsupported`] for cosine, which faiss does not have;
    /// [`Error::IllegalValue`] for d above 2²⁰; a device that cannot be read.
    pub fn write_faiss(&self, path: impl AsRef<Path>) -> Result<()> {
        to_file(path.as_ref(), |sink| {
            write_flat(
                sink,
                self.d,
                self.metric,
                &self.lists,
                B::capabilities(&self.device).host,
            )
        })
    }

    /// [`write_faiss`](Self::write_faiss) into a stream (best a buffered one).
    ///
    /// # Errors
    /// As [`write_faiss`](Self::write_faiss).
    pub fn write_faiss_to(&self, writer: impl Write) -> Result<()> {
        let sink = &mut Sink::new(writer, "the stream");
        write_flat(
            sink,
            self.d,
            self.metric,
            &self.lists,
            B::capabilities(&self.device).host,
        )?;
        sink.flush()
    }
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// Reads a file that faiss's `write_index` wrote, trained or not: `IndexIVFFlat`, and
    /// `IndexIVFScalarQuantizer` of type fp16 or bf16, whose vectors are stored as such where the device has
    /// the type, else as f32, or as f32 sums with their centroid where residuals are stored. The coarse quantizer must be flat.
    ///
    /// Lists, ids and nprobe are kept; a direct map is not needed and passed over. Automatic ids go
    /// on after the largest. Beside the index a few MiB are held, or as much as the centroids take.
    ///
    /// ```
    /// use burn::{backend::NdArray, tensor::Tensor};
    /// use burn_ivf::{IndexIvfFlat, Metric};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("a.faiss");
    /// let device = Default::default();
    /// let centroids = Tensor::<NdArray, 2>::from_floats([[0.0], [10.0]], &device);
    /// let mut index = IndexIvfFlat::from_centroids(centroids, Metric::L2)?;
    /// index.add_with_ids(Tensor::from_floats([[1.0], [12.0]], &device), &[7, 8])?;
    /// index.write_faiss(&path)?;
    /// let same = IndexIvfFlat::<NdArray>::read_faiss(&path, &device)?;
    /// assert_eq!((same.ntotal(), same.list_ids(1)?), (2, vec![8]));
    /// # Ok::<(), burn_ivf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for bytes that contradict the format, end too early or go
    /// on; [`Error::Unsupported`] for other types, quantizers and metrics, by name; vectors or ids
    /// that [`add_with_ids`](Self::add_with_ids) refuses.
    pub fn read_faiss(path: impl AsRef<Path>, device: &B::Device) -> Result<Self> {
        let mut source = Source::open(path.as_ref())?;
        let index = Self::read_source(&mut source, device)?;
        source.end()?;
        Ok(index)
    }

    /// [`read_faiss`](Self::read_faiss) from a stream, of which no byte behind the index is taken.
    /// The largest list is held beside the index. Give a buffered reader: small fields are read one
    /// by one.
    ///
    /// # Errors
    /// As [`read_faiss`](Self::read_faiss).
    pub fn read_faiss_from(reader: impl Read, device: &B::Device) -> Result<Self> {
        Self::read_source(&mut Source::stream(reader), device)
    }

    fn read_source(source: &mut Source<impl Read>, device: &B::Device) -> Result<Self> {
        let IvfParts {
            d,
            metric,
            nlist,
            nprobe,
            trained,
        } = read_ivf::<B::Inner, _>(source, device)?;
        let settings = IvfSettings {
            nprobe: Some(nprobe),
            ..IvfSettings::default()
        };
        let kmeans = KMeansParams::default();
        let mut index = Self::untrained(d, Some(nlist), metric, settings, kmeans, device);
        if let Some((centroids, lists)) = trained {
            let data = TensorData::new(centroids, [nlist, d]);
            let centroids = Tensor::from_data(data, (device, DType::F32));
            index.settings.storage = lists.storage();
            index.trained = Some(Trained::with_lists(centroids, lists)?);
        }
        Ok(index)
    }

    /// Writes a file for faiss's `read_index`, byte for byte as its `write_index` would write this
    /// `IndexIVFFlat`, without a direct map.
    ///
    /// The file appears whole or not at all: what was at `path` is replaced when all is on the
    /// disk.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unsupported`] for cosine, which faiss does not have,
    /// and for an untrained index whose nlist is left to `train`; [`Error::IllegalValue`] for d
    /// above 2²⁰; a device that cannot be read.
    pub fn write_faiss(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write_faiss_with(path, &FaissOptions::default())
    }

    /// [`write_faiss`](Self::write_faiss) with a direct map, which faiss's `reconstruct` and
    /// `remove_ids` use.
    ///
    /// # Errors
    /// As [`write_faiss`](Self::write_faiss); [`Error::Unsupported`] for an array map where ids are
    /// not from 0 to ntotal - 1.
    pub fn write_faiss_with(&self, path: impl AsRef<Path>, options: &FaissOptions) -> Result<()> {
        self.with_content(|content| {
            to_file(path.as_ref(), |sink| write_ivf(sink, content, *options))
        })
    }

    /// [`write_faiss_with`](Self::write_faiss_with) into a stream (best a buffered one).
    ///
    /// # Errors
    /// As [`write_faiss_with`](Self::write_faiss_with).
    pub fn write_faiss_to(&self, writer: impl Write, options: &FaissOptions) -> Result<()> {
        self.with_content(|content| {
            let sink = &mut Sink::new(writer, "the stream");
            write_ivf(sink, content, *options)?;
            sink.flush()
        })
    }

    fn with_content<T>(
        &self,
        write: impl FnOnce(&IvfContent<'_, B::Inner>) -> Result<T>,
    ) -> Result<T> {
        let nlist = self.nlist().ok_or_else(|| Error::Unsupported {
            what: "an untrained index whose nlist is left to train()".to_owned(),
            action: "written for faiss",
            remedy: "train it, or set nlist when building it",
        })?;
        let centroids = match &self.trained {
            Some(trained) => read(trained.centroids.clone())?,
            None => Vec::new(),
        };
        write(&IvfContent {
            d: self.d,
            metric: self.metric,
            nlist,
            nprobe: self.nprobe(),
            host: B::capabilities(&self.device).host,
            trained: self
                .trained
                .as_ref()
                .map(|trained| (&centroids[..], &trained.lists)),
        })
    }
}

/// Replaces the file at `path` by what `write` writes.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut Sink<BufWriter<&mut File>>) -> Result<()>,
) -> Result<()> {
    persist::save(path, |file| {
        let mut sink = Sink::new(BufWriter::new(file), &path.display().to_string());
        write(&mut sink)?;
        sink.flush()
    })
}
