//! `rerank`, and the exact keys below it.

use super::*;
use crate::backend::portable;

/// For each of `nq` queries `width` places: rows of all lists, each at most once, and gaps.
fn candidates(fixture: &Fixture, nq: usize, width: usize, seed: u64) -> Vec<Slot> {
    let mut rng = rng(seed);
    let mut all: Vec<Slot> = (0..fixture.ids.len())
        .flat_map(|l| (0..fixture.ids[l].len()).map(move |s| (l as u32, s as u32)))
        .map(|(list, slot)| Slot { list, slot })
        .collect();
    let row = |_| {
        all.shuffle(&mut rng);
        let mut row = all[..width].to_vec();
        for place in 0..width / 4 {
            row[place * 3] = Slot::NONE;
        }
        row
    };
    (0..nq).flat_map(row).collect()
}

/// The k best of a table of candidates by f64 distances: ids and distances.
fn expected(
    fixture: &Fixture,
    scan: &Scan<'_, B>,
    queries: &[f32],
    table: &[Slot],
) -> (Vec<i64>, Vec<f64>) {
    let (metric, k) = (scan.metric, scan.k);
    let (mut labels, mut wide) = (Vec::new(), Vec::new());
    let width = table.len() / scan.nq();
    for (query, row) in queries
        .chunks_exact(fixture.d)
        .zip(table.chunks_exact(width))
    {
        let mut best: Vec<(f64, i64)> = row
            .iter()
            .filter(|&&at| at != Slot::NONE && query.iter().all(|v| v.is_finite()))
            .map(|&at| scan.ids.id(at))
            .map(|id| (fixture.measure(metric, query, id).0, id))
            .collect();
        let sign = if metric == Metric::L2 { 1.0 } else { -1.0 };
        best.sort_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)).then(a.1.cmp(&b.1)));
        best.resize(k.max(best.len()), (f64::from(metric.padding()), -1));
        labels.extend(best[..k].iter().map(|b| b.1));
        wide.extend(best[..k].iter().map(|b| b.0));
    }
    (labels, wide)
}

#[test]
fn orders_candidates_and_passes_over_gaps() {
    for d in [1, 3, 16, 33] {
        for (data, what) in [(normal(300, d, 1), "normal"), (tied(300, d, 2), "tied")] {
            let fixture = Fixture::uneven(&data, d, 3);
            let mut queries = tied(6, d, 4);
            queries[2 * d] = f32::INFINITY;
            let table = candidates(&fixture, 6, 50, 5);
            for metric in Metric::ALL {
                for k in [1, 7, 80] {
                    let what = format!("{what}, {metric}, d {d}, k {k}");
                    let [tiny, roomy] = WORKSPACES.map(|workspace| {
                        let scan = fixture.scan(metric, k, &queries, workspace);
                        Answer::of(portable::rerank(&scan, &table, 50).unwrap())
                    });
                    tiny.assert_same(&roomy, &what);
                    let scan = fixture.scan(metric, k, &queries, WORKSPACES[1]);
                    let (labels, wide) = expected(&fixture, &scan, &queries, &table);
                    fixture.check(metric, &queries, &tiny, (&labels, &wide), &what);
                    let compared = table
                        .chunks_exact(50)
                        .enumerate()
                        .filter(|(i, _)| *i != 2)
                        .flat_map(|(_, row)| row)
                        .filter(|&&at| at != Slot::NONE)
                        .count();
                    let counted = tiny.counts.map(|c| c.rows_scanned);
                    assert_eq!(counted, Some(compared as u64), "{what}");

                    let host = Answer::of(B::rerank(&scan, &table, 50).unwrap());
                    let wide: Vec<f64> = host.distances.iter().copied().map(f64::from).collect();
                    fixture.check(metric, &queries, &roomy, (&host.labels, &wide), &what);
                }
            }
        }
    }
}

#[test]
fn only_gaps_give_only_padding() {
    let fixture = Fixture::uneven(&normal(20, 3, 6), 3, 7);
    let scan = fixture.scan(Metric::L2, 2, &[0.0; 6], WORKSPACES[1]);
    for width in [0, 4] {
        let table = vec![Slot::NONE; 2 * width];
        let found = Answer::of(portable::rerank(&scan, &table, width).unwrap());
        assert_eq!(found.labels, [-1; 4]);
        assert_eq!(found.distances, [f32::INFINITY; 4]);
    }
}

#[test]
fn a_key_is_the_same_alone_and_among_others() {
    let d = 33;
    let fixture = Fixture::uneven(&normal(200, d, 8), d, 9);
    let queries = normal(3, d, 10);
    for metric in Metric::ALL {
        let scan = fixture.scan(metric, 1, &queries, WORKSPACES[0]);
        let pairs: Vec<(u32, Slot)> = candidates(&fixture, 3, 60, 11)
            .into_iter()
            .filter(|&at| at != Slot::NONE)
            .enumerate()
            .map(|(i, at)| (i as u32 % 3, at))
            .collect();
        let together = portable::exact_keys(&scan, &pairs).unwrap();
        for (pair, key) in pairs.iter().zip(together) {
            let alone = portable::exact_keys(&scan, &[*pair]).unwrap();
            assert_eq!(alone[0].to_bits(), key.to_bits(), "{metric}, {pair:?}");
        }
    }
}

#[test]
fn a_tree_adds_every_column_once_by_halves() {
    for d in 1..40_usize {
        let ones: Vec<f32> = (0..2 * d).map(|i| (i % 7) as f32).collect();
        let sums = read(portable::tree_sum(tensor(&ones, d))).unwrap();
        let expected: Vec<f32> = ones.chunks_exact(d).map(|row| row.iter().sum()).collect();
        assert_eq!(sums, expected, "d {d}");
    }
    // (1 + 2⁻²⁴) + (2⁻²⁴ + 0) by halves of four: 1 with 2⁻²⁴ is 1, then 1 + 2⁻²⁴ is 1 again;
    // pairing neighbours would keep 2⁻²⁴ + 2⁻²⁴.
    let u = ROUNDOFF as f32;
    let sums = read(portable::tree_sum(tensor(&[1.0, u, u, 0.0], 4))).unwrap();
    assert_eq!(sums, [1.0]);
}
