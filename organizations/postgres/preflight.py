"""Start-up check: can the configured server be used? Explains the problem in one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from .sessions import Connection, lock_limit, master_parameters

MINIMUM_SERVER_VERSION = 160000


class Unusable(Exception):
    """One sentence that says why the server cannot be used, and what to do.

    It names host, port and database, never a password. passes: by the server's
    message it may resolve by itself.
    """

    def __init__(self, sentence: str, *, passes: bool = False) -> None:
        super().__init__(sentence)
        self.passes = passes


@contextmanager
def usable_connection() -> Iterator[Connection]:
    """An autocommit connection to a suitable server.

    Raises Unusable, also if the connection breaks inside the block.
    """
    # A check that waits for a lock must not hold up the command that it precedes.
    parameters = {**master_parameters(), "options": lock_limit()}
    database, user = parameters.get("dbname", ""), parameters.get("user", "")
    where = (
        f"host {parameters.get('host') or 'localhost'}, port {parameters.get('port') or 5432}, "
        f"database {database}"
    )
    try:
        with psycopg.connect(**parameters, autocommit=True) as connection:
            if found := _server_problem(connection):
                raise Unusable(f"Cannot use the master database ({where}): {found}")
            yield connection
    except psycopg.Error as error:
        reason = _connection_problem(error, user, database)
        sentence = f"Cannot use the master database ({where}): {reason}"
        raise Unusable(sentence, passes=reason in _PASSING) from error


def look() -> Unusable | None:
    """The problem with the database or its settings, or None."""
    try:
        with usable_connection():
            return None
    except Unusable as error:
        return error


def problem() -> str | None:
    """The same as one sentence that says what to do, or None."""
    found = look()
    return None if found is None else str(found)


_REFUSED = "connection refused. Start PostgreSQL, or set MASTER_DB_HOST and MASTER_DB_PORT."
_FULL = "the server has no free connection. Raise max_connections or stop other clients."
_UNRESOLVED = "the host name cannot be resolved. Set MASTER_DB_HOST."
_SILENT = "the server does not respond. Check MASTER_DB_HOST, MASTER_DB_PORT and the network."
_STARTING = "the server is starting or stopping. Try again in a moment."
_UNKNOWN = "the connection failed. Check the settings and the server's log."
_PASSING = (_REFUSED, _FULL, _UNRESOLVED, _SILENT, _STARTING, _UNKNOWN)


def _connection_problem(error: psycopg.Error, user: str, database: str) -> str:
    # libpq reports a failed connect without a SQLSTATE, so only its text tells. Quoted words in it
    # are names of ours.
    text = re.sub(r"\"[^\"]*\"|'[^']*'", "", str(error).lower())
    if "certificate" in text or "no encryption" in text or "ssl" in text:
        return (
            "the TLS connection failed. Check MASTER_DB_SSLMODE, MASTER_DB_SSLROOTCERT and the "
            "certificate."
        )
    if "password authentication failed" in text or "no password supplied" in text:
        return (
            f"wrong password for the role {user}. Set MASTER_DB_USER and MASTER_DB_PASSWORD, "
            "or DATABASE_URL."
        )
    if "does not exist" in text and "role" in text:
        return f"the role {user} does not exist. Set MASTER_DB_USER, or create the role."
    if "does not exist" in text:
        return (
            f"the database {database} does not exist. Create it (createdb {database}), "
            "or set MASTER_DB_NAME."
        )
    if "permission denied for database" in text:
        return f"the role {user} may not connect. Run what `manage.py server_sql` prints."
    if "refused" in text or "no such file" in text:
        return _REFUSED
    if "too many" in text or "remaining connection slots" in text:
        return _FULL
    if "could not translate host" in text or "resolve host" in text:
        return _UNRESOLVED
    if "timeout" in text or "timed out" in text:
        return _SILENT
    if "starting up" in text or "shutting down" in text:
        return _STARTING
    return _UNKNOWN


def _server_problem(connection: Connection) -> str | None:
    version = connection.info.server_version
    if version < MINIMUM_SERVER_VERSION:
        return (
            f"the server is PostgreSQL {version // 10000}, but 16 or newer is needed. Upgrade it."
        )
    row = connection.execute(
        "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    superuser, createdb, createrole = row if row is not None else (False, False, False)
    lacking = [
        name for name, has in (("CREATEDB", createdb), ("CREATEROLE", createrole)) if not has
    ]
    if lacking and not superuser:
        user = connection.info.user
        return (
            f"permission denied to create databases or roles: the role {user} lacks "
            f"{' and '.join(lacking)}. As a superuser run what `manage.py server_sql` prints, or "
            f"ALTER ROLE {user} CREATEDB CREATEROLE;"
        )
    return None
