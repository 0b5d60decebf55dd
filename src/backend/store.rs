//! Where a backend keeps the vectors of inverted lists.

#[cfg(doc)]
use super::Capabilities;
use super::{portable, read};
use crate::{
    error::{Error, Result},
    params::Storage,
};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use burn_ivf_kernels::order::Slot;
use std::sync::Arc;

/// What a [`ListStore`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The vectors of an index, stored as its user chose among what [`Capabilities::stores`].
    Vectors(Storage),
    /// A small table that every query reads: centroids.
    Centroids,
}

/// Where a backend keeps the vectors of inverted lists.
///
/// Rows keep the order in which they were appended, and come back bit for bit, or as the nearest values
/// (ties to even) of the 16-bit type they are stored in. A clone is a
/// snapshot: appending to one does not change the other.
pub trait ListStore<B: Backend>: Clone + core::fmt::Debug + Send + Sync + 'static {
    /// `nlist` empty lists of vectors of `d` components.
    fn new(d: usize, nlist: usize, keep: Keep, device: &B::Device) -> Self;

    /// Appends row `i` of `rows`, f32 `[n, d]`, to list `to.lists[i]`. Nothing changes on an error.
    ///
    /// # Errors
    /// When the device cannot be read or cannot hold them.
    fn append(&mut self, rows: Tensor<B, 2>, to: &Places<'_>) -> Result<()>;

    /// The vectors at `at` (at least one), f32 `[at.len(), d]`, with the exact stored values.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn gather(&self, at: &[Slot]) -> Result<Tensor<B, 2>>;

    /// Appends rows from host memory, f32 `[n, d]`, run after run; `ids` are those of all rows held
    /// now or later. Nothing changes on an error.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn extend(
        &mut self,
        rows: &[f32],
        runs: &[Run],
        ids: RowIds<'_>,
        device: &B::Device,
    ) -> Result<()> {
        let n: usize = runs.iter().map(|run| run.rows).sum();
        let (mut lists, mut new) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for at in runs.iter().flat_map(Run::slots) {
            lists.push(at.list);
            new.push(ids.id(at));
        }
        let data = TensorData::new(rows.to_vec(), [n, rows.len() / n.max(1)]);
        let to = Places {
            lists: &lists,
            ids: &new,
            held: ids,
        };
        self.append(Tensor::from_data(data, (device, DType::F32)), &to)
    }

    /// Fills lists that are still empty by all rows they will have, if this store has a quicker way
    /// than [`extend`](Self::extend) with piece after piece; `false`, and nothing done, if not. On an
    /// error the lists stay empty.
    ///
    /// # Errors
    /// Those of `filling`; of several the one of the earliest rows.
    fn fill(&mut self, filling: &mut Filling<'_>) -> Result<bool> {
        let _ = filling;
        Ok(false)
    }

    /// Copies the rows of `runs` to `out`, f32 `[n, d]` in host memory, with the exact stored
    /// values. Blocks until they are there.
    ///
    /// # Errors
    /// When the device cannot be read or cannot hold them twice.
    fn copy_rows(&self, runs: &[Run], out: &mut [f32]) -> Result<()> {
        let at: Vec<Slot> = runs.iter().flat_map(Run::slots).collect();
        if !at.is_empty() {
            out.copy_from_slice(&read(self.gather(&at)?)?);
        }
        Ok(())
    }

    /// Drops rows: list `l` keeps those whose bit is set in `keep[l]` (bit `i % 32` of word
    /// `i / 32` is row `i`), in order, or all of them without bits. What a clone or a search under
    /// way sees does not change, nor does anything on an error.
    ///
    /// # Errors
    /// When the device cannot hold what that takes.
    fn retain(&mut self, keep: &[Option<Vec<u32>>]) -> Result<()>;

    /// Appends the rows of every list of `other` to the list of the same number, in order.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn merge(&mut self, other: &Self, merging: &Merging<'_>) -> Result<()> {
        portable::merge(self, other, merging)
    }

    /// Makes room for `additional[l]` more rows in list `l`. Nothing but room changes.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn reserve(&mut self, additional: &[usize]) -> Result<()>;

    /// Gives back what is allocated beyond the rows held, whose ids these are.
    ///
    /// # Errors
    /// When the device cannot hold what that takes on the way.
    fn shrink_to_fit(&mut self, ids: RowIds<'_>) -> Result<()>;

    /// Bytes allocated for vectors.
    fn bytes(&self) -> usize;

    /// What a scan ranks by before it compares exactly, e.g. `"bf16 of planes"`.
    fn ranks_by(&self) -> String;

    /// A copy on another device; `ids` are those of the rows held.
    ///
    /// # Errors
    /// When the other device cannot hold it.
    fn to_device(&self, ids: RowIds<'_>, device: &B::Device) -> Result<Self>;
}

/// Where appended rows go, for [`ListStore::append`].
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The list of every row.
    pub lists: &'a [u32],
    /// The id of every row; empty where ids are places ([`RowIds::Places`]).
    pub ids: &'a [i64],
    /// The ids of the rows held so far.
    pub held: RowIds<'a>,
}

/// Rows that follow each other in one list. Runs that are passed together name lists in rising
/// order, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The list.
    pub list: u32,
    /// The first row's place in it.
    pub first: usize,
    /// Rows.
    pub rows: usize,
    /// Rows to make room for in the list, when rows are appended.
    pub room: usize,
}

impl Run {
    /// Where its rows lie.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let Self {
            list, first, rows, ..
        } = *self;
        (first..first + rows).map(move |slot| Slot {
            list,
            slot: slot as u32,
        })
    }
}

/// Reads the next rows, which are those of the runs, to the end of the values, f32 `[n, d]`.
pub type ReadRows<'a> = dyn FnMut(&[Run], &mut Vec<f32>) -> Result<()> + 'a;

/// Rows that come from a file, for [`ListStore::fill`].
pub struct Filling<'a> {
    /// Rows of every list, all of which are there.
    pub sizes: &'a [usize],
    /// Reads rows.
    pub read: &'a mut ReadRows<'a>,
    /// Whether components may be NaN.
    pub nan: bool,
    /// What is wrong with values, `[n, d]` from this row of all on, among which there are others than
    /// numbers.
    pub refuse: &'a (dyn Fn(&[f32], usize) -> Error + Sync),
}

impl core::fmt::Debug for Filling<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let lists = self.sizes.len();
        f.debug_struct("Filling")
            .field("lists", &lists)
            .finish_non_exhaustive()
    }
}

/// What becomes of two stores, for [`ListStore::merge`].
#[derive(Debug, Clone, Copy)]
pub struct Merging<'a> {
    /// The ids of every list afterwards: of the rows held, then of those that come.
    pub ids: RowIds<'a>,
    /// Rows held so far in every list.
    pub held: &'a [usize],
    /// Rows a backend without a way of its own moves at once, at least 1.
    pub chunk: usize,
}

/// The ids of the rows of every list.
#[derive(Debug, Clone, Copy)]
pub enum RowIds<'a> {
    /// List `l`'s row `s` has id `tables[l][s]`.
    Tables(&'a [Arc<Vec<i64>>]),
    /// One list of this many rows, whose ids are their places: centroids.
    Places(usize),
}

impl RowIds<'_> {
    /// Number of lists.
    pub fn nlist(&self) -> usize {
        match self {
            Self::Tables(tables) => tables.len(),
            Self::Places(_) => 1,
        }
    }

    /// Rows of list `l`.
    pub fn len(&self, l: usize) -> usize {
        match self {
            Self::Tables(tables) => tables[l].len(),
            Self::Places(rows) => *rows,
        }
    }

    /// The id of the row at `at`.
    pub fn id(&self, at: Slot) -> i64 {
        match self {
            Self::Tables(tables) => tables[at.list as usize][at.slot as usize],
            Self::Places(_) => i64::from(at.slot),
        }
    }
}

impl burn_ivf_kernels::order::Ids for RowIds<'_> {
    fn id(&self, at: Slot) -> i64 {
        RowIds::id(self, at)
    }
}
