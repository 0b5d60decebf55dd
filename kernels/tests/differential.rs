//! Differential fuzz of the list scan: random cases, every answer compared with plain f64 sums.
//!
//! A case is drawn from one `u64` seed: sizes, values made to hurt (exact ties, values that differ
//! only in bits a narrow copy drops, overflow, denormals, a common offset, …), ids, probes, and the
//! instruction sets and thread counts to run on. Three things are then checked:
//!
//! 1. the *full ranking*, [`rerank`] over every probed row with room for all of them, is in the
//!    total order, holds every row once, and each distance is as close to the f64 sum as
//!    [`burn_ivf_kernels::distance`] promises ([`check_ranking`]);
//! 2. [`scan`] returns the first `k` of that ranking bit for bit, then padding; so no row is left
//!    out, ties included, and neither instruction set, threads nor pruning changes a bit;
//! 3. so does [`rerank`] with the case's own `k`.
//!
//! A failure names its seed. Two environment variables steer the run:
//!
//! * `BURN_IVF_FUZZ_CASES`: number of cases, 400 if unset;
//! * `BURN_IVF_FUZZ_SEED`: the first seed, 0 if unset; alone, it replays that one case.

use burn_ivf_kernels::{
    Metric,
    distance::LANES,
    list_scan::{Best, List, ListIds, Order, Problem, SKIP, WORKSPACE, rerank, scan},
    order::Slot,
    rows::{Layout, Rows},
    simd::Isa,
};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

/// Cases when the environment names no number.
const CASES: u64 = 400;
/// Component pairs above which a case leaves the slow portable code out.
const PORTABLE_WORK: usize = 1 << 19;

// ---------------------------------------------------------------------------------------------
// What is under test, built from plain rows: the one place that knows how a list is stored.
// ---------------------------------------------------------------------------------------------

/// Storage of one list.
type Store = Rows;

/// Stores `rows` (row-major, `d` components each) and sees that they come back bit for bit.
fn store(d: usize, layout: Layout, rows: &[f32]) -> Result<Store, String> {
    let mut store = Rows::new(d, layout);
    for row in rows.chunks_exact(d) {
        store.push(row);
    }
    let mut copy = vec![0.0; d];
    for (slot, row) in rows.chunks_exact(d).enumerate() {
        store.copy_row(slot, &mut copy);
        if !copy
            .iter()
            .zip(row)
            .all(|(a, b)| a.to_bits() == b.to_bits())
        {
            return Err(format!("stored row {slot} came back changed"));
        }
    }
    Ok(store)
}

// ---------------------------------------------------------------------------------------------
// Random numbers.
// ---------------------------------------------------------------------------------------------

/// `SplitMix64`: small, seeded by any number, the same on every machine.
struct Rng(u64);

impl Rng {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// About normal, full mantissa, within ±3: the sum of three uniform numbers, doubled.
    fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let third = |shift: u32| ((bits >> shift) & 0x1f_ffff) as f32 / (1 << 20) as f32 - 1.0;
        third(0) + third(21) + third(42)
    }

    /// A power of ten, log-uniform between `10^-range` and `10^range`.
    fn power(&mut self, range: f32) -> f32 {
        let uniform = self.bits() as f64 / u64::MAX as f64;
        10.0_f64.powf((2.0 * uniform - 1.0) * f64::from(range)) as f32
    }

    fn signed(&mut self, magnitude: f32) -> f32 {
        if self.one_in(2) {
            magnitude
        } else {
            -magnitude
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Values.
// ---------------------------------------------------------------------------------------------

/// A kind of values.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Family {
    /// Normal, at any moderate scale.
    Normal,
    /// Integers from -3 to 3: sums are exact, ties many.
    Integers,
    /// Around 1e18 to beyond the root of the largest f32, 1e30, 3e38.
    Huge,
    /// The last 65536 finite values, most of which round to infinity in fewer bits.
    NearMax,
    /// 1e-20 and less, one in four zero.
    Tiny,
    /// Denormals of any size.
    Denormal,
    /// Normal, far from the origin.
    Offset,
    /// The upper 16 bits the same in every row.
    LowBits,
    /// The upper 16 bits the same, the lower 16 where rounding them off errs most.
    Halfway,
    /// Another scale in every dimension.
    MixedScales,
    /// Any finite bit pattern.
    AnyBits,
    /// Nine in ten zero, of either sign.
    Sparse,
    /// One point and a little noise.
    Clustered,
    /// Corners of a cube around one point: all as far from it, but for rounding.
    NearTies,
    /// Lengths around 1e18, where filters end.
    Brink,
}

/// Lower halves of a value at the ends of, and around the tie of, a rounding to the upper half.
const EDGES: [u32; 6] = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];

const FAMILIES: [Family; 15] = [
    Family::Normal,
    Family::Integers,
    Family::Huge,
    Family::NearMax,
    Family::Tiny,
    Family::Denormal,
    Family::Offset,
    Family::LowBits,
    Family::Halfway,
    Family::MixedScales,
    Family::AnyBits,
    Family::Sparse,
    Family::Clustered,
    Family::NearTies,
    Family::Brink,
];

/// A stream of vectors of one family.
struct Source {
    family: Family,
    scale: f32,
    /// A point, or the scales of [`Family::MixedScales`].
    base: Vec<f32>,
}

impl Source {
    fn draw(rng: &mut Rng, family: Family, d: usize) -> Self {
        let root = f32::MAX.sqrt() / (d as f32).sqrt();
        let scale = match family {
            Family::Huge => rng.pick(&[1e18, 1e19, 0.3 * root, 0.5 * root, root, 1e30, 3e38]),
            Family::Tiny => rng.pick(&[1e-18, 1e-20, 1e-22, 1e-30, 1e-38, 1e-42]),
            Family::Offset => rng.pick(&[1e3, 1e6]),
            Family::Brink => 1e18 / (d as f32).sqrt() * rng.pick(&[0.5, 0.99, 0.999, 1.0]),
            Family::Clustered | Family::NearTies => rng.power(5.0).min(1.0),
            _ => rng.power(3.0),
        };
        let span = rng.pick(&[2.0, 6.0, 15.0]);
        let powers = rng.one_in(2);
        let base = (0..d)
            .map(|_| match family {
                Family::MixedScales => rng.power(span),
                // Relative to a power of two the error is largest.
                Family::Halfway if powers => rng.signed(2.0),
                Family::Integers => small_integer(rng),
                _ => rng.normal(),
            })
            .collect();
        Self {
            family,
            scale,
            base,
        }
    }

    fn vector<'a>(&'a self, rng: &'a mut Rng) -> impl Iterator<Item = f32> + 'a {
        // In every second row the errors of a rounding all go one way.
        let low = rng.one_in(2).then(|| rng.pick(&EDGES));
        self.base.iter().map(move |&base| {
            let low = low.unwrap_or_else(|| rng.pick(&EDGES));
            self.value(rng, base, low)
        })
    }

    fn value(&self, rng: &mut Rng, base: f32, low: u32) -> f32 {
        let high = base.to_bits() & 0xffff_0000;
        let value = match self.family {
            Family::Normal | Family::Huge => rng.normal() * self.scale,
            Family::Integers => small_integer(rng),
            Family::NearMax => {
                let value = f32::from_bits(0x7f7f_0000 + rng.below(0x1_0000) as u32);
                rng.signed(value)
            }
            Family::Tiny if rng.one_in(4) => 0.0,
            Family::Tiny => rng.normal() * self.scale,
            Family::Denormal => {
                let value = f32::from_bits((rng.below(0x80_0000) >> rng.below(23)) as u32);
                rng.signed(value)
            }
            Family::Offset => rng.normal() + self.scale,
            Family::LowBits => f32::from_bits(high | rng.below(0x1_0000) as u32),
            Family::Halfway => f32::from_bits(high | low),
            Family::MixedScales => rng.normal() * base,
            Family::AnyBits => f32::from_bits(rng.bits() as u32),
            Family::Sparse if rng.one_in(10) => rng.normal(),
            Family::Sparse => rng.signed(0.0),
            Family::Clustered => base + rng.normal() * self.scale,
            Family::NearTies => base + rng.signed(self.scale),
            Family::Brink => self.scale * (base.signum() + rng.normal() * 0.001),
        };
        finite(value)
    }
}

fn small_integer(rng: &mut Rng) -> f32 {
    rng.below(7) as f32 - 3.0
}

/// The finite value nearest to `value`; 0 for NaN.
fn finite(value: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(-f32::MAX, f32::MAX)
    }
}

/// What is done to the rows once they are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Twist {
    None,
    /// Rows are copies of the first few.
    Repeat(usize),
    /// One row is scaled up.
    Outlier,
    /// In every list the rows nearest to the first query come last.
    BestLast,
    /// In every list the rows nearest to the first query come first.
    BestFirst,
}

fn repeat(rng: &mut Rng, rows: &mut [f32], d: usize, distinct: usize) {
    let n = rows.len() / d;
    for row in distinct..n {
        let from = rng.below(distinct) * d;
        rows.copy_within(from..from + d, row * d);
    }
}

fn make_outlier(rng: &mut Rng, rows: &mut [f32], d: usize) {
    if rows.is_empty() {
        return;
    }
    let factor = rng.pick(&[16.0, 1e4, 1e10, 1e30]);
    let at = rng.below(rows.len() / d) * d;
    for value in &mut rows[at..at + d] {
        *value = finite(*value * factor);
    }
}

/// Sorts the rows of one list by their key for `query`.
fn sort_rows(metric: Metric, rows: &mut [f32], query: &[f32], best_first: bool) {
    let mut sorted: Vec<(f64, Vec<f32>)> = rows
        .chunks_exact(query.len())
        .map(|row| (exact_key(metric, query, row).0, row.to_vec()))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    if !best_first {
        sorted.reverse();
    }
    for (to, (_, row)) in rows.chunks_exact_mut(query.len()).zip(&sorted) {
        to.copy_from_slice(row);
    }
}

/// One query: of the family of the rows, a row, beside a row, or none of these.
fn query(rng: &mut Rng, source: &Source, rows: &[f32], out: &mut Vec<f32>) {
    let d = source.base.len();
    let row = match rows.len() / d {
        0 => &source.base,
        n => &rows[rng.below(n) * d..][..d],
    };
    let start = out.len();
    match rng.below(20) {
        0 => out.extend((0..d).map(|_| 0.0)),
        1..=4 => out.extend(row),
        5..=6 => out.extend(&source.base),
        7 if source.family != Family::Integers => out.extend(row.iter().map(|v| {
            let step = rng.pick(&[0, 0, 1, 0x8000]);
            finite(f32::from_bits(v.to_bits() ^ step))
        })),
        8..=9 if source.family != Family::Integers => {
            let scale = rng.power(30.0);
            out.extend((0..d).map(|_| rng.normal() * scale));
        }
        _ => out.extend(source.vector(rng)),
    }
    if rng.one_in(30) {
        out[start + rng.below(d)] = rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    }
}

// ---------------------------------------------------------------------------------------------
// Cases.
// ---------------------------------------------------------------------------------------------

/// Sizes of a case.
#[derive(Debug)]
struct Shape {
    metric: Metric,
    d: usize,
    k: usize,
    nq: usize,
    nprobe: usize,
    /// Rows of every list.
    sizes: Vec<usize>,
}

impl Shape {
    fn draw(rng: &mut Rng) -> Self {
        // Few cases are large, for the paths that only those take.
        let large = rng.one_in(12);
        let (floats, pairs) = if large {
            (400_000, 8_000_000)
        } else {
            (60_000, 800_000)
        };
        let d = dimension(rng);
        let most_rows = match rng.below(8) {
            _ if large => 6000,
            0..=1 => 40,
            2 if d <= 8 => 6000,
            _ => 600,
        };
        let rows = rng.within(0..=most_rows.min(floats / d));
        let nlist = rng.within(1..=if large { 4 } else { 12 });
        let sizes = list_sizes(rng, rows, nlist);
        let most_queries = if large && rng.one_in(2) { 300 } else { 40 };
        let nq = rng
            .within(0..=most_queries)
            .min(pairs / (rows * d).max(1) + 1);
        let k = match rng.below(16) {
            0 => rng.within(1..=5000),
            1 => rng.within(rows.max(1)..=rows + 2),
            2..=4 => 1,
            _ => rng.within(1..=40),
        };
        let nprobe = match rng.below(20) {
            0 => 0,
            1..=8 => sizes.len(),
            _ => rng.within(1..=sizes.len()),
        };
        Self {
            metric: rng.pick(&Metric::ALL),
            d,
            k,
            nq,
            nprobe,
            sizes,
        }
    }

    /// Sizes for [`Case::draw_crowded`].
    fn draw_crowded(rng: &mut Rng) -> Self {
        let (d, rows, nlist, nq) = match rng.below(8) {
            // A table scanned at once, or just too large for that.
            0 => {
                let rows = match rng.below(3) {
                    0 => rng.within(4080..=4112),
                    1 => rng.within(1..=4096),
                    _ => rng.within(1..=100),
                };
                let d = rng.within(1..=12);
                (
                    d,
                    rows,
                    1,
                    rng.within(1..=600).min(6_000_000 / (rows * d) + 1),
                )
            }
            // Long vectors.
            1 => {
                let d = rng.within(700..=1100);
                (d, rng.within(1..=600), rng.within(1..=4), rng.within(1..=6))
            }
            // So much work that threads share it, and so few queries that each works on all.
            2..=5 => {
                let nq = rng.within(2..=11);
                let d = rng.pick(&[1, 3, 8, 16, 17, 24, 40, 64, 100, 129]);
                let rows = (2_500_000 / nq / d).min(12_000);
                (d, rows, rng.within(1..=12), nq)
            }
            _ => {
                let (d, rows) = (rng.within(1..=40), rng.within(1..=3000));
                let nq = rng.within(1..=60).min(1_500_000 / (rows * d) + 1);
                (d, rows, rng.within(1..=24), nq)
            }
        };
        let sizes = list_sizes(rng, rows, nlist);
        let k = match rng.below(8) {
            0..=2 => 1,
            3..=4 => rng.within(2..=20),
            _ => rng.within(21..=300),
        };
        let nprobe = if rng.one_in(3) {
            rng.within(1..=sizes.len())
        } else {
            sizes.len()
        };
        Self {
            metric: rng.pick(&Metric::ALL),
            d,
            k,
            nq,
            nprobe,
            sizes,
        }
    }

    fn rows(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// Mostly small, up to 1100.
fn dimension(rng: &mut Rng) -> usize {
    match rng.below(20) {
        0..=7 => rng.within(1..=20),
        8..=12 => rng.within(21..=80),
        13..=15 => rng.within(81..=260),
        16..=17 => rng.pick(&[16, 32, 48, 64, 96, 128, 256, 384, 512, 768, 1024]),
        _ => rng.within(257..=1100),
    }
}

/// Cuts about `rows` rows into `nlist` lists, some of which are empty or have one row; in one case
/// of three the first list has half of all rows.
fn list_sizes(rng: &mut Rng, rows: usize, nlist: usize) -> Vec<usize> {
    let mut sizes = vec![0; nlist];
    let first = if rng.one_in(3) { rows / 2 } else { 0 };
    let open: Vec<usize> = (0..sizes.len()).filter(|_| !rng.one_in(3)).collect();
    if open.is_empty() {
        sizes[0] = rows;
        return sizes;
    }
    for _ in first..rows {
        sizes[rng.pick(&open)] += 1;
    }
    sizes[0] += first;
    for size in &mut sizes {
        if *size == 0 && rng.one_in(2) {
            *size = 1;
        }
    }
    sizes
}

/// One scan: on which instruction set, with how many threads.
type Run = (Isa, usize);

/// A case, drawn from its seed.
struct Case {
    seed: u64,
    shape: Shape,
    family: Family,
    twist: Twist,
    /// Row-major, list after list.
    rows: Vec<f32>,
    /// One id per row, or none where a row's id is its place.
    ids: Option<Vec<i64>>,
    queries: Vec<f32>,
    probes: Vec<u32>,
    /// Whether f32 sums are exact in every order.
    exact: bool,
    reranks: Run,
    scans: [Run; 2],
    /// Whether every list has another layout.
    mixed: bool,
}

/// Draws the queries, and puts the rows in the order the twist asks for: by distance to the first.
fn draw_queries(
    rng: &mut Rng,
    shape: &Shape,
    source: &Source,
    twist: Twist,
    rows: &mut [f32],
) -> Vec<f32> {
    let d = shape.d;
    let mut queries = Vec::with_capacity(shape.nq * d);
    for _ in 0..shape.nq {
        query(rng, source, rows, &mut queries);
    }
    let best_first = twist == Twist::BestFirst;
    if (best_first || twist == Twist::BestLast) && shape.nq > 0 {
        let mut rest = rows;
        for size in &shape.sizes {
            let (list, tail) = rest.split_at_mut(size * d);
            sort_rows(shape.metric, list, &queries[..d], best_first);
            rest = tail;
        }
    }
    queries
}

impl Case {
    fn draw(seed: u64) -> Self {
        let rng = &mut Rng(seed);
        let shape = Shape::draw(rng);
        let (d, n) = (shape.d, shape.rows());
        let family = rng.pick(&FAMILIES);
        let twist = match rng.below(12) {
            0..=1 => Twist::Repeat(rng.within(1..=8)),
            2 => Twist::Repeat(1),
            3 => Twist::Outlier,
            4 => Twist::BestLast,
            5 => Twist::BestFirst,
            _ => Twist::None,
        };
        let mut source = Source::draw(rng, family, d);
        let other_lists_differ = rng.one_in(8);
        let mut rows = Vec::with_capacity(n * d);
        for &size in &shape.sizes {
            for _ in 0..size {
                rows.extend(source.vector(rng));
            }
            if other_lists_differ {
                let family = rng.pick(&FAMILIES);
                source = Source::draw(rng, family, d);
            }
        }
        match twist {
            Twist::Repeat(distinct) => repeat(rng, &mut rows, d, distinct),
            Twist::Outlier => make_outlier(rng, &mut rows, d),
            _ => {}
        }
        let queries = draw_queries(rng, &shape, &source, twist, &mut rows);
        let work = n * d * shape.nq * shape.nprobe / shape.sizes.len();
        Self {
            seed,
            ids: (!rng.one_in(10)).then(|| draw_ids(rng, n)),
            probes: draw_probes(rng, &shape),
            exact: is_exact(&rows, &queries),
            reranks: (draw_isa(rng, work), rng.within(1..=3)),
            scans: [
                (Isa::detect(), rng.within(1..=3)),
                (draw_isa(rng, work), rng.within(1..=3)),
            ],
            mixed: false,
            shape,
            family,
            twist,
            rows,
            queries,
        }
    }

    /// A case that strains the bookkeeping: enough rows that several threads share a query's
    /// lists, values a filter hardly tells apart, or a table about as large as those that are
    /// scanned at once.
    fn draw_crowded(seed: u64) -> Self {
        let rng = &mut Rng(seed ^ 0xc0_ffee << 32);
        let shape = Shape::draw_crowded(rng);
        let (d, n) = (shape.d, shape.rows());
        let family = rng.pick(&[
            Family::LowBits,
            Family::LowBits,
            Family::Halfway,
            Family::Offset,
            Family::NearTies,
            Family::Clustered,
            Family::Integers,
            Family::Normal,
            Family::Brink,
        ]);
        let mut source = Source::draw(rng, family, d);
        if family == Family::Offset {
            source.scale = rng.pick(&[1e3, 1e4, 1e5, 1e6]);
        }
        // Some lists far from the others, or of another kind.
        let other = rng.pick(&FAMILIES);
        let other = Source::draw(rng, other, d);
        let strange = rng.pick(&[0, 0, 4, 2]);
        let mut rows = Vec::with_capacity(n * d);
        for &size in &shape.sizes {
            let source = if strange > 0 && rng.one_in(strange) {
                &other
            } else {
                &source
            };
            for _ in 0..size {
                rows.extend(source.vector(rng));
            }
        }
        let twist = match rng.below(10) {
            0 => Twist::Repeat(rng.within(1..=n.clamp(1, 200))),
            1..=2 => Twist::BestLast,
            3 => Twist::BestFirst,
            4 => Twist::Outlier,
            _ => Twist::None,
        };
        match twist {
            Twist::Repeat(distinct) => repeat(rng, &mut rows, d, distinct),
            Twist::Outlier => make_outlier(rng, &mut rows, d),
            _ => {}
        }
        let queries = draw_queries(rng, &shape, &source, twist, &mut rows);
        let work = n * d * shape.nq * shape.nprobe / shape.sizes.len();
        Self {
            seed,
            ids: (!rng.one_in(10)).then(|| draw_ids(rng, n)),
            probes: draw_probes(rng, &shape),
            exact: is_exact(&rows, &queries),
            reranks: (Isa::detect(), rng.within(1..=3)),
            scans: [
                (Isa::detect(), rng.within(1..=3)),
                (draw_isa(rng, work), rng.within(2..=3)),
            ],
            mixed: rng.one_in(4),
            shape,
            family,
            twist,
            rows,
            queries,
        }
    }

    /// What to print of a case that failed.
    fn describe(&self) -> String {
        let name = |(isa, threads): Run| format!("{} x{threads}", isa.name());
        format!(
            "{:?}, family {:?}, twist {:?}, rerank on {}, scans on {}, {}",
            self.shape,
            self.family,
            self.twist,
            name(self.reranks),
            name(self.scans[0]),
            name(self.scans[1]),
        )
    }

    /// The rows of every list, and their ids if they have a table.
    fn lists(&self) -> impl Iterator<Item = (&[f32], Option<&[i64]>)> {
        self.shape.sizes.iter().scan(0, |start, &size| {
            let range = *start..*start + size;
            *start += size;
            let rows = &self.rows[range.start * self.shape.d..range.end * self.shape.d];
            Some((rows, self.ids.as_ref().map(|ids| &ids[range])))
        })
    }

    fn query(&self, i: usize) -> &[f32] {
        &self.queries[i * self.shape.d..][..self.shape.d]
    }

    fn is_searchable(&self, i: usize) -> bool {
        self.query(i).iter().all(|v| v.is_finite())
    }

    /// The lists query `i` probes.
    fn probed(&self, i: usize) -> impl Iterator<Item = usize> {
        let nprobe = self.shape.nprobe;
        self.probes[i * nprobe..][..nprobe]
            .iter()
            .filter(|&&list| list != SKIP)
            .map(|&list| list as usize)
    }

    fn probed_rows(&self, i: usize) -> usize {
        self.probed(i).map(|list| self.shape.sizes[list]).sum()
    }

    /// Hits of query `i` in a ranking of all rows.
    fn hits(&self, i: usize) -> usize {
        if self.is_searchable(i) {
            self.probed_rows(i)
        } else {
            0
        }
    }
}

fn draw_ids(rng: &mut Rng, n: usize) -> Vec<i64> {
    let kind = rng.below(8);
    (0..n)
        .map(|i| match kind {
            0 => rng.below(19) as i64 - 9,
            1 => rng.bits() as i64,
            2 => rng.pick(&[i64::MIN, -1, 0, i64::MAX]),
            3 => 7,
            4..=5 => (n - i) as i64,
            _ => i as i64,
        })
        .collect()
}

/// Mostly every list once, as an index would probe; sometimes any list, even twice; gaps.
fn draw_probes(rng: &mut Rng, shape: &Shape) -> Vec<u32> {
    let nlist = shape.sizes.len();
    let repeats = rng.one_in(4);
    let gaps = rng.one_in(2);
    let mut order: Vec<u32> = (0..nlist as u32).collect();
    let mut probes = Vec::with_capacity(shape.nq * shape.nprobe);
    for _ in 0..shape.nq {
        for at in 0..shape.nprobe {
            order.swap(at, rng.within(at..=nlist - 1));
            let list = if repeats {
                rng.below(nlist) as u32
            } else {
                order[at]
            };
            let skip = gaps && rng.one_in(6);
            probes.push(if skip { SKIP } else { list });
        }
    }
    probes
}

/// Any instruction set; not the slow one for a case with much work.
fn draw_isa(rng: &mut Rng, work: usize) -> Isa {
    let sets = Isa::available();
    let from = if work > PORTABLE_WORK && sets.len() > 1 {
        1
    } else {
        0
    };
    rng.pick(&sets[from..])
}

/// Whether all values are integers so small that no sum of at most 1100 of them is rounded.
fn is_exact(rows: &[f32], queries: &[f32]) -> bool {
    let small = |v: &f32| v.fract() == 0.0 && v.abs() <= 8.0;
    rows.iter().all(small) && queries.iter().filter(|v| v.is_finite()).all(small)
}

// ---------------------------------------------------------------------------------------------
// The f64 reference.
// ---------------------------------------------------------------------------------------------

/// The key of a row (smaller is better) and the sum of the magnitudes of its terms.
fn exact_key(metric: Metric, query: &[f32], row: &[f32]) -> (f64, f64) {
    const LANES: usize = 8;
    let term = |q: f32, x: f32| {
        let (q, x) = (f64::from(q), f64::from(x));
        match metric {
            Metric::L2 => (x - q) * (x - q),
            Metric::InnerProduct => -x * q,
        }
    };
    let (queries, query) = query.as_chunks::<LANES>();
    let (rows, row) = row.as_chunks::<LANES>();
    let (mut key, mut magnitude) = ([0.0; LANES], [0.0; LANES]);
    for (query, row) in queries.iter().zip(rows) {
        for lane in 0..LANES {
            let term = term(query[lane], row[lane]);
            key[lane] += term;
            magnitude[lane] += term.abs();
        }
    }
    for (&q, &x) in query.iter().zip(row) {
        let term = term(q, x);
        key[0] += term;
        magnitude[0] += term.abs();
    }
    (key.iter().sum(), magnitude.iter().sum())
}

/// The keys a row may be given: an id and a range of keys, as [`ordered`] numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Allowed {
    id: i64,
    low: i64,
    high: i64,
}

/// An integer that compares as `value` does; both zeros are the same.
fn ordered(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The value behind an [`ordered`] number.
fn value(ordered: i64) -> f64 {
    f64::from_bits((ordered ^ (((ordered >> 63) as u64) >> 1) as i64) as u64)
}

impl Allowed {
    /// The f64 key, give or take the error documented in [`burn_ivf_kernels::distance`]: relative
    /// to the sum of the terms' magnitudes, plus half the smallest denormal per operation. Within
    /// that error of the end of the f32 range, the key may be infinite; beyond it, it must be.
    fn new(case: &Case, query: &[f32], row: &[f32], id: i64) -> Self {
        let d = case.shape.d;
        let (key, magnitude) = exact_key(case.shape.metric, query, row);
        let slack = if case.exact {
            0.0
        } else {
            let roundings = (d / LANES + 8) as f64;
            let half_denormal = f64::from(f32::from_bits(1)) / 2.0;
            roundings * f64::from(f32::EPSILON) / 2.0 * magnitude + (2 * d) as f64 * half_denormal
        };
        let widen = |bound: f64| {
            if bound.abs() >= f64::from(f32::MAX) {
                f64::INFINITY.copysign(bound)
            } else {
                bound
            }
        };
        let (mut low, mut high) = (key - slack, key + slack);
        if low < 0.0 {
            low = widen(low);
        }
        if high > 0.0 {
            high = widen(high);
        }
        Self {
            id,
            low: ordered(low),
            high: ordered(high),
        }
    }
}

/// Every row query `i` reads, with the keys it may be given, sorted.
fn allowed_rows(case: &Case, i: usize) -> Vec<Allowed> {
    let lists: Vec<_> = case.lists().collect();
    let mut allowed = Vec::with_capacity(case.probed_rows(i));
    for list in case.probed(i) {
        let (rows, ids) = lists[list];
        for (slot, row) in rows.chunks_exact(case.shape.d).enumerate() {
            let id = ids.map_or(slot as i64, |ids| ids[slot]);
            allowed.push(Allowed::new(case, case.query(i), row, id));
        }
    }
    allowed.sort_unstable();
    allowed
}

/// Whether the `found` (id, key) pairs are the `allowed` rows, one each; both are sorted. Rows of
/// one id are told apart by their keys: each key takes, of the open ranges, the one ending first.
fn matches(found: &[(i64, i64)], allowed: &[Allowed]) -> Result<(), String> {
    if found.len() != allowed.len() {
        return Err(format!("{} hits of {} rows", found.len(), allowed.len()));
    }
    let mut waiting = allowed.iter().peekable();
    let mut open: BinaryHeap<Reverse<(i64, i64)>> = BinaryHeap::new();
    for &(id, key) in found {
        while let Some(row) = waiting.next_if(|row| (row.id, row.low) <= (id, key)) {
            open.push(Reverse((row.id, row.high)));
        }
        match open.pop() {
            Some(Reverse((row, high))) if row == id && key <= high => {}
            open => {
                let key = value(key);
                let range = open.map(|Reverse((id, high))| (id, value(high)));
                return Err(format!(
                    "id {id} has key {key:e}; the next row allowed one has (id, highest key) {range:?}"
                ));
            }
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------
// Checks.
// ---------------------------------------------------------------------------------------------

/// Rayon pools of 1, 2 and 3 threads.
static POOLS: LazyLock<Vec<rayon::ThreadPool>> = LazyLock::new(|| {
    (1..=3)
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().expect("a pool of at most three threads")
        })
        .collect()
});

/// [`rerank`] of every probed row, `k` kept.
///
/// A list probed twice counts twice, but a candidate may be named once: the second time it is a row
/// of a second list that borrows the same rows. `turn` decides where a query's candidates begin.
fn rerank_all(case: &Case, problem: &Problem<'_>, k: usize, turn: usize) -> Result<Best, String> {
    let nlist = problem.lists.len();
    let lists = problem.lists.repeat(case.shape.nprobe.max(1));
    let per_query = (0..case.shape.nq).map(|i| case.probed_rows(i)).max();
    let per_query = per_query.unwrap_or(0) + turn % 3;
    let mut candidates = Vec::with_capacity(case.shape.nq * per_query);
    for i in 0..case.shape.nq {
        let start = candidates.len();
        let mut seen = vec![0; nlist];
        for list in case.probed(i) {
            let copy = (list + seen[list] * nlist) as u32;
            seen[list] += 1;
            candidates
                .extend((0..case.shape.sizes[list] as u32).map(|slot| Slot { list: copy, slot }));
        }
        candidates.resize(start + per_query, Slot::NONE);
        candidates[start..].rotate_left(turn % per_query.max(1));
    }
    let problem = Problem {
        k,
        lists: &lists,
        ..*problem
    };
    let (isa, threads) = case.reranks;
    POOLS[threads - 1]
        .install(|| rerank(&problem, &candidates, per_query, isa))
        .map_err(|e| format!("rerank: {e}"))
}

/// The full ranking is in order, and is the f64 ranking but for rounding.
fn check_ranking(case: &Case, full: &Best, k: usize) -> Result<(), String> {
    let metric = case.shape.metric;
    for i in 0..case.shape.nq {
        let hits = i * k..i * k + case.hits(i);
        let mut found: Vec<(i64, i64)> = Vec::with_capacity(hits.len());
        let mut last = (i64::MIN, i64::MIN);
        for at in hits {
            let (distance, id) = (full.distances[at], full.labels[at]);
            if distance.is_nan() {
                return Err(format!("query {i}: id {id} has a distance that is NaN"));
            }
            let key = ordered(f64::from(metric.key(distance)));
            if (key, id) < last {
                return Err(format!("query {i}: id {id}, {distance:e} out of order"));
            }
            last = (key, id);
            found.push((id, key));
        }
        if case.is_searchable(i) {
            found.sort_unstable();
            matches(&found, &allowed_rows(case, i)).map_err(|e| format!("query {i}: {e}"))?;
        }
    }
    Ok(())
}

/// `found` holds the first hits of the full ranking (`full_k` per query) bit for bit, then padding.
fn check_prefix(
    case: &Case,
    full: &Best,
    full_k: usize,
    found: &Best,
    k: usize,
) -> Result<(), String> {
    let size = case.shape.nq * k;
    if (found.distances.len(), found.labels.len()) != (size, size) {
        return Err("a result of the wrong size".into());
    }
    let padding = (case.shape.metric.padding(), -1);
    for i in 0..case.shape.nq {
        let hits = case.hits(i);
        for rank in 0..k {
            let at = i * k + rank;
            let result = (found.distances[at], found.labels[at]);
            let expected = if rank < hits {
                let at = i * full_k + rank;
                (full.distances[at], full.labels[at])
            } else {
                padding
            };
            if (result.0.to_bits(), result.1) != (expected.0.to_bits(), expected.1) {
                return Err(format!(
                    "query {i}, rank {rank} of {hits}: found {result:?}, not {expected:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Rows and lists read are counted.
fn check_counts(case: &Case, found: &Best) -> Result<(), String> {
    let rows: usize = (0..case.shape.nq).map(|i| case.hits(i)).sum();
    let lists = (0..case.shape.nq)
        .filter(|&i| case.is_searchable(i))
        .flat_map(|i| case.probed(i))
        .filter(|&list| case.shape.sizes[list] > 0)
        .count();
    let counts = (found.rows_scanned, found.lists_scanned);
    if counts == (rows as u64, lists as u64) {
        Ok(())
    } else {
        Err(format!("counted {counts:?}, not {:?}", (rows, lists)))
    }
}

fn check(case: &Case) -> Result<(), String> {
    let (d, k) = (case.shape.d, case.shape.k);
    // Every layout and order in turn, whatever else the seed draws.
    let layout = Layout::WHOLE[(case.seed % 3) as usize];
    let order = Order::ALL[(case.seed / 3 % 2) as usize];
    let stores = case.lists().enumerate().map(|(i, (rows, _))| {
        let turn = if case.mixed { i } else { 0 };
        store(d, Layout::WHOLE[(case.seed as usize + turn) % 3], rows)
    });
    let stores = stores.collect::<Result<Vec<Store>, _>>()?;
    let lists: Vec<List<'_>> = stores
        .iter()
        .zip(case.lists())
        .map(|(store, (_, ids))| List::new(store, ids.map_or(ListIds::Place, ListIds::Table)))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let problem = Problem {
        metric: case.shape.metric,
        d,
        k,
        lists: &lists,
        queries: &case.queries,
        workspace: WORKSPACE,
    };

    let most_hits = (0..case.shape.nq).map(|i| case.probed_rows(i)).max();
    let full_k = most_hits.unwrap_or(0).max(1);
    let full = rerank_all(case, &problem, full_k, case.rows.len())?;
    check_ranking(case, &full, full_k).map_err(|e| format!("full ranking: {e}"))?;
    check_prefix(case, &full, full_k, &full, full_k).map_err(|e| format!("full ranking: {e}"))?;

    for (isa, threads) in case.scans {
        let named = |e| {
            let (isa, order) = (isa.name(), order.name());
            format!("scan of {layout} on {isa}, {order}, {threads} threads: {e}")
        };
        let found = POOLS[threads - 1]
            .install(|| scan(&problem, &case.probes, case.shape.nprobe, order, isa))
            .map_err(|e| named(e.to_string()))?;
        check_prefix(case, &full, full_k, &found, k).map_err(named)?;
        check_counts(case, &found).map_err(named)?;
    }
    if k < full_k {
        let found = rerank_all(case, &problem, k, k)?;
        check_prefix(case, &full, full_k, &found, k).map_err(|e| format!("rerank: {e}"))?;
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------
// Tests.
// ---------------------------------------------------------------------------------------------

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let Ok(value) = value.parse() else {
        panic!("{name} must be a whole number, not {value:?}");
    };
    Some(value)
}

/// Checks the cases the environment asks for, `default` many if it does not say.
fn run(draw: fn(u64) -> Case, default: u64) {
    let seed = from_env("BURN_IVF_FUZZ_SEED");
    let cases = from_env("BURN_IVF_FUZZ_CASES").unwrap_or(if seed.is_some() { 1 } else { default });
    let first = seed.unwrap_or(0);
    for seed in first..first.saturating_add(cases) {
        let case = draw(seed);
        let result = catch_unwind(AssertUnwindSafe(|| check(&case)))
            .unwrap_or_else(|_| Err("panicked (see above)".into()));
        if let Err(why) = result {
            panic!(
                "seed {seed}: {why}\n  {}\n  replay with BURN_IVF_FUZZ_SEED={seed}",
                case.describe()
            );
        }
    }
}

#[test]
fn scan_and_rerank_agree_with_f64() {
    run(Case::draw, CASES);
}

#[test]
fn crowded_scans_agree_with_f64() {
    run(Case::draw_crowded, CASES / 4);
}

/// The cases drawn by default meet what the module doc promises.
#[test]
fn default_cases_cover_the_sizes() {
    let cases: Vec<Case> = (0..CASES).map(Case::draw).collect();
    let any = |what: fn(&Case) -> bool| cases.iter().any(what);
    for residue in 0..16 {
        assert!(
            cases.iter().any(|case| case.shape.d % 16 == residue),
            "no d = {residue} mod 16"
        );
    }
    for family in FAMILIES {
        for metric in Metric::ALL {
            assert!(
                cases
                    .iter()
                    .any(|case| (case.family, case.shape.metric) == (family, metric)),
                "no {family:?} under {metric}"
            );
        }
    }
    assert!(any(|case| case.shape.d > 768));
    assert!(any(|case| case.shape.nq == 0));
    assert!(any(|case| case.shape.nprobe == 0));
    assert!(any(|case| case.rows.is_empty()));
    assert!(any(|case| case.shape.rows() > 2000));
    assert!(any(|case| case.shape.k > case.shape.rows()));
    assert!(any(|case| case.shape.sizes.contains(&1)));
    assert!(any(|case| case.ids.is_none()));
    assert!(any(|case| case.exact && !case.rows.is_empty()));
    assert!(any(
        |case| (0..case.shape.nq).any(|i| !case.is_searchable(i))
    ));
    assert!(
        cases
            .iter()
            .all(|case| case.rows.iter().all(|v| v.is_finite()))
    );
}

/// The matching of hits to rows of one id finds a solution where there is one, and only there.
#[test]
fn rows_of_one_id_are_told_apart_by_key() {
    let row = |low, high| Allowed { id: 1, low, high };
    let rows = [row(0, 9), row(1, 2), row(3, 5)];
    assert!(matches(&[(1, 1), (1, 4), (1, 6)], &rows).is_ok());
    assert!(matches(&[(1, 1), (1, 2), (1, 5)], &rows).is_ok());
    assert!(matches(&[(1, 1), (1, 6), (1, 7)], &rows).is_err());
    assert!(matches(&[(1, 1), (1, 4)], &rows).is_err());
    assert!(matches(&[(1, 1), (1, 4), (2, 6)], &rows).is_err());
}
