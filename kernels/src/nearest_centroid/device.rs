//! The GPU kernel.

use crate::{
    KernelError, Metric,
    device::{
        Facts, VECTOR, array, claim,
        distance::Compare,
        lanes::{group, whole},
        queue::{before, is_special, key_bits},
        tile::{Block, Turn, held, keys},
    },
    list_scan::DeviceProblem,
    rows::device::Element,
    select_k::{Labels, Output, Pair, Select, SelectedOnDevice, write},
};
use cubecl::{prelude::*, server::Handle};
use half::{bf16, f16};

/// Compile-time parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Blueprint {
    compare: Compare,
    units: usize,
    /// Queries of a cube.
    block: usize,
    how: Select,
}

impl Blueprint {
    /// What units that read a row together compare at once: four pairs at least where four do.
    const fn tile(&self) -> Block {
        tile(self.block, self.compare.lanes)
    }

    /// Rows that a cube reads at once.
    const fn rows(&self) -> usize {
        self.units / self.compare.lanes as usize * self.tile().rows
    }
}

const fn tile(queries: usize, lanes: u32) -> Block {
    let rows = if queries < lanes as usize {
        lanes as usize / queries
    } else {
        1
    };
    Block { rows, queries }
}

/// Rows of the list up to which a block of queries reads it whole, however few queries there are.
///
/// Origin: heuristic, not measured on a GPU.
const SMALL_LIST: usize = 8192;

/// Units of a cube: whole groups of lanes.
fn units(facts: &Facts) -> usize {
    whole(facts.units.min(128), facts.lanes) as usize
}

/// Rows that a cube with `block` queries reads at once.
pub(crate) fn rows(facts: &Facts, block: usize) -> usize {
    units(facts) / facts.lanes as usize * tile(block, facts.lanes).rows
}

/// Queries of a cube: what registers and shared memory hold; `None` if not even one fits.
pub(crate) fn block(facts: &Facts, padded: usize) -> Option<usize> {
    let query = padded * 4 + 4;
    // A row's 16 partial sums per query lie in one unit or in four.
    let most: usize = if facts.lanes == 4 { 8 } else { 2 };
    (0..=most.ilog2())
        .rev()
        .map(|power| 1 << power)
        .find(|block| {
            // A quarter of the memory, so that several cubes share a multiprocessor.
            let limit = if *block == 1 {
                facts.shared
            } else {
                facts.shared / 4
            };
            *block <= units(facts) && block * (query + rows(facts, *block) * 8) <= limit
        })
}

/// Whether this kernel is the one to take: k = 1, and enough queries to fill the device or a list
/// so short that splitting it is not worth a second launch.
pub(crate) fn fits(facts: &Facts, padded: usize, (nq, k, rows): (usize, usize, usize)) -> bool {
    let Some(block) = block(facts, padded) else {
        return false;
    };
    k == 1 && (rows <= SMALL_LIST || nq / block >= 2 * facts.processors as usize)
}

/// The nearest row of every query.
pub(crate) fn nearest_on<R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    queries: &Handle,
    output: Output,
    labels: &Labels,
    answer: &SelectedOnDevice,
) -> Result<(), KernelError> {
    match problem.lists.element() {
        Element::F32 => launch::<f32, R>(problem, queries, output, labels, answer),
        Element::F16 => launch::<f16, R>(problem, queries, output, labels, answer),
        Element::Bf16 => launch::<bf16, R>(problem, queries, output, labels, answer),
    }
}

/// [`nearest_on`] for rows of `F`.
fn launch<F: Float, R: Runtime>(
    problem: &DeviceProblem<'_, R>,
    queries: &Handle,
    output: Output,
    labels: &Labels,
    answer: &SelectedOnDevice,
) -> Result<(), KernelError> {
    let (lists, nq) = (problem.lists, problem.nq);
    let gpu = lists.gpu();
    let facts = gpu.facts();
    let (how, ids) = labels.how(output, queries);
    let words = how.words;
    let print = Blueprint {
        compare: Compare::new(problem.metric, lists.padded(), facts.lanes),
        units: units(&facts),
        block: block(&facts, lists.padded()).unwrap_or(1),
        how,
    };
    debug_assert!(matches!(problem.metric, Metric::L2) == matches!(output, Output::L2));
    let elements = lists.elements().max(nq * lists.padded()).max(nq * words);
    let address = gpu.address("vectors of an index", elements)?;
    // SAFETY: cubes past the last query stop at once; queries are indexed below nq, rows by the
    // extent of the only list, outputs below nq.
    unsafe {
        nearest::launch_unchecked::<F, R>(
            gpu.client(),
            gpu.grid(nq.div_ceil(print.block)),
            CubeDim::new_1d(print.units as u32),
            address,
            VECTOR,
            array(queries, nq * lists.padded()),
            lists.rows(),
            lists.ranks(),
            lists.placed(),
            ids,
            array(&answer.values, nq),
            array(&answer.labels, nq * words),
            nq as u32,
            0.0,
            print,
        );
    }
    Ok(())
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn nearest<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    placed: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<u32>,
    labels: &mut Array<u32>,
    nq: u32,
    zero: f32,
    #[comptime] print: Blueprint,
) {
    let first = CUBE_POS * print.block;
    if first >= nq as usize {
        terminate!();
    }
    let vectors = comptime!(print.compare.vectors);
    let groups = comptime!(print.units / print.compare.lanes as usize);
    let at_once = comptime!(print.rows());
    let own = comptime!(print.tile().own(print.compare));
    let mut kept =
        SharedMemory::<Vector<f32, N>>::new(comptime!(print.block * print.compare.vectors));
    let barred = SharedMemory::<Atomic<u32>>::new(print.block);
    let mut all_keys = SharedMemory::<u32>::new(comptime!(print.block * print.rows()));
    let mut all_ords = SharedMemory::<u32>::new(comptime!(print.block * print.rows()));
    claim::vectors::<N>(&mut kept);
    claim::counters(&barred);
    claim::words(&mut all_keys);
    claim::words(&mut all_ords);
    sync_cube();
    load::<N>(queries, &mut kept, &barred, first, nq as usize, print);
    let turn = Turn::new(comptime!(print.tile()), print.compare);
    // Which of the rows read at once is the one whose pairs are left to this unit.
    let mine = turn.rows as usize * groups + group(print.compare.lanes) as usize;
    let mut best_key = Array::<u32>::new(own);
    let mut best_ord = Array::<u32>::new(own);
    #[unroll]
    for i in 0..own {
        best_key[i] = u32::MAX;
        best_ord[i] = u32::MAX;
    }
    let (start, len) = (placed[0] as usize, placed[1] as usize);
    let mut from = 0usize.runtime();
    while from < len {
        let mut starts = Array::<usize>::new(comptime!(print.tile().rows));
        let mut ord = 0u32.runtime();
        #[unroll]
        for r in 0..comptime!(print.tile().rows) {
            let number = (comptime!(r as u32) ^ turn.rows) as usize * groups
                + group(print.compare.lanes) as usize;
            // Idle units read the list's first row.
            let row = start + select(from + number < len, from + number, 0usize);
            starts[r] = row * vectors;
            if comptime!(r == 0) {
                ord = ranks[row];
            }
        }
        let block = comptime!(print.tile());
        let held = held::<F, N>(rows, &starts, block, print.compare);
        let keys = keys::<F, N>(
            &kept,
            0usize,
            rows,
            &held,
            &starts,
            zero,
            turn,
            block,
            print.compare,
        );
        if from + mine < len {
            #[unroll]
            for i in 0..own {
                let bits = key_bits(keys[i]);
                if before(bits, ord, best_key[i], best_ord[i]) {
                    best_key[i] = bits;
                    best_ord[i] = ord;
                }
            }
        }
        from += at_once;
    }
    #[unroll]
    for i in 0..own {
        let q = turn.queries as usize + i;
        all_keys[q * at_once + mine] = best_key[i];
        all_ords[q * at_once + mine] = best_ord[i];
    }
    sync_cube();
    let q = UNIT_POS as usize;
    if q < print.block && first + q < nq as usize {
        let mut pair = Pair {
            key: u32::MAX,
            ord: u32::MAX,
        };
        if barred[q].load() == 0u32 {
            for i in 0..at_once {
                let key = all_keys[q * at_once + i];
                let ord = all_ords[q * at_once + i];
                if before(key, ord, pair.key, pair.ord) {
                    pair.key = key;
                    pair.ord = ord;
                }
            }
        }
        write(ids, ids, values, labels, pair, 0usize, first + q, print.how);
    }
}

/// Copies a block of queries to shared memory, and marks those with NaN or infinity.
#[cube]
fn load<N: Size>(
    queries: &Array<Vector<f32, N>>,
    kept: &mut SharedMemory<Vector<f32, N>>,
    barred: &SharedMemory<Atomic<u32>>,
    first: usize,
    nq: usize,
    #[comptime] print: Blueprint,
) {
    let vectors = comptime!(print.compare.vectors);
    if (UNIT_POS as usize) < print.block {
        barred[UNIT_POS as usize].store(0u32);
    }
    sync_cube();
    let items = comptime!(print.block * print.compare.vectors);
    let mut from = 0usize.runtime();
    while from < items {
        let item = from + UNIT_POS as usize;
        let q = item / vectors;
        if item < items {
            if first + q < nq {
                let v = queries[first * vectors + item];
                kept[item] = v;
                let mut special = 0u32.runtime();
                #[unroll]
                for j in 0..4usize {
                    if is_special(v[j]) {
                        special = 1u32;
                    }
                }
                if special == 1u32 {
                    barred[q].fetch_max(1u32);
                }
            } else {
                kept[item] = Vector::<f32, N>::new(0.0f32);
            }
        }
        from += print.units;
    }
    sync_cube();
}
