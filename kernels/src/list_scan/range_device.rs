//! All rows within a distance, on a GPU.
//!
//! Candidates are cut as for [`super::scan_on`], and each group of units takes a run of neighbours.
//! One launch counts what every group finds, a second turns counts into places; the sums, one number
//! a query, are read: the only time the host waits, to make room for the answer. Then the rows are
//! compared once more and written to their places. Probes are put in order of their lists first, so that
//! the answer's order is that of the CPU: list after list, as inserted.

use super::{
    blueprint::{Blueprint, Cut},
    cube::PartArgsLaunch,
    device::{DeviceProblem, Reads, blueprint, checked, in_queue},
    limits::{Buffer, Orders, Uploads},
    range_cube::{add_counts, count_within, name_probes, write_within},
    restrict::Restriction,
};
use crate::{
    KernelError, Metric,
    device::{Home, VECTOR, array},
    rows::{copy::pad_queries, device::Element},
    select_k::{Labels, Output, QUEUE_K, Select, Source, select_on},
};
use cubecl::{prelude::*, server::Handle};
use half::{bf16, f16};

/// The rows within a distance of every query, on the device.
#[derive(Debug, Clone)]
pub struct FoundOnDevice {
    /// Query `i` found entries `lims[i]..lims[i + 1]`; `nq + 1` numbers.
    pub lims: Vec<u64>,
    /// Distances, f32 `[lims[nq]]` (one undefined word where there are none).
    pub values: Handle,
    /// Ids, of as many words as the lists' ids have.
    pub labels: Handle,
}

/// Every row of the lists read whose key ([`Metric::key`]: smaller is better) is at most `limit`, in
/// the order of [`super::within`]. `problem.k` is not used. Waits once for the device, to know how
/// many there are.
///
/// # Errors
/// As [`super::scan_restricted_on`], but that lists may be empty; [`KernelError::Read`] when the
/// device cannot be read.
pub fn within_on<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    limit: f32,
    reads: Reads<'_>,
    restriction: Restriction<'_>,
    orders: &Orders,
) -> Result<FoundOnDevice, KernelError> {
    if matches!(reads, Reads::All) {
        crate::check_len("lists of an exhaustive search", 1, problem.lists.nlist())?;
    }
    let restriction = checked(problem, reads, restriction)?;
    let none = matches!(reads, Reads::Lists(_, 0) | Reads::Rows(_, 0));
    if problem.nq == 0 || problem.lists.is_empty() || none || limit.is_nan() {
        return FoundOnDevice::new(problem, vec![0; problem.nq + 1]);
    }
    let caller = Home::here();
    in_queue(problem, reads, |queries, reads| {
        // No queue of the k best.
        let k = QUEUE_K + 1;
        let problem = &DeviceProblem {
            k,
            queries,
            ..*problem
        };
        match problem.lists.element() {
            Element::F32 => at_home::<f32, R>(problem, limit, reads, (restriction, orders), caller),
            Element::F16 => at_home::<f16, R>(problem, limit, reads, (restriction, orders), caller),
            Element::Bf16 => {
                at_home::<bf16, R>(problem, limit, reads, (restriction, orders), caller)
            }
        }
    })
}

impl FoundOnDevice {
    /// Room for what was counted.
    fn new<R: Runtime>(
        problem: &DeviceProblem<'_, R>,
        lims: Vec<u64>,
    ) -> Result<Self, KernelError> {
        let gpu = problem.lists.gpu();
        let all = lims.last().map_or(0, |&all| all as usize);
        if u32::try_from(all).is_err() {
            // Places are counted in 32 bits.
            return Err(KernelError::Buffer {
                what: "rows within a distance",
                bytes: all.saturating_mul(4),
                limit: 4 * u32::MAX as usize,
            });
        }
        let words = problem.lists.labels().words();
        Ok(Self {
            values: gpu.empty("distances within a distance", all)?,
            labels: gpu.empty("labels within a distance", all * words)?,
            lims,
        })
    }
}

fn at_home<F: Float, R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    limit: f32,
    reads: Reads<'_>,
    (restriction, orders): (Restriction<'_>, &Orders),
    caller: Home,
) -> Result<FoundOnDevice, KernelError> {
    let (nq, lists) = (problem.nq, problem.lists);
    let gpu = lists.gpu();
    let queries = pad_queries(gpu, problem.queries, nq, lists.d())?;
    let uploads = Uploads::new(problem, reads, restriction, orders, true)?;
    let mut print = blueprint(problem, reads, &uploads);
    print.limits.sorted = matches!(reads, Reads::Lists(_, 2..));
    let groups = print.queue.units / print.compare.lanes as usize;
    // What a query's probes take while they are sorted, and its counts.
    let sorted = match reads {
        Reads::Lists(_, nprobe) if print.limits.sorted => {
            4 * nprobe + 2 * nprobe.next_power_of_two()
        }
        _ => 0,
    };
    let workspace = problem.workspace / 2;
    let mut cut = Cut::counted(
        &problem.facts(),
        nq,
        uploads.usual,
        (groups, sorted),
        workspace,
    );
    cut.queries = cut.queries.min(uploads.per_part());
    let scan = Ranging {
        problem,
        queries: &queries,
        reads,
        uploads,
        // Keys are never -0.
        limit: bits(limit + 0.0),
        print,
        cut,
        totals: gpu.empty("numbers of rows within a distance", nq)?,
    };
    let keep = nq.saturating_mul(4 * (cut.width + sorted)) <= workspace;
    let parts = (0..nq).step_by(cut.queries);
    let parts = parts.map(|first| (first, cut.queries.min(nq - first)));
    let mut counted = Vec::new();
    for part in parts.clone() {
        let part = scan.count::<F>(part)?;
        if keep {
            counted.push(part);
        }
    }
    let lims = scan.lims()?;
    let found = caller.make(|| FoundOnDevice::new(problem, lims))?;
    if found.lims[nq] > 0 {
        let mut counted = counted.into_iter();
        for part in parts {
            // Places that there was no room to keep are found again.
            let part = match counted.next() {
                Some(part) => part,
                None => scan.count::<F>(part)?,
            };
            scan.write::<F>(&part, &found)?;
        }
    }
    Ok(found)
}

/// Order-preserving bits, as the kernels make them.
fn bits(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

/// A scan for rows within a distance, in the queue of the lists.
struct Ranging<'a, R: Runtime> {
    problem: &'a DeviceProblem<'a, R>,
    /// Padded.
    queries: &'a Handle,
    reads: Reads<'a>,
    uploads: Uploads<'a, R>,
    limit: u32,
    print: Blueprint,
    cut: Cut,
    /// Rows found per query.
    totals: Handle,
}

/// The queries of one launch, what their groups of units found before each, and the order in which
/// they read their probes.
struct Counted {
    first: usize,
    count: usize,
    before: Handle,
    turns: Option<Buffer>,
}

impl<R: Runtime> Ranging<'_, R> {
    fn shape(&self, part: &Counted) -> PartArgsLaunch<R> {
        PartArgsLaunch::new(
            part.first as u32,
            part.count as u32,
            self.cut.splits as u32,
            self.cut.width as u32,
            self.named().1 as u32,
            self.problem.k as u32,
            0.0,
        )
    }

    fn named(&self) -> (&Handle, usize) {
        match self.reads {
            // Not read; any buffer will do.
            Reads::All => (self.queries, 1),
            Reads::Lists(named, n) | Reads::Rows(named, n) => (named, n),
        }
    }

    /// The longest buffer's elements.
    fn elements(&self, others: usize) -> usize {
        let lists = self.problem.lists;
        let queries = self.problem.nq * lists.padded();
        lists.elements().max(queries).max(others)
    }

    fn count<F: Float>(&self, (first, count): (usize, usize)) -> Result<Counted, KernelError> {
        let (problem, cut) = (self.problem, self.cut);
        let lists = problem.lists;
        let gpu = lists.gpu();
        let part = Counted {
            first,
            count,
            before: gpu.empty("counts of rows within a distance", count * cut.width)?,
            turns: self.turns((first, count))?,
        };
        let (limits, longest) = self.uploads.part((first, count), part.turns.as_ref())?;
        let elements = self.elements(longest.max(count * cut.width));
        let address = gpu.address("vectors of an index", elements)?;
        let (named, per_query) = self.named();
        let units = gpu.facts().units.min(256);
        // SAFETY: as for `scan_on`; counts are indexed below `count · width`, sums below nq.
        unsafe {
            count_within::launch_unchecked::<F, R>(
                gpu.client(),
                gpu.grid(count * cut.splits),
                CubeDim::new_1d(self.print.queue.units as u32),
                address,
                VECTOR,
                array(self.queries, problem.nq * lists.padded()),
                lists.rows(),
                lists.placed(),
                array(named, (problem.nq * per_query).max(1)),
                array(&part.before, count * cut.width),
                limits,
                self.shape(&part),
                lists.held() as u32,
                self.limit,
                self.print,
            );
            add_counts::launch_unchecked::<R>(
                gpu.client(),
                gpu.grid(count),
                CubeDim::new_1d(units),
                array(&part.before, count * cut.width),
                array(&self.totals, problem.nq),
                first as u32,
                count as u32,
                cut.width as u32,
                units as usize,
            );
        }
        Ok(part)
    }

    /// For each query the places of its probes in order of their lists.
    fn turns(&self, (first, count): (usize, usize)) -> Result<Option<Buffer>, KernelError> {
        if !self.print.limits.sorted {
            return Ok(None);
        }
        let gpu = self.problem.lists.gpu();
        let (named, nprobe) = self.named();
        let all = count * nprobe;
        let pairs = gpu.empty("probes in order of lists", 2 * all)?;
        let units = gpu.facts().units.min(256);
        let cubes = all.div_ceil(units as usize).clamp(1, 1 << 16);
        // SAFETY: probes are indexed below nq · nprobe, pairs below count · nprobe.
        unsafe {
            name_probes::launch_unchecked::<R>(
                gpu.client(),
                gpu.grid(cubes),
                CubeDim::new_1d(units),
                array(named, self.problem.nq * nprobe),
                array(&pairs, 2 * all),
                first as u32,
                count as u32,
                nprobe as u32,
            );
        }
        let (pairs, ranks) = (Source::Pairs(pairs), Labels::Ranks);
        let sorted = select_on(gpu, &pairs, (count, nprobe), nprobe, Output::L2, &ranks)?;
        Ok(Some((sorted.labels, all)))
    }

    /// Where every query's rows start. Waits for the device.
    fn lims(&self) -> Result<Vec<u64>, KernelError> {
        let client = self.problem.lists.gpu().client();
        let read = client.read_one(self.totals.clone());
        let bytes = read.map_err(|error| KernelError::Read(format!("{error:?}")))?;
        let mut lims = vec![0];
        let mut sum = 0;
        for count in bytes.chunks_exact(4).take(self.problem.nq) {
            sum += u64::from(u32::from_ne_bytes([count[0], count[1], count[2], count[3]]));
            lims.push(sum);
        }
        crate::check_len("numbers read", self.problem.nq + 1, lims.len())?;
        Ok(lims)
    }

    fn write<F: Float>(&self, part: &Counted, found: &FoundOnDevice) -> Result<(), KernelError> {
        let (problem, cut) = (self.problem, self.cut);
        let lists = problem.lists;
        let gpu = lists.gpu();
        let (first, count) = (part.first, part.count);
        let bases: Vec<u32> = found.lims[first..=first + count]
            .iter()
            .map(|&at| at as u32)
            .collect();
        if bases[0] == bases[count] {
            return Ok(());
        }
        let all = found.lims[problem.nq] as usize;
        let bases = gpu.upload("places of rows within a distance", &bases)?;
        let labels = lists.labels();
        let words = labels.words();
        let (table, ids) = match &labels {
            // Not read; any buffer will do.
            Labels::Ranks => (false, array(self.queries, 1)),
            Labels::Ids { table, len, .. } => (true, array(table, *len)),
        };
        let how = Select {
            counted: false,
            scores: false,
            output: match problem.metric {
                Metric::L2 => Output::L2,
                Metric::InnerProduct => Output::InnerProduct,
            },
            table,
            words,
        };
        let (limits, longest) = self.uploads.part((first, count), part.turns.as_ref())?;
        let elements = self.elements(longest.max(count * cut.width).max(all * words));
        let address = gpu.address("vectors of an index", elements)?;
        let (named, per_query) = self.named();
        // SAFETY: as for `count`; each group writes below the next one's place, the last one of a
        // query below the next query's, the last query's below the length of the answer.
        unsafe {
            write_within::launch_unchecked::<F, R>(
                gpu.client(),
                gpu.grid(count * cut.splits),
                CubeDim::new_1d(self.print.queue.units as u32),
                address,
                VECTOR,
                array(self.queries, problem.nq * lists.padded()),
                lists.rows(),
                lists.ranks(),
                lists.placed(),
                array(named, (problem.nq * per_query).max(1)),
                array(&part.before, count * cut.width),
                array(&bases, count + 1),
                ids,
                array(&found.values, all),
                array(&found.labels, all * words),
                limits,
                self.shape(part),
                self.limit,
                self.print,
                how,
            );
        }
        Ok(())
    }
}
