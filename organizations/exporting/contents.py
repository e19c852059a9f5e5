"""Reads what an export contains: rows of tenant models, files, audit entries."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db.models import Field, Model
from django.utils.encoding import is_protected_type

from organizations import tenancy
from organizations.errors import ExportFailed
from organizations.models import AuditEntry

from .archive import Part

# Of one statement, whose answer is in memory as a whole.
_ROWS_AT_A_TIME = 100
_BLOCK_BYTES = 256 * 1024
_ENTRY_FIELDS = (
    *("id", "at", "act", "actor", "actor_id", "user_id", "person", "address"),
    *("request_id", "facts"),
)
# As with pg_dump: every table stays what it is until the end, and a policy that hides rows is an
# error.
_SNAPSHOT = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE",
    "SET LOCAL row_security = off",
)
_KIND = "SELECT relkind FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s)"
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


def begin(*, owner: str) -> None:
    """Make the active organization's new transaction one snapshot of real tables.

    An organization may have replaced a table by a view without end. Raises ExportFailed.
    """
    connection = tenancy.connection()
    with connection.cursor() as cursor:
        for statement in _SNAPSHOT:
            cursor.execute(statement)
        for model in models():
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
            cursor.execute(_KIND, [table])
            if cursor.fetchone() not in [(kind,) for kind in _TABLES]:
                raise ExportFailed(owner, f"{model._meta.db_table} is no table")


def write_rows(part: Part, model: type[Model]) -> None:
    """The model's rows, by primary key."""
    without = left_out(model)
    fields = [field for field in model._meta.local_concrete_fields if field.name not in without]
    rows = model._base_manager.order_by("pk").only(*(field.name for field in fields))
    page = list(rows[:_ROWS_AT_A_TIME])
    while page:
        for instance in page:
            part.add({field.attname: _value(field, instance) for field in fields})
        page = list(rows.filter(pk__gt=page[-1].pk)[:_ROWS_AT_A_TIME])


def _value(field: "Field[Any, Any]", instance: Model) -> Any:
    """As Django's serializers have it (django/core/serializers/python.py)."""
    value = field.value_from_object(instance)
    return value if is_protected_type(value) else field.value_to_string(instance)


def write_entries(part: Part, organization_id: int) -> None:
    """The organization's audit entries up to now, with what its admins see of them."""
    entries = AuditEntry.objects.filter(organization_id=organization_id).order_by("id")
    newest = entries.values_list("id", flat=True).last() or 0
    last = 0
    while last < newest:
        for row in entries.filter(id__gt=last, id__lte=newest).values(*_ENTRY_FIELDS)[:1_000]:
            part.add(row)
            last = row["id"]


def files(folder: Path) -> Iterator[tuple[str, int]]:
    """The regular files below the folder: name, and a descriptor that the caller closes.

    No link is followed. One that is deleted meanwhile is not there.
    """
    for where, _, names in os.walk(folder, onerror=_unless_deleted):
        for name in names:
            path = os.path.join(where, name)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                if os.path.isfile(path) and not os.path.islink(path):
                    raise
                continue
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                yield _written(os.path.relpath(path, folder)), descriptor
            else:
                os.close(descriptor)


def _unless_deleted(error: OSError) -> None:
    """os.walk() would pass over a folder that it may not read."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _written(name: str) -> str:
    """A name that is no UTF-8 can be in no ZIP."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def write_file(part: Part, descriptor: int) -> None:
    """The whole file, which is closed then."""
    with open(descriptor, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            part.write(block)
