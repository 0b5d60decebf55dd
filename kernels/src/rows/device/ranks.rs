//! Ranks: the order of (id, insertion) as u32, and the ids by rank.

use super::{Added, Copy, DeviceLists, Extent, Pool, Table};
use crate::KernelError;
use cubecl::{Runtime, server::Handle};
use std::sync::Arc;

impl<R: Runtime> DeviceLists<R> {
    /// The ranks of what is added.
    pub(super) fn ranking(
        &self,
        added: &Added<'_>,
        held: impl Fn(usize, usize) -> i64,
    ) -> Result<Ranking, KernelError> {
        let n = added.lists.len();
        if self.table.is_none() {
            let ranks: Vec<u32> = (self.len..self.len + n).map(|r| r as u32).collect();
            let ranks = self.gpu.upload("ranks", &ranks)?;
            return Ok(Ranking {
                ranks,
                all: false,
                ids: None,
                ranked: self.len + n,
                last_id: 0,
            });
        }
        let last_id = added.ids.iter().copied().max().unwrap_or(i64::MIN);
        let rising = added.ids.is_sorted() && added.ids[0] >= self.last_id;
        // Ranks of rows dropped since are given anew before they take more than half of them.
        let ranked = self.ranked + n;
        let sparse = ranked > 2 * (self.len + n) + 1024 || ranked >= u32::MAX as usize;
        if rising && !sparse {
            let ranks: Vec<u32> = (self.ranked..ranked).map(|r| r as u32).collect();
            let ids = self
                .gpu
                .upload("ids", &id_words(added.ids.iter().copied(), self.words))?;
            let ranks = self.gpu.upload("ranks", &ranks)?;
            return Ok(Ranking {
                ranks,
                all: false,
                ids: Some(ids),
                ranked,
                last_id,
            });
        }
        let ids = self.held_ids(held).chain(added.ids.iter().copied());
        self.rank_all(&ids.collect::<Vec<_>>(), last_id)
    }

    /// The table of ids after ranking the rows held anew, without gaps between their ranks; `extents`
    /// says where they lie in `pool`.
    pub(super) fn rank_anew(
        &self,
        pool: &Pool,
        extents: &[Extent],
        held: impl Fn(usize, usize) -> i64,
    ) -> Result<Option<Arc<Table>>, KernelError> {
        if self.table.is_none() {
            return Ok(None);
        }
        let ids: Vec<i64> = self.held_ids(held).collect();
        let ranking = self.rank_all(&ids, self.last_id)?;
        ranking.apply(self, pool, extents, &pool.ranks)
    }

    /// The ids of the rows held, list by list.
    fn held_ids(&self, held: impl Fn(usize, usize) -> i64) -> impl Iterator<Item = i64> {
        let lens = self.extents.iter().map(|e| e.len).enumerate();
        lens.flat_map(|(l, len)| (0..len).map(move |s| (l, s)))
            .map(move |(l, s)| held(l, s))
    }

    /// Ranks everything anew, given the ids of the rows held, list by list, then of the new ones. Rows
    /// of one id may come in any order, for their labels are the same.
    fn rank_all(&self, ids: &[i64], last_id: i64) -> Result<Ranking, KernelError> {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&row| (ids[row as usize], row));
        let mut ranks = vec![0; ids.len()];
        for (rank, &row) in order.iter().enumerate() {
            ranks[row as usize] = rank as u32;
        }
        let sorted = order.iter().map(|&row| ids[row as usize]);
        Ok(Ranking {
            ids: Some(self.gpu.upload("ids", &id_words(sorted, self.words))?),
            ranks: self.gpu.upload("ranks", &ranks)?,
            all: true,
            ranked: ids.len(),
            last_id,
        })
    }
}

/// Ranks on their way to the device.
pub(super) struct Ranking {
    /// Of the new rows; of all rows, held ones first, when `all`.
    ranks: Handle,
    all: bool,
    /// Ids of the new ranks; of all ranks when `all`.
    ids: Option<Handle>,
    /// Ranks given, with these.
    pub ranked: usize,
    pub last_id: i64,
}

impl Ranking {
    /// Writes the ranks into `pool` and returns the table of ids.
    pub fn apply<R: Runtime>(
        &self,
        lists: &DeviceLists<R>,
        pool: &Pool,
        extents: &[Extent],
        to: &Handle,
    ) -> Result<Option<Arc<Table>>, KernelError> {
        let n = extents.iter().map(|e| e.len).sum::<usize>() - lists.len;
        let mut copy = Copy {
            n,
            width: 1,
            source: (&self.ranks, n, 1),
            target: (&pool.ranks, pool.capacity, 1),
            filled: 1,
        };
        let (Some(table), Some(ids)) = (&lists.table, &self.ids) else {
            copy.launch(&lists.gpu, None, Some(to))?;
            return Ok(None);
        };
        let words = lists.words;
        let total = lists.len + n;
        if self.all {
            // Held rows keep their places (or lie where `extents` says), new ones follow in `to`.
            let old: Vec<u32> = extents
                .iter()
                .zip(&lists.extents)
                .flat_map(|(e, old)| (0..old.len).map(move |i| (e.start + i) as u32))
                .collect();
            copy.source = (&self.ranks, total, 1);
            if !old.is_empty() {
                let held = lists.gpu.upload("places of vectors", &old)?;
                copy.n = old.len();
                copy.launch(&lists.gpu, None, Some(&held))?;
            }
            if n > 0 {
                let new: Vec<u32> = (lists.len as u32..total as u32).collect();
                let new = lists.gpu.upload("places of ranks", &new)?;
                copy.n = n;
                copy.launch(&lists.gpu, Some(&new), Some(to))?;
            }
            return Ok(Some(Arc::new(Table {
                ids: ids.clone(),
                capacity: total,
            })));
        }
        copy.launch(&lists.gpu, None, Some(to))?;
        let ranked = self.ranked;
        let own = Arc::strong_count(table) == 1;
        let grown;
        let target = if own && ranked <= table.capacity {
            table.clone()
        } else {
            let capacity = if lists.ranked == 0 {
                ranked
            } else {
                ranked + ranked / 4
            };
            grown = Table {
                ids: lists.gpu.empty("ids", capacity.saturating_mul(words))?,
                capacity,
            };
            if lists.ranked > 0 {
                let held = Copy {
                    n: 1,
                    width: lists.ranked * words,
                    source: (&table.ids, table.capacity * words, lists.ranked * words),
                    target: (&grown.ids, capacity * words, lists.ranked * words),
                    filled: lists.ranked * words,
                };
                held.launch(&lists.gpu, None, None)?;
            }
            Arc::new(grown)
        };
        let places: Vec<u32> = (lists.ranked as u32..ranked as u32).collect();
        let places = lists.gpu.upload("places of ids", &places)?;
        let new = Copy {
            n,
            width: words,
            source: (ids, n * words, words),
            target: (&target.ids, target.capacity * words, words),
            filled: words,
        };
        new.launch(&lists.gpu, None, Some(&places))?;
        Ok(Some(target))
    }
}

/// Ids as little-endian words.
fn id_words(ids: impl Iterator<Item = i64>, words: usize) -> Vec<u32> {
    ids.flat_map(|id| [id as u32, (id >> 32) as u32].into_iter().take(words))
        .collect()
}
