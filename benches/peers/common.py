"""What the peer scripts share: options, data, truth, the clock, and the fields of a record."""

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

import numpy as np

POOL = 19_600  # queries drawn for the synthetic sets
HERE = os.path.dirname(os.path.abspath(__file__))


def numbers(text):
    return [int(word) for word in text.split(",") if word]


def parser(doc, data="normal"):
    """The options of every peer."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default=data, help="normal | clustered | base.npy | base.fvecs")
    p.add_argument("--queries", help="query vectors when --data is a file")
    p.add_argument("--nb", type=int, help="default 262144, or all rows of the file")
    p.add_argument("--d", type=int, default=128, help="dimensions of synthetic data")
    p.add_argument("--normalize", action="store_true", help="scale every vector to length 1")
    p.add_argument("--metric", choices=["l2", "ip"], default="l2")
    p.add_argument("--train-n", type=int, default=20_480)
    p.add_argument("--nlist", type=int, default=512)
    p.add_argument("--gt-nq", type=int, default=1000, help="recall over this many first queries, 0: none")
    p.add_argument("--warmup", type=int, default=1)
    p.add_argument("--repeat", type=int, default=7)
    p.add_argument("--cell-s", type=float, default=60.0)
    p.add_argument("--no-rotate", action="store_true", help="search the same queries every time")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--seed", type=int, default=1234)
    p.add_argument("--out", help="append to this file instead of stdout")
    p.add_argument("--env", action="store_true", help="print the environment snapshot and stop")
    return p


def set_threads(count):
    """For the libraries that read these when they load, so before they are imported."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(count)


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


def load(args, most_queries):
    """Base and queries; drawn sets have at least `most_queries` of these."""
    if args.data in ("normal", "clustered"):
        rng = np.random.default_rng(args.seed)
        nb, pool = args.nb or 262_144, max(POOL, most_queries, args.gt_nq)
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
        for rows in (base, queries):
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            np.divide(rows, norms, out=rows, where=norms > 0)
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


def environment(args, **own):
    """The machine and the versions; `own` is what the peer adds about itself."""
    changes = first_line(["git", "status", "--porcelain", "--untracked-files=no"])
    flags = (file_field("/proc/cpuinfo", "flags") or "").split()
    kept = ("sse4", "avx", "fma", "f16c", "bmi", "amx")
    snapshot = dict(
        cpu=file_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        cpu_flags=[flag for flag in flags if flag.startswith(kept)],
        cores=os.cpu_count(), os=platform.platform(), arch=platform.machine(),
        hostname=platform.node(), memory=file_field("/proc/meminfo", "MemTotal"),
        python=platform.python_version(), numpy=np.__version__, **own, threads=args.threads,
        git=first_line(["git", "rev-parse", "--short=12", "HEAD"]),
        git_dirty=None if changes is None else bool(changes),
    )
    digest = hashlib.sha256(json.dumps(snapshot, sort_keys=True).encode()).hexdigest()
    return {**snapshot, "env_id": digest[:12]}


def common_fields(args, env, nb, d, train_ms, add_ms):
    """What every record of one index says."""
    return dict(
        device="cpu", metric=args.metric, data=args.data, seed=args.seed, nb=nb, d=d, dtype="f32",
        train_ms=round(train_ms, 4), add_ms=round(add_ms, 4), warmup=args.warmup,
        rotate=not args.no_rotate, input="host", threads=args.threads, git=env["git"],
        git_dirty=env["git_dirty"], env_id=env["env_id"],
        host=dict(name=env["hostname"], cpu=env["cpu"], cores=env["cores"], threads=args.threads,
                  os=env["os"], arch=env["arch"]),
    )


def timed_fields(samples, times, nq):
    """What the clock says of one cell."""
    median = statistics.median(samples)
    return dict(
        search_ms=round(median, 4), search_ms_min=round(min(samples), 4),
        times_ms=[round(ms, 4) for ms in samples], searches_per_sample=times, repeat=len(samples),
        qps=round(nq / median * 1e3, 1), load_average=os.getloadavg()[0],
        timestamp=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def now_ms():
    return time.perf_counter() * 1e3


def timed(action):
    start = now_ms()
    action()
    return now_ms() - start


def check_exact(metric, base, queries, labels):
    """A sample of an exact answer against float64, before anything is timed."""
    wide = base.astype(np.float64) if base.nbytes < 2**30 else base
    for row in np.linspace(0, len(labels) - 1, min(8, len(labels))).astype(int):
        q = queries[row].astype(np.float64)
        scores = -(wide @ q) if metric == "ip" else ((wide - q) ** 2).sum(1)
        kth = np.partition(scores, labels.shape[1] - 1)[labels.shape[1] - 1]
        if (scores[labels[row]] > kth + 1e-5 * max(1.0, abs(kth))).any():
            sys.exit(f"exact search is wrong at query {row}")


def shared_ids(found, truth):
    k = found.shape[1]
    hits = sum(len(np.intersect1d(f, t[:k])) for f, t in zip(found, truth))
    return round(hits / (len(found) * k), 6)


def measure(args, search, queries, nq):
    """Milliseconds per search, one value per sample of `times` calls of `search(block)`."""
    times = max(1, min(64 // nq, len(queries) // nq))
    span, samples, spent = nq * times, [], 0.0
    for rep in range(args.warmup + args.repeat):
        start = 0 if args.no_rotate else (rep + 1) * span % (len(queries) - span + 1)
        blocks = [np.ascontiguousarray(queries[start + i * nq : start + (i + 1) * nq]) for i in range(times)]
        time.sleep(0.005)  # idle workers stop spinning
        ms = timed(lambda: [search(block) for block in blocks])
        spent += ms / 1e3
        if rep >= args.warmup:
            samples.append(ms / times)
        if spent > args.cell_s and samples:
            break
    return samples, times
