#!/usr/bin/env python3
"""Find what CUDA programs of this project need, and print it as `export` lines for a shell.

    eval "$(python3 cuda_env.py SCRATCH)"

CubeCL compiles kernels when they first run: it needs the driver (libcuda), NVRTC (libnvrtc) and the
headers under CUDA_PATH/include. The last two come from CUDA_PATH, an installed toolkit, or pip's
wheels (nvidia-cuda-nvrtc-cu12 and nvidia-cuda-runtime-cu12, or those of CUDA 13). A folder of links
under SCRATCH joins what is spread over several wheels and gives NVRTC the name that is looked for.

Exit code 2 and a sentence on stderr when something is missing. `--no-driver` leaves the driver out
(to try the rest on a machine without one).
"""

import ctypes
import glob
import os
import shlex
import site
import sys

KERNEL = b"""
#include <cuda_runtime.h>
#include <cuda_fp16.h>
extern "C" __global__ void half_of(__half *x) { x[threadIdx.x] = __float2half(0.5f); }
"""
# Not every kernel needs these; a plain wheel of the runtime lacks some of them.
OPTIONAL = {"crt/mma.h": "matrix units", "cuda/barrier": "asynchronous copies"}
DRIVER_PLACES = ("", "/usr/local/nvidia/lib64/", "/usr/lib/x86_64-linux-gnu/", "/usr/lib64/", "/usr/lib/wsl/lib/")


def stop(text):
    print(f"cuda_env.py: {text}", file=sys.stderr)
    sys.exit(2)


def driver():
    """The driver's CUDA version and the folder libcuda was found in (empty: the loader finds it)."""
    library = place = None
    for place in DRIVER_PLACES:
        try:
            library = ctypes.CDLL(f"{place}libcuda.so.1")
            break
        except OSError:
            continue
    if library is None:
        stop("no NVIDIA driver: libcuda.so.1 is not to be found")
    code = library.cuInit(0)
    if code != 0:
        stop(f"no NVIDIA GPU can be used: cuInit answers {code}")
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    if library.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        stop("the driver lists no GPU")
    library.cuDriverGetVersion(ctypes.byref(version))
    return version.value, place


def wheels():
    """Folders of pip's NVIDIA packages, of every site folder Python looks into."""
    places = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    roots = [os.path.join(place, "nvidia") for place in places if place]
    return [pkg for root in dict.fromkeys(roots) for pkg in sorted(glob.glob(f"{root}/*/"))]


def candidates():
    """(name, folders with headers, folders with libraries), the preferred one first."""
    found = []
    for path in (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda", "/opt/cuda"):
        if path and os.path.isdir(path):
            libs = [f"{path}/lib64", f"{path}/targets/x86_64-linux/lib", f"{path}/lib"]
            found.append((path, [f"{path}/include", f"{path}/targets/x86_64-linux/include"], libs))
    packages = wheels()
    of13 = [pkg for pkg in packages if os.path.basename(pkg.rstrip("/")) == "cu13"]
    of12 = [pkg for pkg in packages if pkg not in of13]
    for name, group in (("pip wheels, CUDA 12", of12), ("pip wheels, CUDA 13", of13)):
        if group:
            found.append((name, [pkg + "include" for pkg in group], [pkg + "lib" for pkg in group]))
    return found


def nvrtc_in(folders):
    for folder in folders:
        named = [path for path in glob.glob(f"{folder}/libnvrtc.so*") if ".alt" not in path]
        if named:
            return sorted(named, key=len)[0]
    return None


def link_tree(folders, target):
    """Every file below `folders` as a link below `target`; the first of equal names counts."""
    for folder in folders:
        for at, _, names in os.walk(folder, followlinks=True):
            own = os.path.join(target, os.path.relpath(at, folder))
            os.makedirs(own, exist_ok=True)
            for name in names:
                link = os.path.join(own, name)
                if not os.path.lexists(link):
                    os.symlink(os.path.join(at, name), link)


def compiles(library, include):
    """NVRTC's version, or why a small kernel does not compile with these headers."""
    try:
        nvrtc = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return None, str(error)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), KERNEL, None, 0, None, None)
    words = [f"--include-path={include}", f"--include-path={include}/cccl", "--gpu-architecture=compute_80"]
    options = (ctypes.c_char_p * len(words))(*[word.encode() for word in words])
    code = nvrtc.nvrtcCompileProgram(program, len(words), options)
    if code != 0:
        size = ctypes.c_size_t(0)
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(max(1, size.value))
        nvrtc.nvrtcGetProgramLog(program, log)
        lines = log.value.decode(errors="replace").strip().splitlines() or [f"code {code}"]
        return None, lines[0]
    return (major.value, minor.value), None


def toolkit(scratch, limit):
    """A folder to be CUDA_PATH, where it came from, NVRTC's version.

    Its `lib` holds NVRTC alone, not the toolkit's other libraries: those of torch must stay torch's own.

    `limit` is the driver's CUDA version (0: unknown). An NVRTC newer than that within one major version
    is taken only when there is no other: the driver may refuse what it compiles.
    """
    reasons, newer = [], None
    for number, (name, headers, libs) in enumerate(candidates()):
        headers = [folder for folder in headers if os.path.isdir(folder)]
        library = nvrtc_in(libs)
        if library is None or not any(os.path.exists(f"{at}/cuda_runtime.h") for at in headers):
            reasons.append(f"{name}: no {'libnvrtc' if library is None else 'cuda_runtime.h'}")
            continue
        home = os.path.join(scratch, f"cuda-{number}")
        os.makedirs(f"{home}/lib")
        os.symlink(library, f"{home}/lib/libnvrtc.so")
        for part in glob.glob(f"{os.path.dirname(library)}/libnvrtc-builtins.so*"):
            os.symlink(part, f"{home}/lib/{os.path.basename(part)}")
        if len(headers) == 1:
            os.symlink(headers[0], f"{home}/include")
        else:
            link_tree(headers, f"{home}/include")
        version, reason = compiles(library, f"{home}/include")
        found = home, name, version
        if version is None:
            reasons.append(f"{name}: {reason}")
        elif limit and version[0] > limit // 1000:
            reasons.append(f"{name}: NVRTC {version[0]}.{version[1]} is newer than the driver's CUDA {limit // 1000}")
        elif limit and version > (limit // 1000, limit % 1000 // 10):
            newer = newer or found
        else:
            return found
    if newer:
        print(f"cuda_env.py: note: NVRTC {newer[2][0]}.{newer[2][1]} is newer than the driver", file=sys.stderr)
        return newer
    listed = "; ".join(reasons) or "nothing of CUDA is installed"
    stop(f"no usable NVRTC with headers ({listed}). pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12")


def main():
    words = [word for word in sys.argv[1:] if word != "--no-driver"]
    if len(words) != 1:
        stop("usage: cuda_env.py [--no-driver] SCRATCH")
    version, place = (0, "") if "--no-driver" in sys.argv else driver()
    home, name, nvrtc = toolkit(os.path.abspath(words[0]), version)
    for header, use in OPTIONAL.items():
        if not any(os.path.exists(f"{home}/include/{at}{header}") for at in ("", "cccl/")):
            print(f"cuda_env.py: note: no {header}: kernels with {use} will not compile", file=sys.stderr)
    paths = [f"{home}/lib", *([place] if place else []), os.environ.get("LD_LIBRARY_PATH", "")]
    values = {
        "CUDA_PATH": home,
        "LD_LIBRARY_PATH": ":".join(path for path in paths if path),
        "GPU_NVRTC": f"{nvrtc[0]}.{nvrtc[1]} ({name})",
        "GPU_DRIVER_CUDA": f"{version // 1000}.{version % 1000 // 10}",
    }
    for key, value in values.items():
        print(f"export {key}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
