"""Connection pool for organizations' databases, shared by all threads and bounded.

A block takes a connection when it first queries its database, and gives it back when it ends. The
connection stays open, with its session state cleared, for the next block of that organization in
any thread. At most ORG_MAX_CONNECTIONS are open: if another organization needs one, an idle one is
closed (idle.py says which); one in use is never taken. If all are in use, a thread waits for at
most ORG_CONNECTION_WAIT_SECONDS.

Where requests are served, one organization has a share of the threads (shares.py).

psycopg's own pools are for one database each, with threads of their own: a thousand organizations
would have no common limit. docs/decisions/0013-connections.md has the figures.
"""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import psycopg
from django.conf import settings

from . import directory, guard, keeper, shares
from .errors import ConnectionsExhausted, OrganizationCrowded
from .guard import Connection
from .idle import Idle
from .shares import Share, Waiter

logger = logging.getLogger(__name__)

# How long a full server may take to release a connection that was closed for another.
_MAKES_ROOM_SECONDS = 0.05
# How long a block waits for a connection that its organization has in use before it opens another,
# which costs more processor time than most blocks.
_HOPES_SECONDS = 0.02


class DatabaseEntry(dict[str, Any]):
    """A registered DATABASES entry, with the connections opened by it.

    is_retired: no longer registered; its connections are not kept.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle: list[Connection] = []
        self.share = Share()
        # Django's, closed and of no thread, for the next blocks: no more than idle connections, or
        # memory would grow with the organizations that a process has met.
        self.wrappers: list[Any] = []
        self.is_retired = False

    def keep(self, wrapper: Any) -> None:
        """Keep a closed wrapper for the next block, if a connection waits for it."""
        if len(self.wrappers) < len(self.idle):
            self.wrappers.append(wrapper)

    def close(self, connection: Connection) -> None:
        """Close a connection that was idle, and drop its wrapper."""
        close(connection)
        del self.wrappers[len(self.idle) :]


class _Waiter(Waiter):
    """A waiting thread. It gets a connection, to use or to close, or permission to open one."""

    def __init__(self, entry: DatabaseEntry) -> None:
        super().__init__()
        self.entry = entry
        self.given: tuple[DatabaseEntry, Connection] | None = None

    def get(self, given: tuple[DatabaseEntry, Connection] | None) -> None:
        """Wake it with a connection, or with the room for one. Needs the pool's lock."""
        self.given = given
        self.serve()


@dataclass(frozen=True, slots=True)
class _Return:
    """Something given back but not yet counted: a connection, or the room of a closed one, and the
    thread's place in its organization's share."""

    entry: DatabaseEntry
    connection: Connection | None = None
    frees_room: bool = True
    ends_lease: bool = True


class Pool:
    """Safe from any thread, and from the garbage collector, which can give a connection back in a
    thread that already holds the lock: so giving back and retiring never wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: Idle[DatabaseEntry] = Idle()
        self._waiting: deque[_Waiter] = deque()
        # For a connection that their own organization has in use.
        self._hoping: deque[_Waiter] = deque()
        self._open = 0
        self._returned: SimpleQueue[_Return] = SimpleQueue()
        self._retired: SimpleQueue[DatabaseEntry] = SimpleQueue()
        # Counts of blocks: found one open, opened one, closed another's for it, waited, and waited
        # in vain.
        self.hits = self.misses = self.evictions = self.waits = self.refusals = 0

    @property
    def open(self) -> int:
        """The number of connections: in use, idle and being opened."""
        self._settle()
        return self._open

    @property
    def idle(self) -> int:
        """The number of idle connections."""
        self._settle()
        return len(self._idle)

    def take(self, entry: DatabaseEntry, connect: Callable[[], Connection]) -> Connection:
        """A live connection of `entry`: an idle one, or a new one opened by `connect`.

        Raises ConnectionsExhausted after the wait, OrganizationCrowded, and what `connect` raises.
        """
        keeper.shared.start()
        self._admit(entry)
        try:
            connection = self._found(entry) or self._opened(entry, connect)
            # A thread can end without giving back, if it ran a query of an async task.
            lost = _Return(entry)
            entry.share.lent[id(connection)] = weakref.ref(
                connection, lambda _: self._hand_in(lost)
            )
        except BaseException:
            self._hand_in(_Return(entry, frees_room=False))
            raise
        connection.lend(settings.REQUEST_TIMEOUT_SECONDS if guard.serves_requests() else None)
        return connection

    def _found(self, entry: DatabaseEntry) -> Connection | None:
        given = self._room_or_connection(entry)
        while given is not None:
            owner, connection = given
            try:
                if owner is entry and not entry.is_retired and connection.is_as_new():
                    self.hits += 1
                    return connection
            except BaseException:
                close(connection)
                self._hand_in(_Return(owner, ends_lease=False))
                raise
            if owner is not entry:
                self.evictions += 1
            owner.close(connection)
            given = self._instead(entry)
        return None

    def _opened(self, entry: DatabaseEntry, connect: Callable[[], Connection]) -> Connection:
        self.misses += 1
        try:
            try:
                return connect()
            except psycopg.OperationalError as error:
                if not self._makes_room_on_server(entry, error):
                    raise
                return connect()
        except BaseException:
            self._hand_in(_Return(entry, ends_lease=False))
            raise

    def give_back(self, entry: DatabaseEntry, connection: Connection, *, keep: bool) -> None:
        """Keep the connection for the next block, or close it if that is not wanted or unsafe."""
        entry.share.lent.pop(id(connection), None)
        if keep and not connection.closed and not connection.broken:
            is_idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
            keep = is_idle and connection.forget()
        else:
            keep = False
        if not keep:
            close(connection)
        self._hand_in(_Return(entry, connection if keep else None))

    def retire(self, entry: DatabaseEntry) -> None:
        """The entry is no longer registered: close its idle connections, keep none given back."""
        entry.is_retired = True
        self._retired.put(entry)
        self._settle()

    def close_idle(self) -> None:
        """Close all idle connections."""
        with self._lock:
            surplus = self._count_returns()
            idle = list(self._idle)
            self._take_out(idle)
        self._dispose(surplus + idle)

    def close_outlived(self) -> None:
        """Close connections idle for ORG_CONNECTION_IDLE_SECONDS."""
        if self._idle or not self._returned.empty():
            with self._lock:
                surplus = self._count_returns()
                before = time.monotonic() - settings.ORG_CONNECTION_IDLE_SECONDS
                outlived = self._idle.since_before(before)
                self._take_out(outlived)
            self._dispose(surplus + outlived)

    def leave_to_parent(self) -> None:
        """In a forked child, forget the parent's connections; closing would end its sessions."""
        for entry, connection in self._idle:
            # psycopg warns about a connection collected while open, unless it was in a pool
            # (psycopg 3.3, _connection_base.py, __del__).
            connection._pool = None
            entry.idle.clear()
        _of_parents.append(self._idle)
        self.__init__()  # type: ignore[misc]

    # --- An organization's share of the threads -----------------------------------------------
    def _admit(self, entry: DatabaseEntry) -> None:
        """Get a place in the organization's share, or wait for one as long as that makes sense."""
        share = entry.share
        with self._lock:
            surplus = self._count_returns()
            waiter = None if share.enters() else share.stand_in_line()
        self._dispose(surplus)
        if waiter is None:
            return
        until = time.monotonic() + settings.ORG_CONNECTION_WAIT_SECONDS
        is_interrupted = True
        try:
            while not share.is_stuck() and time.monotonic() < until:
                if waiter.woken.wait(share.LOOK_SECONDS):
                    break
            is_interrupted = False
        finally:
            with self._lock:
                surplus = self._count_returns()
                share.leave_line(waiter)
            if is_interrupted and waiter.is_served:
                self._returned.put(_Return(entry, frees_room=False))
            self._dispose(surplus)
        if not waiter.is_served:
            self.refusals += 1
            raise OrganizationCrowded(*shares.limit())

    # --- Counting -----------------------------------------------------------------------------
    def _room_or_connection(
        self, entry: DatabaseEntry, *, hopes: bool = True
    ) -> tuple[DatabaseEntry, Connection] | None:
        """An idle connection, to use or, if it is another's, to close first; None: a new one may be
        opened. Either way it is counted as open.

        hopes: first wait a moment for one that the organization has in use.
        """
        line, seconds = self._waiting, float(settings.ORG_CONNECTION_WAIT_SECONDS)
        with self._lock:
            surplus = self._count_returns()
            hopes = hopes and not entry.idle and entry.share.ends_soon()
            found, waiter = None if hopes else self._find(entry), None
            if hopes:
                line, seconds = self._hoping, _HOPES_SECONDS
                line.append(waiter := _Waiter(entry))
            elif found is None and self._open < settings.ORG_MAX_CONNECTIONS:
                self._open += 1
            elif found is None:
                line.append(waiter := _Waiter(entry))
                self.waits += 1
        self._dispose(surplus)
        if waiter is None:
            return found
        is_interrupted = True
        try:
            waiter.woken.wait(seconds)
            is_interrupted = False
        finally:
            with self._lock:
                # Also one given back while the time ran out.
                surplus = self._count_returns()
                if not waiter.is_served:
                    line.remove(waiter)
            if is_interrupted and waiter.is_served:
                owner, connection = waiter.given or (entry, None)
                self._returned.put(_Return(owner, connection, ends_lease=False))
            self._dispose(surplus)
        if waiter.is_served:
            return waiter.given
        if hopes:
            return self._room_or_connection(entry, hopes=False)
        self.refusals += 1
        raise ConnectionsExhausted(settings.ORG_MAX_CONNECTIONS)

    def _find(self, entry: DatabaseEntry) -> tuple[DatabaseEntry, Connection] | None:
        found = None
        if entry.idle:
            # The most recent one is the likeliest to be alive.
            found = entry, entry.idle[-1]
            found[1].is_regular = True
        elif self._idle and self._open >= settings.ORG_MAX_CONNECTIONS:
            found = self._idle.first()
        if found is not None:
            self._take_out([found])
        return found

    def _instead(self, entry: DatabaseEntry) -> tuple[DatabaseEntry, Connection] | None:
        """Another idle one of the entry, in place of a closed one."""
        with self._lock:
            found = (entry, entry.idle[-1]) if entry.idle else None
            if found is not None:
                self._take_out([found])
                self._free()
        self._settle()
        return found

    def _makes_room_on_server(self, entry: DatabaseEntry, error: psycopg.OperationalError) -> bool:
        """If the server is full, close one of our idle connections. Returns whether one was closed.

        Not for the organization's own limit, for which others would pay: that raises
        OrganizationCrowded.
        """
        match _limit_met(entry):
            case "role" | "database":
                limit = settings.ORG_CONNECTION_LIMIT
                raise OrganizationCrowded("ORG_CONNECTION_LIMIT", limit) from error
            case "server":
                with self._lock:
                    found = [self._idle.first()] if self._idle else []
                    self._take_out(found)
                self._dispose(found)
                self.evictions += len(found)
                if found:
                    time.sleep(_MAKES_ROOM_SECONDS)
                return bool(found)
        return False

    def _take_out(self, idle: list[tuple[DatabaseEntry, Connection]]) -> None:
        for entry, connection in idle:
            entry.idle.remove(connection)
            self._idle.remove(connection)

    def _dispose(self, taken_out: list[tuple[DatabaseEntry, Connection]]) -> None:
        """Close, and only then let others open theirs. Call whenever the lock was released: whoever
        gave something back meanwhile left the counting to its holder."""
        for entry, connection in taken_out:
            entry.close(connection)
            self._returned.put(_Return(entry, ends_lease=False))
        self._settle()

    def _free(self) -> None:
        """Count one less, or let a waiting thread open one."""
        if self._waiting and self._open <= settings.ORG_MAX_CONNECTIONS:
            self._waiting.popleft().get(None)
        else:
            self._open -= 1

    def _next(self, entry: DatabaseEntry) -> _Waiter | None:
        """Who gets a connection of this entry. Whoever waits for any goes first."""
        if self._waiting:
            return self._waiting.popleft()
        found = next((waiter for waiter in self._hoping if waiter.entry is entry), None)
        if found is not None:
            self._hoping.remove(found)
        return found

    def _hand_in(self, returned: _Return) -> None:
        self._returned.put(returned)
        self._settle()

    def _settle(self) -> None:
        """Count what was given back; if another thread holds the lock, it does so afterwards."""
        while not (self._returned.empty() and self._retired.empty()):
            if not self._lock.acquire(blocking=False):
                return
            try:
                surplus = self._count_returns()
            finally:
                self._lock.release()
            self._dispose(surplus)

    def _count_returns(self) -> list[tuple[DatabaseEntry, Connection]]:
        """Make returned connections idle again; returns those to close. Needs the lock."""
        surplus: list[tuple[DatabaseEntry, Connection]] = []
        ceiling: int = settings.ORG_MAX_CONNECTIONS
        now = time.monotonic()
        while not self._returned.empty():
            returned = self._returned.get_nowait()
            entry, connection = returned.entry, returned.connection
            if returned.ends_lease:
                entry.share.leave()
            if connection is None:
                if returned.frees_room:
                    self._free()
            elif entry.is_retired or self._open - len(surplus) > ceiling:
                surplus.append((entry, connection))
            elif waiter := self._next(entry):
                connection.is_regular = waiter.entry is entry
                waiter.get((entry, connection))
            else:
                entry.idle.append(connection)
                self._idle.add(entry, connection, now, ceiling=ceiling)
        while not self._retired.empty():
            entry = self._retired.get()
            idle = [(entry, connection) for connection in entry.idle]
            self._take_out(idle)
            surplus += idle
        while self._idle and self._open - len(surplus) > ceiling:
            first = self._idle.first()
            self._take_out([first])
            surplus.append(first)
        return surplus


def _limit_met(entry: DatabaseEntry) -> str | None:
    try:
        return directory.get().limit_met(role=entry["USER"], database=entry["NAME"])
    except Exception as error:  # Such as an unavailable server; the connect error is raised.
        logger.warning("connection limits not checked", exc_info=error)
        return None


def close(connection: Connection) -> None:
    """Close the connection in any state."""
    with suppress(psycopg.Error):
        connection.close()


_of_parents: list[object] = []
shared = Pool()
keeper.shared.every_second = shared.close_outlived
os.register_at_fork(after_in_child=lambda: shared.leave_to_parent())
