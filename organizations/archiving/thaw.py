"""Thaws an archived organization: a new database from its backup, and one commit that opens it."""

import logging
import os
from collections.abc import Callable

from organizations.audit import recorded
from organizations.backups import finding, runs
from organizations.errors import (
    BackupNotFound,
    DatabaseGone,
    OrganizationBusy,
    OrganizationNotFound,
    RestoreFailed,
    WrongState,
)
from organizations.jobs.frame import wake
from organizations.models import BackupRun, Organization, SpareDatabase
from organizations.postgres import identity
from organizations.postgres.fence import fence_by
from organizations.postgres.holding import hold
from organizations.postgres.roles import drop_role
from organizations.postgres.sessions import ServerSession
from organizations.provisioning import spares
from organizations.provisioning.undoing import change_status, expected
from organizations.restoring import making
from organizations.restoring.making import New, Source, Watch, silent
from organizations.tenancy import registry, storage

from . import leftovers

logger = logging.getLogger(__name__)
Status = Organization.Status

# How long to wait for a deletion of the organization to end.
_WAIT_SECONDS = 10.0
# void_logins adds 1,000, for users created meanwhile. Here there can be none: ids continue.
_NOBODY_SINCE = -1_000


def thaw_organization(
    organization: Organization,
    *,
    tell: Callable[[str], None] = silent,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Bring an archived organization back, with the status that it had: accounts, data and files.

    They are as they were, in a new database with a new role, migrated to this code. All logins and
    mailed links become invalid. tell: called with each step. goes_on: false ends it.

    Raises WrongState unless it is archived, BackupNotFound, BackupRunning, OrganizationNotFound,
    OrganizationBusy, RestoreFailed, DatabaseGone, DatabaseKept, FilesKept, SessionsRemain, what
    verifying.check and verifying.restore raise, ProvisioningInTransaction, InstallationUnclaimed,
    ServerUnavailable and ServerRefused. If it was not opened yet, it stays archived.
    reconcile_orgs cleans up after a crash.
    """
    with runs.locked(organization.key, name=organization.name) as session:
        try:
            organization.refresh_from_db()
        except Organization.DoesNotExist as error:
            raise OrganizationNotFound(organization.name) from error
        _learn(session, organization)
        run = _backup_of(organization)
        leftovers.remove_files(session, organization)
        watch = Watch(organization.name, goes_on, tell)
        slug = organization.slug
        with making.new_database(session, slug, Source(run), watch, to=organization) as new:
            making.void_logins(new.spare, _NOBODY_SINCE, watch)
            making.regain(session, new.spare, name=organization.name, is_open=True)
            watch()
            tell("opening")
            was = organization.role_name
            _open(session, organization, new, run)
        # If that fails, reconcile_orgs drops it: its identity says that all was moved.
        drop_role(session, role=was)
        fence_by(session, organization)
    logger.info("organization thawed", extra={"organization": organization.pk})


_EXISTS = "SELECT EXISTS (SELECT FROM pg_database WHERE oid = ANY(%s::oid[]))"


def _learn(session: ServerSession, organization: Organization) -> None:
    """Update an older master's row from its role's identity, which knows the last archive."""
    found = identity.of_key(organization.key)
    if [each.state for _, each in found] != [identity.State.ARCHIVED]:
        return  # It has a database; or its role is lost, and the row counts.
    ((role, whose),) = found
    known = organization.archived_backup
    is_known = known is not None and (known.key, organization.role_name) == (whose.backup, role)
    may_be = (*Status.usable(), *Status.archival())
    # If the process that dropped the database died right after, it still names the database.
    is_gone = not session.value(_EXISTS, (list(whose.databases),))
    is_ours = whose.installation == session.installation and is_gone
    if not is_ours or organization.status not in may_be or (is_known and not organization.deletion):
        return
    hold(session, organization, wait_seconds=_WAIT_SECONDS)
    finding.record_unknown(session, organization)
    run = BackupRun.objects.filter(organization_key=organization.key, key=whose.backup).first()
    if run is None:
        raise BackupNotFound(organization.name)
    before = organization.archived_from or Status.ACTIVE
    before = Status(organization.status) if organization.is_usable else before
    with recorded("organization.archived", organization, {"backup": run.key}):
        moved = change_status(
            organization,
            Status.ARCHIVED,
            only_from=may_be,
            reason=organization.status_reason,
            message=organization.status_message,
            role_name=role,
            sealed_password="",
            deletion="",
            archived_backup=run,
            archived_from=before,
        )
        if not moved:
            raise OrganizationBusy(organization.name)


def _backup_of(organization: Organization) -> BackupRun:
    if organization.status != Status.ARCHIVED:
        raise WrongState(organization.name, status=organization.status, wanted=Status.ARCHIVED)
    if organization.archived_backup is None:
        raise BackupNotFound(organization.name)
    return organization.archived_backup


def _open(session: ServerSession, organization: Organization, new: New, run: BackupRun) -> None:
    """Move its files first: until the commit it is archived, and they are a leftover."""
    hold(session, organization, wait_seconds=_WAIT_SECONDS)
    if _backup_of(organization) != run:
        raise OrganizationBusy(organization.name)  # Thawed and archived again.
    archived, arrives = expected(organization), spares.expected(new.spare)
    has_role = identity.certain(session, archived).role is not None
    if identity.certain(session, arrives).database is None:
        raise DatabaseGone(organization.name)
    _move_files(organization, new.spare)
    before = Status(organization.archived_from or Status.ACTIVE)
    with recorded("organization.thawed", organization, {"backup": run.key}):
        moved = change_status(
            organization,
            before,
            only_from=(Status.ARCHIVED,),
            reason=organization.status_reason,
            message=organization.status_message,
            database_name=new.spare.database_name,
            role_name=new.spare.role_name,
            sealed_password=new.spare.sealed_password,
            fingerprint=new.fingerprint,
            migration_attempts=0,
            migration_error="",
            archived_backup=None,
            archived_from="",
        )
        if not moved:
            raise OrganizationBusy(organization.name)
        if has_role:
            identity.change(session, archived, state=identity.State.MOVED, backup="")
        identity.change(
            session,
            arrives,
            key=organization.key,
            state=identity.State.LET_IN,
            deletion="",
            organization=organization.pk,
            cloned_from=organization.cloned_from,
        )
        SpareDatabase.objects.filter(pk=new.spare.pk).delete()
        if before == Status.ACTIVE:
            wake(organization.pk)
    registry.forget(organization.tenant.alias)


def _move_files(organization: Organization, spare: SpareDatabase) -> None:
    # Nothing has written there since leftovers.remove_files.
    try:
        os.rename(storage.folder_of(spare.key), storage.folder_of(organization.key))
        os.sync()
    except OSError as error:
        why = f"its files were not moved ({error.strerror})."
        raise RestoreFailed(organization.name, why) from error
