//! Eight threads search while the owner clones, adds, removes, saves, loads and trains.
//!
//! Every answer must be, bit for bit, the one known for the snapshot that was searched, and memory may
//! not grow.
//!
//! ```sh
//! BURN_IVF_SOAK_SECONDS=3600 cargo test --features ndarray --test soak -- --nocapture   # 20 without it
//! ```
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking and prints how far it came"
)]

use burn::{
    backend::NdArray,
    tensor::{Tensor, TensorData},
};
use burn_ivf::{
    Budget, IdSelector, IndexFlat, IndexIvfFlat, Metric, Missing, RangeParams, SearchMode,
    SearchParams, Subset,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    path::Path,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

type B = NdArray;

const D: usize = 24;
const NLIST: usize = 32;
/// Vectors held at most; beyond them the oldest go.
const MOST: usize = 4000;
const THREADS: u64 = 8;

fn vectors(n: usize, rng: &mut ChaCha8Rng) -> Tensor<B, 2> {
    // A coarse grid, so that many distances tie and ids decide.
    let values: Vec<f32> = (0..n * D)
        .map(|_| rng.random_range(-8..8) as f32 / 4.0)
        .collect();
    Tensor::from_data(TensorData::new(values, [n, D]), &Default::default())
}

/// What is asked of a snapshot.
enum Question {
    Search(usize, SearchParams),
    Range(f32, RangeParams),
    Flat(usize, SearchParams),
    Reconstruct(usize),
    Mapped(usize),
}

fn questions() -> Vec<(usize, Question)> {
    use Question::{Flat, Mapped, Range, Reconstruct, Search};
    let exact = SearchParams::exact;
    let half = IdSelector::range(0..i64::MAX / 2) & !IdSelector::batch([1, 2, 3, 500, 501]);
    let labels = vec![IdSelector::range(0..1500), IdSelector::range(1000..90_000)];
    vec![
        (1, Search(1, exact())),
        (1, Search(10, exact().with_nprobe(NLIST))),
        (
            1,
            Search(100, exact().with_nprobe(4).with_mode(SearchMode::Matrix)),
        ),
        (
            16,
            Search(10, exact().with_nprobe(8).with_mode(SearchMode::Csr)),
        ),
        (
            16,
            Search(7, exact().with_nprobe(8).with_mode(SearchMode::Matrix)),
        ),
        (
            64,
            Search(20, exact().with_nprobe(NLIST).with_workspace_limit(1 << 17)),
        ),
        (
            9,
            Search(5, exact().with_nprobe(16).with_selector(half.clone())),
        ),
        (
            4,
            Search(5, exact().with_query_selectors(labels, vec![0, 1, 1, 0])),
        ),
        (8, Search(10, exact().with_nprobe(16).with_max_codes(300))),
        (
            8,
            Search(
                10,
                exact()
                    .with_nprobe(16)
                    .with_budget(Budget::distance_weighted(200)),
            ),
        ),
        (
            8,
            Search(3, exact().with_nprobe(NLIST).with_safe_pruning(true)),
        ),
        (8, Range(9.0, RangeParams::default().sorted())),
        (32, Flat(10, SearchParams::default())),
        (3, Flat(50, SearchParams::default().with_selector(!half))),
        (2, Reconstruct(6)),
        (8, Mapped(10)),
    ]
}

/// Bits of floats, and ids.
type Answer = (Vec<u32>, Vec<i64>);

fn bits((floats, ids): (Vec<f32>, Vec<i64>)) -> Answer {
    (floats.iter().map(|v| v.to_bits()).collect(), ids)
}

/// Both kinds of index over the same vectors, and their file.
struct Pair {
    ivf: IndexIvfFlat<B>,
    flat: IndexFlat<B>,
}

impl Pair {
    fn ask(&self, question: &Question, queries: Tensor<B, 2>, file: &Path) -> Answer {
        match question {
            Question::Search(k, params) => {
                bits(self.ivf.search_with(queries, *k, params).unwrap().to_vecs())
            }
            Question::Range(radius, params) => {
                let found = self
                    .ivf
                    .range_search_with(queries, *radius, params)
                    .unwrap();
                bits(found.to_vecs())
            }
            Question::Flat(k, params) => bits(
                self.flat
                    .search_with(queries, *k, params)
                    .unwrap()
                    .to_vecs(),
            ),
            Question::Reconstruct(k) => {
                let params = SearchParams::default();
                let (hits, x) = self
                    .ivf
                    .search_and_reconstruct(queries, *k, &params)
                    .unwrap();
                let (mut floats, ids) = hits.to_vecs();
                floats.extend(x.into_data().iter::<f32>());
                bits((floats, ids))
            }
            Question::Mapped(k) => {
                let mapped = IndexIvfFlat::<B>::load_mmap(file, &Default::default()).unwrap();
                bits(mapped.search(queries, *k).unwrap().to_vecs())
            }
        }
    }
}

/// What searchers are given: it never changes.
struct Snapshot {
    pair: Pair,
    answers: Vec<Answer>,
    file: tempfile::TempPath,
}

struct Soak {
    questions: Vec<(usize, Question)>,
    queries: Tensor<B, 2>,
    now: RwLock<Arc<Snapshot>>,
    over: AtomicBool,
    asked: AtomicU64,
    /// The first difference found.
    wrong: Mutex<Option<String>>,
}

impl Soak {
    fn queries(&self, n: usize) -> Tensor<B, 2> {
        self.queries.clone().slice([0..n, 0..D])
    }

    /// The pair with its answers and its file, from which a loaded pair gives the same.
    fn snapshot(&self, pair: Pair) -> Snapshot {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        pair.ivf.save(&file).unwrap();
        let ask = |(n, question): &(usize, Question)| pair.ask(question, self.queries(*n), &file);
        let answers = self.questions.iter().map(ask).collect();
        Snapshot {
            pair,
            answers,
            file,
        }
    }

    fn check(&self, pair: &Pair, snapshot: &Snapshot, at: usize, who: &str) {
        let (n, question) = &self.questions[at];
        let found = pair.ask(question, self.queries(*n), &snapshot.file);
        if found != snapshot.answers[at] {
            let words = format!("{who}: question {at} has another answer");
            self.wrong.lock().unwrap().get_or_insert(words);
            self.over.store(true, Relaxed);
        }
    }

    fn search(&self, thread: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(100 + thread);
        while !self.over.load(Relaxed) {
            let snapshot = self.now.read().unwrap().clone();
            // Some hold on to old snapshots.
            for _ in 0..rng.random_range(1..60) {
                let at = rng.random_range(0..self.questions.len());
                self.check(&snapshot.pair, &snapshot, at, &format!("thread {thread}"));
                self.asked.fetch_add(1, Relaxed);
                if self.over.load(Relaxed) {
                    return;
                }
            }
        }
    }

    /// One change by the owner: the next pair, made from a clone of what others are searching.
    fn change(&self, rng: &mut ChaCha8Rng, folder: &Path) {
        let old = self.now.read().unwrap().clone();
        let mut ivf = old.pair.ivf.clone();
        let mut flat = old.pair.flat.clone();
        let n = rng.random_range(1..400);
        let x = vectors(n, rng);
        match rng.random_range(0..8) {
            0 => {
                let ids: Vec<i64> = (0..n).map(|_| rng.random_range(0..60_000)).collect();
                ivf.add_with_ids(x.clone(), &ids).unwrap();
                flat.add_with_ids(x, &ids).unwrap();
            }
            1 => {
                let first = rng.random_range(0..60_000);
                let ids: Vec<i64> = (first..).take(n).collect();
                ivf.update_vectors(&ids, x.clone(), Missing::Insert)
                    .unwrap();
                flat.update_vectors(&ids, x, Missing::Insert).unwrap();
            }
            2 => {
                let gone = IdSelector::batch((0..n).map(|_| rng.random_range(0..60_000)));
                let went = ivf.remove_ids(&gone).unwrap();
                assert_eq!(flat.remove_ids(&gone).unwrap(), went);
            }
            3 => {
                let odd = Subset::IdModulo {
                    modulus: 2,
                    remainder: 1,
                };
                let mut part = ivf.copy_subset(&odd).unwrap();
                ivf.merge_from(&mut part, 0).unwrap();
                flat.merge_from(&mut flat.copy_subset(&odd).unwrap(), 0)
                    .unwrap();
            }
            4 => {
                // Everything again, in lists of other centroids.
                let all = flat
                    .search(x.clone().slice([0..1, 0..D]), flat.ntotal())
                    .unwrap();
                let (_, ids) = all.to_vecs();
                let rows = flat.reconstruct_batch(&ids).unwrap();
                ivf.reset();
                ivf.train(rows.clone()).unwrap();
                ivf.add_with_ids(rows.clone(), &ids).unwrap();
                flat.reset();
                flat.add_with_ids(rows, &ids).unwrap();
            }
            _ => {
                ivf.reserve(n).unwrap();
                ivf.add(x.clone()).unwrap();
                flat.add(x).unwrap();
            }
        }
        if ivf.ntotal() > MOST {
            let keep = Subset::Fraction { of: 2, part: 1 };
            ivf = ivf.copy_subset(&keep).unwrap();
            let ids: Vec<i64> = (0..NLIST).flat_map(|l| ivf.list_ids(l).unwrap()).collect();
            let rows: Vec<_> = (0..NLIST).map(|l| ivf.list_vectors(l).unwrap()).collect();
            flat.reset();
            flat.add_with_ids(Tensor::cat(rows, 0), &ids).unwrap();
            ivf.shrink_to_fit().unwrap();
        }
        let new = self.snapshot(Pair { ivf, flat });
        // What comes back from the disk, while the file is replaced again and again, is the same.
        let path = folder.join("an.index");
        new.pair.flat.save(&path).unwrap();
        let loaded = Pair {
            ivf: IndexIvfFlat::load(&new.file, &Default::default()).unwrap(),
            flat: IndexFlat::load(&path, &Default::default()).unwrap(),
        };
        for at in 0..self.questions.len() {
            self.check(&loaded, &new, at, "the loaded copy");
        }
        for _ in 0..4 {
            let at = rng.random_range(0..self.questions.len());
            self.check(&old.pair, &old, at, "the snapshot before");
        }
        let pair = if rng.random() { loaded } else { new.pair };
        *self.now.write().unwrap() = Arc::new(Snapshot { pair, ..new });
    }
}

/// Bytes of memory in use by this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    4096 * pages.unwrap_or(0)
}

#[test]
fn searches_while_the_owner_works() {
    let seconds = std::env::var("BURN_IVF_SOAK_SECONDS").map_or(20, |text| text.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let x = vectors(2000, &mut rng);
    let builder = IndexIvfFlat::<B>::builder(D).nlist(NLIST).nprobe(6);
    let mut ivf = builder.build(&Default::default()).unwrap();
    ivf.train(x.clone()).unwrap();
    ivf.add(x.clone()).unwrap();
    let mut flat = IndexFlat::<B>::new(D, Metric::L2, &Default::default()).unwrap();
    flat.add(x).unwrap();
    let first = Snapshot {
        pair: Pair {
            ivf: ivf.clone(),
            flat: flat.clone(),
        },
        answers: Vec::new(),
        file: tempfile::NamedTempFile::new().unwrap().into_temp_path(),
    };
    let soak = Soak {
        questions: questions(),
        queries: vectors(64, &mut rng),
        now: RwLock::new(Arc::new(first)),
        over: AtomicBool::new(false),
        asked: AtomicU64::new(0),
        wrong: Mutex::new(None),
    };
    *soak.now.write().unwrap() = Arc::new(soak.snapshot(Pair { ivf, flat }));
    let (start, length) = (Instant::now(), Duration::from_secs(seconds));
    // The most memory in the first half (after a sixth to settle) and in the second.
    let (mut halves, mut changes, mut told) = ([0_u64; 2], 0_u64, 0);
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let soak = &soak;
                    move || soak.search(thread)
                })
            })
            .collect();
        let owner = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while start.elapsed() < length && !soak.over.load(Relaxed) {
                soak.change(&mut rng, folder.path());
                changes += 1;
                let passed = start.elapsed();
                let half = usize::from(passed > length / 2);
                if passed > length / 6 {
                    halves[half] = halves[half].max(resident());
                }
                if passed.as_secs() / 60 > told {
                    told = passed.as_secs() / 60;
                    let asked = soak.asked.load(Relaxed);
                    let (rss, ids) = (resident() >> 20, soak.now.read().unwrap().pair.ivf.ntotal());
                    eprintln!(
                        "soak: {told} min, {asked} searches, {changes} changes, {ids} vectors, {rss} MiB"
                    );
                }
            }
        }));
        soak.over.store(true, Relaxed);
        for searcher in searchers {
            searcher.join().unwrap();
        }
        owner.unwrap();
    });
    let asked = soak.asked.load(Relaxed);
    eprintln!(
        "soak: {asked} searches by {THREADS} threads, {changes} changes in {:.0} s; most memory {} MiB, then {} MiB",
        start.elapsed().as_secs_f64(),
        halves[0] >> 20,
        halves[1] >> 20,
    );
    assert_eq!(*soak.wrong.lock().unwrap(), None);
    // However busy the machine is.
    assert!(
        asked > 50 && changes > 0,
        "{asked} searches, {changes} changes"
    );
    let room = halves[0] + halves[0] / 4 + (32 << 20);
    assert!(
        halves[0] == 0 || halves[1] <= room,
        "memory grew: {halves:?}"
    );
}
