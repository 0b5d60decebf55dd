//! Random sequences of calls over the whole public API, with arguments that nobody should pass.
//!
//! A call may be answered or refused by a typed error. It may not panic, may not hold more than
//! [`MOST_HELD`], and one that is refused, or that only reads, may change nothing: every index is
//! compared before and after, its file (vectors, ids, training, settings) and the answer of a search.
//!
//! ```sh
//! cargo test --features ndarray --test calls
//! BURN_IVF_CALLS=100000 BURN_IVF_CALLS_SEED=7 cargo test --features ndarray --test calls -- --nocapture
//! ```
//!
//! `BURN_IVF_CALLS` is the number of sequences, of [`STEPS`] calls each. A failure names seed and case,
//! which `BURN_IVF_CALLS_CASE` runs alone, and lists the calls; `BURN_IVF_CALLS_TRACE` prints them as they
//! are made, should the process itself die.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "a test fails by panicking and prints how far it came"
)]

mod both;
mod free;
#[path = "../fuzz/memory.rs"]
mod memory;
#[cfg(feature = "wgpu")]
#[path = "../suite/open.rs"]
mod open;
mod own;
mod source;
mod world;

use burn_ivf::{Error, IvfBackend};
use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};
use world::{Call, Tally, World};

/// Calls of a sequence.
const STEPS: usize = 40;

/// What a call may hold at any moment beyond what was held before it: the working memory of searches is
/// 4 MiB a thread and candidate buffers of 32 MiB, all else is small.
const MOST_HELD: usize = 256 << 20;

/// Failures after which a run stops.
const FAILURES: usize = 8;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Makes one call; what is wrong with what it did, in words.
fn step<B: IvfBackend>(
    world: &mut World<B>,
    (name, changes, call): Call<B>,
    tally: &mut Tally,
) -> Result<(), String> {
    let before = world.states();
    let (outcome, held) =
        memory::most_held(|| catch_unwind(AssertUnwindSafe(|| call(&mut *world))));
    let outcome = outcome.map_err(|panic| words(&*panic))?;
    if held > MOST_HELD {
        return Err(format!("{held} bytes held"));
    }
    let count = tally.entry(name).or_default();
    match &outcome {
        Ok(()) => count.0 += 1,
        Err(Error::Kernel(bug)) => return Err(format!("a kernel refused its input: {bug}")),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            count.1 += 1;
        }
    }
    if outcome.is_err() || !changes {
        let after = world.states();
        if let Some(at) = (0..before.len()).find(|&at| after.get(at) != before.get(at)) {
            return Err(format!("index {at} of all changed, outcome {outcome:?}"));
        }
        if after.len() != before.len() {
            return Err("an index came or went".to_owned());
        }
    }
    world.trim();
    Ok(())
}

/// One sequence; the calls and what went wrong, if something did.
fn sequence<B: IvfBackend>(
    device: &B::Device,
    (seed, case): (u64, u64),
    calls: &[Call<B>],
    tally: &mut Tally,
) -> Result<(), String> {
    let mut world = World::new(device, seed, case);
    for _ in 0..STEPS {
        let call = calls[world.source.below(calls.len())];
        let told = world.log.len();
        // The state is read outside of the call, so a panic there is caught here.
        let result = catch_unwind(AssertUnwindSafe(|| step(&mut world, call, tally)))
            .unwrap_or_else(|panic| Err(format!("afterwards: {}", words(&*panic))));
        if let Err(reason) = result {
            let mut text = format!(
                "BURN_IVF_CALLS_SEED={seed} BURN_IVF_CALLS_CASE={case}, in {}: {reason}\n",
                call.0
            );
            for (at, line) in world.log.iter().enumerate() {
                let mark = if at < told { ' ' } else { '>' };
                text += &format!("  {mark} {line}\n");
            }
            return Err(text);
        }
    }
    Ok(())
}

/// Sequences on one backend: as many as asked for, or `default`.
fn run<B: IvfBackend>(device: &B::Device, default: u64) {
    static TURN: Mutex<()> = Mutex::new(());
    // What is held is counted over the process, so tests take turns.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let calls: Vec<Call<B>> = [
        both::flat::calls(),
        both::ivf::calls(),
        own::calls(),
        free::calls(),
    ]
    .concat();
    let seed = number("BURN_IVF_CALLS_SEED").unwrap_or(1);
    let cases = match number("BURN_IVF_CALLS_CASE") {
        Some(case) => case..case + 1,
        None => 0..number("BURN_IVF_CALLS").unwrap_or(default),
    };
    let (mut tally, mut failures) = (Tally::new(), Vec::new());
    let (start, number_of) = (std::time::Instant::now(), cases.end - cases.start);
    for case in cases {
        if let Err(failure) = sequence(device, (seed, case), &calls, &mut tally) {
            failures.push(failure);
        }
        if failures.len() == FAILURES {
            break;
        }
    }
    let sums = tally.values().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    eprintln!(
        "{}: {} calls answered, {} refused in {:.0} s, {} failures",
        B::name(device),
        sums.0,
        sums.1,
        start.elapsed().as_secs_f64(),
        failures.len(),
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let names: BTreeSet<_> = calls.iter().map(|call| call.0).collect();
    for (name, (answered, refused)) in &tally {
        eprintln!("{name:>28} {answered:>8} answered {refused:>8} refused");
    }
    // In a long run every call gets through, and nearly every one is refused.
    if number_of >= 1000 {
        assert_eq!(tally.keys().copied().collect::<BTreeSet<_>>(), names);
        let never = [
            "shrink",
            "reset",
            "reset_all",
            "streams",
            "copies",
            "storage",
        ];
        for (name, (answered, refused)) in &tally {
            let refusable = !never.iter().any(|end| name.ends_with(end));
            assert!(*answered > 0, "{name} was never answered");
            assert!(*refused > 0 || !refusable, "{name} was never refused");
        }
    }
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray() {
    run::<burn::backend::NdArray>(&Default::default(), 250);
}

#[cfg(all(feature = "ndarray", feature = "autodiff"))]
#[test]
fn autodiff() {
    run::<burn::backend::Autodiff<burn::backend::NdArray>>(&Default::default(), 100);
}

#[cfg(feature = "flex")]
#[test]
fn flex() {
    run::<burn::backend::Flex>(&Default::default(), 100);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu() {
    type Raw = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
    if let Some(device) = open::open::<Raw>("wgpu") {
        run::<Raw>(&device, 4);
        run::<burn::backend::Wgpu>(&device, 2);
    }
}
