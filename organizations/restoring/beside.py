"""Restores a backup beside its organization: a new one, read-only and for days, to look at.

Until the last commit it is a throw-away database, which reconcile_orgs drops if the process dies.
That commit makes it an organization, which is dropped when its time is over (deleting/delete.py).
The other one is not touched: its backup or a file is read, never its database.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.validators import check_fields
from organizations.errors import OrganizationBusy, OrganizationNotFound, RestoreFailed
from organizations.models import BackupRun, Organization, Restore, SpareDatabase, random_key
from organizations.naming import display_name
from organizations.naming import name_key as key_of
from organizations.postgres import identity
from organizations.postgres.roles import read_only
from organizations.postgres.sessions import ServerSession, refuse_in_transaction
from organizations.provisioning import ceiling, spares
from organizations.provisioning import making as provisioning
from organizations.provisioning.names import free_name
from organizations.tenancy import trail
from organizations.tenancy.tenant import MAX_NAME_LENGTH
from organizations.tenancy.trail import Fact
from organizations.validators import SignUp, validate_name

from . import making
from .making import New, Source, Watch, silent
from .restore import backup_of, begun

logger = logging.getLogger(__name__)

# For another process that works on the new name.
_WAIT_SECONDS = 5.0


def name_of(organization: Organization, moment: datetime) -> str:
    """What it is called unless somebody says otherwise."""
    ending = f" as of {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{organization.name[: MAX_NAME_LENGTH - len(ending)]}{ending}"


def check_beside(organization: Organization, *, name: str) -> str:
    """The new name as it will be shown. Raises what restore_beside raises before it begins."""
    refuse_in_transaction()
    check_fields(name=lambda: validate_name(name))
    name = display_name(name)
    organization.require_usable()
    organization.require_writable()
    ceiling.refuse_name(name)
    return name


def restore_beside(
    organization: Organization,
    *,
    name: str = "",
    at: datetime | None = None,
    backup: str = "",
    file: Path | None = None,
    key: str = "",
    tell: Callable[[str], None] = silent,
    goes_on: Callable[[], bool] = lambda: True,
) -> Organization:
    """Make a read-only organization from a backup of this one, for ORG_BESIDE_DAYS.

    Its users log in with the backup's passwords, but not while it is suspended: it is made so if
    this one is. It sends no mail, and is dropped without grace.
    name: by default with the time of the backup. at, backup, file: as for restore_organization; of
    a file there are no files to unpack. key: of the restore; one that is done is not done again.
    goes_on: false ends it. Raises ValidationError by field (name), OrganizationExists,
    OrganizationBusy, OrganizationNotFound, TooManyOrganizations, MigrationsIncoherent,
    BackupNotFound, BackupRunning, WrongState, RestoreFailed, ProvisioningInTransaction, and what
    verifying.check and verifying.restore raise. Then nothing of it is left.
    """
    refuse_in_transaction()
    if name:
        check_fields(name=lambda: validate_name(name))
    with begun(organization, key=key or random_key(), is_beside=True) as (session, row):
        if row.state != Restore.State.RUNNING:
            return Organization.objects.get(pk=row.beside_id or 0)
        run = None if file is not None else backup_of(organization, at=at, key=backup)
        if run is not None:
            row.backup, row.backed_up_at = run.key, run.started_at
            row.save(update_fields=["backup", "backed_up_at"])
        name = check_beside(organization, name=name or name_of(organization, _moment(run, file)))
        session.lock(key_of(name), name=name, timeout_seconds=_WAIT_SECONDS)
        slug = free_name(session, name)
        watch = Watch(organization.name, goes_on, tell)
        with making.new_database(session, slug, Source(run, file), watch) as new:
            tell("ending the logins")
            # What is read-only gives no id to a new user.
            making.void_logins(new.spare, 0, watch)
            making.regain(session, new.spare, name=organization.name, is_open=True)
            session.execute(read_only(new.spare.role_name))
            watch()
            tell("opening")
            made = _open(session, row, organization, new, name)
    facts = {"organization": organization.pk, "beside": made.pk}
    logger.info("organization restored beside", extra=facts)
    return made


def _moment(run: BackupRun | None, file: Path | None) -> datetime:
    """Of what it shows. Of a file that cannot be read, making.py says so."""
    if run is not None:
        return run.started_at
    if file is not None and file.is_file():
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return timezone.now()


def _open(
    session: ServerSession, row: Restore, source: Organization, new: New, name: str
) -> Organization:
    """Make the throw-away database an organization's, in one commit."""
    spare = new.spare
    until = timezone.now() + timedelta(days=settings.ORG_BESIDE_DAYS)

    def save(made: Organization) -> Organization:
        made.key, made.server_id = spare.key, spare.server_id
        made.database_name, made.role_name = spare.database_name, spare.role_name
        made.sealed_password, made.fingerprint = spare.sealed_password, new.fingerprint
        made.provisioned = Organization.Step.ADMIN
        made.cloned_from, made.read_only_until = source.pk, until
        with transaction.atomic(using="default"):
            # A deletion of the source waits for this commit, or this one sees it.
            locked = Organization.objects.usable().select_for_update().filter(pk=source.pk).first()
            if locked is None:
                raise OrganizationNotFound(source.name)
            # Whoever is not let in there is not let in here.
            made.status, made.status_reason = locked.status, locked.status_reason
            made.status_message = locked.status_message
            ceiling.refuse_when_full()
            if not SpareDatabase.objects.filter(pk=spare.pk).delete()[0]:
                why = "it was cleaned up while it was being made."
                raise RestoreFailed(source.name, why)
            made.save(force_insert=True)
            identity.change(
                session,
                spares.expected(spare),
                state=identity.State.LET_IN,
                organization=made.pk,
                cloned_from=source.pk,
                read_only_until=until.isoformat(),
            )
            mine = Restore.objects.filter(pk=row.pk, state=Restore.State.RUNNING)
            if not mine.update(
                state=Restore.State.DONE, ended_at=timezone.now(), beside_id=made.pk
            ):
                raise OrganizationBusy(source.name)  # Its lock was lost meanwhile.
            facts: dict[str, Fact] = {"restore": row.key, "backup": row.backup}
            facts |= {"source": source.pk, "beside": made.pk}
            for each in (source, made):
                act = "organization.restored_beside"
                trail.record(act, organization_id=each.pk, facts=facts)
        return made

    sign_up = SignUp(name, source.admin_email, password="")
    return provisioning.insert(session, sign_up, save)
