//! The suite on the ndarray backend, plain and under autodiff.
#![cfg(feature = "ndarray")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

use burn::backend::NdArray;

mount!(ndarray, NdArray, Some(Default::default()));
mount_properties!(ndarray_properties, NdArray, Some(Default::default()));

#[cfg(feature = "autodiff")]
mod gradients {
    use super::suite::support::*;
    use super::*;
    use burn::backend::Autodiff;
    use burn_ivf::{IndexFlat, IndexIvfFlat, Metric};

    mount!(autodiff, Autodiff<NdArray>, Some(Default::default()));

    /// Rows and queries that require gradients are searched on the inner backend: the answer is
    /// the plain one and carries no graph.
    #[test]
    fn results_carry_no_graph() {
        type B = Autodiff<NdArray>;
        let device = Default::default();
        let (base, queries) = (normal(60, 6, 1), normal(5, 6, 2));
        let x = base.on::<B>(&device).require_grad();
        let q = queries.on::<B>(&device).require_grad();
        let mut index = IndexIvfFlat::<B>::builder(6)
            .nlist(4)
            .nprobe(4)
            .build(&device)
            .unwrap();
        index.train(x.clone()).unwrap();
        index.add(x.clone()).unwrap();
        let mut plain = IndexFlat::<NdArray>::new(6, Metric::L2, &device).unwrap();
        plain.add(base.on(&device)).unwrap();
        let expected = Answer::read(&plain.search(queries.on(&device), 7).unwrap());
        let found = index.search(q.clone(), 7).unwrap();
        assert!(!found.distances.is_require_grad());
        Answer::read(&found).assert_same(&expected, "autodiff");
        // nothing of the search is in the graph, so a backward pass does not reach the queries
        let loss = found.distances.sum() + x.clone().sum();
        let gradients = loss.backward();
        assert!(q.grad(&gradients).is_none(), "the queries got a gradient");
        assert!(x.grad(&gradients).is_some(), "the graph itself works");
    }

    #[test]
    fn the_bits_of_the_inner_backend() {
        let device = Default::default();
        let (base, queries) = (normal(300, 12, 5), normal(9, 12, 6));
        for metric in METRICS {
            let ours = trained::<NdArray>(&device, metric, 7, &base);
            let theirs = trained::<Autodiff<NdArray>>(&device, metric, 7, &base);
            for mode in IVF_MODES {
                let a = search_ivf(&ours, &queries, 10, &probing(3, mode));
                let b = search_ivf(&theirs, &queries, 10, &probing(3, mode));
                a.assert_same(&b, "autodiff against its inner backend");
            }
        }
    }
}
