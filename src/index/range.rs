//! Range search: all vectors within a distance, on both indexes.

use super::{IndexFlat, IndexIvfFlat, validate};
use crate::{
    backend::{Counters, Counts, IvfBackend, ListStore, RangeHits, Restriction, rows_of},
    engine::{self, Drawn},
    error::{Error, Result, illegal},
    metric::{Compare, Metric},
    params::{Limit, RangeBound, RangeParams},
    result::RangeResult,
    stats::SearchStats,
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

/// The radius of the hits kept, and these hits.
type Kept<B> = (f32, RangeResult<B>);

/// What a range search has found so far.
struct Found<E: IvfBackend> {
    wanted: engine::Range,
    radius: f32,
    most: Option<usize>,
    parts: Vec<RangeHits<E>>,
    chunks: usize,
    /// No radius has so few hits; nothing is looked for any more.
    shut: bool,
}

impl<E: IvfBackend> Found<E> {
    fn new(metric: Metric, radius: f32, params: &RangeParams, most: Option<usize>) -> Result<Self> {
        if params.max_empty_lists == Some(0) {
            return Err(illegal("max_empty_lists", 0, "at least 1"));
        }
        Ok(Self {
            wanted: engine::Range {
                limit: limit(metric, radius, params.bound)?,
                max_empty_lists: params.max_empty_lists,
                sorted: params.sorted,
            },
            radius,
            most,
            parts: Vec::new(),
            chunks: 0,
            shut: false,
        })
    }

    /// Searches for the next queries; draws the radius in when all hits so far are too many.
    fn add(
        &mut self,
        scan: &engine::Ranged<'_, E>,
        probes: Option<&engine::Probes<E>>,
    ) -> Result<()> {
        if self.shut {
            self.add_nothing(scan.nq(), &scan.queries.device());
            return Ok(());
        }
        self.parts.push(engine::range(scan, probes, self.wanted)?);
        self.chunks += 1;
        if let Some(most) = self.most {
            let joined = RangeHits::join(core::mem::take(&mut self.parts));
            let (left, drawn_in) = engine::shrink(scan, joined, most)?;
            match drawn_in {
                Drawn::Not => {}
                Drawn::To(radius) => {
                    self.radius = radius;
                    self.wanted.limit = scan.metric.key(radius);
                }
                Drawn::Shut => {
                    self.radius = scan.metric.key(f32::NEG_INFINITY);
                    self.shut = true;
                }
            }
            self.parts.push(left);
        }
        Ok(())
    }

    fn add_nothing(&mut self, nq: usize, device: &E::Device) {
        self.parts.push(RangeHits::nothing(nq, device));
        self.chunks += 1;
    }

    /// Hands all hits to the user's backend.
    fn lift<B>(self, mut stats: SearchStats, before: Counters) -> Kept<B>
    where
        B: IvfBackend<Inner = E>,
    {
        let hits = RangeHits::join(self.parts);
        let spent = Counters::now().since(before);
        stats.query_chunks = self.chunks;
        stats.launches = spent.launches;
        stats.blocking_reads = spent.blocking_reads;
        Counts::report(hits.counts, &mut stats);
        let result = RangeResult {
            lims: hits.lims.iter().map(|&lim| lim as usize).collect(),
            distances: B::lift(hits.distances),
            labels: B::lift_int(hits.labels),
            stats,
        };
        (self.radius, result)
    }
}

/// The mode of a range search by lists, and what ranks rows in it.
fn how<B: IvfBackend>(
    metric: Metric,
    mode: &str,
    store: &<B::Inner as IvfBackend>::Lists,
) -> (String, String) {
    match metric.compare() {
        Compare::Scan(_) => (mode.to_owned(), store.ranks_by()),
        Compare::Pairs(_) => ("pairs".to_owned(), String::new()),
    }
}

/// The calls of range search on an index.
macro_rules! calls {
    ($index:ident, $vectors:literal, $errors:literal, $notes:literal) => {
        impl<B: IvfBackend> $index<B> {
            #[doc = concat!("Every vector ", $vectors)]
            /// within `radius` of each query in `queries`, `[nq, d]`: distances (L2 is squared) up to it,
            /// similarities from it on. A query with NaN or infinity finds nothing (NaN is a missing
            /// component for metrics that [accept it](Metric::accepts_nan)).
            #[doc = $notes]
            ///
            /// # Errors
            #[doc = concat!($errors, "another dimension or device, a radius that is NaN, or a device that")]
            /// cannot hold the hits.
            pub fn range_search(
                &self,
                queries: Tensor<B, 2>,
                radius: f32,
            ) -> Result<RangeResult<B>> {
                self.range_search_with(queries, radius, &RangeParams::default())
            }

            /// [`range_search`](Self::range_search) with parameters; a limit among them is applied.
            ///
            /// # Errors
            /// As `range_search`, and illegal parameters ([`Error::NotApplicable`] for those of
            /// inverted files on a flat index).
            pub fn range_search_with(
                &self,
                queries: Tensor<B, 2>,
                radius: f32,
                params: &RangeParams,
            ) -> Result<RangeResult<B>> {
                Ok(self.range(queries, radius, params, None)?.1)
            }

            /// [`range_search_with`](Self::range_search_with) at a radius that is drawn in, for all
            /// queries alike, until they have no more than `max_results` hits together (faiss
            /// `range_search_max_results`). Returns the radius and its hits: exactly those within it,
            /// inclusively. Where more than `max_results` share the smallest distance there are no
            /// hits, and the radius is -inf (L2) or +inf.
            ///
            /// # Errors
            /// As `range_search_with`.
            pub fn range_search_max_results(
                &self,
                queries: Tensor<B, 2>,
                radius: f32,
                max_results: usize,
                params: &RangeParams,
            ) -> Result<Kept<B>> {
                self.range(queries, radius, params, Some(max_results))
            }
        }
    };
}

calls!(IndexFlat, "of the index", "An index of one list: ", "");
calls!(
    IndexIvfFlat,
    "of the probed lists",
    "Not trained, ",
    "The index's limit is not applied: it would drop hits unseen."
);

impl<B: IvfBackend> IndexFlat<B> {
    fn range(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        params: &RangeParams,
        most: Option<usize>,
    ) -> Result<Kept<B>> {
        span!(
            "range_search",
            nq = queries.dims()[0],
            nprobe = 1,
            mode = "chunked"
        );
        let workspace = self.check_params(&params.search, queries.dims()[0])?;
        if params.max_empty_lists.is_some() {
            return Err(Error::NotApplicable {
                what: "max_empty_lists",
                instead: "a flat index has one list; leave it out",
            });
        }
        let before = Counters::now();
        let queries = validate::vectors::<B>(queries, self.d(), &self.device(), "queries")?;
        let queries = validate::prepared(self.metric(), queries)?;
        let nq = queries.dims()[0];
        let lists = self.lists();
        let mut found = Found::new(self.metric(), radius, params, most)?;
        let selection = params.search.selection.as_ref();
        let words = lists.mask_words();
        if nq > 0 && self.ntotal() > 0 {
            for range in engine::selected_pieces(selection, nq, words, workspace) {
                let masks = selection.map(|selection| lists.masks(selection, range.clone()));
                let scan = engine::Ranged {
                    metric: self.metric(),
                    d: self.d(),
                    lists: lists.store(),
                    ids: lists.ids(),
                    queries: rows_of(&queries, range),
                    workspace,
                    restriction: Restriction {
                        masks: masks.as_ref(),
                        ..Restriction::default()
                    },
                    counts: params.search.counts,
                };
                found.add(&scan, None)?;
            }
        } else {
            found.add_nothing(nq, &self.device());
        }
        let (mode, filter) = how::<B>(self.metric(), "chunked", lists.store());
        let stats = SearchStats {
            mode,
            kernel: B::capabilities(&self.device()).kernel,
            filter,
            nq,
            nprobe: 1,
            avg_group: nq as f64,
            workspace,
            ..SearchStats::default()
        };
        Ok(found.lift(stats, before))
    }
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    fn range(
        &self,
        queries: Tensor<B, 2>,
        radius: f32,
        params: &RangeParams,
        most: Option<usize>,
    ) -> Result<Kept<B>> {
        let before = Counters::now();
        let trained = self.trained()?;
        let lists = &trained.lists;
        let mut search = params.search.clone();
        search.limit = search.limit.or(Some(Limit::Unlimited));
        let selection = search.selection.as_ref();
        let (resolved, queries) = self.check(queries, 1, &search)?;
        let workspace = resolved.workspace;
        let nq = queries.dims()[0];
        span!(
            "range_search",
            nq = nq,
            nprobe = resolved.nprobe,
            mode = "csr"
        );
        let mut found = Found::new(self.metric, radius, params, most)?;
        if nq > 0 && self.ntotal() > 0 {
            let quantizer = trained.quantizer(self.metric, workspace);
            let (nprobe, words) = (resolved.nprobe, lists.mask_words());
            let selected = engine::selected_pieces(selection, nq, words, workspace);
            for probed in engine::probed_pieces(nq, nprobe, workspace) {
                let probes = rows_of(&queries, probed.clone());
                let probes = engine::probe(&quantizer, probes, nprobe)?;
                let caps = engine::caps(self.metric, &resolved, lists, &probes, 1)?;
                let order = if caps.is_some() {
                    lists.reading_order(resolved.ordering, &trained.centroids, workspace)?
                } else {
                    None
                };
                for range in engine::within(&selected, &probed) {
                    let masks = selection.map(|selection| lists.masks(selection, range.clone()));
                    let own = range.start - probed.start..range.end - probed.start;
                    let scan = engine::Ranged {
                        metric: self.metric,
                        d: self.d,
                        lists: lists.store(),
                        ids: lists.ids(),
                        queries: rows_of(&queries, range),
                        workspace,
                        restriction: Restriction {
                            caps: caps
                                .as_deref()
                                .map(|caps| &caps[own.start * nprobe..own.end * nprobe]),
                            order: order.as_ref(),
                            masks: masks.as_ref(),
                        },
                        counts: resolved.counts,
                    };
                    found.add(&scan, Some(&probes.slice(own)))?;
                }
            }
        } else {
            found.add_nothing(nq, &self.device);
        }
        let (mode, filter) = how::<B>(self.metric, "csr", lists.store());
        let stats = SearchStats {
            mode,
            kernel: B::capabilities(&self.device).kernel,
            filter,
            nq,
            nprobe: resolved.nprobe,
            workspace,
            ..SearchStats::default()
        };
        Ok(found.lift(stats, before))
    }
}
