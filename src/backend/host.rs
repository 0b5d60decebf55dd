//! Backends whose tensors lie in host memory: operations by the CPU kernels.
//!
//! Called by `ndarray.rs` and `flex.rs` only, which say how to see a tensor as a slice.

use super::{
    Capabilities, Filling, Hits, Keep, ListStore, Merging, Places, Probing, RangeHits, Reads,
    RowIds, Run, Scan, Slot,
};
use crate::{error::Result, params::Storage, plan::DeviceKey};
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use burn_ivf_kernels::{
    list_scan::{self, List, ListIds, Order, Problem},
    pairwise::{self, Measure, Output},
    relay::relay,
    rows::{self, Layout, PANEL, Rows},
    select_k::{self, Best},
    simd::Isa,
};
use rayon::prelude::*;
use std::sync::Arc;

/// A backend whose tensors can be seen as slices.
pub trait HostTensors: Backend {
    /// Calls `f` with the tensor's elements, row-major; copies only a strided tensor.
    fn with_slice<R>(tensor: Tensor<Self, 2>, f: impl FnOnce(&[f32]) -> R) -> R;

    /// Calls `f` with the tensor's elements, row-major; copies a strided tensor and one of another type
    /// than i64.
    fn with_ints<R>(tensor: Tensor<Self, 2, Int>, f: impl FnOnce(&[i64]) -> R) -> R;
}

/// Inverted lists in host memory, each on its own; a clone shares them until one changes.
#[derive(Debug, Clone)]
pub struct HostLists {
    d: usize,
    lists: Vec<Arc<Rows>>,
}

/// Rows below which appending on one thread is quicker.
const SERIAL_ROWS: usize = 256;
/// Bytes up to which copying on one thread is quicker.
const SERIAL_BYTES: usize = 1 << 20;

impl<B: HostTensors> ListStore<B> for HostLists {
    fn new(d: usize, nlist: usize, keep: Keep, _: &B::Device) -> Self {
        let layout = layout(d, keep);
        // One empty list stands for all until they get rows of their own.
        let empty = Arc::new(Rows::new(d, layout));
        Self {
            d,
            lists: vec![empty; nlist],
        }
    }

    fn append(&mut self, rows: Tensor<B, 2>, to: &Places<'_>) -> Result<()> {
        let lists = to.lists;
        let mut members = vec![Vec::new(); self.lists.len()];
        for (row, &list) in lists.iter().enumerate() {
            members[list as usize].push(row);
        }
        let d = self.d;
        let few = lists.len() < SERIAL_ROWS;
        let piece = laid_out(d).unwrap_or(1);
        B::with_slice(rows, |rows| {
            let fill = |(list, members): (&mut Arc<Rows>, Vec<usize>)| {
                if !members.is_empty() {
                    let list = Arc::make_mut(list);
                    list.reserve(members.len());
                    let mut some = Vec::with_capacity(members.len().min(piece) * d);
                    for members in members.chunks(piece) {
                        some.clear();
                        for row in members {
                            some.extend_from_slice(&rows[row * d..(row + 1) * d]);
                        }
                        list.extend(&some);
                    }
                }
            };
            if few {
                self.lists.iter_mut().zip(members).for_each(fill);
            } else {
                self.lists.par_iter_mut().zip(members).for_each(fill);
            }
        });
        Ok(())
    }

    fn gather(&self, at: &[Slot]) -> Result<Tensor<B, 2>> {
        let mut rows = vec![0.0; at.len() * self.d];
        rows.par_chunks_exact_mut(self.d)
            .with_min_len(64)
            .zip(at)
            .for_each(|(row, at)| {
                self.lists[at.list as usize].copy_row(at.slot as usize, row);
            });
        let device = B::Device::default();
        Ok(Tensor::from_data(
            TensorData::new(rows, [at.len(), self.d]),
            (&device, DType::F32),
        ))
    }

    fn extend(&mut self, rows: &[f32], runs: &[Run], _: RowIds<'_>, _: &B::Device) -> Result<()> {
        let (mut jobs, mut from) = (Vec::with_capacity(runs.len()), 0);
        let (mut lists, mut passed) = (self.lists.as_mut_slice(), 0);
        for run in runs {
            let tail = core::mem::take(&mut lists)
                .split_at_mut(run.list as usize - passed)
                .1;
            let Some((list, tail)) = tail.split_first_mut() else {
                break;
            };
            let values = run.rows * self.d;
            jobs.push((list, run, &rows[from..from + values]));
            (lists, passed, from) = (tail, run.list as usize + 1, from + values);
        }
        jobs.into_par_iter().for_each(|(list, run, rows)| {
            let list = Arc::make_mut(list);
            list.reserve(run.room.saturating_sub(list.len()).max(run.rows));
            list.extend(rows);
        });
        Ok(())
    }

    fn fill(&mut self, filling: &mut Filling<'_>) -> Result<bool> {
        let Some(empty) = self.lists.first().cloned() else {
            return Ok(false);
        };
        let Some(piece) = laid_out(self.d) else {
            return Ok(false);
        };
        let sizes = filling.sizes.iter().enumerate();
        let lists: Vec<_> = sizes
            .filter(|&(_, &n)| n > 0)
            .map(|(l, &n)| (l, rows::Filling::new(self.d, empty.layout(), n)))
            .collect();
        fill(&lists, piece, self.d, filling)?;
        for (l, list) in lists {
            self.lists[l] = Arc::new(list.finish());
        }
        Ok(true)
    }

    fn copy_rows(&self, runs: &[Run], out: &mut [f32]) -> Result<()> {
        let (mut jobs, mut rest) = (Vec::new(), out);
        let few = size_of_val(rest) <= SERIAL_BYTES;
        for run in runs {
            for first in (run.first..run.first + run.rows).step_by(SERIAL_ROWS) {
                let n = (run.first + run.rows - first).min(SERIAL_ROWS);
                let (piece, tail) = core::mem::take(&mut rest).split_at_mut(n * self.d);
                jobs.push((&self.lists[run.list as usize], first..first + n, piece));
                rest = tail;
            }
        }
        let copy = |(list, range, piece): (&Arc<Rows>, _, &mut [f32])| list.copy_rows(range, piece);
        if few {
            jobs.into_iter().for_each(copy);
        } else {
            jobs.into_par_iter().for_each(copy);
        }
        Ok(())
    }

    fn retain(&mut self, keep: &[Option<Vec<u32>>]) -> Result<()> {
        let drop = |(rows, keep): (&mut Arc<Rows>, &Option<Vec<u32>>)| {
            let Some(keep) = keep else { return };
            if let Some(rows) = Arc::get_mut(rows) {
                rows.retain(keep);
            } else {
                // A clone holds the list: only what stays is copied.
                let mut left = Rows::new(rows.d(), rows.layout());
                left.extend_from(rows, Some(keep));
                *rows = Arc::new(left);
            }
        };
        if keep.iter().flatten().count() < 2 {
            self.lists.iter_mut().zip(keep).for_each(drop);
        } else {
            self.lists.par_iter_mut().zip(keep).for_each(drop);
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self, _: &Merging<'_>) -> Result<()> {
        let take = |(rows, more): (&mut Arc<Rows>, &Arc<Rows>)| {
            if rows.is_empty() && rows.layout() == more.layout() {
                *rows = more.clone();
            } else if !more.is_empty() {
                Arc::make_mut(rows).extend_from(more, None);
            }
        };
        self.lists.par_iter_mut().zip(&other.lists).for_each(take);
        Ok(())
    }

    fn reserve(&mut self, additional: &[usize]) -> Result<()> {
        let mut room = self.lists.iter_mut().zip(additional);
        let made = room.try_for_each(|(rows, &additional)| match additional {
            0 => Ok(()),
            _ => Arc::make_mut(rows).try_reserve(additional),
        });
        if made.is_err() {
            // What was got is of no use.
            let own = self.lists.iter_mut().filter_map(Arc::get_mut);
            own.for_each(Rows::shrink_to_fit);
        }
        Ok(made?)
    }

    fn shrink_to_fit(&mut self, _: RowIds<'_>) -> Result<()> {
        // A list that a clone holds too stays as it is: a smaller copy would take more memory.
        self.lists
            .par_iter_mut()
            .filter_map(Arc::get_mut)
            .for_each(Rows::shrink_to_fit);
        Ok(())
    }

    fn ranks_by(&self) -> String {
        match self.lists.first().map(|rows| rows.layout()) {
            Some(Layout::Planes) => "bf16 of planes",
            Some(Layout::Copy) => "bf16 copy",
            Some(Layout::F32) | None => "f32",
            Some(Layout::F16) => "f16",
            Some(Layout::Bf16) => "bf16",
        }
        .to_owned()
    }

    fn bytes(&self) -> usize {
        self.lists.iter().map(|rows| rows.bytes()).sum()
    }

    fn to_device(&self, _: RowIds<'_>, _: &B::Device) -> Result<Self> {
        Ok(self.clone())
    }
}

/// Bytes of vectors that are read, then laid out: they stay in a second-level cache between.
const FILL_BYTES: usize = 256 << 10;
/// The same where 16 vectors have more.
const MOST_FILL_BYTES: usize = 1 << 20;

/// Vectors of `d` components laid out at once: whole panels; `None` where a panel is too large for that.
fn laid_out(d: usize) -> Option<usize> {
    let size = d * size_of::<f32>();
    let rows = (FILL_BYTES / size / PANEL).max(1) * PANEL;
    (rows * size <= MOST_FILL_BYTES).then_some(rows)
}

/// Threads that lay out what one reads: more would wait for it.
const FILL_HELPERS: usize = 3;

/// Reads all rows in pieces of `piece` and lays them out on several threads.
fn fill(
    lists: &[(usize, rows::Filling)],
    piece: usize,
    d: usize,
    filling: &mut Filling<'_>,
) -> Result<()> {
    let total: usize = filling.sizes.iter().sum();
    let pieces = total.div_ceil(piece);
    let helpers = (rayon::current_num_threads() - 1)
        .min(FILL_HELPERS)
        .min(pieces / 2);
    let buffers = (0..(2 * helpers + 1).min(pieces).max(1)).map(|_| Vec::new());
    let (mut lists, mut first) = (lists.iter().peekable(), 0);
    let mut bring = |values: &mut Vec<f32>| -> Result<Option<(usize, Vec<rows::Part<'_>>)>> {
        let (mut parts, mut runs, mut left) = (Vec::new(), Vec::new(), piece);
        while let Some(&next) = lists.peek() {
            let (l, list) = next;
            let Some(part) = list.take(left) else {
                break;
            };
            left -= part.rows();
            runs.push(Run {
                list: *l as u32,
                first: part.first(),
                rows: part.rows(),
                room: filling.sizes[*l],
            });
            parts.push(part);
            if list.left() == 0 {
                lists.next();
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        values.truncate((piece - left) * d);
        (filling.read)(&runs, values)?;
        first += piece - left;
        Ok(Some((first - (piece - left), parts)))
    };
    let (nan, refuse) = (filling.nan, filling.refuse);
    relay(
        helpers,
        buffers.collect(),
        &mut bring,
        &|(first, parts): (usize, Vec<rows::Part<'_>>), values: &mut Vec<f32>| {
            let (mut from, mut sound) = (0, true);
            for part in parts {
                let to = from + part.rows() * d;
                let odd = part.write(&values[from..to]);
                sound &= !odd.infinite && (nan || !odd.nan);
                from = to;
            }
            if sound {
                Ok(())
            } else {
                Err(refuse(values, first))
            }
        },
    )
}

impl HostLists {
    fn views<'a>(&'a self, ids: RowIds<'a>) -> Result<Vec<List<'a>>> {
        let view = |(l, rows): (usize, &'a Arc<Rows>)| {
            let ids = match ids {
                RowIds::Tables(tables) => ListIds::Table(&tables[l]),
                RowIds::Places(_) => ListIds::Place,
            };
            List::new(rows, ids)
        };
        Ok(self
            .lists
            .iter()
            .enumerate()
            .map(view)
            .collect::<Result<_, _>>()?)
    }
}

/// How lists lie in memory.
fn layout(d: usize, keep: Keep) -> Layout {
    let small = Layout::for_dimension(d);
    match keep {
        Keep::Vectors(Storage::Planes) => Layout::Planes,
        Keep::Vectors(Storage::Copy) => Layout::Copy,
        Keep::Vectors(Storage::F32) => Layout::F32,
        Keep::Vectors(Storage::F16) => Layout::F16,
        Keep::Vectors(Storage::Bf16) => Layout::Bf16,
        // Few enough to keep twice; a short vector is not worth a filter.
        Keep::Centroids if small == Layout::Planes => Layout::Copy,
        Keep::Centroids | Keep::Vectors(Storage::Auto) => small,
    }
}

/// What every host backend can do.
pub fn capabilities() -> Capabilities {
    Capabilities {
        fused_scan: true,
        kernel: format!("host ({})", Isa::detect().name()),
        host: true,
        storages: Storage::ALL.to_vec(),
        matmul_input_roundoff: 0.0,
    }
}

/// What every host backend is tuned as: the processor's instruction set decides.
pub fn device_key() -> DeviceKey {
    DeviceKey {
        backend: "cpu".to_owned(),
        architecture: Isa::detect().name().to_owned(),
        name: String::new(),
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

/// [`super::IvfBackend::pairwise`] by the CPU kernel.
pub fn pairwise<B: HostTensors>(
    queries: Tensor<B, 2>,
    rows: Tensor<B, 2>,
    measure: Measure,
    output: Output,
) -> Result<Tensor<B, 2>> {
    let ([nq, d], [n, _]) = (queries.dims(), rows.dims());
    let device = queries.device();
    let values = B::with_slice(queries, |queries| {
        B::with_slice(rows, |rows| {
            pairwise::pairwise((queries, rows), d, measure, output, Isa::detect())
        })
    })?;
    let data = TensorData::new(values, [nq, n]);
    Ok(Tensor::from_data(data, (&device, DType::F32)))
}

/// [`super::IvfBackend::list_scan`] by the CPU kernel.
pub fn list_scan<B>(scan: &Scan<'_, B>, probing: &Probing<B>) -> Result<Hits<B>>
where
    B: HostTensors + super::IvfBackend<Lists = HostLists>,
{
    let order = match probing.order {
        crate::plan::Order::ListMajor => Order::ListMajor,
        crate::plan::Order::QueryMajor => Order::QueryMajor,
    };
    let (lists, nprobe) = probing.reads.to_host(scan.nq())?;
    run(scan, |problem| {
        let isa = Isa::detect();
        list_scan::scan_restricted(problem, &lists, nprobe, order, isa, scan.restriction)
    })
}

/// [`super::IvfBackend::range_scan`] by the CPU kernel.
pub fn range_scan<B>(scan: &Scan<'_, B>, reads: &Reads<B>, limit: f32) -> Result<RangeHits<B>>
where
    B: HostTensors + super::IvfBackend<Lists = HostLists>,
{
    let (lists, nprobe) = reads.to_host(scan.nq())?;
    let found = on(scan, |problem| {
        let isa = Isa::detect();
        list_scan::within(problem, limit, &lists, nprobe, isa, scan.restriction)
    })?;
    Ok(RangeHits::from_host(found, &scan.queries.device()))
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
    let best = on(scan, kernel)?;
    Ok(Hits::from_host(best, scan.k, &scan.queries.device()))
}

/// A kernel over the lists and queries of a scan.
fn on<B, T>(
    scan: &Scan<'_, B>,
    kernel: impl FnOnce(&Problem<'_>) -> Result<T, burn_ivf_kernels::KernelError>,
) -> Result<T>
where
    B: HostTensors + super::IvfBackend<Lists = HostLists>,
{
    let lists = scan.lists.views(scan.ids)?;
    Ok(B::with_slice(scan.queries.clone(), |queries| {
        kernel(&Problem {
            metric: scan.metric,
            d: scan.d,
            k: scan.k,
            lists: &lists,
            queries,
            workspace: scan.workspace,
        })
    })?)
}
