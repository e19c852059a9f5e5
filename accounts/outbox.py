"""Mails that are written and sent behind the request that asks for them.

Two threads in each process, made when the first mail is asked for: one finds out whether and what
to write, the other sends. A mail server that is slow holds up the second alone, and whoever waits
for room in the first learns nothing from it: what it does takes as long for an address that exists
as for any other. It begins when the answer is long gone, at a moment that nobody can know, so that
what it takes from the processor shows in no answer's time. Both queues are bounded.

What waits here is sent before the process ends, and lost where the process is killed. Whoever
needs more has `add` put a row into a table of jobs instead.
"""

import atexit
import contextvars
import logging
import os
import random
import threading
import time
import traceback
from collections.abc import Callable
from queue import Full, Queue

from django.core.mail import EmailMessage
from django.db import close_old_connections

from organizations import tenancy
from organizations.errors import OutboxFull

logger = logging.getLogger(__name__)

Prepare = Callable[[], EmailMessage | None]

WAITING_AT_MOST = 100
# How long after it was asked for a mail is written, at least and at most.
DELAY_SECONDS = (0.1, 0.6)
SECONDS_AT_EXIT = 10.0


class Outbox:
    """Two queues, each with a thread of its own. Safe from any thread."""

    def __init__(self, *, waiting_at_most: int = WAITING_AT_MOST) -> None:
        self._orders: Queue[tuple[float, Prepare]] = Queue(waiting_at_most)
        self._mails: Queue[EmailMessage] = Queue(waiting_at_most)
        self._open = 0
        self._changed = threading.Condition()
        self._started = False
        self._hurry = threading.Event()

    def add(self, prepare: Prepare) -> None:
        """Have `prepare` called, and what it returns sent, at some later time.

        It is called in a thread without an organization and without a request. Raises OutboxFull.
        """
        due = time.monotonic() + random.uniform(*DELAY_SECONDS)  # noqa: S311 - no secret
        with self._changed:
            self._start()
            try:
                self._orders.put_nowait((due, prepare))
            except Full:
                raise OutboxFull from None
            self._open += 1

    def hurry(self) -> None:
        """From now on write at once."""
        self._hurry.set()

    def flush(self, *, timeout_seconds: float = SECONDS_AT_EXIT) -> bool:
        """Wait until nothing is left to do; whether that came to pass in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout_seconds)

    def _start(self) -> None:
        if self._started:
            return
        # Daemons, so that a mail server that hangs does not keep the process from ending.
        for work in (self._prepare, self._send):
            threading.Thread(target=work, name=f"outbox{work.__name__}", daemon=True).start()
        self._started = True

    def _prepare(self) -> None:
        while True:
            due, prepare = self._orders.get()
            self._hurry.wait(max(0.0, due - time.monotonic()))
            try:
                # What it activates (a time zone, a language) is not the next one's.
                mail = contextvars.copy_context().run(prepare)
                if mail is not None:
                    self._mails.put_nowait(mail)
                    continue
            except Full:
                logger.error("mail dropped: too many wait to be sent")
            except Exception as error:
                _log("mail not written", error)
            finally:
                tenancy.reset()
                if self._orders.empty():
                    close_old_connections()
            self._done()

    def _send(self) -> None:
        while True:
            mail = self._mails.get()
            try:
                mail.send()
            except Exception as error:
                _log("mail not sent", error)
            self._done()

    def _done(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()


def _log(message: str, error: Exception) -> None:
    """Where it failed and with what kind of error. Its text can hold an address or a link."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{frame.filename}:{frame.lineno}"
    logger.error(message, extra={"error": type(error).__name__, "where": where})


_guard = threading.Lock()
_outbox: Outbox | None = None


def get() -> Outbox:
    """This process's outbox."""
    global _outbox
    with _guard:
        if _outbox is None:
            _outbox = Outbox()
        return _outbox


def _forget() -> None:
    """A child that was forked has the queues, and none of the threads."""
    global _outbox, _guard
    _guard = threading.Lock()
    _outbox = None


os.register_at_fork(after_in_child=_forget)


@atexit.register
def flush() -> None:
    """Send what waits, where there is an outbox at all."""
    if _outbox is None:
        return
    _outbox.hurry()
    if not _outbox.flush():
        logger.error("mails are left unsent at the end of the process")
