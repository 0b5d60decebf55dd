//! Replacing a file so that at every instant the old one or the new one is there, whole.

use super::io;
use crate::error::{Error, Result};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Writes a file by `write` and puts it at `path`: into a temporary file in the same folder
/// (`.<name>.<random>.tmp`), to the disk, renamed, and the folder to the disk. On an error the
/// temporary file is removed and what was at `path` is untouched; after a crash a temporary file may
/// be left.
///
/// A symbolic link is followed; the permissions of a file that is replaced are kept.
pub(crate) fn save<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |what: &str, e: &std::io::Error| io(format!("{what} {}", path.display()), e);
    let target = target(path).map_err(|e| failed("saving to", &e))?;
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    let old = fs::metadata(&target).ok().map(|meta| meta.permissions());
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder
        .tempfile_in(folder)
        .map_err(|e| failed("making a temporary file beside", &e))?;
    if let Some(old) = old.filter(|old| !old.readonly()) {
        temporary
            .as_file()
            .set_permissions(old)
            .map_err(|e| failed("setting the permissions of", &e))?;
    }
    write(temporary.as_file_mut())?;
    temporary
        .as_file()
        .sync_all()
        .map_err(|e| failed("writing to the disk:", &e))?;
    temporary
        .persist(&target)
        .map_err(|e| failed("replacing", &e.error))?;
    sync_folder(folder).map_err(|e| failed("writing the folder to the disk:", &e))?;
    Ok(())
}

/// The file to replace: `path`, or what it links to. Only a regular file is replaced.
fn target(path: &Path) -> std::io::Result<PathBuf> {
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(path.to_owned()),
        meta => meta?,
    };
    let target = if meta.is_symlink() {
        fs::canonicalize(path)?
    } else {
        path.to_owned()
    };
    if fs::metadata(&target)?.is_file() {
        Ok(target)
    } else {
        let words = "it exists and is no regular file; use write_to() for pipes and devices";
        Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, words))
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Other systems cannot open a folder; their rename is as durable as they make it.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}
