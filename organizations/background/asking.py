"""Enqueues backups, verifications and exports for staff."""

from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from django.db import connections
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from organizations import tenancy
from organizations.audit import unmarked
from organizations.backups import verifying
from organizations.errors import BackupNotFound, OrganizationBusy
from organizations.models import Organization
from organizations.tenancy import trail

from . import exports
from .enqueueing import in_master, unlocked
from .newest import Job, newest_job

What = Literal["backup", "verify", "export"]
_TASKS: dict[str, str] = {
    "backup": "back_up_organization",
    "verify": "verify_backup",
    "export": exports.TASK,
}
# A nightly one can wait for hours, and somebody wants it now.
_HASTEN = """
UPDATE procrastinate_jobs SET scheduled_at = NULL, priority = GREATEST(priority, %s)
WHERE queueing_lock = %s AND status = 'todo'
"""
_PRIORITY = 0
_TRIES = 3


def back_up(organization: Organization, *, mark: Callable[[], object] = unmarked) -> None:
    """Enqueue a backup, or let the one that waits run at once. Raises WrongState.

    mark: called in the commit.
    """
    _ask("backup", organization, mark)


def verify(organization: Organization, *, mark: Callable[[], object] = unmarked) -> None:
    """The same for a verification of its newest good backup. Raises BackupNotFound too."""
    organization.require_writable()
    if verifying.newest_good(organization) is None:
        raise BackupNotFound(organization.name)
    _ask("verify", organization, mark)


def export(organization: Organization, *, mark: Callable[[], object] = unmarked) -> None:
    """Enqueue an export for the organization's admins, who alone can download it.

    mark: called in the commit. Raises WrongState. While it is suspended, the job waits.
    """
    organization.require_usable()
    with tenancy.override(organization.tenant):
        exports.ask(mark=mark)


def newest(what: What, organization: Organization) -> Job:
    """The organization's newest job of the kind."""
    return newest_job(_TASKS[what], organization.pk)


def _ask(what: What, organization: Organization, mark: Callable[[], object]) -> None:
    organization.require_usable()
    organization.require_writable()
    act = "backup.asked" if what == "backup" else "verification.asked"
    for _ in range(_TRIES):
        with in_master():
            # Not with the key of the one that waits: it can have begun between the statements.
            if _enqueued(what, organization) or _hastened(what, organization):
                trail.record(act, organization_id=organization.pk)
                mark()
                return
    raise OrganizationBusy(organization.name)


def _enqueued(what: What, organization: Organization) -> bool:
    """Whether there is a new job; False if one waits already."""
    with suppress(AlreadyEnqueued), in_master():
        app.job_manager.defer_job(unlocked(_TASKS[what], organization.pk, priority=_PRIORITY))
        return True
    return False


def _hastened(what: What, organization: Organization) -> bool:
    """Whether the waiting job waits no longer; False if it began meanwhile."""
    lock = unlocked(_TASKS[what], organization.pk).queueing_lock
    with connections["default"].cursor() as cursor:
        cursor.execute(_HASTEN, (_PRIORITY, lock))
        return bool(cursor.rowcount)
