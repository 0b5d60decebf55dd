//! What users say about the knobs: environment variables and a configuration file.
//!
//! Nothing here fails: what cannot be used is a warning, and the next source counts.

use super::knobs::{DeviceKey, Knob, Source};
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use toml::{Table, Value};

/// What the environment variables of this library begin with.
pub(super) const PREFIX: &str = "BURN_IVF_";
/// The variable that names the configuration file.
const CONFIG: &str = "BURN_IVF_CONFIG";
/// Variables of this name's form that are no knobs: the file, and the instruction set.
const OTHERS: [&str; 2] = [CONFIG, "BURN_IVF_ISA"];
/// The file looked for.
const FILE: &str = "burn-ivf.toml";
/// The table of a file that holds a table per device.
const DEVICE: &str = "device";

/// What users say about the knobs, and what was wrong with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    environment: [Option<f64>; Knob::ALL.len()],
    path: PathBuf,
    sections: Vec<Section>,
    warnings: Vec<String>,
}

/// Values for every device, or for one.
#[derive(Debug, Clone, Default, PartialEq)]
struct Section {
    device: Option<String>,
    values: [Option<f64>; Knob::ALL.len()],
}

impl Config {
    /// Takes what can be used from environment variables and a file's path and text (TOML).
    ///
    /// Variables whose name does not begin with `BURN_IVF_` are not looked at.
    pub fn parse(
        environment: impl IntoIterator<Item = (String, String)>,
        file: Option<(&Path, &str)>,
    ) -> Self {
        let mut config = Self::default();
        for (name, text) in environment {
            config.read_variable(&name, &text);
        }
        if let Some((path, text)) = file {
            path.clone_into(&mut config.path);
            match text.parse::<Table>() {
                Ok(table) => config.read_file(&table),
                Err(error) => {
                    let error = error.to_string();
                    let error = error.trim_end().replace('\n', " ");
                    config.warn(format!("{} is not used: {error}", path.display()));
                }
            }
        }
        config
    }

    /// The environment, and the file that `BURN_IVF_CONFIG` names or else the first
    /// `burn-ivf.toml` in `folder` and the folders above it. Warnings are logged.
    pub fn load(environment: impl IntoIterator<Item = (String, String)>, folder: &Path) -> Self {
        let environment: Vec<_> = environment.into_iter().collect();
        let named = environment.iter().find(|(name, _)| name == CONFIG);
        let path = match named {
            Some((_, path)) => Some(PathBuf::from(path)),
            None => find(folder),
        };
        let read = path.as_deref().map(|path| (path, fs::read_to_string(path)));
        let config = match &read {
            Some((path, Ok(text))) => Self::parse(environment, Some((path, text))),
            Some((path, Err(error))) => {
                let mut config = Self::parse(environment, None);
                config.warn(format!("{} is not used: {error}", path.display()));
                config
            }
            None => Self::parse(environment, None),
        };
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        config
    }

    /// That of this process, from its environment and current folder, read at the first call.
    pub fn process() -> &'static Self {
        static PROCESS: OnceLock<Config> = OnceLock::new();
        PROCESS.get_or_init(|| {
            // What is no Unicode is kept as something that is no number.
            let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
            let variables = env::vars_os().map(|(name, value)| (text(name), text(value)));
            Self::load(variables, &env::current_dir().unwrap_or_default())
        })
    }

    /// What could not be used, and why, in the order it was met.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The value of a knob for a device, from the environment or the file.
    pub(super) fn lookup(&self, knob: Knob, device: &DeviceKey) -> Option<(f64, Source)> {
        if let Some(value) = self.environment[knob as usize] {
            return Some((value, Source::Environment(knob.variable())));
        }
        let rank = |section: &Section| match &section.device {
            None => Some(None),
            Some(label) => device.rank(label).map(Some),
        };
        let given = self.sections.iter().filter_map(|section| {
            let value = section.values[knob as usize]?;
            Some((rank(section)?, value, section))
        });
        let (_, value, section) = given.max_by_key(|(rank, ..)| *rank)?;
        let source = Source::File {
            path: self.path.clone(),
            device: section.device.clone(),
        };
        Some((value, source))
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    fn read_variable(&mut self, name: &str, text: &str) {
        let Some(key) = name.strip_prefix(PREFIX) else {
            return;
        };
        if OTHERS.contains(&name) {
            return;
        }
        match Knob::from_name(&key.to_lowercase()) {
            Some(knob) => {
                let value = self.legal(knob, name, text, text.trim().parse().ok());
                self.environment[knob as usize] = value;
            }
            None => self.unknown(name),
        }
    }

    fn read_file(&mut self, table: &Table) {
        let mut all = Section::default();
        for (key, value) in table {
            match (key.as_str(), value) {
                (DEVICE, Value::Table(devices)) => {
                    for (device, value) in devices {
                        self.read_device(device, value);
                    }
                }
                _ => self.read_key(&mut all, key, value),
            }
        }
        self.sections.push(all);
    }

    fn read_device(&mut self, device: &str, value: &Value) {
        let mut section = Section {
            device: Some(device.to_owned()),
            ..Section::default()
        };
        if let Value::Table(table) = value {
            for (key, value) in table {
                self.read_key(&mut section, key, value);
            }
            self.sections.push(section);
        } else {
            let path = self.path.display();
            let text = format!("{path}: device.\"{device}\" is no table of knobs; it is not used");
            self.warn(text);
        }
    }

    fn read_key(&mut self, section: &mut Section, key: &str, value: &Value) {
        let what = match &section.device {
            Some(device) => format!("{}: device.\"{device}\".{key}", self.path.display()),
            None => format!("{}: {key}", self.path.display()),
        };
        let Some(knob) = Knob::from_name(key) else {
            self.unknown(&what);
            return;
        };
        let number = match value {
            Value::Integer(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        };
        section.values[knob as usize] = self.legal(knob, &what, &value.to_string(), number);
    }

    /// The value, or a warning.
    fn legal(&mut self, knob: Knob, what: &str, text: &str, value: Option<f64>) -> Option<f64> {
        let legal = value.filter(|&value| knob.allows(value));
        if legal.is_none() {
            let (expected, unit) = (knob.legal(), knob.unit());
            self.warn(format!(
                "{what} = {text} is not {expected} ({unit}); the next source is used"
            ));
        }
        legal
    }

    fn unknown(&mut self, what: &str) {
        let known = Knob::ALL.map(Knob::name).join(", ");
        self.warn(format!(
            "{what} is unknown and not used; there are {known}, and variables {PREFIX} with these names in capitals"
        ));
    }
}

/// The first configuration file in a folder or above it.
fn find(folder: &Path) -> Option<PathBuf> {
    let files = folder.ancestors().map(|folder| folder.join(FILE));
    files.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceKey {
        DeviceKey {
            backend: "cpu".into(),
            architecture: "avx2".into(),
            name: "Some CPU 7".into(),
        }
    }

    fn of(file: &str) -> Config {
        Config::parse([], Some((Path::new("f.toml"), file)))
    }

    #[test]
    fn the_nearest_table_of_a_file_counts() {
        let text = "csr_from_avg_group = 1\n\
                    [device.\"CPU 7\"]\ncsr_from_avg_group = 3\n\
                    [device.cpu]\ncsr_from_avg_group = 2\nlist_major_from_queries = 5\n\
                    [device.cuda]\ncsr_from_avg_group = 9";
        let config = of(text);
        assert_eq!(config.warnings(), [""; 0]);
        let found = |knob| config.lookup(knob, &device()).map(|(value, _)| value);
        assert_eq!(found(Knob::CsrFromAvgGroup), Some(3.0));
        assert_eq!(found(Knob::ListMajorFromQueries), Some(5.0));
        assert_eq!(found(Knob::ListMajorFromAvgGroup), None);
        let (value, source) = config
            .lookup(Knob::CsrFromAvgGroup, &DeviceKey::default())
            .unwrap();
        assert_eq!((value, source.to_string()), (1.0, "file f.toml".to_owned()));
    }

    #[test]
    fn an_illegal_value_leaves_the_next_table() {
        let config = of("csr_from_avg_group = 1\n[device.cpu]\ncsr_from_avg_group = -2.5");
        assert_eq!(config.warnings().len(), 1);
        for word in ["f.toml", "cpu", "csr_from_avg_group", "-2.5", "1000000000"] {
            assert!(config.warnings()[0].contains(word), "{config:?}");
        }
        let found = config.lookup(Knob::CsrFromAvgGroup, &device());
        assert_eq!(found.map(|(value, _)| value), Some(1.0));
    }

    #[test]
    fn whatever_cannot_be_used_is_named() {
        for (text, words) in [
            ("csr = 1", vec!["csr", "unknown", "csr_from_avg_group"]),
            (
                "[cpu]\ncsr_from_avg_group = 1",
                vec!["f.toml: cpu", "unknown"],
            ),
            ("device = 3", vec!["device", "unknown"]),
            ("[device]\ncpu = 3", vec!["device.\"cpu\"", "no table"]),
            ("csr_from_avg_group = '1'", vec!["\"1\"", "a number from 0"]),
            ("csr_from_avg_group = nan", vec!["nan", "a number from 0"]),
            ("list_major_from_queries = 1.5", vec!["1.5", "whole"]),
            (
                "csr_from_avg_group = ",
                vec!["f.toml is not used", "line 1"],
            ),
        ] {
            let config = of(text);
            assert_eq!(config.warnings().len(), 1, "{text}: {config:?}");
            for word in words {
                assert!(config.warnings()[0].contains(word), "{word}: {config:?}");
            }
            for knob in Knob::ALL {
                assert_eq!(config.lookup(knob, &device()), None, "{text}");
            }
        }
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let variables = [
            "HOME",
            "BURN_IVF_ISA",
            "BURN_IVF_CONFIG",
            "CSR_FROM_AVG_GROUP",
        ];
        let variables = variables.map(|name| (name.to_owned(), "x".to_owned()));
        assert_eq!(Config::parse(variables, None), Config::default());
    }
}
