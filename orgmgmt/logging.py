"""Log filter and formatter: stamps each line with the organization and the request id."""

import copy
import logging
import threading
import time
import traceback
from typing import Any

from organizations import tenancy
from organizations.tenancy import trail

# The attributes of every LogRecord; everything else came through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "tenant",
    "request_id",
}


class TenantFilter(logging.Filter):
    """Stamps each record with the active organization's alias and the request's id, or `-`."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(
            record, "tenant"
        ):  # Already set for a failed request, which is logged at its end.
            tenant = tenancy.peek()
            record.tenant = "-" if tenant is None else tenant.alias
        record.request_id = trail.origin().request_id or "-"
        return True


class LineFormatter(logging.Formatter):
    """One line per record, with the values of `extra` after the message. At most one traceback per
    minute for each cause: in an outage every request has the same one."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._told: dict[object, float] = {}
        self._lock = threading.Lock()

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or self._is_due(_cause(error)):
            return super().format(record)
        record = copy.copy(record)  # Other handlers share it.
        record.exc_info = record.exc_text = None
        record.error = _sentence(error)
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        line = super().formatMessage(record)
        extra = {
            key: value
            for key, value in vars(record).items()
            if key not in _STANDARD and isinstance(value, str | int | float | bool)
        }
        return line + "".join(f" {key}={value!r}" for key, value in extra.items())

    def _is_due(self, cause: object) -> bool:
        now = time.monotonic()
        with self._lock:
            last = self._told.get(cause)
            if last is not None and now - last < TRACEBACK_SECONDS:
                return False
            if len(self._told) >= _MOST_CAUSES:
                self._told.clear()
            self._told[cause] = now
            return True


TRACEBACK_SECONDS = 60.0
_MOST_CAUSES = 1_000


def _cause(error: BaseException) -> object:
    """The type of the error that caused this one first, and the line that raised it."""
    seen = {error}
    # An error raised from itself makes a circle.
    while error.__cause__ is not None and error.__cause__ not in seen:
        error = error.__cause__
        seen.add(error)
    frames = traceback.extract_tb(error.__traceback__)
    # psycopg's errors have lost their frames: only the type is left.
    return type(error), (frames[-1].filename, frames[-1].lineno) if frames else None


def _sentence(error: BaseException) -> str:
    """Its type and message, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
