//! Every CubeCL backend (CUDA, HIP, WGSL, SPIR-V, MSL): the portable bodies, for now.

use super::{Capabilities, IvfBackend, portable::PortableLists};
use burn::tensor::{Int, Tensor, backend::DeviceOps};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::server::ComputeServer;

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

    type Lists = PortableLists<Self>;

    fn capabilities(device: &Self::Device) -> Capabilities {
        let client = R::client(device);
        let matmul = &client.properties().features.matmul;
        // With tensor cores Burn's f32 product may run as tf32, which keeps 10 bits.
        let tensor_cores = !(matmul.cmma.is_empty() && matmul.mma.is_empty());
        Capabilities {
            fused_scan: false,
            kernel: format!("portable ({})", R::name(&client)),
            host: false,
            matmul_input_roundoff: if tensor_cores { 2_f64.powi(-10) } else { 0.0 },
        }
    }
}
