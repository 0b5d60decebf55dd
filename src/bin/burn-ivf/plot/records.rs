//! Records of searches: JSON lines of `bench --json`, of `cargo bench --bench sweep` and of benches/peers.

use crate::output::{Done, Failure, fail};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// One measured number of queries at once.
#[derive(Debug, Clone)]
pub struct Record {
    pub series: String,
    pub nq: f64,
    pub qps: f64,
}

/// The name of a line: the library, then mode and device where they say something.
pub fn series(library: &str, mode: &str, backend: &str) -> String {
    let extra: Vec<&str> = [mode, backend]
        .into_iter()
        .filter(|word| !word.is_empty() && *word != "auto")
        .collect();
    if extra.is_empty() {
        library.to_owned()
    } else {
        format!("{library} ({})", extra.join(", "))
    }
}

/// The records of a file; lines about something else are passed over.
pub fn read(path: &Path) -> Done<Vec<Record>> {
    let at =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| at(&error))?;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            return fail(format!(
                "{}, line {}: no JSON; pass JSON lines, one record each",
                path.display(),
                number + 1
            ));
        };
        found.extend(record(&value));
    }
    Ok(found)
}

fn record(value: &Value) -> Option<Record> {
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    let library = value.get("library")?.as_str()?;
    let nq = value.get("nq")?.as_f64()?;
    let qps = value.get("qps")?.as_f64()?;
    (nq > 0.0 && qps > 0.0).then(|| Record {
        series: series(library, word("mode"), word("backend")),
        nq,
        qps,
    })
}

/// A name and points, ascending by queries at once, per series in the order of appearance. Of
/// several records with the same number of queries the median counts.
pub fn lines(records: &[Record]) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        if !names.contains(&record.series.as_str()) {
            names.push(&record.series);
        }
    }
    let line = |name: &str| {
        let own: Vec<&Record> = records.iter().filter(|r| r.series == name).collect();
        let sizes: BTreeSet<u64> = own.iter().map(|r| r.nq as u64).collect();
        let at = |&nq: &u64| {
            let same = own.iter().filter(|r| r.nq as u64 == nq);
            let mut qps: Vec<f64> = same.map(|r| r.qps).collect();
            qps.sort_by(f64::total_cmp);
            (nq as f64, qps[qps.len() / 2])
        };
        (name.to_owned(), sizes.iter().map(at).collect())
    };
    names.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines() {
        let lines_of = [
            r#"{"library":"a","nq":8,"qps":2.0,"mode":"auto","backend":"ndarray"}"#,
            r#"{"library":"b","nq":1,"qps":5.0}"#,
            r#"{"library":"a","nq":1,"qps":1.0,"mode":"auto","backend":"ndarray"}"#,
            r#"{"library":"a","nq":1,"qps":9.0,"mode":"auto","backend":"ndarray"}"#,
            r#"{"library":"a","nq":1,"qps":3.0,"mode":"auto","backend":"ndarray"}"#,
            r#"{"kind":"environment"}"#,
        ];
        let records: Vec<Record> = lines_of
            .iter()
            .filter_map(|line| record(&serde_json::from_str(line).unwrap()))
            .collect();
        let expected = [
            ("a (ndarray)".to_owned(), vec![(1.0, 3.0), (8.0, 2.0)]),
            ("b".to_owned(), vec![(1.0, 5.0)]),
        ];
        assert_eq!(lines(&records), expected);
    }
}
