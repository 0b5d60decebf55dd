#!/usr/bin/env python3
"""Times other libraries on the card, on the vectors that `sweep` searches; JSON lines like its own.

    sweep data --data normal --out DIR
    python3 peers.py --dir DIR --out results.jsonl

Answers come first: recall of the first queries against an exact search in f64, the error of the
distances, and the recall at nprobe = nlist. Then the clock, as in `sweep run`: the queue of the
device is empty before it starts and when it stops, other queries every time, up to 64 searches a
sample, the median of the samples. `input` says whether queries and results stay on the device.
A library that is not there is left out with a line that says why. `--device cpu` tries the script.
"""

import argparse
import json
import statistics
import sys
import time
from datetime import datetime, timezone

import libraries
import reference


def numbers(text):
    return [int(word) for word in text.split(",") if word]


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dir", required=True, help="folder with base.npy and queries.npy")
    p.add_argument("--out", help="append to this file instead of stdout")
    p.add_argument("--device", default="cuda")
    usual = ",".join(kind.name for kind in libraries.IVF)
    p.add_argument("--only", default=usual, help="of " + ", ".join(libraries.ALL))
    p.add_argument("--nq", type=numbers, default=[1, 8, 32, 128, 512, 2048, 19_600])
    p.add_argument("--nprobe", type=int, default=32)
    p.add_argument("--k", type=int, default=20)
    p.add_argument("--nlist", type=int, default=512)
    p.add_argument("--train-n", type=int, default=20_480)
    p.add_argument("--gt-nq", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1234)
    p.add_argument("--warmup", type=int, default=3)
    p.add_argument("--repeat", type=int, default=9, help="samples; at least 5 for a median worth its name")
    p.add_argument("--cell-s", type=float, default=10.0, help="a search longer than this is left out")
    return p.parse_args()


def quantile(samples, share):
    """The value below which a share of the samples lies, between two of them in proportion."""
    ordered = sorted(samples)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (at - low) * (ordered[high] - ordered[low]), 4)


class Bench:
    def __init__(self, torch, np, args, write):
        self.torch, self.args, self.write = torch, args, write
        self.host = np.ascontiguousarray(np.load(f"{args.dir}/queries.npy"), np.float32)
        base = np.ascontiguousarray(np.load(f"{args.dir}/base.npy"), np.float32)
        self.base = torch.from_numpy(base).to(args.device)
        self.queries = torch.from_numpy(self.host).to(args.device)
        args.d = base.shape[1]
        args.gt_nq = min(args.gt_nq, len(self.host))
        self.truth = reference.exact(torch, self.base, self.queries[: args.gt_nq], args.k)[1]
        self.card = "cpu" if args.device == "cpu" else torch.cuda.get_device_name()

    def sync(self):
        if self.args.device != "cpu":
            self.torch.cuda.synchronize()

    def clock(self, action):
        self.sync()
        start = time.perf_counter()
        action()
        self.sync()
        return (time.perf_counter() - start) * 1e3

    def sample(self, peer, nq, start, times, resident):
        """Milliseconds per search over `times` searches of `nq` queries each."""
        k, device = self.args.k, self.args.device
        at = [start + turn * nq for turn in range(times)]
        spent = 0.0
        if resident:
            for block in [self.queries[i : i + nq].clone() for i in at]:
                spent += self.clock(lambda block=block: peer.search(block, k))
        else:
            def whole(i):
                block = self.torch.from_numpy(self.host[i : i + nq]).to(device)
                return [part.cpu().numpy() for part in peer.search(block, k)]

            spent = self.clock(lambda: [whole(i) for i in at])
        return spent / times

    def cell(self, peer, nq, resident):
        args, pool = self.args, len(self.host)
        times = max(1, min(64 // nq, pool // nq))
        if args.device != "cpu":
            self.torch.cuda.reset_peak_memory_stats()
        first = self.sample(peer, nq, 0, 1, resident)
        again = self.sample(peer, nq, 0, 1, resident) if first > args.cell_s * 1e3 else first
        if again > args.cell_s * 1e3:
            return None, f"one search takes {again / 1e3:.1f} s"
        samples, spent, span = [], 0.0, nq * times
        for rep in range(args.warmup + max(5, args.repeat)):
            ms = self.sample(peer, nq, (rep + 1) * span % (pool - span + 1), times, resident)
            spent += ms * times / 1e3
            if rep >= args.warmup:
                samples.append(ms)
            if spent > args.cell_s and len(samples) >= 5:
                break
        median = statistics.median(samples)
        return dict(
            search_ms=round(median, 4), search_ms_min=round(min(samples), 4), first_ms=round(first, 4),
            search_ms_p10=quantile(samples, 0.1), search_ms_p90=quantile(samples, 0.9), **self.by_device(peer, nq, resident),
            times_ms=[round(ms, 4) for ms in samples],
            searches_per_sample=times, repeat=len(samples), warmup=args.warmup, rotate=True,
            qps=round(nq / median * 1e3, 1), timestamp=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        ), None

    def by_device(self, peer, nq, resident):
        """Time between two events of the device's queue around a search, and torch's peak of memory."""
        if self.args.device == "cpu" or not resident:
            return {}
        torch, found = self.torch, []
        for _ in range(5):
            block = self.queries[:nq].clone()
            self.sync()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            peer.search(block, self.args.k)
            end.record()
            self.sync()
            found.append(start.elapsed_time(end))
        held = torch.cuda.max_memory_allocated() / 2**20
        return dict(kernel_ms=round(statistics.median(found), 4), kernel_clock="device", torch_mib_peak=round(held, 1))

    def judge(self, peer, mode):
        """What the answers are worth, before anything is timed."""
        args, first = self.args, self.queries[: self.args.gt_nq]
        peer.select(mode, args.nprobe)
        near, ids = peer.search(first, args.k)
        few = slice(0, min(100, args.gt_nq))
        error = reference.distance_error(self.torch, self.base, first[few], near[few], ids[few])
        found = dict(recall=reference.recall(ids, self.truth), recall_nq=args.gt_nq, distance_error=error)
        if not peer.exact:
            peer.select(mode, args.nlist)
            found["recall_full_probe"] = reference.recall(peer.search(first[:8], args.k)[1], self.truth[:8])
            peer.select(mode, args.nprobe)
        return found

    def run(self, kind):
        args = self.args
        peer = kind(self.torch, args)
        build_ms = self.clock(lambda: peer.build(self.base))
        for mode in peer.modes:
            judged = self.judge(peer, mode)
            setting = dict(
                library=peer.name, version=peer.version, mode=mode, device=self.card, backend=f"torch-{args.device}",
                metric="l2", nb=len(self.base), d=args.d, nlist=args.nlist, train_n=args.train_n, dtype="f32",
                topk=args.k, nprobe=None if peer.exact else args.nprobe, build_ms=round(build_ms, 1), **judged,
            )
            for resident in (True, False):
                for nq in (nq for nq in args.nq if nq <= len(self.host)):
                    row = dict(setting, nq=nq, input="device" if resident else "host")
                    timed, reason = self.cell_or_reason(peer, nq, resident)
                    self.write(dict(row, **timed) if timed else dict(row, skipped=reason))
                    said = f"{timed['search_ms']} ms, recall {judged['recall']}" if timed else f"left out: {reason}"
                    print(f"{peer.name} {mode} {row['input']} nq {nq}: {said}", file=sys.stderr)
            peer.done()

    def cell_or_reason(self, peer, nq, resident):
        try:
            return self.cell(peer, nq, resident)
        except RuntimeError as error:  # out of memory is one of these
            if self.args.device != "cpu":
                self.torch.cuda.empty_cache()
            return None, (str(error).splitlines() or ["an error without a text"])[0]

    def probe(self):
        """What the card reaches in this very run: a copy, and products of matrices."""
        torch, n = self.torch, 8192 if self.args.device != "cpu" else 512
        source = torch.randn(n * n * 4, device=self.args.device)
        target = torch.empty_like(source)
        a, b = torch.randn(2, n, n, device=self.args.device).unbind(0)

        def best(action):
            return min(self.clock(action) for _ in range(7)) / 1e3

        row = dict(kind="probe", device=self.card, copy_gbps=8 * source.numel() / best(lambda: target.copy_(source)) / 1e9)
        row["f32_tflops"] = 2 * n**3 / best(lambda: a @ b) / 1e12
        empty = [self.clock(lambda: None) for _ in range(99)]
        row["sync_us"] = statistics.median(empty) * 1e3
        self.write({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})


def main():
    args = options()
    sink = open(args.out, "a") if args.out else sys.stdout

    def write(row):
        print(json.dumps(row), file=sink, flush=True)

    torch, numpy, reason = reference.imports(args.device)
    if reason:
        write(dict(kind="skipped", library="all peers", reason=reason))
        print(f"all peers: left out: {reason}", file=sys.stderr)
        return
    bench = Bench(torch, numpy, args, write)
    bench.probe()
    for name in args.only.split(","):
        try:
            bench.run(libraries.ALL[name])
        except libraries.Absent as reason:
            bench.write(dict(kind="skipped", library=name, reason=str(reason)))
            print(f"{name}: left out: {reason}", file=sys.stderr)
        except Exception as error:  # one library that fails must not cost the others
            text = f"{type(error).__name__}: {error}"
            bench.write(dict(kind="skipped", library=name, reason=text))
            print(f"{name}: failed: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
