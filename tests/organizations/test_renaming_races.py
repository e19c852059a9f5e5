"""Renames at once with renames, sign-ups, deletions and migrations: one wins, none is half done."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from pytest_django import Settings

from organizations import lifecycle
from organizations.background import sign_ups
from organizations.errors import (
    OrganizationBusy,
    OrganizationExists,
    OrganizationNotFound,
    WrongState,
)
from organizations.jobs.models import PendingSignUp
from organizations.lifecycle import Created
from organizations.migrating.engine import Engine
from organizations.migrating.fleet import migrate_one
from organizations.models import FormerName, Organization
from organizations.validators import SignUp
from tests.conftest import PASSWORD, Company, leftovers

from .helpers import Superuser, together


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    PendingSignUp.objects.all().delete()


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def rename(company: Company, name: str) -> Organization:
    return lifecycle.rename_organization(row_of(company), name=name)


def sign_up(name: str) -> Created:
    return lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)


def outcomes(results: list[object], *allowed: type[Exception]) -> list[object]:
    """Those that succeeded; every error must be one of those allowed."""
    errors = [each for each in results if isinstance(each, Exception)]
    assert all(isinstance(each, allowed) for each in errors), results
    return [each for each in results if not isinstance(each, Exception)]


def assert_whole(superuser: Superuser) -> None:
    """Nothing is half made, and each name leads to one organization."""
    assert leftovers(superuser) == (set(), set())
    assert not Organization.objects.unfinished().exists()
    assert not Organization.objects.exclude(pending_fence="").exists()
    held = set(FormerName.objects.held().values_list("digest", flat=True))
    assert not Organization.objects.live().filter(name_digest__in=held).exists()


def test_of_organizations_renamed_to_one_name_at_once_one_gets_it(
    company: Callable[..., Company], superuser: Superuser, settings: Settings
) -> None:
    """The winner's old name is held in the first round; later ones need all names again."""
    rivals = [company() for _ in range(4)]
    for is_held in (True, False, False):
        results = together(*(partial(rename, each, "New Name") for each in rivals))
        (winner,) = outcomes(results, OrganizationExists, OrganizationBusy)
        assert isinstance(winner, Organization)
        assert lifecycle.find_organization("new-name").pk == winner.pk
        assert sum(row_of(each).name == "New Name" for each in rivals) == 1
        held = FormerName.objects.held().filter(organization__in=[row_of(each) for each in rivals])
        assert [each.organization_id for each in held] == [winner.pk] * is_held
        assert_whole(superuser)
        settings.ORG_NAME_HOLD_DAYS = 0
        (before,) = [each.name for each in rivals if each.organization.pk == winner.pk]
        lifecycle.rename_organization(winner, name=before)


def test_two_organizations_that_swap_names_at_once_wait_in_no_circle(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    one, other = company("Old Name"), company("New Name")
    results = together(partial(rename, one, "New Name"), partial(rename, other, "Old Name"))
    assert outcomes(results, OrganizationExists) == []
    assert (row_of(one).name, row_of(other).name) == ("Old Name", "New Name")
    assert_whole(superuser)


def test_of_a_rename_and_sign_ups_of_its_name_at_once_one_gets_it(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    for _ in range(3):
        made = company()
        results = together(
            partial(rename, made, "New Name"),
            partial(sign_up, "new_name"),
            partial(sign_ups.accept, SignUp("NEW NAME", "a@test.com", PASSWORD), base_url=""),
        )
        outcomes(results, OrganizationExists, OrganizationBusy)
        taken = Organization.objects.live().named("New Name").count()
        assert taken + PendingSignUp.objects.open().named("New Name").count() == 1, results
        assert_whole(superuser)
        for row in Organization.objects.live().named("New Name"):
            lifecycle.delete_organization(row)
        PendingSignUp.objects.all().delete()


def test_of_a_rename_and_sign_ups_of_its_old_name_at_once_nobody_gets_the_old_one(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    made = company("Old Name")
    results = together(
        partial(rename, made, "New Name"), *[partial(sign_up, "old-name") for _ in range(4)]
    )
    assert len(outcomes(results, OrganizationExists)) == 1
    assert lifecycle.find_organization("Old Name").pk == made.organization.pk
    assert_whole(superuser)


def test_a_rename_a_deletion_and_a_migration_at_once_leave_it_whole_or_gone(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    for _ in range(3):
        made = company("Old Name")
        rows = [row_of(made) for _ in range(2)]
        results = together(
            partial(rename, made, "New Name"),
            partial(lifecycle.delete_organization, rows[0]),
            partial(migrate_one, rows[1], Engine()),
        )
        outcomes(results, OrganizationBusy, OrganizationNotFound, WrongState)
        row = row_of(made)
        assert row.status in ("active", "deleted"), results
        assert row.migration_attempts == 0 and row.migration_error == ""
        assert_whole(superuser)
        assert not FormerName.objects.exists() or row.status == "active"
        lifecycle.delete_organization(row)
        assert not FormerName.objects.exists()
