//! The indexes over ndarray, compiled once in debug builds.
//!
//! Generic code is compiled where it is used, so every test program, example and doctest would compile
//! searching, training, saving and the tensor operations below them again. Where generics are shared between
//! crates (rustc's rule: up to optimisation level 1), programs take what this crate has compiled already.

use super::{IndexFlat, IndexIvfFlat, Missing, Subset};
use crate::{
    error::Result,
    metric::Metric,
    params::{RangeParams, SearchParams},
    persist::faiss::FaissOptions,
    selector::IdSelector,
};
use burn::{backend::NdArray, tensor::Tensor};
use std::path::Path;

type B = NdArray;

/// Never called: that it compiles these is its work.
#[doc(hidden)]
pub fn instances(x: &Tensor<B, 2>, path: &Path) -> Result<()> {
    let (x, device) = (|| x.clone(), x.device());
    let (params, range, all) = (
        SearchParams::default(),
        RangeParams::default(),
        IdSelector::All,
    );
    let mut flat = IndexFlat::<B>::new(1, Metric::L2, &device)?;
    flat.add(x())?;
    flat.search_with(x(), 1, &params)?.to_vecs();
    flat.range_search_with(x(), 1.0, &range)?;
    flat.remove_ids(&all)?;
    flat.update_vectors(&[], x(), Missing::Insert)?;
    flat.search_and_reconstruct(x(), 1, &params)?;
    flat.save(path)?;
    flat.write_faiss(path)?;
    IndexFlat::<B>::load(path, &device)?.merge_from(&mut flat, 0)?;
    IndexFlat::<B>::read_faiss(path, &device)?.copy_subset(&Subset::Ids(0..0))?;

    let mut ivf = IndexIvfFlat::<B>::builder(1).build(&device)?;
    ivf.train(x())?;
    ivf.add(x())?;
    ivf.search_with(x(), 1, &params)?.to_vecs();
    ivf.range_search_with(x(), 1.0, &range)?;
    ivf.remove_ids(&all)?;
    ivf.update_vectors(&[], x(), Missing::Insert)?;
    ivf.search_and_reconstruct(x(), 1, &params)?;
    ivf.save(path)?;
    ivf.write_faiss_with(path, &FaissOptions::default())?;
    IndexIvfFlat::<B>::load(path, &device)?.merge_from(&mut ivf, 0)?;
    IndexIvfFlat::<B>::read_faiss(path, &device)?.copy_subset(&Subset::Ids(0..0))?;
    IndexIvfFlat::<B>::load_mmap(path, &device)?;
    Ok(())
}
