//! Lists on both sides, and what can restrict a scan of them.

use super::super::support::{Client, Device, Rng, upload};
use burn_ivf_kernels::{
    device::Gpu,
    list_scan::{
        List, ListIds, Orders,
        restrict::{ListOrder, Masks, ReadingOrder},
    },
    rows::{
        Layout, Rows,
        device::{Added, DeviceLists},
    },
};
use std::sync::Arc;

/// Lists of vectors whose components are small whole numbers, so that distances are exact and ties
/// many: every bit must be the CPU's.
pub struct World {
    pub d: usize,
    pub rows: Vec<Rows>,
    ids: Vec<Vec<i64>>,
    pub device: DeviceLists<Device>,
    pub orders: Orders,
}

impl World {
    pub fn new(
        gpu: &Gpu<Device>,
        client: &Client,
        (d, nlist, n): (usize, usize, usize),
        rng: &mut Rng,
    ) -> Self {
        let mut world = Self {
            d,
            rows: (0..nlist).map(|_| Rows::new(d, Layout::F32)).collect(),
            ids: vec![vec![]; nlist],
            device: DeviceLists::new(gpu, d, nlist, 2),
            orders: Orders::default(),
        };
        for n in [n / 3, n - n / 3] {
            world.add(client, n, rng);
        }
        world
    }

    pub fn add(&mut self, client: &Client, n: usize, rng: &mut Rng) {
        let flat: Vec<f32> = (0..n * self.d).map(|_| whole(rng)).collect();
        // Half of the rows are in the first three lists.
        let list = |rng: &mut Rng| {
            let nlist = self.rows.len();
            let most = rng.pick(&[nlist.min(3), nlist]);
            rng.below(most) as u32
        };
        let lists: Vec<u32> = (0..n).map(|_| list(rng)).collect();
        let ids: Vec<i64> = (0..n).map(|_| rng.below(5000) as i64 - 100).collect();
        let added = Added {
            rows: &upload(client, &flat),
            lists: &lists,
            ids: &ids,
        };
        let held = self.ids.clone();
        self.device.append(&added, |l, s| held[l][s]).unwrap();
        for (i, &list) in lists.iter().enumerate() {
            self.rows[list as usize].push(&flat[i * self.d..][..self.d]);
            self.ids[list as usize].push(ids[i]);
        }
    }

    pub fn lists(&self) -> Vec<List<'_>> {
        let pairs = self.rows.iter().zip(&self.ids);
        pairs
            .map(|(rows, ids)| List::new(rows, ListIds::Table(ids)).unwrap())
            .collect()
    }

    pub fn order(&self, rng: &mut Rng) -> ReadingOrder {
        let mut order = |rows: &Rows| {
            let keys: Vec<f32> = (0..rows.len()).map(|_| rng.float()).collect();
            Arc::new(ListOrder::ascending(&keys))
        };
        ReadingOrder {
            lists: self.rows.iter().map(&mut order).collect(),
        }
    }

    /// Masks that let about `share` of 1000 rows pass each.
    pub fn masks(&self, count: usize, nq: usize, share: usize, rng: &mut Rng) -> Masks {
        let mut starts = vec![0];
        for list in &self.rows {
            starts.push(starts[starts.len() - 1] + list.len().div_ceil(32));
        }
        let mut mask = || {
            let mut words = vec![0_u32; starts[self.rows.len()]];
            for (l, list) in self.rows.iter().enumerate() {
                for s in 0..list.len() {
                    words[starts[l] + s / 32] |= u32::from(rng.below(1000) < share) << (s % 32);
                }
            }
            words
        };
        let masks: Vec<Vec<u32>> = (0..count).map(|_| mask()).collect();
        let of = match count {
            1 => vec![],
            _ => (0..nq).map(|_| rng.below(count) as u32).collect(),
        };
        Masks { masks, starts, of }
    }

    pub fn caps(&self, probes: &[u32], rng: &mut Rng) -> Vec<u32> {
        let cap = |&list: &u32| match self.rows.get(list as usize) {
            None => 7,
            Some(rows) => match rng.below(5) {
                0 => 0,
                1 => rows.len() as u32,
                2 => u32::MAX,
                _ => rng.below(rows.len() + 1) as u32,
            },
        };
        probes.iter().map(cap).collect()
    }
}

/// A component.
pub fn whole(rng: &mut Rng) -> f32 {
    rng.below(5) as f32 - 2.0
}
