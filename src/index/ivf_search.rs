//! The inverted-file index: searching.

use super::{IndexIvfFlat, flat::lift, validate};
use crate::{
    backend::{
        Counts, Hits, IvfBackend, ListStore, Restriction, SKIP, Scan, label_dtype, list_numbers,
        read_int,
    },
    engine,
    error::{Error, Result},
    params::{ResolvedParams, SearchParams},
    plan::{self, IvfProblem, Mode, SearchPlan},
    result::{SearchResult, SearchStats},
};
use burn::tensor::{DType, Int, Tensor, TensorData};

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
        let (params, queries) = self.check(queries, k, params)?;
        let trained = self.trained()?;
        if queries.dims()[0] == 0 || self.ntotal() == 0 {
            return Ok(self.nothing(queries.dims()[0], k, params.nprobe));
        }
        let quantizer = trained.quantizer(self.metric, params.workspace);
        let probes = engine::probe(&quantizer, queries.clone(), params.nprobe)?;
        self.scan(queries, k, &params, probes)
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
        let nlist = self.trained()?.lists.nlist();
        let mut probes = Vec::with_capacity(nq * nprobe);
        for list in read_int(B::lower_int(lists))? {
            match u32::try_from(list) {
                Ok(list) if (list as usize) < nlist => probes.push(list),
                _ if list == -1 => probes.push(SKIP),
                _ => {
                    return Err(Error::ListOutOfRange {
                        list,
                        nlist,
                        hint: ", or -1 to skip",
                    });
                }
            }
        }
        for row in probes.chunks_exact_mut(nprobe) {
            skip_repeats(row);
        }
        params.nprobe = nprobe;
        if self.ntotal() == 0 {
            return Ok(self.nothing(nq, k, nprobe));
        }
        let probes: Vec<i32> = probes.into_iter().map(|list| list as i32).collect();
        let probes = Tensor::from_data(
            TensorData::new(probes, [nq, nprobe]),
            (&self.device, DType::I32),
        );
        self.scan(queries, k, &params, probes)
    }

    /// How a search of `nq` queries would be done, without doing it.
    ///
    /// # Errors
    /// Not trained, `k` = 0, or illegal parameters.
    pub fn explain(&self, nq: usize, k: usize, params: &SearchParams) -> Result<SearchPlan> {
        validate::k(nq, k)?;
        let nlist = self.trained()?.lists.nlist();
        let params = params.resolve(&self.settings, nlist)?;
        Ok(self.plan(nq, k, &params).1)
    }

    fn check(
        &self,
        queries: Tensor<B, 2>,
        k: usize,
        params: &SearchParams,
    ) -> Result<(ResolvedParams, Tensor<B::Inner, 2>)> {
        let nlist = self.trained()?.lists.nlist();
        validate::k(queries.dims()[0], k)?;
        let params = params.resolve(&self.settings, nlist)?;
        Ok((
            params,
            validate::vectors::<B>(queries, self.d, &self.device, "queries")?,
        ))
    }

    fn plan(&self, nq: usize, k: usize, params: &ResolvedParams) -> (Mode, SearchPlan) {
        let caps = B::capabilities(&self.device);
        let problem = IvfProblem {
            nq,
            k,
            d: self.d,
            nlist: self.nlist().unwrap_or(1),
            nprobe: params.nprobe,
            ntotal: self.ntotal(),
            fused_scan: caps.fused_scan,
            host: caps.host,
            workspace: params.workspace,
        };
        plan::ivf(&problem, params.mode, params.auto_rule)
    }

    fn scan(
        &self,
        queries: Tensor<B::Inner, 2>,
        k: usize,
        params: &ResolvedParams,
        probes: Tensor<B::Inner, 2, Int>,
    ) -> Result<SearchResult<B>> {
        let lists = &self.trained()?.lists;
        let nq = queries.dims()[0];
        let (mode, plan) = self.plan(nq, k, params);
        let scan = Scan {
            metric: self.metric,
            d: self.d,
            k,
            lists: lists.store(),
            ids: lists.ids(),
            queries,
            workspace: params.workspace,
            restriction: Restriction::default(),
        };
        let (mut hits, query_chunks) = match mode {
            Mode::Csr => (engine::csr(&scan, probes.clone(), plan.order)?, 1),
            Mode::Matrix => engine::matrix(&scan, probes.clone())?,
        };
        if params.counts && hits.counts.is_none() {
            hits.counts = Some(count(&lists.sizes(), &list_numbers(probes.clone())?));
        }
        let stats = SearchStats {
            mode: plan.mode,
            kernel: B::capabilities(&self.device).kernel,
            reason: plan.reason,
            nq,
            nprobe: probes.dims()[1],
            avg_group: plan.avg_group,
            auto_threshold: plan.auto_threshold,
            order: match mode {
                Mode::Csr => plan.order.name().to_owned(),
                Mode::Matrix => String::new(),
            },
            filter: match mode {
                Mode::Csr => lists.store().ranks_by(),
                Mode::Matrix => "f32 matrix product".to_owned(),
            },
            query_chunks,
            ..SearchStats::default()
        };
        Ok(lift(hits, stats))
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

/// What a scan of the lists named by `probes` compares, every row exactly.
fn count(sizes: &[usize], probes: &[u32]) -> Counts {
    let read = probes.iter().filter(|&&list| list != SKIP);
    let sizes = read.map(|&list| sizes[list as usize] as u64);
    let rows = sizes.clone().sum();
    Counts {
        rows_scanned: rows,
        lists_scanned: sizes.filter(|&size| size > 0).count() as u64,
        rows_reranked: rows,
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
