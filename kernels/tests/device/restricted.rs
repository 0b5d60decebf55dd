//! Scans under a restriction and scans for all rows within a distance, as the CPU kernels answer.

mod question;
mod world;

use self::{
    question::{Question, probes},
    world::{World, whole},
};
use super::support::{Client, Device, Rng, client, download, guises, upload};
use burn_ivf_kernels::{
    KernelError, Metric,
    device::Grain,
    list_scan::{
        DeviceProblem, Order, Orders, Reads, SKIP,
        restrict::{ListOrder, Masks, Restriction},
        scan_restricted_on, within_on,
    },
    rows::{
        Rows,
        device::{Added, DeviceLists},
    },
};
use std::sync::Arc;

/// Random lists, questions and restrictions.
fn each_case(mut check: impl FnMut(&Client, &World, &Question<'_>, Restriction<'_>, &str)) {
    let client = client();
    let guises = guises(&client);
    for case in 0..42 {
        let rng = &mut Rng(1000 + case);
        let gpu = &guises[case as usize % guises.len()];
        let d = rng.pick(&[3, 16, 33]);
        let nlist = rng.pick(&[1, 1, 2, 7, 20, 700]);
        let world = World::new(gpu, &client, (d, nlist, 60 + rng.below(1500)), rng);
        let nq = rng.pick(&[1, 3, 40]);
        let nprobe = match rng.below(2) {
            0 => nlist,
            _ => 1 + rng.below(nlist),
        };
        let mut queries: Vec<f32> = (0..nq * d).map(|_| whole(rng)).collect();
        if nq > 1 && rng.below(3) == 0 {
            queries[d] = rng.pick(&[f32::NAN, f32::INFINITY]);
        }
        let all = nlist == 1 && rng.below(2) == 0;
        let probes = if all {
            vec![0; nq]
        } else {
            probes(nq, nprobe, nlist, rng)
        };
        let question = Question {
            metric: Metric::ALL[case as usize / 3 % 2],
            k: rng.pick(&[1, 10, 33, 300, 2500]),
            queries: &queries,
            probes: &probes,
            nprobe,
            all,
            workspace: rng.pick(&[1 << 16, 1 << 26]),
        };
        let caps = world.caps(&probes, rng);
        let order = world.order(rng);
        let share = rng.pick(&[0, 3, 50, 500, 1000]);
        let masks = world.masks(rng.pick(&[1, 3, 3000]), nq, share, rng);
        // Every way at least once in seven.
        let way = 1 + case % 7;
        let restriction = Restriction {
            caps: (way & 1 != 0).then_some(&caps),
            order: (way & 2 != 0).then_some(&order),
            masks: (way & 4 != 0).then_some(&masks),
        };
        let what = format!(
            "case {case} way {way}: d {d} nlist {nlist} nprobe {nprobe} nq {nq} k {} share {share} \
             all {all} {} {gpu:?}",
            question.k, question.metric
        );
        check(&client, &world, &question, restriction, &what);
    }
}

#[test]
fn restricted_scans_answer_as_on_the_cpu() {
    each_case(|client, world, question, restriction, what| {
        question.check(client, world, restriction, what);
    });
}

#[test]
fn rows_within_a_distance_are_those_of_the_cpu_in_its_order() {
    let rng = &mut Rng(3);
    let mut found = 0;
    each_case(|client, world, question, restriction, what| {
        // Keys are whole numbers: many lie on the limit.
        let limit = match question.metric {
            Metric::L2 => (world.d as f32 * 4.0 * (0.5 + 0.5 * rng.float())).floor(),
            Metric::InnerProduct => (world.d as f32 * 2.0 * rng.float()).floor(),
        };
        let limit = rng.pick(&[limit, limit, limit, f32::INFINITY, f32::NEG_INFINITY, -0.0]);
        found += question.check_range(client, world, (restriction, limit), what);
    });
    assert!(found > 5_000, "{found} found");
}

/// Nothing to find, by whatever reason; and everything.
#[test]
fn empty_restrictions_lists_and_queries_find_nothing() {
    let client = client();
    let rng = &mut Rng(5);
    for gpu in guises(&client) {
        let world = World::new(&gpu, &client, (6, 4, 200), rng);
        let mut queries: Vec<f32> = (0..5 * 6).map(|_| whole(rng)).collect();
        queries[7] = f32::NAN;
        let probes: Vec<u32> = [3, SKIP, 0, 1].repeat(5);
        let none = vec![0; probes.len()];
        let mut one = world.masks(2, 5, 0, rng);
        // One row for the queries of the second mask, the last of its list.
        one.of = vec![0, 1, 1, 0, 1];
        let last = world.rows[1].len() - 1;
        one.masks[1][one.starts[1] + last / 32] = 1 << (last % 32);
        let whole = world.masks(1, 5, 1000, rng);
        let order = world.order(rng);
        for (metric, k) in [(Metric::L2, 3), (Metric::InnerProduct, 400)] {
            let question = Question {
                metric,
                k,
                queries: &queries,
                probes: &probes,
                nprobe: 4,
                all: false,
                workspace: 1 << 18,
            };
            for (caps, masks, expected) in [
                (Some(&none), None, 0),
                (Some(&none), Some(&whole), 0),
                (None, Some(&one), 2),
            ] {
                for order in [None, Some(&order)] {
                    let restriction = Restriction {
                        caps: caps.map(|caps| &caps[..]),
                        order,
                        masks,
                    };
                    question.check(&client, &world, restriction, "nothing");
                    for (limit, expected) in [(f32::INFINITY, expected), (f32::NAN, 0)] {
                        let found =
                            question.check_range(&client, &world, (restriction, limit), "nothing");
                        assert_eq!(found, expected);
                    }
                }
            }
            let all = Restriction::default();
            let everything = question.check_range(&client, &world, (all, f32::INFINITY), "all");
            let rows = [3, 0, 1].map(|l: usize| world.rows[l].len());
            assert_eq!(everything, 4 * rows.iter().sum::<usize>());
        }
    }
    // No row at all.
    let empty: DeviceLists<Device> = DeviceLists::new(&guises(&client)[0], 6, 4, 2);
    let queries = upload(&client, &[0.0_f32; 12]);
    let problem = DeviceProblem {
        metric: Metric::L2,
        k: 1,
        lists: &empty,
        queries: &queries,
        nq: 2,
        workspace: 1 << 20,
        order: Order::QueryMajor,
        grain: Grain::default(),
    };
    let named = upload(&client, &[0_u32; 2]);
    let (reads, all) = (Reads::Lists(&named, 1), Restriction::default());
    let found = within_on(&problem, 1.0, reads, all, &Orders::default()).unwrap();
    assert_eq!(found.lims, [0, 0, 0]);
}

/// D5: a million rows found, by few queries and by many.
#[test]
fn a_million_rows_within_a_distance_are_all_written() {
    let client = client();
    let rng = &mut Rng(6);
    let gpu = &guises(&client)[0];
    let n = 20_000;
    let world = World::new(gpu, &client, (4, 3, n), rng);
    let nq = 50;
    let queries: Vec<f32> = (0..nq * 4).map(|_| whole(rng)).collect();
    let probes = [2, 0, 1].repeat(nq);
    let question = Question {
        metric: Metric::L2,
        k: 1,
        queries: &queries,
        probes: &probes,
        nprobe: 3,
        all: false,
        workspace: 1 << 14,
    };
    let every = (Restriction::default(), f32::INFINITY);
    let found = question.check_range(&client, &world, every, "every row");
    assert_eq!(found, nq * n);
}

/// Rows whose distance leaves the range are found by an infinite limit only.
#[test]
fn infinite_distances_are_within_an_infinite_limit() {
    let client = client();
    for gpu in guises(&client) {
        let mut lists: DeviceLists<Device> = DeviceLists::new(&gpu, 4, 1, 2);
        let rows = upload(&client, &[[0.0_f32; 4], [3e38; 4], [-3e38; 4]]);
        let added = Added {
            rows: &rows,
            lists: &[0; 3],
            ids: &[5, 6, 7],
        };
        lists.append(&added, |_, _| 0).unwrap();
        let queries = upload(&client, &[2.0_f32; 4]);
        for (metric, limit, expected) in [
            (Metric::L2, f32::INFINITY, &[5, 6, 7][..]),
            (Metric::L2, f32::MAX, &[5]),
            (Metric::InnerProduct, f32::INFINITY, &[5, 6, 7]),
            (Metric::InnerProduct, f32::MAX, &[5, 6]),
            (Metric::InnerProduct, f32::NEG_INFINITY, &[6]),
        ] {
            let problem = DeviceProblem {
                metric,
                k: 1,
                lists: &lists,
                queries: &queries,
                nq: 1,
                workspace: 1 << 20,
                order: Order::QueryMajor,
                grain: Grain::default(),
            };
            let all = Restriction::default();
            let found = within_on(&problem, limit, Reads::All, all, &Orders::default()).unwrap();
            let n = *found.lims.last().unwrap() as usize;
            let labels: Vec<i64> = download(&client, &found.labels, n);
            assert_eq!(labels, expected, "{metric} {limit}");
        }
    }
}

/// The reading order is kept on the device: another order, or lists that have grown and moved, must
/// not be answered by it.
#[test]
fn an_order_kept_on_the_device_is_not_taken_for_another() {
    let client = client();
    let rng = &mut Rng(7);
    for gpu in guises(&client) {
        let mut world = World::new(&gpu, &client, (8, 5, 300), rng);
        let queries: Vec<f32> = (0..3 * 8).map(|_| whole(rng)).collect();
        let probes = probes(3, 4, 5, rng);
        let question = Question {
            metric: Metric::L2,
            k: 20,
            queries: &queries,
            probes: &probes,
            nprobe: 4,
            all: false,
            workspace: 1 << 20,
        };
        let mut order = world.order(rng);
        for round in 0..4 {
            let masks = world.masks(1, 3, 600, rng);
            let caps = world.caps(&probes, rng);
            for masks in [None, Some(&masks), None] {
                let restriction = Restriction {
                    caps: Some(&caps),
                    order: Some(&order),
                    masks,
                };
                question.check(&client, &world, restriction, &format!("round {round}"));
            }
            if round % 2 == 0 {
                order = world.order(rng);
            } else {
                // Orders of lists that have not grown stay what they are.
                let before: Vec<usize> = world.rows.iter().map(Rows::len).collect();
                world.add(&client, 2, rng);
                let new = world.order(rng);
                for (l, &len) in before.iter().enumerate() {
                    if world.rows[l].len() != len {
                        order.lists[l] = new.lists[l].clone();
                    }
                }
            }
        }
    }
}

/// Another thread's queue hands over its queries and probes; masks, caps and orders are uploaded, and
/// sums read, in the queue of the lists.
#[test]
fn other_threads_get_the_same_answers() {
    let client = client();
    let rng = &mut Rng(9);
    let world = World::new(&guises(&client)[1], &client, (8, 5, 400), rng);
    let seeds: Vec<u64> = (0..3).map(|_| rng.bits()).collect();
    std::thread::scope(|scope| {
        for seed in seeds {
            let world = &world;
            scope.spawn(move || {
                let (client, rng) = (super::support::client(), &mut Rng(seed));
                for round in 0..6 {
                    let queries: Vec<f32> = (0..7 * 8).map(|_| whole(rng)).collect();
                    let probes = probes(7, 3, 5, rng);
                    let question = Question {
                        metric: Metric::L2,
                        k: 20,
                        queries: &queries,
                        probes: &probes,
                        nprobe: 3,
                        all: false,
                        workspace: 1 << 20,
                    };
                    let caps = world.caps(&probes, rng);
                    let (order, masks) = (world.order(rng), world.masks(3, 7, 500, rng));
                    let restriction = Restriction {
                        caps: Some(&caps),
                        order: Some(&order),
                        masks: (round % 2 == 0).then_some(&masks),
                    };
                    let what = format!("round {round}");
                    question.check(&client, world, restriction, &what);
                    question.check_range(&client, world, (restriction, 20.0), &what);
                }
            });
        }
    });
}

#[test]
fn restrictions_of_other_lists_are_refused() {
    let client = client();
    let gpu = &guises(&client)[0];
    let rng = &mut Rng(8);
    let world = World::new(gpu, &client, (4, 3, 100), rng);
    let queries = upload(&client, &[0.0_f32; 8]);
    let named = upload(&client, &[0_u32, 1]);
    let problem = DeviceProblem {
        metric: Metric::L2,
        k: 3,
        lists: &world.device,
        queries: &queries,
        nq: 2,
        workspace: 1 << 20,
        order: Order::QueryMajor,
        grain: Grain::default(),
    };
    let refused = |restriction: Restriction<'_>| {
        let reads = Reads::Lists(&named, 1);
        let error = scan_restricted_on(&problem, reads, restriction, &world.orders).unwrap_err();
        assert!(matches!(error, KernelError::Length { .. }), "{error}");
    };
    refused(Restriction {
        caps: Some(&[1]),
        ..Restriction::default()
    });
    let masks = world.masks(2, 2, 500, rng);
    let short = Masks {
        masks: vec![masks.masks[0].clone(), vec![]],
        ..masks.clone()
    };
    let missing = Masks {
        of: vec![0, 2],
        ..masks
    };
    for masks in [short, missing] {
        refused(Restriction {
            masks: Some(&masks),
            ..Restriction::default()
        });
    }
    let mut order = world.order(rng);
    order.lists[1] = Arc::new(ListOrder {
        places: vec![],
        ..(*order.lists[1]).clone()
    });
    refused(Restriction {
        caps: Some(&[1, 1]),
        order: Some(&order),
        ..Restriction::default()
    });
}
