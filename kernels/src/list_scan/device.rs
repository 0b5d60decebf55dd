//! The scan on a GPU: query by query, or list by list ([`super::by_list`]).
//!
//! Query by query, a query's candidates are the rows of its lists, one list after the other. They are cut into
//! equal slices, whatever the lengths of the lists, and each slice goes to one cube, which keeps
//! its k best in shared memory ([`crate::device::queue`]). A second launch ([`crate::select_k`])
//! merges the slices' pairs, orders them and writes distances and ids; where there is but one slice a query, its
//! cube writes them. Where k is too large for
//! shared memory, cubes write every key down and the selection does the rest.
//!
//! Keys are exact (direct differences by the one definition of a distance), so nothing is ranked
//! twice. Nothing is read back.

use super::{
    Order,
    blueprint::{Blueprint, Cut, Names},
    by_list,
    cube::{PartArgsLaunch, answer_best, keep_best, write_keys},
    limits::{Orders, Uploads},
    restrict::Restriction,
    walk::LimitArgsLaunch,
};
use crate::{
    KernelError, Metric, check_len,
    device::{Facts, Filter, Grain, VECTOR, array},
    nearest_centroid,
    rows::{
        copy::pad_queries,
        device::{DeviceLists, Element},
    },
    select_k::{Labels, Output, SelectedOnDevice, Source},
};
use cubecl::{prelude::*, server::Handle};
use half::{bf16, f16};

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
    /// In which order lists are read where there is the choice ([`order_on`]).
    pub order: Order,
    /// How finely the scan is cut.
    pub grain: Grain,
}

impl<R: Runtime> DeviceProblem<'_, R> {
    /// The device's facts, with the grain of this search.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            grain: self.grain,
            ..self.lists.gpu().facts()
        }
    }
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
    scan_restricted_on(problem, reads, Restriction::default(), &Orders::default())
}

/// [`scan_on`] of the rows that a restriction leaves; rows named one by one are all compared.
/// `orders` belongs to the lists: it keeps the reading order on the device.
///
/// # Errors
/// As [`scan_on`], and when a length of the restriction does not fit the lists, queries or probes.
pub fn scan_restricted_on<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    restriction: Restriction<'_>,
    orders: &Orders,
) -> Result<SelectedOnDevice, KernelError> {
    let lists = problem.lists;
    let gpu = lists.gpu();
    let (nq, k) = (problem.nq, problem.k);
    let restriction = checked(problem, reads, restriction)?;
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
    if nq == 0 {
        return SelectedOnDevice::empty(gpu, nq, k, &lists.labels());
    }
    if lists.is_empty() {
        return Err(KernelError::Empty);
    }
    let answer = SelectedOnDevice::empty(gpu, nq, k, &lists.labels())?;
    in_queue(problem, reads, |queries, reads| {
        at_home(problem, queries, reads, (restriction, orders), &answer)
    })?;
    Ok(answer)
}

/// The restriction that holds, its lengths checked.
pub(super) fn checked<'a, R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    restriction: Restriction<'a>,
) -> Result<Restriction<'a>, KernelError> {
    let lists = problem.lists;
    let nprobe = match reads {
        Reads::All => 1,
        Reads::Lists(_, nprobe) => nprobe,
        Reads::Rows(..) => return Ok(Restriction::default()),
    };
    if restriction.is_none() {
        return Ok(Restriction::default());
    }
    let lens: Vec<usize> = (0..lists.nlist()).map(|l| lists.list_len(l)).collect();
    restriction.check(problem.nq, nprobe, &lens)?;
    if let Some(masks) = restriction.masks {
        let words = masks.starts[lens.len()];
        for mask in &masks.masks {
            check_len("words of a mask", words, mask.len())?;
        }
    }
    for list in restriction.order.iter().flat_map(|order| &order.lists) {
        check_len(
            "places of a list's reading order",
            list.rows.len(),
            list.places.len(),
        )?;
    }
    Ok(restriction)
}

/// Does `work` in the queue of the lists, with the queries and what is read as it may use them.
pub(super) fn in_queue<R: Runtime, T>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    work: impl FnOnce(&Handle, Reads<'_>) -> Result<T, KernelError>,
) -> Result<T, KernelError> {
    let (gpu, home) = (problem.lists.gpu(), problem.lists.home());
    let nq = problem.nq;
    let queries = (problem.queries, nq * problem.lists.d());
    match reads {
        Reads::All => home.run(gpu, [queries], |[queries]| work(queries, reads)),
        Reads::Lists(named, n) => home.run(gpu, [queries, (named, nq * n)], |[queries, named]| {
            work(queries, Reads::Lists(named, n))
        }),
        Reads::Rows(named, n) => home.run(gpu, [queries, (named, nq * n)], |[queries, named]| {
            work(queries, Reads::Rows(named, n))
        }),
    }
}

/// [`scan_on`] in the queue of the lists, for at least one query and row.
fn at_home<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    queries: &Handle,
    reads: Reads<'_>,
    (restriction, orders): (Restriction<'_>, &Orders),
    answer: &SelectedOnDevice,
) -> Result<(), KernelError> {
    let problem = &DeviceProblem {
        queries,
        ..*problem
    };
    let lists = problem.lists;
    let gpu = lists.gpu();
    let (nq, k) = (problem.nq, problem.k);
    let labels = lists.labels();
    let queries = pad_queries(gpu, problem.queries, nq, lists.d())?;
    let output = output_of(problem.metric);
    if nearest(problem, reads, restriction) {
        return nearest_centroid::nearest_on(problem, &queries, output, &labels, answer);
    }
    if let Some(print) = tiles(problem, reads, restriction) {
        return by_list::scan(problem, &queries, reads, print, answer);
    }
    let uploads = Uploads::new(problem, reads, restriction, orders, false)?;
    let print = blueprint(problem, reads, &uploads);
    let (facts, workspace) = (problem.facts(), problem.workspace);
    let mut cut = if print.queued {
        Cut::queued(&facts, nq, uploads.usual, k, workspace)
    } else {
        Cut::written(&facts, nq, uploads.most, k, workspace)
    };
    cut.queries = cut.queries.min(uploads.per_part());
    for first in (0..nq).step_by(cut.queries) {
        let count = cut.queries.min(nq - first);
        let limits = uploads.part((first, count), None)?;
        let part = Part { first, count, cut };
        if cut.answers(&facts, &print) {
            let to = To::Answer(answer, &labels, output);
            part.scan(problem, &queries, reads, limits, to, print)?;
            continue;
        }
        let pairs = gpu.empty(
            "candidates of a search",
            (2 * count).saturating_mul(cut.width),
        )?;
        part.scan(problem, &queries, reads, limits, To::Pairs(&pairs), print)?;
        let source = Source::Pairs(pairs);
        answer.fill(
            gpu,
            &source,
            (count, cut.width),
            (first, k),
            output,
            &labels,
        )?;
    }
    Ok(())
}

/// The order in which [`scan_restricted_on`] reads: the problem's own, but query by query under a
/// restriction, for rows named one by one, and where shared memory does not hold two queries and what
/// they keep; list by list for the one nearest row of many queries.
pub fn order_on<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    restriction: Restriction<'_>,
) -> Order {
    let by_list =
        nearest(problem, reads, restriction) || tiles(problem, reads, restriction).is_some();
    if by_list {
        Order::ListMajor
    } else {
        Order::QueryMajor
    }
}

/// What keeps pairs from being compared exactly in [`scan_restricted_on`]: the filter of the problem's
/// grain, or a weaker one where the device or its memory does not allow it; none query by query.
pub fn filter_on<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    restriction: Restriction<'_>,
) -> Filter {
    match tiles(problem, reads, restriction) {
        Some(print) if !nearest(problem, reads, restriction) => print.filter,
        _ => Filter::Nothing,
    }
}

/// Whether [`nearest_centroid`] does it, which reads list by list whatever is asked for.
fn nearest<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    restriction: Restriction<'_>,
) -> bool {
    let (lists, facts) = (problem.lists, problem.facts());
    restriction.is_none()
        && matches!(reads, Reads::All)
        && nearest_centroid::fits(&facts, lists.padded(), (problem.nq, problem.k, lists.len()))
}

/// The choices for a scan list by list, if that is the way to go.
fn tiles<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    restriction: Restriction<'_>,
) -> Option<by_list::Blueprint> {
    if problem.order == Order::QueryMajor || !restriction.is_none() {
        return None;
    }
    by_list::blueprint(problem, reads)
}

/// What is written as a value.
pub(super) fn output_of(metric: Metric) -> Output {
    match metric {
        Metric::L2 => Output::L2,
        Metric::InnerProduct => Output::InnerProduct,
    }
}

/// The choices for a scan.
pub(super) fn blueprint<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    reads: Reads<'_>,
    uploads: &Uploads<'_, R>,
) -> Blueprint {
    let facts = problem.facts();
    let names = match reads {
        Reads::All => Names::Nothing,
        Reads::Lists(..) => Names::Lists,
        Reads::Rows(..) => Names::Rows,
    };
    let padded = problem.lists.padded();
    let mut print = Blueprint::new(&facts, problem.metric, padded, problem.k, names);
    if let Reads::Lists(_, nprobe) = reads {
        print.stage(&facts, nprobe);
    }
    print.limits = uploads.limits;
    print
}

/// The queries of one launch.
struct Part {
    first: usize,
    count: usize,
    cut: Cut,
}

/// What a launch writes.
#[derive(Clone, Copy)]
enum To<'a> {
    /// The pairs that a selection is to choose from.
    Pairs(&'a Handle),
    /// The answer.
    Answer(&'a SelectedOnDevice, &'a Labels, Output),
}

impl Part {
    /// The scan of the lists' components, whatever they are stored as.
    fn scan<R: Runtime>(
        &self,
        problem: &DeviceProblem<'_, R>,
        queries: &Handle,
        reads: Reads<'_>,
        limits: (LimitArgsLaunch<R>, usize),
        to: To<'_>,
        print: Blueprint,
    ) -> Result<(), KernelError> {
        match problem.lists.element() {
            Element::F32 => self.launch::<f32, R>(problem, queries, reads, limits, to, print),
            Element::F16 => self.launch::<f16, R>(problem, queries, reads, limits, to, print),
            Element::Bf16 => self.launch::<bf16, R>(problem, queries, reads, limits, to, print),
        }
    }

    fn launch<F: Float, R: Runtime>(
        &self,
        problem: &DeviceProblem<'_, R>,
        queries: &Handle,
        reads: Reads<'_>,
        (limits, longest): (LimitArgsLaunch<R>, usize),
        to: To<'_>,
        print: Blueprint,
    ) -> Result<(), KernelError> {
        let lists = problem.lists;
        let gpu = lists.gpu();
        let padded = lists.padded();
        let end = (self.first + self.count) * problem.k;
        let written = match to {
            To::Pairs(_) => 2 * self.count * self.cut.width,
            To::Answer(_, labels, _) => end * labels.words(),
        };
        let elements = lists
            .elements()
            .max(problem.nq * padded)
            .max(written)
            .max(longest);
        let address = gpu.address("vectors of an index", elements)?;
        let cubes = gpu.grid(self.count * self.cut.splits);
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
            self.cut.splits as u32,
            self.cut.width as u32,
            per_query as u32,
            problem.k as u32,
            0.0,
        );
        let client = gpu.client();
        let (rows, ranks, placed) = (lists.rows(), lists.ranks(), lists.placed());
        // SAFETY: cubes past the last slice stop at once; queries and probes are indexed below nq,
        // lists by numbers below nlist or not at all, rows within extents (row 0 by idle units,
        // which every pool has), pairs below `count · width`, the answer below `end`, ids by the ranks they
        // gave. What a restriction brings has the
        // lengths that `Restriction::check` has seen: a cap per probe, a bit and a place per row.
        unsafe {
            match to {
                To::Answer(answer, labels, output) => {
                    let (how, ids) = labels.how(output, queries);
                    answer_best::launch_unchecked::<F, R>(
                        client,
                        cubes,
                        dim,
                        address,
                        VECTOR,
                        query_vectors,
                        rows,
                        ranks,
                        placed,
                        named,
                        ids,
                        array(&answer.values, end),
                        array(&answer.labels, end * how.words),
                        limits,
                        shape,
                        print,
                        how,
                    );
                }
                To::Pairs(pairs) => {
                    let keep = if print.queued {
                        keep_best::launch_unchecked::<F, R>
                    } else {
                        write_keys::launch_unchecked::<F, R>
                    };
                    keep(
                        client,
                        cubes,
                        dim,
                        address,
                        VECTOR,
                        query_vectors,
                        rows,
                        ranks,
                        placed,
                        named,
                        array(pairs, written),
                        limits,
                        shape,
                        print,
                    );
                }
            }
        }
        Ok(())
    }
}
