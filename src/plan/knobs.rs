//! What can be tuned: names, units and legal ranges of the knobs, and the values in force for a
//! device, each with the source it came from.
//!
//! A knob decides how fast an answer comes, never what it is. Values are looked up, not measured
//! while running: [`super::tuning`] holds the built-in ones, [`super::config`] reads what users say.

use super::{config::Config, tuning};
use crate::error::{Error, Result};
use core::fmt;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// A threshold that may be set per device without changing any answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Knob {
    /// Average queries per list from which [`SearchMode::Auto`](crate::SearchMode::Auto) takes
    /// csr; below it takes matrix. 0 always takes csr.
    CsrFromAvgGroup,
    /// Average queries per list from which a fused scan reads list by list; below it reads query by
    /// query.
    ListMajorFromAvgGroup,
    /// Queries of one search from which a fused scan may read list by list.
    ListMajorFromQueries,
    /// Bytes of f32 rows that a search would read query by query, from which a fused scan may read list
    /// by list.
    ListMajorFromBytes,
    /// Queries of a tile at most where a GPU reads list by list: each row is read once for so many.
    /// Rounded down to a power of two.
    ScanTileQueries,
    /// Pairs that a queue of such a tile holds, those kept and those waiting: rounded up to a power of two,
    /// at least twice those kept.
    ScanQueuePairs,
    /// Rows of a list, or of a query's candidates, below which a GPU's cube is not worth launching.
    ScanRowsPerCube,
    /// Cubes that a GPU's scan wants per multiprocessor.
    ScanCubesPerProcessor,
    /// Units of a cube of a GPU's scan at most.
    ScanUnits,
    /// What keeps rows from being compared exactly where a GPU reads list by list: 0 nothing, 1 bounds by
    /// inner products in f32, 2 bounds by inner products of components rounded to bf16, on tensor cores (or
    /// by 1 where a device has none). The bounds are proven: answers are the same.
    ScanFilter,
}

/// What is known of a knob.
struct Spec {
    name: &'static str,
    unit: &'static str,
    least: f64,
    most: f64,
    whole: bool,
    legal: &'static str,
}

impl Knob {
    /// Every knob.
    pub const ALL: [Self; 10] = [
        Self::CsrFromAvgGroup,
        Self::ListMajorFromAvgGroup,
        Self::ListMajorFromQueries,
        Self::ListMajorFromBytes,
        Self::ScanTileQueries,
        Self::ScanQueuePairs,
        Self::ScanRowsPerCube,
        Self::ScanCubesPerProcessor,
        Self::ScanUnits,
        Self::ScanFilter,
    ];

    const fn spec(self) -> Spec {
        match self {
            Self::CsrFromAvgGroup => Spec {
                name: "csr_from_avg_group",
                unit: "queries per list",
                least: 0.0,
                most: 1e9,
                whole: false,
                legal: "a number from 0 to 1000000000",
            },
            Self::ListMajorFromAvgGroup => Spec {
                name: "list_major_from_avg_group",
                unit: "queries per list",
                least: 0.0,
                most: 1e9,
                whole: false,
                legal: "a number from 0 to 1000000000",
            },
            Self::ListMajorFromQueries => Spec {
                name: "list_major_from_queries",
                unit: "queries",
                least: 0.0,
                most: 4_294_967_295.0,
                whole: true,
                legal: "a whole number from 0 to 4294967295",
            },
            Self::ListMajorFromBytes => Spec {
                name: "list_major_from_bytes",
                unit: "bytes",
                least: 0.0,
                most: 1e15,
                whole: true,
                legal: "a whole number from 0 to 1000000000000000",
            },
            Self::ScanTileQueries => Spec {
                name: "scan_tile_queries",
                unit: "queries",
                least: 2.0,
                most: 256.0,
                whole: true,
                legal: "a whole number from 2 to 256",
            },
            Self::ScanQueuePairs => Spec {
                name: "scan_queue_pairs",
                unit: "pairs",
                least: 2.0,
                most: 4096.0,
                whole: true,
                legal: "a whole number from 2 to 4096",
            },
            Self::ScanRowsPerCube => Spec {
                name: "scan_rows_per_cube",
                unit: "rows",
                least: 1.0,
                most: 4_294_967_295.0,
                whole: true,
                legal: "a whole number from 1 to 4294967295",
            },
            Self::ScanCubesPerProcessor => Spec {
                name: "scan_cubes_per_processor",
                unit: "cubes",
                least: 1.0,
                most: 1024.0,
                whole: true,
                legal: "a whole number from 1 to 1024",
            },
            // Above 256 units the registers of the scan by list would not suffice.
            Self::ScanUnits => Spec {
                name: "scan_units",
                unit: "units",
                least: 32.0,
                most: 256.0,
                whole: true,
                legal: "a whole number from 32 to 256",
            },
            Self::ScanFilter => Spec {
                name: "scan_filter",
                unit: "kind of filter",
                least: 0.0,
                most: 2.0,
                whole: true,
                legal: "a whole number from 0 to 2",
            },
        }
    }

    /// Its name in a configuration file, e.g. `"csr_from_avg_group"`.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Its environment variable, e.g. `"BURN_IVF_CSR_FROM_AVG_GROUP"`.
    pub fn variable(self) -> String {
        format!("{}{}", super::config::PREFIX, self.name().to_uppercase())
    }

    /// What its value counts, e.g. `"queries per list"`.
    pub fn unit(self) -> &'static str {
        self.spec().unit
    }

    /// The values it may have, in words that name the bounds.
    pub fn legal(self) -> &'static str {
        self.spec().legal
    }

    /// The knob of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|knob| knob.name() == name)
    }

    /// Whether it may have that value.
    pub fn allows(self, value: f64) -> bool {
        let (whole, (least, most)) = (self.spec().whole, self.bounds());
        (least..=most).contains(&value) && !(whole && value.fract() != 0.0)
    }

    /// The smallest and the largest value it may have.
    pub fn bounds(self) -> (f64, f64) {
        let Spec { least, most, .. } = self.spec();
        (least, most)
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a device is called where values are looked up for it; what is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceKey {
    /// The kind of backend: `"cpu"`, `"cuda"`, `"hip"`, `"wgpu"`.
    pub backend: String,
    /// The instruction set of a CPU (`"avx512bf16"`), the shader language under wgpu (`"wgsl"`,
    /// `"spirv"`, `"msl"`), the generation of a GPU (`"sm_90"`).
    pub architecture: String,
    /// The model: `"NVIDIA H200"`.
    pub name: String,
}

impl DeviceKey {
    /// What a backend's name says: of `"cubecl<wgpu<spirv>>"` backend `"wgpu"` and architecture
    /// `"spirv"`.
    pub fn from_backend(name: &str) -> Self {
        let name = name.strip_prefix("cubecl<").unwrap_or(name);
        let mut parts = name.split(['<', '>']).map(str::to_owned);
        Self {
            backend: parts.next().unwrap_or_default(),
            architecture: parts.next().unwrap_or_default(),
            name: String::new(),
        }
    }

    /// How well a label names this device, larger is better: its name, its architecture, a part
    /// of its name (the longer the better), its backend. `None` when it names another device.
    /// Letters of either case match.
    pub(crate) fn rank(&self, label: &str) -> Option<usize> {
        const NAME: usize = usize::MAX;
        let lower = str::to_lowercase;
        let (label, name) = (lower(label), lower(&self.name));
        if label.is_empty() {
            None
        } else if label == name {
            Some(NAME)
        } else if label == lower(&self.architecture) {
            Some(NAME - 1)
        } else if name.contains(&label) {
            Some(label.len())
        } else if label == lower(&self.backend) {
            Some(0)
        } else {
            None
        }
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.backend, &self.architecture, &self.name];
        let known: Vec<&str> = parts.into_iter().map(String::as_str).collect();
        f.pad(known.join(" ").trim_end())
    }
}

/// Where a value came from, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// [`Tuning::with`].
    Call,
    /// This environment variable.
    Environment(String),
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The `[device."..."]` table it stood in; `None` at the top, for every device.
        device: Option<String>,
    },
    /// A measurement on such a device, kept in the library.
    Table {
        /// The row's label, a part of [`DeviceKey`].
        device: &'static str,
        /// Where and when it was measured.
        origin: &'static str,
    },
    /// What the kind of backend suggests; not measured on such a device.
    Heuristic(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call => f.write_str("set by a call"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::File { path, device } => {
                write!(f, "file {}", path.display())?;
                match device {
                    Some(device) => write!(f, ", [device.\"{device}\"]"),
                    None => Ok(()),
                }
            }
            Self::Table { device, origin } => write!(f, "built-in table, {device}: {origin}"),
            Self::Heuristic(reason) => write!(f, "heuristic: {reason}"),
        }
    }
}

/// The value of every knob for one device, with its source. Prints as a table.
///
/// ```
/// use burn_ivf::{Config, DeviceKey, Knob, Source, Tuning};
/// use std::path::Path;
/// let device = DeviceKey {
///     backend: "cuda".into(),
///     architecture: "sm_90".into(),
///     name: "NVIDIA H200".into(),
/// };
/// let file = "list_major_from_queries = 4\n[device.H200]\ncsr_from_avg_group = 2";
/// let environment = [("BURN_IVF_LIST_MAJOR_FROM_QUERIES".to_owned(), "8".to_owned())];
/// let config = Config::parse(environment, Some((Path::new("burn-ivf.toml"), file)));
/// let tuning = Tuning::resolve(&device, true, &config);
/// assert_eq!(tuning.get(Knob::ListMajorFromQueries), 8.0); // environment before file
/// assert_eq!(tuning.get(Knob::CsrFromAvgGroup), 2.0);
/// assert!(matches!(tuning.source(Knob::ListMajorFromAvgGroup), Source::Heuristic(_)));
/// println!("{tuning}");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    device: DeviceKey,
    settings: [(f64, Source); Knob::ALL.len()],
}

impl Tuning {
    /// The values for a device when `config` is all that users say. `fused_scan`: whether the
    /// backend scans lists by a kernel of its own
    /// ([`Capabilities`](crate::backend::Capabilities)). Depends on nothing else.
    pub fn resolve(device: &DeviceKey, fused_scan: bool, config: &Config) -> Self {
        let settings = Knob::ALL.map(|knob| {
            config
                .lookup(knob, device)
                .or_else(|| tuning::measured(knob, device))
                .unwrap_or_else(|| tuning::heuristic(knob, device, fused_scan))
        });
        Self {
            device: device.clone(),
            settings,
        }
    }

    /// The values in force in this process, by [`Config::process`]; resolved once per device.
    pub fn for_device(device: &DeviceKey, fused_scan: bool) -> Arc<Self> {
        type Known = Mutex<HashMap<(DeviceKey, bool), Arc<Tuning>>>;
        static KNOWN: OnceLock<Known> = OnceLock::new();
        let known = KNOWN.get_or_init(Known::default);
        // A value is whole once it is in the map, whatever another thread did since.
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let tuning = known
            .entry((device.clone(), fused_scan))
            .or_insert_with(|| Arc::new(Self::resolve(device, fused_scan, Config::process())));
        Arc::clone(tuning)
    }

    /// The same with one value set by hand, which comes before every other source.
    ///
    /// # Errors
    /// [`Error::IllegalValue`] for a value that [`Knob::allows`] does not allow.
    pub fn with(mut self, knob: Knob, value: f64) -> Result<Self> {
        if !knob.allows(value) {
            return Err(Error::IllegalValue {
                name: knob.name(),
                value: value.to_string(),
                expected: knob.legal(),
            });
        }
        self.settings[knob as usize] = (value, Source::Call);
        Ok(self)
    }

    /// The device these values are for.
    pub fn device(&self) -> &DeviceKey {
        &self.device
    }

    /// The value of a knob, in its [`unit`](Knob::unit).
    pub fn get(&self, knob: Knob) -> f64 {
        self.settings[knob as usize].0
    }

    /// Where that value came from.
    pub fn source(&self, knob: Knob) -> &Source {
        &self.settings[knob as usize].1
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tuning for {}", self.device)?;
        for knob in Knob::ALL {
            let (name, unit) = (knob.name(), knob.unit());
            let (value, source) = (self.get(knob), self.source(knob));
            write!(f, "\n  {name:<26} {value:>10} {unit:<17} {source}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h200() -> DeviceKey {
        DeviceKey {
            backend: "cuda".into(),
            architecture: "sm_90".into(),
            name: "NVIDIA H200".into(),
        }
    }

    #[test]
    fn knobs_are_where_their_numbers_say() {
        for (at, knob) in Knob::ALL.into_iter().enumerate() {
            assert_eq!(knob as usize, at);
            assert_eq!(Knob::from_name(knob.name()), Some(knob));
        }
        assert_eq!(Knob::from_name("csr"), None);
    }

    #[test]
    fn words_and_checks_name_the_same_bounds() {
        for knob in Knob::ALL {
            let numbers: Vec<f64> = knob
                .legal()
                .split(' ')
                .filter_map(|word| word.parse().ok())
                .collect();
            let [least, most] = numbers[..] else {
                panic!("{}", knob.legal());
            };
            assert!(knob.allows(least) && knob.allows(most), "{knob}");
            assert!(!knob.allows(least - 1.0) && !knob.allows(most + 1.0));
            assert!(!knob.allows(f64::NAN) && !knob.allows(f64::INFINITY));
            assert_eq!(knob.allows(0.5), !knob.legal().contains("whole"), "{knob}");
        }
    }

    #[test]
    fn labels_rank_name_architecture_part_backend() {
        let device = h200();
        let labels = ["nvidia h200", "SM_90", "NVIDIA", "H200", "cuda"];
        let ranks: Vec<usize> = labels.iter().filter_map(|l| device.rank(l)).collect();
        assert_eq!(ranks.len(), labels.len());
        assert!(ranks.is_sorted_by(|a, b| a > b), "{ranks:?}");
        for other in ["", "A100", "hip", "sm_80"] {
            assert_eq!(device.rank(other), None, "{other}");
        }
        assert_eq!(DeviceKey::default().rank(""), None);
    }

    #[test]
    fn names_of_backends_are_taken_apart() {
        for (name, backend, architecture) in [
            ("cubecl<cuda>", "cuda", ""),
            ("cubecl<wgpu<wgsl>>", "wgpu", "wgsl"),
            ("cubecl<wgpu<spirv>>", "wgpu", "spirv"),
            ("mine", "mine", ""),
            ("", "", ""),
        ] {
            let key = DeviceKey::from_backend(name);
            assert_eq!((&*key.backend, &*key.architecture), (backend, architecture));
        }
    }

    #[test]
    fn a_call_comes_first_and_is_checked() {
        let tuning = Tuning::resolve(&h200(), true, &Config::default());
        let set = tuning.clone().with(Knob::CsrFromAvgGroup, 3.0).unwrap();
        assert_eq!(set.get(Knob::CsrFromAvgGroup), 3.0);
        assert_eq!(set.source(Knob::CsrFromAvgGroup), &Source::Call);
        let error = tuning.with(Knob::ListMajorFromQueries, 1.5).unwrap_err();
        for word in ["list_major_from_queries", "1.5", "4294967295"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_process_resolves_a_device_once() {
        let (a, b) = (
            Tuning::for_device(&h200(), true),
            Tuning::for_device(&h200(), true),
        );
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &Tuning::for_device(&h200(), false)));
    }
}
