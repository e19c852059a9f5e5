"""Archives an organization: closes it, backs it up, verifies the backup, and only then drops it.

Row, role and identity stay. A failure or crash before the database is dropped reopens the
organization as it was.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from django.db import connections, transaction

from organizations.audit import recorded
from organizations.backups import closed, runs, verifying
from organizations.errors import (
    ArchiveFailed,
    BackupRunning,
    DatabaseGone,
    OrganizationBusy,
    OrganizationError,
)
from organizations.jobs.frame import wake
from organizations.models import BackupRun, Organization, Restore, random_key
from organizations.postgres import aside, databases, identity, programs
from organizations.postgres.fence import fence_by
from organizations.postgres.holding import hold
from organizations.postgres.roles import set_password
from organizations.postgres.sessions import (
    ServerSession,
    open_session,
    refuse_in_transaction,
)
from organizations.provisioning import media
from organizations.provisioning.kept import expected_kept
from organizations.provisioning.undoing import change_status, expected
from organizations.restoring import files
from organizations.restoring.making import Watch, silent
from organizations.secrets import seal
from organizations.tenancy import registry

from . import leftovers

logger = logging.getLogger(__name__)
Status = Organization.Status

_WAIT_SECONDS = 5.0


def archive_organization(
    organization: Organization,
    *,
    tell: Callable[[str], None] = silent,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Close the organization, back it up, verify that backup, and drop its database and files.

    Row, name, role, identity and that backup stay; thaw_organization brings it back. What its
    restores kept is dropped too. tell: called with each step. goes_on: false ends it.

    Raises WrongState unless it is active or suspended, OrganizationNotFound, OrganizationBusy,
    ArchiveFailed, DatabaseGone, DatabaseKept, SessionsRemain, InstallationUnclaimed,
    ServerUnavailable, ServerRefused, ProvisioningInTransaction, and what backups.making.back_up and
    verifying.verify raise. After an error it is reopened, unless its database is already half
    dropped. reconcile_orgs finishes or rolls back what was interrupted.
    """
    refuse_in_transaction()
    with open_session(new=True) as session:
        hold(session, organization, wait_seconds=_WAIT_SECONDS)
        if organization.status == Status.ARCHIVING:
            settle(session, organization)  # Left by a killed try.
            if organization.status == Status.ARCHIVED:
                return
        organization.require_usable()
        organization.require_writable()
        if Restore.objects.switching(organization.key).exists():
            raise OrganizationBusy(organization.name)
        if not media.is_here():
            _no_files(organization)
        if identity.certain(session, expected(organization)).database is None:
            raise DatabaseGone(organization.name)
        runs.require_storage()
        for program in ("pg_dump", "pg_restore"):
            programs.major_version(program, server=verifying.server_version(session))
        with runs.locked(organization.key, name=organization.name):
            pass  # Refused before it is closed, not after.
        _close(session, organization)
        try:
            fence_by(session, organization)
            closed.put_aside(session, organization)
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
    """Mark row and identity as aside in one commit, before anything else is changed."""
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


def _no_files(organization: Organization) -> NoReturn:
    why = "its files are not on this host. Mount the disk, or see `manage.py mark_media --help`."
    raise ArchiveFailed(organization.name, why)


# --- Dropped ------------------------------------------------------------------------------------
def _drop(session: ServerSession, organization: Organization, run: BackupRun, watch: Watch) -> None:
    """Drop the database and record it, then drop what goes with it. May be repeated.

    session: holds its lock. While there is a database to lose, its files are compared with the
    backup's, and the backup is read once more. Once it is dropped, nothing prevents the archive.
    """
    if not media.is_here():
        _no_files(organization)
    with runs.locked(organization.key, name=organization.name) as locked:
        found = identity.certain(session, expected(organization))
        if found.database is not None:
            _require_intact(locked, organization, run, watch)
        for row in Restore.objects.keeping().filter(organization_key=organization.key):
            identity.certain(session, expected_kept(row))
        _hold_on_to(organization, run, has_role=found.role is not None, session=session)
        leftovers.require_none_in_use(organization)
        registry.forget(organization.tenant.alias)
        databases.drop(session, replace(found, role=None))  # The role keeps the identity.
        with_database = expected(organization)
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
                identity.change(session, with_database, databases=())
        try:
            leftovers.remove(session, organization)
        except Exception:
            # reconcile_orgs does it.
            facts = {"organization": organization.pk}
            logger.exception("leftovers of an archive not removed", extra=facts)


def _require_intact(
    session: ServerSession, organization: Organization, run: BackupRun, watch: Watch
) -> None:
    good = BackupRun.objects.filter(pk=run.pk, state=BackupRun.State.GOOD)
    if not good.exclude(verified_at=None).exists():
        raise ArchiveFailed(organization.name, "its backup is no longer verified.")
    read = verifying.check(session, run, watch=watch)
    # A half-dropped database may have no files any more.
    if organization.archived_backup_id is None:
        files.require_same(run, read, organization.key, name=organization.name, watch=watch)


def _hold_on_to(
    organization: Organization, run: BackupRun, *, has_role: bool, session: ServerSession
) -> None:
    """Protect this backup from removal; from here on a crash is continued, not rolled back. The
    identity names the backup, for an older master."""
    before = expected(organization)
    mine = Organization.objects.filter(
        pk=organization.pk, status=Status.ARCHIVING, deletion=organization.deletion
    )
    with transaction.atomic(using="default"):
        if not mine.update(archived_backup=run):
            raise OrganizationBusy(organization.name)  # The lock was lost meanwhile.
        if has_role:
            archived = identity.State.ARCHIVED
            identity.change(session, before, state=archived, deletion="", backup=run.key)
    organization.archived_backup = run


# --- Brought back -------------------------------------------------------------------------------
def _come_back(session: ServerSession, organization: Organization, error: BaseException) -> None:
    """Reopen it as it was, if nothing is dropped yet; never raises, since the caller reports the
    cause."""
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
        logger.exception("organization not reopened after a failed archive", extra=facts)


def _bring_back(session: ServerSession, organization: Organization, code: str) -> None:
    """Reopen it, with a new password, since a killed process can have set one that no row has.

    Raises DatabaseGone if it is dropped, wholly or in part, after its backup was verified.
    """
    if organization.status != Status.ARCHIVING:
        return
    kept = expected(organization)
    found = identity.certain(session, kept)
    if found.database is not None or organization.archived_backup_id is not None:
        aside.bring_back(session, found, name=organization.name)
    password = secrets.token_urlsafe(32)
    if found.role is not None:
        set_password(session, role=found.role, password=password)
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
            sealed_password=seal(password),
        )
        if not moved:
            raise OrganizationBusy(organization.name)
        if found.role is not None:
            let_in = identity.State.LET_IN
            identity.change(session, kept, state=let_in, deletion="", backup="")
        if before == Status.ACTIVE:
            wake(organization.pk)


# --- Settled ------------------------------------------------------------------------------------
def settle(session: ServerSession, organization: Organization) -> None:
    """Continue the drop if its backup is verified, else reopen it. The lock must be held."""
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
