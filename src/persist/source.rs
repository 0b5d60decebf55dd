//! Little-endian numbers from a file or stream.
//!
//! Of a file the length is known, so a count that it cannot hold is an error before anything is
//! allocated; of a stream it is not, so memory grows only with the bytes that have arrived.

use super::{io, open};
use crate::error::{Error, Result};
use bytemuck::Pod;
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::Path,
};

/// Bytes taken at once from a stream of unknown length.
const STREAM_STEP: usize = 1 << 20;

/// A number that a file holds in little-endian order.
pub(crate) trait Number: Pod {
    /// The value of bytes that were read as they came.
    fn from_le(raw: Self) -> Self;
}

macro_rules! numbers {
    ($($integer:ty),*) => {
        $(impl Number for $integer {
            fn from_le(raw: Self) -> Self {
                Self::from_le(raw)
            }
        })*
    };
}

numbers!(u8, u16, i32, u32, i64, u64);

impl Number for f32 {
    fn from_le(raw: Self) -> Self {
        Self::from_bits(u32::from_le(raw.to_bits()))
    }
}

impl Number for f64 {
    fn from_le(raw: Self) -> Self {
        Self::from_bits(u64::from_le(raw.to_bits()))
    }
}

/// Where bytes come from: a name for errors, the place reached, and what lies ahead.
#[derive(Debug)]
pub(crate) struct Source<R> {
    reader: R,
    path: String,
    at: u64,
    /// Bytes in all; unknown for a stream.
    len: Option<u64>,
    /// Moves a reader that can be moved.
    seek: Option<fn(&mut R, i64) -> std::io::Result<()>>,
}

impl Source<BufReader<File>> {
    /// A file, from its start.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, len) = open(path)?;
        let name = path.display().to_string();
        // Anything but a plain file (a pipe, a device) is a stream.
        let plain = file
            .metadata()
            .map_err(|error| io_error("reading", &name, &error))?
            .is_file();
        let seek: fn(&mut BufReader<File>, i64) -> std::io::Result<()> =
            |reader, by| reader.seek_relative(by);
        Ok(Self {
            reader: BufReader::new(file),
            path: name,
            at: 0,
            len: plain.then_some(len),
            seek: plain.then_some(seek),
        })
    }
}

impl<R: Read> Source<R> {
    /// A stream of unknown length, from where it stands. Not a byte more than needed is taken.
    pub fn stream(reader: R) -> Self {
        Self {
            reader,
            path: "the stream".to_owned(),
            at: 0,
            len: None,
            seek: None,
        }
    }

    /// Bytes taken so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that are left, if that is known.
    pub fn left(&self) -> Option<u64> {
        self.len.map(|len| len.saturating_sub(self.at))
    }

    /// An error at the place reached.
    pub fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            offset: self.at,
            reason: reason.into(),
        }
    }

    /// An error for content that is sound, but has no place here.
    pub fn unsupported(&self, what: &str, remedy: &'static str) -> Error {
        Error::Unsupported {
            what: format!("{what} ({})", self.path),
            action: "read",
            remedy,
        }
    }

    /// Fails when fewer than `count` items of `size` bytes are left.
    pub fn expect(&self, what: &str, count: u64, size: u64) -> Result<()> {
        let bytes = count.checked_mul(size);
        let left = self.left();
        match (bytes, left) {
            (Some(bytes), Some(left)) if bytes <= left => Ok(()),
            (Some(_), None) => Ok(()),
            _ => {
                let left = left.map_or_else(|| "not that many".to_owned(), |left| left.to_string());
                Err(self.malformed(format!(
                    "{count} {what} of {size} bytes each, but {left} bytes are left"
                )))
            }
        }
    }

    /// Appends `count` numbers to `out`.
    pub fn append<T: Number>(&mut self, what: &str, count: usize, out: &mut Vec<T>) -> Result<()> {
        self.expect(what, count as u64, size_of::<T>() as u64)?;
        let step = if self.len.is_some() {
            out.reserve_exact(count);
            count
        } else {
            STREAM_STEP / size_of::<T>()
        };
        let mut missing = count;
        while missing > 0 {
            let (start, piece) = (out.len(), missing.min(step));
            out.resize(start + piece, T::zeroed());
            self.fill(what, &mut out[start..])?;
            missing -= piece;
        }
        Ok(())
    }

    /// Fills `out` with numbers.
    pub fn fill<T: Number>(&mut self, what: &str, out: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
        if let Err(error) = self.reader.read_exact(bytes) {
            if error.kind() == ErrorKind::UnexpectedEof {
                return Err(self.malformed(format!("ends within {what}")));
            }
            return Err(io_error("reading", &self.path, &error));
        }
        self.at += bytes.len() as u64;
        if cfg!(target_endian = "big") {
            out.iter_mut().for_each(|value| *value = T::from_le(*value));
        }
        Ok(())
    }

    /// One number.
    pub fn number<T: Number>(&mut self, what: &str) -> Result<T> {
        let mut value = [T::zeroed()];
        self.fill(what, &mut value)?;
        Ok(value[0])
    }

    /// A count of `what`, of `size` bytes each, that the rest of the file can hold.
    pub fn count(&mut self, what: &str, size: usize) -> Result<usize> {
        let count: u64 = self.number(what)?;
        self.expect(what, count, size as u64)?;
        usize::try_from(count).map_err(|_| self.malformed(format!("{count} {what}")))
    }

    /// Passes over bytes.
    pub fn skip(&mut self, what: &str, bytes: u64) -> Result<()> {
        self.expect(what, bytes, 1)?;
        if let Some(seek) = self.seek {
            seek(&mut self.reader, bytes.cast_signed())
                .map_err(|error| io_error("reading", &self.path, &error))?;
            self.at += bytes;
            return Ok(());
        }
        let taken = std::io::copy(&mut self.reader.by_ref().take(bytes), &mut std::io::sink())
            .map_err(|error| io_error("reading", &self.path, &error))?;
        self.at += taken;
        if taken < bytes {
            return Err(self.malformed(format!("ends within {what}")));
        }
        Ok(())
    }

    /// Whether [`ahead`](Self::ahead) can be asked.
    pub fn can_look_ahead(&self) -> bool {
        self.seek.is_some()
    }

    /// What `read` finds `skip` bytes ahead; the place reached stays. Only where
    /// [`can_look_ahead`](Self::can_look_ahead).
    pub fn ahead<T>(&mut self, skip: u64, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = self.at;
        self.skip("the bytes before", skip)?;
        let found = read(self)?;
        let back = (self.at - start).cast_signed();
        if let Some(seek) = self.seek {
            seek(&mut self.reader, -back)
                .map_err(|error| io_error("reading", &self.path, &error))?;
        }
        self.at = start;
        Ok(found)
    }

    /// Fails when bytes follow that nothing has read.
    pub fn end(&self) -> Result<()> {
        match self.left() {
            Some(left) if left > 0 => {
                Err(self.malformed(format!("{left} bytes follow where the file should end")))
            }
            _ => Ok(()),
        }
    }
}

/// What the operating system said.
pub(super) fn io_error(action: &str, path: &str, error: &std::io::Error) -> Error {
    io(format!("{action} {path}"), error)
}
