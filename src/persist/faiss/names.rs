//! The letters and numbers by which faiss's files name types and metrics.

use crate::{
    error::{Error, Result},
    metric::Metric,
};
use core::fmt;

/// Four letters that begin an index or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FourCc(pub [u8; 4]);

pub(super) const FLAT_L2: FourCc = FourCc(*b"IxF2");
pub(super) const FLAT_IP: FourCc = FourCc(*b"IxFI");
pub(super) const FLAT: FourCc = FourCc(*b"IxFl");
pub(super) const ID_MAP: FourCc = FourCc(*b"IxMp");
pub(super) const ID_MAP_2: FourCc = FourCc(*b"IxM2");
pub(super) const IVF_FLAT: FourCc = FourCc(*b"IwFl");
pub(super) const IVF_SQ: FourCc = FourCc(*b"IwSq");
pub(super) const IVF_SQ_OLD: FourCc = FourCc(*b"IwSQ");
pub(super) const LISTS: FourCc = FourCc(*b"ilar");
pub(super) const NO_LISTS: FourCc = FourCc(*b"il00");
pub(super) const FULL: FourCc = FourCc(*b"full");
pub(super) const SPARSE: FourCc = FourCc(*b"sprs");

/// Types that faiss knows, for errors that say what a file holds.
const TYPES: [(&[u8; 4], &str); 44] = [
    (b"IxF2", "IndexFlatL2"),
    (b"IxFI", "IndexFlatIP"),
    (b"IxFl", "IndexFlat"),
    (b"IxMp", "IndexIDMap"),
    (b"IxM2", "IndexIDMap2"),
    (b"IwFl", "IndexIVFFlat"),
    (b"IwSq", "IndexIVFScalarQuantizer"),
    (b"IwSQ", "IndexIVFScalarQuantizer, older"),
    (b"IvFl", "IndexIVFFlat, legacy"),
    (b"IvFL", "IndexIVFFlat, legacy"),
    (b"IvPQ", "IndexIVFPQ, legacy"),
    (b"IvQR", "IndexIVFPQR, legacy"),
    (b"IvSQ", "IndexIVFScalarQuantizer, legacy"),
    (b"IwPQ", "IndexIVFPQ"),
    (b"IwQR", "IndexIVFPQR"),
    (b"IwFd", "IndexIVFFlatDedup"),
    (b"IwPf", "IndexIVFPQFastScan"),
    (b"IwSh", "IndexIVFSpectralHash"),
    (b"IwLS", "IndexIVFLocalSearchQuantizer"),
    (b"IwRQ", "IndexIVFResidualQuantizer"),
    (b"IwPL", "IndexIVFProductLocalSearchQuantizer"),
    (b"IwPR", "IndexIVFProductResidualQuantizer"),
    (b"IwIQ", "IndexIVFIndependentQuantizer"),
    (b"IxPT", "IndexPreTransform"),
    (b"IxRF", "IndexRefine"),
    (b"IxPq", "IndexPQ"),
    (b"IxPQ", "IndexPQ, legacy"),
    (b"IxSQ", "IndexScalarQuantizer"),
    (b"IxHe", "IndexLSH"),
    (b"IxLa", "IndexLattice"),
    (b"Ix2L", "Index2Layer"),
    (b"Imiq", "MultiIndexQuantizer"),
    (b"ImRQ", "ResidualCoarseQuantizer"),
    (b"IPfs", "IndexPQFastScan"),
    (b"IHNf", "IndexHNSWFlat"),
    (b"IHNp", "IndexHNSWPQ"),
    (b"IHNs", "IndexHNSWSQ"),
    (b"IHN2", "IndexHNSW2Level"),
    (b"IHNc", "IndexHNSWCagra"),
    (b"INSf", "IndexNSGFlat"),
    (b"INNf", "IndexNNDescentFlat"),
    (b"IBxF", "IndexBinaryFlat"),
    (b"IBwF", "IndexBinaryIVF"),
    (b"null", "no index"),
];

impl fmt::Display for FourCc {
    /// The letters as text, and the type they stand for if it is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = TYPES.iter().find(|(letters, _)| **letters == self.0);
        write!(f, "\"{}\"", self.0.escape_ascii())?;
        match known {
            Some((_, name)) => write!(f, ", {name}"),
            None => write!(f, ", an unknown type"),
        }
    }
}

/// Metrics by faiss's number.
const METRICS: [(i32, Metric); 11] = [
    (0, Metric::InnerProduct),
    (1, Metric::L2),
    (2, Metric::L1),
    (3, Metric::Linf),
    (4, Metric::Lp(0.0)),
    (20, Metric::Canberra),
    (21, Metric::BrayCurtis),
    (22, Metric::JensenShannon),
    (23, Metric::Jaccard),
    (24, Metric::NanEuclidean),
    (25, Metric::Gower),
];

/// The metric that faiss's files call `number`, and whether an argument follows; `None` for a number that
/// faiss does not have.
pub(super) fn metric(number: i32) -> Option<(Metric, bool)> {
    let known = METRICS.iter().find(|(own, _)| *own == number);
    known.map(|&(number, metric)| (metric, number > 1))
}

/// The number of a metric, its argument if a file holds one, and the letters of a flat index with it.
pub(super) fn metric_number(metric: Metric) -> Result<(i32, Option<f32>, FourCc)> {
    let same = |other: &Metric| {
        *other == metric || matches!((other, metric), (Metric::Lp(_), Metric::Lp(_)))
    };
    let Some(&(number, _)) = METRICS.iter().find(|(_, other)| same(other)) else {
        return Err(Error::Unsupported {
            what: format!("an index with metric {metric}"),
            action: "written for faiss",
            remedy: "faiss has no such metric; scale the vectors to length 1 and use ip",
        });
    };
    Ok(match metric {
        Metric::InnerProduct => (number, None, FLAT_IP),
        Metric::L2 => (number, None, FLAT_L2),
        Metric::Lp(p) => (number, Some(p), FLAT),
        _ => (number, Some(0.0), FLAT),
    })
}
