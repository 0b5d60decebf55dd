//! The files a command is to write, looked at before the work begins: what cannot be written, or would
//! replace what is read, is said at once.

use crate::output::{Done, Failure, usage};
use burn_ivf::io::VectorFormat;
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// Fails where a file to write is one that is read or written too, or cannot be made. Paths that are
/// not given count for nothing.
pub fn check<'a>(
    inputs: impl IntoIterator<Item = &'a Path>,
    outputs: impl IntoIterator<Item = Option<&'a PathBuf>>,
) -> Done {
    let mut taken: Vec<PathBuf> = inputs.into_iter().map(real).collect();
    for path in outputs.into_iter().flatten() {
        let own = real(path);
        if taken.contains(&own) {
            return usage(format!(
                "{} is read, or written twice, by this call; name another file to write",
                path.display()
            ));
        }
        possible(path)?;
        taken.push(own);
    }
    Ok(())
}

/// Fails where `path` does not end as one of these formats.
pub fn ends(path: Option<&PathBuf>, option: &str, formats: &[VectorFormat]) -> Done {
    let Some(path) = path else {
        return Ok(());
    };
    if VectorFormat::of(path).is_ok_and(|format| formats.contains(&format)) {
        return Ok(());
    }
    let names: Vec<String> = formats.iter().map(|format| format!(".{format}")).collect();
    usage(format!(
        "{option} {}: its name must end in {}",
        path.display(),
        names.join(" or ")
    ))
}

/// Fails where an index of this library would get the name of another kind of file.
pub fn own_index(path: &Path) -> Done {
    let faiss = path.extension() == Some(OsStr::new("faiss"));
    if faiss || VectorFormat::of(path).is_ok() {
        return usage(format!(
            "an index of this library in {} would be taken for another kind of file; name it .ivf{}",
            path.display(),
            if faiss {
                ", then `burn-ivf convert` it for faiss"
            } else {
                ""
            }
        ));
    }
    Ok(())
}

/// The file that a path means, whether it exists or not.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let folder = folder(path);
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    folder.join(path.file_name().unwrap_or_default())
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|path| *path != Path::new(""));
    folder.unwrap_or(Path::new("."))
}

/// Whether the folder is there and lets a file be made, and nothing but a file is in the way.
fn possible(path: &Path) -> Done {
    let failed = |what: String| Failure::Failed(format!("{}: {what}", path.display()));
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(failed("it exists and is no regular file".to_owned()));
    }
    // Where the target of a link is, the file is made.
    let real = real(path);
    let folder = folder(&real);
    if !folder.is_dir() {
        return Err(failed("there is no such folder to write to".to_owned()));
    }
    tempfile::NamedTempFile::new_in(folder)
        .map(drop)
        .map_err(|error| failed(format!("no file can be made in its folder: {error}")))
}
