"""Limits how many threads of a process one organization can use.

A slow database holds every thread that queries it until the statement's limit. One organization
gets at most ORG_MAX_THREADS threads of a web process, and half the threads of a worker: the others
stay free.
"""

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from . import guard

# Who has waited so long for the server, in all, is held up by it.
_SLOW_SECONDS = 0.3
# How long nobody waits for a place among an organization's threads that were found stuck.
_MISTRUST_SECONDS = 60.0


_threads_of_jobs: int | None = None


@contextmanager
def do_jobs(threads: int) -> Iterator[None]:
    """Inside the block this process does jobs, so many at a time."""
    global _threads_of_jobs
    before, _threads_of_jobs = _threads_of_jobs, threads
    try:
        yield
    finally:
        _threads_of_jobs = before


def limit() -> tuple[str, int]:
    """What limits an organization's threads in this process, and how many it may have.

    A command works for nobody else, and has no limit.
    """
    if guard.serves_requests():
        return "ORG_MAX_THREADS", settings.ORG_MAX_THREADS
    if _threads_of_jobs is not None:
        return "half of WORKER_CONCURRENCY", max(1, _threads_of_jobs // 2)
    return "no limit", sys.maxsize


class Waiter:
    """A thread in line."""

    def __init__(self) -> None:
        self.is_served = False
        self.woken = threading.Event()

    def serve(self) -> None:
        """It has what it waits for. Needs the pool's lock."""
        self.is_served = True
        self.woken.set()


class Share:
    """The places of one organization. Every method but is_stuck needs the pool's lock."""

    # How often who waits looks whether that is of any use.
    LOOK_SECONDS = 0.05

    def __init__(self) -> None:
        self._taken = 0
        self._line: deque[Waiter] = deque()
        self._mistrusted_until = 0.0
        # What it holds, by id; the pool's to fill.
        self.lent: dict[int, weakref.ref[guard.Connection]] = {}

    def enters(self) -> bool:
        """Whether there was a place, which is taken now."""
        _, most = limit()
        if self._taken >= most:
            return False
        self._taken += 1
        return True

    def leave(self) -> None:
        """Give a place to the next in line, or back."""
        if self._line:
            self._line.popleft().serve()
        else:
            self._taken -= 1

    def stand_in_line(self) -> Waiter:
        """Wait for a place."""
        waiter = Waiter()
        self._line.append(waiter)
        return waiter

    def leave_line(self, waiter: Waiter) -> None:
        """Wait no longer."""
        if not waiter.is_served:
            self._line.remove(waiter)

    def is_stuck(self) -> bool:
        """Whether nobody should wait: all of its threads are held up in its database, or were
        shortly before. Threads that think, about a password say, are not: they will be done."""
        now = time.monotonic()
        if now < self._mistrusted_until:
            return True
        lent = [connection for ref in list(self.lent.values()) if (connection := ref()) is not None]
        slow = sum(connection.waited_seconds > _SLOW_SECONDS for connection in lent)
        if slow < self._taken:
            return False
        self._mistrusted_until = now + _MISTRUST_SECONDS
        return True
