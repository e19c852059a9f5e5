"""`make kill-storm`: kills the server at random during sign-ups, and counts what is left half done.

    python -m tests.faults.kill_storm --kills 30 --seed 7

Three kinds of kill (SIGKILL) take turns: gunicorn; gunicorn and PostgreSQL; gunicorn once more
while it starts and cleans up after the last kill. The server is started again each time. Exit code
1 if anything is counted that should not be there. The seed decides names and moments; what a moment
meets is up to the machine.
"""

import argparse
import os
import random
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException

import psycopg

from tests.real_server import RealServer

THREADS = 6
KINDS = ("gunicorn", "gunicorn and PostgreSQL", "gunicorn while it starts")
# Until the kill, from the first sign-up of its round: what a few sign-ups take on a slow machine.
LONGEST_STORM_SECONDS = 2.0
LONGEST_START_SECONDS = 3.0
# Between the death of PostgreSQL and gunicorn's: time for gunicorn to notice and to clean up.
LONGEST_PAUSE_SECONDS = 0.5
THREAD_SECONDS = 90.0
EMAIL = "admin@storm.example"
PASSWORD = "storm and stress 42"
UNANSWERED = 0
_ROWS = """(SELECT name, database_name, role_name FROM organizations WHERE status <> 'deleted'
    UNION ALL SELECT database_name, database_name, role_name FROM templates
    UNION ALL SELECT database_name, database_name, role_name FROM spare_databases
    UNION ALL SELECT database_name, database_name, role_name FROM restores WHERE role_name <> '')
    AS known"""
LEFTOVERS = {
    "orphan databases": f"""SELECT datname FROM pg_database WHERE datname LIKE 'org%'
        AND datname NOT IN (SELECT database_name FROM {_ROWS})""",  # noqa: S608
    "orphan roles": f"""SELECT rolname FROM pg_roles WHERE rolname ~ '^(orgrole|orgmgmt_tables)_'
        AND rolname NOT IN (SELECT role_name FROM {_ROWS})""",  # noqa: S608
    "unfinished rows": """SELECT name || ': ' || status FROM organizations
        WHERE status NOT IN ('active', 'suspended', 'trashed', 'deleted')
        UNION ALL SELECT database_name || ': not ready' FROM templates WHERE NOT ready
        UNION ALL SELECT database_name || ': not ready' FROM spare_databases WHERE NOT ready
        UNION ALL SELECT 'restore ' || id || ': ' || state FROM restores
        WHERE state IN ('running', 'switching')
        UNION ALL SELECT 'backup ' || id || ': ' || state FROM backup_runs
        WHERE state IN ('running', 'removing')""",
    "rows without database or role": f"""SELECT name FROM {_ROWS}
        WHERE (database_name NOT IN (SELECT datname FROM pg_database)
        OR role_name NOT IN (SELECT rolname FROM pg_roles))""",  # noqa: S608
}


@dataclass
class Outcome:
    """What a storm met, and what was wrong afterwards."""

    answers: Counter[int] = field(default_factory=Counter)  # by HTTP status, or UNANSWERED
    kills: Counter[str] = field(default_factory=Counter)
    finished: int = 0  # names that were not answered 201, and whose organization exists
    free: int = 0  # names that were not answered 201, and could be signed up again
    faults: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fault_count(self) -> int:
        return sum(len(found) for found in self.faults.values())


class Storm:
    """Threads that sign up new names, and remember the answers."""

    def __init__(self, server: RealServer, number: int) -> None:
        self.answers: dict[str, int] = {}
        self._server = server
        self._number = number
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._sign_up, args=(thread,), daemon=True)
            for thread in range(THREADS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when every sign-up is answered or known to be lost."""
        self._over.set()
        for thread in self._threads:
            thread.join(THREAD_SECONDS)
        if any(thread.is_alive() for thread in self._threads):
            raise TimeoutError(f"A sign-up of round {self._number} never ended.")

    def _sign_up(self, thread: int) -> None:
        count = 0
        while not self._over.is_set():
            name = f"Storm {self._number} {thread} {count}"
            count += 1
            self.answers[name] = UNANSWERED
            with suppress(OSError, HTTPException):
                self.answers[name] = _sign_up(self._server, name)
            if self.answers[name] != 201:  # PostgreSQL is gone, or gunicorn
                self._over.wait(0.2)


def _sign_up(server: RealServer, name: str) -> int:
    return server.sign_up(name, email=EMAIL, password=PASSWORD)[0]


def _log_in(server: RealServer, name: str) -> int:
    return server.log_in(name, email=EMAIL, password=PASSWORD)[0]


def run(*, kills: int, seed: int) -> Outcome:
    """Kill, restart, and count. Raises if the server no longer starts."""
    moments = random.Random(seed)
    outcome = Outcome()
    answers: dict[str, int] = {}
    with RealServer() as server:
        for number in range(kills):
            kind = KINDS[number % len(KINDS)]
            answers |= _round(server, number, kind, moments)
            outcome.kills[kind] += 1
        server.manage("reconcile_orgs")
        outcome.answers.update(answers.values())
        outcome.faults = leftovers(server.postgres.superuser_parameters("master_org_db"))
        _try_names(server, answers, outcome)
        outcome.faults["answers that are neither 201 nor 503"] = [
            f"{name}: {status}"
            for name, status in answers.items()
            if status not in (UNANSWERED, 201, 503)
        ]
    return outcome


def _round(server: RealServer, number: int, kind: str, moments: random.Random) -> dict[str, int]:
    """One storm with one kill; the server runs before and afterwards."""
    storm = Storm(server, number)
    storm.start()
    time.sleep(moments.uniform(0.05, LONGEST_STORM_SECONDS))
    if kind == "gunicorn and PostgreSQL":
        server.kill_postgres()
        time.sleep(moments.uniform(0, LONGEST_PAUSE_SECONDS))
    server.kill()
    storm.stop()
    server.restart_postgres()
    if kind == "gunicorn while it starts":
        server.launch()
        time.sleep(moments.uniform(0.5, LONGEST_START_SECONDS))
        server.kill()
    server.start()
    return storm.answers


def leftovers(superuser: dict[str, str | int]) -> dict[str, list[str]]:
    """What belongs to no organization, and what an organization lacks.

    superuser: what psycopg.connect needs to reach the master database as the superuser.
    """
    with psycopg.connect(**superuser, connect_timeout=30) as connection:  # type: ignore[arg-type]
        return {
            what: [str(row[0]) for row in connection.execute(query.encode())]
            for what, query in LEFTOVERS.items()
        }


def _try_names(server: RealServer, answers: dict[str, int], outcome: Outcome) -> None:
    """Log in to each organization; sign up again those that do not exist."""
    lost, unusable = [], []
    with ThreadPoolExecutor(THREADS) as pool:
        tried = pool.map(lambda name: _try(server, name, answers[name]), answers)
    for (name, status), statuses in zip(answers.items(), tried, strict=True):
        if status == 201:
            if statuses != [200]:
                lost.append(f"{name}: {statuses}")
        elif statuses == [200]:  # it died between the commit and the answer
            outcome.finished += 1
        elif statuses == [404, 201, 200]:
            outcome.free += 1
        else:
            unusable.append(f"{name}: {status}, then {statuses}")
    outcome.faults["names answered 201 that cannot log in"] = lost
    outcome.faults["names not answered that cannot be used"] = unusable


def _try(server: RealServer, name: str, status: int) -> list[int]:
    """Answer of a login; if there is no organization, also of a second sign-up and its login."""
    login = _log_in(server, name)
    if login == 200 or status == 201:
        return [login]
    return [login, _sign_up(server, name), _log_in(server, name)]


def show(outcome: Outcome, *, seed: int) -> None:
    """Print the counts."""
    words = {UNANSWERED: "unanswered"}
    rows: list[tuple[str, int]] = [("seed", seed)]
    rows += [(f"kills of {kind}", count) for kind, count in outcome.kills.items()]
    rows += [
        (f"sign-ups {words.get(status, f'answered {status}')}", count)
        for status, count in sorted(outcome.answers.items())
    ]
    rows += [("of those not answered 201, finished", outcome.finished)]
    rows += [("of those not answered 201, signed up again", outcome.free)]
    print_counts(rows, outcome.faults)


def print_counts(rows: Sequence[tuple[str, int]], faults: Mapping[str, Sequence[str]]) -> None:
    """Print the counts, then the number of each kind of fault, then each fault."""
    rows = [*rows, *((what, len(found)) for what, found in faults.items())]
    width = max(len(what) for what, _ in rows)
    for what, count in rows:
        print(f"{what:<{width}}  {count:>10}")
    for what, found in faults.items():
        for each in found:
            print(f"{what}: {each}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill_storm")
    kills = os.environ.get("KILLS", "") or "30"
    parser.add_argument("--kills", type=int, default=kills, help="how many (KILLS; default: 30)")
    parser.add_argument("--seed", type=int, help="of the random moments (default: a new one)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"{options.kills} kills, seed {seed}", flush=True)
    outcome = run(kills=options.kills, seed=seed)
    show(outcome, seed=seed)
    return 1 if outcome.fault_count else 0


if __name__ == "__main__":
    sys.exit(main())
