"""/api/v1/users/: adding, changing and removing users, which only admins may."""

import json
from collections.abc import Callable

from django.test import Client

from accounts.models import User
from tests.conftest import PASSWORD, Company

from .helpers import client_of, json_of, log_in, send, stored, unique_email

USERS = "/api/v1/users/"
OTHER_PASSWORD = "another good passphrase"
Person = Callable[..., User]


def _path(user: User) -> str:
    return f"{USERS}{user.pk}/"


# --- Admins -------------------------------------------------------------------------------------
def test_an_admin_adds_a_user_who_can_log_in(alpha: Company, by_admin: Client) -> None:
    email = unique_email()
    body = {"email": email, "password": OTHER_PASSWORD}
    row = json_of(send(by_admin, "post", USERS, body), 201)
    assert (row["email"], row["is_admin"], row["is_active"]) == (email, False, True)
    login = send(Client(), "post", "/api/v1/auth/token/", {"organization": alpha.name, **body})
    assert json_of(login)["user"]["id"] == row["id"]


def test_an_admin_adds_an_admin(by_admin: Client) -> None:
    body = {"email": unique_email(), "password": OTHER_PASSWORD, "is_admin": True}
    assert json_of(send(by_admin, "post", USERS, body), 201)["is_admin"] is True


def test_an_address_that_is_taken_is_a_409(by_admin: Client, member: User, person: Person) -> None:
    taken = person().email.upper()
    answers = [
        send(by_admin, "post", USERS, {"email": taken, "password": OTHER_PASSWORD}),
        send(by_admin, "put", _path(member), {"email": taken}),
        send(by_admin, "patch", _path(member), {"email": taken}),
    ]
    for answer in answers:
        assert json_of(answer, 409)["code"] == "user_exists"


def test_a_put_changes_what_it_holds(alpha: Company, by_admin: Client, member: User) -> None:
    body = {"email": (email := unique_email("put")), "is_admin": True}
    assert json_of(send(by_admin, "put", _path(member), body))["email"] == email
    found = stored(alpha, member)
    assert (found.email, found.is_admin, found.is_active) == (email, True, True)
    assert found.check_password(PASSWORD)


def test_a_put_without_an_address_is_a_400(by_admin: Client, member: User) -> None:
    answer = json_of(send(by_admin, "put", _path(member), {"is_admin": True}), 400)
    assert list(answer["fields"]) == ["email"]


def test_a_deactivated_user_is_refused_at_once_until_activated_again(
    alpha: Company, by_admin: Client, member: User
) -> None:
    client = client_of(alpha, member)
    assert (
        json_of(send(by_admin, "patch", _path(member), {"is_active": False}))["is_active"] is False
    )
    assert client.get(USERS).status_code == 401
    assert json_of(send(by_admin, "patch", _path(member), {"is_active": True}))["is_active"] is True
    assert client_of(alpha, stored(alpha, member)).get(USERS).status_code == 200


def test_an_admin_sets_a_password(alpha: Company, by_admin: Client, member: User) -> None:
    old = client_of(alpha, member)
    json_of(send(by_admin, "patch", _path(member), {"password": OTHER_PASSWORD}))
    assert old.get(USERS).status_code == 401, "the logins made with the old password go on"
    assert stored(alpha, member).check_password(OTHER_PASSWORD)


def test_a_removed_user_is_gone(alpha: Company, by_admin: Client, member: User) -> None:
    access = log_in(alpha, member)[0]
    assert by_admin.delete(_path(member)).status_code == 204
    json_of(by_admin.get(_path(member)), 404)
    json_of(by_admin.delete(_path(member)), 404)
    headers = {"Authorization": f"Bearer {access}"}
    assert Client().get(USERS, headers=headers).status_code == 401


def test_fields_that_cannot_be_written_are_ignored(
    alpha: Company, by_admin: Client, member: User
) -> None:
    body = {"id": 1, "created_at": "2000-01-01T00:00:00Z", "hashed_password": "x", "email_key": "x"}
    before = stored(alpha, member)
    json_of(send(by_admin, "patch", _path(member), body))
    after = stored(alpha, member)
    for name in ("pk", "created_at", "password", "email_key"):
        assert getattr(after, name) == getattr(before, name), name


def test_an_invalid_address_or_password_is_a_400_that_names_its_field(
    alpha: Company, by_admin: Client, member: User
) -> None:
    """tests/http/test_errors.py sends values of other types."""
    invalid = [("email", each) for each in ("no address", f"{'x' * 250}@test.com", "a@b@test.com")]
    invalid += [("password", each) for each in ("short", "x" * 1025)]
    for field, value in invalid:
        body = {"email": unique_email(), "password": OTHER_PASSWORD} | {field: value}
        for method, path in (("patch", _path(member)), ("put", _path(member)), ("post", USERS)):
            answer = json_of(send(by_admin, method, path, body), 400)
            assert (answer["code"], list(answer["fields"])) == ("invalid", [field]), method
    assert stored(alpha, member).email == member.email


def test_a_body_that_is_no_object_is_a_400(by_admin: Client, member: User) -> None:
    for body in ([], "x", 1, None, [{"is_admin": True}]):
        response = by_admin.generic(
            "PATCH", _path(member), json.dumps(body), content_type="application/json"
        )
        assert json_of(response, 400)["detail"] == "The body must be a JSON object.", body


# --- The last admin -----------------------------------------------------------------------------
def test_the_last_active_admin_stays(alpha: Company, by_admin: Client, admin: User) -> None:
    for response in (
        send(by_admin, "patch", _path(admin), {"is_admin": False}),
        send(by_admin, "patch", _path(admin), {"is_active": False}),
        send(by_admin, "put", _path(admin), {"email": admin.email, "is_admin": False}),
        by_admin.delete(_path(admin)),
    ):
        assert json_of(response, 409)["code"] == "last_admin"
    found = stored(alpha, admin)
    assert (found.is_admin, found.is_active) == (True, True)


def test_an_admin_cannot_set_their_own_password_here(
    alpha: Company, by_admin: Client, admin: User
) -> None:
    answer = json_of(send(by_admin, "patch", _path(admin), {"password": OTHER_PASSWORD}), 400)
    assert answer["fields"] == {"password": ["Change your own password at /api/v1/me/password/."]}
    assert stored(alpha, admin).check_password(PASSWORD)


def test_the_last_admin_may_still_change_their_address(
    by_admin: Client, admin: User, alpha: Company
) -> None:
    for email in ("moved@test.com", alpha.email):
        body = {"email": email, "current_password": PASSWORD}
        assert json_of(send(by_admin, "patch", "/api/v1/me/", body))["email"] == email
