#!/usr/bin/env python3
"""Packs the peers of peers.py for a machine without a network.

    python3 pack_peers.py FOLDER [--only torch-ivf,flashlib,faiss,cuvs] [--arch 90] [--python 3.12]

pip downloads wheels (no dependencies; torch, numpy and CUDA's own libraries must be there). The pure ones
are left as they are, run.sh installs them. Of the others device code for other architectures is cut out
(zeroed, so that it packs to nothing), and each becomes FOLDER/peer-NAME.tar.xz, which run.sh unpacks. What
cannot be had is said and left out; sizes are printed. Put FOLDER's files into the folder `wheels` beside
`gpu` of what build.sh packs.
"""

import argparse
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PURE = {"torch-ivf": ["torch-ivf==0.1.1"], "flashlib": ["flashlib==0.4.0"]}
DEVICE = {
    "faiss": ["faiss-cuda==1.14.1.post4"],
    "cuvs": ["cuvs-cu13==26.6.0", "libcuvs-cu13==26.6.0", "libraft-cu13==26.6.0", "librmm-cu13==26.6.0", "pylibraft-cu13==26.6.0",
             "rmm-cu13==26.6.0", "rapids-logger==0.2.3"],
}
PLATFORMS = ["any"] + [f"manylinux_2_{n}_x86_64" for n in (17, 24, 27, 28, 34, 35)] + ["manylinux2014_x86_64"]
MAGIC = struct.pack("<I", 0xBA55ED50)
# A container of device code: magic, version, size of this header, size of what follows.
CONTAINER = struct.Struct("<IHHQ")
# An entry: kind, version, size of its header, size of its code; further on the architecture.
ENTRY = struct.Struct("<HHIQ")
ARCH_AT, CODE = 28, (1, 2)
LIMIT = 64 << 20


def cut(data, arch):
    """Zeroes what is for other architectures in a library's bytes; bytes cut and bytes kept."""
    gone = kept = 0
    at = data.find(MAGIC)
    while at >= 0:
        _, version, header, size = CONTAINER.unpack_from(data, at) if at + CONTAINER.size <= len(data) else (0, 0, 0, 0)
        end = at + header + size
        if version != 1 or header != CONTAINER.size or end > len(data):
            at = data.find(MAGIC, at + 1)  # not the start of a container
            continue
        entry = at + header
        while entry + ARCH_AT + 4 <= end:
            kind, _, head, code = ENTRY.unpack_from(data, entry)
            if head < ARCH_AT + 4 or entry + head + code > end:
                break
            (own,) = struct.unpack_from("<I", data, entry + ARCH_AT)
            if kind in CODE and own != arch:
                data[entry + head : entry + head + code] = bytes(code)
                gone += code
            else:
                kept += code
            entry += head + code
        at = data.find(MAGIC, end)
    return gone, kept


def fetch(folder, python, names):
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", python,
             "--implementation", "cp", "-d", folder, *[word for name in PLATFORMS for word in ("--platform", name)], *names]
    return subprocess.run(words).returncode == 0


def pack(name, wheels, out, arch):
    """Unpacks wheels into one tree, cuts its libraries, packs it."""
    with tempfile.TemporaryDirectory() as site:
        for wheel in sorted(os.listdir(wheels)):
            with zipfile.ZipFile(os.path.join(wheels, wheel)) as parts:
                parts.extractall(site)
        gone = kept = 0
        for place, _, files in os.walk(site):
            for path in (os.path.join(place, name) for name in files if ".so" in name):
                with open(path, "rb") as library:
                    data = bytearray(library.read())
                own = cut(data, arch)
                gone, kept = gone + own[0], kept + own[1]
                if own[0]:
                    with open(path, "wb") as library:
                        library.write(data)
        path = os.path.join(out, f"peer-{name}.tar.xz")
        with tarfile.open(path, "w:xz") as archive:
            archive.add(site, arcname=".")
    size = os.path.getsize(path)
    note = "" if size < LIMIT else ": larger than 64 MiB"
    print(f"{path}: {size / 2**20:.1f} MiB{note}; device code kept {kept / 2**20:.1f} MiB, cut {gone / 2**20:.1f} MiB")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--only", default=",".join([*PURE, *DEVICE]))
    p.add_argument("--arch", type=int, default=90)
    p.add_argument("--python", default="3.12")
    args = p.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    missing = []
    for name in args.only.split(","):
        if name in PURE:
            if not fetch(args.folder, args.python, PURE[name]):
                missing.append(name)
            continue
        with tempfile.TemporaryDirectory() as wheels:
            if fetch(wheels, args.python, DEVICE[name]):
                pack(name, wheels, args.folder, args.arch)
            else:
                missing.append(name)
    for name in missing:
        print(f"{name}: left out, pip could not download it", file=sys.stderr)


if __name__ == "__main__":
    main()
