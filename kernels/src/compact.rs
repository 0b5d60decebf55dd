//! Keeping the rows whose key does not exceed a limit: which do is hard to predict, so there is no branch.

use crate::order::Slot;

/// Moves what passes to the front, in order; how many that is.
#[inline(always)]
pub(crate) fn keep(keys: &mut [f32], at: &mut [Slot], limit: f32) -> usize {
    assert_eq!(keys.len(), at.len(), "a place for every key");
    let mut kept = 0;
    for i in 0..keys.len() {
        (keys[kept], at[kept]) = (keys[i], at[i]);
        kept += usize::from(keys[kept] <= limit);
    }
    kept
}

/// Adds the places of what passes to `rows`, in order.
#[inline(always)]
pub(crate) fn pass(keys: &[f32], at: &[Slot], limit: f32, rows: &mut Vec<Slot>) {
    let mut kept = rows.len();
    rows.resize(kept + keys.len(), Slot::NONE);
    for (key, at) in keys.iter().zip(at) {
        rows[kept] = *at;
        kept += usize::from(*key <= limit);
    }
    rows.truncate(kept);
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    //! Sixteen keys at once.

    use super::Slot;
    use core::arch::x86_64::{
        __m512i, _CMP_LE_OQ, _mm512_mask_cmp_ps_mask, _mm512_mask_storeu_epi64,
        _mm512_mask_storeu_ps, _mm512_maskz_compress_epi64, _mm512_maskz_compress_ps,
        _mm512_maskz_loadu_epi64, _mm512_maskz_loadu_ps, _mm512_set1_ps,
    };

    /// Keys at once.
    const LANES: usize = 16;

    /// The lowest `n` of sixteen.
    const fn first(n: usize) -> u16 {
        if n < LANES { (1 << n) - 1 } else { u16::MAX }
    }

    /// [`super::keep`].
    ///
    /// # Safety
    /// The processor has AVX-512F.
    #[target_feature(enable = "avx512f,popcnt")]
    pub(crate) unsafe fn keep(keys: &mut [f32], at: &mut [Slot], limit: f32) -> usize {
        assert_eq!(keys.len(), at.len(), "a place for every key");
        let (keys_to, at_to) = (keys.as_mut_ptr(), at.as_mut_ptr());
        let mut kept = 0;
        for from in (0..keys.len()).step_by(LANES) {
            let live = first(keys.len() - from);
            // SAFETY: masked loads read only the `live` places from `from` on, which the slices hold; what is
            // stored goes to places from `kept <= from` on, no more than were read.
            unsafe {
                let key = _mm512_maskz_loadu_ps(live, keys_to.add(from));
                let slots = load(live, at_to.add(from));
                let mask = _mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(live, key, _mm512_set1_ps(limit));
                let count = mask.count_ones() as usize;
                let packed = _mm512_maskz_compress_ps(mask, key);
                _mm512_mask_storeu_ps(keys_to.add(kept), first(count), packed);
                store(mask, slots, at_to.add(kept));
                kept += count;
            }
        }
        kept
    }

    /// [`super::pass`].
    ///
    /// # Safety
    /// The processor has AVX-512F.
    #[target_feature(enable = "avx512f,popcnt")]
    pub(crate) unsafe fn pass(keys: &[f32], at: &[Slot], limit: f32, rows: &mut Vec<Slot>) {
        assert_eq!(keys.len(), at.len(), "a place for every key");
        rows.reserve(keys.len());
        let mut kept = rows.len();
        for from in (0..keys.len()).step_by(LANES) {
            let live = first(keys.len() - from);
            // SAFETY: masked loads read only the `live` places from `from` on, which the slices hold; `rows` has
            // room for as many slots as there are keys, of which no more than were read are stored.
            unsafe {
                let key = _mm512_maskz_loadu_ps(live, keys.as_ptr().add(from));
                let mask = _mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(live, key, _mm512_set1_ps(limit));
                let slots = load(live, at.as_ptr().add(from));
                store(mask, slots, rows.as_mut_ptr().add(kept));
                kept += mask.count_ones() as usize;
            }
        }
        // SAFETY: so many were there or were stored.
        unsafe { rows.set_len(kept) };
    }

    /// Sixteen slots, those of `live`.
    ///
    /// # Safety
    /// The slots of `live` can be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(live: u16, at: *const Slot) -> [__m512i; 2] {
        // SAFETY: a slot is 8 bytes of plain data (`repr(C)`).
        unsafe {
            [
                _mm512_maskz_loadu_epi64(live as u8, at.cast()),
                // Not read where fewer than nine are live: then it may lie beyond the slots.
                _mm512_maskz_loadu_epi64((live >> 8) as u8, at.wrapping_add(8).cast()),
            ]
        }
    }

    /// Writes the slots of `mask` side by side.
    ///
    /// # Safety
    /// So many slots can be written.
    #[inline]
    #[target_feature(enable = "avx512f,popcnt")]
    unsafe fn store(mask: u16, slots: [__m512i; 2], to: *mut Slot) {
        let (low, high) = (mask as u8, (mask >> 8) as u8);
        let (below, above) = (low.count_ones() as usize, high.count_ones() as usize);
        // SAFETY: `below` slots and after them `above` ones, as many as the mask has.
        unsafe {
            let packed = _mm512_maskz_compress_epi64(low, slots[0]);
            _mm512_mask_storeu_epi64(to.cast(), first(below) as u8, packed);
            let packed = _mm512_maskz_compress_epi64(high, slots[1]);
            _mm512_mask_storeu_epi64(to.add(below).cast(), first(above) as u8, packed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn what_passes_is_kept_in_order() {
        for n in 0..70 {
            // Keys that pass and keys that do not, NaN among them, in no simple rhythm.
            let keys: Vec<f32> = (0..n)
                .map(|i| match i * i % 7 {
                    3 => f32::NAN,
                    r => r as f32,
                })
                .collect();
            let at: Vec<Slot> = (0..n as u32)
                .map(|slot| Slot {
                    list: n as u32,
                    slot,
                })
                .collect();
            for limit in [-1.0, 0.0, 1.0, 2.0, 4.0, f32::INFINITY, f32::NAN] {
                let passing = || keys.iter().zip(&at).filter(|(key, _)| **key <= limit);
                let expected: Vec<Slot> = passing().map(|(_, at)| *at).collect();
                let expected_keys: Vec<f32> = passing().map(|(key, _)| *key).collect();
                for isa in Isa::available() {
                    let (mut kept_keys, mut kept_at) = (keys.clone(), at.clone());
                    let kept = isa.keep(&mut kept_keys, &mut kept_at, limit);
                    assert_eq!(
                        kept_at[..kept],
                        expected,
                        "{} n {n} limit {limit}",
                        isa.name()
                    );
                    assert_eq!(kept_keys[..kept], expected_keys, "{}", isa.name());
                    let mut rows = vec![Slot::NONE; n % 3];
                    isa.pass(&keys, &at, limit, &mut rows);
                    assert_eq!(
                        rows[n % 3..],
                        expected,
                        "{} n {n} limit {limit}",
                        isa.name()
                    );
                }
            }
        }
    }
}
