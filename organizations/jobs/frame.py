"""Wraps each job: activates its organization, tracks progress, records errors, cleans up.

Jobs are plain functions that run in the worker's threads.
"""

import functools
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.db.models import QuerySet
from django.utils import timezone
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted

from organizations import tenancy
from organizations.errors import JobRefused, JobWaits, OrganizationError
from organizations.models import Organization
from organizations.tenancy import registry, trail

from .models import JobProgress
from .retries import PARKED

logger = logging.getLogger(__name__)

WAITING = "waiting until the organization is resumed"
# Waiting does not count as a try: Procrastinate adds one when it takes the job back. Of jobs with
# one queueing lock, one waits: under another lock, since the worker cannot put a job back into the
# queue while its own is taken.
_ONE_PARKS = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_PARK = """
UPDATE procrastinate_jobs SET attempts = -1, queueing_lock = %(lock)s
WHERE id = %(id)s AND NOT EXISTS (
    SELECT FROM procrastinate_jobs WHERE queueing_lock = %(lock)s AND id <> %(id)s
    AND status IN ('todo', 'doing'))
"""
_WAKE = """
UPDATE procrastinate_jobs SET scheduled_at = now(), lock = split_part(lock, %s, 1)
WHERE status = 'todo' AND id IN (
    SELECT job_id FROM job_progress WHERE organization_id = %s AND step = %s)
"""
# They may wait for years: its thaw wakes them.
_ARCHIVED_SECONDS = 86_400
_CLEAR_QUEUEING_LOCK = "UPDATE procrastinate_jobs SET queueing_lock = NULL WHERE id = %s"


class Progress:
    """A running job's progress, committed at each step so that staff can read it."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def job_id(self) -> int:
        """The job's id."""
        return self._context.job.id or 0

    @property
    def attempts(self) -> int:
        """The number of earlier tries."""
        return self._context.job.attempts

    def tell(self, step: str, *, done: int = 0, total: int | None = None) -> None:
        """Record where the job is."""
        tell(self.job_id, step, done=done, total=total)

    def goes_on(self) -> bool:
        """False if the job was cancelled, or its worker is stopping and waits no longer."""
        return not self._context.should_abort()

    def stop_if_asked(self) -> None:
        """Raise JobAborted unless `goes_on`. Call it between two complete steps."""
        if not self.goes_on():
            raise JobAborted

    @contextmanager
    def until_asked(self) -> Iterator[None]:
        """A block that `goes_on` can end: its own error is then JobAborted."""
        try:
            yield
        except OrganizationError:
            self.stop_if_asked()
            raise


def tell(job_id: int | None, step: str, *, done: int = 0, total: int | None = None) -> None:
    """Record where the job is."""
    JobProgress.objects.filter(job_id=job_id or 0).update(
        step=step, done=done, total=total, updated_at=timezone.now()
    )


def lock_of(organization_id: int) -> str:
    """The Procrastinate lock by which one job of an organization runs at a time."""
    return f"organization:{organization_id}"


def organization_job(
    work: Callable[..., None], *, exclusive: bool = True, even_suspended: bool = False
) -> Callable[..., None]:
    """Run `work(organization, progress, …)` with the job's organization active.

    exclusive: require the organization's lock. even_suspended: an operator's job, which runs also
    while the organization is suspended, and is done if it is archived; its own jobs wait until it
    is resumed or thawed.
    """

    @functools.wraps(work)
    def run(context: JobContext, **arguments: Any) -> None:
        arguments.pop("timestamp", None)
        with _framed(context) as progress:
            organization_id = arguments.pop("organization_id", None)
            organization = _named_by(context, organization_id, exclusive=exclusive)
            if organization is None:
                progress.tell("nothing to do: the organization was deleted")
                return
            if even_suspended and not organization.is_usable:
                progress.tell("nothing to do: the organization is archived")
                return
            if not even_suspended:
                _wait_while_suspended(context, organization)
            # With its place: this process can know an earlier one, which still lets it in.
            with tenancy.override(replace(organization.tenant, place=organization.place)):
                work(organization, progress, **arguments)

    return run


def platform_job(work: Callable[..., None]) -> Callable[..., None]:
    """Run `work(progress, …)` without an organization: tenant queries raise NoTenant."""

    @functools.wraps(work)
    def run(context: JobContext, **arguments: Any) -> None:
        arguments.pop("timestamp", None)
        with _framed(context) as progress, tenancy.override(None):
            work(progress, **arguments)

    return run


def _named_by(
    context: JobContext, organization_id: object, *, exclusive: bool
) -> Organization | None:
    """The organization; None if it was deleted meanwhile. Raises JobRefused."""
    if type(organization_id) is not int:
        raise JobRefused("it names no organization.")
    lock = context.job.lock and context.job.lock.partition(PARKED)[0]
    if lock != (lock_of(organization_id) if exclusive else None):
        raise JobRefused("it names another organization than its lock does.")
    _rows(context).update(organization_id=organization_id)
    known = (*Organization.Status.usable(), *Organization.Status.archival())
    return Organization.objects.filter(pk=organization_id, status__in=known).first()


def _wait_while_suspended(context: JobContext, organization: Organization) -> None:
    """Raise JobWaits while it is suspended or archived, and once more to get its lock back."""
    is_suspended = organization.status != Organization.Status.ACTIVE
    if is_suspended or PARKED in (context.job.lock or ""):
        is_archived = organization.status in Organization.Status.archival()
        seconds = _ARCHIVED_SECONDS if is_archived else 0
        raise JobWaits(is_over=not is_suspended, seconds=seconds)


def wake(organization_id: int) -> None:
    """Run the jobs that waited for the organization's resumption, in the caller's transaction."""
    with connections["default"].cursor() as cursor:
        cursor.execute(_WAKE, (PARKED, organization_id, WAITING))


@contextmanager
def _framed(context: JobContext) -> Iterator[Progress]:
    tenancy.reset()
    origin = trail.Origin("system", request_id=uuid.uuid4().hex)
    try:
        with trail.acting(origin):
            _begin(context)
            try:
                yield Progress(context)
            except JobWaits:
                if _park(context):
                    raise
            except Exception as error:
                _note(context, told(error))
                raise
            _note(context, "")
    finally:
        tenancy.reset()
        registry.reap()


def _rows(context: JobContext) -> QuerySet[JobProgress]:
    return JobProgress.objects.filter(job_id=context.job.id or 0)


def _begin(context: JobContext) -> None:
    now = timezone.now()
    JobProgress.objects.update_or_create(
        job_id=context.job.id, defaults={"step": "begun", "done": 0, "updated_at": now}
    )
    with connections["default"].cursor() as cursor:
        # The queueing lock prevents duplicates in the queue, which this job left. If kept, a retry
        # would fail when another was enqueued meanwhile (procrastinate_jobs_queueing_lock_idx).
        cursor.execute(_CLEAR_QUEUEING_LOCK, (context.job.id,))


def _park(context: JobContext) -> bool:
    """Prepare the job for waiting. False if the same job waits already: then this one is done."""
    own = context.job.queueing_lock
    lock = own and f"{own.partition(PARKED)[0]}{PARKED}"
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        cursor.execute(_ONE_PARKS, (lock,))
        cursor.execute(_PARK, {"id": context.job.id, "lock": lock})
        waits: bool = cursor.rowcount == 1
        if waits:
            _rows(context).update(step=WAITING, error="", updated_at=timezone.now())
    return waits


def _note(context: JobContext, error: str) -> None:
    try:
        facts = {"error": error} if error else {"error": "", "step": "done"}
        _rows(context).update(**facts, updated_at=timezone.now())
    except DatabaseError as failure:
        logger.warning("progress not recorded", exc_info=failure)
        connections["default"].close()


def told(error: BaseException) -> str:
    """The error as staff see it: our own, which contain no secrets; of others only the type."""
    kind = type(error).__name__
    if isinstance(error, JobAborted):
        return "stopped: cancelled, or its worker was stopped"
    if isinstance(error, OrganizationError):
        return f"{error.code}: {error}"
    cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    if isinstance(cause, psycopg.Error) and cause.sqlstate:
        return f"{kind} ({cause.sqlstate}). See the log."
    return f"{kind}. See the log."
