//! The indexes that calls are made on, and what must not change when one is refused.

use super::source::Source;
use burn::tensor::Tensor;
use burn_ivf::{
    Error, FaissOptions, IndexFlat, IndexIvfFlat, IvfBackend, KMeansParams, Metric, SearchParams,
};
use std::{collections::BTreeMap, path::PathBuf};

/// Most indexes of a kind, and most vectors in one.
const INDEXES: usize = 3;
const VECTORS: usize = 400;

pub struct World<B: IvfBackend> {
    pub device: B::Device,
    pub source: Source,
    pub flats: Vec<IndexFlat<B>>,
    pub ivfs: Vec<IndexIvfFlat<B>>,
    pub folder: tempfile::TempDir,
    /// The calls so far, in words.
    pub log: Vec<String>,
}

/// What a call came to.
pub type Outcome = Result<(), Error>;

/// A call: its name, whether it may change an index, and what it does.
pub type Call<B> = (&'static str, bool, fn(&mut World<B>) -> Outcome);

/// How often each call was answered and refused.
pub type Tally = BTreeMap<&'static str, (usize, usize)>;

/// All there is to know about an index.
#[derive(PartialEq)]
pub struct State {
    /// The file of the index: vectors, ids, training and settings.
    file: Vec<u8>,
    facts: String,
    /// Bits of a search's distances, and ids; or the error.
    answer: Result<(Vec<u32>, Vec<i64>), String>,
}

macro_rules! state {
    ($index:expr, $device:expr, $facts:expr, $params:expr) => {{
        let index = $index;
        let mut file = Vec::new();
        index.write_to(&mut file).unwrap();
        let d = index.d();
        let values: Vec<f32> = (0..2 * d).map(|i| (i % 7) as f32 - 2.0).collect();
        let queries = Tensor::<B, 1>::from_floats(&values[..], $device).reshape([2, d]);
        let found = index.search_with(queries, 5, &$params);
        State {
            file,
            facts: $facts,
            answer: found.map_err(|error| error.to_string()).map(|found| {
                let (distances, labels) = found.to_vecs();
                (distances.iter().map(|v| v.to_bits()).collect(), labels)
            }),
        }
    }};
}

impl<B: IvfBackend> World<B> {
    pub fn new(device: &B::Device, seed: u64, case: u64) -> Self {
        let mut world = Self {
            device: device.clone(),
            source: Source::new(seed, case),
            flats: Vec::new(),
            ivfs: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            log: Vec::new(),
        };
        let d = 1 + world.source.below(6);
        let metrics = [
            Metric::L2,
            Metric::InnerProduct,
            Metric::Cosine,
            Metric::L1,
            Metric::NanEuclidean,
            Metric::Lp(3.0),
        ];
        let metric = world.source.pick(&metrics);
        world.log.push(format!("indexes of d = {d}, {metric}"));
        world.flats.push(IndexFlat::new(d, metric, device).unwrap());
        let metric = if metric.is_for_ivf() {
            metric
        } else {
            Metric::L2
        };
        let centroids: Vec<f32> = (0..4 * d).map(|i| (i * i % 11) as f32 - 5.0).collect();
        let centroids = Tensor::<B, 1>::from_floats(&centroids[..], device).reshape([4, d]);
        world
            .ivfs
            .push(IndexIvfFlat::from_centroids(centroids, metric).unwrap());
        let quick = KMeansParams {
            niter: 2,
            ..KMeansParams::default()
        };
        let builder = IndexIvfFlat::builder(d).nlist(3).metric(metric);
        world
            .ivfs
            .push(builder.kmeans(quick).build(device).unwrap());
        world
    }

    /// Writes a call down before it is made.
    pub fn say(&mut self, words: String) {
        if std::env::var_os("BURN_IVF_CALLS_TRACE").is_some() {
            eprintln!("{words}");
        }
        self.log.push(words);
    }

    /// One of the indexes, by its number.
    pub fn flat(&mut self) -> usize {
        self.source.below(self.flats.len())
    }

    pub fn ivf(&mut self) -> usize {
        self.source.below(self.ivfs.len())
    }

    pub fn keep_flat(&mut self, index: IndexFlat<B>) {
        let full = self.flats.len() == INDEXES;
        if full || index.d() > 64 {
            let at = self.flat();
            if index.d() <= 64 {
                self.flats[at] = index;
            }
        } else {
            self.flats.push(index);
        }
    }

    pub fn keep_ivf(&mut self, index: IndexIvfFlat<B>) {
        let full = self.ivfs.len() == INDEXES;
        if full || index.d() > 64 {
            let at = self.ivf();
            if index.d() <= 64 {
                self.ivfs[at] = index;
            }
        } else {
            self.ivfs.push(index);
        }
    }

    /// Keeps calls quick.
    pub fn trim(&mut self) {
        for index in &mut self.flats {
            if index.ntotal() > VECTORS {
                index.reset();
            }
        }
        for index in &mut self.ivfs {
            if index.ntotal() > VECTORS {
                index.reset();
            }
        }
    }

    pub fn states(&self) -> Vec<State> {
        let flats = self.flats.iter().map(|index| {
            let facts = format!("{} {:?}", index.ntotal(), index.storage());
            state!(index, &self.device, facts, SearchParams::default())
        });
        let ivfs = self.ivfs.iter().map(|index| {
            let mut facts = format!(
                "{} {:?} {:?} {:?} {}",
                index.ntotal(),
                index.storage(),
                index.list_sizes(),
                index.limit(),
                index.tuning(),
            );
            for list in 0..index.list_sizes().len() {
                facts += &format!(" {:?}", index.list_ids(list));
            }
            let params = SearchParams::default().with_workspace_limit(1 << 20);
            state!(index, &self.device, facts, params)
        });
        flats.chain(ivfs).collect()
    }

    /// Where a kind of file is written and read, seldom that of another, or a place for neither.
    pub fn path(&mut self, kind: &str) -> PathBuf {
        let folder = self.folder.path().to_owned();
        match self.source.below(32) {
            0 => folder,
            1 => folder.join("missing/a"),
            2 => PathBuf::new(),
            3 => "/dev/null".into(),
            4 => folder.join("a\0b"),
            5 => folder.join("x".repeat(300)),
            6 => {
                let junk = folder.join("junk");
                let bytes = [b"IwFl".as_slice(), &[255; 40]].concat();
                std::fs::write(&junk, bytes).unwrap();
                junk
            }
            7 => folder.join("flat.index"),
            8 => folder.join("ivf.index"),
            9 => folder.join("ivf.faiss"),
            _ => folder.join(kind),
        }
    }

    pub fn faiss_options(&mut self) -> FaissOptions {
        use burn_ivf::DirectMap::{Array, Hashtable, None};
        FaissOptions::default().with_direct_map(self.source.pick(&[None, Array, Hashtable]))
    }
}

/// A writer that takes so many bytes and then fails.
pub struct Full(pub usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 && !bytes.is_empty() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
