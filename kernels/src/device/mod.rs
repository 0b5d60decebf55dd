//! What the GPU kernels share: the device's facts, buffers, launching, counting.
//!
//! Kernels are written once in CubeCL and compiled by its runtimes for CUDA, HIP, WGSL, SPIR-V and
//! Metal. Five rules hold for all of them, and a limit is to be kept in mind:
//!
//! * A kernel is launched, never waited for: nothing here reads a buffer back, but for the number of
//!   rows that a range search has found.
//! * No kernel needs planes (warps). Where a device advertises them, [`Facts::lanes`] units read one
//!   row together; the sums are the same bits (`distance.rs`).
//! * Every kernel claims all of its shared memory in its first straight stretch of code (`claim.rs`).
//! * A loop that holds an atomic operation takes the same number of turns in all units of a cube:
//!   after uneven turns Mesa 22's software driver (SPIR-V) forgets which units are active.
//! * Distances travel as order-preserving bits (`queue.rs`) beside the row's rank, so that
//!   infinities need no float constants and (distance, id) is compared exactly.
//! * Mesa 22's software driver leaves every loop once a unit has taken 65,535 turns, of all loops together (a loop
//!   of 100,000 turns counted 65,535; 100 times 1,000, 65,405). Nothing enforces it: the tests' problems stay below;
//!   a selection from millions of pairs a query would not.

pub(crate) mod claim;
pub(crate) mod distance;
mod grain;
mod home;
pub(crate) mod lanes;
mod probe;
pub(crate) mod queue;
pub(crate) mod queues;
pub(crate) mod scan;
pub(crate) mod tile;

pub use grain::{Filter, Grain};
pub(crate) use home::Home;
pub use probe::Probe;

use crate::KernelError;
use core::cell::Cell;
use cubecl::{
    ir::{
        AddressType, ElemType, FloatKind, StorageType,
        features::{MmaConfig, Plane},
    },
    prelude::*,
    server::{CubeCountSelection, Handle},
};

/// Components are padded with zeros to a multiple of this, so that rows are read in vectors.
pub const VECTOR: usize = 4;

/// A key or rank that stands for no row.
pub const NONE: u32 = u32::MAX;

const fn float(kind: FloatKind) -> StorageType {
    StorageType::Scalar(ElemType::Float(kind))
}

/// What tensor cores are asked to multiply.
const MATRICES: MmaConfig = MmaConfig {
    a_type: float(FloatKind::BF16),
    b_type: float(FloatKind::BF16),
    cd_type: float(FloatKind::F32),
    m: 16,
    n: 8,
    k: 16,
};

thread_local! {
    static LAUNCHES: Cell<u64> = const { Cell::new(0) };
    static UPLOADED: Cell<u64> = const { Cell::new(0) };
}

/// Kernels of this crate launched so far by the calling thread.
pub fn launches() -> u64 {
    LAUNCHES.get()
}

/// Bytes the calling thread has copied to devices so far for these kernels (tensors not counted).
pub fn uploaded() -> u64 {
    UPLOADED.get()
}

/// What of a device the kernels depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Units of a cube at most.
    pub units: u32,
    /// Bytes of shared memory of a cube.
    pub shared: usize,
    /// Bytes of the largest buffer a kernel can be given.
    pub buffer: usize,
    /// Units that read one row together: 4 where units of a plane can exchange values, else 1.
    pub lanes: u32,
    /// Whether planes of 32 units multiply matrices of bf16, 16 × 16 by 16 × 8, summed in f32.
    pub tensor_cores: bool,
    /// Multiprocessors, or a guess.
    pub processors: u32,
    /// Whether buffers of more than 2³² - 1 elements can be indexed.
    pub wide: bool,
    /// Buffers that a kernel can be given.
    pub bindings: u32,
    /// How finely scans are cut; a search brings its own.
    pub grain: Grain,
}

impl Facts {
    /// A large GPU, for tests of what is chosen for it.
    #[cfg(test)]
    pub(crate) const H200: Self = Self {
        units: 1024,
        shared: 227 << 10,
        buffer: usize::MAX,
        lanes: 4,
        tensor_cores: true,
        processors: 132,
        wide: true,
        bindings: 1024,
        grain: Grain::DEFAULT,
    };

    /// The facts of a device.
    pub fn of<R: Runtime>(client: &ComputeClient<R>) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let units = hardware.max_units_per_cube.min(hardware.max_cube_dim.0);
        let planes = properties.features.plane.contains(Plane::Ops)
            && hardware.plane_size_min.min(units) >= lanes::BUNDLE;
        let lanes = if planes { 4 } else { 1 };
        Self {
            units: lanes::whole(units, lanes),
            shared: hardware.max_shared_memory_size,
            buffer: usize::try_from(properties.memory.max_page_size).unwrap_or(usize::MAX),
            lanes,
            tensor_cores: planes
                && (hardware.plane_size_min, hardware.plane_size_max) == (32, 32)
                && properties.features.matmul.mma.contains(&MATRICES),
            processors: hardware.num_streaming_multiprocessors.unwrap_or(32),
            wide: properties.supports_address(AddressType::U64),
            bindings: hardware.max_bindings,
            grain: Grain::default(),
        }
    }
}

/// A device: its queue and its facts.
pub struct Gpu<R: Runtime> {
    client: ComputeClient<R>,
    facts: Facts,
}

impl<R: Runtime> core::fmt::Debug for Gpu<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Gpu({}, {:?})", R::name(&self.client), self.facts)
    }
}

impl<R: Runtime> Clone for Gpu<R> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            facts: self.facts,
        }
    }
}

impl<R: Runtime> Gpu<R> {
    /// The device behind a client.
    pub fn new(client: &ComputeClient<R>) -> Self {
        Self::with(client, Facts::of(client))
    }

    /// The device with facts of the caller's choice, none better than the real ones: for tests of
    /// the paths that other devices take.
    pub fn with(client: &ComputeClient<R>, facts: Facts) -> Self {
        Self {
            client: client.clone(),
            facts,
        }
    }

    /// The queue.
    pub fn client(&self) -> &ComputeClient<R> {
        &self.client
    }

    /// The facts.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// A buffer of `words` 32-bit words (at least one), contents undefined.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device has no buffer of that size.
    pub fn empty(&self, what: &'static str, words: usize) -> Result<Handle, KernelError> {
        let bytes = words.max(1).saturating_mul(4);
        self.check(what, bytes)?;
        Ok(self.client.empty(bytes))
    }

    /// A buffer that holds `words` (or one undefined word).
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device has no buffer of that size.
    pub fn upload(&self, what: &'static str, words: &[u32]) -> Result<Handle, KernelError> {
        self.check(what, size_of_val(words))?;
        if words.is_empty() {
            return self.empty(what, 1);
        }
        UPLOADED.set(UPLOADED.get() + size_of_val(words) as u64);
        Ok(self.client.create_from_slice(bytemuck::cast_slice(words)))
    }

    fn check(&self, what: &'static str, bytes: usize) -> Result<(), KernelError> {
        if bytes > self.facts.buffer {
            return Err(KernelError::Buffer {
                what,
                bytes,
                limit: self.facts.buffer,
            });
        }
        Ok(())
    }

    /// A grid of at least `cubes` cubes, none longer than the device allows; counts a launch.
    pub(crate) fn grid(&self, cubes: usize) -> CubeCount {
        LAUNCHES.set(LAUNCHES.get() + 1);
        CubeCountSelection::new(&self.client, cubes as u32).cube_count()
    }

    /// The type that indexes `elements` elements.
    pub(crate) fn address(
        &self,
        what: &'static str,
        elements: usize,
    ) -> Result<AddressType, KernelError> {
        if u32::try_from(elements).is_ok() {
            Ok(AddressType::U32)
        } else if self.facts.wide {
            Ok(AddressType::U64)
        } else {
            Err(KernelError::Buffer {
                what,
                bytes: elements.saturating_mul(4),
                limit: 4 * u32::MAX as usize,
            })
        }
    }
}

/// `handle` as a kernel argument of `len` scalars.
pub(crate) fn array<R: Runtime>(handle: &Handle, len: usize) -> ArrayArg<R> {
    // SAFETY: every caller passes the length with which the buffer was made, or less.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), len) }
}
