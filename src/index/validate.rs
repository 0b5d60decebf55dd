//! Checks of what callers pass. On the way in, tensors go to the inner backend as f32.

use crate::{
    backend::{IvfBackend, label_dtype},
    cluster::check_finite,
    error::{Error, Result, illegal},
    metric::Metric,
    params::Storage,
};
use burn::tensor::{DType, Tensor};

/// A vector has at most this many components, 1 GiB of them, in memory as in a file.
const MAX_DIMENSION: usize = 1 << 28;

/// A dimension that an index can have.
pub(super) fn dimension(d: usize) -> Result<usize> {
    match d {
        0 => Err(Error::ZeroDimension),
        1..=MAX_DIMENSION => Ok(d),
        _ => Err(illegal("d", d, "at most 268435456 components")),
    }
}

/// Whether vectors have `d` components of a float type and are on `device`. Comes before anything
/// that takes memory for their number: a tensor without components has any number of rows.
pub(super) fn alike<B: IvfBackend>(
    x: &Tensor<B, 2>,
    d: usize,
    device: &B::Device,
    what: &'static str,
) -> Result<()> {
    if x.device() != *device {
        return Err(Error::DeviceMismatch {
            what,
            index: format!("{device:?}"),
            found: format!("{:?}", x.device()),
        });
    }
    let found = x.dims()[1];
    if found != d {
        return Err(Error::DimensionMismatch {
            what,
            expected: d,
            found,
        });
    }
    match x.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Flex32 => Ok(()),
        dtype => Err(Error::Dtype {
            what,
            dtype: format!("{dtype:?}"),
        }),
    }
}

/// Vectors as f32 on the inner backend, when they have `d` components and are on `device`.
pub(super) fn vectors<B: IvfBackend>(
    x: Tensor<B, 2>,
    d: usize,
    device: &B::Device,
    what: &'static str,
) -> Result<Tensor<B::Inner, 2>> {
    alike::<B>(&x, d, device, what)?;
    let x = B::lower(x);
    Ok(if x.dtype() == DType::F32 {
        x
    } else {
        x.cast(DType::F32)
    })
}

/// Vectors to be stored: also finite, each of them.
pub(super) fn stored<B: IvfBackend>(
    x: Tensor<B, 2>,
    d: usize,
    device: &B::Device,
    what: &'static str,
) -> Result<Tensor<B::Inner, 2>> {
    let x = vectors::<B>(x, d, device, what)?;
    // Rows are looked at one by one only when something is wrong.
    if x.dims()[0] > 0 && !B::Inner::all_finite(x.clone())? {
        check_finite(&B::Inner::to_host(x.clone())?, d, what)?;
    }
    Ok(x)
}

/// [`stored`] vectors, prepared for `metric`: scaled to length 1 for cosine; NaN is legal where the
/// metric says so.
pub(super) fn stored_for<B: IvfBackend>(
    metric: Metric,
    x: Tensor<B, 2>,
    d: usize,
    device: &B::Device,
    what: &'static str,
) -> Result<Tensor<B::Inner, 2>> {
    if !metric.accepts_nan() {
        return prepared(metric, stored::<B>(x, d, device, what)?);
    }
    let x = vectors::<B>(x, d, device, what)?;
    if x.dims()[0] > 0 && !B::Inner::all_finite(x.clone())? {
        let mut host = B::Inner::to_host(x.clone())?;
        host.iter_mut()
            .filter(|v| v.is_nan())
            .for_each(|v| *v = 0.0);
        check_finite(&host, d, what)?;
    }
    Ok(x)
}

/// Vectors as `metric` compares them: scaled to length 1 for cosine.
pub(super) fn prepared<E: IvfBackend>(metric: Metric, x: Tensor<E, 2>) -> Result<Tensor<E, 2>> {
    if metric == Metric::Cosine && x.dims()[0] > 0 {
        E::unit_rows(x)
    } else {
        Ok(x)
    }
}

/// One id per row, none of them -1, all of them representable on the device.
pub(super) fn ids<B: IvfBackend>(ids: &[i64], rows: usize, device: &B::Device) -> Result<()> {
    if ids.len() != rows {
        return Err(Error::Count {
            what: "ids",
            rows,
            found: ids.len(),
        });
    }
    let narrow = label_dtype::<B::Inner>(device) != DType::I64;
    for (row, &id) in ids.iter().enumerate() {
        if id == -1 {
            return Err(Error::PaddingId { row });
        }
        if narrow && i32::try_from(id).is_err() {
            return Err(Error::IdOutOfRange { row, id });
        }
    }
    Ok(())
}

/// Results a search returns at most: their labels and distances fill 48 GiB.
const MAX_RESULTS: usize = u32::MAX as usize;

/// `k` of at least 1, and not more results than can be held.
pub(crate) fn k(nq: usize, k: usize) -> Result<usize> {
    if k == 0 {
        return Err(Error::ZeroK);
    }
    match nq.max(1).checked_mul(k) {
        Some(results) if results <= MAX_RESULTS => Ok(k),
        _ => Err(Error::TooManyResults {
            nq,
            k,
            limit: MAX_RESULTS,
        }),
    }
}

/// A storage that the backend and its device have.
pub(super) fn storage<B: IvfBackend>(storage: Storage, device: &B::Device) -> Result<()> {
    let has = B::capabilities(device);
    if has.stores(storage) {
        return Ok(());
    }
    let reason = match storage {
        Storage::F16 | Storage::Bf16 => "the device has no such type",
        _ => "it stores vectors as its kernels read them",
    };
    let half = |other| storage.overflow().is_some() && has.stores(other);
    let instead = if half(Storage::F16) {
        "f16 or auto (f32)"
    } else if half(Storage::Bf16) {
        "bf16 or auto (f32)"
    } else {
        "auto"
    };
    Err(Error::Storage {
        storage,
        backend: B::name(device),
        reason,
        instead,
    })
}
