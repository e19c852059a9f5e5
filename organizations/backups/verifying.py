"""Verifies a backup: signature and hashes, then a restore into a throw-away database, compared.

The restore runs as a role that owns that database and nothing else, never as a superuser, nor as
the application's role: a dump holds its owner's code.
"""

import logging
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from time import monotonic
from typing import Any

import psycopg
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from organizations.errors import (
    BackupFailed,
    BackupInvalid,
    BackupNewer,
    BackupNotFound,
    BackupNotRestorable,
    BackupTookTooLong,
    OrganizationError,
)
from organizations.migrating.session import applied_in
from organizations.models import BackupRun, Organization
from organizations.postgres import programs, transfer
from organizations.postgres.sessions import ServerSession
from organizations.provisioning.scratch import scratch_database
from organizations.tenancy import guard, trail

from . import manifest, runs, storing
from .manifest import Manifest

logger = logging.getLogger(__name__)


def newest_good(organization: Organization) -> BackupRun | None:
    """The newest backup that no verification has refused."""
    good = BackupRun.objects.filter(state=BackupRun.State.GOOD)
    return good.filter(organization_key=organization.key).first()


def unverified(organization: Organization) -> QuerySet[BackupRun]:
    """Its good backups that were never verified, the newest first."""
    good = BackupRun.objects.filter(state=BackupRun.State.GOOD, verified_at=None)
    return good.filter(organization_key=organization.key)


def verify(run: BackupRun, *, name: str, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Verify a good backup, and record when, or why it is bad.

    name: the organization's, for errors. goes_on: false ends it. Raises BackupDamaged,
    BackupUnsigned, BackupForeign, BackupNewer and BackupNotRestorable, after which the backup
    counts as bad; and BackupTookTooLong, BackupFailed if it was stopped, BackupRunning,
    BackupNotFound, BackupStorageFailed, ProgramMissing, ProgramTooOld, ProvisioningInTransaction,
    InstallationUnclaimed, ServerUnavailable and ServerRefused, after which it is as good as before.
    """
    with runs.locked(run.organization_key, name=name) as session:
        try:
            _verify(session, run, name, goes_on)
        except OrganizationError as error:
            _record(run, error)
            facts = {"backup": run.pk, "organization": run.organization_id}
            logger.error("backup not verified", extra=facts, exc_info=error)
            raise
        _record(run, None)


def check(session: ServerSession, run: BackupRun) -> Manifest:
    """The backup's manifest, whose signature and parts are right. Nothing of it is run.

    Raises BackupInvalid's subclasses and BackupStorageFailed.
    """
    content = storing.read_manifest(run.folder)
    read = manifest.read(content, run, installation=session.installation)
    here = session.connection.info.server_version // 10_000
    if read.server_version // 10_000 > here:
        made = read.server_version // 10_000
        raise BackupNewer(run.folder, f"it is of PostgreSQL {made}, and this server is {here}")
    for part in read.parts:
        for _ in storing.read(run.folder, part):
            pass
    return read


def restore(
    run: BackupRun,
    read: Manifest,
    where: dict[str, Any],
    *,
    name: str,
    until: float,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Restore a checked backup's database into the empty one at `where`, as its owner.

    until: by time.monotonic(). goes_on: false ends it. Raises BackupDamaged if the dump changed
    since it was checked, BackupNotRestorable, BackupFailed if it was stopped, BackupTookTooLong,
    BackupStorageFailed, ProgramMissing and ProgramTooOld.
    """
    programs.major_version("pg_restore", at_least=read.client_version)
    (part,) = (part for part in read.parts if part.name == storing.DUMP)
    command = transfer.restore_command()
    with programs.Run(
        command, where, stdin=subprocess.PIPE, until=until, goes_on=goes_on
    ) as running:
        with closing(storing.read(run.folder, part)) as chunks, suppress(BrokenPipeError):
            for chunk in chunks:
                running.stdin.write(chunk)
        with suppress(BrokenPipeError):
            running.stdin.close()
        running.end()
    if running.was_late:
        raise BackupTookTooLong(name, "verification", seconds=settings.BACKUP_DEADLINE_SECONDS)
    if running.was_stopped:
        raise BackupFailed(name, "its verification was stopped.")
    if running.returncode:
        logger.error("pg_restore failed", extra={"backup": run.pk, "output": running.words})
        raise BackupNotRestorable(run.folder, "pg_restore ended with an error; see the log")


def _verify(session: ServerSession, run: BackupRun, name: str, goes_on: Callable[[], bool]) -> None:
    if not BackupRun.objects.filter(pk=run.pk, state=BackupRun.State.GOOD).exists():
        raise BackupNotFound(name)  # It was removed meanwhile, or refused.
    read = check(session, run)
    until = monotonic() + settings.BACKUP_DEADLINE_SECONDS
    with scratch_database(session) as where:
        try:
            restore(run, read, where, name=name, until=until, goes_on=goes_on)
            _compare(run, read, where, until)
        except psycopg.errors.QueryCanceled as error:
            seconds = settings.BACKUP_DEADLINE_SECONDS
            raise BackupTookTooLong(name, "verification", seconds=seconds) from error
        except psycopg.Error as error:
            session.value("SELECT true")  # Else the server is unavailable.
            why = f"its database cannot be read ({type(error).__name__})"
            raise BackupNotRestorable(run.folder, why) from error
        except BackupNotRestorable:
            session.value("SELECT true")
            raise


def _compare(run: BackupRun, read: Manifest, where: dict[str, Any], until: float) -> None:
    connection = guard.Connection.connect(**where, autocommit=True, prepare_threshold=None)
    with connection, guard.time_limit(None):
        connection.lend(max(0.001, until - monotonic()))
        rows, there = transfer.rows_of(connection), applied_in(connection, owner=run.folder)
    if (wanted := read.rows()) != rows:
        differing = sorted(set(wanted.items()) ^ set(rows.items()))[0][0]
        raise BackupNotRestorable(
            run.folder, f"the number of rows in {'.'.join(differing)} differs from the manifest's"
        )
    if sorted(f"{app}.{migration}" for app, migration in there or ()) != read.migrations:
        raise BackupNotRestorable(run.folder, "its migrations differ from the manifest's")


def _record(run: BackupRun, error: OrganizationError | None) -> None:
    """Write the result. Only a fault of the backup's own makes it bad."""
    code, sentence = ("", "") if error is None else runs.told(error)
    changes: dict[str, Any] = {"error_code": code, "error": sentence}
    if error is None:
        run.verified_at = changes["verified_at"] = timezone.now()
    is_bad = isinstance(error, BackupInvalid)
    if is_bad:
        run.state = changes["state"] = BackupRun.State.BAD
    with transaction.atomic(using="default"):
        mine = BackupRun.objects.filter(pk=run.pk, state=BackupRun.State.GOOD)
        if mine.update(**changes) and (error is None or is_bad):
            act = "backup.verified" if error is None else "backup.refused"
            facts = {"backup": run.key, "error": code}
            trail.record(act, organization_id=run.organization_id, facts=facts)
