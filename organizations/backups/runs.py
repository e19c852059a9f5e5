"""Records backups in the master: begun, good, failed, interrupted.

Making, verifying or removing a backup of an organization, restoring and cloning it need its backup
lock. That is not the organization's lock: a deletion does not wait for a backup, but ends its
sessions.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from organizations.errors import (
    BackupDamaged,
    BackupFailed,
    BackupNeeded,
    BackupRunning,
    OrganizationError,
    ProvisioningInTransaction,
)
from organizations.models import BackupRun, Organization
from organizations.postgres.sessions import ServerSession, open_session
from organizations.tenancy import TooBusy, trail

from . import manifest, storing
from .manifest import Manifest

logger = logging.getLogger(__name__)

State = BackupRun.State
# Of an error's sentence, which can quote an organization's database.
_MOST_CHARACTERS = 1_000


def lock_of(organization_key: str) -> str:
    """The key of the organization's backup lock, which no organization's name has."""
    return f"\x00backup:{organization_key}"


@contextmanager
def locked(organization_key: str, *, name: str) -> Iterator[ServerSession]:
    """A session that holds the organization's backup lock. Raises BackupRunning if it is taken,
    ProvisioningInTransaction and InstallationUnclaimed."""
    if connections["default"].in_atomic_block:
        raise ProvisioningInTransaction
    with open_session(new=True) as session:
        _ = session.installation
        hold(session, organization_key, name=name)
        yield session


def hold(session: ServerSession, organization_key: str, *, name: str) -> None:
    """Take the backup lock with this session, until it ends. Raises BackupRunning."""
    # No organization has this key.
    if not session.try_lock(lock_of(organization_key)):
        raise BackupRunning(name)


def begin(organization: Organization) -> BackupRun:
    """Record a backup before anything of it is stored. The lock must be held."""
    run = BackupRun(organization_id=organization.pk, organization_key=organization.key)
    run.folder = f"{organization.key}/{run.started_at:%Y%m%dT%H%M%SZ}-{run.key[:8]}"
    run.save(force_insert=True)
    return run


def succeed(run: BackupRun, *, name: str, stored: Manifest) -> None:
    """Record that its manifest is stored. Raises BackupFailed if it was taken for interrupted."""
    now = timezone.now()
    facts: dict[str, Any] = {"bytes": stored.bytes_stored, "encryption_key": stored.key}
    with transaction.atomic(using="default"):
        mine = BackupRun.objects.filter(pk=run.pk, state=State.RUNNING)
        if not mine.update(state=State.GOOD, ended_at=now, **facts):
            raise BackupFailed(name, "its lock was lost meanwhile.")
        trail.record(
            "backup.made",
            organization_id=run.organization_id,
            facts={"backup": run.key, "bytes": stored.bytes_stored},
        )
    run.state, run.ended_at = State.GOOD, now
    run.bytes, run.encryption_key = stored.bytes_stored, stored.key


def fail(run: BackupRun, error: BaseException) -> None:
    """Record the error and remove what is stored; never raises, since the caller reports it."""
    code, sentence = told(error)
    try:
        _end(run, code, sentence)
        _remove(run)
    except (OrganizationError, DatabaseError) as failure:
        # The row says what is left, and reconcile_orgs removes it.
        logger.error("backup not cleaned up", extra={"backup": run.pk}, exc_info=failure)


def told(error: BaseException) -> tuple[str, str]:
    """An error's code and sentence, of bounded length; of errors not our own, only the type."""
    if isinstance(error, OrganizationError):
        return error.code, str(error)[:_MOST_CHARACTERS]
    if isinstance(error, TooBusy):
        return "too_busy", str(error)
    if isinstance(error, Exception):
        return "error", f"{type(error).__name__}. See the log."
    return "stopped", "It was stopped."


def require_storage() -> None:
    """Raise BackupStorageUnknown if the storage is not the one with the backups in the master.

    The installation's first backup marks the storage.
    """
    if not BackupRun.objects.exclude(folder="").exists():
        storing.claim()
    storing.require_ours()


def end_interrupted(session: ServerSession, organization_key: str) -> bool:
    """Record killed runs as failed, and remove what they and failed ones left. Returns whether all
    is done; the rest is logged, and tried again next time.

    session: holds the lock.
    """
    is_done = True
    for run in _unfinished().filter(organization_key=organization_key):
        try:
            _end_interrupted(session, run)
        except OrganizationError as error:
            logger.error("backup not cleaned up", extra={"backup": run.pk}, exc_info=error)
            is_done = False
    return is_done


def _end_interrupted(session: ServerSession, run: BackupRun) -> None:
    """One whose manifest was stored is good: the process died just after, or the master was
    restored from a time when it ran. One whose manifest cannot be judged here stays as it is."""
    if run.state == State.RUNNING:
        try:
            content = storing.read_manifest(run.folder)
            stored = manifest.read(content, run, installation=session.installation)
        except BackupDamaged:
            _end(run, "interrupted", "The process that made it was killed.")
        else:
            succeed(run, name=run.folder, stored=stored)
            return
    _remove(run)


def reconcile() -> tuple[list[str], list[str]]:
    """Finish what killed processes left. Returns descriptions of the done and of the failed.

    What another process works on is skipped.
    """
    done: list[str] = []
    failed: list[str] = []
    found = _unfinished().order_by("organization_key").distinct("organization_key")
    for key, number in found.values_list("organization_key", "organization_id"):
        what = f"backups of organization {number}"
        try:
            with locked(key, name=what) as session:
                (done if end_interrupted(session, key) else failed).append(what)
        except BackupRunning:
            continue
    return done, failed


def remove(run: BackupRun) -> None:
    """Remove a backup and its row. The lock must be held. Raises BackupStorageFailed, and
    BackupNeeded if an archived organization is thawed from it."""
    if Organization.objects.filter(archived_backup=run.pk).exists():
        raise BackupNeeded(run.folder)
    # First: what is half removed is no good backup any more.
    with transaction.atomic(using="default"):
        others = BackupRun.objects.filter(pk=run.pk).exclude(state=State.REMOVING)
        if others.update(state=State.REMOVING):
            facts = {"backup": run.key}
            trail.record("backup.removed", organization_id=run.organization_id, facts=facts)
    run.state = State.REMOVING
    _remove(run)


def _unfinished() -> QuerySet[BackupRun]:
    left = Q(state=State.FAILED) & ~Q(folder="")
    return BackupRun.objects.filter(Q(state__in=(State.RUNNING, State.REMOVING)) | left)


def _end(run: BackupRun, code: str, sentence: str) -> None:
    facts = {"backup": run.key, "error": code}
    with transaction.atomic(using="default"):
        BackupRun.objects.filter(pk=run.pk).update(
            state=State.FAILED, ended_at=timezone.now(), error_code=code, error=sentence
        )
        trail.record("backup.failed", organization_id=run.organization_id, facts=facts)
    run.state = State.FAILED


def _remove(run: BackupRun) -> None:
    if run.folder:
        storing.remove(run.folder)
    if run.state == State.REMOVING:
        BackupRun.objects.filter(pk=run.pk).delete()
    else:
        BackupRun.objects.filter(pk=run.pk).update(folder="")
