"""`manage.py migrate`: migrates the master."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from organizations import tenancy
from organizations.postgres.sessions import open_session
from tests.conftest import Company, Superuser
from tests.organizations.helpers import wait_for


def test_a_tenant_app_is_not_migrated_on_the_master() -> None:
    with pytest.raises(CommandError, match="Run manage.py migrate_orgs"):
        call_command("migrate", "accounts", verbosity=0)


def test_a_second_migration_of_the_master_waits_for_the_first(superuser: Superuser) -> None:
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory' "
        "AND %s = ANY(pg_blocking_pids(pid))"
    )

    def migrate() -> None:
        try:
            call_command("migrate", verbosity=0, interactive=False)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with open_session() as first:
            first.lock("migration of the master", name="master", timeout_seconds=5)
            second = pool.submit(migrate)
            wait_for(superuser, waiting, first.connection.info.backend_pid)
            assert not second.done()
        second.result(timeout=30)


def test_an_organization_gets_none_of_the_masters_apps(alpha: Company) -> None:
    with (
        tenancy.override(alpha.tenant),
        pytest.raises(CommandError, match="Name a tenant app, as in `migrate accounts`"),
    ):
        call_command("migrate", database=alpha.tenant.alias, verbosity=0)
