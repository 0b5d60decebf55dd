//! Little-endian numbers from a file or stream.
//!
//! Of a file the length is known, so a count that it cannot hold is an error before anything is
//! allocated; of a stream it is not, so memory grows only with the bytes that have arrived.

use super::{io, open};
use crate::error::{Error, Result};
use bytemuck::Pod;
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes taken at once from a stream of unknown length: at first, and at most.
const FIRST_STEP: usize = 1 << 12;
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
    seek: Option<fn(&mut R, SeekFrom) -> std::io::Result<()>>,
    /// Whether a read failed half-way, so that the reader may stand anywhere.
    lost: bool,
}

impl Source<BufReader<File>> {
    /// A file, from its start.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, len) = open(path)?;
        let name = path.display().to_string();
        // A short way leaves what is buffered.
        let seek: fn(&mut BufReader<File>, SeekFrom) -> std::io::Result<()> = |reader, to| match to
        {
            SeekFrom::Current(by) => reader.seek_relative(by),
            to => reader.seek(to).map(drop),
        };
        Ok(Self {
            reader: BufReader::new(file),
            path: name,
            at: 0,
            len,
            // Anything but a plain file (a pipe, a device) is a stream.
            seek: len.map(|_| seek),
            lost: false,
        })
    }
}

impl<R: Read + Seek> Source<R> {
    /// Anything that can be moved in, from its start.
    pub fn seekable(mut reader: R) -> Result<Self> {
        let path = "the stream".to_owned();
        let failed = |error: std::io::Error| io_error("reading", "the stream", &error);
        let len = reader.seek(SeekFrom::End(0)).map_err(failed)?;
        reader.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(Self {
            reader,
            path,
            at: 0,
            len: Some(len),
            seek: Some(|reader, to| reader.seek(to).map(drop)),
            lost: false,
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
            lost: false,
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
        self.malformed_at(self.at, reason)
    }

    /// An error at another place.
    pub fn malformed_at(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            offset,
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
        let known = self.len.is_some();
        if known {
            out.reserve_exact(count);
        }
        let (first, most) = (FIRST_STEP / size_of::<T>(), STREAM_STEP / size_of::<T>());
        let mut missing = count;
        while missing > 0 {
            let start = out.len();
            // Of a stream about as much again as has come.
            let step = if known {
                count
            } else {
                start.clamp(first, most)
            };
            let piece = missing.min(step);
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
            self.lost = true;
            if error.kind() == ErrorKind::UnexpectedEof {
                return Err(self.malformed(format!("ends within {what}")));
            }
            return Err(io_error("reading", &self.path, &error));
        }
        self.at += bytes.len() as u64;
        if cfg!(target_endian = "big") {
            for value in out.iter_mut() {
                *value = T::from_le(*value);
            }
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
        if self.seek.is_some() {
            return self.go_to(self.at + bytes);
        }
        let taken = std::io::copy(&mut self.reader.by_ref().take(bytes), &mut std::io::sink())
            .map_err(|error| io_error("reading", &self.path, &error))?;
        self.at += taken;
        if taken < bytes {
            return Err(self.malformed(format!("ends within {what}")));
        }
        Ok(())
    }

    /// Moves to a place. Only where [`can_look_ahead`](Self::can_look_ahead).
    pub fn go_to(&mut self, at: u64) -> Result<()> {
        if let Some(seek) = self.seek {
            let to = if self.lost {
                SeekFrom::Start(at)
            } else {
                SeekFrom::Current(at.cast_signed() - self.at.cast_signed())
            };
            self.lost = true;
            seek(&mut self.reader, to).map_err(|error| io_error("reading", &self.path, &error))?;
            (self.at, self.lost) = (at, false);
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
        let found = read(self);
        self.go_to(start)?;
        found
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
