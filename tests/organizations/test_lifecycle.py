"""Lifecycle services: signing up, suspending, resuming and deleting organizations."""

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import (
    OrganizationBusy,
    OrganizationExists,
    OrganizationNotFound,
    ProvisioningFailed,
    ProvisioningInTransaction,
    WrongState,
)
from organizations.models import Organization
from organizations.naming import name_key, slug_for
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import ServerSession, open_session
from tests.conftest import PASSWORD, Company, leftovers

from .helpers import Superuser, as_role_of, insert_row

Status = Organization.Status


def sign_up(name: str, *, email: str = "admin@test.com", password: str = PASSWORD) -> Organization:
    return lifecycle.create_organization(name=name, email=email, password=password).organization


# --- Creating -----------------------------------------------------------------------------------
def test_a_sign_up_makes_a_row_that_is_active_and_complete(alpha: Company) -> None:
    row = Organization.objects.get(pk=alpha.organization.pk)
    assert (row.status, row.provisioned) == (Status.ACTIVE, Organization.Step.ADMIN)
    assert (row.name, row.slug, row.admin_email) == ("Acme Corp", "acme-corp", alpha.email)
    assert (row.database_name, row.server.name) == ("org_acme_corp", "default")


def test_a_sign_up_makes_its_first_admin_and_nobody_else(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        admin = User.objects.get()
        assert (admin.email, admin.is_admin, admin.is_active) == (alpha.email, True, True)
        assert admin.check_password(PASSWORD)


def test_a_sign_up_reports_the_time_of_each_step_in_order() -> None:
    created = lifecycle.create_organization(name="Timed", email="a@test.com", password=PASSWORD)
    lifecycle.delete_organization(created.organization)
    making = ["template", "role", "database", "schema"]
    ending = ["connect", "hash", "admin", "activation"]
    assert list(created.report.seconds) == ["lock", "row", *making, *ending]
    assert created.report.total_seconds == sum(created.report.seconds.values()) > 0


def test_spaces_around_name_and_address_are_removed() -> None:
    organization = sign_up("  Spacious \t Ltd ", email=" Boss@Test.com ")
    with tenancy.override(organization.tenant):
        assert User.objects.get().email == "Boss@Test.com"
    lifecycle.delete_organization(organization)
    assert organization.name == "Spacious Ltd"


def test_a_name_that_is_taken_in_any_spelling_is_refused(alpha: Company) -> None:
    for spelling in ("Acme Corp", "ACME_CORP", " acme  corp "):
        with pytest.raises(OrganizationExists, match="is taken"):
            sign_up(spelling)
        assert lifecycle.find_organization(spelling).pk == alpha.organization.pk
    lifecycle.suspend_organization(alpha.organization)
    try:
        with pytest.raises(OrganizationExists):
            sign_up(alpha.name)
    finally:
        lifecycle.resume_organization(alpha.organization)


def test_a_name_equal_to_anothers_hashed_slug_does_not_block_it() -> None:
    squatter = sign_up(slug_for(name_key("株式会社")))
    victim = sign_up("株式会社")
    for organization in (squatter, victim):
        lifecycle.delete_organization(organization)
    assert squatter.slug == slug_for(name_key("株式会社"))
    assert victim.slug.startswith(squatter.slug)
    assert victim.database_name != squatter.database_name


def test_opaque_database_names_do_not_tell_who_the_customer_is(settings: Settings) -> None:
    settings.ORG_DATABASE_NAMES = "opaque"
    organization = sign_up("Secretive Ltd")
    lifecycle.delete_organization(organization)
    assert organization.database_name.startswith("org_")
    assert "secretive" not in organization.database_name
    assert organization.slug == "secretive-ltd"


def test_errors_are_given_by_field_and_nothing_is_made(superuser: Superuser) -> None:
    fine = {"name": "Invalid Ltd", "email": "admin@test.com", "password": PASSWORD}
    for wrong, fields in (
        ({"password": "12345678"}, {"password"}),
        ({"password": "x" * 100_000}, {"password"}),
        ({"password": "admin@test.com"}, {"password"}),
        ({"email": "nobody"}, {"email"}),
        ({"email": "a" * 250 + "@test.com"}, {"email"}),
        ({"name": "Acme\x00"}, {"organization_name"}),
        ({"name": "", "email": "", "password": ""}, {"organization_name", "email", "password"}),
    ):
        with pytest.raises(ValidationError) as caught:
            lifecycle.create_organization(**(fine | wrong))
        assert set(caught.value.message_dict) == fields
    assert leftovers(superuser) == (set(), set())


def test_a_foreign_database_of_the_wanted_name_is_left_alone(superuser: Superuser) -> None:
    superuser.execute("CREATE DATABASE org_foreign_ltd")
    try:
        organization = sign_up("Foreign Ltd")
        assert organization.database_name.startswith("org_foreign_ltd_")
        lifecycle.delete_organization(organization)
        assert leftovers(superuser) == ({"org_foreign_ltd"}, set())
    finally:
        superuser.execute("DROP DATABASE org_foreign_ltd")


@pytest.mark.parametrize(
    ("looks", "reason"), [(1, "already has its name"), (2, "DuplicateDatabase")]
)
def test_a_foreign_database_that_appears_meanwhile_is_left_alone(
    superuser: Superuser, monkeypatch: pytest.MonkeyPatch, looks: int, reason: str
) -> None:
    look = ServerSession.database_owner
    early = iter(range(looks))

    def look_too_early(session: ServerSession, database: str) -> str | None:
        is_early = database == "org_foreign_ltd" and next(early, None) is not None
        return None if is_early else look(session, database)

    monkeypatch.setattr(ServerSession, "database_owner", look_too_early)
    superuser.execute("CREATE DATABASE org_foreign_ltd")
    try:
        with pytest.raises(ProvisioningFailed, match=reason):
            sign_up("Foreign Ltd")
        monkeypatch.undo()
        assert leftovers(superuser) == ({"org_foreign_ltd"}, set())
        assert not Organization.objects.live().named("Foreign Ltd").exists()
    finally:
        superuser.execute("DROP DATABASE org_foreign_ltd")


def test_a_sign_up_while_another_process_holds_the_name_is_refused(superuser: Superuser) -> None:
    with open_session() as other:
        assert other.try_lock(name_key("Busy Ltd"))
        with pytest.raises(OrganizationExists):
            sign_up("Busy Ltd")
    assert not Organization.objects.named("Busy Ltd").exists()


def test_a_sign_up_takes_over_the_name_of_one_that_died(superuser: Superuser) -> None:
    with open_session() as session:
        dead = insert_row(session, "Lazarus Ltd")
        ensure_role(session, role=dead.role_name, password="x", key=dead.key)
    organization = sign_up("lazarus ltd")
    assert not Organization.objects.filter(pk=dead.pk).exists()
    lifecycle.delete_organization(organization)
    assert leftovers(superuser) == (set(), set())


def test_nothing_is_provisioned_inside_a_transaction(alpha: Company) -> None:
    for act in (
        lambda: sign_up("Atomic Ltd"),
        lambda: lifecycle.delete_organization(alpha.organization),
        lifecycle.reconcile_organizations,
    ):
        refused = pytest.raises(ProvisioningInTransaction, match="out")
        with transaction.atomic(using="default"), refused:
            act()
    assert not Organization.objects.named("Atomic Ltd").exists()


def test_looking_up_what_is_no_organization_says_so() -> None:
    for name in ("Nobody Ltd", "", "\x00", "\ud800"):
        with pytest.raises(OrganizationNotFound, match="There is no organization"):
            lifecycle.find_organization(name)


# --- Deleting -----------------------------------------------------------------------------------
def test_a_deletion_leaves_a_tombstone_without_address_or_credential(superuser: Superuser) -> None:
    organization = sign_up("Mortal Ltd")
    lifecycle.delete_organization(organization)
    row = Organization.objects.get(pk=organization.pk)
    assert row.status == Status.DELETED
    assert (row.admin_email, row.sealed_password) == ("", "")
    assert leftovers(superuser) == (set(), set())


def test_the_name_of_a_deleted_organization_can_be_used_again() -> None:
    first = sign_up("Phoenix Ltd")
    lifecycle.delete_organization(first)
    second = sign_up("phoenix-ltd")
    assert second.pk != first.pk
    assert second.database_name == first.database_name
    # Deleting again is no error, and leaves the successor alone.
    lifecycle.delete_organization(first)
    with tenancy.override(second.tenant):
        assert User.objects.count() == 1, "the successor has its database"
    lifecycle.delete_organization(second)


def test_an_organization_is_deleted_despite_a_connection() -> None:
    organization = sign_up("Connected Ltd")
    with as_role_of(organization) as connection:
        lifecycle.delete_organization(organization)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_deletion_of_a_locked_organization_is_refused(alpha: Company) -> None:
    with open_session() as other:
        assert other.try_lock(name_key(alpha.name))
        with pytest.raises(OrganizationBusy, match="right now"):
            lifecycle.delete_organization(alpha.organization)
    assert lifecycle.find_organization(alpha.name).status == Status.ACTIVE


# --- Suspending ---------------------------------------------------------------------------------
def test_only_active_organizations_suspend_and_only_suspended_ones_resume(
    alpha: Company,
) -> None:
    with pytest.raises(WrongState, match="is active; it must be suspended"):
        lifecycle.resume_organization(alpha.organization)
    lifecycle.suspend_organization(alpha.organization, reason="unpaid")
    try:
        row = lifecycle.find_organization(alpha.name)
        assert (row.status, row.status_reason) == (Status.SUSPENDED, "unpaid")
        with pytest.raises(WrongState, match="is suspended; it must be active"):
            lifecycle.suspend_organization(alpha.organization)
    finally:
        lifecycle.resume_organization(alpha.organization)
    row.refresh_from_db()
    assert (row.status, row.status_reason) == (Status.ACTIVE, "")
