//! The inverted-file index: searching.

use super::{IndexIvfFlat, flat::lift, validate};
use crate::{
    backend::{
        Counters, Hits, IvfBackend, ListStore, Restriction, SKIP, Scan, exact_pair, label_dtype,
        list_numbers, pairs::Pairs, read, read_int, rows_of,
    },
    engine::{self, Probes},
    error::{Error, Result},
    metric::Compare,
    params::{Limit, ResolvedParams, SearchParams},
    plan::{self, IvfProblem, Mode, Order, SearchPlan},
    result::SearchResult,
    selector::Selection,
    stats::SearchStats,
};
use burn::tensor::{DType, Int, Tensor, TensorData};
use core::ops::Range;

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// The `k` nearest vectors of every query in `queries`, `[nq, d]`, among those in its `nprobe`
    /// nearest lists: best first, ties by smaller id, label -1 where there are fewer than `k`. A
    /// query with NaN or infinity finds nothing.
    ///
    /// # Errors
    /// Not trained, another dimension or device, `k` = 0, or more than 2³² - 1 results.
    pub fn search(&self, queries: Tensor<B, 2>, k: usize) -> Result<SearchResult<B>> {
        self.search_with(queries, k, &SearchParams::default())
    }

    /// [`search`](Self::search) with parameters of its own; the index is not changed.
    ///
    /// # Errors
    /// As `search`, and illegal parameters.
    pub fn search_with(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        params: &SearchParams,
    ) -> Result<SearchResult<B>> {
        span!("search", nq = queries.dims()[0], k = k);
        let selection = params.selection.as_ref();
        let (params, queries) = self.check(queries, k, params)?;
        let trained = self.trained()?;
        if queries.dims()[0] == 0 || self.ntotal() == 0 {
            return Ok(self.nothing(queries.dims()[0], k, params.nprobe));
        }
        let quantizer = trained.quantizer(self.metric, params.workspace);
        let probe = |queries| engine::probe(&quantizer, queries, params.nprobe);
        self.scan(queries.clone(), k, &params, selection, |range| {
            probe(rows_of(&queries, range))
        })
    }

    /// The `nprobe` nearest lists of every query, nearest first: distances to their centroids and
    /// list numbers, `[nq, nprobe]` (faiss `quantizer.search`). Above nlist is clamped.
    ///
    /// # Errors
    /// Not trained, another dimension, or `nprobe` = 0.
    pub fn coarse(&self, queries: Tensor<B, 2>, nprobe: usize) -> Result<SearchResult<B>> {
        let params = SearchParams::exact().with_nprobe(nprobe);
        let (params, queries) = self.check(queries, 1, &params)?;
        let trained = self.trained()?;
        let nq = queries.dims()[0];
        if nq == 0 {
            return Ok(self.nothing(0, params.nprobe, 1));
        }
        span!("coarse", nq = nq, nprobe = params.nprobe);
        let quantizer = trained.quantizer(self.metric, params.workspace);
        let mut hits = quantizer.nearest(queries, params.nprobe)?;
        hits.labels = hits.labels.cast(label_dtype::<B::Inner>(&self.device));
        let stats = SearchStats {
            mode: "chunked".to_owned(),
            kernel: B::capabilities(&self.device).kernel,
            reason: "coarse step".to_owned(),
            nq,
            nprobe: 1,
            avg_group: nq as f64,
            query_chunks: 1,
            ..SearchStats::default()
        };
        Ok(lift(hits, stats))
    }

    /// [`search_with`](Self::search_with) with the lists given: `lists`, `[nq, nprobe]`, where -1
    /// reads nothing (faiss `search_preassigned`); `params.nprobe` is not used. A list named twice
    /// by one query is read once.
    ///
    /// # Errors
    /// As `search_with`; another shape, or a list that does not exist.
    pub fn search_preassigned(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        lists: Tensor<B, 2, Int>,
        params: &SearchParams,
    ) -> Result<SearchResult<B>> {
        span!("search", nq = queries.dims()[0], k = k);
        let selection = params.selection.as_ref();
        let (mut params, queries) = self.check(queries, k, params)?;
        let ([rows, nprobe], nq) = (lists.dims(), queries.dims()[0]);
        if rows != nq || nprobe == 0 {
            return Err(Error::ShapeMismatch {
                what: "preassigned lists",
                expected: format!("[{nq}, nprobe] with nprobe of at least 1"),
                found: vec![rows, nprobe],
            });
        }
        if nq == 0 {
            return Ok(self.nothing(0, k, nprobe));
        }
        params.nprobe = nprobe;
        let lists = B::lower_int(lists);
        let named = |range: Range<usize>| {
            let whole = range.len() == nq;
            let lists = lists.clone();
            self.named(if whole {
                lists
            } else {
                lists.slice([range, 0..nprobe])
            })
        };
        if self.ntotal() == 0 {
            for range in engine::probed_pieces(nq, nprobe, params.workspace) {
                named(range)?;
            }
            return Ok(self.nothing(nq, k, nprobe));
        }
        self.scan(queries.clone(), k, &params, selection, |range| {
            let queries = rows_of(&queries, range.clone());
            let probes = named(range)?;
            let lists: Vec<i32> = probes.iter().map(|&list| list as i32).collect();
            let lists = TensorData::new(lists, [queries.dims()[0], nprobe]);
            Ok(Probes {
                distances: self.centroid_distances(&queries, &probes, &params)?,
                lists: Tensor::from_data(lists, (&self.device, DType::I32)),
            })
        })
    }

    /// Lists that the caller names, `[nq, nprobe]`, each once a query.
    fn named(&self, lists: Tensor<B::Inner, 2, Int>) -> Result<Vec<u32>> {
        let (nlist, nprobe) = (self.trained()?.lists.nlist(), lists.dims()[1]);
        let number = |list| match u32::try_from(list) {
            Ok(number) if (number as usize) < nlist => Ok(number),
            _ if list == -1 => Ok(SKIP),
            _ => Err(Error::ListOutOfRange {
                list,
                nlist,
                hint: ", or -1 to skip",
            }),
        };
        let lists = read_int(lists)?.into_iter().map(number);
        let mut lists: Vec<u32> = lists.collect::<Result<_>>()?;
        lists.chunks_exact_mut(nprobe).for_each(skip_repeats);
        Ok(lists)
    }

    /// How a search of `nq` queries would be done, without doing it.
    ///
    /// # Errors
    /// Not trained, `k` = 0, or illegal parameters.
    pub fn explain(&self, nq: usize, k: usize, params: &SearchParams) -> Result<SearchPlan> {
        validate::k(nq, k)?;
        let nlist = self.trained()?.lists.nlist();
        let params = params.resolve(&self.settings, nlist, self.metric)?;
        Ok(self.plan(nq, k, &params).1)
    }

    pub(super) fn check(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        params: &SearchParams,
    ) -> Result<(ResolvedParams, Tensor<B::Inner, 2>)> {
        let nlist = self.trained()?.lists.nlist();
        validate::k(queries.dims()[0], k)?;
        if let Some(selection) = &params.selection {
            selection.check(queries.dims()[0])?;
        }
        let params = params.resolve(&self.settings, nlist, self.metric)?;
        let queries = validate::vectors::<B>(queries, self.d, &self.device, "queries")?;
        Ok((params, validate::prepared(self.metric, queries)?))
    }

    pub(super) fn plan(&self, nq: usize, k: usize, params: &ResolvedParams) -> (Mode, SearchPlan) {
        let caps = B::capabilities(&self.device);
        let problem = IvfProblem {
            nq,
            d: self.d,
            nlist: self.nlist().unwrap_or(1),
            nprobe: params.nprobe,
            ntotal: self.ntotal(),
            fused_scan: caps.fused_scan,
            host: caps.host,
            workspace: params.workspace,
            limit: params.limit,
            k,
            tuning: self.tuning(),
        };
        let (mode, plan) = plan::ivf(&problem, params.mode, params.auto_rule);
        match self.metric.compare() {
            Compare::Scan(_) => (mode, plan),
            Compare::Pairs(_) => {
                let reason = format!("metric {} compares every pair", self.metric);
                let plan = SearchPlan {
                    mode: "pairs".to_owned(),
                    reason,
                    ..plan
                };
                (mode, plan)
            }
        }
    }

    /// Distances of queries to the centroids of lists given by the caller, for limits that go by
    /// them; zeros where nothing does.
    fn centroid_distances(
        &self,
        queries: &Tensor<B::Inner, 2>,
        lists: &[u32],
        params: &ResolvedParams,
    ) -> Result<Tensor<B::Inner, 2>> {
        let nq = queries.dims()[0];
        let shape = [nq, lists.len() / nq];
        let asked = matches!(params.limit, Limit::Budget(_)) || params.safe_pruning;
        if !asked {
            return Ok(Tensor::zeros(shape, (&self.device, DType::F32)));
        }
        let queries = read(queries.clone())?;
        let centroids = read(self.trained()?.centroids.clone())?;
        let row = |of: &[f32], i: usize| of[i * self.d..(i + 1) * self.d].to_vec();
        let distances: Vec<f32> = lists
            .iter()
            .enumerate()
            .map(|(i, &list)| match list {
                SKIP => self.metric.padding(),
                list => {
                    let (q, c) = (row(&queries, i / shape[1]), row(&centroids, list as usize));
                    exact_pair(self.metric.measure(), &q, &c) as f32
                }
            })
            .collect();
        let distances = TensorData::new(distances, shape);
        Ok(Tensor::from_data(distances, (&self.device, DType::F32)))
    }

    /// Searches the lists that `probe` names for runs of queries: all queries at once, or as many as
    /// there is room for with their probes and selectors of their own.
    fn scan(
        &self,
        queries: Tensor<B::Inner, 2>,
        k: usize,
        params: &ResolvedParams,
        selection: Option<&Selection>,
        probe: impl Fn(Range<usize>) -> Result<Probes<B::Inner>>,
    ) -> Result<SearchResult<B>> {
        let lists = &self.trained()?.lists;
        let (nq, nprobe) = (queries.dims()[0], params.nprobe);
        let (mode, plan) = self.plan(nq, k, params);
        let words = lists.mask_words();
        let selected = engine::selected_pieces(selection, nq, words, params.workspace);
        let mut parts = Vec::new();
        let (mut query_chunks, mut pruned, mut limited) = (0, 0, false);
        let mut spent = Counters::default();
        for probed in engine::probed_pieces(nq, nprobe, params.workspace) {
            let probes = probe(probed.clone())?;
            span!(
                "scan",
                nq = probed.len(),
                k = k,
                nprobe = nprobe,
                mode = plan.mode.as_str()
            );
            let before = Counters::now();
            let caps = engine::caps(self.metric, params, lists, &probes, k)?;
            limited |= caps.is_some();
            let order = if caps.is_some() {
                let centroids = &self.trained()?.centroids;
                lists.reading_order(params.ordering, centroids, params.workspace)?
            } else {
                None
            };
            for range in engine::within(&selected, &probed) {
                let masks = selection.map(|selection| lists.masks(selection, range.clone()));
                let own = range.start - probed.start..range.end - probed.start;
                let restriction = Restriction {
                    caps: caps
                        .as_deref()
                        .map(|caps| &caps[own.start * nprobe..own.end * nprobe]),
                    order: order.as_ref(),
                    masks: masks.as_ref(),
                };
                let queries = rows_of(&queries, range);
                let (hits, chunks, skipped) = self.scan_part(
                    (queries, k),
                    params,
                    restriction,
                    probes.slice(own),
                    (mode, plan.order),
                )?;
                query_chunks += chunks;
                pruned += skipped;
                parts.push(hits);
            }
            spent = spent + Counters::now().since(before);
        }
        let before = Counters::now();
        let hits = Hits::join(parts);
        let spent = spent + Counters::now().since(before);
        let (order, filter) = match (self.metric.compare(), mode) {
            (Compare::Pairs(_), _) => (String::new(), String::new()),
            (_, Mode::Csr) => {
                let order = hits.order.unwrap_or(plan.order);
                let filter = hits.filter.map(str::to_owned);
                let filter = filter.unwrap_or_else(|| lists.store().ranks_by());
                (order.name().to_owned(), filter)
            }
            (_, Mode::Matrix) => (String::new(), "f32 matrix product".to_owned()),
        };
        let stats = SearchStats {
            mode: plan.mode,
            kernel: B::capabilities(&self.device).kernel,
            reason: plan.reason,
            nq,
            nprobe,
            avg_group: plan.avg_group,
            auto_threshold: plan.auto_threshold,
            order,
            filter,
            query_chunks,
            effective_limit: if limited {
                params.limit
            } else {
                Limit::Unlimited
            },
            lists_pruned: pruned,
            launches: spent.launches,
            blocking_reads: spent.blocking_reads,
            workspace: params.workspace,
            ..SearchStats::default()
        };
        Ok(lift(hits, stats))
    }

    /// Searches for some queries (and their `k`); also returns pieces the queries were cut into, and
    /// (query, list) pairs that pruning left out.
    fn scan_part(
        &self,
        (queries, k): (Tensor<B::Inner, 2>, usize),
        params: &ResolvedParams,
        restriction: Restriction<'_>,
        mut probes: Probes<B::Inner>,
        (mode, order): (Mode, Order),
    ) -> Result<(Hits<B::Inner>, usize, u64)> {
        let lists = &self.trained()?.lists;
        let nprobe = probes.lists.dims()[1];
        let prune = params.safe_pruning && nprobe > 1;
        let how = (order, self.shared_tuning());
        let pairs = matches!(self.metric.compare(), Compare::Pairs(_));
        let mut pruned = 0;
        let mut hits = if pairs && !prune {
            let pairs = Pairs {
                metric: self.metric,
                k,
                queries,
                workspace: params.workspace,
            };
            let read = probes.lists.clone();
            (
                pairs.lists(lists.store(), lists.ids(), read, restriction)?,
                1,
            )
        } else {
            let scan = Scan {
                metric: self.metric.scanned()?,
                d: self.d,
                k,
                lists: lists.store(),
                ids: lists.ids(),
                queries,
                workspace: params.workspace,
                restriction,
            };
            if prune {
                let centroids = &self.trained()?.centroids;
                let balls = engine::balls(lists, centroids, params.workspace)?;
                (probes.lists, pruned) = engine::prune(&scan, &probes, &balls, how)?;
            }
            match mode {
                Mode::Csr => (engine::csr(&scan, probes.lists.clone(), how)?, 1),
                Mode::Matrix => engine::matrix(&scan, probes.lists.clone())?,
            }
        };
        if params.counts && hits.0.counts.is_none() {
            let lists_read = list_numbers(probes.lists)?;
            hits.0.counts = Some(engine::count(
                &lists.sizes(),
                &lists_read,
                nprobe,
                restriction,
            ));
        }
        Ok((hits.0, hits.1, pruned))
    }

    fn nothing(&self, nq: usize, k: usize, nprobe: usize) -> SearchResult<B> {
        let stats = SearchStats {
            mode: "empty".to_owned(),
            kernel: B::capabilities(&self.device).kernel,
            nq,
            nprobe,
            ..SearchStats::default()
        };
        lift(Hits::padding(self.metric, nq, k, &self.device), stats)
    }
}

/// Turns every repeated list of one query into a skip.
fn skip_repeats(lists: &mut [u32]) {
    let mut seen = std::collections::HashSet::with_capacity(lists.len());
    for list in lists {
        if *list != SKIP && !seen.insert(*list) {
            *list = SKIP;
        }
    }
}
