//! The search surface at random: selectors, limits, reading orders, storages, modes, workspaces and broken
//! queries together, against the rows that are left, in plain words.
//!
//! Which rows those are follows from the public face (`coarse`, `list_ids`, `list_vectors`), the rules of
//! `docs/semantics.md` written anew here, and `IdSelector::contains`. An answer must have the bits of a flat
//! index of just these rows and be right in f64. `BURN_IVF_SURFACE_SEED` and `BURN_IVF_SURFACE_CASES` repeat
//! or lengthen a run; a failure prints its seed.

use super::oracle::Oracle;
use super::support::*;
use burn_ivf::{
    Budget, BudgetStrategy, IdSelector, IndexFlat, IndexIvfFlat, IvfBackend, Limit, ListOrdering,
    MaxCodes, MaxCodesRule, Metric, RangeBound, RangeParams, SearchMode, SearchParams, Selection,
    Storage,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// One list as it is held.
struct Held {
    ids: Vec<i64>,
    rows: Rows,
    /// Slots, near rows first.
    near: Vec<usize>,
}

/// A random index, queries for it, and what is known of both.
pub struct World<B: IvfBackend> {
    pub index: IndexIvfFlat<B>,
    pub queries: Rows,
    pub rng: ChaCha8Rng,
    pub metric: Metric,
    storage: Storage,
    held: Vec<Held>,
    /// Whether components are small whole numbers, whose distances have no rounding.
    exact: bool,
}

/// What is left of the lists that a query reads: each with its slots, ascending.
type Left = Vec<(usize, Vec<usize>)>;

/// One of some values.
pub fn pick<T: Copy>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

/// Runs `case` for many seeds.
pub fn seeds(host: usize, cube: usize, is_cube: bool, case: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let first = number("BURN_IVF_SURFACE_SEED").unwrap_or(0);
    let cases = if is_cube { cube } else { host } as u64;
    for seed in first..first + number("BURN_IVF_SURFACE_CASES").unwrap_or(cases) {
        let _repeat = Repeat(seed);
        case(seed);
    }
}

struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::open::say(&format!("BURN_IVF_SURFACE_SEED={} repeats it", self.0));
        }
    }
}

/// Rows of one of the kinds that make different parts of a search work.
pub fn rows_of(kind: usize, n: usize, d: usize, seed: u64) -> Rows {
    match kind {
        0 => tied(n, d, 3, seed),
        1 => normal(n, d, seed),
        // Queries are rows then: the generator starts alike.
        2 => clustered(n, d, 6, 0.02, 7),
        3 => normal(n, d, seed).map(|v| v + 1000.0),
        _ => normal(n, d, seed).map(|v| v * 1e18),
    }
}

impl<B: IvfBackend> World<B> {
    pub fn new(device: &B::Device, seed: u64) -> Self {
        let mut rng = rng(seed);
        let cube = is_cube::<B>(device);
        // Every dimension is a set of kernels to compile on a device.
        let dims: &[usize] = if cube {
            &[1, 8, 33]
        } else {
            &[1, 1, 2, 7, 16, 33, 64, 129, 300, 1000]
        };
        let d = pick(&mut rng, dims);
        let kind = rng.random_range(0..5);
        let most = if d > 200 { 120 } else { 700 };
        let n = rng.random_range(1..if cube { 300 } else { most });
        let metric = pick(
            &mut rng,
            &[Metric::L2, Metric::L2, Metric::InnerProduct, Metric::Cosine],
        );
        let halves = |s: &Storage| matches!(s, Storage::F16 | Storage::Bf16);
        let mut storages = Storage::ALL.to_vec();
        storages.retain(|s| B::capabilities(device).stores(*s));
        // Rounding takes a vector off length 1; f16 has no room for large components.
        storages.retain(|s| !halves(s) || metric != Metric::Cosine);
        storages.retain(|s| kind < 4 || *s != Storage::F16);
        let storage = pick(&mut rng, &storages);
        let base = rows_of(kind, n, d, seed);
        let nlist = rng.random_range(1..=n.min(12));
        let centroids: Vec<usize> = (0..nlist).map(|_| rng.random_range(0..n)).collect();
        let centroids = base.pick(&centroids);
        let mut index = IndexIvfFlat::from_centroids(centroids.on(device), metric).unwrap();
        index.set_storage(storage).unwrap();
        let ids = ids(&mut rng, n, wide_labels::<B>(device));
        let cut = rng.random_range(0..=n);
        for part in [0..cut, cut..n] {
            let x = base.range(part.clone()).on(device);
            index.add_with_ids(x, &ids[part]).unwrap();
        }
        let nq = pick(&mut rng, &[1, 2, 5, 17]);
        let mut queries = rows_of(kind, nq, d, seed ^ 0xABCD);
        if rng.random_bool(0.2) {
            let row = rng.random_range(0..nq);
            queries.row_mut(row)[d / 2] = pick(&mut rng, &[f32::NAN, f32::INFINITY]);
        }
        let mut world = Self {
            index,
            queries,
            rng,
            metric,
            storage,
            held: Vec::new(),
            exact: kind == 0 && metric != Metric::Cosine,
        };
        world.look();
        world
    }

    /// Notes what the lists hold.
    fn look(&mut self) {
        let index = &self.index;
        let centroids = Rows::new(floats(index.centroids().unwrap()), index.d());
        let l2 = self.metric == Metric::L2;
        let list = |l: usize| {
            let rows = Rows::new(floats(index.list_vectors(l).unwrap()), index.d());
            let key = |&slot: &usize| -> f32 {
                let pairs = rows.row(slot).iter().zip(centroids.row(l));
                pairs
                    .map(|(x, c)| if l2 { (x - c) * (x - c) } else { -x * c })
                    .sum()
            };
            let mut near: Vec<usize> = (0..rows.n()).collect();
            // -0 as 0.
            near.sort_by(|a, b| (key(a) + 0.0).total_cmp(&(key(b) + 0.0)));
            Held {
                ids: index.list_ids(l).unwrap(),
                rows,
                near,
            }
        };
        self.held = (0..index.nlist().unwrap()).map(list).collect();
    }

    pub fn ntotal(&self) -> usize {
        self.held.iter().map(|list| list.ids.len()).sum()
    }

    /// A random selector: none, one, few, many, all ids, or an expression of two.
    pub fn selector(&mut self, depth: usize) -> IdSelector {
        let all: Vec<i64> = self.held.iter().flat_map(|list| list.ids.clone()).collect();
        let rng = &mut self.rng;
        let share = pick(rng, &[0.01, 0.2, 0.5, 0.9]);
        let at = rng.random_range(0..all.len());
        match rng.random_range(0..if depth == 0 { 12 } else { 7 }) {
            0 => IdSelector::batch([]),
            1 => IdSelector::batch([all[at]]),
            2 => IdSelector::All,
            3 => IdSelector::range(all[at].saturating_sub(40)..all[at].saturating_add(90)),
            4 => {
                let bytes: Vec<u8> = (0..rng.random_range(0..80)).map(|_| rng.random()).collect();
                IdSelector::bitmap(bytes)
            }
            5 | 6 => all.into_iter().filter(|_| rng.random_bool(share)).collect(),
            7 | 8 => !self.selector(1),
            9 => self.selector(1) & self.selector(1),
            10 => self.selector(1) | self.selector(1),
            _ => self.selector(1) ^ self.selector(1),
        }
    }

    /// No selector, one for all, or one of several for every query.
    pub fn selection(&mut self) -> Option<Selection> {
        match self.rng.random_range(0..5) {
            0 => None,
            1 | 2 => Some(Selection::Shared(self.selector(0))),
            _ => {
                let nq = self.queries.n();
                let count = pick(&mut self.rng, &[1, 2, nq]);
                let selectors = (0..count).map(|_| self.selector(0)).collect();
                let of = (0..nq)
                    .map(|_| self.rng.random_range(0..count as u32))
                    .collect();
                Some(Selection::PerQuery { selectors, of })
            }
        }
    }

    fn limit(&mut self) -> Limit {
        let n = self.ntotal() + 3;
        let rng = &mut self.rng;
        let rows = rng.random_range(1..n);
        match rng.random_range(0..5) {
            0 | 1 => Limit::Unlimited,
            2 | 3 => {
                let rule = pick(rng, &[MaxCodesRule::ListBoundary, MaxCodesRule::ExactCodes]);
                let max = MaxCodes::new(rows).with_rule(rule);
                Limit::MaxCodes(if rng.random_bool(0.3) {
                    max.ensuring_topk_full()
                } else {
                    max
                })
            }
            _ => {
                let mut budget = Budget::uniform(rows);
                if rng.random_bool(0.3) {
                    budget = budget.with_max_codes_per_list(rng.random_range(5..50));
                }
                Limit::Budget(budget.with_min_codes_per_list(rng.random_range(0..5)))
            }
        }
    }

    /// Parameters of a search, all at random.
    pub fn params(&mut self) -> SearchParams {
        let near = match self.metric {
            Metric::L2 => ListOrdering::ResidualNorm,
            _ => ListOrdering::Projection,
        };
        let (limit, selection) = (self.limit(), self.selection());
        let rng = &mut self.rng;
        SearchParams {
            nprobe: Some(rng.random_range(1..=self.held.len() + 1)),
            mode: Some(pick(
                rng,
                &[SearchMode::Csr, SearchMode::Csr, SearchMode::Matrix],
            )),
            limit: Some(limit),
            list_ordering: match rng.random_range(0..4) {
                0 | 1 if self.exact => Some(near),
                2 if self.exact => None,
                _ => Some(ListOrdering::Insertion),
            },
            workspace_limit: Some(pick(rng, &[64 << 10, 100_000, 256 << 20])),
            selection,
            counts: true,
            ..SearchParams::default()
        }
    }

    /// What every query is compared with, probe by probe: (list, slots in storage order); and whether the
    /// limit leaves a row out.
    fn left(&self, params: &SearchParams, k: usize) -> (Vec<Left>, bool) {
        let nprobe = params.nprobe.unwrap().min(self.held.len());
        let queries = self.queries.on(&self.index.device());
        let probes = Answer::read(&self.index.coarse(queries, nprobe).unwrap());
        let mut cut = false;
        let query = |q: usize| {
            let lists: Vec<usize> = probes
                .row(q)
                .1
                .iter()
                .filter(|&&l| l >= 0)
                .map(|&l| l as usize)
                .collect();
            let sizes: Vec<usize> = lists.iter().map(|&l| self.held[l].ids.len()).collect();
            let caps = caps(params.limit.unwrap(), &sizes, nprobe, k);
            let selector = match &params.selection {
                None => &IdSelector::All,
                Some(Selection::Shared(selector)) => selector,
                Some(Selection::PerQuery { selectors, of }) => &selectors[of[q] as usize],
            };
            let rows = lists.iter().zip(&caps).map(|(&l, &cap)| {
                let held = &self.held[l];
                let near = match params.list_ordering {
                    None => matches!(params.limit, Some(Limit::Budget(_))),
                    Some(ordering) => ordering != ListOrdering::Insertion,
                };
                let ordered = near && cap < held.ids.len();
                let place = |i: usize| if ordered { held.near[i] } else { i };
                let mut slots: Vec<usize> = (0..cap).map(place).collect();
                slots.retain(|&s| selector.contains(held.ids[s]));
                slots.sort_unstable();
                (l, slots)
            });
            cut |= caps.iter().zip(&sizes).any(|(cap, size)| cap < size);
            rows.collect()
        };
        ((0..self.queries.n()).map(query).collect(), cut)
    }

    /// A flat index of some rows, in this order.
    fn flat(&self, rows: &[(usize, usize)]) -> IndexFlat<B> {
        let device = self.index.device();
        let mut flat = IndexFlat::new(self.index.d(), self.metric, &device).unwrap();
        flat.set_storage(self.storage).unwrap();
        if !rows.is_empty() {
            let data = rows
                .iter()
                .flat_map(|&(l, s)| self.held[l].rows.row(s).to_vec());
            let ids: Vec<i64> = rows.iter().map(|&(l, s)| self.held[l].ids[s]).collect();
            let x = Rows::new(data.collect(), self.index.d());
            flat.add_with_ids(x.on(&device), &ids).unwrap();
        }
        flat
    }
}

/// A query's answer, to the bit.
fn bits((d, i): (&[f32], &[i64])) -> Vec<(u32, i64)> {
    d.iter()
        .map(|v| v.to_bits())
        .zip(i.iter().copied())
        .collect()
}

/// Distinct ids: in order, wide, negative; or shared ones.
fn ids(rng: &mut ChaCha8Rng, n: usize, wide: bool) -> Vec<i64> {
    let kind = rng.random_range(0..4);
    let step = if wide { 1_000_003 } else { 1003 };
    let id = |i: i64| match kind {
        0 => i,
        1 => (i * 7919 % 1009 + 1) * step + i,
        2 => i * 37 % 1009 - 500,
        _ => i % 23 - 11,
    };
    (0..n as i64)
        .map(id)
        .map(|id| if id == -1 { 2000 } else { id })
        .collect()
}

/// Rows read of each probed list: the rules of `docs/semantics.md`.
fn caps(limit: Limit, sizes: &[usize], nprobe: usize, k: usize) -> Vec<usize> {
    match limit {
        Limit::Unlimited => sizes.to_vec(),
        Limit::MaxCodes(MaxCodes {
            max_codes,
            rule,
            ensure_topk_full,
        }) => {
            let (mut read, mut open, mut caps) = (0, true, Vec::new());
            for &size in sizes {
                let fits = read + size <= max_codes || ensure_topk_full && read < k;
                let rows = match rule {
                    _ if !open => 0,
                    _ if fits => size,
                    MaxCodesRule::ListBoundary if read == 0 => size,
                    MaxCodesRule::ListBoundary => 0,
                    MaxCodesRule::ExactCodes => max_codes.saturating_sub(read),
                };
                open &= fits || rows == size;
                read += rows;
                caps.push(rows);
            }
            caps
        }
        Limit::Budget(budget) => {
            assert_eq!(budget.strategy, BudgetStrategy::Uniform);
            let each = budget.rows.div_ceil(nprobe).max(budget.min_codes_per_list);
            let most = budget.max_codes_per_list.unwrap_or(usize::MAX);
            sizes.iter().map(|&size| size.min(each).min(most)).collect()
        }
    }
}

/// E6 and more: the answer is that of a flat index of what is left, and right in f64.
pub fn searches_find_what_is_left<B: IvfBackend>(device: &B::Device) {
    seeds(150, 5, is_cube::<B>(device), |seed| {
        let mut world = World::<B>::new(device, seed);
        for _ in 0..3 {
            let params = world.params();
            let k = pick(&mut world.rng, &[1, 3, 10, 40, 300, 100_000]);
            let (left, cut) = world.left(&params, k);
            let found = search_ivf(&world.index, &world.queries, k, &params);
            let what = format!("{} {} k={k} {params:?}", world.metric, world.storage);
            let searched = |q: usize| world.queries.row(q).iter().all(|v| v.is_finite());
            let mut rows = 0;
            for (q, left) in left.iter().enumerate() {
                let mine: Vec<(usize, usize)> = left
                    .iter()
                    .flat_map(|(l, slots)| slots.iter().map(move |&s| (*l, s)))
                    .collect();
                rows += if searched(q) { mine.len() as u64 } else { 0 };
                if mine.is_empty() || !searched(q) {
                    found.assert_padding(q, world.metric);
                    continue;
                }
                let expected = search_flat(&world.flat(&mine), &world.queries.range(q..q + 1), k);
                assert_eq!(
                    bits(found.row(q)),
                    bits(expected.row(0)),
                    "query {q}: {what}"
                );
                if matches!(world.metric, Metric::L2 | Metric::InnerProduct) {
                    let data = mine
                        .iter()
                        .flat_map(|&(l, s)| world.held[l].rows.row(s).to_vec());
                    let base = Rows::new(data.collect(), world.index.d());
                    let ids = mine.iter().map(|&(l, s)| world.held[l].ids[s]).collect();
                    let all: Vec<usize> = (0..mine.len()).collect();
                    Oracle::with_ids(world.metric, &base, ids).check_query(
                        world.queries.row(q),
                        &found,
                        q,
                        &all,
                        &what,
                    );
                }
            }
            assert_eq!(found.stats.rows_scanned, Some(rows), "{what}");
            let limit = if cut {
                params.limit.unwrap()
            } else {
                Limit::Unlimited
            };
            assert_eq!(found.stats.effective_limit, limit, "{what}");
        }
    });
}

/// D4 and more: range search under everything that restricts a search, in list order, in probe order with
/// `max_empty_lists`, and sorted.
pub fn ranges_find_what_is_left<B: IvfBackend>(device: &B::Device) {
    seeds(150, 6, is_cube::<B>(device), |seed| {
        let mut world = World::<B>::new(device, seed);
        let params = SearchParams {
            mode: None,
            ..world.params()
        };
        let (left, _) = world.left(&params, 1);
        let near = search_ivf(&world.index, &world.queries, 9, &SearchParams::exact());
        let hit = pick(&mut world.rng, &near.d);
        let radius = pick(
            &mut world.rng,
            &[hit, hit, hit, 0.0, f32::INFINITY, f32::NEG_INFINITY],
        );
        let bound = pick(
            &mut world.rng,
            &[RangeBound::Inclusive, RangeBound::Exclusive],
        );
        let empty = pick(&mut world.rng, &[None, None, Some(1), Some(2)]);
        for sorted in [false, true] {
            let ranging = RangeParams {
                search: params.clone(),
                bound,
                sorted,
                max_empty_lists: empty,
            };
            let queries = world.queries.on(device);
            let found = world
                .index
                .range_search_with(queries, radius, &ranging)
                .unwrap();
            let (d, i) = found.to_vecs();
            for (q, lims) in found.lims.windows(2).enumerate() {
                let one = world.queries.range(q..q + 1);
                let plain = RangeParams {
                    bound,
                    sorted,
                    ..RangeParams::default()
                };
                let within = |mut rows: Vec<(usize, usize)>| {
                    rows.sort_unstable();
                    let flat = world.flat(&rows);
                    let hits = flat
                        .range_search_with(one.on(device), radius, &plain)
                        .unwrap();
                    let (d, i) = hits.to_vecs();
                    d.into_iter().zip(i).collect::<Vec<(f32, i64)>>()
                };
                let slots = |(l, slots): &(usize, Vec<usize>)| {
                    slots.iter().map(|&s| (*l, s)).collect::<Vec<_>>()
                };
                let expected = match empty {
                    None => within(left[q].iter().flat_map(slots).collect()),
                    Some(most) => {
                        // Lists read until so many in a row had no hit.
                        let (mut read, mut hits, mut without) = (Vec::new(), Vec::new(), 0);
                        for list in left[q].iter() {
                            if without < most {
                                let own = within(slots(list));
                                without = if own.is_empty() { without + 1 } else { 0 };
                                read.extend(slots(list));
                                hits.extend(own);
                            }
                        }
                        if sorted { within(read) } else { hits }
                    }
                };
                let got: Vec<(f32, i64)> = (lims[0]..lims[1]).map(|at| (d[at], i[at])).collect();
                assert_eq!(
                    got, expected,
                    "query {q}: {} {radius} {ranging:?}",
                    world.metric
                );
            }
        }
    });
}
