"""Fixture: four organizations, and code with more migrations than they have."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db.models import QuerySet
from pytest_django import DjangoDbBlocker, Settings

from organizations import lifecycle
from organizations.migrating import fleet
from organizations.migrating.engine import Target
from organizations.migrating.results import Report
from organizations.models import Organization
from organizations.provisioning import versions
from tests.conftest import PASSWORD

from . import added

REAL = "0003_email_version"
Add = Callable[..., None]


class Fleet:
    """The four organizations of these tests."""

    def __init__(self, organizations: list[Organization]) -> None:
        self.organizations = organizations

    @property
    def rows(self) -> list[Organization]:
        """Their current rows in the master, in the order they were made."""
        return list(self.query)

    @property
    def query(self) -> "QuerySet[Organization]":
        keys = [each.pk for each in self.organizations]
        return Organization.objects.filter(pk__in=keys).order_by("pk")

    def run(self, **options: object) -> Report:
        return fleet.run(self.query, fleet.Options(**options))  # type: ignore[arg-type]


@pytest.fixture(scope="package")
def _made(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Fleet]:
    with django_db_blocker.unblock():
        made = [
            lifecycle.create_organization(
                name=f"Fleet {number} {secrets.token_hex(3)}",
                email="admin@fleet.example",
                password=PASSWORD,
            ).organization
            for number in range(4)
        ]
        yield Fleet(made)
        for organization in made:
            lifecycle.delete_organization(organization)


@pytest.fixture
def add(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Give the code more migrations: each call replaces those of the last."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**operations: str) -> None:
        package = f"added_{secrets.token_hex(4)}"
        added.write(tmp_path / package, **operations)
        settings.MIGRATION_MODULES = {"accounts": package}

    yield write
    settings.MIGRATION_MODULES = {}


@pytest.fixture
def four(_made: Fleet, add: Add) -> Iterator[Fleet]:
    """The four at the real migrations, before and after the test.

    A test that takes the code's away gives it back.
    """
    yield _made
    report = _made.run(target=Target("accounts", REAL), verify=False)
    assert not report.failures
    _made.query.update(migration_attempts=0, migration_error="")
    versions._known.clear()
