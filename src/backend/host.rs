//! Backends whose tensors lie in host memory: lists as panels, operations by the CPU kernels.
//!
//! Called by `ndarray.rs` and `flex.rs` only, which say how to see a tensor as a slice.

use super::{Capabilities, Hits, ListStore, RowIds, Scan, Slot};
use crate::error::Result;
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use burn_ivf_kernels::{
    list_scan::{self, List, ListIds, Problem},
    panels::Panels,
    select_k::{self, Best},
    simd::Isa,
};
use rayon::prelude::*;
use std::sync::Arc;

/// A backend whose f32 tensors can be seen as slices.
pub trait HostTensors: Backend {
    /// Calls `f` with the tensor's elements, row-major; copies only a strided tensor.
    fn with_slice<R>(tensor: Tensor<Self, 2>, f: impl FnOnce(&[f32]) -> R) -> R;
}

/// Inverted lists as panels, one allocation per list; a clone shares them until one changes.
#[derive(Debug, Clone)]
pub struct HostLists {
    d: usize,
    lists: Vec<Arc<Panels>>,
}

/// Rows below which appending on one thread is quicker.
const SERIAL_ROWS: usize = 256;

impl<B: HostTensors> ListStore<B> for HostLists {
    fn new(d: usize, nlist: usize, _: &B::Device) -> Self {
        Self {
            d,
            lists: (0..nlist).map(|_| Arc::new(Panels::new(d))).collect(),
        }
    }

    fn append(&mut self, rows: Tensor<B, 2>, lists: &[u32]) -> Result<()> {
        let mut members = vec![Vec::new(); self.lists.len()];
        for (row, &list) in lists.iter().enumerate() {
            members[list as usize].push(row);
        }
        let d = self.d;
        B::with_slice(rows, |rows| {
            let fill = |(panels, members): (&mut Arc<Panels>, Vec<usize>)| {
                if !members.is_empty() {
                    let panels = Arc::make_mut(panels);
                    panels.reserve(members.len());
                    for row in members {
                        panels.push(&rows[row * d..(row + 1) * d]);
                    }
                }
            };
            if lists.len() < SERIAL_ROWS {
                self.lists.iter_mut().zip(members).for_each(fill);
            } else {
                self.lists.par_iter_mut().zip(members).for_each(fill);
            }
        });
        Ok(())
    }

    fn gather(&self, at: &[Slot]) -> Tensor<B, 2> {
        let mut rows = vec![0.0; at.len() * self.d];
        rows.par_chunks_exact_mut(self.d)
            .with_min_len(64)
            .zip(at)
            .for_each(|(row, at)| {
                self.lists[at.list as usize].copy_row(at.slot as usize, row);
            });
        let device = B::Device::default();
        Tensor::from_data(
            TensorData::new(rows, [at.len(), self.d]),
            (&device, DType::F32),
        )
    }

    fn bytes(&self) -> usize {
        self.lists.iter().map(|panels| panels.bytes()).sum()
    }

    fn to_device(&self, _: &B::Device) -> Self {
        self.clone()
    }
}

impl HostLists {
    fn views<'a>(&'a self, ids: RowIds<'a>) -> Result<Vec<List<'a>>> {
        let view = |(l, panels): (usize, &'a Arc<Panels>)| {
            let ids = match ids {
                RowIds::Tables(tables) => ListIds::Table(&tables[l]),
                RowIds::Places(_) => ListIds::Place,
            };
            List::new(panels, ids)
        };
        Ok(self
            .lists
            .iter()
            .enumerate()
            .map(view)
            .collect::<Result<_, _>>()?)
    }
}

/// What every host backend can do.
pub fn capabilities() -> Capabilities {
    Capabilities {
        fused_scan: true,
        kernel: format!("host f32 panels ({})", Isa::detect().name()),
        host: true,
        matmul_input_roundoff: 0.0,
    }
}

/// [`super::IvfBackend::select_k`] by the CPU kernel.
pub fn select_k<B: HostTensors>(
    scores: Tensor<B, 2>,
    k: usize,
) -> Result<(Tensor<B, 2>, Tensor<B, 2, Int>)> {
    let [rows, n] = scores.dims();
    let device = scores.device();
    let selected = B::with_slice(scores, |scores| {
        select_k::select(scores, n, k, Best::Smallest, Isa::detect())
    })?;
    Ok(super::selected_from(selected, rows, &device))
}

/// [`super::IvfBackend::all_finite`] without a copy of the rows.
pub fn all_finite<B: HostTensors>(rows: Tensor<B, 2>) -> bool {
    let finite = |piece: &[f32]| piece.iter().fold(true, |all, v| all & v.is_finite());
    B::with_slice(rows, |rows| rows.par_chunks(1 << 16).all(finite))
}

/// [`super::IvfBackend::list_scan`] by the CPU kernel.
pub fn list_scan<B>(scan: &Scan<'_, B>, probes: &[u32], nprobe: usize) -> Result<Hits<B>>
where
    B: HostTensors + super::IvfBackend<Lists = HostLists>,
{
    run(scan, |problem| {
        list_scan::scan(problem, probes, nprobe, Isa::detect())
    })
}

/// [`super::IvfBackend::rerank`] by the CPU kernel.
pub fn rerank<B>(scan: &Scan<'_, B>, candidates: &[Slot], per_query: usize) -> Result<Hits<B>>
where
    B: HostTensors + super::IvfBackend<Lists = HostLists>,
{
    run(scan, |problem| {
        list_scan::rerank(problem, candidates, per_query, Isa::detect())
    })
}

fn run<B>(
    scan: &Scan<'_, B>,
    kernel: impl FnOnce(&Problem<'_>) -> Result<list_scan::Best, burn_ivf_kernels::KernelError>,
) -> Result<Hits<B>>
where
    B: HostTensors + super::IvfBackend<Lists = HostLists>,
{
    let lists = scan.lists.views(scan.ids)?;
    let best = B::with_slice(scan.queries.clone(), |queries| {
        kernel(&Problem {
            metric: scan.metric,
            d: scan.d,
            k: scan.k,
            lists: &lists,
            queries,
        })
    })?;
    Ok(Hits::from_host(best, scan.k, &scan.queries.device()))
}
