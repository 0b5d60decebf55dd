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

import json
import sys

import common

options = common.parser(__doc__)
options.add_argument("--nprobe", type=common.numbers, default=[32])
options.add_argument("--k", type=common.numbers, default=[20])
options.add_argument("--nq", "--nq-list", type=common.numbers, default=[1, 8, 32, 128, 512, 2048, common.POOL])
args = options.parse_args()
common.set_threads(args.threads)
import faiss  # noqa: E402


def main():
    compiled = faiss.get_compile_options().strip()
    env = common.environment(args, faiss=faiss.__version__, faiss_options=compiled)
    if args.env:
        print(json.dumps(env, indent=2))
        return
    faiss.omp_set_num_threads(args.threads)
    sink = open(args.out, "a") if args.out else sys.stdout
    base, queries = common.load(args, max(args.nq))
    nb, d = base.shape
    flat_type = faiss.IndexFlatIP if args.metric == "ip" else faiss.IndexFlatL2
    metric = faiss.METRIC_INNER_PRODUCT if args.metric == "ip" else faiss.METRIC_L2
    quantizer = flat_type(d)
    index = faiss.IndexIVFFlat(quantizer, d, args.nlist, metric)
    index.cp.seed = args.seed
    train_n = min(args.train_n, nb)
    train_ms = common.timed(lambda: index.train(base[:train_n]))
    add_ms = common.timed(lambda: index.add(base))
    truth = None
    if args.gt_nq:
        exact = flat_type(d)
        exact.add(base)
        truth = exact.search(queries[: args.gt_nq], max(args.k))[1]
        common.check_exact(args.metric, base, queries, truth)
        del exact
    setting = dict(
        common.common_fields(args, env, nb, d, train_ms, add_ms),
        library="faiss-cpu", version=faiss.__version__, backend="faiss", backend_type="faiss",
        nlist=args.nlist, train_n=train_n, imbalance=index.invlists.imbalance_factor(),
    )
    for nprobe in args.nprobe:
        index.nprobe = nprobe
        for k in args.k:
            found = index.search(queries[: args.gt_nq], k)[1] if args.gt_nq else None
            for nq in args.nq:
                samples, times = common.measure(args, lambda block: index.search(block, k), queries, nq)
                row = dict(
                    setting, nq=nq, nprobe=min(nprobe, args.nlist), max_codes=0, topk=k, mode="ivfflat",
                    chosen_mode="ivfflat", kernel=compiled, reason="the only mode",
                    avg_group=nq * min(nprobe, args.nlist) / args.nlist,
                    **common.timed_fields(samples, times, nq),
                    recall=None if truth is None else common.shared_ids(found, truth), recall_nq=args.gt_nq,
                )
                print(json.dumps(row), file=sink, flush=True)


if __name__ == "__main__":
    main()
