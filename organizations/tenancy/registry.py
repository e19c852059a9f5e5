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
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.core.signals import request_finished
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseError
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.signals import connection_created
from psycopg.errors import ReadOnlySqlTransaction

from . import directory, pool
from .errors import RegistryFull
from .tenant import ALIAS_PREFIX, Tenant

_lock = threading.Lock()
# Registered aliases, least recently used first, with the tenant that each was registered for.
_recency: OrderedDict[str, Tenant] = OrderedDict()
_pins: Counter[str] = Counter()  # by alias, over all threads
_stale: set[str] = set()  # to be dropped when the last pin goes
_forgets = 0  # how often forget() was called
# Released pins that are not yet counted. The garbage collector can release one in a thread that
# already holds the lock, so a release never waits for it.
_released: SimpleQueue[str] = SimpleQueue()


class _Here(threading.local):
    """This thread's pins and wrappers."""

    def __init__(self) -> None:
        self.pins: Counter[str] = Counter()
        self.opened: set[str] = set()


_here = _Here()


class Aliases(dict[str, dict[str, Any]]):
    """`connections.settings`: finds every registered alias, but lists only those in use here.

    Django iterates over all aliases several times per request, in every thread
    (close_old_connections, reset_queries). If all were listed, the end of a request would cost as
    much as all organizations together, and no alias could be added during an iteration.
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
        # A block's own alias, so that `--database` of a command inside it knows it.
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
    """Registered organization aliases, least recently used first."""
    with _lock:
        _count_releases()
        return list(_recency)


def known(organization_id: int) -> Tenant | None:
    """The organization's tenant, if a request has looked it up and its alias is registered.

    It can be out of date. Its queries are sent over connections that the fence ends, and over new
    ones after the master was asked (backend/base.py).
    """
    alias = f"{ALIAS_PREFIX}{organization_id}"
    tenant = _recency.get(alias)
    return tenant if tenant is not None and tenant.is_routed and alias not in _stale else None


def refusal_after_loss(tenant: Tenant) -> Exception | None:
    """Why the tenant is not served any more, if this thread's connection to its database was lost.

    Asks the master once. None if it is still served, the master is away too, or nothing was lost.
    The statement that failed is not sent again: it may have been executed.
    """
    wrapper: Any = getattr(connections._connections, tenant.alias, None)  # type: ignore[attr-defined]
    if not tenant.is_routed or not getattr(wrapper, "is_lost", False):
        return None
    try:
        directory.get().tenant_by_id(tenant.organization_id)
    except DatabaseError:
        return None
    except Exception as refusal:
        forget(tenant.alias)
        return refusal
    return None


def refusal_of_write(tenant: Tenant, error: DatabaseError) -> Exception | None:
    """Why the tenant's database takes no write, if that is what the error says.

    Asks the master once. None if it is another error, or the organization is not read-only.
    """
    if not isinstance(error.__cause__, ReadOnlySqlTransaction):
        return None
    try:
        return directory.get().refusal_of_write(tenant)
    except DatabaseError:
        return None


def forget(alias: str) -> None:
    """Make the next block read the connection settings again; running blocks are not affected."""
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
    """Whether a block of this thread uses the alias, whose end will give the connection back."""
    return _here.pins[alias] > 0


class Pin:
    """Keeps the tenant's alias registered until `release` or the end of a with block.

    Safe from any thread; released once, by any thread. Raises RegistryFull when every alias is
    pinned, and what the directory raises for a deleted organization.
    """

    def __init__(self, tenant: Tenant) -> None:
        self._alias: str | None = None
        self._thread = threading.get_ident()
        _register_and_pin(tenant)
        _here.pins[tenant.alias] += 1
        self._alias = tenant.alias
        _reuse_wrapper(tenant.alias)

    def release(self) -> None:
        """Release the alias. The thread's connection goes back with its last pin."""
        alias, self._alias = self._alias, None
        if alias is None:
            return
        try:
            # Released elsewhere (end of a task, garbage collector): the thread's own connection
            # is left to the thread's reaper.
            if self._thread == threading.get_ident():
                _unpin(alias)
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


def _register_and_pin(tenant: Tenant) -> None:
    alias = tenant.alias
    while True:
        with _lock:
            _count_releases()
            if _is_current(tenant):
                _note(tenant)
                _pin(alias)
                return
            # Registered with another place or slug: the master decides which is right.
            asks_master = alias in _recency
            forgets = _forgets
        # Outside the lock: the directory may query the master database.
        config = _configured(
            alias, _settings_of(replace(tenant, place=None) if asks_master else tenant)
        )
        with _lock:
            if forgets != _forgets:
                continue  # forget() was called meanwhile: the settings may be outdated.
            _count_releases()
            if alias not in _recency:
                _evict_until_one_fits()
            if asks_master or not _is_current(tenant):
                if (before := _aliases().organizations.get(alias)) is not None:
                    config.share = before.share  # Its threads may still be at work.
                _retire(alias)
                _aliases().organizations[alias] = config
                _recency[alias] = tenant
            _note(tenant)
            _stale.discard(alias)
            _pin(alias)
            return


def _is_current(tenant: Tenant) -> bool:
    found = _recency.get(tenant.alias)
    if found is None or tenant.alias in _stale:
        return False
    is_elsewhere = tenant.place not in (None, found.place)
    is_renamed = tenant.is_routed and found.is_routed and tenant.slug != found.slug
    return not is_elsewhere and not is_renamed


def _note(tenant: Tenant) -> None:
    """Let later requests reuse this tenant, unless a command made it: that one has no place."""
    if tenant.is_routed:
        _recency[tenant.alias] = tenant


def _settings_of(tenant: Tenant) -> dict[str, Any]:
    """The directory's settings; also from an async task, where the ORM refuses calls."""
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
    """The entry with Django's defaults (TIME_ZONE, ATOMIC_REQUESTS, …)."""
    entry = pool.DatabaseEntry(config)
    # Django requires the default alias beside it.
    connections.configure_settings(
        {DEFAULT_DB_ALIAS: connections.settings[DEFAULT_DB_ALIAS], alias: entry}
    )
    return entry


def _pin(alias: str) -> None:
    _recency.move_to_end(alias)
    _pins[alias] += 1


def _count_releases() -> None:
    """Subtract released pins, and drop aliases kept only for them. Needs the lock."""
    while not _released.empty():
        alias = _released.get_nowait()
        _pins[alias] -= 1
        if _pins[alias] <= 0:
            del _pins[alias]
            if alias in _stale:
                _drop(alias)


def _unpin(alias: str) -> None:
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
    # Django keeps every alias it ever connected (db/backends/base/base.py).
    RAN_DB_VERSION_CHECK.discard(alias)


def _retire(alias: str) -> None:
    entry = _aliases().organizations.pop(alias, None)
    if entry is not None:
        pool.shared.retire(entry)


def _reuse_wrapper(alias: str) -> None:
    """Give this thread a wrapper from an earlier block; a new one costs as much as a query."""
    entry = _aliases().organizations.get(alias)
    if entry is None or hasattr(connections._connections, alias):  # type: ignore[attr-defined]
        return
    with suppress(IndexError):
        wrapper = entry.wrappers.pop()
        wrapper.belong_to_this_thread()
        connections[alias] = wrapper


def _close_here(alias: str) -> None:
    """Give back this thread's connection and wrapper."""
    wrapper = getattr(connections._connections, alias, None)  # type: ignore[attr-defined]
    if wrapper is not None:
        if wrapper.in_atomic_block:
            return  # The reaper will try again.
        if wrapper.connection is not None:  # An event loop's thread has no connections.
            wrapper.close()
        del connections[alias]
        entry = wrapper.settings_dict
        if isinstance(entry, pool.DatabaseEntry):
            entry.keep(wrapper)
    _here.opened.discard(alias)


def _remember(sender: Any, connection: Any, **kwargs: Any) -> None:
    """Note what this thread opened, and close what is no longer used.

    A connection can be opened in a thread that never entered a block: sync_to_async runs an async
    task's queries in one. No block ends there, so the next opening cleans up.
    """
    alias = connection.alias
    if alias.startswith(ALIAS_PREFIX):
        reap()
        _here.opened.add(alias)


def reap(**kwargs: Any) -> None:
    """Give back this thread's connections to unpinned aliases."""
    for alias in tuple(_here.opened):
        if not _pins[alias]:
            _close_here(alias)


connection_created.connect(_remember, dispatch_uid="tenancy.registry")
request_finished.connect(reap, dispatch_uid="tenancy.registry")
