"""Which other sites' pages may call the API: those that are named, and none by default."""

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings

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


@pytest.mark.parametrize("path", ["/", "/health", "/org/get", "/api/v1/users/", "/openapi.json"])
def test_no_origin_is_allowed_by_default(path: str, client: Client) -> None:
    assert_closed(client.get(path, headers={"Origin": ALLOWED}))
    assert_closed(preflight(client, ALLOWED, path))


@allowing
@pytest.mark.parametrize(
    "path", ["/", "/health", "/org/create", "/admin/login", "/api/v1/me/", "/api/v1/me"]
)
def test_a_named_origin_may_ask_and_send_a_token(path: str, client: Client) -> None:
    response = preflight(client, ALLOWED, path)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == ALLOWED
    assert "authorization" in response["Access-Control-Allow-Headers"]
    assert "PATCH" in response["Access-Control-Allow-Methods"]
    assert "origin" in response["Vary"].lower()


@allowing
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://app.example", "https://app.example:444", "null"]
    + ["https://app.example.evil.example", "https://x.app.example", "https://", "https://["],
)
def test_another_origin_is_not_allowed(origin: str, client: Client) -> None:
    assert_closed(preflight(client, origin))
    assert_closed(client.get("/", headers={"Origin": origin}))


@allowing
def test_an_answer_names_the_origin_and_what_its_page_may_read(client: Client) -> None:
    response = client.get("/", headers={"Origin": ALLOWED})
    assert response["Access-Control-Allow-Origin"] == ALLOWED
    assert response["Access-Control-Expose-Headers"] == (
        "Location, Preference-Applied, Retry-After, X-Request-ID"
    )
    assert "origin" in response["Vary"].lower()


@allowing
def test_a_cache_learns_that_the_answer_depends_on_the_origin_without_one_too(
    client: Client,
) -> None:
    assert "origin" in client.get("/")["Vary"].lower()


@allowing
@pytest.mark.parametrize("origin", [ALLOWED, "https://evil.example"])
def test_no_origin_may_send_cookies(origin: str, client: Client) -> None:
    for response in (preflight(client, origin), client.get("/", headers={"Origin": origin})):
        assert "Access-Control-Allow-Credentials" not in response.headers


@allowing
def test_what_the_edge_refuses_can_be_read_by_a_named_origin(client: Client) -> None:
    response = client.post(
        "/org/get", b"{}", "application/json", headers={"Origin": ALLOWED}, CONTENT_LENGTH="9999999"
    )
    assert response.status_code == 413
    assert response["Access-Control-Allow-Origin"] == ALLOWED


@allowing
@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/api/login/", "/docs", "/static/x"])
def test_pages_are_nobody_elses_to_read(path: str, client: Client) -> None:
    assert_closed(client.get(path, headers={"Origin": ALLOWED}))
    assert_closed(preflight(client, ALLOWED, path))
