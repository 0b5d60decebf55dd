//! Inverted lists in a device's memory.
//!
//! One buffer holds the rows of all lists, row-major, padded with zeros to whole vectors. A list is
//! an *extent*: a stretch of rows, with room to grow. A list that outgrows its extent moves to the
//! free end of the buffer; when that is used up, everything moves to a larger buffer. So adding m
//! rows costs O(m) on average, and rows keep their order within a list.
//!
//! Beside the rows lie their *ranks*: a row's place in the order of (id, insertion). Kernels compare
//! (distance, rank), a table gives the id of a rank. Ids that come in rising order (automatic ones)
//! get the next ranks; others rank everything anew.
//!
//! **Snapshots.** A clone shares the buffers. Appending and dropping rows write only to buffers that no
//! clone shares; otherwise they copy first. Whatever thread calls, all
//! kernels of an index and its clones run in one queue (`device/home.rs`), so a search that is queued sees the
//! index as it was.

mod compact;
mod ranks;

use super::copy::{Copy, padded};
use crate::{
    KernelError,
    device::{Gpu, Home, array},
    select_k::Labels,
};
use cubecl::{
    ir::{ElemType, FloatKind},
    prelude::*,
    server::Handle,
};
use std::sync::Arc;

/// How components are stored; distances are f32 whatever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Element {
    /// 4 bytes, exact.
    #[default]
    F32,
    /// 2 bytes: the nearest f16 of what was appended (ties to even, infinite from 65520 on).
    F16,
    /// 2 bytes: the nearest bf16 of what was appended (ties to even).
    Bf16,
}

impl Element {
    /// Whether a device can compute with it.
    pub fn is_supported<R: Runtime>(self, gpu: &Gpu<R>) -> bool {
        let kind = match self {
            Self::F32 => return true,
            Self::F16 => FloatKind::F16,
            Self::Bf16 => FloatKind::BF16,
        };
        let properties = gpu.client().properties();
        properties.supports_type(ElemType::Float(kind))
    }

    /// 32-bit words of `padded` components (a multiple of 4).
    pub(crate) fn words(self, padded: usize) -> usize {
        match self {
            Self::F32 => padded,
            Self::F16 | Self::Bf16 => padded / 2,
        }
    }
}

/// Where a list lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Extent {
    start: usize,
    len: usize,
    room: usize,
}

/// The buffers of all lists.
#[derive(Debug)]
struct Pool {
    /// Rows, u32 words of f32, `[capacity, padded]`.
    rows: Handle,
    /// Ranks `[capacity]`.
    ranks: Handle,
    capacity: usize,
    /// Rows before the free end.
    used: usize,
}

/// The ids by rank.
#[derive(Debug)]
struct Table {
    /// `[capacity, words]`.
    ids: Handle,
    capacity: usize,
}

/// Inverted lists on a device.
#[derive(Debug)]
pub struct DeviceLists<R: Runtime> {
    gpu: Gpu<R>,
    home: Home,
    element: Element,
    d: usize,
    extents: Vec<Extent>,
    /// (start, length) of every list, on the device.
    placed: Handle,
    pool: Arc<Pool>,
    /// None where a row's id is its place in the only list.
    table: Option<Arc<Table>>,
    words: usize,
    len: usize,
    /// Ranks given so far: the rows' and, below the largest, those of rows dropped since.
    ranked: usize,
    last_id: i64,
}

impl<R: Runtime> Clone for DeviceLists<R> {
    fn clone(&self) -> Self {
        Self {
            gpu: self.gpu.clone(),
            extents: self.extents.clone(),
            placed: self.placed.clone(),
            pool: self.pool.clone(),
            table: self.table.clone(),
            ..*self
        }
    }
}

/// What is appended.
#[derive(Debug, Clone, Copy)]
pub struct Added<'a> {
    /// Vectors, f32 `[n, d]`, contiguous.
    pub rows: &'a Handle,
    /// The list of each.
    pub lists: &'a [u32],
    /// The id of each; not read by lists of places.
    pub ids: &'a [i64],
}

impl<R: Runtime> DeviceLists<R> {
    /// `nlist` empty lists of vectors of `d` components, with ids of 1 or 2 `words`; 0 words: the
    /// id of a row is its place (for one list).
    ///
    /// Nothing is allocated before the first row but a few words.
    pub fn new(gpu: &Gpu<R>, d: usize, nlist: usize, words: usize) -> Self {
        let word = || gpu.client().empty(4);
        let pool = Pool {
            rows: word(),
            ranks: word(),
            capacity: 0,
            used: 0,
        };
        let table = Table {
            ids: word(),
            capacity: 0,
        };
        Self {
            gpu: gpu.clone(),
            home: Home::here(),
            element: Element::F32,
            d,
            extents: vec![Extent::default(); nlist],
            placed: word(),
            pool: Arc::new(pool),
            table: (words > 0).then(|| Arc::new(table)),
            words,
            len: 0,
            ranked: 0,
            last_id: i64::MIN,
        }
    }

    /// The same lists, still empty, of components stored otherwise.
    ///
    /// # Errors
    /// [`KernelError::Type`] where the device lacks the type or lists hold rows.
    pub fn of(self, element: Element) -> Result<Self, KernelError> {
        if !element.is_supported(&self.gpu) || !self.is_empty() {
            let what = if self.is_empty() {
                "device"
            } else {
                "index that holds rows"
            };
            return Err(KernelError::Type { element, what });
        }
        Ok(Self { element, ..self })
    }

    /// How components are stored.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu<R> {
        &self.gpu
    }

    /// The queue of all kernels of these lists.
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Components of a row in memory.
    pub(crate) fn padded(&self) -> usize {
        padded(self.d)
    }

    /// Number of lists.
    pub fn nlist(&self) -> usize {
        self.extents.len()
    }

    /// Rows in all lists.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no list holds a row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows of a list.
    pub fn list_len(&self, list: usize) -> usize {
        self.extents[list].len
    }

    /// Bytes of rows and ranks, with the room to grow.
    pub fn bytes(&self) -> usize {
        self.pool.capacity * (self.row_words() + 1) * 4
    }

    /// Where row `slot` of `list` lies.
    pub fn position(&self, list: u32, slot: u32) -> u32 {
        (self.extents[list as usize].start + slot as usize) as u32
    }

    pub(crate) fn rows(&self) -> ArrayArg<R> {
        array(&self.pool.rows, self.elements().max(1))
    }

    pub(crate) fn ranks(&self) -> ArrayArg<R> {
        array(&self.pool.ranks, self.pool.capacity.max(1))
    }

    pub(crate) fn placed(&self) -> ArrayArg<R> {
        array(
            &self.placed,
            if self.len == 0 { 1 } else { 2 * self.nlist() },
        )
    }

    /// 32-bit words of a row in memory.
    fn row_words(&self) -> usize {
        self.element.words(self.padded())
    }

    /// Rows in the buffer, held or not.
    pub(crate) fn held(&self) -> usize {
        self.pool.capacity
    }

    /// Components in the buffer of rows.
    pub(crate) fn elements(&self) -> usize {
        self.pool.capacity * self.padded()
    }

    /// How ranks become ids.
    pub fn labels(&self) -> Labels {
        match &self.table {
            None => Labels::Ranks,
            Some(table) => Labels::Ids {
                table: table.ids.clone(),
                len: (table.capacity * self.words).max(1),
                words: self.words,
            },
        }
    }

    /// Rows at `positions` (at least one), f32 `[n, d]`.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device cannot hold them.
    pub fn gather(&self, positions: &[u32]) -> Result<Handle, KernelError> {
        let words = positions.len().saturating_mul(self.d);
        let out = self.gpu.empty("gathered vectors", words)?;
        self.home
            .run(&self.gpu, [], |[]| self.gather_at_home(positions, &out))?;
        Ok(out)
    }

    fn gather_at_home(&self, positions: &[u32], out: &Handle) -> Result<(), KernelError> {
        let n = positions.len();
        let from = self.gpu.upload("positions of vectors", positions)?;
        let copy = Copy {
            n,
            width: self.d,
            source: (&self.pool.rows, self.elements(), self.padded()),
            target: (out, n * self.d, self.d),
            filled: self.d,
        };
        copy.convert(&self.gpu, (self.element, Element::F32), Some(&from), None)
    }

    /// Appends vectors; `held(list, slot)` is the id of a row held before (asked only when ids do
    /// not come in rising order). Nothing changes on an error.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device cannot hold them.
    pub fn append(
        &mut self,
        added: &Added<'_>,
        held: impl Fn(usize, usize) -> i64,
    ) -> Result<(), KernelError> {
        if added.lists.is_empty() {
            return Ok(());
        }
        let (gpu, home) = (self.gpu.clone(), self.home);
        let words = added.lists.len() * self.d;
        home.run(&gpu, [(added.rows, words)], |[rows]| {
            let added = Added { rows, ..*added };
            self.append_at_home(&added, held)
        })
    }

    fn append_at_home(
        &mut self,
        added: &Added<'_>,
        held: impl Fn(usize, usize) -> i64,
    ) -> Result<(), KernelError> {
        let n = added.lists.len();
        let mut lens: Vec<usize> = self.extents.iter().map(|e| e.len).collect();
        for &list in added.lists {
            lens[list as usize] += 1;
        }
        let ranking = self.ranking(added, held)?;
        let (pool, mut extents) = self.room(&lens)?;
        let places: Vec<u32> = added
            .lists
            .iter()
            .map(|&list| {
                let extent = &mut extents[list as usize];
                extent.len += 1;
                (extent.start + extent.len - 1) as u32
            })
            .collect();
        let on_device = self.place(&extents)?;
        let to = self.gpu.upload("places of new vectors", &places)?;
        let copy = Copy {
            n,
            width: self.padded(),
            source: (added.rows, n * self.d, self.d),
            target: (&pool.rows, pool.capacity * self.padded(), self.padded()),
            filled: self.d,
        };
        copy.convert(&self.gpu, (Element::F32, self.element), None, Some(&to))?;
        let table = ranking.apply(self, &pool, &extents, &to)?;
        self.extents = extents;
        self.placed = on_device;
        self.pool = pool;
        self.table = table;
        self.len += n;
        self.ranked = ranking.ranked;
        self.last_id = self.last_id.max(ranking.last_id);
        Ok(())
    }

    /// A pool with room for lists of these lengths, holding what the present one holds.
    fn room(&self, lens: &[usize]) -> Result<(Arc<Pool>, Vec<Extent>), KernelError> {
        let mut extents = self.extents.clone();
        let outgrown: Vec<usize> = (0..lens.len())
            .filter(|&l| lens[l] > extents[l].room)
            .collect();
        let mut used = self.pool.used;
        for &l in &outgrown {
            let room = with_slack(lens[l]);
            extents[l] = Extent {
                start: used,
                room,
                len: extents[l].len,
            };
            used += room;
        }
        // One count is this list's own.
        let own = Arc::strong_count(&self.pool) == 1;
        if own && used <= self.pool.capacity {
            let moved = self.moves(&extents, &outgrown);
            self.relocate(&self.pool, &moved)?;
            let pool = Pool {
                rows: self.pool.rows.clone(),
                ranks: self.pool.ranks.clone(),
                capacity: self.pool.capacity,
                used,
            };
            return Ok((Arc::new(pool), extents));
        }
        // The first rows lie close together; lists that grow get slack, and all of them a free end,
        // unless only without them everything fits.
        let most = (self.gpu.facts().buffer / (4 * self.row_words())).min(u32::MAX as usize - 1);
        let mut place = |slack: fn(usize) -> usize| {
            let mut start = 0;
            for (extent, &len) in extents.iter_mut().zip(lens) {
                let room = slack(len);
                let len = extent.len;
                *extent = Extent { start, len, room };
                start += room;
            }
            start
        };
        let exact: fn(usize) -> usize = |len| len;
        let mut start = place(if self.len == 0 { exact } else { with_slack });
        let mut capacity = if self.len == 0 {
            start
        } else {
            start + start / 8
        };
        if capacity > most {
            start = place(exact);
            capacity = start;
        }
        let mut pool = Pool::new(&self.gpu, self.row_words(), capacity)?;
        pool.used = start;
        let all: Vec<usize> = (0..lens.len()).collect();
        self.relocate(&pool, &self.moves(&extents, &all))?;
        Ok((Arc::new(pool), extents))
    }

    /// (from, to) of every row that lies elsewhere in `extents`.
    fn moves(&self, extents: &[Extent], lists: &[usize]) -> (Vec<u32>, Vec<u32>) {
        lists
            .iter()
            .flat_map(|&l| {
                let (old, new) = (self.extents[l], extents[l]);
                (0..old.len).map(move |i| ((old.start + i) as u32, (new.start + i) as u32))
            })
            .unzip()
    }

    fn relocate(&self, pool: &Pool, (from, to): &(Vec<u32>, Vec<u32>)) -> Result<(), KernelError> {
        if from.is_empty() {
            return Ok(());
        }
        let n = from.len();
        let from = self.gpu.upload("places of vectors", from)?;
        let to = self.gpu.upload("places of vectors", to)?;
        let width = self.row_words();
        let rows = Copy {
            n,
            width,
            source: (&self.pool.rows, self.pool.capacity * width, width),
            target: (&pool.rows, pool.capacity * width, width),
            filled: width,
        };
        rows.launch(&self.gpu, Some(&from), Some(&to))?;
        let ranks = Copy {
            n,
            width: 1,
            source: (&self.pool.ranks, self.pool.capacity, 1),
            target: (&pool.ranks, pool.capacity, 1),
            filled: 1,
        };
        ranks.launch(&self.gpu, Some(&from), Some(&to))
    }
}

impl Pool {
    fn new<R: Runtime>(gpu: &Gpu<R>, padded: usize, capacity: usize) -> Result<Self, KernelError> {
        Ok(Self {
            rows: gpu.empty(
                "vectors of an index",
                capacity.max(1).saturating_mul(padded),
            )?,
            ranks: gpu.empty("ranks of an index", capacity)?,
            capacity,
            used: 0,
        })
    }
}

/// Room for a list that grows: a quarter more.
fn with_slack(len: usize) -> usize {
    len + len / 4 + usize::from(len > 0)
}
