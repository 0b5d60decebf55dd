//! Compile-time choices of the GPU selection, from k and the device.

use crate::device::{Facts, queue::Sizes};

/// How the k best are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A queue in shared memory.
    Queue(Sizes),
    /// Radix passes, then a sort of `sorted` pairs, in shared memory where they fit.
    Radix {
        /// Pairs sorted: k, or all where there are fewer, as a power of two.
        sorted: usize,
        /// Whether that is done in shared memory.
        shared: bool,
    },
}

/// What is written as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// The squared L2 distance of the key.
    L2,
    /// The inner product of the key.
    InnerProduct,
    /// The score selected.
    Score,
}

/// Compile-time parameters of the selection kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Select {
    /// From scores (else from pairs).
    pub scores: bool,
    /// Whether every row has a number of pairs of its own.
    pub counted: bool,
    /// What is written as a value.
    pub output: Output,
    /// Whether labels are read from a table of ids.
    pub table: bool,
    /// Words of a label.
    pub words: usize,
}

/// k up to which a queue is used, where its shared memory suffices.
///
/// Origin: raft's `select_k` changes from warp queues to radix passes at 256; not measured here.
pub const QUEUE_K: usize = 256;

/// The choices for one k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blueprint {
    /// Units of a cube.
    pub units: usize,
    /// How.
    pub route: Route,
}

impl Blueprint {
    /// For `k` of `n` pairs on a device.
    pub fn new(facts: &Facts, k: usize, n: usize) -> Self {
        let units = (facts.units as usize).min(if k <= 64 { 64 } else { 256 });
        let queue = Sizes::new(k, units, 2 * units);
        let sorted = k.min(n).next_power_of_two().max(2);
        let route = if k <= QUEUE_K && queue.bytes() <= facts.shared {
            Route::Queue(queue)
        } else {
            // 256 counts and the state beside the pairs.
            let shared = sorted * 8 + 257 * 4 + 32 <= facts.shared;
            Route::Radix { sorted, shared }
        };
        Self { units, route }
    }
}
