"""Copies a database's content into another: pg_dump as its owner, pg_restore as the new owner.

Never as a superuser, nor as the application's role: functions in a CHECK, a default or a trigger
run with the rights of whoever writes the rows. Nothing is written to disk in between.
"""

import subprocess
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from organizations.errors import CopyFailed

from . import programs
from .programs import LOCK_WAIT, SERVICE_NAME
from .sessions import master_parameters

# The owner can set these for its database and role; a connection's own options win.
_AS_NEW = (
    "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=10s "
    "-c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c local_preload_libraries= -c search_path=public"
)
_LEFT = ("--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions")


def parameters(database: str, role: str, password: str) -> dict[str, Any]:
    """psycopg.connect's parameters for the database, as its owner, with safe session settings."""
    whose = {"dbname": database, "user": role, "password": password, "client_encoding": "UTF8"}
    return {**master_parameters(), **whose, "options": _AS_NEW}


def dump_command() -> list[str]:
    """pg_dump's path and arguments. Owners and grants are left out: a new owner owns everything.

    Raises ProgramMissing.
    """
    dump = [str(programs.program("pg_dump")), "--format=custom"]
    dump += [f"--lock-wait-timeout={LOCK_WAIT}", *_LEFT]
    return [*dump, "--no-security-labels", "--no-tablespaces"]


def restore_command(*, in_parts: bool = False) -> list[str]:
    """pg_restore's path and arguments: all or nothing. Raises ProgramMissing.

    in_parts: not in one transaction, which locks all that it makes in the lock table that the
    whole server shares. Since PARTS_SINCE.
    """
    whole = ["--transaction-size=500"] if in_parts else ["--single-transaction"]
    restore = [str(programs.program("pg_restore")), "--exit-on-error", *whole]
    return [*restore, *_LEFT, f"--dbname={SERVICE_NAME}"]


PARTS_SINCE = 17


def pipe(
    dump: list[str],
    source: dict[str, Any],
    restore: list[str],
    target: dict[str, Any],
    *,
    until: float | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[str]:
    """Run both commands, with what the first one writes as the other's input.

    until, goes_on: as programs.Run takes them. Returns the end of the output of each that failed.
    """
    with (
        programs.Run(dump, source, stdout=subprocess.PIPE, until=until, goes_on=goes_on) as reading,
        programs.Run(
            restore, target, stdin=reading.stdout, until=until, goes_on=goes_on
        ) as writing,
    ):
        # Keep the pipe only in pg_restore: otherwise pg_dump would wait for ever after its end.
        reading.stdout.close()
        return [each.words for each in (reading, writing) if each.end()]


def compare(name: str, before: "Rows", after: "Rows") -> None:
    """Raise CopyFailed unless each table has as many rows as before. name: for the error."""
    if table := differing(before, after):
        raise CopyFailed(name, f"the number of rows in {table} differs")


def differing(before: "Rows", after: "Rows") -> str:
    """The first table with another number of rows, or that only one has; empty: all are equal."""
    pairs = sorted(set(before.items()) ^ set(after.items()))
    return ".".join(pairs[0][0]) if pairs else ""


# Schema and name.
Table = tuple[str, str]
Rows = dict[Table, int]
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%'
AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype = 'e')
ORDER BY 1, 2
"""


def rows(where: dict[str, Any]) -> Rows:
    """The number of rows of each table."""
    with psycopg.connect(**where, autocommit=True) as connection:
        return rows_of(connection)


def rows_of(connection: "psycopg.Connection[Any]") -> Rows:
    """The number of rows of each table, as the connection's transaction sees them."""
    counted = {}
    for table in tables(connection):
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(*table))
        row = connection.execute(query).fetchone()
        counted[table] = int(row[0]) if row else 0
    return counted


def tables(connection: "psycopg.Connection[Any]") -> list[Table]:
    """Schema and name of each table, without those of extensions."""
    return [(schema, table) for schema, table in connection.execute(_TABLES.encode()).fetchall()]
