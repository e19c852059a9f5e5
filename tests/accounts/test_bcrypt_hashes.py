"""Logins with bcrypt hashes from the first edition (passlib)."""

from collections.abc import Callable

import bcrypt
import pytest
from django.test import Client

from accounts import services
from accounts.errors import InvalidCredentials
from accounts.models import User
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import send, stored

LONG = "a" * 72


def bare(password: bytes, *, kind: bytes = b"2b") -> str:
    """A hash as the first edition stored it; few rounds, for speed."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).replace(b"$2b$", b"$" + kind + b"$").decode()


@pytest.fixture
def hashed(alpha: Company, person: Callable[..., User]) -> Callable[[str], User]:
    """Makes users of alpha with a stored hash."""

    def make(stored_hash: str) -> User:
        user = person()
        with tenancy.override(alpha.tenant):
            User.objects.filter(pk=user.pk).update(password=stored_hash)
            return User.objects.get(pk=user.pk)

    return make


def log_in(company: Company, user: User, password: str) -> int:
    body = {"organization": company.name, "email": user.email, "password": password}
    return int(send(Client(), "post", "/api/v1/auth/token/", body).status_code)


def test_they_log_in_and_their_hash_becomes_argon2id(
    alpha: Company, hashed: Callable[[str], User]
) -> None:
    veteran = hashed(bare(b"testpass123"))
    assert log_in(alpha, veteran, "testpass124") == 401
    assert stored(alpha, veteran).password.startswith("$2b$04$")
    assert log_in(alpha, veteran, "testpass123") == 200
    assert stored(alpha, veteran).password.startswith("argon2$argon2id$")
    assert log_in(alpha, veteran, "testpass123") == 200


def test_older_versions_of_the_format_are_read_too(
    alpha: Company, hashed: Callable[[str], User]
) -> None:
    for kind in (b"2a", b"2y"):
        user = hashed(bare(PASSWORD.encode(), kind=kind))
        with tenancy.override(alpha.tenant):
            assert services.authenticate(email=user.email, password=PASSWORD) == user, kind


def test_a_password_that_passlib_cut_at_72_bytes_still_matches(
    alpha: Company, hashed: Callable[[str], User]
) -> None:
    user = hashed(bare(LONG.encode()))
    with tenancy.override(alpha.tenant):
        with pytest.raises(InvalidCredentials):
            services.authenticate(email=user.email, password=LONG[:-1])
        services.authenticate(email=user.email, password=f"{LONG}and more")
        # From now on all of it counts.
        with pytest.raises(InvalidCredentials):
            services.authenticate(email=user.email, password=LONG)


def test_a_damaged_hash_matches_nothing(alpha: Company, hashed: Callable[[str], User]) -> None:
    for damaged in ("$2b$", "$2b$12$short", "$2b$99$" + "x" * 53, "$2b$04$é"):
        user = hashed(damaged)
        with tenancy.override(alpha.tenant):
            for password in ("", "x", damaged, "\x00"):
                with pytest.raises(InvalidCredentials):
                    services.authenticate(email=user.email, password=password)
