//! Random appends, clones and searches under facts of devices that do not exist, against exact
//! integer arithmetic: labels and distances must be equal, ties included.
//!
//! `BURN_IVF_FUZZ_SECONDS` (default 5) and `BURN_IVF_FUZZ_SEED`.

use super::support::{Client, Device, Rng, client, download, poison, upload};
use burn_ivf_kernels::{
    Metric,
    device::{Facts, Filter, Gpu, Grain},
    list_scan::{DeviceProblem, Order, Reads, SKIP, scan_on},
    rows::device::{Added, DeviceLists},
};
use std::time::{Duration, Instant};

/// Lists on the device beside plain ones, of small whole numbers.
#[derive(Clone)]
struct Model {
    lists: DeviceLists<Device>,
    rows: Vec<Vec<Vec<f32>>>,
    ids: Vec<Vec<i64>>,
    words: usize,
    next: i64,
}

impl Model {
    fn add(&mut self, client: &Client, rng: &mut Rng, n: usize, spread: usize) {
        let (d, nlist) = (self.lists.d(), self.rows.len());
        let rows: Vec<f32> = (0..n * d)
            .map(|_| rng.below(2 * spread + 1) as f32 - spread as f32)
            .collect();
        let favourite = rng.below(nlist);
        let lists: Vec<u32> = (0..n)
            .map(|_| if rng.below(2) == 0 { rng.below(nlist) } else { favourite } as u32)
            .collect();
        let kind = rng.below(5);
        let ids: Vec<i64> = (0..n as i64)
            .map(|i| match kind {
                0..=2 => self.next + i,
                3 => rng.below(40) as i64 - 20,
                _ if self.words == 2 => rng.pick(&[i64::MIN, i64::MAX, -2, 0, 1 << 40]),
                _ => rng.pick(&[i64::from(i32::MIN), i64::from(i32::MAX), 0, -7]),
            })
            .collect();
        let handle = upload(client, &rows);
        let added = Added {
            rows: &handle,
            lists: &lists,
            ids: &ids,
        };
        let held = &self.ids;
        self.lists
            .append(&added, |list, slot| held[list][slot])
            .unwrap();
        for (i, &list) in lists.iter().enumerate() {
            self.rows[list as usize].push(rows[i * d..(i + 1) * d].to_vec());
            let id = if self.words == 0 {
                self.rows[0].len() as i64 - 1
            } else {
                ids[i]
            };
            self.ids[list as usize].push(id);
        }
        self.next = self.next.saturating_add(n as i64);
    }

    fn best(
        &self,
        metric: Metric,
        query: &[f32],
        k: usize,
        named: impl Iterator<Item = (usize, usize)>,
    ) -> (Vec<f32>, Vec<i64>) {
        let bad = query.iter().any(|v| !v.is_finite());
        let mut all: Vec<(i64, i64)> = named
            .filter(|_| !bad)
            .map(|(l, s)| {
                let terms = query.iter().zip(&self.rows[l][s]);
                let key: f32 = terms
                    .map(|(q, x)| match metric {
                        Metric::L2 => (q - x) * (q - x),
                        Metric::InnerProduct => -q * x,
                    })
                    .sum();
                (key as i64, self.ids[l][s])
            })
            .collect();
        all.sort_unstable();
        all.truncate(k);
        let sign = if metric == Metric::L2 { 1.0 } else { -1.0 };
        let mut values: Vec<f32> = all.iter().map(|a| sign * a.0 as f32 + 0.0).collect();
        let mut labels: Vec<i64> = all.iter().map(|a| a.1).collect();
        values.resize(k, sign * f32::INFINITY);
        labels.resize(k, -1);
        (values, labels)
    }

    fn check(&self, client: &Client, rng: &mut Rng, gpu: &Gpu<Device>) {
        let (d, nlist) = (self.lists.d(), self.rows.len());
        let nq = rng.pick(&[1, 2, 5, 9, 40]);
        let k = rng.pick(&[
            1, 1, 2, 3, 10, 16, 17, 33, 64, 65, 100, 256, 257, 300, 1025, 6000,
        ]);
        let metric = rng.pick(&Metric::ALL);
        let workspace = rng.pick(&[8, 4096, 1 << 16, 1 << 28]);
        let order = rng.pick(&Order::ALL);
        let mut queries: Vec<f32> = (0..nq * d).map(|_| rng.below(7) as f32 - 3.0).collect();
        if rng.below(3) == 0 {
            let at = rng.below(nq * d);
            queries[at] = rng.pick(&[f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        }
        let all: Vec<(usize, usize)> = (0..nlist)
            .flat_map(|l| (0..self.rows[l].len()).map(move |s| (l, s)))
            .collect();
        let kind = rng.below(3);
        let mut named: Vec<Vec<(usize, usize)>> = Vec::new();
        let mut words: Vec<u32> = Vec::new();
        let per_query = match kind {
            0 => 1 + rng.below(nlist + 2),
            _ => 1 + rng.below(all.len() + 3),
        };
        for _ in 0..nq {
            let count = if kind == 0 { nlist } else { all.len() };
            let mut order: Vec<usize> = (0..count).collect();
            for i in (1..count).rev() {
                order.swap(i, rng.below(i + 1));
            }
            let mut mine = Vec::new();
            let mut left = order.into_iter();
            for _ in 0..per_query {
                let next = if rng.below(5) == 0 { None } else { left.next() };
                match next {
                    None => words.push(SKIP),
                    Some(l) if kind == 0 => {
                        words.push(l as u32);
                        mine.extend((0..self.rows[l].len()).map(|s| (l, s)));
                    }
                    Some(i) => {
                        let (l, s) = all[i];
                        words.push(self.lists.position(l as u32, s as u32));
                        mine.push((l, s));
                    }
                }
            }
            named.push(mine);
        }
        let whole = kind == 2 && nlist == 1;
        let on = upload(client, &queries);
        let names = upload(client, &words);
        let reads = if whole {
            Reads::All
        } else if kind == 0 {
            Reads::Lists(&names, per_query)
        } else {
            Reads::Rows(&names, per_query)
        };
        poison(client, &[nq * k, 2 * nq * k, 4 * nq * k]);
        let problem = DeviceProblem {
            metric,
            k,
            lists: &self.lists,
            queries: &on,
            nq,
            workspace,
            order,
            grain: Grain {
                filter: rng.pick(&Filter::ALL),
                ..Grain::default()
            },
        };
        let what = format!(
            "d {d} nlist {nlist} rows {} k {k} nq {nq} {metric} words {} workspace {workspace} \
             {order:?} {reads:?} {:?} {:?}",
            all.len(),
            self.words,
            problem.grain,
            gpu.facts()
        );
        let found = scan_on(&problem, reads).unwrap();
        let values: Vec<f32> = download(client, &found.values, nq * k);
        let labels: Vec<i64> = if self.words == 2 {
            download(client, &found.labels, nq * k)
        } else {
            download::<i32>(client, &found.labels, nq * k)
                .into_iter()
                .map(i64::from)
                .collect()
        };
        for q in 0..nq {
            let rows = if whole { &all } else { &named[q] };
            let best = self.best(
                metric,
                &queries[q * d..(q + 1) * d],
                k,
                rows.iter().copied(),
            );
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(&labels[q * k..(q + 1) * k], best.1, "query {q}: {what}");
            assert_eq!(
                bits(&values[q * k..(q + 1) * k]),
                bits(&best.0),
                "query {q}: {what}"
            );
        }
    }
}

#[test]
fn whatever_comes_is_found_exactly() {
    let number = |name: &str, or: u64| std::env::var(name).map_or(or, |v| v.parse().unwrap());
    let limit = Duration::from_secs(number("BURN_IVF_FUZZ_SECONDS", 5));
    let mut seed = number("BURN_IVF_FUZZ_SEED", 1);
    let client = client();
    let start = Instant::now();
    let mut turns = 0;
    while start.elapsed() < limit {
        let mut rng = Rng(seed);
        println!("seed {seed}");
        seed += 1;
        let real = Facts::of(&client);
        let facts = Facts {
            units: rng.pick(&[32, 48, 64, 96, 128, 200, 256, 1024]),
            shared: rng.pick(&[2 << 10, 3000, 4 << 10, 8 << 10, 16 << 10, 32 << 10]),
            lanes: rng.pick(&[1, 4]).min(real.lanes),
            processors: rng.pick(&[1, 3, 32, 500]),
            bindings: rng.pick(&[8, real.bindings]),
            ..real
        };
        let gpu = Gpu::with(&client, facts);
        let d = rng.pick(&[1, 2, 3, 4, 5, 8, 13, 16, 17, 31, 64, 100, 300, 2000]);
        let words = rng.below(3);
        let nlist = if words == 0 {
            1
        } else {
            rng.pick(&[1, 2, 7, 30])
        };
        let spread = rng.pick(&[0, 1, 3]);
        let mut model = Model {
            lists: DeviceLists::new(&gpu, d, nlist, words),
            rows: vec![vec![]; nlist],
            ids: vec![vec![]; nlist],
            words,
            next: 0,
        };
        let mut clones: Vec<Model> = Vec::new();
        for _ in 0..6 {
            let n = rng.pick(&[1, 2, 3, 17, 64, 129, 400, if d < 50 { 4000 } else { 5 }]);
            model.add(&client, &mut rng, n, spread);
            model.check(&client, &mut rng, &gpu);
            if rng.below(2) == 0 {
                clones.push(model.clone());
            }
            if !clones.is_empty() {
                let at = rng.below(clones.len());
                match rng.below(4) {
                    0 => drop(clones.swap_remove(at)),
                    1 => clones[at].add(&client, &mut rng, 30, spread),
                    2 => core::mem::swap(&mut clones[at], &mut model),
                    _ => {}
                }
            }
            for clone in &clones {
                clone.check(&client, &mut rng, &gpu);
            }
            turns += 1;
        }
    }
    println!("{turns} turns");
}
