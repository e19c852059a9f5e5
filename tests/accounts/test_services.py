"""People of an organization: how they are made, changed and removed."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone

from accounts import services
from accounts.errors import InvalidToken, LastAdmin, UserExists
from accounts.models import LoginSession, User, email_key
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import at_once, client_of, send, unique_email

OTHER_PASSWORD = "another good passphrase"
Person = Callable[..., User]


# --- Addresses ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("carol@test.com", " Carol@TEST.com\t"),
        ("carol@test.com", "ｃａｒｏｌ@test.com"),
        ("kate@test.com", "\u212aate@test.com"),
        ("strasse@test.com", "Straße@test.com"),
        ("caf\u00e9@test.com", "cafe\u0301@test.com"),
        ("office@test.com", "o\ufb03ce@test.com"),
    ],
)
def test_spellings_of_one_address_have_one_key(one: str, other: str) -> None:
    assert email_key(one) == email_key(other)


def test_a_key_is_its_own_key() -> None:
    for code in range(0x110000):
        letter = chr(code)
        # Of the others the key is what was typed, and nothing happens to it the second time.
        if letter.casefold() != letter or not unicodedata.is_normalized("NFKC", letter):
            key = email_key(f"a{letter}b")
            assert email_key(key) == key, f"U+{code:04X} {unicodedata.name(letter, '')}"
            assert unicodedata.is_normalized("NFKC", key), f"U+{code:04X}"


def test_every_i_is_one_letter() -> None:
    """What SQL's lower() does with them depends on the server's locale."""
    assert {email_key(f"{letter}@test.com") for letter in "Ii\u0130\u0131"} == {"i@test.com"}


def test_an_address_is_kept_as_typed(alpha: Company, person: Person) -> None:
    with tenancy.override(alpha.tenant):
        user = User.objects.get(pk=person("Carol.Jones@Test.com").pk)
        assert (user.email, user.email_key) == ("Carol.Jones@Test.com", "carol.jones@test.com")


@pytest.mark.parametrize("twin", ["DAVE@test.com", "dave@ｔest.com", " dave@test.com "])
def test_a_second_user_with_the_same_address_is_refused(
    alpha: Company, person: Person, twin: str
) -> None:
    person("dave@test.com")
    with pytest.raises(UserExists, match="already exists"):
        person(twin)


def test_the_database_itself_refuses_a_second_key(alpha: Company, member: User) -> None:
    other = User(email=member.email, password="!")
    with tenancy.override(alpha.tenant), pytest.raises(IntegrityError), tenancy.atomic():
        User.objects.bulk_create([other, User(email="", email_key=member.email_key)])


def test_two_organizations_may_have_a_user_with_the_same_address(
    alpha: Company, beta: Company, person: Person
) -> None:
    with tenancy.override(beta.tenant):
        assert User.objects.filter(email=beta.email).exists()
    assert person(beta.email).pk


# --- Making and changing ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("no address", OTHER_PASSWORD, "email"),
        ("", OTHER_PASSWORD, "email"),
        ('"a\x01b"@test.com', OTHER_PASSWORD, "email"),
        ('"a\x1b[2J"@test.com', OTHER_PASSWORD, "email"),
        ("a@te\u202est.com", OTHER_PASSWORD, "email"),
        ("a@te\u2028st.com", OTHER_PASSWORD, "email"),
        (f"{'x' * 250}@test.com", OTHER_PASSWORD, "email"),
        ("carol@test.com", "short", "password"),
        ("carol@test.com", "password123", "password"),
        ("carol@test.com", "9182736450918", "password"),
        ("carol.jones@test.com", "carol.jones", "password"),
        ("carol@test.com", "x" * 1025, "password"),
    ],
)
def test_a_user_with_a_bad_address_or_weak_password_is_refused(
    alpha: Company, person: Person, email: str, password: str, field: str
) -> None:
    with tenancy.override(alpha.tenant), pytest.raises(ValidationError) as caught:
        services.create_user(email=email, password=password)
    assert list(caught.value.message_dict) == [field]


def test_a_new_user_is_an_active_member_with_a_hashed_password(
    alpha: Company, person: Person
) -> None:
    with tenancy.override(alpha.tenant):
        user = services.create_user(email=unique_email(), password=OTHER_PASSWORD)
        user.refresh_from_db()
    assert (user.is_admin, user.is_active) == (False, True)
    assert user.check_password(OTHER_PASSWORD)
    assert OTHER_PASSWORD not in user.password


def test_the_first_admin_is_made_once(alpha: Company, person: Person, password_hash: str) -> None:
    email = unique_email()
    with tenancy.override(alpha.tenant):
        for spelling in (email, email.upper()):
            services.ensure_admin(email=spelling, password_hash=password_hash)
        assert User.objects.get(email_key=email_key(email)).is_admin


def test_only_what_is_given_changes(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        stale = User.objects.get(pk=member.pk)
        services.update_user(member, is_admin=True)
        services.update_user(stale, email=(email := unique_email("new")))
        member.refresh_from_db()
    assert (member.email, member.email_key, member.is_admin) == (email, email, True)
    assert member.check_password(PASSWORD)


def test_an_address_that_is_taken_cannot_be_changed_to(
    alpha: Company, member: User, person: Person
) -> None:
    taken = person().email.upper()
    with tenancy.override(alpha.tenant):
        with pytest.raises(UserExists, match="already exists"):
            services.update_user(member, email=taken)
        assert User.objects.get(pk=member.pk).email != taken


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": OTHER_PASSWORD}])
def test_a_deactivation_or_a_password_that_was_set_ends_every_login(
    alpha: Company, member: User, change: dict[str, object]
) -> None:
    with tenancy.override(alpha.tenant):
        for kind in LoginSession.Kind:
            services.start_session(member, kind=kind)
        services.update_user(member, **change)  # type: ignore[arg-type]
        assert not LoginSession.objects.filter(user=member, ended_at=None).exists()


def test_an_own_new_password_ends_every_login_and_needs_the_old_one(
    alpha: Company, member: User
) -> None:
    with tenancy.override(alpha.tenant):
        services.start_session(member, kind=LoginSession.Kind.TOKEN)
        with pytest.raises(ValidationError, match="The current password is wrong"):
            services.change_password(member, current_password="wrong", new_password=OTHER_PASSWORD)
        assert LoginSession.objects.filter(user=member, ended_at=None).exists()
        services.change_password(member, current_password=PASSWORD, new_password=OTHER_PASSWORD)
        assert not LoginSession.objects.filter(user=member, ended_at=None).exists()
        assert services.authenticate(email=member.email, password=OTHER_PASSWORD) == member


@pytest.mark.parametrize("change", [{"password": "what an admin has set"}, {"is_active": False}])
def test_an_own_new_password_does_not_undo_what_ended_the_login_meanwhile(
    change: dict[str, Any], alpha: Company, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_password = services.hash_password

    def end_meanwhile(password: str) -> str:
        monkeypatch.setattr(services, "hash_password", hash_password)
        services.update_user(User.objects.get(pk=member.pk), **change)
        return hash_password(password)

    with tenancy.override(alpha.tenant):
        monkeypatch.setattr(services, "hash_password", end_meanwhile)
        with pytest.raises(InvalidToken):
            services.change_password(member, current_password=PASSWORD, new_password=OTHER_PASSWORD)
        assert not User.objects.get(pk=member.pk).check_password(OTHER_PASSWORD)


def test_an_address_that_was_changed_meanwhile_is_not_verified_for_another(
    alpha: Company, member: User
) -> None:
    with tenancy.override(alpha.tenant):
        stale = User.objects.get(pk=member.pk)
        services.update_user(member, email=unique_email("mine"))
        User.objects.filter(pk=member.pk).update(email_verified_at=timezone.now())
        services.update_user(stale, email=stale.email)
        assert User.objects.get(pk=member.pk).email_verified_at is None


def test_a_removed_user_takes_their_logins_along(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        session = services.start_session(member, kind=LoginSession.Kind.TOKEN)
        services.remove_user(member)
        assert not LoginSession.objects.filter(pk=session.pk).exists()


# --- The last admin -----------------------------------------------------------------------------
@pytest.mark.parametrize("change", [{"is_admin": False}, {"is_active": False}, None])
def test_the_last_active_admin_stays(
    alpha: Company, admin: User, person: Person, change: dict[str, bool] | None
) -> None:
    left = person(is_admin=True)
    with tenancy.override(alpha.tenant):
        services.update_user(left, is_active=False)
        with pytest.raises(LastAdmin, match="last active admin"):
            services.update_user(admin, **change) if change else services.remove_user(admin)  # type: ignore[arg-type]
        admin.refresh_from_db()
        assert admin.is_admin
        assert admin.is_active


def test_an_admin_that_is_not_the_last_can_go(alpha: Company, person: Person) -> None:
    second = person(is_admin=True)
    with tenancy.override(alpha.tenant):
        services.remove_user(second)
        assert not User.objects.filter(pk=second.pk).exists()


@pytest.mark.parametrize("way", ["demote", "deactivate", "remove"])
def test_of_two_requests_that_take_away_two_admins_at_once_one_is_refused(
    company: Callable[..., Company], password_hash: str, way: str
) -> None:
    made = company()
    for _ in range(10):
        with tenancy.override(made.tenant):
            User.objects.all().delete()
            first, second = (
                services.add_user(email=f"{n}@test.com", password_hash=password_hash, is_admin=True)
                for n in range(2)
            )

        def take_away(actor: User, victim: User) -> Callable[[], int]:
            client, path = client_of(made, actor), f"/api/v1/users/{victim.pk}/"
            if way == "remove":
                return lambda: client.delete(path).status_code
            body = {"is_admin": False} if way == "demote" else {"is_active": False}
            return lambda: send(client, "patch", path, body).status_code

        # Each takes themselves away: nobody's right to ask depends on the other's request.
        answers = at_once(take_away(first, first), take_away(second, second))
        done = 204 if way == "remove" else 200
        assert sorted(answers) == sorted([done, 409])
        with tenancy.override(made.tenant):
            assert User.objects.filter(is_admin=True, is_active=True).count() == 1
