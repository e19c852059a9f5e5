"""`manage.py seed_orgs`: creates test organizations."""

import io
import re
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from organizations import lifecycle
from organizations.models import Organization
from organizations.provisioning import making
from tests.conftest import PASSWORD, Company
from tests.organizations.helpers import together


def seeded() -> list[Organization]:
    return list(Organization.objects.live().filter(name__startswith="Seed ").order_by("name"))


def names() -> list[str]:
    return [organization.name for organization in seeded()]


@pytest.fixture(autouse=True)
def _development(settings: Settings) -> Iterator[None]:
    settings.DEBUG = True
    yield
    for organization in seeded():
        lifecycle.delete_organization(organization)


def seed(*arguments: str) -> str:
    out = io.StringIO()
    call_command("seed_orgs", *arguments, stdout=out)
    return out.getvalue()


def test_it_creates_organizations_that_one_can_log_in_to(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = seed("2", "--parallel=2")
    assert names() == ["Seed 000001", "Seed 000002"]
    assert out.startswith("2 created in ")
    said = re.search(r"organization '(.+)', e-mail (\S+), password (\S+)\n", out)
    assert said is not None, out
    Company(seeded()[0], said[2], said[3]).login(client)
    Company(seeded()[1], said[2], said[3]).login(client)
    # It continues after what is there, with a password that is given and not shown.
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    assert PASSWORD not in seed("1", "--password-stdin")
    assert names() == ["Seed 000001", "Seed 000002", "Seed 000003"]
    Company(seeded()[2], said[2], PASSWORD).login(client)


def test_two_that_run_at_once_make_as_many_as_both_were_told() -> None:
    results = together(lambda: seed("1"), lambda: seed("1"))
    assert all(isinstance(result, str) for result in results), results
    assert len(names()) == 2


def test_what_fails_is_counted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a step that fails")

    monkeypatch.setattr(making, "_activate", fail)
    with pytest.raises(CommandError, match="^1 failed: The organization 'Seed 000001' could not"):
        seed("1")
    assert names() == []


def test_with_debug_off_or_a_weak_password_nothing_is_made(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", "short")
    with pytest.raises(CommandError, match="^password: "):
        seed("1")
    settings.DEBUG = False
    with pytest.raises(CommandError, match="it needs DEBUG on"):
        seed("1")
    assert names() == []
