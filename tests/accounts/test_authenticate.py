"""Tests of `authenticate`: checks e-mail address and password, and renews the stored hash."""

import contextlib
from collections.abc import Callable

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from accounts import services
from accounts.errors import InvalidCredentials
from accounts.models import User
from organizations import tenancy
from tests.conftest import PASSWORD, Company

OTHER_PASSWORD = "another good passphrase"


def is_refused(email: str, password: str) -> bool:
    try:
        services.authenticate(email=email, password=password)
    except InvalidCredentials as error:
        return "The e-mail or password is wrong" in str(error)
    return False


def test_the_right_password_is_accepted_with_any_spelling_of_the_address(
    alpha: Company, member: User
) -> None:
    with tenancy.override(alpha.tenant):
        for email in (member.email, f"  {member.email.upper()} "):
            assert services.authenticate(email=email, password=PASSWORD) == member


def test_wrong_credentials_are_refused(alpha: Company, member: User) -> None:
    passwords = ("", "wrong", PASSWORD.upper(), f" {PASSWORD}", "x" * 1025, f"{PASSWORD}\x00")
    attempts = [(member.email, password) for password in passwords]
    attempts += [(email, PASSWORD) for email in ("", "nobody@test.com", "no address", "x" * 5000)]
    with tenancy.override(alpha.tenant):
        assert [each for each in attempts if not is_refused(*each)] == []


def test_a_user_without_a_usable_password_is_refused(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        for stored in ("", "!", "plain text", "bcrypt$$2b$12$none"):
            User.objects.filter(pk=member.pk).update(password=stored)
            for password in ("", stored, PASSWORD):
                assert is_refused(member.email, password), (stored, password)


# --- Renewing a hash made with other parameters -------------------------------------------------
@pytest.fixture
def outdated(alpha: Company, member: User) -> User:
    """A user whose hash the next login renews."""
    with tenancy.override(alpha.tenant):
        old = PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=1)
        User.objects.filter(pk=member.pk).update(password=old)
    return member


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Runs something between the comparison of the password and the renewal of its hash."""
    hash_password = services.hash_password

    def patch(act: Callable[[], object]) -> None:
        def act_first(password: str) -> str:
            act()
            return hash_password(password)

        monkeypatch.setattr(services, "hash_password", act_first)

    return patch


def test_a_renewed_hash_does_not_undo_a_password_changed_meanwhile(
    alpha: Company, outdated: User, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    stored = User.objects.filter(pk=outdated.pk)
    new = services.hash_password(OTHER_PASSWORD)
    meanwhile(lambda: stored.update(password=new))
    with tenancy.override(alpha.tenant):
        with contextlib.suppress(InvalidCredentials):
            services.authenticate(email=outdated.email, password=PASSWORD)
        assert stored.get().password == new, "the old password is back"


def test_two_first_logins_at_once_renew_the_hash_and_both_succeed(
    alpha: Company, outdated: User, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    stored = User.objects.filter(pk=outdated.pk)
    other = services.hash_password(PASSWORD)
    meanwhile(lambda: stored.update(password=other))
    with tenancy.override(alpha.tenant):
        found = services.authenticate(email=outdated.email, password=PASSWORD)
        assert found.password == other == stored.get().password


def test_a_user_removed_while_the_hash_is_renewed_is_refused(
    alpha: Company, outdated: User, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    meanwhile(lambda: User.objects.filter(pk=outdated.pk).delete())
    with tenancy.override(alpha.tenant), pytest.raises(InvalidCredentials):
        services.authenticate(email=outdated.email, password=PASSWORD)
