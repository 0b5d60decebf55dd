//! Inverted lists in ordinary tensors: rows in one growing log, lists as row numbers.
//!
//! Rows that are dropped leave a gap in the log; when more than half of it is gaps, what is left is
//! written anew, list by list.

use crate::{
    backend::{Keep, ListStore, Merging, Places, RowIds, Slot, places, select_rows},
    error::Result,
    params::Storage,
};
use burn::tensor::{DType, Tensor, backend::Backend};
use std::sync::Arc;

/// Bytes of a full segment: below the smallest binding limit of common GPU adapters.
const SEGMENT_BYTES: usize = 64 << 20;

/// Inverted lists for any Burn backend.
///
/// Rows are appended to a log, cut into segments; a list is the numbers of its rows. Appending
/// copies at most the last segment (which doubles), and Burn copies before writing when a clone
/// still shares it.
#[derive(Debug, Clone)]
pub struct PortableLists<B: Backend> {
    d: usize,
    device: B::Device,
    /// The type of the log's components.
    dtype: DType,
    segments: Vec<Tensor<B, 2>>,
    /// Rows of a full segment.
    segment_rows: usize,
    /// Rows in the log, with its gaps.
    len: usize,
    /// Rows of the log that no list names any more.
    gaps: usize,
    rows: Vec<Arc<Vec<u32>>>,
}

impl<B: Backend> PortableLists<B> {
    /// `nlist` empty lists of vectors of `d` components over a log of `dtype`, cut every
    /// `segment_rows` rows, at least 1.
    pub(super) fn in_segments(
        (d, dtype): (usize, DType),
        nlist: usize,
        segment_rows: usize,
        device: &B::Device,
    ) -> Self {
        Self {
            d,
            device: device.clone(),
            dtype,
            segments: Vec::new(),
            segment_rows,
            len: 0,
            gaps: 0,
            rows: vec![Arc::default(); nlist],
        }
    }

    /// Writes `rows` at the end of the log.
    fn extend_log(&mut self, rows: Tensor<B, 2>) {
        let n = rows.dims()[0];
        let rows = rows.cast(self.dtype);
        let mut from = 0;
        while from < n {
            let used = self.len % self.segment_rows;
            let take = (self.segment_rows - used).min(n - from);
            let piece = rows.clone().slice([from..from + take, 0..self.d]);
            let last = self.last_with_room();
            self.segments.push(match last {
                None => piece,
                Some(segment) => self
                    .grow(segment, used, take)
                    .slice_assign([used..used + take, 0..self.d], piece),
            });
            self.len += take;
            from += take;
        }
    }

    /// Takes the last segment out, unless it is full.
    fn last_with_room(&mut self) -> Option<Tensor<B, 2>> {
        let room = self.segments.len() > self.len / self.segment_rows;
        if room { self.segments.pop() } else { None }
    }

    /// Makes room for `take` rows after `used`: at least half as much again.
    fn grow(&self, segment: Tensor<B, 2>, used: usize, take: usize) -> Tensor<B, 2> {
        let capacity = segment.dims()[0];
        if used + take <= capacity {
            return segment;
        }
        let rows = (used + take).max(capacity + capacity / 2);
        self.widen(segment, used, rows.min(self.segment_rows))
    }

    /// The `used` rows of a segment with room for `rows`.
    fn widen(&self, segment: Tensor<B, 2>, used: usize, rows: usize) -> Tensor<B, 2> {
        let room = Tensor::zeros([rows - used, self.d], (&self.device, self.dtype));
        Tensor::cat(vec![segment.slice([0..used, 0..self.d]), room], 0)
    }

    /// Writes the rows that lists name anew, list by list, without gaps or room to grow.
    fn rewrite(&mut self) {
        let nlist = self.rows.len();
        let mut new =
            Self::in_segments((self.d, self.dtype), nlist, self.segment_rows, &self.device);
        let all: Vec<u32> = self.rows.iter().flat_map(|rows| rows.to_vec()).collect();
        // Whole segments, so that none has to grow.
        for rows in all.chunks(self.segment_rows) {
            new.segments.push(self.log_rows(rows));
        }
        let mut first = 0;
        for (new, rows) in new.rows.iter_mut().zip(&self.rows) {
            let end = first + rows.len() as u32;
            *new = Arc::new((first..end).collect());
            first = end;
        }
        new.len = all.len();
        *self = new;
    }

    /// Rows of the log by number.
    fn log_rows(&self, rows: &[u32]) -> Tensor<B, 2> {
        if let [segment] = self.segments.as_slice() {
            return pick(segment, rows);
        }
        // Each segment's rows in the order asked for, then one permutation back.
        let mut places: Vec<Vec<u32>> = vec![Vec::new(); self.segments.len()];
        let mut parts: Vec<Vec<u32>> = vec![Vec::new(); self.segments.len()];
        for (place, &row) in rows.iter().enumerate() {
            let segment = row as usize / self.segment_rows;
            places[segment].push(place as u32);
            parts[segment].push(row % self.segment_rows as u32);
        }
        let picked = self
            .segments
            .iter()
            .zip(&parts)
            .filter(|(_, part)| !part.is_empty())
            .map(|(segment, part)| pick(segment, part))
            .collect();
        let mut back = vec![0; rows.len()];
        for (from, &place) in places.iter().flatten().enumerate() {
            back[place as usize] = from as u32;
        }
        select_rows(&Tensor::cat(picked, 0), &back)
    }
}

/// Rows of one segment: a slice when they follow each other.
fn pick<B: Backend>(segment: &Tensor<B, 2>, rows: &[u32]) -> Tensor<B, 2> {
    let first = rows[0] as usize;
    if rows
        .iter()
        .enumerate()
        .all(|(i, &row)| row as usize == first + i)
    {
        let d = segment.dims()[1];
        return segment.clone().slice([first..first + rows.len(), 0..d]);
    }
    select_rows(segment, rows)
}

/// [`ListStore::merge`] by way of tensors: rows are gathered from one store and appended to the other,
/// in the order of their ids where that is the order of every list, which spares a backend that
/// ranks ids from ranking all of them anew.
pub(in crate::backend) fn merge<B: Backend, L: ListStore<B>>(
    store: &mut L,
    other: &L,
    merging: &Merging<'_>,
) -> Result<()> {
    let (ids, held) = (merging.ids, merging.held);
    let added: Vec<usize> = (0..held.len()).map(|l| ids.len(l) - held[l]).collect();
    // What does not fit is refused here, before anything changes.
    store.reserve(&added)?;
    let mut at: Vec<Slot> = added
        .iter()
        .zip(0..)
        .flat_map(|(&rows, list)| (0..rows as u32).map(move |slot| Slot { list, slot }))
        .collect();
    let id = |at: &Slot| {
        ids.id(Slot {
            list: at.list,
            slot: at.slot + held[at.list as usize] as u32,
        })
    };
    if at.is_sorted_by(|a, b| a.list != b.list || id(a) <= id(b)) {
        at.sort_by_key(id);
    }
    for at in at.chunks(merging.chunk) {
        let lists: Vec<u32> = at.iter().map(|at| at.list).collect();
        let new: Vec<i64> = at.iter().map(id).collect();
        let to = Places {
            lists: &lists,
            ids: &new,
            held: ids,
        };
        store.append(other.gather(at)?, &to)?;
    }
    Ok(())
}

impl<B: Backend> ListStore<B> for PortableLists<B> {
    fn new(d: usize, nlist: usize, keep: Keep, device: &B::Device) -> Self {
        let segment_rows = (SEGMENT_BYTES / (d * size_of::<f32>())).max(1);
        let dtype = match keep {
            Keep::Vectors(Storage::F16) => DType::F16,
            Keep::Vectors(Storage::Bf16) => DType::BF16,
            Keep::Vectors(_) | Keep::Centroids => DType::F32,
        };
        Self::in_segments((d, dtype), nlist, segment_rows, device)
    }

    fn append(&mut self, rows: Tensor<B, 2>, to: &Places<'_>) -> Result<()> {
        let first = self.len as u32;
        self.extend_log(rows);
        for (row, &list) in to.lists.iter().enumerate() {
            Arc::make_mut(&mut self.rows[list as usize]).push(first + row as u32);
        }
        Ok(())
    }

    fn gather(&self, at: &[Slot]) -> Result<Tensor<B, 2>> {
        let rows: Vec<u32> = at
            .iter()
            .map(|at| self.rows[at.list as usize][at.slot as usize])
            .collect();
        Ok(self.log_rows(&rows).cast(DType::F32))
    }

    fn retain(&mut self, keep: &[Option<Vec<u32>>]) -> Result<()> {
        for (rows, keep) in self.rows.iter_mut().zip(keep) {
            let Some(keep) = keep else { continue };
            let left: Vec<u32> = places(keep, rows.len()).map(|slot| rows[slot]).collect();
            self.gaps += rows.len() - left.len();
            *rows = Arc::new(left);
        }
        if 2 * self.gaps > self.len {
            self.rewrite();
        }
        Ok(())
    }

    fn reserve(&mut self, additional: &[usize]) -> Result<()> {
        // One segment ahead: those that follow are made when they are needed, at no cost in copies.
        let used = self.len % self.segment_rows;
        let rows = (used + additional.iter().sum::<usize>()).min(self.segment_rows);
        if rows > used {
            let room = match self.last_with_room() {
                Some(last) if last.dims()[0] >= rows => last,
                Some(last) if used > 0 => self.widen(last, used, rows),
                _ => Tensor::zeros([rows, self.d], (&self.device, self.dtype)),
            };
            self.segments.push(room);
        }
        Ok(())
    }

    fn shrink_to_fit(&mut self, _: RowIds<'_>) -> Result<()> {
        let held: usize = self.segments.iter().map(|s| s.dims()[0]).sum();
        if held > self.len - self.gaps {
            self.rewrite();
        }
        Ok(())
    }

    fn ranks_by(&self) -> String {
        "f32 matrix product".to_owned()
    }

    fn bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.dims()[0] * self.d * size_of::<f32>())
            .sum()
    }

    fn to_device(&self, _: RowIds<'_>, device: &B::Device) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            segments: self
                .segments
                .iter()
                .map(|s| s.clone().to_device(device))
                .collect(),
            ..self.clone()
        })
    }
}
