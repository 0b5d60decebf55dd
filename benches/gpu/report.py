#!/usr/bin/env python3
"""The table and the gates of one run.

    python3 report.py FOLDER

Reads FOLDER/results.jsonl, writes FOLDER/report.md and FOLDER/gates.jsonl, prints the gates last.
Exit code 3 when a gate is missed or was not measured.
"""

import json
import os
import sys

LATENCY_US, QPS_32, TIMES_TORCH_IVF, RECALL_APART = 60.0, 0.3e6, 5.0, 0.02


def rows_of(path):
    if not os.path.exists(path):
        return []
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.strip()]


def label(row):
    name = row["library"]
    if name == "burn-ivf":
        return f"burn-ivf {row['backend']}"
    return f"{name} {row.get('version', '')} {row['mode']}"


class Cells:
    """Measured rows by name, input and nq; of equal ones the last."""

    def __init__(self, rows):
        self.by = {}
        for row in rows:
            if "library" in row and "nq" in row:
                self.by[(label(row), row["input"], row["nq"])] = row

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


def gates(cells):
    found = []
    for nq in (128, 512, 2048, 19_600):
        found.append(against(cells, "G0", "torch-ivf", nq, 1.0, "matrix"))
    one, many = cells.timed("burn-ivf", 1), cells.timed("burn-ivf", 32)
    micros = round(one[0][0] * 1e3, 2) if one else None
    text = f"nq=1: at most {LATENCY_US:g} us: " + (f"{micros} us ({label(one[0][1])})" if one else "not measured")
    found.append(gate("G1", micros, lambda reached: reached <= LATENCY_US, text))
    qps = round(32e3 / many[0][0]) if many else None
    text = f"nq=32: at least {QPS_32:g} QPS: " + (f"{qps} QPS ({label(many[0][1])})" if many else "not measured")
    found.append(gate("G1", qps, lambda reached: reached >= QPS_32, text))
    for nq in (1, 32):
        found.append(against(cells, "G1", "torch-ivf", nq, TIMES_TORCH_IVF))
    for theirs in ("cuvs", "faiss-gpu"):
        if any(row["library"] == theirs for row in cells.by.values()):
            found += [against(cells, "G1", theirs, nq, 1.0) for nq in (1, 8, 32)]
    return found


def table(cells, where):
    names = sorted({name for name, at, _ in cells.by if at == where}, key=lambda name: (not name.startswith("burn"), name))
    sizes = sorted({nq for _, at, nq in cells.by if at == where})
    if not names:
        return []
    lines = [f"## Milliseconds per search, queries and results on the {where}", ""]
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
    lines = ["## burn-ivf: how", "", "| backend | nq | mode | kernel | order | rows per query | GFLOP/s | GB/s | min ms |"]
    lines.append("|---|---:|---|---|---|---:|---:|---:|---:|")
    for row in own:
        scanned = row.get("rows_scanned")
        mean = "" if scanned is None else f"{scanned / row['nq']:.0f}"
        words = (row["backend"], row["nq"], row["chosen_mode"], row["kernel"], row["order"], mean,
                 row.get("gflops"), row.get("gbps"), row["search_ms_min"])
        lines.append("| " + " | ".join(str(word) for word in words) + " |")
    return [*lines, ""]


def listed(rows, kind, title):
    own = [row for row in rows if row.get("kind") == kind]
    if not own:
        return []
    words = [", ".join(f"{key} {value}" for key, value in row.items() if key != "kind") for row in own]
    return [f"## {title}", "", *[f"- {text}" for text in words], ""]


def main():
    folder = sys.argv[1]
    rows = rows_of(f"{folder}/results.jsonl")
    cells = Cells(rows)
    found = gates(cells)
    lines = ["# Measured on a GPU", ""]
    for kind, title in (("environment", "Environment"), ("clocks", "Card, as found"), ("probe", "What the card reaches"), ("step", "Steps")):
        lines += listed(rows, kind, title)
    lines += ["## Gates", "", "| gate | state | |", "|---|---|---|"]
    lines += [f"| {row['gate']} | {row['state']} | {row['text']} |" for row in found]
    lines += ["", *table(cells, "device"), *table(cells, "host"), *scans(rows)]
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
