//! What `tracing` is told of training, adding, searching, saving (feature `tracing`).
#![cfg(all(feature = "ndarray", feature = "tracing"))]
#![allow(missing_docs, clippy::unwrap_used)]

use burn::{
    backend::NdArray,
    tensor::{Distribution, Tensor},
};
use burn_ivf::{IdSelector, IndexFlat, IndexIvfFlat, Metric, SearchMode, SearchParams};
use std::sync::{Arc, Mutex};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

type B = NdArray;

/// What a span was opened with: its name, the spans it stands in, its fields.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    path: String,
    fields: Vec<String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn core::fmt::Debug) {
        self.fields.push(format!("{field}={value:?}"));
    }
}

/// Every span of this library, and those that are open.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<(Vec<Seen>, Vec<usize>)>>);

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("burn_ivf")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let (all, open) = &mut *self.0.lock().unwrap();
        let outer = open.last().map(|&at| all[at].path.clone() + "/");
        let mut seen = Seen {
            path: outer.unwrap_or_default() + span.metadata().name(),
            fields: Vec::new(),
        };
        span.record(&mut seen);
        all.push(seen);
        Id::from_u64(all.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().1.push(span.into_u64() as usize - 1);
    }

    fn exit(&self, span: &Id) {
        let left = self.0.lock().unwrap().1.pop();
        assert_eq!(left, Some(span.into_u64() as usize - 1), "spans nest");
    }
}

/// The spans of some work, each as its path and fields.
fn spans_of(work: impl FnOnce()) -> Vec<String> {
    let spans = Spans::default();
    tracing::subscriber::with_default(spans.clone(), work);
    let (all, open) = &*spans.0.lock().unwrap();
    assert_eq!(open, &[] as &[usize], "every span is left");
    all.iter()
        .map(|seen| format!("{} {}", seen.path, seen.fields.join(" ")))
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[test]
fn an_inverted_file_tells_what_it_does() {
    let device = Default::default();
    let x = Tensor::<B, 2>::random([300, 8], Distribution::Default, &device);
    let q = x.clone().slice([0..6, 0..8]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ivf");
    let mut index = IndexIvfFlat::<B>::builder(8)
        .nlist(5)
        .build(&device)
        .unwrap();
    let params = SearchParams::exact().with_nprobe(3);
    let spans = spans_of(|| {
        index.train(x.clone()).unwrap();
        index.add(x).unwrap();
        for mode in [SearchMode::Csr, SearchMode::Matrix] {
            let params = params.clone().with_mode(mode);
            index.search_with(q.clone(), 4, &params).unwrap();
        }
        index.range_search(q.clone(), 0.5).unwrap();
        index.remove_ids(&IdSelector::batch([7])).unwrap();
        index.save(&path).unwrap();
        index = IndexIvfFlat::load(&path, &device).unwrap();
        let mapped = IndexIvfFlat::<B>::load_mmap(&path, &device).unwrap();
        mapped.search(q, 2).unwrap();
    });
    let mut spans: Vec<&str> = spans.iter().map(String::as_str).collect();
    // as many parts as the workspace asks for
    spans.retain(|span| !span.contains("/merge"));
    let expected = [
        "train n=300 d=8",
        "add n=300",
        "add/coarse nq=300 nprobe=1",
        "search nq=6 k=4",
        "search/coarse nq=6 nprobe=3",
        "search/scan nq=6 k=4 nprobe=3 mode=\"csr\"",
        "search nq=6 k=4",
        "search/coarse nq=6 nprobe=3",
        "search/scan nq=6 k=4 nprobe=3 mode=\"matrix\"",
        "range_search nq=6 nprobe=5 mode=\"csr\"",
        "range_search/coarse nq=6 nprobe=5",
        "remove n=300",
        "save n=299",
        "load",
        "load",
        "search nq=6 k=2",
        "search/coarse nq=6 nprobe=5",
        "search/scan nq=6 k=2 nprobe=5 mode=\"mapped\"",
    ];
    assert_eq!(spans, expected);
}

#[test]
fn a_flat_index_tells_what_it_does() {
    let device = Default::default();
    let x = Tensor::<B, 2>::random([50, 8], Distribution::Default, &device);
    let mut index = IndexFlat::<B>::new(8, Metric::L2, &device).unwrap();
    let spans = spans_of(|| {
        index.add(x.clone()).unwrap();
        index.search(x.clone(), 4).unwrap();
        index.range_search(x.clone(), 0.5).unwrap();
        index.remove_ids(&IdSelector::batch([7])).unwrap();
    });
    let expected = [
        "add n=50",
        "search nq=50 k=4",
        "search/scan nq=50 k=4 nprobe=1 mode=\"chunked\"",
        "search/scan/merge parts=1",
        "range_search nq=50 nprobe=1 mode=\"chunked\"",
        "range_search/merge parts=1",
        "remove n=50",
    ];
    assert_eq!(spans, expected);
    // a search that fails leaves its span too
    let wrong = Tensor::<B, 2>::zeros([1, 9], &device);
    let spans = spans_of(|| assert!(index.search(wrong, 4).is_err()));
    assert_eq!(spans, ["search nq=1 k=4"]);
}
