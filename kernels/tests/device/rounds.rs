//! The scan list by list above k = 256, where lists are read in rounds: orders that fill every
//! buffer, lists of every length, room for little more than the k best.

use super::{
    by_list::World,
    support::{Client, Device, Rng, client, guises},
};
use burn_ivf_kernels::{
    device::{Facts, Filter, Gpu, Grain},
    list_scan::SKIP,
};

/// k up to what few of the rows below have.
const K: [usize; 4] = [257, 300, 2048, 5000];

/// As a device would be given, and as small as can be asked for: tiles of two queries, buffers of one
/// pair, rounds of any length.
fn grains(rng: &mut Rng) -> [Grain; 2] {
    let tiny = Grain {
        tile: 2,
        pairs: rng.pick(&[0, 2, 8]),
        rows: rng.pick(&[1, 7, 64]),
        cubes: rng.pick(&[1, 64]),
        units: 32,
        filter: Filter::Nothing,
    };
    [Grain::DEFAULT, tiny]
}

/// A device with little shared memory and few units.
fn small(client: &Client, rng: &mut Rng) -> Gpu<Device> {
    let real = Facts::of(client);
    let facts = Facts {
        units: rng.pick(&[32, 64, 200]),
        shared: rng.pick(&[4 << 10, 16 << 10]),
        lanes: rng.pick(&[1, 4]).min(real.lanes),
        processors: rng.pick(&[1, 5, 300]),
        ..real
    };
    Gpu::with(client, facts)
}

/// Rows at ever smaller distances from all queries: every round fills its room to the last pair.
#[test]
fn rows_that_come_nearer_and_nearer_are_kept_in_every_round() {
    let client = client();
    let mut rng = Rng(91);
    for (turn, k) in K.into_iter().enumerate() {
        let gpu = guises(&client)[turn % 3].clone();
        for (gpu, grain) in [gpu, small(&client, &mut rng)]
            .into_iter()
            .zip(grains(&mut rng))
        {
            let (n, nlist) = (4 * k.min(3000), if turn % 2 == 0 { 1 } else { 3 });
            let rows = (0..n).map(|i| vec![(n - i) as f32, 0.0, 1.0]).collect();
            let of = (0..n).map(|i| (i * nlist / n) as u32).collect();
            let world = World::new(&gpu, &client, nlist, rows, of);
            let queries = vec![vec![0.0, 0.0, 1.0]; 5];
            let probes = vec![(0..nlist as u32).rev().collect(); 5];
            let what = format!("k {k} {gpu:?} {grain:?}");
            // Of the scratch, room for about two queries.
            let how = (2 * 8 * 4 * k, grain);
            let launched = world.check(&client, (&queries, &probes), k, how, &what);
            assert!(launched >= 8 || n < 2 * k, "{launched} launches: {what}");
        }
    }
}

/// Every row ties with every other: the smallest ids win, which come last.
#[test]
fn rows_that_are_all_the_same_come_by_id_in_rounds() {
    let client = client();
    let mut rng = Rng(92);
    for k in [257, 1000] {
        let gpu = small(&client, &mut rng);
        for grain in grains(&mut rng) {
            let n = 6000;
            let of: Vec<u32> = (0..n).map(|i| 3 - (i * 4 / n) as u32).collect();
            let world = World::new(&gpu, &client, 5, vec![vec![1.0; 5]; n], of);
            let queries = vec![vec![0.0, 1.0, 2.0, 3.0, 4.0]; 7];
            let probes = vec![vec![1, 4, 3, SKIP, 0]; 7];
            let what = format!("k {k} {gpu:?} {grain:?}");
            let how = (1 << 16, grain);
            let launched = world.check(&client, (&queries, &probes), k, how, &what);
            assert!(launched >= 12, "{launched} launches: {what}");
        }
    }
}

/// One list holds half of all rows, others one or none; many rows are the same; some queries probe
/// nothing, some cannot be searched; more results asked for than there are rows.
#[test]
fn lists_and_rounds_of_any_size() {
    let client = client();
    let mut rng = Rng(93);
    let mut most = 0;
    for (turn, d) in [1, 3, 16, 100, 300].into_iter().enumerate() {
        for k in K {
            let (gpu, grain) = (small(&client, &mut rng), grains(&mut rng)[turn % 2]);
            let nq = rng.pick(&[1, 2, 9, 33]);
            let n = rng.pick(&[300, 3000, 6000]);
            let nlist = rng.pick(&[1, 2, 7, 60]);
            let rows = (0..n)
                .map(|_| (0..d).map(|_| rng.below(5) as f32).collect())
                .collect();
            let mut of: Vec<u32> = (0..n)
                .map(|_| rng.below(2) as u32 * rng.below(nlist) as u32)
                .collect();
            of[1] = nlist as u32 - 1;
            let world = World::new(&gpu, &client, nlist, rows, of);
            let mut queries: Vec<Vec<f32>> = (0..nq)
                .map(|_| (0..d).map(|_| rng.below(5) as f32).collect())
                .collect();
            queries[nq / 2][d - 1] = rng.pick(&[f32::NAN, f32::NEG_INFINITY, 1.0]);
            let nprobe = if nlist == 1 { 1 } else { 1 + rng.below(nlist) };
            let probes: Vec<Vec<u32>> = (0..nq)
                .map(|_| {
                    let first = rng.below(nlist);
                    let named = (0..nprobe).map(|p| ((first + p) % nlist) as u32);
                    let skipped = |list| {
                        let skip = nlist > 1 && rng.below(6) == 0;
                        if skip { SKIP } else { list }
                    };
                    named.map(skipped).collect()
                })
                .collect();
            let workspace = rng.pick(&[8, 1 << 15, 1 << 17, 1 << 26]);
            let what = format!(
                "d {d} nq {nq} k {k} n {n} nlist {nlist} nprobe {nprobe} {workspace} {gpu:?} {grain:?}"
            );
            let how = (workspace, grain);
            most = most.max(world.check(&client, (&queries, &probes), k, how, &what));
        }
    }
    assert!(most >= 40, "{most} launches at most: hardly any rounds");
}
