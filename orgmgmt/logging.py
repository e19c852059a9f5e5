"""Log lines that say which organization they are about, and which request."""

import logging

from organizations import tenancy
from organizations.tenancy import trail

# What a LogRecord has of itself; everything else on it came through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "tenant",
    "request_id",
}


class TenantFilter(logging.Filter):
    """Stamps each record with the active organization's alias and the request's id, or `-`."""

    def filter(self, record: logging.LogRecord) -> bool:
        tenant = tenancy.peek()
        record.tenant = "-" if tenant is None else tenant.alias
        record.request_id = trail.origin().request_id or "-"
        return True


class LineFormatter(logging.Formatter):
    """One line a record, with the values given in `extra` behind the message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        line = super().formatMessage(record)
        extra = {
            key: value
            for key, value in vars(record).items()
            if key not in _STANDARD and isinstance(value, str | int | float | bool)
        }
        return line + "".join(f" {key}={value!r}" for key, value in extra.items())
