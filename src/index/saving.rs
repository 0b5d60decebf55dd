//! Indexes to files and back: taking them apart for [`persist`], checking what a file says.

use super::{IndexFlat, IndexIvfFlat, ivf_flat::Trained};
use crate::{
    backend::{IvfBackend, read},
    cluster::KMeansParams,
    error::{Error, Result, illegal},
    lists::InvertedLists,
    params::SearchParams,
    persist::{self, FlatSettings, IvfFileSettings, Loaded, Saved},
};
use burn::tensor::{DType, Tensor, TensorData};
use std::{
    io::{Read, Write},
    path::Path,
};

/// The four public functions, the same for both indexes over `parts` and `assemble`.
macro_rules! files {
    ($index:ident, $settings:ty, $made:expr) => {
        impl<B: IvfBackend> $index<B> {
            /// Saves the index: vectors, ids, training and every setting, in the format of
            /// `docs/format.md`. The file is replaced at once: after a crash at any moment the old
            /// one or the new one is there, whole, and after an error the old one is.
            ///
            /// Saving needs no memory but two pieces of the vectors. The file is the same whatever
            /// backend the index is on.
            ///
            /// ```
            /// use burn::{backend::NdArray, tensor::Tensor};
            #[doc = concat!("use burn_ivf::{", stringify!($index), ", Metric};")]
            /// let device = Default::default();
            #[doc = $made]
            /// index.add(Tensor::from_floats([[0.0, 1.0], [2.0, 3.0]], &device))?;
            /// let folder = tempfile::tempdir().unwrap();
            /// let path = folder.path().join("a.index");
            /// index.save(&path)?;
            #[doc = concat!("let loaded = ", stringify!($index), "::<NdArray>::load(&path, &device)?;")]
            /// let query = Tensor::from_floats([[2.0, 3.0]], &device);
            /// assert_eq!(loaded.search(query, 1)?.to_vecs(), (vec![0.0], vec![1]));
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// [`Error::Io`] when the file cannot be written; when the device cannot be read.
            pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
                span!("save", n = self.ntotal());
                let saved = self.parts()?;
                persist::save(path.as_ref(), |file| persist::write(&saved, file))
            }

            /// Writes what [`save`](Self::save) puts into a file.
            ///
            /// # Errors
            /// [`Error::Io`] when `out` fails; when the device cannot be read.
            pub fn write_to(&self, out: impl Write) -> Result<()> {
                span!("save", n = self.ntotal());
                persist::write(&self.parts()?, out)
            }

            /// Loads a saved index onto `device`, whatever backend it was saved from. On a CPU
            /// backend no more memory is needed than the index takes and two pieces of 4 MiB.
            ///
            /// Everything in the file is checked. A choice of storage that the device does not have
            /// becomes [`Storage::Auto`](crate::Storage::Auto).
            ///
            /// # Errors
            /// [`Error::Io`]; [`Error::NotAnIndex`], [`Error::NewerFormat`], [`Error::WrongKind`],
            /// [`Error::UnknownInFile`] for another file than this version reads as this index;
            /// [`Error::Truncated`], [`Error::Checksum`], [`Error::Corrupt`] for a damaged one;
            /// [`Error::IdOutOfRange`] and [`Error::DeviceLimit`] when the device cannot hold it.
            pub fn load(path: impl AsRef<Path>, device: &B::Device) -> Result<Self> {
                span!("load");
                let (file, length) = persist::open(path.as_ref())?;
                Self::assemble(persist::read(file, length, device)?, device)
            }

            /// Reads what [`write_to`](Self::write_to) wrote, and not a byte more. Memory is taken
            /// as bytes arrive.
            ///
            /// # Errors
            /// Those of [`load`](Self::load).
            pub fn read_from(input: impl Read, device: &B::Device) -> Result<Self> {
                span!("load");
                Self::assemble(persist::read(input, None, device)?, device)
            }
        }
    };
}

files!(
    IndexFlat,
    FlatSettings,
    "let mut index = IndexFlat::<NdArray>::new(2, Metric::L2, &device)?;"
);
files!(
    IndexIvfFlat,
    IvfFileSettings,
    "let mut index = IndexIvfFlat::<NdArray>::from_centroids(Tensor::from_floats([[0.0, 0.0]], &device), Metric::L2)?;"
);

impl<B: IvfBackend> IndexFlat<B> {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "an inverted file reads its centroids"
    )]
    fn parts(&self) -> Result<Saved<'_, FlatSettings, B::Inner>> {
        Ok(Saved {
            d: self.d,
            metric: self.metric,
            settings: FlatSettings {
                mode: self.mode,
                auto_matrix_bytes_threshold: self.auto_matrix_bytes_threshold,
                workspace: self.workspace,
                storage: self.storage(),
                nan_policy: self.nan_policy,
            },
            host: B::capabilities(&self.device).host,
            init_centroids: None,
            weights: None,
            lists: Some(&self.lists),
            centroids: None,
        })
    }

    pub(super) fn assemble(
        loaded: Loaded<FlatSettings, B::Inner>,
        device: &B::Device,
    ) -> Result<Self> {
        let settings = loaded.settings;
        let mut index = Self::new(loaded.d, loaded.metric, device)?;
        index.mode = settings.mode;
        index.nan_policy = settings.nan_policy;
        index.set_auto_matrix_bytes_threshold(settings.auto_matrix_bytes_threshold)?;
        index.set_workspace_limit(settings.workspace)?;
        if let Some(lists) = loaded.lists {
            index.lists = lists;
        }
        Ok(index)
    }
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    fn parts(&self) -> Result<Saved<'_, IvfFileSettings, B::Inner>> {
        let centroids = match &self.trained {
            None => None,
            Some(trained) => Some(read(trained.centroids.clone())?),
        };
        Ok(Saved {
            d: self.d,
            metric: self.metric,
            settings: IvfFileSettings {
                nlist: self.nlist,
                search: self.settings,
                kmeans: KMeansParams {
                    init_centroids: None,
                    weights: None,
                    ..self.kmeans.clone()
                },
            },
            host: B::capabilities(&self.device).host,
            init_centroids: self.kmeans.init_centroids.as_deref(),
            weights: self.kmeans.weights.as_deref(),
            lists: self.trained.as_ref().map(|t| &t.lists),
            centroids,
        })
    }

    pub(super) fn assemble(
        loaded: Loaded<IvfFileSettings, B::Inner>,
        device: &B::Device,
    ) -> Result<Self> {
        let IvfFileSettings {
            nlist,
            mut search,
            kmeans,
        } = loaded.settings;
        let kmeans = KMeansParams {
            init_centroids: loaded.init_centroids,
            weights: loaded.weights,
            ..kmeans
        };
        kmeans.check()?;
        let lists = loaded.lists.as_ref().map(InvertedLists::nlist);
        if let (Some(asked), Some(found)) = (nlist, lists)
            && asked != found
        {
            return Err(illegal("nlist", asked, "the number of lists in the file"));
        }
        match (nlist.or(lists), search.nprobe) {
            (Some(0), _) => return Err(Error::ZeroNlist),
            (_, Some(0)) => return Err(Error::ZeroNprobe),
            (Some(nlist), Some(nprobe)) => search.nprobe = Some(nprobe.min(nlist)),
            _ => {}
        }
        // Whatever a search would refuse is refused now.
        let lists_at_least = nlist.or(lists).unwrap_or(1);
        SearchParams::default().resolve(&search, lists_at_least, loaded.metric)?;
        search.storage = B::capabilities(device).storage(search.storage);
        let mut index = Self::untrained(loaded.d, nlist, loaded.metric, search, kmeans, device);
        if let (Some(lists), Some(centroids)) = (loaded.lists, loaded.centroids) {
            let data = TensorData::new(centroids, [lists.nlist(), loaded.d]);
            let centroids = Tensor::from_data(data, (device, DType::F32));
            index.trained = Some(Trained::with_lists(centroids, lists)?);
        }
        Ok(index)
    }
}
