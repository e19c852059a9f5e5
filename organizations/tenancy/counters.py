"""Protocol for rate-limit counters shared by all processes (the cache `throttles`).

Implemented in organizations/throttling: in the master database, and in Redis.
"""

from typing import NamedTuple, Protocol, cast

from django.core.cache import caches
from django.utils.crypto import salted_hmac

ALIAS = "throttles"


class Hit(NamedTuple):
    """A request's number in its window, from 1, and when the window ends."""

    number: int
    seconds_left: float


class Reservation(NamedTuple):
    """Whether an attempt is allowed now.

    granted: allowed, and counted among `failures` until settled otherwise. If not granted,
    seconds_left is the remaining delay. pending: the number of running attempts.
    """

    granted: bool
    failures: int
    pending: int
    seconds_left: float


class Counters(Protocol):
    """Each method is atomic.

    Raises what the database or Redis raises: without a counter the answer is 503.
    """

    def hit(self, key: str, *, seconds: int) -> Hit:
        """Count a request in the key's window; the first one opens a window of so many seconds."""
        ...

    def reserve(self, key: str, *, free: int, longest: int, memory: int) -> Reservation:
        """Count a failure before the attempt, unless a delay is running.

        After `free` failures each further one starts a delay of 1, 2, 4 … and at most `longest`
        seconds. All are forgotten `memory` seconds after the last delay.
        """
        ...

    def settle(self, key: str) -> None:
        """The reserved attempt failed: it is no longer pending."""
        ...

    def release(self, key: str) -> None:
        """The reserved attempt does not count: it is not a failure."""
        ...

    def forget(self, key: str) -> None:
        """An attempt succeeded: forget all failures."""
        ...

    def prune(self) -> int:
        """Remove expired counters, unless the store does so itself. Returns how many."""
        ...


def get() -> Counters:
    """The counters shared by all processes."""
    return cast(Counters, caches[ALIAS])


def delay_seconds(failures: int, *, free: int, longest: int) -> int:
    """The delay after so many failures: 0 up to `free`, then 1, 2, 4 …"""
    if failures <= free:
        return 0
    # 2 ** 30 seconds is more than any setting allows.
    return int(min(longest, 2 ** min(failures - free - 1, 30)))


def hashed_key(key: str, key_prefix: str, version: int) -> str:
    """KEY_FUNCTION of `throttles`: hashes the key, so that it names no address or person.

    Keyed with SECRET_KEY, since a plain hash could be found by trying all addresses.
    """
    return salted_hmac("throttles", f"{version}:{key}", algorithm="sha256").hexdigest()
