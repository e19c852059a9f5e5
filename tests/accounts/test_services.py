"""Creating, changing and removing users."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone

from accounts import services, sessions
from accounts.errors import InvalidToken, LastAdmin, UserExists
from accounts.models import LoginSession, User, email_key
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import at_once, client_of, send, unique_email

OTHER_PASSWORD = "another good passphrase"
Person = Callable[..., User]


# --- Addresses ----------------------------------------------------------------------------------
@pytest.mark.pure
def test_spellings_of_one_address_have_one_key() -> None:
    spellings = {
        "carol@test.com": " Carol@TEST.com\t",
        "carol.b@test.com": "ｃａｒｏｌ.b@test.com",
        "kate@test.com": "\u212aate@test.com",
        "strasse@test.com": "Straße@test.com",
        "caf\u00e9@test.com": "cafe\u0301@test.com",
        "office@test.com": "o\ufb03ce@test.com",
    }
    keys = {one: (email_key(one), email_key(other)) for one, other in spellings.items()}
    assert {one: pair for one, pair in keys.items() if pair[0] != pair[1]} == {}
    # SQL's lower() of each "i" depends on the server's locale.
    assert {email_key(f"{letter}@test.com") for letter in "Ii\u0130\u0131"} == {"i@test.com"}


@pytest.mark.pure
def test_the_key_of_a_key_is_the_same_for_every_letter() -> None:
    unstable = {
        f"U+{ord(letter):04X}"
        for letter in map(chr, range(0x3_0000))
        # The key of any other letter is the letter.
        if letter.casefold() != letter or not unicodedata.is_normalized("NFKC", letter)
        if (key := email_key(f"a{letter}b")) != email_key(key)
        or not unicodedata.is_normalized("NFKC", key)
    }
    assert unstable == set()


def test_an_address_is_kept_as_typed(alpha: Company, person: Person) -> None:
    with tenancy.override(alpha.tenant):
        user = User.objects.get(pk=person("Carol.Jones@Test.com").pk)
        assert (user.email, user.email_key) == ("Carol.Jones@Test.com", "carol.jones@test.com")


def test_a_second_user_with_the_same_address_is_refused(alpha: Company, person: Person) -> None:
    person("dave@test.com")
    for twin in ("DAVE@test.com", "dave@ｔest.com", " dave@test.com "):
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
def test_a_user_with_a_bad_address_or_weak_password_is_refused(alpha: Company) -> None:
    emails = ["no address", "", '"a\x01b"@test.com', '"a\x1b[2J"@test.com']
    emails += ["a@te\u202est.com", "a@te\u2028st.com", f"{'x' * 250}@test.com"]
    passwords = ("short", "password123", "9182736450918", "carol.jones", "x" * 1025)
    refused = [(email, OTHER_PASSWORD, "email") for email in emails]
    refused += [("carol.jones@test.com", password, "password") for password in passwords]
    with tenancy.override(alpha.tenant):
        for email, password, field in refused:
            with pytest.raises(ValidationError) as caught:
                services.create_user(email=email, password=password)
            assert list(caught.value.message_dict) == [field], (email, password)


def test_a_new_user_is_an_active_member_with_a_hashed_password(
    alpha: Company, person: Person
) -> None:
    with tenancy.override(alpha.tenant):
        user = services.create_user(email=unique_email(), password=OTHER_PASSWORD)
        user.refresh_from_db()
    assert (user.is_admin, user.is_active) == (False, True)
    assert user.check_password(OTHER_PASSWORD)
    assert OTHER_PASSWORD not in user.password


def test_the_first_admin_is_created_once(
    alpha: Company, person: Person, password_hash: str
) -> None:
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


def test_a_deactivation_or_a_password_that_was_set_ends_every_login(
    alpha: Company, person: Person
) -> None:
    changes: tuple[dict[str, Any], ...] = ({"is_active": False}, {"password": OTHER_PASSWORD})
    for change in changes:
        user = person()
        with tenancy.override(alpha.tenant):
            for kind in LoginSession.Kind:
                sessions.start(user, kind=kind)
            services.update_user(user, **change)
            assert not LoginSession.objects.filter(user=user, ended_at=None).exists(), change


def test_changing_ones_password_needs_the_old_one_and_ends_every_login(
    alpha: Company, member: User
) -> None:
    with tenancy.override(alpha.tenant):
        sessions.start(member, kind=LoginSession.Kind.TOKEN)
        with pytest.raises(ValidationError, match="The current password is wrong"):
            services.change_password(member, current_password="wrong", new_password=OTHER_PASSWORD)
        assert LoginSession.objects.filter(user=member, ended_at=None).exists()
        services.change_password(member, current_password=PASSWORD, new_password=OTHER_PASSWORD)
        assert not LoginSession.objects.filter(user=member, ended_at=None).exists()
        assert services.authenticate(email=member.email, password=OTHER_PASSWORD) == member


def test_changing_ones_password_does_not_undo_an_admins_change(
    alpha: Company, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_password = services.hash_password
    changes: tuple[dict[str, Any], ...] = (
        {"password": "what an admin has set"},
        {"is_active": False},
    )
    for change in changes:
        user = person()

        def end_meanwhile(password: str, user: User = user, change: dict[str, Any] = change) -> str:
            monkeypatch.setattr(services, "hash_password", hash_password)
            services.update_user(User.objects.get(pk=user.pk), **change)
            return hash_password(password)

        monkeypatch.setattr(services, "hash_password", end_meanwhile)
        with tenancy.override(alpha.tenant):
            with pytest.raises(InvalidToken):
                services.change_password(
                    user, current_password=PASSWORD, new_password=OTHER_PASSWORD
                )
            assert not User.objects.get(pk=user.pk).check_password(OTHER_PASSWORD), change


def test_a_changed_address_does_not_inherit_verification(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        stale = User.objects.get(pk=member.pk)
        services.update_user(member, email=unique_email("mine"))
        User.objects.filter(pk=member.pk).update(email_verified_at=timezone.now())
        services.update_user(stale, email=stale.email)
        assert User.objects.get(pk=member.pk).email_verified_at is None


def test_removing_a_user_deletes_their_logins(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        session = sessions.start(member, kind=LoginSession.Kind.TOKEN)
        services.remove_user(member)
        assert not LoginSession.objects.filter(pk=session.pk).exists()


# --- The last admin -----------------------------------------------------------------------------
def test_the_last_active_admin_stays(alpha: Company, admin: User, person: Person) -> None:
    left = person(is_admin=True)
    with tenancy.override(alpha.tenant):
        services.update_user(left, is_active=False)
        acts: tuple[Callable[[User], object], ...] = (
            lambda user: services.update_user(user, email=unique_email(), is_admin=False),
            lambda user: services.update_user(user, is_active=False),
            services.remove_user,
        )
        for act in acts:
            with pytest.raises(LastAdmin, match="last active admin"):
                act(User.objects.get(pk=admin.pk))
        admin.refresh_from_db()
    assert (admin.is_admin, admin.is_active) == (True, True)
    assert admin.email == alpha.email, "part of a refused change was kept"


def test_an_admin_who_is_not_the_last_can_be_removed(alpha: Company, person: Person) -> None:
    second = person(is_admin=True)
    with tenancy.override(alpha.tenant):
        services.remove_user(second)
        assert not User.objects.filter(pk=second.pk).exists()


def test_one_of_two_requests_that_remove_the_last_two_admins_is_refused(
    company: Callable[..., Company], password_hash: str
) -> None:
    made = company()

    def take_away(way: str, user: User) -> Callable[[], int]:
        client, path = client_of(made, user), f"/api/v1/users/{user.pk}/"
        if way == "remove":
            return lambda: client.delete(path).status_code
        body = {"is_admin": False} if way == "demote" else {"is_active": False}
        return lambda: send(client, "patch", path, body).status_code

    for way in ("demote", "deactivate", "remove") * 5:
        with tenancy.override(made.tenant):
            User.objects.all().delete()
            admins = [
                services.add_user(email=f"{n}@test.com", password_hash=password_hash, is_admin=True)
                for n in range(2)
            ]
        # Each takes themselves away: nobody's right to ask depends on the other's request.
        answers = at_once(*(take_away(way, user) for user in admins))
        assert sorted(answers) == [204 if way == "remove" else 200, 409], way
        with tenancy.override(made.tenant):
            assert User.objects.filter(is_admin=True, is_active=True).count() == 1, way
