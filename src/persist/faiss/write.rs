//! From an index to the bytes that faiss 1.15.1 would write.

use super::{
    DirectMap, FaissOptions, MAX_D,
    header::{Header, write_fourcc},
    names::{FULL, ID_MAP_2, IVF_FLAT, LISTS, SPARSE, metric_number},
};
use crate::{
    backend::{IvfBackend, Run},
    error::{Error, Result, illegal},
    lists::InvertedLists,
    metric::Metric,
    persist::{
        pump::pump,
        runs::{cut, rows},
        sink::Sink,
    },
};
use std::{collections::HashMap, io::Write};

/// Vectors read back at once: they stay in a cache on their way.
const PIECE_BYTES: usize = 1 << 20;

/// What is written of an inverted file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IvfContent<'a, E: IvfBackend> {
    pub d: usize,
    pub metric: Metric,
    pub nlist: usize,
    pub nprobe: usize,
    /// Whether the lists lie in host memory.
    pub host: bool,
    /// Centroids `[nlist, d]` and lists, once trained.
    pub trained: Option<(&'a [f32], &'a InvertedLists<E>)>,
}

/// Writes a flat index; ids that are not 0, 1, 2 and so on stand in a map around it (`IxM2`).
pub(crate) fn write_flat<E: IvfBackend, W: Write>(
    sink: &mut Sink<W>,
    d: usize,
    metric: Metric,
    lists: &InvertedLists<E>,
    host: bool,
) -> Result<()> {
    let ids = lists.list_ids(0);
    let header = flat_header(d, metric, ids.len())?;
    let counted = ids.iter().zip(0..).all(|(&id, place)| id == place);
    if !counted {
        write_fourcc(sink, ID_MAP_2)?;
        header.write(sink)?;
    }
    write_fourcc(sink, metric_number(metric)?.2)?;
    header.write(sink)?;
    sink.number((ids.len() * d) as u64)?;
    write_rows(sink, d, lists, host, false)?;
    if !counted {
        sink.counted(ids)?;
    }
    Ok(())
}

/// Writes an inverted file.
pub(crate) fn write_ivf<E: IvfBackend, W: Write>(
    sink: &mut Sink<W>,
    ivf: &IvfContent<'_, E>,
    options: FaissOptions,
) -> Result<()> {
    let IvfContent {
        d,
        metric,
        nlist,
        nprobe,
        host,
        trained,
    } = *ivf;
    let lists = trained.map(|(_, lists)| lists);
    let centroids = trained.map_or(&[][..], |(centroids, _)| centroids);
    // Nothing is written unless everything can be.
    let header = Header {
        trained: trained.is_some(),
        ..flat_header(d, metric, lists.map_or(0, InvertedLists::ntotal))?
    };
    let array = match (options.direct_map, lists) {
        (DirectMap::Array, Some(lists)) => places_by_id(lists)?,
        _ => Vec::new(),
    };
    write_fourcc(sink, IVF_FLAT)?;
    header.write(sink)?;
    sink.numbers(&[nlist as u64, nprobe as u64])?;

    write_fourcc(sink, metric_number(metric)?.2)?;
    flat_header(d, metric, centroids.len() / d)?.write(sink)?;
    sink.counted(centroids)?;

    sink.number(match options.direct_map {
        DirectMap::None => 0_u8,
        DirectMap::Array => 1,
        DirectMap::Hashtable => 2,
    })?;
    sink.counted(&array)?;
    if options.direct_map == DirectMap::Hashtable {
        let pairs = lists.map_or_else(Vec::new, id_place_pairs);
        sink.number(pairs.len() as u64)?;
        sink.numbers(pairs.as_flattened())?;
    }

    write_fourcc(sink, LISTS)?;
    sink.numbers(&[nlist as u64, (d * size_of::<f32>()) as u64])?;
    // An untrained index has no lists: no pairs.
    write_sizes(sink, &lists.map_or_else(Vec::new, InvertedLists::sizes))?;
    if let Some(lists) = lists {
        write_rows(sink, d, lists, host, true)?;
    }
    Ok(())
}

/// The header of a flat index, which is always trained; `d` and the metric must have a place.
fn flat_header(d: usize, metric: Metric, ntotal: usize) -> Result<Header> {
    metric_number(metric)?;
    if d > MAX_D {
        return Err(illegal("d", d, "at most 2^20 in a file for faiss"));
    }
    Ok(Header {
        d,
        ntotal,
        trained: true,
        metric,
    })
}

/// List sizes: all of them when more than half the lists hold rows, else pairs of those that do.
fn write_sizes<W: Write>(sink: &mut Sink<W>, sizes: &[usize]) -> Result<()> {
    let filled = sizes.iter().filter(|&&n| n > 0).count();
    if filled > sizes.len() / 2 {
        write_fourcc(sink, FULL)?;
        let sizes: Vec<u64> = sizes.iter().map(|&n| n as u64).collect();
        return sink.counted(&sizes);
    }
    write_fourcc(sink, SPARSE)?;
    let pairs: Vec<u64> = sizes
        .iter()
        .enumerate()
        .filter(|(_, n)| **n > 0)
        .flat_map(|(l, &n)| [l as u64, n as u64])
        .collect();
    sink.counted(&pairs)
}

/// The vectors of every list, and its ids after them if `with_ids`. The next vectors are gathered
/// while some are written, if they lie in host memory.
fn write_rows<E: IvfBackend, W: Write>(
    sink: &mut Sink<W>,
    d: usize,
    lists: &InvertedLists<E>,
    host: bool,
    with_ids: bool,
) -> Result<()> {
    let sizes = lists.sizes();
    let piece = (PIECE_BYTES / (d * size_of::<f32>())).max(1);
    let gather = |runs: &Vec<Run>, values: &mut Vec<f32>| {
        values.resize(rows(runs) * d, 0.0);
        lists.copy_rows(runs, values)
    };
    let apart = host && lists.ntotal() > piece;
    pump(apart, cut(&sizes, piece, false), gather, |runs, values| {
        if !with_ids {
            return sink.numbers(values);
        }
        let mut values = &values[..];
        for run in runs {
            let (own, rest) = values.split_at(run.rows * d);
            sink.numbers(own)?;
            let l = run.list as usize;
            if run.first + run.rows == sizes[l] {
                sink.numbers(lists.list_ids(l))?;
            }
            values = rest;
        }
        Ok(())
    })
}

/// faiss's name for the place of a row: the list above, the place within it below.
fn place(l: usize, slot: usize) -> i64 {
    ((l as i64) << 32) | slot as i64
}

/// The place of every id from 0 to ntotal - 1.
fn places_by_id<E: IvfBackend>(lists: &InvertedLists<E>) -> Result<Vec<i64>> {
    let ntotal = lists.ntotal();
    let mut places = vec![-1; ntotal];
    for l in 0..lists.nlist() {
        for (slot, &id) in lists.list_ids(l).iter().enumerate() {
            let entry = usize::try_from(id).ok().and_then(|id| places.get_mut(id));
            *entry.ok_or_else(|| Error::Unsupported {
                what: format!("an array direct map with id {id} among {ntotal} vectors"),
                action: "written",
                remedy: "it holds ids from 0 to ntotal - 1; choose DirectMap::Hashtable",
            })? = place(l, slot);
        }
    }
    Ok(places)
}

/// (id, place) of every row, in list order; of rows with one id the last.
fn id_place_pairs<E: IvfBackend>(lists: &InvertedLists<E>) -> Vec<[i64; 2]> {
    let mut pairs: Vec<[i64; 2]> = Vec::with_capacity(lists.ntotal());
    let mut at = HashMap::with_capacity(lists.ntotal());
    for l in 0..lists.nlist() {
        for (slot, &id) in lists.list_ids(l).iter().enumerate() {
            let entry = *at.entry(id).or_insert_with(|| {
                pairs.push([id, 0]);
                pairs.len() - 1
            });
            pairs[entry][1] = place(l, slot);
        }
    }
    pairs
}
