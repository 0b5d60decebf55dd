#!/usr/bin/env python3
"""Compiles the CUDA sources of the GPU kernels with NVRTC, without a GPU.

    nvrtc.py SOURCES WHEELS [ARCHITECTURE..]

SOURCES holds a folder per architecture (sm_80, sm_90) with one .cu file per kernel, as the test
`sources` of burn-ivf-kernels writes them. WHEELS is a folder into which nvidia-cuda-nvrtc-cu12,
nvidia-cuda-runtime-cu12 and nvidia-cuda-nvcc-cu12 (for crt/mma.h) were installed (pip install --target). Prints what ptxas says of every
kernel and, at the end, the extremes of each kernel function; fails if one does not compile.
"""

import ctypes
import os
import pathlib
import re
import sys
from concurrent.futures import ProcessPoolExecutor

from sources import chosen


class Nvrtc:
    """The library of the wheel."""

    def __init__(self, wheels):
        lib = wheels / "nvidia" / "cuda_nvrtc" / "lib"
        # NVRTC opens its builtins by name; a library already loaded is found.
        for builtins in sorted(lib.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self.lib = ctypes.CDLL(str(next(lib.glob("libnvrtc.so.*"))))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        self.include = [wheels / "nvidia" / name / "include" for name in ("cuda_runtime", "cuda_nvcc")]

    def call(self, name, *args):
        status = getattr(self.lib, name)(*args)
        if status:
            raise RuntimeError(f"{name}: {self.lib.nvrtcGetErrorString(status).decode()}")

    def version(self):
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def compile(self, source, architecture):
        """The log of a compilation to machine code, and the code; or an error with the log."""
        program = ctypes.c_void_p()
        self.call(
            "nvrtcCreateProgram", ctypes.byref(program), source.encode(), None, 0, None, None
        )
        # As CubeCL's CUDA runtime passes them, and the report of ptxas. (CubeCL asks for PTX, which
        # the driver's own ptxas compiles: registers may differ a little.)
        options = [
            f"--gpu-architecture={architecture}",
            *[f"--include-path={folder}" for folder in self.include],
            "-lineinfo",
            "--ptxas-options=-v",
        ]
        given = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        status = self.lib.nvrtcCompileProgram(program, len(options), given)
        size = ctypes.c_size_t()
        self.call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self.call("nvrtcGetProgramLog", program, log)
        code = ctypes.create_string_buffer(0)
        if not status:
            self.call("nvrtcGetCUBINSize", program, ctypes.byref(size))
            code = ctypes.create_string_buffer(size.value)
            self.call("nvrtcGetCUBIN", program, code)
        self.lib.nvrtcDestroyProgram(ctypes.byref(program))
        text = log.value.decode(errors="replace")
        if status or not len(code):
            raise RuntimeError(text or self.lib.nvrtcGetErrorString(status).decode())
        return text, code.raw


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found.group(1)) if found else None


class Result:
    """What is known of one compiled kernel."""

    def __init__(self, path, source, log):
        self.name = path.stem
        self.function = self.name.rpartition("_")[0]
        self.architecture = path.parent.name
        head = dict(re.findall(r"^// (\w+): (.*)$", source, re.MULTILINE))
        self.case = head["case"]
        self.units = int(head["units"])
        self.shared = int(head["shared"])
        self.registers = number(r"Used (\d+) registers", log)
        self.spilled = number(r"(\d+) bytes spill stores", log)
        self.stack = number(r"(\d+) bytes stack frame", log)
        if self.registers is None or self.spilled is None:
            raise RuntimeError(f"ptxas said nothing of registers:\n{log}")

    def cubes(self):
        """Cubes that a multiprocessor holds at once, and what limits them."""
        warps = -(-self.units // 32)
        # Registers are given out per warp, 256 at a time; 1 KiB of shared memory is the system's.
        registers = -(-self.registers * 32 // 256) * 256
        memory = (228 if self.architecture == "sm_90" else 164) * 1024
        limits = {
            "cubes": 32,
            "warps": 64 // warps,
            "registers": 65536 // (registers * warps),
            "shared": memory // (-(-(self.shared + 1024) // 128) * 128),
        }
        limit = min(limits, key=limits.get)
        return limits[limit], limit

    def line(self):
        cubes, limit = self.cubes()
        return (
            f"{self.architecture} {self.name:<18} {self.registers:>4} registers "
            f"{self.spilled:>4} B spilled {self.stack:>4} B stack {self.shared:>7} B shared "
            f"{self.units:>5} units {cubes:>3} cubes/SM ({limit}): {self.case}"
        )


def summary(results):
    """The extremes of each function on each architecture."""
    groups = {}
    for result in results:
        groups.setdefault((result.architecture, result.function), []).append(result)
    for (architecture, function), group in sorted(groups.items()):
        low, high = (pick(r.registers for r in group) for pick in (min, max))
        cubes = [r.cubes()[0] for r in group]
        spilled = sum(r.spilled > 0 for r in group)
        print(
            f"{architecture} {function:<14} {len(group):>3} variants, {low} to {high} registers, "
            f"{min(cubes)} to {max(cubes)} cubes/SM, {spilled} spill"
        )


def architecture_of(path):
    """sm_90 as CubeCL names it, with the instructions that only it has."""
    return path.parent.name.replace("sm_90", "sm_90a")


def start(wheels):
    """NVRTC compiles one source at a time, so each process has its own."""
    global nvrtc
    nvrtc = Nvrtc(wheels)


def compile_file(path):
    source = path.read_text()
    try:
        return Result(path, source, nvrtc.compile(source, architecture_of(path))[0])
    except RuntimeError as error:
        return f"{path}: {error}"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sources, wheels = map(pathlib.Path, sys.argv[1:3])
    print(f"NVRTC {Nvrtc(wheels).version()}")
    only = sys.argv[3:]
    files, of = chosen(f for f in sources.glob("sm_*/*.cu") if not only or f.parent.name in only)
    if not files:
        sys.exit(f"no sources in {sources}")
    with ProcessPoolExecutor(os.cpu_count(), initializer=start, initargs=(wheels,)) as pool:
        done = list(pool.map(compile_file, files))
    results = [result for result in done if isinstance(result, Result)]
    failures = [result for result in done if isinstance(result, str)]
    for result in results:
        print(result.line())
    print()
    summary(results)
    for failure in failures:
        print(f"\nFAILED {failure}")
    print(f"\n{len(results)} kernels compiled of {of}, {len(failures)} did not")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
