//! The GPU kernels, on whatever device there is (a software one will do): every answer against the
//! CPU kernels and plain f64 sums.
//!
//! Inputs differ from call to call, and freed buffers are full of poison when a kernel gets its
//! own, so that neither a stale nor an unwritten element can pass. Features: `wgpu` (WGSL),
//! `vulkan` (SPIR-V), or `cuda` alone.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod by_list;
mod cost;
mod cover;
mod edges;
mod fuzz;
mod grouping;
mod hostile;
mod lists;
mod pairs;
mod restricted;
mod rounds;
mod runtime;
mod scans;
mod selection;
mod support;
