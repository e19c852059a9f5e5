"""A hostile owner: SQL as one organization's role does not block deletions, templates or others."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.test import Client
from psycopg import sql
from pytest_django import Settings

from organizations import lifecycle
from organizations.errors import OrganizationError
from organizations.models import Organization, Template
from organizations.postgres import roles as roles_of
from organizations.provisioning import templates
from organizations.tenancy import pool, registry
from orgmgmt import gunicorn
from tests.conftest import Company, Superuser, leftovers

from .helpers import REPOSITORY, Fork, as_role_of, begin_deletion
from .undroppable import subscribed, undroppable, visited

Status = Organization.Status
Injected = psycopg.Connection[tuple[object, ...]]
Attack = Callable[[Injected, sql.Identifier, list[str]], None]


def _grant(injected: Injected, database: sql.Identifier, roles: list[str]) -> None:
    for role in map(sql.Identifier, roles):
        injected.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
        injected.execute(sql.SQL("GRANT SELECT ON users TO {}").format(role))
        injected.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))


def _and_shut(injected: Injected, database: sql.Identifier, roles: list[str]) -> None:
    _grant(injected, database, roles)
    for change in (
        "CONNECTION LIMIT 0",
        "IS_TEMPLATE true",
        "SET default_transaction_read_only = on",
        "SET local_preload_libraries = 'absent'",
    ):
        injected.execute(f"ALTER DATABASE {database.as_string()} {change}".encode())


def _and_a_lock(injected: Injected, database: sql.Identifier, roles: list[str]) -> None:
    _grant(injected, database, roles)
    injected.execute("BEGIN")
    injected.execute("LOCK TABLE users, django_migrations")


def _policies_not_committed(injected: Injected, database: sql.Identifier, roles: list[str]) -> None:
    injected.execute("BEGIN")
    for number, role in enumerate(map(sql.Identifier, roles)):
        policy = sql.SQL("CREATE POLICY {} ON users TO {}")
        injected.execute(policy.format(sql.Identifier(f"p{number}"), role))


@contextmanager
def attacked(by: Organization, attack: Attack) -> Iterator[None]:
    """Run the attack with the names of all other roles; its session stays open during the block."""
    with as_role_of(by) as injected:
        roles = injected.execute(
            "SELECT rolname::text FROM pg_roles WHERE rolname <> current_user "
            "AND (rolname LIKE 'orgrole\\_%' OR rolname LIKE 'orgmgmt\\_tables\\_%')"
        ).fetchall()
        attack(injected, sql.Identifier(by.database_name), [str(role) for (role,) in roles])
        yield


def memberships(superuser: Superuser, role: str) -> list[tuple[object, ...]]:
    """The application's memberships in the role, without its ADMIN option."""
    return superuser.execute(
        "SELECT inherit_option, set_option FROM pg_auth_members WHERE roleid = %s::regrole "
        "AND member = 'orgmgmt'::regrole AND (inherit_option OR set_option)",
        (role,),
    ).fetchall()


@pytest.fixture
def quick_locks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LOCK_TIMEOUT_SECONDS = 0.3
    monkeypatch.setattr(roles_of, "_DROP_WAIT", "300ms")


@pytest.mark.usefixtures("quick_locks")
@pytest.mark.parametrize("attack", [_and_shut, _and_a_lock, _policies_not_committed])
def test_others_are_deleted_and_reconciled_whatever_an_owner_does(
    company: Callable[..., Company], superuser: Superuser, attack: Attack
) -> None:
    mallory, victim, dying = (company().organization for _ in range(3))
    begin_deletion(dying)
    with attacked(mallory, attack):
        lifecycle.delete_organization(victim)
        outcome = lifecycle.reconcile_organizations(wait_seconds=0.1)
        assert (outcome["deleted"], outcome["failed"]) == ([dying.name], [])
        assert memberships(superuser, mallory.role_name) == []
        for gone in (victim, dying):
            gone.refresh_from_db()
            assert (gone.status, gone.sealed_password) == (Status.DELETED, "")
            login = superuser.execute(
                "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = %s",
                (gone.role_name,),
            ).fetchone()
            assert login in (None, (False, None))
    lifecycle.delete_organization(mallory)
    lifecycle.reconcile_organizations(wait_seconds=0.1)
    assert leftovers(superuser) == (set(), set())


def test_a_killed_deletion_leaves_no_membership_in_another_role(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    mallory, victim = (company().organization for _ in range(2))
    inside: Any = None
    with attacked(mallory, _and_a_lock):
        deleting = Fork(lambda: lifecycle.delete_organization(victim))
        while deleting.poll() is None and inside is None:
            inside = superuser.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND usename = 'orgmgmt'",
                (mallory.database_name,),
            ).fetchone()
        deleting.__exit__()
    assert inside is None, "the application entered the attacker's database"
    assert memberships(superuser, mallory.role_name) == []
    victim.refresh_from_db()
    assert victim.status == Status.DELETED
    lifecycle.delete_organization(mallory)
    assert f"role {victim.role_name}" in lifecycle.reconcile_organizations()["undone"]


# --- What an owner does against its own end ------------------------------------------------------
@pytest.mark.usefixtures("quick_locks")
@pytest.mark.parametrize(
    "obstacle",
    [
        "ALTER DATABASE {database} IS_TEMPLATE true",
        "BEGIN; ALTER DATABASE {database} CONNECTION LIMIT 3",
        "BEGIN; ALTER ROLE {role} PASSWORD 'another'",
    ],
)
def test_an_owner_cannot_keep_its_database_from_being_dropped(
    company: Callable[..., Company], superuser: Superuser, obstacle: str
) -> None:
    mallory = company().organization
    # Its session is ended, and psycopg would commit what it has begun.
    with suppress(psycopg.OperationalError), as_role_of(mallory) as injected:
        statement = obstacle.format(database=mallory.database_name, role=mallory.role_name)
        injected.execute(statement.encode())
        lifecycle.delete_organization(mallory)
    mallory.refresh_from_db()
    assert mallory.status == Status.DELETED
    assert leftovers(superuser) == (set(), set())


# --- A database that somebody is in --------------------------------------------------------------
def test_a_database_that_cannot_be_dropped_leaves_all_else_alone(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    held, dying = (company().organization for _ in range(2))
    for organization in (held, dying):
        begin_deletion(organization)
    with visited(held.database_name) as visit:
        with pytest.raises(OrganizationError, match="No data is lost: end that session"):
            lifecycle.delete_organization(held)
        with subscribed(visit):
            outcome = lifecycle.reconcile_organizations(wait_seconds=0.1)
        assert outcome["deleted"] == [dying.name]
        assert outcome["failed"] == [held.name]
        assert memberships(superuser, held.role_name) == []
    outcome = lifecycle.reconcile_organizations(wait_seconds=0.1)
    assert (outcome["deleted"], outcome["failed"]) == ([held.name], [])
    assert leftovers(superuser) == (set(), set())


def test_a_template_that_cannot_be_dropped_does_not_block_a_new_one(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    company()
    old = templates.ready()
    assert old is not None
    superuser.execute(f"ALTER DATABASE {old.database_name} ALLOW_CONNECTIONS true".encode())
    with undroppable(old.database_name):
        templates.distrust(old)
        made = company()
        assert made.organization.status == Status.ACTIVE
        new = templates.ready()
        assert new is not None and new.pk != old.pk
    lifecycle.reconcile_organizations(wait_seconds=0.1)
    assert not Template.objects.filter(pk=old.pk).exists()


def test_an_owners_settings_cannot_lock_the_application_out(
    company: Callable[..., Company], client: Client
) -> None:
    made = company()
    database, role = made.organization.database_name, made.organization.role_name
    with as_role_of(made.organization) as injected:
        for whose in (f"DATABASE {database}", f"ROLE {role}"):
            injected.execute(f"ALTER {whose} SET default_transaction_read_only = on".encode())
            injected.execute(f"ALTER {whose} SET local_preload_libraries = 'absent'".encode())
    registry.forget(made.tenant.alias)
    pool.shared.close_idle()
    assert made.token(client), "a login writes"


def test_a_web_servers_start_touches_no_organization(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs one command before it listens."""
    dying = company().organization
    begin_deletion(dying)
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        """Here, where it starts faster."""
        commands.append(command)
        call_command(*command[2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(gunicorn, "subprocess", SimpleNamespace(run=run))
    with visited(dying.database_name):
        gunicorn.on_starting(None)
    gunicorn.on_starting(None)  # Now nothing would keep it from being dropped.
    assert commands == [[sys.executable, str(REPOSITORY / "manage.py"), "prepare_start"]] * 2
    dying.refresh_from_db()
    assert dying.status == Status.DELETING, "the workers finish it"
