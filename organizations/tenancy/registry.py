"""The aliases of organization databases in this process: registered on need, bounded, evicted.

An alias is pinned while a block works for its organization. A pinned alias is never evicted, and
a thread closes its own connection when its last pin on the alias is released: what a process holds
open is bounded by what it works on, whatever the number of organizations.

Relies on django/utils/connection.py: BaseConnectionHandler keeps `settings` (a cached_property
dict that every thread iterates) and `_connections` (an asgiref Local, one attribute an alias).
"""

import threading
from collections import Counter, OrderedDict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.signals import request_finished
from django.db import connections
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


class _Here(threading.local):
    """What this thread holds."""

    def __init__(self) -> None:
        self.pins: Counter[str] = Counter()
        self.opened: set[str] = set()


_here = _Here()


def registered() -> list[str]:
    """Aliases of organizations that are registered now, least recently used first."""
    with _lock:
        return list(_recency)


def pin(tenant: "Tenant") -> None:
    """Register the tenant's alias if it is not, and keep it until `unpin`.

    Safe from any thread. Raises RegistryFull when every alias is pinned, and what the directory
    raises for an organization that is gone.
    """
    alias = tenant.alias
    with _lock:
        known = alias in _recency and alias not in _stale
        if known:
            _take(alias)
    if not known:
        # Outside the lock: the directory asks the master database.
        config = directory.get().connection_settings(tenant)
        with _lock:
            if alias not in _recency:
                _evict_until_one_fits()
                _write({alias: config})
            elif alias in _stale:
                _write({alias: config})
            _stale.discard(alias)
            _take(alias)
    _here.pins[alias] += 1


def unpin(alias: str) -> None:
    """Release one pin. This thread's connection goes with this thread's last one."""
    if _here.pins[alias] > 1:
        _here.pins[alias] -= 1
    else:
        del _here.pins[alias]
        _close_here(alias)
    with _lock:
        _pins[alias] -= 1
        if _pins[alias] <= 0:
            del _pins[alias]
            if alias in _stale:
                _drop(alias)


def forget(alias: str) -> None:
    """Make the next block read the connection's settings anew; blocks that run are left alone."""
    with _lock:
        if alias not in _recency:
            return
        if _pins[alias] > 0:
            _stale.add(alias)
        else:
            _drop(alias)


class Pin:
    """A pin that is released once: by `release`, or at the end of a with block."""

    def __init__(self, tenant: "Tenant") -> None:
        self._alias: str | None = None
        pin(tenant)
        self._alias = tenant.alias

    def release(self) -> None:
        alias, self._alias = self._alias, None
        if alias is not None:
            unpin(alias)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _take(alias: str) -> None:
    _recency.move_to_end(alias)
    _pins[alias] += 1


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


def _write(entries: dict[str, dict[str, Any]], *, without: str | None = None) -> None:
    for alias in entries:
        _recency.setdefault(alias)
    # Rebind, never mutate: other threads iterate this dict in close_old_connections().
    # configure_settings fills the defaults that a raw entry lacks (TIME_ZONE, ATOMIC_REQUESTS, …).
    current = {key: value for key, value in connections.settings.items() if key != without}
    connections.settings = connections.configure_settings({**current, **entries})


def _close_here(alias: str) -> None:
    """Close and delete this thread's wrapper; a wrapper belongs to the thread that made it."""
    _here.opened.discard(alias)
    wrapper = getattr(connections._connections, alias, None)  # type: ignore[attr-defined]
    if wrapper is None or wrapper.in_atomic_block:
        return
    wrapper.close()
    del connections[alias]


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
