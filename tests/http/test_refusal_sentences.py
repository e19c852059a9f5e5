"""What a refusal says: all that is wrong at once, and what to send instead."""

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


@pytest.mark.parametrize("authorization", ["Token x", "Basic YTpi", "abc", "Digest a=b"])
def test_a_header_of_another_kind_is_told_the_one_that_is_read(
    client: Client, authorization: str
) -> None:
    for path in ("/api/v1/me/", "/api/v1/users/", "/api/v1/organizations/"):
        error = json_of(client.get(path, headers={"Authorization": authorization}), 401)
        assert "`Authorization: Bearer`" in error["detail"]
        assert "not provided" not in error["detail"]
    assert "not provided" in json_of(client.get("/api/v1/me/"), 401)["detail"]


def test_a_proxys_own_authorization_keeps_nobody_out(
    admin: Client, staff_client: Client, alpha: Company
) -> None:
    headers = {"Authorization": "Basic YTpi"}
    assert staff_client.get("/api/v1/organizations/", headers=headers).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/xml"])
@pytest.mark.parametrize(
    "path", ["/org/create", "/org/get", "/admin/login", "/api/v1/auth/token/", "/api/v1/users/"]
)
def test_another_content_type_is_told_the_one_that_is_read(
    admin: Client, path: str, content_type: str
) -> None:
    response = admin.generic("POST", path, b"{}", content_type=content_type)
    assert "application/json" in json_of(response, 415)["detail"]


BAD_PERSON = {"email": "nobody", "password": "short"}
SIGN_UP = {"email", "password", "organization_name"}


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/org/create", BAD_PERSON, SIGN_UP),
        (
            "/org/create",
            BAD_PERSON | {"organization_name": "--"},
            {*BAD_PERSON, "organization_name"},
        ),
        ("/org/create", {"organization_name": "--"}, SIGN_UP),
        ("/admin/login", {}, {"email", "password", "organization_name"}),
        ("/api/v1/users/", BAD_PERSON | {"is_admin": "x"}, {*BAD_PERSON, "is_admin"}),
        ("/api/v1/users/", {"password": "short"}, {"email", "password"}),
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
    ],
)
def test_all_fields_that_are_wrong_are_named_at_once(
    admin: Client, path: str, body: dict[str, Any], fields: set[str]
) -> None:
    assert set(json_of(send(admin, "post", path, body), 400)["fields"]) == fields


def test_all_that_is_wrong_with_a_change_is_named_at_once(admin: Client, alpha: Company) -> None:
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
