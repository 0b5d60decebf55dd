//! The scan on a GPU, query by query.
//!
//! A query's candidates are the rows of its lists, one list after the other. They are cut into
//! equal slices, whatever the lengths of the lists, and each slice goes to one cube, which keeps
//! its k best in shared memory ([`crate::device::queue`]). A second launch ([`crate::select_k`])
//! merges the slices' pairs, orders them and writes distances and ids. Where k is too large for
//! shared memory, cubes write every key down and the selection does the rest.
//!
//! Keys are exact (direct differences by the one definition of a distance), so nothing is ranked
//! twice. Nothing is read back.

use super::blueprint::{Blueprint, Cut};
use crate::{
    KernelError, Metric, check_len,
    device::{
        array,
        distance::{is_searchable, key},
        queue::{Queue, key_bits},
    },
    rows::device::{DeviceLists, pad_queries},
    select_k::{Output, SelectedOnDevice, Source},
};
use cubecl::{prelude::*, server::Handle};

/// The inputs of a scan on a device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceProblem<'a, R: Runtime> {
    /// How vectors are compared.
    pub metric: Metric,
    /// Results per query, at least 1.
    pub k: usize,
    /// The lists.
    pub lists: &'a DeviceLists<R>,
    /// Queries, f32 `[nq, d]`, contiguous.
    pub queries: &'a Handle,
    /// Number of queries.
    pub nq: usize,
    /// Bytes of scratch.
    pub workspace: usize,
}

/// Which rows a query is compared with.
#[derive(Debug, Clone, Copy)]
pub enum Reads<'a> {
    /// All rows of the one list there is.
    All,
    /// The lists in `[nq, nprobe]` words; [`super::SKIP`] reads nothing. Distinct within a query.
    Lists(&'a Handle, usize),
    /// The rows at the positions in `[nq, per_query]` words; [`super::SKIP`] is a gap.
    Rows(&'a Handle, usize),
}

/// The k best rows of every query ([`super`]'s contract), on the device: distances `[nq, k]` and
/// ids `[nq, k]` of as many words as the lists' ids have.
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot hold the answer or the scratch it takes;
/// [`KernelError::Empty`] when no list holds a row (there is nothing to launch).
pub fn scan_on<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
) -> Result<SelectedOnDevice, KernelError> {
    let lists = problem.lists;
    let gpu = lists.gpu();
    let (nq, k) = (problem.nq, problem.k);
    if k == 0 || nq.checked_mul(k).is_none() {
        return Err(KernelError::Sizes {
            d: lists.d(),
            k,
            nq,
        });
    }
    if matches!(reads, Reads::All) {
        check_len("lists of an exhaustive search", 1, lists.nlist())?;
    }
    let labels = lists.labels();
    let answer = SelectedOnDevice::empty(gpu, nq, k, &labels)?;
    if nq == 0 {
        return Ok(answer);
    }
    if lists.is_empty() {
        return Err(KernelError::Empty);
    }
    let queries = pad_queries(gpu, problem.queries, nq, lists.d())?;
    let output = match problem.metric {
        Metric::L2 => Output::L2,
        Metric::InnerProduct => Output::InnerProduct,
    };
    let facts = gpu.facts();
    let all = matches!(reads, Reads::All);
    let rows = most_rows(lists, reads);
    let queue = match reads {
        Reads::Rows(..) => None,
        _ => Blueprint::new(&facts, problem.metric, lists.padded(), k, all),
    };
    let (print, per_split) = match queue {
        Some(print) => (print, k),
        None => (
            Blueprint::unqueued(&facts, problem.metric, lists.padded(), all),
            rows.max(1),
        ),
    };
    // Without a queue the slices of a query lie side by side in one row of keys.
    let usual = if queue.is_some() {
        usual_rows(lists, reads)
    } else {
        rows
    };
    let mut cut = Cut::new(&facts, nq, usual, per_split, problem.workspace);
    let width = if queue.is_some() {
        cut.splits * k
    } else {
        rows.max(1)
    };
    if queue.is_none() {
        let one = Cut::new(&facts, nq, usual, 1, usize::MAX);
        let queries = (problem.workspace.min(facts.buffer) / (8 * width)).clamp(1, nq);
        cut = Cut {
            queries,
            splits: one.splits,
        };
    }
    for first in (0..nq).step_by(cut.queries) {
        let count = cut.queries.min(nq - first);
        let pairs = gpu.empty("candidates of a search", (2 * count).saturating_mul(width))?;
        let part = Part {
            first,
            count,
            splits: cut.splits,
            width,
        };
        part.launch(problem, &queries, reads, &pairs, queue.is_some(), print)?;
        let source = Source::Pairs(pairs);
        answer.fill(gpu, &source, (count, width), (first, k), output, &labels)?;
    }
    Ok(answer)
}

/// Rows one query reads at most.
fn most_rows<R: Runtime>(lists: &DeviceLists<R>, reads: Reads<'_>) -> usize {
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
fn usual_rows<R: Runtime>(lists: &DeviceLists<R>, reads: Reads<'_>) -> usize {
    match reads {
        Reads::All => lists.len(),
        Reads::Rows(_, per_query) => per_query,
        Reads::Lists(_, nprobe) => {
            let nlist = lists.nlist().max(1);
            (lists.len() as u64 * nprobe.min(nlist) as u64 / nlist as u64) as usize
        }
    }
}

/// The queries of one launch.
struct Part {
    first: usize,
    count: usize,
    splits: usize,
    /// Pairs per query.
    width: usize,
}

impl Part {
    fn launch<R: Runtime>(
        &self,
        problem: &DeviceProblem<'_, R>,
        queries: &Handle,
        reads: Reads<'_>,
        pairs: &Handle,
        queued: bool,
        print: Blueprint,
    ) -> Result<(), KernelError> {
        let lists = problem.lists;
        let gpu = lists.gpu();
        let padded = lists.padded();
        let elements = lists
            .elements()
            .max(problem.nq * padded)
            .max(2 * self.count * self.width);
        let address = gpu.address("vectors of an index", elements)?;
        let cubes = gpu.grid(self.count * self.splits);
        let dim = CubeDim::new_1d(print.queue.units as u32);
        let query_vectors = array(queries, problem.nq * padded);
        let (named, per_query) = match reads {
            // Not read; any buffer will do.
            Reads::All => (array(queries, 1), 1),
            Reads::Lists(named, n) | Reads::Rows(named, n) => (array(named, problem.nq * n), n),
        };
        let shape = PartArgsLaunch::new(
            self.first as u32,
            self.count as u32,
            self.splits as u32,
            self.width as u32,
            per_query as u32,
            problem.k as u32,
        );
        let out = array(pairs, 2 * self.count * self.width);
        let client = gpu.client();
        let (rows, ranks, placed) = (lists.rows(), lists.ranks(), lists.placed());
        // SAFETY: cubes past the last slice stop at once; queries and probes are indexed below nq,
        // lists by numbers below nlist or not at all, rows within extents (row 0 by idle units,
        // which every pool has), pairs below `count · width`.
        unsafe {
            match (reads, queued) {
                (Reads::Rows(..), _) => keys_of_rows::launch_unchecked::<R>(
                    client,
                    cubes,
                    dim,
                    address,
                    4,
                    query_vectors,
                    rows,
                    ranks,
                    named,
                    out,
                    shape,
                    print,
                ),
                (_, true) => keep_best::launch_unchecked::<R>(
                    client,
                    cubes,
                    dim,
                    address,
                    4,
                    query_vectors,
                    rows,
                    ranks,
                    placed,
                    named,
                    out,
                    shape,
                    print,
                ),
                (_, false) => keys_of_lists::launch_unchecked::<R>(
                    client,
                    cubes,
                    dim,
                    address,
                    4,
                    query_vectors,
                    rows,
                    ranks,
                    placed,
                    named,
                    out,
                    shape,
                    print,
                ),
            }
        }
        Ok(())
    }
}

/// Sizes of a launch.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct PartArgs {
    first: u32,
    count: u32,
    splits: u32,
    width: u32,
    per_query: u32,
    k: u32,
}

/// A walk over a query's candidates: list after list.
#[derive(CubeType)]
struct Walk {
    /// The next probe to look at.
    probe: u32,
    /// Candidates before the present list and up to its end.
    before: u32,
    end: u32,
    /// Where the present list starts.
    start: u32,
}

#[cube]
impl Walk {
    fn new() -> Walk {
        Walk {
            probe: 0u32.runtime(),
            before: 0u32.runtime(),
            end: 0u32.runtime(),
            start: 0u32.runtime(),
        }
    }

    /// The position of candidate `at`, which is not before the last one asked for.
    fn position(
        &mut self,
        at: u32,
        placed: &Array<u32>,
        named: &Array<u32>,
        named_at: usize,
        #[comptime] all: bool,
    ) -> u32 {
        while at >= self.end {
            let list = list_at(named, named_at + self.probe as usize, all);
            self.before = self.end;
            if list != u32::MAX {
                self.start = placed[list as usize * 2];
                self.end += placed[list as usize * 2 + 1];
            }
            self.probe += 1u32;
        }
        self.start + (at - self.before)
    }
}

#[cube]
fn list_at(named: &Array<u32>, at: usize, #[comptime] all: bool) -> u32 {
    let mut list = 0u32.runtime();
    if comptime!(!all) {
        list = named[at];
    }
    list
}

/// Candidates of a query: the rows of all its lists.
#[cube]
fn candidates(
    placed: &Array<u32>,
    named: &Array<u32>,
    named_at: usize,
    per_query: u32,
    total: &SharedMemory<Atomic<u32>>,
    #[comptime] print: Blueprint,
) -> u32 {
    if UNIT_POS == 0 {
        total[1].store(0u32);
    }
    sync_cube();
    let mut mine = 0u32.runtime();
    let mut i = UNIT_POS;
    while i < per_query {
        let list = list_at(named, named_at + i as usize, print.all);
        if list != u32::MAX {
            mine += placed[list as usize * 2 + 1];
        }
        i += comptime!(print.queue.units as u32);
    }
    if mine > 0u32 {
        total[1].fetch_add(mine);
    }
    sync_cube();
    total[1].load()
}

/// The k best of one slice of one query.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn keep_best<N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<f32, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    named: &Array<u32>,
    out: &mut Array<u32>,
    part: PartArgs,
    #[comptime] print: Blueprint,
) {
    let cube = CUBE_POS as u32;
    if cube >= part.count * part.splits {
        terminate!();
    }
    let local = cube / part.splits;
    let split = cube - local * part.splits;
    let query = (part.first + local) as usize;
    let named_at = query * part.per_query as usize;
    let flags = SharedMemory::<Atomic<u32>>::new(2usize);
    let size = comptime!(if print.keep { print.compare.vectors } else { 1 });
    let mut kept = SharedMemory::<Vector<f32, N>>::new(size);
    let query_at = query * comptime!(print.compare.vectors);
    let searchable = is_searchable::<N>(
        queries,
        query_at,
        &mut kept,
        &flags,
        print.compare,
        print.keep,
    );
    let mut total = candidates(placed, named, named_at, part.per_query, &flags, print);
    if !searchable {
        total = 0u32;
    }
    let from = slice_start(total, split, part.splits);
    let to = slice_start(total, split + 1u32, part.splits);
    let groups = comptime!(print.queue.units as u32 / print.compare.lanes);
    let group = UNIT_POS / comptime!(print.compare.lanes);
    let leader = UNIT_POS % comptime!(print.compare.lanes) == 0u32;
    let mut queue = Queue::new(print.queue);
    let mut walk = Walk::new();
    let mut step = from;
    while step < to {
        #[unroll]
        for turn in 0..print.turns {
            let at = step + comptime!(turn as u32) * groups + group;
            let active = at < to;
            let mut position = 0u32.runtime();
            if active {
                position = walk.position(at, placed, named, named_at, print.all);
            }
            let row_at = position as usize * comptime!(print.compare.vectors);
            let row_key = if comptime!(print.keep) {
                key::<N>(&kept.to_slice(), rows, row_at, print.compare)
            } else {
                let end = query_at + comptime!(print.compare.vectors);
                key::<N>(&queries.slice(query_at, end), rows, row_at, print.compare)
            };
            if active && leader {
                let bits = key_bits(row_key);
                queue.push(bits, ranks[position as usize], part.k as usize, print.queue);
            }
        }
        queue.settle(print.queue);
        step += comptime!(print.queue.step as u32);
    }
    queue.finish(print.queue);
    let base = (local * part.width + split * part.k) as usize * 2;
    let mut i = UNIT_POS as usize;
    while i < part.k as usize {
        out[base + i * 2] = queue.key(i);
        out[base + i * 2 + 1] = queue.ord(i);
        i += print.queue.units;
    }
}

/// The first candidate of a slice: equal slices, the first ones perhaps longer by one.
#[cube]
fn slice_start(total: u32, split: u32, splits: u32) -> u32 {
    let size = total / splits;
    size * split + min(split, total - size * splits)
}

/// The keys of all candidates of a slice, one after the other; gaps behind the last.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn keys_of_lists<N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<f32, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    named: &Array<u32>,
    out: &mut Array<u32>,
    part: PartArgs,
    #[comptime] print: Blueprint,
) {
    let cube = CUBE_POS as u32;
    if cube >= part.count * part.splits {
        terminate!();
    }
    let local = cube / part.splits;
    let split = cube - local * part.splits;
    let query = (part.first + local) as usize;
    let named_at = query * part.per_query as usize;
    let flags = SharedMemory::<Atomic<u32>>::new(2usize);
    let size = comptime!(if print.keep { print.compare.vectors } else { 1 });
    let mut kept = SharedMemory::<Vector<f32, N>>::new(size);
    let query_at = query * comptime!(print.compare.vectors);
    let searchable = is_searchable::<N>(
        queries,
        query_at,
        &mut kept,
        &flags,
        print.compare,
        print.keep,
    );
    let mut total = candidates(placed, named, named_at, part.per_query, &flags, print);
    if !searchable {
        total = 0u32;
    }
    let from = slice_start(part.width, split, part.splits);
    let to = slice_start(part.width, split + 1u32, part.splits);
    let groups = comptime!(print.queue.units as u32 / print.compare.lanes);
    let group = UNIT_POS / comptime!(print.compare.lanes);
    let leader = UNIT_POS % comptime!(print.compare.lanes) == 0u32;
    let base = local as usize * part.width as usize;
    let mut walk = Walk::new();
    let mut step = from;
    while step < to {
        let at = step + group;
        let active = at < to && at < total;
        let mut position = 0u32.runtime();
        if active {
            position = walk.position(at, placed, named, named_at, print.all);
        }
        let row_at = position as usize * comptime!(print.compare.vectors);
        let row_key = if comptime!(print.keep) {
            key::<N>(&kept.to_slice(), rows, row_at, print.compare)
        } else {
            let end = query_at + comptime!(print.compare.vectors);
            key::<N>(&queries.slice(query_at, end), rows, row_at, print.compare)
        };
        if leader && at < to {
            write_pair(out, base + at as usize, active, row_key, ranks, position);
        }
        step += groups;
    }
}

/// The keys of rows named one by one; gaps where none is named.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn keys_of_rows<N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<f32, N>>,
    ranks: &Array<u32>,
    named: &Array<u32>,
    out: &mut Array<u32>,
    part: PartArgs,
    #[comptime] print: Blueprint,
) {
    let cube = CUBE_POS as u32;
    if cube >= part.count * part.splits {
        terminate!();
    }
    let local = cube / part.splits;
    let split = cube - local * part.splits;
    let query = (part.first + local) as usize;
    let named_at = query * part.per_query as usize;
    let flags = SharedMemory::<Atomic<u32>>::new(2usize);
    let size = comptime!(if print.keep { print.compare.vectors } else { 1 });
    let mut kept = SharedMemory::<Vector<f32, N>>::new(size);
    let query_at = query * comptime!(print.compare.vectors);
    let searchable = is_searchable::<N>(
        queries,
        query_at,
        &mut kept,
        &flags,
        print.compare,
        print.keep,
    );
    let from = slice_start(part.width, split, part.splits);
    let to = slice_start(part.width, split + 1u32, part.splits);
    let groups = comptime!(print.queue.units as u32 / print.compare.lanes);
    let group = UNIT_POS / comptime!(print.compare.lanes);
    let leader = UNIT_POS % comptime!(print.compare.lanes) == 0u32;
    let base = local as usize * part.width as usize;
    let mut step = from;
    while step < to {
        let at = step + group;
        let mut position = u32::MAX.runtime();
        if at < to && at < part.per_query && searchable {
            position = named[named_at + at as usize];
        }
        let active = position != u32::MAX;
        if !active {
            position = 0u32;
        }
        let row_at = position as usize * comptime!(print.compare.vectors);
        let row_key = if comptime!(print.keep) {
            key::<N>(&kept.to_slice(), rows, row_at, print.compare)
        } else {
            let end = query_at + comptime!(print.compare.vectors);
            key::<N>(&queries.slice(query_at, end), rows, row_at, print.compare)
        };
        if leader && at < to {
            write_pair(out, base + at as usize, active, row_key, ranks, position);
        }
        step += groups;
    }
}

#[cube]
fn write_pair(
    out: &mut Array<u32>,
    at: usize,
    active: bool,
    row_key: f32,
    ranks: &Array<u32>,
    position: u32,
) {
    if active {
        out[at * 2] = key_bits(row_key);
        out[at * 2 + 1] = ranks[position as usize];
    } else {
        out[at * 2] = u32::MAX;
        out[at * 2 + 1] = u32::MAX;
    }
}
