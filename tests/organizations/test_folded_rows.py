"""Rows from before names and addresses folded ı to i: found, even where two have become one."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connections
from django.utils import timezone

from accounts import services as people
from accounts.errors import UserExists
from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import OrganizationExists
from organizations.models import FormerName, Organization, Server
from organizations.tenancy import directory
from tests.conftest import PASSWORD, Company

MIGRATION = import_module("organizations.migrations.0008_fold_names")


def digest(key: str) -> str:
    """The digest as older code wrote it."""
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def row() -> Iterator[Callable[[str, str], Organization]]:
    made: list[int] = []

    def make(name: str, key: str) -> Organization:
        slug = f"folded-{secrets.token_hex(4)}"
        organization: Organization = Organization.objects.create(
            name=name,
            name_digest=digest(key),
            slug=slug,
            admin_email="a@test.com",
            status="active",
            server=Server.of_master(),
            database_name=f"org_{slug}",
            role_name=f"orgrole_{secrets.token_hex(8)}",
            sealed_password="x",
        )
        made.append(organization.pk)
        return organization

    yield make
    Organization.objects.filter(pk__in=made).delete()


def migrate(direction: str = "fold") -> None:
    with connections["default"].schema_editor() as editor:
        getattr(MIGRATION, direction)(apps, editor)


def found(name: str) -> set[int]:
    """What each way to look up by name finds."""
    by_query = Organization.objects.named(name).first()
    assert by_query is not None
    in_master = directory.get().counted_as(name)[0]
    assert in_master is not None
    return {lifecycle.find_organization(name).pk, by_query.pk, in_master}


def test_an_older_row_is_found_by_each_spelling_after_the_migration(
    row: Callable[[str, str], Organization],
) -> None:
    organization = row("Balık Işık", "balık-işık")
    assert found("Balık Işık") == {organization.pk}, "before the migration, by its own spelling"
    migrate()
    for spelling in ("Balık Işık", "BALIK IŞIK", "balik işik", "balık-ışık"):
        assert found(spelling) == {organization.pk}
    migrate("unfold")
    organization.refresh_from_db()
    assert organization.name_digest == digest("balık-işık")


def test_two_live_rows_whose_names_become_one_are_both_found(
    row: Callable[[str, str], Organization],
) -> None:
    older, younger = row("Kuş Işık", "kuş-işık"), row("kuş ışık", "kuş-ışık")
    migrate()
    migrate()
    assert found("Kuş Işık") == found("KUŞ IŞIK") == {older.pk}
    assert found("kuş ışık") == {younger.pk}


def test_whoever_had_the_exact_name_comes_before_whoever_has_one_that_became_equal(
    row: Callable[[str, str], Organization],
) -> None:
    has, had = row("Kuş Işık", "kuş-işık"), row("Başka", "başka")
    migrate()
    until = timezone.now() + timedelta(days=1)
    FormerName.objects.create(
        digest=digest("kuş-ışık"), slug="kus", organization=had, held_until=until
    )
    for name, wanted in (("kuş ışık", had), ("Kuş Işık", has), ("KUŞ IŞIK", has)):
        assert lifecycle.find_organization(name).pk == wanted.pk
        assert directory.get().counted_as(name)[0] == wanted.pk
    FormerName.objects.all().delete()


def test_a_sign_up_under_another_spelling_is_refused(company: Callable[..., Company]) -> None:
    made = company("Parlak Işık")
    for spelling in ("PARLAK IŞIK", "parlak ışık", "Parlak işik"):
        assert found(spelling) == {made.organization.pk}
        with pytest.raises(OrganizationExists):
            lifecycle.create_organization(name=spelling, email="a@test.com", password=PASSWORD)


def test_a_user_with_an_older_key_is_found_and_gets_todays_by_a_login(alpha: Company) -> None:
    before, other = "fıkret@test.com", "FIKRET@TEST.COM"
    with tenancy.override(alpha.tenant):
        user = people.create_user(email=before, password=PASSWORD)
        User.objects.filter(pk=user.pk).update(email_key=before)
        assert people.authenticate(email=before, password=PASSWORD) == user
        assert people.authenticate(email=other, password=PASSWORD) == user
        with pytest.raises(UserExists):
            people.create_user(email="fikret@test.com", password=PASSWORD)
        user.delete()


def test_two_older_users_whose_addresses_become_one_both_log_in(alpha: Company) -> None:
    dotless, dotted = "ılhan@test.com", "ilhan@test.com"
    with tenancy.override(alpha.tenant):
        first = people.create_user(email=dotted, password=PASSWORD)
        second = User(email=dotless, password=first.password)
        second.email_key = dotless
        super(User, second).save()
        for _ in range(2):
            assert people.authenticate(email=dotless, password=PASSWORD) == second
            assert people.authenticate(email=dotted, password=PASSWORD) == first
        first.delete()
        second.delete()
