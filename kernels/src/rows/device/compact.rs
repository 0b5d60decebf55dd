//! Dropping rows, making room, giving memory back: all on the device.
//!
//! Rows that stay move towards the front of their list, keeping their order. Where no clone shares the
//! buffer that happens in place, by way of a buffer for one piece at a time: a piece is read before any
//! of its rows is written, and rows only move to earlier places, so no later piece is overwritten.
//! Searches that are queued come earlier in the same queue and have read what they need.

use super::{Copy, DeviceLists, Extent, Pool};
use crate::{
    KernelError,
    rows::{first_clear, places},
};
use cubecl::{prelude::*, server::Handle};
use std::sync::Arc;

/// Bytes of rows that move at once.
const PIECE_BYTES: usize = 64 << 20;

impl<R: Runtime> DeviceLists<R> {
    /// Drops rows: list `l` keeps those whose bit is set in `keep[l]` (bit `i % 32` of word `i / 32` is
    /// row `i`), in order, or all without bits. Nothing changes on an error.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device cannot hold what that takes.
    pub fn retain(&mut self, keep: &[Option<Vec<u32>>]) -> Result<(), KernelError> {
        let (gpu, home) = (self.gpu.clone(), self.home);
        home.run(&gpu, [], |[]| self.retain_at_home(keep))
    }

    fn retain_at_home(&mut self, keep: &[Option<Vec<u32>>]) -> Result<(), KernelError> {
        let mut extents = self.extents.clone();
        for (extent, keep) in extents.iter_mut().zip(keep) {
            if let Some(keep) = keep {
                extent.len = places(keep, extent.len).count();
            }
        }
        let len = extents.iter().map(|e| e.len).sum();
        let own = Arc::strong_count(&self.pool) == 1;
        let mut pool = None;
        if !own {
            pool = Some(self.close(&mut extents)?);
        }
        let placed = self.place(&extents)?;
        let moves = self.moves_of_kept(&extents, keep, own);
        match &pool {
            Some(pool) => self.relocate(pool, &moves)?,
            None => self.shift(&moves)?,
        }
        if let Some(pool) = pool {
            self.pool = Arc::new(pool);
        }
        (self.extents, self.placed, self.len) = (extents, placed, len);
        if len == 0 {
            (self.ranked, self.last_id) = (0, i64::MIN);
        }
        Ok(())
    }

    /// (from, to) of the rows that stay; `in_place`: of those that lie elsewhere in `extents`.
    fn moves_of_kept(
        &self,
        extents: &[Extent],
        keep: &[Option<Vec<u32>>],
        in_place: bool,
    ) -> (Vec<u32>, Vec<u32>) {
        let mut moves = (Vec::new(), Vec::new());
        let mut step = |from: usize, to: usize| {
            moves.0.push(from as u32);
            moves.1.push(to as u32);
        };
        for ((old, new), keep) in self.extents.iter().zip(extents).zip(keep) {
            match keep {
                None if in_place => {}
                None => (0..old.len).for_each(|i| step(old.start + i, new.start + i)),
                Some(keep) => {
                    let first = if in_place {
                        first_clear(keep, old.len)
                    } else {
                        0
                    };
                    let kept = places(keep, old.len).skip(first);
                    kept.zip(first..)
                        .for_each(|(from, to)| step(old.start + from, new.start + to));
                }
            }
        }
        moves
    }

    /// Moves rows within the buffer, to earlier places, piece by piece.
    fn shift(&self, (from, to): &(Vec<u32>, Vec<u32>)) -> Result<(), KernelError> {
        if from.is_empty() {
            return Ok(());
        }
        let width = self.row_words();
        let most = PIECE_BYTES.min(self.gpu.facts().buffer) / 4;
        let piece = (most / width).clamp(1, from.len());
        // Made before anything moves, so that a refusal changes nothing.
        let rows = self.gpu.empty("vectors on their way", piece * width)?;
        let ranks = self.gpu.empty("ranks on their way", piece)?;
        for (from, to) in from.chunks(piece).zip(to.chunks(piece)) {
            let from = self.gpu.upload("places of vectors", from)?;
            let n = to.len();
            let to = self.gpu.upload("places of vectors", to)?;
            let capacity = self.pool.capacity;
            for (held, way, width) in [
                (&self.pool.rows, &rows, width),
                (&self.pool.ranks, &ranks, 1),
            ] {
                let mut copy = Copy {
                    n,
                    width,
                    source: (held, capacity * width, width),
                    target: (way, piece * width, width),
                    filled: width,
                };
                copy.launch(&self.gpu, Some(&from), None)?;
                (copy.source, copy.target) = (copy.target, copy.source);
                copy.launch(&self.gpu, None, Some(&to))?;
            }
        }
        Ok(())
    }

    /// Makes room for `additional[l]` more rows in list `l`.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device cannot hold them; nothing changes then.
    pub fn reserve(&mut self, additional: &[usize]) -> Result<(), KernelError> {
        let lens: Vec<usize> = self
            .extents
            .iter()
            .zip(additional)
            .map(|(e, &more)| e.len + more)
            .collect();
        let short = |(e, &len): (&Extent, &usize)| len > e.room;
        if !self.extents.iter().zip(&lens).any(short) {
            return Ok(());
        }
        let (gpu, home) = (self.gpu.clone(), self.home);
        home.run(&gpu, [], |[]| {
            let (pool, extents) = self.room(&lens)?;
            self.placed = self.place(&extents)?;
            (self.pool, self.extents) = (pool, extents);
            Ok(())
        })
    }

    /// Gives back room to grow, and ranks that no row has; `held(list, slot)` is the id of a row.
    ///
    /// # Errors
    /// [`KernelError::Buffer`] when the device cannot hold the smaller buffers beside the present
    /// ones; nothing changes then.
    pub fn shrink_to_fit(&mut self, held: impl Fn(usize, usize) -> i64) -> Result<(), KernelError> {
        if self.pool.capacity == self.len && self.ranked == self.len {
            return Ok(());
        }
        let (gpu, home) = (self.gpu.clone(), self.home);
        home.run(&gpu, [], |[]| {
            let mut extents = self.extents.clone();
            let pool = self.close(&mut extents)?;
            let placed = self.place(&extents)?;
            let all: Vec<usize> = (0..extents.len()).collect();
            let moves = self.moves(&extents, &all);
            self.relocate(&pool, &moves)?;
            let table = self.rank_anew(&pool, &extents, held)?;
            (self.pool, self.extents, self.placed) = (Arc::new(pool), extents, placed);
            (self.table, self.ranked) = (table, self.len);
            Ok(())
        })
    }

    /// Puts extents end to end, without room to grow, and makes a buffer for them.
    fn close(&self, extents: &mut [Extent]) -> Result<Pool, KernelError> {
        let mut used = 0;
        for extent in extents {
            (extent.start, extent.room) = (used, extent.len);
            used += extent.len;
        }
        let pool = Pool::new(&self.gpu, self.row_words(), used)?;
        Ok(Pool { used, ..pool })
    }

    /// (start, length) of every list, on the device.
    pub(super) fn place(&self, extents: &[Extent]) -> Result<Handle, KernelError> {
        let flat: Vec<u32> = extents
            .iter()
            .flat_map(|e| [e.start as u32, e.len as u32])
            .collect();
        self.gpu.upload("extents of lists", &flat)
    }
}
