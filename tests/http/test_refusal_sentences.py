"""Error messages of refusals: all invalid fields at once, and what to send instead."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from organizations import tenancy
from tests.accounts.helpers import bearer, json_of, send, unique_email
from tests.conftest import PASSWORD, Company


@pytest.fixture
def admin(alpha: Company) -> Client:
    return bearer(alpha.token(Client()))


def test_a_header_of_another_kind_is_answered_with_the_accepted_kind(client: Client) -> None:
    for authorization in ("Token x", "Basic YTpi", "abc", "Digest a=b"):
        for path in ("/api/v1/me/", "/api/v1/users/", "/api/v1/organizations/"):
            answer = client.get(path, headers={"Authorization": authorization})
            detail = json_of(answer, 401)["detail"]
            assert "`Authorization: Bearer`" in detail and "not provided" not in detail
    assert "not provided" in json_of(client.get("/api/v1/me/"), 401)["detail"]


def test_an_authorization_of_another_kind_does_not_end_a_staff_session(
    staff_client: Client,
) -> None:
    headers = {"Authorization": "Basic YTpi"}
    assert staff_client.get("/api/v1/organizations/", headers=headers).status_code == 200


BAD_PERSON = {"email": "nobody", "password": "short"}
SIGN_UP = {"email", "password", "organization_name"}


def test_all_invalid_fields_are_named_at_once(admin: Client) -> None:
    both = {"email", "password"}
    bodies: list[tuple[str, dict[str, Any], set[str]]] = [
        ("/org/create", BAD_PERSON, SIGN_UP),
        ("/org/create", BAD_PERSON | {"organization_name": "--"}, SIGN_UP),
        ("/org/create", {"organization_name": "--"}, SIGN_UP),
        ("/admin/login", {}, SIGN_UP),
        ("/api/v1/users/", BAD_PERSON | {"is_admin": "x"}, {*both, "is_admin"}),
        ("/api/v1/users/", {"password": "short"}, both),
        (
            "/api/v1/auth/password-reset/confirm/",
            {"new_password": "short"},
            {"token", "new_password"},
        ),
        (
            "/api/v1/me/password/",
            {"current_password": "wrong", "new_password": "short"},
            {"current_password", "new_password"},
        ),
    ]
    wrong = {}
    for path, body, fields in bodies:
        named = set(json_of(send(admin, "post", path, body), 400)["fields"])
        if named != fields:
            wrong[path, str(body)] = named
    assert wrong == {}


def test_all_invalid_fields_of_a_change_are_named_at_once(admin: Client, alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        other = User(email=unique_email(), password="x")
        other.save()
        own = User.objects.get(email=alpha.email)
    body = BAD_PERSON | {"is_active": 7}
    error = json_of(send(admin, "patch", f"/api/v1/users/{other.pk}/", body), 400)
    assert set(error["fields"]) == set(body)
    own_path = f"/api/v1/users/{own.pk}/"
    taken = {"email": unique_email(), "password": PASSWORD}
    assert set(json_of(send(admin, "patch", own_path, taken), 400)["fields"]) == set(taken)
    body = {"email": "nobody", "current_password": "wrong"}
    assert set(json_of(send(admin, "patch", "/api/v1/me/", body), 400)["fields"]) == set(body)
    with tenancy.override(alpha.tenant):
        other.delete()


def test_a_password_like_the_address_is_refused_beside_another_field(admin: Client) -> None:
    body = {"email": "carolina@example.com", "password": "carolina@example", "is_admin": 7}
    error = json_of(send(admin, "post", "/api/v1/users/", body), 400)
    assert set(error["fields"]) == {"password", "is_admin"}
    assert "similar" in error["fields"]["password"][0]
