//! Range search: all vectors within a distance, on both indexes.

use super::{IndexFlat, IndexIvfFlat, validate};
use crate::{
    backend::{Counters, IvfBackend, ListStore, RangeHits, Restriction, Scan, portable::pieces},
    engine,
    error::{Error, Result, illegal},
    metric::Metric,
    params::{Limit, RangeBound, RangeParams},
    result::{RangeResult, SearchStats},
};
use burn::tensor::Tensor;

/// The largest key within a radius.
fn limit(metric: Metric, radius: f32, bound: RangeBound) -> Result<f32> {
    if radius.is_nan() {
        return Err(illegal("radius", radius, "a number"));
    }
    let key = metric.key(radius);
    Ok(match bound {
        RangeBound::Inclusive => key,
        RangeBound::Exclusive => key.next_down(),
    })
}

/// Hits of consecutive queries, put together on the user's backend.
fn lift<B: IvfBackend>(parts: Vec<RangeHits<B::Inner>>, mut stats: SearchStats) -> RangeResult<B> {
    let hits = engine::join_ranges(parts);
    if let Some(counts) = hits.counts {
        stats.rows_scanned = Some(counts.rows_scanned);
        stats.lists_scanned = Some(counts.lists_scanned);
        stats.rows_reranked = Some(counts.rows_reranked);
    }
    RangeResult {
        lims: hits.lims.iter().map(|&lim| lim as usize).collect(),
        distances: B::lift(hits.distances),
        labels: B::lift_int(hits.labels),
        stats,
    }
}

/// The smallest radius a search began with, and what is left of its hits.
type Shrunk<B> = (f32, RangeResult<B>);

impl<B: IvfBackend> IndexFlat<B> {
    /// Every vector within `radius` of each query in `queries`, `[nq, d]`: L2 distances (squared) up
    /// to it, inner products from it on. A query with NaN or infinity finds nothing.
    ///
    /// # Errors
    /// Another dimension or device, a radius that is NaN, or a device that cannot hold the hits.
    pub fn range_search(&self, queries: Tensor<B, 2>, radius: f32) -> Result<RangeResult<B>> {
        self.range_search_with(queries, radius, &RangeParams::default())
    }

    /// [`range_search`](Self::range_search) with parameters.
    ///
    /// # Errors
    /// As `range_search`; [`Error::NotApplicable`] for parameters of inverted files.
    pub fn range_search_with(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        params: &RangeParams,
    ) -> Result<RangeResult<B>> {
        self.range(queries, radius, params, None)
            .map(|found| found.1)
    }

    /// [`range_search_with`](Self::range_search_with) at a radius that is drawn in, for all queries
    /// alike, until they have no more than `max_results` hits together (faiss
    /// `range_search_max_results`). Returns the radius and its hits: exactly those within it,
    /// inclusively.
    ///
    /// # Errors
    /// As `range_search_with`.
    pub fn range_search_max_results(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        max_results: usize,
        params: &RangeParams,
    ) -> Result<Shrunk<B>> {
        self.range(queries, radius, params, Some(max_results))
    }

    fn range(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        params: &RangeParams,
        most: Option<usize>,
    ) -> Result<Shrunk<B>> {
        let workspace = self.check_params(&params.search, queries.dims()[0])?;
        if params.max_empty_lists.is_some() {
            return Err(Error::NotApplicable {
                what: "max_empty_lists",
                instead: "a flat index has one list; leave it out",
            });
        }
        let before = Counters::now();
        let limit = limit(self.metric(), radius, params.bound)?;
        let queries = validate::vectors::<B>(queries, self.d(), &self.device(), "queries")?;
        let queries = validate::prepared(self.metric(), queries)?;
        self.metric().scanned()?;
        let nq = queries.dims()[0];
        let lists = self.lists();
        let mut wanted = engine::Range {
            limit,
            max_empty_lists: None,
            sorted: params.sorted,
        };
        let mut radius = radius;
        let mut parts = Vec::new();
        let selection = params.search.selection.as_ref();
        let at_once = engine::selected_queries(selection, lists.mask_words(), workspace);
        if nq > 0 && self.ntotal() > 0 {
            for range in pieces(nq, at_once) {
                let masks = selection.map(|selection| lists.masks(selection, range.clone()));
                let queries = queries.clone().slice([range, 0..self.d()]);
                let scan = self.scan(queries, 1, workspace, masks.as_ref())?;
                parts.push(engine::range(&scan, None, wanted)?);
                draw_in(&scan, &mut parts, most, &mut wanted, &mut radius)?;
            }
        } else {
            parts.push(RangeHits::nothing(nq, &self.device()));
        }
        let spent = Counters::now().since(before);
        let stats = SearchStats {
            mode: "chunked".to_owned(),
            kernel: B::capabilities(&self.device()).kernel,
            filter: lists.store().ranks_by(),
            nq,
            nprobe: 1,
            avg_group: nq as f64,
            query_chunks: parts.len(),
            launches: spent.launches,
            blocking_reads: spent.blocking_reads,
            workspace,
            ..SearchStats::default()
        };
        Ok((radius, lift(parts, stats)))
    }
}

/// Draws the radius in when the parts so far hold too many hits.
fn draw_in<E: IvfBackend>(
    scan: &Scan<'_, E>,
    parts: &mut Vec<RangeHits<E>>,
    most: Option<usize>,
    wanted: &mut engine::Range,
    radius: &mut f32,
) -> Result<()> {
    let Some(most) = most else { return Ok(()) };
    let joined = engine::join_ranges(core::mem::take(parts));
    let (left, kept) = engine::shrink(scan, joined, most)?;
    if let Some(kept) = kept {
        *radius = kept;
        wanted.limit = scan.metric.key(kept);
    }
    parts.push(left);
    Ok(())
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// Every vector of the probed lists within `radius` of each query in `queries`, `[nq, d]`: L2
    /// distances (squared) up to it, inner products from it on. A query with NaN or infinity finds
    /// nothing. The index's limit is not applied: it would drop hits unseen.
    ///
    /// # Errors
    /// Not trained, another dimension or device, a radius that is NaN, or a device that cannot hold
    /// the hits.
    pub fn range_search(&self, queries: Tensor<B, 2>, radius: f32) -> Result<RangeResult<B>> {
        self.range_search_with(queries, radius, &RangeParams::default())
    }

    /// [`range_search`](Self::range_search) with parameters; a limit among them is applied.
    ///
    /// # Errors
    /// As `range_search`, and illegal parameters.
    pub fn range_search_with(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        params: &RangeParams,
    ) -> Result<RangeResult<B>> {
        self.range(queries, radius, params, None)
            .map(|found| found.1)
    }

    /// [`range_search_with`](Self::range_search_with) at a radius that is drawn in, for all queries
    /// alike, until they have no more than `max_results` hits together (faiss
    /// `range_search_max_results`). Returns the radius and its hits: exactly those within it,
    /// inclusively.
    ///
    /// # Errors
    /// As `range_search_with`.
    pub fn range_search_max_results(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        max_results: usize,
        params: &RangeParams,
    ) -> Result<Shrunk<B>> {
        self.range(queries, radius, params, Some(max_results))
    }

    fn range(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        params: &RangeParams,
        most: Option<usize>,
    ) -> Result<Shrunk<B>> {
        let before = Counters::now();
        let metric = self.metric.scanned()?;
        let trained = self.trained()?;
        let lists = &trained.lists;
        let mut search = params.search.clone();
        search.limit = search.limit.or(Some(Limit::Unlimited));
        let selection = search.selection.as_ref();
        let (resolved, queries) = self.check(queries, 1, &search)?;
        let workspace = resolved.workspace;
        let nq = queries.dims()[0];
        let mut wanted = engine::Range {
            limit: limit(self.metric, radius, params.bound)?,
            max_empty_lists: params.max_empty_lists,
            sorted: params.sorted,
        };
        if params.max_empty_lists == Some(0) {
            return Err(illegal("max_empty_lists", 0, "at least 1"));
        }
        let mut radius = radius;
        let mut parts = Vec::new();
        if nq > 0 && self.ntotal() > 0 {
            let quantizer = trained.quantizer(self.metric, workspace);
            let all = engine::probe(&quantizer, queries.clone(), resolved.nprobe)?;
            let caps = engine::caps(self.metric, &resolved, lists, &all, 1)?;
            let order = if caps.is_some() {
                lists.reading_order(resolved.ordering, &trained.centroids, workspace)?
            } else {
                None
            };
            let nprobe = resolved.nprobe;
            let at_once = engine::selected_queries(selection, lists.mask_words(), workspace);
            for range in pieces(nq, at_once) {
                let masks = selection.map(|selection| lists.masks(selection, range.clone()));
                let probes = engine::Probes {
                    lists: all.lists.clone().slice([range.clone(), 0..nprobe]),
                    distances: all.distances.clone().slice([range.clone(), 0..nprobe]),
                };
                let scan = Scan {
                    metric,
                    d: self.d,
                    k: 1,
                    lists: lists.store(),
                    ids: lists.ids(),
                    queries: queries.clone().slice([range.clone(), 0..self.d]),
                    workspace,
                    restriction: Restriction {
                        caps: caps
                            .as_deref()
                            .map(|caps| &caps[range.start * nprobe..range.end * nprobe]),
                        order: order.as_ref(),
                        masks: masks.as_ref(),
                    },
                };
                parts.push(engine::range(&scan, Some(&probes), wanted)?);
                draw_in(&scan, &mut parts, most, &mut wanted, &mut radius)?;
            }
        } else {
            parts.push(RangeHits::nothing(nq, &self.device));
        }
        let spent = Counters::now().since(before);
        let stats = SearchStats {
            mode: "csr".to_owned(),
            kernel: B::capabilities(&self.device).kernel,
            filter: lists.store().ranks_by(),
            nq,
            nprobe: resolved.nprobe,
            query_chunks: parts.len(),
            launches: spent.launches,
            blocking_reads: spent.blocking_reads,
            workspace,
            ..SearchStats::default()
        };
        Ok((radius, lift(parts, stats)))
    }
}
