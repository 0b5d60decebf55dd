//! What a search is said to cost, against what it launches; and scans cut finer and coarser than a
//! device would have it.

use super::support::{Client, Device, Rng, client, download, guises, upload};
use burn_ivf_kernels::{
    Metric,
    device::{Filter, Gpu, Grain, launches},
    list_scan::{
        DeviceProblem, Order, Probed, Reads, ScanSize, order_on, restrict::Restriction, scan_cost,
        scan_on,
    },
    rows::device::{Added, DeviceLists, Element},
    select_k::Labels,
};

/// Lists of `lens` rows each.
fn lists(
    gpu: &Gpu<Device>,
    client: &Client,
    d: usize,
    lens: &[usize],
    rng: &mut Rng,
) -> DeviceLists<Device> {
    let words = if lens.len() == 1 { 0 } else { 2 };
    let mut lists = DeviceLists::new(gpu, d, lens.len(), words);
    let of = lens.iter().enumerate();
    let of: Vec<u32> = of.flat_map(|(list, &len)| vec![list as u32; len]).collect();
    let rows: Vec<f32> = (0..of.len() * d).map(|_| rng.below(7) as f32).collect();
    let ids: Vec<i64> = (0..of.len() as i64).collect();
    let rows = upload(client, &rows);
    let added = Added {
        rows: &rows,
        lists: &of,
        ids: &ids,
    };
    lists.append(&added, |_, _| 0).unwrap();
    lists
}

fn size<'a>(
    problem: &DeviceProblem<'_, Device>,
    lens: &'a [usize],
    nprobe: Option<usize>,
) -> ScanSize<'a> {
    let lists = problem.lists;
    ScanSize {
        metric: problem.metric,
        d: lists.d(),
        element: Element::F32,
        words: match lists.labels() {
            Labels::Ranks => 0,
            Labels::Ids { words, .. } => words,
        },
        lens,
        nq: problem.nq,
        k: problem.k,
        nprobe,
        probed: Probed::Evenly,
        workspace: problem.workspace,
        order: problem.order,
        grain: problem.grain,
    }
}

/// As many launches as are counted, on every kind of device, for every way of scanning, in one part
/// and in many.
#[test]
fn launches_are_those_counted() {
    let client = client();
    let mut rng = Rng(81);
    let mut kernels = std::collections::BTreeSet::new();
    for gpu in guises(&client) {
        for (d, lens) in [
            (8, vec![40; 9]),
            (7, vec![0, 300, 1, 64, 2000]),
            (16, vec![900]),
        ] {
            let lists = lists(&gpu, &client, d, &lens, &mut rng);
            for (nq, k, workspace) in [
                (1, 10, 1 << 20),
                (70, 1, 1 << 20),
                (70, 10, 8 << 10),
                (33, 300, 1 << 20),
            ] {
                let queries: Vec<f32> = (0..nq * d).map(|_| rng.below(7) as f32).collect();
                let queries = upload(&client, &queries);
                let nprobe = lens.len().min(3);
                let named: Vec<u32> = (0..nq * nprobe).map(|i| (i % nprobe) as u32).collect();
                let named = upload(&client, &named);
                for order in Order::ALL {
                    let problem = DeviceProblem {
                        metric: Metric::L2,
                        k,
                        lists: &lists,
                        queries: &queries,
                        nq,
                        workspace,
                        order,
                        grain: Grain::default(),
                    };
                    let (reads, probes) = match lens.len() {
                        1 => (Reads::All, None),
                        _ => (Reads::Lists(&named, nprobe), Some(nprobe)),
                    };
                    let costs = scan_cost(&gpu.facts(), &size(&problem, &lens, probes));
                    let before = launches();
                    scan_on(&problem, reads).unwrap();
                    let counted: u64 = costs.iter().map(|cost| cost.launches).sum();
                    let what = format!("{gpu:?} d {d} nq {nq} k {k} {order:?} {costs:?}");
                    assert_eq!(launches() - before, counted, "{what}");
                    let tiles = costs.iter().any(|cost| cost.kernel == "keep_best_by_list");
                    let nearest = costs.iter().any(|cost| cost.kernel == "nearest");
                    let chosen = order_on(&problem, reads, Restriction::default());
                    assert_eq!(chosen == Order::ListMajor, tiles || nearest, "{what}");
                    kernels.extend(costs.iter().map(|cost| cost.kernel));
                }
            }
        }
    }
    assert!(
        kernels.len() >= 13 && kernels.contains("trim_pairs"),
        "{kernels:?}"
    );
}

/// The grain decides how a scan is cut, never what it finds: tiles of two queries, queues that are full
/// at once, slices of a row, cubes of all sizes.
#[test]
fn any_grain_gives_the_same_bits() {
    let client = client();
    let mut rng = Rng(82);
    for gpu in guises(&client) {
        let lens = [0, 500, 1, 64, 130];
        let (d, nq, nprobe) = (12, 40, 3);
        let lists = lists(&gpu, &client, d, &lens, &mut rng);
        let queries: Vec<f32> = (0..nq * d).map(|_| rng.below(7) as f32).collect();
        let queries = upload(&client, &queries);
        let named: Vec<u32> = (0..nq)
            .flat_map(|q| (0..nprobe).map(move |i| ((q + i) % lens.len()) as u32))
            .collect();
        let named = upload(&client, &named);
        for k in [1, 33, 300] {
            let scan = |order, grain| {
                let problem = DeviceProblem {
                    metric: Metric::L2,
                    k,
                    lists: &lists,
                    queries: &queries,
                    nq,
                    workspace: 1 << 20,
                    order,
                    grain,
                };
                let found = scan_on(&problem, Reads::Lists(&named, nprobe)).unwrap();
                let values: Vec<u32> = download(&client, &found.values, nq * k);
                (values, download::<i64>(&client, &found.labels, nq * k))
            };
            let expected = scan(Order::QueryMajor, Grain::default());
            for turn in 0..5 {
                let grain = Grain {
                    tile: rng.pick(&[0, 2, 5, 32, 256]),
                    pairs: [0, 64, 4096][turn % 3],
                    // both orders meet the most that can be asked for
                    rows: match turn {
                        0 | 1 => u32::MAX as usize,
                        _ => rng.pick(&[0, 1, 7, 256]),
                    },
                    cubes: rng.pick(&[0, 1, 4, 1024]),
                    units: rng.pick(&[0, 32, 64, 250, 256]),
                    filter: rng.pick(&Filter::ALL),
                };
                let order = Order::ALL[turn % 2];
                assert!(
                    scan(order, grain) == expected,
                    "{gpu:?} k {k} {order:?} {grain:?}"
                );
            }
        }
    }
}
