"""psycopg connections with a client-side statement timeout and a limit on the size of results.

An organization's database may run SQL of the organization's own: it may lift its
statement_timeout, swallow a cancel, or return gigabytes. So the client ends a statement itself: it
cancels, a second later it closes the socket, and what the server still runs is terminated from the
master (keeper.py). Nobody else is held up.

Relies on psycopg 3.3: each exchange with the server is a generator that goes through
Connection.wait, and a wait that timed out can be resumed (connection.py, `wait`, does so after
Ctrl-C).
"""

import fcntl
import select
import struct
import termios
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import monotonic
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from psycopg import errors, generators
from psycopg.pq import ExecStatus, TransactionStatus

from . import keeper

T = TypeVar("T")

# The server's own limit comes first: its answer is the better one, and the session lives on.
GRACE_SECONDS = 1.0
# How long a cancel may take to come through, and what it cancels to end.
CANCEL_SECONDS = 1.0
# What takes longer is looked at more closely: most of all statements have ended by then.
_FIRST_SECONDS = 0.05
# libpq asks for as much at a time, at least (fe-misc.c, pqReadData).
_READ_BYTES = 8_192
_LONGEST_ERROR = 10_000


class DeadlinePassed(errors.QueryCanceled):
    """A statement took longer than it may, and its connection is closed."""

    def __init__(self) -> None:
        super().__init__("The statement took too long, and its connection was closed.")


class AnswerTooLarge(errors.ProgramLimitExceeded):
    """A statement's answer has more rows or bytes than one may have."""

    def __init__(self, setting: str, most: int) -> None:
        super().__init__(
            f"The answer of a statement is larger than {setting} = {most}. "
            "Ask for less, or iterate with QuerySet.iterator()."
        )


_serves_requests = False
_limit: ContextVar[float | None] = ContextVar("statement_limit", default=-1.0)


def serve_requests() -> None:
    """From now on this process serves requests, and a block lasts no longer than one may."""
    global _serves_requests
    _serves_requests = True


def serves_requests() -> bool:
    """Whether this process serves requests."""
    return _serves_requests


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Let each statement to an organization's database take so long inside the block.

    None: as long as it takes. Otherwise it is STATEMENT_TIMEOUT_SECONDS and a second, after which
    the server should have ended it. The server's own limit stays as it is.
    """
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


def limit_seconds() -> float | None:
    """How long a statement may take here; None: as long as it takes."""
    limit = _limit.get()
    if limit is not None and limit < 0:
        return float(settings.STATEMENT_TIMEOUT_SECONDS) + GRACE_SECONDS
    return limit


class Connection(psycopg.Connection[Any]):
    """psycopg's own, whose statements end in time.

    A statement that does not raises QueryCanceled where the server heard the cancel, and otherwise
    DeadlinePassed. Raises AnswerTooLarge for an answer of more than ORG_MAX_ANSWER_BYTES.
    """

    # When what holds it now has to end, and how long that has waited for the server so far.
    ends_at: float | None = None
    _waited = 0.0
    _waits_since: float | None = None
    _is_forgetting = False

    def lend(self, seconds: float | None) -> None:
        """Begin to count for somebody else, who may have it for so long."""
        self._waited = 0.0
        self.ends_at = None if seconds is None else monotonic() + seconds

    @property
    def waited_seconds(self) -> float:
        """How long whoever has it has waited for the server in all. From any thread."""
        since = self._waits_since
        return self._waited + (0.0 if since is None else monotonic() - since)

    def wait(
        self,
        gen: Generator[Any, Any, T],
        interval: float = 0.1,
        timeout: float | None = None,
    ) -> T:
        """As psycopg's; but no longer than time_limit, and than whoever has it may have it."""
        began = self._waits_since = monotonic()
        try:
            left = self._left(began)
            first = _FIRST_SECONDS if left is None else min(_FIRST_SECONDS, left)
            if timeout is not None and timeout <= first:
                return super().wait(gen, interval, timeout)
            try:
                return super().wait(gen, interval, first)
            except errors._WaitTimeout:
                return self._wait_on(gen, interval, timeout, began)
        except psycopg.Error as error:
            _shorten(error)
            raise
        finally:
            self._waits_since = None
            self._waited += monotonic() - began

    def _left(self, began: float) -> float | None:
        limit = limit_seconds()
        if self.ends_at is None:
            return limit
        left = self.ends_at - began
        if left <= 0:
            self._give_up()
            raise DeadlinePassed
        return left if limit is None else min(limit, left)

    def _wait_on(
        self, gen: Generator[Any, Any, T], interval: float, timeout: float | None, began: float
    ) -> T:
        bounded = _Bounded(gen, self.pgconn.socket, settings.ORG_MAX_ANSWER_BYTES)
        left = self._left(began)
        is_the_callers = timeout is not None and (left is None or timeout < left)
        until = timeout if is_the_callers else left
        try:
            try:
                rest = None if until is None else max(0.0, began + until - monotonic())
                return super().wait(bounded, interval, rest)  # type: ignore[arg-type]
            except errors._WaitTimeout:
                if is_the_callers:
                    raise
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)
            return super().wait(bounded, interval, CANCEL_SECONDS)  # type: ignore[arg-type]
        except errors._WaitTimeout:
            if is_the_callers:
                raise
            self._give_up()
            raise DeadlinePassed from None
        except AnswerTooLarge:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Close the socket, and have what the server still runs terminated."""
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            keeper.end(self.info.user, self.info.dbname, self.pgconn.backend_pid)
        self.pgconn.finish()

    # --- As new for the next ------------------------------------------------------------------
    def forget(self) -> bool:
        """Have the server forget what the session was told; whether it can be used again.

        Does not wait for the answer, which is there when the next one comes (`is_as_new`). Through
        a transaction pooler another session would hear it: there it is the pooler's to do.
        """
        if (self.isolation_level, self.read_only, self.deferrable) != (None, None, None):
            return False  # psycopg's own, of the connection and not of the session.
        if settings.MASTER_DB_DIRECT is None:
            try:
                self.pgconn.send_query(b"DISCARD ALL")
                self.pgconn.flush()
            except psycopg.Error:
                return False
            self._is_forgetting = True
        return True

    def is_as_new(self) -> bool:
        """Whether the session has forgotten, and the server has said nothing since: what it says to
        an idle session is that it ends.

        What a half-open network hides shows at the next statement only.
        """
        if self.closed or self.broken:
            return False
        if self._is_forgetting:
            self._is_forgetting = False
            try:
                if not self._has_forgotten():
                    return False
            except psycopg.Error:
                return False
        return is_quiet(self)

    def _has_forgotten(self) -> bool:
        """Read the answer, which most often is there."""
        found, pgconn = [], self.pgconn
        pgconn.consume_input()
        while not pgconn.is_busy():
            if (result := pgconn.get_result()) is None:
                break
            found.append(result)
        else:
            self.ends_at = None
            with time_limit(GRACE_SECONDS):
                found += self.wait(generators.fetch_many(pgconn))
        return [result.status for result in found] == [ExecStatus.COMMAND_OK]


def is_quiet(connection: psycopg.Connection[Any]) -> bool:
    """Whether an idle session is open and has nothing to say. Costs no round trip."""
    if connection.closed or connection.broken:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


class _Bounded:
    """Steps through an exchange, and counts what comes. Raises AnswerTooLarge.

    libpq buffers a result until its end and reports no sizes. Before and after each step the
    socket is asked how much waits in it. What passes in between is not seen, so a fast server can
    send several times the limit before it is noticed.
    """

    def __init__(self, gen: Generator[Any, Any, Any], socket: int, most: int) -> None:
        self._gen = gen
        self._socket = socket
        self._most = most
        self._came = 0

    def __iter__(self) -> "_Bounded":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, ready: Any) -> Any:
        if not ready:
            return self._gen.send(ready)
        before = self._queued()
        step = self._gen.send(ready)
        self._came += max(before - self._queued(), min(before, _READ_BYTES))
        if self._came > self._most:
            raise AnswerTooLarge("ORG_MAX_ANSWER_BYTES", self._most)
        return step

    def _queued(self) -> int:
        try:
            answer = fcntl.ioctl(self._socket, termios.FIONREAD, b"\0\0\0\0")
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])


def _shorten(error: psycopg.Error) -> None:
    """An organization's own errors are written to everybody's log."""
    text = str(error)
    if len(text) > _LONGEST_ERROR:
        error.args = (f"{text[:_LONGEST_ERROR]}…",)
