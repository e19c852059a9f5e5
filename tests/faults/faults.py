"""The faults of the matrix: how each begins and ends."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from tests.faults import disk
from tests.faults.attempts import Attempt
from tests.faults.world import Superuser, World

_CUT = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE usename LIKE 'org%' AND (%s = '' OR datname = %s)"
)


@dataclass
class Fault:
    """One fault for one batch of cells.

    environment: what the web server and the commands are configured with while it is tried.
    loses: whether a flow may end without an answer. holds: whether what holds the flows is itself
    the fault, and stays until they have answered. instant: it ends as it strikes.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    environment: ClassVar[Mapping[str, str]] = {}
    loses: ClassVar[bool] = False
    holds: ClassVar[bool] = False
    instant: ClassVar[bool] = False
    # Whether a sign-up that it makes fail can, and must, take back what it made at once.
    lets_clean_up: ClassVar[bool] = False
    # Steps it cannot be tried at, with the reason.
    not_at: ClassVar[Mapping[str, str]] = {}
    state: dict[str, Any] = field(default_factory=dict)

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        raise NotImplementedError

    def end(self, world: World) -> None:
        """Return when the fault is over."""


class KillApplication(Fault):
    name = "killed"
    how = "SIGKILL for gunicorn, its workers and every command; started again as by a supervisor"
    loses = True
    instant = True

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        world.commands.kill()
        world.kill()

    def end(self, world: World) -> None:
        world.launch()


class KillDatabase(Fault):
    name = "database killed"
    how = "SIGKILL for PostgreSQL's postmaster; started again as by a supervisor"
    instant = True

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        world.forget_superuser()
        world.kill_postgres()

    def end(self, world: World) -> None:
        world.restart_postgres()


class StopDatabase(Fault):
    name = "database stopped"
    how = "PostgreSQL is stopped (fast), and started again after the flows have been answered"

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        world.forget_superuser()
        world.postgres.stop()

    def end(self, world: World) -> None:
        world.restart_postgres()


class Cut(Fault):
    name = "connections cut"
    how = "pg_terminate_backend for every session of the application's and the organizations' roles"
    instant = True
    lets_clean_up = True

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        _cut(world)


class NoConnections(Fault):
    name = "max_connections"
    how = "sessions of the application's role take every free slot, until one is refused"
    not_at: ClassVar[Mapping[str, str]] = {"after": "nothing is running any more"}

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        taken: list[Superuser] = []
        self.state["taken"] = taken
        parameters: dict[str, Any] = world.postgres.connection_parameters()
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(**parameters, connect_timeout=10))

    def end(self, world: World) -> None:
        for connection in self.state["taken"]:
            connection.close()


class DiskFull(Fault):
    name = "disk full"
    how = "a file fills the small disk that has PostgreSQL's data"
    not_at: ClassVar[Mapping[str, str]] = {
        "after": "what was answered is on the disk",
        "commit": "what is committed is on the disk",
        "activation-commit": "what is committed is on the disk",
        "stock-commit": "what is committed is on the disk",
    }

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        if world.has_own_disk:
            self.state["file"] = disk.fill(world.disk)
        else:
            disk.limit_files(world.postgres.data_dir / "postgres", bytes_=8192)

    def end(self, world: World) -> None:
        if world.has_own_disk:
            self.state["file"].unlink()
        elif world.postgres.is_running():
            disk.limit_files(world.postgres.data_dir / "postgres", bytes_=-1)
        _start_if_dead(world)


class LogFull(DiskFull):
    name = "disk full, log too"
    how = (
        "the same when PostgreSQL's log needs a new segment: PostgreSQL panics, and cannot start "
        "until there is room"
    )

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        with world.connect() as connection:
            super().strike(world, attempts)
            with suppress(psycopg.Error):
                connection.execute("SELECT pg_logical_emit_message(false, 'full', 'x')")
                connection.execute("SELECT pg_switch_wal()")
        world.forget_superuser()


class LockTimeout(Fault):
    name = "lock timeout"
    how = "the lock that stops the flow stays until it has answered; LOCK_TIMEOUT_SECONDS is 2"
    environment: ClassVar[Mapping[str, str]] = {
        "LOCK_TIMEOUT_SECONDS": "2",
        "STATEMENT_TIMEOUT_SECONDS": "8",
    }
    holds = True
    not_at: ClassVar[Mapping[str, str]] = {
        "begin": "nothing waits for a lock",
        "after": "nothing waits for a lock",
        "commit": "a commit waits for no lock",
        "activation-commit": "a commit waits for no lock",
        "stock-commit": "a commit waits for no lock",
    }

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        """Strike while the flows wait."""


class StatementTimeout(LockTimeout):
    name = "statement timeout"
    how = "the same with STATEMENT_TIMEOUT_SECONDS 2, and LOCK_TIMEOUT_SECONDS 4"
    environment: ClassVar[Mapping[str, str]] = {
        "LOCK_TIMEOUT_SECONDS": "4",
        "STATEMENT_TIMEOUT_SECONDS": "2",
    }
    not_at: ClassVar[Mapping[str, str]] = {
        "begin": "no statement is slow",
        "after": "no statement is running",
        "commit": "a commit cannot be cancelled: the wait ends as a success",
        "activation-commit": "a commit cannot be cancelled: the wait ends as a success",
        "stock-commit": "a commit cannot be cancelled: the wait ends as a success",
    }


class MasterGone(Fault):
    name = "master gone"
    how = (
        "the master accepts no connections, and its sessions are cut; organizations' databases "
        "are up"
    )
    not_at: ClassVar[Mapping[str, str]] = {"after": "nothing is running any more"}

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        world.forget_superuser()
        self.state["closed"] = ["master_org_db"]
        _close(world, self.state["closed"])

    def end(self, world: World) -> None:
        _open(world, self.state["closed"])


class OrganizationGone(MasterGone):
    name = "organization's database gone"
    how = "the same for the databases of the organizations concerned; the master is up"

    def strike(self, world: World, attempts: Mapping[str, Attempt]) -> None:
        names = [attempt.makes for attempt in attempts.values()]
        query = "SELECT database_name FROM organizations WHERE name = ANY(%s)"
        rows: list[tuple[Any, ...]] = []
        with suppress(psycopg.errors.LockNotAvailable), world.connect("master_org_db") as session:
            # A flow that is held before it may read has made nothing yet.
            session.execute("SET lock_timeout = '1s'")
            rows = session.execute(query, (names,)).fetchall()
        closed = {world.tenant_database, *(str(row[0]) for row in rows)}
        closed |= {attempt.database for attempt in attempts.values() if attempt.database}
        self.state["closed"] = sorted(closed)
        _close(world, self.state["closed"])


ALL: tuple[type[Fault], ...] = (
    KillApplication,
    KillDatabase,
    StopDatabase,
    Cut,
    NoConnections,
    DiskFull,
    LogFull,
    LockTimeout,
    StatementTimeout,
    MasterGone,
    OrganizationGone,
)
BY_NAME = {fault.name: fault for fault in ALL}


def _cut(world: World, database: str = "") -> None:
    with world.connect() as connection:
        connection.execute(_CUT.replace("'org%'", "'org%%'").encode(), (database, database))


def _close(world: World, databases: list[str]) -> None:
    """Close it by pg_hba.conf: a change of pg_database would wait for locks that steps hold."""
    hba = world.postgres.data_dir / "postgres" / "pg_hba.conf"
    lines = [f'local "{name}" {who}' for name in databases for who in _WHO]
    _configure(world, hba, "\n".join(lines) + "\n" + _without(hba))
    deadline = time.monotonic() + 5
    for database in databases:
        while _lets_in(world, database) and time.monotonic() < deadline:
            time.sleep(0.01)
        _cut(world, database)


_WHO = ("postgres scram-sha-256", "all reject")
_OURS = "# What initdb wrote follows.\n"


def _without(hba: Path) -> str:
    return _OURS + hba.read_text().rpartition(_OURS)[2]


def _open(world: World, databases: list[str]) -> None:
    hba = world.postgres.data_dir / "postgres" / "pg_hba.conf"
    _configure(world, hba, _without(hba))
    deadline = time.monotonic() + 5
    for database in databases:
        while not _lets_in(world, database) and time.monotonic() < deadline:
            time.sleep(0.01)


def _configure(world: World, file: Path, text: str) -> None:
    file.write_text(text)
    with world.connect() as connection:
        connection.execute("SELECT pg_reload_conf()")


def _lets_in(world: World, database: str) -> bool:
    """Whether pg_hba.conf lets the application's role in there."""
    parameters: dict[str, Any] = world.postgres.connection_parameters()
    try:
        psycopg.connect(**{**parameters, "dbname": database}, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return "pg_hba" not in str(error)
    return True


def _start_if_dead(world: World) -> None:
    """Start it as a supervisor would, after waiting for one that is stopping or starting."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and world.postgres.is_running():
        with suppress(psycopg.Error), world.connect():
            return
        time.sleep(0.05)
    world.restart_postgres()
