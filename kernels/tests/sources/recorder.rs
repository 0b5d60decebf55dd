//! A runtime that compiles what is launched to source, keeps it, and runs nothing.
//!
//! Operations launch without reading back, so they run to their end on it; a range search, which
//! reads how many rows it has found, reads that it is one for every query. What it keeps is what the
//! real runtime would compile for the same call on the same device: same choices from the
//! device's facts, same compiler options, same mode.

use super::target::{Architecture, Target, compile, function};
use cubecl::{
    CubeTask, MemoryAllocationMode, MemoryUsage, Runtime,
    backtrace::BackTrace,
    bytes::Bytes,
    client::ComputeClient,
    device::{Device, DeviceId, DeviceService, ServerUtilitiesHandle},
    future::DynFut,
    ir::TargetProperties,
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
    allocator::PitchedMemoryLayoutPolicy,
    logging::ServerLogger,
    memory_management::ManagedMemoryHandle,
    storage::{ComputeStorage, ManagedResource},
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

type Storage<T> = <<T as Runtime>::Server as ComputeServer>::Storage;

/// A kernel as it was launched.
#[derive(Debug)]
pub struct Kernel {
    /// The module named after the function: `crate::module::function`.
    pub path: String,
    /// What was going on.
    pub case: String,
    /// Compile-time choices.
    pub choices: String,
    pub units: u32,
    pub shared_memory: usize,
    pub source: String,
}

/// What was launched so far.
#[derive(Debug, Default)]
pub struct Tape {
    pub case: String,
    pub kernels: Vec<Kernel>,
    pub failures: Vec<String>,
    seen: HashSet<KernelId>,
}

#[derive(Debug, Clone)]
pub struct Recorder<T>(core::marker::PhantomData<T>);

impl<T: Target> Runtime for Recorder<T> {
    type Compiler = T::Compiler;
    type Server = Server<T>;
    type Device = Architecture;

    fn client(device: &Architecture) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "recorder"
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

    fn enumerate_devices(_: u16, _: &Arc<Mutex<Tape>>) -> Vec<DeviceId> {
        Vec::new()
    }
}

pub struct Server<T: Target> {
    device: Architecture,
    utilities: Arc<ServerUtilities<Self>>,
}

impl<T: Target> core::fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.device)
    }
}

impl<T: Target> DeviceService for Server<T> {
    fn init(id: DeviceId) -> Self {
        let device = Architecture::from_id(id);
        let properties = T::properties(device);
        let policy = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        Self {
            device,
            utilities: Arc::new(ServerUtilities::new(
                properties,
                Arc::new(ServerLogger::default()),
                Arc::default(),
                policy,
            )),
        }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl<T: Target> ServerCommunication for Server<T> {
    const SERVER_COMM_ENABLED: bool = false;
}

impl<T: Target> Server<T> {
    fn record(
        &self,
        tape: &mut Tape,
        task: &dyn CubeTask<T::Compiler>,
        mode: ExecutionMode,
    ) -> Result<(), String> {
        let mut id = task.id();
        id.mode(mode);
        if !tape.seen.insert(id.clone()) {
            return Ok(());
        }
        let most = self.utilities.properties.hardware.max_shared_memory_size;
        let (kernel, shared_memory) = compile::<T>(task, self.device, mode, most)?;
        tape.kernels.push(Kernel {
            path: function(task.name()),
            case: tape.case.clone(),
            choices: format!("{:?} {id:?}", task.address_type()),
            units: kernel.cube_dim.num_elems(),
            shared_memory,
            source: kernel.source,
        });
        Ok(())
    }
}

fn nothing_there() -> ServerError {
    IoError::UnsupportedIoOperation {
        backtrace: BackTrace::capture(),
    }
    .into()
}

impl<T: Target> ComputeServer for Server<T> {
    type Kernel = Box<dyn CubeTask<T::Compiler>>;
    type Info = Arc<Mutex<Tape>>;
    type MemoryLayoutPolicy = PitchedMemoryLayoutPolicy;
    type Storage = Storage<T>;

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        _: CubeCount,
        _: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        let mut tape = self.utilities.info.lock().unwrap();
        let result = self.record(&mut tape, &*kernel, mode);
        if let Err(error) = result {
            let failure = format!("{} in {}: {error}", kernel.name(), tape.case);
            tape.failures.push(failure);
        }
    }

    fn initialize_memory(&mut self, _: ManagedMemoryHandle, _: u64, _: StreamId) {}

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn read(
        &mut self,
        wanted: Vec<CopyDescriptor>,
        _: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let ones = |of: &CopyDescriptor| {
            let bytes = of.shape.iter().product::<usize>() * of.elem_size;
            Bytes::from_elems(vec![1_u32; bytes / 4])
        };
        let read = Ok(wanted.iter().map(ones).collect());
        Box::pin(async { read })
    }

    fn sync(&mut self, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn get_resource(
        &mut self,
        _: Binding,
        _: StreamId,
    ) -> Result<ManagedResource<<Storage<T> as ComputeStorage>::Resource>, ServerError> {
        Err(nothing_there())
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn memory_usage(&mut self, _: StreamId) -> Result<MemoryUsage, ServerError> {
        Err(nothing_there())
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}

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
