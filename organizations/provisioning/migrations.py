"""The tables of the tenant apps, in one organization's database."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import connections

from organizations import tenancy
from organizations.tenancy import Tenant


@contextmanager
def unlimited(alias: str) -> Iterator[None]:
    """A migration takes what it takes: no time limit of requests holds inside the block."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        if connections[alias].is_usable():
            with connections[alias].cursor() as cursor:
                cursor.execute("RESET statement_timeout")
                cursor.execute("RESET lock_timeout")


def migrate_tenant(tenant: Tenant) -> None:
    """Bring the organization's database to the code's migrations. Does nothing where it is there.

    Each tenant app by its label: a `migrate` without one would record the master's apps as applied
    in a database that has none of their tables.
    """
    with tenancy.override(tenant), unlimited(tenant.alias):
        for label in sorted(tenancy.tenant_labels()):
            call_command(
                "migrate",
                label,
                database=tenant.alias,
                interactive=False,
                verbosity=0,
                stdout=io.StringIO(),
            )
