#!/usr/bin/env python3
"""Compiles the HIP sources of the GPU kernels with clang, without a GPU.

    hip_sources.py SOURCES ROOT [ARCHITECTURE..]

SOURCES holds a folder per architecture (gfx90a, gfx1100) with one .hip file per kernel, as the
test `sources` of burn-ivf-kernels writes them. ROOT is a folder into which Debian's clang-15,
HIP headers and device libraries were unpacked. Prints registers and spills of every kernel; fails
if one does not compile. CubeCL itself compiles them with HIPRTC, which is the same compiler.
"""

import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from sources import chosen


def command(root):
    libraries = root / "usr/lib/x86_64-linux-gnu"
    bitcode = libraries / "amdgcn/bitcode"
    # These libraries are older than gfx1100. The file holds one constant, the number of the
    # architecture, which nothing that the kernels call looks at.
    newer = bitcode / "oclc_isa_version_1100.bc"
    if not newer.exists():
        newer.symlink_to("oclc_isa_version_1036.bc")
    environment = dict(os.environ, LD_LIBRARY_PATH=str(libraries))
    # The options of CubeCL's HIP runtime, then what HIPRTC has built in.
    options = [root / "usr/lib/llvm-15/bin/clang", "--std=c++17", "-O3", "-x", "hip"]
    options += ["--cuda-device-only", "-S", "-o", "-", "-D__HIP_PLATFORM_AMD__", "-nogpuinc"]
    options += ["-isystem", root / "usr/include", f"--rocm-device-lib-path={bitcode}"]
    return [str(option) for option in options], environment


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sources, root = map(pathlib.Path, sys.argv[1:3])
    options, environment = command(root)
    only = sys.argv[3:]
    files, of = chosen(f for f in sources.glob("gfx*/*.hip") if not only or f.parent.name in only)
    if not files:
        sys.exit(f"no sources in {sources}")

    def compile_file(path):
        architecture = path.parent.name
        given = options + [f"--offload-arch={architecture}", str(path)]
        run = subprocess.run(given, env=environment, capture_output=True, text=True)
        if run.returncode:
            return False, f"FAILED {path}: {run.stderr}"
        head = dict(re.findall(r"^// (\w+): (.*)$", path.read_text(), re.MULTILINE))
        known = dict(re.findall(r"^ +\.(\w+): +(\d+)$", run.stdout, re.MULTILINE))
        return True, (
            f"{architecture:<7} {path.stem:<18} {known['vgpr_count']:>4} vector and "
            f"{known['sgpr_count']:>3} scalar registers, {known['vgpr_spill_count']} and "
            f"{known['sgpr_spill_count']} spilled, {known['private_segment_fixed_size']} B stack "
            f"{head['shared']:>6} B shared {head['units']:>4} units: {head['case']}"
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(compile_file, files))
    for _, line in sorted(done, key=lambda result: not result[0]):
        print(line)
    failures = sum(not well for well, _ in done)
    print(f"\n{len(done) - failures} HIP kernels compiled of {of}, {failures} did not")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
