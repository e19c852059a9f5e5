"""`manage.py migrate_orgs`: migrates outdated organizations, all or the named ones."""

import io
import re
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from psycopg import sql

from organizations.isolation.rows import tenant_models
from organizations.models import Organization
from tests.conftest import Company
from tests.organizations.helpers import as_role_of, names

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def outdated(company: Callable[..., Company]) -> Company:
    """An organization whose database lacks the tenant apps' migrations and their tables."""
    made = company("Outdated Ltd")
    tables = sql.SQL(", ").join(map(sql.Identifier, sorted(tenant_tables())))
    with as_role_of(made.organization) as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(tables))
        connection.execute("DELETE FROM django_migrations")
    Organization.objects.filter(pk=made.organization.pk).update(fingerprint="")
    return made


def tenant_tables() -> set[str]:
    return {model._meta.db_table for model in tenant_models()}


def migrate(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("migrate_orgs", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_an_outdated_organization_is_migrated_with_its_role_as_owner(
    outdated: Company, alpha: Company
) -> None:
    out, _ = migrate()
    said = [line for line in out.splitlines() if ": " in line]
    assert len(said) == 1, "acme-corp had nothing to be done"
    assert said[0].startswith("outdated-ltd: accounts.0001_initial, accounts.0002_")
    with as_role_of(outdated.organization) as connection:
        assert names(connection, TABLES) == {*tenant_tables(), "django_migrations"}
        recorded = names(connection, "SELECT DISTINCT app FROM django_migrations")
        owners = names(connection, "SELECT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert recorded == {model._meta.app_label for model in tenant_models()}
    assert owners == {outdated.organization.role_name}


def test_only_the_named_ones_are_migrated(outdated: Company, alpha: Company) -> None:
    out, _ = migrate("ACME CORP")
    assert "acme-corp" not in out
    assert re.search(r"up to date +│ 1 ", out)
    with as_role_of(outdated.organization) as connection:
        assert names(connection, TABLES) == {"django_migrations"}


def test_one_that_fails_leaves_the_others_alone(outdated: Company, beta: Company) -> None:
    with as_role_of(outdated.organization) as connection:
        connection.execute("CREATE TABLE users ()")
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="1 failed. .* 'Outdated Ltd' .* --retry-failed"):
        call_command("migrate_orgs", "Outdated Ltd", beta.name, stdout=out, stderr=err)
    assert re.search(r"up to date +│ 1 ", out.getvalue())
    assert re.search(r"Outdated Ltd +│ DuplicateTable: relation", out.getvalue())
    assert err.getvalue().startswith("outdated-ltd: DuplicateTable")


def test_an_unknown_name_is_reported_before_anything_is_done() -> None:
    with pytest.raises(CommandError, match="There is no organization called 'Nobody Ltd'"):
        migrate("Acme Corp", "Nobody Ltd")
