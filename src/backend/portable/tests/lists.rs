//! `PortableLists`: a log of rows in segments.

use super::*;
use crate::backend::{Merging, places, portable::PortableLists};
use burn::tensor::{DType, Device};

/// A log beside what it should hold.
struct Log {
    d: usize,
    store: PortableLists<B>,
    lists: Vec<Vec<Vec<f32>>>,
    rng: ChaCha8Rng,
}

impl Log {
    fn new(d: usize, nlist: usize, segment_rows: usize) -> Self {
        let device = Device::<B>::default();
        Self {
            d,
            store: PortableLists::in_segments((d, DType::F32), nlist, segment_rows, &device),
            lists: vec![Vec::new(); nlist],
            rng: rng((d + segment_rows) as u64),
        }
    }

    /// Appends `n` rows of random bits (finite ones) to lists by chance; the last stays empty.
    fn append(&mut self, n: usize) {
        let rows: Vec<f32> = (0..n * self.d)
            .map(|_| f32::from_bits(self.rng.random::<u32>() & 0xbfff_ffff))
            .collect();
        let last = self.lists.len() as u32 - 1;
        let lists: Vec<u32> = (0..n).map(|_| self.rng.random_range(0..last)).collect();
        append(&mut self.store, &rows, self.d, &lists);
        for (row, &list) in rows.chunks_exact(self.d).zip(&lists) {
            self.lists[list as usize].push(row.to_vec());
        }
    }

    /// Every row there is, list by list.
    fn all(&self) -> Vec<Slot> {
        let list = |(list, rows): (usize, &Vec<Vec<f32>>)| {
            let list = list as u32;
            (0..rows.len() as u32).map(move |slot| Slot { list, slot })
        };
        self.lists.iter().enumerate().flat_map(list).collect()
    }

    /// Fails unless `store` gives these rows in this order, bit for bit.
    #[track_caller]
    fn check(&self, store: &PortableLists<B>, at: &[Slot]) {
        let found = store.gather(at).unwrap();
        assert_eq!(found.dims(), [at.len(), self.d]);
        let row = |at: &Slot| self.lists[at.list as usize][at.slot as usize].clone();
        let expected: Vec<f32> = at.iter().flat_map(row).collect();
        assert!(bits(&read(found).unwrap()) == bits(&expected), "{at:?}");
    }

    /// [`check`](Self::check) in several orders, one row twice among them.
    #[track_caller]
    fn check_orders(&mut self, store: &PortableLists<B>) {
        let mut at = self.all();
        self.check(store, &at);
        at.reverse();
        self.check(store, &at);
        at.shuffle(&mut self.rng);
        self.check(store, &at);
        at.truncate(at.len() / 3 + 1);
        at.push(at[0]);
        self.check(store, &at);
        self.check(store, &at[..1]);
    }
}

fn append(store: &mut PortableLists<B>, rows: &[f32], d: usize, lists: &[u32]) {
    let to = Places {
        lists,
        ids: &[],
        held: RowIds::Tables(&[]),
    };
    store.append(tensor(rows, d), &to).unwrap();
}

#[test]
fn rows_come_back_bit_for_bit_in_any_order() {
    for d in [1, 3, 33] {
        // Segments never full, filled exactly by some pieces, and crossed by most.
        for segment_rows in [1, 7, 16, 1 << 20] {
            let mut log = Log::new(d, 4, segment_rows);
            for n in [1, 6, 7, 2, 0, 1, 40, 3, 16] {
                log.append(n);
                log.check_orders(&log.store.clone());
            }
        }
    }
}

#[test]
fn rows_of_the_log_in_their_order_are_found_where_segments_meet() {
    let mut store = PortableLists::in_segments((2, DType::F32), 1, 4, &Device::<B>::default());
    let rows: Vec<f32> = (0..22).map(|v| v as f32).collect();
    append(&mut store, &rows, 2, &[0; 11]);
    for (from, to) in [(0, 4), (3, 5), (2, 11), (8, 11), (0, 11)] {
        let at: Vec<Slot> = (from..to).map(|slot| Slot { list: 0, slot }).collect();
        let found = read(store.gather(&at).unwrap()).unwrap();
        assert_eq!(found, rows[2 * from as usize..2 * to as usize]);
    }
}

#[test]
fn a_clone_is_a_snapshot() {
    for segment_rows in [5, 1 << 20] {
        let mut log = Log::new(3, 3, segment_rows);
        log.append(12);
        let snapshot = log.store.clone();
        let held = log.all();
        let bytes = snapshot.bytes();
        log.append(20);
        log.check(&snapshot, &held);
        assert_eq!(snapshot.bytes(), bytes);
        log.check_orders(&log.store.clone());

        // What goes into the snapshot does not show in the log either.
        let mut snapshot = snapshot;
        append(&mut snapshot, &[9.0; 21], 3, &[1; 7]);
        log.check_orders(&log.store.clone());
        log.check(&snapshot, &held);
    }
}

#[test]
fn a_copy_on_a_device_holds_the_same_and_grows_alone() {
    let mut log = Log::new(3, 3, 5);
    log.append(12);
    let device = Device::<B>::default();
    let mut moved = log.store.to_device(RowIds::Tables(&[]), &device).unwrap();
    assert_eq!(moved.bytes(), log.store.bytes());
    log.check_orders(&moved);
    let first = log.lists[0].len() as u32;
    append(&mut moved, &[1.0, 2.0, 3.0], 3, &[0]);
    let added = Slot {
        list: 0,
        slot: first,
    };
    let found = moved.gather(&[added]).unwrap();
    assert_eq!(read(found).unwrap(), [1.0, 2.0, 3.0]);
    log.check_orders(&log.store.clone());
}

#[test]
fn bytes_hold_the_rows_and_no_more_than_half_as_many_again() {
    let mut log = Log::new(8, 2, 64);
    assert_eq!(log.store.bytes(), 0);
    for n in [1, 1, 1, 5, 30, 100, 2, 1] {
        log.append(n);
        let held = log.all().len() * 8 * size_of::<f32>();
        let bytes = log.store.bytes();
        assert!(bytes >= held, "{bytes} bytes for {held}");
        assert!(bytes <= held + held / 2, "{bytes} bytes for {held}");
    }
}

#[test]
fn a_log_starts_empty_and_says_what_ranks() {
    let keep = Keep::Vectors(Storage::Auto);
    let store = <PortableLists<B> as ListStore<B>>::new(5, 2, keep, &Device::<B>::default());
    assert_eq!(store.bytes(), 0);
    assert_eq!(store.ranks_by(), "f32 matrix product");
    let mut store = store;
    append(&mut store, &[0.5; 15], 5, &[1, 0, 1]);
    assert_eq!(store.bytes(), 60);
    let at = [Slot { list: 1, slot: 1 }, Slot { list: 0, slot: 0 }];
    assert_eq!(read(store.gather(&at).unwrap()).unwrap(), [0.5; 10]);
}

/// Bits that keep a row with probability `share`.
fn some_of(rng: &mut ChaCha8Rng, len: usize, share: f64) -> Vec<u32> {
    let mut keep = vec![0; len.div_ceil(32)];
    for slot in 0..len {
        keep[slot / 32] |= u32::from(rng.random_bool(share)) << (slot % 32);
    }
    keep
}

#[test]
fn rows_that_are_left_keep_their_order() {
    for segment_rows in [1, 7, 64, 1 << 20] {
        let mut log = Log::new(5, 4, segment_rows);
        for (n, share) in [
            (40, 0.9),
            (1, 0.5),
            (60, 0.1),
            (9, 1.0),
            (30, 0.0),
            (12, 0.6),
        ] {
            log.append(n);
            let (snapshot, held) = (log.store.clone(), log.all());
            let before = log.lists.clone();
            let mut keep = vec![None; 4];
            for (list, keep) in log.lists.iter().zip(&mut keep).skip(usize::from(n == 12)) {
                *keep = Some(some_of(&mut log.rng, list.len(), share));
            }
            log.store.retain(&keep).unwrap();
            for (list, keep) in log.lists.iter_mut().zip(&keep) {
                let Some(keep) = keep else { continue };
                *list = places(keep, list.len())
                    .map(|slot| list[slot].clone())
                    .collect();
            }
            let after = std::mem::replace(&mut log.lists, before);
            log.check(&snapshot, &held);
            log.lists = after;
            if !log.all().is_empty() {
                log.check_orders(&log.store.clone());
            }
            // no more than half of the log is gaps
            let rows = log.all().len();
            assert!(log.store.bytes() <= 3 * (rows + 64) * 20, "{rows} rows");
        }
        let held = log.all().len() * 20;
        log.store.shrink_to_fit(RowIds::Tables(&[])).unwrap();
        assert_eq!(log.store.bytes(), held);
        log.check_orders(&log.store.clone());
    }
}

#[test]
fn room_is_used_and_given_back() {
    for rows in [0, 3, 32] {
        let mut log = Log::new(4, 3, 64);
        log.append(rows);
        log.store.reserve(&[10, 0, 20]).unwrap();
        let bytes = log.store.bytes();
        assert!(bytes >= (rows + 30) * 16);
        log.store.reserve(&[1, 1, 1]).unwrap();
        assert_eq!(log.store.bytes(), bytes);
        log.append(30);
        assert_eq!(log.store.bytes(), bytes);
        log.check_orders(&log.store.clone());
        log.store.reserve(&[500, 0, 0]).unwrap();
        log.store.shrink_to_fit(RowIds::Tables(&[])).unwrap();
        assert_eq!(log.store.bytes(), (rows + 30) * 16);
        log.check_orders(&log.store.clone());
    }
}

#[test]
fn lists_of_another_log_follow_in_order() {
    for (segment_rows, chunk) in [(5, 1), (64, 7), (1 << 20, 1000)] {
        let (mut log, mut other) = (Log::new(3, 4, segment_rows), Log::new(3, 4, 16));
        log.append(20);
        other.append(33);
        let held: Vec<usize> = log.lists.iter().map(Vec::len).collect();
        for (list, more) in log.lists.iter_mut().zip(&other.lists) {
            list.extend(more.iter().cloned());
        }
        // ids rise within lists, or do not
        for rising in [true, false] {
            let ids = |list: &Vec<Vec<f32>>| {
                let id = |i: usize| {
                    if rising {
                        3 * i as i64
                    } else {
                        -(i as i64) - 2
                    }
                };
                Arc::new((0..list.len()).map(id).collect::<Vec<_>>())
            };
            let tables: Vec<_> = log.lists.iter().map(ids).collect();
            let merging = Merging {
                ids: RowIds::Tables(&tables),
                held: &held,
                chunk,
            };
            let mut store = log.store.clone();
            store.merge(&other.store, &merging).unwrap();
            log.check_orders(&store);
        }
    }
}
