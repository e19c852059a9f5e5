"""Switches an organization to another database, keeps the old one aside, and drops it some day.

One commit of the master decides: before it the old database serves, after it the new one. The new
one's role cannot log in yet, so nobody is served while the old one's sessions end: requests wait or
are answered 503, and none is answered by both. What a process that died has left after the commit
is finished by reconcile_orgs, and by each worker within seconds.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone

from organizations.audit import recorded
from organizations.backups import runs
from organizations.errors import (
    BackupRunning,
    DatabaseGone,
    OrganizationBusy,
    OrganizationError,
    RestoreFailed,
    RestoreUnfinished,
)
from organizations.models import Organization, Restore
from organizations.postgres import aside, identity
from organizations.postgres.fence import fence_by
from organizations.postgres.holding import hold
from organizations.postgres.identity import Expected
from organizations.postgres.sessions import ServerSession, answers, open_session
from organizations.provisioning.kept import drop_kept, expected_kept
from organizations.provisioning.undoing import expected
from organizations.tenancy import Place, registry, storage, trail

from . import files

logger = logging.getLogger(__name__)
State = Restore.State

# For a migration, a rename or a deletion of the organization to end.
_WAIT_SECONDS = 10.0
# How long a login can take to show in pg_stat_activity.
_LOGGING_IN_SECONDS = 0.1
# Restores that keep nothing any more stay on record for so long.
_REMEMBERED = timedelta(days=90)
_BEING_DROPPED = (Organization.Status.DELETING, Organization.Status.DELETED)


def switch(
    session: ServerSession,
    row: Restore,
    organization: Organization,
    *,
    arrives: Expected,
    place: Place,
    fingerprint: str,
    files_key: str,
    also: Callable[[], object],
) -> None:
    """Commit the switch of the organization to the database at `place`, and finish it.

    session: holds the backup lock. arrives: what its row says about that database, whose role
    cannot log in. files_key: of the folder with its files; empty: they stay. also: called in the
    commit. Raises WrongState, OrganizationNotFound, OrganizationBusy, RestoreFailed,
    DatabaseKept and DatabaseGone, after which nothing was switched; and what finish raises.
    """
    known = organization.fingerprint
    hold(session, organization, wait_seconds=_WAIT_SECONDS)
    if organization.fingerprint != known:
        # By newer code, maybe, which would then refuse requests.
        raise RestoreFailed(organization.name, "it was migrated meanwhile. Try again.")
    organization.require_usable()
    if identity.certain(session, arrives).database is None:
        raise DatabaseGone(organization.name)
    serving = expected(organization)
    departs = identity.certain(session, serving)
    days = timedelta(days=settings.ORG_RESTORE_KEEP_DAYS)
    facts = {"restore": row.key, "backup": row.backup, **row.users}
    act = "organization.restore_undone" if row.is_undo else "organization.restored"
    with recorded(act, organization, facts):
        changed = Organization.objects.usable().filter(
            pk=organization.pk,
            key=organization.key,
            database_name=organization.database_name,
            role_name=organization.role_name,
            sealed_password=organization.sealed_password,
        )
        if not changed.update(
            database_name=place.database_name,
            role_name=place.role_name,
            sealed_password=place.sealed_password,
            fingerprint=fingerprint,
            migration_attempts=0,
            migration_error="",
        ):
            raise OrganizationBusy(organization.name)
        kept = {}
        if departs.role is not None:
            identity.change(
                session, serving, key=row.key, state=identity.State.ASIDE, deletion=row.key
            )
            kept = {
                # Nothing to bring back if it was lost.
                "database_name": departs.database or "",
                "role_name": organization.role_name,
                # Not its password: whoever brings it back gives it another one.
                "fingerprint": organization.fingerprint,
            }
        identity.change(
            session,
            arrives,
            key=organization.key,
            state=identity.State.LET_IN,
            deletion="",
            organization=organization.pk,
            cloned_from=organization.cloned_from,
        )
        also()
        mine = Restore.objects.filter(pk=row.pk, state=State.RUNNING)
        if not mine.update(
            state=State.SWITCHING, files=files_key, kept_until=timezone.now() + days, **kept
        ):
            raise OrganizationBusy(organization.name)  # Its lock was lost meanwhile.
    finish(session, row)


def finish(session: ServerSession, row: Restore) -> None:
    """Do what follows the commit of a switch. The locks must be held. May be repeated.

    Raises SessionsRemain, RestoreUnfinished, DatabaseKept and what PostgreSQL raises; then the
    organization is not served, and reconcile_orgs tries again. If the new database is lost, there
    is nothing to open: the row says so, and another restore or an undo is possible.
    """
    lost: dict[str, str] = {}
    row.refresh_from_db()
    organization = Organization.objects.filter(key=row.organization_key).first()
    _put_aside(session, row)
    if organization is not None and organization.is_usable:
        fence_by(session, organization)
        # Whatever was logging in at that moment. Requests ask the master first, jobs do not.
        time.sleep(_LOGGING_IN_SECONDS)
        _put_aside(session, row)
    if organization is not None and row.files and organization.status not in _BEING_DROPPED:
        try:
            files.exchange(live=row.organization_key, coming=row.files, kept=row.key)
        except OSError as error:
            raise RestoreUnfinished(organization.name, error.strerror or "no reason") from error
    # Whoever had the rights to ask for one may have them no more.
    storage.remove_exports(row.organization_key)
    if organization is not None and organization.is_usable:
        serving = replace(expected(organization), was_aside=True)
        try:
            aside.bring_back(session, identity.certain(session, serving), name=organization.name)
        except DatabaseGone as error:
            facts = {"organization": row.organization_id}
            logger.error("switched to a database that is lost", extra=facts, exc_info=error)
            lost = {"error_code": error.code, "error": str(error)}
        registry.forget(organization.tenant.alias)
    now = timezone.now()
    Restore.objects.filter(pk=row.pk).update(state=State.DONE, ended_at=now, **lost)
    row.refresh_from_db()
    logger.info("organization switched", extra={"organization": row.organization_id})


def _put_aside(session: ServerSession, row: Restore) -> None:
    if row.role_name:
        kept = expected_kept(row)
        aside.put_aside(session, identity.certain(session, kept), name=kept.name)


def fail(row: Restore, error: BaseException) -> None:
    """Record why nothing was switched; never raises, since the caller reports it."""
    code, sentence = runs.told(error)
    try:
        rows = Restore.objects.filter(pk=row.pk, state=State.RUNNING)
        if rows.update(
            state=State.FAILED, ended_at=timezone.now(), error_code=code, error=sentence
        ):
            facts = {"restore": row.key, "error": code}
            trail.record(
                "organization.restore_failed", organization_id=row.organization_id, facts=facts
            )
    except (OrganizationError, DatabaseError) as failure:
        # reconcile_orgs does it.
        logger.error("restore not recorded", extra={"restore": row.pk}, exc_info=failure)


def end_interrupted(session: ServerSession, organization_key: str) -> None:
    """Finish what killed processes left of this organization's restores. The backup lock must be
    held."""
    rows = Restore.objects.filter(organization_key=organization_key)
    for row in rows.filter(state=State.RUNNING):
        fail(row, _Interrupted())
    for row in rows.filter(state=State.SWITCHING).order_by("pk"):
        organization = Organization.objects.filter(key=organization_key).first()
        if organization is not None:
            hold(session, organization, wait_seconds=_WAIT_SECONDS)
        finish(session, row)


def give_up(organization: Organization) -> None:
    """Say of switches to a database that is lost that they are over: their files can be lost too,
    and nothing could finish them. The backup lock must be held."""
    rows = Restore.objects.filter(organization_key=organization.key, state=State.SWITCHING)
    for row in rows:
        code, sentence = runs.told(DatabaseGone(organization.name))
        # If they were not exchanged yet, an undo leaves the files where they are.
        kept = row.files if storage.folder_of(row.key).is_dir() else ""
        rows.filter(pk=row.pk).update(
            state=State.DONE, ended_at=timezone.now(), files=kept, error_code=code, error=sentence
        )
        facts = {"restore": row.key, "organization": organization.pk}
        logger.error("switched to a database that is lost", extra=facts)


class _Interrupted(OrganizationError):
    """The process of a restore was killed before its switch."""

    code = "interrupted"

    def __init__(self) -> None:
        super().__init__("The process that restored was killed. Nothing was switched.")


def reconcile() -> tuple[list[str], list[str]]:
    """Finish what killed processes left. Returns descriptions of the done and of the failed.

    What another process works on is skipped.
    """
    unfinished = Restore.objects.filter(state__in=(State.RUNNING, State.SWITCHING))
    done, failed = _each(unfinished.order_by(), end_interrupted)
    again, near = _each(_not_aside(), _put_all_aside)
    # What was kept for an organization that an older version dropped.
    dropped, left = _each(_of_deleted(), _drop_due)
    return [*done, *again, *dropped], [*failed, *near, *left]


def finish_switches() -> tuple[list[str], list[str]]:
    """The same for those that are committed, of which nobody is served."""
    return _each(Restore.objects.filter(state=State.SWITCHING).order_by(), end_interrupted)


def prune() -> list[str]:
    """Drop the databases that were kept long enough, with their files, and those of deleted
    organizations. Returns descriptions of what was not dropped.

    Only what the row, the role's identity, OID and owner agree on.
    """
    now = timezone.now()
    due = _kept().filter(kept_until__lt=now).order_by() | _of_deleted()
    _, left = _each(due, _drop_due)
    Restore.objects.filter(kept_until=None, ended_at__lt=now - _REMEMBERED).delete()
    return left


def _kept() -> QuerySet[Restore]:
    return Restore.objects.keeping().exclude(state=State.SWITCHING)


def _not_aside() -> QuerySet[Restore]:
    """What is to be kept and is not out of reach; who was killed is in the middle of it."""
    places = _kept().exclude(role_name="").values_list("role_name", "database_name")
    with open_session() as session:
        near = aside.not_aside(session, list(places))
    return _kept().filter(role_name__in=near).order_by()


def _hold_name(session: ServerSession, organization_key: str) -> Organization | None:
    """Lock its name too, if it has a row: whoever drops it drops what is kept for it."""
    organization = Organization.objects.filter(key=organization_key).first()
    if organization is not None:
        hold(session, organization)
    return organization


def _put_all_aside(session: ServerSession, organization_key: str) -> None:
    _hold_name(session, organization_key)
    for row in _kept().filter(organization_key=organization_key):
        _put_aside(session, row)


def _of_deleted() -> QuerySet[Restore]:
    gone = Organization.objects.filter(status=Organization.Status.DELETED).values("key")
    return _kept().filter(organization_key__in=gone).order_by()


def _drop_due(session: ServerSession, organization_key: str) -> None:
    organization = _hold_name(session, organization_key)
    is_deleted = organization is not None and organization.status == Organization.Status.DELETED
    for row in _kept().filter(organization_key=organization_key):
        if not is_deleted and row.kept_until is not None and row.kept_until > timezone.now():
            continue
        drop_kept(session, row)


def _each(
    rows: QuerySet[Restore], act: Callable[[ServerSession, str], None]
) -> tuple[list[str], list[str]]:
    done: list[str] = []
    failed: list[str] = []
    found = rows.values_list("organization_key", "organization_id").distinct()
    for key, number in found:
        what = f"restores of organization {number}"
        try:
            with runs.locked(key, name=what) as session:
                act(session, key)
            done.append(what)
        except (BackupRunning, OrganizationBusy):
            continue  # The next time.
        except (OrganizationError, DatabaseError) as error:
            # Django would keep its cut connection.
            connections["default"].close()
            if not answers():
                raise
            facts = {"organization": number}
            logger.error("restore not reconciled", extra=facts, exc_info=error)
            failed.append(what)
    return done, failed
