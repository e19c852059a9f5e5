"""The master's record of each organization's schema: fingerprint, tries and errors."""

from dataclasses import dataclass
from typing import Any

from django.db.models import F

from organizations.models import Organization
from organizations.naming import name_key as key_of
from organizations.postgres.fence import fence_by
from organizations.postgres.sessions import ServerSession, lock_number
from organizations.provisioning import code, versions
from organizations.tenancy import Place, Tenant

from .results import Kind, Result


def distrust(tenant: Tenant) -> None:
    """Its database is being changed by hand: make the next run look at it, whatever the record."""
    row = Organization.objects.usable().filter(pk=tenant.organization_id)
    row.update(migration_attempts=F("migration_attempts") + 1)


# --- One organization's row, under its lock, by the session that holds it -----------------------
# migration_attempts is counted before the database is touched: so after an interrupted turn the
# next one looks at the database instead of trusting the fingerprint. The lock is taken first, in
# the same round trip. UPDATE uses the newest version of a row that changed in between (PostgreSQL,
# "Read Committed Isolation Level").
_USABLE = [str(status) for status in Organization.Status.usable()]
_BEGIN = b"""
WITH held AS MATERIALIZED (SELECT pg_try_advisory_lock(%s) AS yes), begun AS (
    UPDATE organizations SET migration_attempts = migration_attempts + 1 FROM held
    WHERE held.yes AND id = %s AND name = %s AND status = ANY(%s)
    RETURNING fingerprint, migration_error, database_name, role_name, sealed_password,
        read_only_until IS NOT NULL
)
SELECT held.yes, begun.* FROM held LEFT JOIN begun ON true"""
_LOOK = b"""
SELECT fingerprint, migration_error, database_name, role_name, sealed_password,
    read_only_until IS NOT NULL
FROM organizations WHERE id = %s AND name = %s AND status = ANY(%s)"""
_NOW = b"SELECT name, slug FROM organizations WHERE id = %s AND status = ANY(%s)"
_DONE = b"""
UPDATE organizations SET fingerprint = %s, migration_attempts = 0, migration_error = '',
    migration_seconds = %s, migrated_at = now()
WHERE id = %s"""
# Whoever was unapplying may have left the fingerprint that it announced. While nobody has read the
# database's own, reconcile_orgs keeps looking.
_FAILED = b"""
UPDATE organizations SET fingerprint = coalesce(%(fingerprint)s, fingerprint),
    migration_error = CASE WHEN %(fingerprint)s::text IS NULL AND migration_error = %(unapplying)s
        THEN migration_error ELSE %(error)s END,
    migration_seconds = %(seconds)s
WHERE id = %(id)s"""
_ANNOUNCED = b"UPDATE organizations SET fingerprint = %s, migration_error = %s WHERE id = %s"
_SEEN = b"""
UPDATE organizations SET fingerprint = %s,
    migration_error = coalesce(nullif(migration_error, %s), '')
WHERE id = %s"""

# The recorded error from an announcement until the database was read again.
UNAPPLYING = "Migrations are being unapplied, or the process that did it was killed."


@dataclass(frozen=True)
class Record:
    """The master's record when the turn begins. error: of the last try."""

    fingerprint: str
    error: str
    place: Place


def begin(
    session: ServerSession, organization: Organization, *, looks_only: bool
) -> tuple[bool, Record | None]:
    """Take the lock and, unless it only looks, count a try.

    Returns whether the lock was free, and the record, read under the lock; None if the organization
    is gone. If it was renamed since its row was read, it has its new name, and that name's lock.
    """
    is_held, row = _begin(session, organization, looks_only=looks_only)
    while is_held and row is None:
        found = session.connection.execute(_NOW, (organization.pk, _USABLE)).fetchone()
        if found is None or found[0] == organization.name:
            return True, None
        session.unlock(key_of(organization.name))
        organization.name, organization.slug = found
        is_held, row = _begin(session, organization, looks_only=looks_only)
    if row is None:
        return is_held, None
    return True, Record(str(row[0]), str(row[1]), Place(*row[2:]))


def _begin(
    session: ServerSession, organization: Organization, *, looks_only: bool
) -> tuple[bool, Any]:
    """Whether the lock of the name was free; the row, if it still has that name."""
    key, values = key_of(organization.name), (organization.pk, organization.name, _USABLE)
    if looks_only:
        if not session.try_lock(key):
            return False, None
        return True, session.connection.execute(_LOOK, values).fetchone()
    found = session.connection.execute(_BEGIN, (lock_number(key), *values)).fetchone()
    is_held, *row = found or (False, None)
    return bool(is_held), row if is_held and row[0] is not None else None


def announce(session: ServerSession, organization: Organization, left: tuple[str, ...]) -> None:
    """Before migrations are unapplied: from now on no code that needs them is served.

    If the process is killed meanwhile, reconcile_orgs records what the database has.
    """
    fingerprint = code.fingerprint_of(left)
    versions.remember(fingerprint, left)
    session.connection.execute(_ANNOUNCED, (fingerprint, UNAPPLYING, organization.pk))
    fence_by(session, organization)


def end(session: ServerSession, result: Result, *, looks_only: bool) -> None:
    """Record the result, then release the lock: its next holder reads the record."""
    if result.fingerprint is not None:
        versions.remember(result.fingerprint, result.migrations)
    fingerprint, pk = result.fingerprint, result.organization_id
    if result.kind in (Kind.MIGRATED, Kind.IN_STEP):
        session.connection.execute(_DONE, (fingerprint, result.seconds, pk))
    elif result.kind == Kind.FAILED and not looks_only:
        values = {
            "fingerprint": fingerprint,
            "unapplying": UNAPPLYING,
            "error": result.error,
            "seconds": result.seconds,
            "id": pk,
        }
        session.connection.execute(_FAILED, values)
    elif result.kind == Kind.CORRECTED or (result.kind == Kind.FAILED and fingerprint is not None):
        session.connection.execute(_SEEN, (fingerprint, UNAPPLYING, pk))
    session.unlock(key_of(result.name))
