"""The edge: what a path becomes, and what is refused before any view."""

import json
from io import BytesIO
from typing import Any

import pytest
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings

from organizations.errors import OrganizationNotFound
from orgmgmt.edge.middleware import EdgeMiddleware
from tests.conftest import Company

factory = RequestFactory()


class Seen:
    """A view that notes what reaches it."""

    def __init__(self) -> None:
        self.paths: list[tuple[str, str]] = []

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.paths.append((request.path_info, request.path))
        return HttpResponse("seen")


def answer(request: HttpRequest) -> tuple[Any, list[tuple[str, str]]]:
    """The edge's answer, and the paths that a view has seen."""
    seen = Seen()
    return EdgeMiddleware(seen)(request), seen.paths


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("/org/create", "/org/create"),
        ("/org/create/", "/org/create"),
        ("/org/get/", "/org/get"),
        ("/docs/", "/docs"),
        ("/redoc/", "/redoc"),
        ("/openapi.json/", "/openapi.json"),
        ("/api/v1/me", "/api/v1/me/"),
        ("/api/v1/me/", "/api/v1/me/"),
        ("/api/v1/users/7", "/api/v1/users/7/"),
        ("/api/login", "/api/login/"),
        # With a slash it is Django admin's own page.
        ("/admin/login", "/admin/login"),
        ("/admin/login/", "/admin/login/"),
        ("/admin/", "/admin/"),
        ("/", "/"),
        ("/org/create//", "/org/create//"),
        ("/static/x/", "/static/x/"),
    ],
)
def test_a_path_is_good_with_and_without_a_slash(path: str, reached: str) -> None:
    assert answer(factory.post(path))[1] == [(reached, reached)]


@pytest.mark.parametrize(
    ("path", "reached"), [("/org/get/", "/org/get"), ("/api/v1/me", "/api/v1/me/")]
)
def test_a_path_below_a_prefix_keeps_the_prefix(path: str, reached: str) -> None:
    request = factory.get(path, SCRIPT_NAME="/below")
    assert answer(request)[1] == [(reached, f"/below{reached}")]


def test_the_body_of_a_request_with_a_slash_too_many_is_kept() -> None:
    request = factory.post("/org/get/", b'{"a": 1}', content_type="application/json")
    answer(request)
    assert request.body == b'{"a": 1}'


@pytest.mark.parametrize("path", ["/health", "/health/"])
@override_settings(ALLOWED_HOSTS=["api.example"])
def test_health_is_answered_at_the_edge_whatever_the_host(path: str) -> None:
    response, seen = answer(factory.get(path, HTTP_HOST="10.1.2.3"))
    assert (response.status_code, json.loads(response.content)) == (200, {"status": "healthy"})
    assert seen == []


@override_settings(ALLOWED_HOSTS=["api.example"])
def test_a_host_that_is_not_allowed_is_refused() -> None:
    response, seen = answer(factory.get("/", HTTP_HOST="evil.example"))
    assert (response.status_code, json.loads(response.content)["code"]) == (400, "unknown_host")
    assert seen == []


@pytest.mark.parametrize("length", ["1000001", "9" * 30, "-1", "abc", "1.5", "²", "١"])
def test_a_length_that_is_too_large_or_no_number_is_refused(length: str) -> None:
    response, seen = answer(factory.generic("POST", "/org/get", CONTENT_LENGTH=length))
    assert (response.status_code, json.loads(response.content)["code"]) == (413, "too_large")
    assert seen == []


@pytest.mark.parametrize("length", ["", "0"])
def test_no_body_passes(length: str) -> None:
    assert answer(factory.generic("POST", "/org/get", CONTENT_LENGTH=length))[1]


def test_a_body_up_to_the_limit_passes() -> None:
    assert answer(factory.generic("POST", "/org/get", b"x" * 1_000_000))[1]


def test_a_body_that_ends_too_early_is_refused() -> None:
    class Cut(BytesIO):
        def read(self, *args: object) -> bytes:
            raise OSError("the client is gone")

    request = factory.generic("POST", "/org/get", b"{}")
    request._stream = Cut()
    response, seen = answer(request)
    assert (response.status_code, json.loads(response.content)["code"]) == (400, "bad_request")
    assert seen == []


def test_a_path_with_a_nul_is_refused() -> None:
    response, seen = answer(factory.get("/org/%00"))
    assert (response.status_code, json.loads(response.content)["code"]) == (400, "bad_request")
    assert seen == []


def test_what_a_view_outside_drf_raises_is_answered_in_the_one_shape() -> None:
    edge = EdgeMiddleware(Seen())
    response = edge.process_exception(factory.get("/"), OrganizationNotFound("X"))
    assert isinstance(response, HttpResponse)
    assert response.status_code == 404
    assert json.loads(response.content)["code"] == "organization_not_found"


def test_a_database_that_is_gone_is_503_outside_drf_too() -> None:
    edge = EdgeMiddleware(Seen())
    response = edge.process_exception(factory.get("/"), OperationalError("host db-7 is down"))
    assert isinstance(response, HttpResponse)
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert b"db-7" not in response.content


def test_a_bug_is_left_to_django() -> None:
    assert EdgeMiddleware(Seen()).process_exception(factory.get("/"), KeyError("x")) is None


def test_a_cookie_with_nul_is_a_400_and_no_query(client: Client) -> None:
    # http.cookies unquotes \000: the session's key would reach the database with it.
    response = client.get("/api/v1/", headers={"cookie": 'sessionid="\\000\\000abcdefgh"'})
    assert response.status_code == 400
    assert response.json()["detail"] == "A cookie contains a NUL character."


def test_nul_in_a_filter_of_the_admin_is_a_400(staff_client: Client) -> None:
    response = staff_client.get("/admin/organizations/organization/?status__exact=%00")
    assert response.status_code == 400


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_the_documentation_can_be_read_and_nothing_else(client: Client, path: str) -> None:
    assert client.options(path).status_code == 405


def test_what_is_somebodys_own_is_stored_by_no_cache(alpha: Company, client: Client) -> None:
    login = client.post("/api/v1/auth/token/", {}, content_type="application/json")
    ours = {"Authorization": f"Bearer {alpha.token(client)}"}
    for response in (login, client.get("/api/v1/me/", headers=ours)):
        assert {"private", "no-store"} <= set(response["Cache-Control"].split(", "))
        assert {"Authorization", "Cookie"} <= set(response["Vary"].split(", "))


def test_a_wrong_method_at_a_page_outside_drf_has_the_one_shape(client: Client) -> None:
    response = client.get("/api/logout/")
    assert response.status_code == 405
    assert response.json() == {
        "detail": "Method GET is not allowed. Use POST.",
        "code": "method_not_allowed",
    }
    assert response["Allow"] == "POST"
