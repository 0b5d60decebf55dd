//! The crate's own format: readers as functions of bytes, and files made sound but for what was changed.

use burn::backend::NdArray;
use burn_ivf::{Error, IndexFlat, IndexIvfFlat};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

type B = NdArray;

/// From a stream, and written again.
pub fn load(file: &[u8], flat: bool) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if flat {
        IndexFlat::<B>::read_from(file, &Default::default())?.write_to(&mut bytes)?;
    } else {
        IndexIvfFlat::<B>::read_from(file, &Default::default())?.write_to(&mut bytes)?;
    }
    Ok(bytes)
}

/// As `load`, from a file on the disk, whose length is known from the start; then as a map.
pub fn load_file(path: &Path, flat: bool) -> Result<(), Error> {
    let device = Default::default();
    if flat {
        let mapped = IndexFlat::<B>::load_mmap(path, &device);
        let loaded = IndexFlat::<B>::load(path, &device).map(drop);
        let mapped = mapped.and_then(|mapped| mapped.verify());
        assert!(
            mapped.is_ok() == loaded.is_ok() || limited(&mapped),
            "{mapped:?} {loaded:?}"
        );
        loaded
    } else {
        let mapped = IndexIvfFlat::<B>::load_mmap(path, &device);
        let loaded = IndexIvfFlat::<B>::load(path, &device).map(drop);
        // Settings are judged by loading alone.
        let settings = matches!(loaded, Err(Error::IllegalValue { .. } | Error::ZeroNlist));
        let mapped = mapped.and_then(|mapped| mapped.verify());
        assert!(
            mapped.is_ok() == loaded.is_ok() || settings || limited(&mapped),
            "{mapped:?} {loaded:?}"
        );
        loaded
    }
}

/// Whether a sound file may be refused so: limits are mapping's alone, as are vectors of 16 bits.
fn limited(mapped: &Result<(), Error>) -> bool {
    matches!(
        mapped,
        Err(Error::IllegalValue { .. } | Error::Unsupported { .. })
    )
}

/// What a load may hold: ten times the file, and room for the pieces it is read in.
pub fn allowed(file: &[u8]) -> usize {
    10 * file.len() + (1 << 20)
}

/// A number in a file, little-endian.
pub fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(&file[at..at + bytes]);
    u64::from_le_bytes(word)
}

/// (entry, offset, length) of the sections that lie inside the file; written from docs/format.md.
pub fn sections(file: &[u8]) -> Vec<(usize, usize, usize)> {
    let count = number(file, 16, 4).min(64) as usize;
    let entries = (0..count)
        .map(|i| 64 + 32 * i)
        .filter(|at| at + 32 <= file.len());
    entries
        .map(|at| (at, number(file, at + 8, 8), number(file, at + 16, 8)))
        .filter(|&(_, offset, length)| {
            let end = offset
                .checked_add(length)
                .and_then(|end| end.checked_add(8));
            end.is_some_and(|end| end <= file.len() as u64)
        })
        .map(|(at, offset, length)| (at, offset as usize, length as usize))
        .collect()
}

/// Makes every checksum right.
pub fn reseal(file: &mut [u8]) {
    if file.len() < 64 {
        return;
    }
    for (_, offset, length) in sections(file) {
        let sum = xxh3_64(&file[offset..offset + length]).to_le_bytes();
        file[offset + length..offset + length + 8].copy_from_slice(&sum);
    }
    let end = 64 + 32 * number(file, 16, 4).min(64) as usize;
    let head = [&file[..56], &file[64..end.min(file.len()).max(64)]].concat();
    file[56..64].copy_from_slice(&xxh3_64(&head).to_le_bytes());
}
