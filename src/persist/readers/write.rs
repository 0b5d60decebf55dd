//! Writing vectors and ids; the file appears whole or not at all.

use super::VectorFormat;
use crate::{
    error::{Error, Result, illegal},
    persist::{save, sink::Sink, source::io_error},
};
use npyz::{AutoSerialize, WriteOptions, WriterBuilder};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

/// Writes vectors, f32 row-major `[n, d]`, as the format that the extension names: `.npy` (f32) or
/// `.fvecs`. What was at `path` is replaced when all is on the disk.
///
/// # Errors
/// [`Error::IllegalValue`] for d = 0 or values that are no whole rows; [`Error::UnknownName`] and
/// [`Error::Unsupported`] for another extension; [`Error::Io`].
pub fn write_vectors(path: impl AsRef<Path>, rows: &[f32], d: usize) -> Result<()> {
    let path = path.as_ref();
    let n = whole_rows(rows.len(), d)?;
    match VectorFormat::of(path)? {
        VectorFormat::Npy => to_file(path, |file| npy(file, path, rows, n, d)),
        VectorFormat::Fvecs => to_file(path, |file| prefixed(file, path, rows, d)),
        other => Err(unsupported(
            "vectors of f32",
            other,
            "npy and fvecs hold them",
        )),
    }
}

/// Writes ids, row-major `[n, width]`, as the format that the extension names: `.npy` (i64) or
/// `.ivecs` (i32). What was at `path` is replaced when all is on the disk.
///
/// # Errors
/// [`Error::IllegalValue`] for width = 0 or ids that are no whole rows; [`Error::IdOutOfRange`] for
/// an id that `.ivecs` cannot hold; [`Error::UnknownName`] and [`Error::Unsupported`] for another
/// extension; [`Error::Io`].
pub fn write_ids(path: impl AsRef<Path>, ids: &[i64], width: usize) -> Result<()> {
    let path = path.as_ref();
    let n = whole_rows(ids.len(), width)?;
    match VectorFormat::of(path)? {
        VectorFormat::Npy => to_file(path, |file| npy(file, path, ids, n, width)),
        VectorFormat::Ivecs => {
            let narrow: Vec<i32> = ids
                .iter()
                .enumerate()
                .map(|(at, &id)| {
                    let row = at / width;
                    i32::try_from(id).map_err(|_| Error::IdOutOfRange { row, id })
                })
                .collect::<Result<_>>()?;
            to_file(path, |file| prefixed(file, path, &narrow, width))
        }
        other => Err(unsupported("ids", other, "npy and ivecs hold them")),
    }
}

/// Writes a file by `write` and puts it at `path` when all of it is on the disk: at every instant the old
/// file or the new one is there, whole. A symbolic link is followed; a file that is replaced keeps its
/// permissions. On an error nothing is left of the new file; a process that is killed may leave
/// `.<name>.<random>.tmp` beside it.
///
/// # Errors
/// What `write` returns; [`Error::Io`], also for a `path` that is no regular file.
pub fn replace_file<E: From<Error>>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    save(path.as_ref(), write)
}

/// Rows of `d` in `values` values.
fn whole_rows(values: usize, d: usize) -> Result<usize> {
    if d == 0 || i32::try_from(d).is_err() {
        return Err(illegal("d", d, "1 to 2^31 - 1"));
    }
    if !values.is_multiple_of(d) {
        return Err(illegal("values", values, "a multiple of d: whole rows"));
    }
    Ok(values / d)
}

fn unsupported(what: &str, format: VectorFormat, remedy: &'static str) -> Error {
    Error::Unsupported {
        what: format!("{what} as {format}"),
        action: "written",
        remedy,
    }
}

fn to_file(path: &Path, write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>) -> Result<()> {
    save(path, |file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
            .map_err(|error| io_error("writing", &path.display().to_string(), &error))
    })
}

fn npy<T: AutoSerialize + Copy>(
    file: &mut BufWriter<&mut File>,
    path: &Path,
    values: &[T],
    n: usize,
    d: usize,
) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut writer = WriteOptions::new()
            .default_dtype()
            .shape(&[n as u64, d as u64])
            .writer(file)
            .begin_nd()?;
        writer.extend(values.iter().copied())?;
        writer.finish()
    };
    write().map_err(|error| io_error("writing", &path.display().to_string(), &error))
}

fn prefixed<T: crate::persist::source::Number>(
    file: &mut BufWriter<&mut File>,
    path: &Path,
    values: &[T],
    d: usize,
) -> Result<()> {
    let mut sink = Sink::new(file, &path.display().to_string());
    for row in values.chunks_exact(d) {
        sink.number(d as i32)?;
        sink.numbers(row)?;
    }
    Ok(())
}
