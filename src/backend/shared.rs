//! What several backends share word for word: backends that are their own inner backend,
//! backends over host memory, and wrappers (`Fusion<B>`, `Autodiff<B>`).

#[cfg(any(feature = "autodiff", feature = "fusion"))]
pub use wrapper::InnerLists;

/// The conversions of a backend that is its own inner backend.
#[cfg(any(feature = "ndarray", feature = "flex", feature = "cube"))]
macro_rules! own_inner {
    () => {
        type Inner = Self;

        fn lower<const D: usize>(tensor: Tensor<Self, D>) -> Tensor<Self, D> {
            tensor
        }

        fn lower_int<const D: usize>(tensor: Tensor<Self, D, Int>) -> Tensor<Self, D, Int> {
            tensor
        }

        fn lift<const D: usize>(tensor: Tensor<Self, D>) -> Tensor<Self, D> {
            tensor
        }

        fn lift_int<const D: usize>(tensor: Tensor<Self, D, Int>) -> Tensor<Self, D, Int> {
            tensor
        }
    };
}

/// The whole of `IvfBackend` for a backend over host memory.
#[cfg(any(feature = "ndarray", feature = "flex"))]
macro_rules! host_backend {
    () => {
        own_inner!();

        type Lists = HostLists;

        fn capabilities(_: &Self::Device) -> Capabilities {
            host::capabilities()
        }

        fn device_key(_: &Self::Device) -> DeviceKey {
            host::device_key()
        }

        fn select_k(
            scores: Tensor<Self, 2>,
            k: usize,
        ) -> Result<(Tensor<Self, 2>, Tensor<Self, 2, Int>)> {
            host::select_k(scores, k)
        }

        fn to_host(rows: Tensor<Self, 2>) -> Result<Vec<f32>> {
            Ok(Self::with_slice(rows, <[f32]>::to_vec))
        }

        fn ints_to_host(ints: Tensor<Self, 2, Int>) -> Result<Vec<i64>> {
            Ok(Self::with_ints(ints, <[i64]>::to_vec))
        }

        fn all_finite(rows: Tensor<Self, 2>) -> Result<bool> {
            Ok(host::all_finite(rows))
        }

        fn means(rows: Tensor<Self, 2>, groups: &Groups<'_>) -> Result<Vec<f32>> {
            let d = rows.dims()[1];
            Ok(Self::with_slice(rows, |rows| {
                portable::means(rows, d, groups)
            }))
        }

        fn unit_rows(rows: Tensor<Self, 2>) -> Result<Tensor<Self, 2>> {
            portable::unit_rows(rows)
        }

        fn pairwise(
            queries: Tensor<Self, 2>,
            rows: Tensor<Self, 2>,
            measure: super::Measure,
            output: super::Output,
        ) -> Result<Tensor<Self, 2>> {
            host::pairwise(queries, rows, measure, output)
        }

        fn list_scan(scan: &Scan<'_, Self>, probing: &Probing<Self>) -> Result<Hits<Self>> {
            host::list_scan(scan, probing)
        }

        fn range_scan(
            scan: &Scan<'_, Self>,
            reads: &Reads<Self>,
            limit: f32,
        ) -> Result<RangeHits<Self>> {
            host::range_scan(scan, reads, limit)
        }

        fn rerank(
            scan: &Scan<'_, Self>,
            candidates: &[Slot],
            per_query: usize,
        ) -> Result<Hits<Self>> {
            host::rerank(scan, candidates, per_query)
        }
    };
}

/// The whole of `IvfBackend` for a wrapper, but for the four conversions.
#[cfg(any(feature = "autodiff", feature = "fusion"))]
macro_rules! forward_to_inner {
    () => {
        type Lists = InnerLists<Self>;

        fn capabilities(device: &Self::Device) -> Capabilities {
            <Self::Inner as IvfBackend>::capabilities(device)
        }

        fn device_key(device: &Self::Device) -> DeviceKey {
            <Self::Inner as IvfBackend>::device_key(device)
        }

        fn select_k(
            scores: Tensor<Self, 2>,
            k: usize,
        ) -> Result<(Tensor<Self, 2>, Tensor<Self, 2, Int>)> {
            let (values, columns) = <Self::Inner as IvfBackend>::select_k(Self::lower(scores), k)?;
            Ok((Self::lift(values), Self::lift_int(columns)))
        }

        fn to_host(rows: Tensor<Self, 2>) -> Result<Vec<f32>> {
            <Self::Inner as IvfBackend>::to_host(Self::lower(rows))
        }

        fn ints_to_host(ints: Tensor<Self, 2, Int>) -> Result<Vec<i64>> {
            <Self::Inner as IvfBackend>::ints_to_host(Self::lower_int(ints))
        }

        fn all_finite(rows: Tensor<Self, 2>) -> Result<bool> {
            <Self::Inner as IvfBackend>::all_finite(Self::lower(rows))
        }

        fn means(rows: Tensor<Self, 2>, groups: &Groups<'_>) -> Result<Vec<f32>> {
            <Self::Inner as IvfBackend>::means(Self::lower(rows), groups)
        }

        fn unit_rows(rows: Tensor<Self, 2>) -> Result<Tensor<Self, 2>> {
            let rows = <Self::Inner as IvfBackend>::unit_rows(Self::lower(rows))?;
            Ok(Self::lift(rows))
        }

        fn pairwise(
            queries: Tensor<Self, 2>,
            rows: Tensor<Self, 2>,
            measure: super::Measure,
            output: super::Output,
        ) -> Result<Tensor<Self, 2>> {
            let (queries, rows) = (Self::lower(queries), Self::lower(rows));
            let values = <Self::Inner as IvfBackend>::pairwise(queries, rows, measure, output)?;
            Ok(Self::lift(values))
        }

        fn list_scan(scan: &Scan<'_, Self>, probing: &Probing<Self>) -> Result<Hits<Self>> {
            let reads = InnerLists::<Self>::reads(&probing.reads);
            let probing = Probing {
                reads,
                order: probing.order,
                tuning: probing.tuning.clone(),
            };
            let hits = <Self::Inner as IvfBackend>::list_scan(&InnerLists::scan(scan), &probing)?;
            Ok(InnerLists::<Self>::hits(hits))
        }

        fn scan_cost(
            lists: &Self::Lists,
            size: &super::ScanSize<'_>,
        ) -> Vec<crate::stats::KernelCost> {
            <Self::Inner as IvfBackend>::scan_cost(&lists.0, size)
        }

        fn range_scan(
            scan: &Scan<'_, Self>,
            reads: &Reads<Self>,
            limit: f32,
        ) -> Result<RangeHits<Self>> {
            let reads = InnerLists::<Self>::reads(reads);
            let hits =
                <Self::Inner as IvfBackend>::range_scan(&InnerLists::scan(scan), &reads, limit)?;
            Ok(RangeHits {
                lims: hits.lims,
                distances: Self::lift(hits.distances),
                labels: Self::lift_int(hits.labels),
                counts: hits.counts,
            })
        }

        fn rerank(
            scan: &Scan<'_, Self>,
            candidates: &[Slot],
            per_query: usize,
        ) -> Result<Hits<Self>> {
            let hits = <Self::Inner as IvfBackend>::rerank(
                &InnerLists::scan(scan),
                candidates,
                per_query,
            )?;
            Ok(InnerLists::<Self>::hits(hits))
        }
    };
}

#[cfg(any(feature = "autodiff", feature = "fusion"))]
mod wrapper {
    use crate::{
        backend::{
            Filling, Hits, IvfBackend, Keep, ListStore, Merging, Places, Reads, RowIds, Run, Scan,
            Slot,
        },
        error::Result,
    };
    use burn::tensor::Tensor;

    /// The inner backend's lists under the wrapper's type.
    #[derive(Debug, Clone)]
    pub struct InnerLists<B: IvfBackend>(pub(in crate::backend) <B::Inner as IvfBackend>::Lists);

    impl<B: IvfBackend> InnerLists<B> {
        /// The scan with its tensors handed to the inner backend.
        pub(in crate::backend) fn scan<'a>(scan: &Scan<'a, B>) -> Scan<'a, B::Inner>
        where
            B: IvfBackend<Lists = Self>,
        {
            Scan {
                metric: scan.metric,
                d: scan.d,
                k: scan.k,
                lists: &scan.lists.0,
                ids: scan.ids,
                queries: B::lower(scan.queries.clone()),
                workspace: scan.workspace,
                restriction: scan.restriction,
            }
        }

        /// The lists to read, handed to the inner backend.
        pub(in crate::backend) fn reads(reads: &Reads<B>) -> Reads<B::Inner> {
            match reads {
                Reads::All => Reads::All,
                Reads::Lists(lists) => Reads::Lists(B::lower_int(lists.clone())),
            }
        }

        /// The hits taken back.
        pub(in crate::backend) fn hits(hits: Hits<B::Inner>) -> Hits<B> {
            Hits {
                distances: B::lift(hits.distances),
                labels: B::lift_int(hits.labels),
                counts: hits.counts,
                order: hits.order,
                filter: hits.filter,
            }
        }
    }

    impl<B: IvfBackend> ListStore<B> for InnerLists<B> {
        fn new(d: usize, nlist: usize, keep: Keep, device: &B::Device) -> Self {
            Self(ListStore::new(d, nlist, keep, device))
        }

        fn append(&mut self, rows: Tensor<B, 2>, to: &Places<'_>) -> Result<()> {
            self.0.append(B::lower(rows), to)
        }

        fn gather(&self, at: &[Slot]) -> Result<Tensor<B, 2>> {
            Ok(B::lift(self.0.gather(at)?))
        }

        fn extend(
            &mut self,
            rows: &[f32],
            runs: &[Run],
            ids: RowIds<'_>,
            device: &B::Device,
        ) -> Result<()> {
            self.0.extend(rows, runs, ids, device)
        }

        fn fill(&mut self, filling: &mut Filling<'_>) -> Result<bool> {
            self.0.fill(filling)
        }

        fn copy_rows(&self, runs: &[Run], out: &mut [f32]) -> Result<()> {
            self.0.copy_rows(runs, out)
        }

        fn retain(&mut self, keep: &[Option<Vec<u32>>]) -> Result<()> {
            self.0.retain(keep)
        }

        fn merge(&mut self, other: &Self, merging: &Merging<'_>) -> Result<()> {
            self.0.merge(&other.0, merging)
        }

        fn reserve(&mut self, additional: &[usize]) -> Result<()> {
            self.0.reserve(additional)
        }

        fn shrink_to_fit(&mut self, ids: RowIds<'_>) -> Result<()> {
            self.0.shrink_to_fit(ids)
        }

        fn bytes(&self) -> usize {
            self.0.bytes()
        }

        fn ranks_by(&self) -> String {
            self.0.ranks_by()
        }

        fn to_device(&self, ids: RowIds<'_>, device: &B::Device) -> Result<Self> {
            Ok(Self(self.0.to_device(ids, device)?))
        }
    }
}
