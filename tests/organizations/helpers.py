"""Helpers of tests of the master: threads started together, manage.py processes, server queries."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections
from pytest_django import Settings

import manage as program
from organizations.deleting import delete
from organizations.models import Organization
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning import making
from organizations.secrets import unseal
from organizations.validators import SignUp
from tests import processes
from tests.plugin import SERVER

REPOSITORY = Path(__file__).resolve().parents[2]
Superuser = psycopg.Connection[tuple[object, ...]]


def together(*acts: Callable[[], object]) -> list[object]:
    """Run the functions in threads that start together; what each returned or raised."""
    results: list[object] = [None] * len(acts)
    barrier = threading.Barrier(len(acts))

    def run(index: int, act: Callable[[], object]) -> None:
        try:
            barrier.wait()
            results[index] = act()
        except Exception as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def insert_row(session: ServerSession, name: str) -> Organization:
    """Insert the row that a process leaves that dies after its first step."""
    return making._insert(session, SignUp(name, "admin@test.com", password=""))


def begin_deletion(organization: Organization) -> None:
    """Begin a deletion like a process that dies before it drops anything."""
    with open_session() as session:
        delete._begin_drop(session, organization)


def process_environment(**changes: str) -> dict[str, str]:
    """Environment variables for another process on this test's server."""
    password = str(SERVER.connection_parameters()["password"])
    return {**os.environ, "MASTER_DB_PASSWORD": password, **changes}


def manage(
    *arguments: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run manage.py in a process, on this test's server."""
    return processes.run(
        "manage.py",
        *arguments,
        cwd=REPOSITORY,
        env=process_environment(**environment),
        input=stdin,
    )


def manage_here(
    *arguments: str, stdin: str = "", meanwhile: Callable[[], object] = lambda: None
) -> subprocess.CompletedProcess[str]:
    """Run manage.py in a fork of this process, which has its settings and starts faster.

    meanwhile: called here while it runs. A thread that ran before the fork could hold a lock, which
    the fork would wait for in vain.
    """
    with tempfile.TemporaryDirectory() as folder:
        typed, out, err = (Path(folder) / name for name in ("in", "out", "err"))
        typed.write_text(stdin)

        def run() -> None:
            sys.argv = ["manage.py", *arguments]
            sys.stdin, sys.stdout, sys.stderr = typed.open(), out.open("w"), err.open("w")
            try:
                program.main()
            except SystemExit as end:
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
                raise
            finally:
                sys.stderr.flush()

        with Fork(run) as child:
            meanwhile()
            code = child.wait()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


class Fork:
    """A fork that runs the function and exits. It starts faster than a new process.

    Killed, if need be, when the block ends.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _do_and_end(act)

    def __enter__(self) -> "Fork":
        return self

    def __exit__(self, *error: object) -> None:
        if self.poll() is None:
            self.send(signal.SIGKILL)
            self.wait()

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self._code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if ended else None
        return self._code

    def wait(self, seconds: float = 30) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.01)
        return code


def _do_and_end(act: Callable[[], object]) -> None:
    code = 1
    try:
        # Its parent's connection is kept, and not used.
        theirs, connections["default"].connection = connections["default"].connection, None
        act()
        del theirs
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_a_fork(act: Callable[[], object]) -> None:
    """Run a function that kills its process, in a fork."""
    with Fork(act) as child:
        assert child.wait() == -signal.SIGKILL


def interrupt_a_statement(connection: psycopg.Connection[Any]) -> None:
    """Raise KeyboardInterrupt inside psycopg's generator, as a signal can."""

    def sent() -> Generator[Any, Any, None]:
        connection.pgconn.send_query(b"SELECT pg_sleep(0.2)")
        raise KeyboardInterrupt
        yield

    connection.wait(sent())


def wait_for(superuser: Superuser, query: str, *parameters: object) -> tuple[object, ...]:
    """Wait until the query has a row; its first row."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        row = superuser.execute(query.encode(), parameters or None).fetchone()
        if row is not None:
            return row
        time.sleep(0.01)
    raise AssertionError(f"it never came true: {query}")


def reload_configuration(superuser: Superuser) -> None:
    """Have the server reload its files; return when new sessions use them.

    The postmaster reads them before it tells its children (process_reload_request in
    postmaster.c), so that what this session has read, the next one will have.
    """
    [before] = superuser.execute("SELECT pg_conf_load_time()").fetchone() or [None]
    superuser.execute("SELECT pg_reload_conf()")
    wait_for(superuser, "SELECT 1 WHERE pg_conf_load_time() <> %s", before)


@contextmanager
def as_role_of(
    organization: Organization, database: str | None = None
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection with the organization's own credential, to its database or to another."""
    parameters = SERVER.connection_parameters() | {
        "user": organization.role_name,
        "password": unseal(organization.sealed_password, owner=organization.name),
        "dbname": database or organization.database_name,
    }
    with psycopg.connect(**parameters, autocommit=True) as connection:  # type: ignore[arg-type]
        yield connection


class Code:
    """The tenant app's migrations, in a package of their own, with others after them."""

    def __init__(self, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._settings = settings
        self._patch = monkeypatch

    def add(self, *statements: str, declared: bool = False) -> None:
        """Add a migration with each of the statements after the real ones.

        declared: the first one's rows are the same for every organization.
        """
        package = self._folder / f"added_{secrets.token_hex(4)}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "0001_initial.py").write_text(_ALL_AS_ONE)
        last = "0001_initial"
        for number, statement in enumerate(statements, start=2):
            name = f"{number:04}_added"
            (package / f"{name}.py").write_text(
                "from django.db import migrations\n"
                "class Migration(migrations.Migration):\n"
                f"    same_for_every_organization = {declared and number == 2}\n"
                f"    dependencies = [('accounts', {last!r})]\n"
                f"    operations = [migrations.RunSQL({statement!r})]\n"
            )
            last = name
        self._patch.syspath_prepend(str(self._folder))
        self._settings.MIGRATION_MODULES = {"accounts": package.name}


_ALL_AS_ONE = """
import importlib, pkgutil
import accounts.migrations as real
from django.db import migrations
class Migration(migrations.Migration):
    initial = True
    operations = []
for _, name, _ in pkgutil.iter_modules(real.__path__):
    module = importlib.import_module(f"accounts.migrations.{name}")
    Migration.operations += module.Migration.operations
"""


def names(connection: psycopg.Connection[tuple[object, ...]], query: str) -> set[str]:
    """The first column of a query, as a set."""
    return {str(row[0]) for row in connection.execute(query.encode())}
