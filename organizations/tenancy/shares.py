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

# A thread that has waited this long in total for the server counts as stuck.
_SLOW_SECONDS = 0.3
# A block that has run no longer than this has just begun.
_JUST_SECONDS = 0.05
# How long nobody waits for an organization whose threads were all found stuck.
_MISTRUST_SECONDS = 60.0


_threads_of_jobs: int | None = None


@contextmanager
def do_jobs(threads: int) -> Iterator[None]:
    """Mark this process as running jobs, so many at a time, inside the block."""
    global _threads_of_jobs
    before, _threads_of_jobs = _threads_of_jobs, threads
    try:
        yield
    finally:
        _threads_of_jobs = before


def limit() -> tuple[str, int]:
    """The name and value of the limit on an organization's threads in this process.

    A command has no limit, since it serves no other organization.
    """
    if guard.serves_requests():
        return "ORG_MAX_THREADS", settings.ORG_MAX_THREADS
    if _threads_of_jobs is not None:
        return "half of WORKER_CONCURRENCY", max(1, _threads_of_jobs // 2)
    return "no limit", sys.maxsize


class Waiter:
    """A waiting thread."""

    def __init__(self) -> None:
        self.is_served = False
        self.woken = threading.Event()

    def serve(self) -> None:
        """Wake it: it got what it waits for. Needs the pool's lock."""
        self.is_served = True
        self.woken.set()


class Share:
    """The places of one organization. Every method except is_stuck needs the pool's lock."""

    # How often a waiting thread checks whether waiting still makes sense.
    LOOK_SECONDS = 0.05

    def __init__(self) -> None:
        self._taken = 0
        self._line: deque[Waiter] = deque()
        self._mistrusted_until = 0.0
        # The connections in use, by id; filled by the pool.
        self.lent: dict[int, weakref.ref[guard.Connection]] = {}

    def enters(self) -> bool:
        """Take a place if there is one. Returns whether it did."""
        _, most = limit()
        if self._taken >= most:
            return False
        self._taken += 1
        return True

    def ends_soon(self) -> bool:
        """Whether a block of this organization has just begun, and so will probably end soon."""
        since = time.monotonic() - _JUST_SECONDS
        lent = [ref() for ref in list(self.lent.values())]
        return any(each is not None and each.lent_at > since for each in lent)

    def leave(self) -> None:
        """Give the place to the next waiting thread, or back."""
        if self._line:
            self._line.popleft().serve()
        else:
            self._taken -= 1

    def stand_in_line(self) -> Waiter:
        """Join the queue for a place."""
        waiter = Waiter()
        self._line.append(waiter)
        return waiter

    def leave_line(self, waiter: Waiter) -> None:
        """Leave the queue."""
        if not waiter.is_served:
            self._line.remove(waiter)

    def is_stuck(self) -> bool:
        """Whether waiting is useless: all of its threads wait for its database, or did shortly
        before. Threads that compute, such as a password hash, do not count: they will finish."""
        now = time.monotonic()
        if now < self._mistrusted_until:
            return True
        lent = [connection for ref in list(self.lent.values()) if (connection := ref()) is not None]
        slow = sum(connection.waited_seconds > _SLOW_SECONDS for connection in lent)
        if slow < self._taken:
            return False
        self._mistrusted_until = now + _MISTRUST_SECONDS
        return True
