"""Runs the tenant apps' migrations in one organization's database."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, call_command, get_commands, load_command_class
from django.db import connections
from django.db.migrations import Migration

from organizations import tenancy
from organizations.tenancy import Tenant, time_limit


@contextmanager
def unhurried(alias: str) -> Iterator[None]:
    """No statement timeout inside the block, for migrations.

    The lock timeout stays: a statement that waits for a lock blocks all others queued after it.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
    try:
        with time_limit(settings.MIGRATION_DEADLINE_SECONDS or None):
            yield
    finally:
        if connections[alias].is_usable():
            with connections[alias].cursor() as cursor:
                cursor.execute("RESET statement_timeout")


def migrate_tenant(tenant: Tenant, *, after: Callable[[Migration], None] | None = None) -> None:
    """Migrate the organization's database to the code's migrations, if it is not there yet.

    Each tenant app by its label: a `migrate` without one would record the master's apps as applied
    in a database that has none of their tables. after: called after each migration is committed.
    An exception in a migration gets a note with its name (migration_of).
    """
    with tenancy.override(tenant), unhurried(tenant.alias):
        for label in sorted(tenancy.tenant_labels()):
            call_command(
                _migrate(after),
                label,
                database=tenant.alias,
                interactive=False,
                verbosity=0,
                stdout=io.StringIO(),
            )


def _migrate(after: Callable[[Migration], None] | None) -> BaseCommand:
    """The `migrate` command, calling `after` for each migration.

    Relies on Django 5.2, core/management/commands/migrate.py: its executor's progress callback.
    """
    command: Any = load_command_class(get_commands()["migrate"], "migrate")
    told, handle = command.migration_progress_callback, command.handle
    begun: list[Migration] = []

    def tell(action: str, migration: Migration | None = None, fake: bool = False) -> None:
        told(action, migration, fake)
        if migration is not None and action == "apply_start":
            begun.append(migration)
        if migration is not None and action == "apply_success":
            begun.clear()
            if after is not None:
                after(migration)

    def noting(*args: Any, **options: Any) -> Any:
        try:
            return handle(*args, **options)
        except Exception as error:
            for migration in begun:
                error.add_note(f"{_NOTE}{migration.app_label}.{migration.name}")
            raise

    command.migration_progress_callback, command.handle = tell, noting
    return command  # type: ignore[no-any-return]


def migration_of(error: BaseException) -> str | None:
    """The migration in which migrate_tenant failed, as `app.name`."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note.removeprefix(_NOTE) for note in notes if note.startswith(_NOTE)), None)


_NOTE = "in migration "
