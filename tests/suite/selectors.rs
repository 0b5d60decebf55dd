//! Which ids a search may find (acceptance group E).

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{Error, IdSelector, IvfBackend, Metric, SearchMode, SearchParams, Selection};
use rand::Rng;

fn line_ids<B: IvfBackend>(device: &B::Device, nprobe: usize, selector: IdSelector) -> Vec<i64> {
    let params = SearchParams::default()
        .with_nprobe(nprobe)
        .with_selector(selector);
    search_ivf(&line::<B>(device), &Rows::new(vec![0.0], 1), 6, &params).i
}

/// E2, E3, E4, E7: ranges are half-open, the lowest bit comes first, unknown ids do no harm, and a
/// filter does not change which lists are probed.
pub fn e2_e3_e4_e7_on_a_line<B: IvfBackend>(device: &B::Device) {
    let of = |nprobe, selector| line_ids::<B>(device, nprobe, selector);
    assert_eq!(of(3, IdSelector::range(1..5)), [1, 2, 3, 4, -1, -1]);
    assert_eq!(
        of(3, IdSelector::bitmap(vec![0b0000_0110])),
        [1, 2, -1, -1, -1, -1]
    );
    assert_eq!(
        of(3, IdSelector::bitmap_u32(&[0b1000_0000_0010])),
        [1, 11, -1, -1, -1, -1]
    );
    assert_eq!(of(3, IdSelector::batch([27, -4, i64::MAX])), [-1; 6]);
    assert_eq!(of(3, IdSelector::batch([])), [-1; 6]);
    assert_eq!(of(3, IdSelector::All), [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        of(3, !IdSelector::batch([0, 2]) & IdSelector::range(0..9)),
        [1, 3, 4, 5, 6, 7]
    );
    assert_eq!(of(1, IdSelector::range(3..12)), [-1; 6]);
}

fn masked(rows: &[Option<usize>]) -> Vec<usize> {
    rows.iter().flatten().copied().collect()
}

/// E5, E6 and the identity: a filtered search is a search of an index of what is left, for shared
/// and per-query selectors, at every sparsity, in every mode, on both indexes.
pub fn e5_e6_filter_is_the_subset<B: IvfBackend>(device: &B::Device) {
    let (n, nq, nlist) = (sized::<B>(device, 700, 300), 12, 6);
    let (base, queries) = (clustered(n, 9, 12, 0.2, 90), clustered(nq, 9, 12, 0.2, 91));
    let mut rng = rng(92);
    for metric in METRICS {
        let index = trained::<B>(device, metric, nlist, &base);
        let exhaustive = flat::<B>(device, metric, &base);
        for keep in [0.0, 0.01, 0.2, 0.6, 1.0] {
            let mut draw =
                || -> Vec<i64> { (0..n as i64).filter(|_| rng.random_bool(keep)).collect() };
            let sets: Vec<Vec<i64>> = (0..3).map(|_| draw()).collect();
            let of: Vec<u32> = (0..nq as u32).map(|q| q % 3).collect();
            let selectors: Vec<IdSelector> = sets
                .iter()
                .map(|set| IdSelector::batch(set.iter().copied()))
                .collect();
            for k in [1, 5, 32] {
                for mode in IVF_MODES {
                    let params =
                        probing(nlist, mode).with_query_selectors(selectors.clone(), of.clone());
                    let found = search_ivf(&index, &queries, k, &params);
                    for (which, set) in sets.iter().enumerate() {
                        let rows: Vec<Option<usize>> =
                            set.iter().map(|&i| Some(i as usize)).collect();
                        let mut left = burn_ivf::IndexFlat::<B>::new(9, metric, device).unwrap();
                        if !set.is_empty() {
                            left.add_with_ids(base.pick(&masked(&rows)).on(device), set)
                                .unwrap();
                        }
                        let expected = search_flat(&left, &queries, k);
                        for q in (0..nq).filter(|q| q % 3 == which) {
                            assert_eq!(
                                found.row(q),
                                expected.row(q),
                                "{metric} {keep} {k} {mode} {q}"
                            );
                        }
                        if mode == SearchMode::Auto {
                            let shared =
                                SearchParams::default().with_selector(selectors[which].clone());
                            let result = exhaustive.search_with(queries.on(device), k, &shared);
                            let flat = Answer::read(&result.unwrap());
                            expected.assert_same(&flat, "flat, filtered");
                        }
                    }
                }
            }
        }
    }
}

/// The same in few lists: filter and probes are independent.
pub fn filters_at_few_probes<B: IvfBackend>(device: &B::Device) {
    let base = uniform(sized::<B>(device, 900, 300), 7, 93);
    let queries = uniform(10, 7, 94);
    let index = trained::<B>(device, Metric::L2, 9, &base);
    let even = IdSelector::batch((0..900).filter(|id| id % 2 == 0));
    let params = SearchParams::exact().with_nprobe(3);
    let every = search_ivf(&index, &queries, 400, &params);
    for mode in IVF_MODES {
        let filtered = params.clone().with_selector(even.clone()).with_mode(mode);
        let found = search_ivf(&index, &queries, 20, &filtered);
        for q in 0..10 {
            let expected: Vec<i64> = every
                .row(q)
                .1
                .iter()
                .copied()
                .filter(|id| *id >= 0 && id % 2 == 0)
                .take(20)
                .collect();
            let got: Vec<i64> = found
                .row(q)
                .1
                .iter()
                .copied()
                .filter(|&id| id >= 0)
                .collect();
            assert_eq!(got, expected, "{mode} {q}");
        }
    }
}

/// Per-query bits of `[nq, n]`, in words.
pub fn e5_bitmaps_per_query<B: IvfBackend>(device: &B::Device) {
    let (n, nq) = (37, 5);
    let (base, queries) = (uniform(n, 4, 95), uniform(nq, 4, 96));
    let index = flat::<B>(device, Metric::L2, &base);
    let mut rng = rng(97);
    let bits: Vec<bool> = (0..n * nq).map(|_| rng.random_bool(0.3)).collect();
    let mut words = vec![0_u32; (n * nq).div_ceil(32)];
    for (at, &bit) in bits.iter().enumerate() {
        words[at / 32] |= u32::from(bit) << (at % 32);
    }
    let params = SearchParams {
        selection: Some(Selection::bitmap_u32(&words, nq, n).unwrap()),
        ..SearchParams::default()
    };
    let found = Answer::read(&index.search_with(queries.on(device), n, &params).unwrap());
    for q in 0..nq {
        let mut ids: Vec<i64> = found
            .row(q)
            .1
            .iter()
            .copied()
            .filter(|&id| id >= 0)
            .collect();
        ids.sort_unstable();
        let expected = (0..n as i64).filter(|&id| bits[q * n + id as usize]);
        assert!(ids.into_iter().eq(expected), "query {q}");
    }
    assert!(matches!(
        refused(Selection::bitmap_u32(&words, nq, n + 32)),
        Error::ShapeMismatch { .. }
    ));
}

/// E5: words shared by all queries and words of each query's own, at every sparsity, number of rows and
/// k: brute force in f64 over the rows whose bit is set.
pub fn e5_bitmaps_equal_masked_brute_force<B: IvfBackend>(device: &B::Device) {
    let mut rng = rng(110);
    let shares = [0.01, 0.2, 0.4, 0.6, 0.8, 0.99];
    for (n, keep) in shares
        .into_iter()
        .flat_map(|keep| [(32, keep), (100, keep)])
    {
        let nq = 5;
        let (base, queries) = (uniform(n, 8, 111), uniform(nq, 8, 112));
        for metric in METRICS {
            let index = flat::<B>(device, metric, &base);
            let oracle = Oracle::new(metric, &base);
            let bits: Vec<bool> = (0..n * nq).map(|_| rng.random_bool(keep)).collect();
            let words = |bits: &[bool]| {
                let mut words = vec![0_u32; bits.len().div_ceil(32)];
                for (at, &bit) in bits.iter().enumerate() {
                    words[at / 32] |= u32::from(bit) << (at % 32);
                }
                words
            };
            let own = Selection::bitmap_u32(&words(&bits), nq, n).unwrap();
            let shared = Selection::Shared(IdSelector::bitmap_u32(&words(&bits[..n])));
            for (selection, stride) in [(own, n), (shared, 0)] {
                for k in [1, 5, 32] {
                    let params = SearchParams {
                        selection: Some(selection.clone()),
                        ..SearchParams::default()
                    };
                    let found = index.search_with(queries.on(device), k, &params).unwrap();
                    let found = Answer::read(&found);
                    for q in 0..nq {
                        let rows: Vec<usize> = (0..n).filter(|x| bits[q * stride + x]).collect();
                        oracle.check_query(queries.row(q), &found, q, &rows, "masked");
                    }
                }
            }
        }
    }
}

/// Selectors of their own for more queries than the workspace has room for.
pub fn selectors_are_chunked<B: IvfBackend>(device: &B::Device) {
    let (n, nq) = (3000, 60);
    let base = uniform(n, 3, 98);
    let index = flat::<B>(device, Metric::L2, &base);
    let selectors: Vec<IdSelector> = (0..nq as i64)
        .map(|q| IdSelector::range(q * 50..q * 50 + 30))
        .collect();
    let of: Vec<u32> = (0..nq as u32).rev().collect();
    let params = SearchParams::default()
        .with_query_selectors(selectors, of)
        .with_workspace_limit(64 << 10);
    let found = index
        .search_with(base.range(0..nq).on(device), 30, &params)
        .unwrap();
    assert!(found.stats.query_chunks > 1, "{:?}", found.stats);
    let found = Answer::read(&found);
    for q in 0..nq {
        let mut ids = found.row(q).1.to_vec();
        ids.sort_unstable();
        let first = (nq - 1 - q) as i64 * 50;
        assert!(ids.into_iter().eq(first..first + 30), "query {q}");
    }
}

/// A selector of its own for each of thousands of queries, with none to a few ids.
pub fn thousands_of_selectors<B: IvfBackend>(device: &B::Device) {
    let (n, nq, k) = (300, 4_000, 3);
    let (base, queries) = (uniform(n, 3, 110), uniform(nq, 3, 111));
    let index = preset::<B>(device, Metric::L2, &base.range(0..5), &base);
    let mut rng = rng(112);
    let sets: Vec<Vec<i64>> = (0..nq)
        .map(|q| (0..q % 6).map(|_| rng.random_range(0..n as i64)).collect())
        .collect();
    let selectors = sets
        .iter()
        .map(|set| IdSelector::batch(set.iter().copied()));
    let of = (0..nq as u32).collect();
    let params = probing(5, SearchMode::Auto).with_query_selectors(selectors.collect(), of);
    let found = search_ivf(&index, &queries, k, &params);
    for (q, set) in sets.iter().enumerate() {
        let distance = |id: i64| -> f64 {
            let pairs = queries.row(q).iter().zip(base.row(id as usize));
            pairs.map(|(&a, &b)| f64::from(a - b).powi(2)).sum()
        };
        let mut expected: Vec<(f64, i64)> = set.iter().map(|&id| (distance(id), id)).collect();
        expected.sort_by(|a, b| a.0.total_cmp(&b.0));
        expected.dedup();
        let mut labels: Vec<i64> = expected.into_iter().map(|(_, id)| id).collect();
        labels.resize(k, -1);
        assert_eq!(found.row(q).1, labels, "query {q}: {set:?}");
    }
}

/// Selectors that do not fit the queries are refused, and so are parameters a flat index has no
/// use for.
pub fn wrong_selections<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let query = Rows::new(vec![0.0, 1.0], 1);
    let with = |selectors, of| SearchParams::default().with_query_selectors(selectors, of);
    let error =
        refused(index.search_with(query.on(device), 1, &with(vec![IdSelector::All], vec![0])));
    assert_names(&error, &[1, 2]);
    let error = refused(index.search_with(
        query.on(device),
        1,
        &with(vec![IdSelector::All], vec![0, 1]),
    ));
    assert!(matches!(error, Error::IllegalValue { .. }), "{error}");
    let flat = flat::<B>(device, Metric::L2, &line_rows());
    for params in [
        SearchParams::default().with_nprobe(3),
        SearchParams::default().with_max_codes(3),
        SearchParams::default().with_mode(SearchMode::Csr),
    ] {
        let error = refused(flat.search_with(query.on(device), 1, &params));
        assert!(matches!(error, Error::NotApplicable { .. }), "{error}");
    }
    assert!(
        flat.search_with(query.on(device), 1, &SearchParams::exact())
            .is_ok()
    );
}
