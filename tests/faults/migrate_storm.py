"""`make migrate-storm`: kills a migration of many organizations half-way, and continues it.

    python -m tests.faults.migrate_storm --organizations 1000 --parallel 4

Meanwhile people sign up, and one organization has data that a migration fails on. Prints what it
saw. Exit code 1 if a migration is missing or there twice, if a lock is left, if a sign-up failed,
or if a run reported something else.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.real_server import POSTGRES_SETTINGS, PROJECT, RealServer

EMAIL = "admin@storm.example"
PASSWORD = "storm and stress 42"
SEEDS_AT_A_TIME = 4
RUN_SECONDS = 3600.0
# Of the organizations, in the order of their sign-up.
UNLUCKY = 37
ADD_FIELD = """migrations.AddField(
        "user", "note", models.CharField(max_length=20, default="", db_default="")
    )"""
STRICT = """migrations.RunSQL(
        "ALTER TABLE users ADD CONSTRAINT users_good CHECK (email <> 'bad data')",
        "ALTER TABLE users DROP CONSTRAINT users_good",
    )"""
Row = tuple[Any, ...]


class Fleet:
    """Organizations on their own server, and runs of migrate_orgs over them."""

    def __init__(self, server: RealServer, *, parallel: int) -> None:
        self.faults: list[str] = []
        self._server = server
        self.parallel = parallel
        self._code: dict[str, str] = {}

    # --- What is there -----------------------------------------------------------------------
    def ask(self, query: str, *, database: str = "master_org_db") -> list[Row]:
        """Run a query as superuser."""
        parameters = self._server.postgres.superuser_parameters(database)
        with psycopg.connect(**parameters, autocommit=True) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def databases(self) -> list[str]:
        query = "SELECT database_name FROM organizations WHERE status = 'active' ORDER BY id"
        return [str(row[0]) for row in self.ask(query)]

    def expect(self, what: str, *, is_so: bool) -> None:
        """Print it, and remember it as a fault if it is not so."""
        print(f"{'ok   ' if is_so else 'WRONG'}  {what}", flush=True)
        if not is_so:
            self.faults.append(what)

    def times_applied(self, migration: str) -> dict[str, int]:
        """How often each database has recorded the migration."""
        query = f"SELECT count(*) FROM django_migrations WHERE name = '{migration}'"  # noqa: S608

        def count(database: str) -> int:
            return int(self.ask(query, database=database)[0][0])

        databases = self.databases()
        with ThreadPoolExecutor(SEEDS_AT_A_TIME) as pool:
            return dict(zip(databases, pool.map(count, databases), strict=True))

    def without_column(self, column: str) -> list[str]:
        query = f"SELECT count({column}) FROM users"  # noqa: S608
        lacking = []
        for database in self.databases():
            try:
                self.ask(query, database=database)
            except psycopg.errors.UndefinedColumn:
                lacking.append(database)
        return lacking

    def held(self) -> list[Row]:
        """Advisory locks, and transactions that are open in organizations' databases."""
        return self.ask(
            "SELECT 'lock', pid FROM pg_locks WHERE locktype = 'advisory' UNION ALL "
            "SELECT 'transaction', pid FROM pg_stat_activity "
            "WHERE datname LIKE 'org\\_%' AND xact_start IS NOT NULL"
        )

    # --- What is done ------------------------------------------------------------------------
    def seed(self, count: int) -> None:
        """Sign `count` organizations up."""

        def one(number: int) -> int:
            return self._server.sign_up(f"Seed {number}", email=EMAIL, password=PASSWORD)[0]

        with ThreadPoolExecutor(SEEDS_AT_A_TIME) as pool:
            answers = list(pool.map(one, range(1, count + 1)))
        self.expect(f"{count} organizations have signed up", is_so=answers == [201] * count)

    @contextmanager
    def sign_ups(self) -> Iterator[None]:
        """Sign-ups at the server with the old code, during the block."""
        over = threading.Event()
        answers: list[int] = []

        def go_on() -> None:
            while not over.wait(0.2):
                name = f"Late {len(answers)}"
                answers.append(self._server.sign_up(name, email=EMAIL, password=PASSWORD)[0])

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        failed = sum(status != 201 for status in answers)
        self.expect(f"{len(answers)} signed up meanwhile, {failed} in vain", is_so=not failed)

    def add(self, **operations: str) -> None:
        """Add these migrations after the real ones to the code of all later runs."""
        from tests.organizations.migrating import added

        package = f"added_{len(operations)}"
        added.write(self._server.folder / package, **operations)
        (self._server.folder / f"settings_{package}.py").write_text(
            f"from orgmgmt.settings import *\nMIGRATION_MODULES = {{'accounts': '{package}'}}\n"
        )
        self._code = {
            "DJANGO_SETTINGS_MODULE": f"settings_{package}",
            "PYTHONPATH": f"{self._server.folder}{os.pathsep}{PROJECT}",
        }

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start migrate_orgs with the code of `add`."""
        return subprocess.Popen(
            [sys.executable, "manage.py", "migrate_orgs", *arguments],
            cwd=PROJECT,
            env={**self._server.environment, **self._code},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run it to its end: exit code, stdout and stderr."""
        process = self.start("--parallel", str(self.parallel), *arguments)
        out, err = process.communicate(timeout=RUN_SECONDS)
        return process.returncode, out, err

    def counts(self, *arguments: str) -> dict[str, int]:
        """The counts of such a run; if it fails, that is a fault."""
        began = time.monotonic()
        code, out, err = self.run("--json", *arguments)
        if code:
            self.expect(f"exit code 0, and not {code}: {err}", is_so=False)
            return {}
        document = json.loads(out)
        said = {what: number for what, number in document["counts"].items() if number}
        seconds = time.monotonic() - began
        print(
            f"       {said}, {document['seconds']} s ({seconds:.1f} s with the start)", flush=True
        )
        return said


def killed_half_way(fleet: Fleet) -> None:
    """An AddField over all, killed, gone on with, and then nothing to do."""
    fleet.add(note=ADD_FIELD)
    total = len(fleet.databases())
    with fleet.sign_ups():
        process = fleet.start("--parallel", str(fleet.parallel))
        done = 0
        while done < total // 2 and process.poll() is None:
            query = "SELECT count(*) FROM organizations WHERE migrated_at IS NOT NULL"
            done = int(fleet.ask(query)[0][0])
        process.send_signal(signal.SIGKILL)
        process.communicate()
        fleet.expect(f"killed with {done} of {total} done", is_so=process.returncode == -9)
        times = fleet.times_applied("0004_note")
        fleet.expect(
            f"{sum(times.values())} databases have it, none twice",
            is_so=max(times.values()) == 1 and sum(times.values()) < len(times),
        )
        said = fleet.counts()
    # Those that signed up at the old code's server during the run.
    fleet.counts()
    times = fleet.times_applied("0004_note")
    fleet.expect(
        f"{len(times)} of {len(times)} databases say that they have it, once",
        is_so=set(times.values()) == {1},
    )
    fleet.expect("each of them has the column", is_so=not fleet.without_column("note"))
    fleet.expect(
        f"the run after the kill migrated {said.get('migrated')}, not all of them again",
        is_so=0 < said.get("migrated", 0) <= len(times) - done,
    )
    fleet.expect(f"nothing is locked: {fleet.held()}", is_so=not fleet.held())
    said = fleet.counts()
    fleet.expect("a run with nothing to do does nothing", is_so=list(said) == ["in step before"])


def bad_data(fleet: Fleet) -> None:
    """A migration that fails in one organization; the repair; the rest."""
    databases = fleet.databases()
    unlucky = databases[min(UNLUCKY, len(databases)) - 1]
    name = fleet.ask(f"SELECT name FROM organizations WHERE database_name = '{unlucky}'")[0][0]  # noqa: S608
    fleet.ask("UPDATE users SET email = 'bad data'", database=unlucky)
    fleet.add(note=ADD_FIELD, strict=STRICT)
    code, out, err = fleet.run()
    print("\n".join(f"       {line}" for line in out.splitlines()[-12:]), flush=True)
    print(f"       {err.splitlines()[-1]}", flush=True)
    fleet.expect("exit code 1", is_so=code == 1)
    fleet.expect(f"the table names {name}", is_so=f"│ {name} " in out and "CheckViolation" in out)
    times = fleet.times_applied("0005_strict")
    fleet.expect(
        f"the other {len(times) - 1} are done",
        is_so=[each for each, count in times.items() if count != 1] == [unlucky],
    )
    fleet.ask(f"UPDATE users SET email = '{EMAIL}'", database=unlucky)  # noqa: S608
    said = fleet.counts("--retry-failed")
    fleet.expect("repaired, --retry-failed finishes it", is_so=said.get("migrated") == 1)
    fleet.expect("all have it", is_so=set(fleet.times_applied("0005_strict").values()) == {1})
    fleet.expect(f"nothing is locked: {fleet.held()}", is_so=not fleet.held())


PARTS: tuple[Callable[[Fleet], None], ...] = (killed_half_way, bad_data)


def run(*, organizations: int, parallel: int) -> list[str]:
    """Run the storm; its faults. Raises ServerFailed if the server does not start."""
    # The runs read more than the tests of the server, beside its own connections.
    settings = {**POSTGRES_SETTINGS, "max_connections": "200"}
    with RealServer(postgres_settings=settings) as server:
        fleet = Fleet(server, parallel=parallel)
        fleet.seed(organizations)
        for part in PARTS:
            print(f"{part.__doc__}", flush=True)
            part(fleet)
    return fleet.faults


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.migrate_storm")
    wanted = os.environ.get("ORGANIZATIONS", "") or "1000"
    parser.add_argument(
        "--organizations", type=int, default=wanted, help="(ORGANIZATIONS; default: 1000)"
    )
    parser.add_argument("--parallel", type=int, default=4, help="threads of a run (default: 4)")
    options = parser.parse_args(arguments)
    faults = run(organizations=options.organizations, parallel=options.parallel)
    print(f"{len(faults)} wrong", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
