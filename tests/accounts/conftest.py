"""Users of alpha, removed again after the test, and a suspended organization."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client
from pytest_django import DjangoDbBlocker

from accounts import services
from accounts.models import User
from organizations import lifecycle, tenancy
from tests.conftest import PASSWORD, Company

from .helpers import client_of, unique_email


@pytest.fixture(scope="session")
def password_hash() -> str:
    """The hash of PASSWORD, made once."""
    return make_password(PASSWORD)


@pytest.fixture
def person(alpha: Company, password_hash: str) -> Iterator[Callable[..., User]]:
    """Makes users of alpha whose password is PASSWORD."""
    with tenancy.override(alpha.tenant):
        before = set(User.objects.values_list("pk", flat=True))

    def make(email: str | None = None, *, is_admin: bool = False) -> User:
        with tenancy.override(alpha.tenant):
            return services.add_user(
                email=email or unique_email(), password_hash=password_hash, is_admin=is_admin
            )

    yield make
    with tenancy.override(alpha.tenant):
        User.objects.exclude(pk__in=before).delete()
        User.objects.update(is_active=True)


@pytest.fixture(scope="module")
def suspended(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Company]:
    """A suspended organization, for tests that only read."""
    with django_db_blocker.unblock():
        name, email = f"Suspended {secrets.token_hex(4)}", "admin@suspended.example"
        made = lifecycle.create_organization(name=name, email=email, password=PASSWORD).organization
        lifecycle.suspend_organization(made)
    yield Company(made, email)
    with django_db_blocker.unblock():
        made.refresh_from_db()
        lifecycle.resume_organization(made)
        lifecycle.delete_organization(made)


@pytest.fixture
def member(person: Callable[..., User]) -> User:
    return person()


@pytest.fixture
def admin(alpha: Company, person: Callable[..., User]) -> User:
    """alpha's first admin. The test may change or add users: those added go again."""
    with tenancy.override(alpha.tenant):
        return User.objects.get(email=alpha.email)


@pytest.fixture
def by_admin(alpha: Company, admin: User) -> Client:
    """alpha's first admin, logged in."""
    return client_of(alpha, admin)


@pytest.fixture
def by_member(alpha: Company, member: User) -> Client:
    """`member`, logged in."""
    return client_of(alpha, member)
