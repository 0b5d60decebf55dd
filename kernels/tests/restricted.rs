//! Scans under a restriction, and scans for all rows within a distance, against plain loops over the
//! rows that are left: the same ids and bits, in both orders, for every layout and instruction set.
#![allow(missing_docs, clippy::unwrap_used)]

use burn_ivf_kernels::{
    Metric,
    distance::reference,
    list_scan::{
        List, ListIds, Order, Problem, SKIP, WORKSPACE, rerank,
        restrict::{ListOrder, Masks, ReadingOrder, Restriction},
        scan, scan_restricted, within,
    },
    order::Slot,
    rows::{Layout, Rows},
    simd::Isa,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

struct Case {
    d: usize,
    k: usize,
    nprobe: usize,
    metric: Metric,
    rows: Vec<Rows>,
    ids: Vec<Vec<i64>>,
    queries: Vec<f32>,
    probes: Vec<u32>,
    caps: Option<Vec<u32>>,
    order: Option<ReadingOrder>,
    masks: Option<Masks>,
    workspace: usize,
}

impl Case {
    fn random(seed: u64) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let d = [1, 1, 3, 8, 16, 31, 64, 130, 257, 1000][rng.random_range(0..10)];
        let nlist = rng.random_range(1..9);
        let layout = Layout::ALL[rng.random_range(0..Layout::ALL.len())];
        let ties = rng.random_bool(0.3);
        let value = |rng: &mut ChaCha8Rng| {
            if ties {
                rng.random_range(-2_i32..3) as f32
            } else {
                rng.random_range(-1.0_f32..1.0)
            }
        };
        let most = [0, 20, 200, if d > 200 { 300 } else { 3000 }][rng.random_range(0..4)];
        let mut rows = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..nlist {
            let mut list = Rows::new(d, layout);
            let n = rng.random_range(0..=most);
            for _ in 0..n {
                let row: Vec<f32> = (0..d).map(|_| value(rng)).collect();
                list.push(&row);
            }
            // Even, so none is -1.
            ids.push(
                (0..n)
                    .map(|_| 2 * rng.random_range(-1500..1000_i64))
                    .collect(),
            );
            rows.push(list);
        }
        let nq = [1, 2, 7, 40, 200][rng.random_range(0..if most > 200 { 4 } else { 5 })];
        let nprobe = rng.random_range(1..=nlist);
        let mut queries: Vec<f32> = (0..nq * d).map(|_| value(rng)).collect();
        if rng.random_bool(0.1) {
            queries[0] = f32::NAN;
        }
        let mut probes = Vec::new();
        for _ in 0..nq {
            let mut all: Vec<u32> = (0..nlist as u32).collect();
            for i in (1..all.len()).rev() {
                all.swap(i, rng.random_range(0..=i));
            }
            all.truncate(nprobe);
            if rng.random_bool(0.1) {
                all[0] = SKIP;
            }
            probes.extend(all);
        }
        let share = [0.0, 0.002, 0.05, 0.5, 0.95, 1.0][rng.random_range(0..6)];
        let caps = rng.random_bool(0.6).then(|| {
            let cap = |&list: &u32| match list {
                SKIP => 7,
                l if rng.random_bool(0.3) => rows[l as usize].len() as u32 + 3,
                l => rng.random_range(0..=rows[l as usize].len() as u32),
            };
            probes.iter().map(cap).collect()
        });
        let order = rng.random_bool(0.5).then(|| ReadingOrder {
            lists: rows
                .iter()
                .map(|rows| {
                    let keys: Vec<f32> = (0..rows.len()).map(|_| rng.random()).collect();
                    Arc::new(ListOrder::ascending(&keys))
                })
                .collect(),
        });
        let masks = rng.random_bool(0.6).then(|| {
            let mut starts = vec![0];
            for list in &rows {
                starts.push(starts[starts.len() - 1] + list.len().div_ceil(32));
            }
            let count = [1, 2, 3, nq][rng.random_range(0..4)];
            let mut mask = || {
                let mut words = vec![0_u32; starts[rows.len()]];
                for (l, list) in rows.iter().enumerate() {
                    for s in 0..list.len() {
                        words[starts[l] + s / 32] |= u32::from(rng.random_bool(share)) << (s % 32);
                    }
                }
                words
            };
            let masks = (0..count).map(|_| mask()).collect();
            let of = if count > 1 {
                (0..nq).map(|_| rng.random_range(0..count as u32)).collect()
            } else {
                Vec::new()
            };
            Masks { masks, starts, of }
        });
        Self {
            d,
            k: [1, 5, 30, 400, 100_000][rng.random_range(0..if nq > 7 { 4 } else { 5 })],
            nprobe,
            metric: Metric::ALL[rng.random_range(0..2)],
            rows,
            ids,
            queries,
            probes,
            caps,
            order,
            masks,
            workspace: [1, 1 << 16, WORKSPACE][rng.random_range(0..3)],
        }
    }

    fn lists(&self) -> Vec<List<'_>> {
        let pairs = self.rows.iter().zip(&self.ids);
        pairs
            .map(|(r, i)| List::new(r, ListIds::Table(i)).unwrap())
            .collect()
    }

    fn problem<'a>(&'a self, lists: &'a [List<'a>]) -> Problem<'a> {
        Problem {
            metric: self.metric,
            d: self.d,
            k: self.k,
            lists,
            queries: &self.queries,
            workspace: self.workspace,
        }
    }

    fn restriction(&self) -> Restriction<'_> {
        Restriction {
            caps: self.caps.as_deref(),
            order: self.order.as_ref(),
            masks: self.masks.as_ref(),
        }
    }

    /// The slots a query is compared with, in plain words: the first `cap` rows in reading order
    /// whose bit is set.
    fn left(&self, query: usize) -> Vec<Slot> {
        let mut left = Vec::new();
        for rank in 0..self.nprobe {
            let list = self.probes[query * self.nprobe + rank];
            if list == SKIP {
                continue;
            }
            let l = list as usize;
            let mut read: Vec<u32> = match &self.order {
                Some(order) => order.lists[l].rows.clone(),
                None => (0..self.rows[l].len() as u32).collect(),
            };
            if let Some(caps) = &self.caps {
                read.truncate(caps[query * self.nprobe + rank] as usize);
            }
            if let Some(masks) = &self.masks {
                let mask = &masks.masks[masks.of.get(query).map_or(0, |&m| m as usize)];
                let bit = |s: u32| mask[masks.starts[l] + s as usize / 32] >> (s % 32) & 1 == 1;
                read.retain(|&s| bit(s));
            }
            left.extend(read.into_iter().map(|slot| Slot { list, slot }));
        }
        left
    }
}

fn seeds() -> core::ops::Range<u64> {
    let first = std::env::var("BURN_IVF_FUZZ_SEED").map_or(0, |s| s.parse().unwrap());
    let cases = std::env::var("BURN_IVF_FUZZ_CASES").map_or(150, |s| s.parse().unwrap());
    first..first + cases
}

/// Scans in every way give the bits of a rerank of what is left.
fn assert_like_rerank(case: &Case, name: &str) {
    let lists = case.lists();
    let problem = case.problem(&lists);
    let nq = problem.nq();
    let left: Vec<Vec<Slot>> = (0..nq).map(|q| case.left(q)).collect();
    let width = left.iter().map(Vec::len).max().unwrap();
    let mut table = vec![Slot::NONE; nq * width];
    for (row, left) in table.chunks_exact_mut(width.max(1)).zip(&left) {
        row[..left.len()].copy_from_slice(left);
    }
    let expected = rerank(&problem, &table, width, Isa::detect()).unwrap();
    for order in Order::ALL {
        for isa in Isa::available() {
            let restriction = case.restriction();
            let (probes, nprobe) = (&case.probes, case.nprobe);
            let found = scan_restricted(&problem, probes, nprobe, order, isa, restriction);
            let found = found.unwrap();
            let name = format!("{name}, {}, {}", order.name(), isa.name());
            assert_eq!(found.labels, expected.labels, "{name}");
            assert_eq!(found.distances, expected.distances, "{name}");
            let searched = |&q: &usize| {
                problem.queries[q * case.d..][..case.d]
                    .iter()
                    .all(|v| v.is_finite())
            };
            let rows: usize = (0..nq).filter(searched).map(|q| left[q].len()).sum();
            assert_eq!(found.rows_scanned, rows as u64, "{name}");
            if restriction.is_none() {
                let plain = scan(&problem, probes, nprobe, order, isa).unwrap();
                assert_eq!(plain.labels, found.labels, "{name}");
            }
        }
    }
}

#[test]
fn restricted_scans_equal_a_rerank_of_what_is_left() {
    for seed in seeds() {
        assert_like_rerank(&Case::random(seed), &format!("seed {seed}"));
    }
}

/// So far from the origin no filter tells one row from another: queries give it up on the way.
#[test]
fn many_queries_without_a_filter_share_what_is_left() {
    let rng = &mut ChaCha8Rng::seed_from_u64(7);
    let (d, n, nq) = (96, 4000, 64);
    for layout in Layout::ALL {
        let mut far = |n: usize| -> Vec<f32> {
            let values = (0..n * d).map(|_| 1000.0 + rng.random_range(-1.0_f32..1.0));
            values.collect()
        };
        let mut rows = Vec::new();
        for _ in 0..2 {
            let mut list = Rows::new(d, layout);
            list.extend(&far(n));
            rows.push(list);
        }
        let queries = far(nq);
        let words = n.div_ceil(32);
        let mut mask = vec![0_u32; 2 * words];
        for at in (0..2).flat_map(|l| (0..n).map(move |s| 32 * l * words + s)) {
            mask[at / 32] |= u32::from(rng.random_bool(0.5)) << (at % 32);
        }
        let case = Case {
            d,
            k: 10,
            nprobe: 2,
            metric: Metric::L2,
            rows,
            ids: vec![(0..n as i64).collect(), (n as i64..2 * n as i64).collect()],
            queries,
            probes: [0, 1].repeat(nq),
            caps: None,
            order: None,
            masks: Some(Masks {
                masks: vec![mask],
                starts: vec![0, words, 2 * words],
                of: Vec::new(),
            }),
            workspace: WORKSPACE,
        };
        assert_like_rerank(&case, layout.name());
    }
}

#[test]
fn rows_within_a_distance_are_all_found() {
    for seed in seeds() {
        let case = Case::random(seed + (1 << 40));
        let lists = case.lists();
        let problem = case.problem(&lists);
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        // Limits among the keys that occur, so that many are reached exactly.
        let all = Problem {
            k: 1 << 14,
            ..problem
        };
        let nq = problem.nq();
        for share in [0.0, 0.1, 0.7, 2.0] {
            let every = scan(
                &all,
                &case.probes,
                case.nprobe,
                Order::ListMajor,
                Isa::detect(),
            );
            let every = every.unwrap();
            let hits = every.labels.iter().filter(|&&id| id != -1).count();
            let pick = every.distances[rng.random_range(0..every.distances.len())];
            let limit = match share {
                0.0 => f32::NEG_INFINITY,
                2.0 => f32::INFINITY,
                _ if hits == 0 || !pick.is_finite() => 0.5,
                _ => case.metric.key(pick),
            };
            for isa in Isa::available() {
                let restriction = case.restriction();
                let found =
                    within(&problem, limit, &case.probes, case.nprobe, isa, restriction).unwrap();
                assert_eq!(found.lims.len(), nq + 1);
                for query in 0..nq {
                    let mut left = case.left(query);
                    left.sort_unstable_by_key(|at| (at.list, at.slot));
                    let q = &case.queries[query * case.d..][..case.d];
                    if !q.iter().all(|v| v.is_finite()) {
                        left.clear();
                    }
                    let one = Problem {
                        queries: q,
                        k: left.len().max(1),
                        ..problem
                    };
                    // The exact bits of every row left, row by row.
                    let mut expected = Vec::new();
                    for at in left {
                        let best = rerank(&one, &[at], 1, isa).unwrap();
                        if case.metric.key(best.distances[0]) <= limit {
                            expected.push((best.labels[0], best.distances[0]));
                        }
                        let mut row = vec![0.0; case.d];
                        case.rows[at.list as usize].copy_row(at.slot as usize, &mut row);
                        let exact = reference(case.metric, q, &row);
                        let error = (exact - f64::from(best.distances[0])).abs();
                        assert!(error <= 1e-5 * (1.0 + exact.abs()) * case.d as f64);
                    }
                    let range = found.lims[query] as usize..found.lims[query + 1] as usize;
                    let labels = found.labels[range.clone()].iter().copied();
                    let got: Vec<(i64, f32)> =
                        labels.zip(found.distances[range].iter().copied()).collect();
                    assert_eq!(
                        got,
                        expected,
                        "seed {seed} query {query} limit {limit} {}",
                        isa.name()
                    );
                }
            }
        }
    }
}
