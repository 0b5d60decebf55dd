//! Every CubeCL backend (CUDA, HIP, WGSL, SPIR-V, MSL): operations by the GPU kernels.
//!
//! Tensors are handed to the kernels as buffers and back; nothing here waits for the device.

use super::{
    Capabilities, Groups, Hits, IvfBackend, Keep, ListStore, Places, Probing, RangeHits, Reads,
    RowIds, Scan, ScanSize, Slot, label_dtype, tuning,
};
use crate::{
    error::Result,
    params::Storage,
    plan::{Knob, Order, Tuning},
    stats::KernelCost,
};
use burn::tensor::{
    DType, Int, Shape, Tensor, TensorPrimitive,
    backend::{Backend, DeviceOps},
};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, kernel::into_contiguous,
    tensor::CubeTensor,
};
use burn_ivf_kernels::{
    device::{Filter, Gpu, Grain, NONE},
    list_scan::{
        self, DeviceProblem, FoundOnDevice, Order as Read, Orders, Probed, filter_on, order_on,
        scan_cost, scan_restricted_on, within_on,
    },
    means::means_on,
    pairwise::{Measure, Output as PairOutput, pairwise_on},
    rows::device::{Added, DeviceLists, Element},
    select_k::{Labels, Output, SelectedOnDevice, Source, select_on},
    unit::unit_rows_on,
};
use cubecl::server::{ComputeServer, Handle};

/// A CubeCL backend of whatever element types, by what its tensors are.
trait Cube<R: CubeRuntime>:
    Backend<
        Device = R::Device,
        FloatTensorPrimitive = CubeTensor<R>,
        IntTensorPrimitive = CubeTensor<R>,
    >
{
}

impl<R, F, I, BT> Cube<R> for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
}

/// Inverted lists in a device's memory.
#[derive(Debug)]
pub struct CubeLists<R: CubeRuntime> {
    lists: DeviceLists<R>,
    device: R::Device,
    keep: Keep,
    orders: Orders,
}

impl<R: CubeRuntime> Clone for CubeLists<R> {
    fn clone(&self) -> Self {
        Self {
            lists: self.lists.clone(),
            device: self.device.clone(),
            keep: self.keep,
            orders: self.orders.clone(),
        }
    }
}

/// Rows moved to another device at once.
const MOVED_BYTES: usize = 64 << 20;

impl<R: CubeRuntime, E: Cube<R>> ListStore<E> for CubeLists<R> {
    fn new(d: usize, nlist: usize, keep: Keep, device: &R::Device) -> Self {
        let words = match keep {
            Keep::Centroids => 0,
            Keep::Vectors(_) => label_words(label_dtype::<E>(device)),
        };
        let gpu = Gpu::new(&R::client(device));
        let lists = || DeviceLists::new(&gpu, d, nlist, words);
        let stored = lists().of(element(keep));
        debug_assert!(stored.is_ok(), "{keep:?} is not among the capabilities");
        Self {
            lists: stored.unwrap_or_else(|_| lists()),
            device: device.clone(),
            keep,
            orders: Orders::default(),
        }
    }

    fn append(&mut self, rows: Tensor<E, 2>, to: &Places<'_>) -> Result<()> {
        let added = Added {
            rows: &contiguous(rows).handle,
            lists: to.lists,
            ids: to.ids,
        };
        let held = to.held;
        Ok(self.lists.append(&added, |list, slot| {
            held.id(Slot {
                list: list as u32,
                slot: slot as u32,
            })
        })?)
    }

    fn gather(&self, at: &[Slot]) -> Result<Tensor<E, 2>> {
        let rows = self.lists.gather(&self.positions(at))?;
        let shape = [at.len(), self.lists.d()];
        Ok(float(self.tensor(rows, shape, DType::F32)))
    }

    fn retain(&mut self, keep: &[Option<Vec<u32>>]) -> Result<()> {
        Ok(self.lists.retain(keep)?)
    }

    fn reserve(&mut self, additional: &[usize]) -> Result<()> {
        Ok(self.lists.reserve(additional)?)
    }

    fn shrink_to_fit(&mut self, ids: RowIds<'_>) -> Result<()> {
        let id = |list: usize, slot: usize| {
            ids.id(Slot {
                list: list as u32,
                slot: slot as u32,
            })
        };
        Ok(self.lists.shrink_to_fit(id)?)
    }

    fn bytes(&self) -> usize {
        self.lists.bytes()
    }

    fn ranks_by(&self) -> String {
        match self.lists.element() {
            Element::F32 => "f32 differences",
            Element::F16 => "f32 differences from f16",
            Element::Bf16 => "f32 differences from bf16",
        }
        .to_owned()
    }

    fn to_device(&self, ids: RowIds<'_>, device: &R::Device) -> Result<Self> {
        if *device == self.device {
            return Ok(self.clone());
        }
        let nlist = self.lists.nlist();
        let mut moved = <Self as ListStore<E>>::new(self.lists.d(), nlist, self.keep, device);
        let all: Vec<Slot> = (0..nlist)
            .flat_map(|l| {
                (0..self.lists.list_len(l)).map(move |slot| Slot {
                    list: l as u32,
                    slot: slot as u32,
                })
            })
            .collect();
        let rows = (MOVED_BYTES / (4 * self.lists.d())).max(1);
        for at in all.chunks(rows) {
            let rows: Tensor<E, 2> = self.gather(at)?;
            let lists: Vec<u32> = at.iter().map(|at| at.list).collect();
            let new: Vec<i64> = at.iter().map(|&at| ids.id(at)).collect();
            let to = Places {
                lists: &lists,
                ids: &new,
                held: ids,
            };
            moved.append(rows.to_device(device), &to)?;
        }
        Ok(moved)
    }
}

impl<R: CubeRuntime> CubeLists<R> {
    fn positions(&self, at: &[Slot]) -> Vec<u32> {
        at.iter()
            .map(|&at| {
                if at == Slot::NONE {
                    NONE
                } else {
                    self.lists.position(at.list, at.slot)
                }
            })
            .collect()
    }

    fn label_dtype(&self) -> DType {
        match self.lists.labels().words() {
            2 => DType::I64,
            _ => DType::I32,
        }
    }

    fn tensor<const D: usize>(
        &self,
        handle: Handle,
        shape: [usize; D],
        dtype: DType,
    ) -> CubeTensor<R> {
        tensor(self.lists.gpu(), &self.device, handle, shape, dtype)
    }
}

/// A buffer as a tensor.
fn tensor<R: CubeRuntime, const D: usize>(
    gpu: &Gpu<R>,
    device: &R::Device,
    handle: Handle,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (gpu.client().clone(), device.clone());
    CubeTensor::new_contiguous(client, device, Shape::new(shape), handle, dtype)
}

/// How components are stored.
fn element(keep: Keep) -> Element {
    match keep {
        Keep::Vectors(Storage::F16) => Element::F16,
        Keep::Vectors(Storage::Bf16) => Element::Bf16,
        Keep::Vectors(_) | Keep::Centroids => Element::F32,
    }
}

/// 32-bit words of a label.
fn label_words(dtype: DType) -> usize {
    if dtype == DType::I64 { 2 } else { 1 }
}

/// A float tensor as a buffer of f32, row after row.
fn contiguous<R: CubeRuntime, E: Cube<R>>(rows: Tensor<E, 2>) -> CubeTensor<R> {
    let rows = if rows.dtype() == DType::F32 {
        rows
    } else {
        rows.cast(DType::F32)
    };
    into_contiguous(rows.into_primitive().tensor())
}

fn float<R: CubeRuntime, E: Cube<R>, const D: usize>(tensor: CubeTensor<R>) -> Tensor<E, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

impl<R, F, I, BT> IvfBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    own_inner!();

    type Lists = CubeLists<R>;

    fn capabilities(device: &Self::Device) -> Capabilities {
        let client = R::client(device);
        let gpu = Gpu::new(&client);
        let matmul = &client.properties().features.matmul;
        let halves = [(Storage::F16, Element::F16), (Storage::Bf16, Element::Bf16)];
        let halves = halves.iter().filter(|(_, e)| e.is_supported(&gpu));
        let storages = core::iter::once(Storage::Auto)
            .chain(halves.map(|(storage, _)| *storage))
            .collect();
        // With tensor cores Burn's f32 product may run as tf32, which keeps 10 bits.
        let tensor_cores = !(matmul.cmma.is_empty() && matmul.mma.is_empty());
        Capabilities {
            fused_scan: true,
            kernel: format!("cube ({})", R::name(&client)),
            host: false,
            storages,
            matmul_input_roundoff: if tensor_cores { 2_f64.powi(-10) } else { 0.0 },
        }
    }

    fn select_k(
        scores: Tensor<Self, 2>,
        k: usize,
    ) -> Result<(Tensor<Self, 2>, Tensor<Self, 2, Int>)> {
        let ([rows, n], device) = (scores.dims(), scores.device());
        let k = k.min(n);
        let scores = contiguous(scores);
        let gpu = Gpu::new(&scores.client);
        let source = Source::Scores(scores.handle);
        let found = select_on(&gpu, &source, (rows, n), k, Output::Score, &Labels::Ranks)?;
        let columns = tensor(&gpu, &device, found.labels, [rows, k], DType::I32);
        Ok((
            float(tensor(&gpu, &device, found.values, [rows, k], DType::F32)),
            Tensor::from_primitive(columns),
        ))
    }

    fn means(rows: Tensor<Self, 2>, groups: &Groups<'_>) -> Result<Vec<f32>> {
        let (shape, device) = (rows.dims(), rows.device());
        let rows = contiguous(rows);
        let gpu = Gpu::new(&rows.client);
        let grouped = (groups.members, groups.offsets);
        let sizes = (shape[0], shape[1]);
        let means = means_on(&gpu, &rows.handle, sizes, grouped, groups.weights)?;
        let shape = [groups.offsets.len() - 1, shape[1]];
        super::read::<Self, 2>(float(tensor(&gpu, &device, means, shape, DType::F32)))
    }

    fn unit_rows(rows: Tensor<Self, 2>) -> Result<Tensor<Self, 2>> {
        let (shape, device) = (rows.dims(), rows.device());
        let rows = contiguous(rows);
        let gpu = Gpu::new(&rows.client);
        let unit = unit_rows_on(&gpu, &rows.handle, (shape[0], shape[1]))?;
        Ok(float(tensor(&gpu, &device, unit, shape, DType::F32)))
    }

    fn pairwise(
        queries: Tensor<Self, 2>,
        rows: Tensor<Self, 2>,
        measure: Measure,
        output: PairOutput,
    ) -> Result<Tensor<Self, 2>> {
        let ([nq, d], [n, _]) = (queries.dims(), rows.dims());
        let device = queries.device();
        let (queries, rows) = (contiguous(queries), contiguous(rows));
        let gpu = Gpu::new(&queries.client);
        let pairs = (&queries.handle, &rows.handle);
        let table = pairwise_on(&gpu, pairs, (nq, n, d), measure, output)?;
        Ok(float(tensor(&gpu, &device, table, [nq, n], DType::F32)))
    }

    fn list_scan(scan: &Scan<'_, Self>, probing: &Probing<Self>) -> Result<Hits<Self>> {
        let how = (probing.order, &*probing.tuning);
        reading(&probing.reads, |reads| run(scan, reads, how))
    }

    fn range_scan(
        scan: &Scan<'_, Self>,
        reads: &Reads<Self>,
        limit: f32,
    ) -> Result<RangeHits<Self>> {
        let store = scan.lists;
        let queries = contiguous(scan.queries.clone());
        let tuning = tuning::<Self>(&store.device);
        let problem = problem(scan, &queries, (Order::QueryMajor, &tuning));
        let found = reading(reads, |reads| {
            if scan.nq() > 0 && !store.lists.is_empty() {
                super::count_read();
            }
            let restriction = scan.restriction;
            Ok(within_on(
                &problem,
                limit,
                reads,
                restriction,
                &store.orders,
            )?)
        });
        let FoundOnDevice {
            lims,
            values,
            labels,
        } = found?;
        let Some(&n @ 1..) = lims.last() else {
            return Ok(RangeHits::nothing(scan.nq(), &store.device));
        };
        let shape = [n as usize];
        Ok(RangeHits {
            lims,
            distances: float(store.tensor(values, shape, DType::F32)),
            labels: Tensor::from_primitive(store.tensor(labels, shape, store.label_dtype())),
            counts: None,
        })
    }

    fn scan_cost(store: &Self::Lists, size: &ScanSize<'_>) -> Vec<KernelCost> {
        let lists = &store.lists;
        let lens: Vec<usize> = (0..lists.nlist()).map(|l| lists.list_len(l)).collect();
        let words = match lists.labels() {
            Labels::Ranks => 0,
            Labels::Ids { words, .. } => words,
        };
        let size = list_scan::ScanSize {
            metric: size.metric,
            d: lists.d(),
            element: lists.element(),
            words,
            lens: &lens,
            nq: size.nq,
            k: size.k,
            nprobe: size.nprobe,
            probed: size.probed.map_or(Probed::Evenly, Probed::Counted),
            workspace: size.workspace,
            order: read_in(size.order),
            grain: grain(size.tuning),
        };
        let costs = scan_cost(&lists.gpu().facts(), &size);
        let costs = costs.into_iter().map(|cost| KernelCost {
            step: "scan".to_owned(),
            kernel: cost.kernel.to_owned(),
            launches: cost.launches,
            bytes: cost.bytes.round() as u64,
            distinct_bytes: cost.distinct.round() as u64,
            flops: cost.flops.round() as u64,
            useful_flops: cost.useful.round() as u64,
        });
        costs.collect()
    }

    fn rerank(scan: &Scan<'_, Self>, candidates: &[Slot], per_query: usize) -> Result<Hits<Self>> {
        let positions = scan.lists.positions(candidates);
        let positions = scan.lists.lists.gpu().upload("candidates", &positions)?;
        let reads = list_scan::Reads::Rows(&positions, per_query);
        let tuning = tuning::<Self>(&scan.lists.device);
        run(scan, reads, (Order::QueryMajor, &tuning))
    }
}

/// Hands lists to be read to the kernels.
fn reading<R: CubeRuntime, E: Cube<R>, T>(
    reads: &Reads<E>,
    work: impl FnOnce(list_scan::Reads<'_>) -> Result<T>,
) -> Result<T> {
    match reads {
        Reads::All => work(list_scan::Reads::All),
        Reads::Lists(lists) => {
            let lists = lists.clone().cast(DType::I32);
            let nprobe = lists.dims()[1];
            let lists = into_contiguous(lists.into_primitive());
            work(list_scan::Reads::Lists(&lists.handle, nprobe))
        }
    }
}

/// The kernels' view of a scan.
fn problem<'a, R: CubeRuntime, E: Cube<R> + IvfBackend<Lists = CubeLists<R>>>(
    scan: &Scan<'a, E>,
    queries: &'a CubeTensor<R>,
    (order, tuning): (Order, &Tuning),
) -> DeviceProblem<'a, R> {
    DeviceProblem {
        metric: scan.metric,
        k: scan.k,
        lists: &scan.lists.lists,
        queries: &queries.handle,
        nq: scan.nq(),
        workspace: scan.workspace,
        order: read_in(order),
        grain: grain(tuning),
    }
}

fn read_in(order: Order) -> Read {
    match order {
        Order::ListMajor => Read::ListMajor,
        Order::QueryMajor => Read::QueryMajor,
    }
}

/// How finely scans are cut.
fn grain(tuning: &Tuning) -> Grain {
    let of = |knob| tuning.get(knob) as usize;
    Grain {
        tile: of(Knob::ScanTileQueries),
        pairs: of(Knob::ScanQueuePairs),
        rows: of(Knob::ScanRowsPerCube),
        cubes: of(Knob::ScanCubesPerProcessor),
        units: of(Knob::ScanUnits) as u32,
        filter: Filter::ALL[of(Knob::ScanFilter).min(2)],
    }
}

/// Launches a scan and hands its buffers back as tensors.
fn run<R: CubeRuntime, E: Cube<R> + IvfBackend<Lists = CubeLists<R>>>(
    scan: &Scan<'_, E>,
    reads: list_scan::Reads<'_>,
    how: (Order, &Tuning),
) -> Result<Hits<E>> {
    let store = scan.lists;
    let shape = [scan.nq(), scan.k];
    let queries = contiguous(scan.queries.clone());
    let problem = problem(scan, &queries, how);
    let order = match order_on(&problem, reads, scan.restriction) {
        Read::ListMajor => Order::ListMajor,
        Read::QueryMajor => Order::QueryMajor,
    };
    let filter = match filter_on(&problem, reads, scan.restriction) {
        Filter::Nothing => None,
        filter => Some(filter.name()),
    };
    let SelectedOnDevice { values, labels } =
        scan_restricted_on(&problem, reads, scan.restriction, &store.orders)?;
    Ok(Hits {
        distances: float(store.tensor(values, shape, DType::F32)),
        labels: Tensor::from_primitive(store.tensor(labels, shape, store.label_dtype())),
        counts: None,
        order: Some(order),
        filter,
    })
}
