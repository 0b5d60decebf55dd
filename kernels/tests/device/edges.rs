//! Scans held against each other, and at the ends of the range.

use super::support::{Device, Rng, client, download, guises, poison, upload};
use burn_ivf_kernels::{
    Metric,
    device::Grain,
    list_scan::{DeviceProblem, Order, Reads, scan_on},
    rows::device::{Added, DeviceLists},
};

/// The one nearest row for many queries has its own kernel; a scan with k = 2 has not.
#[test]
fn the_nearest_of_one_list_is_the_first_of_two() {
    let client = client();
    let mut rng = Rng(41);
    for gpu in guises(&client) {
        for (d, n, nq) in [
            (1, 1, 3),
            (7, 100, 9),
            (32, 513, 70),
            (130, 1000, 33),
            (1000, 40, 5),
            (5000, 20, 3),
        ] {
            for metric in Metric::ALL {
                let mut device = DeviceLists::new(&gpu, d, 1, 0);
                let rows: Vec<f32> = (0..n * d).map(|_| (rng.below(5) as f32) - 2.0).collect();
                let handle = upload(&client, &rows);
                let added = Added {
                    rows: &handle,
                    lists: &vec![0; n],
                    ids: &[],
                };
                device.append(&added, |_, _| 0).unwrap();
                let mut queries: Vec<f32> = (0..nq * d).map(|_| rng.float()).collect();
                queries[d - 1] = f32::NAN;
                let on = upload(&client, &queries);
                poison(&client, &[nq, 2 * nq]);
                let run = |k, order| {
                    let problem = DeviceProblem {
                        metric,
                        k,
                        lists: &device,
                        queries: &on,
                        nq,
                        workspace: 1 << 20,
                        order,
                        grain: Grain::default(),
                    };
                    let found = scan_on(&problem, Reads::All).unwrap();
                    let labels: Vec<i32> = download(&client, &found.labels, nq * k);
                    let values: Vec<u32> = download(&client, &found.values, nq * k);
                    (labels, values)
                };
                let (one, two) = (run(1, Order::ListMajor), run(2, Order::QueryMajor));
                assert_eq!(run(2, Order::ListMajor), two, "{gpu:?} d {d} {metric}");
                let every_second = |v: &[u32]| v.iter().step_by(2).copied().collect::<Vec<_>>();
                assert_eq!(
                    one.0,
                    two.0.iter().step_by(2).copied().collect::<Vec<_>>(),
                    "{gpu:?} d {d} {metric}"
                );
                assert_eq!(one.1, every_second(&two.1), "{gpu:?} d {d} {metric}");
                assert_eq!(one.0[0], -1, "a query with NaN");
            }
        }
    }
}

#[test]
fn distances_beyond_the_range_are_hits_before_padding() {
    let client = client();
    for gpu in guises(&client) {
        let d = 20;
        let mut device = DeviceLists::new(&gpu, d, 1, 2);
        let rows: Vec<f32> = [3e38, -3e38, 0.0]
            .iter()
            .flat_map(|&v| vec![v; d])
            .collect();
        let handle = upload(&client, &rows);
        device
            .append(
                &Added {
                    rows: &handle,
                    lists: &[0; 3],
                    ids: &[5, 6, 7],
                },
                |_, _| 0,
            )
            .unwrap();
        let on = upload(&client, &vec![3e38_f32; d]);
        for (metric, labels, values) in [
            (
                Metric::L2,
                [5, 6, 7, -1],
                [0.0, f32::INFINITY, f32::INFINITY, f32::INFINITY],
            ),
            (
                Metric::InnerProduct,
                [5, 7, 6, -1],
                [f32::INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY],
            ),
        ] {
            for order in Order::ALL {
                let problem = DeviceProblem {
                    metric,
                    k: 4,
                    lists: &device,
                    queries: &on,
                    nq: 1,
                    workspace: 1 << 20,
                    order,
                    grain: Grain::default(),
                };
                let found = scan_on(&problem, Reads::All).unwrap();
                assert_eq!(
                    download::<i64>(&client, &found.labels, 4),
                    labels,
                    "{metric}"
                );
                assert_eq!(
                    download::<f32>(&client, &found.values, 4),
                    values,
                    "{metric}"
                );
            }
        }
    }
}

/// Few lists are looked up by the whole cube at once, many one after the other: the answer is that of
/// one list that holds the same rows.
#[test]
fn many_lists_answer_as_one() {
    let client = client();
    let mut rng = Rng(51);
    for gpu in guises(&client) {
        for (nprobe, k) in [(1, 3), (2, 20), (200, 20), (256, 300), (257, 20), (700, 40)] {
            let (d, n, nlist, nq) = (9, 1500, 700, 5);
            let rows: Vec<f32> = (0..n * d).map(|_| rng.below(7) as f32).collect();
            let lists: Vec<u32> = (0..n).map(|_| rng.below(nlist) as u32).collect();
            let ids: Vec<i64> = (0..n as i64).collect();
            let mut many = DeviceLists::new(&gpu, d, nlist, 2);
            let handle = upload(&client, &rows);
            let added = Added {
                rows: &handle,
                lists: &lists,
                ids: &ids,
            };
            many.append(&added, |_, _| 0).unwrap();
            let first = rng.below(nlist);
            let probed: Vec<u32> = (0..nprobe).map(|p| ((first + p) % nlist) as u32).collect();
            let kept: Vec<usize> = (0..n).filter(|&i| probed.contains(&lists[i])).collect();
            let few: Vec<f32> = kept
                .iter()
                .flat_map(|&i| rows[i * d..][..d].to_vec())
                .collect();
            let few_ids: Vec<i64> = kept.iter().map(|&i| i as i64).collect();
            let mut one = DeviceLists::new(&gpu, d, 1, 2);
            let handle = upload(&client, &few);
            let added = Added {
                rows: &handle,
                lists: &vec![0; kept.len()],
                ids: &few_ids,
            };
            one.append(&added, |_, _| 0).unwrap();
            let queries: Vec<f32> = (0..nq * d).map(|_| rng.float()).collect();
            let queries = upload(&client, &queries);
            let named = upload(&client, &probed.repeat(nq));
            let search = |lists: &DeviceLists<Device>, reads, order| {
                poison(&client, &[nq * k, 2 * nq * k]);
                let problem = DeviceProblem {
                    metric: Metric::L2,
                    k,
                    lists,
                    queries: &queries,
                    nq,
                    workspace: 1 << 20,
                    order,
                    grain: Grain::default(),
                };
                let found = scan_on(&problem, reads).unwrap();
                let labels: Vec<i64> = download(&client, &found.labels, nq * k);
                let values: Vec<u32> = download(&client, &found.values, nq * k);
                (labels, values)
            };
            if kept.is_empty() {
                continue;
            }
            let expected = search(&one, Reads::All, Order::QueryMajor);
            for order in Order::ALL {
                let what = format!("{gpu:?} nprobe {nprobe} {order:?}");
                let found = search(&many, Reads::Lists(&named, nprobe), order);
                assert_eq!(found, expected, "{what}");
                assert_eq!(search(&one, Reads::All, order), expected, "{what}");
            }
        }
    }
}
