//! What is under test, built from plain rows, and what is asked of it.

use crate::{
    case::Case,
    reference::{allowed_rows, matches, ordered},
};
use burn_ivf_kernels::{
    list_scan::{Best, List, ListIds, Order, Problem, WORKSPACE, rerank, scan},
    order::Slot,
    rows::{Layout, Rows},
};
use std::sync::LazyLock;

/// Storage of one list.
pub type Store = Rows;

/// Stores `rows` (row-major, `d` components each) and sees that they come back bit for bit.
pub fn store(d: usize, layout: Layout, rows: &[f32]) -> Result<Store, String> {
    let mut store = Rows::new(d, layout);
    for row in rows.chunks_exact(d) {
        store.push(row);
    }
    let mut copy = vec![0.0; d];
    for (slot, row) in rows.chunks_exact(d).enumerate() {
        store.copy_row(slot, &mut copy);
        if !copy
            .iter()
            .zip(row)
            .all(|(a, b)| a.to_bits() == b.to_bits())
        {
            return Err(format!("stored row {slot} came back changed"));
        }
    }
    Ok(store)
}

/// Rayon pools of 1, 2 and 3 threads.
pub static POOLS: LazyLock<Vec<rayon::ThreadPool>> = LazyLock::new(|| {
    (1..=3)
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().expect("a pool of at most three threads")
        })
        .collect()
});

/// [`rerank`] of every probed row, `k` kept.
///
/// A list probed twice counts twice, but a candidate may be named once: the second time it is a row
/// of a second list that borrows the same rows. `turn` decides where a query's candidates begin.
pub fn rerank_all(
    case: &Case,
    problem: &Problem<'_>,
    k: usize,
    turn: usize,
) -> Result<Best, String> {
    let nlist = problem.lists.len();
    let lists = problem.lists.repeat(case.shape.nprobe.max(1));
    let per_query = (0..case.shape.nq).map(|i| case.probed_rows(i)).max();
    let per_query = per_query.unwrap_or(0) + turn % 3;
    let mut candidates = Vec::with_capacity(case.shape.nq * per_query);
    for i in 0..case.shape.nq {
        let start = candidates.len();
        let mut seen = vec![0; nlist];
        for list in case.probed(i) {
            let copy = (list + seen[list] * nlist) as u32;
            seen[list] += 1;
            candidates
                .extend((0..case.shape.sizes[list] as u32).map(|slot| Slot { list: copy, slot }));
        }
        candidates.resize(start + per_query, Slot::NONE);
        candidates[start..].rotate_left(turn % per_query.max(1));
    }
    let problem = Problem {
        k,
        lists: &lists,
        ..*problem
    };
    let (isa, threads) = case.reranks;
    POOLS[threads - 1]
        .install(|| rerank(&problem, &candidates, per_query, isa))
        .map_err(|e| format!("rerank: {e}"))
}

/// The full ranking is in order, and is the f64 ranking but for rounding.
pub fn check_ranking(case: &Case, full: &Best, k: usize) -> Result<(), String> {
    let metric = case.shape.metric;
    for i in 0..case.shape.nq {
        let hits = i * k..i * k + case.hits(i);
        let mut found: Vec<(i64, i64)> = Vec::with_capacity(hits.len());
        let mut last = (i64::MIN, i64::MIN);
        for at in hits {
            let (distance, id) = (full.distances[at], full.labels[at]);
            if distance.is_nan() {
                return Err(format!("query {i}: id {id} has a distance that is NaN"));
            }
            let key = ordered(f64::from(metric.key(distance)));
            if (key, id) < last {
                return Err(format!("query {i}: id {id}, {distance:e} out of order"));
            }
            last = (key, id);
            found.push((id, key));
        }
        if case.is_searchable(i) {
            found.sort_unstable();
            matches(&found, &allowed_rows(case, i)).map_err(|e| format!("query {i}: {e}"))?;
        }
    }
    Ok(())
}

/// `found` holds the first hits of the full ranking (`full_k` per query) bit for bit, then padding.
pub fn check_prefix(
    case: &Case,
    full: &Best,
    full_k: usize,
    found: &Best,
    k: usize,
) -> Result<(), String> {
    let size = case.shape.nq * k;
    if (found.distances.len(), found.labels.len()) != (size, size) {
        return Err("a result of the wrong size".into());
    }
    let padding = (case.shape.metric.padding(), -1);
    for i in 0..case.shape.nq {
        let hits = case.hits(i);
        for rank in 0..k {
            let at = i * k + rank;
            let result = (found.distances[at], found.labels[at]);
            let expected = if rank < hits {
                let at = i * full_k + rank;
                (full.distances[at], full.labels[at])
            } else {
                padding
            };
            if (result.0.to_bits(), result.1) != (expected.0.to_bits(), expected.1) {
                return Err(format!(
                    "query {i}, rank {rank} of {hits}: found {result:?}, not {expected:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Rows and lists read are counted.
pub fn check_counts(case: &Case, found: &Best) -> Result<(), String> {
    let rows: usize = (0..case.shape.nq).map(|i| case.hits(i)).sum();
    let lists = (0..case.shape.nq)
        .filter(|&i| case.is_searchable(i))
        .flat_map(|i| case.probed(i))
        .filter(|&list| case.shape.sizes[list] > 0)
        .count();
    let counts = (found.rows_scanned, found.lists_scanned);
    if counts == (rows as u64, lists as u64) {
        Ok(())
    } else {
        Err(format!("counted {counts:?}, not {:?}", (rows, lists)))
    }
}

pub fn check(case: &Case) -> Result<(), String> {
    let (d, k) = (case.shape.d, case.shape.k);
    // Every layout and order in turn, whatever else the seed draws.
    let layout = Layout::WHOLE[(case.seed % 3) as usize];
    let order = Order::ALL[(case.seed / 3 % 2) as usize];
    let stores = case.lists().enumerate().map(|(i, (rows, _))| {
        let turn = if case.mixed { i } else { 0 };
        store(d, Layout::WHOLE[(case.seed as usize + turn) % 3], rows)
    });
    let stores = stores.collect::<Result<Vec<Store>, _>>()?;
    let lists: Vec<List<'_>> = stores
        .iter()
        .zip(case.lists())
        .map(|(store, (_, ids))| List::new(store, ids.map_or(ListIds::Place, ListIds::Table)))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let problem = Problem {
        metric: case.shape.metric,
        d,
        k,
        lists: &lists,
        queries: &case.queries,
        workspace: WORKSPACE,
    };

    let most_hits = (0..case.shape.nq).map(|i| case.probed_rows(i)).max();
    let full_k = most_hits.unwrap_or(0).max(1);
    let full = rerank_all(case, &problem, full_k, case.rows.len())?;
    check_ranking(case, &full, full_k).map_err(|e| format!("full ranking: {e}"))?;
    check_prefix(case, &full, full_k, &full, full_k).map_err(|e| format!("full ranking: {e}"))?;

    for (isa, threads) in case.scans {
        let named = |e| {
            let (isa, order) = (isa.name(), order.name());
            format!("scan of {layout} on {isa}, {order}, {threads} threads: {e}")
        };
        let found = POOLS[threads - 1]
            .install(|| scan(&problem, &case.probes, case.shape.nprobe, order, isa))
            .map_err(|e| named(e.to_string()))?;
        check_prefix(case, &full, full_k, &found, k).map_err(named)?;
        check_counts(case, &found).map_err(named)?;
    }
    if k < full_k {
        let found = rerank_all(case, &problem, k, k)?;
        check_prefix(case, &full, full_k, &found, k).map_err(|e| format!("rerank: {e}"))?;
    }
    Ok(())
}
