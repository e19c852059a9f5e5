"""Measures one more migration over many organizations, beside plain psycopg and django-tenants."""

import threading
from collections.abc import Mapping
from itertools import count as numbers
from typing import Any

from benchmarks.comparators.migrated import ADDED
from benchmarks.harness import contract
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import Cluster
from benchmarks.harness.rows import Row, by_round
from benchmarks.harness.web import WebServer

from .sign_up import TEMPLATE

PARALLEL = 4
OURS = "benchmarks.comparators.migrated.settings"
TENANTS = "benchmarks.comparators.migrated.tenants"
KINDS = ("ours", "by hand", "django-tenants")
_SIGN_UPS = "load-migrate-"


class WrongCount(Exception):
    """A turn did not reach every organization once, so that its time says nothing."""


def measure(cluster: Cluster, clock: Clock, *, count: int, rounds: int) -> list[Row]:
    """Rates of an AddField over the first `count`, the cost of nothing to do, memory, sign-ups."""
    clock.say(f"{count} schemas of django-tenants")
    cluster.create_database("bench_tenants")
    cluster.task_quietly(
        "tenants_schemas",
        *("--count", count, "--file", cluster.folder / "migrate.requests"),
        environment={"DJANGO_SETTINGS_MODULE": "benchmarks.comparators.tenants.settings"},
    )
    _ours(cluster, count, "--back")  # If the last run was killed, and for records of old code.
    cluster.settle()
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    idle: dict[str, list[float]] = {"ours": [], "django-tenants": []}
    memory: list[list[float]] = []
    for number in clock.rounds(rounds, seconds=1200):
        for kind in _in_turn(number):
            clock.say(f"an AddField over {count}, round {number + 1}: {kind}")
            if kind != "django-tenants":
                # The turn before used other databases: this brings their files into memory.
                for arguments in ((), ("--back",)):
                    _TURNS[kind](cluster, count, *arguments)
            told = _TURNS[kind](cluster, count)
            rates[kind].append(count / told["seconds"])
            if kind == "ours":
                memory.append([each / 2**20 for each in told["memory"]])
            if kind in idle:
                again = _TURNS[kind](cluster, count, expected=0)
                idle[kind].append(again["seconds"])
            _TURNS[kind](cluster, count, "--back")
    sign_ups = _sign_ups_meanwhile(cluster, clock, count)
    facts = {"parallel": PARALLEL}
    key = f"migrate/{count}"
    rows = [Row(f"{key}/{kind}", "/s", tuple(rates[kind]), facts) for kind in KINDS]
    rows += [
        by_round(f"{key}/ours/of {other}", "ratio", rates["ours"], rates[other])
        for other in KINDS[1:]
    ]
    for kind, seconds in idle.items():
        rows.append(Row(f"{key}/nothing to do/{kind}", "s", tuple(seconds), facts))
    each = tuple(1000 * seconds / count for seconds in idle["ours"])
    rows.append(Row(f"{key}/nothing to do/ours/each", "ms", each, facts))
    for quarter in range(4):
        values = tuple(looks[quarter] for looks in memory)
        rows.append(Row(f"{key}/memory/{quarter + 1} of 4", "MB", values, facts))
    growth = tuple(looks[3] / looks[0] - 1 for looks in memory)
    return [*rows, Row(f"{key}/memory/growth", "ratio", growth, facts), sign_ups]


def _in_turn(number: int) -> tuple[str, ...]:
    shift = number % len(KINDS)
    return (*KINDS[shift:], *KINDS[:shift])


def _ours(
    cluster: Cluster, count: int, *arguments: str, expected: int | None = None
) -> Mapping[str, Any]:
    told: Mapping[str, Any] = cluster.task(
        "migrate_fleet",
        *("--count", count, "--parallel", PARALLEL, *arguments),
        environment={"DJANGO_SETTINGS_MODULE": OURS},
    )
    done = told.get("migrated", 0)
    wanted = count if expected is None else expected
    if told["failures"] or (not arguments and done != wanted):
        raise WrongCount(f"{done} of {wanted}: {told}")
    return told


def _by_hand(
    cluster: Cluster, count: int, *arguments: str, expected: int | None = None
) -> Mapping[str, Any]:
    told: Mapping[str, Any] = cluster.task(
        "migrate_by_hand",
        *("--count", count, "--parallel", PARALLEL, *arguments),
        environment={"DJANGO_SETTINGS_MODULE": OURS},
    )
    if told["count"] != count:
        raise WrongCount(f"{told['count']} of {count}")
    return told


def _tenants(
    cluster: Cluster, count: int, *arguments: str, expected: int | None = None
) -> Mapping[str, Any]:
    told: Mapping[str, Any] = cluster.task(
        "migrate_schemas",
        *arguments,
        environment={"DJANGO_SETTINGS_MODULE": TENANTS, "BENCH_PARALLEL": str(PARALLEL)},
    )
    if told["count"] != count:
        raise WrongCount(f"{told['count']} of {count}")
    wanted = 0 if arguments else count
    if (found := _schemas_with(cluster)) != wanted:
        raise WrongCount(f"{found} schemas have the migration, not {wanted}")
    return told


_TURNS = {"ours": _ours, "by hand": _by_hand, "django-tenants": _tenants}


def _schemas_with(cluster: Cluster) -> int:
    with cluster.superuser("bench_tenants") as connection:
        row = connection.execute(
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'users' "
            "AND column_name = 'note' AND table_schema LIKE 'tenant%%'"
        ).fetchone()
    return row[0] if row else 0


def _sign_ups_meanwhile(cluster: Cluster, clock: Clock, count: int) -> Row:
    """One client signs up during a run, on a server that has the added migration."""
    clock.say(f"sign-ups while {ADDED} reaches {count}")
    outcomes: list[contract.Outcome] = []
    ended = threading.Event()
    with WebServer(cluster, "migrate", settings=OURS, environment=TEMPLATE.environment) as server:
        contract.sign_up(server.address, [f"{_SIGN_UPS}first"])

        def keep_signing_up() -> None:
            for number in numbers():
                if ended.is_set():
                    return
                outcomes.append(contract.sign_up(server.address, [f"{_SIGN_UPS}{number}"]))

        thread = threading.Thread(target=keep_signing_up, daemon=True)
        thread.start()
        try:
            _ours(cluster, count)
        finally:
            ended.set()
            thread.join()
    failures = sum(len(outcome.failures) for outcome in outcomes)
    cluster.task_quietly("drop", "load-", environment={"DJANGO_SETTINGS_MODULE": OURS})
    _ours(cluster, count, "--back")
    facts = {"sign_ups": len(outcomes), "failures": failures}
    made = sum(len(outcome.seconds) for outcome in outcomes)
    return Row(f"migrate/{count}/sign-ups meanwhile", "", (float(made),), facts)
