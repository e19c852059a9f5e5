"""Fixtures of all tests: PostgreSQL, and the organizations alpha and beta.

Both exist for the whole run, and a person could confuse their names.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections
from django.test import Client
from psycopg import sql
from pytest_django import DjangoDbBlocker, Settings

from accounts.hashers import Argon2idHasher
from organizations import lifecycle, tenancy
from organizations.models import (
    FormerName,
    Organization,
    SpareDatabase,
    Staff,
    StoredAnswer,
    Template,
)
from organizations.postgres import databases
from organizations.provisioning import media, templates
from organizations.tenancy import Tenant, registry, storage
from tests.plugin import SERVER

PASSWORD = "correct horse battery"
Superuser = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class Company:
    """An organization of the tests and its first admin."""

    organization: Organization
    email: str
    password: str = PASSWORD

    @property
    def name(self) -> str:
        return self.organization.name

    @property
    def tenant(self) -> Tenant:
        return self.organization.tenant

    def token(self, client: Client) -> str:
        """A new access token of the admin."""
        return str(self.login(client)["access"])

    def login(self, client: Client) -> dict[str, object]:
        """A new login of the admin: v1's answer."""
        response = client.post(
            "/api/v1/auth/token/",
            {"organization": self.name, "email": self.email, "password": self.password},
            content_type="application/json",
        )
        assert response.status_code == 200, response.content
        answer: dict[str, object] = response.json()
        return answer


@pytest.fixture(scope="session", autouse=True)
def _cheap_hashes() -> None:
    """Makes hashing cheap; tests/accounts/test_hashers.py uses the real parameters."""
    Argon2idHasher.memory_cost, Argon2idHasher.time_cost = 8, 1


@pytest.fixture(scope="session", autouse=True)
def _cheap_disk() -> None:
    """Makes databases a quarter as dear, where nothing has to outlive the run."""
    databases.STRATEGY = sql.SQL("FILE_COPY")
    os.sync, os.fsync = lambda: None, lambda fd: None


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Migrate the embedded server's master database.

    Django's own set-up would make a second one through `postgres`, where the application's role
    may not connect.
    """
    SERVER.acquire()
    connections.settings["default"]["PASSWORD"] = str(SERVER.connection_parameters()["password"])
    connections["default"].settings_dict["PASSWORD"] = connections.settings["default"]["PASSWORD"]
    from django.conf import settings

    settings.DATABASES["default"]["PASSWORD"] = connections.settings["default"]["PASSWORD"]
    with django_db_blocker.unblock():
        call_command("migrate", verbosity=0, interactive=False)
        media.leave_mark()
        yield
        connections.close_all()


@pytest.fixture(autouse=True)
def _template_builds_are_tried() -> None:
    """Forget failed builds, so that one test's failure does not delay the next build."""
    templates._not_before = 0.0


@pytest.fixture(autouse=True)
def _database(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Real commits for every test; provisioning cannot run inside a transaction.

    A test marked `pure` starts no PostgreSQL, and fails if it queries one.
    """
    if request.node.get_closest_marker("pure"):
        yield
        return
    request.getfixturevalue("django_db_setup")
    with django_db_blocker.unblock():
        yield
        with connections["default"].cursor() as cursor:
            # Mails and exports that the test requested and did not wait for.
            cursor.execute(
                "DELETE FROM procrastinate_jobs WHERE task_name IN ('send_mail', "
                "'export_organization', 'clone_organization'); DELETE FROM sealed_addresses"
            )
        assert tenancy.peek() is None, "the test left an organization active"
        tenancy.reset()


@pytest.fixture(scope="session")
def cast(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> tuple[Company, Company]:
    """alpha and beta. Tests leave them as they found them."""
    with django_db_blocker.unblock():
        companies: list[Company] = []
        for name in ("Acme Corp", "Acme-Corp 2"):
            email = f"admin@{'alpha' if not companies else 'beta'}.example"
            made = lifecycle.create_organization(name=name, email=email, password=PASSWORD)
            companies.append(Company(made.organization, email))
        return companies[0], companies[1]


@pytest.fixture
def alpha(cast: tuple[Company, Company]) -> Company:
    return cast[0]


@pytest.fixture
def beta(cast: tuple[Company, Company]) -> Company:
    return cast[1]


@pytest.fixture(scope="session")
def _sweeper(django_db_setup: None) -> Iterator[Superuser]:
    """A connection of the superuser that is kept."""
    with psycopg.connect(**SERVER.superuser_parameters(), autocommit=True) as connection:  # type: ignore[arg-type]
        yield connection


def _sweep(superuser: Superuser, organization: Organization) -> None:
    """Leave of an organization in use what its deletion leaves, in a fifth of the time."""
    registry.forget(organization.tenant.alias)
    for statement, name in (
        ("DROP DATABASE IF EXISTS {} WITH (FORCE)", organization.database_name),
        ("DROP ROLE IF EXISTS {}", organization.role_name),
    ):
        superuser.execute(sql.SQL(statement).format(sql.Identifier(name)))
    storage.remove(organization.key)
    row = Organization.objects.filter(pk=organization.pk)
    row.update(status="deleted", sealed_password="", sealed_audit_key="", admin_email="")
    row.update(pending_fence="")
    FormerName.objects.filter(organization_id=organization.pk).delete()
    StoredAnswer.objects.forget(organization.pk)


@pytest.fixture
def company(_sweeper: Superuser) -> Iterator[Callable[..., Company]]:
    """Makes organizations that are removed again after the test."""
    made: list[Organization] = []

    def make(name: str | None = None, *, email: str = "admin@test.com") -> Company:
        name = name or f"Company {secrets.token_hex(4)}"
        created = lifecycle.create_organization(name=name, email=email, password=PASSWORD)
        made.append(created.organization)
        return Company(created.organization, email)

    yield make
    for organization in made:
        organization.refresh_from_db()
        if organization.is_usable:
            _sweep(_sweeper, organization)
        else:
            lifecycle.delete_organization(organization, now=True, without_backup=True)


@pytest.fixture
def staff_client() -> Iterator[Client]:
    """A browser in which a member of staff is logged in."""
    staff = Staff.objects.create_superuser(f"staff-{secrets.token_hex(4)}", None, PASSWORD)
    client = Client()
    client.force_login(staff)
    yield client
    staff.delete()


@pytest.fixture
def superuser() -> Iterator[Superuser]:
    """A connection of the server's superuser."""
    with psycopg.connect(**SERVER.superuser_parameters(), autocommit=True) as connection:  # type: ignore[arg-type]
        yield connection


@pytest.fixture
def throttles(settings: Settings) -> Iterator[Settings]:
    """The settings, with rate limits on and nothing counted yet."""
    settings.THROTTLES = True
    caches["throttles"].clear()
    yield settings
    caches["throttles"].clear()


def leftovers(superuser: Superuser) -> tuple[set[str], set[str]]:
    """Databases and roles on the server that belong to no live row of the master.

    A row of a template or of a spare database accounts for its own, once it is ready.
    """
    known: tuple[set[str], set[str]] = (set(), set())
    for rows in (
        Organization.objects.live(),
        Template.objects.filter(ready=True),
        SpareDatabase.objects.filter(ready=True),
    ):
        for names, column in zip(known, ("database_name", "role_name"), strict=True):
            names.update(rows.values_list(column, flat=True))
    found = []
    for query in (
        "SELECT datname FROM pg_database WHERE datname LIKE 'org%'",
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'orgrole\\_%' "
        "OR rolname LIKE 'orgmgmt\\_tables\\_%'",
    ):
        found.append({str(name) for (name,) in superuser.execute(query.encode())})
    return found[0] - known[0], found[1] - known[1]
