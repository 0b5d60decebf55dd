//! `list_scan`.

use super::*;
use crate::backend::portable::{
    self,
    ranking::{Intervals, block_scores},
};

/// Probes of 9 queries among five lists, three each: all kinds of lists, and skipped probes.
const PROBES: [[i64; 3]; 9] = [
    [0, 1, 2],
    [3, 4, 1],
    [2, -1, 0],
    [-1, -1, -1],
    [4, 3, -1],
    [1, 0, 4],
    [3, -1, -1],
    [-1, 1, -1],
    [1, 2, 3],
];

/// Nine queries, two of them not finite.
fn queries(d: usize, seed: u64, value: impl Fn(f32) -> f32) -> Vec<f32> {
    let mut queries: Vec<f32> = normal(9, d, seed).into_iter().map(value).collect();
    queries[d - 1] = f32::NAN;
    queries[5 * d] = f32::NEG_INFINITY;
    queries
}

/// Portable, host and reference for every metric, k and workspace.
fn agree(data: &[f32], queries: &[f32], d: usize, what: &str) {
    let fixture = Fixture::uneven(data, d, 3);
    let probes = PROBES.concat();
    for metric in Metric::ALL {
        for k in [1, 7, 900] {
            let what = format!("{what}, {metric}, d {d}, k {k}");
            let (labels, wide, counts) = fixture.reference(metric, k, queries, &probes);
            let [tiny, roomy] = WORKSPACES.map(|workspace| {
                let scan = fixture.scan(metric, k, queries, workspace);
                Answer::portable(&scan, &probes)
            });
            tiny.assert_same(&roomy, &what);
            fixture.check(metric, queries, &tiny, (&labels, &wide), &what);
            assert_eq!(tiny.counts, Some(counts), "{what}");
            assert_eq!(roomy.counts, Some(counts), "{what}");

            let scan = fixture.scan(metric, k, queries, WORKSPACES[1]);
            roomy.assert_same(&Answer::exhaustive(&scan, &probes), &what);
            let host = Answer::host(&scan, &probes);
            let wide: Vec<f64> = host.distances.iter().copied().map(f64::from).collect();
            fixture.check(metric, queries, &roomy, (&host.labels, &wide), &what);
        }
    }
}

#[test]
fn finds_what_the_reference_and_the_host_find() {
    for d in [1, 3, 16, 33] {
        agree(&normal(700, d, 1), &queries(d, 2, |v| v), d, "normal");
    }
}

#[test]
fn equal_distances_come_by_id() {
    for d in [1, 3, 16, 33] {
        agree(&tied(700, d, 4), &queries(d, 5, f32::round), d, "tied");
    }
}

#[test]
fn far_from_the_origin_no_digit_is_lost() {
    for d in [1, 3, 16, 33] {
        let far: Vec<f32> = normal(700, d, 6).iter().map(|v| v + 1000.0).collect();
        agree(&far, &queries(d, 7, |v| v + 1000.0), d, "offset");
    }
}

#[test]
fn broken_queries_and_skipped_probes_get_padding() {
    let fixture = Fixture::uneven(&normal(700, 3, 8), 3, 9);
    let queries = queries(3, 10, |v| v);
    for metric in Metric::ALL {
        let scan = fixture.scan(metric, 4, &queries, WORKSPACES[1]);
        let found = Answer::portable(&scan, &PROBES.concat());
        // 0 and 5 are not finite; 3 and 6 read nothing or the empty list.
        for (i, row) in found.labels.chunks_exact(4).enumerate() {
            let padding = [0, 3, 5, 6].contains(&i);
            assert!(row.iter().all(|&id| (id == -1) == padding), "query {i}");
        }
    }
}

#[test]
fn more_equal_rows_than_are_kept_come_by_id() {
    let (n, d) = (4000, 3);
    let fixture = Fixture::uneven(&[0.5, -1.5, 2.5].repeat(n), d, 11);
    let queries = normal(3, d, 12);
    let probes = [0, 1, 2, 4].repeat(3);
    for (metric, workspace) in Metric::ALL.into_iter().zip(WORKSPACES) {
        let scan = fixture.scan(metric, 7, &queries, workspace);
        let found = Answer::portable(&scan, &probes);
        let first: Vec<i64> = (0..7).map(|i| (i << 33) + i).collect();
        assert_eq!(found.labels, first.repeat(3), "{metric}");
    }
}

/// Rows a matrix product cannot tell apart: one vector, changed in its last bits.
fn near_duplicates(n: usize, d: usize, scale: f32, seed: u64) -> Vec<f32> {
    let (vector, mut rng) = (normal(1, d, seed), rng(seed));
    let shaken = |v: &f32| scale * v * (1.0 + 3e-7 * f32::from(rng.random_range(-2_i8..3)));
    let cycle = vector.repeat(n);
    cycle.iter().map(shaken).collect()
}

#[test]
fn rows_that_rounding_alone_would_rank_are_compared_exactly() {
    for (d, scale) in [(3, 1.0), (16, 1.0), (33, 1.0), (33, 1e15), (33, 1e-12)] {
        let mut data = near_duplicates(1500, d, scale, 13);
        // Rows around them, so that the block's mean is somewhere else.
        data.extend(normal(500, d, 14).iter().map(|v| v * scale));
        let fixture = Fixture::uneven(&data, d, 15);
        let queries: Vec<f32> = [
            data[..d].to_vec(),
            normal(5, d, 16).iter().map(|v| v * scale).collect(),
        ]
        .concat();
        let probes = [4, 2, 1, 0].repeat(6);
        for metric in Metric::ALL {
            for (k, workspace) in [(1, 0), (7, 0), (7, 1), (300, 1)] {
                let scan = fixture.scan(metric, k, &queries, WORKSPACES[workspace]);
                let what = format!("{metric}, d {d}, k {k}, scale {scale}");
                Answer::portable(&scan, &probes)
                    .assert_same(&Answer::exhaustive(&scan, &probes), &what);
            }
        }
    }
}

#[test]
fn only_rows_that_cannot_be_told_apart_fill_a_query_up() {
    let (n, d) = (2000, 16);
    let at: Vec<Slot> = (0..n)
        .map(|slot| Slot {
            list: 0,
            slot: slot as u32,
        })
        .collect();
    let query = normal(1, d, 24);
    for (rows, full) in [
        (normal(n, d, 25), false),
        (near_duplicates(n, d, 1.0, 26), true),
    ] {
        for metric in Metric::ALL {
            let (q, x) = (tensor(&query, d), tensor(&rows, d));
            let scores = block_scores(metric, q, x, 0.0).unwrap();
            let mut found = Intervals::new(7);
            scores.each(0, &at, |lower, upper, at| found.push(lower, upper, at));
            assert_eq!(found.is_full(), full, "{metric}");
            assert!(found.take().len() >= 7);
            assert!(found.take().is_empty() && !found.is_full());
        }
    }
}

#[test]
fn components_whose_squares_underflow_lose_no_row() {
    let d = 33;
    for (rows, query) in [(1e-25, 1.0), (1e-22, 1e-22), (1e-20, 1e-20), (1e-30, 1e10)] {
        let data = near_duplicates(1500, d, rows, 17);
        let fixture = Fixture::uneven(&data, d, 18);
        let queries: Vec<f32> = normal(6, d, 19).iter().map(|v| v * query).collect();
        let probes = [4, 2, 1, 0].repeat(6);
        for metric in Metric::ALL {
            for workspace in WORKSPACES {
                let scan = fixture.scan(metric, 7, &queries, workspace);
                let what = format!("{metric}, rows {rows}, queries {query}");
                Answer::portable(&scan, &probes)
                    .assert_same(&Answer::exhaustive(&scan, &probes), &what);
            }
        }
    }
}

#[test]
fn sums_beyond_the_range_are_finite_products_or_infinite_distances() {
    let data = [3e38, 3e38, -3e38, 1.0, 2.0, 3.0, 3e38, -3e38, -3e38];
    let fixture = Fixture::new(&data, 3, 1, &[0, 0, 0], &[5, 9, 1]);
    let queries = [1.0, 1.0, 1.0];
    let product = fixture.scan(Metric::InnerProduct, 3, &queries, WORKSPACES[1]);
    let found = Answer::portable(&product, &[0]);
    assert_eq!(found.labels, [5, 9, 1]);
    assert_eq!(found.distances, [3e38, 6.0, -3e38]);
    let l2 = fixture.scan(Metric::L2, 3, &queries, WORKSPACES[1]);
    let found = Answer::portable(&l2, &[0]);
    assert_eq!(found.labels, [9, 1, 5]);
    assert_eq!(found.distances, [5.0, f32::INFINITY, f32::INFINITY]);
}

#[test]
fn rows_of_a_table_are_named_by_their_places() {
    let d = 16;
    let data = tied(300, d, 20);
    let places: Vec<i64> = (0..300).collect();
    let fixture = Fixture::new(&data, d, 1, &[0; 300], &places);
    let queries = tied(5, d, 21);
    for metric in Metric::ALL {
        let scan = Scan {
            ids: RowIds::Places(300),
            ..fixture.scan(metric, 9, &queries, WORKSPACES[0])
        };
        let probing = Probing {
            reads: Reads::All,
            order: Order::QueryMajor,
            tuning: tuning::<B>(&burn::tensor::Device::<B>::default()),
        };
        let found = Answer::of(portable::list_scan(&scan, &probing).unwrap());
        let (labels, wide, _) = fixture.reference(metric, 9, &queries, &[0; 5]);
        // Integers: nothing rounds, so ids have to be the reference's.
        assert_eq!(found.labels, labels, "{metric}");
        fixture.check(metric, &queries, &found, (&labels, &wide), "places");
    }
}

#[test]
fn no_queries_find_nothing() {
    let fixture = Fixture::uneven(&normal(50, 3, 22), 3, 23);
    for metric in Metric::ALL {
        let scan = fixture.scan(metric, 4, &[], WORKSPACES[1]);
        let probing = lists_read(&[], 0);
        let hits = portable::list_scan(&scan, &probing).unwrap();
        assert_eq!(hits.labels.dims(), [0, 4]);
        let hits = portable::rerank(&scan, &[], 3).unwrap();
        assert_eq!(hits.distances.dims(), [0, 4]);
    }
}
