"""Lists, cancels and retries jobs."""

from django.db import connections
from django.db.models import QuerySet
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from organizations import tenancy
from organizations.background import enqueueing
from organizations.errors import JobNotFound, JobWrongState
from organizations.jobs.frame import lock_of
from organizations.jobs.models import PendingSignUp

from . import sign_ups

_RESET_ATTEMPTS = "UPDATE procrastinate_jobs SET attempts = 0 WHERE id = %s"
_CANCELLED = "The sign-up was cancelled. Nothing was created; the name is free."
_STOPPED = (
    "The sign-up was cancelled while it was being created. What was created is being removed; then "
    "the name is free."
)


def visible() -> QuerySet[ProcrastinateJob]:
    """The jobs of the active organization, or all jobs without one."""
    jobs: QuerySet[ProcrastinateJob] = ProcrastinateJob.objects.all()
    tenant = tenancy.peek()
    if tenant is None:
        return jobs
    return jobs.filter(lock=lock_of(tenant.organization_id))


def cancel(job_id: int) -> None:
    """Cancel a waiting job, or ask a running one to stop.

    It stops between two complete steps; a job of one step just finishes. A sign-up undoes itself,
    unless its organization is already active. Raises JobNotFound, also for another organization's
    job, and JobWrongState.
    """
    job = _find(job_id)
    if job.status not in ("todo", "doing"):
        raise JobWrongState(
            job_id, status=job.status, why="only a job that has not ended can be cancelled."
        )
    with enqueueing.in_master():
        if app.job_manager.cancel_job_by_id(job_id, abort=True):
            # As it is now: a worker may have started it meanwhile.
            ran = not visible().filter(pk=job_id, status="cancelled", attempts=0).exists()
            detail = _STOPPED if ran else _CANCELLED
            sign_ups.give_up(job_id, detail=detail, code="sign_up_cancelled")


def retry(job_id: int) -> None:
    """Retry a failed job. Raises JobNotFound and JobWrongState."""
    job = _find(job_id)
    if job.status != "failed":
        raise JobWrongState(job_id, status=job.status, why="only a failed job can be retried.")
    if PendingSignUp.objects.filter(job_id=job_id).exists():
        why = "its password hash is gone and its name is free, so sign up again."
        raise JobWrongState(job_id, status=job.status, why=why)

    with enqueueing.in_master(), connections["default"].cursor() as cursor:
        cursor.execute("SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)", (job_id,))
        cursor.execute(_RESET_ATTEMPTS, (job_id,))


def _find(job_id: int) -> ProcrastinateJob:
    job = visible().filter(pk=job_id).first()
    if job is None:
        raise JobNotFound
    return job
