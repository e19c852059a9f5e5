"""Limits the bytes of a statement's result.

Counted twice: while bytes arrive, roughly, so that gigabytes are not gathered in memory; and in
what was received, exactly, before the caller gets any of it.

Relies on psycopg 3.3: what a cursor receives goes through its `_check_results`,
`_stream_fetchone_gen`, or its connection's `_exec_command` (_cursor_base.py, _pipeline_base.py,
_server_cursor_base.py), and what COPY receives is what Connection.wait returns (_copy_base.py).
"""

import fcntl
import struct
import termios
from collections.abc import Callable, Generator, Iterable
from functools import cache
from time import monotonic
from typing import Any

from django.conf import settings
from psycopg import errors
from psycopg.pq.abc import PGresult

# No exchange is faster. The server writes, and the client copies twice: some 1 GB a second.
_MOST_BYTES_PER_SECOND = 10_000_000_000
# libpq reads at least this much at a time (fe-misc.c, pqReadData).
_READ_BYTES = 8_192
# What the protocol adds to a row, and to each of its values.
_ROW_BYTES, _VALUE_BYTES = 7, 4


class AnswerTooLarge(errors.ProgramLimitExceeded):
    """A statement's result has too many rows or bytes."""

    def __init__(self, setting: str, most: int) -> None:
        super().__init__(
            f"The result of a statement is larger than {setting} = {most}. "
            "Fetch less, or iterate with QuerySet.iterator()."
        )


def require_small(results: Iterable[PGresult]) -> None:
    """Raise AnswerTooLarge if the results together are larger than ORG_MAX_ANSWER_BYTES."""
    most: int = settings.ORG_MAX_ANSWER_BYTES
    came = 0
    for result in results:
        columns = range(result.nfields)
        for row in range(result.ntuples):
            came += _ROW_BYTES + _VALUE_BYTES * len(columns)
            for column in columns:
                came += len(result.get_value(row, column) or b"")
                if came > most:
                    raise AnswerTooLarge("ORG_MAX_ANSWER_BYTES", most)


def shortest_seconds() -> float:
    """How long an exchange lasts at least whose result is larger than ORG_MAX_ANSWER_BYTES."""
    most: int = settings.ORG_MAX_ANSWER_BYTES
    return most / _MOST_BYTES_PER_SECOND


def require_small_copy(answer: object) -> None:
    """The same for what a step of COPY ... TO STDOUT received: a row, as it came or parsed."""
    if isinstance(answer, memoryview | bytes):
        came = len(answer)
    elif isinstance(answer, tuple):
        came = sum(len(value) for value in answer if isinstance(value, str | bytes))
    else:
        return
    if came > settings.ORG_MAX_ANSWER_BYTES:
        raise AnswerTooLarge("ORG_MAX_ANSWER_BYTES", settings.ORG_MAX_ANSWER_BYTES)


class _Measured:
    """Measures what a cursor of guard.Connection receives, before anybody can fetch it."""

    __slots__ = ()
    _conn: Any
    _check_unmeasured: Callable[[list[PGresult]], None]

    def _check_results(self, results: list[PGresult]) -> None:
        # At each statement, so nothing is looked up that can be known before.
        connection = self._conn
        if (
            monotonic() - connection.waits_since >= connection.measured_after
            # An answer can have come while others were waited for.
            or connection._pipeline
        ):
            require_small(results)
        self._check_unmeasured(results)

    def _stream_fetchone_gen(self, first: bool) -> Generator[Any, Any, PGresult | None]:
        result: PGresult | None
        result = yield from super()._stream_fetchone_gen(first)  # type: ignore[misc]
        if result is not None:
            require_small([result])  # It can have come with the one before.
        return result


@cache
def measured(factory: Any) -> Any:
    """The same class of cursors, whose results are measured."""
    # Found faster than by super().
    own = {"__module__": factory.__module__, "_check_unmeasured": factory._check_results}
    return type(factory.__name__, (_Measured, factory), own)


class Bounded:
    """Steps through an exchange and counts the bytes received. Raises AnswerTooLarge.

    libpq buffers a result until its end and reports no sizes. Before and after each step the
    socket is asked how much waits in it. What passes in between is not seen, so a fast server can
    send several times the limit before it is noticed.
    """

    def __init__(self, gen: Generator[Any, Any, Any], socket: int, most: int) -> None:
        self._gen = gen
        self._socket = socket
        self._most = most
        self._came = 0

    def __iter__(self) -> "Bounded":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, ready: Any) -> Any:
        """The exchange's next step."""
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
