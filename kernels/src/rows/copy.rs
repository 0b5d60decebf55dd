//! Copying rows of 32-bit words within a device: appending, growing, gathering, padding.

use super::device::Element;
use crate::{
    KernelError,
    device::{Gpu, VECTOR, array},
};
use cubecl::{prelude::*, server::Handle};
use half::{bf16, f16};

/// Components of a row in memory.
pub(crate) fn padded(d: usize) -> usize {
    d.next_multiple_of(VECTOR)
}

/// Queries `[nq, d]` as rows of `padded` components: themselves where they are.
pub(crate) fn pad_queries<R: Runtime>(
    gpu: &Gpu<R>,
    queries: &Handle,
    nq: usize,
    d: usize,
) -> Result<Handle, KernelError> {
    if d.is_multiple_of(VECTOR) {
        return Ok(queries.clone());
    }
    let padded = padded(d);
    let out = gpu.empty("padded queries", nq.saturating_mul(padded))?;
    let copy = Copy {
        n: nq,
        width: padded,
        source: (queries, nq * d, d),
        target: (&out, nq * padded, padded),
        filled: d,
    };
    copy.launch(gpu, None, None)?;
    Ok(out)
}

/// A copy of `n` rows of 32-bit words, from row to row.
pub(crate) struct Copy<'a> {
    pub n: usize,
    /// Words written per row, the first `filled` from the source, the rest zero.
    pub width: usize,
    pub filled: usize,
    /// Buffer, its length, words from one row to the next.
    pub source: (&'a Handle, usize, usize),
    pub target: (&'a Handle, usize, usize),
}

impl Copy<'_> {
    /// Launches it, bit for bit: from rows `from` (else 0, 1, ..) to rows `to` (else 0, 1, ..).
    pub fn launch<R: Runtime>(
        &self,
        gpu: &Gpu<R>,
        from: Option<&Handle>,
        to: Option<&Handle>,
    ) -> Result<(), KernelError> {
        self.run::<u32, u32, R>(gpu, Round::None, from, to)
    }

    /// [`launch`](Self::launch) of components (then lengths and strides count those) stored in one way
    /// to another.
    pub fn convert<R: Runtime>(
        &self,
        gpu: &Gpu<R>,
        elements: (Element, Element),
        from: Option<&Handle>,
        to: Option<&Handle>,
    ) -> Result<(), KernelError> {
        match elements {
            (Element::F32, Element::F32) => self.launch(gpu, from, to),
            (Element::F32, Element::F16) => self.run::<f32, f16, R>(gpu, Round::F16, from, to),
            (Element::F32, Element::Bf16) => self.run::<f32, bf16, R>(gpu, Round::Bf16, from, to),
            (Element::F16, Element::F32) => self.run::<f16, f32, R>(gpu, Round::None, from, to),
            (Element::Bf16, Element::F32) => self.run::<bf16, f32, R>(gpu, Round::None, from, to),
            // Rows stored alike move as words.
            (Element::F16 | Element::Bf16, Element::F16 | Element::Bf16) => {
                Err(KernelError::Type {
                    element: elements.1,
                    what: "copy",
                })
            }
        }
    }

    fn run<A: Numeric, B: Numeric, R: Runtime>(
        &self,
        gpu: &Gpu<R>,
        round: Round,
        from: Option<&Handle>,
        to: Option<&Handle>,
    ) -> Result<(), KernelError> {
        let (source, source_len, source_stride) = self.source;
        let (target, target_len, target_stride) = self.target;
        let fits = |v: usize| v.is_multiple_of(VECTOR);
        let vector = if fits(self.width)
            && fits(self.filled)
            && fits(source_stride)
            && fits(target_stride)
        {
            VECTOR
        } else {
            1
        };
        let elements = source_len.max(target_len).max(self.n * self.width);
        let address = gpu.address("a copy of vectors", elements)?;
        let units = gpu.facts().units.min(256);
        let items = self.n * self.width / vector;
        let strides = StridesLaunch::new(
            self.n as u32,
            (self.width / vector) as u32,
            (self.filled / vector) as u32,
            (source_stride / vector) as u32,
            (target_stride / vector) as u32,
        );
        // Not more cubes than are worth it: each unit strides over what is left.
        let cubes = items.div_ceil(units as usize).clamp(1, 1 << 16);
        let how = How {
            from: from.is_some(),
            to: to.is_some(),
            round,
        };
        // Not read where there are none; any buffer will do.
        let from = from.map_or_else(|| array(source, 1), |h| array(h, self.n));
        let to = to.map_or_else(|| array(source, 1), |h| array(h, self.n));
        // SAFETY: items end at n rows of width; `from` and `to` name rows of the two buffers, whose
        // lengths are passed.
        unsafe {
            copy_rows::launch_unchecked::<A, B, R>(
                gpu.client(),
                gpu.grid(cubes),
                CubeDim::new_1d(units),
                address,
                vector,
                array(source, source_len),
                array(target, target_len),
                from,
                to,
                strides,
                how,
            );
        }
        Ok(())
    }
}

/// Sizes of a copy, in vectors.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Strides {
    n: u32,
    width: u32,
    filled: u32,
    source: u32,
    target: u32,
}

/// Which rows are named, and what becomes of their components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct How {
    from: bool,
    to: bool,
    round: Round,
}

/// What f32 components are rounded to before they are converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Round {
    None,
    F16,
    Bf16,
}

/// The nearest bf16, ties to even, of a number.
#[cube]
fn to_bf16(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let up = 0x7FFFu32 + ((bits >> 16u32) & 1u32);
    f32::reinterpret((bits + up) & 0xFFFF_0000u32)
}

/// The nearest f16, ties to even, of a number below 65520: devices may convert what lies between two
/// of them either way, so nothing is left to them.
#[cube]
fn to_f16(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let sign = bits & 0x8000_0000u32;
    let size = bits & 0x7FFF_FFFFu32;
    let up = 0xFFFu32 + ((size >> 13u32) & 1u32);
    let normal = (size + up) & 0xFFFF_E000u32;
    // Below 2⁻¹⁴ they are the multiples of 2⁻²⁴.
    let tiny = size < 0x3880_0000u32;
    let scaled = select(tiny, f32::reinterpret(size) * 16_777_216.0f32, 0.0f32);
    let whole = u32::cast_from(scaled);
    let rest = scaled - f32::cast_from(whole);
    let odd = (whole & 1u32) == 1u32;
    let more = rest > 0.5f32 || (rest == 0.5f32 && odd);
    let near = f32::cast_from(select(more, whole + 1u32, whole)) * 5.960_464_5e-8f32;
    f32::reinterpret(select(tiny, u32::reinterpret(near), normal) | sign)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn copy_rows<A: Numeric, B: Numeric, N: Size>(
    source: &Array<Vector<A, N>>,
    target: &mut Array<Vector<B, N>>,
    from: &Array<u32>,
    to: &Array<u32>,
    strides: Strides,
    #[comptime] how: How,
) {
    let width = strides.width as usize;
    let items = strides.n as usize * width;
    let mut item = ABSOLUTE_POS;
    while item < items {
        let row = item / width;
        let at = item - row * width;
        let mut source_row = row;
        if comptime!(how.from) {
            source_row = from[row] as usize;
        }
        let mut target_row = row;
        if comptime!(how.to) {
            target_row = to[row] as usize;
        }
        let mut word = Vector::<B, N>::new(B::from_int(0));
        if at < strides.filled as usize {
            let from = source[source_row * strides.source as usize + at];
            if comptime!(how.round == Round::None) {
                word = Vector::<B, N>::cast_from(from);
            } else {
                let mut near = Vector::<f32, N>::cast_from(from);
                #[unroll]
                for lane in 0..N::value() {
                    if comptime!(how.round == Round::F16) {
                        near[lane] = to_f16(near[lane]);
                    } else {
                        near[lane] = to_bf16(near[lane]);
                    }
                }
                word = Vector::<B, N>::cast_from(near);
            }
        }
        target[target_row * strides.target as usize + at] = word;
        item += CUBE_COUNT * CUBE_DIM as usize;
    }
}
