//! Bounding the k-th smallest of some keys.

use crate::rows::PANEL;
use pulp::{Simd, WithSimd};

/// A key that at least `k` of the buffer's keys do not exceed, and not many more.
pub(super) struct KthBound<'a> {
    pub keys: &'a [f32],
    pub k: usize,
}

impl WithSimd for KthBound<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let spare = self.k + self.k / 8 + 1;
        kth_bound(self.keys, self.k, spare)
    }
}

/// The smallest and the largest of some keys, none of which is NaN.
#[inline(always)]
fn extremes(keys: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; PANEL], [f32::NEG_INFINITY; PANEL]);
    let (chunks, rest) = keys.as_chunks::<PANEL>();
    for chunk in chunks {
        for lane in 0..PANEL {
            low[lane] = if chunk[lane] < low[lane] {
                chunk[lane]
            } else {
                low[lane]
            };
            high[lane] = if chunk[lane] > high[lane] {
                chunk[lane]
            } else {
                high[lane]
            };
        }
    }
    for &key in rest {
        low[0] = low[0].min(key);
        high[0] = high[0].max(key);
    }
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (low, high)
}

/// Halvings before a selection takes over.
const HALVINGS: usize = 14;

/// A value that at least `k` keys do not exceed and, when halving the range of keys finds one, at
/// most `enough` do not. Keys are finite.
#[inline(always)]
pub(super) fn kth_bound(keys: &[f32], k: usize, enough: usize) -> f32 {
    let (mut low, mut high) = extremes(keys);
    if k == 1 {
        return low;
    }
    let mut count = keys.len();
    for _ in 0..HALVINGS {
        if count <= enough {
            return high;
        }
        let middle = low + (high - low) * 0.5;
        if !(middle > low && middle < high) {
            break;
        }
        let below = keys
            .iter()
            .map(|&key| u32::from(key <= middle))
            .sum::<u32>() as usize;
        if below >= k {
            (high, count) = (middle, below);
        } else {
            low = middle;
        }
    }
    if count <= k + keys.len() / 8 {
        return high;
    }
    *keys
        .to_vec()
        .select_nth_unstable_by(k - 1, f32::total_cmp)
        .1
}
