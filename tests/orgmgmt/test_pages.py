"""Sessions and CSRF of pages: a request with a token skips them."""

from typing import Any

from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from pytest_django import Settings

from tests.conftest import Company

LOOKUP = {"organization_name": "Acme Corp"}


def met(response: Any) -> set[str]:
    """What the page middleware set on the request. DRF sets a user too."""
    request = response.wsgi_request
    return {name for name in PAGES if hasattr(request, name)}


PAGES = {"session", "_messages"}


def test_a_request_with_a_token_needs_no_session(alpha: Company, client: Client) -> None:
    for token, status in ((alpha.token(client), 200), ("nothing", 401)):
        response = client.get("/api/v1/me/", headers={"Authorization": f"bearer {token}"})
        assert (response.status_code, met(response)) == (status, set())


def test_the_contract_asks_for_no_session(client: Client, alpha: Company) -> None:
    for path in ("/org/get", "/org/create", "/admin/login"):
        response = client.post(path, LOOKUP, content_type="application/json")
        assert response.status_code in (200, 400)
        assert met(response) == set(), path


def test_without_a_token_the_api_looks_for_staff(
    settings: Settings, staff_client: Client, alpha: Company
) -> None:
    response = staff_client.get("/api/v1/organizations/")
    assert (response.status_code, met(response)) == (200, PAGES)
    # So does a lookup that is closed to strangers.
    settings.ORG_PUBLIC_LOOKUP = "off"
    response = staff_client.post("/org/get", LOOKUP, content_type="application/json")
    assert (response.status_code, met(response)) == (200, PAGES)


def test_a_token_takes_nothing_away_from_a_page(client: Client) -> None:
    for path in ("/admin/", "/api/login/", "/admin/login/"):
        response = client.get(path, headers={"Authorization": "Bearer nothing"})
        assert response.status_code in (200, 302)
        assert met(response) == PAGES, path


def test_a_token_does_not_stand_in_for_a_forms_own(staff_client: Client) -> None:
    """Django admin refuses a form without its CSRF token, whatever else is sent along."""
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = staff_client.cookies
    response = strict.post(
        "/admin/organizations/staff/add/", {}, headers={"Authorization": "Bearer nothing"}
    )
    assert response.status_code == 403
    assert SessionStore(strict.cookies["sessionid"].value).exists(
        strict.cookies["sessionid"].value
    ), "the session was lost"
