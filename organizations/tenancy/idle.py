"""Idle connections, in the order in which they make room for other organizations.

A segmented LRU: a connection that was never used again goes before one that was, and of each kind
the least recently used goes first. So one request of each of many organizations closes nothing that
a regular uses. Of 64 connections over 1,000 organizations by Zipf it finds 0.61 open, a plain LRU
0.50, the best fixed choice 0.63: benchmarks/connection_policy.py.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from .guard import Connection

E = TypeVar("E")

# What regulars may have of all. The rest shows who becomes one.
REGULARS = 0.9


class Idle(Generic[E]):
    """Idle connections, each with its entry and the time since when. Not safe by itself."""

    def __init__(self) -> None:
        self._once: OrderedDict[Connection, tuple[E, float]] = OrderedDict()
        self._regular: OrderedDict[Connection, tuple[E, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._once) + len(self._regular)

    def __iter__(self) -> Iterator[tuple[E, Connection]]:
        for part in (self._once, self._regular):
            for connection, (entry, _) in part.items():
                yield entry, connection

    def add(self, entry: E, connection: Connection, now: float, *, ceiling: int) -> None:
        """Keep it. ceiling: of all connections, idle or not."""
        part = self._regular if connection.is_regular else self._once
        part[connection] = entry, now
        if len(self._regular) > ceiling * REGULARS:
            demoted, value = self._regular.popitem(last=False)
            demoted.is_regular = False
            self._once[demoted] = value

    def remove(self, connection: Connection) -> None:
        """Take it out, to be used or closed."""
        if connection in self._once:
            del self._once[connection]
        else:
            del self._regular[connection]

    def first(self) -> tuple[E, Connection]:
        """The one that makes room for another organization."""
        connection, (entry, _) = next(iter((self._once or self._regular).items()))
        return entry, connection

    def since_before(self, time: float) -> list[tuple[E, Connection]]:
        """Those that are idle since before that time."""
        return [
            (entry, connection)
            for part in (self._once, self._regular)
            for connection, (entry, since) in part.items()
            if since < time
        ]
