//! Version 1: which sections an index has, and what must hold between them.

use super::{
    container::{Open, Reader, Tag, Writer, bytes_of, u32_at, u64_at},
    pipeline::{chunk_rows, read_piece, read_rows, write_rows},
};
use crate::{
    backend::{Filling, IvfBackend, Run, label_dtype},
    error::{Error, Result},
    lists::InvertedLists,
    metric::Metric,
    persist::{
        Kind, Loaded, Saved, Settings, corrupt,
        element::Element,
        mapped::Located,
        runs::{cut, rows},
    },
};
use burn::tensor::DType;
use std::{
    io::{BufWriter, Read, Write},
    sync::Arc,
};
use xxhash_rust::xxh3::Xxh3Default;

const INFO: Tag = Tag(*b"INFO");
const SETTINGS: Tag = Tag(*b"SETT");
const INIT: Tag = Tag(*b"KINI");
const WEIGHTS: Tag = Tag(*b"KWGT");
const CENTROIDS: Tag = Tag(*b"CENT");
const SIZES: Tag = Tag(*b"SIZE");
const IDS: Tag = Tag(*b"IDS ");
const VECTORS: Tag = Tag(*b"VECS");
/// All of them, in the order in which a file has them.
const KNOWN: [Tag; 8] = [
    INFO, SETTINGS, INIT, WEIGHTS, CENTROIDS, SIZES, IDS, VECTORS,
];

const INFO_BYTES: usize = 64;
const TRAINED: u32 = 1;
/// A vector has at most this many components: 1 GiB.
const MAX_DIMENSION: usize = 1 << 28;
/// Rows of an index: positions are 32-bit numbers.
const MAX_ROWS: usize = u32::MAX as usize - 1;

fn kind_code(kind: Kind) -> u32 {
    match kind {
        Kind::Flat => 1,
        Kind::IvfFlat => 2,
    }
}

/// Refuses a file of another kind.
pub(super) fn expect_kind(found: u32, expected: Kind) -> Result<()> {
    if found == kind_code(expected) {
        return Ok(());
    }
    let known = [Kind::Flat, Kind::IvfFlat].into_iter();
    let name = known
        .filter(|&kind| kind_code(kind) == found)
        .map(Kind::name)
        .next();
    Err(match name {
        Some(name) => Error::WrongKind {
            expected: expected.name(),
            found: name.to_owned(),
        },
        None => Error::UnknownInFile {
            what: "kind of index",
            found: found.to_string(),
            known: "1 (IndexFlat) and 2 (IndexIvfFlat)",
        },
    })
}

/// The number of a metric, and its argument.
fn metric_code(metric: Metric) -> (u32, f32) {
    match metric {
        Metric::L2 => (0, 0.0),
        Metric::InnerProduct => (1, 0.0),
        Metric::Cosine => (2, 0.0),
        Metric::L1 => (3, 0.0),
        Metric::Linf => (4, 0.0),
        Metric::Lp(p) => (5, p),
        Metric::Canberra => (6, 0.0),
        Metric::BrayCurtis => (7, 0.0),
        Metric::JensenShannon => (8, 0.0),
        Metric::Jaccard => (9, 0.0),
        Metric::NanEuclidean => (10, 0.0),
        Metric::Gower => (11, 0.0),
    }
}

/// The metric with these numbers.
fn metric_of((code, argument): (u32, f32)) -> Result<Metric> {
    let named = Metric::ALL
        .into_iter()
        .find(|&metric| metric_code(metric).0 == code);
    match named {
        Some(Metric::Lp(_)) => Metric::Lp(argument).check(),
        Some(metric) => Ok(metric),
        None => Err(Error::UnknownInFile {
            what: "metric",
            found: code.to_string(),
            known: "0 (l2) to 11 (gower)",
        }),
    }
}

/// What section `INFO` says.
#[derive(Debug, Clone, Copy)]
struct Info {
    d: usize,
    nlist: usize,
    ntotal: usize,
    next_id: i64,
    metric: Metric,
    element: Element,
    trained: bool,
}

impl Info {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(INFO_BYTES);
        for size in [self.d, self.nlist, self.ntotal] {
            bytes.extend((size as u64).to_le_bytes());
        }
        bytes.extend(self.next_id.to_le_bytes());
        let (code, argument) = metric_code(self.metric);
        for word in [
            code,
            self.element.code(),
            u32::from(self.trained) * TRAINED,
            argument.to_bits(),
        ] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.resize(INFO_BYTES, 0);
        bytes
    }

    fn parse(bytes: &[u8], kind: Kind) -> Result<Self> {
        let wrong = |reason: String| corrupt(INFO.to_string(), reason);
        let size = |what: &str, at: usize, limit: usize| {
            let found = u64_at(bytes, at);
            let fits = usize::try_from(found).ok().filter(|&n| n <= limit);
            fits.ok_or_else(|| wrong(format!("{what} = {found}, the limit is {limit}")))
        };
        let argument = u32_at(bytes, 44);
        let metric = metric_of((u32_at(bytes, 32), f32::from_bits(argument)))?;
        let element = Element::of_code(u32_at(bytes, 36))?;
        let flags = u32_at(bytes, 40);
        if flags & !TRAINED != 0
            || bytes[48..].iter().any(|&b| b != 0)
            || metric_code(metric).1.to_bits() != argument
        {
            return Err(wrong("reserved bytes are not zero".to_owned()));
        }
        let info = Self {
            d: size("d", 0, MAX_DIMENSION)?,
            nlist: size("nlist", 8, u32::MAX as usize - 1)?,
            ntotal: size("ntotal", 16, MAX_ROWS)?,
            next_id: u64_at(bytes, 24).cast_signed(),
            metric,
            element,
            trained: flags & TRAINED != 0,
        };
        let lists = match kind {
            Kind::Flat => info.trained && info.nlist == 1,
            Kind::IvfFlat if info.trained => info.nlist > 0,
            Kind::IvfFlat => info.nlist == 0 && info.ntotal == 0,
        };
        if info.d == 0 || !lists || info.next_id < 0 {
            return Err(wrong(format!("{info:?} is no {}", kind.name())));
        }
        Ok(info)
    }

    /// Bytes of `count` vectors.
    fn bytes_of_rows(&self, count: usize) -> Option<u64> {
        let components = (count as u64).checked_mul(self.d as u64)?;
        components.checked_mul(self.element.bytes() as u64)
    }
}

/// Writes an index as a file of version 1.
pub(super) fn write<S: Settings, E: IvfBackend>(
    saved: &Saved<'_, S, E>,
    out: impl Write,
) -> Result<()> {
    let info = Info {
        d: saved.d,
        nlist: saved.lists.map_or(0, InvertedLists::nlist),
        ntotal: saved.lists.map_or(0, InvertedLists::ntotal),
        next_id: saved.lists.map_or(0, InvertedLists::next_id),
        metric: saved.metric,
        element: saved
            .lists
            .map_or(Element::F32, |lists| Element::of(lists.storage())),
        trained: saved.lists.is_some(),
    };
    if info.d > MAX_DIMENSION {
        return Err(crate::error::illegal("d", info.d, "at most 2^28 in a file"));
    }
    let settings = serde_json::to_vec(&saved.settings)
        .map_err(|e| corrupt(SETTINGS.to_string(), e.to_string()))?;
    let floats = |values: &[f32]| size_of_val(values) as u64;
    let mut sections = vec![
        (INFO, true, INFO_BYTES as u64),
        (SETTINGS, true, settings.len() as u64),
    ];
    for (tag, values) in [(INIT, saved.init_centroids), (WEIGHTS, saved.weights)] {
        sections.extend(values.map(|values| (tag, true, floats(values))));
    }
    let centroids = saved.centroids.as_deref();
    sections.extend(centroids.map(|values| (CENTROIDS, true, floats(values))));
    if saved.lists.is_some() {
        let vectors = info.bytes_of_rows(info.ntotal);
        sections.push((SIZES, true, 8 * info.nlist as u64));
        sections.push((IDS, true, 8 * info.ntotal as u64));
        sections.push((VECTORS, true, vectors.unwrap_or(u64::MAX)));
    }
    let out = BufWriter::with_capacity(BUFFER, out);
    let mut writer = Writer::new(out, 1, kind_code(S::KIND), &sections)?;
    writer.put(INFO, &info.bytes())?;
    writer.put(SETTINGS, &settings)?;
    let arrays = [
        (INIT, saved.init_centroids),
        (WEIGHTS, saved.weights),
        (CENTROIDS, centroids),
    ];
    for (tag, values) in arrays {
        if let Some(values) = values {
            writer.put(tag, &bytes_of(values))?;
        }
    }
    if let Some(lists) = saved.lists {
        write_lists(&mut writer, lists, saved)?;
    }
    writer.finish()
}

/// Bytes that small writes are gathered to.
const BUFFER: usize = 256 << 10;

fn write_lists<W: Write, S, E: IvfBackend>(
    writer: &mut Writer<W>,
    lists: &InvertedLists<E>,
    saved: &Saved<'_, S, E>,
) -> Result<()> {
    let sizes: Vec<u64> = lists.sizes().into_iter().map(|n| n as u64).collect();
    writer.put(SIZES, &bytes_of(&sizes))?;
    writer.open(IDS)?;
    let mut hash = Xxh3Default::new();
    for l in 0..lists.nlist() {
        let ids = bytes_of(lists.list_ids(l));
        hash.update(&ids);
        writer.raw(&ids)?;
    }
    writer.close(hash.digest())?;
    writer.open(VECTORS)?;
    let sum = write_rows(writer, lists, saved.d, saved.host)?;
    writer.close(sum)
}

/// What precedes the ids.
struct Front<S> {
    info: Info,
    settings: S,
    init_centroids: Option<Vec<f32>>,
    weights: Option<Vec<f32>>,
    centroids: Option<Vec<f32>>,
    sizes: Option<Vec<usize>>,
}

fn read_front<S: Settings, R: Read>(reader: &mut Reader<R>) -> Result<Front<S>> {
    let bytes: Vec<u8> = reader.take(INFO, Some(INFO_BYTES), &KNOWN)?;
    let info = Info::parse(&bytes, S::KIND)?;
    let json: Vec<u8> = reader.take(SETTINGS, None, &KNOWN)?;
    let settings: S =
        serde_json::from_slice(&json).map_err(|e| corrupt(SETTINGS.to_string(), e.to_string()))?;
    if info.trained && Element::of(settings.storage()) != info.element {
        let (storage, element) = (settings.storage(), info.element);
        let reason = format!("storage {storage}, but vectors of {element:?}");
        return Err(corrupt(SETTINGS.to_string(), reason));
    }
    let init_centroids = optional(reader, INIT)?;
    let weights = optional(reader, WEIGHTS)?;
    let mut front = Front {
        info,
        settings,
        init_centroids,
        weights,
        centroids: None,
        sizes: None,
    };
    if info.trained {
        if S::KIND == Kind::IvfFlat {
            let count = info.nlist.checked_mul(info.d);
            let centroids = reader.take(CENTROIDS, Some(count.unwrap_or(usize::MAX)), &KNOWN)?;
            front.centroids = Some(finite(centroids, CENTROIDS)?);
        }
        let sizes: Vec<u64> = reader.take(SIZES, Some(info.nlist), &KNOWN)?;
        front.sizes = Some(checked_sizes(&sizes, info.ntotal)?);
    }
    Ok(front)
}

fn optional<R: Read>(reader: &mut Reader<R>, tag: Tag) -> Result<Option<Vec<f32>>> {
    match reader.peek(&KNOWN)? {
        Some(section) if section.tag == tag => reader.take(tag, None, &KNOWN).map(Some),
        _ => Ok(None),
    }
}

fn finite(values: Vec<f32>, tag: Tag) -> Result<Vec<f32>> {
    if values.iter().fold(true, |all, v| all & v.is_finite()) {
        Ok(values)
    } else {
        Err(corrupt(tag.to_string(), "NaN or infinite components"))
    }
}

/// Sizes of lists that add up to `ntotal`.
fn checked_sizes(sizes: &[u64], ntotal: usize) -> Result<Vec<usize>> {
    let sum = sizes.iter().try_fold(0_u64, |sum, &n| sum.checked_add(n));
    if sum == Some(ntotal as u64) {
        return Ok(sizes.iter().map(|&n| n as usize).collect());
    }
    let reason = format!("sizes of lists do not add up to {ntotal} vectors");
    Err(corrupt(SIZES.to_string(), reason))
}

/// Reads the ids, list by list.
fn read_ids<R: Read>(
    reader: &mut Reader<R>,
    sizes: &[usize],
    info: &Info,
) -> Result<Vec<Arc<Vec<i64>>>> {
    let mut open = reader.open(IDS, Some(8 * info.ntotal as u64), &KNOWN)?;
    // One empty table stands for all until they get ids of their own.
    let mut tables = vec![Arc::<Vec<i64>>::default(); sizes.len()];
    let (mut buffer, mut largest, mut padding) = (Vec::new(), -1, false);
    for runs in cut(sizes, chunk_rows(true, 8), reader.is_bounded()) {
        reader.values(&mut open, &mut buffer, rows(&runs))?;
        let mut from = 0;
        for run in &runs {
            let ids = &buffer[from..from + run.rows];
            let table = Arc::make_mut(&mut tables[run.list as usize]);
            table.reserve_exact(run.room.saturating_sub(table.len()));
            table.extend_from_slice(ids);
            from += run.rows;
        }
        largest = buffer.iter().fold(largest, |max, &id| id.max(max));
        padding |= buffer.contains(&-1);
    }
    reader.close(open)?;
    if padding {
        return Err(corrupt(
            IDS.to_string(),
            "id -1, which marks missing results",
        ));
    }
    if largest.saturating_add(1) > info.next_id {
        let reason = format!("id {largest} is not below the next id {}", info.next_id);
        return Err(corrupt(IDS.to_string(), reason));
    }
    Ok(tables)
}

/// Refuses ids that a device of 32-bit integers cannot return.
fn narrow(tables: &[Arc<Vec<i64>>]) -> Result<()> {
    let mut ids = tables.iter().flat_map(|ids| ids.iter()).enumerate();
    match ids.find(|(_, id)| i32::try_from(**id).is_err()) {
        Some((row, &id)) => Err(Error::IdOutOfRange { row, id }),
        None => Ok(()),
    }
}

/// Reads the vectors and passes them to `store`.
fn read_vectors<R: Read>(
    (reader, open): (&mut Reader<R>, &mut Open),
    sizes: &[usize],
    info: &Info,
    host: bool,
    mut store: impl FnMut(&[f32], &[Run]) -> Result<()> + Send,
) -> Result<()> {
    let nan = info.metric.accepts_nan();
    let shape = (sizes, info.d, info.element);
    read_rows(reader, open, shape, host, |rows, runs| {
        let legal = |v: &f32| v.is_finite() || (nan && v.is_nan());
        if rows.iter().fold(true, |all, v| all & legal(v)) {
            store(rows, runs)
        } else {
            Err(no_numbers())
        }
    })
}

fn open_vectors<R: Read>(reader: &mut Reader<R>, info: &Info) -> Result<Open> {
    let bytes = info.bytes_of_rows(info.ntotal).unwrap_or(u64::MAX);
    reader.open(VECTORS, Some(bytes), &KNOWN)
}

fn no_numbers() -> Error {
    corrupt(VECTORS.to_string(), "NaN or infinite components")
}

/// Reads the vectors into lists that have their ids, all in one, where that can be: room for all of
/// them is made at once, so they must be known to be there.
fn fill_whole<R: Read, E: IvfBackend>(
    (reader, open): (&mut Reader<R>, &mut Open),
    sizes: &[usize],
    info: &Info,
    lists: &mut InvertedLists<E>,
) -> Result<bool> {
    if !reader.is_bounded() {
        return Ok(false);
    }
    let mut narrow = Vec::new();
    lists.fill_whole(&mut Filling {
        sizes,
        read: &mut |runs, values| {
            let count = rows(runs) * info.d;
            read_piece(reader, open, (count, info.element), &mut narrow, values)
        },
        nan: info.metric.accepts_nan(),
        refuse: &|_, _| no_numbers(),
    })
}

/// Reads an index of version 1.
pub(super) fn read<S: Settings, E: IvfBackend>(
    mut reader: Reader<impl Read>,
    device: &E::Device,
) -> Result<Loaded<S, E>> {
    let front: Front<S> = read_front(&mut reader)?;
    let info = front.info;
    let mut lists = None;
    if let Some(sizes) = &front.sizes {
        let tables = read_ids(&mut reader, sizes, &info)?;
        if label_dtype::<E>(device) != DType::I64 {
            narrow(&tables)?;
        }
        let storage = E::capabilities(device).storage(front.settings.storage());
        let mut filled =
            InvertedLists::<E>::with_tables(info.d, storage, tables, info.next_id, device);
        let mut open = open_vectors(&mut reader, &info)?;
        if !fill_whole((&mut reader, &mut open), sizes, &info, &mut filled)? {
            let host = E::capabilities(device).host;
            let from = (&mut reader, &mut open);
            read_vectors(from, sizes, &info, host, |rows, runs| {
                filled.fill(rows, runs, device)
            })?;
        }
        reader.close(open)?;
        lists = Some(filled);
    }
    reader.finish()?;
    Ok(Loaded {
        d: info.d,
        metric: info.metric,
        settings: front.settings,
        init_centroids: front.init_centroids,
        weights: front.weights,
        lists,
        centroids: front.centroids,
    })
}

/// Reads an index of version 1 and keeps nothing.
pub(super) fn check<S: Settings>(mut reader: Reader<impl Read>) -> Result<()> {
    let front: Front<S> = read_front(&mut reader)?;
    if let Some(sizes) = &front.sizes {
        read_ids(&mut reader, sizes, &front.info)?;
        let mut open = open_vectors(&mut reader, &front.info)?;
        let from = (&mut reader, &mut open);
        read_vectors(from, sizes, &front.info, true, |_, _| Ok(()))?;
        reader.close(open)?;
    }
    reader.finish()
}

/// Reads all but ids and vectors of an index of version 1, whose file is whole.
pub(super) fn locate<S: Settings>(mut reader: Reader<impl Read>) -> Result<Located<S>> {
    let front: Front<S> = read_front(&mut reader)?;
    let info = front.info;
    if info.element != Element::F32 {
        return Err(Error::Unsupported {
            what: format!("an index of {:?} vectors", info.element),
            action: "searched in its file",
            remedy: "load() it, or save it with storage auto",
        });
    }
    let mut located = Located {
        d: info.d,
        metric: info.metric,
        settings: front.settings,
        centroids: front.centroids,
        starts: Vec::new(),
        ids: 0..0,
        vectors: 0..0,
    };
    if let Some(sizes) = front.sizes {
        let place = |tag: Tag, bytes: u64| {
            let section = reader.find(tag).filter(|section| section.length == bytes);
            let range = section.and_then(|section| {
                let from = usize::try_from(section.offset).ok()?;
                Some(from..from.checked_add(usize::try_from(bytes).ok()?)?)
            });
            range.ok_or_else(|| corrupt(tag.to_string(), format!("missing, or not {bytes} bytes")))
        };
        located.ids = place(IDS, 8 * info.ntotal as u64)?;
        located.vectors = place(VECTORS, info.bytes_of_rows(info.ntotal).unwrap_or(u64::MAX))?;
        let mut start = 0;
        located.starts.push(start);
        located.starts.extend(sizes.iter().map(|&size| {
            start += size;
            start
        }));
    }
    Ok(located)
}
