"""Copies a database's content into another: pg_dump as its owner, pg_restore as the new owner.

Never as a superuser, nor as the application's role: functions in a CHECK, a default or a trigger
run with the rights of whoever writes the rows. Nothing is written to disk in between.
"""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from psycopg import pq, sql

from organizations.errors import CopyFailed, ProgramMissing

from .sessions import master_parameters

# The owner can set these for its database and role; a connection's own options win.
_AS_NEW = (
    "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=10s "
    "-c idle_in_transaction_session_timeout=0 -c local_preload_libraries= "
    "-c search_path=public"
)
_LOCK_WAIT = "10s"


def program(name: str) -> Path:
    """The path of pg_dump or pg_restore, from POSTGRES_BIN or else PATH. Raises ProgramMissing."""
    found = shutil.which(name, path=settings.POSTGRES_BIN or None)
    if found is None:
        raise ProgramMissing(name)
    return Path(found)


def parameters(database: str, role: str, password: str) -> dict[str, Any]:
    """psycopg.connect's parameters for the database, as its owner, with safe session settings."""
    whose = {"dbname": database, "user": role, "password": password}
    return {**master_parameters(), **whose, "options": _AS_NEW}


def copy(name: str, source: dict[str, Any], target: dict[str, Any]) -> None:
    """Copy the content of `source` into the empty database `target`, and compare.

    name: the organization's, for an error. source, target: as `parameters` gives them. Owners and
    grants are not copied: the new owner owns everything. Raises ProgramMissing and CopyFailed; what
    was restored until then stays in `target`.
    """
    dump = [str(program("pg_dump")), "--format=custom", f"--lock-wait-timeout={_LOCK_WAIT}"]
    restore = [str(program("pg_restore")), "--exit-on-error", "--single-transaction"]
    left = ("--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions")
    dump += [*left, "--no-security-labels", "--no-tablespaces"]
    restore += [*left, f"--dbname={_SERVICE_NAME}"]
    with (
        _start(dump, source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as reading,
        _start(restore, target, stdin=reading.stdout, stdout=subprocess.DEVNULL) as writing,
        ThreadPoolExecutor(max_workers=2) as listeners,
    ):
        assert reading.stdout is not None  # noqa: S101 - a pipe
        # Keep the pipe only in pg_restore: otherwise pg_dump would wait for ever after its end.
        reading.stdout.close()
        try:
            words = list(listeners.map(_last_words, (reading, writing)))
        except BaseException:
            reading.kill()
            writing.kill()
            raise
    failed = [told for each, told in zip((reading, writing), words, strict=True) if each.returncode]
    if failed:
        # Its output can contain the organization's data, so it only goes to the log.
        raise CopyFailed(name, "\n".join(filter(None, failed)))
    before, after = _rows(source), _rows(target)
    if before != after:
        differing = sorted(set(before.items()) ^ set(after.items()))[0][0]
        raise CopyFailed(name, f"the number of rows in {differing} differs")


def _start(
    arguments: list[str], where: dict[str, Any], *, stdin: Any, stdout: Any
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - PostgreSQL's own program, by its arguments
        arguments, env=_environment(where), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    )


_LAST_BYTES = 4_000


def _last_words(program: "subprocess.Popen[bytes]") -> str:
    """The end of its output. The database's owner can make it print a lot (client_min_messages,
    RAISE WARNING for each row): all is read, so that it does not block, but little is kept."""
    assert program.stderr is not None  # noqa: S101 - a pipe
    kept = b""
    while said := program.stderr.read(_LAST_BYTES):
        kept = (kept + said)[-_LAST_BYTES:]
    return kept.decode(errors="replace").strip()


# libpq takes the database from PGDATABASE if the name is an empty connection string.
_SERVICE_NAME = "application_name=orgmgmt"
# libpq's environment variables, including TLS's.
_NAMES = {
    option.keyword.decode(): option.envvar.decode()
    for option in pq.Conninfo.get_defaults()
    if option.envvar is not None
}


def _environment(where: dict[str, Any]) -> dict[str, str]:
    """Parameters by environment: every user of the machine can read the arguments."""
    return {_NAMES[key]: str(value) for key, value in where.items() if key in _NAMES}


_TABLES = """
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT LIKE 'pg\\_%%'
AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype = 'e')
ORDER BY 1, 2
"""


def _rows(where: dict[str, Any]) -> dict[str, int]:
    """The number of rows of each table."""
    counted = {}
    with psycopg.connect(**where, autocommit=True) as connection:
        for schema, table in connection.execute(_TABLES.encode()).fetchall():
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
            row = connection.execute(query).fetchone()
            counted[f"{schema}.{table}"] = int(row[0]) if row else 0
    return counted
