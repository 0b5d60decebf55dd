//! `list_scan` (and through it `nearest_centroid`): a pairwise covering of sizes and shapes.

use super::{
    cover,
    support::{Client, Device, Rng, client, download, guises, poison, upload},
};
use burn_ivf_kernels::{
    KernelError, Metric,
    device::{Facts, Gpu, Grain},
    list_scan::{
        self, Best, DeviceProblem, List, ListIds, Order, Problem, Reads, SKIP, WORKSPACE, order_on,
        restrict::Restriction, scan_on,
    },
    rows::{
        Layout, Rows,
        device::{Added, DeviceLists, Element},
    },
    simd::Isa,
};

/// Vectors in lists, on the host and on the device.
struct World {
    d: usize,
    rows: Vec<Rows>,
    ids: Vec<Vec<i64>>,
    device: DeviceLists<Device>,
}

/// How lists and vectors are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Even,
    /// One list holds half of all rows, one is empty, one holds one row.
    Skewed,
    /// Every vector many times, ids in no order.
    Duplicates,
    /// Far from the origin.
    Offset,
}

const SHAPES: [Shape; 4] = [Shape::Even, Shape::Skewed, Shape::Duplicates, Shape::Offset];
const NLIST: usize = 9;

impl World {
    fn new(
        gpu: &Gpu<Device>,
        client: &Client,
        d: usize,
        n: usize,
        shape: Shape,
        rng: &mut Rng,
    ) -> Self {
        Self::of(Element::F32, gpu, client, (d, n), shape, rng)
    }

    /// Rows stored as `element`; the host holds what that made of them.
    fn of(
        element: Element,
        gpu: &Gpu<Device>,
        client: &Client,
        (d, n): (usize, usize),
        shape: Shape,
        rng: &mut Rng,
    ) -> Self {
        let mut device = DeviceLists::new(gpu, d, NLIST, 2).of(element).unwrap();
        let mut rows: Vec<Rows> = (0..NLIST).map(|_| Rows::new(d, Layout::F32)).collect();
        let mut ids: Vec<Vec<i64>> = vec![vec![]; NLIST];
        let few: Vec<Vec<f32>> = (0..7).map(|_| vector(rng, d, shape)).collect();
        let mut added = 0;
        for part in [n / 2, n - n / 2] {
            let mut flat = Vec::new();
            let (mut to, mut new) = (Vec::new(), Vec::new());
            for i in 0..part {
                let x = match shape {
                    Shape::Duplicates => few[rng.below(7)].clone(),
                    _ => vector(rng, d, shape),
                };
                let list = match shape {
                    Shape::Skewed if added == 0 && i == 0 => 1,
                    Shape::Skewed if rng.below(2) == 0 => 2,
                    Shape::Skewed => rng.pick(&[3, 4, 5, 6, 7, 8]),
                    _ => rng.below(NLIST),
                };
                to.push(list as u32);
                new.push(match shape {
                    Shape::Duplicates => rng.below(1 << 20) as i64 * 4097 - (1 << 31),
                    _ => (added + i) as i64,
                });
                flat.extend(x);
            }
            let held = ids.clone();
            let handle = upload(client, &flat);
            let what = Added {
                rows: &handle,
                lists: &to,
                ids: &new,
            };
            device.append(&what, |l, s| held[l][s]).unwrap();
            for (i, &list) in to.iter().enumerate() {
                let stored = flat[i * d..(i + 1) * d].iter().map(|&v| match element {
                    Element::F32 => v,
                    Element::F16 => half::f16::from_f32(v).to_f32(),
                    Element::Bf16 => half::bf16::from_f32(v).to_f32(),
                });
                rows[list as usize].push(&stored.collect::<Vec<_>>());
                ids[list as usize].push(new[i]);
            }
            added += part;
        }
        Self {
            d,
            rows,
            ids,
            device,
        }
    }

    fn views(&self) -> Vec<List<'_>> {
        self.rows
            .iter()
            .zip(&self.ids)
            .map(|(rows, ids)| List::new(rows, ListIds::Table(ids)).unwrap())
            .collect()
    }

    /// The distance in f64 between a query and any row of an id that `close` accepts.
    fn distances(&self, metric: Metric, query: &[f32], id: i64) -> Vec<f64> {
        let mut row = vec![0.0; self.d];
        let mut all = Vec::new();
        for (rows, ids) in self.rows.iter().zip(&self.ids) {
            for (slot, _) in ids.iter().enumerate().filter(|(_, held)| **held == id) {
                rows.copy_row(slot, &mut row);
                all.push(distance(metric, query, &row));
            }
        }
        all
    }
}

fn vector(rng: &mut Rng, d: usize, shape: Shape) -> Vec<f32> {
    let offset = if shape == Shape::Offset { 1000.0 } else { 0.0 };
    (0..d).map(|_| rng.float() + offset).collect()
}

fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a), f64::from(b)))
        .map(|(a, b)| match metric {
            Metric::L2 => (a - b) * (a - b),
            Metric::InnerProduct => a * b,
        })
        .sum()
}

/// Fails unless `found` is `best`, but for rows whose f64 distances are the same to a millionth (of
/// the largest term, for inner products).
fn compare(
    world: &World,
    metric: Metric,
    queries: &[f32],
    k: usize,
    found: &(Vec<f32>, Vec<i64>),
    best: &Best,
    what: &str,
) {
    for (i, (&label, &expected)) in found.1.iter().zip(&best.labels).enumerate() {
        let (value, wanted) = (found.0[i], best.distances[i]);
        let query = &queries[i / k * world.d..(i / k + 1) * world.d];
        if expected == -1 || !wanted.is_finite() {
            assert_eq!(
                (label, value.to_bits()),
                (expected, wanted.to_bits()),
                "{what}, place {i}"
            );
            continue;
        }
        let norm: f64 = query.iter().map(|&v| f64::from(v).powi(2)).sum();
        let scale = match metric {
            Metric::L2 => f64::from(wanted),
            Metric::InnerProduct => norm + world.d as f64,
        };
        assert!(
            f64::from(value - wanted).abs() <= 2e-6 * scale,
            "{what}, place {i}: {value} for {wanted}"
        );
        if i % k > 0 && value.to_bits() == found.0[i - 1].to_bits() {
            assert!(
                found.1[i - 1] <= label,
                "{what}, place {i}: ties come by id"
            );
        }
        if label != expected {
            let own = world.distances(metric, query, label);
            assert!(
                own.iter()
                    .any(|v| (v - f64::from(wanted)).abs() <= 1e-6 * scale),
                "{what}, place {i}: id {label} at {own:?} for {expected} at {wanted}"
            );
        }
    }
}

/// The answer, the same bits in both orders.
fn search(
    world: &World,
    client: &Client,
    metric: Metric,
    (queries, k): (&[f32], usize),
    reads: Reads<'_>,
    workspace: usize,
) -> (Vec<f32>, Vec<i64>) {
    let nq = queries.len() / world.d;
    let handle = upload(client, queries);
    let run = |order| {
        poison(client, &[nq * k, 2 * nq * k, 4 * nq * k]);
        let problem = DeviceProblem {
            metric,
            k,
            lists: &world.device,
            queries: &handle,
            nq,
            workspace,
            order,
            grain: Grain::default(),
        };
        let found = scan_on(&problem, reads).unwrap();
        let values: Vec<f32> = download(client, &found.values, nq * k);
        let labels: Vec<i64> = download(client, &found.labels, nq * k);
        let chosen = order_on(&problem, reads, Restriction::default());
        (chosen, values, labels)
    };
    let (_, values, labels) = run(Order::QueryMajor);
    // More results by list are found in rounds, which have tests of their own (`rounds`): a software GPU
    // takes minutes for the largest of these.
    if k > 256 {
        return (values, labels);
    }
    let (chosen, other, ids) = run(Order::ListMajor);
    if chosen == Order::ListMajor {
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let what = format!("d {} k {k} nq {nq} {metric}", world.d);
        assert_eq!(ids, labels, "{what}");
        assert_eq!(bits(&other), bits(&values), "{what}");
    } else {
        let asked = matches!(reads, Reads::Rows(..));
        assert!(
            asked || 4 * k + world.d > 1000,
            "list-major refused: d {} k {k}",
            world.d
        );
    }
    (values, labels)
}

/// A pairwise covering of sizes. With 70,000 queries, for each of which a software GPU takes up to 3 ms, only
/// one small case of it unless `BURN_IVF_COVER=all`.
#[test]
fn sizes_and_shapes_as_the_cpu_finds_them() {
    const D: [usize; 9] = [1, 3, 7, 32, 100, 128, 384, 768, 1000];
    const K: [usize; 8] = [1, 10, 20, 33, 100, 257, 2048, 5000];
    const NQ: [usize; 6] = [0, 1, 3, 64, 300, 70_000];
    let client = client();
    let guises = guises(&client);
    // Bounded results, and bounded work for a software GPU.
    let fits = |c: &[usize]| {
        let (d, k, nq) = (D[c[0]], K[c[1]], NQ[c[2]]);
        nq * k <= 1 << 24 && nq * d <= 1 << 20
    };
    let sizes = [D.len(), K.len(), NQ.len(), SHAPES.len(), guises.len(), 2, 2];
    let mut cases = cover::pairs(&sizes, fits, 4);
    assert!(cases.len() >= 72, "{} cases", cases.len());
    if std::env::var_os("BURN_IVF_COVER").is_none_or(|all| all != "all") {
        let mut large = 0;
        cases.retain(|case| {
            let (k, nq) = (K[case[1]], NQ[case[2]]);
            let small = nq * k <= 1 << 20;
            large += usize::from(small && nq == 70_000);
            nq < 70_000 || (small && large <= 1)
        });
        assert!(large > 0);
    }
    let mut rng = Rng(21);
    for (number, case) in cases.iter().enumerate() {
        let (d, k, nq) = (D[case[0]], K[case[1]], NQ[case[2]]);
        let (shape, metric) = (SHAPES[case[3]], Metric::ALL[case[5]]);
        let n = match nq {
            70_000 => 60,
            300 => 500,
            _ if case[6] == 0 => 700,
            _ => 6000,
        };
        let what = format!(
            "case {number}: d {d} k {k} nq {nq} n {n} {shape:?} {metric} {:?}",
            guises[case[4]]
        );
        let world = World::new(&guises[case[4]], &client, d, n, shape, &mut rng);
        let mut queries: Vec<f32> = (0..nq).flat_map(|_| vector(&mut rng, d, shape)).collect();
        if nq > 2 {
            queries[d] = rng.pick(&[f32::NAN, f32::INFINITY]);
        }
        let nprobe = 5;
        let probes: Vec<u32> = (0..nq)
            .flat_map(|_| {
                let skip = rng.below(nprobe);
                let first = rng.below(NLIST);
                (0..nprobe).map(move |p| {
                    if p == skip {
                        SKIP
                    } else {
                        ((first + p) % NLIST) as u32
                    }
                })
            })
            .collect();
        let problem = Problem {
            metric,
            d,
            k,
            lists: &world.views(),
            queries: &queries,
            workspace: WORKSPACE,
        };
        let best =
            list_scan::scan(&problem, &probes, nprobe, Order::ListMajor, Isa::detect()).unwrap();
        let on = upload(&client, &probes);
        // A small workspace cuts the queries into several launches, not into hundreds.
        let workspace = if number % 3 == 0 {
            (1 << 16).max(nq * k)
        } else {
            1 << 28
        };
        let found = search(
            &world,
            &client,
            metric,
            (&queries, k),
            Reads::Lists(&on, nprobe),
            workspace,
        );
        compare(&world, metric, &queries, k, &found, &best, &what);
    }
}

#[test]
fn rows_named_one_by_one_get_the_same_bits() {
    let client = client();
    let mut rng = Rng(31);
    for (i, gpu) in guises(&client).into_iter().enumerate() {
        for (d, metric) in [
            (3, Metric::L2),
            (100, Metric::InnerProduct),
            (33, Metric::L2),
        ] {
            let world = World::new(&gpu, &client, d, 300 + i, Shape::Skewed, &mut rng);
            let (nq, k) = (5, 40);
            let queries: Vec<f32> = (0..nq)
                .flat_map(|_| vector(&mut rng, d, Shape::Even))
                .collect();
            let probes = upload(&client, &[2_u32, 3, 4, 5, 6].repeat(nq));
            let scanned = search(
                &world,
                &client,
                metric,
                (&queries, k),
                Reads::Lists(&probes, 5),
                1 << 20,
            );
            let all: Vec<u32> = [2, 3, 4, 5, 6]
                .iter()
                .flat_map(|&l| (0..world.device.list_len(l)).map(move |s| (l, s)))
                .map(|(l, s)| world.device.position(l as u32, s as u32))
                .chain([SKIP, SKIP])
                .rev()
                .collect();
            let named = upload(&client, &all.repeat(nq));
            let found = search(
                &world,
                &client,
                metric,
                (&queries, k),
                Reads::Rows(&named, all.len()),
                1 << 20,
            );
            assert_eq!(found.1, scanned.1, "{gpu:?} d {d}");
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found.0), bits(&scanned.0), "{gpu:?} d {d}");
        }
    }
}

#[test]
fn answers_larger_than_a_buffer_are_refused() {
    let client = client();
    let gpu = Gpu::with(
        &client,
        Facts {
            buffer: 1 << 16,
            ..Facts::of(&client)
        },
    );
    let world = World::new(&gpu, &client, 4, 50, Shape::Even, &mut Rng(1));
    let queries = upload(&client, &vec![0.0_f32; 4 * 1000]);
    let problem = DeviceProblem {
        metric: Metric::L2,
        k: 20,
        lists: &world.device,
        queries: &queries,
        nq: 1000,
        workspace: 1 << 20,
        order: Order::QueryMajor,
        grain: Grain::default(),
    };
    let probes = upload(&client, &vec![0_u32; 1000]);
    let error = scan_on(&problem, Reads::Lists(&probes, 1)).unwrap_err();
    assert!(
        matches!(
            error,
            KernelError::Buffer {
                limit: 65_536,
                bytes: 80_000,
                ..
            }
        ),
        "{error}"
    );
}

/// Rows stored as f16 are found by what they became; sums are f32 all the same.
#[test]
fn rows_of_halves_are_found_by_what_they_became() {
    let client = client();
    for element in [Element::F16, Element::Bf16] {
        if element.is_supported(&Gpu::new(&client)) {
            found_by_what_they_became(&client, element);
        } else {
            let lists = DeviceLists::new(&Gpu::new(&client), 3, 1, 2).of(element);
            let error = lists.unwrap_err();
            assert!(matches!(error, KernelError::Type { .. }), "{error}");
            eprintln!("{element:?}: refused, the device lacks the type");
        }
    }
}

fn found_by_what_they_became(client: &Client, element: Element) {
    let mut rng = Rng(61);
    for (i, gpu) in guises(client).into_iter().enumerate() {
        for (d, k) in [
            (1, 10),
            (3, 1),
            (7, 20),
            (32, 33),
            (100, 257),
            (384, 10),
            (1000, 2048),
        ] {
            let shape = SHAPES[(d + i) % SHAPES.len()];
            let metric = Metric::ALL[(d + k) % 2];
            let what = format!("{gpu:?} d {d} k {k} {shape:?} {metric}");
            let world = World::of(element, &gpu, client, (d, 700), shape, &mut rng);
            assert!(world.device.bytes() <= world.device.len() * (d.div_ceil(4) * 8 + 4) * 3 / 2);
            let nq = 5;
            let queries: Vec<f32> = (0..nq).flat_map(|_| vector(&mut rng, d, shape)).collect();
            let probes: Vec<u32> = (0..nq).flat_map(|q| [2, 3 + q as u32, 1, SKIP]).collect();
            let problem = Problem {
                metric,
                d,
                k,
                lists: &world.views(),
                queries: &queries,
                workspace: WORKSPACE,
            };
            let order = Order::ListMajor;
            let best = list_scan::scan(&problem, &probes, 4, order, Isa::detect()).unwrap();
            let on = upload(client, &probes);
            let reads = Reads::Lists(&on, 4);
            let found = search(&world, client, metric, (&queries, k), reads, 1 << 28);
            compare(&world, metric, &queries, k, &found, &best, &what);
            let at = [world.device.position(2, 0), world.device.position(2, 1)];
            let gathered = world.device.gather(&at).unwrap();
            let gathered: Vec<u32> = download(client, &gathered, 2 * d);
            let mut row = vec![0.0; d];
            for (slot, found) in gathered.chunks_exact(d).enumerate() {
                world.rows[2].copy_row(slot, &mut row);
                assert!(
                    row.iter().map(|v| v.to_bits()).eq(found.iter().copied()),
                    "{what}"
                );
            }
        }
    }
}

/// Appended rows become the nearest value of the type, whatever the device's conversion does: ties, what
/// is next to them, the smallest and the largest.
#[test]
fn halves_are_the_nearest() {
    let client = client();
    let gpu = Gpu::new(&client);
    for (element, near, largest) in [
        (
            Element::F16,
            (|x| half::f16::from_f32(x).to_f32()) as fn(f32) -> f32,
            65_519.996_f32,
        ),
        (
            Element::Bf16,
            |x| half::bf16::from_f32(x).to_f32(),
            3.39e38_f32,
        ),
    ] {
        if !element.is_supported(&gpu) {
            continue;
        }
        let mut values = vec![0.0, -0.0, largest, -largest, 1.0, 65_504.0, 2048.5, 2049.5];
        for exponent in 100..142 {
            for mantissa in [
                0, 1, 0xFFF, 0x1000, 0x1001, 0x3000, 0x2FFF, 0x7F_FFFF, 0x7F_F000,
            ] {
                let x = f32::from_bits(exponent << 23 | mantissa);
                values.extend([x, -x]);
            }
        }
        values.resize(values.len().next_multiple_of(12), 0.5);
        let d = 12;
        let n = values.len() / d;
        let mut lists = DeviceLists::new(&gpu, d, 1, 2).of(element).unwrap();
        let rows = upload(&client, &values);
        let added = Added {
            rows: &rows,
            lists: &vec![0; n],
            ids: &(0..n as i64).collect::<Vec<_>>(),
        };
        lists.append(&added, |_, _| 0).unwrap();
        let back = lists.gather(&(0..n as u32).collect::<Vec<_>>()).unwrap();
        let bytes = client.read_one(back).unwrap();
        let found: &[f32] = bytemuck::cast_slice(&bytes);
        for (x, found) in values.iter().zip(found) {
            let expected = near(*x);
            assert_eq!(*found, expected, "{element:?} of {x:e}");
        }
    }
}
