//! faiss's indexes, from a file and from a stream.
#![no_main]
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    reason = "a target fails by panicking, and none calls all that it shares with the test"
)]

#[path = "../memory.rs"]
mod memory;
#[path = "../targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use targets::{Kind, Scratch};

static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::new);

fuzz_target!(
    init: {
        // Threads and tables are made before anything is counted.
        targets::run(&SCRATCH, Kind::Faiss, &[]);
        targets::sparse_ivf(40);
    },
    |file: &[u8]| targets::run(&SCRATCH, Kind::Faiss, file).check(file, "faiss")
);
