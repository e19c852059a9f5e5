"""Measures logins and lookups by wrk at concurrency 8, and a bare DRF view beside the lookup.

The bare view answers the same body with one indexed query on a connection that stays open: once
with the middleware that `startproject` writes, and once without any.
"""

import json
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.harness import contract, wrk
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import Cluster
from benchmarks.harness.machine import cores
from benchmarks.harness.processor import Meter
from benchmarks.harness.rows import Fact, Row, by_round
from benchmarks.harness.web import WebServer
from benchmarks.harness.wrk import Load, Request

from . import reference

CONCURRENCY = 8
_BARE = "benchmarks.comparators.bare.settings"


def logins(
    cluster: Cluster, clock: Clock, names: Sequence[str], *, rounds: int, wrk_seconds: int
) -> list[Row]:
    """Logins a second, and the share of a login's processor time that is its hash."""
    file = cluster.folder / "logins.requests"
    wrk.write_requests(
        file,
        (
            Request(
                "POST",
                f"/admin/login?{urlencode({'organization_name': name})}",
                body=json.dumps({"email": contract.email_of(name), "password": contract.PASSWORD}),
            )
            for name in names
        ),
    )
    loads: list[Load] = []
    possible: list[float] = []
    hashes_ms: list[float] = []
    processor_ms: list[float] = []
    with WebServer(cluster, "login") as server:
        _warm_up(server, file, len(names))
        for number in clock.rounds(rounds, seconds=rounds * (wrk_seconds + 4)):
            clock.say(f"logins, round {number + 1}")
            hashes_ms.append(statistics.median(reference.hash_milliseconds(15)))
            possible.append(cores() / (hashes_ms[-1] / 1000))
            with Meter(cluster, server) as used:
                loads.append(_load(server, file, len(names), wrk_seconds, number))
            processor_ms.append(1000 * used.seconds / max(1, loads[-1].requests))
    rate = _row("login/concurrency 8", loads)
    return [
        rate,
        Row("login/hashes that the cores could compute", "/s", tuple(possible)),
        Row("login/concurrency 8/processor", "ms", tuple(processor_ms)),
        by_round("login/rate of the hashes", "ratio", rate.values, possible),
        by_round("login/of the hashes", "ratio", hashes_ms, processor_ms),
    ]


def look_ups(
    cluster: Cluster, clock: Clock, names: Sequence[str], *, rounds: int, wrk_seconds: int
) -> list[Row]:
    """Lookups a second, the product's and the bare view's in turns, and their ratios."""
    file = cluster.folder / "lookups.requests"
    wrk.write_requests(
        file,
        (
            Request("POST", "/org/get", body=json.dumps({"organization_name": name}))
            for name in names
        ),
    )
    fill_bare(cluster, names)
    loads: dict[str, list[Load]] = {}
    processor_ms: dict[str, list[float]] = {}
    with ExitStack() as scope:
        servers = {
            "ours": WebServer(cluster, "lookup"),
            "bare": WebServer(cluster, "bare", settings=_BARE),
            "bare, no middleware": WebServer(
                cluster, "bare-none", settings=_BARE, environment={"BARE_MIDDLEWARE": "none"}
            ),
        }
        for server in servers.values():
            scope.enter_context(server)
            _warm_up(server, file, len(names))
        for number in clock.rounds(rounds, seconds=rounds * 3 * (wrk_seconds + 1)):
            clock.say(f"lookups, round {number + 1}: {', '.join(servers)}")
            order = list(servers)[number % 3 :] + list(servers)[: number % 3]
            for what in order:
                with Meter(cluster, servers[what]) as used:
                    load = _load(servers[what], file, len(names), wrk_seconds, number)
                loads.setdefault(what, []).append(load)
                each = 1000 * used.seconds / max(1, load.requests)
                processor_ms.setdefault(what, []).append(each)
    rows = {what: _row(f"look-up/{what}", loads[what]) for what in servers}
    ours = processor_ms["ours"]
    return [
        *rows.values(),
        *(
            Row(f"look-up/{what}/processor", "ms", tuple(each))
            for what, each in processor_ms.items()
        ),
        *(
            by_round(f"look-up/of {what}", "ratio", processor_ms[what], ours)
            for what in ("bare", "bare, no middleware")
        ),
    ]


def _warm_up(server: WebServer, file: Path, count: int) -> None:
    wrk.run(server.address, file, connections=CONCURRENCY, seconds=1, count=count)


def _load(server: WebServer, file: Path, count: int, seconds: int, number: int) -> Load:
    return wrk.run(
        server.address,
        file,
        connections=CONCURRENCY,
        seconds=seconds,
        count=count,
        seed=number + 1,
    )


def _row(key: str, loads: Sequence[Load]) -> Row:
    facts: dict[str, Fact] = {
        "errors": sum(load.errors for load in loads),
        "p50_ms": statistics.median(load.p50_ms for load in loads),
        "p99_ms": max(load.p99_ms for load in loads),
    }
    return Row(key, "/s", tuple(load.per_second for load in loads), facts)


def fill_bare(cluster: Cluster, names: Sequence[str]) -> None:
    """The bare views' tables, with the same organizations and admins."""
    cluster.create_database("bench_bare")
    with cluster.superuser("bench_bare") as connection:
        connection.execute("DROP TABLE IF EXISTS organizations")
        connection.execute(
            "CREATE TABLE organizations (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "
            "name varchar(255) NOT NULL UNIQUE, admin_email varchar(254) NOT NULL, "
            "created_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute("DROP TABLE IF EXISTS users")
        connection.execute(
            "CREATE TABLE users (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "
            "email varchar(254) NOT NULL, is_admin boolean NOT NULL DEFAULT true, "
            "is_active boolean NOT NULL DEFAULT true, "
            "created_at timestamptz NOT NULL DEFAULT now(), email_verified_at timestamptz)"
        )
        connection.execute("GRANT SELECT ON organizations, users TO PUBLIC")
        with connection.cursor() as cursor:
            pairs = [(name, contract.email_of(name)) for name in names]
            cursor.executemany(
                "INSERT INTO organizations (name, admin_email) VALUES (%s, %s)", pairs
            )
            emails = [(email,) for _, email in pairs]
            cursor.executemany("INSERT INTO users (email) VALUES (%s)", emails)
        connection.execute("ANALYZE")
