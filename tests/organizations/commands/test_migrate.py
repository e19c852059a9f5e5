"""`manage.py migrate`: migrates the master."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from organizations import tenancy
from organizations.postgres.sessions import open_session
from tests.conftest import Company


def test_a_tenant_app_is_not_migrated_on_the_master() -> None:
    with pytest.raises(CommandError, match="Run manage.py migrate_orgs"):
        call_command("migrate", "accounts", verbosity=0)


def test_a_second_migration_of_the_master_waits_for_the_first() -> None:
    begun = threading.Event()

    def migrate() -> None:
        begun.set()
        try:
            call_command("migrate", verbosity=0, interactive=False)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with open_session() as first:
            first.lock("migration of the master", name="master", timeout_seconds=5)
            second = pool.submit(migrate)
            assert begun.wait(10)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.2)
        second.result(timeout=30)


def test_an_organization_gets_none_of_the_masters_apps(alpha: Company) -> None:
    with (
        tenancy.override(alpha.tenant),
        pytest.raises(CommandError, match="Name a tenant app, as in `migrate accounts`"),
    ):
        call_command("migrate", database=alpha.tenant.alias, verbosity=0)
