use super::*;
use crate::{
    rows::{Layout, PANEL, planes},
    simd::Isa,
};
use proptest::prelude::*;

mod whole;

/// Small integers for ties, wide floats for the rest.
fn value(ties: bool) -> BoxedStrategy<f32> {
    if ties {
        (-2_i8..3).prop_map(f32::from).boxed()
    } else {
        (-1.0_f32..1.0).boxed()
    }
}

#[derive(Debug)]
struct Case {
    d: usize,
    k: usize,
    metric: Metric,
    lists: Vec<(Rows, Vec<i64>)>,
    queries: Vec<f32>,
    probes: Vec<u32>,
    nprobe: usize,
}

impl Case {
    fn whole_numbers(&self) -> bool {
        let mut row = vec![0.0; self.d];
        let mut whole = self.queries.iter().all(|v| v.fract() == 0.0);
        for (rows, _) in &self.lists {
            for slot in 0..rows.len() {
                rows.copy_row(slot, &mut row);
                whole &= row.iter().all(|v| v.fract() == 0.0);
            }
        }
        whole
    }

    fn lists(&self) -> Vec<List<'_>> {
        self.lists
            .iter()
            .map(|(rows, ids)| List::new(rows, ListIds::Table(ids)).unwrap())
            .collect()
    }
}

/// A scan in the order a test does not care for.
fn scan(
    problem: &Problem<'_>,
    probes: &[u32],
    nprobe: usize,
    isa: Isa,
) -> Result<Best, KernelError> {
    let found = super::scan(problem, probes, nprobe, Order::ListMajor, isa)?;
    let other = super::scan(problem, probes, nprobe, Order::QueryMajor, isa)?;
    let same = found.distances == other.distances && found.labels == other.labels;
    assert!(
        same,
        "{} k {} d {} nq {} sizes {:?} layout {:?} {:?}",
        isa.name(),
        problem.k,
        problem.d,
        problem.nq(),
        problem.lists.iter().map(List::len).collect::<Vec<_>>(),
        problem.lists[0].rows().layout(),
        problem.metric
    );
    Ok(found)
}

fn case() -> impl Strategy<Value = Case> {
    (
        1_usize..70,
        1_usize..40,
        any::<bool>(),
        any::<bool>(),
        1_usize..9,
        0_usize..40,
        1_usize..5,
        prop::sample::select(Layout::ALL.to_vec()),
    )
        .prop_flat_map(|(d, k, ip, ties, nlist, nq, nprobe, layout)| {
            let sizes = prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..70], nlist);
            (sizes, Just((d, k, ip, ties, nq, nprobe, layout)))
        })
        .prop_flat_map(|(sizes, (d, k, ip, ties, nq, nprobe, layout))| {
            let rows: usize = sizes.iter().sum();
            let nlist = sizes.len() as u32;
            (
                prop::collection::vec(value(ties), rows * d),
                prop::collection::vec(-9_i64..9, rows),
                prop::collection::vec(value(ties), nq * d),
                prop::collection::vec(prop_oneof![5 => 0..nlist, 1 => Just(SKIP)], nq * nprobe),
                Just((sizes, d, k, ip, nprobe, layout)),
            )
        })
        .prop_map(
            |(rows, ids, queries, probes, (sizes, d, k, ip, nprobe, layout))| {
                let metric = if ip { Metric::InnerProduct } else { Metric::L2 };
                let (mut rows, mut ids) = (rows.chunks(d), ids.into_iter());
                let lists = sizes
                    .iter()
                    .map(|&size| {
                        let mut list = Rows::new(d, layout);
                        rows.by_ref().take(size).for_each(|row| list.push(row));
                        (list, ids.by_ref().take(size).collect())
                    })
                    .collect();
                Case {
                    d,
                    k,
                    metric,
                    lists,
                    queries,
                    probes,
                    nprobe,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn scan_agrees_with_f64_and_with_itself(case in case()) {
        let lists = case.lists();
        let problem = Problem { metric: case.metric, d: case.d, k: case.k, lists: &lists, queries: &case.queries, workspace: WORKSPACE, };
        let (expected, wide) = reference::scan(&problem, &case.probes, case.nprobe);
        let first = scan(&problem, &case.probes, case.nprobe, Isa::portable()).unwrap();
        for isa in Isa::available() {
            let found = scan(&problem, &case.probes, case.nprobe, isa).unwrap();
            prop_assert_eq!(&found.labels, &first.labels, "{} differs from portable", isa.name());
            prop_assert_eq!(&found.distances, &first.distances, "{} differs from portable", isa.name());
        }
        prop_assert_eq!(first.rows_scanned, expected.rows_scanned);
        prop_assert_eq!(first.lists_scanned, expected.lists_scanned);
        // The metric's scale: |q||x| is at most 4·d here.
        let scale = 4.0 * case.d as f64;
        for (i, (&label, &exact)) in first.labels.iter().zip(&wide).enumerate() {
            prop_assert_eq!(label == -1, expected.labels[i] == -1);
            let found = f64::from(first.distances[i]);
            prop_assert!(found == exact || (found - exact).abs() <= 1e-6 * scale, "{} {}", found, exact);
        }
        // Integer data sums without rounding: there the order of ties is exact too.
        if case.whole_numbers() {
            prop_assert_eq!(&first.labels, &expected.labels);
        }
    }

    #[test]
    fn rerank_has_the_bits_of_scan(case in case()) {
        let lists = case.lists();
        let problem = Problem { metric: case.metric, d: case.d, k: case.k, lists: &lists, queries: &case.queries, workspace: WORKSPACE, };
        let total: usize = lists.iter().map(List::len).sum();
        let all: Vec<Slot> = lists.iter().enumerate()
            .flat_map(|(l, list)| (0..list.len()).map(move |s| Slot { list: l as u32, slot: s as u32 }))
            .chain([Slot::NONE; 3])
            .collect();
        let candidates: Vec<Slot> = (0..problem.nq()).flat_map(|_| all.iter().copied()).collect();
        let probes: Vec<u32> = (0..problem.nq()).flat_map(|_| 0..lists.len() as u32).collect();
        for isa in Isa::available() {
            let scanned = scan(&problem, &probes, lists.len(), isa).unwrap();
            let ranked = rerank(&problem, &candidates, total + 3, isa).unwrap();
            prop_assert_eq!(&ranked.labels, &scanned.labels);
            prop_assert!(ranked.distances.iter().zip(&scanned.distances).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

fn filled(d: usize, n: usize, value: impl Fn(usize, usize) -> f32) -> (Rows, Vec<i64>) {
    let mut rows = Rows::new(d, Layout::Planes);
    for i in 0..n {
        let row: Vec<f32> = (0..d).map(|t| value(i, t)).collect();
        rows.push(&row);
    }
    (rows, (0..n as i64).collect())
}

fn noise(i: usize) -> f32 {
    (i.wrapping_mul(2_654_435_761) >> 8 & 0xffff) as f32 / 65536.0
}

#[test]
fn threads_and_splits_do_not_matter() {
    let (rows, ids) = filled(24, 40_000, |i, t| noise(i * 24 + t));
    let lists = [List::new(&rows, ListIds::Table(&ids)).unwrap()];
    for nq in [1, 3, 200] {
        let queries: Vec<f32> = (0..nq * 24).map(|i| noise(i + 77)).collect();
        let problem = Problem {
            metric: Metric::L2,
            d: 24,
            k: 10,
            lists: &lists,
            queries: &queries,
            workspace: WORKSPACE,
        };
        let probes = vec![0; nq];
        let found: Vec<Best> = [1, 2, 5]
            .into_iter()
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| scan(&problem, &probes, 1, Isa::detect()).unwrap())
            })
            .collect();
        for other in &found[1..] {
            assert_eq!(
                (&found[0].labels, &found[0].distances),
                (&other.labels, &other.distances)
            );
            assert_eq!(found[0].rows_scanned, other.rows_scanned);
        }
        let (expected, _) = reference::scan(&problem, &probes, 1);
        assert_eq!(found[0].labels, expected.labels);
    }
}

#[test]
fn all_rows_tie_and_memory_stays_bounded() {
    let (rows, ids) = filled(5, 3000, |_, t| t as f32);
    let reversed: Vec<i64> = ids.iter().rev().copied().collect();
    let lists = [List::new(&rows, ListIds::Table(&reversed)).unwrap()];
    let queries = vec![0.5; 5 * 30];
    for metric in Metric::ALL {
        let problem = Problem {
            metric,
            d: 5,
            k: 7,
            lists: &lists,
            queries: &queries,
            workspace: WORKSPACE,
        };
        let found = scan(&problem, &[0; 30], 1, Isa::detect()).unwrap();
        for labels in found.labels.chunks(7) {
            assert_eq!(labels, [0, 1, 2, 3, 4, 5, 6]);
        }
    }
}

#[test]
fn values_at_the_top_of_the_range() {
    // L2 overflows to +inf: still hits, by id. Inner products that overflow only on the way are
    // summed again in f64.
    let rows = [[3e38_f32, -3e38], [1.0, 2.0], [-3e38, 3e38], [3e38, 3e38]];
    let (rows, ids) = filled(2, 4, |i, t| rows[i][t]);
    let lists = [List::new(&rows, ListIds::Table(&ids)).unwrap()];
    for isa in Isa::available() {
        let scan_one = |metric, queries: &[f32], k| {
            scan(
                &Problem {
                    metric,
                    d: 2,
                    k,
                    lists: &lists,
                    queries,
                    workspace: WORKSPACE,
                },
                &[0],
                1,
                isa,
            )
            .unwrap()
        };
        let l2 = scan_one(Metric::L2, &[0.0, 0.0], 5);
        assert_eq!(l2.labels, [1, 0, 2, 3, -1]);
        assert_eq!(l2.distances[1..], [f32::INFINITY; 4]);
        let ip = scan_one(Metric::InnerProduct, &[10.0, 10.0], 5);
        assert_eq!(ip.labels, [3, 1, 0, 2, -1]);
        assert_eq!(
            ip.distances,
            [f32::INFINITY, 30.0, 0.0, 0.0, f32::NEG_INFINITY]
        );
    }
}

#[test]
fn queries_that_are_not_finite_get_padding() {
    let (rows, ids) = filled(3, 40, |i, t| noise(i * 3 + t));
    let lists = [List::new(&rows, ListIds::Table(&ids)).unwrap()];
    let queries = [
        0.1,
        0.2,
        0.3,
        f32::NAN,
        0.0,
        0.0,
        0.1,
        0.2,
        0.3,
        0.0,
        f32::NEG_INFINITY,
        0.0,
    ];
    let problem = Problem {
        metric: Metric::L2,
        d: 3,
        k: 2,
        lists: &lists,
        queries: &queries,
        workspace: WORKSPACE,
    };
    let found = scan(&problem, &[0; 4], 1, Isa::detect()).unwrap();
    assert_eq!(found.labels[..2], found.labels[4..6]);
    assert_eq!(found.labels[2..4], [-1, -1]);
    assert_eq!(found.labels[6..], [-1, -1]);
    assert_eq!(found.distances[2], f32::INFINITY);
}

#[test]
fn bad_input_is_an_error() {
    let (rows, ids) = filled(3, 4, |i, _| i as f32);
    assert!(List::new(&rows, ListIds::Table(&ids[1..])).is_err());
    let lists = [List::new(&rows, ListIds::Place).unwrap()];
    let isa = Isa::detect();
    let problem = |queries| Problem {
        metric: Metric::L2,
        d: 3,
        k: 1,
        lists: &lists,
        queries,
        workspace: WORKSPACE,
    };
    assert!(scan(&problem(&[0.0; 4]), &[0], 1, isa).is_err());
    assert!(scan(&problem(&[0.0; 3]), &[0, 0], 1, isa).is_err());
    assert!(scan(&problem(&[0.0; 3]), &[1], 1, isa).is_err());
    let slot = Slot { list: 0, slot: 4 };
    assert!(rerank(&problem(&[0.0; 3]), &[slot], 1, isa).is_err());
    let found = scan(&problem(&[2.2; 3]), &[0], 1, isa).unwrap();
    assert_eq!(found.labels, [2]);
}

/// Takes down the keys of a filter.
struct AllKeys<'a>(&'a mut [f32]);

impl strip::Sink for AllKeys<'_> {
    const ALL: bool = true;

    fn keys(&mut self, _: u32, at: usize) -> &mut [f32] {
        &mut self.0[at..][..PANEL]
    }
}

/// How far the keys of `rows` that a filter computes for so many like queries are from the exact ones, as
/// a share of the bound.
fn share_of_bound(metric: Metric, rows: &Rows, query: &[f32], like: usize, isa: Isa) -> f64 {
    let lists = [List::new(rows, ListIds::Place).unwrap()];
    let d = query.len();
    let problem = Problem {
        metric,
        d,
        k: 1,
        lists: &lists,
        queries: &query.repeat(like),
        workspace: WORKSPACE,
    };
    let extents = vec![rows.extent(); like];
    let queries = queries::Queries::new(&problem, 0..like, &extents, isa, 1);
    let block = seeker::Block::new(&problem, queries, like, isa);
    let facts = *block.queries.facts(0);
    if facts.error.is_infinite() {
        return 0.0;
    }
    let group = strip::Group {
        block: &block,
        d,
        queries: &(0..like as u32).collect::<Vec<_>>(),
    };
    let strip = strip::Strip {
        list: 0,
        rows,
        panels: 0..rows.panels(),
        ahead: strip::Ahead::default(),
    };
    let mut keys = vec![0.0; rows.len().next_multiple_of(PANEL)];
    let mut scratch = strip::Scratch::new();
    strip::scan_strip(&strip, &group, false, &mut scratch, &mut AllKeys(&mut keys));
    let shift = match metric {
        Metric::L2 => f64::from(facts.norm2),
        Metric::InnerProduct => 0.0,
    };
    let mut padded = query.to_vec();
    padded.resize(crate::distance::padded(d), 0.0);
    let mut worst: f64 = 0.0;
    let mut row = vec![0.0; padded.len()];
    for (slot, &key) in keys[..rows.len()].iter().enumerate() {
        rows.copy_row(slot, &mut row);
        let exact = crate::distance::key(pulp::Scalar::new(), metric, &padded, &row);
        let off = f64::from(key) + shift - f64::from(exact);
        worst = worst.max(off.abs() / facts.error);
    }
    worst
}

/// Numbers below a bound, the same in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Lower halves at the ends of, and around the tie of, a rounding to bf16.
const EDGES: [u32; 6] = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];

/// About `2^exponent`, with one of [`EDGES`] below.
fn edge(draws: &mut Draws, low: u32, exponent: i32) -> f32 {
    let high = draws.below(128) as u32;
    let high = draws.pick(&[0, high]) << 16;
    let x = f32::from_bits(0x3f80_0000 | high | low) * 2.0_f64.powi(exponent) as f32;
    draws.pick(&[x, x, -x])
}

/// Rows around one vector, and a query that makes what rounding takes from them add up.
fn rows_and_query(draws: &mut Draws, d: usize, layout: Layout) -> (Rows, Vec<f32>) {
    let exponents = [
        -149, -130, -127, -126, -120, -75, -70, -63, -62, -40, -8, 0, 3, 30, 50,
    ];
    let exponent = draws.pick(&exponents);
    let other = draws.pick(&[exponent, 0, -exponent, -126, 20]).min(55);
    let (low, spread) = (draws.pick(&EDGES), draws.pick(&[1, 1, 2, 30]));
    let base: Vec<f32> = (0..d)
        .map(|_| {
            let exponent = exponent + draws.below(spread) as i32;
            edge(draws, low, exponent)
        })
        .collect();
    let query = match draws.below(5) {
        0 => base.clone(),
        1 => base.iter().map(|x| -x).collect(),
        2 => (base.iter().map(|x| x.signum() * 2.0_f64.powi(other) as f32)).collect(),
        3 => (base.iter().map(|&x| x - planes::filtered(x))).collect(),
        _ => (0..d)
            .map(|_| {
                let low = draws.pick(&EDGES);
                edge(draws, low, other)
            })
            .collect(),
    };
    let mut rows = Rows::new(d, layout);
    for i in 0..20 {
        let value = |&x: &f32| {
            let high = x.to_bits() & 0xffff_0000;
            match i % 5 {
                0 => x,
                1 => -x,
                2 => f32::from_bits(high | draws.pick(&EDGES)),
                3 => f32::from_bits(high | 0x8000),
                _ => draws.pick(&[x, -x]),
            }
        };
        let row: Vec<f32> = base.iter().map(value).collect();
        rows.push(&row);
    }
    (rows, query)
}

/// The bound holds where vectors are made to come near it: what is rounded off adds up, at every
/// scale, through cancellation and underflow.
#[test]
fn filters_keep_to_their_bound() {
    let mut draws = Draws(1);
    let (mut worst, mut worst_in_steps): (f64, f64) = (0.0, 0.0);
    for case in 0..400 {
        let d = draws.pick(&[1, 2, 7, 8, 16, 31, 64, 200, 1000]);
        let layout = draws.pick(&Layout::WHOLE);
        let (rows, query) = rows_and_query(&mut draws, d, layout);
        for (metric, isa) in Metric::ALL
            .into_iter()
            .flat_map(|metric| Isa::available().into_iter().map(move |isa| (metric, isa)))
        {
            for like in [1, queries::FEW + 1] {
                let share = share_of_bound(metric, &rows, &query, like, isa);
                let name = isa.name();
                assert!(
                    share <= 1.0,
                    "{share}: case {case}, {metric} {layout} {name} {d}, {like} queries"
                );
                worst = worst.max(share);
                if like > 1 && isa.has_integers() && layout == Layout::F32 {
                    worst_in_steps = worst_in_steps.max(share);
                }
            }
        }
    }
    assert!(worst > 0.5, "nothing came near the bound: {worst}");
    if Isa::available().into_iter().any(Isa::has_integers) {
        assert!(
            worst_in_steps > 0.5,
            "nothing came near the bound of whole steps: {worst_in_steps}"
        );
    }
}

#[test]
fn buffers_follow_rows_not_k() {
    // Fewer rows than a huge k: the answer is long, the work is not.
    let (rows, ids) = filled(8, 700, |i, t| noise(i * 8 + t));
    let lists = [List::new(&rows, ListIds::Table(&ids)).unwrap(); 2];
    let queries: Vec<f32> = (0..8 * 40).map(noise).collect();
    let small = |k| Problem {
        metric: Metric::L2,
        d: 8,
        k,
        lists: &lists,
        queries: &queries,
        workspace: WORKSPACE,
    };
    let probes: Vec<u32> = (0..40).flat_map(|_| [0, SKIP]).collect();
    let all = scan(&small(700), &probes, 2, Isa::detect()).unwrap();
    let k = 20_000;
    let huge = scan(&small(k), &probes, 2, Isa::detect()).unwrap();
    for i in 0..40 {
        assert_eq!(huge.labels[i * k..][..700], all.labels[i * 700..][..700]);
        assert!(
            huge.labels[i * k + 700..(i + 1) * k]
                .iter()
                .all(|&l| l == -1)
        );
    }
    for (k, d) in [(0, 8), (usize::MAX / 2, 8), (1, 0)] {
        let problem = Problem { d, ..small(k) };
        assert!(matches!(
            scan(&problem, &probes, 2, Isa::detect()),
            Err(KernelError::Sizes { .. })
        ));
    }
}

#[test]
fn more_queries_than_a_block_or_65535() {
    let (rows, ids) = filled(3, 90, |i, t| noise(i * 3 + t));
    let (more, more_ids) = filled(3, 40, |i, t| noise(i * 3 + t + 1000));
    let lists = [
        List::new(&rows, ListIds::Table(&ids)).unwrap(),
        List::new(&more, ListIds::Table(&more_ids)).unwrap(),
    ];
    let nq = 70_000;
    let queries: Vec<f32> = (0..nq * 3).map(|i| noise(i + 5)).collect();
    let problem = |queries| Problem {
        metric: Metric::L2,
        d: 3,
        k: 4,
        lists: &lists,
        queries,
        workspace: WORKSPACE,
    };
    let probes: Vec<u32> = (0..nq as u32).flat_map(|i| [i % 2, SKIP]).collect();
    let all = scan(&problem(&queries), &probes, 2, Isa::detect()).unwrap();
    for first in (0..nq).step_by(10_000) {
        let part = scan(
            &problem(&queries[first * 3..][..900]),
            &probes[first * 2..][..600],
            2,
            Isa::detect(),
        );
        assert_eq!(part.unwrap().labels, all.labels[first * 4..][..1200]);
    }
}
