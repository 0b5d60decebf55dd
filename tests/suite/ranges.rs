//! Range search on both indexes (acceptance group D).

use super::oracle::measure;
use super::support::*;
use burn_ivf::{
    Error, IdSelector, IndexIvfFlat, IvfBackend, Metric, RangeBound, RangeParams, RangeResult,
    SearchParams,
};

/// A range search's answer on the host, query by query: (distance, id).
fn read<B: IvfBackend>(found: &RangeResult<B>) -> Vec<Vec<(f32, i64)>> {
    let (d, i) = found.to_vecs();
    assert_eq!(found.lims[0], 0);
    assert!(found.lims.is_sorted());
    assert_eq!(found.len(), d.len());
    assert_eq!(found.len(), i.len());
    assert_eq!(found.is_empty(), d.is_empty());
    let own = if is_cube::<B>(&found.distances.device()) {
        "cube ("
    } else {
        "host ("
    };
    assert!(found.stats.kernel.starts_with(own), "{:?}", found.stats);
    let query = |lims: &[usize]| {
        let range = lims[0]..lims[1];
        d[range.clone()]
            .iter()
            .copied()
            .zip(i[range].iter().copied())
            .collect()
    };
    found.lims.windows(2).map(query).collect()
}

fn within(metric: Metric, value: f64, radius: f32) -> bool {
    match metric {
        Metric::L2 => value <= f64::from(radius),
        _ => value >= f64::from(radius),
    }
}

/// D1, A8: against brute force on both indexes; lims, order, direction; no queries.
pub fn d1_equals_brute_force<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(400, 8, 80), normal(13, 8, 81));
    for metric in METRICS {
        let flat = flat::<B>(device, metric, &base);
        let ivf = trained::<B>(device, metric, 8, &base);
        for radius in [5.0_f32, 0.5, 20.0, -3.0] {
            let params = RangeParams::default().sorted();
            let all = RangeParams::default()
                .sorted()
                .with_search(SearchParams::default().with_nprobe(8));
            let a = read(
                &flat
                    .range_search_with(queries.on(device), radius, &params)
                    .unwrap(),
            );
            let b = read(
                &ivf.range_search_with(queries.on(device), radius, &all)
                    .unwrap(),
            );
            assert_eq!(a, b, "{metric} {radius}");
            for (q, hits) in a.iter().enumerate() {
                // Rows whose f64 value is too near the radius to call may be on either side.
                let slack = 1e-4 * f64::from(radius).abs().max(1.0);
                let value = |id: i64| measure(metric, queries.row(q), base.row(id as usize)).0;
                let sure = (0..400_i64).filter(|&id| {
                    within(metric, value(id), radius)
                        && (value(id) - f64::from(radius)).abs() > slack
                });
                let found: Vec<i64> = hits.iter().map(|hit| hit.1).collect();
                for id in sure {
                    assert!(
                        found.contains(&id),
                        "{metric} {radius}: query {q} lost {id}"
                    );
                }
                for &(d, id) in hits {
                    assert!((f64::from(d) - value(id)).abs() <= slack);
                    assert!(within(metric, f64::from(d), radius));
                }
                let sorted = hits.windows(2).all(|w| match metric {
                    Metric::L2 => (w[0].0, w[0].1) < (w[1].0, w[1].1),
                    _ => (-w[0].0, w[0].1) < (-w[1].0, w[1].1),
                });
                assert!(sorted, "{metric} {radius}: query {q}");
            }
            // Unsorted: the same hits as the index holds them.
            let plain = read(&flat.range_search(queries.on(device), radius).unwrap());
            for (mut plain, sorted) in plain.into_iter().zip(&a) {
                assert!(plain.is_sorted_by_key(|hit| hit.1), "insertion order");
                plain.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
                let mut sorted = sorted.clone();
                sorted.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
                assert_eq!(plain, sorted);
            }
        }
        let none = flat
            .range_search(normal(1, 8, 1).range(0..0).on(device), 1.0)
            .unwrap();
        assert_eq!((none.lims.clone(), none.len()), (vec![0], 0));
        let none = ivf
            .range_search(normal(1, 8, 1).range(0..0).on(device), 1.0)
            .unwrap();
        assert_eq!((none.lims.clone(), none.len()), (vec![0], 0));
    }
}

/// Metrics that compare every pair: the rows that a search of all finds up to the radius, on both indexes,
/// under selectors, in pieces.
pub fn other_metrics<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (uniform(150, 6, 180), uniform(7, 6, 181));
    let ids: Vec<i64> = (0..150).map(|row| (row * 37) % 150 + 3).collect();
    let some = IdSelector::range(20..110);
    for metric in super::metrics::all() {
        let mut flat = burn_ivf::IndexFlat::<B>::new(6, metric, device).unwrap();
        flat.add_with_ids(base.on(device), &ids).unwrap();
        let all = search_flat(&flat, &queries, 150);
        // The distance of some hit: it and its equals are within it.
        let radius = all.row(3).0[40];
        let expected = |selector: &IdSelector| -> Vec<Vec<(f32, i64)>> {
            let near = |d: f32| {
                if metric.larger_is_better() {
                    d >= radius
                } else {
                    d <= radius
                }
            };
            let of = |q: usize| {
                let (d, i) = all.row(q);
                let hits = d.iter().copied().zip(i.iter().copied());
                hits.filter(|&(d, id)| id != -1 && near(d) && selector.contains(id))
                    .collect()
            };
            (0..7).map(of).collect()
        };
        let sorted = RangeParams::default().sorted();
        for selector in [IdSelector::All, some.clone()] {
            let search = SearchParams::default().with_selector(selector.clone());
            let params = sorted.clone().with_search(search.clone());
            let found = flat
                .range_search_with(queries.on(device), radius, &params)
                .unwrap();
            assert_eq!(read(&found), expected(&selector), "{metric} {radius}");
            let few = sorted
                .clone()
                .with_search(search.with_workspace_limit(64 << 10));
            let found = flat
                .range_search_with(queries.on(device), radius, &few)
                .unwrap();
            assert_eq!(
                read(&found),
                expected(&selector),
                "{metric} {radius}: in pieces"
            );
        }
        // As inserted; strictly within; at most so many.
        let plain = read(&flat.range_search(queries.on(device), radius).unwrap());
        for (plain, sorted) in plain.iter().zip(expected(&IdSelector::All)) {
            let place = |id: i64| ids.iter().position(|&own| own == id).unwrap();
            assert!(plain.is_sorted_by_key(|hit| place(hit.1)), "{metric}");
            assert_eq!(plain.len(), sorted.len());
        }
        let strict = sorted.clone().with_bound(RangeBound::Exclusive);
        let strict = read(
            &flat
                .range_search_with(queries.on(device), radius, &strict)
                .unwrap(),
        );
        assert!(
            strict.iter().flatten().all(|hit| hit.0 != radius),
            "{metric}"
        );
        let (_, most) = flat
            .range_search_max_results(queries.on(device), radius, 30, &sorted)
            .unwrap();
        assert!(
            most.len() <= 30 && !most.is_empty(),
            "{metric} {}",
            most.len()
        );
        if !matches!(metric, Metric::L1 | Metric::Linf) {
            continue;
        }
        let mut ivf = preset::<B>(device, metric, &base.range(0..5), &Rows::new(vec![], 6));
        ivf.add_with_ids(base.on(device), &ids).unwrap();
        let params = sorted
            .clone()
            .with_search(SearchParams::exact().with_nprobe(5));
        let found = ivf
            .range_search_with(queries.on(device), radius, &params)
            .unwrap();
        assert_eq!(
            read(&found),
            expected(&IdSelector::All),
            "{metric} {radius}: lists"
        );
        let one = sorted
            .clone()
            .with_search(SearchParams::exact().with_nprobe(1));
        let one = read(
            &ivf.range_search_with(queries.on(device), radius, &one)
                .unwrap(),
        );
        let probes = Answer::read(&ivf.coarse(queries.on(device), 1).unwrap());
        for (q, hits) in one.iter().enumerate() {
            let own = ivf.list_ids(probes.row(q).1[0] as usize).unwrap();
            let mut all = expected(&IdSelector::All).swap_remove(q);
            all.retain(|hit| own.contains(&hit.1));
            assert_eq!(*hits, all, "{metric}: one list");
        }
    }
}

/// A11: ids given by the caller; every row within 5, and no other.
pub fn a11_given_ids<B: IvfBackend>(device: &B::Device) {
    let base = uniform(50, 8, 82);
    let mut index = burn_ivf::IndexFlat::<B>::new(8, Metric::L2, device).unwrap();
    let given: Vec<i64> = (100..150).collect();
    index.add_with_ids(base.on(device), &given).unwrap();
    let plain = flat::<B>(device, Metric::L2, &base);
    let a = read(
        &index
            .range_search(base.range(0..9).on(device), 5.0)
            .unwrap(),
    );
    let b = read(
        &plain
            .range_search(base.range(0..9).on(device), 5.0)
            .unwrap(),
    );
    for (q, (a, b)) in a.iter().zip(&b).enumerate() {
        let value = |x: usize| measure(Metric::L2, base.row(q), base.row(x)).0;
        let within = (0..50).filter(|&x| value(x) <= 5.0);
        assert!(a.iter().map(|hit| hit.1).eq(within.map(|x| x as i64 + 100)));
        for &(d, id) in a {
            assert!((f64::from(d) - value(id as usize - 100)).abs() <= 1e-5);
        }
        let shifted: Vec<(f32, i64)> = b.iter().map(|&(d, i)| (d, i + 100)).collect();
        assert_eq!(a, &shifted);
    }
}

/// The radius itself: inclusive by default, exclusive like faiss; a range equals the search it
/// bounds, bit for bit.
pub fn bounds<B: IvfBackend>(device: &B::Device) {
    let base = tied(300, 4, 4, 83);
    let queries = tied(6, 4, 4, 84);
    for metric in METRICS {
        let index = flat::<B>(device, metric, &base);
        let all = search_flat(&index, &queries, 300);
        for radius in [0.0_f32, 2.0, 5.0] {
            for bound in [RangeBound::Inclusive, RangeBound::Exclusive] {
                let params = RangeParams::default().with_bound(bound).sorted();
                let found = index
                    .range_search_with(queries.on(device), radius, &params)
                    .unwrap();
                for (q, hits) in read(&found).iter().enumerate() {
                    let (d, i) = all.row(q);
                    let expected: Vec<(f32, i64)> = d
                        .iter()
                        .copied()
                        .zip(i.iter().copied())
                        .filter(|&(d, _)| match (metric, bound) {
                            (Metric::L2, RangeBound::Inclusive) => d <= radius,
                            (Metric::L2, RangeBound::Exclusive) => d < radius,
                            (_, RangeBound::Inclusive) => d >= radius,
                            (_, RangeBound::Exclusive) => d > radius,
                        })
                        .collect();
                    assert_eq!(hits, &expected, "{metric} {radius} {bound:?} query {q}");
                }
            }
        }
    }
}

/// C8: the index's limit drops no hit; one that is asked for does.
pub fn c8_limits_are_asked_for<B: IvfBackend>(device: &B::Device) {
    let mut index = line::<B>(device);
    index.set_nprobe(3).unwrap();
    index.set_max_codes(2);
    let query = Rows::new(vec![0.0], 1);
    assert_eq!(index.range_search(query.on(device), 1e9).unwrap().len(), 12);
    let asked = RangeParams::default().with_search(SearchParams::default().with_max_codes(2));
    assert_eq!(
        index
            .range_search_with(query.on(device), 1e9, &asked)
            .unwrap()
            .len(),
        3
    );
}

/// C9: a query stops after a list without a hit.
pub fn c9_empty_lists_stop<B: IvfBackend>(device: &B::Device) {
    let mut index = line::<B>(device);
    index.set_nprobe(4).unwrap();
    let query = Rows::new(vec![0.0], 1);
    let params = RangeParams::default().with_max_empty_lists(1);
    let found = read(
        &index
            .range_search_with(query.on(device), 110.0, &params)
            .unwrap(),
    );
    let ids: Vec<i64> = found[0].iter().map(|hit| hit.1).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6]);
    let whole = read(&index.range_search(query.on(device), 110.0).unwrap());
    assert!(found[0].iter().all(|hit| whole[0].contains(hit)));
    // A hit beyond the stop is not seen.
    let beyond = read(
        &index
            .range_search_with(Rows::new(vec![5.0], 1).on(device), 25.0, &params)
            .unwrap(),
    );
    assert!(beyond[0].len() <= 7);
    assert!(
        refused(index.range_search_with(
            query.on(device),
            1.0,
            &RangeParams::default().with_max_empty_lists(0)
        ))
        .to_string()
        .contains("max_empty_lists")
    );
}

/// D4: a selector applies to ranges.
pub fn d4_selector<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let search = SearchParams::default()
        .with_nprobe(3)
        .with_selector(IdSelector::batch([2, 3, 4, 5, 11]));
    let params = RangeParams::default().with_search(search).sorted();
    let found = index.range_search_with(Rows::new(vec![0.0], 1).on(device), 1e9, &params);
    let ids: Vec<i64> = read(&found.unwrap())[0].iter().map(|hit| hit.1).collect();
    assert_eq!(ids, [2, 3, 4, 5, 11]);
}

/// D5: many hits come back complete.
pub fn d5_many_hits<B: IvfBackend>(device: &B::Device) {
    let (n, nq) = (
        sized::<B>(device, 20_000, 2_000),
        sized::<B>(device, 60, 20),
    );
    let base = uniform(n, 4, 85);
    let index: IndexIvfFlat<B> = trained(device, Metric::L2, 16, &base);
    let params = RangeParams::default().with_search(
        SearchParams::default()
            .with_nprobe(16)
            .with_workspace_limit(1 << 20),
    );
    let found = index
        .range_search_with(base.range(0..nq).on(device), 100.0, &params)
        .unwrap();
    assert_eq!(found.len(), n * nq);
    for hits in read(&found) {
        let mut ids: Vec<i64> = hits.iter().map(|hit| hit.1).collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..n as i64));
    }
}

/// D6: the radius is drawn in until the hits fit; what is left is the range at that radius.
pub fn d6_max_results<B: IvfBackend>(device: &B::Device) {
    let base = normal(500, 6, 86);
    let queries = normal(20, 6, 87);
    for metric in METRICS {
        let index = trained::<B>(device, metric, 5, &base);
        let radius = if metric == Metric::L2 { 30.0 } else { -1.0 };
        let params = RangeParams::default().with_search(SearchParams::default().with_nprobe(5));
        let all = index
            .range_search_with(queries.on(device), radius, &params)
            .unwrap();
        for most in [0, 1, 40, 1000, 100_000] {
            let (kept, found) = index
                .range_search_max_results(queries.on(device), radius, most, &params)
                .unwrap();
            assert!(found.len() <= most);
            let again = index
                .range_search_with(queries.on(device), kept, &params)
                .unwrap();
            assert_eq!(read(&again), read(&found), "{metric} {most}");
            if most >= all.len() {
                assert_eq!((kept, found.len()), (radius, all.len()));
            } else {
                assert!(found.len() * 10 >= most * 8, "{} of {most}", found.len());
            }
        }
    }
}

/// Broken queries find nothing, endless radii everything; NaN is refused.
pub fn edges<B: IvfBackend>(device: &B::Device) {
    let base = uniform(40, 3, 88);
    let index = flat::<B>(device, Metric::L2, &base);
    let mut queries = uniform(3, 3, 89);
    queries.row_mut(1)[2] = f32::NAN;
    let found = read(
        &index
            .range_search(queries.on(device), f32::INFINITY)
            .unwrap(),
    );
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [40, 0, 40]);
    let none = index
        .range_search(queries.on(device), f32::NEG_INFINITY)
        .unwrap();
    assert!(none.is_empty());
    let error = refused(index.range_search(queries.on(device), f32::NAN));
    assert!(matches!(error, Error::IllegalValue { .. }), "{error}");
    let error = refused(index.range_search(uniform(2, 5, 1).on(device), 1.0));
    assert_names(&error, &[3, 5]);
    let empty = burn_ivf::IndexFlat::<B>::new(3, Metric::L2, device).unwrap();
    let found = empty.range_search(queries.on(device), 1.0).unwrap();
    assert_eq!(found.lims, [0; 4]);
    let probing = RangeParams::default().with_search(SearchParams::default().with_nprobe(2));
    let error = refused(index.range_search_with(queries.on(device), 1.0, &probing));
    assert!(matches!(error, Error::NotApplicable { .. }), "{error}");
}
