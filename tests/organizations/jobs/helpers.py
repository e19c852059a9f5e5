"""Helpers of the job tests: run jobs in the test's own process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.tasks import Task

from organizations.background.worker import JobWorker
from organizations.jobs.models import JobProgress
from organizations.jobs.retries import Backoff


def work(*, concurrency: int = 2) -> None:
    """Run every due job; with a concurrency of 1 in the order they were enqueued."""
    JobWorker(goes_on=lambda: True, concurrency=concurrency, once=True).run()


def job(job_id: int) -> ProcrastinateJob:
    found: ProcrastinateJob = ProcrastinateJob.objects.get(pk=job_id)
    return found


def progress(job_id: int) -> JobProgress:
    return JobProgress.objects.get(pk=job_id)


def clear() -> None:
    """Delete all jobs and workers."""
    with connections["default"].cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs, procrastinate_workers, job_progress CASCADE")
        cursor.execute("DELETE FROM pending_sign_ups")


@contextmanager
def task(function: Any, *, name: str) -> Iterator[Task[Any, Any, Any]]:
    """Register one more kind of job during the block."""
    made = app.task(name=name, queue="upkeep", retry=Backoff(), pass_context=True)(function)
    try:
        yield made
    finally:
        del app.tasks[name]
