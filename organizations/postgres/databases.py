"""Creates, closes and drops an organization's database."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, connections
from psycopg import sql

from organizations.errors import SessionsRemain
from organizations.secrets import unseal
from organizations.tenancy import Place, guard

from .fence import end_sessions
from .identity import Certain, Identity
from .roles import drop_role
from .sessions import CONNECT_TIMEOUT_SECONDS, ServerSession, libpq_options

logger = logging.getLogger(__name__)


def settings_for(place: Place, *, owner: str) -> dict[str, Any]:
    """A DATABASES entry for the database at `place`, with its own role.

    owner: named when the credential cannot be read. Raises CredentialUnreadable.
    """
    entry = settings.DATABASES["default"]
    if place.is_direct and settings.MASTER_DB_DIRECT:
        entry = settings.MASTER_DB_DIRECT
    return {
        "ENGINE": "organizations.tenancy.backend",
        "HOST": entry.get("HOST", ""),
        "PORT": entry.get("PORT", ""),
        "NAME": place.database_name,
        "USER": place.role_name,
        "PASSWORD": unseal(place.sealed_password, owner=owner),
        "OPTIONS": {
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            **libpq_options(entry),
            "options": _options(is_read_only=place.is_read_only),
        },
        "CONN_MAX_AGE": 0,
        "DISABLE_SERVER_SIDE_CURSORS": bool(settings.MASTER_DB_DIRECT) and not place.is_direct,
    }


def connect(entry: dict[str, Any]) -> guard.Connection:
    """A connection without an alias by such an entry, in autocommit. Raises psycopg.Error."""
    named = ("host", "port", "user", "password")
    parameters = {name: entry[name.upper()] for name in named}
    parameters |= {"dbname": entry["NAME"], **entry["OPTIONS"]}
    return guard.Connection.connect(
        **{key: value for key, value in parameters.items() if value not in ("", None)},
        client_encoding="UTF8",
        autocommit=True,
        prepare_threshold=None,
    )


def past_pooler(place: Place) -> Place:
    """The same place without a pooler, for code that makes and migrates databases.

    It sets limits for its session, and a connection kept by a pooler would block DROP, copies and
    renames of the database.
    """
    return replace(place, is_direct=settings.MASTER_DB_DIRECT is not None)


# Overrides settings that the owner can make for its database and role and that would break a
# session: missing libraries, and read-only transactions. Or let one write that must not.
_AGAINST_SETTINGS = "-c local_preload_libraries= -c default_transaction_read_only={}"


def _options(*, is_read_only: bool) -> str:
    """What a session starts with, and returns to after each block (DISCARD ALL): the time limits
    of this process's master connections, if any, and the time zone that Django would SET, which
    also overrides the role's own settings."""
    limits = connections.settings["default"].get("OPTIONS", {}).get("options", "")
    zone = "UTC" if settings.USE_TZ else settings.TIME_ZONE
    against = _AGAINST_SETTINGS.format("on" if is_read_only else "off")
    return f"{limits} {against} -c TimeZone={zone}".strip()


class DatabaseTaken(Exception):
    """A database of this name exists and is not ours; it is left alone."""

    def __init__(self, database: str) -> None:
        super().__init__(f"A database named {database} already exists and is not ours.")


# FILE_COPY would make the whole server write a checkpoint.
STRATEGY = sql.SQL("WAL_LOG")


def ensure_database(
    session: ServerSession, *, database: str, role: str, key: str, template: str | None = None
) -> None:
    """Create the database with `role` as its owner, or continue where an earlier try stopped.

    key: of the row that it is made for. template: the database to copy; None: an empty one. Nobody
    can connect before its OID is in the role's identity and CONNECT is revoked from PUBLIC. The
    application's role may connect, only to read the size; it owns nothing inside. Raises
    DatabaseTaken.
    """
    owner = session.database_owner(database)
    if owner not in (None, role):
        raise DatabaseTaken(database)
    name, me = sql.Identifier(database), sql.Identifier(session.user)
    with session.membership(role):
        if owner is None:
            kind = sql.SQL("TEMPLATE template0 ENCODING 'UTF8'").format()
            if template is not None:
                kind = sql.SQL("TEMPLATE {}").format(sql.Identifier(template))
            create = "CREATE DATABASE {} OWNER {} {} STRATEGY {} ALLOW_CONNECTIONS false"
            session.execute(sql.SQL(create).format(name, sql.Identifier(role), kind, STRATEGY))
        oid = session.value("SELECT oid::bigint FROM pg_database WHERE datname = %s", (database,))
        session.batch(
            Identity(session.installation, key, databases=(oid,)).comment(role),
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name),
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, me),
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name),
        )


def drop(session: ServerSession, certain: Certain) -> None:
    """Drop the database and then the role, whichever was found. Ends the sessions on it."""
    if certain.database is not None and certain.owner is not None:
        if certain.owner == session.user:
            _drop(session, certain.database, certain.owner)
        else:
            with session.membership(certain.owner):
                _drop(session, certain.database, certain.owner)
    if certain.role is not None:
        drop_role(session, role=certain.role)


# A DROP waits until every back end on the server has processed its barrier: one that does not, or
# is half logged in, would block it for ever.
_DROP_SECONDS = 60.0


def _drop(session: ServerSession, database: str, role: str) -> None:
    with session.limited(_DROP_SECONDS):
        make_droppable(session, database=database, role=role)
        _drop_ready(session, database)


def make_droppable(session: ServerSession, *, database: str, role: str) -> None:
    """Undo what the database's owner may have set, and refuse new connections.

    The owner can make it a template, give it a connection limit and settings, and hold locks in an
    endless transaction: so its sessions end first. The session is a member of the owner.
    """
    if role != session.user:
        # If some do not end, the drop says so.
        with suppress(SessionsRemain):
            end_sessions(session, role, name=database)
        session.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
        # Those that were logging in at that moment.
        with suppress(SessionsRemain):
            end_sessions(session, role, name=database)
    whole = session.value(
        "SELECT datconnlimit <> -2 FROM pg_database WHERE datname = %s", (database,)
    )
    if not whole:
        return  # A DROP of it was interrupted: it can only be dropped.
    reset_settings(session, database, is_open=False)


def _drop_ready(session: ServerSession, database: str) -> None:
    name = sql.Identifier(database)
    try:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
    except psycopg.errors.InsufficientPrivilege:
        # FORCE gives up, and ends no session, if one is not of our roles: an autovacuum worker, a
        # back end that has just started, or another organization's that the owner let in. The plain
        # DROP waits 5 s for the first two, and cancels autovacuum.
        end_guests(session, database)
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))


_GUESTS = """
SELECT DISTINCT usename::text FROM pg_stat_activity WHERE datname = %s AND usename <> current_user
"""
_END_GUESTS = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = %s AND usename = %s
"""


def end_guests(session: ServerSession, database: str) -> None:
    """End the sessions of organizations' roles on a database that is closed to new ones.

    As a member of each role, in a transaction that is rolled back, as the fence does. Sessions of
    roles that are not ours stay.
    """
    for (role,) in session.connection.execute(_GUESTS.encode(), (database,)).fetchall():
        try:
            with session.connection.transaction(force_rollback=True):
                if not session.is_superuser:
                    grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
                    session.execute(
                        grant.format(sql.Identifier(role), sql.Identifier(session.user))
                    )
                session.value(_END_GUESTS, (database, role))
        except psycopg.Error as error:
            if session.connection.closed:
                raise
            logger.warning("a guest's sessions not ended", extra={"role": role}, exc_info=error)


def reset_settings(session: ServerSession, database: str, *, is_open: bool) -> None:
    """Undo what the owner may have set on its database. The session is a member of the owner.

    is_open: whether connections are allowed afterwards.
    """
    name = sql.Identifier(database)
    session.batch(
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {} IS_TEMPLATE false").format(
            name, sql.Literal(is_open)
        ),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(name),
        sql.SQL("ALTER DATABASE {} RESET ALL").format(name),
    )


def close_master(session: ServerSession) -> None:
    """Revoke CONNECT on the master from PUBLIC, if the application's role may do that.

    It may as the owner or as a superuser. It cannot close `postgres` and `template1`:
    `manage.py server_sql` prints the SQL for that, and the check organizations.W003 says what is
    open.
    """
    open_and_ours = session.value(
        "SELECT true FROM pg_database WHERE datname = current_database() "
        "AND pg_has_role(datdba, 'USAGE') AND EXISTS (SELECT FROM "
        "aclexplode(coalesce(datacl, acldefault('d', datdba))) AS acl "
        "WHERE acl.grantee = 0 AND acl.privilege_type = 'CONNECT')"
    )
    if open_and_ours:
        master = sql.Identifier(session.connection.info.dbname)
        me = sql.Identifier(session.connection.info.user)
        grant = sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}")
        session.execute(grant.format(master, me))
        revoke = sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC")
        session.execute(revoke.format(master))


def sizes_bytes(databases: Iterable[str]) -> dict[str, int]:
    """Size on disk in bytes of each existing database, in one query."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname = ANY(%s) "
            "AND has_database_privilege(oid, 'CONNECT')",
            [list(databases)],
        )
        return dict(cursor.fetchall())
