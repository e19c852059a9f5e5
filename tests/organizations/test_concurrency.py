"""Concurrent sign-ups and deletions: one wins, the others are told, nothing is half done."""

from functools import partial

from organizations import lifecycle
from organizations.errors import OrganizationBusy, OrganizationExists
from organizations.lifecycle import Created
from organizations.models import Organization
from organizations.naming import name_key, slug_for
from tests.conftest import PASSWORD, leftovers

from .helpers import Superuser, together


def sign_up(name: str) -> Created:
    return lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)


def delete(created: Created) -> None:
    lifecycle.delete_organization(Organization.objects.get(pk=created.organization.pk))


def test_one_of_twenty_identical_sign_ups_at_once_succeeds(
    superuser: Superuser,
) -> None:
    spellings = ["Rush Ltd", "rush-ltd", "RUSH_LTD", " rush  ltd "] * 5
    results = together(*(partial(sign_up, name) for name in spellings))
    created = [result for result in results if isinstance(result, Created)]
    refused = [result for result in results if isinstance(result, OrganizationExists)]
    assert (len(created), len(refused)) == (1, 19), results
    assert leftovers(superuser) == (set(), set())
    delete(created[0])


def test_different_sign_ups_at_once_all_succeed(superuser: Superuser) -> None:
    results = together(*(partial(sign_up, f"Crowd {number}") for number in range(6)))
    created = [result for result in results if isinstance(result, Created)]
    assert len(created) == 6, results
    together(*(partial(delete, each) for each in created))
    assert leftovers(superuser) == (set(), set())


def test_names_whose_slugs_collide_at_once_both_get_in() -> None:
    """One name is what the other's hashed slug looks like; each has a lock of its own."""
    names = ["株式会社 競争", slug_for(name_key("株式会社 競争"))]
    results = together(*(partial(sign_up, name) for name in names))
    created = [result for result in results if isinstance(result, Created)]
    for each in created:
        delete(each)
    assert len(created) == 2, results


def test_reconciling_during_sign_ups_takes_nothing_from_them(superuser: Superuser) -> None:
    reconcile = partial(lifecycle.reconcile_organizations, wait_seconds=0.01)
    acts = [partial(sign_up, f"Swept {number}") for number in range(4)]
    results = together(*acts, *[reconcile] * 4)
    created = [result for result in results if isinstance(result, Created)]
    assert len(created) == 4, results
    assert all(isinstance(result, dict) for result in results[4:]), results
    for each in created:
        delete(each)
    assert leftovers(superuser) == (set(), set())


def test_deleting_reconciling_and_signing_up_at_once_end_cleanly(
    superuser: Superuser,
) -> None:
    for _ in range(3):
        first = sign_up("Contested Ltd")
        results = together(
            partial(delete, first),
            partial(delete, first),
            partial(lifecycle.reconcile_organizations, wait_seconds=5),
            partial(sign_up, "contested-ltd"),
        )
        errors = [result for result in results if isinstance(result, Exception)]
        expected = (OrganizationBusy, OrganizationExists)
        assert all(isinstance(error, expected) for error in errors), results
        assert leftovers(superuser) == (set(), set())
        for survivor in Organization.objects.live().named("Contested Ltd"):
            assert survivor.status == Organization.Status.ACTIVE, survivor
            lifecycle.delete_organization(survivor)
