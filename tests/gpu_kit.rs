//! The GPU kit (`benches/gpu`) on a machine without a GPU: everything but the kernels.
//!
//! Needs bash and python3; without them the reason is printed. Where the harness `sweep` is built for a
//! CPU backend beside this test (`cargo build --benches`), it runs; else a stand-in does.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking and prints why it was skipped"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// The newest harness built beside this test that knows the CPU backend.
fn harness() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let files = fs::read_dir(own.parent()?).ok()?.flatten();
    let named = files.map(|file| file.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("sweep-")) && path.extension().is_none()
    });
    let age = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified());
    let newest = named.max_by_key(|path| age(path).unwrap_or(SystemTime::UNIX_EPOCH))?;
    let said = Command::new(&newest)
        .args(["run", "--help"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.contains("[default: ndarray]").then_some(newest)
}

#[test]
fn the_kit_runs_dry() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("python3") || !there("bash") {
        eprintln!("skipped: the kit needs python3 and bash");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu/dry_run.py");
    let mut call = Command::new("python3");
    call.arg("-B").arg(script);
    match harness() {
        Some(sweep) => _ = call.arg("--sweep").arg(sweep),
        None => eprintln!("no harness is built beside this test: a stand-in runs"),
    }
    let done = call.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
