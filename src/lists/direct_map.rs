//! Where the rows of an id lie: a derived table from ids to places, kept in step with the lists.
//!
//! Dropping a row moves all later rows of its list, so a table of slots would have to be written anew.
//! Rows are therefore named by number, the how-many-eth row that came to their list: numbers ascend
//! within a list whatever is dropped, and a slot is found from a number by bisection, or at once in a
//! list that has lost nothing. So a change costs what it changes, and a list's worth of numbers where
//! the list itself is moved.

use crate::backend::Slot;
use hashbrown::{HashMap, hash_map::Entry};
use std::sync::Arc;

/// A row by list and number; orders as rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    list: u32,
    number: u32,
}

/// The numbers of the rows of a list.
#[derive(Debug, Clone, Default)]
struct Numbers {
    /// That of the next row.
    next: u32,
    /// Of every row, ascending; none while row `s` has number `s`.
    of: Option<Vec<u32>>,
}

/// From ids to the rows that have them.
#[derive(Debug, Clone)]
pub(super) struct DirectMap {
    /// The first row of an id, by list and place.
    first: HashMap<i64, Named>,
    /// Further rows of ids that several rows share, in no order.
    more: HashMap<i64, Vec<Named>>,
    numbers: Vec<Numbers>,
}

impl DirectMap {
    /// The map of lists with these ids.
    pub fn new(ids: &[Arc<Vec<i64>>]) -> Self {
        let mut map = Self {
            first: HashMap::with_capacity(ids.iter().map(|ids| ids.len()).sum()),
            more: HashMap::new(),
            numbers: vec![Numbers::default(); ids.len()],
        };
        for (list, ids) in ids.iter().enumerate() {
            ids.iter().for_each(|&id| map.push(id, list));
        }
        map
    }

    /// Whether `n` more rows in a list can be numbered.
    pub fn has_numbers(&self, n: usize) -> bool {
        let most = self.numbers.iter().map(|numbers| numbers.next).max();
        n <= (u32::MAX - most.unwrap_or(0)) as usize
    }

    /// Takes in a row that came to the end of `list`.
    pub fn push(&mut self, id: i64, list: usize) {
        let numbers = &mut self.numbers[list];
        let number = numbers.next;
        numbers.next += 1;
        if let Some(of) = &mut numbers.of {
            of.push(number);
        }
        let mut row = Named {
            list: list as u32,
            number,
        };
        match self.first.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(row);
            }
            Entry::Occupied(mut entry) => {
                if row < *entry.get() {
                    row = entry.insert(row);
                }
                self.more.entry(id).or_default().push(row);
            }
        }
    }

    /// Forgets the rows of `list`, with these ids, whose bit in `keep` is clear.
    pub fn retain(&mut self, list: usize, ids: &[i64], keep: &[u32]) {
        let of = self.numbers[list].of.take();
        let number = |slot: usize| of.as_ref().map_or(slot as u32, |of| of[slot]);
        let mut left = Vec::with_capacity(ids.len());
        for (slot, &id) in ids.iter().enumerate() {
            let number = number(slot);
            if keep[slot / 32] >> (slot % 32) & 1 == 1 {
                left.push(number);
            } else {
                let list = list as u32;
                self.remove(id, Named { list, number });
            }
        }
        self.numbers[list].of = Some(left);
    }

    fn remove(&mut self, id: i64, row: Named) {
        let Entry::Occupied(mut first) = self.first.entry(id) else {
            return;
        };
        let Some(more) = self.more.get_mut(&id) else {
            first.remove();
            return;
        };
        if *first.get() == row {
            // At least one other is there.
            if let Some((at, _)) = more.iter().enumerate().min_by_key(|(_, row)| **row) {
                first.insert(more.swap_remove(at));
            }
        } else {
            more.retain(|other| *other != row);
        }
        if more.is_empty() {
            self.more.remove(&id);
        }
    }

    /// The first row with this id: of the smallest list, the row that came first.
    pub fn find(&self, id: i64) -> Option<Slot> {
        self.first.get(&id).map(|&row| self.slot(row))
    }

    /// All rows with this id, in no order.
    pub fn all(&self, id: i64) -> impl Iterator<Item = Slot> + '_ {
        let more = self.more.get(&id).into_iter().flatten();
        let first = self.first.get(&id).into_iter();
        first.chain(more).map(|&row| self.slot(row))
    }

    fn slot(&self, row: Named) -> Slot {
        let numbers = &self.numbers[row.list as usize];
        let slot = match &numbers.of {
            None => row.number,
            Some(of) => of.partition_point(|&number| number < row.number) as u32,
        };
        Slot {
            list: row.list,
            slot,
        }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let numbers = |numbers: &Numbers| numbers.of.as_ref().map_or(0, Vec::capacity);
        let numbers: usize = self.numbers.iter().map(numbers).sum();
        let more: usize = self.more.values().map(Vec::capacity).sum();
        self.first.allocation_size()
            + self.more.allocation_size()
            + self.numbers.capacity() * size_of::<Numbers>()
            + numbers * size_of::<u32>()
            + more * size_of::<Named>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// The map against plain lists, ids shared by many rows.
    #[test]
    fn follows_rows_that_come_and_go() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let mut lists: Vec<Vec<i64>> = vec![Vec::new(); 4];
        let mut map = DirectMap::new(&vec![Arc::default(); 4]);
        for _ in 0..3000 {
            let list = rng.random_range(0..4);
            if rng.random_bool(0.7) {
                let id = rng.random_range(-6..40);
                lists[list].push(id);
                map.push(id, list);
            } else {
                let n = lists[list].len();
                let keep: Vec<u32> = (0..n.div_ceil(32))
                    .map(|_| rng.random::<u32>() | rng.random::<u32>())
                    .collect();
                map.retain(list, &lists[list], &keep);
                let mut slot = 0;
                lists[list].retain(|_| {
                    slot += 1;
                    keep[(slot - 1) / 32] >> ((slot - 1) % 32) & 1 == 1
                });
            }
            let tables: Vec<_> = lists.iter().cloned().map(Arc::new).collect();
            let new = DirectMap::new(&tables);
            for id in -7..41 {
                let mut all: Vec<Slot> = map.all(id).collect();
                all.sort_by_key(|at| (at.list, at.slot));
                let expected: Vec<Slot> = (0..4)
                    .flat_map(|l| (0..lists[l].len()).map(move |s| (l, s)))
                    .filter(|&(l, s)| lists[l][s] == id)
                    .map(|(l, s)| Slot {
                        list: l as u32,
                        slot: s as u32,
                    })
                    .collect();
                assert_eq!(all, expected, "id {id}");
                assert_eq!(map.find(id), expected.first().copied());
                assert_eq!(new.find(id), map.find(id));
            }
        }
    }
}
