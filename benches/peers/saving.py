#!/usr/bin/env python3
"""Saving and loading beside faiss: the same shape, in turns, in one run.

    cargo build --release --bench saving
    python3 benches/peers/saving.py --program target/release/deps/saving-<hash>

Prints one JSON object. `write` is without waiting for the disk, as faiss's write_index is; `save`
waits for it. faiss: write_index and read_index of an IndexIVFFlat with the same number of vectors and
lists, to the same folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import faiss
import numpy as np


def build(n, d, nlist):
    rng = np.random.default_rng(1)
    quantizer = faiss.IndexFlatL2(d)
    quantizer.add(rng.random((nlist, d), dtype=np.float32))
    index = faiss.IndexIVFFlat(quantizer, d, nlist)
    index.is_trained = True
    index.add(rng.random((n, d), dtype=np.float32))
    index.nprobe = min(32, nlist)
    return index


FRESH = """
import faiss, sys, time
started = time.perf_counter()
index = faiss.read_index(sys.argv[1])
print((time.perf_counter() - started) * 1e3)
"""


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def clock(work):
    started = time.perf_counter()
    result = work()
    return (time.perf_counter() - started) * 1e3, result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True)
    p.add_argument("--n", type=int, default=262_144)
    p.add_argument("--d", type=int, default=128)
    p.add_argument("--nlist", type=int, default=512)
    p.add_argument("--rounds", type=int, default=15)
    args = p.parse_args()
    index = build(args.n, args.d, args.nlist)
    queries = np.random.default_rng(2).random((512, args.d), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        ours_at = os.path.join(folder, "ours")
        command = [args.program, "serve", ours_at, str(args.n), str(args.d), str(args.nlist)]
        ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while ours.stdout.readline().strip() != "ready":
            if ours.poll() is not None:
                sys.exit("the program ended")

        def ask(line):
            print(line, file=ours.stdin, flush=True)
            return float(ours.stdout.readline())

        times = {}
        theirs = os.path.join(folder, "theirs")

        def note(name, took):
            times.setdefault(name, []).append(took)

        faiss.write_index(index, theirs)
        for _ in range(args.rounds):
            fresh = theirs + ".written"
            os.sync()  # nobody writes into what another has still to bring to the disk
            note("faiss write_index", clock(lambda: faiss.write_index(index, fresh))[0])
            fd = os.open(fresh, os.O_RDWR)
            note("faiss fsync after it", clock(lambda: os.fsync(fd))[0])
            os.close(fd)
            os.remove(fresh)
            os.sync()
            note("write", ask("write"))
            os.sync()
            note("save (fsync)", ask("save"))
            took, loaded = clock(lambda: faiss.read_index(theirs))
            note("faiss read_index", took)
            del loaded
            note("load", ask("load"))
            # in a new process every page of the index is touched for the first time
            note("faiss read_index, new process", float(run([sys.executable, "-c", FRESH, theirs])))
            note("load, new process", float(run([args.program, "load", ours_at]).split()[2]))
            for nq in (1, 512):
                note(f"faiss search {nq}", clock(lambda: index.search(queries[:nq], 20))[0])
                note(f"search {nq}", ask(f"search {nq}"))
                note(f"mapped search {nq}", ask(f"mapped {nq}"))
        ours.stdin.close()
        ours.wait()
        size = os.path.getsize(ours_at)
        median = {name: round(statistics.median(of), 2) for name, of in times.items()}
        pairs = {
            "write": "faiss write_index",
            "load": "faiss read_index",
            "load, new process": "faiss read_index, new process",
        }
        ratio = {
            name: round(statistics.median(t / o for o, t in zip(times[name], times[peer])), 2)
            for name, peer in pairs.items()
        }
        print(json.dumps({
            "n": args.n, "d": args.d, "nlist": args.nlist, "rounds": args.rounds, "faiss": faiss.__version__,
            "bytes": size, "faiss_bytes": os.path.getsize(theirs), "threads": os.cpu_count(),
            "load_average": os.getloadavg(), "median_ms": median,
            "min_ms": {name: round(min(of), 2) for name, of in times.items()},
            "faiss_time_over_ours": ratio,
        }))


if __name__ == "__main__":
    main()
