"""Creates, resets and drops an organization's login role."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.conf import settings
from psycopg import sql

from organizations.errors import DatabaseKept
from organizations.models import Organization
from organizations.naming import ROLE_PATTERN

from .identity import CUSTOMERS, Expected, Identity, State, disagreement
from .sessions import ServerSession

logger = logging.getLogger(__name__)

READ_ONLY = "default_transaction_read_only"


def role_settings() -> dict[str, str]:
    """The settings of each organization's role, as the catalog shows them."""
    return {
        "statement_timeout": f"{settings.STATEMENT_TIMEOUT_SECONDS}s",
        "lock_timeout": f"{settings.LOCK_TIMEOUT_SECONDS}s",
    }


def ensure_role(
    session: ServerSession, *, role: str, password: str, key: str, member_of: str | None = None
) -> None:
    """Create the role with its identity, or set its password if an earlier try created it.

    key: of the row it is created for. member_of: another role whose rights it gets. Raises
    DatabaseKept if a role of this name is somebody else's, and InstallationUnclaimed.
    """
    identity = Identity(session.installation, key)
    exists = _exists(session, role, identity)
    verifier = _verifier(session, role, password)
    # A new role has only the attributes it is given. An ALTER that mentions NOREPLICATION would
    # itself need REPLICATION.
    # Only a new one is given LOGIN: whoever took it away has shut the role.
    verb = "ALTER ROLE {}" if exists else "CREATE ROLE {} LOGIN"
    name = sql.Identifier(role)
    statements = [
        # The one limit that it cannot change itself. Without it, it could use up the server's.
        sql.SQL(verb + " NOCREATEDB NOCREATEROLE PASSWORD {} CONNECTION LIMIT {}").format(
            name, sql.Literal(verifier), sql.Literal(settings.ORG_CONNECTION_LIMIT)
        )
    ]
    # The web's connections request these themselves. A pooler that drops what a connection
    # requests (PgBouncer's ignore_startup_parameters) still gets the role's.
    for setting, value in role_settings().items():
        statements.append(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                name, sql.Identifier(setting), sql.Literal(value)
            )
        )
    if not exists:
        statements.append(identity.comment(role))
    if member_of is not None:
        grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
        statements.append(grant.format(sql.Identifier(member_of), name))
    session.batch(*statements)


def read_only(role: str) -> sql.Composed:
    """The statement after which new sessions of the role write only in a transaction that was begun
    as READ WRITE. Ours say so themselves (Place.is_read_only): this is for those whose pooler drops
    that, and for others'. Resetting its settings (regaining.py) lifts it, and so can its own SQL.
    """
    statement = sql.SQL("ALTER ROLE {} SET {} = on")
    return statement.format(sql.Identifier(role), sql.Identifier(READ_ONLY))


def set_password(session: ServerSession, *, role: str, password: str) -> None:
    """Let the role log in with this password only. One that may not log in still may not."""
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
    verifier = sql.Literal(_verifier(session, role, password))
    session.execute(statement.format(sql.Identifier(role), verifier))


def _verifier(session: ServerSession, role: str, password: str) -> str:
    """The verifier sent to the server instead of the password, which it might log.

    One SCRAM iteration is as safe as 4,096 for 256 random bits, and makes each connect 5 ms
    cheaper.
    """
    session.value("SELECT set_config('scram_iterations', '1', false)")
    # libpq reads scram_iterations from the session (PQencryptPasswordConn, PostgreSQL 16).
    return session.connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()


def _exists(session: ServerSession, role: str, identity: Identity) -> bool:
    """Whether an earlier try created it. Raises DatabaseKept if it is somebody else's."""
    comment = session.connection.execute(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", (role,)
    ).fetchone()
    if comment is None:
        return False
    expected = Expected(role, identity.key, role, "", State.MADE)
    if why := disagreement(Identity.read(comment[0]), expected, installation=identity.installation):
        raise DatabaseKept(role, why)
    return True


def drop_role(session: ServerSession, *, role: str) -> None:
    """Drop the role if it exists; it must own no database any more.

    Another organization's role can have granted it something, or do so at any time. That grant is
    in the other organization's database, which is not entered for this one. Then the role stays
    without login and password, and drop_disabled() tries again. Raises if the server is
    unavailable, or not even the login can be removed.
    """
    # Not IF EXISTS: PostgreSQL requires CREATEROLE even if there is nothing to drop.
    if not session.role_exists(role):
        return
    name = sql.Identifier(role)
    with _short_lock_wait(session, _DROP_WAIT):
        try:
            session.execute(sql.SQL("DROP ROLE {}").format(name))
        except psycopg.Error as error:
            if session.connection.closed:
                raise
            # This waits for no lock that another role can hold.
            session.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(name))
            logger.warning("role not dropped, login disabled", extra={"role": role}, exc_info=error)


# In a query of `pg_roles AS u`. A superuser administers all. By the catalog: pg_has_role would walk
# all memberships of the application's role for each role, 10,000 times 10,000.
ADMINISTERED = """(
    EXISTS (SELECT FROM pg_auth_members
        WHERE roleid = u.oid AND member = current_user::regrole AND admin_option)
    OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
)"""
# No row of the master names it, except a tombstone.
UNNAMED = """
NOT EXISTS (SELECT FROM organizations WHERE role_name = u.rolname::text AND status <> %(deleted)s)
AND NOT EXISTS (SELECT FROM spare_databases WHERE role_name = u.rolname::text)
AND NOT EXISTS (SELECT FROM templates WHERE role_name = u.rolname::text)
AND NOT EXISTS (SELECT FROM restores WHERE role_name = u.rolname::text)
"""
# Roles that nothing refers to any more, as far as this transaction sees. One with a row, or that
# can log in, is in use, by a sign-up for example. So is one of another installation, or one that is
# a customer's by its identity, in use, kept aside or archived.
_DISABLED = f"""
SELECT rolname::text, shobj_description(u.oid, 'pg_authid') FROM pg_roles AS u
WHERE NOT rolcanlogin AND rolname ~ %(ours)s AND {ADMINISTERED} AND {UNNAMED}
AND NOT EXISTS (SELECT FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = u.oid)
ORDER BY rolname
"""  # noqa: S608 - the constants above
# To drop a role now, and each that an earlier drop had to leave.
_DROP_WAIT, _LEFT_WAIT = "1s", "100ms"


def _is_unwanted(comment: str | None, installation: str) -> bool:
    identity = Identity.read(comment)
    if identity is None or identity.installation != installation:
        return False
    return identity.state not in CUSTOMERS


def drop_disabled(session: ServerSession) -> list[str]:
    """Drop the roles that drop_role() had to keep and that nothing refers to now.

    Returns their names. One that still cannot be dropped does not affect the others.
    """
    parameters = {"ours": ROLE_PATTERN, "deleted": str(Organization.Status.DELETED)}
    rows = session.connection.execute(_DISABLED.encode(), parameters).fetchall()
    found = [role for role, comment in rows if _is_unwanted(comment, session.installation)]
    if not found:
        return []
    dropped = []
    with _short_lock_wait(session, _LEFT_WAIT):
        for role in found:
            try:
                session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
            except psycopg.Error as error:
                if session.connection.closed:
                    raise
                logger.warning("role still cannot be dropped", extra={"role": role}, exc_info=error)
            else:
                dropped.append(str(role))
    return dropped


@contextmanager
def _short_lock_wait(session: ServerSession, wait: str) -> Iterator[None]:
    """Whoever holds a lock on the role must not hold up the rest: it is dropped later."""
    session.value("SELECT set_config('lock_timeout', %s, false)", (wait,))
    try:
        yield
    finally:
        if not session.connection.closed:
            session.execute(sql.SQL("RESET lock_timeout"))
