//! The backends this build holds, by name. The only file of the harness with backend features in it.

use crate::{Res, gpu::Tools};
use burn_ivf::IvfBackend;

/// Work that is generic over the backend; the name on the command line picks the type.
pub trait Job {
    fn run<B: IvfBackend>(self, device: B::Device) -> Res<()>;
}

macro_rules! backends {
    ($($name:literal, $feature:tt, $backend:ty;)*) => {
        /// Names of the backends compiled in, the default one first.
        pub fn names() -> Vec<&'static str> {
            Vec::from([$(#[cfg(feature = $feature)] $name),*])
        }

        /// Runs `job` on the default device of the backend called `name`.
        pub fn dispatch<J: Job>(name: &str, job: J) -> Res<()> {
            $(#[cfg(feature = $feature)]
            if name == $name {
                return job.run::<$backend>(Default::default());
            })*
            drop(job);
            let compiled = names().join(", ");
            Err(format!("no backend `{name}` in this build; compiled in: {compiled}").into())
        }
    };
}

backends! {
    "ndarray", "ndarray", burn::backend::NdArray;
    "flex", "flex", burn::backend::Flex;
    "cuda", "cuda", burn::backend::Cuda;
    "cuda-raw", "cuda", burn_cubecl::CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;
    "rocm", "rocm", burn::backend::Rocm;
    "rocm-raw", "rocm", burn_cubecl::CubeBackend<cubecl::hip::HipRuntime, f32, i32, u8>;
    "metal", "metal", burn::backend::Metal;
    "vulkan", "vulkan", burn::backend::Vulkan;
    "wgpu", "wgpu", burn::backend::Wgpu;
    "wgpu-raw", "wgpu", burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
}

/// Whether searches of this backend run on the processor of this machine.
pub fn on_host(name: &str) -> bool {
    ["ndarray", "flex"].contains(&name)
}

/// What the device of a GPU backend can be asked beside searches.
pub fn tools(name: &str) -> Option<Tools> {
    let family = name.split('-').next().unwrap_or_default();
    #[cfg(feature = "cuda")]
    if family == "cuda" {
        return Some(Tools::of::<cubecl::cuda::CudaRuntime>());
    }
    #[cfg(feature = "rocm")]
    if family == "rocm" {
        return Some(Tools::of::<cubecl::hip::HipRuntime>());
    }
    #[cfg(feature = "wgpu")]
    if ["wgpu", "vulkan", "metal"].contains(&family) {
        return Some(Tools::of::<cubecl::wgpu::WgpuRuntime>());
    }
    // A CPU has none.
    let _ = family;
    None
}

/// The backend used when none is named.
pub fn default_name() -> String {
    names().first().copied().unwrap_or("none").to_owned()
}

/// Every GPU backend that is compiled in, with the adapter it opens (or why it does not).
pub fn gpus() -> Vec<(&'static str, Result<String, String>)> {
    Vec::from([
        #[cfg(feature = "cuda")]
        (
            "cuda",
            opens::<burn::backend::Cuda>().map(|()| nvidia_name()),
        ),
        #[cfg(feature = "rocm")]
        ("rocm", opens::<burn::backend::Rocm>().map(|()| amd_name())),
        #[cfg(feature = "wgpu")]
        ("wgpu", wgpu_adapter()),
    ])
}

/// Creates one value on the default device and reads it back; a backend that cannot start panics.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn opens<B: burn::tensor::backend::Backend>() -> Result<(), String> {
    quietly(|| {
        let device = B::Device::default();
        let one = burn::tensor::Tensor::<B, 1>::from_floats([1.0], &device);
        one.into_data();
    })
}

/// The name wgpu reports. Opening it here also starts the runtime the backend then uses, with the
/// same choice of graphics API the backend would have made.
#[cfg(feature = "wgpu")]
fn wgpu_adapter() -> Result<String, String> {
    use burn::backend::wgpu::{graphics::AutoGraphicsApi, init_setup};
    quietly(|| {
        let setup = init_setup::<AutoGraphicsApi>(&Default::default(), Default::default());
        let info = setup.adapter.get_info();
        format!(
            "{} ({:?}, driver {} {})",
            info.name, info.backend, info.driver, info.driver_info
        )
    })
}

/// Runs `body` with panics turned into text and kept off stderr.
#[cfg(any(feature = "cuda", feature = "rocm", feature = "wgpu"))]
fn quietly<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    std::panic::set_hook(hook);
    outcome.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "panicked".to_owned());
        let first = text.lines().next().unwrap_or_default();
        format!("does not open: {first}")
    })
}

/// Model and driver of the NVIDIA devices, from the driver's own files.
#[cfg(feature = "cuda")]
fn nvidia_name() -> String {
    let mut parts = Vec::new();
    if let Ok(cards) = std::fs::read_dir("/proc/driver/nvidia/gpus") {
        for card in cards.flatten() {
            let text = std::fs::read_to_string(card.path().join("information"));
            let text = text.unwrap_or_default();
            let model = text.lines().find_map(|line| line.strip_prefix("Model:"));
            parts.extend(model.map(|name| name.trim().to_owned()));
        }
    }
    let version = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    if let Some(line) = version.lines().next() {
        parts.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if parts.is_empty() {
        parts.push("opens; model unknown".to_owned());
    }
    parts.join("; ")
}

/// Product names of the AMD devices, where the kernel exposes them.
#[cfg(feature = "rocm")]
fn amd_name() -> String {
    let mut parts = Vec::new();
    if let Ok(cards) = std::fs::read_dir("/sys/class/drm") {
        for card in cards.flatten() {
            let text = std::fs::read_to_string(card.path().join("device/product_name"));
            let text = text.unwrap_or_default();
            if !text.trim().is_empty() && !parts.contains(&text.trim().to_owned()) {
                parts.push(text.trim().to_owned());
            }
        }
    }
    if parts.is_empty() {
        parts.push("opens; model unknown".to_owned());
    }
    parts.join("; ")
}
