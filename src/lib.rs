//! Vector search for the [Burn](https://burn.dev) framework: [`IndexFlat`] and [`IndexIvfFlat`],
//! generic over the backend, with the same answer on every device.
//!
//! ```
//! use burn::{backend::NdArray, tensor::{Distribution, Tensor}};
//! use burn_ivf::{IndexIvfFlat, Metric, SearchParams};
//!
//! type B = NdArray;
//! let device = Default::default();
//! let xb = Tensor::<B, 2>::random([4000, 32], Distribution::Default, &device);
//! let xq = xb.clone().slice([0..3, 0..32]);
//!
//! let mut index = IndexIvfFlat::<B>::builder(32).nlist(40).metric(Metric::L2).build(&device)?;
//! index.train(xb.clone())?;
//! index.add(xb)?;
//! index.set_nprobe(8)?;
//! let hits = index.search(xq.clone(), 5)?;            // distances and labels, [3, 5]
//! let all = index.search_with(xq, 5, &SearchParams::exact().with_nprobe(40))?;
//! assert_eq!(hits.labels.dims(), [3, 5]);
//! assert_eq!(all.to_vecs().1[0], 0);
//! # Ok::<(), burn_ivf::Error>(())
//! ```
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `ndarray` (default), `flex` | CPU backends, with the fused scan kernels |
//! | `wgpu`, `vulkan`, `metal`, `webgpu` | GPUs through wgpu (WGSL, SPIR-V, MSL) |
//! | `cuda`, `rocm` | NVIDIA and AMD GPUs |
//! | `autodiff` (default), `fusion` | indexes over `Autodiff<B>` and `Fusion<B>`; every GPU feature implies `fusion` |
//! | `tracing` | spans around training, adding, searching, saving (docs/guide.md); nothing without it |
//! | `train` | metrics for `burn-train`; the rest of [`train`] needs no feature |
//! | `std` (default) | Burn's standard-library parts |
//! | `cli` | the program `burn-ivf` (docs/cli.md) |
//!
//! # One answer
//!
//! Results have a total order: better distance first, then smaller id. Within a backend ids and
//! distances are the same bits in every mode, chunking and number of threads; across backends ids
//! are equal unless two distances differ by less than 1e-6 relative. L2 distances are squared and
//! never negative, and data far from the origin lose no precision.

#![warn(clippy::pedantic)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::doc_markdown,
    clippy::float_cmp,
    clippy::many_single_char_names,
    clippy::missing_panics_doc,
    clippy::module_name_repetitions,
    clippy::must_use_candidate,
    clippy::needless_pass_by_value,
    clippy::similar_names
)]

#[macro_use]
mod spans;

pub mod backend;
mod cluster;
mod engine;
mod error;
mod index;
mod lists;
mod metric;
mod params;
mod persist;
mod plan;
mod result;
mod selector;
mod stats;
pub mod train;
mod tune;

pub use backend::{Counters, IvfBackend, dump_config};
pub use cluster::{KMeansInit, KMeansParams, KMeansReport};
pub use error::{Error, Result};
#[doc(hidden)]
#[cfg(all(debug_assertions, feature = "ndarray"))]
pub use index::instances;
pub use index::{
    Index, IndexFlat, IndexItem, IndexIvfFlat, IndexIvfFlatBuilder, IndexModule, IndexRecord,
    KMeans, KnnAccumulator, KnnLimits, MappedIndex, Missing, Subset, knn, pairwise_distance,
};
pub use metric::Metric;
pub use params::{
    AutoRule, Budget, BudgetStrategy, DEFAULT_WORKSPACE, FlatMode, Limit, ListOrdering, MaxCodes,
    MaxCodesRule, NanPolicy, Profile, RangeBound, RangeParams, SearchMode, SearchParams, Storage,
};
pub use persist::faiss::{DirectMap, FaissOptions};
pub use persist::readers as io;
pub use plan::{Config, DeviceKey, Knob, Order, SearchPlan, Source, Tuning};
pub use result::{RangeResult, SearchResult, recall_at_k};
pub use selector::{IdSelector, Selection, SortedIds};
pub use stats::{KernelCost, MemoryInfo, SearchStats};
pub use tune::{
    GroundTruth, OperatingPoint, Parameter, ParameterSpace, Trial, TuneOptions, TuneReport, Tuner,
    pareto, suggest_nlist,
};

/// The examples of the README and of docs are tests.
#[cfg(all(doctest, feature = "ndarray"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/api.md")]
    struct Api;
    #[doc = include_str!("../docs/tuning.md")]
    struct Tuning;
    #[doc = include_str!("../docs/config.md")]
    struct Config;
    #[cfg(all(doctest, feature = "autodiff"))]
    #[doc = include_str!("../docs/training.md")]
    struct Training;
    #[doc = include_str!("../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../docs/faiss.md")]
    struct Faiss;
}
