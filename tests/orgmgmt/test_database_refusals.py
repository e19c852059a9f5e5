"""Values that only the database refuses: the request's fault, a race, or a bug."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import LoginSession, User
from organizations import tenancy
from tests.accounts.helpers import bearer, json_of, send, unique_email
from tests.conftest import PASSWORD, Company

pytestmark = pytest.mark.urls("tests.orgmgmt.team_urls")


@pytest.fixture
def admin(alpha: Company) -> Iterator[Client]:
    with tenancy.override(alpha.tenant):
        before = set(User.objects.values_list("pk", flat=True))
    client = bearer(alpha.token(Client()))
    client.raise_request_exception = False
    yield client
    with tenancy.override(alpha.tenant):
        User.objects.exclude(pk__in=before).delete()


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.ERROR):
        yield caplog


def run(client: Client, statement: str, value: str = "") -> Any:
    return client.get("/test/run/", {"statement": statement, "value": value})


def test_two_requests_for_one_unique_value_are_a_201_and_a_409(
    admin: Client, errors: pytest.LogCaptureFixture
) -> None:
    """As in a race: the serializer sees nothing, and the database refuses the second."""
    body = {"email": unique_email(), "password": "x"}
    made = json_of(send(admin, "post", "/test/people/", body), 201)
    assert json_of(send(admin, "post", "/test/people/", body), 409)["code"] == "conflict"
    other = json_of(send(admin, "post", "/test/people/", {**body, "email": unique_email()}), 201)
    change = send(admin, "patch", f"/test/people/{other['id']}/", {"email": made["email"].upper()})
    assert json_of(change, 409)["code"] == "conflict"
    assert not errors.records


def test_a_row_whose_parent_is_gone_is_a_409(admin: Client) -> None:
    body = {"user_id": 2**31 - 1, "kind": "token", "expires_at": "2030-01-01T00:00:00Z"}
    assert json_of(send(admin, "post", "/test/logins/", body), 409)["code"] == "conflict"


def test_a_key_that_the_sequence_gives_twice_is_a_bug(admin: Client, alpha: Company) -> None:
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT setval('users_id_seq', 1, false)")
    body = {"email": unique_email(), "password": "x"}
    assert json_of(send(admin, "post", "/test/people/", body), 500)["code"] == "error"
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT setval('users_id_seq', max(id)) FROM users")


def test_a_value_that_the_database_refuses_is_a_400_and_logged(
    admin: Client, errors: pytest.LogCaptureFixture
) -> None:
    for statement, value in (
        ("UPDATE users SET token_version = %s WHERE id = 0 OR id < 0 + 9", "9" * 30),
        ("SELECT %s::int", "x"),
        ("SELECT %s::date", "2030-02-30"),
        ("SELECT %s::text", "a\x00b"),
    ):
        errors.clear()
        assert json_of(run(admin, statement, value), 400)["code"] == "invalid_value", statement
        assert [record.exc_info is not None for record in errors.records] == [True], statement


def test_a_statement_that_cannot_work_is_a_bug_not_the_requests_fault(
    admin: Client, errors: pytest.LogCaptureFixture
) -> None:
    for statement in ("SELECT 1/0, %s", "SELECT regexp_count('a', '(', 1, %s)"):
        errors.clear()
        assert json_of(run(admin, statement), 500)["code"] == "error", statement
        assert errors.records, statement


@pytest.fixture
def strict_users(alpha: Company) -> Iterator[None]:
    """A constraint that a team added and our code does not know."""
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("ALTER TABLE users ADD CONSTRAINT no_dots CHECK (email NOT LIKE 'no.%')")
    yield
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("ALTER TABLE users DROP CONSTRAINT no_dots")


def test_only_the_address_constraint_is_reported_as_user_exists(
    admin: Client, strict_users: None
) -> None:
    """A 409 `user_exists` would have the admin look for a user who is not there."""
    body = {"email": unique_email(), "password": PASSWORD}
    user = json_of(send(admin, "post", "/api/v1/users/", body), 201)
    for method, path in (("post", "/api/v1/users/"), ("patch", f"/api/v1/users/{user['id']}/")):
        refused = send(admin, method, path, {**body, "email": f"no.{unique_email()}"})
        assert json_of(refused, 400)["code"] == "invalid_value", method


def test_equal_rows_are_each_on_one_page(admin: Client, alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        at = timezone.now()
        for number in range(40):
            user = User(email=f"{number}-{unique_email()}", password="x", created_at=at)
            user.save()
            LoginSession.objects.create(user=user, expires_at=at, kind="token")
        # Rows that were changed lie elsewhere in the table.
        User.objects.filter(pk__in=User.objects.order_by("-pk")[:20]).update(is_active=False)
        people = set(User.objects.values_list("pk", flat=True))
        logins = {str(pk) for pk in LoginSession.objects.values_list("pk", flat=True)}
    for path, everybody in (
        ("/api/v1/users/?ordering=created_at&", people),
        ("/api/v1/users/?ordering=-created_at&", people),
        ("/test/logins/?", logins),
    ):
        shown: list[Any] = []
        for page in range(1, (len(everybody) + 6) // 7 + 1):
            answer = json_of(admin.get(f"{path}page_size=7&page={page}"))
            shown += [row["id"] for row in answer["results"]]
        assert sorted(shown) == sorted(everybody), path
