//! The CUDA and HIP sources of all GPU kernels, without a GPU.
//!
//! Every operation is called on a device that is not there ([`recorder`]); what it launches is
//! compiled to source, looked over, and written to the folder `BURN_IVF_SOURCES` names (a folder
//! per architecture), where `.ci/cuda_sources` hands it to the real compilers. A kernel of this
//! crate that no call launched is a failure: call its operation in [`cases`].
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it compiled"
)]

mod cases;
mod recorder;
mod target;
mod targets;

use burn_ivf_kernels::device::Facts;
use cubecl::{cuda::CudaRuntime, hip::HipRuntime};
use recorder::Kernel;
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};
use target::{Architecture, Target};

#[test]
fn every_kernel_has_a_cuda_source() {
    check::<CudaRuntime>(&targets::CUDA, "cu");
}

#[test]
fn every_kernel_has_a_hip_source() {
    check::<HipRuntime>(&targets::HIP, "hip");
}

fn check<T: Target>(devices: &[(&str, Architecture)], extension: &str) {
    for &(name, device) in devices {
        let client = cases::run::<T>(device);
        let tape = client.info().lock().unwrap();
        assert!(tape.failures.is_empty(), "{name}: {:#?}", tape.failures);
        let launched: BTreeSet<_> = tape.kernels.iter().map(|k| k.path.clone()).collect();
        // CubeCL reaches no matrix units of AMD's that these take.
        let tensor_cores = Facts::of(&client).tensor_cores;
        let missing: Vec<_> = kernels()
            .difference(&launched)
            .filter(|kernel| tensor_cores || !kernel.ends_with("::keep_best_by_tensors"))
            .cloned()
            .collect();
        assert!(missing.is_empty(), "{name}: nothing launches {missing:?}");
        for kernel in &tape.kernels {
            if let Some(fault) = fault(&kernel.source) {
                panic!("{name}, {}, {}: {fault}", kernel.path, kernel.case);
            }
        }
        let folder = write(&folder().join(name), extension, &tape.kernels);
        eprintln!(
            "{} kernels for {name} in {}",
            tape.kernels.len(),
            folder.display()
        );
    }
}

/// All kernels of the crate, as `crate::module::function`.
fn kernels() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let module = path.strip_prefix(&root).unwrap().with_extension("");
            let module = module.to_str().unwrap().replace(['/', '\\'], "::");
            let module = module.strip_suffix("::mod").unwrap_or(&module).to_string();
            let text = fs::read_to_string(&path).unwrap();
            for launch in text.split("#[cube(launch").skip(1) {
                let name = launch.split("fn ").nth(1).unwrap();
                let name = name.split(['(', '<']).next().unwrap();
                found.insert(format!("burn_ivf_kernels::{module}::{name}"));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// What C++ does not take, though other languages do.
fn fault(source: &str) -> Option<String> {
    for constant in ["(inf)", "(-inf)", "(NaN)"] {
        if source.contains(constant) {
            return Some(format!("a constant {constant}"));
        }
    }
    source.split("reinterpret_cast<").skip(1).find_map(|cast| {
        let of = cast.split_once(">(")?.1;
        // Literals look like `7`, `-7`, `float(7)` or `uint32(7)`.
        let inner = of.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        inner
            .strip_prefix('(')
            .unwrap_or(of)
            .starts_with(|c: char| c.is_ascii_digit() || c == '-')
            .then(|| format!("a cast of a literal: {}", &of[..of.len().min(40)]))
    })
}

fn folder() -> PathBuf {
    std::env::var_os("BURN_IVF_SOURCES").map_or_else(
        || std::env::temp_dir().join("burn_ivf_sources"),
        PathBuf::from,
    )
}

/// Writes each kernel to a file of its own, what is known of it in the first lines.
fn write(folder: &Path, extension: &str, kernels: &[Kernel]) -> PathBuf {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    let mut counts = HashMap::new();
    for kernel in kernels {
        let name = kernel.path.rsplit("::").next().unwrap();
        let count = counts.entry(name).or_insert(0);
        *count += 1;
        let head = format!(
            "// case: {}\n// units: {}\n// shared: {}\n// choices: {}\n",
            kernel.case, kernel.units, kernel.shared_memory, kernel.choices
        );
        let file = folder.join(format!("{name}_{count:03}.{extension}"));
        fs::write(file, head + &kernel.source).unwrap();
    }
    folder.to_path_buf()
}
