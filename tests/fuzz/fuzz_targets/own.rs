//! The crate's own format, as it comes and with its checksums made right, so that what lies behind them
//! is reached.
#![no_main]
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    reason = "a target fails by panicking, and none calls all that it shares with the test"
)]

#[path = "../memory.rs"]
mod memory;
#[path = "../own.rs"]
mod own;

use libfuzzer_sys::fuzz_target;
use std::{path::PathBuf, sync::LazyLock};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fn check(file: &[u8], flat: bool) {
    let (loaded, held) = memory::most_held(|| own::load(file, flat));
    assert!(held <= own::allowed(file), "{held} bytes held");
    if let Ok(again) = loaded {
        assert_eq!(own::load(&again, flat).unwrap(), again);
    }
    let path: PathBuf = FOLDER.path().join("file");
    std::fs::write(&path, file).unwrap();
    let (_, held) = memory::most_held(|| own::load_file(&path, flat));
    assert!(held <= own::allowed(file), "{held} bytes held, on the disk");
}

fuzz_target!(
    init: {
        rayon::broadcast(|_| ());
        check(&[], true);
    },
    |file: &[u8]| {
        let mut sealed = file.to_vec();
        own::reseal(&mut sealed);
        for flat in [true, false] {
            check(&sealed, flat);
        }
        if sealed != file {
            let _ = own::load(file, true);
            let _ = own::load(file, false);
        }
    }
);
