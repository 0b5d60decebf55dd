//! Handing out work to threads.

use crate::spread::Place;
use std::sync::{Mutex, PoisonError};

/// Hands `items` to up to `workers` threads, each taking the next as it gets free.
///
/// The calling thread is one of them, so that a short search wakes one thread less and starts at
/// once; the others are those of the current rayon pool. Returns when everything is done.
pub(crate) fn share<I>(workers: usize, items: I, work: impl Fn(I::Item) + Sync)
where
    I: Iterator + Send,
{
    let items = Mutex::new(items);
    let run = || {
        loop {
            // A panic in `next` itself ends the search anyway.
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            match item {
                Some(item) => work(item),
                None => break,
            }
        }
    };
    if workers <= 1 {
        run();
    } else {
        rayon::in_place_scope(|scope| {
            let place = Place::here();
            let run = &run;
            for _ in 1..workers {
                scope.spawn(move |_| {
                    place.leave();
                    run();
                });
            }
            Place::offer();
            run();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn every_item_is_done_once() {
        for workers in [1, 2, 9] {
            let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            share(workers, done.iter(), |count| {
                count.fetch_add(1, Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Relaxed) == 1));
        }
    }

    #[test]
    fn works_inside_a_pool_whose_threads_are_busy() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .build()
            .unwrap();
        let sum = AtomicUsize::new(0);
        pool.scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|_| {
                    share(2, 0..50_usize, |i| {
                        sum.fetch_add(i, Relaxed);
                    });
                });
            }
        });
        assert_eq!(sum.into_inner(), 8 * 49 * 50 / 2);
    }
}
