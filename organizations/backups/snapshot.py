"""Takes a snapshot of an organization's database for pg_dump, and counts its rows to compare."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
from django.conf import settings
from psycopg import sql

from organizations.errors import (
    BackupFailed,
    BackupLocked,
    BackupObstructed,
    BackupTookTooLong,
    OrganizationError,
    ServerUnavailable,
    SessionEnded,
)
from organizations.migrating.session import applied_in
from organizations.models import Organization
from organizations.postgres import backends, transfer, trouble
from organizations.postgres.sessions import answers
from organizations.provisioning import code
from organizations.tenancy import OrganizationCrowded, guard

# At most this share of the server's lock table, which all organizations use: each table and index
# is locked.
_SHARE_OF_LOCKS = 0.5
_TRIES = 3
_TRANSACTION_TIMEOUT_SINCE = 170_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """id: as pg_export_snapshot gives it, valid inside the block."""

    id: str
    database_oid: int
    server_version: int
    migrations: list[str]
    rows: dict[transfer.Table, int]


class Session:
    """The session that holds the snapshot."""

    def __init__(self, organization: Organization, connection: guard.Connection) -> None:
        self._organization = organization
        self._connection = connection

    def take(self) -> Snapshot:
        """Raises BackupObstructed, BackupLocked and psycopg.Error."""
        connection, name = self._connection, self._organization.name
        if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            connection.execute("SET transaction_timeout = 0")  # The owner can set it for its role.
        for _ in range(_TRIES):
            self._refuse_obstacles()
            before = transfer.tables(connection)
            row = self._begin(before)
            if row is not None and transfer.tables(connection) == before:
                break
            connection.execute("ROLLBACK")  # Tables came or went meanwhile.
        else:
            raise BackupLocked(name)
        there = applied_in(connection, owner=name)
        if there is None:
            raise BackupObstructed(name, "no migrations", "the table django_migrations is missing.")
        migrations = sorted(f"{app}.{migration}" for app, migration in there)
        version = connection.info.server_version
        return Snapshot(row[0], row[1], version, migrations, transfer.rows_of(connection))

    def _begin(self, tables: list[transfer.Table]) -> tuple[str, int] | None:
        """Lock the tables and export a snapshot: its id, and the database's OID. None if a table
        is gone."""
        self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # LOCK takes no snapshot. So nobody rewrites or empties a table between the snapshot and
        # pg_dump's own lock, which its snapshot would show as empty.
        if tables:
            names = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
            try:
                self._connection.execute(
                    sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names)
                )
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                return None
        return self._connection.execute(_BEGUN).fetchone()

    def is_alive(self) -> bool:
        """Whether nobody has ended it."""
        try:
            self._connection.execute("SELECT")
        except psycopg.Error:
            return False
        return True

    def _refuse_obstacles(self) -> None:
        name = self._organization.name
        # A function in `public` could fit better than PostgreSQL's own: format(text, name, name).
        self._connection.execute("SET search_path = pg_catalog")
        number, locks = self._connection.execute(_NUMBER.encode()).fetchone() or (0, 0)
        if number > (most := int(_SHARE_OF_LOCKS * locks)):
            what = f"its database has {number} tables and indexes; the maximum is {most}. Raise "
            what += "the server's max_locks_per_transaction."
            raise BackupObstructed(name, "too many tables", what)
        known = {"tables": list(code.current().tables)}
        for finding, query in _OBSTACLES.items():
            row = self._connection.execute(query.encode(), known).fetchone()
            if row is not None:
                raise BackupObstructed(name, finding, _SENTENCES[finding].format(*row))
        self._connection.execute("RESET search_path")


_BEGUN = (
    "SELECT pg_export_snapshot(), oid::bigint FROM pg_database WHERE datname = current_database()"
)
_NUMBER = """
SELECT count(*), current_setting('max_locks_per_transaction')::bigint *
    (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'i') AND n.nspname NOT LIKE 'pg\\_%'
AND n.nspname <> 'information_schema'
"""
# What its owner or a superuser may have done to it. The first of each kind is named.
_RELATIONS = """
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND {} ORDER BY 1 LIMIT 1
"""
_OBSTACLES = {
    "row security": _RELATIONS.format("c.relkind IN ('r', 'p') AND row_security_active(c.oid)"),
    "no privilege": _RELATIONS.format(
        "c.relkind IN ('r', 'p', 'S') AND NOT (has_schema_privilege(n.oid, 'USAGE') "
        "AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') "
        "ELSE has_table_privilege(c.oid, 'SELECT') END)"
    ),
    "no table": _RELATIONS.format(
        "c.relkind IN ('v', 'm', 'f') AND n.nspname = 'public' AND c.relname = ANY(%(tables)s)"
    ),
    "large object": "SELECT oid FROM pg_largeobject_metadata "
    "WHERE lomowner <> current_user::regrole ORDER BY 1 LIMIT 1",
    # The dump names no version. plpgsql is in each new database.
    "extension": "SELECT quote_ident(e.extname) FROM pg_extension AS e "
    "WHERE e.extname <> 'plpgsql' AND NOT EXISTS (SELECT FROM pg_available_extensions AS a "
    "JOIN pg_available_extension_versions AS v ON v.name = a.name "
    "AND v.version = a.default_version WHERE a.name = e.extname AND v.trusted) "
    "ORDER BY 1 LIMIT 1",
}
_SENTENCES = {
    "row security": "row security hides rows of {} from its own role. Drop FORCE ROW LEVEL "
    "SECURITY, or make the organization's role the table's owner.",
    "no privilege": "its own role may not read {}. Make the role its owner, or grant it SELECT.",
    "no table": "{} is a view, but was a table of the application. Someone replaced it.",
    "large object": "its role does not own the large object {}. Have a superuser give it "
    "to the role.",
    "extension": "only a superuser can restore its extension {}. Have one drop it, or mark it as "
    "trusted in the extension's control file.",
}


@contextmanager
def open_snapshot(
    organization: Organization, where: dict[str, Any], *, until: float
) -> Iterator[tuple[Session, Snapshot]]:
    """A snapshot of the organization's database, held until the block ends.

    where: as transfer.parameters gives it. until: by time.monotonic(). Raises what Session.take
    raises, BackupFailed, BackupTookTooLong, SessionEnded and ServerUnavailable.
    """
    try:
        connection = guard.Connection.connect(**where, autocommit=True, prepare_threshold=None)
        try:
            connection.lend(max(0.001, until - monotonic()))
            with guard.time_limit(None):
                session = Session(organization, connection)
                yield session, session.take()
        finally:
            connection.close()
    except psycopg.Error as error:
        raise _told(error, organization) from error


def refuse_crowd(organization: Organization) -> None:
    """Raise OrganizationCrowded if it has all the connections that it may have, and
    ServerUnavailable if the server has."""
    role, database = organization.role_name, organization.database_name
    match backends.limit_met(role=role, database=database):
        case "role" | "database":
            raise OrganizationCrowded("ORG_CONNECTION_LIMIT", settings.ORG_CONNECTION_LIMIT)
        case "server":
            raise ServerUnavailable


def _told(error: psycopg.Error, organization: Organization) -> OrganizationError:
    name = organization.name
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return BackupLocked(name)
    if isinstance(error, psycopg.errors.QueryCanceled):
        return BackupTookTooLong(name, "backup", seconds=settings.BACKUP_DEADLINE_SECONDS)
    if isinstance(error, psycopg.errors.AdminShutdown) or trouble.is_servers(error):
        if not answers():
            return ServerUnavailable()
        refuse_crowd(organization)
        return SessionEnded(name)
    return BackupFailed(name, f"PostgreSQL refused a statement ({type(error).__name__}).")
