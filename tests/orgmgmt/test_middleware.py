"""EdgeMiddleware: paths that are normalised, and requests refused before any view."""

import json
from io import BytesIO
from typing import Any

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


REACHED = {
    "/org/create": "/org/create",
    "/org/create/": "/org/create",
    "/openapi.json/": "/openapi.json",
    "/api/v1/me": "/api/v1/me/",
    "/api/v1/me/": "/api/v1/me/",
    "/api/v1/users/7": "/api/v1/users/7/",
    "/api/login": "/api/login/",
    # With a slash it is Django admin's own page.
    "/admin/login": "/admin/login",
    "/admin/login/": "/admin/login/",
    "/": "/",
    "/org/create//": "/org/create//",
    "/static/x/": "/static/x/",
}


def test_a_path_works_with_and_without_a_slash_even_below_a_prefix() -> None:
    found = {path: answer(factory.post(path))[1] for path in REACHED}
    assert found == {path: [(reached, reached)] for path, reached in REACHED.items()}
    for path in ("/org/get/", "/api/v1/me"):
        ((reached, whole),) = answer(factory.get(path, SCRIPT_NAME="/below"))[1]
        assert whole == f"/below{reached}"


def test_the_body_of_a_request_with_a_slash_too_many_is_kept() -> None:
    request = factory.post("/org/get/", b'{"a": 1}', content_type="application/json")
    answer(request)
    assert request.body == b'{"a": 1}'


@override_settings(ALLOWED_HOSTS=["api.example"])
def test_a_host_that_is_not_allowed_is_refused_but_health_is_answered() -> None:
    response, seen = answer(factory.get("/", HTTP_HOST="evil.example"))
    assert (response.status_code, json.loads(response.content)["code"]) == (400, "unknown_host")
    assert seen == []
    for path in ("/health", "/health/"):
        response, seen = answer(factory.get(path, HTTP_HOST="10.1.2.3"))
        assert (response.status_code, json.loads(response.content)) == (200, {"status": "healthy"})
        assert seen == []


def test_a_length_that_is_too_large_or_no_number_is_refused() -> None:
    for length in ("1000001", "9" * 30, "-1", "abc", "1.5", "²", "١"):
        response, seen = answer(factory.generic("POST", "/org/get", CONTENT_LENGTH=length))
        assert (response.status_code, json.loads(response.content)["code"]) == (413, "too_large")
        assert seen == [], length
    for length in ("", "0"):
        assert answer(factory.generic("POST", "/org/get", CONTENT_LENGTH=length))[1], "no body"
    assert answer(factory.generic("POST", "/org/get", b"x" * 1_000_000))[1], "at the limit"


def test_a_body_that_ends_too_early_is_refused() -> None:
    class Cut(BytesIO):
        def read(self, *args: object) -> bytes:
            raise OSError("the client is gone")

    request = factory.generic("POST", "/org/get", b"{}")
    request._stream = Cut()
    response, seen = answer(request)
    assert (response.status_code, json.loads(response.content)["code"]) == (400, "bad_request")
    assert seen == []


def test_what_a_view_outside_drf_raises_is_answered_in_the_one_shape() -> None:
    edge = EdgeMiddleware(Seen())
    response = edge.process_exception(factory.get("/"), OrganizationNotFound("X"))
    assert isinstance(response, HttpResponse)
    assert response.status_code == 404
    assert json.loads(response.content)["code"] == "organization_not_found"
    response = edge.process_exception(factory.get("/"), OperationalError("host db-7 is down"))
    assert isinstance(response, HttpResponse)
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert b"db-7" not in response.content
    assert edge.process_exception(factory.get("/"), KeyError("a bug, Django's to answer")) is None


def test_a_nul_is_a_400_in_a_path_a_cookie_and_a_query(client: Client) -> None:
    response, seen = answer(factory.get("/org/%00"))
    assert (response.status_code, json.loads(response.content)["code"]) == (400, "bad_request")
    assert seen == []
    # http.cookies unquotes \000: the session's key would reach the database with it.
    response = client.get("/api/v1/", headers={"cookie": 'sessionid="\\000\\000abcdefgh"'})
    assert response.status_code == 400
    assert response.json()["detail"] == "A cookie contains a NUL character."
    path = "/admin/organizations/organization/?status__exact=%00"
    assert client.get(path).status_code == 400


def test_the_documentation_can_be_read_and_nothing_else(client: Client) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.options(path).status_code == 405, path


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
