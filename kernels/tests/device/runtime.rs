//! The device of this machine.

use cubecl::{Runtime, client::ComputeClient};

#[cfg(feature = "wgpu")]
pub type Device = cubecl::wgpu::WgpuRuntime;
#[cfg(not(feature = "wgpu"))]
pub type Device = cubecl::cuda::CudaRuntime;

pub type Client = ComputeClient<Device>;

/// The device; fails when it is not what `BURN_IVF_EXPECT_DEVICE` names (e.g. `wgpu<spirv>`).
pub fn client() -> Client {
    let client = Device::client(&Default::default());
    if let Ok(expected) = std::env::var("BURN_IVF_EXPECT_DEVICE") {
        assert_eq!(Device::name(&client), expected);
    }
    client
}
