"""Direct sessions to PostgreSQL, for locks and for what cannot run in a Django transaction."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.conf import settings
from django.db import connections
from psycopg import sql
from psycopg.rows import TupleRow

from organizations.errors import (
    InstallationUnclaimed,
    OrganizationBusy,
    OrganizationError,
    ProvisioningInTransaction,
    ServerUnavailable,
)
from organizations.tenancy import guard

from . import installation, trouble
from .warm import stock

Connection = psycopg.Connection[TupleRow]
logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 5
# Django's own options, unknown to libpq. And `options`: the limits of a process that serves
# requests (orgmgmt/edge/timeouts.py), which do not apply to provisioning.
_DJANGO_OPTIONS = {"pool", "isolation_level", "server_side_binding", "assume_role", "options"}


def libpq_options(entry: dict[str, Any] | None = None) -> dict[str, Any]:
    """The OPTIONS that libpq understands (sslmode and the like), also for organizations.

    entry: another DATABASES entry, with its own options.
    """
    options = (entry or settings.DATABASES["default"]).get("OPTIONS", {})
    return {key: value for key, value in options.items() if key not in _DJANGO_OPTIONS}


def master_parameters() -> dict[str, Any]:
    """psycopg.connect's parameters for the master database, in parts and never as one string.

    Bypasses a pooler if MASTER_DB_DIRECT_URL does: locks and LISTEN need a whole session.
    """
    # From the connection, not the setting: a test database has another name.
    entry = settings.MASTER_DB_DIRECT or connections["default"].settings_dict
    parameters = {
        "host": entry["HOST"],
        "port": entry["PORT"],
        "dbname": entry["NAME"],
        "user": entry["USER"],
        "password": entry["PASSWORD"],
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **libpq_options(settings.MASTER_DB_DIRECT),
    }
    return {key: value for key, value in parameters.items() if value not in ("", None)}


def lock_limit() -> str:
    """libpq `options` with the lock timeout.

    Statements have no timeout here. But one that only waits does no work, and meanwhile holds a
    thread, a name's lock and a half-made organization.
    """
    return f"-c lock_timeout={settings.LOCK_TIMEOUT_SECONDS * 1000}"


class _Direct(psycopg.Connection[TupleRow]):
    """A psycopg connection that is usable or closed after an interrupt, so that a block's clean-up
    does not fail and hide the interrupt."""

    def wait(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().wait(*arguments, **options)
        except guard.INTERRUPTS:
            guard.settle(self)
            raise


class ServerSession:
    """One autocommit connection to the master database, as the application's role.

    Commits do not wait for the disk (synchronous_commit=off). They are on disk no later than any
    later synchronous commit on this server: a sign-up's roles, grants and steps are flushed with
    its database, or with the row that activates it. If the server crashes before that, the row
    says `provisioning`, whatever else is lost.

    Advisory locks are for one database only, so all of them are taken here, directly on the
    master, and live and die with this session.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def installation(self) -> str:
        """This installation's key, queried once per connection, which stays in its database.

        Raises InstallationUnclaimed in a copy of a master. Everything that changes the server needs
        the key, and so passes this check.
        """
        key = _installations.get(self.connection)
        if key is None:
            standing = installation.of_row(
                self.connection.execute(installation.STATEMENT.encode()).fetchone()
            )
            if standing.is_copy:
                raise InstallationUnclaimed
            key = _installations[self.connection] = standing.key
        return key

    def execute(self, statement: sql.SQL | sql.Composed, parameters: tuple[Any, ...] = ()) -> None:
        """Run one statement."""
        self.connection.execute(statement, parameters)

    def batch(self, *statements: sql.Composed) -> None:
        """Run the statements in one round trip and one transaction: all of them or none."""
        self.connection.execute(sql.SQL("; ").join(statements))

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Set a statement timeout inside the block. Raises QueryCanceled."""
        self.value(
            "SELECT set_config('statement_timeout', %s, false)", (f"{int(seconds * 1000)}ms",)
        )
        try:
            yield
        finally:
            if not self.connection.closed:
                self.execute(sql.SQL("RESET statement_timeout"))

    @property
    def user(self) -> str:
        """The application's role."""
        return self.connection.info.user

    @property
    def is_superuser(self) -> bool:
        """A superuser is a member of every role."""
        return self.connection.info.parameter_status("is_superuser") == "on"

    def value(self, query: str, parameters: tuple[Any, ...] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.connection.execute(query.encode(), parameters).fetchone()
        return None if row is None else row[0]

    def try_lock(self, organization_key: str) -> bool:
        """Take the organization's lock if it is free. Returns whether it was."""
        taken = self.value("SELECT pg_try_advisory_lock(%s)", (lock_number(organization_key),))
        return bool(taken)

    def unlock(self, organization_key: str) -> None:
        """Release the organization's lock."""
        self.value("SELECT pg_advisory_unlock(%s)", (lock_number(organization_key),))

    def lock(self, organization_key: str, *, name: str, timeout_seconds: float) -> None:
        """Wait for the organization's lock. Raises OrganizationBusy after the timeout."""
        self.value(
            "SELECT set_config('lock_timeout', %s, false)", (f"{int(timeout_seconds * 1000)}ms",)
        )
        try:
            self.value("SELECT pg_advisory_lock(%s)", (lock_number(organization_key),))
        except psycopg.errors.LockNotAvailable as error:
            raise OrganizationBusy(name) from error
        finally:
            if not self.connection.closed:
                self.execute(sql.SQL("RESET lock_timeout"))

    @contextmanager
    def membership(self, role: str) -> Iterator[None]:
        """Be a member of the organization's role inside the block; CREATE ROLE left only ADMIN.

        Permanent memberships slow down CREATE ROLE and every connect by their number. A superuser
        needs none.
        """
        if self.is_superuser:
            yield
            return
        me = sql.Identifier(self.user)
        names = (sql.Identifier(role), me)
        self.execute(sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET TRUE").format(*names))
        try:
            yield
        finally:
            if not self.connection.closed and self.role_exists(role):
                # Only what this role granted to itself; the ADMIN option has another grantor.
                self.execute(sql.SQL("REVOKE {} FROM {} GRANTED BY {}").format(*names, me))

    @contextmanager
    def as_member(self, role: str) -> Iterator[None]:
        """Act with the role's rights inside the block, in a transaction that is rolled back.

        Nobody else sees the membership, existing ones stay, and a crash leaves none.
        """
        with self.connection.transaction(force_rollback=True):
            if not self.is_superuser:
                grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
                names = (sql.Identifier(role), sql.Identifier(self.user))
                self.batch(sql.SQL("SET LOCAL lock_timeout = '1s'").format(), grant.format(*names))
            yield

    def role_exists(self, role: str) -> bool:
        """Whether a role of this name exists."""
        return self.value("SELECT true FROM pg_roles WHERE rolname = %s", (role,)) is True

    def database_owner(self, database: str) -> str | None:
        """The owner's name, or None if there is no such database."""
        owner = self.value(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (database,)
        )
        return None if owner is None else str(owner)


_installations: "WeakKeyDictionary[Connection, str]" = WeakKeyDictionary()


def lock_number(organization_key: str) -> int:
    """The advisory lock's key: a signed number of 64 bits."""
    digest = hashlib.sha256(f"default:{organization_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextmanager
def open_session(*, new: bool = False, quiet: bool = False) -> Iterator[ServerSession]:
    """A session with the server for this block only; its locks end with it.

    new: do not reuse an open session, because sessions are being cut and a stored one could be
    next. quiet: whoever catches ServerUnavailable logs it. Raises ServerUnavailable if it cannot be
    opened or breaks, and for other PostgreSQL errors from the block what trouble.told makes of
    them. Their text stays in the log: it names hosts, databases and roles.
    """
    # prepare_threshold: prepared statements do not survive the reset before reuse.
    # synchronous_commit: a sign-up would wait for the disk at each of its steps.
    options = f"{lock_limit()} -c synchronous_commit=off"
    parameters = {**master_parameters(), "options": options, "prepare_threshold": None}
    try:
        kept = None if new else stock.take(parameters)
        connection = kept or _Direct.connect(**parameters, autocommit=True)
        try:
            yield ServerSession(connection)
        finally:
            stock.give_back(parameters, connection)
    except psycopg.Error as error:
        told = trouble.told(error)
        if isinstance(told, ServerUnavailable) and not quiet:
            logger.error("server unavailable", exc_info=error)
        raise told from error


def refuse_in_transaction() -> None:
    """Raise ProvisioningInTransaction inside a transaction of the master."""
    if connections["default"].in_atomic_block:
        raise ProvisioningInTransaction


def answers() -> bool:
    """Whether the server answers a query, in a session of its own.

    A failed connect does not say why: psycopg has no SQLSTATE for it, and maybe only that database
    refused.
    """
    try:
        with open_session(new=True) as session:
            return bool(session.value("SELECT true"))
    except OrganizationError:
        return False
