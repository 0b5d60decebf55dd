//! Inverted lists in ordinary tensors: rows in one growing log, lists as row numbers.

use crate::{
    backend::{Keep, ListStore, Places, RowIds, Slot, select_rows},
    error::Result,
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
    segments: Vec<Tensor<B, 2>>,
    /// Rows of a full segment.
    segment_rows: usize,
    /// Rows in the log.
    len: usize,
    rows: Vec<Arc<Vec<u32>>>,
}

impl<B: Backend> PortableLists<B> {
    /// `nlist` empty lists over a log cut every `segment_rows` rows, at least 1.
    pub(super) fn in_segments(
        d: usize,
        nlist: usize,
        segment_rows: usize,
        device: &B::Device,
    ) -> Self {
        Self {
            d,
            device: device.clone(),
            segments: Vec::new(),
            segment_rows,
            len: 0,
            rows: vec![Arc::default(); nlist],
        }
    }

    /// Writes `rows` at the end of the log.
    fn extend_log(&mut self, rows: Tensor<B, 2>) {
        let n = rows.dims()[0];
        let mut from = 0;
        while from < n {
            let used = self.len % self.segment_rows;
            let take = (self.segment_rows - used).min(n - from);
            let piece = rows.clone().slice([from..from + take, 0..self.d]);
            let last = if used == 0 { None } else { self.segments.pop() };
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

    /// Makes room for `take` rows after `used`: at least half as much again.
    fn grow(&self, segment: Tensor<B, 2>, used: usize, take: usize) -> Tensor<B, 2> {
        let capacity = segment.dims()[0];
        if used + take <= capacity {
            return segment;
        }
        let rows = (used + take)
            .max(capacity + capacity / 2)
            .min(self.segment_rows);
        let room = Tensor::zeros([rows - used, self.d], (&self.device, DType::F32));
        Tensor::cat(vec![segment.slice([0..used, 0..self.d]), room], 0)
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

impl<B: Backend> ListStore<B> for PortableLists<B> {
    fn new(d: usize, nlist: usize, _: Keep, device: &B::Device) -> Self {
        let segment_rows = (SEGMENT_BYTES / (d * size_of::<f32>())).max(1);
        Self::in_segments(d, nlist, segment_rows, device)
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
        Ok(self.log_rows(&rows))
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
