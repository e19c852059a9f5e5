"""Resets settings, grants and passwords that untrusted code set while it ran."""

import secrets

from psycopg import sql

from .databases import end_guests, reset_settings
from .fence import end_sessions
from .roles import ensure_role
from .sessions import ServerSession

_STRANGERS = """
SELECT DISTINCT pg_get_userbyid(acl.grantee)::text
FROM pg_database AS d, aclexplode(d.datacl) AS acl
WHERE d.datname = %s AND acl.grantee NOT IN (0, d.datdba, current_user::regrole)
"""


def regain(
    session: ServerSession, *, database: str, role: str, key: str, name: str, is_open: bool
) -> str:
    """Reset the settings of a database that is not in use yet and of its role, end their sessions,
    and revoke what was granted to other roles. Returns the role's new password.

    key: in the role's identity, which says `made`. name: whose it is, for errors. is_open: whether
    the role may log in afterwards. Call it after the last code has run. Raises SessionsRemain,
    DatabaseKept and what PostgreSQL raises; then the role may not log in.
    """
    owner, place = sql.Identifier(role), sql.Identifier(database)
    session.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(owner))
    end_sessions(session, role, name=name)
    with session.membership(role):
        reset_settings(session, database, is_open=False)
        strangers = session.connection.execute(_STRANGERS.encode(), (database,)).fetchall()
        session.batch(
            sql.SQL("ALTER ROLE {} RESET ALL").format(owner),
            sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(owner, place),
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(place),
            *(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(
                    place, sql.Identifier(stranger)
                )
                for (stranger,) in strangers
            ),
        )
        end_guests(session, database)
        if is_open:
            reset_settings(session, database, is_open=True)
    password = secrets.token_urlsafe(32)
    ensure_role(session, role=role, password=password, key=key)
    if is_open:
        session.execute(sql.SQL("ALTER ROLE {} LOGIN").format(owner))
    return password
