"""Rate-limit counters in the master database: the cache `throttles` without CACHE_URL.

tenancy/counters.py documents the methods.
"""

import secrets
from typing import Any

from django.core.cache.backends.base import BaseCache
from django.db import connections

from organizations.models import ThrottleCounter
from organizations.tenancy.counters import Hit, Reservation

# One in this many hits also removes expired rows, at most so many.
_PRUNE_ONE_IN = 200
_PRUNE_AT_MOST = 1_000
# ThrottleCounter.count of a reservation: failures in the low half, pending ones in the high half.
_PENDING = 2**32

# "Now" is read once: excluded.expires_at is now plus the window.
_HIT = """
INSERT INTO throttle_counters AS c (key, count, expires_at)
VALUES (%(key)s, 1, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (key) DO UPDATE SET (count, expires_at) = (
    SELECT CASE WHEN ended THEN 1 ELSE c.count + 1 END,
           CASE WHEN ended THEN excluded.expires_at ELSE c.expires_at END
    FROM (
        SELECT c.expires_at <= excluded.expires_at - make_interval(secs => %(seconds)s)
    ) AS old(ended)
)
RETURNING count, extract(epoch FROM expires_at - clock_timestamp())::float8
"""
# A row is kept `memory` seconds after its delay, which ends at expires_at - memory.
_RESERVE = """
INSERT INTO throttle_counters AS c (key, count, expires_at)
VALUES (%(key)s, 1 + %(pending)s, clock_timestamp() + make_interval(secs => %(memory)s + %(first)s))
ON CONFLICT (key) DO UPDATE SET (count, expires_at) = (
    SELECT known + 1 + %(pending)s,
           moment + make_interval(secs => %(memory)s + CASE WHEN failures <= %(free)s THEN 0 ELSE
               least(%(longest)s, 2 ^ least(failures - %(free)s - 1, 30)) END)
    FROM (SELECT clock_timestamp()) AS clock(moment),
         LATERAL (SELECT CASE WHEN c.expires_at <= moment THEN 0 ELSE c.count END) AS old(known),
         LATERAL (SELECT known %% %(pending)s + 1) AS counted(failures)
)
WHERE c.expires_at - make_interval(secs => %(memory)s) <= clock_timestamp()
RETURNING count, extract(epoch FROM expires_at - clock_timestamp())::float8 - %(memory)s
"""
_REFUSED = """
SELECT count, extract(epoch FROM expires_at - clock_timestamp())::float8 - %(memory)s
FROM throttle_counters WHERE key = %(key)s
"""
_SETTLE = """
UPDATE throttle_counters SET count = count - %(less)s
WHERE key = %(key)s AND count > %(pending)s
"""
_PRUNE = """
DELETE FROM throttle_counters WHERE key IN (
    SELECT key FROM throttle_counters WHERE expires_at <= clock_timestamp()
    LIMIT %(at_most)s FOR UPDATE SKIP LOCKED
)
"""


class MasterCounters(BaseCache):
    """Counters in the table throttle_counters. Implements nothing else of a cache."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def hit(self, key: str, *, seconds: int) -> Hit:
        if secrets.randbelow(_PRUNE_ONE_IN) == 0:
            self.prune()
        row = self._row(_HIT, key=self.make_and_validate_key(key), seconds=seconds)
        return Hit(*row)

    def reserve(self, key: str, *, free: int, longest: int, memory: int) -> Reservation:
        values = {"key": self.make_and_validate_key(key), "pending": _PENDING, "memory": memory}
        first = 0 if free else min(1, longest)
        row = None
        while row is None:
            row = self._row(_RESERVE, **values, free=free, longest=longest, first=first)
            granted = row is not None
            # Refused, but another attempt's success cleared it meanwhile: try again.
            row = row or self._row(_REFUSED, **values)
        pending, failures = divmod(row[0], _PENDING)
        return Reservation(granted, failures, pending, max(0.0, row[1]))

    def settle(self, key: str) -> None:
        self._change(_SETTLE, key=self.make_and_validate_key(key), pending=_PENDING, less=_PENDING)

    def release(self, key: str) -> None:
        name = self.make_and_validate_key(key)
        self._change(_SETTLE, key=name, pending=_PENDING, less=_PENDING + 1)

    def forget(self, key: str) -> None:
        self.delete(key)

    def prune(self) -> int:
        return self._change(_PRUNE, at_most=_PRUNE_AT_MOST)

    def _row(self, statement: str, **values: Any) -> Any:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()

    def _change(self, statement: str, **values: Any) -> int:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement, values)
            return int(cursor.rowcount)

    def delete(self, key: Any, version: int | None = None) -> bool:
        name = self.make_and_validate_key(key, version)
        return bool(ThrottleCounter.objects.filter(key=name).delete()[0])

    def clear(self) -> None:
        ThrottleCounter.objects.all().delete()
