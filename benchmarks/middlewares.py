"""Measures what each middleware adds to a request, more finely than load over HTTP can.

python -m benchmarks.middlewares --organizations 20 --calls 10000
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.harness.cluster import Cluster
from benchmarks.harness.folders import end_in_order, temporary


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.middlewares")
    parser.add_argument("--organizations", type=int, default=20)
    parser.add_argument("--calls", type=int, default=10_000, help="with and without each")
    options = parser.parse_args(arguments)
    end_in_order()
    with temporary() as folder, Cluster(folder) as cluster:
        count = options.organizations
        cluster.spread("seed", ["--count", count], processes=2)
        file = cluster.folder / "product.requests"
        cluster.task_quietly("tokens", "--count", count, "--file", file)
        told = cluster.task("middlewares", "--file", file, "--calls", options.calls)
    for name, found in told.items():
        adds = "the request needs it" if found is None else f"adds {found['adds_us']:.0f} µs"
        print(f"{name:<60} {adds}")
    whole = next(found["with_us"] for found in told.values() if found is not None)
    print(f"{'the whole request':<60} {whole:.0f} µs of the web process")
    return 0


if __name__ == "__main__":
    sys.exit(main())
