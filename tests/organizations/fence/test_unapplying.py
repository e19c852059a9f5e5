"""Requests before, while and after a migration is unapplied, also where that fails or is killed."""

from typing import Any

import pytest
from django.test import Client
from psycopg import sql
from pytest_django import Settings

from organizations import lifecycle
from organizations.migrating.engine import Engine, Target
from organizations.migrating.results import Kind
from organizations.migrating.turn import migrate_one
from organizations.naming import name_key
from organizations.postgres.sessions import open_session
from organizations.tenancy import Tenant
from tests.conftest import Company, Superuser

from .helpers import ME, code_of, row_of, sessions


def test_before_a_migration_is_unapplied_its_code_is_served_no_longer(
    served: Company, client: Client, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate, seen = Engine.migrate, []

    def look_and_migrate(self: Engine, tenant: Tenant, **options: Any) -> Any:
        seen.append((sessions(superuser, served), code_of(client.get(ME))))
        return migrate(self, tenant, **options)

    monkeypatch.setattr(Engine, "migrate", look_and_migrate)
    migrate_one(row_of(served), Engine(Target("accounts", "0002")))
    assert seen == [(0, (503, "organization_migrating"))]
    assert code_of(client.get(ME)) == (503, "organization_migrating")
    monkeypatch.undo()
    migrate_one(row_of(served), Engine())
    assert client.get(ME).status_code == 200


def test_an_unapplying_that_was_killed_is_recorded_by_reconciling(
    served: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def be_killed(*args: Any, **options: Any) -> None:
        raise Killed

    monkeypatch.setattr(Engine, "migrate", be_killed)
    with pytest.raises(Killed):
        migrate_one(row_of(served), Engine(Target("accounts", "0002")))
    assert code_of(client.get(ME)) == (503, "organization_migrating")
    with open_session() as session:
        session.lock(name_key(served.name), name=served.name, timeout_seconds=1)
        assert lifecycle.reconcile_organizations()["recorded"] == [], "somebody is at work"
    assert lifecycle.reconcile_organizations()["recorded"] == [served.name]
    assert client.get(ME).status_code == 200
    assert row_of(served).migration_error == ""
    assert lifecycle.reconcile_organizations()["recorded"] == []


def test_an_unapplying_that_nobody_could_record_is_looked_at_again(
    served: Company,
    client: Client,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    settings.MIGRATION_TRIES = 1
    database = sql.Identifier(served.organization.database_name)
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    migrate = Engine.migrate

    def close_and_migrate(self: Engine, tenant: Tenant, **options: Any) -> Any:
        superuser.execute(allow.format(database, sql.SQL("false")))
        return migrate(self, tenant, **options)

    monkeypatch.setattr(Engine, "migrate", close_and_migrate)
    try:
        for target in (Target("accounts", "0002"), Target()):
            result = migrate_one(row_of(served), Engine(target))
            assert result.kind == Kind.FAILED
            assert lifecycle.reconcile_organizations()["recorded"] == []
    finally:
        superuser.execute(allow.format(database, sql.SQL("true")))
    assert code_of(client.get(ME)) == (503, "organization_migrating")
    assert lifecycle.reconcile_organizations()["recorded"] == [served.name]
    assert client.get(ME).status_code == 200
