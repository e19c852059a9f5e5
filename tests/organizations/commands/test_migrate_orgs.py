"""manage.py migrate_orgs"""

import io
import re
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from psycopg import sql

from organizations.isolation.rows import tenant_models
from organizations.models import Organization
from tests.conftest import Company
from tests.organizations.helpers import as_role_of, manage, names

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def behind(company: Callable[..., Company]) -> Company:
    """An organization whose database lacks the tenant apps' migrations and their tables."""
    made = company("Behind Ltd")
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


def test_an_organization_that_is_behind_is_brought_up(behind: Company, alpha: Company) -> None:
    ended = manage("migrate_orgs")
    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stdout.splitlines() if ": " in line]
    assert len(said) == 1, "acme-corp had nothing to be done"
    assert said[0].startswith("behind-ltd: accounts.0001_initial, accounts.0002_")
    with as_role_of(behind.organization) as connection:
        assert names(connection, TABLES) == {*tenant_tables(), "django_migrations"}
        recorded = names(connection, "SELECT DISTINCT app FROM django_migrations")
    assert recorded == {model._meta.app_label for model in tenant_models()}


def test_the_tables_it_makes_belong_to_the_organizations_role(behind: Company) -> None:
    migrate("Behind Ltd")
    with as_role_of(behind.organization) as connection:
        owners = names(connection, "SELECT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == {behind.organization.role_name}


def test_only_the_named_ones_are_migrated(behind: Company, alpha: Company) -> None:
    out, _ = migrate("ACME CORP")
    assert "acme-corp" not in out
    assert re.search(r"up to date +│ 1 ", out)
    with as_role_of(behind.organization) as connection:
        assert names(connection, TABLES) == {"django_migrations"}


def test_one_that_fails_leaves_the_others_alone(behind: Company, beta: Company) -> None:
    with as_role_of(behind.organization) as connection:
        connection.execute("CREATE TABLE users ()")
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="1 failed. .* 'Behind Ltd' .* --retry-failed"):
        call_command("migrate_orgs", "Behind Ltd", beta.name, stdout=out, stderr=err)
    assert re.search(r"up to date +│ 1 ", out.getvalue())
    assert re.search(r"Behind Ltd +│ DuplicateTable: relation", out.getvalue())
    assert err.getvalue().startswith("behind-ltd: DuplicateTable")


def test_an_unknown_name_is_said_before_anything_is_done() -> None:
    with pytest.raises(CommandError, match="There is no organization called 'Nobody Ltd'"):
        migrate("Acme Corp", "Nobody Ltd")
