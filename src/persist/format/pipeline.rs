//! Moving vectors between a stream and lists: one chunk is read or written while the one before or
//! after it is taken apart or gathered, which keeps two processors busy and memory at two chunks.

use super::container::{Open, Reader, Writer, bytes_of};
use crate::{
    backend::{IvfBackend, Run},
    error::Result,
    lists::InvertedLists,
    persist::{
        element::Element,
        pump::pump,
        runs::{cut, rows},
    },
};
use std::{
    borrow::Cow,
    io::{Read, Write},
};
use xxhash_rust::xxh3::Xxh3Default;

/// Bytes moved at once where lists lie in host memory. Threads wait for each other once a piece, which
/// on a busy machine costs a turn of the scheduler: pieces of 1 MiB, though they stay in a second-level
/// cache, took four times as long there.
const HOST_CHUNK: usize = 4 << 20;
/// Bytes moved at once to and from another device, where every append has a price of its own.
const DEVICE_CHUNK: usize = 64 << 20;

/// Bytes gathered and written at once where lists lie in host memory.
const WRITE_CHUNK: usize = 1 << 20;

/// Rows of `bytes` each that are moved at once.
pub(super) fn chunk_rows(host: bool, bytes: usize) -> usize {
    let chunk = if host { HOST_CHUNK } else { DEVICE_CHUNK };
    (chunk / bytes.max(1)).max(1)
}

/// Runs both, `other` on another thread if `apart`.
fn both<A, B: Send>(
    apart: bool,
    here: impl FnOnce() -> A,
    other: impl FnOnce() -> B + Send,
) -> (A, Option<B>) {
    if !apart {
        let done = other();
        return (here(), Some(done));
    }
    let mut done = None;
    let here = rayon::in_place_scope(|scope| {
        scope.spawn(|_| done = Some(other()));
        here()
    });
    (here, done)
}

/// Reads the vectors of lists of these sizes from an open section and passes them to `store`.
pub(super) fn read_rows<R: Read>(
    reader: &mut Reader<R>,
    open: &mut Open,
    (sizes, d, element): (&[usize], usize, Element),
    host: bool,
    mut store: impl FnMut(&[f32], &[Run]) -> Result<()> + Send,
) -> Result<()> {
    let chunk = chunk_rows(host, d.saturating_mul(size_of::<f32>()));
    let (mut held, mut fresh) = (Vec::new(), Vec::new());
    let mut narrow = Vec::new();
    let mut waiting: Vec<Run> = Vec::new();
    for runs in cut(sizes, chunk, reader.is_bounded()) {
        let (read, stored) = both(
            host && !waiting.is_empty(),
            || {
                read_piece(
                    reader,
                    open,
                    (rows(&runs) * d, element),
                    &mut narrow,
                    &mut fresh,
                )
            },
            || store(&held, &waiting),
        );
        stored.transpose()?;
        read?;
        core::mem::swap(&mut held, &mut fresh);
        waiting = runs;
    }
    if waiting.is_empty() {
        return Ok(());
    }
    store(&held, &waiting)
}

/// Reads so many components of an open section; `values` then holds just them, `narrow` is room for
/// those of 16 bits.
pub(super) fn read_piece<R: Read>(
    reader: &mut Reader<R>,
    open: &mut Open,
    (count, element): (usize, Element),
    narrow: &mut Vec<u16>,
    values: &mut Vec<f32>,
) -> Result<()> {
    let Some(widen) = element.widen() else {
        return reader.values(open, values, count);
    };
    reader.values(open, narrow, count)?;
    values.clear();
    widen(narrow, values);
    Ok(())
}

/// Vectors on their way to a file.
#[derive(Default)]
struct Piece {
    wide: Vec<f32>,
    /// The same in 16 bits, where they are stored so.
    narrow: Vec<u16>,
}

impl Piece {
    fn bytes(&self, element: Element) -> Cow<'_, [u8]> {
        match element {
            Element::F32 => bytes_of(&self.wide),
            Element::F16 | Element::Bf16 => bytes_of(&self.narrow),
        }
    }
}

/// Writes the vectors of all lists to an open section; returns their checksum.
pub(super) fn write_rows<W: Write, E: IvfBackend>(
    writer: &mut Writer<W>,
    lists: &InvertedLists<E>,
    d: usize,
    host: bool,
) -> Result<u64> {
    let sizes = lists.sizes();
    let chunk = if host { WRITE_CHUNK } else { DEVICE_CHUNK };
    let chunk = (chunk / (d * size_of::<f32>())).max(1);
    let mut hash = Xxh3Default::new();
    let element = Element::of(lists.storage());
    let gather = |runs: &Vec<Run>, piece: &mut Piece| -> Result<()> {
        piece.wide.resize(rows(runs) * d, 0.0);
        lists.copy_rows(runs, &mut piece.wide)?;
        if let Some(narrow) = element.narrow() {
            piece.narrow.clear();
            narrow(&piece.wide, &mut piece.narrow);
        }
        hash.update(&piece.bytes(element));
        Ok(())
    };
    let apart = host && lists.ntotal() > chunk;
    let pieces = cut(&sizes, chunk, true);
    pump(apart, pieces, gather, |_, piece| {
        writer.raw(&piece.bytes(element))
    })?;
    Ok(hash.digest())
}
