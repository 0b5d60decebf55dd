//! Which Burn backend the demo runs on: the table of compiled backends, and how one is picked.
//!
//! The only file of the demo with backend `cfg`s. A backend is compiled in when the crate's
//! feature of that name is on; whether its device is there shows only when it is opened, and a
//! missing GPU or driver is a panic in some runtimes, so opening is tried once, quietly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use burn::tensor::Tensor;
use burn_ivf::IvfBackend;

use crate::Result;
use crate::report::Report;
use crate::run::{self, Job};

/// A compiled backend, by the functions that are generic over it.
pub struct Entry {
    pub name: &'static str,
    gpu: bool,
    open: fn() -> std::result::Result<(), String>,
    pub run: fn(&Job<'_>) -> Result<Report>,
}

/// The backend to use and the sentence that says why.
pub struct Choice {
    pub entry: Entry,
    pub why: String,
}

/// Every backend compiled in, in the order in which the demo prefers them.
///
/// `metal` counts on Apple systems only: elsewhere the same type opens a Vulkan device.
fn compiled() -> Vec<Entry> {
    Vec::from([
        #[cfg(feature = "cuda")]
        entry::<burn::backend::Cuda>("cuda", true),
        #[cfg(feature = "rocm")]
        entry::<burn::backend::Rocm>("rocm", true),
        #[cfg(all(feature = "metal", target_vendor = "apple"))]
        entry::<burn::backend::Metal>("metal", true),
        #[cfg(feature = "vulkan")]
        entry::<burn::backend::Vulkan>("vulkan", true),
        #[cfg(feature = "wgpu")]
        entry::<burn::backend::Wgpu>("wgpu", true),
        #[cfg(feature = "webgpu")]
        entry::<burn::backend::WebGpu>("webgpu", true),
        #[cfg(feature = "ndarray")]
        entry::<burn::backend::NdArray>("ndarray", false),
        #[cfg(feature = "flex")]
        entry::<burn::backend::Flex>("flex", false),
    ])
}

#[allow(dead_code, reason = "unused in a build without any backend")]
fn entry<B: IvfBackend>(name: &'static str, gpu: bool) -> Entry {
    Entry {
        name,
        gpu,
        open: open::<B>,
        run: |job| run::run::<B>(&B::Device::default(), job),
    }
}

/// Picks the backend called `wanted`, or without a name the first one that opens.
pub fn choose(wanted: Option<&str>) -> Result<Choice> {
    let entries = compiled();
    if entries.is_empty() {
        return Err(
            "no backend is compiled in; build with --features ndarray (or flex, wgpu, \
                    vulkan, metal, cuda, rocm)"
                .into(),
        );
    }
    match wanted {
        Some(name) => named(entries, name),
        None => first_that_opens(entries),
    }
}

fn named(entries: Vec<Entry>, wanted: &str) -> Result<Choice> {
    let wanted = wanted.to_ascii_lowercase();
    let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
    let found = entries
        .into_iter()
        .find(|entry| entry.name == wanted || (wanted == "cpu" && !entry.gpu));
    let Some(entry) = found else {
        return Err(format!(
            "--device {wanted} is not compiled in; this build has {}; rebuild with --features NAME \
             for another one (NAME is ndarray, flex, cuda, rocm, metal, vulkan, wgpu or webgpu)",
            names.join(", "),
        )
        .into());
    };
    quietly(entry.open).map_err(|reason| {
        format!(
            "the device of backend {} did not open: {reason}",
            entry.name
        )
    })?;
    Ok(Choice {
        entry,
        why: format!("asked for with --device {wanted}"),
    })
}

fn first_that_opens(entries: Vec<Entry>) -> Result<Choice> {
    let mut refused = Vec::new();
    for entry in entries {
        match quietly(entry.open) {
            Ok(()) => {
                let why = match (entry.gpu, refused.is_empty()) {
                    (true, true) => "the first GPU backend compiled in".to_owned(),
                    (false, true) => "no GPU backend is compiled in".to_owned(),
                    (_, false) => format!("the first that opens; {}", refused.join("; ")),
                };
                return Ok(Choice { entry, why });
            }
            Err(reason) => refused.push(format!("{} does not ({reason})", entry.name)),
        }
    }
    Err(format!("no compiled backend opens: {}", refused.join("; ")).into())
}

/// Opens the default device: writes a tiny tensor, computes on it and reads it back.
fn open<B: IvfBackend>() -> std::result::Result<(), String> {
    let device = B::Device::default();
    let tensor = Tensor::<B, 1>::from_data([1.0f32, 2.0, 3.0], &device) * 2.0;
    let values = tensor
        .try_into_data()
        .map_err(|error| format!("{error:?}"))?
        .convert::<f32>()
        .to_vec::<f32>()
        .map_err(|error| format!("{error:?}"))?;
    if values == [2.0, 4.0, 6.0] {
        Ok(())
    } else {
        Err(format!("it computed 2 x [1, 2, 3] = {values:?}"))
    }
}

/// Runs `open` with panics caught, and what they and the runtime's log say kept off the screen.
///
/// The hook is process-wide on purpose: a runtime may open its device on a thread of its own,
/// and then that thread holds the message worth showing.
fn quietly(open: fn() -> std::result::Result<(), String>) -> std::result::Result<(), String> {
    let first = Arc::new(Mutex::new(None::<String>));
    let seen = Arc::clone(&first);
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Off);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Ok(mut slot) = seen.lock() {
            slot.get_or_insert_with(|| message(info.payload()));
        }
    }));
    let outcome = catch_unwind(AssertUnwindSafe(open));
    std::panic::set_hook(before);
    log::set_max_level(level);
    match outcome {
        Ok(result) => result.map_err(|text| first_line(&text)),
        Err(payload) => {
            let kept = first.lock().ok().and_then(|mut slot| slot.take());
            Err(first_line(&kept.unwrap_or_else(|| message(&*payload))))
        }
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "its runtime panicked".to_owned())
}

/// The first line up to where it dumps a data structure, cut to a length that fits a sentence.
fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let line = lines
        .find(|line| !line.is_empty())
        .unwrap_or("no reason given");
    let line = line.split('{').next().unwrap_or(line).trim_end();
    let mut short: String = line.chars().take(110).collect();
    if short.len() < line.len() {
        short.push_str("...");
    }
    short
}
