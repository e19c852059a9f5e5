"""An action whose audit entry cannot be written is not done."""

import secrets
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError
from django.test import Client

from accounts import services as people
from accounts.models import LoginSession, User
from organizations import lifecycle, tenancy
from organizations.errors import OrganizationError
from organizations.models import AuditEntry, Organization, Staff
from organizations.postgres.fence import fence
from organizations.recovery import credentials
from tests.accounts.helpers import send, unique_email
from tests.conftest import PASSWORD, Company, leftovers
from tests.organizations.helpers import Superuser, as_role_of


@pytest.fixture
def broken_trail(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The table refuses entries of one act: the rest of the way is real."""

    def break_for(act: str) -> None:
        real = AuditEntry.objects.create

        def create(**values: Any) -> AuditEntry:
            if values["act"] == act:
                values["actor_id"] = 2**70  # Out of the column's range.
            return real(**values)

        monkeypatch.setattr(AuditEntry.objects, "create", create)

    return break_for


def test_a_user_whose_making_cannot_be_recorded_is_not_made(
    alpha: Company, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("user.created")
    email = unique_email()
    with tenancy.override(alpha.tenant):
        with pytest.raises(DatabaseError):
            people.create_user(email=email, password=PASSWORD)
        assert not User.objects.filter(email=email).exists()


def test_a_user_whose_change_or_removal_cannot_be_recorded_stays(
    alpha: Company, member: User, broken_trail: Callable[[str], None]
) -> None:
    with tenancy.override(alpha.tenant):
        broken_trail("user.updated")
        with pytest.raises(DatabaseError):
            people.update_user(User.objects.get(pk=member.pk), is_admin=True)
        broken_trail("user.removed")
        with pytest.raises(DatabaseError):
            people.remove_user(User.objects.get(pk=member.pk))
        assert not User.objects.get(pk=member.pk).is_admin


def test_a_login_that_cannot_be_recorded_does_not_begin(
    alpha: Company, member: User, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("login.succeeded")
    body = {"organization": alpha.name, "email": member.email, "password": PASSWORD}
    response: Any = send(Client(), "post", "/api/v1/auth/token/", body)
    assert response.status_code != 200
    with tenancy.override(alpha.tenant):
        assert not LoginSession.objects.filter(user=member).exists()


def test_staff_whose_login_cannot_be_recorded_are_not_in(
    staff: Staff, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("staff.logged_in")
    client = Client(raise_request_exception=False)
    client.post("/admin/login/", {"username": staff.username, "password": PASSWORD})
    assert client.get("/admin/").status_code == 302, "they are in"


def test_a_sign_up_that_cannot_be_recorded_leaves_nothing(
    superuser: Superuser, broken_trail: Callable[[str], None]
) -> None:
    for act, attribute in (
        ("organization.created", "CREATEDB"),
        ("organization.create_failed", "NOCREATEDB"),
    ):
        broken_trail(act)
        name = f"Untold {secrets.token_hex(4)}"
        superuser.execute(f"ALTER ROLE orgmgmt {attribute}".encode())
        try:
            with pytest.raises(OrganizationError):
                lifecycle.create_organization(name=name, email="a@test.com", password=PASSWORD)
        finally:
            superuser.execute("ALTER ROLE orgmgmt CREATEDB")
        assert not Organization.objects.named(name).exists()
        assert leftovers(superuser) == (set(), set())


def test_a_deletion_or_suspension_that_cannot_be_recorded_is_not_done(
    alpha: Company, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("organization.deleting")
    with pytest.raises(DatabaseError):
        lifecycle.delete_organization(Organization.objects.get(pk=alpha.organization.pk))
    broken_trail("organization.suspended")
    with pytest.raises(DatabaseError):
        lifecycle.suspend_organization(Organization.objects.get(pk=alpha.organization.pk))
    assert lifecycle.find_organization(alpha.name).status == Organization.Status.ACTIVE


def test_a_new_credential_that_cannot_be_recorded_ends_the_sessions_of_the_old(
    company: Callable[..., Company], broken_trail: Callable[[str], None]
) -> None:
    """The password has changed by then, maybe because the old one had leaked."""
    organization = company().organization
    broken_trail("credentials.reset")
    with as_role_of(organization) as opened:
        with pytest.raises(DatabaseError):
            credentials.reset(organization)
        with pytest.raises(psycopg.OperationalError):
            opened.execute("SELECT 1")


def test_a_suspension_that_cannot_be_recorded_leaves_the_object_unchanged(
    alpha: Company, broken_trail: Callable[[str], None]
) -> None:
    organization = lifecycle.find_organization(alpha.name)
    before = dict(vars(organization))
    broken_trail("organization.suspended")
    with pytest.raises(DatabaseError):
        lifecycle.suspend_organization(organization, reason="unpaid")
    assert vars(organization) == before
    assert lifecycle.find_organization(alpha.name).status == Organization.Status.ACTIVE


def test_a_change_that_another_process_made_is_not_recorded_here(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = company().organization
    Organization.objects.filter(pk=organization.pk).update(status="suspended")
    fence(organization)
    told = AuditEntry.objects.filter(organization_id=organization.pk)
    before = told.count()
    with pytest.raises(OrganizationError, match="suspended"):
        lifecycle.suspend_organization(organization)  # It says that it is active.

    look = Organization.refresh_from_db

    def overtaken(self: Organization, *args: Any, **kwargs: Any) -> None:
        look(self, *args, **kwargs)
        Organization.objects.filter(pk=self.pk).update(status="failed")

    with monkeypatch.context() as patch:
        patch.setattr(Organization, "refresh_from_db", overtaken)
        with pytest.raises(OrganizationError):
            lifecycle.delete_organization(organization)
    assert told.count() == before
    Organization.objects.filter(pk=organization.pk).update(status="active")
