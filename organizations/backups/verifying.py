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
    BackupInvalid,
    BackupNewer,
    BackupNotFound,
    BackupNotRestorable,
    BackupNotVerified,
    BackupTookTooLong,
    OrganizationError,
)
from organizations.jobs import alarms
from organizations.migrating.session import applied_in
from organizations.models import BackupRun, Organization
from organizations.postgres import programs, transfer
from organizations.postgres.sessions import ServerSession
from organizations.postgres.watching import BackupWatch
from organizations.provisioning.scratch import scratch_database
from organizations.tenancy import guard, trail

from . import manifest, runs, storing
from .encryption import Chunks
from .manifest import Manifest

logger = logging.getLogger(__name__)

State = BackupRun.State
_VERIFIABLE = (State.GOOD, State.BAD)
# A worker retries errors that say nothing about the backup for about two hours.
_RETRIED_SECONDS = 3 * 3_600


def newest_good(organization: Organization) -> BackupRun | None:
    """The newest backup that no verification has refused."""
    good = BackupRun.objects.filter(state=State.GOOD)
    return good.filter(organization_key=organization.key).first()


def unverified(organization: Organization) -> QuerySet[BackupRun]:
    """Its good backups that were never verified, the newest first."""
    good = BackupRun.objects.filter(state=State.GOOD, verified_at=None)
    return good.filter(organization_key=organization.key)


def bad(organization: Organization) -> QuerySet[BackupRun]:
    """Its backups that a verification has refused, the newest first."""
    refused = BackupRun.objects.filter(state=State.BAD)
    return refused.filter(organization_key=organization.key)


def verify(run: BackupRun, *, name: str, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Verify a backup, and record when, or why it is bad. A bad one can become good again.

    name: the organization's, for errors. goes_on: false ends it. Raises BackupDamaged,
    BackupForeign and BackupNotRestorable, after which the backup counts as bad: the evidence is
    its own content. All others say nothing about it: BackupNotVerified, BackupTookTooLong,
    BackupUnsigned, BackupNewer, BackupRunning, BackupNotFound, BackupStorageFailed,
    HistoryUnreadable, ProgramMissing, ProgramTooOld, ProgramTooNew, ProvisioningInTransaction,
    InstallationUnclaimed, ServerUnavailable and ServerRefused.
    """
    with runs.locked(run.organization_key, name=name) as session:
        if not BackupRun.objects.filter(pk=run.pk, state__in=_VERIFIABLE).exists():
            raise BackupNotFound(name)  # It was removed meanwhile.
        run.refresh_from_db()
        try:
            stopped = BackupNotVerified(name, "It was stopped.")
            _verify(session, run, BackupWatch(name, "verification", goes_on, stopped=stopped))
        except OrganizationError as error:
            _record(run, error)
            facts = {"backup": run.pk, "organization": run.organization_id}
            logger.error("backup not verified", extra=facts, exc_info=error)
            raise
        _record(run, None)


def check(
    session: ServerSession, run: BackupRun, *, watch: Callable[[], None] = lambda: None
) -> Manifest:
    """The backup's manifest, whose signature and parts are right. Nothing of it is run.

    watch: called repeatedly; what it raises ends it. Raises BackupInvalid's subclasses,
    BackupUnsigned, BackupNewer and BackupStorageFailed.
    """
    content = storing.read_manifest(run.folder)
    read = manifest.read(content, run, installation=session.installation)
    here, made = server_version(session), read.server_version // 10_000
    if made > here:
        raise BackupNewer(run.folder, f"PostgreSQL {made} made it, and this server is {here}")
    for part in read.parts:
        for _ in storing.read(run.folder, part):
            watch()
    return read


def server_version(session: ServerSession) -> int:
    """The server's major version."""
    return session.connection.info.server_version // 10_000


def restore(
    run: BackupRun,
    read: Manifest,
    where: dict[str, Any],
    *,
    server: int,
    name: str,
    until: float,
    goes_on: Callable[[], bool] = lambda: True,
    act: str = "verification",
) -> None:
    """Restore a checked backup's database into the empty one at `where`, as its owner.

    server: its major version. until: by time.monotonic(). goes_on: false ends it. act: what it is
    for, in errors. Raises BackupDamaged if the dump changed since it was checked,
    BackupNotVerified if pg_restore failed or was stopped, BackupTookTooLong, BackupStorageFailed,
    ProgramMissing, ProgramTooOld and ProgramTooNew.
    """
    client = programs.major_version("pg_restore", server=server, at_least=read.client_version)
    (part,) = (part for part in read.parts if part.name == storing.DUMP)
    load(
        storing.read(run.folder, part),
        where,
        client=client,
        name=name,
        until=until,
        goes_on=goes_on,
        act=act,
        facts={"backup": run.pk},
    )


def load(
    dump: Chunks,
    where: dict[str, Any],
    *,
    client: int,
    name: str,
    until: float,
    goes_on: Callable[[], bool],
    act: str,
    facts: dict[str, Any],
) -> None:
    """Run pg_restore with these chunks, as `restore` does.

    client: its major version. facts: for the log.
    """
    command = transfer.restore_command(in_parts=client >= transfer.PARTS_SINCE)
    with programs.Run(
        command, where, stdin=subprocess.PIPE, until=until, goes_on=goes_on
    ) as running:
        with closing(dump) as chunks, suppress(BrokenPipeError):
            for chunk in chunks:
                running.stdin.write(chunk)
        with suppress(BrokenPipeError):
            running.stdin.close()
        running.end()
    if running.was_late:
        raise BackupTookTooLong(name, act, seconds=settings.BACKUP_DEADLINE_SECONDS)
    if running.was_stopped:
        raise BackupNotVerified(name, "It was stopped.")
    if running.returncode:
        # pg_restore tells no SQLSTATE, and the server's sentence can be in any language: it may
        # have lacked disk or memory as well.
        logger.error("pg_restore failed", extra={**facts, "output": running.words})
        raise BackupNotVerified(name, "pg_restore ended with an error; the log has its output.")


def _verify(session: ServerSession, run: BackupRun, watch: BackupWatch) -> None:
    read = check(session, run, watch=watch)
    with scratch_database(session) as where:
        try:
            restore(
                run,
                read,
                where,
                server=server_version(session),
                name=watch.name,
                until=watch.until,
                goes_on=watch.goes_on,
            )
            compare(run, read, where, until=watch.until)
        except (psycopg.Error, BackupNotVerified) as error:
            session.value("SELECT true")  # Else the server is unavailable.
            if isinstance(error, BackupNotVerified):
                raise
            watch()
            why = f"The restored database could not be read ({type(error).__name__})."
            raise BackupNotVerified(watch.name, why) from error


def compare(run: BackupRun, read: Manifest, where: dict[str, Any], *, until: float) -> None:
    """Raise BackupNotRestorable unless rows and migrations are the manifest's; or psycopg.Error."""
    connection = guard.Connection.connect(**where, autocommit=True, prepare_threshold=None)
    with connection, guard.time_limit(None):
        connection.lend(max(0.001, until - monotonic()))
        rows, there = transfer.rows_of(connection), applied_in(connection, owner=run.folder)
    if table := transfer.differing(read.rows(), rows):
        why = f"the number of rows in {table} differs from the manifest's"
        raise BackupNotRestorable(run.folder, why)
    if sorted(f"{app}.{migration}" for app, migration in there or ()) != read.migrations:
        raise BackupNotRestorable(run.folder, "its migrations differ from the manifest's")


def _record(run: BackupRun, error: OrganizationError | None) -> None:
    """Write the result. Only evidence from the backup's own content changes its state."""
    is_bad = isinstance(error, BackupInvalid)
    if run.state == State.BAD and error is not None and not is_bad:
        return  # Why it is bad stays on record.
    changes: dict[str, Any] = {"error_code": "", "error": ""}
    if error is None:
        changes |= {"state": State.GOOD, "verified_at": timezone.now()}
    else:
        changes["error_code"], changes["error"] = runs.told(error)
        changes |= {"state": State.BAD} if is_bad else {}
    is_new = changes["error_code"] not in ("", run.error_code)
    with transaction.atomic(using="default"):
        mine = BackupRun.objects.filter(pk=run.pk, state__in=_VERIFIABLE)
        if mine.update(**changes):
            if error is None or is_bad:
                act = "backup.verified" if error is None else "backup.refused"
                facts = {"backup": run.key, "error": changes["error_code"]}
                trail.record(act, organization_id=run.organization_id, facts=facts)
            if is_new:
                alarms.order(run.key, seconds=0 if is_bad else _RETRIED_SECONDS)
    for field, value in changes.items():
        setattr(run, field, value)
