//! H9: indexes travel between this crate and the real faiss, both ways, with the same answers.
//!
//! Needs a Python with numpy and faiss-cpu, named by `BURN_IVF_PYTHON` (else `python3`); without it
//! the tests say so and pass. `BURN_IVF_REQUIRE_FAISS=1` makes them fail instead.
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

use burn::backend::NdArray;
use burn_ivf::{DirectMap, FaissOptions, IndexFlat, IndexIvfFlat, Metric, SearchParams};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};
use suite::support::{Answer, Rows, clustered};

type B = NdArray;

/// `benches/peers/faiss_files.py`, running.
struct Faiss {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Faiss {
    fn start() -> Option<Self> {
        let python = std::env::var("BURN_IVF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/faiss_files.py");
        let child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let started = child.ok().and_then(|mut child| {
            let requests = child.stdin.take().unwrap();
            let answers = BufReader::new(child.stdout.take().unwrap());
            let mut faiss = Self {
                child,
                requests,
                answers,
            };
            faiss.ask(&json!({"do": "hello"})).ok().map(|_| faiss)
        });
        if started.is_none() {
            let wanted = std::env::var("BURN_IVF_REQUIRE_FAISS").is_ok_and(|v| v == "1");
            assert!(!wanted, "{python} has no faiss");
            eprintln!("skipped: {python} has no faiss; pip install numpy faiss-cpu");
        }
        started
    }

    fn ask(&mut self, job: &Value) -> Result<Value, String> {
        let failed = |error: std::io::Error| error.to_string();
        writeln!(self.requests, "{job}").map_err(failed)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        let answer: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer),
        }
    }

    fn must(&mut self, job: &Value) {
        self.ask(job)
            .unwrap_or_else(|error| panic!("{job}: {error}"));
    }

    /// Ids and distances of the index at `path`, by faiss.
    fn search(
        &mut self,
        path: &Path,
        set: &Set,
        k: usize,
        nprobe: Option<usize>,
    ) -> (Vec<i64>, Vec<f32>) {
        self.must(&json!({"do": "read", "path": path}));
        let out = set.folder.join("found");
        let mut job = json!({"do": "search", "queries": set.queries_file, "k": k, "out": out});
        if let Some(nprobe) = nprobe {
            job["nprobe"] = nprobe.into();
        }
        self.must(&job);
        (
            npy(&set.folder.join("found_ids.npy")),
            npy(&set.folder.join("found_dist.npy")),
        )
    }
}

impl Drop for Faiss {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn npy<T: npyz::Deserialize>(path: &Path) -> Vec<T> {
    npyz::NpyFile::new(BufReader::new(File::open(path).unwrap()))
        .unwrap()
        .into_vec()
        .unwrap()
}

fn write_npy(path: &Path, rows: &Rows) {
    use npyz::WriterBuilder;
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&[rows.n() as u64, rows.d as u64])
        .writer(std::io::BufWriter::new(File::create(path).unwrap()))
        .begin_nd()
        .unwrap();
    writer.extend(rows.data.iter().copied()).unwrap();
    writer.finish().unwrap();
}

/// Vectors, here and as files for faiss.
struct Set {
    folder: PathBuf,
    base_file: PathBuf,
    queries_file: PathBuf,
    base: Rows,
    queries: Rows,
    metric: Metric,
}

impl Set {
    fn new(folder: &Path, base: Rows, queries: Rows, metric: Metric) -> Self {
        let (base_file, queries_file) = (folder.join("base.npy"), folder.join("queries.npy"));
        write_npy(&base_file, &base);
        write_npy(&queries_file, &queries);
        Self {
            folder: folder.to_owned(),
            base_file,
            queries_file,
            base,
            queries,
            metric,
        }
    }

    /// Real vectors, the first `n` of the base.
    fn shared(folder: &Path, name: &str, metric: Metric, n: usize) -> Option<Self> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../shared/data")
            .join(name);
        if !data.is_dir() {
            eprintln!("skipped: {} is not there", data.display());
            return None;
        }
        let read = |name: &str| {
            let mut file = burn_ivf::io::VectorFile::open(data.join(name)).unwrap();
            let rows = n.min(file.len());
            Rows::new(file.read_block(0, rows).unwrap(), file.d())
        };
        Some(Self::new(
            folder,
            read("base.npy"),
            read("queries.npy"),
            metric,
        ))
    }

    fn metric_name(&self) -> &'static str {
        if self.metric == Metric::L2 {
            "l2"
        } else {
            "ip"
        }
    }
}

/// Fails unless ids are equal but where distances tie within 1e-5.
#[track_caller]
fn assert_same_ids(ours: &Answer, theirs: &(Vec<i64>, Vec<f32>), what: &str) {
    assert_eq!(ours.i.len(), theirs.0.len(), "{what}");
    let mut differ = 0;
    for at in 0..ours.i.len() {
        let (a, b) = (ours.d[at], theirs.1[at]);
        let close = (a - b).abs() <= 1e-5 * a.abs().max(b.abs()).max(1e-6) || ours.i[at] == -1;
        let (query, rank) = (at / ours.k, at % ours.k);
        assert!(
            close,
            "{what}: query {query}, rank {rank}: {a} #{} here, {b} #{} by faiss",
            ours.i[at], theirs.0[at]
        );
        differ += usize::from(ours.i[at] != theirs.0[at]);
    }
    eprintln!(
        "{what}: {differ} of {} ids differ, all of them ties",
        ours.i.len()
    );
}

/// faiss's file is read, searched, and written again byte for byte; ours is read by faiss.
fn both_ways(faiss: &mut Faiss, set: &Set, nlist: usize, nprobe: usize) {
    let device = Default::default();
    let (theirs, again) = (set.folder.join("theirs"), set.folder.join("again"));
    let k = 10;
    let params = SearchParams::exact().with_nprobe(nprobe);
    for (first_id, map) in [(0, DirectMap::Array), (1_i64 << 33, DirectMap::None)] {
        faiss.must(&json!({
            "do": "build", "base": set.base_file, "metric": set.metric_name(), "nlist": nlist,
            "first_id": first_id, "map": map.to_string(), "out": theirs,
        }));
        let index = IndexIvfFlat::<B>::read_faiss(&theirs, &device).unwrap();
        assert_eq!((index.ntotal(), index.nlist()), (set.base.n(), Some(nlist)));
        let ours = suite::support::search_ivf(&index, &set.queries, k, &params);
        let found = faiss.search(&theirs, set, k, Some(nprobe));
        assert_same_ids(&ours, &found, "IVFFlat of faiss");
        let options = FaissOptions::default().with_direct_map(map);
        index.write_faiss_with(&again, &options).unwrap();
        let equal = std::fs::read(&theirs).unwrap() == std::fs::read(&again).unwrap();
        assert!(equal, "IVFFlat written again differs");
    }
    // A hash table's order is its own, so faiss reads ours instead.
    let mut index = IndexIvfFlat::<B>::builder(set.base.d)
        .nlist(nlist)
        .metric(set.metric)
        .build(&device)
        .unwrap();
    let sample = set.base.range(0..set.base.n().min(40 * nlist));
    index.train(sample.on(&device)).unwrap();
    let ids: Vec<i64> = (0..set.base.n() as i64).map(|i| 3 * i + 5).collect();
    index.add_with_ids(set.base.on(&device), &ids).unwrap();
    let options = FaissOptions::default().with_direct_map(DirectMap::Hashtable);
    index.write_faiss_with(&again, &options).unwrap();
    let ours = suite::support::search_ivf(&index, &set.queries, k, &params);
    let found = faiss.search(&again, set, k, Some(nprobe));
    assert_same_ids(&ours, &found, "IVFFlat of ours");

    for first_id in [0, 1_i64 << 33] {
        faiss.must(&json!({
            "do": "build", "base": set.base_file, "metric": set.metric_name(),
            "first_id": first_id, "out": theirs,
        }));
        let index = IndexFlat::<B>::read_faiss(&theirs, &device).unwrap();
        let ours = suite::support::search_flat(&index, &set.queries, k);
        let found = faiss.search(&theirs, set, k, None);
        assert_same_ids(&ours, &found, "Flat");
        index.write_faiss(&again).unwrap();
        let equal = std::fs::read(&theirs).unwrap() == std::fs::read(&again).unwrap();
        assert!(equal, "Flat written again differs");
    }
}

#[test]
fn h9_small_sets_travel() {
    let Some(mut faiss) = Faiss::start() else {
        return;
    };
    for metric in [Metric::L2, Metric::InnerProduct] {
        let folder = tempfile::tempdir().unwrap();
        let all = clustered(1050, 16, 30, 0.1, 7);
        let (base, queries) = (all.range(0..1000), all.range(1000..1050));
        let set = Set::new(folder.path(), base, queries, metric);
        both_ways(&mut faiss, &set, 8, 3);
    }
}

/// 50,000 real vectors each.
#[test]
fn h9_real_sets_travel() {
    let Some(mut faiss) = Faiss::start() else {
        return;
    };
    for (name, metric) in [
        ("wordnet-minilm-384-ip", Metric::InnerProduct),
        ("kodak-sift-128-l2", Metric::L2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(set) = Set::shared(folder.path(), name, metric, 50_000) {
            eprintln!("{name}: {} x {}", set.base.n(), set.base.d);
            both_ways(&mut faiss, &set, 256, 16);
        }
    }
}
