//! The suite on wgpu under fusion, as Burn's `Wgpu` is; raw, what fusion could hide.
//!
//! Without a device the tests print a reason and pass; `BURN_IVF_REQUIRE_GPU=1` makes them fail.
#![cfg(feature = "wgpu")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

use burn::tensor::Tensor;
use burn_ivf::{Error, IndexFlat, Metric};

gpu!("wgpu", cubecl::wgpu::WgpuRuntime, u32, burn::backend::Wgpu);
mount_wrapped!(raw, Raw, crate::device());
mount!(fusion, Fused, crate::device());

/// A result larger than the device's largest buffer is an error with numbers, before any work.
#[test]
fn results_beyond_the_largest_buffer_are_refused() {
    let Some(device) = device() else { return };
    let client = <cubecl::wgpu::WgpuRuntime as cubecl::Runtime>::client(&device);
    let limit = client.properties().memory.max_page_size as usize;
    let mut index = IndexFlat::<Raw>::new(2, Metric::L2, &device).unwrap();
    index.add(Tensor::ones([3, 2], &device)).unwrap();
    let (nq, most) = (1000, u32::MAX as usize / 1000);
    let k = (limit / (4 * nq) + 1).min(most);
    if 4 * nq * k <= limit {
        eprintln!("skipped: this device's buffers hold more results than can be counted");
        return;
    }
    let queries = || Tensor::ones([nq, 2], &device);
    match index.search(queries(), k).map(|_| ()) {
        Err(Error::DeviceLimit {
            bytes,
            limit: found,
            ..
        }) => {
            assert!(bytes > found && found == limit, "{bytes} {found} {limit}");
        }
        other => panic!("{other:?}"),
    }
    // The device is well.
    assert_eq!(index.search(queries(), 2).unwrap().to_vecs().1[..2], [0, 1]);
}
