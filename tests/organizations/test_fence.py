"""The fence: a changed organization counts at once, although kept connections ask nobody."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connections, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import directory as directory_module
from organizations import lifecycle, tenancy
from organizations.directory import MasterDirectory
from organizations.errors import OrganizationSuspended, SessionsRemain, WrongState
from organizations.migrating.engine import Engine, Target
from organizations.migrating.turn import migrate_one
from organizations.models import Organization
from organizations.naming import name_key
from organizations.postgres import fence as fence_module
from organizations.postgres.fence import fence, fence_pending
from organizations.postgres.sessions import open_session
from organizations.provisioning import code, versions
from organizations.recovery import credentials
from organizations.tenancy import Tenant, WrongTenant, directory, guard, registry
from tests.conftest import Company, Superuser
from tests.organizations.helpers import wait_for

Status = Organization.Status
ME = "/api/v1/me/"
LOG_IN_WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted AND classid = 'pg_database'::regclass"


@pytest.fixture
def served(company: Callable[..., Company], client: Client) -> Iterator[Company]:
    """An organization with a kept, confirmed connection, and the client logged in to it."""
    made = company()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {made.token(client)}"
    assert client.get(ME).status_code == 200
    yield made
    registry.forget(made.tenant.alias)


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def sessions(superuser: Superuser, company: Company) -> int:
    """Sessions of the organization's role."""
    found = superuser.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = %s",
        (company.organization.role_name,),
    ).fetchone()
    assert found is not None
    return int(str(found[0]))


def change_unheard(company: Company, **values: object) -> None:
    """Commit a change as another process does that dies before it ends any session."""
    Organization.objects.filter(pk=company.organization.pk).update(**values)


def end_sessions(company: Company) -> None:
    """End its sessions, as a restart of the server does."""
    change_unheard(company, pending_fence="by hand")
    fence(row_of(company))


def code_of(response: Any) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code")


# --- Without asking -----------------------------------------------------------------------------
def test_a_kept_connection_asks_nobody_and_a_new_one_asks_once(
    served: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tenant] = []
    confirm = MasterDirectory.confirm

    def count(self: MasterDirectory, tenant: Tenant) -> None:
        asked.append(tenant)
        confirm(self, tenant)

    monkeypatch.setattr(MasterDirectory, "confirm", count)
    with CaptureQueriesContext(connections["default"]) as queries:
        assert client.get(ME).status_code == 200
        assert asked == []
        end_sessions(served)
        queries.initial_queries = len(connections["default"].queries_log)
        assert client.get(ME).status_code == 200
    assert asked == [served.tenant]
    assert len(queries) == 0, "its organization is known"


def test_what_suspends_is_heard_by_whoever_keeps_a_connection(
    served: Company, client: Client, superuser: Superuser
) -> None:
    lifecycle.suspend_organization(row_of(served))
    assert sessions(superuser, served) == 0
    assert code_of(client.get(ME)) == (403, "organization_suspended")
    assert code_of(client.options(ME)) == (403, "organization_suspended")
    lifecycle.resume_organization(row_of(served))
    assert client.get(ME).status_code == 200


def test_a_running_query_is_ended_and_its_client_told_why(
    served: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = threading.Event()

    def sleep(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        with tenancy.connection().cursor() as cursor:
            sleeps.set()
            cursor.execute("SELECT pg_sleep(20)")
        return HttpResponse("slept")

    from accounts.api import views

    monkeypatch.setattr(views.MeView, "get", sleep)

    def ask() -> HttpResponse:
        try:
            asking = Client(HTTP_AUTHORIZATION=f"Bearer {served.token(Client())}")
            answer: HttpResponse = asking.get(ME)  # type: ignore[assignment]
            return answer
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads:
        answer: Future[HttpResponse] = threads.submit(ask)
        assert sleeps.wait(10)
        time.sleep(0.2)
        began = time.monotonic()
        lifecycle.suspend_organization(row_of(served))
        assert code_of(answer.result(10)) == (403, "organization_suspended")
        assert time.monotonic() - began < 10, "the query ran to its end"


def test_what_connects_while_it_is_suspended_is_not_used(
    served: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A back end can be past the log-in check, and not yet seen by the fence."""
    connect = guard.Connection.connect
    opened: list[psycopg.Connection[Any]] = []

    def connect_and_suspend(**parameters: Any) -> Any:
        opened.append(connect(**parameters))
        change_unheard(served, status=Status.SUSPENDED)
        return opened[-1]

    end_sessions(served)
    monkeypatch.setattr(guard.Connection, "connect", connect_and_suspend)
    tenant = directory.get().tenant_by_id(served.organization.pk)
    with tenancy.override(tenant), pytest.raises(OrganizationSuspended):
        User.objects.exists()
    assert [connection.closed for connection in opened] == [True]
    monkeypatch.undo()
    fence(row_of(served))


def test_what_connects_while_its_database_is_locked_is_not_used_afterwards(
    served: Company, superuser: Superuser
) -> None:
    """As by CREATE DATABASE … TEMPLATE or a rename: the log-in waits, and no fence sees it."""
    tenant = directory.get().tenant_by_id(served.organization.pk)
    name = sql.Identifier(served.organization.database_name)
    rename = sql.SQL("ALTER DATABASE {} RENAME TO org_held_up").format(name)

    def visit() -> bool:
        try:
            with tenancy.override(tenant):
                return User.objects.exists()
        finally:
            connections.close_all()

    end_sessions(served)
    with ThreadPoolExecutor(1) as threads:
        with superuser.transaction(force_rollback=True):
            superuser.execute(rename)
            visiting = threads.submit(visit)
            wait_for(superuser, LOG_IN_WAITS)
            lifecycle.suspend_organization(row_of(served))
            assert not visiting.done()
        with pytest.raises(OrganizationSuspended):
            visiting.result(10)
    assert sessions(superuser, served) == 0


def test_a_snapshot_of_the_master_from_before_confirms_nothing(served: Company) -> None:
    tenant = directory.get().tenant_by_id(served.organization.pk)
    end_sessions(served)
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM organizations")
        with open_session() as other:
            other.connection.execute(
                "UPDATE organizations SET status = 'suspended' WHERE id = %s",
                (tenant.organization_id,),
            )
        with tenancy.override(tenant), pytest.raises(OrganizationSuspended):
            User.objects.exists()
    fence(row_of(served))


def test_a_connection_of_an_operator_is_confirmed_before_a_request_has_it(
    served: Company, client: Client
) -> None:
    lifecycle.suspend_organization(row_of(served))
    with tenancy.override(served.tenant):
        assert User.objects.count() == 1, "migrations and backups run while it is suspended"
    registry.known(served.organization.pk)
    assert code_of(client.get(ME)) == (403, "organization_suspended")


def test_through_a_pooler_the_master_is_asked_at_each_request(
    served: Company, client: Client, settings: Settings
) -> None:
    """A client's connection to it says nothing about the server's."""
    settings.MASTER_DB_DIRECT = settings.DATABASES["default"]
    for _ in range(2):
        with CaptureQueriesContext(connections["default"]) as asked:
            assert client.get(ME).status_code == 200
        assert len(asked) == 1
    change_unheard(served, status=Status.SUSPENDED)
    assert code_of(client.get(ME)) == (403, "organization_suspended")
    settings.MASTER_DB_DIRECT = None
    fence(row_of(served))


def test_without_the_master_open_connections_are_served(
    served: Company, client: Client, superuser: Superuser
) -> None:
    master = sql.Identifier(connections["default"].settings_dict["NAME"])
    user = served.organization.admin_email
    superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(master))
    try:
        connections["default"].close()
        assert client.get(ME).json()["email"] == user
        with tenancy.override(served.tenant):
            User.objects.filter(email=user).update(is_admin=True)
        assert code_of(client.get("/api/v1/organization/")) == (503, "database_unavailable")
        assert client.get(ME).status_code == 200, "what needs the master closed what does not"
    finally:
        superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(master))


# --- Where it has moved -------------------------------------------------------------------------
def test_a_new_credential_ends_the_sessions_of_the_old_and_requests_carry_on(
    served: Company, client: Client, superuser: Superuser
) -> None:
    credentials.reset(row_of(served))
    assert sessions(superuser, served) == 0
    assert client.get(ME).status_code == 200, "the known route was not looked up again"


def test_a_renamed_slug_counts_in_the_next_request(served: Company, client: Client) -> None:
    before = served.organization.slug
    change_unheard(served, slug="renamed-once")
    fence(row_of(served))
    assert client.get(ME, headers={"X-Organization": "renamed-once"}).status_code == 200
    change_unheard(served, slug="renamed-away")
    fence(row_of(served))
    assert code_of(client.get(ME, headers={"X-Organization": before})) == (
        403,
        "organization_mismatch",
    )
    assert client.get(ME, headers={"X-Organization": "renamed-away"}).status_code == 200
    change_unheard(served, slug=before)
    fence(row_of(served))


def test_a_deleted_one_is_a_login_no_longer(
    served: Company, client: Client, company: Callable[..., Company]
) -> None:
    other = company()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {other.token(client)}"
    assert client.get(ME).status_code == 200
    lifecycle.delete_organization(row_of(other))
    assert code_of(client.get(ME)) == (401, "invalid_token")


# --- The mark on the row ------------------------------------------------------------------------
# Each column that directory._found makes a route of. None: it never changes.
CHANGES: dict[str, dict[str, str] | None] = {
    "id": None,
    "slug": {"slug": "another-slug"},
    "key": {"key": "0" * 32},
    # Only in a sentence to somebody who is refused.
    "name": None,
    "status": {"status": Status.SUSPENDED},
    "fingerprint": {"fingerprint": "of an unknown schema"},
    "database_name": {"database_name": "org_elsewhere"},
    "role_name": {"role_name": "orgrole_elsewhere"},
    "sealed_password": {"sealed_password": "another"},
}


def test_whatever_changes_a_route_marks_it_and_nothing_else_does(served: Company) -> None:
    asked = directory_module._BY_ID.split("SELECT ")[1].split(" FROM")[0].split(", ")
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
        {"migration_attempts": 1},
        {"fingerprint": untouched.fingerprint},
    ):
        change_unheard(served, **harmless)
        assert row_of(served).pending_fence == "", harmless
    assert credentials.reseal_credentials() > 0
    resealed = row_of(served)
    assert resealed.sealed_password != untouched.sealed_password
    assert resealed.pending_fence == "", "re-encrypting a password moved no database"


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


def test_a_statement_that_ends_its_own_session_frees_no_thread_of_the_others(
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
    end_all = fence_module._end_all

    def changed_meanwhile(*args: Any) -> int:
        ended = end_all(*args)
        change_unheard(served, slug="changed-meanwhile")
        return ended

    monkeypatch.setattr(fence_module, "_end_all", changed_meanwhile)
    change_unheard(served, status=Status.SUSPENDED)
    fence(row_of(served))
    assert row_of(served).pending_fence != "", "the second change was taken for fenced"
    monkeypatch.undo()
    fence(row_of(served))


def test_what_does_not_end_is_named_and_tried_again(
    served: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence_module, "FENCE_SECONDS", 0.1)
    ends_nothing = fence_module._END.replace("pg_terminate_backend(pid)", "pid")
    monkeypatch.setattr(fence_module, "_END", ends_nothing)
    with pytest.raises(SessionsRemain, match=r"process ids \d+"):
        lifecycle.suspend_organization(row_of(served))
    assert row_of(served).status == Status.SUSPENDED
    monkeypatch.undo()
    lifecycle.suspend_organization(row_of(served))
    assert sessions(superuser, served) == 0
    with pytest.raises(WrongState):
        lifecycle.suspend_organization(row_of(served))


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


# --- Migrations ---------------------------------------------------------------------------------
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
