"""People of alpha beside its first admin. They are gone after the test."""

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client

from accounts import services
from accounts.models import User
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import client_of, unique_email


@pytest.fixture(scope="session")
def password_hash() -> str:
    """PASSWORD's; made once, because it takes long."""
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
