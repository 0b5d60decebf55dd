//! Compile-time choices of the scan by list, and how it is cut.

use super::{
    bound::{COMPONENTS, slack},
    rounds::Rounds,
};
use crate::{
    Metric,
    device::{
        Facts, Filter,
        distance::Compare,
        queues::Sizes,
        tile::{self, Block, EACH},
    },
    list_scan::blueprint::{FLAGS, ROWS_PER_LAUNCH},
    select_k,
};

/// Shared memory of a cube at most, so that several share a multiprocessor that has more: this, or a quarter of
/// what there is.
///
/// Origin: arithmetic, not measured on a GPU. 16 queries of 768 components fit a quarter of an H100's 227 KB; 8, as in
/// 48 KB, do 4 operations a byte of rows, more than its second cache can feed.
const SHARED: usize = 48 << 10;

/// The same for tensor cores, whose tiles pay when they are large.
///
/// Origin: three cubes of a multiprocessor of 227 KB, as many as registers allow; not measured on a GPU.
const SHARED_TENSORS: usize = 75 << 10;

/// What tensor cores multiply: rows and queries of a matrix.
pub(super) const MATRIX: Block = Block {
    rows: 16,
    queries: 8,
};

/// Queries of a tile that are not given up for more tasks.
///
/// Origin: heuristic, not measured on a GPU.
const FEW: usize = 8;

/// What there is to do.
#[derive(Debug, Clone, Copy)]
pub(in crate::list_scan) struct Load {
    /// Whether queries are grouped by list.
    pub grouped: bool,
    /// Queries that read a list, on average.
    pub group: usize,
    /// Pairs of a query and a list.
    pub pairs: usize,
    /// Rows of a list, on average.
    pub rows: usize,
}

impl Load {
    /// For `pairs` pairs of a query and a list, of `nlist` lists with `rows` rows in all.
    pub fn new(grouped: bool, pairs: usize, nlist: usize, rows: usize) -> Self {
        let nlist = nlist.max(1);
        Self {
            grouped,
            group: pairs / nlist,
            pairs,
            rows: rows / nlist,
        }
    }

    /// Queries of a tile at most: not many more than read a list, and few enough that there are tasks for
    /// every multiprocessor.
    fn tile(self, facts: &Facts, filter: Filter) -> usize {
        let mut tile = 1 << facts.grain.tile.max(2).ilog2();
        if filter == Filter::TensorCores {
            // They want twice as many products of a byte of rows as the arithmetic units beside them would.
            tile *= 2;
        }
        // Twice the average, as some lists are read by more; places that stay empty cost nothing but memory.
        let group = (2 * self.group).next_power_of_two().clamp(2, tile);
        let pieces = self.rows.div_ceil(facts.grain.rows());
        let busy = self.pairs.saturating_mul(pieces) / (2 * facts.processors.max(1) as usize);
        group
            .min((busy + 1).next_power_of_two() / 2)
            .max(group.min(FEW))
    }
}

/// Compile-time parameters of the scan by list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::list_scan) struct Blueprint {
    /// How rows are compared.
    pub compare: Compare,
    /// What a unit (or four together) compares at once.
    pub block: Block,
    /// The queues, one per query of the tile.
    pub queues: Sizes,
    /// Whether queries are grouped by list; else all read the one list there is.
    pub grouped: bool,
    /// What keeps pairs from being compared.
    pub filter: Filter,
}

/// What a unit compares at once, or what a plane's tensor cores multiply.
///
/// Registers decide: a pair's sixteen partial sums take 16 of one unit, or 4 of each of four; a product one of
/// each. Rows that are held ([`Blueprint::holds`]) take up to 64 beside 32 for sums, or up to 32 beside 64; where rows are
/// read again for every block of queries, sums take 64.
const fn block(filter: Filter, compare: Compare) -> Block {
    let (rows, queries) = match (filter, compare.lanes, compare.each()) {
        (Filter::TensorCores, ..) => (32, 32),
        (Filter::Nothing, 4, ..=4) => (2, 8),
        (Filter::Nothing, 4, ..=EACH) => (2, 4),
        (Filter::Nothing, 4, _) => (2, 8),
        (Filter::Products, 4, ..=EACH) => (2, 16),
        (Filter::Products, 4, _) => (4, 16),
        (Filter::Nothing, ..) => (1, 4),
        (Filter::Products, ..) => (1, 16),
    };
    Block { rows, queries }
}

impl Blueprint {
    /// For `k` and rows of `padded` components; `None` where shared memory is too small for two queries.
    /// Where k is too large for queues they keep none, and lists are read in [`Rounds`]. The filter is the
    /// one asked for, or the next weaker one that the device and its memory allow.
    pub fn new(facts: &Facts, metric: Metric, padded: usize, k: usize, load: Load) -> Option<Self> {
        let weaker = match facts.grain.filter {
            Filter::Nothing => 2,
            Filter::Products => 1,
            Filter::TensorCores => 0,
        };
        let filters = [Filter::TensorCores, Filter::Products, Filter::Nothing];
        let mut filters = filters.into_iter().skip(weaker);
        filters.find_map(|filter| Self::of(filter, facts, metric, padded, k, load))
    }

    fn of(
        filter: Filter,
        facts: &Facts,
        metric: Metric,
        padded: usize,
        k: usize,
        load: Load,
    ) -> Option<Self> {
        let compare = Compare::new(metric, padded, facts.lanes);
        let units = facts.grain.units(facts.units, facts.lanes);
        let kept = if k <= select_k::QUEUE_K {
            k.next_power_of_two().max(16)
        } else {
            0
        };
        // The fewest queries of a tile.
        let few = match filter {
            Filter::TensorCores => MATRIX.queries,
            _ => 2,
        };
        let block = block(filter, compare);
        let tensors = facts.tensor_cores && facts.lanes == 4 && units.is_multiple_of(32);
        let possible = match filter {
            Filter::Nothing => true,
            Filter::Products => padded <= COMPONENTS,
            Filter::TensorCores => padded <= COMPONENTS && tensors,
        };
        let print = |queues: usize, pairs| Self {
            compare,
            block: Block {
                queries: queues.min(block.queries),
                ..block
            },
            queues: Sizes {
                units,
                queues,
                kept,
                pairs,
            },
            grouped: load.grouped,
            filter,
        };
        let shared = facts.shared.min(match filter {
            Filter::TensorCores => SHARED_TENSORS,
            _ => SHARED.max(facts.shared / 4),
        });
        let fits = |tile, pairs| print(tile, pairs).bytes() <= shared;
        let most = load.tile(facts, filter).max(few).min(units);
        if !possible || most < few {
            return None;
        }
        let tile_for = |pairs: usize| {
            let mut tiles = (few.ilog2()..=most.ilog2()).rev().map(|power| 1 << power);
            tiles.find(|&tile| fits(tile, pairs))
        };
        // Queues as long as asked for, or so long that they leave room for more queries; where they keep none, a step's
        // rows must find room all the same, or it is compared more than once.
        let (asked, least) = (facts.grain.pairs(kept), (2 * kept).max(1));
        let half = |&pairs: &usize| (pairs / 2 >= least).then_some(pairs / 2);
        let enough = if kept == 0 && filter == Filter::Nothing {
            print(few, 1).step().min(asked)
        } else {
            0
        };
        let pairs = core::iter::successors(Some(asked), half).max_by_key(|&pairs| {
            let tile = tile_for(pairs);
            (tile.is_some(), pairs >= enough, tile, pairs)
        })?;
        Some(print(tile_for(pairs)?, pairs))
    }

    /// Bytes of shared memory.
    fn bytes(&self) -> usize {
        let vectors = match self.filter {
            Filter::TensorCores => self.rounded() * 8,
            _ => self.kept() * 16,
        };
        let waiting = match self.filter {
            Filter::Nothing => 0,
            _ => (self.waiting() + self.queues.queues + 1) * 4,
        };
        vectors + waiting + self.queues.queues * 4 + self.queues.bytes() + FLAGS
    }

    /// Vectors of shared memory for the queries.
    pub fn kept(&self) -> usize {
        self.queues.queues * self.compare.vectors
    }

    /// The same for tensor cores, of components in 16 bits.
    pub fn rounded(&self) -> usize {
        self.queues.queues * self.stride()
    }

    /// Vectors from one query to the next there: whole matrices of 16 components, and an odd number of
    /// these, so that four units with each of four queries read from all banks of the memory.
    pub fn stride(&self) -> usize {
        let vectors = self.compare.vectors.next_multiple_of(4);
        vectors + (vectors + 4) % 8
    }

    /// Whether rows stay in registers while all queries of a tile go by ([`tile::holds`]).
    pub fn holds(&self) -> bool {
        tile::holds(self.compare)
    }

    /// Queries whose pairs with a unit's rows are at most 32, as many as a word has bits.
    pub fn span(&self) -> usize {
        let queries = 32 * self.compare.lanes as usize / self.block.rows;
        queries.min(self.queues.queues)
    }

    /// Rows that a cube compares with its queries from one look at their limits to the next.
    pub fn step(&self) -> usize {
        let together = match self.filter {
            Filter::TensorCores => 32,
            _ => self.compare.lanes as usize,
        };
        self.queues.units / together * self.block.rows
    }

    /// Pairs that may wait to be compared: one for each group of units that read a row together. What finds
    /// no room waits in its unit, and is tested against the new limits first.
    pub fn waiting(&self) -> usize {
        self.queues.units / self.compare.lanes as usize
    }

    /// Pairs whose products a unit is left with, 32 at most.
    pub fn tested(&self) -> usize {
        match self.filter {
            Filter::TensorCores => self.block.pairs() / 32,
            _ => self.block.own(self.compare),
        }
    }

    /// Which of those, by tensor cores, is the one of row `8 * row` behind the unit's first with query `query` of the
    /// two in matrix `matrix`, as a bit.
    pub fn bit(&self, row: usize, matrix: usize, query: usize) -> u32 {
        1 << ((row * self.across() + matrix) * 2 + query)
    }

    /// The bits of all of row `row`.
    pub fn of_row(&self, row: usize) -> u32 {
        ((1 << (2 * self.across())) - 1) << (row * self.across() * 2)
    }

    /// Matrices of queries that tensor cores multiply at once.
    pub fn across(&self) -> usize {
        self.block.queries / MATRIX.queries
    }

    /// The bits of all pairs that are tested.
    pub fn all(&self) -> u32 {
        u32::MAX >> (32 - self.tested())
    }

    /// What its filter allows for.
    pub fn slack(&self) -> f32 {
        let metric = if self.compare.l2 {
            Metric::L2
        } else {
            Metric::InnerProduct
        };
        slack(self.filter, metric, 4 * self.compare.vectors)
    }

    /// How a scan of `nq` queries that each probe `nprobe` lists of lengths `lens` is cut, within
    /// `workspace` bytes.
    pub fn cut(
        &self,
        facts: &Facts,
        (nq, nprobe, k): (usize, usize, usize),
        lens: Vec<usize>,
        workspace: usize,
    ) -> Cut {
        let tile = self.queues.queues;
        if self.queues.kept == 0 {
            Cut::in_rounds(facts, tile, (nq, nprobe, k), lens, workspace)
        } else {
            Cut::in_queues(facts, tile, (nq, nprobe, k), lens, workspace)
        }
    }
}

/// How a scan by list is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::list_scan) struct Cut {
    /// Queries of a launch.
    pub queries: usize,
    /// Rows of a piece of a list at most.
    pub rows: usize,
    /// Pairs that one query may be left with.
    pub width: usize,
    /// Cubes; each takes task after task.
    pub cubes: usize,
    /// What is read at once; after each round but the last a query is left its k best pairs.
    pub rounds: Rounds,
}

/// Cubes of a launch at most.
pub(super) const CUBES: usize = 1 << 16;

/// Puts the `n` longest lengths first, the longest behind them at place `n`.
pub(super) fn longest_first(lens: &mut [usize], n: usize) {
    if n < lens.len() {
        lens.select_nth_unstable_by(n, |a, b| b.cmp(a));
    }
}

impl Cut {
    /// For `nq` queries that each probe `nprobe` lists of lengths `lens` and keep k pairs of every
    /// piece, within `workspace` bytes.
    fn in_queues(
        facts: &Facts,
        tile: usize,
        (nq, nprobe, k): (usize, usize, usize),
        mut lens: Vec<usize>,
        workspace: usize,
    ) -> Self {
        longest_first(&mut lens, nprobe);
        let nlist = lens.len().max(1);
        let all: usize = lens.iter().sum();
        let longest = lens.iter().copied().max().unwrap_or(0).max(1);
        let tiles = (nq * nprobe).div_ceil(nlist).div_ceil(tile);
        let cubes = (facts.processors as usize).saturating_mul(facts.grain.cubes);
        let mut rows = (all.saturating_mul(tiles) / cubes.max(1))
            .max(facts.grain.rows())
            .min(u32::MAX as usize);
        // A piece leaves k pairs, or as many as it has rows.
        let width = |rows: usize| -> usize {
            let pairs = |len: &usize| (*len).min(len.div_ceil(rows) * k);
            lens.iter().take(nprobe).map(pairs).sum::<usize>().max(1)
        };
        let bytes = |rows: usize| width(rows) * 8 + nprobe * 4 + 8;
        let workspace = workspace.min(facts.buffer);
        while rows < longest && bytes(rows).saturating_mul(tile) > workspace {
            rows *= 2;
        }
        // A kernel that divides by a longer piece would leave 32 bits on the way.
        let rows = rows.min(longest);
        let usual = (all / nlist).saturating_mul(nprobe.min(nlist)).max(1);
        let queries = (workspace / bytes(rows))
            .min(ROWS_PER_LAUNCH / usual)
            .min(u32::MAX as usize / 2 / nprobe.max(1))
            .clamp(1, nq.max(1));
        let pieces: usize = lens.iter().map(|len| len.div_ceil(rows)).sum();
        let tiles = (queries * nprobe).div_ceil(tile).div_ceil(nlist) + 1;
        Self {
            queries,
            rows,
            width: width(rows),
            cubes: pieces.saturating_mul(tiles).clamp(1, CUBES),
            rounds: Rounds::ONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(facts: &Facts, d: usize, k: usize, load: Load) -> Option<usize> {
        let print = Blueprint::new(facts, Metric::L2, d, k, load)?;
        let kept = print.queues.kept;
        assert!(if k > 256 { kept == 0 } else { kept >= k });
        assert!(kept > 0 || print.queues.pairs >= print.step());
        assert!(print.queues.queues <= print.queues.units);
        assert!(print.block.queries <= print.queues.queues);
        Some(print.queues.queues)
    }

    #[test]
    fn tiles_are_as_large_as_memory_and_the_load_allow() {
        let load = |nq: usize| Load::new(true, nq * 32, 512, 262_144);
        for (nq, d, k, expected) in [
            (19_600, 128, 20, Some(32)),
            (512, 128, 20, Some(32)),
            (128, 128, 20, Some(16)),
            (64, 128, 20, Some(8)),
            (19_600, 128, 256, Some(8)),
            (19_600, 768, 20, Some(16)),
            (19_600, 4096, 20, Some(2)),
            (19_600, 8192, 20, None),
            (19_600, 128, 257, Some(32)),
            (128, 128, 5000, Some(16)),
            (19_600, 384, 300, Some(16)),
            (19_600, 8192, 257, None),
        ] {
            assert_eq!(
                tile(&Facts::H200, d, k, load(nq)),
                expected,
                "nq {nq} d {d} k {k}"
            );
        }
        let small = Facts {
            shared: 16 << 10,
            lanes: 1,
            ..Facts::H200
        };
        assert_eq!(tile(&small, 128, 20, load(19_600)), Some(8));
        assert_eq!(tile(&small, 128, 256, load(19_600)), Some(2));
        // Centroids: few rows, so tiles are small and many.
        assert_eq!(
            tile(&Facts::H200, 128, 32, Load::new(false, 512, 1, 512)),
            Some(8)
        );
    }

    #[test]
    fn pieces_fill_the_device_and_pairs_the_workspace() {
        let even = |nlist: usize, len: usize| vec![len; nlist];
        let cut = Cut::in_queues(
            &Facts::H200,
            32,
            (19_600, 32, 20),
            even(512, 512),
            256 << 20,
        );
        assert_eq!(
            (cut.rows >= 512, cut.width, cut.queries),
            (true, 640, 19_600)
        );
        // One list of a million rows for 1000 queries: pieces for every multiprocessor.
        let flat = Cut::in_queues(&Facts::H200, 32, (1000, 1, 10), even(1, 1 << 20), 256 << 20);
        let pieces = (1_usize << 20).div_ceil(flat.rows);
        assert!(
            pieces * 32 >= 4 * 132 && flat.width == pieces * 10,
            "{flat:?}"
        );
        let tight = Cut::in_queues(&Facts::H200, 32, (19_600, 32, 20), even(512, 512), 1 << 20);
        assert!(tight.queries * tight.width * 8 <= 1 << 20, "{tight:?}");
        assert!(tight.queries >= 32);
        // Half of all rows in one list: only its probes leave room for more pairs.
        let mut lens = even(511, 256);
        lens.push(511 * 256);
        let skewed = Cut::in_queues(&Facts::H200, 32, (512, 32, 20), lens, 256 << 20);
        let long = (511_usize * 256).div_ceil(skewed.rows);
        assert_eq!(skewed.width, (31 + long) * 20, "{skewed:?}");
        let tiny = Cut::in_queues(&Facts::H200, 2, (5, 3, 256), vec![0, 4, 1], 8);
        assert_eq!((tiny.queries, tiny.width), (1, 5));
    }
}
