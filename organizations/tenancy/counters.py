"""Protocol for rate-limit counters shared by all processes (the cache `throttles`).

Implemented in the master database (organizations/counters.py) and in Redis (redis_counters.py).
"""

from typing import NamedTuple, Protocol, cast

from django.core.cache import caches
from django.utils.crypto import salted_hmac

ALIAS = "throttles"


class Hit(NamedTuple):
    """The place of a request in its window, from 1, and when the window ends."""

    number: int
    seconds_left: float


class Reservation(NamedTuple):
    """Whether an attempt may be made now.

    granted: it may, and is among `failures` until it is settled otherwise. If not, seconds_left
    says how long no attempt may be made. pending: how many are under way.
    """

    granted: bool
    failures: int
    pending: int
    seconds_left: float


class Counters(Protocol):
    """Each method is one step that no other process can come between.

    Raises what the database or Redis raises: without a counter there is no answer but 503.
    """

    def hit(self, key: str, *, seconds: int) -> Hit:
        """Count one more in the key's window; the first opens a window of so many seconds."""
        ...

    def reserve(self, key: str, *, free: int, longest: int, memory: int) -> Reservation:
        """Count one more failure ahead of an attempt, unless the last ones forbid it for now.

        Beyond `free` failures each is followed by a delay of 1, 2, 4 … and at most `longest`
        seconds. All are forgotten `memory` seconds after the last delay.
        """
        ...

    def settle(self, key: str) -> None:
        """A reserved attempt has failed indeed: it is no longer pending."""
        ...

    def release(self, key: str) -> None:
        """A reserved attempt has come to nothing: it is no failure."""
        ...

    def forget(self, key: str) -> None:
        """An attempt has succeeded: no failure is remembered."""
        ...

    def prune(self) -> int:
        """Remove what has expired, where nothing else does. How many there were."""
        ...


def get() -> Counters:
    """The counters that all processes share."""
    return cast(Counters, caches[ALIAS])


def delay_seconds(failures: int, *, free: int, longest: int) -> int:
    """How long no attempt may follow so many failures: 0 up to `free`, then 1, 2, 4 …"""
    if failures <= free:
        return 0
    # 2 ** 30 seconds are longer than any setting allows.
    return int(min(longest, 2 ** min(failures - free - 1, 30)))


def hashed_key(key: str, key_prefix: str, version: int) -> str:
    """KEY_FUNCTION of `throttles`: what is stored names no address, person or organization.

    Keyed with SECRET_KEY: the hash of an address alone could be found by trying all addresses.
    """
    return salted_hmac("throttles", f"{version}:{key}", algorithm="sha256").hexdigest()
