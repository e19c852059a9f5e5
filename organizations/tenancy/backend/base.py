"""Database backend for organizations: gives a cursor only while its organization is active.

The router decides where a query goes; this wrapper is the second line of defence. It stops what
bypasses the router: `using=`, a queryset bound to an alias, `connections[alias]`, an object kept
too long.
"""

import itertools
import threading
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.db.backends.postgresql import base
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from psycopg import IsolationLevel, ServerCursor
from psycopg.pq import ExecStatus

from organizations.tenancy import directory, guard, pool, registry
from organizations.tenancy.context import peek
from organizations.tenancy.errors import NoTenant, WrongTenant
from organizations.tenancy.tenant import Tenant
from organizations.tenancy.transaction import refuse_uncovered_write

_cursor_names = itertools.count()


class _Cursor(CursorWrapper):
    """Refuses a result with too many rows, and returns the connection of a thread without a block.

    An iterator fetches a bounded number at a time; any other result is in memory as a whole.
    """

    db: "DatabaseWrapper"

    def _execute(self, sql: Any, params: Any, *ignored_wrapper_args: Any) -> Any:
        done = super()._execute(sql, params, *ignored_wrapper_args)  # type: ignore[misc]
        result = getattr(self.cursor, "pgresult", None)
        if result is not None and result.status == ExecStatus.TUPLES_OK:
            most: int = settings.ORG_MAX_ANSWER_ROWS
            if result.ntuples > most:
                with self.db.wrap_database_errors:
                    raise guard.AnswerTooLarge("ORG_MAX_ANSWER_ROWS", most)
        return done

    def close(self) -> None:
        """Close the cursor."""
        self.cursor.close()
        self.db.give_back_without_block()

    def __del__(self) -> None:
        # For a cursor that nobody closed.
        if not self.cursor.closed and self.db.is_of_this_thread():
            self.db.give_back_without_block(besides=self.cursor)


class _DebugCursor(_Cursor, CursorDebugWrapper):
    """The same, with query logging."""


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, which gives out cursors only inside the organization's block.

    Its connection is the pool's, and goes back when the wrapper is closed. In a thread without a
    block of its own (asyncio.to_thread, an executor, sync_to_async) it goes back after each
    statement or transaction, since no block would end there.
    """

    _is_opening = False
    _is_new = True
    # Django closes a lost connection when it cannot roll back.
    _was_lost = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: list[weakref.ref[Any]] = []
        self.execute_wrappers = [refuse_uncovered_write]

    @property
    def is_lost(self) -> bool:
        """Whether the connection of this block ended before the block did."""
        return self._was_lost or (self.connection is not None and self.connection.closed)

    def _require_active(self) -> None:
        tenant = peek()
        if tenant is None:
            raise NoTenant(f"The database {self.alias}")
        if tenant.alias != self.alias:
            raise WrongTenant("This query", belongs_to=self.alias, active=tenant.alias)

    def ensure_connection(self) -> None:
        """Connect if there is no connection, or one to where the database used to be.

        Every cursor and every transaction begins here (Django 5.2, db/transaction.py asks for the
        autocommit mode before it enters the block).
        """
        tenant = peek()
        # Outside the block it is not used, and closing it must not open another.
        inside = tenant is not None and tenant.alias == self.alias
        current = connections.settings.get(self.alias, self.settings_dict)
        if inside and current is not self.settings_dict and not self.in_atomic_block:
            # Left by an async task in a thread where no block ends. The alias was registered again
            # since, and its database may have moved.
            self.close()
            self.settings_dict = current
        if inside and self.connection is not None and self._is_unconfirmed(tenant):
            self.close()  # Opened inside somebody else's block.
        if self.connection is None:
            with self._opening():
                super().ensure_connection()

    def _is_unconfirmed(self, tenant: Tenant | None) -> bool:
        """Whether the master must be asked before a request uses this connection."""
        is_needed = tenant is not None and tenant.is_routed and not self.in_atomic_block
        return is_needed and not self.connection.is_confirmed

    @contextmanager
    def _opening(self) -> Iterator[None]:
        before, self._is_opening = self._is_opening, True
        try:
            yield
        finally:
            self._is_opening = before

    def _cursor(self, name: str | None = None) -> Any:
        # The garbage collector can run in between, and close what another cursor has left.
        with self._opening():
            return super()._cursor(name)  # type: ignore[misc]

    def set_autocommit(self, *args: Any, **kwargs: Any) -> None:
        """As Django's. It ends a transaction."""
        super().set_autocommit(*args, **kwargs)
        self.give_back_without_block()

    def belong_to_this_thread(self) -> None:
        """Take over a closed wrapper that another thread made; it keeps nothing of that block."""
        self._thread_ident = threading.get_ident()
        self.execute_wrappers = [refuse_uncovered_write]
        self.queries_log.clear()
        self._was_lost = self.force_debug_cursor = False

    def is_of_this_thread(self) -> bool:
        """Whether the calling thread made it."""
        made_by: int = self._thread_ident
        return made_by == threading.get_ident()

    def give_back_without_block(self, *, besides: Any = None) -> None:
        """Give the connection back if no block will, unless a transaction or a cursor is open.

        besides: a cursor that counts as closed.
        """
        if (
            self.connection is None
            or registry.is_pinned_here(self.alias)
            or not self.autocommit
            or self.in_atomic_block
            or self._is_opening
        ):
            return
        kept = [cursor for ref in self._cursors if (cursor := ref()) not in (None, besides)]
        if all(cursor.closed for cursor in kept):
            self.close()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection from the pool. Raises ConnectionsExhausted.

        It is never inside a transaction: one given back inside one is closed. For a request it is
        used only if the master, asked after it was opened, lets the organization be served
        (postgres/fence.py). Raises as directory.confirm.
        """
        self.isolation_level = IsolationLevel.READ_COMMITTED
        self._lease, self._is_new, self._was_lost = self._entry(), False, False
        connection = pool.shared.take(self._lease, self._connect)
        if not connection.is_confirmed and (tenant := self._routed()) is not None:
            try:
                self._confirm(tenant)
            except BaseException:
                pool.shared.give_back(self._lease, connection, keep=False)
                raise
            connection.is_confirmed = True
        return connection

    def _routed(self) -> Tenant | None:
        """The active tenant, if a request found it and the connection is for it."""
        tenant = peek()
        is_routed = tenant is not None and tenant.is_routed and tenant.alias == self.alias
        return tenant if is_routed else None

    def _confirm(self, tenant: Tenant) -> None:
        """Ask the master whether a request's route still holds, and forget it if it does not."""
        try:
            directory.get().confirm(tenant)
        except DatabaseError:
            raise
        except Exception:
            registry.forget(self.alias)
            raise

    def _entry(self) -> pool.DatabaseEntry:
        # A test can have registered the alias as an ordinary one.
        entry = self.settings_dict
        return entry if isinstance(entry, pool.DatabaseEntry) else pool.DatabaseEntry(entry)

    # --- Skipped for a reused connection ----------------------------------------------------------
    def connect(self) -> None:
        """As Django's (5.2, backends/base/base.py). A kept connection is used as it is: its session
        has the state it was opened with."""
        self.in_atomic_block = self.needs_rollback = False
        self.savepoint_ids, self.atomic_blocks = [], []
        self.closed_in_transaction = self.errors_occurred = False
        self.connection = self.get_new_connection({})
        if self._is_new or not self.connection.autocommit:
            self.set_autocommit(self.settings_dict["AUTOCOMMIT"])
        else:
            self.autocommit = True
        if self._is_new:
            self.init_connection_state()
        connection_created.send(sender=self.__class__, connection=self)
        self.run_on_commit = []

    def _connect(self) -> Any:
        """Connect. If that fails, raise why it is not served, and use no old route again.

        Ctrl-C can interrupt the login, and its traceback would keep the half-open connection. A
        back end that waits for the rest answers no barrier, so DROP DATABASE, which needs every
        back end of the server, would wait for authentication_timeout (PostgreSQL 18,
        storage/ipc/procsignal.c and libpq/be-secure.c).
        """
        self._is_new = True
        try:
            return guard.Connection.connect(**self.get_connection_params())
        except psycopg.OperationalError:
            # psycopg has no SQLSTATE for it: a full server, an old password, a suspension?
            if (tenant := self._routed()) is None:
                registry.forget(self.alias)  # A job or a command reads it again.
            else:
                with suppress(DatabaseError):  # The master is away too.
                    self._confirm(tenant)
            raise
        except (KeyboardInterrupt, SystemExit) as interrupt:
            traceback.clear_frames(interrupt.__traceback__)
            raise

    def _close(self) -> None:
        """Give the connection back. A cursor that somebody kept must not run in the next block's
        transaction."""
        if self.connection is None:
            return
        self._was_lost = self.is_lost
        cursors, self._cursors = self._cursors, []
        kept = [cursor for ref in cursors if (cursor := ref()) is not None and not cursor.closed]
        # A server-side cursor ends with the session.
        keep = not any(isinstance(cursor, ServerCursor) for cursor in kept)
        for cursor in kept:
            if not isinstance(cursor, ServerCursor):
                cursor.close()
        # The error may have been a lost connection; and closing inside a transaction must end
        # it.
        keep = keep and not self.errors_occurred and not self.in_atomic_block
        pool.shared.give_back(self._lease, self.connection, keep=keep)

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor that ends with the block."""
        cursor = super().create_cursor(name)
        self._cursors = [ref for ref in self._cursors if ref() is not None]
        self._cursors.append(weakref.ref(cursor))
        return cursor

    def make_cursor(self, cursor: Any) -> Any:
        """The wrapper of a cursor."""
        return _Cursor(cursor, self)

    def make_debug_cursor(self, cursor: Any) -> Any:
        """The same, with query logging."""
        return _DebugCursor(cursor, self)

    def cursor(self) -> Any:
        """A cursor. Raises NoTenant or WrongTenant."""
        self._require_active()
        return super().cursor()

    def chunked_cursor(self) -> Any:
        """A server-side cursor. Raises NoTenant or WrongTenant."""
        self._require_active()
        # Other wrappers have used the session, and their names for cursors.
        self._named_cursor_idx = next(_cursor_names)
        return super().chunked_cursor()
