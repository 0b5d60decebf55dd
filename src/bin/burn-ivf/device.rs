//! The devices this build holds, and opening one. The only file of the command line with backend
//! `cfg`s.

use crate::output::{Done, Failure, usage};
use burn::tensor::Tensor;
use burn_ivf::IvfBackend;
use clap::ValueEnum;
use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{Arc, Mutex},
};

/// Work that is generic over the backend.
pub trait Job {
    fn run<B: IvfBackend>(self, device: &B::Device) -> Done;
}

macro_rules! devices {
    ($($variant:ident, $name:literal, $feature:tt, $backend:ty, $help:literal;)*) => {
        /// A device by name, whether or not this build holds its backend.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
        pub enum Device {
            $(#[doc = $help] #[value(name = $name)] $variant,)*
        }

        impl Device {
            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        /// Devices compiled in, the default one first.
        fn compiled() -> Vec<Device> {
            Vec::from([$(#[cfg(feature = $feature)] Device::$variant),*])
        }

        /// Opens the device and runs `job` on it.
        pub fn run(device: Device, job: impl Job) -> Done {
            match device {
                $(#[cfg(feature = $feature)]
                Device::$variant => on::<$backend>(device, job),)*
                #[allow(unreachable_patterns)] // in a build with all of them
                _ => missing(device),
            }
        }
    };
}

devices! {
    Ndarray, "ndarray", "ndarray", burn::backend::NdArray, "CPU";
    Flex, "flex", "flex", burn::backend::Flex, "CPU";
    Cuda, "cuda", "cuda", burn::backend::Cuda, "NVIDIA GPU";
    Rocm, "rocm", "rocm", burn::backend::Rocm, "AMD GPU";
    Metal, "metal", "metal", burn::backend::Metal, "Apple GPU";
    Vulkan, "vulkan", "vulkan", burn::backend::Vulkan, "GPU through Vulkan (SPIR-V)";
    Wgpu, "wgpu", "wgpu", burn::backend::Wgpu, "GPU through wgpu (WGSL)";
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The device asked for, or the first one compiled in.
pub fn choose(wanted: Option<Device>) -> Done<Device> {
    let compiled = compiled();
    match wanted {
        Some(device) if compiled.contains(&device) => Ok(device),
        Some(device) => missing(device),
        None => compiled.first().copied().ok_or_else(|| {
            let text = "no device is compiled in; build with --features cli,ndarray (or flex, wgpu, vulkan, cuda, rocm)";
            Failure::Usage(text.to_owned())
        }),
    }
}

fn missing<T>(device: Device) -> Done<T> {
    let names: Vec<&str> = compiled().into_iter().map(Device::name).collect();
    usage(format!(
        "device {device} is not compiled in, this build has {}; build with --features cli,{device}",
        names.join(", ")
    ))
}

fn on<B: IvfBackend>(device: Device, job: impl Job) -> Done {
    let handle = B::Device::default();
    let opened = quietly(|| {
        Tensor::<B, 1>::from_floats([1.0], &handle).into_data();
    });
    match opened {
        Ok(()) => job.run::<B>(&handle),
        Err(why) => Err(Failure::Failed(format!(
            "device {device} does not open: {why}; {}, or use another --device",
            remedy(device)
        ))),
    }
}

/// What a device needs in order to open.
fn remedy(device: Device) -> &'static str {
    match device {
        Device::Cuda => {
            "install NVIDIA's driver (libcuda) and NVRTC with its headers (CUDA toolkit, CUDA_PATH)"
        }
        Device::Rocm => "install AMD's driver and ROCm (HIP)",
        Device::Vulkan | Device::Wgpu | Device::Metal => {
            "install a driver for the GPU (`vulkaninfo` must list it; mesa-vulkan-drivers has a software one)"
        }
        Device::Ndarray | Device::Flex => "please report it",
    }
}

/// Runs all of a call; a panic, which is a bug of ours or of a driver, becomes a failure that says so.
pub fn contained(body: impl FnOnce() -> Done) -> Done {
    match quietly(body) {
        Ok(done) => done,
        Err(why) => Err(Failure::Failed(format!(
            "internal error: {why}; please report it with the command line"
        ))),
    }
}

/// Runs `body` with panics turned into their first line and kept off stderr.
fn quietly<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    // The first panic of any thread is the cause; later ones follow from it.
    let first = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&first);
    let before = take_hook();
    set_hook(Box::new(move |info| {
        if let Ok(mut slot) = seen.lock() {
            slot.get_or_insert_with(|| words(info.payload()));
        }
    }));
    let outcome = catch_unwind(AssertUnwindSafe(body));
    set_hook(before);
    outcome.map_err(|payload| {
        let kept = first.lock().ok().and_then(|mut slot| slot.take());
        kept.unwrap_or_else(|| words(&*payload))
    })
}

/// The first line of a panic's message, cut to what fits a sentence.
fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given");
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.unwrap_or("no reason given");
    let line = line.split('{').next().unwrap_or(line).trim_end();
    line.chars().take(160).collect()
}
