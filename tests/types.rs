//! Promises the type system keeps: indexes, parameters, results and errors cross threads, and the
//! trait over both indexes can be an object. That this file compiles is the test; the functions
//! are generic, so they hold for every backend.
#![allow(missing_docs)]

use burn_ivf::{
    AutoRule, Counters, Error, FlatMode, Index, IndexFlat, IndexIvfFlat, IvfBackend, KMeansInit,
    KMeansParams, KMeansReport, MappedIndex, MemoryInfo, Metric, Order, SearchMode, SearchParams,
    SearchPlan, SearchResult, SearchStats, Storage,
};
use burn_ivf::{
    Budget, BudgetStrategy, DeviceKey, DirectMap, FaissOptions, GroundTruth, IdSelector, KnnLimits,
    Limit, ListOrdering, MaxCodes, MaxCodesRule, Missing, OperatingPoint, Parameter,
    ParameterSpace, Profile, RangeBound, RangeParams, Selection, Subset, Trial, TuneOptions,
    TuneReport,
    train::{Filled, Mining},
};

fn shared<T: Send + Sync + 'static>() {}
fn value<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
fn name<T: Copy + Eq + std::fmt::Display + std::str::FromStr + std::fmt::Debug>() {}
fn stored<T: serde::Serialize + serde::de::DeserializeOwned>() {}

fn any_backend<B: IvfBackend>() {
    shared::<IndexFlat<B>>();
    shared::<IndexIvfFlat<B>>();
    shared::<MappedIndex<B>>();
    shared::<SearchResult<B>>();
    shared::<Box<dyn Index<B> + Send + Sync>>();
}

/// Both indexes fit behind one pointer.
fn objects<B: IvfBackend>(flat: IndexFlat<B>, ivf: IndexIvfFlat<B>) -> Vec<Box<dyn Index<B>>> {
    vec![Box::new(flat), Box::new(ivf)]
}

#[test]
fn values_cross_threads() {
    value::<SearchParams>();
    value::<SearchStats>();
    value::<KMeansParams>();
    value::<KMeansReport>();
    value::<KMeansInit>();
    value::<AutoRule>();
    shared::<Error>();
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<Error>();
}

#[test]
fn names_and_records() {
    name::<Metric>();
    name::<SearchMode>();
    name::<FlatMode>();
    stored::<Metric>();
    stored::<SearchMode>();
    stored::<FlatMode>();
    stored::<Storage>();
    stored::<Order>();
    stored::<AutoRule>();
    stored::<KMeansInit>();
    stored::<KMeansParams>();
    stored::<SearchParams>();
    stored::<SearchStats>();
    stored::<SearchPlan>();
    stored::<KMeansReport>();
    stored::<MemoryInfo>();
    stored::<Counters>();
    stored::<(Limit, MaxCodes, MaxCodesRule)>();
    stored::<(Budget, BudgetStrategy, ListOrdering, Profile)>();
    stored::<(RangeParams, RangeBound)>();
    stored::<(IdSelector, Selection)>();
    stored::<(Missing, Subset, KnnLimits)>();
    stored::<(FaissOptions, DirectMap)>();
    stored::<(TuneOptions, GroundTruth, Parameter, ParameterSpace)>();
    stored::<(TuneReport, Trial, OperatingPoint)>();
    stored::<(Mining, Filled, DeviceKey)>();
}

#[cfg(feature = "ndarray")]
#[test]
fn indexes_are_shared_on_ndarray() {
    use burn::backend::NdArray;
    any_backend::<NdArray>();
    let device = Default::default();
    let flat = IndexFlat::<NdArray>::new(3, Metric::L2, &device).expect("an index");
    let ivf = IndexIvfFlat::builder(3).nlist(2).build(&device);
    let objects = objects(flat, ivf.expect("an index"));
    let trained: Vec<bool> = objects.iter().map(|index| index.is_trained()).collect();
    assert_eq!(trained, [true, false]);
    assert!(
        objects
            .iter()
            .all(|index| index.d() == 3 && index.ntotal() == 0)
    );
}

#[cfg(feature = "autodiff")]
#[cfg(feature = "ndarray")]
#[test]
fn indexes_are_shared_under_autodiff() {
    any_backend::<burn::backend::Autodiff<burn::backend::NdArray>>();
}

#[cfg(feature = "flex")]
#[test]
fn indexes_are_shared_on_flex() {
    any_backend::<burn::backend::Flex>();
}

#[cfg(feature = "wgpu")]
#[test]
fn indexes_are_shared_on_wgpu() {
    any_backend::<burn::backend::Wgpu>();
    any_backend::<burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>>();
}

#[cfg(feature = "cuda")]
#[test]
fn indexes_are_shared_on_cuda() {
    any_backend::<burn::backend::Cuda>();
}

#[cfg(feature = "rocm")]
#[test]
fn indexes_are_shared_on_rocm() {
    any_backend::<burn::backend::Rocm>();
}
