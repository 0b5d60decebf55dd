//! Queries as the tiles read them, and how far a filter may be off for each.

use super::Problem;
use crate::{
    bound::{Extent, Reach, are_whole},
    distance,
    rows::{Layout, int16, planes},
    share::share,
    simd::Isa,
    spare,
};
use aligned_vec::{AVec, ConstAlign};
use core::ops::Range;
use pulp::{Simd, WithSimd};

/// Queries of a strip that a filter reads as they are, where it could round them to whole steps: so few are
/// not worth rounding the strip.
pub(super) const FEW: usize = 3;
/// Queries prepared at once on one thread.
const CHUNK: usize = 128;

/// A block of queries.
pub(super) struct Queries {
    /// Components after padding.
    stride: usize,
    /// Components as f32, `[n, stride]`, padded with zeros.
    full: AVec<f32, ConstAlign<64>>,
    /// How a filter reads them.
    seen: Seen,
    /// 16-bit values after padding to whole pieces, 0 where no filter reads them.
    half_stride: usize,
    /// Components as bf16 or as whole steps, `[n, half_stride]`.
    half: AVec<u16, ConstAlign<64>>,
    facts: Vec<Facts>,
}

/// How a filter reads queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// As they are.
    Whole,
    /// Rounded to bf16.
    Bf16,
    /// Rounded to whole steps ([`int16`]), where more than a few read a strip.
    Steps,
}

impl Seen {
    /// For `n` queries.
    fn of(problem: &Problem<'_>, n: usize, isa: Isa) -> Self {
        let mut lists = problem.lists.iter().map(|list| list.rows().layout());
        if isa.rounds_queries() && lists.any(Layout::has_high) {
            Self::Bf16
        } else if isa.has_integers() && n > FEW && problem.d <= int16::COMPONENTS {
            Self::Steps
        } else {
            Self::Whole
        }
    }
}

/// What the search knows of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Squared length.
    pub norm2: f32,
    /// Whether every component is finite.
    pub searchable: bool,
    /// The error bound of its filter over every list it probes; infinite: do not filter.
    pub error: f64,
    pub reach: Reach,
    /// Whether its filter keys are exact, as [`Reach::exact`] has it, in every list it probes.
    pub whole: bool,
    /// The step of its components, where a filter reads them so.
    pub step: f32,
    /// The extent of the lists it probes.
    pub extent: Extent,
}

impl Queries {
    /// Prepares the queries in `range`; `extents` are those of the lists each of them probes.
    pub fn new(
        problem: &Problem<'_>,
        range: Range<usize>,
        extents: &[Extent],
        isa: Isa,
        workers: usize,
    ) -> Self {
        Self::none(problem).replace(problem, range, extents, isa, workers)
    }

    /// No query of a problem yet.
    pub fn none(problem: &Problem<'_>) -> Self {
        Self {
            stride: distance::padded(problem.d),
            full: AVec::new(64),
            seen: Seen::Whole,
            half_stride: 0,
            half: AVec::new(64),
            facts: Vec::new(),
        }
    }

    /// [`new`](Self::new) for other queries of the problem, in the memory of these.
    pub fn replace(
        mut self,
        problem: &Problem<'_>,
        range: Range<usize>,
        extents: &[Extent],
        isa: Isa,
        workers: usize,
    ) -> Self {
        let n = range.len();
        let (d, stride) = (problem.d, self.stride);
        let seen = Seen::of(problem, n, isa);
        let half_stride = match seen {
            Seen::Whole => 0,
            Seen::Bf16 | Seen::Steps => d.next_multiple_of(planes::PIECE),
        };
        let blank = Facts {
            norm2: 0.0,
            searchable: false,
            error: f64::INFINITY,
            reach: Reach::new(problem.metric, d, 0.0, None, false),
            whole: false,
            step: 0.0,
            extent: Extent::default(),
        };
        if self.full.capacity() < n * stride {
            let full = core::mem::replace(&mut self.full, spare::QUERIES.take(n * stride));
            spare::QUERIES.give(full);
        }
        if self.half.capacity() < n * half_stride {
            let half = core::mem::replace(&mut self.half, spare::HALVES.take(n * half_stride));
            spare::HALVES.give(half);
        }
        // Whatever was in them is written over.
        self.full.resize(n * stride, 0.0);
        self.half.resize(n * half_stride, 0);
        self.facts.resize(n, blank);
        (self.seen, self.half_stride) = (seen, half_stride);
        let rows = &problem.queries[range.start * d..range.end * d];
        // Without 16 bits there is nothing to write: as many empty slices as needed.
        let half = self.half.chunks_mut((CHUNK * half_stride).max(1));
        let half = half.map(Some).chain(core::iter::repeat_with(|| None));
        let full = self.full.chunks_mut(CHUNK * stride);
        let facts = self.facts.chunks_mut(CHUNK).zip(extents.chunks(CHUNK));
        let pieces = rows.chunks(CHUNK * d).zip(full).zip(half).zip(facts);
        let workers = workers.min(n.div_ceil(CHUNK));
        share(
            workers,
            pieces,
            |(((rows, full), half), (facts, extents))| {
                isa.run(Prepare {
                    problem,
                    rows,
                    stride,
                    full,
                    seen,
                    half_stride,
                    half: half.unwrap_or_default(),
                    facts,
                    extents,
                });
            },
        );
        self
    }

    /// Query `i`, padded.
    #[inline(always)]
    pub fn full(&self, i: usize) -> &[f32] {
        &self.full[i * self.stride..][..self.stride]
    }

    /// How a filter reads them.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Query `i` in 16 bits, padded to whole pieces.
    #[inline(always)]
    pub fn half(&self, i: usize) -> &[u16] {
        &self.half[i * self.half_stride..][..self.half_stride]
    }

    #[inline(always)]
    pub fn facts(&self, i: usize) -> &Facts {
        &self.facts[i]
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        spare::QUERIES.give(core::mem::replace(&mut self.full, AVec::new(64)));
        spare::HALVES.give(core::mem::replace(&mut self.half, AVec::new(64)));
    }
}

struct Prepare<'a> {
    problem: &'a Problem<'a>,
    rows: &'a [f32],
    stride: usize,
    full: &'a mut [f32],
    seen: Seen,
    half_stride: usize,
    half: &'a mut [u16],
    facts: &'a mut [Facts],
    extents: &'a [Extent],
}

impl WithSimd for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (metric, d) = (self.problem.metric, self.problem.d);
        for (i, row) in self.rows.chunks_exact(d).enumerate() {
            let full = &mut self.full[i * self.stride..][..self.stride];
            full[..d].copy_from_slice(row);
            full[d..].fill(0.0);
            let infinite = f32::INFINITY.to_bits();
            let searchable = full.iter().fold(0, |any, x| {
                any | u32::from(x.to_bits() & infinite == infinite)
            }) == 0;
            let norm2 = distance::norm2(simd, full);
            let whole = are_whole(row);
            let reach = Reach::new(metric, d, norm2, None, whole);
            let half = match self.seen {
                Seen::Whole => &mut [],
                _ => &mut self.half[i * self.half_stride..][..self.half_stride],
            };
            if let Some(padding) = half.get_mut(d..) {
                padding.fill(0);
            }
            let (extent, mut step) = (self.extents[i], 0.0);
            let (reach, seen) = match self.seen {
                Seen::Bf16 if searchable => {
                    for (half, &x) in half.iter_mut().zip(row) {
                        *half = planes::high(x);
                    }
                    let error2 = planes::has_low(row).then(|| planes::error2(row));
                    (Reach::new(metric, d, norm2, error2, whole), extent)
                }
                Seen::Steps if searchable => {
                    step = int16::step(reach.norm, reach.whole);
                    int16::round_query(row, int16::steps(reach.norm, reach.whole), half);
                    (reach.in_steps(), extent.in_steps(d))
                }
                _ => (reach, extent),
            };
            self.facts[i] = Facts {
                norm2,
                searchable,
                error: reach.error(seen),
                whole: searchable && reach.whole && seen.is_whole(),
                reach,
                step,
                extent,
            };
        }
    }
}
