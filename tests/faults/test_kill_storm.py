"""Tests of `make kill-storm`: it detects the faults that it counts."""

import secrets
from collections.abc import Callable

from psycopg import sql

from organizations.models import Organization
from tests.conftest import Company, Superuser
from tests.faults import kill_storm
from tests.plugin import SERVER

NOTHING: dict[str, list[str]] = {what: [] for what in kill_storm.LEFTOVERS}


def found() -> dict[str, list[str]]:
    return kill_storm.leftovers(SERVER.superuser_parameters("master_org_db"))


def test_whatever_a_killed_process_leaves_is_counted(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    unfinished, bare = (company().organization for _ in range(2))
    assert found() == NOTHING, "what belongs to an organization is no fault"
    orphan = f"orgrole_{secrets.token_hex(8)}"
    role, database = sql.Identifier(orphan), sql.Identifier("org_orphan")
    superuser.execute(sql.SQL("CREATE ROLE {}").format(role))
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(database))
    Organization.objects.filter(pk=unfinished.pk).update(status="provisioning")
    Organization.objects.filter(pk=bare.pk).update(database_name="org_that_never_was")
    try:
        counted = {what: sorted(names) for what, names in found().items()}
        assert counted == {
            "orphan databases": sorted(["org_orphan", bare.database_name]),
            "orphan roles": [orphan],
            "unfinished rows": [f"{unfinished.name}: provisioning"],
            "rows without database or role": [bare.name],
        }
    finally:
        Organization.objects.filter(pk=bare.pk).update(database_name=bare.database_name)
        Organization.objects.filter(pk=unfinished.pk).update(status="active")
        superuser.execute(sql.SQL("DROP DATABASE {}").format(database))
        superuser.execute(sql.SQL("DROP ROLE {}").format(role))
