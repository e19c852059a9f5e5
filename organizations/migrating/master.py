"""Hides the tenant apps' migrations from Django's commands on the master database."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from organizations import tenancy

ALIAS = "default"


@contextmanager
def tenant_apps_hidden() -> Iterator[None]:
    """Hide the tenant apps' migrations inside the block.

    Otherwise Django's commands print "Applying … OK" and "[X]" for them, although the router allows
    no table. It changes a setting of the whole process, so only commands use it.
    """
    before = settings.MIGRATION_MODULES
    settings.MIGRATION_MODULES = {**before, **dict.fromkeys(tenancy.tenant_labels())}
    try:
        yield
    finally:
        settings.MIGRATION_MODULES = before


def forget_tenant_apps() -> None:
    """Delete tenant apps' rows that an earlier version recorded in the master."""
    recorder = MigrationRecorder(connections[ALIAS])
    if recorder.has_table():
        recorder.migration_qs.filter(app__in=tenancy.tenant_labels()).delete()
