"""Logins and look-ups by wrk at concurrency 8, and beside the look-up a bare DRF view.

The bare view answers the same body by one indexed query on a connection that stays open. It stands
once behind the middleware that `startproject` writes, and once behind none.
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
from benchmarks.harness.rows import Fact, Row, by_round
from benchmarks.harness.web import WebServer
from benchmarks.harness.wrk import Load, Request

from . import reference

CONCURRENCY = 8
_BARE = "benchmarks.comparators.bare.settings"


def logins(
    cluster: Cluster, clock: Clock, names: Sequence[str], *, rounds: int, wrk_seconds: int
) -> list[Row]:
    """Logins each second, and how they compare with the hashes that the cores could compute."""
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
    with WebServer(cluster, "login") as server:
        _warm_up(server, file, len(names))
        for number in clock.rounds(rounds, seconds=rounds * (wrk_seconds + 4)):
            clock.say(f"logins, round {number + 1}")
            hash_seconds = statistics.median(reference.hash_milliseconds(15)) / 1000
            possible.append(cores() / hash_seconds)
            loads.append(_load(server, file, len(names), wrk_seconds, number))
    rate = _row("login/concurrency 8", loads)
    return [
        rate,
        Row("login/hashes that the cores could compute", "/s", tuple(possible)),
        by_round("login/of the hashes", "ratio", rate.values, possible),
    ]


def look_ups(
    cluster: Cluster, clock: Clock, names: Sequence[str], *, rounds: int, wrk_seconds: int
) -> list[Row]:
    """Look-ups each second, ours and bare in turns, and their ratios."""
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
            clock.say(f"look-ups, round {number + 1}: {', '.join(servers)}")
            order = list(servers)[number % 3 :] + list(servers)[: number % 3]
            for what in order:
                load = _load(servers[what], file, len(names), wrk_seconds, number)
                loads.setdefault(what, []).append(load)
    rows = {what: _row(f"look-up/{what}", loads[what]) for what in servers}
    ours = rows["ours"].values
    return [
        *rows.values(),
        by_round("look-up/of bare", "ratio", ours, rows["bare"].values),
        by_round(
            "look-up/of bare, no middleware", "ratio", ours, rows["bare, no middleware"].values
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
    """The bare view's table, with the same organizations."""
    cluster.create_database("bench_bare")
    with cluster.superuser("bench_bare") as connection:
        connection.execute("DROP TABLE IF EXISTS organizations")
        connection.execute(
            "CREATE TABLE organizations (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "
            "name varchar(255) NOT NULL UNIQUE, admin_email varchar(254) NOT NULL, "
            "created_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute("GRANT SELECT ON organizations TO PUBLIC")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO organizations (name, admin_email) VALUES (%s, %s)",
                [(name, contract.email_of(name)) for name in names],
            )
        connection.execute("ANALYZE organizations")
