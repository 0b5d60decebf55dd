//! Random steps on both indexes against plain lists (F8).
//!
//! Components are small integers, so every distance is exact and the model needs no tolerance: the
//! order of every list, the vectors, the answers of full probes must be those of the model. A failure
//! prints seed and step; `BURN_IVF_MUTATION_SEED` and `BURN_IVF_MUTATION_STEPS` repeat or lengthen it.

use super::support::*;
use burn::tensor::{Device, Tensor};
use burn_ivf::{
    Error, IdSelector, IndexFlat, IndexIvfFlat, IvfBackend, Metric, Missing, SearchMode,
    SearchParams, Subset,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

const D: usize = 3;
type Vector = [i32; D];

/// What both indexes are asked.
trait Subject<B: IvfBackend>: Clone {
    fn empty(centroids: &[Vector], device: &Device<B>) -> Self;
    fn add(&mut self, x: Tensor<B, 2>);
    fn add_with_ids(&mut self, x: Tensor<B, 2>, ids: &[i64]);
    fn remove(&mut self, ids: &IdSelector) -> usize;
    fn update(&mut self, ids: &[i64], x: Tensor<B, 2>, missing: Missing) -> Result<usize, Error>;
    fn merge(&mut self, other: &mut Self, add_id: i64) -> Result<(), Error>;
    fn subset(&self, subset: &Subset) -> Self;
    fn reconstruct(&self, ids: &[i64]) -> Result<Tensor<B, 2>, Error>;
    fn reconstruct_n(&self, first: i64, n: usize) -> Result<Tensor<B, 2>, Error>;
    fn find(&self, x: Tensor<B, 2>, k: usize) -> (Answer, Vec<f32>);
    fn lists(&self) -> Option<Vec<Vec<i64>>>;
    fn reset(&mut self);
    fn reserve(&mut self, n: usize);
    fn shrink(&mut self);
    fn ntotal(&self) -> usize;
}

macro_rules! subject {
    ($index:ident, $new:expr, $find:expr, $lists:expr) => {
        impl<B: IvfBackend> Subject<B> for $index<B> {
            fn empty(centroids: &[Vector], device: &Device<B>) -> Self {
                let new: fn(Rows, &Device<B>) -> Self = $new;
                new(rows(centroids), device)
            }
            fn add(&mut self, x: Tensor<B, 2>) {
                self.add(x).unwrap();
            }
            fn add_with_ids(&mut self, x: Tensor<B, 2>, ids: &[i64]) {
                self.add_with_ids(x, ids).unwrap();
            }
            fn remove(&mut self, ids: &IdSelector) -> usize {
                self.remove_ids(ids).unwrap()
            }
            fn update(
                &mut self,
                ids: &[i64],
                x: Tensor<B, 2>,
                missing: Missing,
            ) -> Result<usize, Error> {
                self.update_vectors(ids, x, missing)
            }
            fn merge(&mut self, other: &mut Self, add_id: i64) -> Result<(), Error> {
                self.merge_from(other, add_id)
            }
            fn subset(&self, subset: &Subset) -> Self {
                self.copy_subset(subset).unwrap()
            }
            fn reconstruct(&self, ids: &[i64]) -> Result<Tensor<B, 2>, Error> {
                self.reconstruct_batch(ids)
            }
            fn reconstruct_n(&self, first: i64, n: usize) -> Result<Tensor<B, 2>, Error> {
                self.reconstruct_n(first, n)
            }
            fn find(&self, x: Tensor<B, 2>, k: usize) -> (Answer, Vec<f32>) {
                let find: fn(&Self, Tensor<B, 2>, usize) -> (Answer, Vec<f32>) = $find;
                find(self, x, k)
            }
            fn lists(&self) -> Option<Vec<Vec<i64>>> {
                let lists: fn(&Self) -> Option<Vec<Vec<i64>>> = $lists;
                lists(self)
            }
            fn reset(&mut self) {
                self.reset();
            }
            fn reserve(&mut self, n: usize) {
                self.reserve(n).unwrap();
            }
            fn shrink(&mut self) {
                self.shrink_to_fit().unwrap();
            }
            fn ntotal(&self) -> usize {
                self.ntotal()
            }
        }
    };
}

subject!(
    IndexFlat,
    |_, device| IndexFlat::new(D, Metric::L2, device).unwrap(),
    |index, x, k| {
        let (hits, vectors) = index
            .search_and_reconstruct(x, k, &SearchParams::default())
            .unwrap();
        (Answer::read(&hits), floats(vectors))
    },
    |_| None
);
subject!(
    IndexIvfFlat,
    |centroids, device| IndexIvfFlat::from_centroids(centroids.on(device), Metric::L2).unwrap(),
    |index, x, k| {
        let params = probing(index.nlist().unwrap(), SearchMode::Auto);
        let (hits, vectors) = index.search_and_reconstruct(x, k, &params).unwrap();
        (Answer::read(&hits), floats(vectors))
    },
    |index| Some(
        (0..index.nlist().unwrap())
            .map(|l| index.list_ids(l).unwrap())
            .collect()
    )
);

fn rows(vectors: &[Vector]) -> Rows {
    Rows::new(vectors.iter().flatten().map(|&v| v as f32).collect(), D)
}

fn distance(a: &Vector, b: &Vector) -> i32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Lists of (id, vector), as an index should hold them.
#[derive(Clone)]
struct Model {
    centroids: Vec<Vector>,
    lists: Vec<Vec<(i64, Vector)>>,
    next_id: i64,
}

impl Model {
    fn new(centroids: Vec<Vector>) -> Self {
        let lists = vec![vec![]; centroids.len()];
        Self {
            centroids,
            lists,
            next_id: 0,
        }
    }

    fn all(&self) -> impl Iterator<Item = &(i64, Vector)> {
        self.lists.iter().flatten()
    }

    fn len(&self) -> usize {
        self.all().count()
    }

    fn add(&mut self, ids: &[i64], x: &[Vector]) {
        for (&id, x) in ids.iter().zip(x) {
            let list = (0..self.centroids.len())
                .min_by_key(|&l| (distance(x, &self.centroids[l]), l))
                .unwrap();
            self.lists[list].push((id, *x));
            self.next_id = self.next_id.max(id + 1);
        }
    }

    /// Keeps what a rule on (list, slot, id) keeps; how many went.
    fn retain(&mut self, keep: impl Fn(usize, usize, i64) -> bool) -> usize {
        let before = self.len();
        for (l, list) in self.lists.iter_mut().enumerate() {
            let mut slot = 0;
            list.retain(|&(id, _)| {
                slot += 1;
                keep(l, slot - 1, id)
            });
        }
        before - self.len()
    }

    fn update(&mut self, ids: &[i64], x: &[Vector]) -> usize {
        let held = self.len();
        self.retain(|_, _, id| !ids.contains(&id));
        let went = held - self.len();
        for (at, (&id, x)) in ids.iter().zip(x).enumerate() {
            if !ids[at + 1..].contains(&id) {
                self.add(&[id], &[*x]);
            }
        }
        went
    }

    fn first(&self, id: i64) -> Option<Vector> {
        self.all().find(|row| row.0 == id).map(|row| row.1)
    }

    fn part(&mut self, subset: &Subset) {
        let sizes: Vec<usize> = self.lists.iter().map(Vec::len).collect();
        let total = self.len();
        let before: Vec<usize> = sizes
            .iter()
            .scan(0, |sum, n| {
                *sum += n;
                Some(*sum - n)
            })
            .collect();
        self.retain(|l, slot, id| match subset {
            Subset::Ids(range) => range.contains(&id),
            Subset::IdModulo { modulus, remainder } => id.rem_euclid(*modulus) == *remainder,
            Subset::Elements(range) => {
                let share = |m: usize, of: usize| m * of / total;
                let (b, a) = (before[l], before[l] + sizes[l]);
                let from = share(a, range.start) - share(b, range.start);
                let to = share(a, range.end) - share(b, range.end);
                (from..to).contains(&slot)
            }
            Subset::Fraction { of, part } => {
                (sizes[l] * part / of..sizes[l] * (part + 1) / of).contains(&slot)
            }
            Subset::Lists(range) => range.contains(&l),
            other => panic!("{other:?}"),
        });
    }
}

/// One index beside its model, and older ones that must stay as they were.
struct Run<'a, B: IvfBackend, S: Subject<B>> {
    device: &'a Device<B>,
    rng: ChaCha8Rng,
    index: S,
    model: Model,
    old: Vec<(S, Model)>,
}

impl<B: IvfBackend, S: Subject<B>> Run<'_, B, S> {
    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn vectors(&mut self, n: usize) -> Vec<Vector> {
        (0..n)
            .map(|_| [(); D].map(|()| self.rng.random_range(-9..10)))
            .collect()
    }

    /// Ids that come again, some negative.
    fn ids(&mut self, n: usize) -> Vec<i64> {
        let id = |rng: &mut ChaCha8Rng| match rng.random_range(-30..300) {
            -1 => -2,
            id => id,
        };
        (0..n).map(|_| id(&mut self.rng)).collect()
    }

    fn on(&self, x: &[Vector]) -> Tensor<B, 2> {
        rows(x).on(self.device)
    }

    fn selector(&mut self, depth: usize) -> IdSelector {
        let from = self.rng.random_range(-40..self.model.next_id + 10);
        let kind = self.below(if depth == 0 { 40 } else { 3 });
        match kind {
            0 | 4..13 => {
                let n = self.below(12);
                IdSelector::batch(self.ids(n))
            }
            1 => IdSelector::range(from..from + self.below(20) as i64),
            2 => {
                let bytes: Vec<u8> = (0..self.below(20))
                    .map(|_| self.rng.random::<u8>() & 17)
                    .collect();
                IdSelector::bitmap(bytes)
            }
            3 => IdSelector::All,
            13..20 => !(self.selector(1) | !self.selector(1)),
            20..27 => self.selector(1) & self.selector(1),
            27..34 => self.selector(1) | self.selector(1),
            _ => self.selector(1) ^ self.selector(1),
        }
    }

    fn add(&mut self) {
        let n = self.below(9);
        let x = self.vectors(n);
        let (ids, explicit) = if self.below(2) == 0 {
            (self.ids(n), true)
        } else {
            (vec![], false)
        };
        let tensor = self.on(&x);
        if explicit {
            self.index.add_with_ids(tensor, &ids);
            self.model.add(&ids, &x);
        } else {
            let ids: Vec<i64> = (self.model.next_id..).take(n).collect();
            self.index.add(tensor);
            self.model.add(&ids, &x);
        }
    }

    fn remove(&mut self) {
        let selector = self.selector(0);
        let expected = self.model.retain(|_, _, id| !selector.contains(id));
        assert_eq!(self.index.remove(&selector), expected, "{selector:?}");
    }

    fn update(&mut self) {
        let n = self.below(6);
        let (ids, x) = (self.ids(n), self.vectors(n));
        let tensor = self.on(&x);
        if self.below(2) == 0 {
            let went = self.index.update(&ids, tensor, Missing::Insert).unwrap();
            assert_eq!(went, self.model.update(&ids, &x));
            return;
        }
        match ids.iter().find(|&&id| self.model.first(id).is_none()) {
            Some(&id) => {
                let error = refused(self.index.update(&ids, tensor, Missing::Error));
                assert_eq!(error, Error::MissingId { id });
            }
            None => {
                let went = self.index.update(&ids, tensor, Missing::Error).unwrap();
                assert_eq!(went, self.model.update(&ids, &x));
            }
        }
    }

    fn merge(&mut self) {
        let n = self.below(20);
        let (ids, x) = (self.ids(n), self.vectors(n));
        let add_id = [0, 50, self.model.next_id][self.below(3)];
        let mut other = S::empty(&self.model.centroids, self.device);
        other.add_with_ids(self.on(&x), &ids);
        let mut part = Model::new(self.model.centroids.clone());
        part.add(&ids, &x);
        let kept = other.clone();
        let merged = self.index.merge(&mut other, add_id);
        if part.all().any(|row| row.0 + add_id == -1) {
            assert!(matches!(refused(merged), Error::PaddingId { .. }));
            assert_eq!(other.ntotal(), n);
            return;
        }
        merged.unwrap();
        assert_eq!((other.ntotal(), kept.ntotal()), (0, n));
        for (list, more) in self.model.lists.iter_mut().zip(&part.lists) {
            list.extend(more.iter().map(|&(id, x)| (id + add_id, x)));
        }
        let most = part.all().map(|row| row.0 + add_id + 1).max();
        self.model.next_id = self.model.next_id.max(most.unwrap_or(0));
        check(&kept, &part, self.device, &mut self.rng);
    }

    fn subset(&mut self) {
        let total = self.model.len();
        let (a, b) = (self.below(total + 1), self.below(total + 1));
        let lists = if self.index.lists().is_some() {
            self.model.lists.len()
        } else {
            1
        };
        let subset = match self.below(5) {
            0 => Subset::Ids(self.below(50) as i64 - 30..self.below(400) as i64),
            1 => {
                let modulus = self.rng.random_range(1..4);
                Subset::IdModulo {
                    modulus,
                    remainder: self.rng.random_range(0..modulus),
                }
            }
            2 => Subset::Elements(a.min(b)..a.max(b)),
            3 => {
                let of = self.rng.random_range(1..4);
                Subset::Fraction {
                    of,
                    part: self.below(of),
                }
            }
            _ => Subset::Lists(self.below(lists)..lists),
        };
        let copy = self.index.subset(&subset);
        let mut part = self.model.clone();
        part.part(&subset);
        check(&copy, &part, self.device, &mut self.rng);
        // now and then the part goes on instead of the whole
        if self.below(3) == 0 {
            (self.index, self.model) = (copy, part);
        }
    }

    fn reconstruct(&mut self) {
        let n = self.below(8);
        let ids: Vec<i64> = if self.below(2) == 0 {
            let held: Vec<i64> = self.model.all().map(|row| row.0).collect();
            (0..if held.is_empty() { 0 } else { n })
                .map(|_| held[self.below(held.len())])
                .collect()
        } else {
            self.ids(n)
        };
        let same = |found: Result<Tensor<B, 2>, Error>, ids: &[i64]| match ids
            .iter()
            .find(|&&id| self.model.first(id).is_none())
        {
            Some(&id) => assert_eq!(refused(found), Error::MissingId { id }),
            None => {
                let x: Vec<Vector> = ids
                    .iter()
                    .map(|&id| self.model.first(id).unwrap())
                    .collect();
                assert_eq!(floats(found.unwrap()), rows(&x).data);
            }
        };
        same(self.index.reconstruct(&ids), &ids);
        let range: Vec<i64> = (ids.first().copied().unwrap_or(0)..).take(2).collect();
        same(self.index.reconstruct_n(range[0], 2), &range);
    }

    fn snapshot(&mut self) {
        if self.old.len() == 3 {
            let which = self.below(3);
            let (index, model) = self.old.swap_remove(which);
            check(&index, &model, self.device, &mut self.rng);
            if self.below(2) == 0 {
                // the old one goes on; what was the present is a snapshot now
                let present = std::mem::replace(&mut self.index, index);
                let model = std::mem::replace(&mut self.model, model);
                self.old.push((present, model));
                return;
            }
        }
        self.old.push((self.index.clone(), self.model.clone()));
    }

    fn step(&mut self) {
        match self.below(100) {
            0..34 => self.add(),
            34..52 => self.remove(),
            52..66 => self.update(),
            66..72 => self.merge(),
            72..77 => self.subset(),
            77..86 => self.reconstruct(),
            86..91 => self.snapshot(),
            91 => self.index.shrink(),
            92 => {
                let n = self.below(60);
                self.index.reserve(n);
            }
            93 if self.below(5) == 0 => {
                self.index.reset();
                let centroids = self.model.centroids.clone();
                self.model = Model::new(centroids);
            }
            _ => check(&self.index, &self.model, self.device, &mut self.rng),
        }
        if self.model.len() > 250 {
            self.model.retain(|_, _, id| id % 3 != 0);
            self.index.remove(
                &(0..100_000)
                    .filter(|id| id % 3 == 0)
                    .chain((-99..0).filter(|id| id % 3 == 0))
                    .collect(),
            );
        }
        assert_eq!(self.index.ntotal(), self.model.len());
        search(&self.index, &self.model, self.device, &mut self.rng);
    }
}

/// Answers of a full probe, and the vectors that come with them.
fn search<B: IvfBackend, S: Subject<B>>(
    index: &S,
    model: &Model,
    device: &Device<B>,
    rng: &mut ChaCha8Rng,
) {
    let k = rng.random_range(1..8);
    let query = [(); D].map(|()| rng.random_range(-9..10));
    let (found, vectors) = index.find(rows(&[query]).on(device), k);
    let mut expected: Vec<(i32, i64, Vector)> = model
        .all()
        .map(|&(id, x)| (distance(&query, &x), id, x))
        .collect();
    expected.sort_unstable();
    for at in 0..k {
        let vector = &vectors[D * at..D * (at + 1)];
        let Some(&(d, id, _)) = expected.get(at) else {
            assert_eq!((found.i[at], found.d[at]), (-1, f32::INFINITY));
            assert!(vector.iter().all(|v| v.is_nan()));
            continue;
        };
        assert_eq!((found.d[at], found.i[at]), (d as f32, id), "rank {at}");
        // rows of one id at one distance may come in any order
        let of = |&(other_d, other, x): &(i32, i64, Vector)| {
            (other_d, other) == (d, id) && rows(&[x]).data == vector
        };
        assert!(expected.iter().any(of), "rank {at}: {vector:?}");
    }
}

/// Order and vectors of every list, then an answer.
fn check<B: IvfBackend, S: Subject<B>>(
    index: &S,
    model: &Model,
    device: &Device<B>,
    rng: &mut ChaCha8Rng,
) {
    assert_eq!(index.ntotal(), model.len());
    if let Some(lists) = index.lists() {
        for (l, (found, list)) in lists.iter().zip(&model.lists).enumerate() {
            let ids: Vec<i64> = list.iter().map(|row| row.0).collect();
            assert_eq!(*found, ids, "list {l}");
        }
    }
    let mut ids: Vec<i64> = model.all().map(|row| row.0).collect();
    ids.dedup();
    let x: Vec<Vector> = ids.iter().map(|&id| model.first(id).unwrap()).collect();
    assert_eq!(floats(index.reconstruct(&ids).unwrap()), rows(&x).data);
    search(index, model, device, rng);
}

/// Says how to repeat a failure.
struct Repeat {
    seed: u64,
    step: usize,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::open::say(&format!(
                "step {} of BURN_IVF_MUTATION_SEED={} (BURN_IVF_MUTATION_STEPS={})",
                self.step,
                self.seed,
                self.step + 1
            ));
        }
    }
}

fn run<B: IvfBackend, S: Subject<B>>(device: &Device<B>, nlist: usize) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("BURN_IVF_MUTATION_SEED").unwrap_or(0x6d75_7461);
    let steps = sized::<B>(device, 10_000, 60);
    let steps = number("BURN_IVF_MUTATION_STEPS").map_or(steps, |n| n as usize);
    let mut rng = rng(seed);
    let centroids: Vec<Vector> = (0..nlist)
        .map(|_| [(); D].map(|()| rng.random_range(-9..10)))
        .collect();
    let mut run = Run::<B, S> {
        device,
        rng,
        index: S::empty(&centroids, device),
        model: Model::new(centroids),
        old: Vec::new(),
    };
    let mut repeat = Repeat { seed, step: 0 };
    for step in 0..steps {
        repeat.step = step;
        run.step();
    }
    for (index, model) in &run.old {
        check(index, model, device, &mut run.rng);
    }
    check(&run.index, &run.model, device, &mut run.rng);
}

/// F8 on an inverted file.
pub fn f8_random_steps_ivf<B: IvfBackend>(device: &B::Device) {
    run::<B, IndexIvfFlat<B>>(device, 5);
}

/// F8 on a flat index.
pub fn f8_random_steps_flat<B: IvfBackend>(device: &B::Device) {
    run::<B, IndexFlat<B>>(device, 1);
}
