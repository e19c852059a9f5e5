"""Measures the end of a request, by how many organizations the process has served."""

from collections.abc import Sequence

from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import Cluster
from benchmarks.harness.rows import Row

COUNTS = (1, 10, 100, 1000, 3000)


def measure(cluster: Cluster, clock: Clock, *, counts: Sequence[int] = COUNTS) -> list[Row]:
    """Microseconds for each count, ours and naive."""
    clock.say("what a request's end costs")
    rows = []
    for kind in ("ours", "naive"):
        told = cluster.task("request_end", "--counts", *counts, "--kind", kind)
        for count, taken in told.items():
            rows.append(Row(f"request end/{kind}/{count}", "µs", tuple(taken)))
    return rows
