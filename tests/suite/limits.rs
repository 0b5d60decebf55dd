//! How much of the probed lists is read: max_codes, budgets, profiles, orders, pruning
//! (acceptance group C).

use super::support::*;
use burn_ivf::{
    Budget, Error, IdSelector, IndexIvfFlat, IvfBackend, Limit, ListOrdering, MaxCodes,
    MaxCodesRule, Metric, Profile, RangeParams, SearchMode, SearchParams, recall_at_k,
};

/// The ids that a search of LINE finds, without padding.
fn ids<B: IvfBackend>(
    index: &IndexIvfFlat<B>,
    query: f32,
    k: usize,
    params: &SearchParams,
) -> Vec<i64> {
    let query = Rows::new(vec![query], 1);
    let mut answers = IVF_MODES.map(|mode| {
        let answer = search_ivf(index, &query, k, &params.clone().with_mode(mode));
        answer
            .i
            .into_iter()
            .filter(|&id| id >= 0)
            .collect::<Vec<_>>()
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    std::mem::take(&mut answers[0])
}

fn through(last: i64) -> Vec<i64> {
    (0..=last).collect()
}

/// C1: by default whole lists are read, and the first always; every mode agrees.
pub fn c1_list_boundaries<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    for (max_codes, last) in [(1, 2), (6, 2), (7, 6), (8, 6), (11, 6), (12, 11), (0, 11)] {
        let params = SearchParams::default()
            .with_nprobe(3)
            .with_max_codes(max_codes);
        assert_eq!(
            ids(&index, 0.0, 12, &params),
            through(last),
            "max_codes {max_codes}"
        );
    }
}

/// C2: exactly so many rows, as faiss cuts.
pub fn c2_exact_codes<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    for (max_codes, last) in [(1, 0), (2, 1), (4, 3), (8, 7), (11, 10), (12, 11)] {
        let max = MaxCodes::new(max_codes).with_rule(MaxCodesRule::ExactCodes);
        let params = SearchParams::default()
            .with_nprobe(3)
            .with_limit(Limit::MaxCodes(max));
        assert_eq!(
            ids(&index, 0.0, 12, &params),
            through(last),
            "max_codes {max_codes}"
        );
    }
}

/// C3: an empty nearest list does not use the promise up.
pub fn c3_nearest_list_empty<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let params = SearchParams::default().with_nprobe(2).with_max_codes(2);
    assert_eq!(ids(&index, 31.0, 12, &params), [11, 10, 9, 8, 7]);
}

/// C4: a limit beyond every reachable count is no limit, and says so.
pub fn c4_limit_beyond_reach<B: IvfBackend>(device: &B::Device) {
    let base = uniform(600, 8, 40);
    let index = trained::<B>(device, Metric::L2, 12, &base);
    let queries = uniform(9, 8, 41);
    let free = search_ivf(&index, &queries, 5, &SearchParams::exact().with_nprobe(4));
    let wide = SearchParams::default().with_nprobe(4).with_max_codes(600);
    let limited = search_ivf(&index, &queries, 5, &wide);
    free.assert_same(&limited, "max_codes = ntotal");
    assert_eq!(limited.stats.effective_limit, Limit::Unlimited);
    let tight = SearchParams::default().with_nprobe(4).with_max_codes(1);
    let limited = search_ivf(&index, &queries, 5, &tight);
    assert_eq!(limited.stats.effective_limit, Limit::max_codes(1));
}

/// C5: recall against the unlimited search does not fall with max_codes.
pub fn c5_recall_rises<B: IvfBackend>(device: &B::Device) {
    let base = uniform(sized::<B>(device, 4000, 1500), 8, 50);
    let index = trained::<B>(device, Metric::L2, sized::<B>(device, 64, 32), &base);
    let queries = uniform(sized::<B>(device, 200, 40), 8, 51);
    let exact = search_ivf(&index, &queries, 10, &SearchParams::exact().with_nprobe(16));
    let mut before = 0.0;
    for max_codes in [1, 100, 300, 600, 1200, 4000] {
        let params = SearchParams::default()
            .with_nprobe(16)
            .with_max_codes(max_codes);
        let found = search_ivf(&index, &queries, 10, &params);
        let recall = recall_at_k(&found.i, &exact.i, 10, 10, 10).unwrap();
        assert!(
            recall >= before,
            "max_codes {max_codes}: {recall} after {before}"
        );
        before = recall;
    }
    assert_eq!(before, 1.0);
}

/// C6: parameters of a search win over the index and do not stick; the index's over a profile.
pub fn c6_precedence<B: IvfBackend>(device: &B::Device) {
    let mut index = line::<B>(device);
    index.set_nprobe(3).unwrap();
    index.set_max_codes(7);
    let none = SearchParams::default();
    assert_eq!(ids(&index, 0.0, 12, &none), through(6));
    assert_eq!(
        ids(&index, 0.0, 12, &none.clone().with_max_codes(1)),
        through(2)
    );
    assert_eq!(ids(&index, 0.0, 12, &SearchParams::exact()), through(11));
    assert_eq!(
        ids(&index, 0.0, 12, &SearchParams::of(Profile::ApproxFast)),
        through(6)
    );
    assert_eq!(ids(&index, 0.0, 12, &none), through(6));
    assert_eq!(index.limit(), Limit::max_codes(7));
    assert!(matches!(
        refused(index.set_limit(Limit::Budget(Budget::uniform(0)))),
        Error::IllegalValue { .. }
    ));
    assert!(matches!(
        refused(index.set_list_ordering(ListOrdering::Projection)),
        Error::ListOrdering { .. }
    ));
    assert_eq!(index.limit(), Limit::max_codes(7));
}

/// C7: whole lists until there are k rows.
pub fn c7_topk_full<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let max = MaxCodes::new(1).ensuring_topk_full();
    let params = SearchParams::default()
        .with_nprobe(3)
        .with_limit(Limit::MaxCodes(max));
    assert_eq!(ids(&index, 0.0, 6, &params), through(5));
}

/// C10: what the profiles stand for; each finds no less than the one before.
pub fn c10_profiles<B: IvfBackend>(device: &B::Device) {
    assert_eq!(Profile::ApproxQuality.budget(), Some(131_072));
    assert_eq!(Profile::ApproxBalanced.budget(), Some(65_536));
    assert_eq!(Profile::ApproxFast.budget(), Some(32_768));
    let index = line::<B>(device);
    for profile in Profile::ALL {
        let params = SearchParams::of(profile).with_nprobe(3);
        assert_eq!(ids(&index, 0.0, 12, &params), through(11), "{profile}");
        assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
    }
    assert!("fast".parse::<Profile>().is_err());
    // Where the budget cuts, the rows nearest to the centroid are read: of 0, 1, .. 34999 in a shuffled
    // order, those below 32768.
    let n = 35_000;
    let rows = Rows::new((0..n).map(|i| (i * 9_973 % n) as f32).collect(), 1);
    let one = preset::<B>(device, Metric::L2, &Rows::new(vec![0.0], 1), &rows);
    let last = Rows::new(vec![n as f32], 1);
    for (profile, nearest) in [
        (Profile::ApproxFast, 32_767.0),
        (Profile::ApproxQuality, 34_999.0),
    ] {
        let params = SearchParams::of(profile).with_counts();
        let found = search_ivf(&one, &last, 1, &params);
        assert_eq!(
            found.d[0],
            (n as f32 - nearest) * (n as f32 - nearest),
            "{profile}"
        );
        let budget = profile.budget().unwrap().min(n);
        assert_eq!(found.stats.rows_scanned, Some(budget as u64), "{profile}");
    }
}

/// C12 to C14 on an index: budgets choose how many rows of each list are compared.
pub fn c13_budgets_reach_the_scan<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let with = |budget| SearchParams::default().with_nprobe(3).with_budget(budget);
    assert_eq!(
        ids(&index, 0.0, 12, &with(Budget::uniform(6))),
        [0, 1, 3, 4, 7, 8]
    );
    let uneven = Budget::uniform(9).with_max_codes_per_list(2);
    assert_eq!(ids(&index, 0.0, 12, &with(uneven)), [0, 1, 3, 4, 7, 8]);
    let near = Budget::distance_weighted(5);
    assert_eq!(ids(&index, 0.0, 12, &with(near))[..3], [0, 1, 2]);
    let dynamic = Budget::dynamic_nprobe(2).with_min_codes_per_list(1);
    assert_eq!(ids(&index, 0.0, 12, &with(dynamic)), [0, 3]);
    let strict = with(Budget::uniform(4).with_min_codes_per_list(3).strict()).with_counts();
    let found = search_ivf(&index, &Rows::new(vec![0.0], 1), 12, &strict);
    assert_eq!(found.stats.rows_scanned, Some(4));
}

/// C15: an ordering chooses which rows a budget reads, not what a full search finds; it is ready
/// after every add.
pub fn c15_orderings<B: IvfBackend>(device: &B::Device) {
    let centroid = Rows::new(vec![0.0], 1);
    let mut index = IndexIvfFlat::<B>::from_centroids(centroid.on(device), Metric::L2).unwrap();
    let add = |index: &mut IndexIvfFlat<B>, rows: Vec<f32>, ids: &[i64]| {
        index
            .add_with_ids(Rows::new(rows, 1).on(device), ids)
            .unwrap();
    };
    add(&mut index, vec![3.0, 1.0, 2.0], &[30, 10, 20]);
    let first = |rows| {
        SearchParams::default()
            .with_budget(Budget::uniform(rows))
            .with_list_ordering(ListOrdering::ResidualNorm)
    };
    assert_eq!(ids(&index, 9.0, 3, &first(1)), [10]);
    assert_eq!(ids(&index, 9.0, 3, &first(2)), [20, 10]);
    assert_eq!(ids(&index, 9.0, 3, &first(3)), [30, 20, 10]);
    add(&mut index, vec![0.5, -4.0], &[5, 40]);
    assert_eq!(ids(&index, 9.0, 5, &first(1)), [5]);
    assert_eq!(ids(&index, 9.0, 5, &first(4)), [30, 20, 10, 5]);
    assert_eq!(
        index.list_ids(0).unwrap(),
        [30, 10, 20, 5, 40],
        "storage order stays"
    );
    assert!(index.memory_info().derived > 0);
    let budget = SearchParams::default().with_budget(Budget::uniform(2));
    assert_eq!(ids(&index, 9.0, 5, &budget), [10, 5], "near rows first");
    let inserted = budget.with_list_ordering(ListOrdering::Insertion);
    assert_eq!(ids(&index, 9.0, 5, &inserted), [30, 10]);
    // By inner product the largest projections on the centroid come first.
    let centroid = Rows::new(vec![1.0, 0.0], 2);
    let rows = Rows::new(vec![1.0, 5.0, 3.0, 0.0, 2.0, -9.0], 2);
    let index = preset::<B>(device, Metric::InnerProduct, &centroid, &rows);
    let params = SearchParams::default()
        .with_budget(Budget::uniform(2))
        .with_list_ordering(ListOrdering::Projection);
    let query = Rows::new(vec![0.0, 1.0], 2);
    let found = search_ivf(&index, &query, 3, &params);
    assert_eq!(found.i, [1, 2, -1]);
    let wrong = params.with_list_ordering(ListOrdering::ResidualNorm);
    let error = refused(index.search_with(query.on(device), 3, &wrong));
    assert!(matches!(error, Error::ListOrdering { .. }), "{error}");
}

/// Parameters at full budget equal the exact search, in every strategy, order and mode.
pub fn full_budgets_are_exact<B: IvfBackend>(device: &B::Device) {
    let base = clustered(sized::<B>(device, 1500, 500), 12, 30, 0.1, 60);
    let queries = clustered(11, 12, 30, 0.1, 61);
    for metric in METRICS {
        let near = match metric {
            Metric::L2 => ListOrdering::ResidualNorm,
            _ => ListOrdering::Projection,
        };
        let index = trained::<B>(device, metric, 10, &base);
        let exact = search_ivf(&index, &queries, 7, &SearchParams::exact().with_nprobe(6));
        for budget in [
            Budget::uniform(6 * 1500),
            Budget::distance_weighted(1500),
            Budget::dynamic_nprobe(1500),
            Budget::distance_weighted(1500)
                .with_max_codes_per_list(1500)
                .strict(),
        ] {
            for mode in IVF_MODES {
                let params = SearchParams::default()
                    .with_nprobe(6)
                    .with_budget(budget)
                    .with_list_ordering(near)
                    .with_mode(mode);
                let found = search_ivf(&index, &queries, 7, &params);
                exact.assert_same(&found, &format!("{metric} {budget:?} {mode}"));
            }
        }
        // Under a limit every mode reads the same rows.
        let tight = SearchParams::default()
            .with_nprobe(6)
            .with_budget(Budget::distance_weighted(60))
            .with_list_ordering(near);
        let csr = search_ivf(
            &index,
            &queries,
            7,
            &tight.clone().with_mode(SearchMode::Csr),
        );
        let matrix = search_ivf(
            &index,
            &queries,
            7,
            &tight.clone().with_mode(SearchMode::Matrix),
        );
        csr.assert_same(&matrix, "a tight budget in two modes");
        let one = queries.range(3..4);
        let alone = search_ivf(&index, &one, 7, &tight);
        assert_eq!(alone.i, csr.row(3).1, "a query alone");
    }
}

/// C17: pruning changes nothing but the lists read.
pub fn c17_safe_pruning<B: IvfBackend>(device: &B::Device) {
    let n = sized::<B>(device, 6000, 1500);
    let base = clustered(n, 16, 40, 0.02, 70);
    let queries = clustered(sized::<B>(device, 1000, 60), 16, 40, 0.02, 70);
    for metric in METRICS {
        let index = trained::<B>(device, metric, 40, &base);
        let params = SearchParams::exact().with_nprobe(24);
        let off = search_ivf(&index, &queries, 5, &params);
        assert_eq!(off.stats.lists_pruned, 0);
        for mode in IVF_MODES {
            let params = params.clone().with_safe_pruning(true).with_mode(mode);
            let on = search_ivf(&index, &queries, 5, &params);
            off.assert_same(&on, &format!("pruned, {metric}, {mode}"));
            if metric == Metric::L2 {
                assert!(on.stats.lists_pruned > 0, "{:?}", on.stats);
            }
        }
    }
    // Rows added later widen the radius; a far one must not be lost.
    let mut index = trained::<B>(device, Metric::L2, 40, &base);
    let params = SearchParams::exact()
        .with_nprobe(40)
        .with_safe_pruning(true);
    search_ivf(&index, &queries.range(0..5), 5, &params);
    let far = queries.range(0..1).map(|v| v + 0.001);
    index
        .add_preassigned(far.on(device), Some(&[777_777]), &[17])
        .unwrap();
    let plain = search_ivf(
        &index,
        &queries.range(0..5),
        5,
        &SearchParams::exact().with_nprobe(40),
    );
    let pruned = search_ivf(&index, &queries.range(0..5), 5, &params);
    plain.assert_same(&pruned, "after an add");
}

/// Limits that name no row, or contradict themselves, are refused.
pub fn illegal_limits<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let query = Rows::new(vec![0.0], 1);
    for limit in [
        Limit::MaxCodes(MaxCodes::new(0)),
        Limit::Budget(Budget::uniform(0)),
        Limit::Budget(Budget::uniform(5).with_max_codes_per_list(0)),
        Limit::Budget(
            Budget::uniform(5)
                .with_max_codes_per_list(2)
                .with_min_codes_per_list(3),
        ),
    ] {
        let params = SearchParams::default().with_limit(limit);
        let error = refused(index.search_with(query.on(device), 1, &params));
        assert!(
            matches!(error, Error::IllegalValue { .. }),
            "{limit:?}: {error}"
        );
    }
    let huge = [
        Limit::max_codes(usize::MAX),
        Limit::Budget(Budget::uniform(usize::MAX).with_min_codes_per_list(usize::MAX)),
        Limit::Budget(Budget::distance_weighted(usize::MAX).strict()),
        Limit::Budget(Budget::dynamic_nprobe(usize::MAX)),
    ];
    for limit in huge {
        let params = SearchParams::default().with_nprobe(3).with_limit(limit);
        assert_eq!(ids(&index, 0.0, 12, &params), through(11), "{limit:?}");
    }
}

/// More queries than a block or a group of a GPU holds (more than 65,535 on a processor), where what is read of a
/// list differs from query to query: each gets what it gets alone.
pub fn more_queries_than_65535<B: IvfBackend>(device: &B::Device) {
    // A software GPU needs minutes for so many.
    let nq = sized::<B>(device, 66_000, 300);
    let (base, queries) = (uniform(150, 2, 30), uniform(nq, 2, 31));
    let index = preset::<B>(device, Metric::L2, &base.range(0..6), &base);
    let sample: Vec<usize> = [0, 65_534, 65_535, 65_536, nq - 1]
        .into_iter()
        .filter(|&q| q < nq)
        .chain((0..20).map(|s| s * nq / 20))
        .collect();
    let few = queries.pick(&sample);
    let probing = SearchParams::default().with_nprobe(3);
    let third = |id: i64| id % 3 == 0;
    let thirds = IdSelector::batch((0..150).filter(|&id| third(id)));
    for (name, params) in [
        ("max_codes", probing.clone().with_max_codes(40)),
        (
            "max_codes, exact",
            probing.clone().with_limit(Limit::MaxCodes(
                MaxCodes::new(40).with_rule(MaxCodesRule::ExactCodes),
            )),
        ),
        ("selector", probing.clone().with_selector(thirds)),
        ("safe pruning", probing.clone().with_safe_pruning(true)),
    ] {
        let all = search_ivf(&index, &queries, 2, &params);
        let alone = search_ivf(&index, &few, 2, &params);
        for (i, &q) in sample.iter().enumerate() {
            assert_eq!(all.row(q), alone.row(i), "{name}, query {q}");
        }
        if name == "selector" {
            assert!(all.i.iter().all(|&id| id == -1 || third(id)));
        }
    }
    let params = RangeParams::default().sorted();
    let all = index.range_search_with(queries.on(device), 0.004, &params);
    let alone = index.range_search_with(few.on(device), 0.004, &params);
    let (all, alone) = (all.unwrap(), alone.unwrap());
    let (ids, ids_alone) = (all.to_vecs().1, alone.to_vecs().1);
    assert!(ids_alone.len() > 5, "something is near");
    for (i, &q) in sample.iter().enumerate() {
        let of = |lims: &[usize], i: usize| lims[i]..lims[i + 1];
        let (found, expected) = (&ids[of(&all.lims, q)], &ids_alone[of(&alone.lims, i)]);
        assert_eq!(found, expected, "range, query {q}");
    }
}
