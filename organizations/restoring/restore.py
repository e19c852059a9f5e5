"""Restores an organization from a backup, and undoes restores.

A new database is made beside the one that serves, and is checked; users that will change are listed
before the switch.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from organizations.backups import finding, runs
from organizations.errors import (
    BackupNotFound,
    NothingToUndo,
    OrganizationNotFound,
    RestoreDeclined,
    RestoreFailed,
    WrongState,
)
from organizations.models import BackupRun, Organization, Restore, SpareDatabase, random_key
from organizations.postgres import identity, transfer
from organizations.postgres.sessions import ServerSession
from organizations.provisioning import media, spares
from organizations.provisioning.kept import NOTHING, expected_kept
from organizations.provisioning.scratch import where
from organizations.provisioning.undoing import expected
from organizations.secrets import unseal
from organizations.tenancy import storage

from . import files, lost, making, switching
from .comparing import Changes, compare, last_id
from .making import Source, Watch, silent

logger = logging.getLogger(__name__)
State = Restore.State


def agreed(changes: Changes) -> bool:
    """Agrees to every change: for a restore that does not ask."""
    return True


def restore_organization(
    organization: Organization,
    *,
    at: datetime | None = None,
    backup: str = "",
    file: Path | None = None,
    key: str = "",
    only_lost: bool = False,
    confirm: Callable[[Changes], bool] = agreed,
    tell: Callable[[str], None] = silent,
    goes_on: Callable[[], bool] = lambda: True,
) -> Restore:
    """Replace the organization's content by a backup's, and keep the previous one aside for days.

    at: from the newest good backup of that time or earlier; None: the newest. backup: the key of
    another one. file: instead, a dump in pg_dump's custom format; then the files stay. key: of the
    restore; one that is done is not done again. only_lost: raise DatabaseThere if its database or
    role exists; and look for backups that the master does not know. confirm: gets the users that
    will change; unless it returns true, nothing is switched. goes_on: false ends it. Requests are
    served until the switch, then wait or get 503 for a moment. All logins and mailed links become
    invalid.
    Raises DatabaseThere, RestoreDeclined, RestoreFailed, BackupNotFound, BackupRunning, WrongState,
    OrganizationNotFound, what verifying.check and verifying.restore raise, and what
    switching.switch raises.
    """
    with begun(organization, key=key or random_key(), only_lost=only_lost) as (session, row):
        if row.state != State.RUNNING:
            return row
        run = None if file is not None else backup_of(organization, at=at, key=backup)
        if run is not None:
            row.backup, row.backed_up_at = run.key, run.started_at
            row.save(update_fields=["backup", "backed_up_at"])
        watch = Watch(organization.name, goes_on, tell)
        slug = organization.slug
        source = Source(run, file)
        with making.new_database(session, slug, source, watch, to=organization) as new:
            tell("comparing the users")
            changes = compare(
                _serving(session, organization),
                where(new.spare),
                name=organization.name,
                until=watch.until,
            )
            row.users = changes.numbers()
            row.save(update_fields=["users"])
            if not confirm(changes):
                raise RestoreDeclined(organization.name)
            last = last_id(_serving(session, organization), until=watch.until)
            making.void_logins(new.spare, last, watch)
            making.regain(session, new.spare, name=organization.name, is_open=False)
            watch()
            spare = new.spare
            files_key = spare.key if new.has_files else ""
            if only_lost and files_key and files.fill(organization.key, spare.key, name=watch.name):
                files_key = ""  # The current files are newer, and stay.
            tell("switching")
            switching.switch(
                session,
                row,
                organization,
                arrives=spares.expected(spare),
                place=spare.place,
                fingerprint=new.fingerprint,
                files_key=files_key,
                also=lambda: SpareDatabase.objects.filter(pk=spare.pk).delete(),
            )
        return row


def undo_restore(organization: Organization, *, of: str = "", key: str = "") -> Restore:
    """Switch back to the database that the newest restore kept, and keep the other one.

    Of several restores, the newest not undone yet. What was written since the restore is in the
    database kept now; after all are undone, another undo brings back the newest of those. The
    database is migrated to this code, and all logins and mailed links become invalid, as after a
    restore. of: the key of the restore to undo; NothingToUndo if it is another one's turn.
    Raises NothingToUndo, BackupRunning, WrongState, OrganizationNotFound, RestoreFailed, and what
    switching.switch raises.
    """
    with begun(organization, key=key or random_key(), is_undo=True) as (session, row):
        if row.state != State.RUNNING:
            return row
        kept = kept_by(organization)
        if of and kept.key != of:
            raise NothingToUndo(organization.name)
        if kept.files and not storage.folder_of(kept.key).is_dir():
            # After the commit no request would be served until a host with them finished it.
            raise RestoreFailed(organization.name, "its kept files are not on this host.")
        arrives = expected_kept(kept)
        watch = Watch(organization.name, lambda: True, silent)
        last = last_id(_serving(session, organization), until=watch.until)
        place, fingerprint = making.renewed(session, kept, arrives, last, watch)
        switching.switch(
            session,
            row,
            organization,
            arrives=arrives,
            place=place,
            fingerprint=fingerprint,
            files_key=kept.key if kept.files else "",
            also=lambda: _mark_undone(kept),
        )
        return row


def kept_by(organization: Organization) -> Restore:
    """The restore whose database an undo would bring back. Raises NothingToUndo."""
    rows = Restore.objects.keeping().filter(organization_key=organization.key, state=State.DONE)
    found = rows.exclude(database_name="").order_by("is_undo", "-pk").first()
    if found is None:
        raise NothingToUndo(organization.name)
    return found


def _mark_undone(kept: Restore) -> None:
    Restore.objects.filter(pk=kept.pk).update(state=State.UNDONE, **NOTHING)


@contextmanager
def begun(
    organization: Organization,
    *,
    key: str,
    is_undo: bool = False,
    is_beside: bool = False,
    only_lost: bool = False,
) -> Iterator[tuple[ServerSession, Restore]]:
    """The row of a restore, under the backup lock; a failure is recorded with its reason."""
    with runs.locked(organization.key, name=organization.name) as session:
        if only_lost:
            lost.require(organization)
            media.require()  # Otherwise the files of an unfinished switch would count as lost.
            switching.give_up(organization)
        switching.end_interrupted(session, organization.key)
        try:
            organization.refresh_from_db()
        except Organization.DoesNotExist as error:
            raise OrganizationNotFound(organization.name) from error
        if only_lost:
            runs.end_interrupted(session, organization.key)
            finding.record_unknown(session, organization)
        row, _ = Restore.objects.get_or_create(
            key=key,
            defaults={
                "organization_id": organization.pk,
                "organization_key": organization.key,
                "is_undo": is_undo,
                "is_beside": is_beside,
            },
        )
        if row.state == State.FAILED:
            # A retried job.
            row.state, row.error_code, row.error, row.ended_at = State.RUNNING, "", "", None
            row.save()
        try:
            if not organization.is_usable or not organization.sealed_password:
                raise WrongState(
                    organization.name, status=organization.status, wanted="active or suspended"
                )
            organization.require_writable()
            yield session, row
        except BaseException as error:
            switching.fail(row, error)
            raise


def backup_of(
    organization: Organization, *, at: datetime | None = None, key: str = ""
) -> BackupRun:
    """The newest good backup of that time or earlier; None: the newest. key: this one.

    Raises BackupNotFound.
    """
    good = BackupRun.objects.filter(state=BackupRun.State.GOOD, organization_key=organization.key)
    if at is not None:
        good = good.filter(started_at__lte=at)
    if key:
        good = good.filter(key=key)
    run = good.first()
    if run is None:
        raise BackupNotFound(organization.name, until="" if at is None else at.isoformat())
    return run


def _serving(session: ServerSession, organization: Organization) -> dict[str, object] | None:
    """psycopg's parameters of the database that serves; None if there is none."""
    if identity.certain(session, expected(organization)).database is None:
        return None
    password = unseal(organization.sealed_password, owner=organization.name)
    return transfer.parameters(organization.database_name, organization.role_name, password)
