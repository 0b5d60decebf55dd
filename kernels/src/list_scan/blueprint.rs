//! Compile-time choices of the GPU scan, from the problem and the device; and how it is cut.

use crate::{
    Metric,
    device::{Facts, distance::Compare, queue::Sizes},
    select_k,
};

/// Compile-time parameters of the scan kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// How rows are compared.
    pub compare: Compare,
    /// The queue of the k best.
    pub queue: Sizes,
    /// Whether the query is kept in shared memory (else read again for every row).
    pub keep: bool,
    /// Whether every query reads the one list there is.
    pub all: bool,
    /// Rows a unit (or `lanes` units together) compares between two looks at the queue.
    pub turns: usize,
}

impl Blueprint {
    /// For `k` and rows of `padded` components; `None` where the k best do not fit in shared
    /// memory, and all keys must be written down instead.
    pub fn new(facts: &Facts, metric: Metric, padded: usize, k: usize, all: bool) -> Option<Self> {
        let print = Self::unqueued(facts, metric, padded, all);
        let queue = Sizes::new(k, print.queue.units, print.queue.step);
        let query = padded * 4;
        let flags = 16;
        let keep = queue.bytes() + query + flags <= facts.shared;
        let fits = k <= select_k::QUEUE_K && queue.bytes() + flags <= facts.shared;
        fits.then_some(Self {
            queue,
            keep,
            ..print
        })
    }

    /// For a scan that keeps no queue.
    pub fn unqueued(facts: &Facts, metric: Metric, padded: usize, all: bool) -> Self {
        let units = facts.units.min(128) as usize;
        let lanes = facts.lanes;
        // `units` rows between two looks at the queue.
        let turns = lanes as usize;
        Self {
            compare: Compare::new(metric, padded, lanes),
            queue: Sizes::new(1, units, units),
            keep: padded * 4 + 16 + Sizes::new(1, units, units).bytes() <= facts.shared,
            all,
            turns,
        }
    }
}

/// How a search is cut into launches and cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Queries of a launch.
    pub queries: usize,
    /// Cubes that share the rows of one query.
    pub splits: usize,
}

/// Rows below which a cube is not worth launching.
///
/// Origin: heuristic (two looks at the queue); not measured on a GPU.
const ROWS_PER_CUBE: usize = 256;

/// Cubes wanted per multiprocessor.
///
/// Origin: heuristic, 4 cubes of 128 units; not measured on a GPU.
const CUBES_PER_PROCESSOR: usize = 4;

impl Cut {
    /// For `nq` queries that each compare about `rows` rows and write `pairs` pairs per split,
    /// within `workspace` bytes.
    pub fn new(facts: &Facts, nq: usize, rows: usize, pairs: usize, workspace: usize) -> Self {
        let wanted = (facts.processors as usize * CUBES_PER_PROCESSOR).div_ceil(nq.max(1));
        let room = (workspace.min(facts.buffer) / (8 * pairs.max(1))).max(1);
        let splits = wanted.min(rows.div_ceil(ROWS_PER_CUBE)).clamp(1, room);
        // No more cubes than the grid's arithmetic in u32 can count.
        let queries = (room / splits)
            .clamp(1, nq.max(1))
            .min(u32::MAX as usize / splits / 2);
        Self { queries, splits }
    }
}
