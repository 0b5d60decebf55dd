//! The scan on a GPU, list by list: every row is read once for a tile of the queries that probe its
//! list.
//!
//! (query, list) pairs are grouped by list ([`crate::group_tasks`]); a *task* is a piece of a list for a
//! tile of its queries, which lie in shared memory with a queue each ([`crate::device::queues`]). A cube
//! takes task after task, so the grid need not know how many there are, and nothing is read back.
//! Rows go against blocks of queries in registers ([`crate::device::tile`]) by the one definition of
//! a distance, so the answer has the bits of the scan query by query, and nothing is ranked twice.
//!
//! Cubes tell each other the k-th best key they have for a query. What lies above it need not be kept,
//! so a task appends only what may be among the query's k best to the query's pairs; the selection
//! reads as many as there are. Which pairs those are depends on the order of the cubes, the k best of
//! them do not.
//!
//! Above k = 256 shared memory holds no queues, only short buffers, which are emptied into the query's
//! pairs as they fill. Lists are read in rounds ([`rounds`]): a query has room for its k best so far
//! and every row of a round. Between two rounds its pairs are cut to the k best
//! ([`crate::select_k::trim_on`]), whose last key the next round starts from.

mod blueprint;
mod bound;
mod cube;
mod filter;
mod products;
mod rounds;
mod tasks;
mod tensor;

pub(super) use blueprint::{Blueprint, Cut, Load};

use super::{DeviceProblem, Reads, device::output_of};
use crate::{
    KernelError,
    device::{Filter, VECTOR, array},
    group_tasks::{Grouped, group_on},
    rows::device::Element,
    select_k::{SelectedOnDevice, Source, trim_on},
};
use cube::{TileArgsLaunch, keep_best_by_list};
use cubecl::{prelude::*, server::Handle};
use half::{bf16, f16};
use products::keep_best_by_products;
use tasks::{PiecesLaunch, begin, lay_out};
use tensor::keep_best_by_tensors;

/// The choices for a scan by list; `None` where it cannot be read so.
pub(super) fn blueprint<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
) -> Option<Blueprint> {
    let lists = problem.lists;
    let (grouped, nprobe) = match reads {
        Reads::All => (false, 1),
        Reads::Lists(_, nprobe) => (true, nprobe),
        Reads::Rows(..) => return None,
    };
    let pairs = problem.nq.saturating_mul(nprobe);
    let load = Load::new(grouped, pairs, lists.nlist(), lists.len());
    let facts = problem.facts();
    Blueprint::new(&facts, problem.metric, lists.padded(), problem.k, load)
}

/// Fills `answer` with the k best of every query (padded queries, at least one; some row).
pub(super) fn scan<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    queries: &Handle,
    reads: Reads<'_>,
    print: Blueprint,
    answer: &SelectedOnDevice,
) -> Result<(), KernelError> {
    let lists = problem.lists;
    let (gpu, nq, k) = (lists.gpu(), problem.nq, problem.k);
    let nprobe = match reads {
        Reads::Lists(_, nprobe) => nprobe,
        _ => 1,
    };
    let cut = print.cut(
        &problem.facts(),
        (nq, nprobe, k),
        (0..lists.nlist()).map(|l| lists.list_len(l)).collect(),
        problem.workspace,
    );
    for first in (0..nq).step_by(cut.queries) {
        let count = cut.queries.min(nq - first);
        let part = Part {
            problem,
            queries,
            print,
            cut,
            nprobe,
            first,
            count,
        };
        let words = (2 * count).saturating_mul(cut.width);
        let pairs = gpu.empty("candidates of a search", words)?;
        let state = part.begin()?;
        let grouped = part.group(reads)?;
        let table = gpu.empty("tasks of a search", 4 * lists.nlist() + 2)?;
        let shape = (count, cut.width);
        for round in 0..cut.rounds.count {
            if round > 0 {
                trim_on(gpu, (&pairs, &state), shape, k)?;
            }
            part.lay_out(&grouped, &table, round);
            let buffers = [&table, &grouped.pairs, &state, &pairs];
            match lists.element() {
                Element::F32 => part.launch::<f32>(buffers)?,
                Element::F16 => part.launch::<f16>(buffers)?,
                Element::Bf16 => part.launch::<bf16>(buffers)?,
            }
        }
        let source = Source::Counted(pairs, state);
        let output = output_of(problem.metric);
        let to = (first, k);
        answer.fill(gpu, &source, shape, to, output, &lists.labels())?;
    }
    Ok(())
}

/// The queries of one launch.
struct Part<'a, R: Runtime> {
    problem: &'a DeviceProblem<'a, R>,
    queries: &'a Handle,
    print: Blueprint,
    cut: Cut,
    nprobe: usize,
    first: usize,
    count: usize,
}

impl<R: Runtime> Part<'_, R> {
    /// What is known of the queries: nothing, but whether they can be searched.
    fn begin(&self) -> Result<Handle, KernelError> {
        let gpu = self.problem.lists.gpu();
        let state = gpu.empty("limits of a search", 2 * self.count)?;
        let elements = self.problem.nq * self.problem.lists.padded();
        let units = gpu.facts().units.min(64);
        let address = gpu.address("queries of a search", elements)?;
        // SAFETY: units past the last query stop at once; queries are indexed below nq.
        unsafe {
            begin::launch_unchecked::<R>(
                gpu.client(),
                gpu.grid(self.count.div_ceil(units as usize)),
                CubeDim::new_1d(units),
                address,
                VECTOR,
                array(self.queries, elements),
                array(&state, 2 * self.count),
                self.first as u32,
                self.count as u32,
                self.print.compare,
            );
        }
        Ok(state)
    }

    /// The pairs in list order (any buffer where all read one list).
    fn group(&self, reads: Reads<'_>) -> Result<Grouped, KernelError> {
        let lists = self.problem.lists;
        match reads {
            Reads::Lists(named, nprobe) => {
                let part = (self.first * nprobe, self.count * nprobe);
                group_on(lists.gpu(), named, part, lists.nlist())
            }
            _ => Ok(Grouped {
                offsets: self.queries.clone(),
                pairs: self.queries.clone(),
            }),
        }
    }

    /// Writes the tasks of a round into the table.
    fn lay_out(&self, grouped: &Grouped, table: &Handle, round: usize) {
        let lists = self.problem.lists;
        let (gpu, nlist) = (lists.gpu(), lists.nlist());
        let len = if self.print.grouped { nlist + 1 } else { 1 };
        let rounds = self.cut.rounds;
        let cut = PiecesLaunch::new(
            nlist as u32,
            self.count as u32,
            self.cut.rows as u32,
            round as u32,
            rounds.count as u32,
            rounds.least as u32,
        );
        let units = gpu.facts().units.min(256);
        // SAFETY: lists are numbered below nlist.
        unsafe {
            lay_out::launch_unchecked::<R>(
                gpu.client(),
                gpu.grid(1),
                CubeDim::new_1d(units),
                lists.placed(),
                array(&grouped.offsets, len),
                array(table, 4 * nlist + 2),
                cut,
                self.print.queues.queues,
                self.print.grouped,
                units as usize,
            );
        }
    }

    /// The scan: table of tasks, pairs in list order, state of the queries, pairs found.
    fn launch<F: Float>(&self, buffers: [&Handle; 4]) -> Result<(), KernelError> {
        let (problem, print) = (self.problem, self.print);
        let lists = problem.lists;
        let gpu = lists.gpu();
        let [table, grouped, state, pairs] = buffers;
        let words = 2 * self.count * self.cut.width;
        let query_words = problem.nq * lists.padded();
        let elements = lists.elements().max(query_words).max(words);
        let address = gpu.address("vectors of an index", elements)?;
        let args = TileArgsLaunch::new(
            self.first as u32,
            self.count as u32,
            lists.nlist() as u32,
            self.nprobe as u32,
            self.cut.rows as u32,
            self.cut.width as u32,
            problem.k as u32,
            0.0,
            print.slack(),
        );
        let pairs_len = if print.grouped {
            self.count * self.nprobe
        } else {
            1
        };
        let units = CubeDim::new_1d(print.queues.units as u32);
        let grid = gpu.grid(self.cut.cubes);
        let scan = match print.filter {
            Filter::Nothing => keep_best_by_list::launch_unchecked::<F, R>,
            Filter::Products => keep_best_by_products::launch_unchecked::<F, R>,
            Filter::TensorCores => keep_best_by_tensors::launch_unchecked::<F, R>,
        };
        // SAFETY: tasks end at the table's last; queries are pairs divided by nprobe, so below
        // count, rows lie within extents (a piece's first by idle units), pairs below `count · width`.
        unsafe {
            scan(
                gpu.client(),
                grid,
                units,
                address,
                VECTOR,
                array(self.queries, query_words),
                lists.rows(),
                lists.ranks(),
                array(table, 4 * lists.nlist() + 2),
                array(grouped, pairs_len),
                array(state, 2 * self.count),
                array(pairs, words),
                args,
                print,
            );
        }
        Ok(())
    }
}
