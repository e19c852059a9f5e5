"""Enqueues restores for staff, and reports the state of an organization's newest one."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.core.exceptions import ValidationError
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent
from procrastinate.exceptions import AlreadyEnqueued

from organizations import lifecycle
from organizations.audit import unmarked
from organizations.errors import NothingToUndo, RestoreRunning
from organizations.models import Organization, Restore
from organizations.naming import name_key, slug_for
from organizations.restoring import restore
from organizations.restoring.beside import name_of
from organizations.tenancy import trail
from organizations.tenancy.trail import Fact

from .enqueueing import in_master
from .newest import Job, newest_job

TASK = "restore_organization"


@dataclass(frozen=True, slots=True)
class Newest:
    """state: none, waiting, running, switching, done, undone or failed. users: how many change, by
    what changes. undo_until: until when an undo is possible, whichever restore kept the database;
    None: it is not. name, id: of the read-only organization; id: while it exists."""

    state: str
    undo: bool = False
    backed_up_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    undo_until: datetime | None = None
    users: dict[str, int] = field(default_factory=dict)
    error: str = ""
    beside: bool = False
    name: str = ""
    id: int | None = None


def order(
    organization: Organization,
    *,
    at: datetime | None = None,
    undo: bool = False,
    beside: bool = False,
    name: str = "",
    mark: Callable[[], object] = unmarked,
) -> None:
    """Enqueue a restore from the newest backup, or from the newest begun by `at`; or undo the
    newest restore.

    The backup or restore is chosen now: the job can run much later, and takes no other. beside:
    make a read-only organization of this name; by default with the backup's time. mark: called in
    the commit. Raises ValidationError by field, WrongState, BackupNotFound, NothingToUndo,
    RestoreRunning and ServerUnavailable; beside also as lifecycle.check_beside does.
    """
    if undo and at is not None:
        raise ValidationError({"at": ["Leave out the time: an undo has none."]})
    if undo and beside:
        raise ValidationError({"beside": ["An undo cannot make another organization."]})
    if name and not beside:
        raise ValidationError({"name": ["Only a restore beside it takes a name."]})
    organization.require_usable()
    organization.require_writable()
    if undo:
        source = restore.kept_by(organization).key
    else:
        run = restore.backup_of(organization, at=at)
        source = run.key
        if beside:
            name = name or name_of(organization, run.started_at)
            name = lifecycle.check_beside(organization, name=name)
    if newest_job(TASK, organization.pk).is_under_way:
        raise RestoreRunning(organization.name)
    job = app.tasks[TASK].configure(queueing_lock=f"restore:{organization.pk}")
    key, when = secrets.token_hex(16), at.isoformat() if at else ""
    facts: dict[str, Fact] = {"restore": key, "undo": undo, "at": when, "beside": beside}
    if beside:
        facts["slug"] = slug_for(name_key(name))
    try:
        with in_master():
            trail.record(
                "organization.restore_asked",
                organization_id=organization.pk,
                facts=facts,
            )
            # Older code refuses a job with this argument: it never runs an ordinary restore.
            new = {"beside": name} if beside else {}
            job.defer(organization_id=organization.pk, key=key, undo=undo, source=source, **new)
            mark()
    except AlreadyEnqueued as error:
        raise RestoreRunning(organization.name) from error


def newest(organization: Organization) -> Newest:
    """The newest restore of the organization, by a job or by the command."""
    job = newest_job(TASK, organization.pk)
    own, name, asked = None, "", Newest("none")
    if job.state != "none":
        own = Restore.objects.filter(key=job.args["key"]).first()
        name = job.args.get("beside", "")
        asked = Newest(job.state, undo=job.args["undo"], beside=bool(name), name=name)
        if job.is_under_way and (own is None or own.state == Restore.State.FAILED):
            return asked
    # After `own`, which a worker may have begun in between.
    row = Restore.objects.filter(organization_key=organization.key).first()
    if own is None and job.state == "failed" and (row is None or _is_older(row, job)):
        return replace(asked, error=job.error)
    if row is None:
        return Newest("none")
    made = Organization.objects.usable().filter(pk=row.beside_id or 0).first()
    return Newest(
        row.state,
        undo=row.is_undo,
        backed_up_at=row.backed_up_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        undo_until=_undo_until(organization),
        users=row.users,
        error=row.error,
        beside=row.is_beside,
        name=made.name if made is not None else name if own == row else "",
        id=None if made is None else made.pk,
    )


def _undo_until(organization: Organization) -> datetime | None:
    try:
        return restore.kept_by(organization).kept_until
    except NothingToUndo:
        return None


def _is_older(row: Restore, job: Job) -> bool:
    events = ProcrastinateEvent.objects.filter(job_id=job.job).order_by("at")
    asked = events.values_list("at", flat=True).first()
    return asked is None or row.started_at < asked
