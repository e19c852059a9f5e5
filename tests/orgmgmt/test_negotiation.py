"""The Accept header: JSON for a program, a page for a browser below /api/, and never a 406."""

from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from organizations import lifecycle
from tests.conftest import Company

# As Chromium, Firefox and Safari send it, cut after what counts.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROGRAMS = [
    "*/*",
    "application/json",
    "application/json;q=0.9, text/html;q=0.1",
    "application/yaml",
    "text/html;q=0, */*",
    "garbage",
    "",
]
MEMBERS = ("/api/v1/me/", "/api/v1/users/", "/api/v1/audit/", "/api/v1/organization/")


def kind(response: Any) -> str:
    """The answer's content type, which its body must match."""
    named = str(response["Content-Type"]).partition(";")[0]
    if named == "application/json":
        assert response.json()
    else:
        assert response.content.lstrip().startswith(b"<!DOCTYPE html>"), response.content[:80]
    return named


def test_schema_and_documentation_ignore_the_accept_header(client: Client) -> None:
    wanted = {"/openapi.json": "application/json", "/docs": "text/html", "/redoc": "text/html"}
    for accept in ("application/yaml", BROWSER, "application/vnd.oai.openapi+json"):
        for path, expected in wanted.items():
            response = client.get(path, headers={"Accept": accept})
            assert (response.status_code, kind(response)) == (200, expected), (path, accept)


def test_an_error_is_labelled_as_what_it_is(client: Client) -> None:
    for path in ("/openapi.json", "/docs", "/redoc", "/api/v1/users/"):
        for method in ("get", "post", "delete"):
            response = getattr(client, method)(f"{path}?format=nonsense")
            assert response.status_code in (401, 404, 405), method
            assert kind(response) == "application/json", method
            assert set(response.json()) == {"detail", "code"}


def test_a_program_is_answered_in_json_below_api_v1(alpha: Company, client: Client) -> None:
    bearer = {"Authorization": f"Bearer {alpha.token(client)}"}
    for accept in PROGRAMS:
        for path, headers, status in (
            ("/api/v1/", bearer, 200),
            ("/api/v1/me/", bearer, 200),
            ("/api/v1/users/999999/", bearer, 404),
            ("/api/v1/me/", {}, 401),
            ("/api/v1/nothing/", {}, 404),
            ("/api/v1/auth/token/", {}, 405),
        ):
            response = client.get(path, headers={**headers, "Accept": accept})
            found = (response.status_code, kind(response))
            assert found == (status, "application/json"), (path, accept)


def test_a_browser_gets_a_page_below_api_v1_for_every_error(alpha: Company, client: Client) -> None:
    login = {"Authorization": f"Bearer {alpha.token(client)}"}
    ended = {"Cookie": f"{settings.ORG_SESSION_COOKIE_NAME}=abc:def"}
    for path, headers, status in (
        *((path, login, 200) for path in ("/api/v1/", *MEMBERS)),
        *((path, {}, 401) for path in MEMBERS),
        *((path, {"Authorization": "Bearer x"}, 401) for path in ("/api/v1/", *MEMBERS)),
        *((path, ended, 401) for path in ("/api/v1/", *MEMBERS)),
        ("/api/v1/users/?page=7", login, 404),
        ("/api/v1/users/?page_size=x", login, 400),
        ("/api/v1/nothing/", {}, 404),
        ("/api/v1/auth/token/", {}, 405),
        ("/api/v1/me/", {"Host": "evil.example"}, 400),
    ):
        response = client.get(path, headers={**headers, "Accept": BROWSER})
        assert (response.status_code, kind(response)) == (status, "text/html"), path
        if status == 401:
            assert response["WWW-Authenticate"] == 'Bearer realm="api"', path
            assert reverse("rest_framework:login") in response.content.decode(), path


def test_a_browser_in_a_suspended_organization_is_told_so_on_a_page(
    company: Any, client: Client
) -> None:
    made = company()
    headers = {"Authorization": f"Bearer {made.token(client)}", "Accept": BROWSER}
    lifecycle.suspend_organization(made.organization, reason="unpaid")
    response = client.get("/api/v1/users/", headers=headers)
    assert (response.status_code, kind(response)) == (403, "text/html")
    assert "is suspended" in response.content.decode()


def test_a_bug_is_a_page_for_a_browser_and_json_for_a_program(
    alpha: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Authorization": f"Bearer {alpha.token(client)}"}

    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("accounts.api.views.MeView.get", broken)
    client.raise_request_exception = False
    for accept, wanted in ((BROWSER, "text/html"), ("*/*", "application/json")):
        response = client.get("/api/v1/me/", headers={**headers, "Accept": accept})
        assert (response.status_code, kind(response)) == (500, wanted)


def test_the_first_editions_paths_ignore_the_accept_header(client: Client) -> None:
    for path in ("/org/get", "/org/create", "/admin/login", "/health", "/"):
        for accept in (BROWSER, "application/xml"):
            for method in ("post", "put"):
                response = getattr(client, method)(path, headers={"Accept": accept})
                assert kind(response) == "application/json", (path, accept, method)
