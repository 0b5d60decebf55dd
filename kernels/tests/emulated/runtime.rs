//! A runtime that compiles kernels for CUDA or HIP, as the real one would, and runs what comes out here.

use super::{
    cube::{Index, Order, Room},
    memory::{Guarded, Piece},
    program::Program,
    target::{Architecture, Target, compile, function},
};
use cubecl::{
    CubeTask, MemoryAllocationMode, MemoryUsage, Runtime,
    backtrace::BackTrace,
    bytes::Bytes,
    client::ComputeClient,
    cuda::CudaRuntime,
    device::{Device, DeviceId, DeviceService, ServerUtilitiesHandle},
    future::DynFut,
    hip::HipRuntime,
    ir::{MemoryDeviceProperties, TargetProperties},
    prelude::{CubeCount, ExecutionMode, KernelId},
    profile::ProfileDuration,
    server::{
        Binding, ComputeServer, CopyDescriptor, IoError, KernelArguments, ProfileError,
        ProfilingToken, ServerCommunication, ServerError, ServerUtilities,
    },
    stream_id::StreamId,
    zspace::{Shape, Strides},
};
use cubecl_runtime::{
    allocator::ContiguousMemoryLayoutPolicy,
    logging::ServerLogger,
    memory_management::{
        ManagedMemoryHandle, MemoryConfiguration, MemoryManagement, MemoryManagementOptions,
    },
    storage::ManagedResource,
};
use std::{
    collections::HashMap,
    ffi::c_void,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// A target, and how it hands arguments to a kernel.
pub trait Passing: Target {
    /// Whether scalars come by value rather than in memory.
    const INFO_BY_VALUE: bool;
}

impl Passing for CudaRuntime {
    // With `grid_constants`.
    const INFO_BY_VALUE: bool = true;
}

impl Passing for HipRuntime {
    const INFO_BY_VALUE: bool = false;
}

/// The runtime `T` on a CPU.
#[derive(Debug, Clone)]
pub struct Emulated<T>(core::marker::PhantomData<T>);

impl<T: Passing> Runtime for Emulated<T> {
    type Compiler = T::Compiler;
    type Server = Server<T>;
    type Device = Architecture;

    fn client(device: &Architecture) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "emulated"
    }

    fn require_array_lengths() -> bool {
        T::require_array_lengths()
    }

    fn max_cube_count() -> (u32, u32, u32) {
        T::max_cube_count()
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        T::can_read_tensor(shape, strides)
    }

    fn target_properties() -> TargetProperties {
        T::target_properties()
    }

    fn enumerate_devices(_: u16, _: &()) -> Vec<DeviceId> {
        Vec::new()
    }
}

pub struct Server<T: Passing> {
    device: Architecture,
    utilities: Arc<ServerUtilities<Self>>,
    memory: MemoryManagement<Guarded>,
    programs: HashMap<KernelId, Arc<Program>>,
    order: Order,
    launches: u64,
    faults: Vec<String>,
}

impl<T: Passing> core::fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.device)
    }
}

/// The order of `BURN_IVF_EMULATED_ORDER`: `rising`, `falling`, or the seed of a random one (the default).
fn order() -> Order {
    match std::env::var("BURN_IVF_EMULATED_ORDER").as_deref() {
        Ok("rising") => Order::Rising,
        Ok("falling") => Order::Falling,
        Ok(seed) => Order::Random(seed.parse().expect("rising, falling or a number")),
        Err(_) => Order::Random(1),
    }
}

impl<T: Passing> DeviceService for Server<T> {
    fn init(id: DeviceId) -> Self {
        let device = Architecture::from_id(id);
        let properties = T::properties(device);
        let policy = ContiguousMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let logger = Arc::new(ServerLogger::default());
        let memory = MemoryManagement::from_configuration(
            Guarded::default(),
            &MemoryDeviceProperties {
                max_page_size: properties.memory.max_page_size,
                alignment: properties.memory.alignment,
            },
            MemoryConfiguration::ExclusivePages,
            logger.clone(),
            MemoryManagementOptions::new("emulated"),
        );
        Self {
            device,
            utilities: Arc::new(ServerUtilities::new(properties, logger, (), policy)),
            memory,
            programs: HashMap::new(),
            order: order(),
            launches: 0,
            faults: Vec::new(),
        }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl<T: Passing> ServerCommunication for Server<T> {
    const SERVER_COMM_ENABLED: bool = false;
}

/// Pointers that all cubes of a launch are given.
#[derive(Clone, Copy)]
struct Arguments<'a>(&'a [*mut c_void]);

// SAFETY: kernels agree among themselves who touches what, or there is a bug to be found.
unsafe impl Sync for Arguments<'_> {}

impl Arguments<'_> {
    fn all(&self) -> &[*mut c_void] {
        self.0
    }
}

impl<T: Passing> Server<T> {
    fn program(
        &mut self,
        task: &dyn CubeTask<T::Compiler>,
        mode: ExecutionMode,
    ) -> Result<Arc<Program>, String> {
        let mut id = task.id();
        id.mode(mode);
        if let Some(program) = self.programs.get(&id) {
            return Ok(program.clone());
        }
        let most = self.utilities.properties.hardware.max_shared_memory_size;
        let (kernel, shared) = compile::<T>(task, self.device, mode, most)?;
        let dim = kernel.cube_dim;
        let program = Arc::new(Program::new(
            &kernel.source,
            &kernel.entrypoint_name,
            [dim.x, dim.y, dim.z],
            shared,
        )?);
        self.programs.insert(id, program.clone());
        Ok(program)
    }

    /// What went wrong since the last time.
    fn check(&mut self) -> Result<(), ServerError> {
        let faults = core::mem::take(&mut self.faults);
        if faults.is_empty() {
            return Ok(());
        }
        Err(failed(faults.join("\n")))
    }

    fn piece(&mut self, binding: Binding) -> Result<Piece, String> {
        self.memory
            .get_resource(binding.memory, binding.offset_start, binding.offset_end)
            .map_err(|error| format!("{error:?}"))
    }

    fn run(
        &mut self,
        task: &dyn CubeTask<T::Compiler>,
        count: CubeCount,
        arguments: KernelArguments,
        mode: ExecutionMode,
    ) -> Result<(), String> {
        let program = self.program(task, mode)?;
        let CubeCount::Static(x, y, z) = count else {
            return Err("a number of cubes that the device holds".to_owned());
        };
        if !arguments.tensor_maps.is_empty() {
            return Err("a tensor map".to_owned());
        }
        let limits = self.utilities.properties.hardware.max_cube_count;
        if x > limits.0 || y > limits.1 || z > limits.2 || x * y * z == 0 {
            return Err(format!("a grid of {x} x {y} x {z} cubes"));
        }
        // Each argument is handed over by its address: buffers in order, then what scalars and lengths
        // there are, in memory or as they are.
        let mut pointers: Vec<*mut c_void> = Vec::new();
        for buffer in arguments.buffers {
            pointers.push(self.piece(buffer)?.at.cast());
        }
        let (mut info, fixed) = (arguments.info.data, arguments.info.dynamic_metadata_offset);
        let by_value = T::INFO_BY_VALUE;
        let mut lengths = info.split_off(if by_value { fixed.min(info.len()) } else { 0 });
        if !lengths.is_empty() {
            pointers.push(lengths.as_mut_ptr().cast());
        }
        let mut at: Vec<*mut c_void> = pointers
            .iter_mut()
            .map(|pointer| core::ptr::from_mut(pointer).cast())
            .collect();
        if by_value {
            at.push(info.as_mut_ptr().cast());
        }
        let plane = self.utilities.properties.hardware.plane_size_max;
        self.launches += 1;
        let (order, launch) = (self.order, self.launches);
        cubes(
            &program,
            Arguments(&at),
            Index { x, y, z },
            plane,
            order,
            launch,
        )
    }
}

/// Runs all cubes, on all processors.
fn cubes(
    program: &Program,
    arguments: Arguments<'_>,
    grid: Index,
    plane: u32,
    order: Order,
    launch: u64,
) -> Result<(), String> {
    let all = order.of((grid.x * grid.y * grid.z) as usize, launch);
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), String> {
        let mut room = Room::new(program);
        while let Some(&i) = all.get(next.fetch_add(1, Relaxed)) {
            let i = i as u32;
            let block = Index {
                x: i % grid.x,
                y: i / grid.x % grid.y,
                z: i / grid.x / grid.y,
            };
            room.run(program, arguments.all(), (block, grid), plane, order)?;
        }
        Ok(())
    };
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(all.len());
    thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            result = result.and(other.join().expect("no panic"));
        }
        result
    })
}

fn failed(reason: String) -> ServerError {
    ServerError::Generic {
        reason,
        backtrace: BackTrace::capture(),
    }
}

fn nothing_there() -> ServerError {
    IoError::UnsupportedIoOperation {
        backtrace: BackTrace::capture(),
    }
    .into()
}

impl<T: Passing> ComputeServer for Server<T> {
    type Kernel = Box<dyn CubeTask<T::Compiler>>;
    type Info = ();
    type MemoryLayoutPolicy = ContiguousMemoryLayoutPolicy;
    type Storage = Guarded;

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        count: CubeCount,
        arguments: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        if let Err(error) = self.run(&*kernel, count, arguments, mode) {
            self.faults
                .push(format!("{}: {error}", function(kernel.name())));
        }
    }

    fn initialize_memory(&mut self, memory: ManagedMemoryHandle, size: u64, _: StreamId) {
        let reserved = self.memory.reserve(size);
        let bound = reserved.and_then(|reserved| self.memory.bind(reserved, memory, 0));
        if let Err(error) = bound {
            self.faults.push(format!("{size} bytes: {error:?}"));
        }
    }

    fn write(&mut self, data: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {
        for (to, bytes) in data {
            match self.piece(to.handle) {
                Ok(piece) if piece.len >= bytes.len() => {
                    // SAFETY: the piece is that long, and no kernel runs now.
                    unsafe {
                        piece
                            .at
                            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
                    };
                }
                Ok(piece) => {
                    let fault = format!("{} bytes written to {}", bytes.len(), piece.len);
                    self.faults.push(fault);
                }
                Err(error) => self.faults.push(error),
            }
        }
    }

    fn read(
        &mut self,
        wanted: Vec<CopyDescriptor>,
        _: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        if let Err(error) = self.check() {
            return Box::pin(async { Err(error) });
        }
        let read = wanted
            .into_iter()
            .map(|from| {
                let bytes = from.shape.iter().product::<usize>() * from.elem_size;
                let piece = self.piece(from.handle).map_err(failed)?;
                assert!(piece.len >= bytes, "{bytes} bytes read of {}", piece.len);
                // SAFETY: the piece is that long, and no kernel runs now.
                let bytes = unsafe { core::slice::from_raw_parts(piece.at, bytes) };
                Ok(Bytes::from_elems(bytes.to_vec()))
            })
            .collect();
        Box::pin(async { read })
    }

    fn sync(&mut self, _: StreamId) -> DynFut<Result<(), ServerError>> {
        let result = self.check();
        Box::pin(async { result })
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn get_resource(
        &mut self,
        _: Binding,
        _: StreamId,
    ) -> Result<ManagedResource<Piece>, ServerError> {
        Err(nothing_there())
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn memory_usage(&mut self, _: StreamId) -> Result<MemoryUsage, ServerError> {
        Ok(self.memory.memory_usage())
    }

    fn memory_cleanup(&mut self, _: StreamId) {
        self.memory.cleanup(true);
    }

    fn allocation_mode(&mut self, mode: MemoryAllocationMode, _: StreamId) {
        self.memory.mode(mode);
    }

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Err(nothing_there())
    }

    fn end_profile(
        &mut self,
        _: StreamId,
        _: ProfilingToken,
    ) -> Result<ProfileDuration, ProfileError> {
        Err(ProfileError::NotRegistered {
            backtrace: BackTrace::capture(),
        })
    }
}
