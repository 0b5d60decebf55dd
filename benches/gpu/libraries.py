"""The libraries to measure beside: each builds an index over a device tensor and searches it.

A class raises `Absent` with the reason when its library cannot be used here. Calls follow each
library's published interface; all get the same first `train_n` rows, ten k-means iterations where
that can be asked for, squared L2, f32.
"""

import importlib.metadata

NITER = 10


class Absent(Exception):
    """Why a library is left out."""


def version_of(*names):
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


class Brute:
    """All distances by one matrix product, then topk; queries in blocks that bound the memory."""

    name, modes, exact = "torch-matmul-topk", ("f32", "tf32"), True

    def __init__(self, torch, setting):
        self.torch, self.version = torch, torch.__version__
        if setting.device == "cpu":
            self.modes = ("f32",)

    def build(self, base):
        self.base, self.norms = base, (base * base).sum(1)

    def select(self, mode, nprobe):
        self.torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"

    def done(self):
        self.torch.backends.cuda.matmul.allow_tf32 = False

    def search(self, queries, k):
        parts = []
        for block in queries.split(2048):
            scores = self.torch.addmm(self.norms, block, self.base.T, alpha=-2)
            near, ids = scores.topk(k, dim=1, largest=False)
            parts.append((near + (block * block).sum(1, keepdim=True), ids))
        if len(parts) == 1:
            return parts[0]
        return tuple(self.torch.cat(part) for part in zip(*parts))


class TorchIvf:
    name, modes, exact = "torch-ivf", ("csr", "auto", "matrix"), False

    def __init__(self, torch, setting):
        try:
            from torch_ivf.index import IndexIVFFlat
        except Exception as error:
            raise Absent(f"torch_ivf cannot be imported: {error}") from error
        self.torch, self.setting, self.kind = torch, setting, IndexIVFFlat
        self.version = version_of("torch-ivf")

    def build(self, base):
        s = self.setting
        self.index = self.kind(s.d, metric="l2", nlist=s.nlist, nprobe=s.nprobe, device=s.device)
        dice = self.torch.Generator()
        dice.manual_seed(s.seed)
        self.index.train(base[: s.train_n], max_iter=NITER, generator=dice)
        self.index.add(base)

    def select(self, mode, nprobe):
        self.index.search_mode, self.index.nprobe = mode, nprobe

    def done(self):
        pass

    def search(self, queries, k):
        return self.index.search(queries, k)


class FlashLib:
    name, modes, exact = "flashlib", ("auto",), False

    def __init__(self, torch, setting):
        try:
            from flashlib.primitives.ivf_flat import flash_ivf_flat_build, flash_ivf_flat_search
        except Exception as error:
            raise Absent(f"flashlib cannot be imported: {error}") from error
        self.setting, self.make, self.find = setting, flash_ivf_flat_build, flash_ivf_flat_search
        self.version = version_of("flashlib")

    def build(self, base):
        s = self.setting
        self.index = self.make(base, s.nlist, nprobe=s.nprobe, niter=NITER, train_size=s.train_n, seed=s.seed)

    def select(self, mode, nprobe):
        self.nprobe = nprobe

    def done(self):
        pass

    def search(self, queries, k):
        return self.find(self.index, queries, k, nprobe=self.nprobe)


class FaissGpu:
    name, modes, exact = "faiss-gpu", ("ivfflat",), False

    def __init__(self, torch, setting):
        try:
            import faiss
        except Exception as error:
            raise Absent(f"faiss cannot be imported: {error}") from error
        if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
            raise Absent("this faiss has no GPU part, or sees no GPU")
        try:
            import faiss.contrib.torch_utils  # noqa: F401  lets indexes take tensors on the device
        except Exception as error:
            raise Absent(f"faiss.contrib.torch_utils cannot be imported: {error}") from error
        self.faiss, self.setting, self.version = faiss, setting, faiss.__version__

    def build(self, base):
        s, options = self.setting, self.faiss.GpuIndexIVFFlatConfig()
        if hasattr(options, "use_cuvs"):
            options.use_cuvs = False
        self.resources = self.faiss.StandardGpuResources()
        self.index = self.faiss.GpuIndexIVFFlat(self.resources, s.d, s.nlist, self.faiss.METRIC_L2, options)
        self.index.cp.niter, self.index.cp.seed = NITER, s.seed
        self.index.train(base[: s.train_n])
        self.index.add(base)

    def select(self, mode, nprobe):
        self.index.nprobe = nprobe

    def done(self):
        pass

    def search(self, queries, k):
        return self.index.search(queries, k)


class Cuvs:
    name, modes, exact = "cuvs", ("ivf_flat",), False

    def __init__(self, torch, setting):
        try:
            from cuvs.common import Resources
            from cuvs.neighbors import ivf_flat
        except Exception as error:
            raise Absent(f"cuvs cannot be imported: {error}") from error
        if setting.device == "cpu":
            raise Absent("cuvs needs a GPU")
        self.torch, self.setting, self.kind = torch, setting, ivf_flat
        self.resources, self.version = Resources(), version_of("cuvs-cu13", "cuvs-cu12", "cuvs")

    def build(self, base):
        s = self.setting
        wanted = self.kind.IndexParams(
            n_lists=s.nlist, metric="sqeuclidean", kmeans_n_iters=NITER,
            kmeans_trainset_fraction=min(1.0, s.train_n / len(base)),
        )
        self.index = self.kind.build(wanted, base, resources=self.resources)
        self.resources.sync()

    def select(self, mode, nprobe):
        self.params = self.kind.SearchParams(n_probes=nprobe)

    def done(self):
        pass

    def search(self, queries, k):
        rows, device = len(queries), queries.device
        near = self.torch.empty((rows, k), dtype=self.torch.float32, device=device)
        ids = self.torch.empty((rows, k), dtype=self.torch.int64, device=device)
        self.kind.search(self.params, self.index, queries, k, neighbors=ids, distances=near, resources=self.resources)
        self.resources.sync()
        return near, ids


class FlashLibFlat(FlashLib):
    """Every row: FlashLib's fused k nearest neighbours, f32 as it is and with a tolerance that lets it round."""

    name, modes, exact = "flashlib-flat", ("f32", "tol 1e-3"), True

    def __init__(self, torch, setting):
        super().__init__(torch, setting)
        from flashlib.primitives.knn import impl

        self.knn = impl.flash_knn_dispatch

    def build(self, base):
        self.base = base

    def select(self, mode, nprobe):
        self.tol = None if mode == "f32" else 1e-3

    def search(self, queries, k):
        return self.knn(queries, self.base, k, tol=self.tol)


class FaissGpuFlat(FaissGpu):
    name, modes, exact = "faiss-gpu-flat", ("flat",), True

    def build(self, base):
        self.resources = self.faiss.StandardGpuResources()
        self.index = self.faiss.GpuIndexFlatL2(self.resources, self.setting.d)
        self.index.add(base)

    def select(self, mode, nprobe):
        pass


class CuvsFlat(Cuvs):
    name, modes, exact = "cuvs-flat", ("brute_force",), True

    def __init__(self, torch, setting):
        super().__init__(torch, setting)
        from cuvs.neighbors import brute_force

        self.kind = brute_force

    def build(self, base):
        self.index = self.kind.build(base, metric="sqeuclidean", resources=self.resources)
        self.resources.sync()

    def select(self, mode, nprobe):
        pass

    def search(self, queries, k):
        near, ids = self.kind.search(self.index, queries, k, resources=self.resources)
        self.resources.sync()
        as_tensor = self.torch.as_tensor
        return as_tensor(near, device=queries.device), as_tensor(ids, device=queries.device)


IVF = (Brute, TorchIvf, FlashLib, FaissGpu, Cuvs)
FLAT = (FlashLibFlat, FaissGpuFlat, CuvsFlat)
ALL = {kind.name: kind for kind in IVF + FLAT}
