#!/usr/bin/env python3
"""Checks ids and distances of `sweep serve` on the card against exact answers of torch in f64.

    python3 agree.py --dir DIR --sweep BINARY --backend cuda-raw --out results.jsonl

Lists are made here (k-means and assignment in f64) and written beside the vectors, so both sides
hold the same index and the same ids must come out. One JSON line per check; exit code 1 when one
fails. Ids may differ where rounding to f32 decides between rows, so a share of 0.9999 has to agree.
"""

import argparse
import json
import os
import subprocess
import sys

import reference

SHARE, ERROR = 0.9999, 1e-5


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dir", required=True, help="folder with base.npy and queries.npy")
    p.add_argument("--sweep", required=True, help="the built harness")
    p.add_argument("--backend", default="cuda")
    p.add_argument("--device", default="cuda")
    p.add_argument("--nq", type=lambda text: [int(word) for word in text.split(",")], default=[1, 8, 32, 512, 2048])
    p.add_argument("--flat-nq", type=int, default=512)
    p.add_argument("--nprobe", type=int, default=32)
    p.add_argument("--k", type=int, default=20)
    p.add_argument("--nlist", type=int, default=512)
    p.add_argument("--train-n", type=int, default=20_480)
    p.add_argument("--seed", type=int, default=1234)
    p.add_argument("--out", help="append to this file instead of stdout")
    return p.parse_args()


class Server:
    """`sweep serve`, asked line by line."""

    def __init__(self, np, args):
        self.np = np
        words = [args.sweep, "serve", "--dir", args.dir, "--backend", args.backend]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.prefix = os.path.join(args.dir, "answer")

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"sweep serve ended with {self.process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            sys.exit(f"sweep serve: {request}: {reply['error']}")
        return reply

    def answer(self, k, **request):
        self.ask(k=k, **request)
        self.ask(op="dump", out=self.prefix)
        labels = self.np.fromfile(f"{self.prefix}.labels", "<i8").reshape(-1, k)
        return self.np.fromfile(f"{self.prefix}.distances", "<f4").reshape(-1, k), labels

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def shared_index(torch, np, args, base):
    """Centroids and the list of every row, made or read again."""
    paths = [f"{args.dir}/centroids.npy", f"{args.dir}/assign.npy"]
    if not all(os.path.exists(path) for path in paths):
        centroids = reference.kmeans(torch, base[: args.train_n], args.nlist, 10, args.seed)
        lists = reference.nearest(torch, base, centroids)
        for path, values in zip(paths, (centroids, lists)):
            np.save(path, values.cpu().numpy())
        with open(f"{args.dir}/meta.json", "w") as out:
            meta = dict(metric="l2", nlist=args.nlist, nprobe=args.nprobe, k=args.k, train_n=args.train_n)
            json.dump(meta, out)
    return [torch.from_numpy(np.load(path)).to(args.device) for path in paths]


def main():
    args = options()
    sink = open(args.out, "a") if args.out else sys.stdout
    torch, np, reason = reference.imports(args.device)
    if reason:
        print(json.dumps(dict(kind="skipped", check="agreement", reason=reason)), file=sink, flush=True)
        print(f"agreement: left out: {reason}", file=sys.stderr)
        return
    base, queries = (
        torch.from_numpy(np.load(f"{args.dir}/{name}.npy")).to(args.device) for name in ("base", "queries")
    )
    centroids, lists = shared_index(torch, np, args, base)
    server, failed = Server(np, args), 0

    def check(op, nq, truth):
        nonlocal failed
        near, ids = server.answer(args.k, op=op, nq=nq, offset=0)
        near, ids = (torch.from_numpy(part).to(args.device) for part in (near, ids))
        error = reference.distance_error(torch, base, queries[:nq], near, ids)
        same = reference.recall(ids, truth[1][:nq])
        good = same >= SHARE and error is not None and error <= ERROR
        failed += not good
        row = dict(kind="agreement", backend=args.backend, op=op, nq=nq, topk=args.k, equal_ids=same, distance_error=error)
        print(json.dumps(dict(row, **{"pass": good})), file=sink, flush=True)
        print(f"{args.backend} {op} nq {nq}: equal ids {same}, distances within {error}", file=sys.stderr)

    flat = min(args.flat_nq, len(queries))
    check("flat", flat, reference.exact(torch, base, queries[:flat], args.k))
    sizes = [nq for nq in args.nq if nq <= len(queries)]
    some = queries[: max(sizes)]
    truth = reference.exact_in_lists(torch, base, some, centroids, lists, args.nprobe, args.k)
    for nq in sizes:
        check("search", nq, truth)
    server.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
