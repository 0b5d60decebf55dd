#!/usr/bin/env python3
"""The table and the gates of one run.

    python3 report.py FOLDER

Reads FOLDER/results.jsonl, writes FOLDER/report.md and FOLDER/gates.jsonl, prints the gates last.
Exit code 3 when a gate is missed or was not measured.
"""

import json
import os
import sys

RECALL_APART = 0.02
# Seed workload: at most so many microseconds at one query, at least so many queries a second at others.
LATENCY_US = 60.0
QPS = ((32, 0.3e6, "G1"), (512, 2e6, "G2"), (19_600, 2.5e6, "G2"))
TIMES = (("torch-ivf", "matrix", 1.0, (128, 512, 2048, 19_600), "G0"), ("torch-ivf", None, 5.0, (1, 32, 19_600), "G1"),
         ("torch-ivf", "csr", 50.0, (512,), "G2"), ("cuvs", None, 1.0, (1, 8, 32), "G1"), ("faiss-gpu", None, 1.0, (1, 8, 32), "G1"),
         ("cuvs", None, 10.0, (19_600,), "G3"), ("faiss-gpu", None, 10.0, (19_600,), "G3"), ("flashlib", None, 1.5, (512, 19_600), "G3"))
# nlist, nprobe, queries a second of 10 M x 128.
LARGE = ((4096, 32, 1.2e6), (16_384, 64, 2e6))
FLAT_QPS = 50e3


def rows_of(path):
    if not os.path.exists(path):
        return []
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.strip()]


def label(row):
    name = row["library"]
    if name == "burn-ivf":
        filters = row.get("filter", "")
        knobs = [f", {knob}" for knob in row.get("knobs", []) if not knob.startswith("scan_filter=")]
        return f"burn-ivf {row['backend']}" + (f", {filters}" if "products" in filters else "") + "".join(knobs)
    return f"{name} {row.get('version', '')} {row['mode']}"


def workload(row):
    """What is searched: rows of different workloads are never compared."""
    flat = row.get("index") == "flat" or row.get("nprobe") is None
    lists = (None, None) if flat else (row["nlist"], row["nprobe"])
    return (row["nb"], row["d"], *lists, row["topk"])


def title(work):
    nb, d, nlist, nprobe, topk = work
    lists = "every row" if nlist is None else f"{nprobe} of {nlist} lists"
    return f"{nb} x {d}, {lists}, k {topk}"


class Cells:
    """Measured rows of one workload by name, input and nq; of equal ones the last. Peers that read every
    row stand beside every workload of the same vectors and k."""

    def __init__(self, rows, work=None):
        self.by = {}
        for row in rows:
            if "library" in row and "nq" in row and (work is None or self.belongs(workload(row), work)):
                self.by[(label(row), row["input"], row["nq"])] = row

    @staticmethod
    def belongs(own, work):
        return own == work or (own[2] is None and (own[0], own[1], own[4]) == (work[0], work[1], work[4]))

    def timed(self, library, nq, mode=None):
        """(ms, row) of every cell of a library measured on a GPU, all on the device, the fastest first."""
        found = [
            (row["search_ms"], row)
            for (_, at, size), row in self.by.items()
            if row["library"] == library and "cuda" in row["backend"] and mode in (None, row["mode"])
            and at == "device" and size == nq and row.get("search_ms")
        ]
        return sorted(found, key=lambda pair: pair[0])


def gate(name, reached, wanted, text):
    state = "not measured" if reached is None else "pass" if wanted(reached) else "FAIL"
    return dict(gate=name, state=state, reached=reached, text=text)


def against(cells, name, theirs, nq, times, mode=None):
    """How many times faster than the fastest of `theirs`, both with queries on the device."""
    ours, peer = cells.timed("burn-ivf", nq), cells.timed(theirs, nq, mode)
    what = f"nq={nq}: at least {times:g}x {theirs}" + (f" {mode}" if mode else "")
    if not ours or not peer:
        missing = "burn-ivf" if not ours else theirs
        return gate(name, None, None, f"{what}: {missing} was not measured")
    ratio = round(peer[0][0] / ours[0][0], 2)
    text = f"{what}: {ratio}x ({label(peer[0][1])} {peer[0][0] * 1e3:.1f} us, {label(ours[0][1])} {ours[0][0] * 1e3:.1f} us)"
    recalls = [row.get("recall") for row in (ours[0][1], peer[0][1])]
    if None not in recalls and abs(recalls[0] - recalls[1]) > RECALL_APART:
        text += f"; recalls differ: {recalls[0]} and {recalls[1]}"
    return gate(name, ratio, lambda reached: reached >= times, text)


def rate(cells, name, nq, wanted, what):
    """Whether burn-ivf answers so many queries a second."""
    own = cells.timed("burn-ivf", nq)
    qps = round(nq * 1e3 / own[0][0]) if own else None
    text = f"{what}nq={nq}: at least {wanted:g} QPS: " + (f"{qps} QPS ({label(own[0][1])})" if own else "not measured")
    return gate(name, qps, lambda reached: reached >= wanted, text)


def gates(rows):
    cells, found = Cells(rows, (262_144, 128, 512, 32, 20)), []
    one = cells.timed("burn-ivf", 1)
    micros = round(one[0][0] * 1e3, 2) if one else None
    text = f"nq=1: at most {LATENCY_US:g} us: " + (f"{micros} us ({label(one[0][1])})" if one else "not measured")
    found.append(gate("G1", micros, lambda reached: reached <= LATENCY_US, text))
    found += [rate(cells, name, nq, wanted, "") for nq, wanted, name in QPS]
    for theirs, mode, times, sizes, name in TIMES:
        there = theirs == "torch-ivf" or any(row["library"] == theirs for row in cells.by.values())
        found += [against(cells, name, theirs, nq, times, mode) for nq in sizes if there]
    for nlist, nprobe, wanted in LARGE:
        large = Cells(rows, (10_000_000, 128, nlist, nprobe, 10))
        found.append(rate(large, "G5", 10_000, wanted, f"10 M x 128, {nprobe} of {nlist} lists, "))
    flat = Cells(rows, (1_000_000, 768, None, None, 10))
    found.append(rate(flat, "G4", 1000, FLAT_QPS, "1 M x 768, every row, "))
    return found


def table(cells, where):
    names = sorted({name for name, at, _ in cells.by if at == where}, key=lambda name: (not name.startswith("burn"), name))
    sizes = sorted({nq for _, at, nq in cells.by if at == where})
    if not names:
        return []
    lines = [f"### Milliseconds per search, queries and results on the {where}", ""]
    lines.append("| library | recall | " + " | ".join(f"nq {nq}" for nq in sizes) + " |")
    lines.append("|---|---:|" + "---:|" * len(sizes))
    for name in names:
        own = [cells.by.get((name, where, nq)) for nq in sizes]
        recall = next((row.get("recall") for row in own if row), None)
        words = []
        for row in own:
            if row is None:
                words.append("")
            elif row.get("search_ms"):
                words.append(f"{row['search_ms']:.4g} ({row['qps'] / 1e3:.4g} k/s)")
            else:
                words.append(row.get("skipped", "-"))
        lines.append(f"| {name} | {recall} | " + " | ".join(words) + " |")
    return [*lines, ""]


def scans(rows):
    """How each search was done, and what it read and reached, with queries on the device."""
    own = [row for row in rows if row.get("library") == "burn-ivf" and row["input"] == "device"]
    if not own:
        return []
    head = ("workload", "backend", "nq", "mode", "order", "candidates", "launches", "MB", "MB once", "GFLOP", "median ms",
            "p10", "p90", "min", "kernels ms", "cold ms", "first ms", "of memory", "of f32", "MiB held", "f64 error", "recall")
    lines = ["## burn-ivf: how", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in own:
        words = (title(workload(row)), row["backend"], row["nq"], row["chosen_mode"], row["order"], row.get("candidates"),
                 row.get("launches"), scaled(row, "counted_bytes", 1e6), scaled(row, "counted_bytes_once", 1e6),
                 scaled(row, "counted_flops", 1e9), row["search_ms"], row.get("search_ms_p10"), row.get("search_ms_p90"),
                 row["search_ms_min"], row.get("kernel_ms"), row.get("cold_ms"), row.get("first_ms"), row.get("memory_fraction"),
                 row.get("fma_fraction"), row.get("device_mib_held"), row.get("distance_error"), row.get("recall"))
        lines.append("| " + " | ".join("" if word is None else str(word) for word in words) + " |")
    return [*lines, ""]


def scaled(row, name, unit):
    return None if row.get(name) is None else f"{row[name] / unit:.4g}"


def indexes(rows):
    """Every index once: where, of what, how long its lists are."""
    seen = {}
    for row in rows:
        if row.get("library") == "burn-ivf":
            sizes, found = row.get("lists", {}), row.get("ceilings") or {}
            text = (f"{row['backend']} on {row.get('adapter') or row['device']} ({row['backend_type']}), burn-ivf {row['version']}, burn "
                    f"{row.get('burn')}, cubecl {row.get('cubecl')}, {row.get('git')}: {row['data']} {row['nb']} x {row['d']}, lists "
                    f"{sizes.get('min')} to {sizes.get('max')}, mean {sizes.get('mean')}, CV {sizes.get('cv')}; train {row['train_ms']} ms, "
                    f"add {row['add_ms']} ms in pieces of {row.get('piece')}; copy {found.get('copy_gbps')} GB/s, f32 {found.get('fma_gflops')} GFLOP/s")
            seen[(row["backend"], row["nb"], row["d"], row["nlist"])] = f"- {text}"
    return ["## Indexes and ceilings", "", *seen.values(), ""] if seen else []


def listed(rows, kind, title):
    own = [row for row in rows if row.get("kind") == kind]
    if not own:
        return []
    words = [", ".join(f"{key} {value}" for key, value in row.items() if key != "kind") for row in own]
    return [f"## {title}", "", *[f"- {text}" for text in words], ""]


def main():
    folder = sys.argv[1]
    rows = rows_of(f"{folder}/results.jsonl")
    found = gates(rows)
    lines = ["# Measured on a GPU", ""]
    for kind, name in (("environment", "Environment"), ("clocks", "Card, as found"), ("probe", "What the card reaches"), ("step", "Steps")):
        lines += listed(rows, kind, name)
    lines += ["## Gates", "", "| gate | state | |", "|---|---|---|"]
    lines += [f"| {row['gate']} | {row['state']} | {row['text']} |" for row in found]
    lines += ["", *indexes(rows)]
    for work in dict.fromkeys(workload(row) for row in rows if "library" in row and "nq" in row):
        cells = Cells(rows, work)
        lines += [f"## {title(work)}", "", *table(cells, "device"), *table(cells, "host")]
    lines += scans(rows)
    lines += listed(rows, "agreement", "Ids and distances against f64 on the card")
    lines += listed(rows, "skipped", "Left out")
    with open(f"{folder}/report.md", "w") as out:
        out.write("\n".join(lines))
    with open(f"{folder}/gates.jsonl", "w") as out:
        out.writelines(json.dumps(row) + "\n" for row in found)
    for row in found:
        print(f"{row['gate']} {row['state']:12} {row['text']}")
    sys.exit(0 if all(row["state"] == "pass" for row in found) else 3)


if __name__ == "__main__":
    main()
