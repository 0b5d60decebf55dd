//! What only a GPU has: time by its own clock, its memory, its ceilings. Knows the runtime behind a
//! backend, and no index.
#![cfg_attr(
    not(feature = "cube"),
    allow(
        dead_code,
        reason = "a build without a GPU backend has no runtime to fill it with"
    )
)]

use crate::Res;
use serde::Serialize;

/// What the device reaches, measured in the same run by kernels of ours.
#[derive(Serialize, Clone, Copy)]
pub struct Ceilings {
    /// Read and written by a copy of `copied_mib`, GB/s.
    pub copy_gbps: f64,
    /// Multiply-adds in registers, two operations each.
    pub fma_gflops: f64,
    pub copied_mib: usize,
}

/// The device's queue, whatever its runtime.
pub struct Tools {
    time: Timer,
    memory: Box<dyn Fn() -> Option<(u64, u64)>>,
    ceilings: Box<dyn Fn() -> Res<Ceilings>>,
    flush: Box<dyn Fn() -> Res<()>>,
}

/// Milliseconds of what a call launches, and whether the device's own clock says so.
type Timer = Box<dyn Fn(&mut (dyn FnMut() + Send)) -> Option<(f64, bool)>>;

impl Tools {
    pub fn time(&self, work: &mut (dyn FnMut() + Send)) -> Option<(f64, bool)> {
        (self.time)(work)
    }

    /// Bytes in use and bytes held, by CubeCL's own count.
    pub fn memory(&self) -> Option<(u64, u64)> {
        (self.memory)()
    }

    /// Writes more than any cache holds.
    pub fn flush(&self) -> Res<()> {
        (self.flush)()
    }

    pub fn ceilings(&self) -> Res<Ceilings> {
        (self.ceilings)()
    }
}

/// What a CubeCL runtime fills it with.
#[cfg(feature = "cube")]
mod runtime {
    use super::{Ceilings, Tools};
    use crate::Res;
    use burn_ivf_kernels::device::{Gpu, Probe};
    use cubecl::{Runtime, future, profile::TimingMethod, stream_id::StreamId};
    use std::cell::OnceCell;
    use std::time::Instant;

    impl Tools {
        /// Those of the runtime's default device.
        pub fn of<R: Runtime>() -> Self {
            let device = R::Device::default();
            let client = move || R::client(&device);
            let (timed, used, probed) = (client.clone(), client.clone(), client.clone());
            let held = OnceCell::new();
            Self {
                time: Box::new(move |work| {
                    // The profiler may run the call in a thread of its own: the queue stays this thread's.
                    let stream = StreamId::current();
                    let (_, found) = timed()
                        .profile(|| stream.executes(&mut *work), "search")
                        .ok()?;
                    let own = matches!(found.timing_method(), TimingMethod::Device);
                    let ticks = future::block_on(found.resolve());
                    Some((ticks.duration().as_secs_f64() * 1e3, own))
                }),
                memory: Box::new(move || {
                    let usage = used().memory_usage().ok()?;
                    Some((usage.bytes_in_use, usage.bytes_reserved))
                }),
                ceilings: Box::new(move || ceilings::<R>(&Gpu::new(&probed()))),
                flush: Box::new(move || {
                    if held.get().is_none() {
                        // Made where it is first used, so that a run without flushes has the memory.
                        let _ = held.set(probe::<R>(&Gpu::new(&client()))?);
                    }
                    held.get().map_or(Ok(()), |probe| Ok(probe.copy()?))
                }),
            }
        }
    }

    /// Past every cache of a large card; a software device gets less to do.
    fn probe<R: Runtime>(gpu: &Gpu<R>) -> Res<Probe<R>> {
        let facts = gpu.facts();
        let (bytes, cubes) = match facts.processors {
            64.. => (1_usize << 30, 16),
            _ => (64 << 20, 1),
        };
        Ok(Probe::new(gpu, bytes.min(facts.buffer / 2), cubes)?)
    }

    fn ceilings<R: Runtime>(gpu: &Gpu<R>) -> Res<Ceilings> {
        let probe = probe(gpu)?;
        let best = |work: &dyn Fn() -> Res<()>| -> Res<f64> {
            let mut least = f64::INFINITY;
            for _ in 0..7 {
                future::block_on(gpu.client().sync()).map_err(|error| format!("{error:?}"))?;
                let start = Instant::now();
                work()?;
                future::block_on(gpu.client().sync()).map_err(|error| format!("{error:?}"))?;
                least = least.min(start.elapsed().as_secs_f64());
            }
            Ok(least)
        };
        let copied = best(&|| Ok(probe.copy()?))?;
        let added = best(&|| {
            probe.multiply_add();
            Ok(())
        })?;
        Ok(Ceilings {
            copy_gbps: (probe.copied() / copied / 1e8).round() / 10.0,
            fma_gflops: (probe.operations() / added / 1e8).round() / 10.0,
            copied_mib: (probe.copied() as usize / 2) >> 20,
        })
    }
}
