"""Removing, reconstructing and merging with faiss-cpu: the lines of benches/mutation.rs."""

import json
import sys
import time

import faiss
import numpy as np

numbers = [int(a) for a in sys.argv[1:]]
n, d, nlist = numbers + [262144, 128, 512][len(numbers):]
rng = np.random.default_rng(1)
data = rng.standard_normal((n, d), dtype=np.float32)
ids = rng.permutation(n).astype("int64")


def measure(what, start, run, check):
    times = []
    for _ in range(5):
        state = start()
        clock = time.perf_counter()
        result = run(state)
        times.append(1e3 * (time.perf_counter() - clock))
        check(state, result)
    times.sort()
    line = {"library": f"faiss-cpu {faiss.__version__}", "operation": what}
    print(json.dumps({**line, "ms": round(times[2], 3), "ms_min": round(times[0], 3)}), flush=True)


def ivf(start, end):
    quantizer = faiss.IndexFlatL2(d)
    quantizer.add(data[:nlist])
    index = faiss.IndexIVFFlat(quantizer, d, nlist)
    index.kept = quantizer
    index.add(data[start:end])
    return index


def flat():
    index = faiss.IndexFlatL2(d)
    index.add(data)
    return index


def mapped():
    index = ivf(0, n)
    index.make_direct_map()
    return index


def removed(share):
    def check(index, count):
        assert (count, index.ntotal) == (share, n - share)
    return check


def same(_, x):
    assert (x[7] == data[ids[7]]).all()


for share, name in [(n // 100, "1 %"), (n // 2, "50 %")]:
    gone = faiss.IDSelectorBatch(ids[:share])
    measure(f"ivf, remove {name} of ids at random", lambda: ivf(0, n), lambda i: i.remove_ids(gone), removed(share))
    measure(f"flat, remove {name} of ids at random", flat, lambda i: i.remove_ids(gone), removed(share))

asked = ids[:100000]


def first(index):
    index.make_direct_map()
    return index.reconstruct_batch(asked)


measure("ivf, reconstruct 100000 ids, first call", lambda: ivf(0, n), first, same)
measure("ivf, reconstruct 100000 ids", mapped, lambda i: i.reconstruct_batch(asked), same)


def merged(state, _):
    assert (state[0].ntotal, state[1].ntotal) == (n, 0)


halves = lambda: (ivf(0, n // 2), ivf(n // 2, n))
measure("ivf, merge two halves", halves, lambda s: s[0].merge_from(s[1], n // 2), merged)


def subset(index):
    quantizer = faiss.IndexFlatL2(d)
    quantizer.add(data[:nlist])
    other = faiss.IndexIVFFlat(quantizer, d, nlist)
    other.kept = quantizer
    index.copy_subset_to(other, 1, 2, 1)
    return other


measure("ivf, copy every second id", lambda: ivf(0, n), subset, lambda _, copy: None)
