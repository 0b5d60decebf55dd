//! Lists that lose rows, take over others' rows, and are looked into by id.
//!
//! Whoever calls has checked ids, shapes and list numbers. Every change of content says which lists it
//! was to [`InvertedLists::changed`], and what it was to [`InvertedLists::follow`], which keeps the map
//! from ids to rows in step.

use super::{DirectMap, InvertedLists};
use crate::{
    backend::{IvfBackend, ListStore, Merging, RowIds, Slot, places},
    error::{Error, Result},
    selector::IdSelector,
};
use burn::tensor::Tensor;
use std::sync::Arc;

/// What happened to the rows of lists.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// Row `i` came, with `ids[i]`, to the end of list `lists[i]`.
    Came { ids: &'a [i64], lists: &'a [u32] },
    /// Of the rows of `list`, which had these ids, those stay whose bit is set.
    Went {
        list: usize,
        ids: &'a [i64],
        keep: &'a [u32],
    },
}

/// Per list, the bits of the rows that stay; none where all do.
pub(crate) type Kept = Vec<Option<Vec<u32>>>;

/// Looking for a few ids by reading all of them is quicker than making a map of them, up to this many
/// readings of the whole index.
const READINGS: usize = 16;

impl<E: IvfBackend> InvertedLists<E> {
    /// Keeps the map from ids to rows in step with a change, before the tables of ids change.
    pub(super) fn follow(&mut self, change: &Change<'_>) {
        let Some(mut shared) = self.map.take() else {
            return;
        };
        // A map that a clone holds too, or of which much would change, is made anew when asked for.
        let Some(map) = Arc::get_mut(&mut shared) else {
            return;
        };
        let rows = match change {
            Change::Came { ids, .. } => ids.len(),
            Change::Went { ids, keep, .. } => ids.len() - places(keep, ids.len()).count(),
        };
        if 4 * rows > self.ntotal || !map.has_numbers(rows) {
            return;
        }
        match change {
            Change::Came { ids, lists } => {
                for (&id, &list) in ids.iter().zip(*lists) {
                    map.push(id, list as usize);
                }
            }
            Change::Went { list, ids, keep } => map.retain(*list, ids, keep),
        }
        self.map = shared.into();
    }

    /// From ids to rows; made when first asked for.
    fn map(&self) -> &DirectMap {
        self.map.get_or_init(|| Arc::new(DirectMap::new(&self.ids)))
    }

    /// Bytes of the map, if it has been made.
    pub(super) fn map_bytes(&self) -> usize {
        self.map.get().map_or(0, |map| map.bytes())
    }

    /// The first row of every id: of the smallest list, the row that came first.
    ///
    /// # Errors
    /// [`Error::MissingId`] for one that no row has.
    pub fn find(&self, ids: &[i64]) -> Result<Vec<Slot>> {
        let map = self.map();
        let find = |&id| map.find(id).ok_or(Error::MissingId { id });
        ids.iter().map(find).collect()
    }

    /// All rows with this id, in list order.
    pub fn rows_of(&self, id: i64) -> Vec<Slot> {
        let mut rows: Vec<Slot> = self.map().all(id).collect();
        rows.sort_unstable_by_key(|at| (at.list, at.slot));
        rows
    }

    /// Removes the rows whose id is selected; how many there were.
    pub fn remove(&mut self, ids: &IdSelector) -> Result<usize> {
        let gone = match ids {
            IdSelector::Batch(ids) if self.by_map(ids.len()) => {
                let map = self.map();
                let rows: Vec<Slot> = ids.iter().flat_map(|&id| map.all(id)).collect();
                self.without(&rows)
            }
            _ => {
                let compiled = (!ids.clone()).compile();
                self.bits(|_, ids, keep| compiled.select(ids, keep))
            }
        };
        self.retain(gone)
    }

    /// Whether `n` ids are looked up in the map: when it is there, or would have paid by now.
    fn by_map(&mut self, n: usize) -> bool {
        if 8 * n > self.ntotal {
            return false;
        }
        self.readings += 1;
        self.map.get().is_some() || self.readings > READINGS
    }

    /// Bits of what stays, from a rule that sets those of one list, given its number and ids.
    pub fn bits(&self, rule: impl Fn(usize, &[i64], &mut [u32])) -> Kept {
        let list = |(l, ids): (usize, &Arc<Vec<i64>>)| {
            let mut keep = vec![0; ids.len().div_ceil(32)];
            rule(l, ids, &mut keep);
            let all = places(&keep, ids.len()).count() == ids.len();
            (!all).then_some(keep)
        };
        self.ids.iter().enumerate().map(list).collect()
    }

    /// Bits of all rows but these.
    fn without(&self, rows: &[Slot]) -> Kept {
        let mut kept: Kept = vec![None; self.nlist()];
        for at in rows {
            let list = at.list as usize;
            let words = self.ids[list].len().div_ceil(32);
            let keep = kept[list].get_or_insert_with(|| vec![u32::MAX; words]);
            keep[at.slot as usize / 32] &= !(1 << (at.slot % 32));
        }
        kept
    }

    /// Keeps the rows whose bit is set, in order; how many went.
    pub fn retain(&mut self, keep: Kept) -> Result<usize> {
        if keep.iter().all(Option::is_none) {
            return Ok(0);
        }
        self.store.retain(&keep)?;
        let before = self.ntotal;
        let lists = keep.iter().zip(&self.ids);
        let left = lists.map(|(keep, ids)| match keep {
            None => ids.len(),
            Some(keep) => places(keep, ids.len()).count(),
        });
        if 4 * (before - left.sum::<usize>()) > before {
            self.map.take();
        }
        for (list, keep) in keep.iter().enumerate() {
            let Some(keep) = keep else { continue };
            let table = self.ids[list].clone();
            self.follow(&Change::Went {
                list,
                ids: &table,
                keep,
            });
            drop(table);
            let rows = self.ids[list].len();
            if let Some(table) = Arc::get_mut(&mut self.ids[list]) {
                let mut to = 0;
                for from in places(keep, rows) {
                    table[to] = table[from];
                    to += 1;
                }
                table.truncate(to);
            } else {
                let table = &self.ids[list];
                self.ids[list] = Arc::new(places(keep, rows).map(|at| table[at]).collect());
            }
            self.ntotal -= rows - self.ids[list].len();
            self.changed(list);
        }
        debug_assert_eq!(self.check(), Ok(()));
        Ok(before - self.ntotal)
    }

    /// Puts row `i` of `rows` with `ids[i]` (each once) at the end of list `lists[i]`, in place of all
    /// rows that had that id; how many went.
    pub fn replace(&mut self, rows: Tensor<E, 2>, ids: &[i64], lists: &[u32]) -> Result<usize> {
        let map = self.map();
        let old: Vec<Slot> = ids.iter().flat_map(|&id| map.all(id)).collect();
        // What can be refused comes first. The old rows lie before the new ones, so their slots hold.
        self.append(rows, ids, lists)?;
        self.retain(self.without(&old))
    }

    /// Appends `other`'s lists to the lists of the same number, ids moved by `add_id` (which the caller
    /// has found possible), at most `chunk` rows at a time. Nothing changes on an error.
    pub fn merge(&mut self, other: &Self, add_id: i64, chunk: usize) -> Result<()> {
        self.check_room(other.ntotal)?;
        for l in 0..other.nlist() {
            other.check_range(l, self.storage, chunk)?;
        }
        let held = self.sizes();
        for (table, more) in self.ids.iter_mut().zip(&other.ids) {
            if !more.is_empty() {
                Arc::make_mut(table).extend(more.iter().map(|id| id + add_id));
            }
        }
        let merging = Merging {
            ids: RowIds::Tables(&self.ids),
            held: &held,
            chunk,
        };
        let merged = self.store.merge(&other.store, &merging);
        if merged.is_err() {
            for (table, &held) in self.ids.iter_mut().zip(&held) {
                Arc::make_mut(table).truncate(held);
            }
            return merged;
        }
        for (list, &held) in held.iter().enumerate() {
            let table = self.ids[list].clone();
            let ids = &table[held..];
            if let Some(&max) = ids.iter().max() {
                self.next_id = self.next_id.max(max.saturating_add(1));
                let lists = vec![list as u32; ids.len()];
                self.follow(&Change::Came { ids, lists: &lists });
                self.changed(list);
            }
        }
        self.ntotal += other.ntotal;
        debug_assert_eq!(self.check(), Ok(()));
        Ok(())
    }

    /// Lists like these, but empty; automatic ids go on.
    pub fn emptied(&self, device: &E::Device) -> Self {
        let mut empty = Self::new(self.d, self.nlist(), self.storage, device);
        empty.next_id = self.next_id;
        empty
    }

    /// Makes room for `n` more rows: in proportion to what lists hold, or evenly while they are empty.
    pub fn reserve(&mut self, n: usize) -> Result<()> {
        self.check_room(n)?;
        let (nlist, ntotal) = (self.nlist(), self.ntotal);
        let share = |size: usize| {
            if ntotal == 0 {
                n.div_ceil(nlist)
            } else {
                let share = (n as u128 * size as u128).div_ceil(ntotal as u128);
                share as usize
            }
        };
        let shares: Vec<usize> = self.ids.iter().map(|ids| share(ids.len())).collect();
        self.store.reserve(&shares)?;
        for (table, &share) in self.ids.iter_mut().zip(&shares) {
            if share > 0 {
                let refused = |_| Error::Memory {
                    what: "room for ids",
                    bytes: share.saturating_mul(size_of::<i64>()),
                };
                let table = Arc::make_mut(table);
                table.try_reserve_exact(share).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Gives back what is allocated beyond rows and ids; bytes given back.
    pub fn shrink_to_fit(&mut self) -> Result<usize> {
        let bytes = |lists: &Self| {
            let (vectors, ids) = lists.bytes();
            vectors + ids
        };
        let before = bytes(self);
        self.store.shrink_to_fit(RowIds::Tables(&self.ids))?;
        self.map.take();
        self.readings = 0;
        // A table that a clone holds too stays: a smaller copy would take more memory.
        let own = self.ids.iter_mut().filter_map(Arc::get_mut);
        own.for_each(Vec::shrink_to_fit);
        Ok(before.saturating_sub(bytes(self)))
    }
}
