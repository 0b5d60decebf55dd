//! Queries as the tiles read them, and how far a filter may be off for each.

use super::Problem;
use crate::{
    bound::{Extent, Reach},
    distance,
    rows::planes,
    share::share,
    simd::Isa,
};
use aligned_vec::{AVec, ConstAlign};
use core::ops::Range;
use pulp::{Simd, WithSimd};

/// Queries prepared at once on one thread.
const CHUNK: usize = 128;

/// A block of queries.
pub(super) struct Queries {
    /// Components after padding.
    stride: usize,
    /// Components as f32, `[n, stride]`, padded with zeros.
    full: AVec<f32, ConstAlign<64>>,
    /// bf16 values after padding to whole pieces, 0 where no filter reads them.
    half_stride: usize,
    /// Components as bf16, `[n, half_stride]`.
    half: AVec<u16, ConstAlign<64>>,
    facts: Vec<Facts>,
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
        let n = range.len();
        let d = problem.d;
        let stride = distance::padded(d);
        let rounds = isa.rounds_queries()
            && (problem.lists.iter()).any(|list| list.rows().layout().has_high());
        let half_stride = if rounds {
            d.next_multiple_of(planes::PIECE)
        } else {
            0
        };
        let blank = Facts {
            norm2: 0.0,
            searchable: false,
            error: f64::INFINITY,
            reach: Reach::new(problem.metric, d, 0.0, None),
            extent: Extent::default(),
        };
        let mut queries = Self {
            stride,
            full: zeros(n * stride),
            half_stride,
            half: zeros(n * half_stride),
            facts: vec![blank; n],
        };
        let rows = &problem.queries[range.start * d..range.end * d];
        // Without bf16 there is nothing to write: as many empty slices as needed.
        let half = queries.half.chunks_mut((CHUNK * half_stride).max(1));
        let half = half.map(Some).chain(core::iter::repeat_with(|| None));
        let full = queries.full.chunks_mut(CHUNK * stride);
        let facts = queries.facts.chunks_mut(CHUNK).zip(extents.chunks(CHUNK));
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
                    half_stride,
                    half: half.unwrap_or_default(),
                    facts,
                    extents,
                });
            },
        );
        queries
    }

    /// Query `i`, padded.
    #[inline(always)]
    pub fn full(&self, i: usize) -> &[f32] {
        &self.full[i * self.stride..][..self.stride]
    }

    /// Query `i` in bf16, padded to whole pieces.
    #[inline(always)]
    pub fn half(&self, i: usize) -> &[u16] {
        &self.half[i * self.half_stride..][..self.half_stride]
    }

    #[inline(always)]
    pub fn facts(&self, i: usize) -> &Facts {
        &self.facts[i]
    }
}

fn zeros<T: Clone + Default>(len: usize) -> AVec<T, ConstAlign<64>> {
    let mut values = AVec::with_capacity(64, len);
    values.resize(len, T::default());
    values
}

struct Prepare<'a> {
    problem: &'a Problem<'a>,
    rows: &'a [f32],
    stride: usize,
    full: &'a mut [f32],
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
            let infinite = f32::INFINITY.to_bits();
            let searchable = full.iter().fold(0, |any, x| {
                any | u32::from(x.to_bits() & infinite == infinite)
            }) == 0;
            let norm2 = distance::norm2(simd, full);
            let mut error2 = None;
            if self.half_stride > 0 && searchable {
                let half = &mut self.half[i * self.half_stride..][..self.half_stride];
                for (half, &x) in half.iter_mut().zip(row) {
                    *half = planes::high(x);
                }
                error2 = planes::has_low(row).then(|| planes::error2(row));
            }
            let reach = Reach::new(metric, d, norm2, error2);
            self.facts[i] = Facts {
                norm2,
                searchable,
                error: reach.error(self.extents[i]),
                reach,
                extent: self.extents[i],
            };
        }
    }
}
