#!/usr/bin/env python3
"""Which machine instructions the loops of GPU kernels are made of, without a GPU.

    sass.py SOURCE.cu..

SOURCE is a file that `.ci/cuda_sources` left in target/gpu-sources/sources/sm_90; NVRTC is the one it fetched, the
disassembler comes from PyPI. Prints, for every loop with arithmetic in it, how many instructions there are of each kind,
those of loops inside it among them; what takes a branch is not known.
"""

import collections
import pathlib
import re
import subprocess
import sys
import tempfile

from nvrtc import Nvrtc, architecture_of

# Loops with fewer of these are not what a scan spends its time on.
ARITHMETIC = ("FADD", "FFMA", "FMUL", "HMMA")
LEAST = 16
# Kinds whose width says what they cost.
MEMORY = ("LDS", "LDG", "LDL", "STS", "STG", "STL")


def nvdisasm(folder):
    """The disassembler, fetched if it is not there."""
    if not any(folder.glob("nvidia/**/bin/nvdisasm")):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
        subprocess.run([*pip, "--target", str(folder), "nvidia-cuda-nvdisasm"], check=True)
    return next(folder.glob("nvidia/**/bin/nvdisasm"))


def instructions(disassembler, code):
    """The instructions in order, and at which of them each label stands."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        done = subprocess.run([disassembler, "-c", file.name], check=True, capture_output=True, text=True)
    found, labels = [], {}
    for line in done.stdout.splitlines():
        if label := re.match(r"\s*(\.L_x_\w+):", line):
            labels[label[1]] = len(found)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            found.append(instruction[1].strip())
    return found, labels


def loops(found, labels):
    """From where to where each loop reaches: the ends of branches that lead back."""
    for end, instruction in enumerate(found):
        branch = re.search(r"\bBRA\b.*`\((\.L_x_\w+)\)", instruction)
        if branch and labels.get(branch[1], end + 1) <= end:
            yield labels[branch[1]], end


def kind(instruction):
    """LDS.128 of `@!P0 LDS.128 R4, [R2]`."""
    name, *words = re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0].split(".")
    wide = [word for word in words if word in ("64", "128")]
    return ".".join([name, *wide]) if name in MEMORY else name


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    paths = [pathlib.Path(argument).resolve() for argument in sys.argv[1:]]
    # gpu-sources/sources/sm_90/NAME.cu
    folder = paths[0].parents[2]
    disassembler = nvdisasm(folder / "nvdisasm")
    nvrtc = Nvrtc(folder / "wheels")
    for path in paths:
        source = path.read_text()
        case = re.search(r"^// case: (.*)$", source, re.MULTILINE)[1]
        _, code = nvrtc.compile(source, architecture_of(path))
        found, labels = instructions(disassembler, code)
        print(f"{path.parent.name} {path.stem}, {len(found)} instructions: {case}")
        for start, end in sorted(set(loops(found, labels))):
            kinds = collections.Counter(kind(instruction) for instruction in found[start : end + 1])
            if sum(kinds[name] for name in ARITHMETIC) >= LEAST:
                counts = ", ".join(f"{count} {name}" for name, count in kinds.most_common(16))
                print(f"  {start:>5} to {end:>5}: {end - start + 1:>5} instructions: {counts}")


if __name__ == "__main__":
    main()
