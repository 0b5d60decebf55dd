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

gpu!("cuda", cubecl::cuda::CudaRuntime, u8, burn::backend::Cuda);
mount!(raw, Raw, crate::device());
mount!(fusion, Fused, crate::device());
