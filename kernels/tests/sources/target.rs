//! What is asked of a runtime whose device is not there: to compile for it.

use cubecl::{
    CubeTask, Runtime,
    device::{Device, DeviceId},
    ir::DeviceProperties,
    prelude::ExecutionMode,
};
use cubecl_runtime::{compiler::Compiler, kernel::CompiledKernel};
use std::sync::Mutex;

/// A kernel, compiled but for being printed.
pub type Representation<T> = <<T as Runtime>::Compiler as Compiler>::Representation;
/// How a target's compiler is set up.
pub type Options<T> = <<T as Runtime>::Compiler as Compiler>::CompilationOptions;

/// A real runtime, and the devices it is asked to compile for.
pub trait Target: Runtime<Compiler: Default> {
    /// Compiler options for a device, as the runtime chooses them.
    fn options(device: Architecture) -> Options<Self>;

    /// The facts of a device, as the runtime reports them.
    fn properties(device: Architecture) -> DeviceProperties;

    /// Bytes of shared memory of a cube.
    fn shared_memory(kernel: &Representation<Self>) -> usize;
}

/// A device that is not there: its architecture's number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Architecture(pub u16);

impl Device for Architecture {
    fn from_id(id: DeviceId) -> Self {
        Self(id.index_id)
    }

    fn to_id(&self) -> DeviceId {
        DeviceId::new(0, self.0)
    }
}

/// One compilation at a time: CubeCL 0.10.0 numbers temporaries by a counter of the process, which
/// every compilation resets, so that two at once can declare one name twice.
static COMPILER: Mutex<()> = Mutex::new(());

/// Compiles a kernel; with the bytes of shared memory of a cube, which may be `most`.
pub fn compile<T: Target>(
    task: &dyn CubeTask<T::Compiler>,
    device: Architecture,
    mode: ExecutionMode,
    most: usize,
) -> Result<(CompiledKernel<T::Compiler>, usize), String> {
    let alone = COMPILER.lock().unwrap();
    let kernel = task
        .compile(
            &mut T::Compiler::default(),
            &T::options(device),
            mode,
            task.address_type(),
        )
        .map_err(|error| format!("{error:?}"))?;
    drop(alone);
    let shared = kernel.repr.as_ref().map_or(0, T::shared_memory);
    if shared > most {
        return Err(format!("{shared} bytes of shared memory of {most}"));
    }
    Ok((kernel, shared))
}

/// `a::b` of `a::b::B<..>`, the type made for the kernel `a::b`.
pub fn function(kernel: &str) -> String {
    let path = kernel.split('<').next().unwrap_or(kernel);
    path.rsplit_once("::").map_or(path, |(path, _)| path).into()
}
