//! Exact keys of rows that were chosen, offered to who keeps them.

use super::{List, ListsIds, Problem};
use crate::{
    distance,
    order::{Candidate, Slot, TopK},
    rows::Rows,
    simd::Isa,
};
use pulp::{Simd, WithSimd};

/// What exact keys are offered to.
pub(super) trait Keep {
    fn keep(&mut self, found: Candidate, ids: &ListsIds<'_, '_>);
}

impl Keep for TopK {
    #[inline(always)]
    fn keep(&mut self, found: Candidate, ids: &ListsIds<'_, '_>) {
        self.push(found, ids);
    }
}

/// Keeps every key up to a limit.
pub(super) struct Within<'a> {
    pub limit: f32,
    pub found: &'a mut Vec<Candidate>,
}

impl Keep for Within<'_> {
    #[inline(always)]
    fn keep(&mut self, found: Candidate, _: &ListsIds<'_, '_>) {
        if found.key <= self.limit {
            self.found.push(found);
        }
    }
}

/// Offers the exact keys of some rows to `keep`. `query` is padded.
#[inline(always)]
pub(super) fn exact<S: Simd>(
    simd: S,
    isa: Isa,
    problem: &Problem<'_>,
    query: &[f32],
    rows: &[Slot],
    keep: &mut impl Keep,
) {
    let ids = ListsIds(problem.lists);
    let mut ahead = Ahead::new(problem, rows);
    let mut row = Row::new(problem.d);
    for &at in rows {
        ahead.next();
        let key = row.key(simd, problem, query, at, isa);
        keep.keep(Candidate { key, at }, &ids);
    }
}

/// Asks for rows before they are compared.
pub(super) struct Ahead<'a> {
    lists: &'a [List<'a>],
    /// What was not asked for yet.
    rows: core::slice::Iter<'a, Slot>,
}

impl<'a> Ahead<'a> {
    /// Asks for the first of `rows`.
    #[inline(always)]
    pub fn new(problem: &Problem<'a>, rows: &'a [Slot]) -> Self {
        let first = rows
            .first()
            .map(|at| problem.lists[at.list as usize].rows());
        let mut ahead = Self {
            lists: problem.lists,
            rows: rows.iter(),
        };
        for _ in 0..first.map_or(0, Rows::rows_ahead) {
            ahead.next();
        }
        ahead
    }

    /// Asks for one more.
    #[inline(always)]
    pub fn next(&mut self) {
        if let Some(at) = self.rows.next() {
            let list = &self.lists[at.list as usize];
            list.rows().prefetch_row(at.slot as usize);
            list.prefetch_id(at.slot);
        }
    }
}

/// A padded row, on the stack when it fits.
pub(super) struct Row {
    d: usize,
    short: [f32; 256],
    long: Vec<f32>,
}

impl Row {
    #[inline(always)]
    pub fn new(d: usize) -> Self {
        let padded = distance::padded(d);
        Self {
            d,
            short: [0.0; 256],
            long: if padded > 256 {
                vec![0.0; padded]
            } else {
                Vec::new()
            },
        }
    }

    /// The exact key of a row with a padded query.
    #[inline(always)]
    pub fn key<S: Simd>(
        &mut self,
        simd: S,
        problem: &Problem<'_>,
        query: &[f32],
        at: Slot,
        isa: Isa,
    ) -> f32 {
        let (rows, slot) = (problem.lists[at.list as usize].rows(), at.slot as usize);
        match rows.row(slot) {
            Some(row) => distance::key(simd, problem.metric, query, row),
            None => distance::key(simd, problem.metric, query, self.read(rows, slot, isa)),
        }
    }

    /// Reads row `slot` of a list, and gives it padded.
    #[inline(always)]
    fn read(&mut self, rows: &Rows, slot: usize, isa: Isa) -> &[f32] {
        let padded = distance::padded(self.d);
        let out = if self.long.is_empty() {
            &mut self.short[..padded]
        } else {
            &mut self.long[..]
        };
        rows.read_row(slot, isa, out);
        out
    }
}

/// [`exact`] compiled for an instruction set.
pub(super) struct Exact<'a, K> {
    pub isa: Isa,
    pub problem: &'a Problem<'a>,
    /// Padded.
    pub query: &'a [f32],
    pub rows: &'a [Slot],
    pub keep: &'a mut K,
}

impl<K: Keep> WithSimd for Exact<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        exact(
            simd,
            self.isa,
            self.problem,
            self.query,
            self.rows,
            self.keep,
        );
    }
}
