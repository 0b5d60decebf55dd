//! The container of version 1: header, table of sections, sections with checksums.
//!
//! Knows nothing of indexes. Everything is written and read in one pass, so that pipes will do.

use crate::{
    error::{Error, Result},
    persist::{corrupt, io},
};
use bytemuck::Pod;
use std::{
    borrow::Cow,
    fmt,
    io::{Read, Write},
};
use xxhash_rust::xxh3::Xxh3Default;

/// A first byte no text has, the name, and line ends that a transfer as text would change.
pub(crate) const MAGIC: [u8; 8] = *b"\x89BIVF\r\n\x1a";
/// Bytes of the header, and what sections are aligned to.
pub(crate) const HEADER: usize = 64;
const ENTRY: usize = 32;
/// Sections a file has at most.
const MAX_SECTIONS: u32 = 64;
/// The flag of a section that a reader must know.
const REQUIRED: u32 = 1;

/// Numbers that are stored little-endian.
pub(crate) trait Word: Pod {
    fn swap(self) -> Self;
}

macro_rules! word {
    ($($type:ident),+) => {$(
        impl Word for $type {
            fn swap(self) -> Self {
                Self::from_le_bytes(self.to_ne_bytes())
            }
        }
    )+};
}

word!(u8, u16, u64, i64, f32);

/// Values as bytes of the file; copied only on a big-endian machine.
pub(crate) fn bytes_of<T: Word>(values: &[T]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        let swapped: Vec<T> = values.iter().map(|v| v.swap()).collect();
        Cow::Owned(bytemuck::cast_slice(&swapped).to_vec())
    }
}

/// The name of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(pub [u8; 4]);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "section {}", self.0.escape_ascii())
    }
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub tag: Tag,
    /// Whether a reader that does not know it must refuse the file.
    pub required: bool,
    pub offset: u64,
    pub length: u64,
}

impl Section {
    /// The first byte after its checksum.
    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.length)?.checked_add(8)
    }
}

/// The first offset at or after `at` where a section may begin.
fn aligned(at: u64) -> Option<u64> {
    at.checked_next_multiple_of(HEADER as u64)
}

fn too_long() -> Error {
    corrupt("section table", "lengths exceed 2⁶⁴ bytes")
}

/// Sections of these lengths, one after the other, and the length of the file.
fn place(sections: &[(Tag, bool, u64)]) -> Result<(Vec<Section>, u64)> {
    let mut at = aligned((HEADER + ENTRY * sections.len()) as u64).ok_or_else(too_long)?;
    let mut placed = Vec::with_capacity(sections.len());
    for &(tag, required, length) in sections {
        let section = Section {
            tag,
            required,
            offset: at,
            length,
        };
        at = section.end().and_then(aligned).ok_or_else(too_long)?;
        placed.push(section);
    }
    Ok((placed, at))
}

fn header(version: u32, kind: u32, sections: &[Section], total: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER + ENTRY * sections.len());
    header.extend(MAGIC);
    header.extend(version.to_le_bytes());
    header.extend(kind.to_le_bytes());
    header.extend((sections.len() as u32).to_le_bytes());
    header.extend([0; 4]);
    header.extend(total.to_le_bytes());
    header.resize(HEADER, 0);
    for section in sections {
        header.extend(section.tag.0);
        header.extend((u32::from(section.required) * REQUIRED).to_le_bytes());
        header.extend(section.offset.to_le_bytes());
        header.extend(section.length.to_le_bytes());
        header.extend([0; 8]);
    }
    let sum = header_sum(&header);
    header[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The checksum of header and table, without the place where it stands.
fn header_sum(header: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(&header[..HEADER - 8]);
    hash.update(&header[HEADER..]);
    hash.digest()
}

/// Writes a file front to back.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    at: u64,
    sections: std::vec::IntoIter<Section>,
}

impl<W: Write> Writer<W> {
    /// Writes header and table of a file with these sections: (tag, required, length).
    pub fn new(out: W, version: u32, kind: u32, sections: &[(Tag, bool, u64)]) -> Result<Self> {
        let (sections, total) = place(sections)?;
        let header = header(version, kind, &sections, total);
        let mut writer = Self {
            out,
            at: 0,
            sections: sections.into_iter(),
        };
        writer.raw(&header)?;
        Ok(writer)
    }

    /// Writes the next section whole.
    pub fn put(&mut self, tag: Tag, bytes: &[u8]) -> Result<()> {
        self.open(tag)?;
        self.raw(bytes)?;
        self.close(xxhash_rust::xxh3::xxh3_64(bytes))
    }

    /// Begins the next section: its bytes are to follow by [`raw`](Self::raw), then
    /// [`close`](Self::close).
    pub fn open(&mut self, tag: Tag) -> Result<()> {
        let next = self.sections.next();
        debug_assert_eq!(next.map(|s| s.tag), Some(tag), "sections as announced");
        self.pad()
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(|e| io("writing an index", &e))
    }

    /// Ends a section with the checksum of its bytes.
    pub fn close(&mut self, sum: u64) -> Result<()> {
        self.raw(&sum.to_le_bytes())
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<()> {
        self.pad()?;
        self.out.flush().map_err(|e| io("writing an index", &e))
    }

    fn pad(&mut self) -> Result<()> {
        let zeros = aligned(self.at).ok_or_else(too_long)? - self.at;
        self.raw(&[0; HEADER][..zeros as usize])
    }
}

/// Reads a file front to back.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    at: u64,
    /// Whether the file is known to be as long as its header says.
    bounded: bool,
    total: u64,
    pub kind: u32,
    sections: Vec<Section>,
    next: usize,
}

/// A section while it is read.
pub(crate) struct Open {
    pub section: Section,
    pub hash: Xxh3Default,
}

impl<R: Read> Reader<R> {
    /// Reads header and table, whose version has been read to be `version` (`head`: the first 16
    /// bytes); `length` is the file's, where it is known.
    pub fn new(mut input: R, head: [u8; 16], length: Option<u64>) -> Result<Self> {
        let part = "header";
        let mut header = head.to_vec();
        header.resize(HEADER, 0);
        read_exact(&mut input, &mut header[head.len()..], part)?;
        let count = u32_at(&header, 16);
        if count > MAX_SECTIONS {
            let reason = format!("{count} sections, at most {MAX_SECTIONS} are allowed");
            return Err(corrupt(part, reason));
        }
        header.resize(HEADER + ENTRY * count as usize, 0);
        read_exact(&mut input, &mut header[HEADER..], "section table")?;
        let (expected, found) = (u64_at(&header, HEADER - 8), header_sum(&header));
        if expected != found {
            return Err(Error::Checksum {
                part: "the header".to_owned(),
                expected,
                found,
            });
        }
        let total = u64_at(&header, 24);
        match length {
            Some(length) if length < total => {
                return Err(Error::Truncated {
                    part: format!("its sections, after {length} of {total} bytes"),
                });
            }
            Some(length) if length > total => {
                let reason = format!("{} bytes after the end", length - total);
                return Err(corrupt("file", reason));
            }
            _ => {}
        }
        let sections = table(&header, total)?;
        Ok(Self {
            input,
            at: header.len() as u64,
            bounded: length.is_some(),
            total,
            kind: u32_at(&header, 12),
            sections,
            next: 0,
        })
    }

    /// Whether lengths in the table are known to be there.
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// The section that comes next, of those this reader was told of (`known`): others are passed
    /// over, unless they are required.
    pub fn peek(&mut self, known: &[Tag]) -> Result<Option<Section>> {
        while let Some(&section) = self.sections.get(self.next) {
            if known.contains(&section.tag) {
                return Ok(Some(section));
            }
            if section.required {
                return Err(Error::UnknownInFile {
                    what: "a required section:",
                    found: section.tag.0.escape_ascii().to_string(),
                    known: "those of format version 1",
                });
            }
            let mut open = self.begin()?;
            let (mut left, mut buffer) = (section.length, Vec::<u8>::new());
            while left > 0 {
                let step = left.min(STEP as u64) as usize;
                self.values(&mut open, &mut buffer, step)?;
                left -= step as u64;
            }
            self.close(open)?;
        }
        Ok(None)
    }

    /// Begins section `tag`, which must come next and have `length` bytes.
    pub fn open(&mut self, tag: Tag, length: Option<u64>, known: &[Tag]) -> Result<Open> {
        match self.peek(known)? {
            Some(section) if section.tag == tag => match length {
                Some(length) if length != section.length => Err(corrupt(
                    tag.to_string(),
                    format!("{} bytes, expected {length}", section.length),
                )),
                _ => self.begin(),
            },
            found => Err(corrupt(
                tag.to_string(),
                match found {
                    Some(found) => format!("missing, {} is in its place", found.tag),
                    None => "missing".to_owned(),
                },
            )),
        }
    }

    fn begin(&mut self) -> Result<Open> {
        let section = self.sections[self.next];
        self.next += 1;
        self.padding(section.offset)?;
        Ok(Open {
            section,
            hash: Xxh3Default::new(),
        })
    }

    /// Reads the next `count` values of an open section into `buffer`, which then holds just them.
    /// Room is made as bytes arrive, unless the file is known to have them.
    pub fn values<T: Word>(
        &mut self,
        open: &mut Open,
        buffer: &mut Vec<T>,
        count: usize,
    ) -> Result<()> {
        buffer.truncate(count);
        let mut have = 0;
        while have < count {
            if buffer.len() == have {
                let step = if self.bounded {
                    count
                } else {
                    (STEP / size_of::<T>()).max(have)
                };
                let len = count.min(have + step);
                buffer.reserve_exact(len - have);
                buffer.resize(len, T::zeroed());
            }
            let fresh = &mut buffer[have..];
            have += fresh.len();
            self.fill(open, fresh)?;
        }
        Ok(())
    }

    /// Reads the next values of an open section, as many as `values` holds.
    pub fn fill<T: Word>(&mut self, open: &mut Open, values: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        self.at += bytes.len() as u64;
        let read = self.input.read_exact(bytes);
        read.map_err(|e| failed(&e, &open.section.tag.to_string()))?;
        open.hash.update(bytes);
        if cfg!(target_endian = "big") {
            for value in values {
                *value = value.swap();
            }
        }
        Ok(())
    }

    /// Ends an open section: its checksum must be right.
    pub fn close(&mut self, open: Open) -> Result<()> {
        let part = open.section.tag.to_string();
        let mut expected = [0; 8];
        read_exact(&mut self.input, &mut expected, &part)?;
        self.at += 8;
        let (expected, found) = (u64::from_le_bytes(expected), open.hash.digest());
        if expected != found {
            return Err(Error::Checksum {
                part,
                expected,
                found,
            });
        }
        Ok(())
    }

    /// Reads a whole section of values.
    pub fn take<T: Word>(
        &mut self,
        tag: Tag,
        count: Option<usize>,
        known: &[Tag],
    ) -> Result<Vec<T>> {
        let bytes = match count {
            None => None,
            Some(count) => Some(
                (count as u64)
                    .checked_mul(size_of::<T>() as u64)
                    .ok_or_else(too_long)?,
            ),
        };
        let mut open = self.open(tag, bytes, known)?;
        let (count, rest) = (
            open.section.length / size_of::<T>() as u64,
            open.section.length % size_of::<T>() as u64,
        );
        let count = usize::try_from(count).map_err(|_| too_long())?;
        if rest > 0 {
            let reason = format!("{} bytes are no whole values", open.section.length);
            return Err(corrupt(tag.to_string(), reason));
        }
        let mut values = Vec::new();
        self.values(&mut open, &mut values, count)?;
        self.close(open)?;
        Ok(values)
    }

    /// Reads to the end: no section may be left that had to be known.
    pub fn finish(&mut self) -> Result<()> {
        if let Some(section) = self.peek(&[])? {
            return Err(corrupt(section.tag.to_string(), "not expected here"));
        }
        self.padding(self.total)
    }

    /// Zeros up to `to`.
    fn padding(&mut self, to: u64) -> Result<()> {
        let mut zeros = [0; HEADER];
        let zeros = &mut zeros[..(to - self.at) as usize];
        read_exact(&mut self.input, zeros, "padding")?;
        self.at = to;
        if zeros.iter().any(|&byte| byte != 0) {
            return Err(corrupt("padding", "bytes between sections are not zero"));
        }
        Ok(())
    }

    /// Where a section lies that is still to come.
    pub fn find(&self, tag: Tag) -> Option<Section> {
        let ahead = &self.sections[self.next..];
        ahead.iter().find(|section| section.tag == tag).copied()
    }
}

/// Bytes for which room is made before any arrives.
const STEP: usize = 1 << 20;

/// The table of a header whose checksum is right: sections one after the other, in the one way
/// [`place`] puts them.
fn table(header: &[u8], total: u64) -> Result<Vec<Section>> {
    let part = "section table";
    let entries = header[HEADER..].chunks_exact(ENTRY);
    let mut at = aligned(header.len() as u64).ok_or_else(too_long)?;
    let mut sections = Vec::with_capacity(entries.len());
    for entry in entries {
        let flags = u32_at(entry, 4);
        let mut tag = [0; 4];
        tag.copy_from_slice(&entry[..4]);
        let section = Section {
            tag: Tag(tag),
            required: flags & REQUIRED != 0,
            offset: u64_at(entry, 8),
            length: u64_at(entry, 16),
        };
        if section.offset != at {
            let reason = format!(
                "{} begins at {}, expected {at}",
                section.tag, section.offset
            );
            return Err(corrupt(part, reason));
        }
        if sections.iter().any(|s: &Section| s.tag == section.tag) {
            return Err(corrupt(part, format!("{} is there twice", section.tag)));
        }
        if flags & !REQUIRED != 0 || u64_at(entry, 24) != 0 {
            let reason = format!("{} has flags of a later version", section.tag);
            return Err(corrupt(part, reason));
        }
        at = section.end().and_then(aligned).ok_or_else(too_long)?;
        sections.push(section);
    }
    if at != total {
        let reason = format!("sections end at {at}, the file at {total}");
        return Err(corrupt(part, reason));
    }
    if header[20..24] != [0; 4] || header[32..HEADER - 8].iter().any(|&b| b != 0) {
        return Err(corrupt("header", "reserved bytes are not zero"));
    }
    Ok(sections)
}

/// What a failed read means.
fn failed(error: &std::io::Error, part: &str) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        Error::Truncated {
            part: part.to_owned(),
        }
    } else {
        io(format!("reading {part}"), error)
    }
}

pub(crate) fn read_exact(input: &mut impl Read, bytes: &mut [u8], part: &str) -> Result<()> {
    input.read_exact(bytes).map_err(|e| failed(&e, part))
}

/// The little-endian number at `at`; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// As [`u32_at`].
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
