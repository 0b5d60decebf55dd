//! Compile-time choices of the GPU scan, from the problem and the device; and how it is cut.

use crate::{
    Metric,
    device::{Facts, distance::Compare, queue::Sizes},
    select_k,
};

/// What a query names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// Nothing: it reads the one list there is.
    Nothing,
    /// Lists.
    Lists,
    /// Rows.
    Rows,
}

/// What the order in which lists are read is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ordered {
    /// Nothing: rows are read slot by slot.
    #[default]
    Slots,
    /// Rows are read in it, up to the cap.
    Rows,
    /// Rows are read slot by slot, without those whose place is not below the cap.
    Places,
}

/// What keeps rows out of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// There is a cap per probe.
    pub capped: bool,
    /// There are masks.
    pub masked: bool,
    /// What the reading order is for; `Slots` without a cap.
    pub order: Ordered,
    /// Probes are read in an order of their own.
    pub sorted: bool,
}

impl Limits {
    /// Whether a list is read as if it ended at its cap.
    pub fn shortened(&self) -> bool {
        self.capped && self.order != Ordered::Places
    }

    /// Whether rows beyond the cap are met and passed over.
    pub fn filtered(&self) -> bool {
        self.order == Ordered::Places
    }

    /// Whether the walk looks more up of a list than its start.
    pub fn enters(&self) -> bool {
        self.masked || self.filtered()
    }
}

/// Compile-time parameters of the scan kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// How rows are compared.
    pub compare: Compare,
    /// Whether the k best are kept in a queue in shared memory; else every key is written down.
    pub queued: bool,
    /// The queue (its units and steps hold for both).
    pub queue: Sizes,
    /// Whether the query is kept in shared memory (else read again for every row).
    pub keep: bool,
    /// What a query names.
    pub names: Names,
    /// Lists of a query that are looked up once for the whole cube: a power of two, or 0 for one
    /// after the other.
    pub staged: usize,
    /// Rows a unit (or `lanes` units together) compares between two looks at the queue.
    pub turns: usize,
    /// What keeps rows out.
    pub limits: Limits,
}

/// Shared memory for counts and flags, and what alignment may cost.
pub(super) const FLAGS: usize = 32;

/// Lists of a query that are looked up by the whole cube at once.
///
/// Origin: the memory they take (2 KiB); not measured.
const STAGED: usize = 256;

impl Blueprint {
    /// For `k` and rows of `padded` components.
    pub fn new(facts: &Facts, metric: Metric, padded: usize, k: usize, names: Names) -> Self {
        let units = facts.grain.units(facts.units, facts.lanes);
        let wanted = Sizes::new(k, units, units);
        let queued = k <= select_k::QUEUE_K && wanted.bytes() + FLAGS <= facts.shared;
        let (queue, taken) = if queued {
            (wanted, wanted.bytes())
        } else {
            (Sizes::new(1, units, units), 0)
        };
        Self {
            compare: Compare::new(metric, padded, facts.lanes),
            queued,
            queue,
            // Within 48 KiB, so that several cubes share a multiprocessor that has more.
            keep: taken + padded * 4 + FLAGS <= facts.shared.min(48 << 10),
            names,
            staged: 0,
            // `units` rows between two looks at the queue.
            turns: facts.lanes as usize,
            limits: Limits::default(),
        }
    }

    /// Looks the lists of a query up once for the whole cube, where they fit.
    pub fn stage(&mut self, facts: &Facts, nprobe: usize) {
        let lists = nprobe.next_power_of_two();
        let taken = if self.queued { self.queue.bytes() } else { 0 } + self.kept() * 16 + FLAGS;
        if lists <= STAGED && taken + lists * 8 <= facts.shared {
            self.staged = lists;
        }
    }

    /// Vectors of shared memory for the query.
    pub fn kept(&self) -> usize {
        if self.keep { self.compare.vectors } else { 1 }
    }
}

/// How a search is cut into launches and cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Queries of a launch.
    pub queries: usize,
    /// Cubes that share the rows of one query.
    pub splits: usize,
    /// Pairs written per query.
    pub width: usize,
}

/// Buffers of the kernel that writes the answer itself: its eight, four of a restriction, one of numbers. Some WebGPU
/// devices bind eight or ten; there pairs are written and merged.
const BUFFERS: u32 = 13;

/// Rows compared by one launch at most.
///
/// Origin: about 0.1 s of a small GPU at d = 128, where desktop drivers end a kernel after 2 s; not
/// measured.
pub(super) const ROWS_PER_LAUNCH: usize = 1 << 32;

impl Cut {
    /// For `nq` queries that each compare about `rows` rows and keep k pairs per cube, within
    /// `workspace` bytes.
    pub fn queued(facts: &Facts, nq: usize, rows: usize, k: usize, workspace: usize) -> Self {
        let pairs = workspace.min(facts.buffer) / 8;
        let splits = if rows <= facts.grain.rows().saturating_mul(2) {
            // Putting two halves together is a launch of its own, which takes as long as reading one of them.
            1
        } else {
            splits(facts, nq, rows).clamp(1, (pairs / k).max(1))
        };
        Self::of(pairs, nq, splits, splits * k).bounded(rows)
    }

    /// For `nq` queries whose `rows` keys at most are all written down.
    pub fn written(facts: &Facts, nq: usize, rows: usize, k: usize, workspace: usize) -> Self {
        // The selection sorts up to k pairs beside them, in a buffer of its own.
        let sorted = k.min(rows.max(1)).next_power_of_two();
        let pairs = workspace.min(facts.buffer) / 8;
        let width = rows.max(1);
        let cut = Self::of(
            pairs * width / (width + sorted),
            nq,
            splits(facts, nq, rows),
            width,
        );
        cut.bounded(rows)
    }

    /// For `nq` queries that each compare about `rows` rows and count what each of `groups` groups
    /// of units per cube finds; `scratch` words more per query.
    pub fn counted(
        facts: &Facts,
        nq: usize,
        rows: usize,
        (groups, scratch): (usize, usize),
        workspace: usize,
    ) -> Self {
        let words = workspace.min(facts.buffer) / 4;
        let splits = splits(facts, nq, rows).clamp(1, (words / groups).max(1));
        let width = splits * groups;
        let mut cut = Self::of(words, nq, splits, width);
        cut.queries = cut.queries.min((words / (width + scratch)).max(1));
        cut.bounded(rows)
    }

    /// Whether each query's one cube writes its answer, so that there is nothing to merge.
    pub fn answers(&self, facts: &Facts, print: &Blueprint) -> bool {
        print.queued && self.splits == 1 && facts.bindings >= BUFFERS
    }

    /// No launch longer than a driver's watchdog allows.
    fn bounded(mut self, rows: usize) -> Self {
        self.queries = self.queries.min((ROWS_PER_LAUNCH / rows.max(1)).max(1));
        self
    }

    fn of(pairs: usize, nq: usize, splits: usize, width: usize) -> Self {
        // Cubes are counted in 32 bits.
        let most = u32::MAX as usize / 2 / splits;
        Self {
            queries: (pairs / width).min(most).clamp(1, nq.max(1)),
            splits,
            width,
        }
    }
}

fn splits(facts: &Facts, nq: usize, rows: usize) -> usize {
    let grain = facts.grain;
    let wanted = (facts.processors as usize).saturating_mul(grain.cubes);
    let wanted = wanted.min(u32::MAX as usize / 4).div_ceil(nq.max(1));
    wanted.min(rows.div_ceil(grain.rows())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Facts = Facts {
        shared: 48 << 10,
        ..Facts::H200
    };

    #[test]
    fn few_queries_are_split_and_many_are_not() {
        for (nq, splits) in [(1, 64), (8, 64), (32, 17), (512, 2), (19_600, 1)] {
            let cut = Cut::queued(&H200, nq, 16_384, 20, 256 << 20);
            assert_eq!((cut.splits, cut.queries), (splits, nq), "{nq}");
        }
    }

    #[test]
    fn a_cube_answers_where_there_is_one_a_query_and_buffers_enough() {
        let print = Blueprint::new(&H200, Metric::L2, 128, 32, Names::Nothing);
        let (few, many) = [512, 16_384]
            .map(|rows| Cut::queued(&H200, 1, rows, 32, 256 << 20))
            .into();
        let browser = Facts {
            bindings: 10,
            ..H200
        };
        assert!(few.answers(&H200, &print) && !many.answers(&H200, &print));
        assert!(!few.answers(&browser, &print));
    }

    #[test]
    fn few_rows_are_read_by_one_cube() {
        for (rows, splits) in [(1, 1), (512, 1), (513, 3), (1024, 4)] {
            let cut = Cut::queued(&H200, 1, rows, 32, 256 << 20);
            assert_eq!(cut.splits, splits, "{rows}");
        }
    }

    #[test]
    fn a_small_workspace_cuts_queries_and_then_splits() {
        let cut = Cut::queued(&H200, 19_600, 16_384, 20, 1 << 20);
        assert!(cut.queries * cut.width * 8 <= 1 << 20, "{cut:?}");
        let one = Cut::queued(&H200, 1, 1 << 20, 256, 64 << 10);
        assert_eq!((one.queries, one.splits), (1, 32));
        let all = Cut::written(&H200, 100, 1 << 20, 300, 64 << 10);
        assert_eq!((all.queries, all.width), (1, 1 << 20));
    }

    #[test]
    fn what_does_not_fit_shared_memory_is_left_out_of_it() {
        let print = |padded, k| Blueprint::new(&H200, Metric::L2, padded, k, Names::Lists);
        assert!(print(128, 20).keep && print(128, 20).queued);
        assert!(!print(16_384, 20).keep && print(16_384, 20).queued);
        assert!(!print(128, 257).queued && print(128, 257).keep);
        let small = Facts {
            shared: 2 << 10,
            ..H200
        };
        assert!(!Blueprint::new(&small, Metric::L2, 128, 200, Names::Lists).queued);
    }
}
