"""The aliases of organization databases in this process: registered on need, bounded, evicted.

An alias is pinned while a block works for its organization. A pinned alias is never evicted, and
a thread closes its own connection when its last pin on the alias is released: what a process holds
open is bounded by what it works on, whatever the number of organizations.

Relies on django/utils/connection.py: BaseConnectionHandler keeps `settings` (a cached_property
dict that every thread iterates) and `_connections` (an asgiref Local, one attribute an alias).
"""

import asyncio
import threading
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.signals import request_finished
from django.db import connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.signals import connection_created

from . import directory
from .errors import RegistryFull

if TYPE_CHECKING:
    from .context import Tenant

# Always a prefix and a number: an alias is an attribute of asgiref's Local, and one named
# `_storage` would break it.
ALIAS_PREFIX = "org_"

_lock = threading.Lock()
_recency: OrderedDict[str, None] = OrderedDict()  # registered aliases, least recently used first
_pins: Counter[str] = Counter()  # by alias, over all threads
_stale: set[str] = set()  # to be dropped when the last pin goes
_forgets = 0  # how often forget() was called
# Pins that were let go and not yet counted. The garbage collector can let one go in a thread that
# holds the lock just then: a release waits for no lock.
_released: SimpleQueue[str] = SimpleQueue()


class _Here(threading.local):
    """What this thread holds."""

    def __init__(self) -> None:
        self.pins: Counter[str] = Counter()
        self.opened: set[str] = set()


_here = _Here()


def registered() -> list[str]:
    """Aliases of organizations that are registered now, least recently used first."""
    with _lock:
        _count_releases()
        return list(_recency)


def forget(alias: str) -> None:
    """Make the next block read the connection's settings anew; blocks that run are left alone."""
    global _forgets
    with _lock:
        _count_releases()
        _forgets += 1
        if alias not in _recency:
            return
        if _pins[alias] > 0:
            _stale.add(alias)
        else:
            _drop(alias)


class Pin:
    """Keeps the tenant's alias registered until `release`, or the end of a with block.

    Safe from any thread, and released once, by any thread. Raises RegistryFull when every alias is
    pinned, and what the directory raises for an organization that is gone.
    """

    def __init__(self, tenant: "Tenant") -> None:
        self._alias: str | None = None
        self._thread = threading.get_ident()
        _register_and_pin(tenant)
        _here.pins[tenant.alias] += 1
        self._alias = tenant.alias

    def release(self) -> None:
        """Let the alias go. A thread's connection goes with the thread's last pin."""
        alias, self._alias = self._alias, None
        if alias is None:
            return
        try:
            # Released elsewhere (a task's end, the garbage collector): the thread's own
            # connection is left to the thread's reaper.
            if self._thread == threading.get_ident():
                _leave(alias)
        finally:
            _released.put(alias)
            if _lock.acquire(blocking=False):
                try:
                    _count_releases()
                finally:
                    _lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _register_and_pin(tenant: "Tenant") -> None:
    alias = tenant.alias
    while True:
        with _lock:
            _count_releases()
            if alias in _recency and alias not in _stale:
                _take(alias)
                return
            forgets = _forgets
        # Outside the lock: the directory asks the master database.
        config = _settings_of(tenant)
        with _lock:
            if forgets != _forgets:
                continue  # What was read may be what was to be forgotten.
            _count_releases()
            if alias not in _recency:
                _evict_until_one_fits()
            if alias not in _recency or alias in _stale:
                _write({alias: config})
            _stale.discard(alias)
            _take(alias)
            return


def _settings_of(tenant: "Tenant") -> dict[str, Any]:
    """What the directory says; from an async task too, where the ORM refuses to be called."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return directory.get().connection_settings(tenant)

    def ask() -> dict[str, Any]:
        try:
            return directory.get().connection_settings(tenant)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(ask).result()


def _take(alias: str) -> None:
    _recency.move_to_end(alias)
    _pins[alias] += 1


def _count_releases() -> None:
    """Subtract the pins that were let go, and drop what was only kept for them. Needs the lock."""
    while True:
        try:
            alias = _released.get_nowait()
        except Empty:
            return
        _pins[alias] -= 1
        if _pins[alias] <= 0:
            del _pins[alias]
            if alias in _stale:
                _drop(alias)


def _leave(alias: str) -> None:
    if _here.pins[alias] > 1:
        _here.pins[alias] -= 1
    else:
        del _here.pins[alias]
        _close_here(alias)


def _evict_until_one_fits() -> None:
    ceiling: int = settings.ORG_MAX_ALIASES
    while len(_recency) >= ceiling:
        victim = next((alias for alias in _recency if not _pins[alias]), None)
        if victim is None:
            raise RegistryFull(ceiling)
        _drop(victim)


def _drop(alias: str) -> None:
    _recency.pop(alias, None)
    _stale.discard(alias)
    _write({}, without=alias)
    # Django remembers every alias it ever connected (db/backends/base/base.py).
    RAN_DB_VERSION_CHECK.discard(alias)


def _write(entries: dict[str, dict[str, Any]], *, without: str | None = None) -> None:
    for alias in entries:
        _recency.setdefault(alias)
    # Rebind, never mutate: other threads iterate this dict in close_old_connections().
    # configure_settings fills the defaults that a raw entry lacks (TIME_ZONE, ATOMIC_REQUESTS, …).
    current = {key: value for key, value in connections.settings.items() if key != without}
    connections.settings = connections.configure_settings({**current, **entries})


def _close_here(alias: str) -> None:
    """Close and delete this thread's wrapper; a wrapper belongs to the thread that made it."""
    wrapper = getattr(connections._connections, alias, None)  # type: ignore[attr-defined]
    if wrapper is not None:
        if wrapper.in_atomic_block:
            return  # The reaper comes back for it.
        if wrapper.connection is not None:  # An event loop's thread has wrappers, never sockets.
            wrapper.close()
        del connections[alias]
    _here.opened.discard(alias)


def _remember(sender: Any, connection: Any, **kwargs: Any) -> None:
    """Note what this thread opened, and close what nobody works on any more.

    A connection can be opened in a thread that never entered a block: sync_to_async runs queries
    of an async task in one. No exit happens there, so the next opening cleans up.
    """
    alias = connection.alias
    if alias.startswith(ALIAS_PREFIX):
        reap()
        _here.opened.add(alias)


def reap(**kwargs: Any) -> None:
    """Close this thread's connections to aliases that nobody has pinned."""
    for alias in tuple(_here.opened):
        if not _pins[alias]:
            _close_here(alias)


connection_created.connect(_remember, dispatch_uid="tenancy.registry")
request_finished.connect(reap, dispatch_uid="tenancy.registry")
