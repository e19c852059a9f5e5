"""The kill storm (make kill-storm) counts what it is there to find."""

import secrets
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from organizations.models import Organization
from tests.conftest import Company
from tests.faults import kill_storm
from tests.plugin import SERVER

Superuser = psycopg.Connection[tuple[object, ...]]


def found(what: str) -> list[str]:
    return kill_storm.leftovers(SERVER.superuser_parameters("master_org_db"))[what]


@pytest.fixture
def role(superuser: Superuser) -> Iterator[str]:
    """A role that looks like an organization's, and is nobody's."""
    name = f"orgrole_{secrets.token_hex(8)}"
    superuser.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_an_orphan_role_is_counted(role: str) -> None:
    assert role in found("orphan roles")


def test_an_orphan_database_is_counted(superuser: Superuser) -> None:
    name = f"org_orphan_{secrets.token_hex(4)}"
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        assert name in found("orphan databases")
    finally:
        superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_an_unfinished_row_is_counted(company: Callable[..., Company]) -> None:
    organization = company().organization
    row = Organization.objects.filter(pk=organization.pk)
    row.update(status=Organization.Status.PROVISIONING)
    try:
        assert f"{organization.name}: provisioning" in found("unfinished rows")
    finally:
        row.update(status=Organization.Status.ACTIVE)


def test_a_row_whose_database_is_gone_is_counted(company: Callable[..., Company]) -> None:
    organization = company().organization
    row = Organization.objects.filter(pk=organization.pk)
    row.update(database_name="org_that_never_was")
    try:
        assert found("rows without database or role") == [organization.name]
    finally:
        row.update(database_name=organization.database_name)


def test_what_belongs_to_an_organization_is_no_fault(company: Callable[..., Company]) -> None:
    company()

    assert kill_storm.leftovers(SERVER.superuser_parameters("master_org_db")) == {
        "orphan databases": [],
        "orphan roles": [],
        "unfinished rows": [],
        "rows without database or role": [],
    }
