//! The search pipeline: coarse step, then one of the scans, on the inner backend.
//!
//! Everything here is generic over the inner backend `E` and free of decisions: those are made in
//! `plan`. The paths give the same bits because all of them end in the backend's one exact
//! distance and one total order.

mod coarse;
mod limits;
mod matrix;
mod range;
mod reconstruct;

pub(crate) use coarse::{Probes, probe, probed_pieces};
pub(crate) use limits::{balls, caps, prune};
pub(crate) use range::{Drawn, Range, Ranged, range, shrink};
pub(crate) use reconstruct::{distances_again, rows_of_hits, vectors};

use crate::{
    backend::{Counts, Hits, IvfBackend, Probing, Reads, Restriction, SKIP, Scan, Slot},
    error::Result,
    plan::{Order, Tuning},
    selector::Selection,
};
use burn::tensor::{DType, Int, Tensor};
use std::sync::Arc;

/// Searches an inverted file by csr: the backend's list scan.
pub(crate) fn csr<E: IvfBackend>(
    scan: &Scan<'_, E>,
    probes: Tensor<E, 2, Int>,
    (order, tuning): (Order, &Arc<Tuning>),
) -> Result<Hits<E>> {
    let probing = Probing {
        reads: Reads::Lists(probes),
        order,
        tuning: Arc::clone(tuning),
    };
    E::list_scan(scan, &probing)
}

/// Searches an inverted file by matrix: gather, batched product, select, re-rank. Also returns
/// the number of query chunks.
pub(crate) fn matrix<E: IvfBackend>(
    scan: &Scan<'_, E>,
    probes: Tensor<E, 2, Int>,
) -> Result<(Hits<E>, usize)> {
    matrix::per_query(scan, probes)
}

/// Searches one list exhaustively, block by block of rows.
pub(crate) fn exhaustive_chunked<E: IvfBackend>(scan: &Scan<'_, E>) -> Result<Hits<E>> {
    one_list(scan)
}

/// The queries that are searched at once, so that their selectors, each `mask_words` words of bits,
/// take no more than a quarter of the workspace: runs of queries that name few enough of them.
pub(crate) fn selected_pieces(
    selection: Option<&Selection>,
    nq: usize,
    mask_words: usize,
    workspace: usize,
) -> Vec<core::ops::Range<usize>> {
    let most = (workspace / 16 / mask_words.max(1)).max(1);
    let (mut pieces, mut first) = (Vec::new(), 0);
    if let Some(Selection::PerQuery { selectors, of }) = selection
        && selectors.len() > most
    {
        // The last piece that a selector was named in.
        let mut piece = vec![usize::MAX; selectors.len()];
        let mut named = 0;
        for (query, &selector) in of.iter().enumerate() {
            if piece[selector as usize] != pieces.len() {
                if named == most {
                    pieces.push(first..query);
                    (first, named) = (query, 0);
                }
                piece[selector as usize] = pieces.len();
                named += 1;
            }
        }
    }
    pieces.push(first..nq);
    pieces
}

/// What some runs of queries have in common with another.
pub(crate) fn within(
    runs: &[core::ops::Range<usize>],
    other: &core::ops::Range<usize>,
) -> impl Iterator<Item = core::ops::Range<usize>> {
    let common = |run: &core::ops::Range<usize>| run.start.max(other.start)..run.end.min(other.end);
    runs.iter().map(common).filter(|run| !run.is_empty())
}

/// What a scan of the lists named by `probes`, `[nq, nprobe]`, compares, every row exactly; `sizes` has the
/// rows of every list.
pub(crate) fn count(
    sizes: &[usize],
    probes: &[u32],
    nprobe: usize,
    restriction: Restriction<'_>,
) -> Counts {
    let mut counts = Counts::default();
    for (probe, &list) in probes.iter().enumerate() {
        if list != SKIP {
            let (list, len) = (list as usize, sizes[list as usize]);
            let rows = restriction.of(probe / nprobe, probe, list, len).count() as u64;
            counts.rows_scanned += rows;
            counts.lists_scanned += u64::from(rows > 0);
        }
    }
    counts.rows_reranked = counts.rows_scanned;
    counts
}

/// Every query against the only list there is.
pub(crate) fn one_list<E: IvfBackend>(scan: &Scan<'_, E>) -> Result<Hits<E>> {
    E::list_scan(scan, &Probing::all(scan))
}

/// Searches one list exhaustively through score matrices. Also returns the number of query chunks.
pub(crate) fn exhaustive_matrix<E: IvfBackend>(scan: &Scan<'_, E>) -> Result<(Hits<E>, usize)> {
    if !scan.restriction.is_none() {
        // Every query has rows of its own.
        let device = scan.queries.device();
        return matrix::per_query(scan, Tensor::zeros([scan.nq(), 1], (&device, DType::I32)));
    }
    let rows: Vec<Slot> = (0..scan.ids.len(0))
        .map(|slot| Slot {
            list: 0,
            slot: slot as u32,
        })
        .collect();
    matrix::shared(scan, &rows)
}
