//! What searches cost on a GPU, counted without searching, for both indexes.

use super::{IndexFlat, IndexIvfFlat, validate};
use crate::{
    backend::{self, IvfBackend, ScanSize, order_of_all},
    error::{Error, Result},
    metric::Compare,
    params::{Limit, SearchParams},
    plan::{self, Mode},
    stats::KernelCost,
};

impl<B: IvfBackend> IndexIvfFlat<B> {
    /// What a search of `nq` queries costs on a GPU, kernel by kernel in the order of their launches: the
    /// coarse step's, then the scan's. `probed` says how many queries probe each list (`[nlist]`); without
    /// it any list is taken to be as likely as any other.
    ///
    /// Counted from the cuts by which kernels are launched, not measured. Nothing is returned where nothing
    /// is counted: on a CPU, in matrix mode, for metrics that compare every pair, for no query or an
    /// empty index.
    ///
    /// # Errors
    /// As [`explain`](Self::explain); another number of lists; [`Error::NotApplicable`] under a limit, a
    /// selector or safe pruning, whose reads depend on the data.
    pub fn kernel_costs(
        &self,
        nq: usize,
        k: usize,
        params: &SearchParams,
        probed: Option<&[u64]>,
    ) -> Result<Vec<KernelCost>> {
        validate::k(nq, k)?;
        let trained = self.trained()?;
        let nlist = trained.lists.nlist();
        let selected = params.selection.is_some();
        let params = params.resolve(&self.settings, nlist, self.metric)?;
        let limited = params.limit != Limit::Unlimited;
        let instead = "what it reads depends on the data; ask for the costs of a plain search";
        for (what, set) in [
            ("a selector", selected),
            ("a limit", limited),
            ("safe pruning", params.safe_pruning),
        ] {
            if set {
                return Err(Error::NotApplicable { what, instead });
            }
        }
        if let Some(probed) = probed
            && probed.len() != nlist
        {
            return Err(Error::ShapeMismatch {
                what: "numbers of queries that probe each list",
                expected: format!("[nlist = {nlist}]"),
                found: vec![probed.len()],
            });
        }
        let (mode, plan) = self.plan(nq, k, &params);
        let Compare::Scan(metric) = self.metric.compare() else {
            return Ok(Vec::new());
        };
        if mode == Mode::Matrix || self.ntotal() == 0 {
            return Ok(Vec::new());
        }
        // The coarse step goes by the device's thresholds, whatever is set for the index.
        let device = backend::tuning::<B::Inner>(&self.device);
        let coarse = ScanSize {
            metric,
            nq,
            k: params.nprobe,
            nprobe: None,
            probed: None,
            workspace: params.workspace,
            order: order_of_all::<B::Inner>(&self.device, nq, (nlist, self.d), &device),
            tuning: &device,
        };
        let scan = ScanSize {
            k,
            nprobe: Some(params.nprobe),
            probed,
            order: plan.order,
            tuning: self.tuning(),
            ..coarse
        };
        let centroids = trained.quantizer(self.metric, params.workspace).store;
        let mut costs = B::Inner::scan_cost(centroids, &coarse);
        for cost in &mut costs {
            "coarse".clone_into(&mut cost.step);
        }
        costs.extend(B::Inner::scan_cost(trained.lists.store(), &scan));
        Ok(costs)
    }
}

impl<B: IvfBackend> IndexFlat<B> {
    /// What a search of `nq` queries costs on a GPU, kernel by kernel in the order of their launches.
    /// Counted from the cuts by which kernels are launched, not measured; nothing is returned where
    /// nothing is counted: on a CPU, in matrix mode, for metrics that compare every pair as it is, for no
    /// query or an empty index.
    ///
    /// # Errors
    /// `k` = 0, or more than 2³² - 1 results.
    pub fn kernel_costs(&self, nq: usize, k: usize) -> Result<Vec<KernelCost>> {
        validate::k(nq, k)?;
        let fused = B::capabilities(&self.device).fused_scan;
        let threshold = self.auto_matrix_bytes_threshold;
        let (chunked, _) = plan::flat(nq, self.ntotal(), fused, self.mode, threshold);
        let Compare::Scan(metric) = self.metric.compare() else {
            return Ok(Vec::new());
        };
        if !chunked {
            return Ok(Vec::new());
        }
        let tuning = backend::tuning::<B::Inner>(&self.device);
        let rows = (self.ntotal(), self.d);
        let size = ScanSize {
            metric,
            nq,
            k,
            nprobe: None,
            probed: None,
            workspace: self.workspace,
            order: order_of_all::<B::Inner>(&self.device, nq, rows, &tuning),
            tuning: &tuning,
        };
        Ok(B::Inner::scan_cost(self.lists.store(), &size))
    }
}
