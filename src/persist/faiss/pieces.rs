//! Rows of a stream, or on their way to a device: in pieces of about [`PIECE_BYTES`].
//!
//! Lists are put together until they make a piece; of a larger list the ids are read first, where the
//! source can look ahead, and then its vectors piece by piece. A stream has to hold such a list whole.

use super::load::{Content, Ids, add, check_ids, read_count};
use crate::{
    backend::{IvfBackend, Run},
    error::Result,
    lists::InvertedLists,
    params::Storage,
    persist::source::Source,
};
use rayon::prelude::*;
use std::io::Read;

/// Vectors handed over at once.
const PIECE_BYTES: usize = 4 << 20;

/// Values that one thread looks at.
const FINITE_STEP: usize = 1 << 16;

/// Reads the rows of all lists.
pub(super) fn read<E: IvfBackend, R: Read>(
    source: &mut Source<R>,
    content: &Content<'_>,
    storage: Storage,
    device: &E::Device,
) -> Result<InvertedLists<E>> {
    let mut load = Load::<E>::new(source, content, storage, device);
    for &(l, n) in content.sizes {
        load.list(source, l, n)?;
    }
    load.flush()?;
    Ok(load.lists)
}

/// Inverted lists in the making, piece by piece.
#[derive(Debug)]
struct Load<'a, E: IvfBackend> {
    content: &'a Content<'a>,
    device: E::Device,
    lists: InvertedLists<E>,
    /// Rows of a piece.
    piece: usize,
    /// Whether the file has been seen to hold the rows that it announces.
    announced: bool,
    /// What waits to be appended.
    rows: Vec<f32>,
    ids: Vec<i64>,
    runs: Vec<Run>,
    raw: Vec<u16>,
    /// Rows appended.
    done: usize,
}

impl<'a, E: IvfBackend> Load<'a, E> {
    fn new<R: Read>(
        source: &Source<R>,
        content: &'a Content<'a>,
        storage: Storage,
        device: &E::Device,
    ) -> Self {
        let Content { d, nlist, .. } = *content;
        Self {
            content,
            device: device.clone(),
            // On a GPU appending looks at every list, so a piece is no less than their number.
            piece: (PIECE_BYTES / (4 * d)).max(nlist),
            lists: InvertedLists::new(d, nlist, storage, device),
            // The caller has compared sizes with the bytes that are left, if that is known.
            announced: source.left().is_some(),
            rows: Vec::new(),
            ids: Vec::new(),
            runs: Vec::new(),
            raw: Vec::new(),
            done: 0,
        }
    }

    /// Reads the `n` rows of list `l`.
    fn list<R: Read>(&mut self, source: &mut Source<R>, l: usize, n: usize) -> Result<()> {
        let counted = self.content.ids == Ids::Counted;
        if n <= self.piece || (!counted && !source.can_look_ahead()) {
            self.vectors(source, l, n)?;
            self.content.read_ids(source, n, &mut self.ids)?;
            self.run(l, 0, n, n);
        } else {
            self.flush()?;
            self.large_list(source, l, n)?;
        }
        if self.ids.len() >= self.piece {
            self.flush()?;
        }
        Ok(())
    }

    /// A list of more than one piece: the ids of each are read before its vectors.
    fn large_list<R: Read>(&mut self, source: &mut Source<R>, l: usize, n: usize) -> Result<()> {
        let counted = self.content.ids == Ids::Counted;
        for start in (0..n).step_by(self.piece) {
            let end = n.min(start + self.piece);
            if !counted {
                let before = self.content.vector_bytes(n - start)
                    + (self.content.id_bytes(n) - 8 * (n - start) as u64);
                source.ahead(before, |source| {
                    source.append("ids", end - start, &mut self.ids)
                })?;
            }
            self.vectors(source, l, end - start)?;
            if counted {
                // After the vectors, so that a stream has shown that there are any.
                self.ids.extend(start as i64..end as i64);
            }
            self.run(l, start, end - start, n);
            self.flush()?;
        }
        if self.content.ids == Ids::AfterCount {
            read_count(source, n)?;
        }
        source.skip("ids", if counted { 0 } else { 8 * n as u64 })
    }

    /// Says where the rows read last belong, in a list that will have `of` rows.
    fn run(&mut self, list: usize, first: usize, rows: usize, of: usize) {
        if rows > 0 {
            self.runs.push(Run {
                list: list as u32,
                first,
                rows,
                room: if self.announced { of } else { first + rows },
            });
        }
    }

    fn vectors<R: Read>(&mut self, source: &mut Source<R>, l: usize, n: usize) -> Result<()> {
        let Content { d, code, .. } = *self.content;
        let values = n
            .checked_mul(d)
            .ok_or_else(|| source.malformed(format!("{n} vectors of d = {d}")))?;
        let start = self.rows.len();
        if let Some(widen) = code.widen() {
            self.raw.clear();
            source.append("vectors", values, &mut self.raw)?;
            widen(&self.raw, &mut self.rows);
        } else {
            source.append("vectors", values, &mut self.rows)?;
        }
        if let Some(centroid) = self.content.centroid(l) {
            add(&mut self.rows[start..], centroid);
        }
        Ok(())
    }

    /// Appends what waits.
    fn flush(&mut self) -> Result<()> {
        let n = self.ids.len();
        if n == 0 {
            return Ok(());
        }
        check_ids::<E>(&self.ids, self.done, &self.device)?;
        let content = self.content;
        let sound = |values: &[f32]| values.iter().fold(true, |all, &x| all & content.accepts(x));
        if !self.rows.par_chunks(FINITE_STEP).all(sound) {
            return Err(content.non_finite(&self.rows, self.done));
        }
        self.lists
            .extend(&self.rows, &self.ids, &self.runs, &self.device)?;
        self.done += n;
        self.rows.clear();
        self.ids.clear();
        self.runs.clear();
        Ok(())
    }
}
