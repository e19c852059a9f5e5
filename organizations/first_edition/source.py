"""Reads the FastAPI edition's master, and the users in its organizations' databases.

Only in READ ONLY transactions, and only ordinary tables with columns of PostgreSQL's own types:
nothing of the owner's runs with the rights of the role that reads. How much is read is bounded.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from accounts.models import MAX_EMAIL_LENGTH
from organizations.errors import FirstEditionUnreadable
from organizations.postgres.sessions import CONNECT_TIMEOUT_SECONDS
from organizations.tenancy import guard
from organizations.tenancy.tenant import MAX_NAME_LENGTH

MASTER = "master database"
# How its sessions are told from those of the application that wrote there.
_OWN_NAME = "orgmgmt adopts"
_SECONDS = 60
_ROWS_AT_A_TIME = 1_000
# Longer than any bcrypt hash.
_HASH_LENGTH = 80
_URL_LENGTH = 2_000
# Settings of the database and the role do not count. The time zone does: it is the one that
# CURRENT_TIMESTAMP was written in.
_OPTIONS = (
    f"-c default_transaction_read_only=on -c statement_timeout={_SECONDS}s -c lock_timeout=10s "
    "-c idle_in_transaction_session_timeout=0 -c local_preload_libraries= "
    "-c search_path=pg_catalog -c datestyle=ISO"
)
# As SQLAlchemy reads it (sqlalchemy/engine/url.py), which did not decode the database's name.
_URL = re.compile(
    r"postgres[\w+]*://(?:[^:/]*(?::[^@]*)?@)?(?P<server>[^/?@]*)"
    r"/(?P<database>[^?]+)(?:\?.*)?"
)
_INTEGERS = (20, 23)  # int8, int4
_TEXTS = (25, 1043)  # text, varchar
_BOOLEANS = (16,)
_TIMES = (1114, 1184)  # timestamp, timestamptz
_ORGANIZATIONS = {
    "id": _INTEGERS,
    "name": _TEXTS,
    "admin_email": _TEXTS,
    "database_url": _TEXTS,
    "created_at": _TIMES,
}
_USERS = {
    "id": _INTEGERS,
    "email": _TEXTS,
    "hashed_password": _TEXTS,
    "is_admin": _BOOLEANS,
    "is_active": _BOOLEANS,
    "created_at": _TIMES,
}


class _Connection(guard.Connection):
    """On the other edition's server, where our master can terminate nothing."""

    def _give_up(self) -> None:
        self.pgconn.finish()


@dataclass(frozen=True, slots=True)
class OldOrganization:
    """A row of the old master.

    origin: identifies the row and its master, wherever that is read from. database, server: by its
    database_url, which can hold a password and is not kept; empty if it names none.
    """

    id: int
    origin: str
    name: str
    admin_email: str
    created_at: datetime | None
    database: str
    server: str


@dataclass(frozen=True, slots=True)
class OldUser:
    """A row of an organization's `users`."""

    id: int | None
    email: str
    hashed_password: str = field(repr=False)
    is_admin: bool
    is_active: bool
    created_at: datetime | None


class Source:
    """The server of the old master and of its organizations' databases.

    url: libpq's, of the master. The databases are read with the same host and role: what a
    database_url says could lead anywhere. Raises FirstEditionUnreadable.
    """

    def __init__(self, url: str) -> None:
        if not url:
            raise FirstEditionUnreadable(MASTER, "there is no URL")
        try:
            self._where = {**conninfo_to_dict(url)}
        except psycopg.Error:
            # Its text quotes the URL.
            raise FirstEditionUnreadable(MASTER, "its URL is not one that libpq reads") from None

    @contextmanager
    def open(self, database: str = "") -> Iterator[psycopg.Connection[TupleRow]]:
        """A connection to the database, by default to the master: one read-only snapshot.

        Raises FirstEditionUnreadable.
        """
        where: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, **self._where}
        where |= {"application_name": _OWN_NAME, "client_encoding": "UTF8"}
        where["options"] = f"{where.get('options', '')} {_OPTIONS}"
        if database:
            where["dbname"] = database
        with guard.time_limit(_SECONDS + guard.GRACE_SECONDS):
            try:
                connection = _Connection.connect(**where, prepare_threshold=None)
            except psycopg.Error:
                # libpq's text can quote a part of the password that it took for a host.
                why = "the connection failed. `psql` with the same URL and this database says why"
                raise FirstEditionUnreadable(database or MASTER, why) from None
            try:
                connection.isolation_level = IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                yield connection
            finally:
                connection.close()


def organizations(connection: psycopg.Connection[TupleRow]) -> list[OldOrganization]:
    """All rows of the old master. Raises FirstEditionUnreadable."""
    with _explained(MASTER):
        if why := _unexpected(connection, "organizations", _ORGANIZATIONS):
            raise FirstEditionUnreadable(MASTER, why)
        identifier, oid = connection.execute(_IDENTITY.encode()).fetchone() or (0, 0)
        rows = connection.execute(_ALL.encode()).fetchall()
    if len({number for number, *_ in rows} - {None}) != len(rows):
        raise FirstEditionUnreadable(MASTER, "its organizations have no unique ids")
    return [
        OldOrganization(number, f"{identifier}:{oid}:{number}", name, email, at, *_place_of(url))
        for number, name, email, url, at in rows
    ]


_IDENTITY = """
SELECT c.system_identifier, d.oid::bigint FROM pg_control_system() AS c, pg_database AS d
WHERE d.datname = current_database()
"""
# A character more than we take, so that what is too long is seen. Python's years are 1 to 9999.
_TIME = (
    "CASE WHEN created_at BETWEEN '0001-01-02' AND '9999-12-30' THEN created_at::timestamptz END"
)
_ALL = f"""
SELECT id::bigint, coalesce(left(name::text, {MAX_NAME_LENGTH + 1}), ''),
coalesce(left(admin_email::text, {MAX_EMAIL_LENGTH + 1}), ''),
coalesce(left(database_url::text, {_URL_LENGTH}), ''), {_TIME}
FROM ONLY public.organizations ORDER BY id
"""  # noqa: S608 - constants


def _place_of(url: str) -> tuple[str, str]:
    """The database that the URL names, and the server."""
    found = _URL.fullmatch(url)
    return (found["database"], found["server"]) if found else ("", "")


def databases(
    connection: psycopg.Connection[TupleRow], names: Collection[str]
) -> Mapping[str, int]:
    """Those that exist and admit connections, and how many sessions others have with each."""
    with _explained(MASTER):
        return dict(connection.execute(_DATABASES.encode(), [_OWN_NAME, list(names)]).fetchall())


# The server's own processes have no user there.
_DATABASES = """
SELECT d.datname::text, (SELECT count(*) FROM pg_stat_activity AS a WHERE a.datid = d.oid
AND a.usename IS NOT NULL AND a.application_name IS DISTINCT FROM %s)
FROM pg_database AS d WHERE d.datname = ANY(%s) AND d.datallowconn
"""


def unexpected_users(connection: psycopg.Connection[TupleRow], database: str) -> str:
    """Why the database's `users` is not the table that the FastAPI edition made; else empty."""
    with _explained(database):
        return _unexpected(connection, "users", _USERS)


def users(connection: psycopg.Connection[TupleRow], database: str) -> Iterator[OldUser]:
    """The rows of the expected table, by id. Raises FirstEditionUnreadable."""
    with _explained(database), connection.cursor(name="users") as cursor:
        cursor.itersize = _ROWS_AT_A_TIME
        cursor.execute(_USER_ROWS.encode())
        for row in cursor:
            yield OldUser(*row)


# It read a missing value of either as false.
_USER_ROWS = f"""
SELECT id::bigint, coalesce(left(email::text, {MAX_EMAIL_LENGTH + 1}), ''),
coalesce(left(hashed_password::text, {_HASH_LENGTH}), ''), coalesce(is_admin, false),
coalesce(is_active, false), {_TIME}
FROM ONLY public.users ORDER BY id
"""  # noqa: S608 - constants


def _unexpected(
    connection: psycopg.Connection[TupleRow], table: str, columns: Mapping[str, Collection[int]]
) -> str:
    """Why public.<table> is not an ordinary table with these columns, of these types; or empty."""
    found = connection.execute(_TABLE.encode(), [table]).fetchone()
    if found is None:
        return f"it has no table {table} in its schema public"
    oid, is_plain = found
    if not is_plain:
        return f"its {table} is not an ordinary table without row security and children"
    types: dict[str, int] = dict(
        connection.execute(_COLUMNS.encode(), [oid, list(columns)]).fetchall()
    )
    wrong = sorted(name for name, known in columns.items() if types.get(name, 0) not in known)
    if not wrong:
        return ""
    return f"these columns of its table {table} are missing or of other types: {', '.join(wrong)}"


_TABLE = """
SELECT c.oid::bigint, c.relkind = 'r' AND NOT c.relrowsecurity AND NOT c.relhassubclass
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname = %s
"""
# A generated column can call a function when it is read.
_COLUMNS = """
SELECT attname::text, atttypid::bigint FROM pg_attribute WHERE attrelid = %s
AND attname = ANY(%s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


@contextmanager
def _explained(database: str) -> Iterator[None]:
    """Raise the other server's errors as ours, without its text, which can quote anything."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise FirstEditionUnreadable(database, "its text is not valid UTF-8") from error
    except psycopg.Error as error:
        raise FirstEditionUnreadable(database, type(error).__name__) from error
