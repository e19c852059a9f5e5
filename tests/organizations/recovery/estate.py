"""A server of its own whose master is dumped and restored with PostgreSQL's programs."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from tests.conftest import PASSWORD
from tests.faults.command_runner import CommandRunner
from tests.plugin import FOLDER
from tests.real_server import POSTGRES_SETTINGS, RealServer, ServerFailed

if TYPE_CHECKING:
    from tests.faults.world import World

ENVIRONMENT = {"ORG_SPARE_DATABASES": "1", "ORG_ADMIN_PASSWORD": PASSWORD}
# Nothing of it has to outlive a crash.
POSTGRES = {
    **POSTGRES_SETTINGS,
    "synchronous_commit": "off",
    "autovacuum": "off",
    "io_method": "sync",
    "max_wal_size": "256MB",
}
NEWER = "the server is newer than the master"


class Estate(RealServer):
    """The server, where the tests' own is (in memory, if there is room), and manage.py on it."""

    def __init__(
        self, *, environment: Mapping[str, str], postgres_settings: Mapping[str, str] = POSTGRES
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(FOLDER.parent))
            super().__init__(environment=environment, postgres_settings=postgres_settings)

    def __enter__(self) -> "Estate":
        self.postgres.acquire()
        self._runners: dict[str, CommandRunner] = {}
        self.manage("migrate", "--verbosity", "0")
        self.media.mkdir()
        self.manage("prepare_start")  # It leaves the files' mark.
        return self

    def __exit__(self, *exc_info: object) -> None:
        for runner in self._runners.values():
            runner.stop()
        super().__exit__(*exc_info)

    def manage(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run manage.py in a process forked from one that has the code loaded."""
        master = (environment or {}).get("MASTER_DB_NAME", "")
        if master not in self._runners:
            where = SimpleNamespace(
                environment=self.environment | dict(environment or {}), folder=self.folder
            )
            runner = self._runners[master] = CommandRunner(cast("World", where))
            runner.start()
        code, said = self._runners[master].run(*arguments, timeout_seconds=60)
        if code != 0:
            raise ServerFailed(f"manage.py {' '.join(arguments)}:\n{said}")
        return said

    def create(self, name: str) -> str:
        """Create an organization; its database's name."""
        said = self.manage("create_org", name, "--email=a@test.com", "--json")
        return str(document(said, '{"id"')["database"])

    def value(self, query: str, *parameters: Any, database: str = "master_org_db") -> Any:
        """The first column of the first row, as the superuser."""
        with self.superuser(database) as connection:
            row = connection.execute(query.encode(), parameters or None).fetchone()
        return None if row is None else row[0]

    def superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(**self.postgres.superuser_parameters(database), autocommit=True)  # type: ignore[arg-type]

    def execute(self, *statements: str) -> None:
        with self.superuser() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def databases(self) -> set[str]:
        with self.superuser() as connection:
            return {str(n) for (n,) in connection.execute("SELECT datname FROM pg_database")}

    def dump(self) -> str:
        """Dump the master; the dump's path."""
        path = str(self.folder / "data" / "master.dump")
        self._run("pg_dump", "--format=custom", f"--file={path}", "master_org_db")
        return path

    def restore(self, dump: str, database: str = "master_org_db") -> None:
        """Restore into a new database of this name, after dropping the old one."""
        self.execute(
            f"DROP DATABASE IF EXISTS {database} WITH (FORCE)",
            f"CREATE DATABASE {database} OWNER orgmgmt",
        )
        self._run("pg_restore", f"--dbname={database}", dump)

    def restore_in_place(self, dump: str) -> None:
        """Restore into the existing database, so that its OID stays."""
        self._run("pg_restore", "--clean", "--if-exists", "--dbname=master_org_db", dump)

    def _run(self, program: str, *arguments: str) -> None:
        parameters = self.postgres.superuser_parameters()
        environment = {
            "PGHOST": str(parameters["host"]),
            "PGPORT": str(parameters["port"]),
            "PGUSER": str(parameters["user"]),
            "PGPASSWORD": str(parameters["password"]),
        }
        subprocess.run(
            [str(self.postgres.bin_dir / program), *arguments],
            env=environment,
            check=True,
            capture_output=True,
        )

    def problems(self) -> dict[str, tuple[str, str]]:
        """The problems that check_orgs reports, with what to do, by name."""
        try:
            said = self.manage("check_orgs", "--json")
        except ServerFailed as error:
            said = str(error)
        return {
            finding["name"]: (problem["what"], problem["remedy"])
            for finding in document(said, '{"findings"')["findings"]
            for problem in finding["problems"]
        }


def document(said: str, beginning: str) -> Any:
    """The JSON in the output, between log lines."""
    return json.JSONDecoder().raw_decode(said, said.index(beginning))[0]
