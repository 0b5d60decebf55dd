//! Inverted lists on the device: rows come back bit for bit, clones are snapshots.

use super::support::{Client, Device, Rng, client, download, guises, upload};
use burn_ivf_kernels::{
    KernelError,
    device::{Facts, Gpu},
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
            .map(|_| f32::from_bits(rng.bits() as u32))
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

    fn check(&self, client: &Client) {
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
