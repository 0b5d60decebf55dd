//! Files seen as memory, read only.

use memmap2::Mmap;
use std::{fs::File, io};

/// A file mapped into memory.
///
/// The file must not be written or cut short while it is mapped: what is read then is undefined, and
/// reading past a new end stops the process (`SIGBUS`). Replacing it by renaming another one onto it,
/// as a save does, is fine: the map keeps the old contents.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps all of `file`, which must not be empty.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read only and its values are plain bytes, so any content is valid. That
        // nobody changes the file meanwhile cannot be enforced by the system; it is the caller's
        // side of the contract above, and this crate itself only ever replaces files by renaming.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(map))
    }

    /// The file's bytes; the first lies at a multiple of the page size.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
