//! Identities of the search surface over random parameters: full budgets are exact, pruning is safe, any
//! history equals a fresh build, a batch of any size is its queries.

use super::support::*;
use super::surface::{World, pick, rows_of, seeds};
use burn_ivf::{
    Budget, IdSelector, IndexIvfFlat, IvfBackend, Limit, ListOrdering, MaxCodes, MaxCodesRule,
    Metric, Missing, RangeParams, SearchMode, SearchParams, Storage,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::cell::Cell;

/// Rows near the centroid first.
fn near_first(metric: Metric) -> ListOrdering {
    match metric {
        Metric::L2 => ListOrdering::ResidualNorm,
        _ => ListOrdering::Projection,
    }
}

/// Limits that reach every row of any probes.
fn full(rng: &mut ChaCha8Rng, n: usize, nlist: usize) -> Limit {
    let more = n + rng.random_range(0..9);
    let least = rng.random_range(0..4);
    match rng.random_range(0..6) {
        0 => Limit::MaxCodes(MaxCodes::new(more)),
        1 => Limit::MaxCodes(MaxCodes::new(more).with_rule(MaxCodesRule::ExactCodes)),
        2 => Limit::Budget(Budget::uniform(more * nlist)),
        3 => Limit::Budget(Budget::distance_weighted(more).with_max_codes_per_list(more)),
        4 => Limit::Budget(Budget::dynamic_nprobe(more).with_min_codes_per_list(least)),
        _ => Limit::Budget(Budget::distance_weighted(more).strict()),
    }
}

/// Parameters at full budget give the exact answer, in every mode and order, under any selector.
pub fn full_budgets_at_random<B: IvfBackend>(device: &B::Device) {
    seeds(200, 12, is_cube::<B>(device), |seed| {
        let mut world = World::<B>::new(device, seed);
        let (n, nlist) = (world.ntotal(), world.index.nlist().unwrap());
        let exact = SearchParams {
            limit: Some(Limit::Unlimited),
            list_ordering: None,
            ..world.params()
        };
        let k = pick(&mut world.rng, &[1, 7, 60]);
        let expected = search_ivf(&world.index, &world.queries, k, &exact);
        for _ in 0..3 {
            let limit = full(&mut world.rng, n, nlist);
            let params = exact
                .clone()
                .with_limit(limit)
                .with_list_ordering(near_first(world.metric));
            for mode in IVF_MODES {
                let found = search_ivf(
                    &world.index,
                    &world.queries,
                    k,
                    &params.clone().with_mode(mode),
                );
                found.assert_same(&expected, &format!("{} {params:?}", world.metric));
                assert_eq!(found.stats.effective_limit, Limit::Unlimited, "{limit:?}");
            }
        }
    });
}

/// C17 at random: pruning leaves lists out and changes no bit, with selectors and limits too.
pub fn pruning_is_safe_at_random<B: IvfBackend>(device: &B::Device) {
    let cube = is_cube::<B>(device);
    let pruned = Cell::new(0);
    seeds(150, 12, cube, |seed| {
        let mut rng = rng(seed);
        let d = if cube { 8 } else { rng.random_range(1..40) };
        let n = rng.random_range(40..if cube { 300 } else { 900 });
        let base = clustered(n, d, 20, pick(&mut rng, &[0.001, 0.02, 0.2]), seed);
        let metric = pick(
            &mut rng,
            &[Metric::L2, Metric::L2, Metric::InnerProduct, Metric::Cosine],
        );
        let nlist = rng.random_range(2..30);
        let index = preset::<B>(device, metric, &base.range(0..nlist), &base);
        let queries = base.range(3..15).map(|v| v + 1e-3);
        let of: Vec<u32> = (0..12).map(|_| rng.random_range(0..2)).collect();
        let half: IdSelector = (0..n as i64).filter(|_| rng.random_bool(0.5)).collect();
        let mut off = SearchParams::exact().with_nprobe(rng.random_range(1..=nlist));
        if rng.random_bool(0.5) {
            off = off.with_query_selectors(vec![half, IdSelector::All], of);
        }
        if rng.random_bool(0.3) {
            off = off.with_limit(Limit::Budget(Budget::distance_weighted(
                rng.random_range(1..n),
            )));
        }
        let k = rng.random_range(1..9);
        let expected = search_ivf(&index, &queries, k, &off);
        for mode in IVF_MODES {
            let on = off.clone().with_safe_pruning(true).with_mode(mode);
            let found = search_ivf(&index, &queries, k, &on);
            found.assert_same(&expected, &format!("{metric} {on:?}"));
            pruned.set(pruned.get() + found.stats.lists_pruned);
        }
    });
    assert!(pruned.get() > 0, "nothing was pruned");
}

/// Where distances to centroids leave the range, nothing is known of their rows: none is lost.
pub fn pruning_beyond_the_range<B: IvfBackend>(device: &B::Device) {
    for (metric, centroids, rows, query) in [
        (Metric::L2, [0.0, 1.9e19], [3.2e18, 2e18], 0.0),
        (Metric::InnerProduct, [0.1, -1e19], [0.05, 1.0], 1e20),
    ] {
        let centroids = Rows::new(centroids.to_vec(), 1);
        let mut index = IndexIvfFlat::<B>::from_centroids(centroids.on(device), metric).unwrap();
        let rows = Rows::new(rows.to_vec(), 1);
        index
            .add_preassigned(rows.on(device), None, &[0, 1])
            .unwrap();
        let query = Rows::new(vec![query], 1);
        let params = SearchParams::exact().with_nprobe(2);
        let off = search_ivf(&index, &query, 1, &params);
        assert_eq!(off.i, [1], "{metric}");
        let on = search_ivf(&index, &query, 1, &params.with_safe_pruning(true));
        on.assert_same(&off, "pruned beyond the range");
    }
    // Products beyond the range are alike: of these rows, one a list, the smaller id is the best.
    let centroids = Rows::new(vec![2.2e19, 1.5e19], 1);
    let mut index =
        IndexIvfFlat::<B>::from_centroids(centroids.on(device), Metric::InnerProduct).unwrap();
    let rows = Rows::new(vec![2.4e19, 2.5e19], 1);
    index
        .add_preassigned(rows.on(device), Some(&[5, 3]), &[0, 1])
        .unwrap();
    let query = Rows::new(vec![1.5e19], 1);
    for pruning in [false, true] {
        let params = SearchParams::exact()
            .with_nprobe(2)
            .with_safe_pruning(pruning);
        let found = search_ivf(&index, &query, 1, &params);
        assert_eq!(
            (found.i, found.d),
            (vec![3], vec![f32::INFINITY]),
            "{pruning}"
        );
    }
}

/// What an index should hold, in order of insertion.
type Content = Vec<(i64, Vec<f32>)>;

fn content_rows(content: &[(i64, Vec<f32>)], d: usize) -> (Rows, Vec<i64>) {
    let data = content.iter().flat_map(|(_, x)| x.clone()).collect();
    (
        Rows::new(data, d),
        content.iter().map(|(id, _)| *id).collect(),
    )
}

/// One change of an index and of its content; new ids start at `next`.
fn change<B: IvfBackend>(
    index: &mut IndexIvfFlat<B>,
    content: &mut Content,
    (fresh, next): (&Rows, i64),
    rng: &mut ChaCha8Rng,
) {
    let device = index.device();
    let new: Vec<i64> = (next..next + fresh.n() as i64).collect();
    let rows = |ids: &[i64]| {
        ids.iter()
            .enumerate()
            .map(|(i, &id)| (id, fresh.row(i).to_vec()))
            .collect::<Vec<_>>()
    };
    match rng.random_range(0..6) {
        0 | 1 => {
            index.add_with_ids(fresh.on(&device), &new).unwrap();
            content.extend(rows(&new));
        }
        2 => {
            let gone: IdSelector = content
                .iter()
                .map(|row| row.0)
                .filter(|_| rng.random_bool(0.2))
                .collect();
            let before = content.len();
            content.retain(|row| !gone.contains(row.0));
            assert_eq!(index.remove_ids(&gone).unwrap(), before - content.len());
        }
        3 => {
            let mut ids = new;
            for (id, row) in ids.iter_mut().zip(content.iter().step_by(3)) {
                *id = row.0;
            }
            index
                .update_vectors(&ids, fresh.on(&device), Missing::Insert)
                .unwrap();
            content.retain(|row| !ids.contains(&row.0));
            content.extend(rows(&ids));
        }
        4 => {
            let centroids = index.centroids().unwrap();
            let mut other = IndexIvfFlat::<B>::from_centroids(centroids, index.metric()).unwrap();
            other.set_storage(index.storage()).unwrap();
            other.add_with_ids(fresh.on(&device), &new).unwrap();
            index.merge_from(&mut other, 7).unwrap();
            content.extend(rows(&new).into_iter().map(|(id, x)| (id + 7, x)));
        }
        _ => {
            // What is derived of the lists goes with the copy, or is made anew.
            *index = match rng.random_range(0..3) {
                0 => index.to_device(&device).unwrap(),
                1 => index.clone(),
                _ => {
                    let mut bytes = Vec::new();
                    index.write_to(&mut bytes).unwrap();
                    IndexIvfFlat::read_from(&bytes[..], &device).unwrap()
                }
            };
        }
    }
}

/// B21 and more: after any history, with searches in between, every kind of search answers as on a fresh
/// index of the same content.
pub fn any_history_equals_a_fresh_build<B: IvfBackend>(device: &B::Device) {
    let cube = is_cube::<B>(device);
    seeds(60, 5, cube, |seed| {
        let mut rng = rng(seed);
        let kind = rng.random_range(0..3);
        let d = if cube { 8 } else { rng.random_range(1..30) };
        let metric = pick(
            &mut rng,
            &[Metric::L2, Metric::InnerProduct, Metric::Cosine],
        );
        let mut storages = vec![Storage::Auto, Storage::F32, Storage::Planes, Storage::F16];
        storages.retain(|s| B::capabilities(device).stores(*s));
        let storage = pick(&mut rng, &storages);
        let centroids = rows_of(kind, rng.random_range(1..7), d, seed);
        let make = || {
            let mut index =
                IndexIvfFlat::<B>::from_centroids(centroids.on(device), metric).unwrap();
            index.set_storage(storage).unwrap();
            index
        };
        let queries = rows_of(kind, 6, d, seed ^ 0xABCD);
        let (mut index, mut content) = (make(), Content::new());
        for step in 0..12 {
            let fresh = rows_of(kind, rng.random_range(1..30), d, seed * 100 + step);
            change(
                &mut index,
                &mut content,
                (&fresh, 1000 * (step as i64 + 1)),
                &mut rng,
            );
            let mut built = make();
            if !content.is_empty() {
                let (rows, ids) = content_rows(&content, d);
                built.add_with_ids(rows.on(device), &ids).unwrap();
            }
            let what = format!("step {step} {metric} {storage}");
            assert_eq!(index.ntotal(), content.len(), "{what}");
            let rows = rng.random_range(1..content.len() + 5);
            let some: IdSelector = content
                .iter()
                .map(|row| row.0)
                .filter(|_| rng.random_bool(0.6))
                .collect();
            let plain = SearchParams::exact().with_nprobe(rng.random_range(1..5));
            let near = plain.clone().with_list_ordering(near_first(metric));
            for params in [
                near.clone().with_budget(Budget::distance_weighted(rows)),
                near.with_budget(Budget::uniform(rows))
                    .with_selector(some.clone()),
                plain.clone().with_max_codes(rows),
                plain.clone().with_safe_pruning(true),
                plain
                    .clone()
                    .with_selector(some)
                    .with_mode(SearchMode::Matrix),
            ] {
                let expected = search_ivf(&built, &queries, 8, &params);
                search_ivf(&index, &queries, 8, &params).assert_same(&expected, &what);
            }
            let params = RangeParams::default().with_search(plain);
            let ranges = [&index, &built].map(|index| {
                let found = index
                    .range_search_with(queries.on(device), 0.9, &params)
                    .unwrap();
                (found.lims.clone(), found.to_vecs())
            });
            assert_eq!(ranges[0], ranges[1], "{what}");
        }
    });
}

/// More queries than a device launches groups in one dimension, with selectors, caps and an order: the
/// answers are those of a few of them alone.
pub fn many_queries_under_restrictions<B: IvfBackend>(device: &B::Device) {
    let (nq, n) = (66_000, sized::<B>(device, 3000, 200));
    let base = normal(n, 2, 40);
    let index = preset::<B>(device, Metric::L2, &base.range(0..8), &base);
    let mut queries = normal(nq, 2, 41);
    queries.row_mut(5)[0] = f32::NAN;
    let selectors: Vec<IdSelector> = (0..9)
        .map(|i| match i {
            0 => IdSelector::batch([]),
            1 => IdSelector::batch([n as i64 / 2]),
            _ => (0..n as i64).filter(|id| id % (i + 1) == 0).collect(),
        })
        .collect();
    let of: Vec<u32> = (0..nq as u32).map(|q| q * 7 % 9).collect();
    let capped = SearchParams::default()
        .with_nprobe(3)
        .with_budget(Budget::uniform(n / 8))
        .with_list_ordering(ListOrdering::ResidualNorm);
    let plain = SearchParams::exact().with_nprobe(3);
    let sample: Vec<usize> = (0..64)
        .map(|s| s * (nq - 1) / 63)
        .chain([4, 5, 6])
        .collect();
    let few = queries.pick(&sample);
    for params in [plain, capped] {
        for shared in [true, false] {
            let select = |of: Vec<u32>| match shared {
                true => params.clone().with_selector(selectors[3].clone()),
                false => params.clone().with_query_selectors(selectors.clone(), of),
            };
            let found = search_ivf(&index, &queries, 3, &select(of.clone()));
            let alone = search_ivf(
                &index,
                &few,
                3,
                &select(sample.iter().map(|&q| of[q]).collect()),
            );
            for (at, &q) in sample.iter().enumerate() {
                assert_eq!(found.row(q), alone.row(at), "query {q}: {params:?}");
            }
            found.assert_padding(5, Metric::L2);
        }
    }
}

/// Thousands of selectors, one for every query, in a workspace that holds a few of their bits; and few
/// selectors of many queries, which are looked at once each.
pub fn many_selectors<B: IvfBackend>(device: &B::Device) {
    let (nq, n) = (sized::<B>(device, 3000, 400), sized::<B>(device, 2500, 600));
    let base = tied(n, 3, 5, 42);
    let queries = tied(nq, 3, 5, 43);
    let index = preset::<B>(device, Metric::L2, &base.range(0..5), &base);
    let window = |q: usize| q * 3 % n..(q * 3 % n + 1 + q % 70).min(n);
    let own: Vec<IdSelector> = (0..nq)
        .map(|q| IdSelector::range(window(q).start as i64..window(q).end as i64))
        .collect();
    let params = probing(5, SearchMode::Csr)
        .with_query_selectors(own, (0..nq as u32).collect())
        .with_workspace_limit(64 << 10);
    let found = search_ivf(&index, &queries, 6, &params);
    assert!(found.stats.query_chunks > 1, "{:?}", found.stats);
    for q in 0..nq {
        let square = |x: usize| -> f32 {
            let pairs = base.row(x).iter().zip(queries.row(q));
            pairs.map(|(a, b)| (a - b) * (a - b)).sum()
        };
        let mut best: Vec<(u32, i64)> = window(q).map(|x| (square(x) as u32, x as i64)).collect();
        best.sort_unstable();
        let expected: Vec<i64> = best
            .iter()
            .map(|hit| hit.1)
            .chain([-1; 6])
            .take(6)
            .collect();
        assert_eq!(found.row(q).1, expected, "query {q}");
    }
    let most = (64 << 10) / 16 / (n.div_ceil(32) + 5);
    let shared: Vec<IdSelector> = (0..2 * most as i64)
        .map(|i| IdSelector::range(i..i + 9))
        .collect();
    let of: Vec<u32> = (0..nq).map(|q| (q * shared.len() / nq) as u32).collect();
    let chunks = |params: &SearchParams| search_ivf(&index, &queries, 6, params).stats.query_chunks;
    let without = chunks(&SearchParams {
        selection: None,
        ..params.clone()
    });
    let chunks = chunks(&params.with_query_selectors(shared, of));
    assert!(
        chunks <= without + 3,
        "{chunks} pieces for twice the selectors that fit, {without} without selectors"
    );
}
