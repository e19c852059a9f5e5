"""Two organizations with equal rows: only their owner differs."""

import secrets
from collections.abc import Iterator

import pytest
from django.contrib.auth.hashers import make_password
from pytest_django import DjangoDbBlocker

from organizations import lifecycle
from organizations.isolation import Side
from tests.conftest import PASSWORD


@pytest.fixture(scope="session")
def _twins(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[tuple[Side, Side]]:
    with django_db_blocker.unblock():
        made: list[Side] = []
        for word in ("ours", "theirs"):
            domain = f"{word}-{secrets.token_hex(4)}.example"
            organization = lifecycle.create_organization(
                name=f"Twin {domain}", email=f"admin@{domain}", password=PASSWORD
            ).organization
            made.append(Side(organization, domain, PASSWORD))
        yield made[0], made[1]
        for side in made:
            lifecycle.delete_organization(side.organization)


@pytest.fixture(scope="session")
def _password_hash() -> str:
    return make_password(PASSWORD)


@pytest.fixture
def sides(_database: None, _twins: tuple[Side, Side], _password_hash: str) -> tuple[Side, Side]:
    """alpha and beta, with equal rows under equal primary keys."""
    for side in _twins:
        side.plant(_password_hash)
    return _twins


@pytest.fixture
def ours(sides: tuple[Side, Side]) -> Side:
    """The organization that attacks: alpha."""
    return sides[0]


@pytest.fixture
def theirs(sides: tuple[Side, Side]) -> Iterator[Side]:
    """The one that must not notice: beta. Its rows are compared before and after each test."""
    side = sides[1]
    before = side.contents()
    yield side
    assert side.contents() == before, "the other organization's database has changed"
