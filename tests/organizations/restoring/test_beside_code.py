"""Read-only organizations under the code in a dump, a migration and an adoption."""

import secrets
from pathlib import Path

import psycopg
import pytest
from django.core.management import call_command
from django.db.models.signals import post_migrate, pre_migrate
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.backups import making as backups
from organizations.errors import OrganizationReadOnly
from organizations.inspecting import checking
from organizations.inspecting.verdicts import Kind
from organizations.models import Organization, Restore
from organizations.recovery.adopting import adopt_organization
from tests.conftest import Company, Superuser
from tests.organizations.backups.helpers import execute
from tests.organizations.helpers import as_role_of
from tests.organizations.migrating import added

from .helpers import look_at


def assert_refuses(looked: Company, statement: str) -> None:
    """As its role, over a connection that says nothing of what it may."""
    refused = pytest.raises(psycopg.errors.ReadOnlySqlTransaction)
    with as_role_of(looked.organization) as connection, refused:
        connection.execute(statement.encode())


def test_what_code_in_the_dump_sets_does_not_let_it_write(backed_up: Company) -> None:
    lift = "ALTER ROLE CURRENT_USER SET default_transaction_read_only = off"
    execute(
        backed_up,
        f"CREATE FUNCTION lift() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {lift}; "
        "EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET "
        "default_transaction_read_only = off', current_database()); RETURN true; END $$",
        "CREATE TABLE trap (n int, CHECK (lift()))",
        "INSERT INTO trap VALUES (1)",
        "ALTER ROLE CURRENT_USER RESET default_transaction_read_only",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I RESET ALL', "
        "current_database()); END $$",
    )
    backups.back_up(backed_up.organization)
    looked = look_at(backed_up)
    with pytest.raises(OrganizationReadOnly), tenancy.override(looked.tenant):
        User.objects.update(is_admin=True)
    # Its own SQL can lift it: it is a copy, and check_orgs says so.
    with as_role_of(looked.organization) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(lift.encode())
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(lift.encode())
    (finding,) = checking.check([looked.organization.pk])
    assert [problem.kind for problem in finding.problems] == [Kind.SETTINGS]
    (finding,) = checking.check([looked.organization.pk], fix=True)
    assert finding.problems == ()
    assert_refuses(looked, "INSERT INTO trap VALUES (2)")


def test_it_is_migrated_with_the_others(
    backed_up: Company, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = look_at(backed_up)
    package = f"added_{secrets.token_hex(4)}"
    added.write(
        tmp_path / package,
        by_sql='migrations.RunSQL("CREATE TABLE added (n int)")',
        by_django=f'{added.NOT_ATOMIC}migrations.RunSQL("CREATE INDEX CONCURRENTLY ON added (n)")',
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.MIGRATION_MODULES = {"accounts": package}
    heard: list[object] = []

    def write(signal: object, **kwargs: object) -> None:
        User.objects.update(is_active=True)
        heard.append(signal)

    for signal in (pre_migrate, post_migrate):
        signal.connect(write)
    try:
        call_command("migrate_orgs", looked.name)
    finally:
        for signal in (pre_migrate, post_migrate):
            signal.disconnect(write)
    assert set(heard) == {pre_migrate, post_migrate}
    assert_refuses(looked, "INSERT INTO added VALUES (1)")
    with pytest.raises(OrganizationReadOnly), tenancy.override(looked.tenant):
        User.objects.update(is_admin=True)


def test_what_a_master_of_before_does_not_know_is_adopted_as_it_was(
    backed_up: Company, superuser: Superuser
) -> None:
    row = look_at(backed_up).organization
    Restore.objects.all().delete()
    Organization.objects.filter(pk=row.pk).delete()
    adopted = adopt_organization(database=row.database_name, name="Adopted", email="a@test.com")
    try:
        assert (adopted.read_only_until, adopted.cloned_from) == (
            row.read_only_until,
            row.cloned_from,
        )
        with pytest.raises(OrganizationReadOnly), tenancy.override(adopted.tenant):
            User.objects.update(is_admin=True)
    finally:
        for statement, name in (
            ("DROP DATABASE {} WITH (FORCE)", row.database_name),
            ("DROP ROLE {}", row.role_name),
        ):
            superuser.execute(sql.SQL(statement).format(sql.Identifier(name)))
