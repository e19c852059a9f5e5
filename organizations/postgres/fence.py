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
from dataclasses import dataclass
from datetime import datetime

import psycopg
from django.db import connections
from psycopg import sql

from organizations.errors import OrganizationError, SessionsRemain
from organizations.models import Organization, random_key

from .identity import Identity
from .sessions import ServerSession, open_session

logger = logging.getLogger(__name__)

# How long the sessions may take to end; they usually need 10 to 50 ms.
FENCE_SECONDS = 5.0
# What each organization has at least where many are fenced.
_LEAST_SECONDS = 0.1
_LOOK_SECONDS = 0.005

_MARK = "SELECT pending_fence, role_name FROM organizations WHERE id = %s"
_COMMENT = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
# Only its own mark: another change may have been committed since.
_SET = sql.SQL("UPDATE organizations SET pending_fence = %s WHERE id = %s AND pending_fence = %s")
_OPEN = "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE usename = %s"
_LEFT = _OPEN + " AND pid = ANY(%s)"
# Only a member of the role sees backend_start.
_END = (
    "SELECT coalesce(array_agg(pid) FILTER (WHERE pg_terminate_backend(pid)), '{}') "
    "FROM pg_stat_activity WHERE usename = %s AND pid = ANY(%s) "
    "AND (%s::timestamptz IS NULL OR backend_start < %s)"
)


@dataclass(frozen=True, slots=True)
class Change:
    """A committed change of a route: its mark, and a moment after its commit, by the server."""

    mark: str
    at: datetime


def fence(organization: Organization, *, after: Change | None = None) -> None:
    """End every session of the organization's role that is older than its last committed change.

    after: what was opened since this change goes on, if it is the last one. Takes no
    organization's lock. Call it outside a transaction, after each change of a route; does nothing
    if none is pending. Raises SessionsRemain if some still run after FENCE_SECONDS; the mark then
    names them, and the next fence ends those alone. Raises InstallationUnclaimed, TookTooLong,
    ServerUnavailable and ServerRefused; the mark then stays.
    """
    with open_session() as session:
        fence_by(session, organization, after=after)


def fence_by(
    session: ServerSession,
    organization: Organization,
    *,
    after: Change | None = None,
    within_seconds: float | None = None,
) -> None:
    """The same, by an open session. within_seconds: instead of FENCE_SECONDS, for each role."""
    row = session.connection.execute(_MARK.encode(), (organization.pk,)).fetchone()
    if row is None:
        return
    mark, role = row
    # Not with another's mark, which means all sessions. Without one, another fence was first.
    opened_before = after.at if after is not None and mark in ("", after.mark) else None
    if not (mark or opened_before):
        return
    pids, roles = _read(mark)
    remain: list[SessionsRemain] = []
    for each in dict.fromkeys([*roles, role]):
        if not _is_ours(session, each):
            continue
        began = time.monotonic()
        try:
            ended = _end(
                session,
                each,
                name=organization.name,
                pids=None if opened_before else pids,
                opened_before=opened_before,
                within_seconds=FENCE_SECONDS if within_seconds is None else within_seconds,
            )
        except SessionsRemain as error:
            remain.append(error)
            continue
        seconds = round(time.monotonic() - began, 3)
        facts = {"organization": organization.pk, "sessions": ended, "seconds": seconds}
        logger.info("sessions ended by the fence", extra=facts)
    left = [pid for error in remain for pid in error.pids]
    session.execute(_SET, (_mark(left, roles) if left else "", organization.pk, mark))
    if left:
        raise SessionsRemain(organization.name, left) from remain[0]


def _read(mark: str) -> tuple[list[int] | None, list[str]]:
    """The sessions that an earlier fence of this mark could not end, if any, and the roles before.

    A later change writes its own mark in front, and then all sessions are meant again.
    """
    words = mark.split()[1:]
    pids = None
    if words and words[0].startswith("@"):
        pids = [int(pid) for pid in words[0][1:].split(",")]
    return pids, [word for word in words if not word.startswith("@")]


def _mark(pids: list[int], roles: list[str]) -> str:
    return " ".join([random_key(), f"@{','.join(map(str, pids))}", *roles])


def fence_pending() -> tuple[list[str], list[str]]:
    """Finish what killed processes left. Returns the names of the fenced and of the failed.

    All together have FENCE_SECONDS: one whose sessions do not end holds up no other.
    """
    done, failed = [], []
    until = time.monotonic() + FENCE_SECONDS
    for organization in Organization.objects.exclude(pending_fence=""):
        seconds = max(until - time.monotonic(), _LEAST_SECONDS)
        try:
            with open_session() as session:
                fence_by(session, organization, within_seconds=seconds)
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


def end_sessions(session: ServerSession, role: str, *, name: str) -> None:
    """End what the role has open now. name: whose, for SessionsRemain, which it raises as fence()
    does."""
    _end(session, role, name=name, pids=None, opened_before=None, within_seconds=FENCE_SECONDS)


def _end(
    session: ServerSession,
    role: str,
    *,
    name: str,
    pids: list[int] | None,
    opened_before: datetime | None,
    within_seconds: float,
) -> int:
    """Terminate the role's sessions, all at once, and wait until they ended. Returns their number.

    pids: these alone; None: what is open now. What opens later is not waited for: it asks the
    master first. So a client that reconnects without pause does not keep the fence from ending.
    """
    until = time.monotonic() + within_seconds
    ended: set[int] = set()
    cause: psycopg.Error | None = None
    left = session.value(_OPEN, (role,)) if pids is None else session.value(_LEFT, (role, pids))
    while left:
        try:
            with session.as_member(role):
                left = session.value(_END, (role, left, opened_before, opened_before))
            ended.update(left)
            cause = None
        except psycopg.Error as error:
            if session.connection.closed:
                raise
            # Somebody else grants the same at this moment, or holds a lock. Tried again.
            cause = error
        time.sleep(_LOOK_SECONDS)
        left = session.value(_LEFT, (role, left))
        if left and time.monotonic() > until:
            if isinstance(cause, psycopg.errors.LockNotAvailable):
                raise cause
            raise SessionsRemain(name, left) from cause
    return len(ended)
