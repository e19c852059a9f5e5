"""Thread pool for migrations. Each thread has a direct session to the master for the locks."""

import sys
import threading
from collections.abc import Iterator
from queue import Empty, Queue, SimpleQueue

from django.db import connections
from psycopg import sql

from organizations.errors import ServerUnavailable, TookTooLong
from organizations.models import Organization
from organizations.postgres.sessions import ServerSession, open_session

from .engine import Engine
from .results import Kind, Result
from .turn import take

_TICK_SECONDS = 0.1


class Crew:
    """`parallel` threads; at most twice as many organizations are queued or running."""

    def __init__(self, engine: Engine, *, parallel: int, looks_only: bool) -> None:
        self.stopping = threading.Event()
        self._engine = engine
        self._looks_only = looks_only
        self._room = 2 * parallel
        self._work: Queue[Organization | None] = Queue()
        self._results: SimpleQueue[Result | Exception] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"migrate-{number}", daemon=True)
            for number in range(parallel)
        ]

    def results(self, organizations: Iterator[Organization]) -> Iterator[Result | None]:
        """A result for each organization as it ends, and None about every 0.1 s of waiting.

        With `stopping` set nothing more is started: running ones finish, the rest is not tried.
        The threads end with the iterator. Raises a thread's error in the master:
        ServerUnavailable, ServerRefused.
        """
        for thread in self._threads:
            thread.start()
        under_way = 0
        try:
            while True:
                while under_way < self._room and not self.stopping.is_set():
                    organization = next(organizations, None)
                    if organization is None:
                        break
                    self._work.put(organization)
                    under_way += 1
                if not under_way:
                    return
                try:
                    result = self._results.get(timeout=_TICK_SECONDS)
                except Empty:
                    yield None
                    continue
                if isinstance(result, Exception):
                    raise result
                under_way -= 1
                yield result
        finally:
            self.stopping.set()
            for _ in self._threads:
                self._work.put(None)
            # Whoever presses Ctrl-C twice does not want to wait for running ones.
            if not isinstance(sys.exception(), KeyboardInterrupt):
                for thread in self._threads:
                    thread.join()

    def _run(self) -> None:
        try:
            self._take_turns()
        except Exception as error:
            self._results.put(error)
        finally:
            connections.close_all()

    def _take_turns(self) -> None:
        organization = self._work.get()
        was_cut = False
        while organization is not None:
            try:
                with open_session(new=True) as session:
                    # On the same server its writes are flushed with the organization database's own
                    # commits; at worst a turn is repeated.
                    session.execute(sql.SQL("SET synchronous_commit = off"))
                    while organization is not None:
                        self._results.put(self._turn(session, organization))
                        was_cut = False
                        organization = self._work.get()
            except (ServerUnavailable, TookTooLong):
                # A cut session took its lock with it: repeat the turn with a new one.
                if was_cut:
                    raise
                was_cut = True

    def _turn(self, session: ServerSession, organization: Organization) -> Result:
        if self.stopping.is_set():
            return Result.of(organization, Kind.NOT_TRIED)
        return take(session, organization, self._engine, looks_only=self._looks_only)
