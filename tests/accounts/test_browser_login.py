"""The login page of the browsable API, and the browser session that it starts."""

import re
from collections.abc import Callable
from http.cookies import Morsel
from typing import Any

import pytest
from django.conf import settings
from django.core import signing
from django.test import Client
from pytest_django import Settings

from accounts import services, sessions, tokens
from accounts.models import LoginSession, User
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import log_in

LOGIN, LOGOUT, ME, USERS = "/api/login/", "/api/logout/", "/api/v1/me/", "/api/v1/users/"


@pytest.fixture
def browser() -> Client:
    """A browser: forms need their CSRF token."""
    return Client(enforce_csrf_checks=True)


def _fill_in(browser: Client, company: Company, address: str, /, **fields: str) -> Any:
    page = browser.get(LOGIN).content.decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None, page
    body = {"organization": company.name, "email": address, "password": PASSWORD, **fields}
    return browser.post(LOGIN, {**body, "csrfmiddlewaretoken": found[1]})


def _cookie(response: Any) -> "Morsel[str]":
    morsel: Morsel[str] = response.cookies[settings.ORG_SESSION_COOKIE_NAME]
    return morsel


def _csrf(browser: Client) -> dict[str, str]:
    return {"X-CSRFToken": browser.cookies["csrftoken"].value}


def _stored(browser: Client) -> str:
    return browser.cookies[settings.ORG_SESSION_COOKIE_NAME].value


def _store(browser: Client, value: str) -> Client:
    browser.cookies[settings.ORG_SESSION_COOKIE_NAME] = value
    return browser


@pytest.fixture
def logged_in(browser: Client, alpha: Company, member: User) -> Client:
    assert _fill_in(browser, alpha, member.email).status_code == 302
    return browser


# --- Logging in ---------------------------------------------------------------------------------
def test_the_page_has_three_fields_and_a_link_to_the_staffs_login(browser: Client) -> None:
    page = browser.get(LOGIN)
    assert page.status_code == 200
    for name in ("organization", "email", "password"):
        assert f'name="{name}"' in page.content.decode()
    assert 'href="/admin/login/?next=' in page.content.decode()
    assert "no-store" in page["Cache-Control"]


def test_a_login_leads_to_the_list_of_users(browser: Client, alpha: Company, member: User) -> None:
    response = _fill_in(browser, alpha, member.email)
    assert (response.status_code, response["Location"]) == (302, USERS)
    assert browser.get(ME).json()["email"] == member.email
    page = browser.get(USERS, headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert member.email in page.content.decode()


def test_the_form_needs_its_csrf_token(browser: Client, alpha: Company, member: User) -> None:
    body = {"organization": alpha.name, "email": member.email, "password": PASSWORD}
    response = browser.post(LOGIN, body)
    assert response.status_code == 403
    assert response.json()["code"] == "csrf_failed"
    assert settings.ORG_SESSION_COOKIE_NAME not in response.cookies


def test_the_cookie_is_closed_to_scripts_other_sites_and_other_paths(
    browser: Client, alpha: Company, member: User
) -> None:
    cookie = _cookie(_fill_in(browser, alpha, member.email))
    assert cookie["httponly"] is True
    assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Lax", "/api/", "")
    assert cookie["max-age"] == 12 * 60 * 60


def test_the_cookie_needs_https_where_everything_does(
    browser: Client, alpha: Company, member: User, settings: Settings
) -> None:
    settings.SESSION_COOKIE_SECURE = True
    assert _cookie(_fill_in(browser, alpha, member.email))["secure"] is True


def test_a_failed_login_keeps_the_form_except_the_password(
    browser: Client, alpha: Company, beta: Company, member: User, person: Callable[..., User]
) -> None:
    gone = person()
    with tenancy.override(alpha.tenant):
        services.update_user(gone, is_active=False)
    for email, password in (
        (member.email, "not my password"),
        ("nobody@test.com", PASSWORD),
        (gone.email, PASSWORD),
        (beta.email, PASSWORD),
    ):
        response = _fill_in(browser, alpha, email, password=password)
        page = response.content.decode()
        assert response.status_code == 403
        assert "The e-mail or password is wrong, or the account is not active." in page
        assert f'value="{email}"' in page
        assert password not in page
        assert settings.ORG_SESSION_COOKIE_NAME not in response.cookies


def test_an_unknown_or_suspended_organization_is_named(
    browser: Client, alpha: Company, suspended: Company
) -> None:
    response = _fill_in(browser, alpha, "x@test.com", organization='<script>"Nobody"')
    assert "There is no organization called" in response.content.decode()
    assert "<script>&quot;" not in response.content.decode()
    assert '<script>"Nobody"' not in response.content.decode(), "what was typed is not escaped"
    response = _fill_in(browser, suspended, suspended.email)
    assert (response.status_code, "is suspended" in response.content.decode()) == (403, True)


def test_a_field_that_is_empty_too_long_or_holds_nul_is_a_400(
    browser: Client, alpha: Company
) -> None:
    for field in ("organization", "email", "password"):
        for value in ("", "x" * 2000, "a\x00b"):
            answer = _fill_in(browser, alpha, "x@test.com", **{field: value})
            assert answer.status_code == 400, (field, value[:5])


# --- The next page ------------------------------------------------------------------------------
def test_a_login_returns_to_the_page_that_was_asked_for(
    browser: Client, alpha: Company, member: User
) -> None:
    for wanted in (ME, f"{USERS}?page=2"):
        assert _fill_in(browser, alpha, member.email, next=wanted)["Location"] == wanted


def test_a_login_leads_to_no_other_site(browser: Client, alpha: Company, member: User) -> None:
    followed = {}
    for wanted in (
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "https://testserver@evil.example/",
        " //evil.example",
        "/\t/evil.example",
        "\x08//evil.example",
    ):
        page = browser.get(LOGIN, {"next": wanted}).content.decode()
        led = _fill_in(browser, alpha, member.email, next=wanted)["Location"]
        if led != USERS or f'name="next" value="{USERS}"' not in page:
            followed[wanted] = led
    assert followed == {}


# --- The session --------------------------------------------------------------------------------
def test_a_session_is_bound_to_its_organization(
    logged_in: Client, alpha: Company, beta: Company
) -> None:
    value = signing.loads(_stored(logged_in), salt="accounts.browser-session")
    assert value["org"] == alpha.organization.pk
    for header in ("X-Organization", "X-Tenant-Id"):
        response = logged_in.get(ME, headers={header: beta.tenant.slug})
        assert response.status_code == 403
        assert response.json()["code"] == "organization_mismatch"
    value["org"] = beta.organization.pk
    _store(logged_in, signing.dumps(value, salt="accounts.browser-session"))
    assert logged_in.get(ME).status_code == 401


def test_a_cookie_signed_for_something_else_is_refused(logged_in: Client) -> None:
    value = signing.loads(_stored(logged_in), salt="accounts.browser-session")
    _store(logged_in, signing.dumps(value, salt="x"))
    assert logged_in.get(ME).status_code == 401


def test_a_damaged_cookie_is_refused(logged_in: Client) -> None:
    good = _stored(logged_in)
    assert logged_in.get(ME).status_code == 200
    for damaged in ("x", good[:-1], "e30:1abc:xyz"):
        assert _store(logged_in, damaged).get(ME).status_code == 401, damaged


def test_a_cookie_that_names_a_token_session_is_refused(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        session = sessions.start(member, kind=LoginSession.Kind.TOKEN)
    client = _store(Client(), tokens.sign_cookie(session, alpha.tenant))
    assert client.get(ME).status_code == 401


def test_a_cookie_ends_with_its_lifetime(logged_in: Client, settings: Settings) -> None:
    assert logged_in.get(ME).status_code == 200
    settings.ORG_SESSION_LIFETIME = -1
    assert logged_in.get(ME).status_code == 401


# --- Writing with a session ---------------------------------------------------------------------
def test_a_write_with_the_cookie_needs_the_csrf_token(
    logged_in: Client, alpha: Company, member: User
) -> None:
    def patch(**headers: Any) -> Any:
        body = {"email": f"changed-{member.email}", "current_password": PASSWORD}
        return logged_in.patch(ME, body, content_type="application/json", **headers)

    for headers in ({}, {"X-CSRFToken": "x" * 32}, {"X-CSRFToken": ""}):
        response = patch(headers=headers)
        assert response.status_code == 403, headers
        assert response.json()["code"] == "csrf_failed"
    assert logged_in.get(ME).json()["email"] == member.email
    assert patch(headers=_csrf(logged_in)).status_code == 200


def test_a_write_with_a_token_needs_no_csrf_token(alpha: Company, member: User) -> None:
    headers = {"Authorization": f"Bearer {log_in(alpha, member)[0]}"}
    response = Client(enforce_csrf_checks=True).patch(
        ME, {}, content_type="application/json", headers=headers
    )
    assert response.status_code == 200, response.content


# --- Logging out --------------------------------------------------------------------------------
def test_logging_out_ends_the_session_and_every_copy_of_its_cookie(
    browser: Client, alpha: Company, member: User
) -> None:
    for path, status in ((LOGOUT, 302), ("/api/v1/auth/logout/", 204)):
        assert _fill_in(browser, alpha, member.email).status_code == 302
        copy = _stored(browser)
        response = browser.post(path, headers=_csrf(browser))
        assert response.status_code == status, path
        gone = _cookie(response)
        assert (gone.value, gone["max-age"], gone["path"]) == ("", 0, "/api/")
        assert _store(Client(), copy).get(ME).status_code == 401, path


def test_a_logout_ends_the_browser_session_together_with_its_cookie(
    logged_in: Client, alpha: Company, member: User
) -> None:
    """Either the cookie stays and the session too, or both are gone."""
    body = {"refresh": log_in(alpha, member)[1]}
    copy = _stored(logged_in)
    response = logged_in.post("/api/v1/auth/logout/", body, headers=_csrf(logged_in))
    assert response.status_code == 204, response.content
    alive = _store(Client(), copy).get(ME).status_code == 200
    assert alive == (settings.ORG_SESSION_COOKIE_NAME not in response.cookies)


def test_no_other_site_and_no_link_logs_anybody_out(logged_in: Client) -> None:
    for path in (LOGOUT, "/api/v1/auth/logout/"):
        assert logged_in.post(path).status_code == 403, path
    assert logged_in.get(LOGOUT).status_code == 405
    assert logged_in.get(ME).status_code == 200


def test_logging_out_without_a_session_leads_to_the_login_page() -> None:
    response = Client().post(LOGOUT)
    assert (response.status_code, response["Location"]) == (302, LOGIN)
