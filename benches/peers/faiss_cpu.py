#!/usr/bin/env python3
"""Time faiss-cpu's IVFFlat and write the same JSON lines as `sweep run`.

    pip install numpy faiss-cpu==1.15.1
    python benches/peers/faiss_cpu.py --out faiss.jsonl

To search the very vectors that `sweep` searched, write them out first:

    cargo bench --bench sweep -- data --data clustered --out /tmp/set
    cargo bench --bench sweep -- run --data /tmp/set/base.npy --queries /tmp/set/queries.npy
    python benches/peers/faiss_cpu.py --data /tmp/set/base.npy --queries /tmp/set/queries.npy

Times of two programs that ran one after the other differ by whatever the machine did meanwhile;
for a ratio to rely on, interleave them through `sweep serve` (see benches/README.md).
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time

POOL = 19_600  # queries drawn for the synthetic sets
HERE = os.path.dirname(os.path.abspath(__file__))


def numbers(text):
    return [int(word) for word in text.split(",") if word]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default="normal", help="normal | clustered | base.npy | base.fvecs")
    p.add_argument("--queries", help="query vectors when --data is a file")
    p.add_argument("--nb", type=int, help="default 262144, or all rows of the file")
    p.add_argument("--d", type=int, default=128, help="dimensions of synthetic data")
    p.add_argument("--normalize", action="store_true", help="scale every vector to length 1")
    p.add_argument("--metric", choices=["l2", "ip"], default="l2")
    p.add_argument("--train-n", type=int, default=20_480)
    p.add_argument("--nlist", type=int, default=512)
    p.add_argument("--nprobe", type=numbers, default=[32])
    p.add_argument("--k", type=numbers, default=[20])
    p.add_argument("--nq", "--nq-list", type=numbers, default=[1, 8, 32, 128, 512, 2048, POOL])
    p.add_argument("--gt-nq", type=int, default=1000, help="recall over this many first queries, 0: none")
    p.add_argument("--warmup", type=int, default=1)
    p.add_argument("--repeat", type=int, default=7)
    p.add_argument("--cell-s", type=float, default=60.0)
    p.add_argument("--no-rotate", action="store_true", help="search the same queries every time")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--seed", type=int, default=1234)
    p.add_argument("--out", help="append to this file instead of stdout")
    p.add_argument("--env", action="store_true", help="print the environment snapshot and stop")
    return p.parse_args()


args = arguments()
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(args.threads)  # read when the libraries load
import faiss  # noqa: E402
import numpy as np  # noqa: E402


class Clustered:
    """Uneven Gaussian clusters whose axes lose energy like 1/(i+1), in a random orientation."""

    def __init__(self, d, rng):
        turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
        energy = 1.0 / np.arange(1, d + 1)
        self.axes = (np.sqrt(energy * d / energy.sum())[:, None] * turn).astype(np.float32)
        weights = rng.random(1500) ** -0.5 - 0.8
        self.weights = weights / weights.sum()
        self.centres = 0.8 * rng.standard_normal((1500, d), np.float32)
        self.rng = rng

    def draw(self, rows):
        out = np.empty((rows, len(self.axes)), np.float32)
        for at in range(0, rows, 65_536):
            n = min(65_536, rows - at)
            own = self.centres[self.rng.choice(len(self.weights), n, p=self.weights)]
            own = own + 0.6 * self.rng.standard_normal(own.shape, np.float32)
            out[at : at + n] = own @ self.axes
        return out


def read(path):
    if path.endswith(".fvecs"):
        words = np.fromfile(path, np.int32)
        words = words.reshape(-1, int(words[0]) + 1)
        return np.ascontiguousarray(words[:, 1:]).view(np.float32)
    return np.ascontiguousarray(np.load(path), np.float32)


def load():
    if args.data in ("normal", "clustered"):
        rng = np.random.default_rng(args.seed)
        nb, pool = args.nb or 262_144, max(POOL, *args.nq, args.gt_nq)
        if args.data == "clustered":
            mixture = Clustered(args.d, rng)
            base, queries = mixture.draw(nb), mixture.draw(pool)
        else:
            base, queries = (rng.standard_normal((n, args.d), np.float32) for n in (nb, pool))
    else:
        if not args.queries:
            sys.exit("--data FILE needs --queries FILE")
        base, queries = read(args.data)[: args.nb], read(args.queries)
    if args.normalize:
        faiss.normalize_L2(base), faiss.normalize_L2(queries)
    return base, queries


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
        return done.stdout.strip() if done.returncode == 0 else None
    except OSError:
        return None


def file_field(path, name):
    try:
        with open(path) as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)
    except OSError:
        return None


def environment():
    changes = first_line(["git", "status", "--porcelain", "--untracked-files=no"])
    flags = (file_field("/proc/cpuinfo", "flags") or "").split()
    kept = ("sse4", "avx", "fma", "f16c", "bmi", "amx")
    snapshot = dict(
        cpu=file_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        cpu_flags=[flag for flag in flags if flag.startswith(kept)],
        cores=os.cpu_count(), os=platform.platform(), arch=platform.machine(),
        hostname=platform.node(), memory=file_field("/proc/meminfo", "MemTotal"),
        python=platform.python_version(), numpy=np.__version__, faiss=faiss.__version__,
        faiss_options=faiss.get_compile_options().strip(), threads=args.threads,
        git=first_line(["git", "rev-parse", "--short=12", "HEAD"]),
        git_dirty=None if changes is None else bool(changes),
    )
    digest = hashlib.sha256(json.dumps(snapshot, sort_keys=True).encode()).hexdigest()
    return {**snapshot, "env_id": digest[:12]}


def now_ms():
    return time.perf_counter() * 1e3


def timed(action):
    start = now_ms()
    action()
    return now_ms() - start


def check_exact(base, queries, labels):
    """A sample of faiss' own exact answer against float64, before anything is timed."""
    wide = base.astype(np.float64) if base.nbytes < 2**30 else base
    for row in np.linspace(0, len(labels) - 1, min(8, len(labels))).astype(int):
        q = queries[row].astype(np.float64)
        scores = -(wide @ q) if args.metric == "ip" else ((wide - q) ** 2).sum(1)
        kth = np.partition(scores, labels.shape[1] - 1)[labels.shape[1] - 1]
        if (scores[labels[row]] > kth + 1e-5 * max(1.0, abs(kth))).any():
            sys.exit(f"exact search is wrong at query {row}")


def shared_ids(found, truth):
    k = found.shape[1]
    hits = sum(len(np.intersect1d(f, t[:k])) for f, t in zip(found, truth))
    return round(hits / (len(found) * k), 6)


def measure(index, queries, nq, k):
    """Milliseconds per search, one value per sample of `times` searches."""
    times = max(1, min(64 // nq, len(queries) // nq))
    span, samples, spent = nq * times, [], 0.0
    for rep in range(args.warmup + args.repeat):
        start = 0 if args.no_rotate else (rep + 1) * span % (len(queries) - span + 1)
        blocks = [np.ascontiguousarray(queries[start + i * nq : start + (i + 1) * nq]) for i in range(times)]
        time.sleep(0.005)  # idle workers stop spinning
        ms = timed(lambda: [index.search(block, k) for block in blocks])
        spent += ms / 1e3
        if rep >= args.warmup:
            samples.append(ms / times)
        if spent > args.cell_s and samples:
            break
    return samples, times


def main():
    env = environment()
    if args.env:
        print(json.dumps(env, indent=2))
        return
    faiss.omp_set_num_threads(args.threads)
    sink = open(args.out, "a") if args.out else sys.stdout
    base, queries = load()
    nb, d = base.shape
    flat_type = faiss.IndexFlatIP if args.metric == "ip" else faiss.IndexFlatL2
    metric = faiss.METRIC_INNER_PRODUCT if args.metric == "ip" else faiss.METRIC_L2
    quantizer = flat_type(d)
    index = faiss.IndexIVFFlat(quantizer, d, args.nlist, metric)
    index.cp.seed = args.seed
    train_n = min(args.train_n, nb)
    train_ms = timed(lambda: index.train(base[:train_n]))
    add_ms = timed(lambda: index.add(base))
    truth = None
    if args.gt_nq:
        exact = flat_type(d)
        exact.add(base)
        truth = exact.search(queries[: args.gt_nq], max(args.k))[1]
        check_exact(base, queries, truth)
        del exact
    common = dict(
        library="faiss-cpu", version=faiss.__version__, device="cpu", backend="faiss", backend_type="faiss",
        metric=args.metric, data=args.data, seed=args.seed, nb=nb, d=d, nlist=args.nlist, dtype="f32",
        train_n=train_n, train_ms=round(train_ms, 4), add_ms=round(add_ms, 4),
        imbalance=index.invlists.imbalance_factor(), warmup=args.warmup, rotate=not args.no_rotate,
        input="host", threads=args.threads, git=env["git"], git_dirty=env["git_dirty"], env_id=env["env_id"],
        host=dict(name=env["hostname"], cpu=env["cpu"], cores=env["cores"], threads=args.threads,
                  os=env["os"], arch=env["arch"]),
    )
    for nprobe in args.nprobe:
        index.nprobe = nprobe
        for k in args.k:
            found = index.search(queries[: args.gt_nq], k)[1] if args.gt_nq else None
            for nq in args.nq:
                samples, times = measure(index, queries, nq, k)
                median = statistics.median(samples)
                row = dict(
                    common, nq=nq, nprobe=min(nprobe, args.nlist), max_codes=0, topk=k, mode="ivfflat",
                    chosen_mode="ivfflat", kernel=env["faiss_options"], reason="the only mode",
                    avg_group=nq * min(nprobe, args.nlist) / args.nlist, search_ms=round(median, 4),
                    search_ms_min=round(min(samples), 4), times_ms=[round(ms, 4) for ms in samples],
                    searches_per_sample=times, repeat=len(samples), qps=round(nq / median * 1e3, 1),
                    recall=None if truth is None else shared_ids(found, truth), recall_nq=args.gt_nq,
                    load_average=os.getloadavg()[0],
                    timestamp=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                )
                print(json.dumps(row), file=sink, flush=True)


if __name__ == "__main__":
    main()
