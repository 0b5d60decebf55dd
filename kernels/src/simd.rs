//! The only place that looks at the instruction set.
//!
//! Kernels are written once over [`pulp::Simd`]; [`Isa`] picks the version to run, at run time.
//! Kernels that need other instructions, dot products of bf16 (AVX-512) and of 16-bit integers (AVX2),
//! are taken where `Isa::bf16` and `Isa::integers` say so. Every version returns the same bits: final distances follow
//! the order fixed in [`crate::distance`] and use fused multiply-add everywhere (in software where
//! the processor has none).

#[cfg(target_arch = "x86_64")]
use crate::compact::avx512;
use crate::{
    compact,
    order::Slot,
    rows::{PANEL, half, planes},
};
use pulp::{Scalar, Simd, WithSimd};
use std::sync::OnceLock;

/// An instruction set this processor has.
///
/// Made by [`Isa::detect`] or [`Isa::available`], so that one the processor lacks cannot be named.
#[derive(Debug, Clone, Copy)]
pub struct Isa(Kind);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(pulp::x86::V4, Bf16),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

/// Proof that the processor has AVX2 and fused multiply-add.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// Proof that the processor has AVX-512 with dot products of bf16.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bf16(());

#[cfg(target_arch = "x86_64")]
impl Bf16 {
    fn try_new() -> Option<Self> {
        (is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl"))
        .then_some(Self(()))
    }
}

impl Isa {
    /// The instruction set to use: the best of this processor, or the one the environment variable
    /// `BURN_IVF_ISA` names (read once; a name this processor has not is reported through `log`
    /// and ignored).
    pub fn detect() -> Self {
        static CHOICE: OnceLock<Isa> = OnceLock::new();
        *CHOICE.get_or_init(|| {
            let sets = Self::available();
            let best = *sets.last().unwrap_or(&Self::portable());
            let Ok(name) = std::env::var("BURN_IVF_ISA") else {
                return best;
            };
            let asked = sets.iter().find(|isa| isa.name() == name);
            asked.copied().unwrap_or_else(|| {
                let present: Vec<_> = sets.iter().map(|isa| isa.name()).collect();
                log::warn!(
                    "BURN_IVF_ISA={name}: this processor has {present:?}; taking {}",
                    best.name()
                );
                best
            })
        })
    }

    /// Plain scalar code, which every processor runs.
    pub const fn portable() -> Self {
        Self(Kind::Portable)
    }

    /// Every instruction set of this processor, the best last.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(pulp::x86::V3::try_new().map(|t| Self(Kind::Avx2(t))));
            if let Some(token) = pulp::x86::V4::try_new() {
                sets.push(Self(Kind::Avx512(token)));
                sets.extend(Bf16::try_new().map(|bf16| Self(Kind::Avx512Bf16(token, bf16))));
            }
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(pulp::aarch64::Neon::try_new().map(|t| Self(Kind::Neon(t))));
        sets
    }

    /// Its name: `"avx512bf16"`, `"avx512"`, `"avx2"`, `"neon"` or `"portable"`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16(..) => "avx512bf16",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
        }
    }

    /// Proof that dot products of bf16 may be used, where they may.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn bf16(self) -> Option<Bf16> {
        match self.0 {
            Kind::Avx512Bf16(_, bf16) => Some(bf16),
            _ => None,
        }
    }

    /// Proof of AVX2 where the filter is computed in f32.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn avx2(self) -> Option<Avx2> {
        match self.0 {
            Kind::Avx2(_) | Kind::Avx512(_) => Some(Avx2(())),
            _ => None,
        }
    }

    /// Proof of AVX2 where products of 16-bit integers are the quickest filter.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn integers(self) -> Option<Avx2> {
        matches!(self.0, Kind::Avx2(_)).then_some(Avx2(()))
    }

    /// Whether products of 16-bit integers are the quickest filter.
    pub(crate) fn has_integers(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.integers().is_some();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether a filter rounds queries to bf16 too.
    pub(crate) fn rounds_queries(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.bf16().is_some();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// [`planes::read_row`] by the instructions at hand.
    #[inline(always)]
    pub(crate) fn read_row(self, panel: &[u16], place: usize, low: &[u16], out: &mut [f32]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value says that the processor has AVX2.
            Kind::Avx2(_) | Kind::Avx512(_) | Kind::Avx512Bf16(..) => unsafe {
                planes::read_row_avx2(panel, place, low, out);
            },
            _ => planes::read_row(panel, place, low, out),
        }
    }

    /// [`planes::widen_step`] by the instructions at hand.
    #[inline(always)]
    pub(crate) fn widen(
        self,
        panel: &[u16],
        steps: usize,
        step: usize,
        out: &mut [f32; planes::PIECE * PANEL],
    ) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value says that the processor has AVX2.
            Kind::Avx2(_) => unsafe { planes::widen_step_avx2(panel, steps, step, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value says that the processor has AVX-512F and AVX-512BW.
            Kind::Avx512(_) | Kind::Avx512Bf16(..) => unsafe {
                planes::widen_step_avx512(panel, steps, step, out);
            },
            _ => planes::widen_step(panel, steps, step, out),
        }
    }

    /// Writes f16 values as f32.
    #[inline(always)]
    pub(crate) fn widen_f16(self, values: &[u16], out: &mut [f32]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value says that the processor has AVX-512F.
            Kind::Avx512(_) | Kind::Avx512Bf16(..) => unsafe {
                half::widen_f16_avx512(values, out);
            },
            _ => half::widen_f16(values, out),
        }
    }

    /// [`compact::keep`] by the instructions at hand.
    #[inline(always)]
    pub(crate) fn keep(self, keys: &mut [f32], at: &mut [Slot], limit: f32) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value says that the processor has AVX-512F.
            Kind::Avx512(_) | Kind::Avx512Bf16(..) => unsafe { avx512::keep(keys, at, limit) },
            _ => compact::keep(keys, at, limit),
        }
    }

    /// [`compact::pass`] by the instructions at hand.
    #[inline(always)]
    pub(crate) fn pass(self, keys: &[f32], at: &[Slot], limit: f32, rows: &mut Vec<Slot>) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value says that the processor has AVX-512F.
            Kind::Avx512(_) | Kind::Avx512Bf16(..) => unsafe {
                avx512::pass(keys, at, limit, rows);
            },
            _ => compact::pass(keys, at, limit, rows),
        }
    }

    /// Runs `op` compiled for this instruction set.
    #[inline]
    pub(crate) fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self.0 {
            Kind::Portable => Simd::vectorize(Scalar::new(), op),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(simd) | Kind::Avx512Bf16(simd, _) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(simd) => Simd::vectorize(simd, op),
        }
    }
}

/// Asks for the cache line at an address, which may lie anywhere; does nothing where there is no
/// such instruction.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing the program can see; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// [`prefetch`] into the second cache, for what is read later.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch_later<T>(at: *const T) {
    use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}
