#!/usr/bin/env python3
"""burn-ivf beside faiss-cpu's IVFFlat: the very same index in both, in turns, on one clock.

    pip install numpy faiss-cpu==1.15.1
    cargo bench --bench sweep --no-run              # prints where the binary is
    python benches/peers/beside_faiss.py --sweep target/release/deps/sweep-... --threads 2

faiss trains; its centroids and the list of every vector go into a folder that `sweep serve` opens
(benches/README.md), so both scan the same lists. Each cell is timed in turns, other queries every
time, by the wall clock of this process around both; requests and replies to burn-ivf are within its
time. Before the clock starts the ids and distances of both are compared. One JSON line per cell;
the table goes to stderr: milliseconds of both and the median, least and greatest ratio of the turns.

    --ops search,flat,train,add        what to time (flat: brute force at --flat-nq queries)
    --storage planes|copy|f32|f16|bf16 how burn-ivf keeps the vectors
    BURN_IVF_ISA=avx2                  in the environment: another instruction set
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import common

OPS = ("search", "flat", "train", "add")

options = common.parser(__doc__)
options.add_argument("--sweep", metavar="CMD", required=True, help="the built sweep")
options.add_argument("--storage", default="planes")
options.add_argument("--ops", default="search", help=", ".join(OPS))
options.add_argument("--nprobe", type=int, default=32)
options.add_argument("--k", type=int, default=20)
options.add_argument("--nq", type=common.numbers, default=[1, 8, 32, 128, 512, 2048, common.POOL])
options.add_argument("--flat-nq", type=int, default=512)
options.add_argument("--pause-ms", type=float, default=20.0, help="between turns, so that idle threads sleep")
args = options.parse_args()
ops = args.ops.split(",")
if unknown := [op for op in ops if op not in OPS]:
    sys.exit(f"--ops: no {unknown[0]}; there are {', '.join(OPS)}")
common.set_threads(args.threads)
import faiss  # noqa: E402
import numpy as np  # noqa: E402


class Peer:
    """faiss's index and what is needed to make it again."""

    def __init__(self, base):
        inner = args.metric == "ip"
        self.base, self.d = base, base.shape[1]
        self.metric = faiss.METRIC_INNER_PRODUCT if inner else faiss.METRIC_L2
        self.flat_type = faiss.IndexFlatIP if inner else faiss.IndexFlatL2
        self.flat_index = None
        self.index = self.trained()
        self.index.add(base)
        self.index.nprobe = args.nprobe

    def trained(self):
        index = faiss.IndexIVFFlat(self.flat_type(self.d), self.d, args.nlist, self.metric)
        index.cp.seed = args.seed
        index.train(self.base[: args.train_n])
        return index

    def search(self, block):
        return self.index.search(block, args.k)

    def flat(self, block):
        if self.flat_index is None:
            self.flat_index = self.flat_type(self.d)
            self.flat_index.add(self.base)
        return self.flat_index.search(block, args.k)

    def add(self):
        self.index.reset()
        self.index.add(self.base)

    def save(self, folder, queries):
        """The folder that `sweep serve` opens."""
        lists = self.index.invlists
        of = np.empty(len(self.base), np.int64)
        for number in range(args.nlist):
            if size := lists.list_size(number):
                of[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        centroids = self.index.quantizer.reconstruct_n(0, args.nlist)
        for name, rows in dict(base=self.base, queries=queries, centroids=centroids, assign=of).items():
            np.save(f"{folder}/{name}.npy", rows)
        meta = dict(metric=args.metric, nlist=args.nlist, nprobe=args.nprobe, k=args.k,
                    train_n=args.train_n, seed=args.seed)
        with open(f"{folder}/meta.json", "w") as file:
            json.dump(meta, file)


class Served:
    """burn-ivf in a process of its own."""

    def __init__(self, folder):
        self.folder = folder
        command = shlex.split(args.sweep) + ["serve", f"--dir={folder}", f"--storage={args.storage}"]
        environment = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            sys.exit(f"{args.sweep} serve ended")
        reply = json.loads(line)
        if "error" in reply:
            sys.exit(f"burn-ivf: {reply['error']}")

    def answer(self, nq):
        """Distances and ids of the last search."""
        self.ask(op="dump", out=f"{self.folder}/answer")
        labels = np.fromfile(f"{self.folder}/answer.labels", np.int64).reshape(nq, -1)
        return np.fromfile(f"{self.folder}/answer.distances", np.float32).reshape(nq, -1), labels

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def agreement(theirs, ours):
    """The share of equal ids, and the largest relative difference of a distance at the same place."""
    (distances, labels), (own, own_labels) = theirs, ours
    found = (labels >= 0) & (own_labels >= 0)
    scale = np.maximum(np.abs(distances), 1e-30)
    error = np.where(found, np.abs(distances - own) / scale, 0.0)
    return common.shared_ids(own_labels, labels), float(error.max(initial=0.0))


def in_turns(theirs, ours):
    """Milliseconds of both, turn by turn; who is first alternates."""
    times, spent = [], 0.0
    for turn in range(args.warmup + args.repeat):
        pair = {}
        for who in ("theirs", "ours") if turn % 2 else ("ours", "theirs"):
            time.sleep(args.pause_ms / 1e3)
            action = (theirs if who == "theirs" else ours)(turn)
            pair[who] = common.timed(action)
        spent += sum(pair.values()) / 1e3
        if turn >= args.warmup:
            times.append((pair["theirs"], pair["ours"]))
        if spent > args.cell_s and times:
            break
    return times


def batches(nq, queries):
    """How many searches make a sample of at least 64 queries, and where each turn begins."""
    times = max(1, min(64 // nq, len(queries) // nq))
    span = nq * times

    def start(turn):
        return 0 if args.no_rotate else (turn * span) % (len(queries) - span + 1)

    return times, start


def cell(peer, served, queries, op, nq):
    """One cell: answers compared, then both timed."""
    times, start = batches(nq, queries)
    one = peer.flat if op == "flat" else peer.search
    request = dict(op=op, nq=nq, k=args.k) if op == "flat" else dict(op=op, nq=nq, k=args.k, nprobe=args.nprobe)
    first = np.ascontiguousarray(queries[:nq])
    served.ask(**request, offset=0)
    equal, error = agreement(one(first), served.answer(nq))

    def theirs(turn):
        at = start(turn)
        blocks = [np.ascontiguousarray(queries[at + i * nq : at + (i + 1) * nq]) for i in range(times)]
        return lambda: [one(block) for block in blocks]

    def ours(turn):
        more = dict(times=times) if op == "search" else {}
        if op == "flat":
            return lambda: [served.ask(**request, offset=start(turn) + i * nq) for i in range(times)]
        return lambda: served.ask(**request, offset=start(turn), **more)

    pairs = [(a / times, b / times) for a, b in in_turns(theirs, ours)]
    return pairs, dict(nq=nq, searches_per_sample=times, ids_equal=equal, distance_error=error)


def building(peer, served, op):
    """Training or adding, whole."""
    request = dict(op=op)
    if op == "train":
        request.update(n=min(args.train_n, len(peer.base)), nlist=args.nlist, niter=10)
    action = peer.trained if op == "train" else peer.add
    return in_turns(lambda _: action, lambda _: lambda: served.ask(**request)), {}


def main():
    compiled = faiss.get_compile_options().strip()
    env = common.environment(args, faiss=faiss.__version__, faiss_options=compiled)
    if args.env:
        print(json.dumps(env, indent=2))
        return
    faiss.omp_set_num_threads(args.threads)
    wanted = (args.nq if "search" in ops else []) + ([args.flat_nq] if "flat" in ops else [])
    base, queries = common.load(args, max(wanted, default=1))
    wanted = min(max(wanted, default=1), len(queries))
    sink = open(args.out, "a") if args.out else sys.stdout
    peer = Peer(base)
    cells = [("search", nq) for nq in args.nq if "search" in ops]
    cells += [("flat", args.flat_nq)] if "flat" in ops else []
    cells = [(op, min(nq, wanted)) for op, nq in cells]
    with tempfile.TemporaryDirectory() as folder:
        peer.save(folder, queries)
        served = Served(folder)
        print(f"{'cell':>14} {'faiss ms':>10} {'burn-ivf ms':>12} {'ratio':>7} {'least':>7} {'most':>7}  ids equal, distance error",
              file=sys.stderr)
        for op, nq in cells + [(op, None) for op in ("train", "add") if op in ops]:
            pairs, said = building(peer, served, op) if nq is None else cell(peer, served, queries, op, nq)
            theirs, ours = zip(*pairs)
            ratios = sorted(a / b for a, b in pairs)
            ratio = statistics.median(ratios)
            row = dict(
                common.common_fields(args, env, *base.shape, 0.0, 0.0), kind="beside_faiss", op=op,
                faiss=faiss.__version__, storage=args.storage, nlist=args.nlist, nprobe=args.nprobe, topk=args.k,
                **said, faiss_ms=statistics.median(theirs), burn_ivf_ms=statistics.median(ours),
                ratio=ratio, ratios=[round(r, 3) for r in ratios], load_average=os.getloadavg()[0],
            )
            print(json.dumps(row), file=sink, flush=True)
            name = op if nq is None else f"{op} {nq}"
            equal = f"{said['ids_equal']:.6f}, {said['distance_error']:.1e}" if said else ""
            print(f"{name:>14} {row['faiss_ms']:10.3f} {row['burn_ivf_ms']:12.3f} {ratio:7.2f} {ratios[0]:7.2f} {ratios[-1]:7.2f}  {equal}",
                  file=sys.stderr)
        served.close()


if __name__ == "__main__":
    main()
