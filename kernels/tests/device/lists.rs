//! Inverted lists on the device: rows come back bit for bit, clones are snapshots.

use super::support::{Client, Device, Rng, client, download, guises, upload};
use burn_ivf_kernels::{
    KernelError, Metric,
    device::{Facts, Gpu, Grain},
    list_scan::{DeviceProblem, Order, Reads, scan_on},
    rows::device::{Added, DeviceLists},
};

/// Lists on the device beside plain ones.
#[derive(Clone)]
struct Model {
    lists: DeviceLists<Device>,
    rows: Vec<Vec<Vec<f32>>>,
    ids: Vec<Vec<i64>>,
}

impl Model {
    fn new(gpu: &Gpu<Device>, d: usize, nlist: usize) -> Self {
        Self {
            lists: DeviceLists::new(gpu, d, nlist, 2),
            rows: vec![vec![]; nlist],
            ids: vec![vec![]; nlist],
        }
    }

    fn add(&mut self, client: &Client, rng: &mut Rng, n: usize, rising: bool) {
        let (d, nlist) = (self.lists.d(), self.rows.len());
        let rows: Vec<f32> = (0..n * d)
            .map(|_| {
                // any finite value
                let value = f32::from_bits(rng.bits() as u32);
                if value.is_finite() { value } else { -0.0 }
            })
            .collect();
        let favourite = rng.below(nlist);
        let lists: Vec<u32> = (0..n)
            .map(|_| if rng.below(3) == 0 { rng.below(nlist) } else { favourite } as u32)
            .collect();
        let next = self.ids.iter().flatten().max().map_or(0, |id| id + 1);
        let ids: Vec<i64> = (0..n as i64)
            .map(|i| {
                if rising {
                    next + i
                } else {
                    rng.below(50) as i64 - 25
                }
            })
            .collect();
        let handle = upload(client, &rows);
        let held = self.ids.clone();
        let added = Added {
            rows: &handle,
            lists: &lists,
            ids: &ids,
        };
        self.lists
            .append(&added, |list, slot| held[list][slot])
            .unwrap();
        for (i, &list) in lists.iter().enumerate() {
            self.rows[list as usize].push(rows[i * d..(i + 1) * d].to_vec());
            self.ids[list as usize].push(ids[i]);
        }
    }

    /// Drops rows by chance, `percent` of them.
    fn drop(&mut self, rng: &mut Rng, percent: usize) {
        let keep: Vec<Option<Vec<u32>>> = (self.rows.iter())
            .map(|rows| {
                let mut keep = vec![0_u32; rows.len().div_ceil(32)];
                for slot in 0..rows.len() {
                    keep[slot / 32] |= u32::from(rng.below(100) >= percent) << (slot % 32);
                }
                (rng.below(4) > 0).then_some(keep)
            })
            .collect();
        self.lists.retain(&keep).unwrap();
        for ((rows, ids), keep) in self.rows.iter_mut().zip(&mut self.ids).zip(&keep) {
            let Some(keep) = keep else { continue };
            let kept = |slot: usize| keep[slot / 32] >> (slot % 32) & 1 == 1;
            *rows = (0..rows.len())
                .filter(|&s| kept(s))
                .map(|s| rows[s].clone())
                .collect();
            *ids = (0..ids.len())
                .filter(|&s| kept(s))
                .map(|s| ids[s])
                .collect();
        }
    }

    fn shrink(&mut self) {
        let ids = self.ids.clone();
        self.lists
            .shrink_to_fit(|list, slot| ids[list][slot])
            .unwrap();
        let rows: usize = self.rows.iter().map(Vec::len).sum();
        let words = self.lists.d().next_multiple_of(4) + 1;
        assert_eq!(self.lists.bytes(), 4 * rows * words);
    }

    /// Every row at its place, and a search of all lists finds ids in the order of the model.
    fn check(&self, client: &Client) {
        self.check_ids(client);
        for (list, rows) in self.rows.iter().enumerate() {
            assert_eq!(self.lists.list_len(list), rows.len());
            if rows.is_empty() {
                continue;
            }
            let positions: Vec<u32> = (0..rows.len())
                .rev()
                .map(|slot| self.lists.position(list as u32, slot as u32))
                .collect();
            let handle = self.lists.gather(&positions).unwrap();
            let found: Vec<u32> = download(client, &handle, rows.len() * self.lists.d());
            let bits = rows.iter().rev().flatten().map(|v| v.to_bits());
            assert_eq!(found, bits.collect::<Vec<_>>(), "list {list}");
        }
    }
}

impl Model {
    /// The inner product with a query of zeros is 0 for every row, so ids alone decide the order.
    fn check_ids(&self, client: &Client) {
        let n: usize = self.ids.iter().map(Vec::len).sum();
        if n == 0 {
            return;
        }
        let query = upload(client, &vec![0.0_f32; self.lists.d()]);
        let problem = DeviceProblem {
            metric: Metric::InnerProduct,
            k: n,
            lists: &self.lists,
            queries: &query,
            nq: 1,
            workspace: 1 << 24,
            order: Order::QueryMajor,
            grain: Grain::default(),
        };
        let probes: Vec<u32> = (0..self.rows.len() as u32).collect();
        let probes = upload(client, &probes);
        let reads = Reads::Lists(&probes, self.rows.len());
        let found = scan_on(&problem, reads).unwrap();
        let labels: Vec<i64> = download(client, &found.labels, n);
        let mut expected: Vec<i64> = self.ids.iter().flatten().copied().collect();
        expected.sort_unstable();
        assert_eq!(labels, expected, "ids by rank");
    }
}

#[test]
fn rows_that_are_left_keep_order_bits_and_ids() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(21);
    for d in [1, 7, 32] {
        let mut model = Model::new(gpu, d, 4);
        let mut clones: Vec<Model> = Vec::new();
        for turn in 0..14 {
            let n = rng.pick(&[1, 30, 120]);
            let rising = rng.below(2) == 0;
            model.add(&client, &mut rng, n, rising);
            let percent = rng.pick(&[1, 40, 90, 100]);
            // in place when no clone is held, into new buffers otherwise
            if turn % 3 == 0 {
                clones.push(model.clone());
            } else if turn % 3 == 2 {
                clones.clear();
            }
            model.drop(&mut rng, percent);
            model.check(&client);
            clones.iter().for_each(|clone| clone.check(&client));
            if turn % 4 == 3 {
                model.shrink();
                model.check(&client);
            }
        }
        if let Some(clone) = clones.first_mut() {
            clone.drop(&mut rng, 50);
            clone.check(&client);
            model.check(&client);
        }
    }
}

#[test]
fn room_is_made_once() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(22);
    let mut model = Model::new(gpu, 5, 3);
    model.add(&client, &mut rng, 20, true);
    model.lists.reserve(&[100, 100, 100]).unwrap();
    let bytes = model.lists.bytes();
    for _ in 0..10 {
        model.add(&client, &mut rng, 10, true);
        assert_eq!(model.lists.bytes(), bytes);
    }
    model.check(&client);
}

#[test]
fn ranks_of_rows_long_gone_are_given_anew() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(23);
    let mut model = Model::new(gpu, 2, 2);
    for _ in 0..30 {
        model.add(&client, &mut rng, 200, true);
        model.drop(&mut rng, 95);
    }
    model.check(&client);
}

#[test]
fn rows_come_back_bit_for_bit_however_they_arrive() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(8);
    for d in [1, 3, 4, 7, 32, 100] {
        let mut model = Model::new(gpu, d, 5);
        for n in [1, 40, 2, 3, 100, 1, 1, 1, 17, 250] {
            let rising = rng.below(2) == 0;
            model.add(&client, &mut rng, n, rising);
            model.check(&client);
        }
    }
}

#[test]
fn a_clone_is_a_snapshot() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(9);
    let mut first = Model::new(gpu, 6, 3);
    first.add(&client, &mut rng, 50, true);
    first.add(&client, &mut rng, 20, true);
    let mut second = first.clone();
    for turn in 0..6 {
        first.add(&client, &mut rng, 7, turn % 2 == 0);
        second.add(&client, &mut rng, 9, turn % 3 == 0);
        first.check(&client);
        second.check(&client);
    }
}

#[test]
fn adding_from_another_thread_is_seen_by_this_one() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut model = Model::new(gpu, 5, 3);
    model.add(&client, &mut Rng(1), 30, true);
    let mut model = std::thread::spawn(move || {
        let client = super::support::client();
        let mut rng = Rng(2);
        for _ in 0..4 {
            model.add(&client, &mut rng, 5, true);
        }
        model
    })
    .join()
    .unwrap();
    model.check(&client);
    model.add(&client, &mut Rng(3), 5, false);
    model.check(&client);
}

#[test]
fn adding_little_by_little_costs_little() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut model = Model::new(gpu, 4, 8);
    let mut rng = Rng(4);
    let mut moved = 0;
    for _ in 0..300 {
        let before = model.lists.bytes();
        model.add(&client, &mut rng, 3, true);
        moved += usize::from(model.lists.bytes() != before);
    }
    assert!(moved < 40, "{moved} of 300 additions made a new buffer");
    let rows = 4 * 5 * 900;
    assert!(
        model.lists.bytes() < 2 * rows,
        "{} bytes for {rows}",
        model.lists.bytes()
    );
    model.check(&client);
}

#[test]
fn what_the_device_cannot_hold_is_refused_and_nothing_is_lost() {
    let client = client();
    let facts = Facts {
        buffer: 4096,
        ..Facts::of(&client)
    };
    let gpu = Gpu::with(&client, facts);
    let mut model = Model::new(&gpu, 8, 2);
    model.add(&client, &mut Rng(1), 60, true);
    let rows = vec![0.0_f32; 200 * 8];
    let handle = upload(&client, &rows);
    let added = Added {
        rows: &handle,
        lists: &[0; 200],
        ids: &[7; 200],
    };
    let ids = model.ids.clone();
    let error = model.lists.append(&added, |l, s| ids[l][s]).unwrap_err();
    assert!(
        matches!(error, KernelError::Buffer { limit: 4096, .. }),
        "{error}"
    );
    model.check(&client);
    model.add(&client, &mut Rng(2), 10, true);
    model.check(&client);
}
