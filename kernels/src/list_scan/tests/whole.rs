//! Filter keys that are exact themselves.

use super::*;

/// Vectors of whole numbers: where sums of their products are numbers that f32 has, nothing is compared
/// again; where some are not, those rows are; and where vectors are too long for either, all.
#[test]
fn whole_numbers_are_compared_once() {
    let mut draws = Draws(3);
    let (n, nq, k) = (150, 9, 30);
    for case in 0..120 {
        let d = draws.pick(&[1, 7, 16, 64, 100, 784]);
        let layout = draws.pick(&Layout::ALL);
        // Components, of which both signs, so that vectors of nearly 2^12 are up to 2^13 apart.
        let longest = (4096.0 * 0.999 / (d as f64).sqrt()) as i32;
        let largest = draws.pick(&[1, longest.min(100), longest.min(256), longest, 3 * longest]);
        let whole = case % 4 != 0;
        let mut value = || {
            let smaller = draws.below(largest as usize + 1) as i32;
            let size = draws.pick(&[largest, largest, smaller]);
            let x = draws.pick(&[-1.0, 1.0]) * size as f32;
            x + if whole { 0.0 } else { 0.5 }
        };
        let mut rows = Rows::new(d, layout);
        for _ in 0..n {
            rows.push(&(0..d).map(|_| value()).collect::<Vec<_>>());
        }
        let queries: Vec<f32> = (0..nq * d).map(|_| value()).collect();
        let ids: Vec<i64> = (0..n as i64).map(|id| id ^ 5).collect();
        let lists = [List::new(&rows, ListIds::Table(&ids)).unwrap()];
        let exact = rows.extent().is_whole();
        for metric in Metric::ALL {
            let problem = Problem {
                metric,
                d,
                k,
                lists: &lists,
                queries: &queries,
                workspace: WORKSPACE,
            };
            let all: Vec<Slot> = (0..nq)
                .flat_map(|_| (0..n as u32).map(|slot| Slot { list: 0, slot }))
                .collect();
            let expected = rerank(&problem, &all, n, Isa::portable()).unwrap();
            // A list read twice holds every row twice, which a table of centroids does not know.
            for isa in Isa::available() {
                let probes: Vec<u32> = (0..nq as u32).flat_map(|_| [SKIP, 0]).collect();
                let found = scan(&problem, &probes, 2, isa).unwrap();
                let name = isa.name();
                let what = format!("case {case}: {metric} {layout} {name} {d}, up to {largest}");
                assert_eq!(found.labels, expected.labels, "{what}");
                let bits = |best: &Best| {
                    best.distances
                        .iter()
                        .map(|x| x.to_bits())
                        .collect::<Vec<_>>()
                };
                assert_eq!(bits(&found), bits(&expected), "{what}");
                // Many equal keys crowd a buffer, whose rows are compared then.
                let spread = d >= 16 && largest > 1;
                if whole && exact && spread && largest < longest / 2 {
                    assert_eq!(found.rows_reranked, 0, "{what}");
                }
                if !whole || largest > longest {
                    assert!(found.rows_reranked > 0, "{what}");
                }
            }
        }
    }
}
