//! The units of a cube, each a coroutine, run one after the other from one meeting to the next.
//!
//! A unit runs until it meets others: at a barrier all units of the cube, at an exchange all of its
//! plane. Who does not come to the same meeting (another line of the source, or the end) is a fault,
//! as it is undefined or a standstill on a real device. Between meetings units run in an order of
//! the caller's choice, so that what relies on one shows.

use super::program::Program;
use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack};
use std::{cell::Cell, ffi::c_void, sync::Mutex};

/// As in `device.hpp`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Index {
    pub x: u32,
    pub y: u32,
    pub z: u32,
}

/// As in `device.hpp`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    pub thread: Index,
    pub block: Index,
    pub block_dim: Index,
    pub grid_dim: Index,
    pub shared: *mut u8,
    pub plane: u32,
}

/// As in `device.hpp`.
#[repr(C)]
pub struct Host {
    barrier: extern "C" fn(u32),
    exchange: extern "C" fn(u64, u32, u32) -> u64,
    ballot: extern "C" fn(u32, u32) -> u64,
}

pub static HOST: Host = Host {
    barrier,
    exchange,
    ballot,
};

/// What a unit waits for, and the line where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meeting {
    Barrier { line: u32 },
    Exchange { value: u64, from: u32, line: u32 },
    Ballot { vote: bool, line: u32 },
}

impl Meeting {
    /// Kind and line, the same for all who meet.
    fn place(self) -> (u8, u32) {
        match self {
            Self::Barrier { line } => (0, line),
            Self::Exchange { line, .. } => (1, line),
            Self::Ballot { line, .. } => (2, line),
        }
    }
}

thread_local! {
    /// The way out of the unit that runs.
    static OUT: Cell<*const Yielder<u64, Meeting>> = const { Cell::new(core::ptr::null()) };
}

fn meet(meeting: Meeting) -> u64 {
    let out = OUT.get();
    // SAFETY: set by the unit itself: below, before it called the kernel, and here.
    let answer = unsafe { &*out }.suspend(meeting);
    OUT.set(out);
    answer
}

extern "C" fn barrier(line: u32) {
    meet(Meeting::Barrier { line });
}

extern "C" fn exchange(value: u64, from: u32, line: u32) -> u64 {
    meet(Meeting::Exchange { value, from, line })
}

extern "C" fn ballot(vote: u32, line: u32) -> u64 {
    meet(Meeting::Ballot {
        vote: vote != 0,
        line,
    })
}

/// In which order units, and cubes, take their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Rising,
    Falling,
    /// By a shuffle of this seed.
    Random(u64),
}

impl Order {
    /// The order of `n` at its `turn`.
    pub fn of(self, n: usize, turn: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        match self {
            Self::Rising => {}
            Self::Falling => order.reverse(),
            Self::Random(seed) => {
                let mut state = seed ^ turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for i in (1..n).rev() {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    order.swap(i, (state >> 33) as usize % (i + 1));
                }
            }
        }
        order
    }
}

enum State {
    /// Goes on with this answer.
    Ready(u64),
    Waits(Meeting),
    Done,
}

type Run = Coroutine<u64, Meeting, (), DefaultStack>;

/// Room for one cube after the other.
pub struct Room {
    stacks: Vec<DefaultStack>,
    shared: Vec<u128>,
}

/// A stack holds the arrays of a unit.
const STACK: usize = 64 << 10;
/// Stacks that no room has.
static STACKS: Mutex<Vec<DefaultStack>> = Mutex::new(Vec::new());
/// What shared memory holds at first.
const POISON: u128 = 0xDEAD_BEEF_DEAD_BEEF_DEAD_BEEF_DEAD_BEEF;

impl Room {
    pub fn new(program: &Program) -> Self {
        let units = program.units.iter().product::<u32>() as usize;
        let mut spare = STACKS.lock().unwrap();
        let left = spare.len().saturating_sub(units);
        let mut stacks = spare.split_off(left);
        drop(spare);
        stacks.resize_with(units, || {
            DefaultStack::new(STACK).expect("memory for a stack")
        });
        Self {
            stacks,
            // One more, which nobody may write.
            shared: vec![POISON; program.shared.div_ceil(16) + 1],
        }
    }

    /// Runs the cube at `block` of `grid`.
    pub fn run(
        &mut self,
        program: &Program,
        arguments: &[*mut c_void],
        (block, grid): (Index, Index),
        plane: u32,
        order: Order,
    ) -> Result<(), String> {
        self.shared.fill(POISON);
        let [x, y, z] = program.units;
        let units: Vec<Unit> = (0..x * y * z)
            .map(|i| Unit {
                thread: Index {
                    x: i % x,
                    y: i / x % y,
                    z: i / x / y,
                },
                block,
                block_dim: Index { x, y, z },
                grid_dim: grid,
                shared: self.shared.as_mut_ptr().cast(),
                plane,
            })
            .collect();
        let mut runs: Vec<Run> = self
            .stacks
            .drain(..)
            .map(|stack| {
                let mut arguments = arguments.to_vec();
                let program = core::ptr::from_ref(program);
                Coroutine::with_stack(stack, move |out: &Yielder<u64, Meeting>, _| {
                    OUT.set(out);
                    // SAFETY: the program outlives its units: they are finished or given up below.
                    unsafe { &*program }.call(&mut arguments);
                })
            })
            .collect();
        let mut states: Vec<State> = (0..units.len()).map(|_| State::Ready(0)).collect();
        let result = go(program, &units, &mut runs, &mut states, plane, order);
        for mut run in runs {
            if run.started() && !run.done() {
                // SAFETY: nothing on the stack of a kernel needs to be dropped but `arguments`, which leaks.
                unsafe { run.force_reset() };
            }
            self.stacks.push(run.into_stack());
        }
        result?;
        if self.shared.last() != Some(&POISON) {
            return Err("writes beyond its shared memory".to_owned());
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        STACKS.lock().unwrap().append(&mut self.stacks);
    }
}

fn go(
    program: &Program,
    units: &[Unit],
    runs: &mut [Run],
    states: &mut [State],
    plane: u32,
    order: Order,
) -> Result<(), String> {
    let seed = u64::from(units[0].block.x) << 20;
    for turn in 0.. {
        for i in order.of(units.len(), seed + turn) {
            let State::Ready(answer) = states[i] else {
                continue;
            };
            program.place(&units[i]);
            states[i] = match runs[i].resume(answer) {
                CoroutineResult::Yield(meeting) => State::Waits(meeting),
                CoroutineResult::Return(()) => State::Done,
            };
        }
        let mut answered = false;
        for lanes in states.chunks_mut(plane as usize) {
            answered |= answer(lanes);
        }
        if answered {
            continue;
        }
        let waiting = states.iter().filter_map(|state| match state {
            State::Waits(meeting) => Some(*meeting),
            State::Ready(_) | State::Done => None,
        });
        let waiting: Vec<Meeting> = waiting.collect();
        let Some(first) = waiting.first() else {
            return Ok(());
        };
        let together = waiting
            .iter()
            .all(|meeting| meeting.place() == first.place());
        if waiting.len() < states.len() || !together || first.place().0 != 0 {
            return Err(fault(states));
        }
        states.fill_with(|| State::Ready(0));
    }
    unreachable!("turns do not end")
}

/// Answers an exchange or a ballot of a plane, if all of its units have come to it.
fn answer(lanes: &mut [State]) -> bool {
    let meetings: Option<Vec<Meeting>> = lanes
        .iter()
        .map(|state| match state {
            State::Waits(meeting) => Some(*meeting),
            State::Ready(_) | State::Done => None,
        })
        .collect();
    let Some(meetings) = meetings else {
        return false;
    };
    let place = meetings[0].place();
    if place.0 == 0 || meetings.iter().any(|meeting| meeting.place() != place) {
        return false;
    }
    let votes = meetings.iter().enumerate().fold(0, |votes, (i, meeting)| {
        votes | u64::from(matches!(meeting, Meeting::Ballot { vote: true, .. })) << i
    });
    for (state, meeting) in lanes.iter_mut().zip(&meetings) {
        *state = State::Ready(match *meeting {
            Meeting::Exchange { value, from, .. } => match meetings.get(from as usize) {
                Some(&Meeting::Exchange { value, .. }) => value,
                // A plane that is not full.
                _ => value,
            },
            _ => votes,
        });
    }
    true
}

/// Who waits where.
fn fault(states: &[State]) -> String {
    let mut places: Vec<(String, Vec<usize>)> = Vec::new();
    for (i, state) in states.iter().enumerate() {
        let place = match state {
            State::Waits(Meeting::Barrier { line }) => format!("the barrier of line {line}"),
            State::Waits(Meeting::Exchange { line, .. }) => format!("the exchange of line {line}"),
            State::Waits(Meeting::Ballot { line, .. }) => format!("the ballot of line {line}"),
            State::Ready(_) | State::Done => "the end".to_owned(),
        };
        match places.iter_mut().find(|(name, _)| *name == place) {
            Some((_, units)) => units.push(i),
            None => places.push((place, vec![i])),
        }
    }
    let places: Vec<String> = places
        .iter()
        .map(|(name, units)| format!("{} units ({}, ..) at {name}", units.len(), units[0]))
        .collect();
    format!("units do not meet: {}", places.join(", "))
}
