//! Our own format: which version a file has, and its reader. `docs/format.md` gives every byte.

mod container;
mod pipeline;
mod v1;

use super::{Kind, Loaded, Saved, Settings, mapped::Located};
use crate::{
    backend::IvfBackend,
    error::{Error, Result},
};
use container::{MAGIC, Reader, read_exact, u32_at};
use std::io::{Read, Write};

/// The version that is written, and the newest that is read.
const NEWEST: u32 = 1;

/// Writes an index.
pub(crate) fn write<S: Settings, E: IvfBackend>(
    saved: &Saved<'_, S, E>,
    out: impl Write,
) -> Result<()> {
    v1::write(saved, out)
}

/// Reads an index onto `device`; `length` is that of the input, where it is known.
pub(crate) fn read<S: Settings, E: IvfBackend>(
    input: impl Read,
    length: Option<u64>,
    device: &E::Device,
) -> Result<Loaded<S, E>> {
    v1::read(reader::<_>(input, length, S::KIND)?, device)
}

/// Reads an index without keeping it: every check that needs no device.
pub(crate) fn check<S: Settings>(bytes: &[u8]) -> Result<()> {
    let length = Some(bytes.len() as u64);
    v1::check::<S>(reader(bytes, length, S::KIND)?)
}

/// Reads all but ids and vectors of a whole file in memory, and says where these are.
pub(crate) fn locate<S: Settings>(bytes: &[u8]) -> Result<Located<S>> {
    let length = Some(bytes.len() as u64);
    v1::locate(reader(bytes, length, S::KIND)?)
}

/// The header of a file of an index of this kind.
fn reader<R: Read>(mut input: R, length: Option<u64>, kind: Kind) -> Result<Reader<R>> {
    let mut head = [0; 16];
    let have = length.map_or(head.len(), |n| n.min(16) as usize);
    read_exact(&mut input, &mut head[..have], "header")?;
    let signature = &head[..have.min(MAGIC.len())];
    if signature != &MAGIC[..signature.len()] || have == 0 {
        return Err(Error::NotAnIndex {
            found: signature.to_vec(),
        });
    }
    if have < head.len() {
        return Err(Error::Truncated {
            part: "header".to_owned(),
        });
    }
    match u32_at(&head, MAGIC.len()) {
        1 => {}
        0 => return Err(super::corrupt("header", "there is no format version 0")),
        found => {
            return Err(Error::NewerFormat {
                found,
                newest: NEWEST,
            });
        }
    }
    let reader = Reader::new(input, head, length)?;
    v1::expect_kind(reader.kind, kind)?;
    Ok(reader)
}
