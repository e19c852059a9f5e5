"""A direct connection to one organization's database, as its own role, that registers no alias."""

from types import TracebackType
from typing import Any, Self

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

from organizations.provisioning.database import settings_for
from organizations.tenancy import Tenant, directory

from .rehearsal import Key

_PASSING = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.AdminShutdown,
    psycopg.errors.CannotConnectNow,
)
_THERE = sql.SQL("SELECT app, name FROM {}").format(
    sql.Identifier(MigrationRecorder.Migration._meta.db_table)
)


class Session:
    """Opened when it is first used, and anew behind `close`. Raises psycopg.Error.

    owner: whom an unreadable credential is said to be of (CredentialUnreadable). A tenant without
    its place is asked for in the master (OrganizationNotFound).
    """

    def __init__(self, tenant: Tenant, *, owner: str) -> None:
        if tenant.place is None:
            entry = directory.get().connection_settings(tenant)
        else:
            entry = settings_for(tenant.place, owner=owner)
        named = ("host", "port", "user", "password")
        self._parameters: dict[str, Any] = {name: entry[name.upper()] for name in named}
        self._parameters |= {"dbname": entry["NAME"], **entry["OPTIONS"]}
        self._connection: psycopg.Connection[Any] | None = None
        self._version = 0

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
        """What was begun is taken back by the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def server_version(self) -> int:
        """As PQserverVersion: 180006."""
        return self._version or self._open().info.server_version

    def applied(self) -> frozenset[Key] | None:
        """What django_migrations says; None: there is no such table."""
        try:
            return frozenset(self._open().execute(_THERE).fetchall())
        except psycopg.errors.UndefinedTable:
            return None

    def send(self, batch: str) -> None:
        """Run the statements in one round trip and one transaction, under the limits.

        As one simple query, which is why parameters are in the text. The limits go with it, and not
        with the log-in: a pooler may leave those out. The time zone is the one that Django gives
        its connections; casts depend on it.
        """
        connection = self._open()
        values = limits_milliseconds()
        zone = "UTC" if settings.USE_TZ else settings.TIME_ZONE
        if connection.info.parameter_status("TimeZone") != zone:
            values["TimeZone"] = zone
        text = "\n;\n".join(("BEGIN", *map(_set_local, values.items()), batch, "COMMIT"))
        connection.execute(text.encode())

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            parameters = {
                key: value for key, value in self._parameters.items() if value not in ("", None)
            }
            self._connection = psycopg.connect(
                **parameters, client_encoding="UTF8", autocommit=True, prepare_threshold=None
            )
            self._version = self._connection.info.server_version
        return self._connection


def limits_milliseconds() -> dict[str, str]:
    """What PostgreSQL is told of the two limits; 0: none."""
    seconds = {
        "lock_timeout": settings.MIGRATION_LOCK_TIMEOUT_SECONDS,
        "statement_timeout": settings.MIGRATION_STATEMENT_TIMEOUT_SECONDS,
    }
    return {name: f"{value * 1000}ms" for name, value in seconds.items()}


def _set_local(value: tuple[str, str]) -> str:
    name, text = value
    return sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(text)).as_string()


def is_passing(error: Exception) -> bool:
    """Whether the same may go well in a moment: a lock, a limit, a deadlock, a cut connection."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    cut = isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None
    return isinstance(cause, _PASSING) or cut
