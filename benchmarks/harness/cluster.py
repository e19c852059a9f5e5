"""Starts an embedded PostgreSQL with production's settings, fsync on, in a folder of its own."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
from cryptography.fernet import Fernet
from psycopg import sql

from orgmgmt.embedded.postgres import APPLICATION_ROLE, EmbeddedPostgres

PROJECT = Path(__file__).resolve().parent.parent.parent
# A thousand schemas of django-tenants take minutes.
COMMAND_SECONDS = 3600.0
# fsync, full_page_writes and synchronous_commit stay as they are: on.
# A copied database is some 8 MB of WAL: with the default max_wal_size every hundredth copy would
# request a checkpoint.
POSTGRES_SETTINGS = {
    "shared_buffers": "256MB",
    "max_connections": "1500",
    "min_wal_size": "1GB",
    "max_wal_size": "4GB",
}
_WAL_SEGMENTS = 48  # Of 16 MB; a checkpoint keeps as many as min_wal_size holds.
Connection = psycopg.Connection[tuple[Any, ...]]


class CommandFailed(Exception):
    """A program of the harness failed; the message ends with its output."""


class Cluster:
    """A PostgreSQL with a migrated master, and the environment for programs that use it.

    keep: do not remove the folder at the end of the block, so that a run can continue later.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: bool = False,
        postgres_settings: Mapping[str, str] = POSTGRES_SETTINGS,
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.postgres_settings = dict(postgres_settings)
        self.postgres = EmbeddedPostgres(folder / "data", settings=self.postgres_settings)
        self._keys: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.folder.chmod(0o711)  # PostgreSQL's user passes through
        self._keys = _keys_of(self.folder)
        try:
            self.postgres.acquire()
            self.manage("migrate", "--verbosity", "0")
            # Undoes what a killed run left half done.
            self.manage("reconcile_orgs")
            self.settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.postgres.release()
        finally:
            if not self.keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def settle(self) -> None:
        """Bring the server into the state of one that has been up for a while and is idle.

        A new server has no WAL segments to reuse, so its first databases would wait for new 16 MB
        files. A server that has just made a thousand databases would still be writing them.
        """
        with self.superuser() as connection:
            row = connection.execute("SELECT count(*) FROM pg_ls_waldir()").fetchone()
            assert row is not None
            for _ in range(_WAL_SEGMENTS - row[0]):
                connection.execute("SELECT pg_logical_emit_message(false, 'bench', '')")
                connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Production's settings, but with plain http and without throttles."""
        database = self.postgres.connection_parameters()
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(PROJECT),
            "DJANGO_SETTINGS_MODULE": "orgmgmt.settings",
            "DEBUG": "off",
            "HTTPS_ONLY": "off",
            "THROTTLES": "off",
            "ORG_SIGNUP": "open",
            "HOST": "127.0.0.1",
            "ALLOWED_HOSTS": "127.0.0.1",
            # All compared servers keep connections to the same databases.
            "ORG_CONNECTION_LIMIT": "100",
            # A token lives as long as the longest run.
            "ACCESS_TOKEN_EXPIRE_MINUTES": "20160",
            "DATA_DIR": str(self.folder / "data"),
            "STATIC_ROOT": str(self.folder / "static"),
            "MASTER_DB_HOST": str(database["host"]),
            "MASTER_DB_PORT": str(database["port"]),
            "MASTER_DB_NAME": str(database["dbname"]),
            "MASTER_DB_USER": str(database["user"]),
            "MASTER_DB_PASSWORD": str(database["password"]),
            **self._keys,
            **(extra or {}),
        }

    def manage(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run manage.py and return its output. Raises CommandFailed."""
        return self.run([sys.executable, "manage.py", *arguments], environment=environment)

    def task(
        self, name: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> Any:
        """Run benchmarks/tasks/<name>.py and return the JSON it prints last.

        Raises CommandFailed.
        """
        printed = self.run(task_command(name, arguments), environment=environment)
        return json.loads(printed.strip().splitlines()[-1])

    def task_quietly(
        self, name: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run a task that prints nothing. Raises CommandFailed."""
        self.run(task_command(name, arguments), environment=environment)

    def run(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
        """Run a program in this environment and return its output. Raises CommandFailed."""
        done = subprocess.run(
            watched(command),
            cwd=PROJECT,
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise CommandFailed(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def spread(
        self,
        name: str,
        arguments: Sequence[object],
        *,
        processes: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run a task in several processes at once; each gets --part K --parts N as well."""
        running: list[tuple[Path, subprocess.Popen[bytes]]] = []
        try:
            for part in range(processes):
                command = task_command(name, [*arguments, "--part", part, "--parts", processes])
                log = self.folder / f"{name}-{part}.log"
                running.append((log, self._start(command, log, environment)))
            for log, process in running:
                if process.wait() != 0:
                    raise CommandFailed(f"{name} {arguments}:\n{log.read_text()[-4000:]}")
        finally:
            for _, process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def _start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes]:
        # A file, not a pipe: nobody empties the second one's pipe while waiting for the first.
        with log.open("wb") as opened:
            return subprocess.Popen(
                watched(command),
                cwd=PROJECT,
                env=self.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=opened,
            )

    @contextmanager
    def superuser(self, database: str = "postgres") -> Iterator[Connection]:
        """An autocommit connection as the superuser."""
        parameters: dict[str, Any] = dict(self.postgres.superuser_parameters(database))
        with psycopg.connect(**parameters, autocommit=True) as connection:
            yield connection

    def create_database(self, name: str) -> None:
        """Create an empty database owned by the application's role, unless it exists."""
        with self.superuser() as connection:
            known = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(known, (name,)).fetchone():
                return
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                    sql.Identifier(name), sql.Identifier(APPLICATION_ROLE)
                )
            )


def watched(command: Sequence[str]) -> list[str]:
    """The command, wrapped so that it ends when this process ends, for whatever reason."""
    found = shutil.which("setpriv")
    return [*([found, "--pdeathsig", "TERM"] if found else []), *command]


def task_command(name: str, arguments: Sequence[object]) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.tasks.{name}", *(str(each) for each in arguments)]


def _keys_of(folder: Path) -> dict[str, str]:
    """The secrets of this folder's installation; made once, so that a run can continue."""
    file = folder / "keys.json"
    if not file.exists():
        keys = {
            "SECRET_KEY": secrets.token_urlsafe(64),
            "CREDENTIAL_KEYS": Fernet.generate_key().decode(),
        }
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            json.dump(keys, opened)
    kept: dict[str, str] = json.loads(file.read_text())
    return kept
