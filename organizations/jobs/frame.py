"""Wraps each job: enters its organization, tracks progress, records errors, cleans up.

Jobs are plain functions that run in the worker's threads.
"""

import functools
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import Error as DatabaseError
from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted

from organizations import tenancy
from organizations.errors import JobRefused, OrganizationError
from organizations.models import Organization
from organizations.tenancy import registry, trail

from .models import JobProgress

logger = logging.getLogger(__name__)

_NO_DOUBLES = "UPDATE procrastinate_jobs SET queueing_lock = NULL WHERE id = %s"


class Progress:
    """What a job tells of itself while it runs; readable from anywhere at once."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._rows = _rows(context)

    @property
    def job_id(self) -> int:
        """The job's number."""
        return self._context.job.id or 0

    @property
    def attempts(self) -> int:
        """How many tries there were before this one."""
        return self._context.job.attempts

    def tell(self, step: str, *, done: int = 0, total: int | None = None) -> None:
        """Note where the job is."""
        self._rows.update(step=step, done=done, total=total, updated_at=timezone.now())

    def goes_on(self) -> bool:
        """False when the job was cancelled, or its worker ends and waits no longer."""
        return not self._context.should_abort()

    def stop_if_asked(self) -> None:
        """Raise JobAborted then. Between two steps that are whole in themselves."""
        if not self.goes_on():
            raise JobAborted


def lock_of(organization_id: int) -> str:
    """Procrastinate's lock of an organization: one job of it runs at a time."""
    return f"organization:{organization_id}"


def organization_job(work: Callable[..., None], *, alone: bool = True) -> Callable[..., None]:
    """`work(organization, progress, …)` inside the context of the organization the job names.

    alone: under the organization's lock, and refused without it.
    """

    @functools.wraps(work)
    def run(context: JobContext, **arguments: Any) -> None:
        arguments.pop("timestamp", None)
        with _framed(context) as progress:
            organization = _named_by(context, arguments.pop("organization_id", None), alone=alone)
            if organization is None:
                progress.tell("nothing to do: the organization is gone")
                return
            with tenancy.override(organization.tenant):
                work(organization, progress, **arguments)

    return run


def platform_job(work: Callable[..., None]) -> Callable[..., None]:
    """`work(progress, …)` of no organization: a query of a tenant's table raises NoTenant."""

    @functools.wraps(work)
    def run(context: JobContext, **arguments: Any) -> None:
        arguments.pop("timestamp", None)
        with _framed(context) as progress, tenancy.override(None):
            work(progress, **arguments)

    return run


def _named_by(context: JobContext, organization_id: object, *, alone: bool) -> Organization | None:
    """The organization; None where it was deleted meanwhile. Raises JobRefused."""
    if type(organization_id) is not int:
        raise JobRefused("it names no organization.")
    if context.job.lock != (lock_of(organization_id) if alone else None):
        raise JobRefused("it names another organization than its lock does.")
    _rows(context).update(organization_id=organization_id)
    return Organization.objects.usable().filter(pk=organization_id).first()


@contextmanager
def _framed(context: JobContext) -> Iterator[Progress]:
    tenancy.reset()
    origin = trail.Origin("system", request_id=uuid.uuid4().hex)
    try:
        with trail.acting(origin):
            _begin(context)
            try:
                yield Progress(context)
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
        # It keeps doubles from waiting, and this one waits no longer. With it a retry would fail
        # where another has been enqueued in the meantime (procrastinate_jobs_queueing_lock_idx).
        cursor.execute(_NO_DOUBLES, (context.job.id,))


def _note(context: JobContext, error: str) -> None:
    try:
        facts = {"error": error} if error else {"error": "", "step": "done"}
        _rows(context).update(**facts, updated_at=timezone.now())
    except DatabaseError as failure:
        logger.warning("progress not recorded", exc_info=failure)
        connections["default"].close()


def told(error: BaseException) -> str:
    """What may be read of an error: ours say nothing secret, others are known by their kind."""
    kind = type(error).__name__
    if isinstance(error, JobAborted):
        return "stopped: cancelled, or its worker ended"
    if isinstance(error, OrganizationError):
        return f"{error.code}: {error}"
    cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    if isinstance(cause, psycopg.Error) and cause.sqlstate:
        return f"{kind} ({cause.sqlstate}). The log says more."
    return f"{kind}. The log says more."
