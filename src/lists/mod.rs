//! Inverted lists: ids over a backend's [`ListStore`], and what must always hold between them.
//!
//! A flat index is one list. Rows keep insertion order within their list. Whoever appends has
//! checked shapes, ids and list numbers; [`InvertedLists::check`] states the invariants.

mod derived;
mod direct_map;
mod masks;
mod mutate;
mod range;

pub(crate) use mutate::Kept;

use crate::{
    backend::{Filling, IvfBackend, Keep, ListStore, Places, RowIds, Run, Slot},
    error::{Error, Result},
    params::Storage,
};
use burn::tensor::Tensor;
use derived::Derived;
use direct_map::DirectMap;
use mutate::Change;
use std::sync::{Arc, OnceLock};

/// Inverted lists on backend `E`. A clone is a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct InvertedLists<E: IvfBackend> {
    d: usize,
    storage: Storage,
    store: E::Lists,
    ids: Vec<Arc<Vec<i64>>>,
    ntotal: usize,
    /// The next automatic id: above every id ever held, so that none is given twice.
    next_id: i64,
    derived: Vec<Arc<Derived>>,
    /// From ids to rows, made when first asked for.
    map: OnceLock<Arc<DirectMap>>,
    /// Removals of a few ids that were looked for without the map.
    readings: usize,
}

impl<E: IvfBackend> InvertedLists<E> {
    /// `nlist` empty lists; automatic ids start at 0.
    pub fn new(d: usize, nlist: usize, storage: Storage, device: &E::Device) -> Self {
        Self {
            d,
            storage,
            store: E::Lists::new(d, nlist, Keep::Vectors(storage), device),
            ids: vec![Arc::default(); nlist],
            ntotal: 0,
            next_id: 0,
            derived: (0..nlist).map(|_| Arc::default()).collect(),
            map: OnceLock::new(),
            readings: 0,
        }
    }

    /// Forgets what followed from the rows of a list, whose rows have changed.
    fn changed(&mut self, list: usize) {
        self.derived[list] = Arc::default();
    }

    /// Lists of rows with the ids of `tables`, still without vectors: [`fill`](Self::fill) brings
    /// them, all of them, before the lists are used.
    pub fn with_tables(
        d: usize,
        storage: Storage,
        tables: Vec<Arc<Vec<i64>>>,
        next_id: i64,
        device: &E::Device,
    ) -> Self {
        let mut lists = Self::new(d, tables.len(), storage, device);
        lists.ntotal = tables.iter().map(|ids| ids.len()).sum();
        lists.ids = tables;
        lists.next_id = next_id;
        lists
    }

    /// Brings the vectors of `runs`, f32 `[n, d]`, list by list from the first to the last row.
    pub fn fill(&mut self, rows: &[f32], runs: &[Run], device: &E::Device) -> Result<()> {
        self.store
            .extend(rows, runs, RowIds::Tables(&self.ids), device)
    }

    /// Appends `ids` and vectors, f32 `[n, d]` in host memory, run after run; the caller has checked
    /// ids and vectors. Nothing changes on an error.
    pub fn extend(
        &mut self,
        rows: &[f32],
        ids: &[i64],
        runs: &[Run],
        device: &E::Device,
    ) -> Result<()> {
        self.check_room(ids.len())?;
        let mut from = ids;
        for run in runs {
            let (own, rest) = from.split_at(run.rows);
            let table = Arc::make_mut(&mut self.ids[run.list as usize]);
            if table.is_empty() {
                table.reserve_exact(run.room.max(run.rows));
            }
            table.extend_from_slice(own);
            from = rest;
        }
        let tables = RowIds::Tables(&self.ids);
        if let Err(error) = self.store.extend(rows, runs, tables, device) {
            for run in runs {
                Arc::make_mut(&mut self.ids[run.list as usize]).truncate(run.first);
            }
            return Err(error);
        }
        for run in runs {
            self.changed(run.list as usize);
        }
        self.map.take();
        self.ntotal += ids.len();
        if let Some(&max) = ids.iter().max() {
            self.next_id = self.next_id.max(max.saturating_add(1));
        }
        debug_assert_eq!(self.check(), Ok(()));
        Ok(())
    }

    /// Brings all vectors of lists that have none, where the store has a way of its own for that;
    /// `false`, and nothing done, if not. Ids are there already.
    pub fn fill_whole(&mut self, filling: &mut Filling<'_>) -> Result<bool> {
        self.store.fill(filling)
    }

    /// Copies the vectors of `runs` to the host.
    pub fn copy_rows(&self, runs: &[Run], out: &mut [f32]) -> Result<()> {
        self.store.copy_rows(runs, out)
    }

    /// The next automatic id.
    pub fn next_id(&self) -> i64 {
        self.next_id
    }

    /// How vectors are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Stores the vectors in another way, list by list; nothing changes on an error.
    pub fn set_storage(
        &mut self,
        storage: Storage,
        device: &E::Device,
        chunk: usize,
    ) -> Result<()> {
        if storage != self.storage {
            for l in 0..self.nlist() {
                self.check_range(l, storage, chunk)?;
            }
            let mut store = E::Lists::new(self.d, self.nlist(), Keep::Vectors(storage), device);
            for l in 0..self.nlist() {
                for range in crate::backend::portable::pieces(self.ids[l].len(), chunk) {
                    let rows = self.rows(l, range.clone())?;
                    let to = Places {
                        lists: &vec![l as u32; range.len()],
                        ids: &self.ids[l][range],
                        held: RowIds::Tables(&self.ids),
                    };
                    store.append(rows, &to)?;
                }
            }
            (self.store, self.storage) = (store, storage);
        }
        Ok(())
    }

    pub fn store(&self) -> &E::Lists {
        &self.store
    }

    pub fn ids(&self) -> RowIds<'_> {
        RowIds::Tables(&self.ids)
    }

    pub fn list_ids(&self, l: usize) -> &[i64] {
        &self.ids[l]
    }

    pub fn nlist(&self) -> usize {
        self.ids.len()
    }

    pub fn ntotal(&self) -> usize {
        self.ntotal
    }

    pub fn sizes(&self) -> Vec<usize> {
        self.ids.iter().map(|ids| ids.len()).collect()
    }

    /// Automatic ids for `n` rows.
    pub fn auto_ids(&self, n: usize) -> Result<Vec<i64>> {
        let exhausted = Error::IdsExhausted {
            next_id: self.next_id,
        };
        let end = i64::try_from(n)
            .ok()
            .and_then(|n| self.next_id.checked_add(n))
            .ok_or(exhausted)?;
        Ok((self.next_id..end).collect())
    }

    /// Goes on with automatic ids where other lists would.
    pub fn follow_ids(&mut self, other: &Self) {
        self.next_id = self.next_id.max(other.next_id);
    }

    /// Notes that these automatic ids were given, if not to a row: none is given twice.
    pub fn gave(&mut self, ids: &[i64]) {
        if let Some(&last) = ids.last() {
            self.next_id = self.next_id.max(last.saturating_add(1));
        }
    }

    /// Whether `n` more rows can be named.
    fn check_room(&self, n: usize) -> Result<()> {
        let (rows, limit) = (self.ntotal.saturating_add(n), u32::MAX as usize - 1);
        if rows > limit {
            return Err(Error::TooLarge { rows, limit });
        }
        Ok(())
    }

    /// Appends row `i` of `rows` with `ids[i]` to list `lists[i]`.
    pub fn append(&mut self, rows: Tensor<E, 2>, ids: &[i64], lists: &[u32]) -> Result<()> {
        self.check_room(ids.len())?;
        range::check(&rows, self.storage)?;
        let held = RowIds::Tables(&self.ids);
        self.store.append(rows, &Places { lists, ids, held })?;
        self.follow(&Change::Came { ids, lists });
        let mut added = vec![0_usize; self.nlist()];
        for &list in lists {
            added[list as usize] += 1;
        }
        for (table, &added) in self
            .ids
            .iter_mut()
            .zip(&added)
            .filter(|(_, added)| **added > 0)
        {
            let table = Arc::make_mut(table);
            if table.is_empty() {
                table.reserve_exact(added);
            }
        }
        for (&id, &list) in ids.iter().zip(lists) {
            Arc::make_mut(&mut self.ids[list as usize]).push(id);
        }
        for (list, &added) in added.iter().enumerate() {
            if added > 0 {
                self.changed(list);
            }
        }
        self.ntotal += ids.len();
        if let Some(&max) = ids.iter().max() {
            self.next_id = self.next_id.max(max.saturating_add(1));
        }
        debug_assert_eq!(self.check(), Ok(()));
        Ok(())
    }

    /// The vectors of list `l` from `range`, with the exact stored values.
    pub fn rows(&self, l: usize, range: core::ops::Range<usize>) -> Result<Tensor<E, 2>> {
        let at: Vec<Slot> = range
            .map(|slot| Slot {
                list: l as u32,
                slot: slot as u32,
            })
            .collect();
        self.store.gather(&at)
    }

    /// Bytes of vectors and of ids.
    pub fn bytes(&self) -> (usize, usize) {
        let ids = self
            .ids
            .iter()
            .map(|ids| ids.capacity() * size_of::<i64>())
            .sum::<usize>();
        (
            self.store.bytes(),
            ids + self.nlist() * size_of::<Arc<Vec<i64>>>() + self.map_bytes(),
        )
    }

    pub fn to_device(&self, device: &E::Device) -> Result<Self> {
        Ok(Self {
            store: self.store.to_device(self.ids(), device)?,
            ..self.clone()
        })
    }

    /// The same lists on another backend (stored in its own way if it has not this one), through the
    /// host, `chunk` rows at a time.
    pub fn to_backend<E2: IvfBackend>(
        &self,
        device: &E2::Device,
        chunk: usize,
    ) -> Result<InvertedLists<E2>> {
        let storage = E2::capabilities(device).storage(self.storage);
        let mut lists = InvertedLists::<E2>::new(self.d, self.nlist(), storage, device);
        for (l, ids) in self.ids.iter().enumerate() {
            for range in crate::backend::portable::pieces(ids.len(), chunk) {
                let rows = crate::backend::read(self.rows(l, range.clone())?)?;
                let data = burn::tensor::TensorData::new(rows, [range.len(), self.d]);
                let rows = Tensor::from_data(data, (device, burn::tensor::DType::F32));
                lists.append(rows, &ids[range.clone()], &vec![l as u32; range.len()])?;
            }
        }
        lists.next_id = self.next_id;
        Ok(lists)
    }

    /// What must hold between ids, counts and the next id; the first breach in words.
    pub fn check(&self) -> Result<(), String> {
        let rows: usize = self.ids.iter().map(|ids| ids.len()).sum();
        if rows != self.ntotal {
            return Err(format!("{rows} ids for {} rows", self.ntotal));
        }
        Ok(())
    }
}
