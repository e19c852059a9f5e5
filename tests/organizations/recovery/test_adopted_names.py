"""Former names of an organization whose database is adopted in place of its older row."""

import secrets
from collections.abc import Callable

from psycopg import sql

from organizations import lifecycle
from organizations.models import Organization
from organizations.recovery.adopting import adopt_organization
from tests.conftest import Company
from tests.organizations.helpers import Superuser


def test_its_former_names_and_that_of_its_older_row_lead_to_an_adopted_one(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    made = company("First Name")
    for name in ("Second Name", "Third Name"):
        lifecycle.rename_organization(made.organization, name=name)
    database, role = made.organization.database_name, made.organization.role_name
    # As in a master from before its database was moved.
    rows = Organization.objects.filter(pk=made.organization.pk)
    rows.update(database_name="org_moved", role_name=f"orgrole_{secrets.token_hex(8)}")
    row = adopt_organization(database=database, name="First Name", email=made.email)
    try:
        assert (row.pk, row.slug) == (made.organization.pk, "first-name")
        for name in ("first name", "second name", "third name"):
            assert lifecycle.find_organization(name).pk == row.pk
        former = row.former_names.values_list("slug", flat=True)
        assert set(former) == {"second-name", "third-name"}
    finally:
        superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)))
        superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
