//! Cases: sizes, ids, probes, what runs them.

use crate::values::{FAMILIES, Family, Rng, Source, Twist, make_outlier, query, repeat, sort_rows};
use burn_ivf_kernels::{Metric, list_scan::SKIP, simd::Isa};

/// Component pairs above which a case leaves the slow portable code out.
const PORTABLE_WORK: usize = 1 << 19;

/// Sizes of a case.
#[derive(Debug)]
pub struct Shape {
    pub metric: Metric,
    pub d: usize,
    pub k: usize,
    pub nq: usize,
    pub nprobe: usize,
    /// Rows of every list.
    pub sizes: Vec<usize>,
}

impl Shape {
    pub fn draw(rng: &mut Rng) -> Self {
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
    pub fn draw_crowded(rng: &mut Rng) -> Self {
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

    pub fn rows(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// Mostly small, up to 1100.
pub fn dimension(rng: &mut Rng) -> usize {
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
pub fn list_sizes(rng: &mut Rng, rows: usize, nlist: usize) -> Vec<usize> {
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
pub type Run = (Isa, usize);

/// A case, drawn from its seed.
pub struct Case {
    pub seed: u64,
    pub shape: Shape,
    pub family: Family,
    pub twist: Twist,
    /// Row-major, list after list.
    pub rows: Vec<f32>,
    /// One id per row, or none where a row's id is its place.
    pub ids: Option<Vec<i64>>,
    pub queries: Vec<f32>,
    pub probes: Vec<u32>,
    /// Whether f32 sums are exact in every order.
    pub exact: bool,
    pub reranks: Run,
    pub scans: [Run; 2],
    /// Whether every list has another layout.
    pub mixed: bool,
}

/// Draws the queries, and puts the rows in the order the twist asks for: by distance to the first.
pub fn draw_queries(
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
    pub fn draw(seed: u64) -> Self {
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
    pub fn draw_crowded(seed: u64) -> Self {
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
    pub fn describe(&self) -> String {
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
    pub fn lists(&self) -> impl Iterator<Item = (&[f32], Option<&[i64]>)> {
        self.shape.sizes.iter().scan(0, |start, &size| {
            let range = *start..*start + size;
            *start += size;
            let rows = &self.rows[range.start * self.shape.d..range.end * self.shape.d];
            Some((rows, self.ids.as_ref().map(|ids| &ids[range])))
        })
    }

    pub fn query(&self, i: usize) -> &[f32] {
        &self.queries[i * self.shape.d..][..self.shape.d]
    }

    pub fn is_searchable(&self, i: usize) -> bool {
        self.query(i).iter().all(|v| v.is_finite())
    }

    /// The lists query `i` probes.
    pub fn probed(&self, i: usize) -> impl Iterator<Item = usize> {
        let nprobe = self.shape.nprobe;
        self.probes[i * nprobe..][..nprobe]
            .iter()
            .filter(|&&list| list != SKIP)
            .map(|&list| list as usize)
    }

    pub fn probed_rows(&self, i: usize) -> usize {
        self.probed(i).map(|list| self.shape.sizes[list]).sum()
    }

    /// Hits of query `i` in a ranking of all rows.
    pub fn hits(&self, i: usize) -> usize {
        if self.is_searchable(i) {
            self.probed_rows(i)
        } else {
            0
        }
    }
}

pub fn draw_ids(rng: &mut Rng, n: usize) -> Vec<i64> {
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
pub fn draw_probes(rng: &mut Rng, shape: &Shape) -> Vec<u32> {
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
pub fn draw_isa(rng: &mut Rng, work: usize) -> Isa {
    let sets = Isa::available();
    let from = if work > PORTABLE_WORK && sets.len() > 1 {
        1
    } else {
        0
    };
    rng.pick(&sets[from..])
}

/// Whether all values are integers so small that no sum of at most 1100 of them is rounded.
pub fn is_exact(rows: &[f32], queries: &[f32]) -> bool {
    let small = |v: &f32| v.fract() == 0.0 && v.abs() <= 8.0;
    rows.iter().all(small) && queries.iter().filter(|v| v.is_finite()).all(small)
}
