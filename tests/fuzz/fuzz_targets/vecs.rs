//! Files of vectors whose rows bring their length.
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
#[macro_use]
#[path = "../reader.rs"]
mod reader;

reader!(Vecs, "vecs");
