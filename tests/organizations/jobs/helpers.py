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
    """Do every job that waits and is due; with a concurrency of 1 in the order of asking."""
    JobWorker(goes_on=lambda: True, concurrency=concurrency, once=True).run()


def job(job_id: int) -> ProcrastinateJob:
    found: ProcrastinateJob = ProcrastinateJob.objects.get(pk=job_id)
    return found


def progress(job_id: int) -> JobProgress:
    return JobProgress.objects.get(pk=job_id)


def clear() -> None:
    """No job, and nobody at work."""
    with connections["default"].cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs, procrastinate_workers, job_progress CASCADE")
        cursor.execute("DELETE FROM pending_sign_ups")


@contextmanager
def task(function: Any, *, name: str) -> Iterator[Task[Any, Any, Any]]:
    """One more kind of job, inside the block."""
    made = app.task(name=name, queue="upkeep", retry=Backoff(), pass_context=True)(function)
    try:
        yield made
    finally:
        del app.tasks[name]
