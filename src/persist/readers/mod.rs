//! Plain vectors in files: `.npy`, `.fvecs`, `.bvecs` and `.ivecs`, read block by block and written.
//!
//! ```
//! use burn_ivf::io::{VectorFile, write_ids, write_vectors};
//! # let folder = tempfile::tempdir().expect("a folder");
//! let path = folder.path().join("base.fvecs");
//! write_vectors(&path, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2)?;
//! let mut file = VectorFile::open(&path)?;
//! assert_eq!((file.len(), file.d()), (3, 2));
//! assert_eq!(file.read_block(1, 2)?, [3.0, 4.0, 5.0, 6.0]);
//! for block in file.blocks(2) {
//!     let rows = block?;                                  // [2, 2], then [1, 2]
//!     assert!(rows.len() <= 4);
//! }
//! # Ok::<(), burn_ivf::Error>(())
//! ```
//!
//! Memory is that of one block, whatever the file's size. Every figure of a file is checked against
//! its length before it is believed.

mod npy;
mod vecs;
mod write;

pub use write::{replace_file, write_ids, write_vectors};

use super::source::{Number, Source};
use crate::error::{Error, Result};
use core::{fmt, str::FromStr};
use half::f16;
use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
};

/// A format of files of vectors; its name is the files' extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorFormat {
    /// NumPy: f16, f32, f64, u8, i32 or i64, `[n, d]` or `[n]` (then d = 1), C order,
    /// little-endian.
    Npy,
    /// Rows of f32, the dimension as i32 before each.
    Fvecs,
    /// Rows of u8, the dimension as i32 before each.
    Bvecs,
    /// Rows of i32, the dimension as i32 before each.
    Ivecs,
}

impl VectorFormat {
    const ALL: [Self; 4] = [Self::Npy, Self::Fvecs, Self::Bvecs, Self::Ivecs];

    const fn name(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Fvecs => "fvecs",
            Self::Bvecs => "bvecs",
            Self::Ivecs => "ivecs",
        }
    }

    /// The format that a path's extension names.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for any other extension.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let extension = path.as_ref().extension().unwrap_or_default();
        extension.to_string_lossy().to_ascii_lowercase().parse()
    }
}

impl fmt::Display for VectorFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for VectorFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::UnknownName {
                what: "vector file extension",
                name: name.to_owned(),
                expected: "\"npy\", \"fvecs\", \"bvecs\" and \"ivecs\"",
            })
    }
}

/// How a file stores a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Element {
    /// 16-bit floats.
    F16,
    /// 32-bit floats.
    F32,
    /// 64-bit floats; read as the nearest f32.
    F64,
    /// Bytes.
    U8,
    /// 32-bit integers; as vectors the nearest f32.
    I32,
    /// 64-bit integers; as vectors the nearest f32.
    I64,
}

impl Element {
    /// Bytes of one.
    const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// Where the rows of a file lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    element: Element,
    d: usize,
    rows: usize,
    /// Byte of the first row.
    start: u64,
    /// Whether the dimension stands before each row.
    prefixed: bool,
}

impl Layout {
    /// Bytes of a row.
    fn stride(&self) -> u64 {
        (self.d * self.element.size()) as u64 + if self.prefixed { 4 } else { 0 }
    }
}

/// Vectors in a file.
#[derive(Debug)]
pub struct VectorFile<R = BufReader<File>> {
    source: Source<R>,
    layout: Layout,
}

impl VectorFile {
    /// Opens a file of the format that its extension names.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for another extension, [`Error::Io`], and those of
    /// [`from_reader`](VectorFile::from_reader).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let format = VectorFormat::of(path)?;
        Self::over(Source::open(path)?, format)
    }
}

impl<R: Read + Seek> VectorFile<R> {
    /// Vectors in anything that can be read and moved in, from its start.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a header that makes no sense, a dimension below 1, or a length that
    /// is not that of whole rows (with the row and where it begins); [`Error::Unsupported`] for
    /// other element types, more than two dimensions, Fortran order and big-endian files;
    /// [`Error::Io`].
    pub fn from_reader(reader: R, format: VectorFormat) -> Result<Self> {
        Self::over(Source::seekable(reader)?, format)
    }
}

impl<R: Read> VectorFile<R> {
    fn over(mut source: Source<R>, format: VectorFormat) -> Result<Self> {
        if source.left().is_none() {
            return Err(source.unsupported(
                "a pipe or device",
                "vectors are read from files, whose length is known",
            ));
        }
        let layout = match format {
            VectorFormat::Npy => npy::layout(&mut source)?,
            VectorFormat::Fvecs => vecs::layout(&mut source, Element::F32)?,
            VectorFormat::Bvecs => vecs::layout(&mut source, Element::U8)?,
            VectorFormat::Ivecs => vecs::layout(&mut source, Element::I32)?,
        };
        Ok(Self { source, layout })
    }

    /// Components of a row.
    pub fn d(&self) -> usize {
        self.layout.d
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.layout.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How components are stored.
    pub fn element(&self) -> Element {
        self.layout.element
    }

    /// Rows `start` to `start + rows` as f32, row-major `[rows, d]`.
    ///
    /// # Errors
    /// [`Error::IllegalValue`] for rows the file does not have, [`Error::Malformed`] for a row of
    /// another dimension (with its number and place), [`Error::Io`].
    pub fn read_block(&mut self, start: usize, rows: usize) -> Result<Vec<f32>> {
        let element = self.layout.element;
        let read = (start, rows);
        Ok(match element {
            Element::F32 => self.read::<f32>(read)?,
            Element::F16 => convert(&self.read::<u16>(read)?, |&x| f16::from_bits(x).to_f32()),
            Element::F64 => convert(&self.read::<f64>(read)?, |&x| x as f32),
            Element::U8 => convert(&self.read::<u8>(read)?, |&x| f32::from(x)),
            Element::I32 => convert(&self.read::<i32>(read)?, |&x| x as f32),
            Element::I64 => convert(&self.read::<i64>(read)?, |&x| x as f32),
        })
    }

    /// Rows `start` to `start + rows` as integers, row-major `[rows, d]`: ids, labels, ground truth.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a file of floats, and those of [`read_block`](Self::read_block).
    pub fn read_ids(&mut self, start: usize, rows: usize) -> Result<Vec<i64>> {
        let read = (start, rows);
        match self.layout.element {
            Element::U8 => Ok(convert(&self.read::<u8>(read)?, |&x| i64::from(x))),
            Element::I32 => Ok(convert(&self.read::<i32>(read)?, |&x| i64::from(x))),
            Element::I64 => self.read::<i64>(read),
            Element::F16 | Element::F32 | Element::F64 => Err(self.source.unsupported(
                "floats as ids",
                "ids are u8, i32 or i64; read vectors by read_block()",
            )),
        }
    }

    /// All rows, `rows` at a time (at least one): f32, row-major `[rows, d]`, the last perhaps
    /// shorter. Nothing comes after an error.
    pub fn blocks(&mut self, rows: usize) -> Blocks<'_, R> {
        Blocks {
            file: self,
            rows: rows.max(1),
            next: 0,
        }
    }

    /// The numbers of some rows.
    fn read<T: Number>(&mut self, (start, rows): (usize, usize)) -> Result<Vec<T>> {
        let Layout { d, rows: len, .. } = self.layout;
        if start.checked_add(rows).is_none_or(|end| end > len) {
            return Err(Error::IllegalValue {
                name: "rows",
                value: format!("{rows} from row {start}, of {len} rows"),
                expected: "rows of the file",
            });
        }
        let first = self.layout.start + start as u64 * self.layout.stride();
        self.source.go_to(first)?;
        if self.layout.prefixed {
            return vecs::read(&mut self.source, d, start, rows);
        }
        let mut out = Vec::new();
        self.source.append("rows", rows * d, &mut out)?;
        Ok(out)
    }
}

fn convert<T, U>(values: &[T], to: impl Fn(&T) -> U) -> Vec<U> {
    values.iter().map(to).collect()
}

/// The blocks of a file.
#[derive(Debug)]
pub struct Blocks<'a, R> {
    file: &'a mut VectorFile<R>,
    rows: usize,
    next: usize,
}

impl<R: Read> Iterator for Blocks<'_, R> {
    type Item = Result<Vec<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.min(self.file.len() - self.next);
        if rows == 0 {
            return None;
        }
        let block = self.file.read_block(self.next, rows);
        self.next = match block {
            Ok(_) => self.next + rows,
            Err(_) => self.file.len(),
        };
        Some(block)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let blocks = (self.file.len() - self.next).div_ceil(self.rows);
        // An error ends it early.
        (blocks.min(1), Some(blocks))
    }
}
