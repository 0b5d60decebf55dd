"""Exact answers in f64 on the device, the k-means index both sides can hold, and comparisons."""


def imports(device):
    """torch and numpy, or (None, None, why they cannot be used)."""
    try:
        import numpy
        import torch
    except Exception as error:
        return None, None, f"{error}"
    if device != "cpu" and not torch.cuda.is_available():
        return None, None, "torch sees no GPU"
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch, numpy, None


def all_scores(torch, base, queries):
    """Squared distances of a block of queries to every row, f64."""
    wide = base.double()
    norms = (wide * wide).sum(1)

    def scores(block):
        block = block.double()
        return (block * block).sum(1, keepdim=True) + norms - 2 * block @ wide.T

    return scores


def exact(torch, base, queries, k, block=128):
    """Distances and ids of the `k` nearest rows of every query."""
    scores = all_scores(torch, base, queries)
    found = [scores(part).topk(k, dim=1, largest=False) for part in queries.split(block)]
    return torch.cat([near for near, _ in found]), torch.cat([ids for _, ids in found])


def exact_in_lists(torch, base, queries, centroids, lists, nprobe, k, block=64):
    """The same over the rows of each query's `nprobe` nearest lists."""
    scores, coarse = all_scores(torch, base, queries), all_scores(torch, centroids, queries)
    found = []
    for part in queries.split(block):
        probed = coarse(part).topk(nprobe, dim=1, largest=False).indices
        member = torch.zeros((len(part), len(centroids)), dtype=torch.bool, device=base.device)
        member.scatter_(1, probed, True)
        found.append(scores(part).masked_fill(~member[:, lists], float("inf")).topk(k, dim=1, largest=False))
    return torch.cat([near for near, _ in found]), torch.cat([ids for _, ids in found])


def nearest(torch, rows, centroids, block=16_384):
    scores = all_scores(torch, centroids, rows)
    return torch.cat([scores(part).argmin(1) for part in rows.split(block)])


def kmeans(torch, rows, nlist, niter, seed):
    """Plain Lloyd iterations in f64; a list that runs empty keeps its centroid. f32 centroids."""
    dice = torch.Generator()
    dice.manual_seed(seed)
    centroids = rows[torch.randperm(len(rows), generator=dice)[:nlist].to(rows.device)].double()
    for _ in range(niter):
        lists = nearest(torch, rows, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, lists, rows.double())
        counts = torch.bincount(lists, minlength=nlist).unsqueeze(1)
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids.float()


def recall(found, truth):
    """Share of the true ids that were found; both [queries, k]."""
    hits = (found.unsqueeze(2) == truth.unsqueeze(1)).any(2)
    return round(hits.double().mean().item(), 6)


def distance_error(torch, base, queries, near, ids):
    """Largest error of reported squared distances, relative to the true ones, where an id is given."""
    rows = base[ids.clamp(min=0)].double()
    true = ((queries.double().unsqueeze(1) - rows) ** 2).sum(2)
    error = (near.double() - true).abs() / true.clamp(min=1e-12)
    return error[ids >= 0].max().item() if (ids >= 0).any() else None
