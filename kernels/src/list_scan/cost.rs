//! What a scan on a GPU costs, kernel by kernel: launches, bytes and operations, counted from the same
//! choices and cuts by which it is launched. Numbers only: nothing is launched here.
//!
//! What is counted, and what is assumed:
//!
//! * `bytes` are loads and stores of buffers, each word once per cube that asks for it: a step's rows
//!   that a cube reads again for its next block of queries are taken to be in the cube's own cache.
//!   `distinct` counts every row, query and word of a buffer once per launch: what memory delivers when
//!   nothing is in a cache and everything stays in one.
//! * A multiply-add is two operations, a difference one: `3 · d` a pair for L2, `2 · d` for inner
//!   products, padded components included; under a filter what its products take, `2 · d`, and norms, but not the pairs
//!   that are then compared. Adding up the 16 partial sums, keys, queues and sorts are not
//!   counted. `flops` includes units that have no row or no query, `useful` does not.
//! * Without counts every list is as likely to be probed as any other, by each query on its own
//!   ([`Probed::Evenly`]); with counts the queries of a list are spread evenly over the parts that a
//!   search is cut into.
//! * Rows that are compared again with the queries of a tile, because a buffer was full, are not counted: a task whose
//!   queries have no limit yet does so once or twice.
//! * A query leaves `k` pairs of every piece of a list it probes, or in rounds every row: the most there
//!   can be. Limits that cubes tell each other, and what earlier rounds have found, make it fewer.
//! * Rounds of a scan by list read equally many rows.
//! * The k-th of a radix selection is settled by the four digits of the key.

mod tiles;

use super::{
    Order,
    blueprint::{Blueprint, Cut, Names},
};
use crate::{
    Metric,
    device::{Facts, Grain},
    nearest_centroid,
    rows::{copy::padded, device::Element},
    select_k,
};

/// What one kernel of a search costs, over all of its launches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelCost {
    /// The kernel.
    pub kernel: &'static str,
    /// Launches.
    pub launches: u64,
    /// Bytes loaded and stored by its cubes.
    pub bytes: f64,
    /// Bytes of buffers that are touched at all.
    pub distinct: f64,
    /// Operations on components, those of idle units included.
    pub flops: f64,
    /// Operations that the comparisons asked for take.
    pub useful: f64,
}

/// Which lists queries probe.
#[derive(Debug, Clone, Copy)]
pub enum Probed<'a> {
    /// Any list, as likely as any other: expected values.
    Evenly,
    /// How many queries probe each list.
    Counted(&'a [u64]),
}

/// A scan, in numbers: [`super::DeviceProblem`] without buffers.
#[derive(Debug, Clone, Copy)]
pub struct ScanSize<'a> {
    /// How vectors are compared.
    pub metric: Metric,
    /// Components of a vector.
    pub d: usize,
    /// How they are stored.
    pub element: Element,
    /// 32-bit words of a label; 0 where it is the rank.
    pub words: usize,
    /// Rows of every list.
    pub lens: &'a [usize],
    /// Queries.
    pub nq: usize,
    /// Results per query, at least 1.
    pub k: usize,
    /// Lists a query reads; `None` for all rows of the one list there is.
    pub nprobe: Option<usize>,
    /// Which those are.
    pub probed: Probed<'a>,
    /// Bytes of scratch.
    pub workspace: usize,
    /// In which order lists are read where there is the choice.
    pub order: Order,
    /// How finely the scan is cut.
    pub grain: Grain,
}

/// What [`super::scan_on`] costs without a restriction, in the order of its launches.
pub fn scan_cost(facts: &Facts, size: &ScanSize<'_>) -> Vec<KernelCost> {
    let rows: usize = size.lens.iter().sum();
    if size.nq == 0 || size.k == 0 || rows == 0 {
        return Vec::new();
    }
    let facts = Facts {
        grain: size.grain,
        ..*facts
    };
    let mut costs = Costs {
        facts,
        size,
        found: Vec::new(),
    };
    costs.padding();
    let padded = padded(size.d);
    let asked = (size.nq, size.k, rows);
    if size.nprobe.is_none() && nearest_centroid::fits(&facts, padded, asked) {
        costs.nearest(rows);
    } else if let Some(print) = costs.tiles(rows) {
        costs.by_list(print);
    } else {
        costs.by_query(rows);
    }
    costs.found
}

/// Passes over pairs that settle the k-th.
const DIGITS: f64 = 4.0;

/// The queries of one launch that read a list: how many, how many tiles and blocks they fill, and
/// whether there is any.
#[derive(Debug, Clone, Copy, Default)]
struct Readers {
    mean: f64,
    tiles: f64,
    blocks: f64,
    any: f64,
}

impl Readers {
    fn of(count: f64, tile: usize, block: usize) -> Self {
        Self {
            mean: count,
            tiles: (count / tile as f64).ceil(),
            blocks: (count / block as f64).ceil(),
            any: count.min(1.0),
        }
    }

    /// Expected values, when each of `n` queries reads the list with probability `p`.
    fn expected(n: usize, p: f64, tile: usize, block: usize) -> Self {
        if p >= 1.0 {
            return Self::of(n as f64, tile, block);
        }
        let mut all = Self::default();
        // The binomial distribution, from one count to the next.
        let mut log = n as f64 * (1.0 - p).ln();
        for i in 0..=n {
            let here = Self::of(i as f64, tile, block);
            let weight = log.exp();
            all.mean += weight * here.mean;
            all.tiles += weight * here.tiles;
            all.blocks += weight * here.blocks;
            all.any += weight * here.any;
            log += ((n - i) as f64 / (i + 1) as f64).ln() + (p / (1.0 - p)).ln();
        }
        all
    }
}

struct Costs<'a> {
    facts: Facts,
    size: &'a ScanSize<'a>,
    found: Vec<KernelCost>,
}

impl Costs<'_> {
    /// Adds one launch, whose stores are `out` bytes.
    fn launch(&mut self, kernel: &'static str, loads: f64, distinct: f64, out: f64) {
        self.compute(kernel, (loads, distinct, out), (0.0, 0.0));
    }

    fn compute(
        &mut self,
        kernel: &'static str,
        (loads, distinct, out): (f64, f64, f64),
        (flops, useful): (f64, f64),
    ) {
        self.launches(kernel, 1, (loads, distinct, out), (flops, useful));
    }

    /// Adds what so many launches cost together.
    fn launches(
        &mut self,
        kernel: &'static str,
        launches: usize,
        (loads, distinct, out): (f64, f64, f64),
        (flops, useful): (f64, f64),
    ) {
        if launches == 0 {
            return;
        }
        let at = self.found.iter().position(|cost| cost.kernel == kernel);
        let at = at.unwrap_or_else(|| {
            self.found.push(KernelCost {
                kernel,
                launches: 0,
                bytes: 0.0,
                distinct: 0.0,
                flops: 0.0,
                useful: 0.0,
            });
            self.found.len() - 1
        });
        let cost = &mut self.found[at];
        cost.launches += launches as u64;
        cost.bytes += loads + out;
        cost.distinct += distinct + out;
        cost.flops += flops;
        cost.useful += useful;
    }

    /// Bytes of a query, and of a row with its rank.
    fn bytes(&self) -> (f64, f64) {
        let padded = padded(self.size.d);
        let row = self.size.element.words(padded) * 4 + 4;
        ((padded * 4) as f64, row as f64)
    }

    /// Operations of a pair.
    fn pair(&self) -> f64 {
        let terms = match self.size.metric {
            Metric::L2 => 3,
            Metric::InnerProduct => 2,
        };
        (terms * padded(self.size.d)) as f64
    }

    /// Bytes of the answer to one query, and of the ids looked up for it.
    fn answer(&self) -> (f64, f64) {
        let (k, words) = (self.size.k, self.size.words);
        ((k * (4 + 4 * words.max(1))) as f64, (k * 4 * words) as f64)
    }

    fn padding(&mut self) {
        let d = self.size.d;
        if padded(d) != d {
            let n = self.size.nq as f64;
            let (from, to) = (n * 4.0 * d as f64, n * 4.0 * padded(d) as f64);
            self.launch("copy_rows", from, from, to);
        }
    }

    fn nearest(&mut self, rows: usize) {
        let (query, row) = self.bytes();
        let (answer, ids) = self.answer();
        let (nq, facts) = (self.size.nq, self.facts);
        let block = nearest_centroid::block(&facts, padded(self.size.d)).unwrap_or(1);
        let at_once = nearest_centroid::rows(&facts, block);
        let (cubes, n) = (nq.div_ceil(block) as f64, nq as f64);
        let slots = (rows.div_ceil(at_once) * at_once * block) as f64;
        let asked = n * (query + ids);
        let all = rows as f64 * row;
        let pair = self.pair();
        self.compute(
            "nearest",
            (cubes * all + asked, all + asked, n * answer),
            (cubes * slots * pair, n * rows as f64 * pair),
        );
    }

    /// The readers of every list among `count` queries.
    fn readers(&self, count: usize, tile: usize, block: usize) -> Vec<Readers> {
        let size = self.size;
        let nlist = size.lens.len();
        let Some(nprobe) = size.nprobe else {
            return vec![Readers::of(count as f64, tile, block); nlist];
        };
        match size.probed {
            Probed::Evenly => {
                let p = nprobe as f64 / nlist as f64;
                vec![Readers::expected(count, p, tile, block); nlist]
            }
            Probed::Counted(counts) => {
                let share = count as f64 / size.nq as f64;
                let of = |l: usize| counts.get(l).copied().unwrap_or(0) as f64 * share;
                (0..nlist)
                    .map(|l| Readers::of(of(l), tile, block))
                    .collect()
            }
        }
    }

    fn by_query(&mut self, rows: usize) {
        let (size, facts) = (self.size, self.facts);
        let padded = padded(size.d);
        let names = size.nprobe.map_or(Names::Nothing, |_| Names::Lists);
        let mut print = Blueprint::new(&facts, size.metric, padded, size.k, names);
        let (mut most, mut usual) = (rows, rows);
        if let Some(nprobe) = size.nprobe {
            print.stage(&facts, nprobe);
            let mut lens = size.lens.to_vec();
            lens.sort_unstable_by(|a, b| b.cmp(a));
            most = lens.iter().take(nprobe).sum();
            let nlist = lens.len();
            usual = (rows as u64 * nprobe.min(nlist) as u64 / nlist as u64) as usize;
        }
        let (nq, k) = (size.nq, size.k);
        let cut = if print.queued {
            Cut::queued(&facts, nq, usual, k, size.workspace)
        } else {
            Cut::written(&facts, nq, most, k, size.workspace)
        };
        for first in (0..nq).step_by(cut.queries) {
            self.by_query_part(print, cut, cut.queries.min(nq - first));
        }
    }

    fn by_query_part(&mut self, print: Blueprint, cut: Cut, queries: usize) {
        let (size, count) = (self.size, queries as f64);
        let ((query, row), pair) = (self.bytes(), self.pair());
        let nprobe = size.nprobe.unwrap_or(0) as f64;
        let readers = self.readers(queries, 1, 1);
        let lists = || size.lens.iter().map(|&len| len as f64).zip(&readers);
        let candidates: f64 = lists().map(|(len, readers)| readers.mean * len).sum();
        let touched: f64 = lists().map(|(len, readers)| readers.any * len).sum();
        // Every cube walks over the query's lists.
        let cubes = count * cut.splits as f64;
        let names = nprobe * 12.0;
        let slice = if print.queued {
            candidates / cubes
        } else {
            cut.width as f64 / cut.splits as f64
        };
        let step = if print.queued {
            print.queue.step
        } else {
            print.queue.units / print.compare.lanes as usize
        };
        let step = step as f64;
        let slots = cubes * (slice / step).ceil() * step;
        let again = if print.keep { 0.0 } else { slots * query };
        let loads = candidates * row + cubes * (query + names) + again;
        let once = touched * row + count * (query + nprobe * 4.0) + size.lens.len() as f64 * 8.0;
        let work = (slots * pair, candidates * pair);
        if cut.answers(&self.facts, &print) {
            let (answer, ids) = self.answer();
            let (ids, out) = (count * ids, count * answer);
            self.compute("answer_best", (loads + ids, once + ids, out), work);
            return;
        }
        let out = count * cut.width as f64 * 8.0;
        let kernel = if print.queued {
            "keep_best"
        } else {
            "write_keys"
        };
        self.compute(kernel, (loads, once, out), work);
        self.selection(count, cut.width, count * cut.width as f64);
    }

    /// The k best of `pairs` pairs of `count` queries, which have room for `width` each.
    fn selection(&mut self, count: f64, width: usize, pairs: f64) {
        let (answer, ids) = self.answer();
        let (ids, out) = (count * ids, count * answer);
        let read = pairs * 8.0;
        let print = select_k::Blueprint::new(&self.facts, self.size.k, width);
        match print.route {
            select_k::Route::Queue(_) => self.launch("by_queue", read + ids, read + ids, out),
            select_k::Route::Radix { sorted, shared } => {
                let digits = if width > self.size.k { DIGITS } else { 0.0 };
                let mut loads = read * (digits + 1.0) + ids;
                if !shared {
                    // A bitonic network: two loads and stores of half of the pairs, every pass.
                    let log = f64::from(sorted.ilog2());
                    loads += count * sorted as f64 * 16.0 * log * (log + 1.0) / 2.0;
                }
                self.launch("by_radix", loads, read + ids, out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
