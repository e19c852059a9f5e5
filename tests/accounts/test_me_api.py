"""/api/v1/me/ and /api/v1/me/password/: a user's own account."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings
from rest_framework.serializers import ModelSerializer

from accounts import services, sessions
from accounts.api.serializers import UserOutput
from accounts.models import LoginSession, User
from accounts.tokens import Credential
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import bearer, client_of, json_of, log_in, send, stored, unique_email

ME = "/api/v1/me/"
MY_PASSWORD = "/api/v1/me/password/"
OTHER_PASSWORD = "another good passphrase"


def test_a_user_reads_their_account(alpha: Company, member: User) -> None:
    answer = json_of(client_of(alpha, member).get(ME))
    assert answer.pop("created_at").startswith(member.created_at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert answer == {
        "id": member.pk,
        "email": member.email,
        "is_admin": False,
        "is_active": True,
        "email_verified_at": None,
    }


def test_an_answers_fields_are_made_once_and_hold_no_row(alpha: Company) -> None:
    class Stock(ModelSerializer[User]):
        class Meta(UserOutput.Meta):
            pass

    with tenancy.override(alpha.tenant):
        user = User.objects.get(email=alpha.email)
        assert UserOutput(user).data == Stock(user).data
        fields = UserOutput(user)._readable_fields
        assert fields is UserOutput(user)._readable_fields
        assert {field.parent.instance for field in fields} == {None}


def test_a_stranger_is_a_401_and_staff_a_403(staff_client: Client) -> None:
    for client, status in ((Client(), 401), (staff_client, 403)):
        for method, path in (("get", ME), ("patch", ME), ("post", MY_PASSWORD)):
            assert send(client, method, path, {}).status_code == status, (method, path)


def test_a_member_changes_their_address(alpha: Company, member: User) -> None:
    email = unique_email("New")
    body = {"email": email, "current_password": PASSWORD}
    assert json_of(send(client_of(alpha, member), "patch", ME, body))["email"] == email
    found = stored(alpha, member)
    assert (found.email, found.email_key) == (email, email.casefold())


def test_an_empty_patch_changes_nothing(alpha: Company, member: User) -> None:
    assert json_of(send(client_of(alpha, member), "patch", ME, {}))["email"] == member.email


def test_a_member_cannot_change_their_own_rights_or_confirm_their_address(
    alpha: Company, member: User
) -> None:
    body = {"email": member.email, "is_admin": True, "is_active": False, "password": OTHER_PASSWORD}
    body["email_verified_at"] = "2020-01-01T00:00:00Z"
    json_of(send(client_of(alpha, member), "patch", ME, body))
    found = stored(alpha, member)
    assert (found.is_admin, found.is_active, found.email_verified_at) == (False, True, None)
    assert found.check_password(PASSWORD)


def test_an_address_that_is_taken_is_a_409(
    alpha: Company, member: User, person: Callable[..., User]
) -> None:
    body = {"email": person().email.upper(), "current_password": PASSWORD}
    answer = json_of(send(client_of(alpha, member), "patch", ME, body), 409)
    assert answer["code"] == "user_exists"


def test_an_invalid_address_is_a_400(alpha: Company, member: User) -> None:
    client = client_of(alpha, member)
    for email in ("no address", "x" * 300):
        body = {"email": email, "current_password": PASSWORD}
        assert list(json_of(send(client, "patch", ME, body), 400)["fields"]) == ["email"], email


def test_another_address_needs_the_current_password(alpha: Company, member: User) -> None:
    """Links for a new password go to the address: a stolen token must not become an account."""
    client = client_of(alpha, member)
    for password in ({}, {"current_password": "not this one"}):
        body = {"email": unique_email("thief"), **password}
        answer = json_of(send(client, "patch", ME, body), 400)
        assert list(answer["fields"]) == ["current_password"], password
    assert stored(alpha, member).email == member.email


def test_a_stolen_token_does_not_bring_an_old_address_back(
    alpha: Company, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the address that it was when the login was looked up, and needs no password."""
    old, new = member.email, unique_email("moved")
    client, session_of = client_of(alpha, member), sessions.of

    def move_meanwhile(credential: Credential) -> LoginSession:
        session = session_of(credential)
        services.update_user(User.objects.get(pk=member.pk), email=new)
        return session

    monkeypatch.setattr(sessions, "of", move_meanwhile)
    assert send(client, "patch", ME, {"email": old}).status_code == 200
    assert stored(alpha, member).email == new


def test_an_admin_changes_their_own_address_only_at_their_account(
    alpha: Company, person: Callable[..., User]
) -> None:
    admin = person(is_admin=True)
    body = {"email": unique_email("thief")}
    answer = json_of(
        send(client_of(alpha, admin), "patch", f"/api/v1/users/{admin.pk}/", body), 400
    )
    assert answer["fields"] == {"email": ["Change your own address at /api/v1/me/."]}
    same = {"email": admin.email}
    assert (
        send(client_of(alpha, admin), "patch", f"/api/v1/users/{admin.pk}/", same).status_code
        == 200
    )


# --- One's own password -------------------------------------------------------------------------
def _change(client: Client, **body: object) -> Any:
    defaults = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    return send(client, "post", MY_PASSWORD, defaults | body)


def test_a_new_password_ends_every_login_and_answers_with_a_new_one(
    alpha: Company, member: User
) -> None:
    one, other = log_in(alpha, member), log_in(alpha, member)
    answer = json_of(_change(bearer(one[0])))
    for access, refresh in (one, other):
        assert bearer(access).get(ME).status_code == 401
        body = {"refresh": refresh}
        assert send(Client(), "post", "/api/v1/auth/token/refresh/", body).status_code == 401
    assert json_of(bearer(answer["access"]).get(ME))["email"] == member.email
    assert answer["user"]["id"] == member.pk


def test_the_new_password_logs_in_and_the_old_one_does_not(alpha: Company, member: User) -> None:
    json_of(_change(client_of(alpha, member)))
    for password, status in ((OTHER_PASSWORD, 200), (PASSWORD, 401)):
        body = {"organization": alpha.name, "email": member.email, "password": password}
        assert send(Client(), "post", "/api/v1/auth/token/", body).status_code == status


def test_another_persons_logins_go_on(
    alpha: Company, member: User, person: Callable[..., User]
) -> None:
    bystander = client_of(alpha, person())
    json_of(_change(client_of(alpha, member)))
    assert bystander.get(ME).status_code == 200


def test_a_wrong_current_password_changes_nothing(alpha: Company, member: User) -> None:
    client = client_of(alpha, member)
    for current in ("wrong", f"{PASSWORD} ", PASSWORD.upper(), "x" * 1024):
        answer = json_of(_change(client, current_password=current), 400)
        assert list(answer["fields"]) == ["current_password"], current
    assert stored(alpha, member).check_password(PASSWORD)
    assert client.get(ME).status_code == 200, "a failed attempt has ended the login"


def test_a_weak_new_password_is_a_400(alpha: Company, member: User) -> None:
    client = client_of(alpha, member)
    for new in ("short", "password123", "9182736450918", member.email, "x" * 1025):
        answer = json_of(_change(client, new_password=new), 400)
        assert list(answer["fields"]) == ["new_password"], new


def test_guesses_of_the_current_password_are_delayed_like_failed_logins(
    alpha: Company, person: Callable[..., User], throttles: Settings
) -> None:
    throttles.LOGIN_FREE_FAILURES = 2
    for method, path, change in (
        ("post", MY_PASSWORD, {"new_password": OTHER_PASSWORD}),
        ("patch", ME, {"email": "thief@test.com"}),
    ):
        client = client_of(alpha, person())
        guess = {"current_password": "guess", **change}
        answers = [send(client, method, path, guess) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [400, 400, 400, 429], path
        assert int(answers[-1]["Retry-After"]) > 0
        right = send(client, method, path, {**guess, "current_password": PASSWORD})
        assert right.status_code == 429, "the right one waits too"


def test_a_weak_new_password_is_no_failed_guess(
    alpha: Company, member: User, throttles: Settings
) -> None:
    throttles.LOGIN_FREE_FAILURES = 1
    client = client_of(alpha, member)
    weak = {"current_password": PASSWORD, "new_password": "weak"}
    for _ in range(4):
        assert list(json_of(send(client, "post", MY_PASSWORD, weak), 400)["fields"]) == [
            "new_password"
        ]
