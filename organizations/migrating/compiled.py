"""Compiles a schema-only migration to SQL once, for all databases that lack it.

Django's own schema editor makes the SQL, on a connection that leads nowhere. A migration that
queries the database is not compiled, since each database may answer differently.

Relies on Django 5.2: db/backends/base/schema.py and db/backends/postgresql/schema.py send all their
statements through `execute` and take every default from `effective_default`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.postgresql.psycopg_any import (  # type: ignore[import-untyped]
    get_adapters_template,
)
from django.db.backends.postgresql.schema import DatabaseSchemaEditor
from django.db.migrations import operations
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

from organizations.tenancy.tenant import ALIAS_PREFIX

from .rehearsal import Change, Step

_SCHEMA = ("django.db.migrations.operations.models", "django.db.migrations.operations.fields")
# Callables that return the same each time.
_CONSTANT = (bool, bytes, dict, float, int, list, str, tuple)


class NotCompiled(Exception):
    """The migration must run for each database; the message says why."""


@dataclass(frozen=True)
class Compiled:
    """statements, None: it must run for each database, for `reason`. batch: what is sent."""

    statements: tuple[str, ...] | None
    reason: str = ""
    batch: str = ""


def compiled(step: Step, server_version: int) -> Compiled:
    """Compile a step for this server version (as psycopg gives it). Not thread-safe."""
    known: Compiled | None = step.compiled.get(server_version)
    if known is None:
        try:
            statements = _statements(step, server_version)
            known = Compiled(statements, batch=batch(statements, step.changes))
        except NotCompiled as error:
            known = Compiled(None, str(error))
        except Exception as error:
            # Django's executor will raise it again, for the organization at hand.
            known = Compiled(None, f"{type(error).__name__}: {error}")
        step.compiled[server_version] = known
    return known


def batch(statements: Sequence[str], changes: Sequence[Change]) -> str:
    """The statements, and the changes of django_migrations."""
    rows = [_row(*change) for change in changes]
    # On its own line: a statement may end with a comment.
    return "\n;\n".join((*statements, *rows))


def table_of_migrations(server_version: int) -> tuple[str, ...]:
    """The SQL that creates django_migrations."""
    with _Editor(_Connection(server_version)) as editor:
        editor.create_model(MigrationRecorder.Migration)
    return tuple(editor.statements)


def _row(comes: bool, key: tuple[str, str]) -> str:
    table = sql.Identifier(MigrationRecorder.Migration._meta.db_table)
    values = [sql.Literal(part) for part in key]
    if comes:
        insert = "INSERT INTO {} (app, name, applied) VALUES ({}, {}, clock_timestamp())"
        return sql.SQL(insert).format(table, *values).as_string()
    return sql.SQL("DELETE FROM {} WHERE app = {} AND name = {}").format(table, *values).as_string()


def _statements(step: Step, server_version: int) -> tuple[str, ...]:
    migration = step.own_migration()
    if not migration.atomic:
        raise NotCompiled("it is not atomic")
    for operation in migration.operations:
        _refuse_unless_schema(operation)
    with _Editor(_Connection(server_version)) as editor:
        act = migration.unapply if step.backwards else migration.apply
        act(step.rendered(), editor)
    return tuple(editor.statements)


def _refuse_unless_schema(operation: Operation) -> None:
    """By exact class: a subclass may do anything."""
    kind = type(operation)
    if kind.__module__ in _SCHEMA:
        return
    if isinstance(operation, operations.RunSQL) and kind is operations.RunSQL:
        if operation.state_operations:
            raise NotCompiled("RunSQL with state_operations")
        return
    raise NotCompiled(kind.__name__)


class _Connection(DatabaseWrapper):
    """A connection that leads nowhere, for a server version."""

    def __init__(self, server_version: int) -> None:
        # The router allows tenant tables only on an organization's alias; id 0 does not exist.
        super().__init__({"NAME": "", "TIME_ZONE": None, "OPTIONS": {}}, f"{ALIAS_PREFIX}0")
        self.__dict__["pg_version"] = server_version  # A cached_property that would query.
        self.in_atomic_block = True

    def ensure_connection(self) -> None:
        raise NotCompiled("it queries the database")


class _Editor(DatabaseSchemaEditor):
    """Collects the statements."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__(connection)
        self.statements: list[str] = []
        self._adapters = get_adapters_template(settings.USE_TZ, connection.timezone)

    def __enter__(self) -> "_Editor":
        self.deferred_sql: list[Any] = []
        # Operations look the connection up by alias (db/models/options.py, can_migrate). Only for
        # this thread, and not for iterations over all connections.
        connections[self.connection.alias] = self.connection
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        del connections[self.connection.alias]
        if exc_type is None:
            for statement in self.deferred_sql:
                self.execute(statement, None)

    def execute(self, sql: Any, params: Any = ()) -> None:
        statement = str(sql)
        if params is not None:
            statement %= tuple(self.quote_value(value) for value in params)
        self.statements.append(statement)

    def quote_value(self, value: Any) -> str:
        return sql.Literal(value).as_string(self._adapters)

    def effective_default(self, field: Any) -> Any:
        if field.has_default():
            made = callable(field.default) and field.default not in _CONSTANT
        else:  # Django uses the current time.
            made = getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
        if made:
            raise NotCompiled(f"the default of {field.name} is computed when it runs")
        return super().effective_default(field)
