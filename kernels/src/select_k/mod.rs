//! The k best of every row of a score matrix.
//!
//! **Contract.** `scores` is row-major `[rows, n]`. For each row the `min(k, n)` best values
//! (smallest, or largest) are returned best first with their column numbers; equal values come by
//! smaller column, NaN comes after every number. [`mod@reference`] sorts everything, [`select`] is
//! the CPU kernel: one pass against a threshold, survivors into a buffer of about `2k`.

#[cfg(feature = "cube")]
mod blueprint;
mod cpu;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cube")]
mod device;
pub mod reference;
#[cfg(feature = "cube")]
mod trim;

pub use cpu::select;
#[cfg(feature = "cube")]
pub use {
    blueprint::Output,
    device::{Labels, SelectedOnDevice, Source, select_on},
};
#[cfg(feature = "cube")]
pub(crate) use {
    blueprint::{Blueprint, QUEUE_K, Route, Select},
    cube::{Pair, write},
    trim::trim_on,
};

/// Which values are best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Best {
    /// The smallest.
    Smallest,
    /// The largest.
    Largest,
}

/// The k best of every row.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// Values, row-major `[rows, k]`, best first.
    pub values: Vec<f32>,
    /// Their columns, row-major `[rows, k]`.
    pub columns: Vec<u32>,
    /// Columns per row of the answer: `min(k, n)`.
    pub k: usize,
}

#[cfg(test)]
mod tests;
