//! How many rows of every probed list a limit pays for: pure arithmetic on numbers.

use crate::params::{Budget, BudgetStrategy, Limit, MaxCodes, MaxCodesRule};

/// The probes of some queries, and what is known of the lists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probed<'a> {
    /// Lists, row-major `[nq, nprobe]`, nearest first; [`SKIP`](u32::MAX) reads nothing.
    pub lists: &'a [u32],
    /// How far their centroids are, row-major `[nq, nprobe]`, smaller is nearer.
    pub keys: &'a [f32],
    pub nprobe: usize,
    /// Rows of every list.
    pub sizes: &'a [usize],
    /// Results asked for.
    pub k: usize,
}

/// Rows to read of every probe, row-major `[nq, nprobe]`; `None` when no query can lose a row.
pub(crate) fn caps(limit: Limit, probed: &Probed<'_>) -> Option<Vec<u32>> {
    if never_cuts(limit, probed.sizes, probed.nprobe) {
        return None;
    }
    let mut caps = vec![0; probed.lists.len()];
    let mut sizes = Vec::with_capacity(probed.nprobe);
    let mut cut = false;
    let rows = probed.lists.chunks_exact(probed.nprobe);
    let keys = probed.keys.chunks_exact(probed.nprobe);
    for ((lists, keys), caps) in rows.zip(keys).zip(caps.chunks_exact_mut(probed.nprobe)) {
        let size = |&l: &u32| probed.sizes.get(l as usize).copied().unwrap_or(0);
        sizes.clear();
        sizes.extend(lists.iter().map(size));
        let rows = match limit {
            Limit::Unlimited => sizes.clone(),
            Limit::MaxCodes(max) => max_codes(max, &sizes, probed.k),
            Limit::Budget(budget) => spread(&budget, &sizes, keys),
        };
        for ((cap, rows), &size) in caps.iter_mut().zip(rows).zip(&sizes) {
            *cap = rows as u32;
            cut |= rows < size;
        }
    }
    cut.then_some(caps)
}

/// Whether the limit exceeds what any query can read: the sum of the `nprobe` largest lists.
pub(crate) fn never_cuts(limit: Limit, sizes: &[usize], nprobe: usize) -> bool {
    let mut largest = sizes.to_vec();
    let most: usize = if nprobe < largest.len() {
        largest.select_nth_unstable_by(nprobe, |a, b| b.cmp(a));
        largest[..nprobe].iter().sum()
    } else {
        largest.iter().sum()
    };
    match limit {
        Limit::Unlimited => true,
        Limit::MaxCodes(MaxCodes { max_codes, .. }) => max_codes >= most,
        Limit::Budget(Budget {
            rows,
            strategy: BudgetStrategy::DistanceWeighted { .. },
            max_codes_per_list: None,
            ..
        }) => rows >= most,
        Limit::Budget(_) => false,
    }
}

/// Rows read of every list, nearest first, when a query stops at a number of rows.
fn max_codes(max: MaxCodes, sizes: &[usize], k: usize) -> Vec<usize> {
    let wanted = if max.ensure_topk_full { k } else { 0 };
    let mut read = 0;
    let mut stopped = false;
    let take = |&size: &usize| {
        let left = max.max_codes.saturating_sub(read);
        let rows = match max.rule {
            _ if stopped => 0,
            _ if size <= left || read < wanted => size,
            // The first list that is not empty.
            MaxCodesRule::ListBoundary if read == 0 => size,
            MaxCodesRule::ListBoundary => 0,
            MaxCodesRule::ExactCodes => left,
        };
        stopped |= rows < size;
        read += rows;
        rows
    };
    sizes.iter().map(take).collect()
}

/// Rows read of every list under a budget.
fn spread(budget: &Budget, sizes: &[usize], keys: &[f32]) -> Vec<usize> {
    let rows = budget.rows;
    let most = budget.max_codes_per_list.unwrap_or(usize::MAX);
    let sizes: Vec<usize> = sizes.iter().map(|&size| size.min(most)).collect();
    let least: Vec<usize> = sizes
        .iter()
        .map(|&size| size.min(budget.min_codes_per_list))
        .collect();
    let mut read: Vec<usize> = match budget.strategy {
        BudgetStrategy::Uniform => {
            let each = rows.div_ceil(sizes.len().max(1));
            sizes.iter().map(|&size| size.min(each)).collect()
        }
        BudgetStrategy::DistanceWeighted { dynamic_nprobe } => {
            let weights = weights(keys, &sizes);
            if dynamic_nprobe {
                let served = serve(rows, &sizes, budget.min_codes_per_list.max(1));
                let left = rows.saturating_sub(served.iter().sum());
                // Lists that were not served get nothing.
                let room = served.iter().zip(&sizes);
                let room = room.map(|(&served, &size)| if served > 0 { size - served } else { 0 });
                let more = fill(left, &weights, &room.collect::<Vec<_>>());
                served.iter().zip(more).map(|(a, b)| a + b).collect()
            } else {
                fill(rows, &weights, &sizes)
            }
        }
    };
    let dynamic = matches!(
        budget.strategy,
        BudgetStrategy::DistanceWeighted {
            dynamic_nprobe: true
        }
    );
    if !dynamic {
        for (read, &least) in read.iter_mut().zip(&least) {
            *read = least.max(*read);
        }
    }
    if budget.strict {
        tighten(&mut read, &least, rows);
    }
    if read.iter().all(|&rows| rows == 0)
        && let Some(first) = sizes.iter().position(|&size| size > 0)
    {
        read[first] = 1;
    }
    read
}

/// `exp(-3 z)` with `z` the distance beyond the nearest list's, over the (lower) median's, at most 8.
fn weights(keys: &[f32], sizes: &[usize]) -> Vec<f64> {
    let mut known: Vec<f64> = keys
        .iter()
        .zip(sizes)
        .filter(|(key, size)| key.is_finite() && **size > 0)
        .map(|(&key, _)| f64::from(key))
        .collect();
    known.sort_by(f64::total_cmp);
    let (Some(&nearest), Some(&median)) =
        (known.first(), known.get(known.len().saturating_sub(1) / 2))
    else {
        return vec![1.0; keys.len()];
    };
    let scale = (median - nearest).max(1e-6);
    let weight = |&key: &f32| {
        let z = ((f64::from(key) - nearest) / scale).clamp(0.0, 8.0);
        if z.is_nan() {
            (-24.0_f64).exp()
        } else {
            (-3.0 * z).exp()
        }
    };
    keys.iter().map(weight).collect()
}

/// `least` rows of every list nearest first, while they fit; of the first non-empty one at any rate.
fn serve(rows: usize, sizes: &[usize], least: usize) -> Vec<usize> {
    let mut left = rows;
    let mut open = true;
    let take = |&size: &usize| {
        let wanted = size.min(least);
        let first = left == rows;
        let given = if first { wanted.min(left) } else { wanted };
        open &= given <= left;
        if !open {
            return 0;
        }
        left -= given;
        given
    };
    sizes.iter().map(take).collect()
}

/// Spreads `rows` by weight over lists that have room for so many; all of them, if there is room.
fn fill(rows: usize, weights: &[f64], room: &[usize]) -> Vec<usize> {
    let mut given = vec![0; room.len()];
    let mut left = rows.min(room.iter().sum());
    let mut open: Vec<usize> = (0..room.len()).filter(|&i| room[i] > 0).collect();
    while left > 0 && !open.is_empty() {
        let sum: f64 = open.iter().map(|&i| weights[i]).sum();
        let share = |i: usize| left as f64 * weights[i] / sum;
        let full: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&i| share(i) >= room[i] as f64)
            .collect();
        if full.is_empty() {
            // Whole rows, and what rounding leaves nearest first.
            let before = left;
            for &i in &open {
                given[i] = ((before as f64 * weights[i] / sum) as usize).min(left);
                left -= given[i];
            }
            for &i in open.iter().cycle().take(open.len() * 2) {
                let more = usize::from(left > 0 && given[i] < room[i]);
                given[i] += more;
                left -= more;
            }
            break;
        }
        for &i in &full {
            given[i] = room[i].min(left);
            left -= given[i];
        }
        open.retain(|i| !full.contains(i));
    }
    given
}

/// Brings the sum down to `rows`: what exceeds `least` first, evenly; then the farthest lists' least.
fn tighten(read: &mut [usize], least: &[usize], rows: usize) {
    let sum: usize = read.iter().sum();
    if sum <= rows {
        return;
    }
    let kept: usize = read.iter().zip(least).map(|(&r, &l)| r.min(l)).sum();
    if kept > rows {
        let mut left = rows;
        for (read, &least) in read.iter_mut().zip(least) {
            *read = (*read).min(least).min(left);
            left -= *read;
        }
        return;
    }
    let (left, above) = ((rows - kept) as u128, (sum - kept) as u128);
    for (read, &least) in read.iter_mut().zip(least) {
        let kept = (*read).min(least);
        *read = kept + ((*read - kept) as u128 * left / above) as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(limit: Limit, sizes: &[usize], keys: &[f32], k: usize) -> Vec<u32> {
        let lists: Vec<u32> = (0..sizes.len() as u32).collect();
        let probed = Probed {
            lists: &lists,
            keys,
            nprobe: sizes.len(),
            sizes,
            k,
        };
        caps(limit, &probed).unwrap_or_else(|| sizes.iter().map(|&s| s as u32).collect())
    }

    /// The boundary table of docs/semantics.md for lists of 3, 4 and 5 rows.
    #[test]
    fn c1_list_boundary_reads_whole_lists() {
        let of = |n| read(Limit::max_codes(n), &[3, 4, 5], &[0.0; 3], 12);
        assert_eq!(of(1), [3, 0, 0]);
        assert_eq!(of(6), [3, 0, 0]);
        assert_eq!(of(7), [3, 4, 0]);
        assert_eq!(of(8), [3, 4, 0]);
        assert_eq!(of(11), [3, 4, 0]);
        assert_eq!(of(12), [3, 4, 5]);
        assert_eq!(of(0), [3, 4, 5]);
    }

    #[test]
    fn c2_exact_codes_cut_inside_a_list() {
        let of = |n| {
            let max = MaxCodes::new(n).with_rule(MaxCodesRule::ExactCodes);
            read(Limit::MaxCodes(max), &[3, 4, 5], &[0.0; 3], 12)
        };
        assert_eq!(of(1), [1, 0, 0]);
        assert_eq!(of(4), [3, 1, 0]);
        assert_eq!(of(8), [3, 4, 1]);
        assert_eq!(of(11), [3, 4, 4]);
    }

    #[test]
    fn c3_an_empty_list_is_not_the_first() {
        assert_eq!(
            read(Limit::max_codes(2), &[0, 5, 1], &[0.0; 3], 1),
            [0, 5, 0]
        );
    }

    #[test]
    fn c7_topk_is_filled_by_whole_lists() {
        let max = MaxCodes::new(1).ensuring_topk_full();
        assert_eq!(
            read(Limit::MaxCodes(max), &[3, 4, 5], &[0.0; 3], 6),
            [3, 4, 0]
        );
        let exact = max.with_rule(MaxCodesRule::ExactCodes);
        assert_eq!(
            read(Limit::MaxCodes(exact), &[3, 4, 5], &[0.0; 3], 6),
            [3, 4, 0]
        );
    }

    #[test]
    fn c4_a_limit_that_cuts_nothing_is_none() {
        let sizes = [9, 2, 7, 4];
        assert!(never_cuts(Limit::max_codes(16), &sizes, 2));
        assert!(!never_cuts(Limit::max_codes(15), &sizes, 2));
        assert!(never_cuts(Limit::Unlimited, &sizes, 2));
        assert!(never_cuts(Limit::max_codes(22), &sizes, 9));
    }

    #[test]
    fn c12_dynamic_nprobe_serves_near_lists_only() {
        let budget = Budget::dynamic_nprobe(2).with_min_codes_per_list(1);
        let rows = read(Limit::Budget(budget), &[10; 4], &[0.1, 1.0, 2.0, 3.0], 1);
        assert_eq!(rows, [1, 1, 0, 0]);
    }

    /// Uniform leaves what short lists cannot give; by distance everything is spent, nearest first.
    #[test]
    fn c13_budgets_are_spread() {
        let uniform = Limit::Budget(Budget::uniform(100));
        let keys = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(read(uniform, &[10, 20, 30, 40], &keys, 1), [10, 20, 25, 25]);
        let weighted = Limit::Budget(Budget::distance_weighted(40));
        let rows = read(weighted, &[100; 4], &keys, 1);
        assert_eq!(rows.iter().sum::<u32>(), 40);
        assert!(rows.is_sorted_by(|a, b| a >= b) && rows[0] > 30, "{rows:?}");
        let capped = Limit::Budget(Budget::distance_weighted(40).with_max_codes_per_list(15));
        assert_eq!(read(capped, &[100; 4], &keys, 1), [15, 15, 10, 0]);
    }

    #[test]
    fn a_budget_that_gives_nothing_reads_one_row() {
        let strict = Limit::Budget(Budget::uniform(1).with_max_codes_per_list(1).strict());
        assert_eq!(read(strict, &[0, 5, 5], &[0.0; 3], 1), [0, 1, 0]);
    }

    proptest! {
        /// C14: a strict budget is kept, and so is what every list gets at least.
        #[test]
        fn c14_strict_budgets_are_kept(
            sizes in prop::collection::vec(0_usize..500, 1..40),
            rows in 1_usize..3000,
            least in 0_usize..40,
            most in prop::option::of(40_usize..200),
            strategy in 0..3,
            seed in any::<u32>(),
        ) {
            let mut budget = match strategy {
                0 => Budget::uniform(rows),
                1 => Budget::distance_weighted(rows),
                _ => Budget::dynamic_nprobe(rows),
            };
            budget = budget.with_min_codes_per_list(least);
            budget.max_codes_per_list = most;
            let mut keys: Vec<f32> = (0..sizes.len() as u32)
                .map(|i| (i.wrapping_mul(seed) % 1000) as f32 / 7.0)
                .collect();
            keys.sort_by(f32::total_cmp);
            let loose = read(Limit::Budget(budget), &sizes, &keys, 1);
            let strict = read(Limit::Budget(budget.strict()), &sizes, &keys, 1);
            for (i, &size) in sizes.iter().enumerate() {
                let most = size.min(most.unwrap_or(usize::MAX));
                prop_assert!(loose[i] as usize <= most && strict[i] as usize <= most);
                if strategy < 2 {
                    prop_assert!(loose[i] as usize >= most.min(least));
                }
            }
            let sum: u32 = strict.iter().sum();
            prop_assert!(sum as usize <= rows);
            let room: usize = sizes.iter().map(|&s| s.min(most.unwrap_or(usize::MAX))).sum();
            prop_assert_eq!(sum > 0, room > 0);
            if strategy == 1 {
                let spent: u32 = loose.iter().sum();
                prop_assert!(spent as usize >= rows.min(room));
            }
            let needed: usize = sizes.iter().map(|&s| s.min(least).min(most.unwrap_or(usize::MAX))).sum();
            if strategy < 2 && needed <= rows {
                for (i, &size) in sizes.iter().enumerate() {
                    prop_assert!(strict[i] as usize >= size.min(least));
                }
            }
        }
    }
}
