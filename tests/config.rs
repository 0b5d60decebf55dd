//! Where tuned thresholds come from, as a process meets it: variables, a file found upwards, the
//! device's defaults, and what is said in the log about what cannot be used.
//! That no configuration changes an answer is a case of the suite (`suite/config.rs`).
#![allow(missing_docs, clippy::unwrap_used)]

use burn_ivf::{Config, DeviceKey, Knob, Source, Tuning};
use std::{cell::RefCell, fs, path::Path, sync::Once};

thread_local! {
    static RECORDS: RefCell<Vec<(log::Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the records of each thread.
struct Keeper;

impl log::Log for Keeper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let record = (record.level(), record.args().to_string());
        RECORDS.with_borrow_mut(|records| records.push(record));
    }

    fn flush(&self) {}
}

const KNOB: Knob = Knob::ListMajorFromQueries;

/// Loads a configuration, as a process in `folder` would: the value of one knob, its source, and
/// the warnings logged.
fn run(variables: &[(&str, &str)], folder: &Path) -> (f64, Source, Vec<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Keeper).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    RECORDS.take();
    let variables = variables.iter().map(|&(n, v)| (n.into(), v.into()));
    let config = Config::load(variables, folder);
    let records = RECORDS.take();
    assert!(records.iter().all(|(level, _)| *level == log::Level::Warn));
    let logged: Vec<String> = records.into_iter().map(|(_, text)| text).collect();
    assert_eq!(logged, config.warnings());
    let device = DeviceKey {
        backend: "cpu".into(),
        ..DeviceKey::default()
    };
    let tuning = Tuning::resolve(&device, true, &config);
    (tuning.get(KNOB), tuning.source(KNOB).clone(), logged)
}

/// A folder below one that holds the file.
fn below(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("burn-ivf.toml"), text).unwrap();
    let below = folder.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    (folder, below)
}

/// J6: environment before file before the device's own value, one knob in three runs.
#[test]
fn j6_environment_file_default() {
    let variable = KNOB.variable();
    assert_eq!(variable, "BURN_IVF_LIST_MAJOR_FROM_QUERIES");
    let (folder, below) = below("list_major_from_queries = 5\n");
    let path = folder.path().join("burn-ivf.toml");
    let file = Source::File { path, device: None };
    for (variables, folder, value, source) in [
        (
            &[(&*variable, "7")][..],
            &*below,
            7.0,
            Source::Environment(variable.clone()),
        ),
        (&[], &below, 5.0, file),
    ] {
        let (found, from, warnings) = run(variables, folder);
        assert_eq!((found, from), (value, source));
        assert_eq!(warnings, [""; 0]);
    }
    let empty = tempfile::tempdir().unwrap();
    let (found, from, warnings) = run(&[], empty.path());
    assert!(matches!(from, Source::Heuristic(_)), "{from}");
    assert_eq!((found, warnings.len()), (2.0, 0));
}

/// J6: a malformed value is named in a warning and the next source counts.
#[test]
fn j6_malformed_values_fall_through() {
    let (_folder, below) = below("list_major_from_queries = 5\n");
    for text in ["many", "", "-1", "2.5", "4294967296", "nan", "inf"] {
        let (value, source, warnings) = run(&[(&KNOB.variable(), text)], &below);
        assert_eq!((value, warnings.len()), (5.0, 1), "{text:?}");
        assert!(matches!(source, Source::File { .. }));
        for word in [&*KNOB.variable(), text, "0 to 4294967295", "queries"] {
            assert!(warnings[0].contains(word), "{word}: {warnings:?}");
        }
    }
    // both at once: the device's value is left
    let (_folder, below) = self::below("list_major_from_queries = 'five'\n");
    let (value, source, warnings) = run(&[(&KNOB.variable(), "seven")], &below);
    assert!(matches!(source, Source::Heuristic(_)));
    assert_eq!((value, warnings.len()), (2.0, 2));
    assert!(warnings[0].contains("seven") && warnings[1].contains("five"));
}

/// J6: what is no knob is named in a warning, and the rest is used.
#[test]
fn j6_unknown_keys_warn() {
    let (_folder, below) = below("list_major_from_queries = 5\nlist_major_from = 3\n");
    let (value, _, warnings) = run(&[("BURN_IVF_LIST_MAJOR", "1")], &below);
    assert_eq!((value, warnings.len()), (5.0, 2));
    for (warning, unknown) in warnings
        .iter()
        .zip(["BURN_IVF_LIST_MAJOR", "list_major_from"])
    {
        for word in [unknown, "unknown", "list_major_from_queries"] {
            assert!(warning.contains(word), "{word}: {warning}");
        }
    }
}

/// A file that is named is the only one; without one, or with a broken one, the rest holds.
#[test]
fn files_that_are_named() {
    let (folder, below) = below("list_major_from_queries = 5\n");
    let other = folder.path().join("other.toml");
    fs::write(&other, "list_major_from_queries = 6\n").unwrap();
    let named = |path: &Path| run(&[("BURN_IVF_CONFIG", path.to_str().unwrap())], &below);
    assert_eq!((named(&other).0, named(&other).2.len()), (6.0, 0));
    let (value, _, warnings) = named(&folder.path().join("none.toml"));
    assert_eq!((value, warnings.len()), (2.0, 1));
    assert!(
        warnings[0].contains("none.toml is not used"),
        "{warnings:?}"
    );
    fs::write(&other, "list_major_from_queries 6\n").unwrap();
    let (value, _, warnings) = named(&other);
    assert_eq!((value, warnings.len()), (2.0, 1));
    assert!(warnings[0].contains("line 1"), "{warnings:?}");
}
