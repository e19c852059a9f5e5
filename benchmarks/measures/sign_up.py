"""Measures sign-ups over HTTP by each path: one after the other, and at concurrency 8 and 32.

The paths take turns, each with a server of its own on the same PostgreSQL. The same rounds measure
one password hash and one bare CREATE DATABASE … TEMPLATE … STRATEGY WAL_LOG.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

from benchmarks.harness import contract
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import PROJECT, Cluster, watched
from benchmarks.harness.rows import Fact, Row
from benchmarks.harness.sampler import Sampler
from benchmarks.harness.web import PROCESSES, WebServer

from . import reference

SPARES = 40
# Stays: the template's objects belong to its role.
_COPIED = "copied-template"


@dataclass(frozen=True)
class Path:
    """One way a sign-up can be served."""

    name: str
    environment: Mapping[str, str]


TEMPLATE = Path("template", {"ORG_SPARE_DATABASES": "0"})
PATHS = (
    Path("plain", {"ORG_TEMPLATES": "off", "ORG_SPARE_DATABASES": "0"}),
    TEMPLATE,
    Path("spare", {"ORG_SPARE_DATABASES": str(SPARES)}),
)


@dataclass(frozen=True)
class Sizes:
    """Number of sign-ups of each kind in a round."""

    rounds: int = 6
    sequential: int = 6
    at_8: int = 24
    at_32: int = 100
    steps: int = 2


@dataclass
class _Kind:
    """Results of the rounds at one concurrency: p50 in milliseconds, or sign-ups a second."""

    values: list[float] = field(default_factory=list)
    sign_ups: int = 0
    failures: int = 0
    p95_ms: float = 0.0


@dataclass
class _Seen:
    """Results of the rounds of one path."""

    kinds: dict[str, _Kind] = field(default_factory=dict)
    connections: int = 0
    most_of_a_process: int = 0
    steps: dict[str, list[float]] = field(default_factory=dict)
    served_by: dict[str, int] = field(default_factory=dict)


def measure(cluster: Cluster, clock: Clock, *, sizes: Sizes, seconds: float) -> list[Row]:
    """Rows of every path, and of the two references."""
    seen = {path.name: _Seen() for path in PATHS}
    hashes: list[float] = []
    creates: list[float] = []
    with ExitStack() as scope:
        servers: dict[str, WebServer] = {}
        for path in PATHS:
            server = WebServer(cluster, f"signup-{path.name}", environment=path.environment)
            servers[path.name] = scope.enter_context(server)
        cluster.manage("build_template", environment=TEMPLATE.environment)
        _first_copy(cluster, servers["plain"])
        for number in clock.rounds(sizes.rounds, seconds=seconds):
            clock.say(f"sign-ups, round {number + 1}: {', '.join(path.name for path in PATHS)}")
            hashes.append(statistics.median(reference.hash_milliseconds(6)))
            bare: list[float] = []
            # The order changes, so that none always follows the same one.
            for path in PATHS[number % len(PATHS) :] + PATHS[: number % len(PATHS)]:
                _round(cluster, path, servers[path.name], seen[path.name], sizes, number, bare)
            creates.append(statistics.median(bare))
            # Otherwise each round would meet more databases than the one before.
            cluster.spread("drop", ["load-"], processes=2)
            cluster.settle()
        clock.say(f"{sizes.at_32} sign-ups at once by each path")
        for path in PATHS:
            # Once: the question is whether all succeed.
            _turn(
                cluster,
                path,
                servers[path.name],
                seen[path.name],
                f"load-{path.name}",
                ["32"],
                sizes,
                [],
            )
        cluster.spread("drop", ["load-"], processes=2)
    rows = [
        Row("reference/hash", "ms", tuple(hashes), {"cost": "m=19 MiB, t=2, p=1"}),
        Row("reference/create database", "ms", tuple(creates)),
    ]
    for path in PATHS:
        rows += _rows(path.name, seen[path.name])
    return rows


def _first_copy(cluster: Cluster, server: WebServer) -> None:
    """Sign one organization up, for the reference to copy."""
    outcome = contract.sign_up(server.address, [_COPIED])
    if outcome.failures:
        raise RuntimeError(f"a sign-up failed: {outcome.failures[0]}")
    with cluster.superuser(str(cluster.postgres.connection_parameters()["dbname"])) as connection:
        row = connection.execute(
            "SELECT database_name FROM organizations WHERE name = %s", (_COPIED,)
        ).fetchone()
    assert row is not None
    reference.make_template(cluster, row[0])


def _round(
    cluster: Cluster,
    path: Path,
    server: WebServer,
    seen: _Seen,
    sizes: Sizes,
    number: int,
    bare: list[float],
) -> None:
    """One path's turn. bare: gets the reference's milliseconds, from close around the sign-ups that
    are compared with it."""
    label = f"load-{path.name}-{number}"
    if path.name == "spare":
        cluster.manage("refill_spares", environment=path.environment)
    told = cluster.task(
        "breakdown",
        *(f"{label}-s{each}" for each in range(sizes.steps)),
        environment=path.environment,
    )
    for each in told:
        seen.served_by[each["path"]] = seen.served_by.get(each["path"], 0) + 1
        for step, taken in {**each["steps_ms"], "all of it": each["total_ms"]}.items():
            seen.steps.setdefault(step, []).append(taken)
    if path.name == "spare":
        # From existing spares; the others while more are made, as in production.
        _load(server, f"{label}-ready", sizes.sequential, "ready", 1, seen)
    _turn(cluster, path, server, seen, label, ["1", "8"], sizes, bare)


def _turn(
    cluster: Cluster,
    path: Path,
    server: WebServer,
    seen: _Seen,
    label: str,
    kinds: Sequence[str],
    sizes: Sizes,
    bare: list[float],
) -> None:
    counts = {"1": sizes.sequential, "8": sizes.at_8, "32": sizes.at_32}
    with (
        Sampler(cluster) as sampler,
        refilling(cluster, path.environment) if path.name == "spare" else nullcontext(),
    ):
        for kind in kinds:
            compared = path.name != "spare" and kind == "1"
            bare += reference.create_milliseconds(cluster, 2) if compared else []
            _load(server, f"{label}-{kind}", counts[kind], kind, int(kind), seen)
            bare += reference.create_milliseconds(cluster, 2) if compared else []
    seen.connections = max(seen.connections, sampler.held(server.name))
    most = sampler.most_of_a_process(server.name)
    seen.most_of_a_process = max(seen.most_of_a_process, most)


def _load(
    server: WebServer, label: str, count: int, kind: str, concurrency: int, seen: _Seen
) -> None:
    names = [f"{label}-{number}" for number in range(count)]
    outcome = contract.sign_up(server.address, names, concurrency=concurrency)
    of_kind = seen.kinds.setdefault(kind, _Kind())
    of_kind.failures += len(outcome.failures)
    of_kind.sign_ups += count
    of_kind.p95_ms = max(of_kind.p95_ms, outcome.milliseconds(0.95))
    one = concurrency == 1
    of_kind.values.append(outcome.milliseconds(0.5) if one else outcome.per_second)


@contextmanager
def refilling(cluster: Cluster, environment: Mapping[str, str]) -> Iterator[None]:
    """Keep spare databases up while the block runs."""
    process = subprocess.Popen(
        watched([sys.executable, "manage.py", "refill_spares", "--loop"]),
        cwd=PROJECT,
        env=cluster.environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        _wait_for_spares(cluster)  # Its start and earlier sign-ups are not part of the load.
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


def _wait_for_spares(cluster: Cluster) -> None:
    deadline = time.monotonic() + 30
    with cluster.superuser() as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                r"SELECT count(*) FROM pg_database WHERE datname LIKE 'orgmgmt\_%spare%'"
            ).fetchone()
            if row and row[0] >= SPARES:
                return
            time.sleep(0.2)


def _rows(name: str, seen: _Seen) -> Iterator[Row]:
    kinds = {
        "ready": ("sequential", "ms"),
        "1": ("sequential, refilled meanwhile" if name == "spare" else "sequential", "ms"),
        "8": ("concurrency 8", "/s"),
        "32": ("concurrency 32", "/s"),
    }
    for kind, (what, unit) in kinds.items():
        if (found := seen.kinds.get(kind)) is None:
            continue
        facts: dict[str, Fact] = {"sign_ups": found.sign_ups, "failures": found.failures}
        facts["p95_ms"] = found.p95_ms
        if kind == "32":
            facts |= {"connections": seen.connections, "processes": PROCESSES}
            facts["most_of_a_process"] = seen.most_of_a_process
        yield Row(f"sign-up/{name}/{what}", unit, tuple(found.values), facts)
    served = {f"served by {path}": count for path, count in seen.served_by.items()}
    for step, taken in seen.steps.items():
        yield Row(f"sign-up/{name}/step/{step}", "ms", tuple(taken), served)
