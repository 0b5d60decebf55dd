//! Indexes inside Burn models: a field that is recorded and moved with a `#[derive(Module)]` struct.
//!
//! The record is the file format of [`persist`](crate::persist) as opaque bytes, so no
//! `PrecisionSettings` narrows ids or vectors. There are no parameters: optimizers and mappers pass
//! by. The methods of Burn's traits have no place for an error; each has a twin on the index that
//! does.
//!
//! The traits are on a wrapper, not on the indexes: `Module` is in `burn::prelude` and has methods
//! `train(self)` and `to_device(self)`, which would hide the indexes' own from everybody who imports
//! that.

use super::{IndexFlat, IndexIvfFlat};
use crate::{
    backend::IvfBackend,
    error::Result,
    persist::{self, FlatSettings, IvfFileSettings},
};
use burn::{
    module::{
        AutodiffModule, Content, Devices, HasAutodiffModule, Module, ModuleDisplay,
        ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    },
    record::{PrecisionSettings, Record},
    tensor::backend::AutodiffBackend,
};
use core::{
    any::Any,
    fmt,
    ops::{Deref, DerefMut},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_bytes::{ByteBuf, Bytes};
use std::sync::Arc;

/// An index as a field of a Burn model: saved with it by any recorder, moved with it, without
/// parameters. It dereferences to the index; call the index's own `train` and `to_device` by
/// `(*model.index).train(x)`, since Burn's methods of these names come first.
///
/// A model has its index from the start, if only an untrained one; `load_record` replaces it whole.
/// Not as an `Option` field: Burn 0.21 loads nothing into an `Option` without parameters.
///
/// ```
/// use burn::{backend::{Autodiff, NdArray}, nn::{Linear, LinearConfig}, prelude::*};
/// use burn::record::{HalfPrecisionSettings, NamedMpkFileRecorder};
/// use burn_ivf::{IndexFlat, IndexModule, IvfBackend, Metric};
///
/// #[derive(Module, Debug)]
/// struct Retriever<B: IvfBackend> {
///     encoder: Linear<B>,
///     index: IndexModule<IndexFlat<B>>,
/// }
///
/// let device = Default::default();
/// let new = || -> burn_ivf::Result<_> {
///     let index = IndexFlat::<Autodiff<NdArray>>::new(4, Metric::InnerProduct, &device)?;
///     Ok(Retriever { encoder: LinearConfig::new(4, 4).init(&device), index: index.into() })
/// };
/// let mut model = new()?;
/// let x = Tensor::from_floats([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], &device);
/// model.index.add_with_ids(model.encoder.forward(x), &[1 << 40, 7])?;
///
/// let folder = tempfile::tempdir().unwrap();
/// let recorder = NamedMpkFileRecorder::<HalfPrecisionSettings>::new();
/// model.clone().save_file(folder.path().join("model"), &recorder).unwrap();
/// let loaded = new()?.load_file(folder.path().join("model"), &recorder, &device).unwrap();
/// assert_eq!(loaded.index.ntotal(), 2);
/// assert_eq!(loaded.num_params(), 4 * 4 + 4);
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct IndexModule<I>(I);

impl<I> IndexModule<I> {
    /// The index inside.
    pub fn into_inner(self) -> I {
        self.0
    }
}

impl<I> From<I> for IndexModule<I> {
    fn from(index: I) -> Self {
        Self(index)
    }
}

impl<I> Deref for IndexModule<I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.0
    }
}

impl<I> DerefMut for IndexModule<I> {
    fn deref_mut(&mut self) -> &mut I {
        &mut self.0
    }
}

/// What a Burn record of an index holds: the index itself, or why it could not be read.
///
/// Burn's `Module::load_record` cannot return an error and panics with the one in here;
/// [`into_index`](Self::into_index) returns it.
#[derive(Debug, Clone)]
pub struct IndexRecord<I>(Result<I>);

impl<I> IndexRecord<I> {
    /// The index.
    ///
    /// # Errors
    /// When the device cannot hold it (damaged bytes fail earlier, in the recorder).
    pub fn into_index(self) -> Result<I> {
        self.0
    }
}

/// What recorders store of an index: its file, whatever the precision settings.
#[derive(Clone)]
pub struct IndexItem<I>(Stored<I>);

#[derive(Clone)]
enum Stored<I> {
    Index(Result<I>),
    File(Arc<[u8]>),
}

impl<I> fmt::Debug for IndexItem<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Stored::Index(_) => "IndexItem(an index)",
            Stored::File(_) => "IndexItem(a file)",
        })
    }
}

/// Bytes in one piece of an item: below the 4 GiB a byte string of MessagePack can have.
const PIECE: usize = 1 << 30;

/// An index that can be an item. Not for use outside this crate.
trait Recorded: Sized + Clone {
    fn file(&self) -> Result<Vec<u8>>;
    fn check(file: &[u8]) -> Result<()>;
}

impl<I: Recorded> Serialize for IndexItem<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        let file = match &self.0 {
            Stored::File(file) => file.clone(),
            Stored::Index(index) => {
                let file = index.clone().and_then(|index| index.file());
                file.map_err(ser::Error::custom)?.into()
            }
        };
        serializer.collect_seq(file.chunks(PIECE).map(Bytes::new))
    }
}

impl<'de, I: Recorded> Deserialize<'de> for IndexItem<I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        let pieces = Vec::<ByteBuf>::deserialize(deserializer)?;
        let file = match <[ByteBuf; 1]>::try_from(pieces) {
            Ok([piece]) => piece.into_vec(),
            Err(pieces) => pieces
                .iter()
                .flat_map(|piece| piece.iter().copied())
                .collect(),
        };
        I::check(&file).map_err(de::Error::custom)?;
        Ok(Self(Stored::File(file.into())))
    }
}

/// A value under another name of its type, if it is the same type.
fn same<T: Any, U: Any>(value: T) -> Option<U> {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    any.downcast_mut::<Option<U>>()?.take()
}

macro_rules! module {
    ($index:ident, $settings:ty) => {
        impl<B: IvfBackend> Recorded for $index<B> {
            fn file(&self) -> Result<Vec<u8>> {
                let mut file = Vec::new();
                self.write_to(&mut file)?;
                Ok(file)
            }

            fn check(file: &[u8]) -> Result<()> {
                persist::check::<$settings>(file)
            }
        }

        impl<B: IvfBackend> Record<B> for IndexRecord<$index<B>> {
            type Item<S: PrecisionSettings> = IndexItem<$index<B>>;

            fn into_item<S: PrecisionSettings>(self) -> Self::Item<S> {
                IndexItem(Stored::Index(self.0))
            }

            fn from_item<S: PrecisionSettings>(item: Self::Item<S>, device: &B::Device) -> Self {
                Self(match item.0 {
                    Stored::Index(index) => {
                        index.and_then(|index| $index::to_device(&index, device))
                    }
                    Stored::File(file) => $index::from_bytes(&file, device),
                })
            }
        }

        /// `to_device`, `fork` and `load_record` **panic** where the method of the index returns an
        /// error: when the device cannot hold it.
        impl<B: IvfBackend> Module<B> for IndexModule<$index<B>> {
            type Record = IndexRecord<$index<B>>;

            fn collect_devices(&self, mut devices: Devices<B>) -> Devices<B> {
                let device = self.0.device();
                if !devices.contains(&device) {
                    devices.push(device);
                }
                devices
            }

            fn fork(self, device: &B::Device) -> Self {
                Module::<B>::to_device(self, device)
            }

            fn to_device(self, device: &B::Device) -> Self {
                if self.0.device() == *device {
                    return self;
                }
                Self(expect(self.0.to_device(device), "moving an index"))
            }

            fn visit<V: ModuleVisitor<B>>(&self, _: &mut V) {}

            fn map<M: ModuleMapper<B>>(self, _: &mut M) -> Self {
                self
            }

            fn load_record(self, record: Self::Record) -> Self {
                Self(expect(
                    record.into_index(),
                    "loading the record of an index",
                ))
            }

            fn into_record(self) -> Self::Record {
                IndexRecord(Ok(self.0))
            }
        }

        impl<B> AutodiffModule<B> for IndexModule<$index<B>>
        where
            B: AutodiffBackend + IvfBackend,
            B::InnerBackend: IvfBackend,
        {
            type InnerModule = IndexModule<$index<B::InnerBackend>>;

            fn valid(&self) -> Self::InnerModule {
                IndexModule(expect(
                    self.0.rewrap(),
                    "taking an index to the inner backend",
                ))
            }

            fn from_inner(module: Self::InnerModule) -> Self {
                Self(expect(
                    module.0.rewrap(),
                    "taking an index to the autodiff backend",
                ))
            }
        }

        impl<B> HasAutodiffModule<B> for IndexModule<$index<B::InnerBackend>>
        where
            B: AutodiffBackend + IvfBackend,
            B::InnerBackend: IvfBackend,
        {
            type TrainModule = IndexModule<$index<B>>;
        }

        impl<B: IvfBackend> ModuleDisplayDefault for IndexModule<$index<B>> {
            fn content(&self, content: Content) -> Option<Content> {
                content
                    .add("d", &self.0.d())
                    .add("metric", &self.0.metric().to_string())
                    .add("ntotal", &self.0.ntotal())
                    .optional()
            }
        }

        impl<B: IvfBackend> ModuleDisplay for IndexModule<$index<B>> {}
    };
}

module!(IndexFlat, FlatSettings);
module!(IndexIvfFlat, IvfFileSettings);

/// Burn's module traits have no place for an error.
fn expect<T>(result: Result<T>, action: &str) -> T {
    result.unwrap_or_else(|error| panic!("{action}: {error}"))
}

impl<B: IvfBackend> IndexFlat<B> {
    fn from_bytes(file: &[u8], device: &B::Device) -> Result<Self> {
        Self::assemble(
            persist::read(file, Some(file.len() as u64), device)?,
            device,
        )
    }

    /// The same index, sharing its vectors, on a backend over the same inner one.
    fn rewrap<B2: IvfBackend<Device = B::Device>>(&self) -> Result<IndexFlat<B2>> {
        let Some(lists) = same(self.lists.clone()) else {
            return self.to_backend(&self.device);
        };
        Ok(IndexFlat {
            d: self.d,
            metric: self.metric,
            device: self.device.clone(),
            mode: self.mode,
            nan_policy: self.nan_policy,
            auto_matrix_bytes_threshold: self.auto_matrix_bytes_threshold,
            workspace: self.workspace,
            lists,
        })
    }
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    fn from_bytes(file: &[u8], device: &B::Device) -> Result<Self> {
        Self::assemble(
            persist::read(file, Some(file.len() as u64), device)?,
            device,
        )
    }

    /// The same index, sharing its vectors, on a backend over the same inner one.
    fn rewrap<B2: IvfBackend<Device = B::Device>>(&self) -> Result<IndexIvfFlat<B2>> {
        let Some(trained) = same(self.trained.clone()) else {
            return self.to_backend(&self.device);
        };
        Ok(IndexIvfFlat {
            d: self.d,
            metric: self.metric,
            device: self.device.clone(),
            settings: self.settings,
            nlist: self.nlist,
            kmeans: self.kmeans.clone(),
            trained,
            tuning: self.tuning.clone(),
        })
    }
}
