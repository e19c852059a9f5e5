"""`make drill`: the server is lost, the backups are there. Takes the time of each step.

    python -m tests.faults.drill --organizations 100 --parallel 4

Organizations with users and files are backed up, the master is dumped, and PostgreSQL and the web
server are killed (SIGKILL); their data and the organizations' files are deleted. On a new, empty
PostgreSQL everything is brought back as docs/recovery.md says. Then the users and files of all are
compared, some log in, and one more signs up. Exit code 1 if anything is missing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from orgmgmt.embedded.postgres import APPLICATION_ROLE, MASTER_DATABASE, EmbeddedPostgres
from tests.real_server import PROJECT, RealServer

PASSWORD = "storm and stress 42"
EMAIL = "admin@drill.example"
USERS = 3
FILES = 3
FILE_BYTES = 20_000
SAMPLE = 10
THREADS = 4
COMMAND_SECONDS = 7_200
# Everything of a user that a restore keeps.
_USERS = "SELECT id, email, hashed_password, is_admin, is_active, created_at FROM users ORDER BY id"


@dataclass
class Outcome:
    """steps: the seconds of each. faults: what is missing or wrong."""

    steps: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Content:
    """An organization's users and files."""

    users: list[Any]
    files: dict[str, bytes]


class LostServer(RealServer):
    """Its backups are in a folder of their own; its PostgreSQL and files can be lost."""

    def __init__(self) -> None:
        # PostgreSQL's own settings: what is measured is on disk.
        super().__init__(postgres_settings={})
        self.backups = self.folder / "backups"

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "DATA_DIR": str(self.postgres.data_dir),
            "BACKUP_ROOT": str(self.backups),
            "WEB_CONCURRENCY": "2",
            "WEB_THREADS": "4",
            "LOG_LEVEL": "WARNING",
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run manage.py, for as long as it takes; it can fail."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def program(self, name: str, *arguments: str, reads: str | None = None) -> None:
        """Run one of PostgreSQL's programs as the superuser."""
        where = self.postgres.superuser_parameters()
        own = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
        subprocess.run(
            [str(self.postgres.bin_dir / name), *arguments],
            env={variable: str(where[key]) for variable, key in own.items()},
            input=reads,
            check=True,
            capture_output=True,
            text=True,
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """As the superuser."""
        return psycopg.connect(**self.postgres.superuser_parameters(database), autocommit=True)  # type: ignore[arg-type]

    def organizations(self) -> list[tuple[str, str, str]]:
        """Name, key and database of each."""
        with self.connect(MASTER_DATABASE) as connection:
            rows = connection.execute("SELECT name, key, database_name FROM organizations")
            return [(name, key, database) for name, key, database in rows]

    def content(self, key: str, database: str) -> Content:
        """What the organization has now."""
        with self.connect(database) as connection:
            users = connection.execute(_USERS).fetchall()
        folder = self.media / key
        paths = (path for path in folder.rglob("*") if path.is_file())
        return Content(users, {str(each.relative_to(folder)): each.read_bytes() for each in paths})

    def lose(self) -> None:
        """Kill the web server and PostgreSQL, and delete all but the backups."""
        self.kill()
        self.kill_postgres()
        lost = self.postgres.data_dir
        while lost.exists():
            shutil.rmtree(lost, ignore_errors=True)
        self.postgres.release()

    def replace(self) -> None:
        """A new PostgreSQL, with no role or database but its own, and an empty MEDIA_ROOT."""
        self.postgres = EmbeddedPostgres(self.folder / "new", settings={})
        self.postgres.acquire()
        with self.connect() as connection:
            for statement in (
                f"DROP DATABASE {MASTER_DATABASE}",
                f"DROP ROLE {APPLICATION_ROLE}, orgmgmt_owner",
            ):
                connection.execute(statement.encode())
        self.media = self.postgres.data_dir / "files"
        self.media.mkdir()

    def restore_master(self, dump: Path) -> None:
        """As docs/recovery.md says."""
        password = str(self.postgres.connection_parameters()["password"])
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(APPLICATION_ROLE), sql.Literal(password)
                )
            )
            connection.execute("CREATE ROLE orgmgmt_owner")
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(MASTER_DATABASE), sql.Identifier(APPLICATION_ROLE)
                )
            )
        self.program("pg_restore", "--exit-on-error", f"--dbname={MASTER_DATABASE}", str(dump))
        statements = self.command("server_sql").stdout
        self.program("psql", "-v", "ON_ERROR_STOP=1", reads=statements)


class Drill:
    """The drill, from top to bottom."""

    def __init__(self, server: LostServer, *, organizations: int, parallel: int) -> None:
        self._server = server
        self._number = organizations
        self._parallel = parallel
        self._outcome = Outcome()
        self._lock = threading.Lock()

    def run(self) -> Outcome:
        server, dump = self._server, self._server.folder / "master.dump"
        with self._step("organizations signed up, with users and files"):
            self._fill()
        before = {
            name: server.content(key, database) for name, key, database in server.organizations()
        }
        parallel = f"--parallel={self._parallel}"
        with self._step("backup_orgs --all"):
            self._must("backup_orgs", "--all", parallel)
        with self._step("pg_dump of the master"):
            server.program("pg_dump", "--format=custom", f"--file={dump}", MASTER_DATABASE)
        server.lose()
        with self._step("a new PostgreSQL"):
            server.replace()
        began = time.monotonic()
        with self._step("the master restored"):
            server.restore_master(dump)
        with self._step("claim_installation"):
            self._must("claim_installation", "--yes")
        with self._step("mark_media"):
            self._must("mark_media")
        with self._step(f"restore_orgs --all {parallel}"):
            self._must("restore_orgs", "--all", parallel)
        with self._step("check_orgs"):
            self._must("check_orgs")
        with self._step("the web server started"):
            server.start()
        self._outcome.steps["from the new PostgreSQL to the first answer"] = (
            time.monotonic() - began
        )
        self._compare(before)
        return self._outcome

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._outcome.steps[name] = time.monotonic() - began
        print(f"{name:<48} {self._outcome.steps[name]:>8.1f} s", flush=True)

    def _must(self, *arguments: str) -> None:
        done = self._server.command(*arguments)
        if done.returncode:
            last = f"{done.stdout}{done.stderr}".strip()[-2_000:]
            self._fault(f"manage.py {' '.join(arguments)} ended with {done.returncode}: {last}")

    def _fault(self, what: str) -> None:
        with self._lock:
            self._outcome.faults.append(what)

    def _each(self, act: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(act, range(self._number)))

    def _fill(self) -> None:
        self._each(self._sign_up)
        self._server.media.mkdir(exist_ok=True)
        for _, key, _ in self._server.organizations():
            for number in range(FILES):
                path = self._server.media / key / f"folder {number}" / "a file.bin"
                path.parent.mkdir(parents=True)
                path.write_bytes(os.urandom(FILE_BYTES))

    def _sign_up(self, number: int) -> None:
        server, name = self._server, f"Drill {number}"
        status, _ = server.sign_up(name, email=EMAIL, password=PASSWORD)
        assert status == 201, status
        headers = {"Authorization": f"Bearer {self._token(name)}"}
        for user in range(USERS):
            body = {"email": f"user{user}@drill{number}.example", "password": PASSWORD}
            status, _ = server.post("/api/v1/users/", body, headers=headers)
            assert status == 201, status

    def _token(self, name: str) -> str:
        body = {"organization": name, "email": EMAIL, "password": PASSWORD}
        status, login = self._server.post("/api/v1/auth/token/", body)
        return str(login["access"]) if status == 200 else ""

    def _compare(self, before: dict[str, Content]) -> None:
        server = self._server
        now = {name: (key, database) for name, key, database in server.organizations()}
        for name, content in before.items():
            if name not in now:
                self._fault(f"{name} is missing")
            elif server.content(*now[name]) != content:
                self._fault(f"{name} has other users or files")
        for name in list(before)[:: max(1, len(before) // SAMPLE)]:
            if not self._token(name):
                self._fault(f"nobody can log in to {name}")
        status, _ = server.sign_up("Newcomer", email=EMAIL, password=PASSWORD)
        if status != 201:
            self._fault(f"a sign-up was answered {status}")


def run(*, organizations: int, parallel: int) -> Outcome:
    """Run the drill."""
    with LostServer() as server:
        return Drill(server, organizations=organizations, parallel=parallel).run()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.drill")
    parser.add_argument("--organizations", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--parallel", type=int, default=4, help="of each command (default: 4)")
    options = parser.parse_args(arguments)
    outcome = run(organizations=options.organizations, parallel=options.parallel)
    total = list(outcome.steps.items())[-1]
    print(f"{total[0]:<48} {total[1]:>8.1f} s")
    print(f"{'faults':<48} {len(outcome.faults):>8}")
    for fault in outcome.faults[:20]:
        print(fault)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
