//! The devices that are not there, as CubeCL's runtimes would report them.

use super::target::{Architecture, Options, Representation, Target};
use cubecl::{
    cuda::CudaRuntime,
    features::{MmaConfig, Plane, TypeUsage},
    hip::HipRuntime,
    ir::{
        AddressType, DeviceProperties, ElemType, FloatKind, HardwareProperties,
        MemoryDeviceProperties, StorageType, VectorSize,
    },
    profile::TimingMethod,
};

/// Compute capability 8.0 (A100) and 9.0 (H100, H200).
pub const CUDA: [(&str, Architecture); 2] =
    [("sm_80", Architecture(80)), ("sm_90", Architecture(90))];

/// CDNA 2 (planes of 64 units) and RDNA 3 (planes of 32).
pub const HIP: [(&str, Architecture); 2] = [
    ("gfx90a", Architecture(90)),
    ("gfx1100", Architecture(1100)),
];

impl Target for CudaRuntime {
    fn options(device: Architecture) -> Options<Self> {
        let mut options = Options::<Self>::default();
        let features = &mut options.supports_features;
        features.fast_math = true;
        features.grid_constants = true;
        // CUDA 12.8 and later.
        features.fast_tanh = true;
        features.clusters = device.0 >= 90;
        features.elect_sync = device.0 >= 90;
        options
    }

    fn properties(device: Architecture) -> DeviceProperties {
        let hopper = device.0 >= 90;
        properties(
            32,
            if hopper { 227 << 10 } else { 163 << 10 },
            if hopper { 141 << 30 } else { 80 << 30 },
            Some(if hopper { 132 } else { 108 }),
        )
    }

    fn shared_memory(kernel: &Representation<Self>) -> usize {
        kernel.shared_memory_size()
    }
}

impl Target for HipRuntime {
    fn options(device: Architecture) -> Options<Self> {
        let mut options = Options::<Self>::default();
        let features = &mut options.supports_features;
        features.fast_math = true;
        options.warp_size = plane(device);
        options
    }

    fn properties(device: Architecture) -> DeviceProperties {
        // Enough for buffers that are indexed in 64 bits.
        properties(plane(device), 64 << 10, 96 << 30, None)
    }

    fn shared_memory(kernel: &Representation<Self>) -> usize {
        kernel.shared_memory_size()
    }
}

fn plane(device: Architecture) -> u32 {
    if device == HIP[0].1 { 64 } else { 32 }
}

fn properties(plane: u32, shared: usize, memory: u64, processors: Option<u32>) -> DeviceProperties {
    let hardware = HardwareProperties {
        load_width: 128,
        plane_size_min: plane,
        plane_size_max: plane,
        max_bindings: 1024,
        max_shared_memory_size: shared,
        max_cube_count: (i32::MAX as u32, u32::from(u16::MAX), u32::from(u16::MAX)),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: processors,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        max_vector_size: VectorSize::MAX,
    };
    let memory = MemoryDeviceProperties {
        max_page_size: memory / 4,
        alignment: 512,
    };
    let mut properties =
        DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System);
    properties.register_address_type(AddressType::U32);
    properties.register_address_type(AddressType::U64);
    // bf16 on NVIDIA only: the HIP headers this compiles with (Debian's 5.2) have none.
    let nvidia = processors.is_some();
    let halves = [(FloatKind::F16, true), (FloatKind::BF16, nvidia)];
    for (half, _) in halves.into_iter().filter(|(_, there)| *there) {
        let half = StorageType::Scalar(ElemType::Float(half));
        properties.register_type_usage(half, TypeUsage::all());
    }
    if nvidia {
        let float = |kind| StorageType::Scalar(ElemType::Float(kind));
        properties.features.matmul.mma.insert(MmaConfig {
            a_type: float(FloatKind::BF16),
            b_type: float(FloatKind::BF16),
            cd_type: float(FloatKind::F32),
            m: 16,
            n: 8,
            k: 16,
        });
    }
    properties.features.plane.insert(Plane::Ops);
    properties
        .features
        .plane
        .insert(Plane::NonUniformControlFlow);
    properties
}
