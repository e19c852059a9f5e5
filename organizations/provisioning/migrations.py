"""The tables of the tenant apps, in one organization's database."""

import io

from django.core.management import call_command

from organizations import tenancy
from organizations.tenancy import Tenant


def migrate_tenant(tenant: Tenant) -> None:
    """Bring the organization's database to the code's migrations. Does nothing where it is there.

    Each tenant app by its label: a `migrate` without one would record the master's apps as applied
    in a database that has none of their tables.
    """
    with tenancy.override(tenant):
        for label in sorted(tenancy.tenant_labels()):
            call_command(
                "migrate",
                label,
                database=tenant.alias,
                interactive=False,
                verbosity=0,
                stdout=io.StringIO(),
            )
