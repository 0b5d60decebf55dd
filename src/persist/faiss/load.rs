//! How rows of a file get into inverted lists: in pieces of about [`PIECE_BYTES`].
//!
//! faiss writes all vectors of a list before its ids. Lists are put together until they make a
//! piece; of a larger list the ids are read first, where the source can look ahead, and then its
//! vectors piece by piece. A stream has to hold such a list whole.

use crate::{
    backend::{IvfBackend, Run, label_dtype},
    error::{Error, Result},
    lists::InvertedLists,
    persist::{element::Element, source::Source},
};
use burn::tensor::DType;
use rayon::prelude::*;
use std::io::Read;

/// Vectors handed over at once.
const PIECE_BYTES: usize = 4 << 20;

/// Values that one thread looks at.
const FINITE_STEP: usize = 1 << 16;

/// Where the ids of rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// 0, 1, 2 and so on, not in the file.
    Counted,
    /// After the vectors.
    After,
    /// After the vectors and their count.
    AfterCount,
}

/// Inverted lists in the making.
#[derive(Debug)]
pub(super) struct Load<E: IvfBackend> {
    d: usize,
    code: Element,
    device: E::Device,
    lists: InvertedLists<E>,
    /// Rows of a piece.
    piece: usize,
    /// Rows every list will have, if the file has been seen to hold them.
    sizes: Option<Vec<usize>>,
    /// What waits to be appended.
    rows: Vec<f32>,
    ids: Vec<i64>,
    runs: Vec<Run>,
    raw: Vec<u16>,
    /// Rows appended.
    done: usize,
}

impl<E: IvfBackend> Load<E> {
    /// Lists that will take `sizes[l]` rows of `d` components each, which are stored in 16 bits where
    /// the file has them so, not as residuals, and the device can.
    pub fn new<R: Read>(
        source: &Source<R>,
        d: usize,
        code: Element,
        sizes: &[usize],
        residual: bool,
        device: &E::Device,
    ) -> Result<Self> {
        let limit = u32::MAX as usize - 1;
        let rows = sizes.iter().fold(0, |sum: usize, &n| sum.saturating_add(n));
        if rows > limit {
            return Err(Error::TooLarge { rows, limit });
        }
        // A sum with a centroid needs all 32 bits again.
        let stored = if residual { Element::F32 } else { code };
        let storage = E::capabilities(device).storage(stored.storage());
        Ok(Self {
            d,
            code,
            device: device.clone(),
            // On a GPU appending looks at every list, so a piece is no less than their number.
            piece: (PIECE_BYTES / (4 * d)).max(sizes.len()),
            lists: InvertedLists::new(d, sizes.len(), storage, device),
            // The caller has compared sizes with the bytes that are left, if that is known.
            sizes: source.left().is_some().then(|| sizes.to_vec()),
            rows: Vec::new(),
            ids: Vec::new(),
            runs: Vec::new(),
            raw: Vec::new(),
            done: 0,
        })
    }

    /// Reads the `n` rows of list `l`, to which `centroid` is added if there is one.
    pub fn list<R: Read>(
        &mut self,
        source: &mut Source<R>,
        l: u32,
        n: usize,
        ids: Ids,
        centroid: Option<&[f32]>,
    ) -> Result<()> {
        if n <= self.piece || (ids != Ids::Counted && !source.can_look_ahead()) {
            self.vectors(source, n, centroid)?;
            self.read_ids(source, n, ids)?;
            self.run(l, 0, n);
        } else {
            self.flush()?;
            self.large_list(source, l, n, ids, centroid)?;
        }
        if self.ids.len() >= self.piece {
            self.flush()?;
        }
        Ok(())
    }

    /// A list of more than one piece: the ids of each are read before its vectors.
    fn large_list<R: Read>(
        &mut self,
        source: &mut Source<R>,
        l: u32,
        n: usize,
        ids: Ids,
        centroid: Option<&[f32]>,
    ) -> Result<()> {
        let row_bytes = (self.d * self.code.bytes()) as u64;
        let count_bytes = if ids == Ids::AfterCount { 8 } else { 0 };
        for start in (0..n).step_by(self.piece) {
            let end = n.min(start + self.piece);
            if ids != Ids::Counted {
                let vectors = (n - start) as u64 * row_bytes;
                source.ahead(vectors + count_bytes + 8 * start as u64, |source| {
                    source.append("ids", end - start, &mut self.ids)
                })?;
            }
            self.vectors(source, end - start, centroid)?;
            if ids == Ids::Counted {
                // After the vectors, so that a stream has shown that there are any.
                self.ids.extend(start as i64..end as i64);
            }
            self.run(l, start, end - start);
            self.flush()?;
        }
        match ids {
            Ids::Counted => return Ok(()),
            Ids::After => {}
            Ids::AfterCount => read_count(source, n)?,
        }
        source.skip("ids", 8 * n as u64)
    }

    /// Says where the rows read last belong.
    fn run(&mut self, list: u32, first: usize, rows: usize) {
        if rows > 0 {
            let room = match &self.sizes {
                Some(sizes) => sizes[list as usize],
                None => first + rows,
            };
            self.runs.push(Run {
                list,
                first,
                rows,
                room,
            });
        }
    }

    fn read_ids<R: Read>(&mut self, source: &mut Source<R>, n: usize, ids: Ids) -> Result<()> {
        match ids {
            Ids::Counted => self.ids.extend(0..n as i64),
            Ids::After => source.append("ids", n, &mut self.ids)?,
            Ids::AfterCount => {
                read_count(source, n)?;
                source.append("ids", n, &mut self.ids)?;
            }
        }
        Ok(())
    }

    fn vectors<R: Read>(
        &mut self,
        source: &mut Source<R>,
        n: usize,
        centroid: Option<&[f32]>,
    ) -> Result<()> {
        let values = n
            .checked_mul(self.d)
            .ok_or_else(|| source.malformed(format!("{n} vectors of d = {}", self.d)))?;
        let start = self.rows.len();
        if let Some(widen) = self.code.widen() {
            self.raw.clear();
            source.append("vectors", values, &mut self.raw)?;
            widen(&self.raw, &mut self.rows);
        } else {
            source.append("vectors", values, &mut self.rows)?;
        }
        if let Some(centroid) = centroid {
            for row in self.rows[start..].chunks_exact_mut(self.d) {
                row.iter_mut().zip(centroid).for_each(|(x, c)| *x += c);
            }
        }
        Ok(())
    }

    /// Appends what waits.
    fn flush(&mut self) -> Result<()> {
        let n = self.ids.len();
        if n == 0 {
            return Ok(());
        }
        let narrow = label_dtype::<E>(&self.device) != DType::I64;
        for (row, &id) in self.ids.iter().enumerate() {
            let row = self.done + row;
            if id == -1 {
                return Err(Error::PaddingId { row });
            }
            if narrow && i32::try_from(id).is_err() {
                return Err(Error::IdOutOfRange { row, id });
            }
        }
        let finite = |values: &[f32]| values.iter().fold(true, |all, x| all & x.is_finite());
        if !self.rows.par_chunks(FINITE_STEP).all(finite) {
            crate::cluster::check_finite(&self.rows, self.d, "vectors of the file")
                .map_err(|error| at_row(error, self.done))?;
        }
        self.lists
            .extend(&self.rows, &self.ids, &self.runs, &self.device)?;
        self.done += n;
        self.rows.clear();
        self.ids.clear();
        self.runs.clear();
        Ok(())
    }

    /// The lists.
    pub fn finish(mut self) -> Result<InvertedLists<E>> {
        self.flush()?;
        Ok(self.lists)
    }
}

/// Reads the count before ids.
fn read_count<R: Read>(source: &mut Source<R>, n: usize) -> Result<()> {
    let count = source.count("ids", size_of::<i64>())?;
    if count != n {
        return Err(source.malformed(format!("{count} ids for {n} vectors")));
    }
    Ok(())
}

/// The error with the row's number in the file instead of its piece.
fn at_row(error: Error, first: usize) -> Error {
    match error {
        Error::NonFinite { what, row, count } => Error::NonFinite {
            what,
            row: row + first,
            count,
        },
        other => other,
    }
}
