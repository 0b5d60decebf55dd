//! A restriction on a device: what is uploaded of it, and how many rows it leaves at most.

use super::{
    blueprint::{Limits, Ordered},
    device::{DeviceProblem, Reads},
    restrict::{ListOrder, Masks, ReadingOrder, Restriction},
    walk::LimitArgsLaunch,
};
use crate::{KernelError, device::array, rows::device::DeviceLists};
use core::ops::Range;
use cubecl::{prelude::*, server::Handle};
use std::sync::{Arc, Mutex, PoisonError};

/// Reading orders that lie on the device already: the last ones that were asked for.
///
/// A derived cache: answers do not depend on it. It is for the lists of one index and must go with
/// them, since it lies in their queue.
#[derive(Debug, Default)]
pub struct Orders(Mutex<Option<Placed>>);

/// A reading order by position.
#[derive(Debug, Clone)]
struct Placed {
    /// What it was made of: the orders of the lists, and where those started.
    lists: Vec<Arc<ListOrder>>,
    starts: Vec<u32>,
    words: usize,
    /// Positions by place, and places by position.
    rows: Option<Handle>,
    places: Option<Handle>,
}

impl Clone for Orders {
    fn clone(&self) -> Self {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Mutex::new(held.clone()))
    }
}

impl Orders {
    /// The order as `wanted`, and its length. In the lists' queue.
    fn on<R: Runtime>(
        &self,
        lists: &DeviceLists<R>,
        order: &ReadingOrder,
        wanted: Ordered,
    ) -> Result<(Handle, usize), KernelError> {
        let starts: Vec<u32> = (0..lists.nlist() as u32)
            .map(|l| lists.position(l, 0))
            .collect();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = held.as_ref().is_some_and(|held| {
            let orders = held.lists.iter().zip(&order.lists);
            held.starts == starts
                && held.lists.len() == order.lists.len()
                && orders.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
        });
        if !same {
            let ends = starts.iter().zip(&order.lists);
            *held = None;
            *held = Some(Placed {
                lists: order.lists.clone(),
                words: ends
                    .map(|(start, list)| *start as usize + list.rows.len())
                    .max()
                    .unwrap_or(0),
                starts,
                rows: None,
                places: None,
            });
        }
        let Some(placed) = held.as_mut() else {
            return Err(KernelError::Empty);
        };
        let handle = match wanted {
            Ordered::Places => &placed.places,
            _ => &placed.rows,
        };
        if let Some(handle) = handle {
            return Ok((handle.clone(), placed.words));
        }
        let mut words = vec![0; placed.words];
        for (&start, list) in placed.starts.iter().zip(&placed.lists) {
            let words = &mut words[start as usize..];
            match wanted {
                Ordered::Places => words[..list.places.len()].copy_from_slice(&list.places),
                _ => words.iter_mut().zip(&list.rows).for_each(|(word, &slot)| {
                    // A row of this list, whatever the order says.
                    *word = start + slot.min(list.rows.len() as u32 - 1);
                }),
            }
        }
        let handle = lists.gpu().upload("the order of rows", &words)?;
        match wanted {
            Ordered::Places => placed.places = Some(handle.clone()),
            _ => placed.rows = Some(handle.clone()),
        }
        Ok((handle, placed.words))
    }
}

/// Bytes of masks uploaded at once at most: words are counted in 32 bits.
const MARKS: usize = 1 << 33;

/// A buffer and its length in words.
pub(super) type Buffer = (Handle, usize);

/// What a search uploads of its restriction, part by part.
pub(super) struct Uploads<'a, R: Runtime> {
    lists: &'a DeviceLists<R>,
    masks: Option<&'a Masks>,
    /// Queries of a search, and of a part where not all masks are uploaded at once.
    nq: usize,
    per_part: usize,
    caps: Option<Buffer>,
    order: Option<Buffer>,
    /// The masks of all queries.
    marks: Option<Buffer>,
    /// Rows that one query reads at most, and on average.
    pub most: usize,
    pub usual: usize,
    /// What the kernels are to look at.
    pub limits: Limits,
}

impl<'a, R: Runtime> Uploads<'a, R> {
    /// Uploads what all parts share, in the lists' queue. `by_slot`: rows must be met in the order of
    /// their slots.
    pub fn new(
        problem: &DeviceProblem<'a, R>,
        reads: Reads<'_>,
        restriction: Restriction<'a>,
        orders: &Orders,
        by_slot: bool,
    ) -> Result<Self, KernelError> {
        let lists = problem.lists;
        let gpu = lists.gpu();
        let mut uploads = Self {
            lists,
            masks: restriction.masks,
            nq: problem.nq,
            per_part: problem.nq,
            caps: None,
            order: None,
            marks: None,
            most: most_rows(lists, reads),
            usual: usual_rows(lists, reads),
            limits: Limits::default(),
        };
        if let Some(caps) = restriction.caps {
            uploads.cap(caps, problem.nq);
            uploads.caps = Some((gpu.upload("caps of a search", caps)?, caps.len().max(1)));
            if let Some(order) = restriction.order {
                let wanted = if by_slot || restriction.masks.is_some() {
                    Ordered::Places
                } else {
                    Ordered::Rows
                };
                uploads.limits.order = wanted;
                uploads.order = Some(orders.on(lists, order, wanted)?);
                if wanted == Ordered::Places {
                    // Rows beyond the cap are met all the same.
                    uploads.most = most_rows(lists, reads);
                    uploads.usual = usual_rows(lists, reads);
                }
            }
        }
        if let Some(masks) = restriction.masks {
            uploads.limits.masked = true;
            uploads.mask(masks);
            let one = 8 * (masks.starts[masks.starts.len() - 1] + 1);
            let room = (problem.workspace / 2).min(gpu.facts().buffer).min(MARKS);
            if masks.of.is_empty() || one.saturating_mul(masks.masks.len()) <= room {
                uploads.marks = Some(uploads.marks(masks, 0..problem.nq)?);
            } else {
                uploads.per_part = (room / one).max(1);
            }
        }
        Ok(uploads)
    }

    /// Queries of a part at most.
    pub fn per_part(&self) -> usize {
        self.per_part
    }

    fn cap(&mut self, caps: &[u32], nq: usize) {
        self.limits.capped = true;
        let sum = |caps: &[u32]| caps.iter().map(|&c| c as usize).sum::<usize>();
        let sums = caps.chunks_exact((caps.len() / nq).max(1)).map(sum);
        self.most = self.most.min(sums.max().unwrap_or(0));
        self.usual = self.usual.min(sum(caps) / nq);
    }

    fn mask(&mut self, masks: &Masks) {
        let bits = |mask: &Vec<u32>| mask.iter().map(|w| w.count_ones() as usize).sum::<usize>();
        let most = masks.masks.iter().map(bits).max().unwrap_or(0);
        self.most = self.most.min(most);
        let all = self.lists.len() as u64;
        self.usual = (self.usual as u64 * most as u64 / all.max(1)) as usize;
    }

    /// [`LimitArgs`](super::walk::LimitArgs)' `marks` for some queries.
    fn marks(&self, masks: &Masks, queries: Range<usize>) -> Result<Buffer, KernelError> {
        let nlist = self.lists.nlist();
        let mut words = vec![queries.start as u32];
        words.extend(masks.starts[..nlist].iter().map(|&start| start as u32));
        let of = words.len();
        words.resize(of + queries.len(), 0);
        let mut at = vec![None; masks.masks.len()];
        for (i, query) in queries.enumerate() {
            let mask = masks.of.get(query).map_or(0, |&mask| mask as usize);
            words[of + i] = *at[mask].get_or_insert_with(|| {
                let at = words.len() as u32;
                let mut before = 0;
                for l in 0..nlist {
                    let mut left = self.lists.list_len(l);
                    for &bits in &masks.masks[mask][masks.starts[l]..masks.starts[l + 1]] {
                        // No bit behind the last row, whoever set one.
                        let bits = if left < 32 {
                            bits & ((1 << left) - 1)
                        } else {
                            bits
                        };
                        left = left.saturating_sub(32);
                        words.extend([bits, before]);
                        before += bits.count_ones();
                    }
                }
                words.extend([0, before]);
                at
            });
        }
        let len = words.len();
        Ok((self.lists.gpu().upload("masks of a search", &words)?, len))
    }

    /// The arguments for queries `first..first + count`, which read their probes in the order of
    /// `turns` if there is one; and the length of the longest.
    pub fn part(
        &self,
        (first, count): (usize, usize),
        turns: Option<&Buffer>,
    ) -> Result<(LimitArgsLaunch<R>, usize), KernelError> {
        let marks = match (&self.marks, self.masks) {
            (None, Some(masks)) => Some(self.marks(masks, first..(first + count).min(self.nq))?),
            (marks, _) => marks.clone(),
        };
        let all = [
            self.caps.as_ref(),
            marks.as_ref(),
            self.order.as_ref(),
            turns,
        ];
        let longest = all.iter().flatten().map(|(_, len)| *len).max().unwrap_or(0);
        let [caps, marks, order, turns] =
            all.map(|buffer| buffer.map(|(handle, len)| array(handle, *len)).into());
        Ok((LimitArgsLaunch::new(caps, marks, order, turns), longest))
    }
}

/// Rows one query reads at most.
pub(super) fn most_rows<R: Runtime>(lists: &DeviceLists<R>, reads: Reads<'_>) -> usize {
    match reads {
        Reads::All => lists.len(),
        Reads::Rows(_, per_query) => per_query,
        Reads::Lists(_, nprobe) => {
            let mut lens: Vec<usize> = (0..lists.nlist()).map(|l| lists.list_len(l)).collect();
            lens.sort_unstable_by(|a, b| b.cmp(a));
            lens.iter().take(nprobe).sum()
        }
    }
}

/// Rows one query reads on average, were lists probed evenly.
pub(super) fn usual_rows<R: Runtime>(lists: &DeviceLists<R>, reads: Reads<'_>) -> usize {
    match reads {
        Reads::All => lists.len(),
        Reads::Rows(_, per_query) => per_query,
        Reads::Lists(_, nprobe) => {
            let nlist = lists.nlist().max(1);
            (lists.len() as u64 * nprobe.min(nlist) as u64 / nlist as u64) as usize
        }
    }
}
