//! Making pieces of a file while the one before is written.

use crate::error::Result;
use std::{sync::mpsc, thread};

/// Pieces that are made or wait, beside the one that is written.
const AHEAD: usize = 2;

/// Calls `make` and then `write` for every job, in order; `make` on another thread, if `apart`, with
/// a few pieces at hand. That thread is one of its own, which sleeps while it waits.
pub(super) fn pump<J: Send, P: Default + Send>(
    apart: bool,
    mut jobs: impl Iterator<Item = J> + Send,
    mut make: impl FnMut(&J, &mut P) -> Result<()> + Send,
    mut write: impl FnMut(&J, &P) -> Result<()>,
) -> Result<()> {
    if !apart {
        let mut piece = P::default();
        return jobs.try_for_each(|job| {
            make(&job, &mut piece)?;
            write(&job, &piece)
        });
    }
    let (full, filled) = mpsc::channel();
    let (empty, emptied) = mpsc::channel();
    for _ in 0..=AHEAD {
        // Its other end is below.
        let _ = empty.send(P::default());
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            for job in jobs {
                // No buffer comes back any more when writing has failed.
                let Ok(mut piece) = emptied.recv() else {
                    return;
                };
                let made = make(&job, &mut piece).map(|()| (job, piece));
                let failed = made.is_err();
                if full.send(made).is_err() || failed {
                    return;
                }
            }
        });
        let written = filled.into_iter().try_for_each(|made| {
            let (job, piece) = made?;
            write(&job, &piece)?;
            // At the end nobody takes it.
            let _ = empty.send(piece);
            Ok(())
        });
        // Nor does anybody wait for one any more.
        drop(empty);
        written
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::corrupt;

    fn run(apart: bool, bad: usize, broken: usize) -> (Result<()>, Vec<usize>) {
        let mut written = Vec::new();
        let fail = |is: bool, what: &str| if is { Err(corrupt(what, "")) } else { Ok(()) };
        let result = pump(
            apart,
            0..20_usize,
            |&job, piece: &mut Vec<usize>| {
                piece.clear();
                piece.push(3 * job);
                fail(job == bad, "make")
            },
            |&job, piece| {
                assert_eq!(*piece, [3 * job]);
                written.push(job);
                fail(job == broken, "write")
            },
        );
        (result, written)
    }

    #[test]
    fn pieces_come_in_order_up_to_the_first_error() {
        for apart in [false, true] {
            let all = |n: usize| (0..n).collect::<Vec<_>>();
            assert_eq!(run(apart, 99, 99), (Ok(()), all(20)));
            assert_eq!(run(apart, 7, 99), (Err(corrupt("make", "")), all(7)));
            assert_eq!(run(apart, 99, 7), (Err(corrupt("write", "")), all(8)));
            assert_eq!(run(apart, 8, 7).1, all(8));
        }
    }
}
