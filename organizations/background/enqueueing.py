"""Enqueues jobs: one row in the master, in the caller's transaction."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job

from organizations.errors import ServerUnavailable
from organizations.jobs.frame import lock_of
from organizations.jobs.models import JobProgress
from organizations.provisioning import code, spares

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from organizations.models import Organization, OrganizationQuerySet

_AT_A_TIME = 500
_PAUSE_AFTER_FAILURE_SECONDS = 60.0


@contextmanager
def in_master() -> Iterator[None]:
    """A transaction in the master; Procrastinate's errors become ServerUnavailable."""
    try:
        with transaction.atomic(using="default"):
            yield
    except ConnectorException as error:
        raise ServerUnavailable from error


def migrations(
    organizations: "QuerySet[Organization]",
    *,
    label: str | None = None,
    name: str | None = None,
    fingerprint: str = "",
) -> int:
    """Enqueue a migration of each, to the newest by default. Returns the number of new jobs.

    fingerprint: what each has afterwards; a worker with other code leaves the job to the others. An
    organization with the same job waiting gets no second one.
    """
    parts = {"label": label, "name": name, "fingerprint": fingerprint}
    arguments = {key: part for key, part in parts.items() if part}
    target = ":".join(arguments.values())
    return _fan_out("migrate_organization", organizations, arguments, key=f"migrate:{target}")


def clean_up(organizations: "QuerySet[Organization]") -> int:
    """Enqueue a clean-up of each one's database. Returns the number of new jobs."""
    return _fan_out("clean_up_organization", organizations, {}, key="clean_up")


def back_up(organizations: "OrganizationQuerySet", *, within_seconds: int = 0) -> int:
    """Enqueue a backup of each. Returns the number of new jobs.

    Not of read-only ones, which were made from a backup. within_seconds: spread over so much time,
    each at a moment given by the organization's key.
    """
    return _spread("back_up_organization", organizations.writable(), within_seconds)


def verify(organizations: "QuerySet[Organization]", *, within_seconds: int = 0) -> int:
    """Enqueue a verification of each one's newest backup. As back_up."""
    return _spread("verify_backup", organizations, within_seconds)


def _spread(task_name: str, organizations: "QuerySet[Organization]", within_seconds: int) -> int:
    rows = organizations.order_by("pk").values_list("pk", "key").iterator()
    return _defer_all(
        unlocked(task_name, pk, seconds=int(key[:8], 16) % max(1, within_seconds))
        for pk, key in rows
    )


def unlocked(
    task_name: str, organization_id: int, *, seconds: int = 0, priority: int | None = None
) -> Job:
    """A job without the organization's lock, after a delay: others do not wait for it.

    priority: by default the task's.
    """
    job = app.tasks[task_name].configure(
        queueing_lock=f"{task_name}:{organization_id}",
        schedule_in={"seconds": seconds} if seconds else None,
        priority=priority,
        task_kwargs={"organization_id": organization_id},
    )
    return job.job


def platform_job(task_name: str) -> int | None:
    """Enqueue a job without an organization; None if one is already waiting."""
    with suppress(AlreadyEnqueued), in_master():
        return app.tasks[task_name].defer()
    return None


def said(number: int | None) -> str:
    """The message for platform_job's result."""
    return "A job is already waiting." if number is None else f"Job {number} enqueued."


def refill() -> int | None:
    """Enqueue a refill of this code's spare databases; None if one is already waiting.

    The job carries the code's fingerprint: a worker with other code would make spares of its own
    code, and report success.
    """
    fingerprint = code.current().fingerprint
    name = f"refill_spares:{fingerprint}"
    job = app.tasks["refill_spares"].configure(lock=name, queueing_lock=name)
    with suppress(AlreadyEnqueued), in_master():
        return job.defer(fingerprint=fingerprint)
    return None


def refill_if_due() -> None:
    """Enqueue a refill if spare databases are missing or surplus.

    Not when a refill is already queued, nor right after a failed one.
    """
    if not (spares.missing() or spares.surplus()):
        return
    jobs = ProcrastinateJob.objects.filter(
        task_name="refill_spares", args__fingerprint=code.current().fingerprint
    )
    if jobs.filter(status__in=("todo", "doing")).exists():
        return
    lately = timezone.now() - timedelta(seconds=_PAUSE_AFTER_FAILURE_SECONDS)
    failed = jobs.filter(status="failed").values("pk")
    if not JobProgress.objects.filter(job_id__in=failed, updated_at__gt=lately).exists():
        refill()


def _fan_out(
    task_name: str, organizations: "QuerySet[Organization]", arguments: dict[str, str], *, key: str
) -> int:
    ids = organizations.order_by("pk").values_list("pk", flat=True).iterator()
    return _defer_all(_job(task_name, pk, arguments, key=key) for pk in ids)


def _defer_all(jobs: Iterator[Job]) -> int:
    new = 0
    while some := list(islice(jobs, _AT_A_TIME)):
        new += _defer(some)
    return new


def _job(task_name: str, organization_id: int, arguments: dict[str, str], *, key: str) -> Job:
    return (
        app.tasks[task_name]
        .configure(
            lock=lock_of(organization_id),
            queueing_lock=f"{key}:{organization_id}",
            task_kwargs={"organization_id": organization_id, **arguments},
        )
        .job
    )


def _defer(jobs: list[Job]) -> int:
    """Enqueue all at once, or one by one if there is a duplicate. Returns how many were new."""
    with suppress(AlreadyEnqueued), in_master():
        app.job_manager.batch_defer_jobs(jobs)
        return len(jobs)
    new = 0
    for job in jobs:
        with suppress(AlreadyEnqueued), in_master():
            app.job_manager.defer_job(job)
            new += 1
    return new
