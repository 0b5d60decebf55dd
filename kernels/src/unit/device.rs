//! The GPU kernel: one cube per row.

use super::KEPT;
use crate::{
    KernelError,
    device::{Gpu, array, claim},
};
use cubecl::{prelude::*, server::Handle};

/// Units that share a row; always as many, so that the order of a sum is fixed.
const UNITS: usize = 32;

/// [`super::unit_rows`] of `rows`, f32 `[n, d]`, contiguous, into a new buffer.
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot hold the result.
pub fn unit_rows_on<R: Runtime>(
    gpu: &Gpu<R>,
    rows: &Handle,
    (n, d): (usize, usize),
) -> Result<Handle, KernelError> {
    let len = n.saturating_mul(d);
    let out = gpu.empty("vectors of length 1", len)?;
    if len == 0 {
        return Ok(out);
    }
    let address = gpu.address("vectors of length 1", len)?;
    // SAFETY: cubes past the last row stop at once; columns end at d.
    unsafe {
        scale::launch_unchecked::<R>(
            gpu.client(),
            gpu.grid(n),
            CubeDim::new_1d(UNITS as u32),
            address,
            array(rows, len),
            array(&out, len),
            n as u32,
            d as u32,
            KEPT,
        );
    }
    Ok(out)
}

/// The power of two that brings a finite, normal f32 into `1..4`.
#[cube]
fn down(largest: f32) -> f32 {
    let exponent = min(u32::reinterpret(largest) >> 23u32, 253u32);
    f32::reinterpret((254u32 - exponent) << 23u32)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn scale(rows: &Array<f32>, out: &mut Array<f32>, n: u32, d: u32, kept: f32) {
    let row = CUBE_POS;
    if row >= n as usize {
        terminate!();
    }
    let mut largest = SharedMemory::<u32>::new(UNITS);
    let mut sums = SharedMemory::<u32>::new(UNITS);
    claim::words(&mut largest);
    claim::words(&mut sums);
    sync_cube();
    let unit = UNIT_POS as usize;
    let d = d as usize;
    let first = row * d;
    // The largest component; bits of infinity and NaN are above those of every number.
    let mut bits: u32 = 0u32.runtime();
    let mut t = unit;
    while t < d {
        bits = max(bits, u32::reinterpret(rows[first + t]) & 0x7FFF_FFFFu32);
        t += UNITS;
    }
    largest[unit] = bits;
    sync_cube();
    let mut top: u32 = 0u32.runtime();
    for i in 0..UNITS {
        top = max(top, largest[i]);
    }
    let special = top >= 0x7F80_0000u32;
    let zero = top < 0x0080_0000u32;
    let factor = if special || zero {
        1.0f32.runtime()
    } else {
        down(f32::reinterpret(top))
    };
    let mut sum = 0.0f32.runtime();
    let mut t = unit;
    while t < d {
        let v = rows[first + t] * factor;
        sum = fma(v, v, sum);
        t += UNITS;
    }
    sums[unit] = u32::reinterpret(sum);
    sync_cube();
    let mut norm2 = 0.0f32.runtime();
    for i in 0..UNITS {
        norm2 += f32::reinterpret(sums[i]);
    }
    let norm = f32::sqrt(norm2);
    let keep = special || f32::abs(norm2 / factor / factor - 1.0f32) <= kept;
    let mut t = unit;
    while t < d {
        let v = rows[first + t];
        let mut scaled = v;
        if zero {
            scaled = 0.0f32;
        } else if !keep {
            scaled = v * factor / norm;
        }
        out[first + t] = scaled;
        t += UNITS;
    }
}
