//! The GPU kernels' CUDA and HIP sources, run without a GPU.
//!
//! A kernel is compiled by CubeCL for a device that is not there ([`targets`]), its source by the
//! system's C++ compiler ([`program`]) against a header of ours in place of the vendor's
//! (`device.hpp`), and each unit runs as a coroutine ([`cube`]): planes of 32 units as NVIDIA's and of
//! 64 as AMD's CDNA, with the cube sizes and shared memory of those devices. Units that do not meet
//! where they must, memory beyond a buffer, and what relies on an order of units show; what only a
//! vendor's compiler or hardware does wrong does not. Tensor cores are emulated as PTX describes them.
//!
//! The tests are those of `tests/device`.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "a test fails by panicking; one suite runs on two devices"
)]

mod cube;
mod memory;
mod program;
mod runtime;
#[path = "../sources/target.rs"]
mod target;
#[path = "../sources/targets.rs"]
mod targets;

/// The suite on a device.
macro_rules! device {
    ($(#[$doc:meta])* $name:ident, $runtime:ty, $architecture:expr) => {
        $(#[$doc])*
        #[path = "../device"]
        mod $name {
            mod by_list;
            mod cost;
            mod cover;
            mod edges;
            mod fuzz;
            mod grouping;
            mod hostile;
            mod lists;
            mod pairs;
            mod restricted;
            mod rounds;
            mod scans;
            mod selection;
            mod support;

            mod runtime {
                use cubecl::{Runtime, client::ComputeClient};

                pub type Device = crate::runtime::Emulated<$runtime>;
                pub type Client = ComputeClient<Device>;

                pub fn client() -> Client {
                    Device::client(&$architecture)
                }
            }
        }
    };
}

device!(
    /// sm_90: the H100 and H200.
    cuda,
    cubecl::cuda::CudaRuntime,
    crate::targets::CUDA[1].1
);
device!(
    /// gfx90a: the MI200 series.
    hip,
    cubecl::hip::HipRuntime,
    crate::targets::HIP[0].1
);

/// Kernels that a device would forgive now and then.
mod faults {
    use crate::{runtime::Emulated, targets::CUDA};
    use cubecl::{cuda::CudaRuntime, prelude::*};

    type Device = Emulated<CudaRuntime>;

    /// Unit 0 does not come to the barrier.
    #[cube(launch_unchecked)]
    fn misses_a_barrier(out: &mut Array<u32>) {
        if UNIT_POS > 0u32 {
            sync_cube();
        }
        out[UNIT_POS as usize] = 1u32;
    }

    /// The upper half of a plane does not come to the exchange.
    #[cube(launch_unchecked)]
    fn misses_an_exchange(out: &mut Array<u32>) {
        if UNIT_POS % 32u32 < 16u32 {
            out[UNIT_POS as usize] = plane_shuffle_xor(UNIT_POS, 1u32);
        }
    }

    /// Reads what another unit writes, without a barrier between.
    #[cube(launch_unchecked)]
    fn races(out: &mut Array<u32>) {
        let mut shared = SharedMemory::<u32>::new(64usize);
        shared[UNIT_POS as usize] = 0u32;
        sync_cube();
        shared[UNIT_POS as usize] = UNIT_POS + 1u32;
        out[UNIT_POS as usize] = shared[(UNIT_POS as usize + 1) % 64];
    }

    /// What is left in a buffer of 64 words, or the fault.
    fn run(
        launch: impl FnOnce(&ComputeClient<Device>, ArrayArg<Device>),
    ) -> Result<Vec<u32>, String> {
        let client = Device::client(&CUDA[1].1);
        let handle = client.create_from_slice(bytemuck::cast_slice(&[7_u32; 64]));
        // SAFETY: its length.
        launch(&client, unsafe {
            ArrayArg::from_raw_parts(handle.clone(), 64)
        });
        let read = client
            .read_one(handle)
            .map_err(|error| format!("{error:?}"))?;
        Ok(bytemuck::pod_collect_to_vec(&read))
    }

    fn one() -> CubeCount {
        CubeCount::Static(1, 1, 1)
    }

    #[test]
    fn units_that_do_not_meet_are_found() {
        // SAFETY: a word for each of 64 units.
        let error = run(|client, out| unsafe {
            misses_a_barrier::launch_unchecked(client, one(), CubeDim::new_1d(64), out);
        });
        let error = error.unwrap_err();
        assert!(error.contains("1 units (0, ..) at the end"), "{error}");
        // SAFETY: a word for each of 64 units.
        let error = run(|client, out| unsafe {
            misses_an_exchange::launch_unchecked(client, one(), CubeDim::new_1d(64), out);
        });
        let error = error.unwrap_err();
        assert!(error.contains("32 units"), "{error}");
    }

    #[test]
    fn what_relies_on_an_order_shows() {
        // SAFETY: a word for each of 64 units.
        let found = run(|client, out| unsafe {
            races::launch_unchecked(client, one(), CubeDim::new_1d(64), out);
        });
        let found = found.unwrap();
        let right = |i: usize| (i as u32 + 1) % 64 + 1;
        let wrong = (0..64).filter(|&i| found[i] != right(i)).count();
        assert!((10..55).contains(&wrong), "{found:?}");
    }
}
