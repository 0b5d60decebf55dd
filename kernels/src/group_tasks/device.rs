//! The GPU kernels: histogram, scan, scatter.

use crate::{
    KernelError,
    device::{Gpu, array, scan::running_sums},
};
use cubecl::{prelude::*, server::Handle};

/// Pairs in order of their lists.
#[derive(Debug, Clone)]
pub struct Grouped {
    /// u32 `[nlist + 1]`.
    pub offsets: Handle,
    /// u32 `[nq · nprobe]`.
    pub pairs: Handle,
}

/// Groups `pairs` probes (u32, list numbers or [`crate::list_scan::SKIP`]) by list, those from `first`
/// on; pairs are counted from there.
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot hold the answer.
pub fn group_on<R: Runtime>(
    gpu: &Gpu<R>,
    probes: &Handle,
    (first, pairs): (usize, usize),
    nlist: usize,
) -> Result<Grouped, KernelError> {
    let units = gpu.facts().units.min(256);
    let counts = gpu.empty("pairs of lists", nlist)?;
    let offsets = gpu.empty("offsets of lists", nlist + 1)?;
    let grouped = gpu.empty("pairs in order of lists", pairs)?;
    let client = gpu.client();
    let dim = CubeDim::new_1d(units);
    let part = || PartLaunch::new(first as u32, pairs as u32, nlist as u32);
    let cubes = |items: usize| items.div_ceil(units as usize).clamp(1, 1 << 16);
    // SAFETY: every index is below the length passed: pairs, lists, or a place below the number of
    // pairs counted.
    unsafe {
        clear::launch_unchecked::<R>(
            client,
            gpu.grid(cubes(nlist)),
            dim,
            array(&counts, nlist),
            nlist as u32,
        );
        count::launch_unchecked::<R>(
            client,
            gpu.grid(cubes(pairs)),
            dim,
            array(probes, first + pairs),
            array(&counts, nlist),
            part(),
        );
        accumulate::launch_unchecked::<R>(
            client,
            gpu.grid(1),
            dim,
            array(&counts, nlist),
            array(&offsets, nlist + 1),
            nlist as u32,
            units as usize,
        );
        scatter::launch_unchecked::<R>(
            client,
            gpu.grid(cubes(pairs)),
            dim,
            array(probes, first + pairs),
            array(&counts, nlist),
            array(&grouped, pairs),
            part(),
        );
    }
    Ok(Grouped {
        offsets,
        pairs: grouped,
    })
}

/// The probes that are grouped.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Part {
    /// The first, and how many.
    first: u32,
    pairs: u32,
    /// Lists there are; a probe that names another reads nothing.
    nlist: u32,
}

#[cube(launch_unchecked)]
fn clear(counts: &mut Array<u32>, nlist: u32) {
    let mut i = ABSOLUTE_POS;
    while i < nlist as usize {
        counts[i] = 0u32;
        i += CUBE_COUNT * CUBE_DIM as usize;
    }
}

/// Pairs of every list.
#[cube(launch_unchecked)]
fn count(probes: &Array<u32>, counts: &mut Array<Atomic<u32>>, part: Part) {
    let mut from = 0usize.runtime();
    while from < part.pairs as usize {
        let i = from + ABSOLUTE_POS;
        if i < part.pairs as usize {
            let list = probes[part.first as usize + i];
            if list < part.nlist {
                counts[list as usize].fetch_add(1u32);
            }
        }
        from += CUBE_COUNT * CUBE_DIM as usize;
    }
}

/// Turns counts into the first place of every list (kept in `counts` too, as the next free place).
/// One cube.
#[cube(launch_unchecked)]
fn accumulate(
    counts: &mut Array<u32>,
    offsets: &mut Array<u32>,
    nlist: u32,
    #[comptime] units: usize,
) {
    if CUBE_POS > 0 {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let mut sums = SharedMemory::<u32>::new(units);
    let mut before = 0u32.runtime();
    let mut base = 0usize.runtime();
    while base < nlist as usize {
        let i = base + unit;
        let mut own = 0u32.runtime();
        if i < nlist as usize {
            own = counts[i];
        }
        sums[unit] = own;
        running_sums(&mut sums, units);
        if i < nlist as usize {
            let first = before + sums[unit] - own;
            offsets[i] = first;
            counts[i] = first;
        }
        before += sums[comptime!(units - 1)];
        sync_cube();
        base += units;
    }
    if unit == 0 {
        offsets[nlist as usize] = before;
    }
}

#[cube(launch_unchecked)]
fn scatter(
    probes: &Array<u32>,
    next: &mut Array<Atomic<u32>>,
    grouped: &mut Array<u32>,
    part: Part,
) {
    let mut from = 0usize.runtime();
    while from < part.pairs as usize {
        let i = from + ABSOLUTE_POS;
        if i < part.pairs as usize {
            let list = probes[part.first as usize + i];
            if list < part.nlist {
                let place = next[list as usize].fetch_add(1u32);
                grouped[place as usize] = i as u32;
            }
        }
        from += CUBE_COUNT * CUBE_DIM as usize;
    }
}
