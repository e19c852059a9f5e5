"""psycopg connections with a client-side statement timeout and a limit on the size of results.

An organization's database may run SQL of the organization's own: it may lift its
statement_timeout, swallow a cancel, or return gigabytes. So the client ends a statement itself: it
cancels, a second later it closes the socket, and what the server still runs is terminated from the
master (keeper.py). Nobody else is held up.

Relies on psycopg 3.3: each exchange with the server is a generator that goes through
Connection.wait, and a wait that timed out can be resumed (connection.py, `wait`, does so after
Ctrl-C).
"""

import select
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import monotonic
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from psycopg import errors, generators, waiting
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from . import keeper
from .answers import AnswerTooLarge as AnswerTooLarge
from .answers import Bounded, measured, require_small, require_small_copy, shortest_seconds

T = TypeVar("T")

# Let the server's own limit come first: its error is better, and the session survives.
GRACE_SECONDS = 1.0
# How long to wait for a cancel to arrive and take effect.
CANCEL_SECONDS = 1.0
# Only statements longer than this are watched closely; most have ended by then.
_FIRST_SECONDS = 0.05
_LONGEST_ERROR = 10_000


class DeadlinePassed(errors.QueryCanceled):
    """A statement took too long, and its connection was closed."""

    def __init__(self) -> None:
        super().__init__("The statement took too long, and its connection was closed.")


_serves_requests = False
_limit: ContextVar[float | None] = ContextVar("statement_limit", default=-1.0)


def serve_requests() -> None:
    """Mark this process as serving requests, whose time limit then applies to blocks."""
    global _serves_requests
    _serves_requests = True


def serves_requests() -> bool:
    """Whether this process serves requests."""
    return _serves_requests


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Set the client-side statement timeout for organizations' databases inside the block.

    None: no timeout. The default is STATEMENT_TIMEOUT_SECONDS and a second, after which the server
    should have ended it. The server's own limit does not change.
    """
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


def limit_seconds() -> float | None:
    """The client-side statement timeout here; None: no timeout."""
    limit = _limit.get()
    if limit is not None and limit < 0:
        return float(settings.STATEMENT_TIMEOUT_SECONDS) + GRACE_SECONDS
    return limit


INTERRUPTS = (KeyboardInterrupt, SystemExit)


def settle(connection: psycopg.Connection[Any]) -> None:
    """After an interrupt, read what is left of the answer; if that fails, close the connection.

    psycopg has cancelled the statement, but does not read the answer if the signal came while its
    generator ran (psycopg 3.3, connection.py, wait). Then the next statement would fail.
    """
    if connection.pgconn.transaction_status != TransactionStatus.ACTIVE:
        return
    try:
        rest = generators.fetch_many(connection.pgconn)
        waiting.wait(rest, connection.pgconn.socket, timeout=CANCEL_SECONDS)
    except psycopg.Error:
        connection.pgconn.finish()


class Connection(psycopg.Connection[Any]):
    """psycopg's own, with a client-side timeout.

    A late statement raises QueryCanceled if the server obeyed the cancel, and DeadlinePassed
    otherwise. Raises AnswerTooLarge for a result of more than ORG_MAX_ANSWER_BYTES, and closes.
    """

    # Since when the current holder has it, its deadline, and how long it has waited for the server.
    lent_at = 0.0
    ends_at: float | None = None
    _waited = 0.0
    _is_waiting = False
    # When the exchange that goes on began, or the last one.
    waits_since = 0.0
    # Shorter exchanges had no time for a result that is too large.
    measured_after = 0.0
    _cursor_factory: type[psycopg.Cursor[Any]]
    _is_forgetting = False
    # Whether it was used again since it was opened (idle.py).
    is_regular = False
    # Whether the master was asked, after it was opened, and lets the organization be served.
    is_confirmed = False

    def lend(self, seconds: float | None) -> None:
        """Start counting for a new holder, who may keep it for so long."""
        if settings.MASTER_DB_DIRECT is not None:
            # A pooler keeps it open when the server's session was ended.
            self.is_confirmed = False
        self.measured_after = shortest_seconds()
        self._waited, self.lent_at = 0.0, monotonic()
        self.ends_at = None if seconds is None else self.lent_at + seconds

    @property
    def waited_seconds(self) -> float:
        """How long the holder has waited for the server in total. Callable from any thread."""
        since = monotonic() - self.waits_since
        return self._waited + (since if self._is_waiting else 0.0)

    @property
    def cursor_factory(self) -> type[psycopg.Cursor[Any]]:
        """The class of its cursors: psycopg's or Django's, but their results are measured."""
        return self._cursor_factory

    @cursor_factory.setter
    def cursor_factory(self, factory: Any) -> None:
        self._cursor_factory = measured(factory)

    def _exec_command(self, *args: Any, **options: Any) -> Generator[Any, Any, PGresult | None]:
        """psycopg's, as server-side cursors fetch."""
        result = yield from super()._exec_command(*args, **options)
        if result is not None and monotonic() - self.waits_since >= self.measured_after:
            require_small([result])
        return result

    def wait(
        self,
        gen: Generator[Any, Any, T],
        interval: float = 0.1,
        timeout: float | None = None,
    ) -> T:
        """Like psycopg's, but limited by time_limit and by the holder's deadline."""
        began = self.waits_since = monotonic()
        self._is_waiting = True
        try:
            left = self._left(began)
            first = _FIRST_SECONDS if left is None else min(_FIRST_SECONDS, left)
            if timeout is not None and timeout <= first:
                return super().wait(gen, interval, timeout)
            try:
                answer = super().wait(gen, interval, first)
            except errors._WaitTimeout:
                answer = self._wait_on(gen, interval, timeout, began)
            if answer is not None:
                require_small_copy(answer)
            return answer
        except AnswerTooLarge:
            self._give_up()
            raise
        except psycopg.Error as error:
            _shorten(error)
            raise
        except INTERRUPTS:
            settle(self)
            raise
        finally:
            self._is_waiting = False
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
        bounded = Bounded(gen, self.pgconn.socket, settings.ORG_MAX_ANSWER_BYTES)
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

    def _give_up(self) -> None:
        """Close the socket, and have what the server still runs terminated."""
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            keeper.end(self.info.user, self.info.dbname, self.pgconn.backend_pid)
        self.pgconn.finish()

    # --- Reset for the next holder ------------------------------------------------------------
    def forget(self) -> bool:
        """Send DISCARD ALL to reset the session. Returns whether the connection can be reused.

        Does not wait for the answer, which the next holder reads (`is_as_new`). Through a
        transaction pooler another session would receive it, so there the pooler must do it.
        """
        if (self.isolation_level, self.read_only, self.deferrable) != (None, None, None):
            return False  # psycopg's own state belongs to the connection, not to the session.
        if settings.MASTER_DB_DIRECT is None:
            try:
                self.pgconn.send_query(b"DISCARD ALL")
                self.pgconn.flush()
            except psycopg.Error:
                return False
            self._is_forgetting = True
        return True

    def is_as_new(self) -> bool:
        """Whether the session was reset and the server has sent nothing since: all it sends to an
        idle session is that it ends.

        A half-open network shows only at the next statement.
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
        """Read the answer, which has usually arrived."""
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
    """Whether an idle session is open and has sent nothing. Costs no round trip."""
    if connection.closed or connection.broken:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _shorten(error: psycopg.Error) -> None:
    """Truncate an organization's error message: it is written to the common log."""
    text = str(error)
    if len(text) > _LONGEST_ERROR:
        error.args = (f"{text[:_LONGEST_ERROR]}…",)
