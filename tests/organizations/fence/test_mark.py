"""The fence's mark on an organization's row, and the sessions that it ends."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connections, transaction
from django.test import Client
from psycopg import sql

from accounts.models import User
from organizations import lifecycle, master_directory, tenancy
from organizations.errors import OrganizationSuspended, SessionsRemain, WrongState
from organizations.models import Organization
from organizations.naming import name_key
from organizations.postgres import fence as fence_module
from organizations.postgres.fence import fence, fence_pending
from organizations.postgres.sessions import open_session
from organizations.provisioning import code, versions
from organizations.recovery import credentials
from organizations.tenancy import RouteChanged, WrongTenant, directory, registry
from tests.conftest import Company, Superuser

from .helpers import ME, change_unheard, code_of, let_live, row_of, sessions

Status = Organization.Status

# Each column that master_directory._found makes a route of. None: it never changes.
CHANGES: dict[str, dict[str, str] | None] = {
    "id": None,
    "slug": {"slug": "another-slug"},
    "key": {"key": "0" * 32},
    # Only in a sentence to somebody who is refused.
    "name": None,
    "status": {"status": Status.SUSPENDED},
    "status_message": None,
    "fingerprint": {"fingerprint": "of an unknown schema"},
    "database_name": {"database_name": "org_elsewhere"},
    "role_name": {"role_name": "orgrole_elsewhere"},
    "sealed_password": {"sealed_password": "another"},
    "read_only_until IS NOT NULL": None,
}


def test_whatever_changes_a_route_marks_it_and_nothing_else_does(served: Company) -> None:
    asked = master_directory._ROUTE.split("SELECT ")[1].split(" FROM")[0].split(", ")
    assert list(CHANGES) == asked, "a route is made of a column that nothing fences"
    untouched = row_of(served)
    for change in filter(None, CHANGES.values()):
        for status in (Status.ACTIVE, Status.SUSPENDED):
            if change.get("status") == status:
                continue
            with transaction.atomic(using="default"):
                change_unheard(served, status=status)
                change_unheard(served, pending_fence="")
                change_unheard(served, **change)
                row = row_of(served)
                is_shut = status == Status.SUSPENDED and "status" in change
                assert bool(row.pending_fence) is not is_shut, change
                transaction.set_rollback(True, using="default")
    for harmless in (
        {"status_reason": "unpaid"},
        {"status_message": "Write to us."},
        {"migration_attempts": 1},
        {"fingerprint": untouched.fingerprint},
    ):
        change_unheard(served, **harmless)
        assert row_of(served).pending_fence == "", harmless
    assert credentials.reseal_credentials() > 0
    resealed = row_of(served)
    assert resealed.sealed_password != untouched.sealed_password
    assert resealed.pending_fence == "", "re-encrypting a password moved no database"


# Of a status and a fingerprint it is asked whether they let it be served.
MOVES = [
    name for name, change in CHANGES.items() if change and name not in ("status", "fingerprint")
]


def test_what_has_changed_of_a_route_is_not_confirmed(served: Company) -> None:
    tenant = directory.get().tenant_by_id(served.organization.pk)
    directory.get().confirm(tenant)
    confirmed = []
    for column in MOVES:
        before = Organization.objects.filter(pk=tenant.organization_id).values(column).get()
        change_unheard(served, **(CHANGES[column] or {}))
        try:
            directory.get().confirm(tenant)
            confirmed.append(column)
        except RouteChanged:
            pass
        finally:
            change_unheard(served, **before)
            fence(row_of(served))
        directory.get().confirm(tenant)
    assert confirmed == []


def test_a_change_of_the_role_ends_the_sessions_of_the_one_before(
    served: Company, superuser: Superuser
) -> None:
    """As moves and restores by hand do. Also if it happens twice before the fence."""
    role = served.organization.role_name
    for moved in ("orgrole_elsewhere", "orgrole_further"):
        change_unheard(served, role_name=moved)
    assert sessions(superuser, served) > 0
    fence(row_of(served))
    assert sessions(superuser, served) == 0
    change_unheard(served, role_name=role)
    fence(row_of(served))


def test_a_connection_is_not_confirmed_by_another_organizations_block(
    served: Company, client: Client, beta: Company
) -> None:
    ours = directory.get().tenant_by_id(served.organization.pk)
    other = directory.get().tenant_by_id(beta.organization.pk)
    lifecycle.suspend_organization(row_of(served))
    for tenant in (served.tenant, ours):
        with tenancy.override(tenant):
            with (
                tenancy.override(other),
                pytest.raises(WrongTenant),
                transaction.atomic(using=tenant.alias),
                connections[tenant.alias].cursor(),
            ):
                pass
            if tenant is ours:
                with pytest.raises(OrganizationSuspended):
                    User.objects.exists()
    assert code_of(client.get(ME)) == (403, "organization_suspended")


def test_a_statement_that_kills_its_session_gets_no_more_threads(
    served: Company,
) -> None:
    """What an organization's own SQL can do must not renew its share of the threads."""
    tenant = directory.get().tenant_by_id(served.organization.pk)
    share = connections.settings[tenant.alias].share
    with (
        pytest.raises(OperationalError),
        tenancy.override(tenant),
        tenancy.connection().cursor() as cursor,
    ):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    registry.forget("org_2000000000")
    with tenancy.override(tenant):
        User.objects.exists()
    assert connections.settings[tenant.alias].share is share


def test_a_fingerprint_that_only_grows_marks_nothing(served: Company) -> None:
    names = tuple(sorted(versions.code_migrations()))
    versions.remember(code.fingerprint_of(names), names)
    versions.remember(code.fingerprint_of(names[:-1]), names[:-1])
    change_unheard(served, fingerprint=code.fingerprint_of(names[:-1]))
    assert row_of(served).pending_fence != "", "it went back"
    fence(row_of(served))
    change_unheard(served, fingerprint=code.fingerprint_of(names))
    assert row_of(served).pending_fence == ""
    change_unheard(served, fingerprint="")
    fence(row_of(served))
    change_unheard(served, fingerprint=code.fingerprint_of(names[:-1]))
    assert row_of(served).pending_fence != "", "what it was before is not known"
    change_unheard(served, fingerprint=code.fingerprint_of(names))
    fence(row_of(served))


def test_what_a_killed_fence_left_is_finished_by_reconciling(
    served: Company, client: Client, superuser: Superuser
) -> None:
    change_unheard(served, status=Status.SUSPENDED)
    assert sessions(superuser, served) > 0
    outcome = lifecycle.reconcile_organizations()
    assert outcome["fenced"] == [served.name]
    assert sessions(superuser, served) == 0
    assert row_of(served).pending_fence == ""
    assert code_of(client.get(ME)) == (403, "organization_suspended")
    assert fence_pending() == ([], [])


def test_a_change_meanwhile_keeps_its_own_mark(
    served: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = fence_module._end

    def changed_meanwhile(*args: Any, **options: Any) -> int:
        ended = end(*args, **options)
        change_unheard(served, slug="changed-meanwhile")
        return ended

    monkeypatch.setattr(fence_module, "_end", changed_meanwhile)
    change_unheard(served, status=Status.SUSPENDED)
    fence(row_of(served))
    assert row_of(served).pending_fence != "", "the second change was taken for fenced"
    monkeypatch.undo()
    fence(row_of(served))


def test_what_does_not_end_is_named_and_tried_again(
    served: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.1)
    let_live(monkeypatch, served)
    with pytest.raises(SessionsRemain, match=r"process ids \d+"):
        lifecycle.suspend_organization(row_of(served), reason="unpaid")
    assert row_of(served).status == Status.SUSPENDED
    monkeypatch.undo()
    with pytest.raises(WrongState, match="is suspended; it must be active"):
        lifecycle.suspend_organization(row_of(served), reason="another")
    assert sessions(superuser, served) == 0
    assert (row_of(served).status_reason, row_of(served).pending_fence) == ("unpaid", "")


def test_it_waits_for_no_lock_and_ends_with_a_client_that_reconnects(
    served: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the organization's lock, or knows its password, holds up no suspension."""
    role = sql.Identifier(served.organization.role_name)
    superuser.execute(sql.SQL("ALTER ROLE {} PASSWORD 'leaked'").format(role))
    stop = threading.Event()

    entry = directory.get().connection_settings(served.tenant)

    def reconnect() -> int:
        count = 0
        while not stop.is_set():
            try:
                with psycopg.connect(
                    host=entry["HOST"],
                    port=entry["PORT"] or None,
                    user=entry["USER"],
                    password="leaked",
                    dbname=entry["NAME"],
                ) as session:
                    session.execute("SELECT pg_sleep(5)")
            except psycopg.Error:
                count += 1
        return count

    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 1.0)
    # By the next look everybody has connected again.
    monkeypatch.setattr(fence_module, "_LOOK_SECONDS", 0.3)
    with open_session() as holder, ThreadPoolExecutor(6) as threads:
        holder.lock(name_key(served.name), name=served.name, timeout_seconds=1)
        reconnecting = [threads.submit(reconnect) for _ in range(6)]
        try:
            time.sleep(0.3)
            lifecycle.suspend_organization(row_of(served))
        finally:
            stop.set()
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                (served.organization.role_name,),
            )
        assert all(each.result(20) > 0 for each in reconnecting)
