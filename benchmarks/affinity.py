"""`make affinity`: what is gained when a proxy sends each organization's requests to one process.

    python -m benchmarks.affinity --organizations 200 --ceiling 64

Runs two processes of four threads behind HAProxy, in turns with deploy/haproxy.cfg and with round
robin in place of its hash. Organizations are chosen evenly and by Zipf(1.1). Exit code 1 for an
error.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import wrk
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import PROJECT, Cluster, watched
from benchmarks.harness.folders import end_in_order, temporary
from benchmarks.harness.sampler import Sampler, sessions_begun
from benchmarks.harness.web import WebServer
from benchmarks.harness.wrk import Distribution, Load

CONFIGURATION = PROJECT / "deploy" / "haproxy.cfg"
HASH = "balance hash http_auth_bearer,jwt_payload_query('$.org','int')"
WAYS = {"by organization": HASH, "in turns": "balance roundrobin"}
PORTS = {"by organization": 18081, "in turns": 18082}
DISTRIBUTIONS: tuple[Distribution, ...] = ("zipf", "uniform")


def configured(way: str, *, port: int, servers: tuple[int, int]) -> str:
    """deploy/haproxy.cfg's text, changed to this port, these servers and this way to balance."""
    text = CONFIGURATION.read_text()
    for old, new in (
        (HASH, WAYS[way]),
        ("bind 127.0.0.1:8080", f"bind 127.0.0.1:{port}"),
        ("127.0.0.1:8001", f"127.0.0.1:{servers[0]}"),
        ("127.0.0.1:8002", f"127.0.0.1:{servers[1]}"),
    ):
        assert old in text, f"deploy/haproxy.cfg lacks {old}"
        text = text.replace(old, new)
    return text


@contextmanager
def proxy(folder: Path, way: str, *, port: int, servers: tuple[int, int]) -> Iterator[str]:
    """Run HAProxy with that configuration during the block; its address."""
    found = shutil.which("haproxy")
    if found is None:
        sys.exit("haproxy is not installed. On Debian, as root: apt-get install haproxy.")
    file = folder / f"haproxy-{port}.cfg"
    file.write_text(configured(way, port=port, servers=servers))
    process = subprocess.Popen(watched([found, "-db", "-f", str(file)]))
    try:
        time.sleep(2)  # HAProxy checks each server first.
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.affinity")
    parser.add_argument("--organizations", type=int, default=200)
    parser.add_argument("--ceiling", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    end_in_order()
    clock = Clock(float("inf"))
    loads: dict[tuple[str, str], list[tuple[Load, float, int]]] = {}
    with temporary() as folder, Cluster(folder / "cluster") as cluster:
        clock.say(f"making {options.organizations} organizations")
        cluster.spread("seed", ["--count", options.organizations], processes=2)
        file = cluster.folder / "product.requests"
        cluster.task_quietly("tokens", "--count", options.organizations, "--file", file)
        alone = {"WEB_CONCURRENCY": "1", "ORG_MAX_CONNECTIONS": str(options.ceiling)}
        with (
            WebServer(cluster, "one", environment=alone) as one,
            WebServer(cluster, "two", environment=alone) as two,
        ):
            for number in range(options.rounds):
                for way in WAYS if number % 2 else reversed(WAYS):
                    ports = (one.port, two.port)
                    with proxy(folder, way, port=PORTS[way], servers=ports) as address:
                        for distribution in DISTRIBUTIONS:
                            clock.say(f"round {number + 1}: {way}, {distribution}")
                            turn = _turn(cluster, address, file, distribution, options, number)
                            loads.setdefault((way, distribution), []).append(turn)
    return _tell(loads)


def _turn(
    cluster: Cluster,
    address: str,
    file: Path,
    distribution: Distribution,
    options: argparse.Namespace,
    number: int,
) -> tuple[Load, float, int]:
    """(what wrk saw, share of requests that opened no connection, connections)."""

    def load(seconds: int) -> Load:
        return wrk.run(
            address,
            file,
            connections=16,
            seconds=seconds,
            count=options.organizations,
            distribution=distribution,
            seed=number + 1,
        )

    load(2)  # The last turn left connections of other organizations open.
    with cluster.superuser() as connection, Sampler(cluster) as sampler:
        before = sessions_begun(connection)
        measured = load(options.seconds)
        begun = sessions_begun(connection) - before
    held = sampler.held("one") + sampler.held("two")
    return measured, 1 - begun / max(1, measured.requests), held


def _tell(loads: dict[tuple[str, str], list[tuple[Load, float, int]]]) -> int:
    print("| organizations | way | requests/s | of in turns | hit rate | connections | errors |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    failed = 0
    for distribution in DISTRIBUTIONS:
        base = [load.per_second for load, _, _ in loads["in turns", distribution]]
        for way in WAYS:
            turns = loads[way, distribution]
            rates = [load.per_second for load, _, _ in turns]
            ratio = statistics.median(one / two for one, two in zip(rates, base, strict=True))
            errors = sum(load.errors for load, _, _ in turns)
            failed += errors
            print(
                f"| {distribution} | {way} | {statistics.median(rates):.0f} | {ratio:.2f} "
                f"| {statistics.median(hit for _, hit, _ in turns):.2f} "
                f"| {max(held for _, _, held in turns)} | {errors} |"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
