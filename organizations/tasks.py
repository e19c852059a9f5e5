"""The background jobs and their schedules. Each can be repeated: a worker can die at any point.

Procrastinate imports this module once Django is ready (contrib/django/apps.py, get_import_paths).
"""

from contextlib import suppress
from functools import partial
from typing import Any

from django.conf import settings
from procrastinate.contrib.django import app

from accounts.expiry import prune_sessions
from organizations.backups import due, making, verifying
from organizations.errors import BackupNotFound, ExportExists, OtherCode
from organizations.models import Organization
from organizations.provisioning import code, refill

from . import lifecycle
from .background import archives, clones, enqueueing, exports, mails, pruning, restores, sign_ups
from .background.migrating import migrate
from .exporting import export
from .jobs import alarms
from .jobs.frame import Progress, organization_job, platform_job
from .jobs.retries import Backoff, Once, Patience, Unhurried
from .postgres.sessions import open_session
from .secrets import note_signing_keys

SIGN_UPS, MAILS, MIGRATIONS, UPKEEP = "sign-ups", "mails", "migrations", "upkeep"
BACKUPS = "backups"
QUEUES = (SIGN_UPS, MAILS, MIGRATIONS, BACKUPS, exports.QUEUE, UPKEEP)
# Backups begin in the first hours of the day (UTC), verifications in as many after them.
_NIGHT_SECONDS = 5 * 3_600


@app.task(name="sign_up", queue=SIGN_UPS, priority=10, retry=Backoff(), pass_context=True)
@platform_job
def sign_up(progress: Progress, *, sign_up_id: int) -> None:
    """Create the organization of a sign-up that was answered 202."""
    sign_ups.carry_out(sign_up_id, progress)


# Without the lock: mails and other jobs of the organization do not wait for each other.
@app.task(name="send_mail", queue=MAILS, priority=5, retry=Patience(), pass_context=True)
@partial(organization_job, exclusive=False)
def send_mail(organization: Organization, progress: Progress, **facts: Any) -> None:
    """Send an ordered mail, if it is still wanted."""
    progress.tell("sending")
    mails.send(organization, progress.job_id, **facts)


@app.task(name=alarms.TASK, queue=MAILS, priority=5, retry=Patience(), pass_context=True)
@platform_job
def send_alarm(progress: Progress, *, backup: str, is_late: bool = False) -> None:
    """Tell ADMINS that a backup was not verified, unless it was since."""
    progress.tell("sending")
    mails.alarm(backup, is_late=is_late)


@app.task(name="migrate_organization", queue=MIGRATIONS, retry=Backoff(), pass_context=True)
@partial(organization_job, even_suspended=True)
def migrate_organization(
    organization: Organization,
    progress: Progress,
    *,
    label: str | None = None,
    name: str | None = None,
    fingerprint: str = "",
) -> None:
    """Migrate one organization's database; to the code's newest migrations by default."""
    progress.tell("migrating")
    migrate(organization, label=label, name=name, fingerprint=fingerprint)


@app.task(name=exports.TASK, queue=exports.QUEUE, retry=Backoff(), pass_context=True)
@organization_job
def export_organization(organization: Organization, progress: Progress, *, name: str) -> None:
    """Write the export that the organization's admins asked for, in place of an earlier one."""
    progress.tell("exporting")
    # It exists if a worker died right after, or was only taken for dead.
    with progress.until_asked(), suppress(ExportExists):
        export.export_organization(organization, exports.new_path(name), goes_on=progress.goes_on)
    exports.keep_only(name)


@app.task(name="clean_up_organization", queue=UPKEEP, retry=Backoff(), pass_context=True)
@partial(organization_job, even_suspended=True)
def clean_up_organization(organization: Organization, progress: Progress) -> None:
    """Delete expired rows in one organization's database."""
    progress.tell("deleting expired logins")
    prune_sessions(goes_on=progress.goes_on)
    progress.stop_if_asked()


# Without the lock: a deletion, migrations and mails do not wait for a long backup.
@app.task(
    name="back_up_organization", queue=BACKUPS, priority=-5, retry=Unhurried(), pass_context=True
)
@partial(organization_job, exclusive=False, even_suspended=True)
def back_up_organization(organization: Organization, progress: Progress) -> None:
    """Back up one organization."""
    progress.tell("backing up")
    with progress.until_asked():
        making.back_up(organization, goes_on=progress.goes_on)


@app.task(name="verify_backup", queue=BACKUPS, priority=-5, retry=Unhurried(), pass_context=True)
@partial(organization_job, exclusive=False, even_suspended=True)
def verify_backup(organization: Organization, progress: Progress) -> None:
    """Verify an organization's newest good backup."""
    progress.tell("restoring into a throw-away database")
    run = verifying.newest_good(organization)
    if run is None:
        raise BackupNotFound(organization.name)
    with progress.until_asked():
        verifying.verify(run, name=organization.name, goes_on=progress.goes_on)


# Before backups that wait: somebody waits for it.
@app.task(name=restores.TASK, queue=BACKUPS, priority=5, retry=Unhurried(), pass_context=True)
@partial(organization_job, exclusive=False, even_suspended=True)
def restore_organization(
    organization: Organization,
    progress: Progress,
    *,
    key: str,
    undo: bool,
    source: str,
    beside: str = "",
) -> None:
    """Restore an organization from a backup, or undo a restore, as staff asked.

    source: the key of that BackupRun, or of the Restore to undo. beside: the name of the read-only
    organization to make instead.
    """
    with progress.until_asked():
        if beside:
            lifecycle.restore_beside(
                organization,
                name=beside,
                backup=source,
                key=key,
                tell=progress.tell,
                goes_on=progress.goes_on,
            )
        elif undo:
            progress.tell("switching back")
            lifecycle.undo_restore(organization, of=source, key=key)
        else:
            lifecycle.restore_organization(
                organization,
                backup=source,
                key=key,
                tell=progress.tell,
                goes_on=progress.goes_on,
            )


# Without the lock: it only reads the organization, for as long as a backup.
@app.task(name=clones.TASK, queue=BACKUPS, retry=Unhurried(), pass_context=True)
@partial(organization_job, exclusive=False, even_suspended=True)
def clone_organization(
    organization: Organization, progress: Progress, *, name: str, exact: bool, key: str
) -> None:
    """Clone the organization, as staff asked. key: the clone's."""
    with progress.until_asked():
        lifecycle.clone_organization(
            organization,
            name=name,
            exact=exact,
            key=key,
            goes_on=progress.goes_on,
            tell=progress.tell,
        )


@app.task(
    name=archives.TASKS["archive"], queue=BACKUPS, priority=5, retry=Once(), pass_context=True
)
@platform_job
def archive_organization(progress: Progress, *, organization_id: int) -> None:
    """Archive an organization, as staff asked."""
    organization = Organization.objects.filter(pk=organization_id).first()
    if organization is None or organization.status == Organization.Status.ARCHIVED:
        progress.tell("nothing to do")
        return
    with progress.until_asked():
        lifecycle.archive_organization(organization, tell=progress.tell, goes_on=progress.goes_on)


# Before backups that wait: somebody waits for it.
@app.task(
    name=archives.TASKS["thaw"], queue=BACKUPS, priority=5, retry=Unhurried(), pass_context=True
)
@platform_job
def thaw_organization(progress: Progress, *, organization_id: int) -> None:
    """Thaw an archived organization, as staff or its admin asked."""
    organization = Organization.objects.filter(pk=organization_id).first()
    if organization is None or organization.is_usable:
        progress.tell("nothing to do")
        return
    with progress.until_asked():
        lifecycle.thaw_organization(organization, tell=progress.tell, goes_on=progress.goes_on)


@app.task(name=archives.LINK_TASK, queue=MAILS, priority=5, retry=Backoff(), pass_context=True)
@platform_job
def mail_thaw_link(progress: Progress, *, organization_id: int, host_url: str) -> None:
    """Send the link that brings an archived organization back to its admin."""
    progress.tell("sending")
    archives.mail_link(organization_id, host_url=host_url)


@app.periodic(cron="0 0 * * *")
@app.task(
    name="back_up_nightly",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
    lock="back_up_nightly",
    queueing_lock="back_up_nightly",
)
@platform_job
def back_up_nightly(progress: Progress) -> None:
    """With BACKUP_NIGHTLY, enqueue a backup of each organization, spread over the night."""
    if not settings.BACKUP_NIGHTLY:
        progress.tell("nothing to do: BACKUP_NIGHTLY is off")
        return
    progress.tell("enqueueing the organizations")
    organizations = Organization.objects.reachable()
    enqueueing.back_up(organizations, within_seconds=_NIGHT_SECONDS)


@app.periodic(cron="0 5 * * *")
@app.task(
    name="verify_nightly",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
    lock="verify_nightly",
    queueing_lock="verify_nightly",
)
@platform_job
def verify_nightly(progress: Progress) -> None:
    """With BACKUP_NIGHTLY, enqueue verifications after the backups, so that each organization has
    one in BACKUP_VERIFY_DAYS."""
    if not (settings.BACKUP_NIGHTLY and settings.BACKUP_VERIFY_DAYS):
        progress.tell("nothing to do: BACKUP_NIGHTLY or BACKUP_VERIFY_DAYS is off")
        return
    progress.tell("enqueueing the organizations")
    organizations = Organization.objects.reachable().filter(pk__in=due.tonight())
    enqueueing.verify(organizations, within_seconds=_NIGHT_SECONDS)


@app.task(
    name="refill_spares",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
)
@platform_job
def refill_spares(progress: Progress, *, fingerprint: str = "") -> None:
    """Make missing spare databases.

    fingerprint: of the code they are for; empty: the worker's. Raises OtherCode.
    """
    if fingerprint not in ("", code.current().fingerprint):
        raise OtherCode
    progress.tell("making spare databases")
    with open_session() as session:
        refill.fill(session, goes_on=progress.goes_on)
    progress.stop_if_asked()


@app.periodic(cron="*/5 * * * *")
@app.task(
    name="reconcile",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
    lock="reconcile",
    queueing_lock="reconcile",
)
@platform_job
def reconcile(progress: Progress) -> None:
    """Finish or undo interrupted work, except what is still being worked on."""
    progress.tell("reconciling")
    lifecycle.reconcile_organizations(wait_seconds=0.1)
    note_signing_keys()
    sign_ups.give_up_abandoned()
    mails.forget_addresses()


@app.periodic(cron="17 3 * * *")
@app.task(
    name="clean_up",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
    lock="clean_up",
    queueing_lock="clean_up",
)
@platform_job
def clean_up(progress: Progress) -> None:
    """Delete expired exports, backups and rows in the master; drop, once due, deleted and read-only
    organizations and what restores kept; enqueue the clean-up of each organization."""
    progress.tell("deleting what expired outside organizations' databases")
    pruning.prune(goes_on=progress.goes_on)
    progress.stop_if_asked()
    progress.tell("enqueueing the organizations")
    enqueueing.clean_up(Organization.objects.reachable())
