"""Deletes organizations: closed at once, kept aside for ORG_DELETION_GRACE_DAYS, then dropped.

Until then undelete.py brings one back.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.db.models import Max
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from organizations.audit import recorded, unmarked
from organizations.backups import closed
from organizations.errors import BackupMissing, OrganizationBusy, OrganizationError
from organizations.models import BackupRun, FormerName, Organization, Restore, random_key
from organizations.naming import slug_variant
from organizations.postgres import aside, identity
from organizations.postgres.fence import fence_by
from organizations.postgres.holding import hold
from organizations.postgres.sessions import (
    ServerSession,
    answers,
    open_session,
    refuse_in_transaction,
)
from organizations.provisioning import media
from organizations.provisioning.undoing import change_status, expected, undo
from organizations.tenancy import TooBusy, storage
from organizations.tenancy.trail import Fact

logger = logging.getLogger(__name__)
Status = Organization.Status

# How old the backup may be with which an organization is dropped at once.
FRESH = timedelta(hours=24)


def delete_organization(
    organization: Organization,
    *,
    free_name: bool = False,
    now: bool = False,
    without_backup: bool = False,
    mark: Callable[[], object] = unmarked,
) -> None:
    """Close the organization to everybody, and keep its database aside; or drop it.

    It is dropped, with its role and files, at once if ORG_DELETION_GRACE_DAYS is 0, with `now`, if
    it was restored beside another one, or if nothing of it is left. The row then stays as a
    tombstone, and the name is free.
    free_name: its name and former names are free as soon as it is kept aside. now: wants a verified
    backup that was begun within FRESH before it was closed, or `without_backup`. mark: called in
    the commit.

    Raises BackupMissing, OrganizationNotFound, OrganizationBusy, DatabaseKept,
    InstallationUnclaimed, SessionsRemain, ServerUnavailable, ServerRefused and
    ProvisioningInTransaction. May be repeated. What is interrupted, reconcile_orgs finishes.
    """
    refuse_in_transaction()
    with open_session() as session:
        hold(session, organization)
        if organization.status == Status.DELETED:
            return
        if organization.status == Status.ARCHIVING:
            raise OrganizationBusy(organization.name)  # Its process died: reconcile_orgs ends it.
        # A copy of another one's backup, to look at: nobody works in it.
        is_beside = organization.read_only_until is not None
        if now and not without_backup and not is_beside:
            _require_backup(organization)
        is_kept = settings.ORG_DELETION_GRACE_DAYS and not now and not is_beside
        if is_kept and _can_be_kept(session, organization):
            _keep(session, organization, free_name=free_name, mark=mark)
            return
        if organization.status in Status.taken():
            _begin_drop(session, organization, mark=mark)
        # Now, not with the drop, which can be refused.
        fence_by(session, organization)
        undo(session, organization)
        if organization.is_usable:
            # Suspended or resumed between the two statements above.
            raise OrganizationBusy(organization.name)


def _require_backup(organization: Organization) -> None:
    if organization.status not in Status.taken():
        return  # Never in use, or being dropped already.
    is_closed = organization.status == Status.TRASHED
    since = (organization.status_changed_at if is_closed else timezone.now()) - FRESH
    good = BackupRun.objects.filter(
        organization_key=organization.key, state=BackupRun.State.GOOD, started_at__gte=since
    )
    # One of before a restore holds another database's content.
    switched = Restore.objects.switched().filter(organization_key=organization.key)
    if (newest := switched.aggregate(at=Max(Coalesce("ended_at", Now())))["at"]) is not None:
        good = good.filter(started_at__gt=newest)
    if organization.archived_backup_id is not None:
        # Made since it was closed.
        good = BackupRun.objects.filter(
            pk=organization.archived_backup_id, state=BackupRun.State.GOOD
        )
    if not good.filter(verified_at__isnull=False).exists():
        raise BackupMissing(organization.name)


def _can_be_kept(session: ServerSession, organization: Organization) -> bool:
    """Whether it was in use and its database, files or archive are there; or it is kept already."""
    if organization.status in (Status.TRASHED, Status.ARCHIVED):
        return True
    if not organization.is_usable:
        return False
    found = identity.certain(session, expected(organization))
    folder = storage.folder_of(organization.key)
    return found.database is not None or media.is_elsewhere() or folder.is_dir()


# --- Kept ---------------------------------------------------------------------------------------
def _keep(
    session: ServerSession,
    organization: Organization,
    *,
    free_name: bool,
    mark: Callable[[], object],
) -> None:
    is_free = organization.name_digest == organization.digest_without_name
    freed = {}
    if free_name and not is_free:
        slug = slug_variant(organization.slug)
        freed = {"name_digest": organization.digest_without_name, "slug": slug}
    if organization.status != Status.TRASHED:
        _trash(session, organization, freed=freed, mark=mark)
    elif freed:
        with recorded("organization.name_freed", organization):
            trashed = Organization.objects.trashed().filter(pk=organization.pk)
            if not trashed.update(**freed):
                raise OrganizationBusy(organization.name)
            FormerName.objects.filter(organization_id=organization.pk).delete()
            organization.name_digest, organization.slug = freed["name_digest"], freed["slug"]
            mark()
    else:
        mark()
    fence_by(session, organization)
    closed.put_aside(session, organization)
    logger.info("organization deleted, and kept aside", extra={"organization": organization.pk})


def _trash(
    session: ServerSession,
    organization: Organization,
    *,
    freed: dict[str, str],
    mark: Callable[[], object],
) -> None:
    """In one commit, row and identity say that it is kept, before anything is changed there."""
    let_in = expected(organization)
    found = identity.certain(session, let_in)
    deletion = random_key()
    until = timezone.now() + timedelta(days=settings.ORG_DELETION_GRACE_DAYS)
    facts: dict[str, Fact] = {"kept_until": until.isoformat(), "name_freed": bool(freed)}
    with recorded("organization.trashed", organization, facts):
        # Only from the status that it comes back to.
        moved = change_status(
            organization,
            Status.TRASHED,
            only_from=(organization.status,),
            reason=organization.status_reason,
            message=organization.status_message,
            deletion=deletion,
            kept_until=until,
            status_before=organization.status,
            **freed,
        )
        if not moved:
            raise OrganizationBusy(organization.name)
        if freed:
            FormerName.objects.filter(organization_id=organization.pk).delete()
        if found.role is not None:
            identity.change(session, let_in, state=identity.State.ASIDE, deletion=deletion)
        mark()


def finish_keeping(*, wait_seconds: float) -> tuple[list[str], list[str], list[str]]:
    """Put aside what a killed process left on the way there, or on the way back.

    Returns the names of the done, of those that another process works on, and of the failed.
    """
    rows = list(Organization.objects.trashed())
    done: list[str] = []
    skipped: list[str] = []
    failed: list[str] = []
    with open_session() as session:
        near = aside.not_aside(session, [(row.role_name, row.database_name) for row in rows])
    for row in rows:
        if row.role_name not in near:
            continue
        try:
            with open_session() as session:
                hold(session, row, wait_seconds=wait_seconds)
                if row.status == Status.TRASHED:
                    closed.put_aside(session, row)
                    done.append(row.name)
        except OrganizationBusy:
            skipped.append(row.name)
        except OrganizationError as error:
            logger.error("not put aside", extra={"organization": row.pk}, exc_info=error)
            failed.append(row.name)
    return done, skipped, failed


# --- Dropped ------------------------------------------------------------------------------------
def _begin_drop(
    session: ServerSession, organization: Organization, *, mark: Callable[[], object] = unmarked
) -> None:
    """Mark row and identity as being deleted, in one commit, before anything is dropped.

    Nothing starts if it cannot be recorded, or if the database is not certainly the row's.
    """
    before = expected(organization)
    found = identity.certain(session, before)
    deletion = random_key()
    # The erasure record says when it was closed.
    is_closed = organization.status == Status.TRASHED
    at = organization.status_changed_at
    since: dict[str, Any] = {"status_changed_at": at} if is_closed else {}
    with recorded("organization.deleting", organization):
        moved = change_status(
            organization,
            Status.DELETING,
            only_from=(Status.TRASHED,) if is_closed else (*Status.usable(), Status.ARCHIVED),
            deletion=deletion,
            **since,
        )
        if not moved:
            raise OrganizationBusy(organization.name)
        if found.role is not None:
            identity.change(session, before, state=identity.State.DELETING, deletion=deletion)
        mark()


def drop_expired(*, goes_on: Callable[[], bool] = lambda: True) -> list[str]:
    """Drop what was kept for its time, with BACKUP_BEFORE_DROP after a last backup; and what was
    restored beside another one, once that is over.

    goes_on: false ends it, between two or in a backup. Returns descriptions of what could not be
    dropped: it stays, and the next run tries again. A failure does not affect the others. What
    another process works on is left to the next run.
    """
    left = []
    now = timezone.now()
    due = Organization.objects.trashed().filter(kept_until__lt=now)
    for organization in due | Organization.objects.reachable().filter(read_only_until__lt=now):
        if not goes_on():
            break
        try:
            _drop_expired(organization, goes_on)
        except OrganizationBusy:
            continue
        except (OrganizationError, TooBusy, DatabaseError) as error:
            # Django would keep its cut connection.
            connections["default"].close()
            if not answers():
                raise
            facts = {"organization": organization.pk}
            logger.error("organization not dropped in time", extra=facts, exc_info=error)
            what = "deleted" if organization.status == Status.TRASHED else "read-only"
            left.append(f"the {what} organization {organization.pk}")
    return left


def _drop_expired(organization: Organization, goes_on: Callable[[], bool]) -> None:
    with open_session() as session:
        hold(session, organization)
        is_kept = organization.status == Status.TRASHED
        if not (is_kept or organization.is_usable):
            return
        until = organization.kept_until if is_kept else organization.read_only_until
        if until is None or until > timezone.now():
            return
        if settings.BACKUP_BEFORE_DROP and organization.read_only_until is None:
            _back_up_last(session, organization, goes_on)
        _begin_drop(session, organization)
        fence_by(session, organization)
        undo(session, organization)


def _back_up_last(
    session: ServerSession, organization: Organization, goes_on: Callable[[], bool]
) -> None:
    """Back it up as it was when it was closed, unless an earlier try did."""
    good = BackupRun.objects.filter(organization_key=organization.key, state=BackupRun.State.GOOD)
    if good.filter(started_at__gt=organization.status_changed_at).exists():
        return
    closed.back_up(session, organization, goes_on)
