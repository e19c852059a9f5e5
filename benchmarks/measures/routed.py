"""Measures the routed view, `GET /api/v1/me/`: one query in the organization's database.

Every variant has two processes of four threads and 16 connections of wrk, and all but startproject
the same view, serializer, token check and middleware. Variants take turns within each round, so
that a slow moment of the machine affects all of them. They are compared by the processor time of a
request, of the web processes and PostgreSQL together; rates are shown beside it.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import wrk
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import Cluster
from benchmarks.harness.processor import Meter
from benchmarks.harness.rows import Fact, Row, by_round
from benchmarks.harness.sampler import Sampler, sessions_begun
from benchmarks.harness.web import WebServer
from benchmarks.harness.wrk import Distribution, Load
from benchmarks.names import seeded

from .login import fill_bare

CONNECTIONS = 16
# With so many organizations or more, the first requests after a start are measured separately.
FROM_COLD = 1000
_OWN = "orgmgmt.settings"


@dataclass(frozen=True)
class Variant:
    """One variant to compare. requests: the name of its request file.

    hoards: its connections stay until the server ends, so it is stopped after each turn.
    """

    name: str
    settings: str = _OWN
    environment: Mapping[str, str] = field(default_factory=dict)
    requests: str = "product"
    hoards: bool = False

    @property
    def ceiling(self) -> int | None:
        told = self.environment.get("ORG_MAX_CONNECTIONS")
        return int(told) if told else None


def _ours(ceiling: int) -> Variant:
    limits = {"ORG_MAX_CONNECTIONS": str(ceiling)}
    return Variant(f"ours, ceiling {ceiling}", environment=limits)


def _naive(age: int) -> Variant:
    return Variant(
        f"naive, CONN_MAX_AGE={age}",
        "benchmarks.comparators.naive.settings",
        {"NAIVE_CONN_MAX_AGE": str(age)},
        hoards=age > 0,
    )


PLAIN = Variant("plain", "benchmarks.comparators.plain.settings", requests="plain")
# `startproject`, DRF and simplejwt as in their own tutorials.
STARTPROJECT = Variant(
    "startproject", "benchmarks.comparators.bare.settings", requests="startproject"
)
TENANTS = Variant("django-tenants", "benchmarks.comparators.tenants.settings", requests="tenants")
CEILINGS = (64, 128, 256)
OURS = {ceiling: _ours(ceiling) for ceiling in CEILINGS}
NAIVE = {age: _naive(age) for age in (0, 60)}
# The product and plain next to each other: their ratio matters most.
ALL = (OURS[64], PLAIN, OURS[128], STARTPROJECT, OURS[256], TENANTS, NAIVE[0], NAIVE[60])


@dataclass(frozen=True)
class Cell:
    """A number of organizations, and how requests choose among them."""

    organizations: int
    distribution: Distribution

    @property
    def name(self) -> str:
        return f"{self.organizations} {self.distribution}"


def cells_of(*counts: int) -> list[Cell]:
    """A cell for each number and distribution; with one organization they are one."""
    found = [Cell(count, "uniform") for count in counts]
    return found + [Cell(count, "zipf") for count in counts if count > 1]


def affordable(
    cells: Sequence[Cell], variants: Sequence[Variant], *, wrk_seconds: int, seconds: float
) -> list[Cell]:
    """The cells of which one round fits into the time: small cells are dropped first."""
    kept = sorted(cells, key=lambda cell: -cell.organizations)
    most = max(cell.organizations for cell in cells)
    while len(kept) * len(variants) * (wrk_seconds + 1.5) > seconds:
        if kept[-1].organizations == most:
            break
        kept.pop()
    return [cell for cell in cells if cell in kept]


@dataclass
class _Seen:
    loads: list[Load] = field(default_factory=list)
    web_ms: list[float] = field(default_factory=list)
    postgres_ms: list[float] = field(default_factory=list)
    hit_rates: list[float] = field(default_factory=list)

    @property
    def processor_ms(self) -> list[float]:
        """Of one request, by turns."""
        return [sum(both) for both in zip(self.web_ms, self.postgres_ms, strict=True)]

    connections: int = 0
    most_of_a_process: int = 0
    rss_mb: float = 0.0


def prepare(
    cluster: Cluster,
    clock: Clock,
    count: int,
    *,
    whose: Collection[str] = ("product", "plain", "startproject", "tenants"),
) -> dict[str, Path]:
    """Create the comparators' databases, schemas and tokens; the request files by name."""
    clock.say(f"tokens of {count} organizations")
    files = {name: cluster.folder / f"{name}.requests" for name in whose}
    cluster.task_quietly("tokens", "--count", count, "--file", files["product"])
    cluster.create_database("bench_plain")
    cluster.task_quietly(
        "plain_users",
        *("--count", count, "--file", files["plain"]),
        environment={"DJANGO_SETTINGS_MODULE": PLAIN.settings},
    )
    with cluster.superuser("bench_plain") as connection:
        connection.execute("ANALYZE")
    if "startproject" in files:
        fill_bare(cluster, seeded(count))
        cluster.task_quietly(
            "bare_tokens",
            *("--count", count, "--file", files["startproject"]),
            environment={"DJANGO_SETTINGS_MODULE": STARTPROJECT.settings},
        )
    if "tenants" in files:
        clock.say(f"{count} schemas of django-tenants")
        cluster.create_database("bench_tenants")
        cluster.task_quietly(
            "tenants_schemas",
            *("--count", count, "--file", files["tenants"]),
            environment={"DJANGO_SETTINGS_MODULE": TENANTS.settings},
        )
    return files


def measure(
    cluster: Cluster,
    clock: Clock,
    files: Mapping[str, Path],
    *,
    cells: Sequence[Cell],
    variants: Sequence[Variant] = ALL,
    focus: Collection[Variant] = (),
    focused: int = 0,
    rounds: int,
    wrk_seconds: int,
    seconds: float,
) -> list[Row]:
    """A row for each variant in each cell, and its ratio to plain.

    focus: what goals compare has so many rounds more (focused), in the cells with most
    organizations, where time is left.
    """
    seen = {(cell, variant.name): _Seen() for cell in cells for variant in variants}
    with ExitStack() as scope:
        servers: dict[str, WebServer] = {}
        for variant in variants:
            server = WebServer(
                cluster,
                _server_name(variant),
                settings=variant.settings,
                environment=variant.environment,
            )
            servers[variant.name] = scope.enter_context(server)

        cold = {
            (cell, variant.name): _cold(
                cluster, servers[variant.name], cell, files[variant.requests], wrk_seconds
            )
            for cell in cells
            if cell.organizations >= FROM_COLD
            for variant in variants
            if variant in focus
        }

        def play(number: int, cells: Sequence[Cell], variants: Sequence[Variant]) -> None:
            first = number % len(variants)
            for cell in cells:
                clock.say(f"routed view, round {number + 1}: {cell.name}")
                for variant in (*variants[first:], *variants[:first]):
                    _turn(
                        cluster,
                        servers[variant.name],
                        variant,
                        cell,
                        seen[cell, variant.name],
                        files[variant.requests],
                        wrk_seconds=wrk_seconds,
                        number=number,
                    )

        began, done = clock.passed(), 0
        for number in clock.rounds(rounds, seconds=seconds):
            play(number, cells, variants)
            done = number + 1
        most = max(cell.organizations for cell in cells)
        largest = [cell for cell in cells if cell.organizations == most]
        chosen = [variant for variant in variants if variant in focus]
        left = seconds - (clock.passed() - began)
        if chosen and left > len(largest) * len(chosen) * (wrk_seconds + 1):
            # One cell after the other: what a pool keeps from one cell does not fit the next.
            for cell in largest:
                for number in clock.rounds(focused, seconds=left / len(largest)):
                    play(done + number, [cell], chosen)
    rows = []
    for cell in cells:
        base = seen[cell, PLAIN.name]
        for variant in variants:
            key = f"routed/{cell.name}/{variant.name}"
            its = seen[cell, variant.name]
            rate = _row(key, variant, its)
            rows += [rate, _processor(key, its)]
            if variant != PLAIN:
                per_second = [load.per_second for load in base.loads]
                rows.append(by_round(f"{key}/rate of plain", "ratio", rate.values, per_second))
            if (cell, variant.name) in cold and variant != PLAIN:
                own, plains = cold[cell, variant.name], cold[cell, PLAIN.name]
                rows.append(by_round(f"{key}/cold of plain", "ratio", [plains], [own]))
            compared = {"plain": PLAIN, "naive": NAIVE[0], "startproject": STARTPROJECT}
            for name, other in compared.items():
                if other in variants and variant != other:
                    theirs = seen[cell, other.name].processor_ms
                    rows.append(by_round(f"{key}/of {name}", "ratio", theirs, its.processor_ms))
    return rows


def _cold(cluster: Cluster, server: WebServer, cell: Cell, file: Path, wrk_seconds: int) -> float:
    """Processor time of a request, in ms, of a server that has just been started. Then each
    organization is touched once."""
    server.restart()
    with Meter(cluster, server) as used:
        load = wrk.run(
            server.address,
            file,
            connections=CONNECTIONS,
            seconds=wrk_seconds,
            count=cell.organizations,
            distribution=cell.distribution,
        )
    wrk.touch(server.address, file, cell.organizations)
    return 1000 * used.seconds / max(1, load.requests)


def _server_name(variant: Variant) -> str:
    return "".join(each if each.isalnum() else "-" for each in variant.name)


def _turn(
    cluster: Cluster,
    server: WebServer,
    variant: Variant,
    cell: Cell,
    seen: _Seen,
    file: Path,
    *,
    wrk_seconds: int,
    number: int,
) -> None:
    def load(seconds: int) -> Load:
        return wrk.run(
            server.address,
            file,
            connections=CONNECTIONS,
            seconds=seconds,
            count=cell.organizations,
            distribution=cell.distribution,
            seed=number + 1,  # The same for each variant of a round.
        )

    if number == 0 or variant.hoards:
        load(1)  # A server that has just started has no open connections yet.
    with cluster.superuser() as connection, Sampler(cluster) as sampler:
        before = sessions_begun(connection)
        with Meter(cluster, server) as used:
            measured = load(wrk_seconds)
        begun = sessions_begun(connection) - before
    seen.loads.append(measured)
    seen.web_ms.append(1000 * used.web_seconds / max(1, measured.requests))
    seen.postgres_ms.append(1000 * used.postgres_seconds / max(1, measured.requests))
    if variant.requests == "product" and measured.requests:
        seen.hit_rates.append(max(0.0, 1 - begun / measured.requests))
    seen.connections = max(seen.connections, sampler.held(server.name))
    most = sampler.most_of_a_process(server.name)
    seen.most_of_a_process = max(seen.most_of_a_process, most)
    seen.rss_mb = max([seen.rss_mb, *(each / 2**20 for each in server.worker_rss_bytes())])
    if variant.hoards and cell.organizations >= 100:
        server.restart()


def _processor(key: str, seen: _Seen) -> Row:
    """Of one request."""
    facts: dict[str, Fact] = {
        "web_ms": statistics.median(seen.web_ms),
        "postgres_ms": statistics.median(seen.postgres_ms),
        "turns": len(seen.web_ms),
    }
    return Row(f"{key}/processor", "ms", tuple(seen.processor_ms), facts)


def _row(key: str, variant: Variant, seen: _Seen) -> Row:
    facts: dict[str, Fact] = {
        "errors": sum(load.errors for load in seen.loads),
        "requests": sum(load.requests for load in seen.loads),
        "p50_ms": statistics.median(load.p50_ms for load in seen.loads),
        "p99_ms": max(load.p99_ms for load in seen.loads),
        "connections": seen.connections,
        "worker_rss_mb": seen.rss_mb,
    }
    if seen.hit_rates:
        facts["hit_rate"] = statistics.median(seen.hit_rates)
        facts["most_of_a_process"] = seen.most_of_a_process
    if variant.ceiling is not None:
        facts["ceiling"] = variant.ceiling
    return Row(key, "/s", tuple(load.per_second for load in seen.loads), facts)
