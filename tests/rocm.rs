//! The suite on ROCm, raw and under fusion.
//!
//! Without a device the tests print a reason and pass; `BURN_IVF_REQUIRE_GPU=1` makes them fail.
#![cfg(feature = "rocm")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

gpu!("hip", cubecl::hip::HipRuntime, u8, burn::backend::Rocm);
mount!(raw, Raw, crate::device());
mount!(fusion, Fused, crate::device());
