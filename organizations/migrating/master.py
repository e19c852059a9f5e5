"""Hides the tenant apps' migrations from Django's commands on the master database."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from organizations import tenancy

ALIAS = "default"


@contextmanager
def alone() -> Iterator[None]:
    """Inside the block the tenant apps have no migrations.

    Else Django's commands say "Applying … OK" and "[X]" of them, where the router lets no table be
    made. It is a setting of the whole process: for a command, which has it to itself.
    """
    before = settings.MIGRATION_MODULES
    settings.MIGRATION_MODULES = {**before, **dict.fromkeys(tenancy.tenant_labels())}
    try:
        yield
    finally:
        settings.MIGRATION_MODULES = before


def forget_tenant_apps() -> None:
    """Delete the rows that an earlier version has recorded of tenant apps in the master."""
    recorder = MigrationRecorder(connections[ALIAS])
    if recorder.has_table():
        recorder.migration_qs.filter(app__in=tenancy.tenant_labels()).delete()
