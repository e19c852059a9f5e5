"""Copies what is in one database into another: pg_dump as its owner, pg_restore as the new owner.

Never as a superuser, nor as the application's role: what a CHECK, a default or a trigger calls runs
with the rights of whoever writes the rows. Nothing is written to a disk in between.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from psycopg import sql

from organizations.errors import CopyFailed, ProgramMissing

from .server import CONNECT_TIMEOUT_SECONDS, libpq_options

# The owner can set these for its database and role; what a connection asks for itself wins.
_AS_NEW = (
    "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=10s "
    "-c idle_in_transaction_session_timeout=0 -c local_preload_libraries= "
    "-c search_path=public"
)
_LOCK_WAIT = "10s"


def program(name: str) -> Path:
    """pg_dump or pg_restore. Raises ProgramMissing.

    Of POSTGRES_BIN, else of PATH.
    """
    found = shutil.which(name, path=settings.POSTGRES_BIN or None)
    if found is None:
        raise ProgramMissing(name)
    return Path(found)


def parameters(database: str, role: str, password: str) -> dict[str, Any]:
    """What psycopg.connect takes for the database, as its owner, in a session as new."""
    entry = settings.MASTER_DB_DIRECT or settings.DATABASES["default"]
    found = {
        "host": entry.get("HOST", ""),
        "port": entry.get("PORT", ""),
        "dbname": database,
        "user": role,
        "password": password,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "options": _AS_NEW,
        **libpq_options(),
    }
    return {key: value for key, value in found.items() if value not in ("", None)}


def copy(name: str, source: dict[str, Any], target: dict[str, Any]) -> None:
    """Fill the empty database `target` with what is in `source`, and compare.

    name: the organization's, for an error. source, target: as `parameters` gives them. Owners and
    grants stay behind: all of it is the new owner's. Raises ProgramMissing and CopyFailed; what was
    restored until then is in `target`.
    """
    dump = [str(program("pg_dump")), "--format=custom", f"--lock-wait-timeout={_LOCK_WAIT}"]
    restore = [str(program("pg_restore")), "--exit-on-error", "--single-transaction"]
    left = ("--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions")
    with subprocess.Popen(  # noqa: S603 - PostgreSQL's own program, by its arguments
        [*dump, *left, "--no-security-labels", "--no-tablespaces"],
        env=_environment(source),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as reading:
        written = subprocess.run(  # noqa: S603
            [*restore, *left, f"--dbname={_SERVICE_NAME}"],
            env=_environment(target),
            stdin=reading.stdout,
            capture_output=True,
        )
        said = reading.stderr.read() if reading.stderr else b""
    if reading.returncode or written.returncode:
        # Its words can hold data of the organization's: they go to the log of whoever runs this.
        raise CopyFailed(name, (said or written.stderr).decode(errors="replace").strip())
    before, after = _rows(source), _rows(target)
    if before != after:
        differing = sorted(set(before.items()) ^ set(after.items()))[0][0]
        raise CopyFailed(name, f"the number of rows in {differing} differs")


# libpq takes the database from PGDATABASE where the name is a connection string without any part.
_SERVICE_NAME = "application_name=orgmgmt"
_NAMES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}


def _environment(where: dict[str, Any]) -> dict[str, str]:
    """In the environment and not in the arguments, which every user of the machine can read."""
    return {_NAMES[key]: str(value) for key, value in where.items() if key in _NAMES}


_TABLES = """
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT LIKE 'pg\\_%%'
AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype = 'e')
ORDER BY 1, 2
"""


def _rows(where: dict[str, Any]) -> dict[str, int]:
    """How many rows each table has."""
    counted = {}
    with psycopg.connect(**where, autocommit=True) as connection:
        for schema, table in connection.execute(_TABLES.encode()).fetchall():
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
            row = connection.execute(query).fetchone()
            counted[f"{schema}.{table}"] = int(row[0]) if row else 0
    return counted
