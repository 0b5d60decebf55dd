//! The matrix path: candidates gathered, one batched product, select, exact re-rank.
//!
//! The product ranks `‖x‖² - 2q·x` on data centred at the candidates' mean. After the k-th best
//! score is known, every candidate within twice the error bound of it is re-ranked exactly: the
//! number of those is counted on the device and read, so that nothing is ever lost.

use crate::{
    backend::{
        Counts, Hits, IvfBackend, ListStore, SKIP, Scan, Slot, list_numbers, portable,
        portable::{length, score_error},
        read, read_int,
    },
    error::Result,
    metric::ScanMetric as Metric,
    plan::{MATRIX_COPIES, matrix_chunk},
};
use burn::tensor::{DType, Int, Tensor, TensorData};

/// Candidates of a chunk of queries.
enum Candidates<'a> {
    /// The same rows for every query.
    Shared(&'a [Slot]),
    /// A table of its own for every query, row-major `[queries, width]`, gaps [`Slot::NONE`].
    PerQuery { table: Vec<Slot>, width: usize },
}

impl Candidates<'_> {
    fn width(&self) -> usize {
        match self {
            Self::Shared(rows) => rows.len(),
            Self::PerQuery { width, .. } => *width,
        }
    }

    fn at(&self, query: usize, column: usize) -> Slot {
        match self {
            Self::Shared(rows) => rows[column],
            Self::PerQuery { table, width } => table[query * width + column],
        }
    }
}

/// Every query against the rows of its probed lists.
pub(super) fn per_query<E: IvfBackend>(
    scan: &Scan<'_, E>,
    probes: Tensor<E, 2, Int>,
) -> Result<(Hits<E>, usize)> {
    let (nq, nprobe) = (scan.nq(), probes.dims()[1]);
    let probes = &list_numbers(probes)?[..];
    // What a query is compared with of every list it reads.
    let lists = |i: usize| {
        let read = (i * nprobe..(i + 1) * nprobe).filter(|&probe| probes[probe] != SKIP);
        let of = scan.restriction;
        read.map(move |probe| {
            let list = probes[probe];
            let len = scan.ids.len(list as usize);
            (list, of.of(i, probe, list as usize, len))
        })
    };
    let sizes: Vec<usize> = (0..nq)
        .map(|i| lists(i).map(|(_, allowed)| allowed.count()).sum())
        .collect();
    let widest = sizes.iter().copied().max().unwrap_or(0);
    let chunk = matrix_chunk(nq, widest, scan.d, scan.workspace);
    let mut parts = Vec::new();
    for range in portable::pieces(nq, chunk) {
        let width = sizes[range.clone()].iter().copied().max().unwrap_or(0);
        let mut table = vec![Slot::NONE; range.len() * width];
        for (row, i) in table.chunks_exact_mut(width.max(1)).zip(range.clone()) {
            let rows = lists(i)
                .flat_map(|(list, allowed)| allowed.slots().map(move |slot| Slot { list, slot }));
            row.iter_mut().zip(rows).for_each(|(place, at)| *place = at);
        }
        let mut hits = search_chunk(scan, range.clone(), &Candidates::PerQuery { table, width })?;
        hits.counts = Some(Counts {
            rows_scanned: sizes[range.clone()].iter().map(|&n| n as u64).sum(),
            lists_scanned: range
                .map(|i| lists(i).filter(|(_, allowed)| allowed.count() > 0).count() as u64)
                .sum(),
            rows_reranked: hits.counts.map_or(0, |c| c.rows_reranked),
        });
        parts.push(hits);
    }
    let chunks = parts.len();
    Ok((Hits::join(parts), chunks))
}

/// Every query against the same rows.
pub(super) fn shared<E: IvfBackend>(scan: &Scan<'_, E>, rows: &[Slot]) -> Result<(Hits<E>, usize)> {
    // A score, its mask, and two copies on the way.
    let chunk = (scan.workspace / 2 / (16 * rows.len()).max(1)).max(1);
    let mut parts = Vec::new();
    for range in portable::pieces(scan.nq(), chunk) {
        let queries = range.len() as u64;
        let mut hits = search_chunk(scan, range, &Candidates::Shared(rows))?;
        hits.counts = Some(Counts {
            rows_scanned: queries * rows.len() as u64,
            lists_scanned: queries,
            rows_reranked: hits.counts.map_or(0, |c| c.rows_reranked),
        });
        parts.push(hits);
    }
    let chunks = parts.len();
    Ok((Hits::join(parts), chunks))
}

fn search_chunk<E: IvfBackend>(
    scan: &Scan<'_, E>,
    range: core::ops::Range<usize>,
    candidates: &Candidates<'_>,
) -> Result<Hits<E>> {
    let (d, width) = (scan.d, candidates.width());
    let queries = scan.queries.clone().slice([range.clone(), 0..d]);
    let scan = Scan {
        queries: queries.clone(),
        ..scan.clone()
    };
    if width == 0 {
        return Ok(Hits::padding(
            scan.metric,
            range.len(),
            scan.k,
            &queries.device(),
        ));
    }
    let scores = scores(&scan, candidates)?;
    let columns = survivors::<E>(&scores, scan.k, width)?;
    let per_query = columns.len() / range.len();
    let table: Vec<Slot> = columns
        .iter()
        .enumerate()
        .map(|(i, &column)| candidates.at(i / per_query, column as usize))
        .collect();
    E::rerank(&scan, &table, per_query)
}

/// Scores of a chunk and the width of what may hide in their rounding.
struct Scores<E: IvfBackend> {
    /// `[queries, width]`, smaller is better, `+inf` in gaps.
    table: Tensor<E, 2>,
    /// Twice the error bound of every query; not finite when scores cannot be trusted.
    margin: Vec<f64>,
}

fn scores<E: IvfBackend>(scan: &Scan<'_, E>, candidates: &Candidates<'_>) -> Result<Scores<E>> {
    let (nq, d, width) = (scan.nq(), scan.d, candidates.width());
    let device = scan.queries.device();
    let share = match candidates {
        Candidates::Shared(_) => 1,
        Candidates::PerQuery { .. } => nq,
    };
    let piece = (scan.workspace / 2 / (share * MATRIX_COPIES * d * size_of::<f32>())).max(1);
    let mut center = None;
    let (mut columns, mut norms) = (Vec::new(), Vec::new());
    for range in portable::pieces(width, piece) {
        let (x, rows) = gather(scan, candidates, range)?;
        // The mean of the first piece serves them all: any centre gives the same ranking.
        let center = center.get_or_insert_with(|| match scan.metric {
            Metric::L2 => x.clone().mean_dim(0),
            Metric::InnerProduct => Tensor::zeros([1, d], (&device, DType::F32)),
        });
        let x = x - center.clone();
        let q = scan.queries.clone() - center.clone();
        let xn = (x.clone() * x.clone()).sum_dim(1);
        norms.push(xn.clone().max_dim(0));
        let (product, xn) = if share == 1 {
            (q.matmul(x.transpose()), xn.reshape([1, rows]))
        } else {
            let x = x.reshape([nq, rows, d]).swap_dims(1, 2);
            let product = q.reshape([nq, 1, d]).matmul(x).reshape([nq, rows]);
            (product, xn.reshape([nq, rows]))
        };
        columns.push(match scan.metric {
            Metric::L2 => xn - product * 2.0,
            Metric::InnerProduct => product.neg(),
        });
    }
    let center = center.unwrap_or_else(|| Tensor::zeros([1, d], (&device, DType::F32)));
    let q = scan.queries.clone() - center;
    norms.push((q.clone() * q).sum_dim(1));
    let norms = read(Tensor::cat(norms, 0))?;
    let (rows, queries) = norms.split_at(norms.len() - nq);
    let xn = length(rows.iter().copied().fold(0.0_f32, nan_max), d);
    let roundoff = E::capabilities(&device).matmul_input_roundoff;
    let margin = queries
        .iter()
        .map(|&qn| {
            let qn = length(qn, d);
            let scale = match scan.metric {
                Metric::L2 => (qn + xn) * (qn + xn),
                Metric::InnerProduct => qn * xn,
            };
            if xn.is_finite() {
                2.0 * score_error(scale, d, roundoff)
            } else {
                f64::INFINITY
            }
        })
        .collect();
    let table = Tensor::cat(columns, 1);
    let table = match mask(candidates, nq) {
        None => table,
        Some(mask) => {
            table + Tensor::from_data(TensorData::new(mask, [nq, width]), (&device, DType::F32))
        }
    };
    Ok(Scores { table, margin })
}

/// The larger of two, NaN above everything.
fn nan_max(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() {
        f32::NAN
    } else {
        a.max(b)
    }
}

/// The vectors of some columns: `[rows, d]` shared, or `[queries · rows, d]`; and `rows`.
fn gather<E: IvfBackend>(
    scan: &Scan<'_, E>,
    candidates: &Candidates<'_>,
    range: core::ops::Range<usize>,
) -> Result<(Tensor<E, 2>, usize)> {
    let rows = range.len();
    let at: Vec<Slot> = match candidates {
        Candidates::Shared(all) => all[range].to_vec(),
        Candidates::PerQuery { table, width } => table
            .chunks_exact(*width)
            .flat_map(|row| row[range.clone()].iter().copied())
            .collect(),
    };
    // A gap is filled with any row; the mask takes it out.
    let fill = at.iter().copied().find(|&at| at != Slot::NONE);
    let Some(fill) = fill else {
        let zeros = Tensor::zeros([at.len(), scan.d], (&scan.queries.device(), DType::F32));
        return Ok((zeros, rows));
    };
    let at: Vec<Slot> = at
        .into_iter()
        .map(|at| if at == Slot::NONE { fill } else { at })
        .collect();
    Ok((scan.lists.gather(&at)?, rows))
}

/// `+inf` in gaps, 0 elsewhere; `None` without gaps.
fn mask(candidates: &Candidates<'_>, nq: usize) -> Option<Vec<f32>> {
    match candidates {
        Candidates::PerQuery { table, .. } if table.contains(&Slot::NONE) => {
            debug_assert_eq!(table.len() % nq, 0);
            Some(
                table
                    .iter()
                    .map(|&at| if at == Slot::NONE { f32::INFINITY } else { 0.0 })
                    .collect(),
            )
        }
        _ => None,
    }
}

/// The columns that may hold one of the k best, the same number for every query, row-major.
fn survivors<E: IvfBackend>(scores: &Scores<E>, k: usize, width: usize) -> Result<Vec<i64>> {
    let nq = scores.margin.len();
    if k >= width {
        return Ok((0..nq).flat_map(|_| 0..width as i64).collect());
    }
    let (best, columns) = E::select_k(scores.table.clone(), k)?;
    let kth = read(best.slice([0..nq, k - 1..k]))?;
    let limits: Vec<f32> = kth
        .iter()
        .zip(&scores.margin)
        .map(|(&kth, &margin)| {
            // Rounded up, so that the limit is never below the exact sum.
            let limit = f64::from(kth) + margin;
            if margin < 1e37 && limit.is_finite() {
                (limit as f32).next_up()
            } else {
                f32::INFINITY
            }
        })
        .collect();
    // A margin that is not finite, or a score that is NaN, says nothing: take every column.
    let trusted = scores
        .margin
        .iter()
        .zip(&kth)
        .all(|(m, k)| *m < 1e37 && !k.is_nan() || m.is_nan());
    let needed = if trusted {
        let device = scores.table.device();
        let limits =
            Tensor::<E, 2>::from_data(TensorData::new(limits, [nq, 1]), (&device, DType::F32));
        let within = scores.table.clone().lower_equal(limits.expand([nq, width]));
        let counts = read_int(within.int().sum_dim(1))?;
        counts.into_iter().max().unwrap_or(0).max(k as i64) as usize
    } else {
        width
    };
    if needed >= width {
        return Ok((0..nq).flat_map(|_| 0..width as i64).collect());
    }
    let columns = if needed == k {
        columns
    } else {
        E::select_k(scores.table.clone(), needed)?.1
    };
    read_int(columns)
}
