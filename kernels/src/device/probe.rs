//! What a device reaches at most: a copy from memory to memory, and multiply-adds in registers. For
//! benchmarks, which say what share of it a search reaches; the caller holds the clock.

use super::{Gpu, array};
use crate::{KernelError, rows::copy::Copy};
use cubecl::{prelude::*, server::Handle};

/// Multiply-adds of a unit per turn, none of which waits for another.
const CHAINS: usize = 8;
/// Turns of a unit.
const TURNS: u32 = 4096;

/// Buffers and sizes of the probe.
pub struct Probe<R: Runtime> {
    gpu: Gpu<R>,
    from: Handle,
    to: Handle,
    words: usize,
    units: u32,
    cubes: usize,
}

impl<R: Runtime> core::fmt::Debug for Probe<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Probe({:?}, {} words)", self.gpu, self.words)
    }
}

impl<R: Runtime> Probe<R> {
    /// A probe that copies `bytes` (rounded down to 16) and fills the device with `cubes` cubes per
    /// multiprocessor.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device has no buffer of that size.
    pub fn new(gpu: &Gpu<R>, bytes: usize, cubes: usize) -> Result<Self, KernelError> {
        let words = (bytes / 16).max(1) * 4;
        Ok(Self {
            from: gpu.empty("what a probe copies", words)?,
            to: gpu.empty("where a probe copies to", words)?,
            words,
            units: gpu.facts().units.min(256),
            cubes: gpu.facts().processors as usize * cubes.max(1),
            gpu: gpu.clone(),
        })
    }

    /// Bytes that [`copy`](Self::copy) reads and writes.
    pub fn copied(&self) -> f64 {
        8.0 * self.words as f64
    }

    /// Launches one copy.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device cannot index the buffer.
    pub fn copy(&self) -> Result<(), KernelError> {
        let words = self.words;
        let copy = Copy {
            n: words / 4,
            width: 4,
            filled: 4,
            source: (&self.from, words, 4),
            target: (&self.to, words, 4),
        };
        copy.launch(&self.gpu, None, None)
    }

    /// Operations of [`multiply_add`](Self::multiply_add), two each.
    pub fn operations(&self) -> f64 {
        2.0 * CHAINS as f64 * f64::from(TURNS) * f64::from(self.units) * self.cubes as f64
    }

    /// Launches multiply-adds that wait for nothing but each other.
    pub fn multiply_add(&self) {
        // SAFETY: one word is written per unit, at most as many as the buffer has.
        unsafe {
            chains::launch_unchecked::<R>(
                self.gpu.client(),
                self.gpu.grid(self.cubes),
                CubeDim::new_1d(self.units),
                array(&self.to, self.words),
                TURNS,
                0.999,
                self.words as u32,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn chains(out: &mut Array<f32>, turns: u32, by: f32, words: u32) {
    let mut sums = Array::<f32>::new(CHAINS);
    #[unroll]
    for i in 0..CHAINS {
        sums[i] = f32::cast_from(UNIT_POS) + by;
    }
    for _turn in 0..turns {
        #[unroll]
        for i in 0..CHAINS {
            sums[i] = fma(sums[i], by, by);
        }
    }
    let mut all = 0.0f32.runtime();
    #[unroll]
    for i in 0..CHAINS {
        all += sums[i];
    }
    if ABSOLUTE_POS < words as usize {
        out[ABSOLUTE_POS] = all;
    }
}
