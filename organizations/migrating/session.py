"""Direct connection to one organization's database, as its own role, without an alias."""

from types import TracebackType
from typing import Any, Self

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

from organizations.errors import HistoryUnreadable
from organizations.postgres.databases import connect, past_pooler, settings_for
from organizations.tenancy import Tenant, directory, time_limit

from .rehearsal import Key

_PASSING = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.AdminShutdown,
    psycopg.errors.CannotConnectNow,
)
# More than any project has; what is read is stored in the master.
_MOST_ROWS, _MOST_CHARACTERS = 5_000, 500_000
# The organization can have replaced it by a view of any size.
_THERE = sql.SQL(
    "SELECT pg_catalog.left(app::pg_catalog.text, 255), "
    "pg_catalog.left(name::pg_catalog.text, 255) FROM {} LIMIT {}"
).format(sql.Identifier(MigrationRecorder.Migration._meta.db_table), _MOST_ROWS + 1)


class Session:
    """Opened on first use, and again after `close`. Raises psycopg.Error.

    owner: named in CredentialUnreadable. A tenant without its place is looked up in the master
    (OrganizationNotFound).
    """

    def __init__(self, tenant: Tenant, *, owner: str) -> None:
        if tenant.place is None:
            self._entry = directory.get().connection_settings(tenant)
        else:
            self._entry = settings_for(past_pooler(tenant.place), owner=owner)
        self._connection: psycopg.Connection[Any] | None = None
        self._version = 0
        self._owner = owner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; the server rolls an open transaction back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def server_version(self) -> int:
        """As PQserverVersion: 180006."""
        return self._version or self._open().info.server_version

    def applied(self) -> frozenset[Key] | None:
        """The rows of django_migrations; None if there is no table. Raises HistoryUnreadable."""
        return applied_in(self._open(), owner=self._owner)

    def send(self, batch: str) -> None:
        """Run the statements in one round trip and one transaction, with timeouts.

        As one simple query, so parameters are in the text. The timeouts are part of it, not of the
        login, where a pooler may drop them. The time zone is that of Django's connections, since
        casts depend on it.
        """
        connection = self._open()
        values = limits_milliseconds()
        zone = "UTC" if settings.USE_TZ else settings.TIME_ZONE
        if connection.info.parameter_status("TimeZone") != zone:
            values["TimeZone"] = zone
        text = "\n;\n".join(("BEGIN READ WRITE", *map(_set_local, values.items()), batch, "COMMIT"))
        with time_limit(deadline_seconds()):
            connection.execute(text.encode())

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._entry)
            self._version = self._connection.info.server_version
        return self._connection


def applied_in(connection: psycopg.Connection[Any], *, owner: str) -> frozenset[Key] | None:
    """The same, over an open connection."""
    try:
        rows = connection.execute(_THERE).fetchall()
    except psycopg.errors.UndefinedTable:
        return None
    except psycopg.errors.QueryCanceled as error:
        raise HistoryUnreadable(owner, "took too long to read") from error
    length = sum(len(value or "") for row in rows for value in row)
    if len(rows) > _MOST_ROWS or length > _MOST_CHARACTERS:
        raise HistoryUnreadable(owner, "is larger than that of any project")
    return frozenset(rows)


def limits_milliseconds() -> dict[str, str]:
    """lock_timeout and statement_timeout for PostgreSQL; 0: none."""
    seconds = {
        "lock_timeout": settings.MIGRATION_LOCK_TIMEOUT_SECONDS,
        "statement_timeout": settings.MIGRATION_STATEMENT_TIMEOUT_SECONDS,
    }
    return {name: f"{value * 1000}ms" for name, value in seconds.items()}


def deadline_seconds() -> float | None:
    """The client-side timeout of a batch; None: none."""
    return settings.MIGRATION_DEADLINE_SECONDS or None


def _set_local(value: tuple[str, str]) -> str:
    name, text = value
    return sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(text)).as_string()


def is_passing(error: Exception) -> bool:
    """Whether a retry may succeed: a lock, a timeout, a deadlock, a cut connection."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    cut = isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None
    return isinstance(cause, _PASSING) or cut
