"""Who is recognised by e-mail and password, and who is nobody."""

import contextlib

import pytest
from django.contrib.auth.hashers import make_password

from accounts import services
from accounts.errors import InvalidCredentials
from accounts.models import User
from organizations import tenancy
from organizations.tenancy import NoTenant
from tests.conftest import PASSWORD, Company

OTHER_PASSWORD = "another good passphrase"


def test_the_right_password_is_the_user(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        assert services.authenticate(email=member.email, password=PASSWORD) == member


def test_the_address_is_recognised_in_another_spelling(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        spelled = f"  {member.email.upper()} "
        assert services.authenticate(email=spelled, password=PASSWORD) == member


@pytest.mark.parametrize(
    "password", ["", "wrong", PASSWORD.upper(), f" {PASSWORD}", "x" * 1025, f"{PASSWORD}\x00"]
)
def test_a_wrong_password_is_nobody(alpha: Company, member: User, password: str) -> None:
    with (
        tenancy.override(alpha.tenant),
        pytest.raises(InvalidCredentials, match="The e-mail or password is wrong"),
    ):
        services.authenticate(email=member.email, password=password)


@pytest.mark.parametrize("email", ["", "nobody@test.com", "no address", "x" * 5000])
def test_an_unknown_address_is_nobody(alpha: Company, email: str) -> None:
    with tenancy.override(alpha.tenant), pytest.raises(InvalidCredentials):
        services.authenticate(email=email, password=PASSWORD)


def test_a_deactivated_user_is_nobody(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        services.update_user(member, is_active=False)
        with pytest.raises(InvalidCredentials):
            services.authenticate(email=member.email, password=PASSWORD)


@pytest.mark.parametrize("stored", ["", "!", "plain text", "bcrypt$$2b$12$none"])
def test_a_user_without_a_usable_password_is_nobody(
    alpha: Company, member: User, stored: str
) -> None:
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(password=stored)
        for password in ("", stored, PASSWORD):
            with pytest.raises(InvalidCredentials):
                services.authenticate(email=member.email, password=password)


def test_a_hash_made_with_other_parameters_is_renewed_by_a_login(
    alpha: Company, member: User
) -> None:
    with tenancy.override(alpha.tenant):
        old = make_password(PASSWORD, hasher="pbkdf2_sha256")
        User.objects.filter(pk=member.pk).update(password=old)
        services.authenticate(email=member.email, password=PASSWORD)
        member.refresh_from_db()
        assert member.password.startswith("argon2$argon2id$"), member.password
        assert services.authenticate(email=member.email, password=PASSWORD) == member


def test_a_hash_is_not_renewed_by_a_wrong_password(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        old = make_password(PASSWORD, hasher="pbkdf2_sha256")
        User.objects.filter(pk=member.pk).update(password=old)
        with pytest.raises(InvalidCredentials):
            services.authenticate(email=member.email, password=OTHER_PASSWORD)
        member.refresh_from_db()
        assert member.password == old


def test_a_renewed_hash_does_not_undo_a_password_that_was_changed_meanwhile(
    alpha: Company, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_password(PASSWORD, hasher="pbkdf2_sha256")
    new = services.hash_password(OTHER_PASSWORD)
    hash_password = services.hash_password

    def change_meanwhile(password: str) -> str:
        User.objects.filter(pk=member.pk).update(password=new)
        return hash_password(password)

    monkeypatch.setattr(services, "hash_password", change_meanwhile)
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(password=old)
        with contextlib.suppress(InvalidCredentials):
            services.authenticate(email=member.email, password=PASSWORD)
        assert User.objects.get(pk=member.pk).password == new, "the old password is back"


def test_two_first_logins_at_once_renew_the_hash_and_both_are_let_in(
    alpha: Company, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = services.hash_password(PASSWORD)
    hash_password = services.hash_password

    def renew_meanwhile(password: str) -> str:
        User.objects.filter(pk=member.pk).update(password=other)
        return hash_password(password)

    monkeypatch.setattr(services, "hash_password", renew_meanwhile)
    with tenancy.override(alpha.tenant):
        old = make_password(PASSWORD, hasher="pbkdf2_sha256")
        User.objects.filter(pk=member.pk).update(password=old)
        found = services.authenticate(email=member.email, password=PASSWORD)
        assert found.password == other == User.objects.get(pk=member.pk).password


def test_a_user_who_is_removed_while_the_hash_is_renewed_is_not_let_in(
    alpha: Company, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_password = services.hash_password

    def remove_meanwhile(password: str) -> str:
        User.objects.filter(pk=member.pk).delete()
        return hash_password(password)

    monkeypatch.setattr(services, "hash_password", remove_meanwhile)
    with tenancy.override(alpha.tenant):
        old = make_password(PASSWORD, hasher="pbkdf2_sha256")
        User.objects.filter(pk=member.pk).update(password=old)
        with pytest.raises(InvalidCredentials):
            services.authenticate(email=member.email, password=PASSWORD)


def test_nobody_is_recognised_outside_an_organization() -> None:
    with pytest.raises(NoTenant):
        services.authenticate(email="admin@alpha.example", password=PASSWORD)
