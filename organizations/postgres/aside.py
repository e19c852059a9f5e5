"""Keeps a database aside, intact and out of reach, and brings it back.

Aside it belongs to the application's role and accepts no connections, and its own role cannot log
in. That role still owns everything inside, and its identity says `aside`: whoever keeps a database
aside commits that first, and whoever brings one back commits `let in` last. A process that dies in
between leaves what can be repeated in both directions.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext

from psycopg import sql

from organizations.errors import DatabaseGone, SessionsRemain
from organizations.naming import ROLE_PATTERN

from . import identity
from .databases import end_guests, make_droppable
from .identity import Certain, Expected
from .sessions import ServerSession, open_session

logger = logging.getLogger(__name__)

# Of organizations' roles: those of a superuser, such as a monitoring agent's, stay.
_SESSIONS = f"""
SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = %s AND usename ~ '{ROLE_PATTERN}'
"""  # noqa: S608 - our own constant
# Which are not aside yet, or not any more. Parameters: pairs of role and database.
_NEAR = f"""
SELECT named.role FROM unnest(%s::text[], %s::text[]) AS named(role, database)
LEFT JOIN pg_roles AS r ON r.rolname = named.role
LEFT JOIN pg_database AS d ON d.datname = named.database
WHERE r.rolcanlogin OR (d.datconnlimit <> -2 AND (d.datdba <> current_user::regrole
    OR d.datallowconn OR EXISTS (
        SELECT FROM pg_stat_activity WHERE datid = d.oid AND usename ~ '{ROLE_PATTERN}')))
"""  # noqa: S608 - our own constant


def put_aside(session: ServerSession, found: Certain, *, name: str) -> None:
    """Shut role and database, end organizations' sessions there, and take it from its role.

    found: by an identity that says `aside`. name: the organization's, for errors. May be repeated;
    what is missing stays missing. Raises SessionsRemain, and what PostgreSQL raises.
    """
    if found.role is None:
        return
    if found.database is None:
        session.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(found.role)))
        return
    is_taken = found.owner == session.user
    with nullcontext() if is_taken else session.membership(found.role):
        make_droppable(session, database=found.database, role=found.role)
        if not is_taken and _is_whole(session, found.database):
            session.execute(_owner(found.database, session.user))
    end_guests(session, found.database)
    if left := session.value(_SESSIONS, (found.database,)):
        raise SessionsRemain(name, left)


def keep_again(kept: Callable[[], Expected | None], **facts: object) -> None:
    """Put it aside again after a failed act; never raises, since the caller reports the failure.

    kept: what its row says now; None: nothing to keep. facts: for the log.
    """
    try:
        if (expected := kept()) is not None:
            with open_session(new=True) as session:
                put_aside(session, identity.certain(session, expected), name=expected.name)
    except Exception:
        # The row stays, and reconcile_orgs puts it aside.
        logger.exception("database not put aside again", extra=facts)


def bring_back(session: ServerSession, found: Certain, *, name: str) -> None:
    """Give the database back to its role, and let the role log in: all of it, or nothing.

    The role's password is as it was. May be repeated. Raises DatabaseGone if there is nothing whole
    to bring back, and what PostgreSQL raises.
    """
    if found.role is None or found.database is None or not _is_whole(session, found.database):
        raise DatabaseGone(name)
    names = (sql.Identifier(found.database), sql.Identifier(session.user))
    with session.membership(found.role):
        session.batch(
            *([_owner(found.database, found.role)] if found.owner != found.role else []),
            # It went with the change of owner.
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(*names),
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(names[0]),
            sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(found.role)),
        )


def not_aside(session: ServerSession, places: list[tuple[str, str]]) -> set[str]:
    """Of roles with their databases, the roles of those that are not, or not wholly, aside."""
    roles, databases = [role for role, _ in places], [database for _, database in places]
    rows = session.connection.execute(_NEAR.encode(), (roles, databases)).fetchall()
    return {str(role) for (role,) in rows}


def _owner(database: str, role: str) -> sql.Composed:
    statement = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    return statement.format(sql.Identifier(database), sql.Identifier(role))


def _is_whole(session: ServerSession, database: str) -> bool:
    """Whether no DROP DATABASE of it was interrupted."""
    return bool(
        session.value("SELECT datconnlimit <> -2 FROM pg_database WHERE datname = %s", (database,))
    )
