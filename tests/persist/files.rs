//! Replacing files: whatever fails, the old file is there, whole, and nothing beside it.

use super::{B, bytes, flat, ivf};
use burn_ivf::{Error, IndexFlat, IndexIvfFlat};
use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    path::Path,
};

fn kind(result: Result<(), Error>) -> ErrorKind {
    match result.unwrap_err() {
        Error::Io { kind, .. } => kind,
        other => panic!("{other}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_file_is_replaced_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an.index");
    let (first, second) = (ivf(300, 8, 5, 1), ivf(200, 8, 4, 2));
    first.save(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes!(first));
    second.save(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes!(second));
    assert_eq!(names(folder.path()), ["an.index"]);
    let loaded = IndexIvfFlat::<B>::load(&path, &Default::default()).unwrap();
    assert_eq!(bytes!(loaded), bytes!(second));
    // load and read_from agree
    let file = fs::File::open(&path).unwrap();
    let streamed = IndexIvfFlat::<B>::read_from(file, &Default::default()).unwrap();
    assert_eq!(bytes!(streamed), bytes!(second));
}

#[cfg(unix)]
#[test]
fn permissions_and_links_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("a"), folder.path().join("link"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    fs::write(folder.path().join("plain"), "").unwrap();
    flat(3, 2, 1).save(&path).unwrap();
    assert_eq!(
        mode(&path),
        mode(&folder.path().join("plain")),
        "as any new file"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&path, &link).unwrap();
    flat(4, 2, 1).save(&link).unwrap();
    assert_eq!(mode(&path), 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(
        IndexFlat::<B>::load(&path, &Default::default())
            .unwrap()
            .ntotal(),
        4
    );
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (index, device) = (flat(3, 2, 1), Default::default());
    assert_eq!(kind(index.save(folder.path())), ErrorKind::InvalidInput);
    let absent = folder.path().join("no/such/folder");
    assert_eq!(kind(index.save(&absent)), ErrorKind::NotFound);
    assert_eq!(
        kind(IndexFlat::<B>::load(&absent, &device).map(drop)),
        ErrorKind::NotFound
    );
    let error = IndexFlat::<B>::load(folder.path(), &device).map(drop);
    assert_eq!(kind(error), ErrorKind::IsADirectory);
    if cfg!(target_os = "linux") {
        assert_eq!(kind(index.save("/dev/full")), ErrorKind::InvalidInput);
        assert!(Path::new("/dev/full").exists());
    }
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let words = index.save(folder.path()).unwrap_err().to_string();
    assert!(
        words.contains("regular file") && words.contains("write_to"),
        "{words}"
    );
}

/// A full disk, as the system's device for it plays it.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    for index in [flat(3, 2, 1), flat(4000, 64, 1)] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        assert_eq!(kind(index.write_to(full)), ErrorKind::StorageFull);
    }
}

/// A disk that fills up in the middle of a save: a process that may write 64 KiB per file.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an.index");
    let old = flat(100, 16, 1);
    old.save(&path).unwrap();
    let status = child("files::child_saves_too_much", &path)
        .wrapping("trap '' XFSZ; ulimit -f 128; exec \"$@\"")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(fs::read(&path).unwrap(), bytes!(old));
    assert_eq!(names(folder.path()), ["an.index"]);
}

#[test]
#[ignore = "a child process of the test above"]
fn child_saves_too_much() {
    let index = flat(4000, 64, 2);
    assert_eq!(kind(index.save(child_path())), ErrorKind::FileTooLarge);
}

/// A folder that may not be written to; as root, the attempt is made by another user.
#[cfg(unix)]
#[test]
fn a_read_only_folder_keeps_the_old_file() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an.index");
    let old = flat(100, 16, 1);
    old.save(&path).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = fs::write(folder.path().join("probe"), "").is_ok();
    let mut command = child("files::child_saves_where_it_may_not", &path).command;
    if is_root {
        fs::remove_file(folder.path().join("probe")).unwrap();
        command.uid(65534).gid(65534);
    }
    match command.status() {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(e) => eprintln!("skipped: no other user can run this test ({e})"),
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes!(old));
    assert_eq!(names(folder.path()), ["an.index"]);
}

#[test]
#[ignore = "a child process of the test above"]
fn child_saves_where_it_may_not() {
    let index = flat(5, 16, 2);
    assert_eq!(kind(index.save(child_path())), ErrorKind::PermissionDenied);
    assert_eq!(
        IndexFlat::<B>::load(child_path(), &Default::default())
            .unwrap()
            .ntotal(),
        100
    );
}

/// A run of one ignored test of this program in a process of its own.
pub struct Child {
    pub command: std::process::Command,
}

pub fn child(test: &str, path: &Path) -> Child {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--test-threads=1", "-q"])
        .env("BURN_IVF_TEST_PATH", path)
        .stdout(std::process::Stdio::null());
    Child { command }
}

impl Child {
    /// Run by a shell after these words.
    fn wrapping(self, words: &str) -> std::process::Command {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", words, "sh"])
            .arg(self.command.get_program());
        shell.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            shell.env(name, value.unwrap());
        }
        shell.stdout(std::process::Stdio::null());
        shell
    }
}

pub fn child_path() -> String {
    std::env::var("BURN_IVF_TEST_PATH").expect("run by another test")
}

/// Gives a few bytes at a time, and an interruption now and then.
struct Dripping<'a>(&'a [u8], usize);

impl Read for Dripping<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(5) {
            return Err(ErrorKind::Interrupted.into());
        }
        let n = out.len().min(1 + self.1 % 7);
        self.0.read(&mut out[..n])
    }
}

impl Write for Dripping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(5) {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(bytes.len().min(1000))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn short_reads_and_writes_are_gone_on_with() {
    let index = ivf(300, 8, 5, 1);
    let bytes = bytes!(index);
    let read = IndexIvfFlat::<B>::read_from(Dripping(&bytes, 0), &Default::default()).unwrap();
    assert_eq!(bytes!(read), bytes);
    index.write_to(Dripping(&[], 0)).unwrap();
}

/// Fails after some bytes, as a cable that is pulled.
struct Breaking<T>(T, usize);

impl<T: Read> Read for Breaking<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.1);
        self.1 -= n;
        if n == 0 {
            Err(ErrorKind::ConnectionReset.into())
        } else {
            self.0.read(&mut out[..n])
        }
    }
}

#[test]
fn a_stream_that_breaks_is_an_error() {
    let bytes = bytes!(ivf(300, 8, 5, 1));
    for at in (0..bytes.len()).step_by(61) {
        let stream = Breaking(bytes.as_slice(), at);
        let result = IndexIvfFlat::<B>::read_from(stream, &Default::default());
        assert_eq!(
            kind(result.map(drop)),
            ErrorKind::ConnectionReset,
            "after {at} bytes"
        );
    }
}

/// A pipe has no length; it is loaded as a stream.
#[cfg(unix)]
#[test]
fn a_pipe_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no mkfifo");
        return;
    }
    let bytes = bytes!(ivf(300, 8, 5, 1));
    let loaded = std::thread::scope(|scope| {
        scope.spawn(|| fs::write(&path, &bytes).unwrap());
        IndexIvfFlat::<B>::load(&path, &Default::default()).unwrap()
    });
    assert!(bytes!(loaded) == bytes);
    let mapped = IndexIvfFlat::<B>::load_mmap(folder.path(), &Default::default());
    assert_eq!(kind(mapped.map(drop)), ErrorKind::IsADirectory);
}
