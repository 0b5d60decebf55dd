//! The costs of a scan list by list.

use super::{
    super::{Order, by_list},
    Costs, DIGITS,
};
use crate::{device::Filter, rows::copy::padded};

/// The pieces that a list of `len` rows is read in, in all rounds, and the steps of `step` rows they take.
fn steps(len: usize, cut: by_list::Cut, step: usize) -> (f64, f64) {
    // What is cut is of one length, or one row longer.
    let even = |len: usize, parts: usize| {
        [
            (len / parts, parts - len % parts),
            (len / parts + 1, len % parts),
        ]
    };
    let (mut pieces, mut steps) = (0, 0);
    for (slice, slices) in even(len, cut.rounds.slices(len)) {
        let parts = slice.div_ceil(cut.rows).max(1);
        let of = even(slice, parts).map(|(rows, n)| n * rows.div_ceil(step));
        pieces += slices * parts;
        steps += slices * of.iter().sum::<usize>();
    }
    (pieces as f64, steps as f64)
}

impl Costs<'_> {
    pub(super) fn tiles(&self, rows: usize) -> Option<by_list::Blueprint> {
        let size = self.size;
        if size.order == Order::QueryMajor {
            return None;
        }
        let pairs = size.nq.saturating_mul(size.nprobe.unwrap_or(1));
        let grouped = size.nprobe.is_some();
        let load = by_list::Load::new(grouped, pairs, size.lens.len(), rows);
        let padded = padded(size.d);
        by_list::Blueprint::new(&self.facts, size.metric, padded, size.k, load)
    }

    pub(super) fn by_list(&mut self, print: by_list::Blueprint) {
        let size = self.size;
        let nprobe = size.nprobe.unwrap_or(1);
        let cut = print.cut(
            &self.facts,
            (size.nq, nprobe, size.k),
            size.lens.to_vec(),
            size.workspace,
        );
        for first in (0..size.nq).step_by(cut.queries) {
            self.by_list_part(print, cut, nprobe, cut.queries.min(size.nq - first));
        }
    }

    fn by_list_part(
        &mut self,
        print: by_list::Blueprint,
        cut: by_list::Cut,
        nprobe: usize,
        queries: usize,
    ) {
        let (size, count) = (self.size, queries as f64);
        let (query, row) = self.bytes();
        let product = (2 * padded(size.d)) as f64;
        // A filter's products; the norms of rows, for every tile or block; queries read once more.
        let (kernel, pair, norms, asks) = match print.filter {
            Filter::Nothing => ("keep_best_by_list", self.pair(), (0.0, 0.0), 1.0),
            Filter::Products => ("keep_best_by_products", product, (product, 0.0), 2.0),
            Filter::TensorCores if print.holds() => {
                ("keep_best_by_tensors", product, (product, 0.0), 2.0)
            }
            Filter::TensorCores => ("keep_best_by_tensors", product, (0.0, product), 2.0),
        };
        let (nlist, pairs) = (size.lens.len() as f64, count * nprobe as f64);
        let rounds = cut.rounds.count as f64;
        self.launch("begin", count * query, count * query, count * 8.0);
        if print.grouped {
            self.grouping(pairs, nlist);
        }
        let table = nlist * 16.0 + 8.0;
        let placed = rounds * nlist * if print.grouped { 16.0 } else { 8.0 };
        let stores = (placed, placed, rounds * table);
        self.launches("lay_out", cut.rounds.count, stores, (0.0, 0.0));
        let (block, queued) = (print.block, print.queues.kept > 0);
        let step = print.step();
        let readers = self.readers(queries, print.queues.queues, block.queries);
        let (mut loads, mut rows, mut left, mut flops, mut useful) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (&len, readers) in size.lens.iter().zip(&readers).filter(|(len, _)| **len > 0) {
            let (pieces, steps) = steps(len, cut, step);
            let len = len as f64;
            // The task in the table, by bisection.
            let task = (nlist.log2().ceil() + 5.0) * 4.0;
            loads += readers.tiles * (len * row + pieces * task);
            // The query, its name and limit; in queues the limit again before every step.
            let limits = if queued { steps * 4.0 } else { 0.0 };
            loads += readers.mean * (pieces * (asks * query + 8.0) + limits);
            rows += readers.any * len * row;
            let most = if queued { pieces * size.k as f64 } else { len };
            left += readers.mean * len.min(most);
            let slots = steps * step as f64;
            flops += readers.blocks * block.queries as f64 * slots * pair;
            flops += (readers.tiles * norms.0 + readers.blocks * norms.1) * slots;
            useful += readers.mean * len * pair;
        }
        let once = rows + rounds * (count * (query + 8.0) + pairs * 4.0 + table);
        self.launches(
            kernel,
            cut.rounds.count,
            (loads, once, left * 8.0),
            (flops, useful),
        );
        let left = self.trims(cut.rounds.count, count, left);
        self.selection(count, cut.width, left);
    }

    /// The cuts to k between `rounds` rounds that leave `left` pairs of `count` queries; how many pairs
    /// there are after the last round.
    fn trims(&mut self, rounds: usize, count: f64, left: f64) -> f64 {
        let k = count * self.size.k as f64;
        let round = left / rounds as f64;
        let mut here = round;
        for _ in 1..rounds {
            let (mut loads, mut out) = (count * 4.0, 0.0);
            if here > k {
                loads += here * 8.0 * (DIGITS + 1.0);
                out = k * 8.0 + count * 8.0;
            }
            self.launch("trim_pairs", loads, count * 4.0 + here * 8.0, out);
            here = here.min(k) + round;
        }
        here
    }

    /// [`crate::group_tasks`]: an atomic addition is a load and a store.
    fn grouping(&mut self, pairs: f64, nlist: f64) {
        self.launch("clear", 0.0, 0.0, nlist * 4.0);
        let probes = pairs * 4.0;
        self.launch("count", 2.0 * probes, probes + nlist * 4.0, probes);
        self.launch("accumulate", nlist * 4.0, nlist * 4.0, nlist * 8.0 + 4.0);
        self.launch("scatter", 2.0 * probes, probes + nlist * 4.0, 2.0 * probes);
    }
}
