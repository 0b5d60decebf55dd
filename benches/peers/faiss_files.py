#!/usr/bin/env python3
"""faiss-cpu as a partner that reads and writes files on request, for `cargo test --test faiss_peer`
and `cargo bench --bench files`, which start it.

    pip install numpy faiss-cpu==1.15.1

Takes one JSON object a line on stdin, answers with one a line on stdout: {"ms": ...} or {"error": ...}.

    {"do": "hello"}                                           -> {"faiss": version}
    {"do": "build", "base": npy, "rows": n, "metric": "l2" | "ip", "nlist": n, "first_id": i,
     "map": "none" | "array" | "hashtable", "out": path}      IVFFlat, trained and filled
    {"do": "build", "base": npy, "rows": n, "metric": ..., "first_id": i, "out": path}   Flat or IDMap2
    {"do": "read", "path": path}                              the index becomes the present one
    {"do": "write", "path": path, "sync": bool}               the present index; sync: force it to the disk
    {"do": "search", "queries": npy, "k": k, "nprobe": n, "out": prefix}   prefix_ids.npy, prefix_dist.npy
"""

import json
import os
import sys
import time

import faiss
import numpy as np

present = None


def rows(path, count=None):
    return np.ascontiguousarray(np.load(path)[:count], np.float32)


def build(job):
    base = rows(job["base"], job.get("rows"))
    d = base.shape[1]
    ids = np.arange(len(base)) + job["first_id"]
    ip = job["metric"] == "ip"
    flat = faiss.IndexFlatIP(d) if ip else faiss.IndexFlatL2(d)
    if "nlist" in job:
        index = faiss.IndexIVFFlat(flat, d, job["nlist"], faiss.METRIC_INNER_PRODUCT if ip else faiss.METRIC_L2)
        index.train(base)
        index.add_with_ids(base, ids)
        maps = {"none": 0, "array": 1, "hashtable": 2}
        index.set_direct_map_type(maps[job.get("map", "none")])
    elif job["first_id"]:
        index = faiss.IndexIDMap2(flat)
        index.add_with_ids(base, ids)
    else:
        index = flat
        index.add(base)
    faiss.write_index(index, job["out"])
    return index


def search(index, job):
    if "nprobe" in job:
        index.nprobe = job["nprobe"]
    distances, ids = index.search(rows(job["queries"]), job["k"])
    np.save(job["out"] + "_ids.npy", ids)
    np.save(job["out"] + "_dist.npy", distances)


def run(job):
    global present
    do = job["do"]
    if do == "hello":
        return {"faiss": faiss.__version__}
    started = time.perf_counter()
    if do == "build":
        present = build(job)
    elif do == "read":
        present = None  # the old one is not part of what is timed
        started = time.perf_counter()
        present = faiss.read_index(job["path"])
    elif do == "write":
        faiss.write_index(present, job["path"])
        if job.get("sync"):
            with open(job["path"], "r+b") as file:
                os.fsync(file.fileno())
    elif do == "search":
        search(present, job)
    else:
        raise ValueError(f"no such request: {do}")
    return {"ms": 1000 * (time.perf_counter() - started), "ntotal": present.ntotal}


def main():
    for line in sys.stdin:
        try:
            answer = run(json.loads(line))
        except Exception as error:  # whatever it is, the other side must hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
