"""/api/v1/users/: reading users, as admin and as member."""

from collections.abc import Callable
from typing import Any

from django.test import Client

from accounts.models import User
from tests.conftest import Company

from .helpers import client_of, json_of, send, stored, unique_email

USERS = "/api/v1/users/"
OTHER_PASSWORD = "another good passphrase"
Person = Callable[..., User]


def _path(user: User) -> str:
    return f"{USERS}{user.pk}/"


def _emails(response: Any) -> list[str]:
    return [row["email"] for row in json_of(response)["results"]]


# --- Reading ------------------------------------------------------------------------------------
def test_a_list_comes_in_pages(by_admin: Client, person: Person) -> None:
    made = [person().pk for _ in range(3)]
    first = json_of(by_admin.get(USERS, {"page_size": "2"}))
    assert first["count"] == 4
    assert (first["previous"], len(first["results"])) == (None, 2)
    second = json_of(by_admin.get(first["next"]))
    assert (second["next"], len(second["results"])) == (None, 2)
    ids = [row["id"] for row in first["results"] + second["results"]]
    assert ids[1:] == made


def test_a_page_that_does_not_exist_is_a_404(by_admin: Client) -> None:
    pages = ("2", "0", "-1", "x", "9" * 30)
    found = {page: by_admin.get(USERS, {"page": page}) for page in pages}
    assert {page: json_of(answer, 404)["code"] for page, answer in found.items()} == dict.fromkeys(
        pages, "not_found"
    )


def test_a_page_size_is_a_number_of_rows_up_to_500(by_admin: Client) -> None:
    for size in ("501", "9" * 30, ""):
        json_of(by_admin.get(USERS, {"page_size": size}))
    for size in ("0", "-1", "x", "1.5", "true", "²", "0" * 30):
        error = json_of(by_admin.get(USERS, {"page_size": size}), 400)
        assert set(error["fields"]) == {"page_size"}, size


def test_a_row_shows_facts_and_no_password(by_admin: Client, member: User) -> None:
    row = json_of(by_admin.get(_path(member)))
    assert set(row) == {"id", "email", "is_admin", "is_active", "created_at", "email_verified_at"}
    assert row in json_of(by_admin.get(USERS))["results"]


def test_a_list_can_be_ordered(by_admin: Client, person: Person) -> None:
    for name in ("bob", "ann", "cleo"):
        person(f"{name}@order.com")
    search = {"search": "order.com"}
    for key, expected in (("email", "ann bob cleo"), ("-email", "cleo bob ann")):
        found = _emails(by_admin.get(USERS, {**search, "ordering": key}))
        assert found == [f"{name}@order.com" for name in expected.split()]
    found = _emails(by_admin.get(USERS, {**search, "ordering": "-created_at"}))
    assert found == ["cleo@order.com", "ann@order.com", "bob@order.com"]


def test_a_list_is_not_ordered_by_a_secret(by_admin: Client, person: Person) -> None:
    for _ in range(2):
        person()
    plain = _emails(by_admin.get(USERS))
    for key in ("password", "hashed_password", "login_sessions__refresh_jti", "nonsense"):
        assert _emails(by_admin.get(USERS, {"ordering": key})) == plain, key


def test_a_list_can_be_filtered(by_admin: Client, alpha: Company, person: Person) -> None:
    boss, clerk, left = person(is_admin=True), person(), person()
    send(by_admin, "patch", _path(left), {"is_active": False})
    expected = {
        "is_admin=true": {alpha.email, boss.email},
        "is_admin=false": {clerk.email, left.email},
        "is_active=false": {left.email},
        "is_admin=false&is_active=true": {clerk.email},
        "is_admin=": {alpha.email, boss.email, clerk.email, left.email},
    }
    for query, emails in expected.items():
        assert set(_emails(by_admin.get(f"{USERS}?{query}"))) == emails, query


def test_a_filter_with_another_value_or_given_twice_is_a_400(by_admin: Client) -> None:
    for field in ("is_admin", "is_active"):
        for value in ("yes", "1", "True", "null", "' OR 1=1 --"):
            answer = json_of(by_admin.get(USERS, {field: value}), 400)
            assert (answer["code"], list(answer["fields"])) == ("invalid", [field]), value
    for query in ("page=1&page=1", "page_size=2&page_size=3", "is_admin=true&is_admin=false"):
        answer = json_of(by_admin.get(f"{USERS}?{query}"), 400)
        field = query.partition("=")[0]
        assert answer["fields"] == {field: ["Send this parameter only once."]}, query


def test_a_list_can_be_searched(by_admin: Client, person: Person) -> None:
    person("Zoe@test.com")
    person()
    assert _emails(by_admin.get(USERS, {"search": "ZOE"})) == ["Zoe@test.com"]
    for nothing in ("%", "_", "argon2", "nobody-at-all"):
        assert "Zoe@test.com" not in _emails(by_admin.get(USERS, {"search": f"Zoe{nothing}"}))


def test_a_search_for_nul_is_a_400(by_admin: Client) -> None:
    assert json_of(by_admin.get(f"{USERS}?search=%00"), 400)["code"] == "invalid"


def test_a_user_that_does_not_exist_is_a_404(by_admin: Client) -> None:
    for pk in ("0", "987654321", "9" * 30, "x", "-1", "1.0", "٣"):
        assert by_admin.get(f"{USERS}{pk}/").status_code == 404, pk
    assert by_admin.get(f"{USERS}%31%00/").status_code == 400


def test_without_a_login_everything_is_a_401(member: User) -> None:
    for method, path in (("get", USERS), ("post", USERS), ("get", _path(member))):
        assert send(Client(), method, path).status_code == 401, (method, path)
    for method in ("put", "patch", "delete"):
        assert send(Client(), method, _path(member)).status_code == 401, method


# --- Members ------------------------------------------------------------------------------------
def test_a_member_sees_only_themselves(by_member: Client, member: User, admin: User) -> None:
    assert _emails(by_member.get(USERS)) == [member.email]
    assert _emails(by_member.get(USERS, {"search": "admin"})) == []
    assert json_of(by_member.get(_path(member)))["email"] == member.email
    json_of(by_member.get(_path(admin)), 404)


def test_a_member_writes_nothing(
    alpha: Company, by_member: Client, member: User, admin: User
) -> None:
    body = {"email": unique_email(), "password": OTHER_PASSWORD, "is_admin": True}
    for method, path in [
        ("post", USERS),
        *(
            (method, _path(user))
            for method in ("put", "patch", "delete")
            for user in (member, admin)
        ),
    ]:
        answer = json_of(send(by_member, method, path, body), 403)
        assert answer["code"] == "permission_denied", (method, path)
    assert not stored(alpha, member).is_admin
    assert stored(alpha, admin).email == alpha.email


def test_an_admin_who_is_demoted_cannot_write_any_more(
    alpha: Company, person: Person, by_admin: Client, member: User
) -> None:
    second = person(is_admin=True)
    client = client_of(alpha, second)
    json_of(send(by_admin, "patch", _path(second), {"is_admin": False}))
    json_of(send(client, "patch", _path(member), {"is_admin": True}), 403)
