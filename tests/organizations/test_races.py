"""Races between two processes on one organization, at exact moments between two statements."""

import threading
from typing import Any

import psycopg
import pytest
from django.db import transaction
from psycopg import sql

from organizations import lifecycle, tenancy
from organizations.models import Organization
from organizations.postgres import identity
from organizations.postgres.identity import Certain, Expected
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning import making
from organizations.provisioning.undoing import expected
from tests.conftest import PASSWORD, Superuser, leftovers
from tests.plugin import SERVER

Status = Organization.Status


def sign_up(name: str) -> Organization:
    return lifecycle.create_organization(
        name=name, email="admin@test.com", password=PASSWORD
    ).organization


def test_reconciling_keeps_what_was_activated_just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    organization = sign_up("Photo Finish")
    row = Organization.objects.filter(pk=organization.pk)
    with open_session() as session, transaction.atomic(using="default"):
        identity.change(session, expected(organization), state=identity.State.MADE)
        row.update(status=Status.PROVISIONING)
    look = identity.certain

    def activated_after_the_look(session: ServerSession, expected: Expected) -> Certain:
        found = look(session, expected)
        monkeypatch.undo()
        making._activate(session, row.get(), None)
        return found

    monkeypatch.setattr(identity, "certain", activated_after_the_look)
    lifecycle.reconcile_organizations()
    organization.refresh_from_db()
    assert organization.status == Status.ACTIVE
    with tenancy.override(organization.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT count(*) FROM users")
        assert cursor.fetchone() == (1,), "the database of an active organization is gone"
    lifecycle.delete_organization(organization)


def test_a_deletion_overtaken_by_a_suspension_still_deletes() -> None:
    organization = sign_up("Overtaken")
    stale = Organization.objects.get(pk=organization.pk)
    lifecycle.suspend_organization(organization)
    lifecycle.delete_organization(stale)
    organization.refresh_from_db()
    assert organization.status == Status.DELETED


def test_a_role_that_another_organization_granted_to_stays_without_login(
    superuser: Superuser,
) -> None:
    """SQL injected in one organization can grant to the role of any other: names are public."""
    mallory, victim = sign_up("Mallory"), sign_up("Victim")
    with tenancy.override(mallory.tenant):
        parameters = tenancy.connection().get_connection_params()
    own = {key: parameters[key] for key in ("host", "dbname", "user", "password")}
    with psycopg.connect(**own, autocommit=True) as injected:
        names = [sql.Identifier(name) for name in (mallory.database_name, victim.role_name)]
        injected.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(*names))
        injected.execute(sql.SQL("GRANT SELECT ON users TO {}").format(names[1]))
    lifecycle.delete_organization(victim)
    assert victim.status == Status.DELETED
    assert leftovers(superuser) == (set(), {victim.role_name})
    assert lifecycle.reconcile_organizations()["failed"] == [], "it is nothing to worry about"
    lifecycle.delete_organization(mallory)
    assert lifecycle.reconcile_organizations()["undone"] == [f"role {victim.role_name}"]
    assert leftovers(superuser) == (set(), set())


def test_a_foreign_session_that_ends_by_itself_does_not_stop_a_deletion(
    superuser: Superuser,
) -> None:
    """DROP DATABASE … FORCE gives up where one session is not of a role of ours."""
    organization = sign_up("Visited")
    database = sql.Identifier(organization.database_name)
    superuser.execute("CREATE ROLE visitor LOGIN PASSWORD 'visitor'")
    superuser.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO visitor").format(database))
    parameters: dict[str, Any] = {
        **SERVER.connection_parameters(),
        "dbname": organization.database_name,
        "user": "visitor",
        "password": "visitor",
    }
    visit = psycopg.connect(**parameters)
    leaving = threading.Timer(0.5, visit.close)
    leaving.start()
    lifecycle.delete_organization(organization)
    leaving.join()
    assert organization.status == Status.DELETED
    superuser.execute("DROP ROLE visitor")
