//! The scan list by list: orders that fill its buffers, lists of every length, tiles of every size.

use super::support::{Client, Device, Rng, client, download, guises, poison, upload};
use burn_ivf_kernels::{
    Metric,
    device::{Facts, Filter, Gpu, Grain, launches},
    list_scan::{
        DeviceProblem, Order, Reads, SKIP, order_on,
        restrict::{Masks, Restriction},
        scan_on,
    },
    rows::device::{Added, DeviceLists},
};

/// Lists of whole numbers, whose distances are exact, beside what they were made of.
pub struct World {
    pub lists: DeviceLists<Device>,
    rows: Vec<Vec<f32>>,
    /// The list of each row; its id is its number.
    of: Vec<u32>,
}

impl World {
    pub fn new(
        gpu: &Gpu<Device>,
        client: &Client,
        nlist: usize,
        rows: Vec<Vec<f32>>,
        of: Vec<u32>,
    ) -> Self {
        let d = rows[0].len();
        let mut lists = DeviceLists::new(gpu, d, nlist, 2);
        let handle = upload(client, &rows.concat());
        let ids: Vec<i64> = (0..rows.len() as i64).collect();
        let added = Added {
            rows: &handle,
            lists: &of,
            ids: &ids,
        };
        lists.append(&added, |_, _| 0).unwrap();
        Self { lists, rows, of }
    }

    /// What a search of the lists named must give: squared distances and ids, by plain sums.
    fn best(&self, query: &[f32], k: usize, named: &[u32]) -> (Vec<f32>, Vec<i64>) {
        let mut all: Vec<(i64, i64)> = (self.rows.iter().zip(&self.of).enumerate())
            .filter(|(_, (_, list))| named.contains(list) && query.iter().all(|v| v.is_finite()))
            .map(|(id, (row, _))| {
                let terms = query.iter().zip(row).map(|(q, x)| (q - x) * (q - x));
                (terms.sum::<f32>() as i64, id as i64)
            })
            .collect();
        all.sort_unstable();
        all.resize(k.max(all.len()), (i64::MAX, -1));
        all.truncate(k);
        let value = |key| {
            if key == i64::MAX {
                f32::INFINITY
            } else {
                key as f32
            }
        };
        all.into_iter().map(|(key, id)| (value(key), id)).unzip()
    }

    /// Searches list by list with every filter, and holds every answer against the plain one; how many
    /// kernels that took without one.
    pub fn check(
        &self,
        client: &Client,
        asked: (&[Vec<f32>], &[Vec<u32>]),
        k: usize,
        (workspace, grain): (usize, Grain),
        what: &str,
    ) -> u64 {
        let launched = filters(self.lists.gpu()).map(|filter| {
            let how = (workspace, Grain { filter, ..grain });
            self.check_one(client, asked, k, how, &format!("{filter:?}: {what}"))
        });
        // Tiles of other sizes may need other numbers of launches.
        let launched: Vec<u64> = launched.collect();
        launched[0]
    }

    fn check_one(
        &self,
        client: &Client,
        (queries, probes): (&[Vec<f32>], &[Vec<u32>]),
        k: usize,
        (workspace, grain): (usize, Grain),
        what: &str,
    ) -> u64 {
        let (nq, nprobe) = (queries.len(), probes[0].len());
        let on = upload(client, &queries.concat());
        let named = upload(client, &probes.concat());
        poison(
            client,
            &[nq * k, 2 * nq * k, 2 * nq, 4 * self.lists.nlist() + 2],
        );
        let problem = DeviceProblem {
            metric: Metric::L2,
            k,
            lists: &self.lists,
            queries: &on,
            nq,
            workspace,
            order: Order::ListMajor,
            grain,
        };
        let reads = match self.lists.nlist() {
            1 => Reads::All,
            _ => Reads::Lists(&named, nprobe),
        };
        let chosen = order_on(&problem, reads, Restriction::default());
        assert_eq!(chosen, Order::ListMajor, "{what}");
        let before = launches();
        let found = scan_on(&problem, reads).unwrap();
        let launched = launches() - before;
        let values: Vec<f32> = download(client, &found.values, nq * k);
        let labels: Vec<i64> = download(client, &found.labels, nq * k);
        for (q, (query, named)) in queries.iter().zip(probes).enumerate() {
            let (distances, ids) = self.best(query, k, named);
            assert_eq!(&labels[q * k..][..k], ids, "query {q}: {what}");
            assert_eq!(&values[q * k..][..k], distances, "query {q}: {what}");
        }
        launched
    }
}

/// The filters that a device has.
fn filters(gpu: &Gpu<Device>) -> impl Iterator<Item = Filter> + use<> {
    let tensor_cores = gpu.facts().tensor_cores;
    Filter::ALL
        .into_iter()
        .filter(move |&filter| filter != Filter::TensorCores || tensor_cores)
}

/// Devices on which tiles are small, cubes few, pieces short.
fn small(client: &Client, rng: &mut Rng, k: usize, d: usize) -> Gpu<Device> {
    let real = Facts::of(client);
    let lanes = rng.pick(&[1, 4]).min(real.lanes);
    let two = 2 * (k.next_power_of_two().max(32) * 16 + d.next_multiple_of(4) * 4 + 32) + 64;
    let facts = Facts {
        units: rng.pick(&[32, 64, 200]),
        shared: rng.pick(&[two, 2 * two, 32 << 10]).min(32 << 10),
        lanes,
        processors: rng.pick(&[1, 5, 300]),
        ..real
    };
    Gpu::with(client, facts)
}

/// Rows at ever smaller distances from all queries: each is better than all before it.
#[test]
fn rows_that_come_nearer_and_nearer_are_all_looked_at() {
    let client = client();
    let mut rng = Rng(71);
    for (turn, k) in [1, 10, 33, 100, 256].into_iter().enumerate() {
        for gpu in [
            small(&client, &mut rng, k, 3),
            guises(&client)[turn % 3].clone(),
        ] {
            let (n, nlist) = (3000, if turn % 2 == 0 { 1 } else { 3 });
            let rows = (0..n).map(|i| vec![(n - i) as f32, 0.0, 1.0]).collect();
            let of = (0..n).map(|i| (i * nlist / n) as u32).collect();
            let world = World::new(&gpu, &client, nlist, rows, of);
            let queries = vec![vec![0.0, 0.0, 1.0]; 9];
            let probes = vec![(0..nlist as u32).rev().collect(); 9];
            let what = format!("k {k} {gpu:?}");
            world.check(
                &client,
                (&queries, &probes),
                k,
                (1 << 26, Grain::default()),
                &what,
            );
        }
    }
}

/// Every row ties with every other: the smallest ids win, which come last.
#[test]
fn rows_that_are_all_the_same_come_by_id() {
    let client = client();
    let mut rng = Rng(72);
    for k in [1, 40, 256] {
        let gpu = small(&client, &mut rng, k, 5);
        let n = 2000;
        let of: Vec<u32> = (0..n).map(|i| 3 - (i * 4 / n) as u32).collect();
        let world = World::new(&gpu, &client, 5, vec![vec![1.0; 5]; n], of);
        let queries = vec![vec![0.0, 1.0, 2.0, 3.0, 4.0]; 11];
        let probes = vec![vec![1, 4, 3, SKIP, 0]; 11];
        let what = format!("k {k} {gpu:?}");
        world.check(
            &client,
            (&queries, &probes),
            k,
            (1 << 26, Grain::default()),
            &what,
        );
    }
}

/// One list holds half of all rows, others one or none; queries fill a tile, or one more or less;
/// some probe nothing, some cannot be searched; one or many launches.
#[test]
fn lists_and_tiles_of_any_size() {
    let client = client();
    let mut rng = Rng(73);
    for (turn, d) in [1, 3, 16, 100, 128, 768].into_iter().enumerate() {
        for nq in [1, 31, 32, 33, 130] {
            let k = rng.pick(&[1, 10, 33, 64]);
            let gpu = small(&client, &mut rng, k, d);
            let n = if d > 100 { 700 } else { 2500 };
            let nlist = rng.pick(&[2, 7, 60]);
            let rows = (0..n)
                .map(|_| (0..d).map(|_| rng.below(5) as f32).collect())
                .collect();
            let mut of: Vec<u32> = (0..n)
                .map(|_| {
                    if rng.below(2) == 0 {
                        0
                    } else {
                        rng.below(nlist) as u32
                    }
                })
                .collect();
            of[1] = nlist as u32 - 1;
            let world = World::new(&gpu, &client, nlist, rows, of);
            let mut queries: Vec<Vec<f32>> = (0..nq)
                .map(|_| (0..d).map(|_| rng.below(5) as f32).collect())
                .collect();
            queries[nq / 2][d - 1] = rng.pick(&[f32::NAN, f32::NEG_INFINITY, 1.0]);
            let nprobe = 1 + rng.below(nlist);
            let probes: Vec<Vec<u32>> = (0..nq)
                .map(|_| {
                    let first = rng.below(nlist);
                    let probe = |p| ((first + p) % nlist) as u32;
                    (0..nprobe)
                        .map(|p| if rng.below(6) == 0 { SKIP } else { probe(p) })
                        .collect()
                })
                .collect();
            let workspace = rng.pick(&[8, 1 << 14, 1 << 26]);
            let what =
                format!("d {d} nq {nq} k {k} nlist {nlist} nprobe {nprobe} turn {turn} {gpu:?}");
            let how = (workspace, Grain::default());
            world.check(&client, (&queries, &probes), k, how, &what);
        }
    }
}

/// Components that are huge, tiny, equal up to their last bits, far from the origin or all zero: a filter
/// leaves the bits of the answer as they are.
#[test]
fn no_filter_changes_a_bit_of_any_magnitude() {
    let client = client();
    let mut rng = Rng(74);
    let (n, nlist, nq) = (600, 5, 33);
    for kind in 0..12 {
        let number = |rng: &mut Rng, first: bool| {
            let x = rng.float();
            match kind {
                0 => x,
                1 => 1000.0 + x,
                2 => 1.0 + x * 1e-6,
                3 => x * 1e-19,
                4 => x * 1e-30,
                5 => x * 2e38,
                6 => x * 1.5e19,
                7 => x * 10_f32.powi(rng.below(70) as i32 - 35),
                8 => rng.pick(&[0.0, -0.0, 1e-45, 1.0, -3e38, 3e38]),
                // Distances within the range, of which some squared norms of queries are beyond.
                _ => x * 1e17 + if first { 1.2e19 } else { 0.0 },
            }
        };
        let d = rng.pick(&[3, 16, 40, 129]);
        let gpu = &guises(&client)[kind % 3];
        let mut world = World::new(
            gpu,
            &client,
            nlist,
            vec![vec![0.0; d]; nlist],
            vec![0; nlist],
        );
        let rows: Vec<f32> = (0..n * d).map(|i| number(&mut rng, i % d == 0)).collect();
        let of: Vec<u32> = (0..n).map(|_| rng.below(nlist) as u32).collect();
        let added = Added {
            rows: &upload(&client, &rows),
            lists: &of,
            ids: &(10..10 + n as i64).collect::<Vec<_>>(),
        };
        let held: Vec<i64> = (0..nlist as i64).collect();
        world.lists.append(&added, |_, slot| held[slot]).unwrap();
        // Some queries are rows.
        let queries: Vec<f32> = (0..nq * d)
            .map(|i| {
                if i < 9 * d {
                    rows[i]
                } else {
                    let grown = if kind > 8 {
                        1.5 + rng.float() * 0.15
                    } else {
                        1.0
                    };
                    number(&mut rng, i % d == 0) * grown
                }
            })
            .collect();
        let on = upload(&client, &queries);
        let named: Vec<u32> = (0..nq).flat_map(|_| 0..nlist as u32).collect();
        let named = upload(&client, &named);
        for metric in Metric::ALL {
            for k in [rng.pick(&[1, 10]), rng.pick(&[100, 300])] {
                let mut seen: Option<(Vec<u32>, Vec<i64>)> = None;
                for filter in filters(gpu) {
                    let problem = DeviceProblem {
                        metric,
                        k,
                        lists: &world.lists,
                        queries: &on,
                        nq,
                        workspace: 1 << 26,
                        order: Order::ListMajor,
                        grain: Grain {
                            filter,
                            ..Grain::default()
                        },
                    };
                    poison(&client, &[nq * k, 2 * nq * k]);
                    let found = scan_on(&problem, Reads::Lists(&named, nlist)).unwrap();
                    let answer = (
                        download::<u32>(&client, &found.values, nq * k),
                        download::<i64>(&client, &found.labels, nq * k),
                    );
                    let what = format!("kind {kind} {metric} d {d} k {k} {filter:?} {gpu:?}");
                    assert!(answer.1[0] >= 0, "{what}");
                    match &seen {
                        None => seen = Some(answer),
                        Some(seen) => assert!(*seen == answer, "{what}"),
                    }
                }
            }
        }
    }
}

/// What cannot be read list by list is read query by query, and `order_on` says so.
#[test]
fn the_order_is_query_major_where_there_is_no_choice() {
    let client = client();
    let gpu = &guises(&client)[0];
    let world = World::new(gpu, &client, 1, vec![vec![1.0; 4]; 50], vec![0; 50]);
    let queries = upload(&client, &[0.0_f32; 8]);
    let mut problem = DeviceProblem {
        metric: Metric::L2,
        k: 256,
        lists: &world.lists,
        queries: &queries,
        nq: 2,
        workspace: 1 << 20,
        order: Order::ListMajor,
        grain: Grain::default(),
    };
    let none = Restriction::default();
    assert_eq!(order_on(&problem, Reads::All, none), Order::ListMajor);
    assert_eq!(
        order_on(&problem, Reads::Rows(&queries, 1), none),
        Order::QueryMajor
    );
    let masks = Masks {
        masks: vec![vec![1, 0]],
        starts: vec![0, 2],
        of: vec![],
    };
    let masked = Restriction {
        masks: Some(&masks),
        ..none
    };
    assert_eq!(order_on(&problem, Reads::All, masked), Order::QueryMajor);
    problem.k = 257;
    assert_eq!(order_on(&problem, Reads::All, none), Order::ListMajor);
    problem.order = Order::QueryMajor;
    assert_eq!(order_on(&problem, Reads::All, none), Order::QueryMajor);
}
