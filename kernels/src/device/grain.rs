//! How finely scans are cut for a device: what may be tuned. No answer depends on it.

use super::lanes::whole;

/// What keeps pairs of a row and a query from being compared exactly, where a scan reads list by list: a
/// bound that their distance is proven not to be below. The answer does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Filter {
    /// Nothing: all are compared.
    #[default]
    Nothing,
    /// Inner products in f32, one operation per component where a squared difference takes two.
    Products,
    /// Inner products of components rounded to bf16, by tensor cores; by [`Self::Products`] on a device
    /// that has none (or none that CubeCL knows).
    TensorCores,
}

impl Filter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Products, Self::TensorCores];

    /// Its name, as statistics give it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Products => "f32 products",
            Self::TensorCores => "bf16 products on tensor cores",
        }
    }
}

/// Sizes of tiles, queues, slices and cubes of a scan, and its filter. Any values will do: what a device
/// cannot hold is made smaller where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grain {
    /// Queries of a tile at most, of a scan list by list: each row is then read once for so many.
    /// Rounded down to a power of two, at least 2. Tensor cores take twice as many.
    pub tile: usize,
    /// Pairs of a queue of such a tile, kept (none above k = 256) and waiting: rounded up to a power of
    /// two, at least twice those kept; halved where that leaves room for a larger tile. What finds no room is
    /// offered again.
    pub pairs: usize,
    /// Rows below which a cube is not worth launching; rows of a piece of a list at least, and, where
    /// lists are read in rounds, of what a round reads of one.
    pub rows: usize,
    /// Cubes wanted per multiprocessor.
    pub cubes: usize,
    /// Units of a cube at most.
    pub units: u32,
    /// What keeps pairs from being compared exactly.
    pub filter: Filter,
}

impl Grain {
    /// What is taken unless something else is asked for.
    ///
    /// Origin: arithmetic and heuristics, not measured on a GPU. `tile`: a tile of `t` queries does
    /// `2 · t · d` multiply-adds and differences on `4 · d` bytes; 16 TFLOP/s of f32 per TB/s of memory
    /// (an H200) want `t` of 8 for multiply-adds from memory, and lists that several tiles read come from
    /// the cache. At 32, k = 20 and d = 128 a cube takes 50 KB, so several share a multiprocessor.
    /// `rows`: two looks at the queue. `cubes`: 4 cubes of 128 units. `filter`: none, as none was timed.
    pub const DEFAULT: Self = Self {
        tile: 32,
        pairs: 128,
        rows: 256,
        cubes: 4,
        units: 128,
        filter: Filter::Nothing,
    };

    /// Rows of a cube at least, never 0.
    pub(crate) fn rows(&self) -> usize {
        self.rows.max(1)
    }

    /// Pairs of a queue that keeps `kept` (a power of two).
    pub(crate) fn pairs(&self, kept: usize) -> usize {
        (2 * kept).max(self.pairs.min(1 << 16).next_power_of_two())
    }

    /// Units of a cube on a device that has `most`: whole groups of `lanes`, at least 32 where there are so
    /// many.
    pub(crate) fn units(&self, most: u32, lanes: u32) -> usize {
        whole(most.min(self.units.max(32)), lanes) as usize
    }
}

impl Default for Grain {
    fn default() -> Self {
        Self::DEFAULT
    }
}
