"""Fixtures: two users with the same primary key, one in alpha and one in beta; server queries."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from asgiref.sync import SyncToAsync
from pytest_django import DjangoDbBlocker

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.tenancy import pool, registry
from tests.conftest import PASSWORD, Company, Superuser

TWIN_ID = 900_001


@dataclass(frozen=True)
class Twins:
    """Rows of the same key in two databases, as loaded from them."""

    alpha: User
    beta: User


@pytest.fixture(autouse=True)
def _no_pins_left() -> Iterator[None]:
    """Assert after each test that nothing is pinned."""
    yield
    # The thread that ran queries of async tasks keeps its connection until it opens another.
    SyncToAsync.single_thread_executor.submit(registry.reap).result(timeout=30)
    left = dict(+registry._pins)
    registry._pins.clear()
    assert not left, f"pins are left: {left}"


@pytest.fixture
def twins(alpha: Company, beta: Company) -> Iterator[Twins]:
    made: list[User] = []
    for company, home in ((alpha, "alpha"), (beta, "beta")):
        with tenancy.override(company.tenant):
            made.append(User.objects.create(id=TWIN_ID, email=f"twin@{home}.example"))
    yield Twins(*made)
    for company in (alpha, beta):
        with tenancy.override(company.tenant):
            User.objects.filter(pk=TWIN_ID).delete()


def rows(company: Company) -> list[dict[str, Any]]:
    """All rows of the organization's users table."""
    with tenancy.override(company.tenant):
        return [dict(row) for row in User.objects.order_by("id").values()]


def send_away(superuser: Superuser, company: Company) -> None:
    """End every session on the company's database that earlier tests left open."""
    pool.shared.close_idle()
    superuser.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
        (company.organization.database_name,),
    )


@pytest.fixture
def sessions(
    superuser: psycopg.Connection[tuple[object, ...]],
) -> Callable[[Company, int], None]:
    """Asserts how many sessions the server has on an organization's database.

    It waits a while for the number: the server notices a closed socket a little later.
    """

    def expect(company: Company, count: int) -> None:
        found = -1
        for _ in range(200):
            row = superuser.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s",
                (company.organization.database_name,),
            ).fetchone()
            assert row is not None
            found = int(str(row[0]))
            if found == count:
                return
            time.sleep(0.02)
        assert found == count, f"{found} sessions on {company.name}'s database, not {count}"

    return expect


@pytest.fixture(scope="package")
def several(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[list[Company]]:
    """Six organizations for the tests of this folder."""
    with django_db_blocker.unblock():
        made = []
        for number in range(6):
            name, email = f"Several {number} {secrets.token_hex(3)}", f"{number}@several.example"
            created = lifecycle.create_organization(name=name, email=email, password=PASSWORD)
            made.append(Company(created.organization, email))
        yield made
        for company in made:
            lifecycle.delete_organization(company.organization)


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Each test begins and ends with an empty registry."""
    for alias in registry.registered():
        registry.forget(alias)
    assert registry.registered() == [], "an alias is still pinned"
    yield
    for alias in registry.registered():
        registry.forget(alias)


@pytest.fixture
def fresh_pool(fresh_registry: None) -> Iterator[None]:
    pool.shared.close_idle()
    assert pool.shared.open == 0, "a test before this one holds a connection"
    yield
    assert lent() == 0, "the test holds a connection"


def visit(*companies: Company) -> None:
    for company in companies:
        with tenancy.override(company.tenant):
            assert User.objects.get().email == company.email, "another's database"


def lent() -> int:
    """Number of connections to organizations' databases that are in use."""
    return pool.shared.open - pool.shared.idle
