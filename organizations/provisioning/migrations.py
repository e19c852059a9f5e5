"""The tables of the tenant apps, in one organization's database."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import connections

from organizations import tenancy
from organizations.tenancy import Tenant


@contextmanager
def unhurried(alias: str) -> Iterator[None]:
    """A migration's statements take what they take inside the block.

    They wait for a lock no longer than others do: who waits holds up everybody behind.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
    try:
        yield
    finally:
        if connections[alias].is_usable():
            with connections[alias].cursor() as cursor:
                cursor.execute("RESET statement_timeout")


def migrate_tenant(tenant: Tenant) -> None:
    """Bring the organization's database to the code's migrations. Does nothing where it is there.

    Each tenant app by its label: a `migrate` without one would record the master's apps as applied
    in a database that has none of their tables.
    """
    with tenancy.override(tenant), unhurried(tenant.alias):
        for label in sorted(tenancy.tenant_labels()):
            call_command(
                "migrate",
                label,
                database=tenant.alias,
                interactive=False,
                verbosity=0,
                stdout=io.StringIO(),
            )
