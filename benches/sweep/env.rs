//! The environment snapshot: everything a reader needs to judge a number. Every record carries the
//! snapshot's `env_id`. Nothing that changes from minute to minute belongs in here.

use crate::{Res, backends};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[derive(Serialize, Clone)]
pub struct Environment {
    pub cpu: String,
    pub cpu_flags: Vec<String>,
    pub cores: usize,
    pub memory_gib: Option<f64>,
    pub os: String,
    pub kernel: String,
    pub arch: &'static str,
    pub hostname: String,
    pub rustc: Option<String>,
    /// Instruction sets the compiler was allowed to use everywhere (not those chosen at run time).
    pub compiled_for: Vec<&'static str>,
    pub debug_assertions: bool,
    pub crate_version: &'static str,
    pub burn: Option<String>,
    pub cubecl: Option<String>,
    pub git: Option<String>,
    pub git_dirty: Option<bool>,
    pub backends: Vec<&'static str>,
    /// Per GPU backend: the adapter, or why none opens.
    pub gpus: BTreeMap<&'static str, String>,
    /// Thread-related variables that are set.
    pub variables: BTreeMap<&'static str, String>,
    pub rayon_threads: usize,
}

/// The few facts that stand in every record itself.
#[derive(Serialize, Clone)]
pub struct Host {
    pub name: String,
    pub cpu: String,
    pub cores: usize,
    pub threads: usize,
    pub os: String,
    pub arch: &'static str,
}

/// The knobs of a plan that variables set, as `name=value`.
pub fn knobs() -> Vec<String> {
    let set = |knob: burn_ivf::Knob| {
        Some(format!(
            "{}={}",
            knob.name(),
            std::env::var(knob.variable()).ok()?
        ))
    };
    burn_ivf::Knob::ALL.into_iter().filter_map(set).collect()
}

impl Environment {
    /// Looks at the machine. Opens every GPU backend of this build, so call it before using one.
    pub fn take() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let gpus = backends::gpus().into_iter();
        let gpus = gpus.map(|(name, found)| (name, found.unwrap_or_else(|why| why)));
        let lock = read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
        Self {
            cpu: cpu_field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cpu_flags: relevant_flags(&cpuinfo),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_gib(),
            os: os_name(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            arch: std::env::consts::ARCH,
            hostname: read("/proc/sys/kernel/hostname").trim().to_owned(),
            rustc: output("rustc", &["--version"]),
            compiled_for: compiled_for(),
            debug_assertions: cfg!(debug_assertions),
            crate_version: env!("CARGO_PKG_VERSION"),
            burn: locked_version(&lock, "burn"),
            cubecl: locked_version(&lock, "cubecl"),
            git: git(&["rev-parse", "--short=12", "HEAD"]),
            git_dirty: git(&["status", "--porcelain", "--untracked-files=no"])
                .map(|changes| !changes.is_empty()),
            backends: backends::names(),
            gpus: gpus.collect(),
            variables: variables(),
            rayon_threads: rayon::current_num_threads(),
        }
    }

    /// A short name for this snapshot: equal snapshots have equal ids.
    pub fn id(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        // FNV-1a, 64 bits; 48 of them are plenty to tell a handful of machines apart.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("{:012x}", hash >> 16)
    }

    /// Writes the snapshot beside a file of records, once per id, so that their `env_id` resolves.
    pub fn save_beside(&self, records: &Path) -> Res<()> {
        let path = records.with_extension(format!("env-{}.json", self.id()));
        if !path.exists() {
            std::fs::write(path, serde_json::to_string_pretty(self)?)?;
        }
        Ok(())
    }

    /// The card and its driver, as the backend of that name (`cuda-raw` as `cuda`) sees them.
    pub fn adapter(&self, backend: &str) -> Option<String> {
        let family = backend.split('-').next().unwrap_or_default();
        let wgpu = ["vulkan", "metal", "webgpu"].contains(&family);
        let name = if wgpu { "wgpu" } else { family };
        self.gpus.get(name).cloned()
    }

    pub fn host(&self) -> Host {
        Host {
            name: self.hostname.clone(),
            cpu: self.cpu.clone(),
            cores: self.cores,
            threads: self.rayon_threads,
            os: self.os.clone(),
            arch: self.arch,
        }
    }
}

/// The `env` sub-command: one JSON object.
pub fn print() -> Res<()> {
    let environment = Environment::take();
    let mut object = serde_json::to_value(&environment)?;
    object["env_id"] = environment.id().into();
    println!("{}", serde_json::to_string_pretty(&object)?);
    Ok(())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn cpu_field(cpuinfo: &str, name: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Of all CPU flags those that decide which vector code runs.
fn relevant_flags(cpuinfo: &str) -> Vec<String> {
    let all = cpu_field(cpuinfo, "flags")
        .or_else(|| cpu_field(cpuinfo, "Features"))
        .unwrap_or_default();
    let telling = |flag: &&str| {
        let starts = [
            "sse4", "avx", "fma", "f16c", "bmi", "amx", "asimd", "sve", "fphp", "bf16",
        ];
        starts.iter().any(|start| flag.starts_with(start))
    };
    all.split_whitespace()
        .filter(telling)
        .map(str::to_owned)
        .collect()
}

fn memory_gib() -> Option<f64> {
    let text = read("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kib / 1_048_576.0 * 10.0).round() / 10.0)
}

fn os_name() -> String {
    let release = read("/etc/os-release");
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || std::env::consts::OS.to_owned(),
        |n| n.trim_matches('"').to_owned(),
    )
}

/// Trimmed stdout of a command that succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.trim().to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut all = vec!["-C", env!("CARGO_MANIFEST_DIR")];
    all.extend(arguments);
    output("git", &all)
}

/// The version of `package` in a lock file's text.
fn locked_version(lock: &str, package: &str) -> Option<String> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(after.split_once('"')?.0.to_owned())
}

fn compiled_for() -> Vec<&'static str> {
    let all = [
        ("sse4.2", cfg!(target_feature = "sse4.2")),
        ("avx2", cfg!(target_feature = "avx2")),
        ("fma", cfg!(target_feature = "fma")),
        ("avx512f", cfg!(target_feature = "avx512f")),
        ("neon", cfg!(target_feature = "neon")),
    ];
    all.into_iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| name)
        .collect()
}

fn variables() -> BTreeMap<&'static str, String> {
    let names = [
        "RAYON_NUM_THREADS",
        "OMP_NUM_THREADS",
        "RUSTFLAGS",
        "CUDA_VISIBLE_DEVICES",
        "VK_DRIVER_FILES",
        "WGPU_BACKEND",
    ];
    let set = |name| Some((name, std::env::var(name).ok()?));
    names.into_iter().filter_map(set).collect()
}
