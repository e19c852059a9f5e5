"""A worker survives the loss of its connections to the master."""

import asyncio
import threading
import time

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from organizations.background.worker import JobWorker
from organizations.jobs.frame import Progress, platform_job

from .helpers import task


def _lose_connection() -> None:
    """As a restart of the server leaves it: Django takes it for open."""
    connection = connections["default"]
    connection.ensure_connection()
    connection.connection.close()


def test_a_worker_survives_a_lost_connection_in_its_periodic_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = threading.Event()

    @platform_job
    def end(progress: Progress) -> None:
        done.set()

    # Procrastinate asks for periodic jobs in the one thread that asgiref keeps for such calls.
    asyncio.run(sync_to_async(_lose_connection)())
    deadline = time.monotonic() + 20
    with task(end, name="ends") as ends:
        ends.defer()
        JobWorker(
            goes_on=lambda: not done.is_set() and time.monotonic() < deadline, concurrency=1
        ).run()
    assert done.is_set(), "the job was never done"
    assert "deferrer failed" not in caplog.text
