"""The fence: ends the sessions that an organization opened before its route changed.

A route says whether an organization is served, and where its database is. Requests reuse open
connections without asking the master, so a change of a route takes effect by ending the
organization's open sessions. Commit the change first, then call the fence: every later connection
is opened, then the master is asked, and only then is it used (tenancy/backend/base.py).

The master marks each change of a route in the same commit (`Organization.pending_fence`, by a
trigger: migrations/0009_fence.py), whoever makes it. A mark that a killed process left is found by
reconcile_orgs, and by each worker within seconds.
"""

import logging
import time

import psycopg
from django.db import connections
from psycopg import sql

from organizations.errors import OrganizationError, SessionsRemain
from organizations.models import Organization

from .identity import Identity
from .sessions import ServerSession, open_session

logger = logging.getLogger(__name__)

# How long the sessions may take to end; they usually need 10 to 50 ms.
FENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.005

_MARK = "SELECT pending_fence, role_name FROM organizations WHERE id = %s"
_COMMENT = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
# Only its own mark: another change may have been committed since.
_DONE = sql.SQL("UPDATE organizations SET pending_fence = '' WHERE id = %s AND pending_fence = %s")
_SESSIONS = "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE usename = %s"
_LEFT = _SESSIONS + " AND pid = ANY(%s)"
_END = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE usename = %s AND pid = ANY(%s)"
)


def fence(organization: Organization) -> None:
    """End every session of the organization's role that is older than its last committed change.

    Takes no organization's lock. Call it outside a transaction, after each change of a route; does
    nothing if none is pending. Raises SessionsRemain if some still run after FENCE_SECONDS,
    InstallationUnclaimed, ServerUnavailable and ServerRefused; the mark then stays.
    """
    with open_session() as session:
        fence_by(session, organization)


def fence_by(session: ServerSession, organization: Organization) -> None:
    """The same, by an open session."""
    row = session.connection.execute(_MARK.encode(), (organization.pk,)).fetchone()
    if row is None or not row[0]:
        return
    mark, role = row
    # The mark names the roles that it had before.
    for each in dict.fromkeys([*mark.split()[1:], role]):
        if not _is_ours(session, each):
            continue
        began = time.monotonic()
        ended = _end_all(session, organization.name, each)
        seconds = round(time.monotonic() - began, 3)
        facts = {"organization": organization.pk, "sessions": ended, "seconds": seconds}
        logger.info("sessions ended by the fence", extra=facts)
    session.execute(_DONE, (organization.pk, mark))


def fence_pending() -> tuple[list[str], list[str]]:
    """Finish what killed processes left. Returns the names of the fenced and of the failed."""
    done, failed = [], []
    for organization in Organization.objects.exclude(pending_fence=""):
        try:
            fence(organization)
            done.append(organization.name)
        except OrganizationError as error:
            facts = {"organization": organization.pk}
            logger.error("organization not fenced", extra=facts, exc_info=error)
            failed.append(organization.name)
    return done, failed


def mark_no_fence() -> None:
    """Mark no fence in the master's open transaction: it changes no route of this installation."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SET LOCAL orgmgmt.same_route = 'on'")


def _is_ours(session: ServerSession, role: str) -> bool:
    """Whether the role is of this installation. Raises InstallationUnclaimed.

    An organization from before identities (identify_orgs) has none, and is ours.
    """
    installation = session.installation
    row = session.connection.execute(_COMMENT.encode(), (role,)).fetchone()
    if row is None:
        return False  # It is gone.
    whose = Identity.read(row[0])
    return whose is None or whose.installation == installation


def _end_all(session: ServerSession, name: str, role: str) -> int:
    """Terminate what is open now, and wait until it ended. Returns the number of sessions.

    What opens later is not waited for: it asks the master first. So a client that reconnects
    without pause does not keep the fence from ending.
    """
    found = left = session.value(_SESSIONS, (role,))
    until = time.monotonic() + FENCE_SECONDS
    while left:
        try:
            # As a member of the role, in a transaction that is rolled back: nobody else sees the
            # membership, existing ones stay, and a crash leaves none.
            with session.connection.transaction(force_rollback=True):
                if not session.is_superuser:
                    grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
                    names = (sql.Identifier(role), sql.Identifier(session.user))
                    session.execute(grant.format(*names))
                session.value(_END, (role, left))
        except psycopg.Error:
            # Somebody else grants the same at this moment. Tried again.
            if session.connection.closed or time.monotonic() > until:
                raise
        time.sleep(_LOOK_SECONDS)
        left = session.value(_LEFT, (role, left))
        if left and time.monotonic() > until:
            raise SessionsRemain(name, left)
    return len(found)
