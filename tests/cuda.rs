//! The suite on CUDA, raw and under fusion.
//!
//! Without a device the tests print a reason and pass; `BURN_IVF_REQUIRE_GPU=1` makes them fail.
#![cfg(feature = "cuda")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

use burn::backend::Cuda;
use burn::tensor::{Device, backend::Backend};
use burn_cubecl::CubeBackend;
use std::sync::OnceLock;

type Raw = CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;
type Fused = Cuda;

/// The device, opened once.
fn device() -> Option<Device<Raw>> {
    static DEVICE: OnceLock<Option<Device<Raw>>> = OnceLock::new();
    DEVICE
        .get_or_init(|| suite::open::open::<Raw>("cuda"))
        .clone()
}

mount!(raw, Raw, crate::device());
mount!(fusion, Fused, crate::device());

/// The runtime is the one this target is about, and fusion is really there.
#[test]
fn runtime_is_named() {
    if let Some(device) = device() {
        let name = Raw::name(&device);
        assert!(name.starts_with("cubecl<cuda"), "{name}");
        assert_eq!(Fused::name(&device), format!("fusion<{name}>"));
    }
}
