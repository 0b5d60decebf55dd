#!/usr/bin/env python3
"""Time hnswlib at a recall, and with --sweep burn-ivf at the same recall on the same vectors.

    pip install numpy hnswlib
    cargo build --release --bench sweep             # prints where the binary is
    python benches/peers/hnsw.py --sweep target/release/deps/sweep-... --threads 2 --out hnsw.jsonl

Builds one graph, then raises ef until recall@k reaches --recall; one JSON line per ef, with the
fields of `sweep run` as far as they apply (`add_ms` is the building of the graph, `ef` stands in for
`nprobe`). With --sweep the smallest nprobe that reaches the recall is looked for in the same way,
then both are timed in turns, --rounds times, and the medians go to stderr: queries per second and
building time (train_ms + add_ms). The same by hand:

    SWEEP data --data clustered --out /tmp/set
    SWEEP run --data /tmp/set/base.npy --queries /tmp/set/queries.npy --k 10 --nq 2048 --nprobe 4,6,8,12,16
    python benches/peers/hnsw.py --data /tmp/set/base.npy --queries /tmp/set/queries.npy
"""

import importlib.metadata
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile

import common

options = common.parser(__doc__, data="clustered")
options.add_argument("--nq", type=int, default=2048, help="queries per batch")
options.add_argument("--k", type=int, default=10)
options.add_argument("--recall", type=float, default=0.95)
options.add_argument("--m", type=int, default=16, help="links per node")
options.add_argument("--ef-construction", type=int, default=200)
options.add_argument("--ef", type=common.numbers, default=[10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256, 512])
options.add_argument("--sweep", metavar="CMD", help="the built sweep: time burn-ivf in turns with hnswlib")
options.add_argument("--sweep-args", default="", help="further options of `sweep run`")
options.add_argument("--nprobe", type=common.numbers, help="to try, ascending (default: up to 128)",
                     default=[1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128])
options.add_argument("--rounds", type=int, default=3, help="turns of both with --sweep")
args = options.parse_args()
common.set_threads(args.threads)
import hnswlib  # noqa: E402
import numpy as np  # noqa: E402


def truth_of(base, queries, k):
    """The exact k nearest: ranked in f32, the first 4 k re-ranked in f64."""
    few = min(4 * k, len(base))
    norms = None if args.metric == "ip" else (base * base).sum(1)
    labels = np.empty((len(queries), k), np.int64)
    for at in range(0, len(queries), 64):
        block = queries[at : at + 64]
        scores = block @ base.T
        scores = -scores if norms is None else norms - 2 * scores
        for row, near in enumerate(np.argpartition(scores, few - 1, axis=1)[:, :few]):
            rows, query = base[near].astype(np.float64), block[row].astype(np.float64)
            keys = -(rows @ query) if norms is None else ((rows - query) ** 2).sum(1)
            labels[at + row] = near[np.lexsort((near, keys))[:k]]
    common.check_exact(args.metric, base, queries, labels)
    return labels


class Hnsw:
    """The graph, and its records."""

    def __init__(self, base, queries, truth, env):
        nb, d = base.shape
        self.queries, self.truth, self.version = queries, truth, env["hnswlib"]
        self.index = hnswlib.Index(space=args.metric, dim=d)
        self.index.init_index(nb, M=args.m, ef_construction=args.ef_construction, random_seed=args.seed)
        self.index.set_num_threads(args.threads)
        build_ms = common.timed(lambda: self.index.add_items(base))
        self.setting = dict(
            common.common_fields(args, env, nb, d, 0.0, build_ms),
            library="hnswlib", version=self.version, backend="hnswlib", backend_type="hnswlib",
            m=args.m, ef_construction=args.ef_construction, recall_wanted=args.recall,
        )

    def search(self, block):
        return self.index.knn_query(block, args.k)

    def recall(self, ef):
        self.index.set_ef(ef)
        return common.shared_ids(self.search(self.queries[: len(self.truth)])[0], self.truth)

    def record(self, ef):
        recall = self.recall(ef)
        samples, times = common.measure(args, self.search, self.queries, args.nq)
        return dict(
            self.setting, nq=args.nq, ef=ef, topk=args.k, mode="hnsw", chosen_mode="hnsw",
            **common.timed_fields(samples, times, args.nq), recall=recall, recall_nq=len(self.truth),
        )


def sweep_records(folder, nprobe, repeat, warmup):
    """The records of `sweep run` over the vectors in `folder`."""
    command = shlex.split(args.sweep) + ["run"] + [
        f"--data={folder}/base.npy", f"--queries={folder}/queries.npy", f"--metric={args.metric}",
        f"--nlist={args.nlist}", f"--train-n={args.train_n}", f"--seed={args.seed}", f"--k={args.k}",
        f"--nq={args.nq}", f"--gt-nq={args.gt_nq}", f"--repeat={repeat}", f"--warmup={warmup}",
        f"--cell-s={args.cell_s}", f"--rotate={str(not args.no_rotate).lower()}",
        "--nprobe=" + ",".join(map(str, nprobe)),
    ] + shlex.split(args.sweep_args)
    environment = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_turns(graph, ef, folder, write):
    """Both at the recall, alternating."""
    tried = [nprobe for nprobe in args.nprobe if nprobe <= args.nlist]
    tried = sweep_records(folder, tried, repeat=1, warmup=0)
    row = next((row for row in tried if row["recall"] >= args.recall), None)
    if row is None:
        sys.exit(f"no nprobe up to {tried[-1]['nprobe']} reaches {args.recall}: {tried[-1]['recall']}")
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours += sweep_records(folder, [row["nprobe"]], args.repeat, args.warmup)
        theirs.append(graph.record(ef))
        write(ours[-1])
        write(theirs[-1])

    def middle(rows, value):
        return statistics.median(map(value, rows))

    def built(row):
        return (row["train_ms"] + row["add_ms"]) / 1e3

    ratio = statistics.median(a["qps"] / b["qps"] for a, b in zip(ours, theirs))
    for name, rows, setting in (("burn-ivf", ours, f"nprobe {row['nprobe']}"), ("hnswlib", theirs, f"ef {ef}")):
        qps, recall = middle(rows, lambda row: row["qps"]), rows[0]["recall"]
        seconds = middle(rows, built)
        print(f"{name}: {qps:.0f} QPS, {setting}, recall@{args.k} {recall:.4f}, built in {seconds:.2f} s", file=sys.stderr)
    print(f"burn-ivf / hnswlib, median of {args.rounds} rounds: {ratio:.2f}x QPS", file=sys.stderr)


def main():
    env = common.environment(args, hnswlib=importlib.metadata.version("hnswlib"))
    if args.env:
        print(json.dumps(env, indent=2))
        return
    if args.gt_nq < 1:
        sys.exit("--gt-nq: a recall is what is compared at")
    sink = open(args.out, "a") if args.out else sys.stdout

    def write(row):
        print(json.dumps(row), file=sink, flush=True)

    base, queries = common.load(args, args.nq)
    if max(args.nq, args.gt_nq) > len(queries):
        sys.exit(f"{max(args.nq, args.gt_nq)} queries asked for, there are {len(queries)}")
    graph = Hnsw(base, queries, truth_of(base, queries[: args.gt_nq], args.k), env)
    reached = None
    for ef in args.ef:
        row = graph.record(ef)
        write(row)
        if row["recall"] >= args.recall:
            reached = ef
            break
    if reached is None:
        sys.exit(f"no ef up to {args.ef[-1]} reaches recall {args.recall}")
    if args.sweep:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/base.npy", base)
            np.save(f"{folder}/queries.npy", queries)
            in_turns(graph, reached, folder, write)


if __name__ == "__main__":
    main()
