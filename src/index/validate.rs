//! Checks of what callers pass. On the way in, tensors go to the inner backend as f32.

use crate::{
    backend::{IvfBackend, label_dtype, select_rows},
    cluster::check_finite,
    error::{Error, Result, illegal},
    metric::Metric,
    params::{NanPolicy, Storage},
};
use burn::tensor::{DType, Tensor, TensorData};
use std::borrow::Cow;

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

/// Vectors to be stored: also finite, each of them (NaN is legal where the metric says so), prepared for
/// `metric`.
pub(super) fn stored_for<B: IvfBackend>(
    metric: Metric,
    x: Tensor<B, 2>,
    d: usize,
    device: &B::Device,
    what: &'static str,
) -> Result<Tensor<B::Inner, 2>> {
    let x = vectors::<B>(x, d, device, what)?;
    finite(metric, &x, what)?;
    prepared(metric, x)
}

/// An error that names the first of the vectors, `[n, d]`, with a component that no vector may have.
pub(super) fn finite<E: IvfBackend>(
    metric: Metric,
    x: &Tensor<E, 2>,
    what: &'static str,
) -> Result<()> {
    let [n, d] = x.dims();
    // Rows are looked at one by one only when something is wrong.
    if n > 0 && !E::all_finite(x.clone())? {
        let mut host = E::to_host(x.clone())?;
        if metric.accepts_nan() {
            let holes = host.iter_mut().filter(|v| v.is_nan());
            holes.for_each(|v| *v = 0.0);
        }
        check_finite(&host, d, what)?;
    }
    Ok(())
}

/// Vectors to be stored, those that are left after a [`NanPolicy`].
pub(super) struct Accepted<E: IvfBackend> {
    /// Prepared for the metric, `[kept, d]`.
    pub rows: Tensor<E, 2>,
    /// Which rows of the call they are; all of them without.
    kept: Option<Vec<u32>>,
}

impl<E: IvfBackend> Accepted<E> {
    /// What belongs to these rows, of something for every row of the call.
    pub fn of<'a, T: Copy>(&self, all: &'a [T]) -> Cow<'a, [T]> {
        match &self.kept {
            None => Cow::Borrowed(all),
            Some(kept) => kept.iter().map(|&row| all[row as usize]).collect(),
        }
    }
}

/// [`stored_for`], or what is left of vectors without those it would refuse.
pub(super) fn accepted<B: IvfBackend>(
    policy: NanPolicy,
    metric: Metric,
    x: Tensor<B, 2>,
    (d, device): (usize, &B::Device),
    what: &'static str,
) -> Result<Accepted<B::Inner>> {
    let x = vectors::<B>(x, d, device, what)?;
    let n = x.dims()[0];
    let mut kept = None;
    match policy {
        NanPolicy::Error => finite(metric, &x, what)?,
        NanPolicy::Skip if n == 0 || B::Inner::all_finite(x.clone())? => {}
        NanPolicy::Skip => {
            let legal = |v: &f32| v.is_finite() || (v.is_nan() && metric.accepts_nan());
            let rows = B::Inner::to_host(x.clone())?;
            let rows = rows.chunks_exact(d).zip(0_u32..);
            let good = rows.filter(|(row, _)| row.iter().all(legal));
            let good: Vec<u32> = good.map(|(_, row)| row).collect();
            if good.len() < n {
                let out = n - good.len();
                log::warn!("{out} of {n} {what} hold NaN or infinite components and are left out");
                kept = Some(good);
            }
        }
    }
    let rows = match kept.as_deref() {
        None => x,
        // No backend selects nothing.
        Some([]) => Tensor::from_data(
            TensorData::new(Vec::<f32>::new(), [0, d]),
            (device, DType::F32),
        ),
        Some(kept) => select_rows(&x, kept),
    };
    Ok(Accepted {
        rows: prepared(metric, rows)?,
        kept,
    })
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
