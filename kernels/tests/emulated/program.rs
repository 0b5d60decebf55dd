//! From a kernel's source to something that can be called.

use super::cube::{HOST, Host, Unit};
use libloading::Library;
use std::{
    collections::hash_map::DefaultHasher,
    ffi::c_void,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

const HEADER: &str = include_str!("device.hpp");

/// Options of the compiler: products are joined to sums, as by CUDA's and HIP's.
const OPTIONS: [&str; 9] = [
    "-std=c++17",
    "-O1",
    "-shared",
    "-fPIC",
    "-w",
    "-mfma",
    "-mf16c",
    "-ffp-contract=fast",
    "-fno-strict-aliasing",
];

/// What stands for it, within the function that CubeCL makes of it.
const MULTIPLY: &str = "
    float reg_d[4];
    emulated::multiply({reg_a_0, reg_a_1, reg_a_2, reg_a_3}, {reg_b_0, reg_b_1}, {reg_c_0, reg_c_1, reg_c_2, reg_c_3},
                       reg_d, __LINE__);
    reg_d_0 = reg_d[0], reg_d_1 = reg_d[1], reg_d_2 = reg_d[2], reg_d_3 = reg_d[3];
";

/// A kernel that the system's C++ compiler has made.
pub struct Program {
    pub units: [u32; 3],
    pub shared: usize,
    call: unsafe extern "C" fn(*mut *mut c_void),
    place: unsafe extern "C" fn(*const Unit),
    /// Keeps both where they are.
    _library: Library,
}

impl Program {
    /// Compiles `source`, whose kernel is called `entry`, for cubes of `units` and `shared` bytes.
    pub fn new(source: &str, entry: &str, units: [u32; 3], shared: usize) -> Result<Self, String> {
        let library = compile(&whole(source, entry))?;
        // SAFETY: made by `compile`; loading it runs nothing.
        let library = unsafe { Library::new(&library) }.map_err(|e| e.to_string())?;
        // SAFETY: the types of what `whole` has written.
        unsafe {
            let start = library.get::<unsafe extern "C" fn(*const Host)>(b"emulated_start");
            start.map_err(|e| e.to_string())?(&raw const HOST);
            Ok(Self {
                call: *library.get(b"emulated_call").map_err(|e| e.to_string())?,
                place: *library.get(b"emulated_place").map_err(|e| e.to_string())?,
                units,
                shared,
                _library: library,
            })
        }
    }

    /// Runs the unit that was placed last on this thread.
    pub fn call(&self, arguments: &mut [*mut c_void]) {
        // SAFETY: an argument for each of the kernel's, as CubeCL orders them.
        unsafe { (self.call)(arguments.as_mut_ptr()) }
    }

    /// Says which unit goes on running on this thread.
    pub fn place(&self, unit: &Unit) {
        // SAFETY: `cube.rs` keeps units until all of them have ended.
        unsafe { (self.place)(unit) }
    }
}

/// The source as C++ for this machine.
fn whole(source: &str, entry: &str) -> String {
    let mut text = String::from("#include \"device.hpp\"\n");
    let mut in_assembly = false;
    for line in source.lines() {
        let line = line.trim_end();
        // The vendors' headers; what is used of them is in ours.
        if line.starts_with("#include <") {
            continue;
        }
        if line.contains("extern __shared__") {
            text += "unsigned char *const dynamic_shared_mem = emulated::unit->shared;\n";
            continue;
        }
        // PTX for tensor cores; `in_assembly` until its end.
        if line.contains("asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32\"") {
            text += MULTIPLY;
            in_assembly = true;
        }
        if in_assembly {
            in_assembly = !line.ends_with(");");
            continue;
        }
        text += line;
        text.push('\n');
    }
    text + &format!(
        "namespace emulated {{ const Host *host; thread_local const Unit *unit; }}\n\
         extern \"C\" void emulated_start(const emulated::Host *given) {{ emulated::host = given; }}\n\
         extern \"C\" void emulated_place(const emulated::Unit *given) {{ emulated::unit = given; }}\n\
         extern \"C\" void emulated_call(void **at) {{ emulated::call(&{entry}, at); }}\n"
    )
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated")
}

/// The library made of `text`, kept from one run to the next.
fn compile(text: &str) -> Result<PathBuf, String> {
    let mut hash = DefaultHasher::new();
    (text, HEADER, OPTIONS).hash(&mut hash);
    let folder = folder();
    let name = format!("{:016x}", hash.finish());
    let library = folder.join(&name).with_extension("so");
    if library.exists() {
        return Ok(library);
    }
    let failed = |e: std::io::Error| e.to_string();
    fs::create_dir_all(&folder).map_err(failed)?;
    fs::write(folder.join("device.hpp"), HEADER).map_err(failed)?;
    let source = folder.join(&name).with_extension("cpp");
    fs::write(&source, text).map_err(failed)?;
    let made = folder.join(format!("{name}.{}", std::process::id()));
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let output = Command::new(&compiler)
        .args(OPTIONS)
        .arg("-I")
        .arg(&folder)
        .arg("-o")
        .arg(&made)
        .arg(&source)
        .output()
        .map_err(|e| format!("{compiler}: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let errors = said.lines().filter(|line| line.contains("error: "));
        let said: Vec<&str> = errors.take(5).collect();
        return Err(said.join("\n"));
    }
    fs::rename(&made, &library).map_err(failed)?;
    Ok(library)
}
