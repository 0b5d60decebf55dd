"""Time of faiss.knn by each metric, one JSON line a metric, beside `cargo bench --bench knn`."""

import argparse
import json
import statistics
import time

import faiss
import numpy as np

p = argparse.ArgumentParser(description=__doc__)
for name, default in [("nb", 100_000), ("d", 128), ("nq", 512), ("k", 10), ("repeat", 3), ("threads", 2)]:
    p.add_argument(f"--{name}", type=int, default=default)
p.add_argument("metrics", nargs="*", default=["l2", "ip", "cosine", "l1", "linf", "lp:3", "canberra"])
a = p.parse_args()
faiss.omp_set_num_threads(a.threads)
NAMES = {
    "l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT, "cosine": faiss.METRIC_INNER_PRODUCT,
    "l1": faiss.METRIC_L1, "linf": faiss.METRIC_Linf, "lp": faiss.METRIC_Lp,
    "canberra": faiss.METRIC_Canberra, "bray_curtis": faiss.METRIC_BrayCurtis,
    "jensen_shannon": faiss.METRIC_JensenShannon, "jaccard": faiss.METRIC_Jaccard,
}
rng = np.random.default_rng(1)
xb, xq = rng.random((a.nb, a.d), "f4"), rng.random((a.nq, a.d), "f4")


def run(metric):
    name, _, arg = metric.partition(":")
    q, x = xq, xb
    if name == "cosine":  # faiss has no cosine: scaling is part of the answer
        q, x = q.copy(), x.copy()
        faiss.normalize_L2(q)
        faiss.normalize_L2(x)
    faiss.knn(q, x, a.k, NAMES[name], float(arg or 0))


for metric in a.metrics:
    run(metric)
    times = []
    for _ in range(a.repeat):
        start = time.perf_counter()
        run(metric)
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({
        "library": f"faiss-cpu {faiss.__version__}", "metric": metric, "nb": a.nb, "d": a.d, "nq": a.nq,
        "k": a.k, "ms": round(statistics.median(times), 1), "ms_min": round(min(times), 1),
    }), flush=True)
