//! Searches only launch: nothing waits for the device before the caller reads the result.
//!
//! On CPU backends there is no queue; there the counters must say so.

use super::support::*;
use burn_ivf::{Counters, IdSelector, IvfBackend, Metric, RangeParams, SearchMode, SearchParams};

/// In steady state neither kind of index reads anything back, whatever nq, k and nprobe are.
pub fn searches_read_nothing_back<B: IvfBackend>(device: &B::Device) {
    let base = normal(500, 12, 91);
    let index = preset::<B>(device, Metric::L2, &base.range(0..9), &base);
    let plain = flat::<B>(device, Metric::InnerProduct, &base);
    for (turn, (nq, k, nprobe)) in [(1, 10, 3), (64, 1, 9), (5, 300, 2), (33, 20, 4)]
        .into_iter()
        .enumerate()
    {
        let queries = normal(nq, 12, 100 + turn as u64);
        let expected = search_ivf(&index, &queries, k, &probing(nprobe, SearchMode::Matrix));
        for mode in [SearchMode::Auto, SearchMode::Csr] {
            let on = queries.on(device);
            let before = Counters::now();
            let hits = index.search_with(on, k, &probing(nprobe, mode)).unwrap();
            let cost = Counters::now().since(before);
            if is_cube::<B>(device) {
                assert_eq!(cost.blocking_reads, 0, "{mode}");
                // List by list six more: pairs are grouped first.
                let coarse = cost.launches - hits.stats.launches;
                let most = if hits.stats.order == "list-major" {
                    9
                } else {
                    4
                };
                let few = (1..=9).contains(&coarse) && (1..=most).contains(&hits.stats.launches);
                assert!(few, "{mode}: {cost:?}");
            } else {
                assert_eq!((cost.launches, cost.uploaded), (0, 0), "{mode}");
            }
            Answer::read(&hits).assert_same(&expected, "read late");
        }
        let on = queries.on(device);
        let before = Counters::now();
        let hits = plain.search(on, k).unwrap();
        let cost = Counters::now().since(before);
        if is_cube::<B>(device) {
            assert_eq!(cost.blocking_reads, 0, "flat");
            // List by list two more: limits begin, pieces are laid out.
            let by_list = hits.stats.order == "list-major";
            let most = if by_list { 5 } else { 3 };
            assert!((1..=most).contains(&cost.launches), "flat: {cost:?}");
        }
        drop(hits);
    }
}

/// Asking for counts costs a read on a device, and only then are they there.
pub fn counts_are_opt_in<B: IvfBackend>(device: &B::Device) {
    let index = line::<B>(device);
    let query = Rows::new(vec![0.0, 21.0], 1);
    let plain = search_ivf(&index, &query, 2, &probing(2, SearchMode::Csr)).stats;
    assert_eq!(plain.rows_scanned.is_none(), is_cube::<B>(device));
    let before = Counters::now();
    let params = SearchParams::exact().with_nprobe(2).with_counts();
    let counted = index.search_with(query.on(device), 2, &params).unwrap();
    let cost = Counters::now().since(before);
    assert_eq!(counted.stats.rows_scanned, Some(12));
    assert_eq!(counted.stats.lists_scanned, Some(3));
    if is_cube::<B>(device) {
        assert_eq!(cost.blocking_reads, 1);
        assert_eq!(
            counted.stats.rows_reranked,
            Some(12),
            "all compared exactly"
        );
    }
}

/// Flat and range searches count too when asked to, also under a selector.
pub fn every_search_counts_when_asked<B: IvfBackend>(device: &B::Device) {
    let (index, plain) = (
        line::<B>(device),
        flat::<B>(device, Metric::L2, &line_rows()),
    );
    let query = Rows::new(vec![0.0, 21.0], 1);
    let some = IdSelector::range(0..5);
    let counted = SearchParams::exact().with_counts();
    for (params, expected) in [
        (counted.clone(), 24),
        (counted.clone().with_selector(some.clone()), 10),
    ] {
        let found = plain.search_with(query.on(device), 2, &params).unwrap();
        assert_eq!(found.stats.rows_scanned, Some(expected));
        let params = RangeParams::default().with_search(params);
        let found = plain
            .range_search_with(query.on(device), 1.0, &params)
            .unwrap();
        assert_eq!(found.stats.rows_scanned, Some(expected));
    }
    for (params, expected) in [
        (counted.clone().with_nprobe(2), 12),
        (counted.with_nprobe(2).with_selector(some), 5),
    ] {
        let params = RangeParams::default().with_search(params);
        let found = index
            .range_search_with(query.on(device), 1.0, &params)
            .unwrap();
        assert_eq!(found.stats.rows_scanned, Some(expected));
    }
}

/// Results can be awaited instead of blocked for.
pub fn results_can_be_awaited<B: IvfBackend>(device: &B::Device) {
    let base = normal(200, 7, 93);
    let plain = flat::<B>(device, Metric::L2, &base);
    let expected = search_flat(&plain, &base.range(0..4), 5);
    let hits = plain.search(base.range(0..4).on(device), 5).unwrap();
    let labels = pollster(hits.labels.into_data_async()).unwrap();
    assert_eq!(labels.iter::<i64>().collect::<Vec<_>>(), expected.i);
}

/// Runs a future of this thread to its end.
fn pollster<F: Future>(future: F) -> F::Output {
    use std::{
        pin::pin,
        sync::Arc,
        task::{Context, Poll, Wake, Waker},
        thread::{Thread, current, park},
    };
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => park(),
        }
    }
}
