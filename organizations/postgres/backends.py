"""Terminates back ends of an organization's role, and finds which connection limit was reached."""

from django.conf import settings
from django.db import connections

from .sessions import ServerSession

_HAS_SESSIONS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = %s AND datname = %s)"
# Without membership a role sees neither state nor start of another's sessions, and may end none.
_END = """
SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity
WHERE usename = %s AND datname = %s AND pid <> pg_backend_pid() AND """
_BY_NUMBER = "pid = %s"
# Through a pooler the client knows only the pooler's process id. Then every statement is terminated
# that ran longer than a request's limit allows.
_BY_TIME = "state = 'active' AND query_start < now() - make_interval(secs => %s)"


def end(session: ServerSession, *, role: str, database: str, pid: int) -> bool:
    """Terminate the role's session with this process id. Returns whether there was one."""
    if not session.value(_HAS_SESSIONS, (role, database)):
        return False  # The role may be gone too.
    with session.as_member(role):
        is_ended = session.value(_END + _BY_NUMBER, (role, database, pid)) is True
        if not is_ended and settings.MASTER_DB_DIRECT is not None:
            seconds = settings.STATEMENT_TIMEOUT_SECONDS
            is_ended = session.value(_END + _BY_TIME, (role, database, seconds)) is True
        return is_ended


# Autovacuum has a database and no user, a physical walsender a user and no database; of other
# roles' sessions one may not see the kind. Some may have gone since the connect failed.
_LIMIT = """
WITH sessions AS MATERIALIZED (
    SELECT usename, datname FROM pg_stat_activity
    WHERE usesysid IS NOT NULL AND datid IS NOT NULL
)
SELECT CASE
    WHEN r.rolconnlimit BETWEEN 0 AND
        (SELECT count(*) FROM sessions WHERE usename = r.rolname) THEN 'role'
    WHEN d.datconnlimit BETWEEN 0 AND
        (SELECT count(*) FROM sessions WHERE datname = d.datname) THEN 'database'
    WHEN (SELECT count(*) FROM sessions) >= current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - current_setting('reserved_connections')::int - 3 THEN 'server'
END
FROM pg_roles AS r, pg_database AS d WHERE r.rolname = %s AND d.datname = %s
"""


def limit_met(*, role: str, database: str) -> str | None:
    """Which of the three connection limits the role and database have reached now, if any."""
    with connections["default"].cursor() as cursor:
        cursor.execute(_LIMIT, [role, database])
        row = cursor.fetchone()
    return None if row is None else row[0]
