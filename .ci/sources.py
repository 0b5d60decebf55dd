"""Which of the generated sources are compiled."""

import os


def chosen(files):
    """At most `BURN_IVF_SOURCES_EACH` variants of a kernel for a device, evenly out of all; all of them
    without it."""
    each = int(os.environ.get("BURN_IVF_SOURCES_EACH", 0))
    groups = {}
    for path in sorted(files):
        function = path.stem.rpartition("_")[0]
        groups.setdefault((path.parent.name, function), []).append(path)
    picked = []
    for group in groups.values():
        n = min(each, len(group)) if each else len(group)
        picked += [group[i * len(group) // n] for i in range(n)]
    return picked, sum(len(group) for group in groups.values())
