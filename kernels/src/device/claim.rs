//! Claiming shared memory.
//!
//! CubeCL 0.10 lays several shared arrays over each other where it thinks that they are not in use
//! at the same time (SPIR-V, CUDA, HIP). Its allocator looks at one block of code at a time, and
//! may overlap two arrays that meet only in a later block (`allocate_slices` in cubecl-opt: read there,
//! not seen to happen). If all arrays are first touched in one straight
//! stretch of code, every block has all of them in use or none, and nothing can overlap. So each
//! kernel creates and touches all of its arrays before its first branch after the grid check, and
//! calls [`sync_cube`] before it fills them.

use cubecl::prelude::*;

/// Touches words.
#[cube]
pub fn words(array: &mut SharedMemory<u32>) {
    array[0] = 0u32;
}

/// Touches counters, and sets the first to 0.
///
/// Not by a store: of two atomic stores of one value in a stretch of code, to different arrays, CubeCL
/// 0.10 keeps the first alone when it makes SPIR-V.
#[cube]
pub fn counters(array: &SharedMemory<Atomic<u32>>) {
    array[0].fetch_min(0u32);
}

/// Touches vectors.
#[cube]
pub fn vectors<N: Size>(array: &mut SharedMemory<Vector<f32, N>>) {
    array[0] = Vector::<f32, N>::new(0.0f32);
}
