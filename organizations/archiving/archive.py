"""Archives organizations: closed, backed up, that backup verified, and only then dropped.

Row and role stay, and their identity. Until the database is dropped, what fails, or dies, brings
the organization back as it was.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from django.db import Error as DatabaseError
from django.db import connections

from organizations.audit import recorded
from organizations.backups import closed, runs, verifying
from organizations.errors import (
    ArchiveFailed,
    BackupRunning,
    DatabaseGone,
    FilesKept,
    OrganizationBusy,
    OrganizationError,
)
from organizations.jobs.frame import wake
from organizations.models import BackupRun, Organization, Restore, random_key
from organizations.postgres import aside, databases, identity
from organizations.postgres.fence import fence_by
from organizations.postgres.holding import hold
from organizations.postgres.sessions import (
    ServerSession,
    answers,
    open_session,
    refuse_in_transaction,
)
from organizations.provisioning import media
from organizations.provisioning.kept import drop_kept
from organizations.provisioning.undoing import change_status, expected
from organizations.restoring import files
from organizations.restoring.making import Watch
from organizations.tenancy import TooBusy, registry, storage

logger = logging.getLogger(__name__)
Status = Organization.Status

_WAIT_SECONDS = 5.0


def silent(step: str) -> None:
    """Nobody hears of the steps."""


def archive_organization(
    organization: Organization,
    *,
    tell: Callable[[str], None] = silent,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Close the organization, back it up, verify that backup, and drop its database and files.

    Row, name, role and identity stay, and that backup: thaw_organization brings it back. What its
    restores kept is dropped too. tell: hears of each step. goes_on: false ends it.

    Raises WrongState unless it is active or suspended, OrganizationNotFound, OrganizationBusy,
    ArchiveFailed, DatabaseGone, DatabaseKept, SessionsRemain, InstallationUnclaimed,
    ServerUnavailable, ServerRefused, ProvisioningInTransaction, and what backups.making.back_up and
    verifying.verify raise. Then it is as it was, unless its database is half dropped already. What
    is interrupted, reconcile_orgs finishes or brings back.
    """
    refuse_in_transaction()
    with open_session(new=True) as session:
        hold(session, organization, wait_seconds=_WAIT_SECONDS)
        if organization.status == Status.ARCHIVING:
            _settle(session, organization)  # A killed try's.
            if organization.status == Status.ARCHIVED:
                return
        organization.require_usable()
        if Restore.objects.switching(organization.key).exists():
            raise OrganizationBusy(organization.name)
        if not media.is_here():
            _no_files(organization)
        if identity.certain(session, expected(organization)).database is None:
            raise DatabaseGone(organization.name)
        with runs.locked(organization.key, name=organization.name):
            pass  # Else it would be closed for nothing.
        _close(session, organization)
        try:
            fence_by(session, organization)
            _put_aside(session, organization)
            tell("backing up")
            run = closed.back_up(session, organization, goes_on)
            if run is None:
                raise DatabaseGone(organization.name)
            tell("verifying the backup")
            verifying.verify(run, name=organization.name, goes_on=goes_on)
            tell("dropping")
            _drop(session, organization, run, Watch(organization.name, goes_on, tell))
        except BaseException as error:
            _come_back(session, organization, error)
            raise
    logger.info("organization archived", extra={"organization": organization.pk})


def _close(session: ServerSession, organization: Organization) -> None:
    """In one commit, row and identity say that it is aside, before anything is changed there."""
    let_in, deletion = expected(organization), random_key()
    with recorded("organization.archiving", organization):
        moved = change_status(
            organization,
            Status.ARCHIVING,
            only_from=(organization.status,),  # What it comes back as.
            reason=organization.status_reason,
            message=organization.status_message,
            deletion=deletion,
            archived_from=organization.status,
        )
        if not moved:
            raise OrganizationBusy(organization.name)
        identity.change(session, let_in, state=identity.State.ASIDE, deletion=deletion)


def _put_aside(session: ServerSession, organization: Organization) -> None:
    found = identity.certain(session, expected(organization))
    aside.put_aside(session, found, name=organization.name)


def _no_files(organization: Organization) -> NoReturn:
    why = "MEDIA_ROOT is not there. Mount the disk; or see `manage.py mark_media --help`."
    raise ArchiveFailed(organization.name, why)


# --- Dropped ------------------------------------------------------------------------------------
def _drop(session: ServerSession, organization: Organization, run: BackupRun, watch: Watch) -> None:
    """Drop database and files, of which the backup holds all, and say so. May be repeated.

    session: holds its lock. Its files are compared, and the backup's objects read once more, as
    long as there is a database to lose.
    """
    if not media.is_here():
        _no_files(organization)
    with runs.locked(organization.key, name=organization.name) as locked:
        found = identity.certain(session, expected(organization))
        if found.database is not None:
            _require_intact(locked, organization, run, watch)
        _hold_on_to(organization, run)
        registry.forget(organization.tenant.alias)
        databases.drop(session, replace(found, role=None))  # The role keeps the identity.
        for row in Restore.objects.keeping().filter(organization_key=organization.key):
            drop_kept(session, row)
        if not storage.remove(organization.key):
            raise FilesKept(organization)
        aside_still = expected(organization)
        with recorded("organization.archived", organization, {"backup": run.key}):
            moved = change_status(
                organization,
                Status.ARCHIVED,
                only_from=(Status.ARCHIVING,),
                reason=organization.status_reason,
                message=organization.status_message,
                deletion="",
                sealed_password="",
            )
            if not moved:
                raise OrganizationBusy(organization.name)
            if found.role is not None:
                archived = identity.State.ARCHIVED
                identity.change(session, aside_still, state=archived, deletion="", databases=())


def _require_intact(
    session: ServerSession, organization: Organization, run: BackupRun, watch: Watch
) -> None:
    good = BackupRun.objects.filter(pk=run.pk, state=BackupRun.State.GOOD)
    if not good.exclude(verified_at=None).exists():
        raise ArchiveFailed(organization.name, "its backup is not verified any more.")
    read = verifying.check(session, run, watch=watch)
    # A database that is half dropped has maybe no files any more.
    if organization.archived_backup_id is None:
        files.require_same(run, read, organization.key, name=organization.name, watch=watch)


def _hold_on_to(organization: Organization, run: BackupRun) -> None:
    """From here on nothing removes this backup, and what dies is gone on with."""
    mine = Organization.objects.filter(
        pk=organization.pk, status=Status.ARCHIVING, deletion=organization.deletion
    )
    if not mine.update(archived_backup=run):
        raise OrganizationBusy(organization.name)  # The lock was lost meanwhile.
    organization.archived_backup = run


# --- Brought back -------------------------------------------------------------------------------
def _come_back(session: ServerSession, organization: Organization, error: BaseException) -> None:
    """Bring it back as it was, if nothing is dropped yet; never raises, since the caller reports
    the cause."""
    code, _ = runs.told(error)
    facts = {"organization": organization.pk}
    logger.error("organization not archived", extra=facts, exc_info=error)
    try:
        if session.connection.closed:
            connections["default"].close()
            with open_session(new=True) as fresh:
                hold(fresh, organization, wait_seconds=_WAIT_SECONDS)
                _bring_back(fresh, organization, code)
        else:
            organization.refresh_from_db()
            _bring_back(session, organization, code)
    except Exception:
        # The row stays, and reconcile_orgs does it.
        logger.exception("not brought back", extra=facts)


def _bring_back(session: ServerSession, organization: Organization, code: str) -> None:
    """Raises DatabaseGone if it is dropped, wholly or in part, after its backup was verified."""
    if organization.status != Status.ARCHIVING:
        return
    kept = expected(organization)
    found = identity.certain(session, kept)
    if found.database is not None or organization.archived_backup_id is not None:
        aside.bring_back(session, found, name=organization.name)
    registry.forget(organization.tenant.alias)
    with recorded("organization.archive_failed", organization, {"error": code}):
        before = Status(organization.archived_from)
        moved = change_status(
            organization,
            before,
            only_from=(Status.ARCHIVING,),
            reason=organization.status_reason,
            message=organization.status_message,
            deletion="",
            archived_backup=None,
            archived_from="",
        )
        if not moved:
            raise OrganizationBusy(organization.name)
        if found.role is not None:
            identity.change(session, kept, state=identity.State.LET_IN, deletion="")
        if before == Status.ACTIVE:
            wake(organization.pk)


# --- Reconciled ---------------------------------------------------------------------------------
def _settle(session: ServerSession, organization: Organization) -> None:
    """Go on with the drop if its backup is verified, else bring it back. The lock must be held."""
    run = organization.archived_backup
    if run is None:
        _bring_back(session, organization, "interrupted")
        return
    try:
        watch = Watch(organization.name, lambda: True, silent)
        _drop(session, organization, run, watch)
    except BackupRunning:
        raise
    except OrganizationError as error:
        organization.refresh_from_db()
        if identity.certain(session, expected(organization)).database is None:
            raise
        logger.error(
            "organization not archived", extra={"organization": organization.pk}, exc_info=error
        )
        _bring_back(session, organization, error.code)


def reconcile(*, wait_seconds: float) -> tuple[list[str], list[str], list[str], list[str]]:
    """Finish what killed processes left, and remove the files that a killed thaw did.

    Returns the names of the archived, of those that are back, of those that another process works
    on, and of the failed. A failure does not affect the others.
    """
    archived: list[str] = []
    back: list[str] = []
    skipped: list[str] = []
    failed: list[str] = []
    for row in Organization.objects.filter(status__in=Status.archival()):
        if row.status == Status.ARCHIVED and not storage.folders_of(row.key):
            continue
        try:
            with open_session(new=True) as session:
                hold(session, row, wait_seconds=wait_seconds)
                if row.status == Status.ARCHIVING:
                    _settle(session, row)
                    (archived if row.status == Status.ARCHIVED else back).append(row.name)
                elif row.status == Status.ARCHIVED:
                    _remove_files(row)
        except (OrganizationBusy, BackupRunning):
            skipped.append(row.name)
        except (OrganizationError, TooBusy, DatabaseError) as error:
            connections["default"].close()  # Django would keep its cut connection.
            if not answers():
                raise
            facts = {"organization": row.pk}
            logger.error("archive not reconciled", extra=facts, exc_info=error)
            failed.append(row.name)
    return archived, back, skipped, failed


def _remove_files(organization: Organization) -> None:
    with runs.locked(organization.key, name=organization.name):  # No thaw is at work.
        if not storage.remove(organization.key):
            raise FilesKept(organization)
