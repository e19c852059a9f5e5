"""The fence over HTTP: a change counts at once, although kept connections do not ask the master."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.directory import MasterDirectory
from organizations.errors import OrganizationSuspended
from organizations.migrating.engine import Engine, Target
from organizations.migrating.turn import migrate_one
from organizations.models import Organization
from organizations.naming import name_key
from organizations.postgres.fence import fence
from organizations.postgres.sessions import open_session
from organizations.recovery import credentials
from organizations.tenancy import RouteChanged, Tenant, directory, guard, registry
from tests.conftest import Company, Superuser
from tests.organizations.helpers import wait_for

from .helpers import ME, change_unheard, code_of, end_sessions, row_of, sessions

Status = Organization.Status
LOG_IN_WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted AND classid = 'pg_database'::regclass"
NO_SESSION = "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = %s)"


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
    """A back end can be past the login check, and not yet seen by the fence."""
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


def test_a_connection_made_while_its_database_is_locked_is_not_used(
    served: Company, superuser: Superuser
) -> None:
    """As by CREATE DATABASE … TEMPLATE or a rename: the login waits, and no fence sees it."""
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
    # Its back end ends a moment after its client has closed.
    wait_for(superuser, NO_SESSION, served.organization.role_name)


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


def test_an_operators_connection_is_confirmed_before_a_request_uses_it(
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
def test_resetting_a_credential_ends_old_sessions_and_requests_continue(
    served: Company, client: Client, superuser: Superuser
) -> None:
    credentials.reset(row_of(served))
    assert sessions(superuser, served) == 0
    assert row_of(served).pending_fence == ""
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


def test_a_new_connection_is_not_used_for_an_earlier_route(served: Company) -> None:
    tenant = directory.get().tenant_by_id(served.organization.pk)
    change_unheard(served, slug="renamed-away")
    fence(row_of(served))
    with pytest.raises(RouteChanged), tenancy.override(tenant):
        User.objects.exists()
    change_unheard(served, slug=tenant.slug)
    fence(row_of(served))
    with tenancy.override(tenant):
        User.objects.exists()


def test_a_deleted_one_is_a_login_no_longer(
    served: Company, client: Client, company: Callable[..., Company]
) -> None:
    other = company()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {other.token(client)}"
    assert client.get(ME).status_code == 200
    lifecycle.delete_organization(row_of(other))
    assert code_of(client.get(ME)) == (401, "invalid_token")


# --- Before a migration is unapplied -------------------------------------------------------------
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


def test_reconciling_records_a_killed_rollback(
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
