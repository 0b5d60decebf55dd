//! The distance of [`mod@crate::distance`], written for GPUs: the same 16 partial sums.
//!
//! A vector of four components holds four neighbouring partial sums; four of them, in one unit or
//! one each in four units of a plane, are all sixteen. The tree of additions is the same, so both
//! forms return the same bits, and where the device's fused multiply-add is fused, those of the CPU.

use super::{
    lanes::{NEXT, NEXT_BUT_ONE, lane},
    queue::is_special,
};
use crate::Metric;
use cubecl::prelude::*;

/// How rows are compared, at compile time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Compare {
    /// Squared L2 distance (else inner product).
    pub l2: bool,
    /// Vectors of four components in a row.
    pub vectors: usize,
    /// Units that read one row together: 1 or 4.
    pub lanes: u32,
}

impl Compare {
    /// The comparison of padded rows of `padded` components.
    pub fn new(metric: Metric, padded: usize, lanes: u32) -> Self {
        Self {
            l2: metric == Metric::L2,
            vectors: padded / super::VECTOR,
            lanes,
        }
    }

    /// Vectors of a row that one unit reads at most.
    pub const fn each(self) -> usize {
        self.vectors.div_ceil(self.lanes as usize)
    }

    /// Whether all units of a row read a vector when they read their `i`-th.
    pub const fn is_whole(self, i: usize) -> bool {
        (i + 1) * self.lanes as usize <= self.vectors
    }
}

/// Scale that keeps any product of two f32 far inside the range: 2⁻⁸⁰.
const DOWN: f32 = 8.271_806e-25;
/// Its inverse.
const UP: f32 = 1.208_925_8e24;

/// The key (smaller is better) of the row that starts at vector `row`: never NaN for finite
/// vectors. All `lanes` units of a row must call it together; each gets the key.
///
/// `zero` is 0, but not to a compiler: it would turn the first multiply-add into a product, and some
/// then fuse that with the next addition, one way in one kernel and another way in the next.
#[cube]
pub fn key<F: Float, N: Size>(
    query: &Slice<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    row: usize,
    zero: f32,
    #[comptime] compare: Compare,
) -> f32 {
    let sum = if comptime!(compare.lanes == 4) {
        let mut sum = Vector::<f32, N>::new(zero);
        let lane = lane(compare.lanes) as usize;
        for i in 0..comptime!(compare.vectors / 4) {
            let at = i * 4 + lane;
            sum = step::<N>(query[at], wide::<F, N>(rows[row + at]), sum, compare);
        }
        if comptime!(compare.vectors % 4 > 0) {
            let at = comptime!(compare.vectors / 4 * 4) + lane;
            if at < compare.vectors {
                sum = step::<N>(query[at], wide::<F, N>(rows[row + at]), sum, compare);
            }
        }
        fold::<N>(halves::<N>(sum))
    } else {
        let mut a = Vector::<f32, N>::new(zero);
        let mut b = Vector::<f32, N>::new(zero);
        let mut c = Vector::<f32, N>::new(zero);
        let mut d = Vector::<f32, N>::new(zero);
        for i in 0..comptime!(compare.vectors / 4) {
            let at = i * 4;
            a = step::<N>(query[at], wide::<F, N>(rows[row + at]), a, compare);
            b = step::<N>(query[at + 1], wide::<F, N>(rows[row + at + 1]), b, compare);
            c = step::<N>(query[at + 2], wide::<F, N>(rows[row + at + 2]), c, compare);
            d = step::<N>(query[at + 3], wide::<F, N>(rows[row + at + 3]), d, compare);
        }
        let tail = comptime!(compare.vectors / 4 * 4);
        if comptime!(compare.vectors % 4 > 0) {
            a = step::<N>(query[tail], wide::<F, N>(rows[row + tail]), a, compare);
        }
        if comptime!(compare.vectors % 4 > 1) {
            b = step::<N>(
                query[tail + 1],
                wide::<F, N>(rows[row + tail + 1]),
                b,
                compare,
            );
        }
        if comptime!(compare.vectors % 4 > 2) {
            c = step::<N>(
                query[tail + 2],
                wide::<F, N>(rows[row + tail + 2]),
                c,
                compare,
            );
        }
        fold::<N>((a + c) + (b + d))
    };
    if comptime!(compare.l2) {
        sum
    } else {
        let mut key = 0.0f32 - sum;
        if is_special(key) {
            key = scaled::<F, N>(query, rows, row, zero, compare);
        }
        key
    }
}

/// Components in f32, whatever they are stored as.
#[cube]
pub fn wide<F: Float, N: Size>(stored: Vector<F, N>) -> Vector<f32, N> {
    Vector::<f32, N>::cast_from(stored)
}

/// One term of four partial sums.
#[cube]
pub fn step<N: Size>(
    query: Vector<f32, N>,
    row: Vector<f32, N>,
    sum: Vector<f32, N>,
    #[comptime] compare: Compare,
) -> Vector<f32, N> {
    if comptime!(compare.l2) {
        let difference = row - query;
        fma(difference, difference, sum)
    } else {
        fma(row, query, sum)
    }
}

/// The last four partial sums of the sixteen that four units hold.
#[cube]
pub fn halves<N: Size>(sum: Vector<f32, N>) -> Vector<f32, N> {
    // 0..8 with 8..16, then 0..4 with 4..8.
    let near = sum + exchange::<N>(sum, NEXT_BUT_ONE);
    near + exchange::<N>(near, NEXT)
}

/// The four sums of another unit of the plane.
#[cube]
pub fn exchange<N: Size>(sum: Vector<f32, N>, #[comptime] mask: u32) -> Vector<f32, N> {
    let mut other = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        other[i] = plane_shuffle_xor(sum[i], mask);
    }
    other
}

/// The sum of the last four partial sums.
#[cube]
pub fn fold<N: Size>(sum: Vector<f32, N>) -> f32 {
    (sum[0] + sum[2]) + (sum[1] + sum[3])
}

/// The key of an inner product whose sum left the range on the way: summed small, then scaled back.
#[cube]
pub fn scaled<F: Float, N: Size>(
    query: &Slice<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    row: usize,
    zero: f32,
    #[comptime] compare: Compare,
) -> f32 {
    let mut sum = Vector::<f32, N>::new(zero);
    let down = Vector::<f32, N>::new(DOWN);
    // Rare, so a loop that is not unrolled: unrolled it would take the registers of the common path.
    for i in 0..comptime!(compare.vectors).runtime() {
        sum = fma(query[i] * down, wide::<F, N>(rows[row + i]) * down, sum);
    }
    let half = (0.0f32 - fold::<N>(sum)) * UP;
    // Always `UP`, but not to a compiler that would multiply the two constants to infinity first.
    half * min(UP, UP + f32::abs(half))
}

/// Copies query `at` to shared memory and says whether all of its components are finite.
#[cube]
pub fn is_searchable<N: Size>(
    queries: &Array<Vector<f32, N>>,
    at: usize,
    shared: &mut SharedMemory<Vector<f32, N>>,
    flag: &SharedMemory<Atomic<u32>>,
    #[comptime] compare: Compare,
    #[comptime] keep: bool,
) -> bool {
    sync_cube();
    if UNIT_POS == 0 {
        flag[0].store(0u32);
    }
    sync_cube();
    let mut special: u32 = 0u32.runtime();
    let mut i = UNIT_POS as usize;
    while i < compare.vectors {
        let v = queries[at + i];
        if comptime!(keep) {
            shared[i] = v;
        }
        #[unroll]
        for j in 0..4usize {
            if is_special(v[j]) {
                special = 1u32;
            }
        }
        i += CUBE_DIM as usize;
    }
    if special == 1u32 {
        flag[0].fetch_max(1u32);
    }
    sync_cube();
    flag[0].load() == 0u32
}
