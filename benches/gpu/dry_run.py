#!/usr/bin/env python3
"""Tries run.sh as a whole on a machine without a GPU: tiny sizes, a CPU backend, peers that are not there.

    python3 dry_run.py [--sweep BINARY] [--backend ndarray]

With --sweep the real harness runs (built for a CPU backend) and every record must have every field that
benches/README.md promises; without it a stand-in writes records of known numbers. Then rows of stub
peers are put beside them, and the report must name them all and judge the gates by them. Exit code 1
and a sentence when something is wrong.
"""

import argparse
import json
import os
import stat
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = "kernels,suite,sweep,filters,knobs,peers,agree,flat,scale"
# What gpu.md's table wants of a row, by the names of the records.
FIELDS = """library version burn cubecl adapter git backend backend_type device nb d nlist nprobe topk nq dtype metric mode data
seed lists candidates avg_group chosen_mode order kernel reason warmup repeat rotate input search_ms search_ms_p10 search_ms_p90
search_ms_min times_ms first_ms cold_ms kernel_ms kernel_clock launches blocking_reads uploaded_bytes counted_bytes
counted_bytes_once counted_flops counted_useful_flops kernels memory_fraction fma_fraction ceilings qps recall distance_error
verified knobs train_ms add_ms piece index device_mib_in_use device_mib_held rss_mib_peak timestamp""".split()

STUB = '''#!/usr/bin/env python3
import json, sys
words = sys.argv[1:]
def of(name, default=None):
    return words[words.index(name) + 1] if name in words else default
if words[0] in ("run", "flat"):
    flat = words[0] == "flat"
    for k in of("--k").split(","):
        for nq in of("--nq").split(","):
            row = dict(library="burn-ivf", version="0", burn="0", cubecl="0", adapter="none", git="none", backend=of("--backend"),
                       backend_type="stub", device="stub", nb=int(of("--nb")), d=int(of("--d")), nlist=1 if flat else int(of("--nlist")),
                       nprobe=1 if flat else int(of("--nprobe")), topk=int(k), nq=int(nq), index="flat" if flat else "ivf-flat",
                       chosen_mode="csr", mode="auto", order="list-major", kernel="stub", data="normal", input=of("--input"),
                       search_ms=1.0, search_ms_min=0.9, qps=int(nq) * 1e3, train_ms=1.0, add_ms=1.0, launches=2, lists={}, recall=1.0)
            with open(of("--out"), "a") as out:
                print(json.dumps(row), file=out)
elif words[0] == "data":
    import os
    os.makedirs(of("--out"), exist_ok=True)
    open(os.path.join(of("--out"), "queries.npy"), "w").close()
'''


def wrong(text):
    print(f"dry_run.py: {text}", file=sys.stderr)
    sys.exit(1)


def executable(path, text):
    with open(path, "w") as out:
        out.write(text)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def lines_of(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def run(folder, sweep, backend):
    """One run of everything; its results' folder and its records."""
    place = os.path.join(folder, "bin")
    os.mkdir(place)
    if sweep:
        os.symlink(os.path.abspath(sweep), os.path.join(place, "sweep"))
    else:
        executable(os.path.join(place, "sweep"), STUB)
    for name in ("cuda", "kernels-device"):
        executable(os.path.join(place, name), "#!/bin/sh\necho 'test result: ok. 1 passed; 0 failed'\n")
    out = os.path.join(folder, "out")
    environment = dict(os.environ, GPU_SIZES="tiny", GPU_ANYWHERE="yes", GPU_BACKENDS=backend, GPU_PEER_DEVICE="cpu", PYTHON=sys.executable)
    words = [os.path.join(HERE, "run.sh"), "--steps", STEPS, "--out", out, "--bin", place]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    rows = lines_of(os.path.join(out, "results.jsonl"))
    failed = [row for row in rows if row.get("kind") == "step" and row["exit"] != "0"]
    # 3: gates were not measured, which is so on such a machine.
    if done.returncode != 3 or failed:
        wrong(f"run.sh ended with {done.returncode}, steps {failed}\n{done.stdout}")
    return out, rows


def check_records(rows, real):
    own = [row for row in rows if row.get("library") == "burn-ivf"]
    kinds = {(row["index"], row["nb"], row["nlist"]) for row in own}
    if len(kinds) < 4:
        wrong(f"not every workload has records: {kinds}")
    for row in own if real else []:
        missing = [name for name in FIELDS if name not in row]
        if missing:
            wrong(f"a record lacks {missing}: {row}")
        if row["verified"] == 0 or row["distance_error"] > 1e-5:
            wrong(f"a record was not judged: {row}")
    steps = {row["name"].split(":")[0] for row in rows if row.get("kind") == "step"}
    for name in ("kernels", "suite", "sweep", "filters", "knobs", "peers", "flat", "scale"):
        if name not in steps:
            wrong(f"no step {name} in {steps}")
    return own


def check_report(out, own):
    """The report with rows of every peer on the seed workload, the large and the flat one."""
    peers = [
        ("torch-matmul-topk", "f32"), ("torch-ivf", "csr"), ("torch-ivf", "auto"), ("torch-ivf", "matrix"), ("flashlib", "auto"),
        ("faiss-gpu", "ivfflat"), ("cuvs", "ivf_flat"),
    ]
    seed = dict(nb=262_144, d=128, nlist=512, nprobe=32, topk=20)
    large = [dict(nb=10_000_000, d=128, nlist=n, nprobe=p, topk=10) for n, p in ((4096, 32), (16_384, 64))]
    flat = dict(nb=1_000_000, d=768, nlist=1, nprobe=1, topk=10, index="flat")
    sizes = ((seed, (1, 8, 32, 128, 512, 2048, 19_600)), (large[0], (10_000,)), (large[1], (10_000,)), (flat, (1000,)))
    with open(os.path.join(out, "results.jsonl"), "a") as lines:
        for setting, batches in sizes:
            for nq in batches:
                # 100 times slower than a microsecond a query, and 50 us at least.
                row = dict(own[0], **setting, backend="cuda-raw", nq=nq, input="device", search_ms=max(0.05, nq * 1e-4), qps=1.0)
                print(json.dumps(row), file=lines)
                for library, mode in peers:
                    peer = dict(setting, library=library, mode=mode, version="stub", backend="torch-cuda", nq=nq, input="device",
                                search_ms=100 * row["search_ms"], qps=1.0, recall=row.get("recall"))
                    print(json.dumps(dict(peer, nprobe=None) if library.startswith("torch-mat") else peer), file=lines)
    done = subprocess.run([sys.executable, os.path.join(HERE, "report.py"), out], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0 or "not measured" in done.stdout or "FAIL" in done.stdout:
        wrong(f"gates by rows that meet them all: {done.returncode}\n{done.stdout}")
    with open(os.path.join(out, "report.md")) as text:
        report = text.read()
    for word in [name for name, _ in peers] + ["10000000 x 128, 64 of 16384 lists", "1000000 x 768, every row", "262144 x 128", "Left out"]:
        if word not in report:
            wrong(f"the report does not say {word!r}")
    # One row that misses its gate must be noticed.
    with open(os.path.join(out, "results.jsonl"), "a") as lines:
        print(json.dumps(dict(own[0], **seed, backend="cuda-raw", nq=1, input="device", search_ms=0.061, qps=1.0)), file=lines)
    done = subprocess.run([sys.executable, os.path.join(HERE, "report.py"), out], stdout=subprocess.PIPE, text=True)
    if done.returncode != 3 or "FAIL" not in done.stdout:
        wrong(f"61 us pass the gate of 60: {done.stdout}")


def check_cut():
    """pack_peers.py cuts device code of other architectures out of a library, and nothing else."""
    import pack_peers

    def entry(kind, arch, code):
        return pack_peers.ENTRY.pack(kind, 1, 64, len(code)) + bytes(12) + struct.pack("<I", arch) + bytes(32) + code

    entries = entry(2, 80, b"eighty80" * 4) + entry(2, 90, b"ninety90" * 4) + entry(1, 80, b"text" * 4)
    library = b"before" + pack_peers.MAGIC + b"no container" + pack_peers.CONTAINER.pack(0xBA55ED50, 1, 16, len(entries)) + entries + b"after"
    data = bytearray(library)
    sizes = pack_peers.cut(data, 90)
    expected = library.replace(b"eighty80" * 4, bytes(32)).replace(b"text" * 4, bytes(16))
    if bytes(data) != expected or sizes != (48, 32):
        wrong(f"device code is cut wrongly: {sizes}")


def main():
    check_cut()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sweep")
    p.add_argument("--backend", default="ndarray")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out, rows = run(folder, args.sweep, args.backend)
        check_report(out, check_records(rows, bool(args.sweep)))
    print(f"dry_run.py: fine, {'the harness' if args.sweep else 'a stand-in for the harness'} on {args.backend}")


if __name__ == "__main__":
    main()
