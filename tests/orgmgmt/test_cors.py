"""CORS: only the named sites' pages may call the API, and none by default."""

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings

pytestmark = pytest.mark.pure

ALLOWED = "https://app.example"
allowing = override_settings(CORS_ALLOWED_ORIGINS=[ALLOWED])


def preflight(client: Client, origin: str, path: str = "/api/v1/users/") -> HttpResponse:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    response = client.options(path, headers=headers)
    assert isinstance(response, HttpResponse)
    return response


def assert_closed(response: Any) -> None:
    assert not [name for name in response.headers if name.startswith("Access-Control-")]


def test_no_origin_is_allowed_by_default(client: Client) -> None:
    for path in ("/", "/health", "/org/get", "/api/v1/users/", "/openapi.json"):
        assert_closed(client.get(path, headers={"Origin": ALLOWED}))
        assert_closed(preflight(client, ALLOWED, path))


@allowing
def test_a_named_origin_may_ask_and_send_a_token(client: Client) -> None:
    for path in ("/", "/health", "/org/create", "/admin/login", "/api/v1/me/", "/api/v1/me"):
        response: Any = preflight(client, ALLOWED, path)
        assert response.status_code == 200, path
        assert response["Access-Control-Allow-Origin"] == ALLOWED, path
        assert "authorization" in response["Access-Control-Allow-Headers"]
        assert "PATCH" in response["Access-Control-Allow-Methods"]
        assert "origin" in response["Vary"].lower()
    # And reads the answers, the edge's refusals too.
    response = client.get("/", headers={"Origin": ALLOWED})
    assert response["Access-Control-Allow-Origin"] == ALLOWED
    assert response["Access-Control-Expose-Headers"] == (
        "Location, Preference-Applied, Retry-After, X-Request-ID"
    )
    refused = client.post("/org/get", headers={"Origin": ALLOWED}, CONTENT_LENGTH="9999999")
    assert refused.status_code == 413
    assert refused["Access-Control-Allow-Origin"] == ALLOWED


@allowing
def test_another_origin_is_not_allowed(client: Client) -> None:
    for origin in (
        *("https://evil.example", "http://app.example", "https://app.example:444", "null"),
        *("https://app.example.evil.example", "https://x.app.example", "https://", "https://["),
    ):
        assert_closed(preflight(client, origin))
        assert_closed(client.get("/", headers={"Origin": origin}))


@allowing
def test_a_cache_learns_that_the_answer_depends_on_the_origin(client: Client) -> None:
    assert "origin" in client.get("/")["Vary"].lower()
    assert "origin" in client.get("/", headers={"Origin": ALLOWED})["Vary"].lower()


@allowing
def test_no_origin_may_send_cookies(client: Client) -> None:
    for origin in (ALLOWED, "https://evil.example"):
        for response in (preflight(client, origin), client.get("/", headers={"Origin": origin})):
            assert "Access-Control-Allow-Credentials" not in response.headers


@allowing
def test_no_other_site_reads_a_page(client: Client) -> None:
    for path in ("/admin/", "/admin/login/", "/api/login/", "/docs", "/static/x"):
        assert_closed(client.get(path, headers={"Origin": ALLOWED}))
        assert_closed(preflight(client, ALLOWED, path))
