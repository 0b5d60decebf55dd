//! Little-endian numbers into a file or stream; the counterpart of `source.rs`.

use super::source::{Number, io_error};
use crate::error::Result;
use std::io::Write;

/// Where bytes go, with a name for errors.
#[derive(Debug)]
pub(crate) struct Sink<W> {
    writer: W,
    path: String,
}

impl<W: Write> Sink<W> {
    /// Writes to `writer`, which errors call `path`.
    pub fn new(writer: W, path: &str) -> Self {
        Self {
            writer,
            path: path.to_owned(),
        }
    }

    /// Numbers, one after the other.
    pub fn numbers<T: Number>(&mut self, values: &[T]) -> Result<()> {
        if cfg!(target_endian = "big") {
            // `from_le` swaps either way.
            let values: Vec<T> = values.iter().map(|&value| T::from_le(value)).collect();
            return self.bytes(bytemuck::cast_slice(&values));
        }
        self.bytes(bytemuck::cast_slice(values))
    }

    /// One number.
    pub fn number<T: Number>(&mut self, value: T) -> Result<()> {
        self.numbers(&[value])
    }

    /// A count as u64, then the numbers.
    pub fn counted<T: Number>(&mut self, values: &[T]) -> Result<()> {
        self.number(values.len() as u64)?;
        self.numbers(values)
    }

    /// Hands over what the writer still holds.
    pub fn flush(&mut self) -> Result<()> {
        self.writer
            .flush()
            .map_err(|error| io_error("writing", &self.path, &error))
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer
            .write_all(bytes)
            .map_err(|error| io_error("writing", &self.path, &error))
    }
}
