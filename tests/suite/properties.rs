//! Identities as properties, over random small indexes with many duplicates (host backends only:
//! a property runs dozens of searches).

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{FlatMode, IndexFlat, IndexIvfFlat, IvfBackend, Metric, SearchMode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// A random small problem.
#[derive(Clone, Debug)]
struct Case {
    n: usize,
    d: usize,
    nq: usize,
    k: usize,
    nlist: usize,
    nprobe: usize,
    /// Distinct values a coordinate takes: 1 makes all rows equal, 0 stands for normal data.
    levels: u32,
    limit: usize,
    metric: Metric,
    mode: SearchMode,
    seed: u64,
}

impl Case {
    fn rows(&self, n: usize, salt: u64) -> Rows {
        if self.levels == 0 {
            normal(n, self.d, self.seed ^ salt)
        } else {
            tied(n, self.d, self.levels, self.seed ^ salt)
        }
    }

    fn base(&self) -> Rows {
        self.rows(self.n, 1)
    }

    fn queries(&self) -> Rows {
        self.rows(self.nq, 2)
    }

    fn centroids(&self) -> Rows {
        normal(self.nlist, self.d, self.seed ^ 3)
    }

    fn index<B: IvfBackend>(&self, device: &B::Device) -> IndexIvfFlat<B> {
        preset(device, self.metric, &self.centroids(), &self.base())
    }

    fn search<B: IvfBackend>(&self, index: &IndexIvfFlat<B>, queries: &Rows) -> Answer {
        let params = probing(self.nprobe, self.mode).with_workspace_limit(self.limit);
        search_ivf(index, queries, self.k, &params)
    }
}

fn case() -> impl Strategy<Value = Case> {
    let sizes = (1usize..220, 1usize..40, 1usize..12, 1usize..40, 1usize..14);
    let choice = (1usize..14, 0u32..4, 0usize..3, 0usize..2, 0usize..3);
    (sizes, choice, any::<u64>()).prop_map(|(sizes, choice, seed)| Case {
        n: sizes.0,
        d: sizes.1,
        nq: sizes.2,
        k: sizes.3,
        nlist: sizes.4,
        nprobe: choice.0.min(sizes.4),
        levels: choice.1,
        limit: [64 << 10, 100_000, 256 << 20][choice.2],
        metric: METRICS[choice.3],
        mode: IVF_MODES[choice.4],
        seed,
    })
}

/// Runs a property on random cases.
fn holds(cases: u32, property: impl Fn(Case) -> Result<(), TestCaseError>) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config).run(&case(), property).unwrap();
}

/// Probing every list is a flat search, bit for bit, and both are right.
pub fn full_probe_is_flat<B: IvfBackend>(device: &B::Device) {
    holds(288, |mut case| {
        case.nprobe = case.nlist;
        let (base, queries) = (case.base(), case.queries());
        let mut plain = flat::<B>(device, case.metric, &base);
        plain.set_mode([FlatMode::Matrix, FlatMode::Chunked][case.n % 2]);
        let expected = search_flat(&plain, &queries, case.k);
        Oracle::new(case.metric, &base).check(&queries, &expected, "property");
        case.search(&case.index::<B>(device), &queries)
            .assert_same(&expected, "full probe against flat");
        Ok(())
    });
}

/// Adding in pieces equals adding at once: answers, lists and vectors.
pub fn pieces_are_the_whole<B: IvfBackend>(device: &B::Device) {
    holds(192, |case| {
        let (base, queries) = (case.base(), case.queries());
        let whole = case.index::<B>(device);
        let mut index =
            IndexIvfFlat::<B>::from_centroids(case.centroids().on(device), case.metric).unwrap();
        let cuts = [case.n / 5, case.n / 4, case.n / 2];
        let mut from = 0;
        for to in cuts.into_iter().chain([case.n]) {
            index.add(base.range(from..to).on(device)).unwrap();
            from = to;
        }
        for list in 0..case.nlist {
            assert_eq!(index.list_ids(list).unwrap(), whole.list_ids(list).unwrap());
            let (a, b) = (index.list_vectors(list), whole.list_vectors(list));
            assert_eq!(floats(a.unwrap()), floats(b.unwrap()));
        }
        case.search(&index, &queries)
            .assert_same(&case.search(&whole, &queries), "pieces against whole");
        Ok(())
    });
}

/// Permuting the queries permutes the results.
pub fn permuted_queries<B: IvfBackend>(device: &B::Device) {
    holds(192, |case| {
        let queries = case.queries();
        let index = case.index::<B>(device);
        let order: Vec<usize> = (0..case.nq).rev().collect();
        let straight = case.search(&index, &queries);
        let turned = case.search(&index, &queries.pick(&order));
        for (at, &q) in order.iter().enumerate() {
            assert_eq!(turned.row(at), straight.row(q), "{case:?}");
        }
        Ok(())
    });
}

/// The workspace limit and the mode change nothing, with many duplicates.
pub fn chunks_and_modes<B: IvfBackend>(device: &B::Device) {
    holds(240, |mut case| {
        case.levels = case.levels.clamp(1, 2);
        let (base, queries) = (case.base(), case.queries());
        let index = case.index::<B>(device);
        let expected = case.search(&index, &queries);
        let all: Vec<usize> = (0..case.nq).collect();
        super::ivf::check_probed(&index, &base, &queries, &expected, &all);
        for mode in IVF_MODES {
            for limit in [64 << 10, 90_000, 1 << 30] {
                let other = Case {
                    mode,
                    limit,
                    ..case.clone()
                };
                let found = other.search(&index, &queries);
                found.assert_same(&expected, &format!("{mode}, {limit} bytes"));
            }
        }
        Ok(())
    });
}

/// Random ids: the answer is that of automatic ids, relabelled, up to the order of equal rows.
pub fn random_ids<B: IvfBackend>(device: &B::Device) {
    holds(192, |case| {
        let (base, queries) = (case.base(), case.queries());
        let mut rng = rng(case.seed);
        let ids: Vec<i64> = (0..case.n)
            .map(|_| rand::Rng::random_range(&mut rng, 0..=i64::MAX))
            .collect();
        let oracle = Oracle::with_ids(case.metric, &base, ids.clone());
        let mut plain = IndexFlat::<B>::new(case.d, case.metric, device).unwrap();
        plain.add_with_ids(base.on(device), &ids).unwrap();
        let found = search_flat(&plain, &queries, case.k);
        oracle.check(&queries, &found, "random ids");
        let mut index =
            IndexIvfFlat::<B>::from_centroids(case.centroids().on(device), case.metric).unwrap();
        index.add_with_ids(base.on(device), &ids).unwrap();
        let every = Case {
            nprobe: case.nlist,
            ..case
        };
        every
            .search(&index, &queries)
            .assert_same(&found, "random ids, ivf against flat");
        Ok(())
    });
}

/// Training on random data always ends in a usable index.
pub fn training_never_breaks<B: IvfBackend>(device: &B::Device) {
    holds(144, |mut case| {
        case.n = case.n.max(case.nlist);
        case.nprobe = case.nlist;
        let (base, queries) = (case.base(), case.queries());
        let index = trained::<B>(device, case.metric, case.nlist, &base);
        assert_eq!(index.list_sizes().iter().sum::<usize>(), case.n);
        let expected = search_flat(&flat::<B>(device, case.metric, &base), &queries, case.k);
        case.search(&index, &queries)
            .assert_same(&expected, "trained on anything");
        Ok(())
    });
}
