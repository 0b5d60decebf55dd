//! The coarse quantizer: a list of centroids, and the nearest of them.

use crate::{
    backend::{
        Hits, IvfBackend, Keep, ListStore, Places, Probing, Restriction, RowIds, Scan, pairs::Pairs,
    },
    error::Result,
    metric::{Compare, Metric},
};
use burn::tensor::Tensor;

/// Centroids as a store of one list, row `l` being centroid `l`.
#[derive(Debug)]
pub(crate) struct Quantizer<'a, E: IvfBackend> {
    pub metric: Metric,
    pub store: &'a E::Lists,
    pub nlist: usize,
    pub d: usize,
    pub workspace: usize,
}

impl<E: IvfBackend> Quantizer<'_, E> {
    /// The `nprobe` nearest centroids of every query, ties by smaller number.
    pub fn nearest(&self, queries: Tensor<E, 2>, nprobe: usize) -> Result<Hits<E>> {
        let ids = RowIds::Places(self.nlist);
        let metric = match self.metric.compare() {
            Compare::Scan(metric) => metric,
            Compare::Pairs(_) => {
                let pairs = Pairs {
                    metric: self.metric,
                    k: nprobe,
                    queries,
                    workspace: self.workspace,
                };
                return pairs.one_list(self.store, ids);
            }
        };
        let scan = Scan {
            metric,
            d: self.d,
            k: nprobe,
            lists: self.store,
            ids,
            queries,
            workspace: self.workspace,
            restriction: Restriction::default(),
        };
        E::list_scan(&scan, &Probing::all(&scan))
    }
}

/// Centroids, f32 `[nlist, d]`, as a store of one list.
pub(crate) fn centroid_list<E: IvfBackend>(centroids: Tensor<E, 2>) -> Result<E::Lists> {
    let [nlist, d] = centroids.dims();
    let mut store = E::Lists::new(d, 1, Keep::Centroids, &centroids.device());
    let to = Places {
        lists: &vec![0; nlist],
        ids: &[],
        held: RowIds::Places(0),
    };
    store.append(centroids, &to)?;
    Ok(store)
}
