//! Agreement across backends (`docs/semantics.md`): ids are equal unless the f64 distances differ by
//! less than 1e-6 relative, rows with equal bits always tie by id, distances agree up to rounding.
//! Every backend is compared with ndarray.

use super::agreement::problems;
use super::oracle::{Oracle, measure, near};
use super::support::*;
use burn::backend::NdArray;
use burn_ivf::{FlatMode, IvfBackend, Metric, SearchMode, SearchParams};

type Host = NdArray;

fn host() -> <Host as burn::tensor::backend::BackendTypes>::Device {
    Default::default()
}

/// Fails unless two answers to the same queries agree by the rule.
fn assert_agree(metric: Metric, base: &Rows, queries: &Rows, a: &Answer, b: &Answer, what: &str) {
    assert_eq!((a.nq, a.k), (b.nq, b.k), "{what}");
    for q in 0..a.nq {
        for rank in 0..a.k {
            let at = q * a.k + rank;
            let what = format!("{what}, query {q}, rank {rank}");
            if a.i[at] == -1 || b.i[at] == -1 {
                assert_eq!((a.i[at], a.d[at]), (b.i[at], b.d[at]), "{what}");
                continue;
            }
            let exact = |id: i64| measure(metric, queries.row(q), base.row(id as usize));
            let (mine, theirs) = (exact(a.i[at]), exact(b.i[at]));
            assert!(
                a.i[at] == b.i[at] || near(mine, theirs),
                "{what}: id {} at {mine:?} against id {} at {theirs:?}",
                a.i[at],
                b.i[at]
            );
            let off = (f64::from(a.d[at]) - f64::from(b.d[at])).abs();
            let close = a.d[at] == b.d[at] || off <= 1e-5 * mine.1.max(theirs.1) + 1e-35;
            assert!(close, "{what}: {} against {}", a.d[at], b.d[at]);
        }
    }
}

/// The same lists, the same probes, every mode.
pub fn answers_agree<B: IvfBackend>(device: &B::Device) {
    let (n, nq) = (sized::<B>(device, 1000, 260), sized::<B>(device, 30, 9));
    for (name, base, queries) in problems(n, nq) {
        for metric in METRICS {
            let what = format!("{name}, {metric}, {}", B::name(device));
            let centroids = base.range(0..12);
            let ours = preset::<Host>(&host(), metric, &centroids, &base);
            let theirs = preset::<B>(device, metric, &centroids, &base);
            let oracle = Oracle::new(metric, &base);
            let (mut flat_ours, mut flat_theirs) = (
                flat::<Host>(&host(), metric, &base),
                flat::<B>(device, metric, &base),
            );
            for mode in [FlatMode::Matrix, FlatMode::Chunked] {
                flat_ours.set_mode(mode);
                flat_theirs.set_mode(mode);
                let a = search_flat(&flat_ours, &queries, 15);
                let b = search_flat(&flat_theirs, &queries, 15);
                oracle.check(&queries, &b, &what);
                assert_agree(metric, &base, &queries, &a, &b, &what);
            }
            assert_eq!(ours.list_sizes(), theirs.list_sizes(), "{what}");
            for mode in [SearchMode::Matrix, SearchMode::Csr] {
                for nprobe in [1, 5, 12] {
                    let params = probing(nprobe, mode);
                    let probes = Answer::read(&ours.coarse(queries.on(&host()), nprobe).unwrap());
                    let a = search_ivf(&ours, &queries, 15, &params);
                    let probes = lists::<B>(&probes.i, nprobe, device);
                    let queries_there = queries.on(device);
                    let b = theirs.search_preassigned(queries_there, 15, probes, &params);
                    let b = Answer::read(&b.unwrap());
                    let what = format!("{what}, {mode}, {nprobe} probes");
                    assert_agree(metric, &base, &queries, &a, &b, &what);
                }
            }
        }
    }
}

/// There and back: values, ids, lists, settings and answers survive.
pub fn there_and_back<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (normal(150, 9, 1), normal(6, 9, 2));
    let ids: Vec<i64> = (0..150).map(|row| 5000 - 3 * row).collect();
    let mut index = trained::<Host>(&host(), Metric::L2, 6, &base);
    index.add_with_ids(base.on(&host()), &ids).unwrap();
    index.set_nprobe(4).unwrap();
    let expected = search_ivf(&index, &queries, 12, &SearchParams::default());
    let there = index.to_backend::<B>(device).unwrap();
    assert_eq!((there.ntotal(), there.nprobe()), (300, 4));
    let found = search_ivf(&there, &queries, 12, &SearchParams::default());
    assert_eq!(found.i, expected.i, "{}", B::name(device));
    let mut back = there.to_backend::<Host>(&host()).unwrap();
    for list in 0..6 {
        assert_eq!(back.list_ids(list).unwrap(), index.list_ids(list).unwrap());
        let (a, b) = (back.list_vectors(list), index.list_vectors(list));
        assert_eq!(floats(a.unwrap()), floats(b.unwrap()));
    }
    let again = search_ivf(&back, &queries, 12, &SearchParams::default());
    again.assert_same(&expected, "there and back");
    // the automatic ids continue where they were
    back.add(queries.on(&host())).unwrap();
    index.add(queries.on(&host())).unwrap();
    let (a, b) = (
        search_ivf(&back, &queries, 3, &probing(6, SearchMode::Csr)),
        search_ivf(&index, &queries, 3, &probing(6, SearchMode::Csr)),
    );
    a.assert_same(&b, "added after the trip");

    let plain = flat::<Host>(&host(), Metric::InnerProduct, &base);
    let expected = search_flat(&plain, &queries, 12);
    let there = plain.to_backend::<B>(device).unwrap();
    assert_eq!(search_flat(&there, &queries, 12).i, expected.i);
    let back = there.to_backend::<Host>(&host()).unwrap();
    search_flat(&back, &queries, 12).assert_same(&expected, "flat, there and back");
}

/// An index trained on one backend and one trained on another both answer right.
pub fn both_train_well<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (clustered(400, 8, 9, 0.05, 3), clustered(6, 8, 9, 0.05, 4));
    for metric in METRICS {
        let ours = trained::<Host>(&host(), metric, 8, &base);
        let theirs = trained::<B>(device, metric, 8, &base);
        let params = probing(8, SearchMode::Auto);
        let a = search_ivf(&ours, &queries, 10, &params);
        let b = search_ivf(&theirs, &queries, 10, &params);
        assert_agree(metric, &base, &queries, &a, &b, &B::name(device));
    }
}
