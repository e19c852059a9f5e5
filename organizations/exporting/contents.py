"""Reads what an export contains: rows of tenant models, files, audit entries."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NoReturn

from django.apps import apps
from django.conf import settings
from django.db.models import Field, Model
from django.utils.encoding import is_protected_type

from organizations import tenancy
from organizations.errors import ExportFailed
from organizations.models import AuditEntry
from organizations.tenancy import walking

from .zipped import Part

# How long to wait for a row: reading a mostly deleted table gives none for a while.
_ROW_SECONDS = 60.0
_BLOCK_BYTES = 256 * 1024
_ENTRY_FIELDS = (
    *("id", "at", "act", "actor", "actor_id", "user_id", "person", "address"),
    *("request_id", "facts"),
)
# The owner's settings for its role or database must change neither what is read nor how it is
# written. None of its own operators or temporary tables (a pooler may keep its session) is used,
# and a policy that hides rows is an error. None of these statements takes a snapshot.
_SETTINGS = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE",
    "SET LOCAL search_path = pg_catalog, public, pg_temp",
    "SET LOCAL row_security = off",
    "SET LOCAL datestyle = ISO",
    "SET LOCAL intervalstyle = postgres",
    "SET LOCAL bytea_output = hex",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)
_TRANSACTION_TIMEOUT_SINCE = 170_000
# Qualified: an operator of the owner's could fit the argument types better.
_KIND = """
SELECT relkind FROM pg_catalog.pg_class
WHERE oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%s)
"""
_TABLES = ("r", "p")


def models() -> Iterator[type[Model]]:
    """The tenant apps' models with a table that migrations make, also those of ManyToManyFields."""
    for label in sorted(tenancy.tenant_labels()):
        for model in apps.get_app_config(label).get_models(include_auto_created=True):
            if model._meta.managed and not model._meta.proxy and not model._meta.swapped:
                yield model


def left_out(model: type[Model]) -> dict[str, str]:
    """The reasons by field. Raises FieldDoesNotExist for one that the model does not have."""
    reasons: dict[str, str] = getattr(model, "left_out_of_exports", {})
    for name in reasons:
        model._meta.get_field(name)
    return reasons


def begin(*, owner: str, ends_at: float) -> None:
    """Make the active organization's new transaction one snapshot of real tables.

    An organization may have replaced a table by an endless view. Every table is locked first: one
    that a migration rewrote after the snapshot would look empty in it. ends_at: by
    time.monotonic(); the connection is closed then. Raises ExportFailed.
    """
    connection = tenancy.connection()
    tables = [connection.ops.quote_name(model._meta.db_table) for model in models()]
    with connection.cursor() as cursor:
        connection.connection.ends_at = ends_at
        for statement in _SETTINGS:
            cursor.execute(statement)
        cursor.execute(f"SET LOCAL lock_timeout = '{settings.LOCK_TIMEOUT_SECONDS}s'")
        # For each table's statement. The client, if alive, ends it earlier.
        cursor.execute(f"SET LOCAL statement_timeout = '{settings.EXPORT_DEADLINE_SECONDS}s'")
        if connection.connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            cursor.execute("SET LOCAL transaction_timeout = 0")
        cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE")
        for model, table in zip(models(), tables, strict=True):
            cursor.execute(_KIND, [table])
            if cursor.fetchone() not in [(kind,) for kind in _TABLES]:
                raise ExportFailed(owner, f"{model._meta.db_table} is no table")


def write_rows(part: Part, model: type[Model]) -> None:
    """Write the model's rows, in no order, by one statement; one row at a time is in memory."""
    without = left_out(model)
    fields = [field for field in model._meta.local_concrete_fields if field.name not in without]
    connection = tenancy.connection()
    rows = model._base_manager.order_by().only(*(field.name for field in fields))
    compiler = rows.query.get_compiler(connection=connection)
    statement, parameters = compiler.as_sql()
    names = [column.target.attname for column, *_ in compiler.select]
    with (
        tenancy.time_limit(_ROW_SECONDS),
        connection.cursor() as cursor,
        connection.execute_wrapper(_refuse_statement),
        closing(cursor.stream(statement, parameters or None)) as found,
    ):
        for values in compiler.results_iter([found]):
            instance = model.from_db(connection.alias, names, values)
            part.add({field.attname: _value(field, instance) for field in fields})


def _refuse_statement(*args: Any) -> NoReturn:
    """psycopg would wait for ever: the connection is busy while rows come."""
    raise RuntimeError("A field of the model queries the database while the export reads it.")


def _value(field: "Field[Any, Any]", instance: Model) -> Any:
    """As Django's serializers have it (django/core/serializers/python.py)."""
    value = field.value_from_object(instance)
    return value if is_protected_type(value) else field.value_to_string(instance)


def write_entries(part: Part, organization_id: int) -> None:
    """Write the organization's audit entries up to now, as its admins see them."""
    entries = AuditEntry.objects.filter(organization_id=organization_id).order_by("id")
    newest = entries.values_list("id", flat=True).last() or 0
    last = 0
    while last < newest:
        for row in entries.filter(id__gt=last, id__lte=newest).values(*_ENTRY_FIELDS)[:1_000]:
            part.add(row)
            last = row["id"]


def files(folder: Path, *, besides: os.stat_result) -> Iterator[tuple[str, IO[bytes]]]:
    """The files below the folder, each open until the next: name, file.

    besides: the file to leave out, the export itself.
    """
    for path, file, found in walking.files(folder):
        if not os.path.samestat(found, besides):
            yield _written(str(path)), file


def _written(name: str) -> str:
    """The name as valid UTF-8, which a ZIP requires."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def write_file(part: Part, file: IO[bytes]) -> None:
    """Write the file, up to its current size."""
    size = os.fstat(file.fileno()).st_size
    for block in walking.blocks(file, most=size, size=_BLOCK_BYTES):
        part.write(block)
