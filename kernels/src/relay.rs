//! One thread brings pieces of work, several do it.

use crate::spread::Place;
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Calls `bring` on this thread for one piece after the other, until it has none, and `work` on
/// every piece: on this thread, when no buffer is free, and on `helpers` others.
///
/// Pieces lie in `buffers`, which also are all the memory there is for them: a piece belongs to the
/// buffer it was brought into. Of several errors the one of the earliest piece is returned, as if all
/// had been done in order; after an error no more pieces are brought.
///
/// Helpers are threads of their own, which sleep while they wait: a thread of a pool must not.
///
/// # Errors
/// Those of `bring` and `work`.
///
/// # Panics
/// When there is no buffer.
pub fn relay<B: Send, T: Send, E: Send>(
    helpers: usize,
    buffers: Vec<B>,
    bring: &mut dyn FnMut(&mut B) -> Result<Option<T>, E>,
    work: &(dyn Fn(T, &mut B) -> Result<(), E> + Sync),
) -> Result<(), E> {
    assert!(!buffers.is_empty(), "pieces lie in buffers");
    let desk = Desk {
        state: Mutex::new(State {
            ready: VecDeque::new(),
            free: buffers,
            ended: false,
            lost: false,
            error: None,
        }),
        changed: Condvar::new(),
    };
    let (place, shared) = (Place::here(), &desk);
    thread::scope(|scope| {
        // Whatever happens, nobody waits for pieces for ever.
        let _end = End(shared);
        for _ in 0..helpers {
            let help = move || {
                place.leave();
                shared.help(work);
            };
            // Without the thread it takes longer, no more.
            if thread::Builder::new().spawn_scoped(scope, help).is_err() {
                break;
            }
        }
        shared.bring(bring, work);
    });
    let state = desk.state.into_inner();
    match state.unwrap_or_else(PoisonError::into_inner).error {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

struct State<B, T, E> {
    ready: VecDeque<(usize, T, B)>,
    free: Vec<B>,
    /// No more pieces will come.
    ended: bool,
    /// A thread panicked over a piece; its buffer will not come back.
    lost: bool,
    error: Option<(usize, E)>,
}

impl<B, T, E> State<B, T, E> {
    fn fail(&mut self, number: usize, error: E) {
        if self.error.as_ref().is_none_or(|(first, _)| number < *first) {
            self.error = Some((number, error));
        }
    }

    /// The next piece that is still worth doing.
    fn next(&mut self) -> Option<(usize, T, B)> {
        let failed = self.error.as_ref().map(|(number, _)| *number);
        let next = self.ready.pop_front()?;
        // Pieces are taken in order, so all that are left come later too.
        failed.is_none_or(|failed| next.0 < failed).then_some(next)
    }
}

/// Where pieces and buffers change hands.
struct Desk<B, T, E> {
    state: Mutex<State<B, T, E>>,
    changed: Condvar,
}

/// Lets helpers go home when it is dropped.
struct End<'a, B, T, E>(&'a Desk<B, T, E>);

impl<B, T, E> Drop for End<'_, B, T, E> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// Says so when its thread panics.
struct Alarm<'a, B, T, E>(&'a Desk<B, T, E>);

impl<B, T, E> Drop for Alarm<'_, B, T, E> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().lost = true;
            self.0.changed.notify_all();
        }
    }
}

type Work<'a, B, T, E> = &'a (dyn Fn(T, &mut B) -> Result<(), E> + Sync);

impl<B, T, E> Desk<B, T, E> {
    fn lock(&self) -> MutexGuard<'_, State<B, T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<B, T, E>>) -> MutexGuard<'a, State<B, T, E>> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on one piece.
    fn one(&self, (number, piece, mut buffer): (usize, T, B), work: Work<'_, B, T, E>) {
        let alarm = Alarm(self);
        let done = work(piece, &mut buffer);
        drop(alarm);
        let mut state = self.lock();
        state.free.push(buffer);
        if let Err(error) = done {
            state.fail(number, error);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Works on pieces until no more will come.
    fn help(&self, work: Work<'_, B, T, E>) {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.next() {
                drop(state);
                self.one(next, work);
                state = self.lock();
            } else if state.ended {
                return;
            } else {
                state = self.wait(state);
            }
        }
    }

    /// Brings pieces, and works on them where nobody else has got to them.
    fn bring(
        &self,
        bring: &mut dyn FnMut(&mut B) -> Result<Option<T>, E>,
        work: Work<'_, B, T, E>,
    ) {
        let mut number = 0;
        let mut state = self.lock();
        while state.error.is_none() && !state.lost {
            if let Some(mut buffer) = state.free.pop() {
                drop(state);
                let brought = bring(&mut buffer);
                state = self.lock();
                match brought {
                    Ok(Some(piece)) => state.ready.push_back((number, piece, buffer)),
                    Ok(None) => break,
                    Err(error) => state.fail(number, error),
                }
                number += 1;
                self.changed.notify_all();
            } else if let Some(next) = state.next() {
                drop(state);
                self.one(next, work);
                state = self.lock();
            } else {
                state = self.wait(state);
            }
        }
        while let Some(next) = state.next() {
            drop(state);
            self.one(next, work);
            state = self.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// Brings 0, 1, 2 .. below `pieces`; a piece at `bad` fails at work, one at `broken` at coming.
    fn run(
        (helpers, buffers): (usize, usize),
        pieces: usize,
        bad: impl Fn(usize) -> bool + Sync,
        broken: usize,
    ) -> (Result<(), usize>, Vec<usize>) {
        let done: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
        let mut next = 0;
        let result = relay(
            helpers,
            vec![0; buffers],
            &mut |buffer| {
                *buffer = 7 * next;
                next += 1;
                match next - 1 {
                    piece if piece == broken => Err(1000 + piece),
                    piece => Ok((piece < pieces).then_some(piece)),
                }
            },
            &|piece, buffer| {
                assert_eq!(*buffer, 7 * piece);
                done[piece].fetch_add(1, Relaxed);
                if bad(piece) { Err(piece) } else { Ok(()) }
            },
        );
        (
            result,
            done.into_iter().map(AtomicUsize::into_inner).collect(),
        )
    }

    const TEAMS: [(usize, usize); 5] = [(0, 1), (0, 3), (1, 1), (1, 4), (3, 5)];

    #[test]
    fn every_piece_is_done_once() {
        for team in TEAMS {
            for pieces in [0, 1, 2, 50] {
                let seen = run(team, pieces, |_| false, usize::MAX);
                assert_eq!(seen, (Ok(()), vec![1; pieces]), "{team:?}");
            }
        }
    }

    #[test]
    fn the_error_of_the_earliest_piece_counts() {
        for team in TEAMS {
            for _ in 0..20 {
                let (result, done) = run(team, 50, |piece| piece % 10 == 9, usize::MAX);
                assert_eq!(result, Err(9), "{team:?}");
                assert_eq!(done[..10], [1; 10]);
                // a piece that failed before one that never came
                assert_eq!(run(team, 50, |piece| piece == 20, 22).0, Err(20));
                let (result, done) = run(team, 50, |piece| piece > 22, 22);
                assert_eq!(result, Err(1022), "{team:?}");
                assert_eq!(done[..22], [1; 22]);
            }
        }
    }

    #[test]
    fn a_panic_ends_it() {
        for team in TEAMS {
            let work = || run(team, 50, |piece| piece == 9 && panic!("nine"), usize::MAX);
            std::panic::catch_unwind(work).unwrap_err();
            let bring = || {
                let bring: &mut dyn FnMut(&mut ()) -> Result<Option<()>, ()> =
                    &mut |()| panic!("no piece");
                relay(team.0, vec![(); team.1], bring, &|(), ()| Ok(()))
            };
            std::panic::catch_unwind(bring).unwrap_err();
        }
    }
}
