"""Keeps direct master sessions open for reuse.

A login costs more than most of the work in a session: the password's 4,096 iterations, and the
catalogs that a new back end reads.
"""

import atexit
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from django.conf import settings
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from organizations.tenancy.guard import is_quiet

Connection = psycopg.Connection[TupleRow]
Parameters = Mapping[str, Any]

IDLE_SECONDS = 300.0


class Stock:
    """Idle sessions, at most one per thread, since a thread uses one at a time.

    Sessions are reset before reuse: no settings, locks or transaction. Safe from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[Connection, Parameters, float]] = []

    def take(self, parameters: Parameters) -> Connection | None:
        """A live one with these parameters, if any; it then belongs to the caller."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, opened_with, since = self._idle.pop()
            is_young = time.monotonic() - since < IDLE_SECONDS
            if is_young and opened_with == parameters and is_quiet(connection):
                return connection
            connection.close()

    def give_back(self, parameters: Parameters, connection: Connection) -> None:
        """Keep it for reuse, or close it if it cannot be reused."""
        try:
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                # Releases locks too. Also before closing, since after that the server would still
                # hold them for a moment.
                connection.execute("DISCARD ALL")
                with self._lock:
                    if len(self._idle) < settings.WEB_THREADS:
                        self._idle.append((connection, parameters, time.monotonic()))
                        return
        except psycopg.Error:
            pass
        connection.close()

    def close(self) -> None:
        """Close all idle ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _, _ in idle:
            with suppress(psycopg.Error):
                connection.close()

    def leave_to_parent(self) -> None:
        """In a forked child, forget the parent's: closing them would end its sessions."""
        for connection, _, _ in self._idle:
            # psycopg warns about one collected while open, unless it was in a pool (psycopg 3.3,
            # _connection_base.py, __del__).
            connection._pool = None
        _of_parents.append(self._idle)
        self.__init__()  # type: ignore[misc]


_of_parents: list[object] = []
stock = Stock()
atexit.register(stock.close)
os.register_at_fork(after_in_child=stock.leave_to_parent)
