"""The worker process that runs jobs. Start any number, on any number of hosts."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connections
from django.db.models import Max
from procrastinate import App, PsycopgConnector
from procrastinate.app import WorkerOptions
from procrastinate.contrib.django import app
from procrastinate.contrib.django.db_cleanup import with_db_cleanup
from procrastinate.contrib.django.models import ProcrastinateEvent
from procrastinate.exceptions import ConnectorException

from organizations.background import enqueueing
from organizations.errors import OrganizationError
from organizations.postgres import installation
from organizations.postgres.fence import fence_pending
from organizations.postgres.sessions import master_parameters
from organizations.provisioning import code, refill
from organizations.restoring.switching import finish_switches
from organizations.tenancy import registry, shares

from . import stalled

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 30.0
# Heartbeats, and looks for interrupted work, per JOB_STALLED_SECONDS.
_BEATS = 4


class JobWorker:
    """Runs jobs until `goes_on` returns False; then finishes running ones, or requeues them.

    queues: their names; empty for all. once: exit when no job waits; otherwise it also enqueues a
    refill when a spare database is taken, and looks for dead workers and unfinished fences. Waits
    for an unreachable master.
    """

    def __init__(
        self,
        *,
        goes_on: Callable[[], bool],
        concurrency: int,
        queues: Sequence[str] = (),
        once: bool = False,
    ) -> None:
        self._goes_on = goes_on
        self._concurrency = concurrency
        self._queues = list(queues)
        self._once = once

    def run(self) -> None:
        """Return when everything has ended. With `once`, raises the database's errors.

        Raises InstallationUnclaimed in a copy of a master.
        """
        installation.require()
        with shares.do_jobs(self._concurrency):
            self._run()

    def _run(self) -> None:
        if sentence := code.problem():
            logger.error("databases cannot be created or migrated", extra={"reason": sentence})
        if self._once:
            stalled.hand_back()
            fence_pending()
            finish_switches()
            self._drain()
            return
        threads = [threading.Thread(target=self._rescue, name="stalled jobs")]
        if settings.ORG_SPARE_DATABASES:
            threads.append(threading.Thread(target=self._watch_spares, name="spare databases"))
        for thread in threads:
            thread.start()
        try:
            self._work()
        finally:
            for thread in threads:
                thread.join()

    def _drain(self) -> None:
        """A session ends when it finds no job; a job that ends then may have unblocked others."""
        before = None
        while self._goes_on() and (begun := _newest_begun()) != before:
            before = begun
            asyncio.run(self._session())

    def _work(self) -> None:
        failures = 0
        while self._goes_on():
            began = time.monotonic()
            try:
                asyncio.run(self._session())
            except (ConnectorException, psycopg.Error, OSError) as error:
                logger.warning("worker lost the master database", exc_info=error)
            # It also ends if one of its side tasks lost the connection (worker.py,
            # _monitor_side_tasks).
            failures = 0 if time.monotonic() - began > _LONGEST_PAUSE_SECONDS else failures + 1
            self._pause(min(2.0 ** (failures - 1), _LONGEST_PAUSE_SECONDS))

    async def _session(self) -> None:
        loop = asyncio.get_running_loop()
        # A thread for each job, and for asyncio's own use.
        with _threads(self._concurrency + 2) as threads:
            loop.set_default_executor(threads)
            # Periodic jobs are enqueued in asgiref's own thread, which outlives the session. Django
            # does not reconnect there while it takes the lost connection for open.
            await sync_to_async(connections.close_all)()
            async with _app(is_periodic=not self._once).open_async() as opened:
                worker = asyncio.create_task(opened.run_worker_async(**self._options()))
                while not worker.done() and self._goes_on():
                    await asyncio.wait([worker], timeout=_LOOK_SECONDS)
                if not worker.done():
                    # When cancelled, it stops cleanly (worker.py, run).
                    worker.cancel()
                with suppress(asyncio.CancelledError):
                    await worker

    def _options(self) -> WorkerOptions:
        beat = settings.JOB_STALLED_SECONDS / _BEATS
        options: WorkerOptions = {
            "concurrency": self._concurrency,
            "fetch_job_polling_interval": settings.JOB_POLL_SECONDS,
            "abort_job_polling_interval": settings.JOB_POLL_SECONDS,
            "update_heartbeat_interval": beat,
            "stalled_worker_timeout": settings.JOB_STALLED_SECONDS,
            "shutdown_graceful_timeout": settings.WORKER_STOP_SECONDS,
            "install_signal_handlers": False,
            "wait": not self._once,
            # A worker that runs once would cancel the listener's connection while it is still
            # logging in. PostgreSQL then holds up each DROP until authentication_timeout (60 s).
            "listen_notify": not self._once,
        }
        if self._queues:
            options["queues"] = self._queues
        return options

    def _rescue(self) -> None:
        while self._goes_on():
            for finish in (fence_pending, finish_switches, stalled.hand_back):
                try:
                    finish()
                    close_old_connections()
                except (DatabaseError, OrganizationError) as error:
                    facts = {"check": finish.__name__}
                    logger.warning("check for interrupted work failed", extra=facts, exc_info=error)
                    connections.close_all()
            self._pause(settings.JOB_STALLED_SECONDS / _BEATS)
        connections.close_all()

    def _watch_spares(self) -> None:
        try:
            refill.run(goes_on=self._goes_on, pause=self._pause, instead=enqueueing.refill_if_due)
        finally:
            connections.close_all()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._goes_on() and (left := until - time.monotonic()) > 0:
            time.sleep(min(_LOOK_SECONDS, left))


def _newest_begun() -> int:
    return ProcrastinateEvent.objects.filter(type="started").aggregate(n=Max("pk"))["n"] or 0


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that close their connections at the end, since no other thread can."""
    everyone = threading.Barrier(number)

    def leave() -> None:
        with suppress(threading.BrokenBarrierError):
            everyone.wait(_LONGEST_PAUSE_SECONDS)
        registry.reap()
        connections.close_all()

    with ThreadPoolExecutor(number, thread_name_prefix="job") as threads:
        # Start all now: the executor starts one only if it counts none as idle, and it counts one
        # that has just taken work (concurrent/futures/thread.py). The end would wait for threads
        # that were never started.
        started = threading.Barrier(number)
        for _ in range(number):
            threads.submit(started.wait)
        try:
            yield threads
        finally:
            for _ in range(number):
                threads.submit(leave)


def _app(*, is_periodic: bool) -> App:
    """The tasks, with the worker's own connection, direct to the server if that is configured.

    Through a pooler LISTEN receives nothing, and the worker polls. What a job enqueues goes through
    Django's connection, in its transaction.
    """
    # prepare_threshold: a pooler may run the next statement in another session.
    parameters = {**master_parameters(), "prepare_threshold": None}
    own = App(
        connector=PsycopgConnector(kwargs=parameters, min_size=1, max_size=3),
        worker_defaults=with_db_cleanup(None),
    )
    own.tasks = app.tasks
    if is_periodic:
        own.periodic_registry = app.periodic_registry
    return own
