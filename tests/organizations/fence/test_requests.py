"""The fence over HTTP: a change counts at once, although kept connections do not ask the master."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from psycopg import sql
from pytest_django import Settings

from accounts.api import views
from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import OrganizationMigrating, OrganizationSuspended
from organizations.master_directory import MasterDirectory
from organizations.models import Organization
from organizations.postgres import warm
from organizations.postgres.fence import fence
from organizations.postgres.sessions import open_session
from organizations.recovery import credentials
from organizations.tenancy import RouteChanged, Tenant, directory, guard
from tests.conftest import PASSWORD, Company, Superuser
from tests.organizations.helpers import as_role_of, wait_for

from .helpers import AWAY, ME, change_unheard, code_of, end_sessions, row_of, sessions

Status = Organization.Status
# Of the organization's database, the first two need only the login.
TOUCH_NOTHING = [("OPTIONS", ME), ("GET", "/api/v1/organization/"), ("GET", ME)]
LOG_IN_WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted AND classid = 'pg_database'::regclass"
USERS = "/api/v1/users/"
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


@pytest.mark.parametrize(("verb", "path"), TOUCH_NOTHING)
def test_what_suspends_is_heard_by_whoever_keeps_a_connection(
    verb: str, path: str, served: Company, client: Client, superuser: Superuser
) -> None:
    lifecycle.suspend_organization(row_of(served))
    assert sessions(superuser, served) == 0
    # The first request since: whoever is refused looks the organization up the next time.
    assert code_of(client.generic(verb, path)) == (403, "organization_suspended")
    lifecycle.resume_organization(row_of(served))
    assert client.get(ME).status_code == 200


@pytest.mark.parametrize(("verb", "path"), TOUCH_NOTHING)
def test_an_ended_login_is_shown_nothing(
    verb: str, path: str, served: Company, client: Client
) -> None:
    assert client.generic(verb, path).status_code == 200
    assert client.post("/api/v1/auth/logout/").status_code == 204
    assert code_of(client.generic(verb, path)) == (401, "invalid_token")


def test_a_suspended_one_whose_role_has_no_connection_left_is_called_suspended(
    served: Company, client: Client, superuser: Superuser
) -> None:
    """As with a leaked password: the fence does not forbid the role to log in."""
    role = sql.Identifier(served.organization.role_name)
    lifecycle.suspend_organization(row_of(served))
    superuser.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 1").format(role))
    with as_role_of(served.organization):
        assert code_of(client.get(ME)) == (403, "organization_suspended")


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


def test_a_snapshot_of_the_master_from_before_confirms_no_older_schema(served: Company) -> None:
    tenant = directory.get().tenant_by_id(served.organization.pk)
    before = served.organization.fingerprint
    end_sessions(served)
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM organizations")
        with open_session() as other:
            other.connection.execute(
                "INSERT INTO schema_versions VALUES ('older', '[]', now()) ON CONFLICT DO NOTHING"
            )
            other.connection.execute(
                "UPDATE organizations SET fingerprint = 'older' WHERE id = %s",
                (tenant.organization_id,),
            )
        with tenancy.override(tenant), pytest.raises(OrganizationMigrating):
            User.objects.exists()
    change_unheard(served, fingerprint=before)
    fence(row_of(served))


def test_an_operators_connection_is_confirmed_before_a_request_uses_it(
    served: Company, client: Client
) -> None:
    lifecycle.suspend_organization(row_of(served))
    with tenancy.override(served.tenant):
        assert User.objects.count() == 1, "migrations and backups run while it is suspended"
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
    served: Company, client: Client, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads and writes the organization's database alone; the rest fails, and does nothing."""
    body = {"email": "second@test.com", "password": PASSWORD}
    second = client.post(USERS, body, content_type="application/json").json()["id"]

    def write(*args: Any, **options: Any) -> HttpResponse:
        User.objects.filter(pk=second).update(is_active=False)
        return HttpResponse("written")

    master = sql.Identifier(connections["default"].settings_dict["NAME"])
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    superuser.execute(allow.format(master, sql.SQL("false")))
    try:
        connections["default"].close()
        warm.stock.close()
        assert client.get(ME).json()["email"] == served.email
        with monkeypatch.context() as patch:
            patch.setattr(views.MeView, "get", write)
            assert client.get(ME).content == b"written"
        assert code_of(client.get("/api/v1/organization/")) == AWAY
        is_admin = {"is_admin": True}
        change = client.patch(f"{USERS}{second}/", is_admin, content_type="application/json")
        assert code_of(change) == AWAY
        assert client.get(ME).status_code == 200, "what needs the master closed what does not"
        superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s",
            (served.organization.role_name,),
        )
        assert code_of(client.get(ME)) == AWAY, "a new connection was used, and nobody asked"
    finally:
        superuser.execute(allow.format(master, sql.SQL("true")))
    with tenancy.override(served.tenant):
        user = User.objects.get(pk=second)
    assert (user.is_active, user.is_admin) == (False, False)


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
