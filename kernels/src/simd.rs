//! The only place that looks at the instruction set.
//!
//! Kernels are written once over [`pulp::Simd`]; [`Isa`] picks the version to run, at run time.
//! Every version returns the same bits: sums follow the order fixed in [`crate::distance`] and
//! use fused multiply-add everywhere (in software where the processor has none).

use pulp::{Scalar, Simd, WithSimd};

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
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl Isa {
    /// The best instruction set of this processor.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(token) = pulp::x86::V4::try_new() {
                return Self(Kind::Avx512(token));
            }
            if let Some(token) = pulp::x86::V3::try_new() {
                return Self(Kind::Avx2(token));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(token) = pulp::aarch64::Neon::try_new() {
            return Self(Kind::Neon(token));
        }
        Self::portable()
    }

    /// Plain scalar code, which every processor runs.
    pub const fn portable() -> Self {
        Self(Kind::Portable)
    }

    /// Every instruction set of this processor, for tests that force each in turn.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(pulp::x86::V3::try_new().map(|t| Self(Kind::Avx2(t))));
            sets.extend(pulp::x86::V4::try_new().map(|t| Self(Kind::Avx512(t))));
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(pulp::aarch64::Neon::try_new().map(|t| Self(Kind::Neon(t))));
        sets
    }

    /// Its name: `"avx512"`, `"avx2"`, `"neon"` or `"portable"`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
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
            Kind::Avx512(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(simd) => Simd::vectorize(simd, op),
        }
    }
}
