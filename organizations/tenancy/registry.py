"""Registers database aliases of organizations on demand, up to a limit, and evicts idle ones.

An alias is pinned while a block works for its organization. A pinned alias is never evicted. A
thread gives its connection back to the pool when its last pin on the alias is released.

Relies on django/utils/connection.py: BaseConnectionHandler keeps `settings` (a cached_property
dict) and `_connections` (an asgiref Local, one attribute per alias).
"""

import asyncio
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.signals import request_finished
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.signals import connection_created

from . import directory, pool
from .errors import RegistryFull

if TYPE_CHECKING:
    from .context import Place, Tenant

# Always a prefix and a number: an alias is an attribute of asgiref's Local, and one named
# `_storage` would break it.
ALIAS_PREFIX = "org_"

_lock = threading.Lock()
# Registered aliases, least recently used first; where each was said to be, if it was.
_recency: OrderedDict[str, "Place | None"] = OrderedDict()
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


class Aliases(dict[str, dict[str, Any]]):
    """`connections.settings`: finds every registered alias, and lists those that are in use here.

    Django walks all aliases several times at each request, in every thread (close_old_connections,
    reset_queries): with all of them listed a request's end would cost what all organizations cost,
    and an alias could not be added while somebody walks.
    """

    def __init__(self, fixed: dict[str, dict[str, Any]]) -> None:
        super().__init__(fixed)
        self.organizations: dict[str, pool.DatabaseEntry] = {}

    def __missing__(self, alias: str) -> dict[str, Any]:
        return self.organizations[alias]

    def __contains__(self, alias: object) -> bool:
        return super().__contains__(alias) or alias in self.organizations

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        # A block's own, so that `--database` of a command that runs in it knows it.
        yield from tuple(alias for alias in tuple(_here.pins) if alias in self.organizations)

    def get(self, alias: str, default: Any = None) -> Any:
        try:
            return self[alias]
        except KeyError:
            return default


def _aliases() -> Aliases:
    known = connections.settings
    if not isinstance(known, Aliases):
        known = connections.settings = Aliases(known)
    return known


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


def is_pinned_here(alias: str) -> bool:
    """Whether a block of this thread works with the alias: its end gives the connection back."""
    return _here.pins[alias] > 0


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
    place = tenant.place
    while True:
        with _lock:
            _count_releases()
            if _is_current(alias, place):
                _take(alias)
                return
            # Registered, and said to be elsewhere than now: who is right, the master says.
            asks = alias in _recency
            forgets = _forgets
        # Outside the lock: the directory may ask the master database.
        config = _configured(alias, _settings_of(replace(tenant, place=None) if asks else tenant))
        with _lock:
            if forgets != _forgets:
                continue  # What was read may be what was to be forgotten.
            _count_releases()
            if alias not in _recency:
                _evict_until_one_fits()
            if asks or not _is_current(alias, place):
                _retire(alias)
                _aliases().organizations[alias] = config
                _recency[alias] = place
            _stale.discard(alias)
            _take(alias)
            return


def _is_current(alias: str, place: "Place | None") -> bool:
    return alias in _recency and alias not in _stale and (place is None or place == _recency[alias])


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

    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(ask).result()


def _configured(alias: str, config: dict[str, Any]) -> pool.DatabaseEntry:
    """The entry with the defaults that a raw one lacks (TIME_ZONE, ATOMIC_REQUESTS, …)."""
    entry = pool.DatabaseEntry(config)
    # Django wants the default alias beside it.
    connections.configure_settings(
        {DEFAULT_DB_ALIAS: connections.settings[DEFAULT_DB_ALIAS], alias: entry}
    )
    return entry


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
    _retire(alias)
    # Django remembers every alias it ever connected (db/backends/base/base.py).
    RAN_DB_VERSION_CHECK.discard(alias)


def _retire(alias: str) -> None:
    entry = _aliases().organizations.pop(alias, None)
    if entry is not None:
        pool.shared.retire(entry)


def _close_here(alias: str) -> None:
    """Give back and delete this thread's wrapper; a wrapper belongs to the thread that made it."""
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
    """Give back this thread's connections to aliases that nobody has pinned."""
    for alias in tuple(_here.opened):
        if not _pins[alias]:
            _close_here(alias)


connection_created.connect(_remember, dispatch_uid="tenancy.registry")
request_finished.connect(reap, dispatch_uid="tenancy.registry")
