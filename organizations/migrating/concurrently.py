"""CREATE INDEX CONCURRENTLY: lifts lock_timeout, and drops invalid indexes of failed tries."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

_COMMENTS = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
# They wait for older transactions without blocking anybody: a lock_timeout would only
# leave an invalid index.
_CONCURRENTLY = re.compile(
    _COMMENTS + r"(?:CREATE\s+(?:UNIQUE\s+)?INDEX|DROP\s+INDEX|REINDEX\b[^;]*?|"
    r"ALTER\s+TABLE\b[^;]*\bDETACH\s+PARTITION\b[^;]*?)\s+CONCURRENTLY\b",
    re.IGNORECASE | re.DOTALL,
)
_CREATE = re.compile(
    _COMMENTS + r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r'("(?:[^"]|"")+"|\w+)\s+ON\b',
    re.IGNORECASE | re.DOTALL,
)
_INVALID = """
SELECT n.nspname, c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.indexrelid = to_regclass(%s) AND NOT i.indisvalid"""
Execute = Callable[[str, Any, bool, dict[str, Any]], Any]


@contextmanager
def waiting(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Lift lock_timeout for such statements inside the block.

    An invalid index of the same name, left by an earlier try, is dropped first, and what a failed
    try leaves is dropped afterwards.
    """

    def run(
        execute: Execute, statement: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        if connection.in_atomic_block or not _CONCURRENTLY.match(statement):
            return execute(statement, params, many, context)
        found = _CREATE.match(statement)
        if found:
            _drop_invalid(connection, found[1])
        try:
            with _without_limit(connection):
                return execute(statement, params, many, context)
        except DatabaseError:
            if found:
                with suppress(DatabaseError):  # Only the error matters; the next try drops it.
                    _drop_invalid(connection, found[1])
            raise

    with connection.execute_wrapper(run):
        yield


def _drop_invalid(connection: BaseDatabaseWrapper, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_INVALID, [name])
        if (names := cursor.fetchone()) is not None:
            index = sql.Identifier(*names)
            cursor.execute(
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index).as_string()
            )


@contextmanager
def _without_limit(connection: BaseDatabaseWrapper) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        (before,) = cursor.fetchone()
        cursor.execute("SET lock_timeout = 0")
        try:
            yield
        finally:
            with suppress(DatabaseError):  # The session may be gone.
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [before])
