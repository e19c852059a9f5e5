"""The login page of the browsable API, and the session that it gives to a browser."""

import re
from collections.abc import Callable
from http.cookies import Morsel
from typing import Any

import pytest
from django.conf import settings
from django.core import signing
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts import services, tokens
from accounts.models import LoginSession, User
from organizations import lifecycle as organization_services
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import log_in

LOGIN, LOGOUT, ME, USERS = "/api/login/", "/api/logout/", "/api/v1/me/", "/api/v1/users/"


@pytest.fixture
def browser() -> Client:
    """As a browser: without its token, no form is taken."""
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


@pytest.fixture
def logged_in(browser: Client, alpha: Company, member: User) -> Client:
    assert _fill_in(browser, alpha, member.email).status_code == 302
    return browser


# --- Logging in ---------------------------------------------------------------------------------
def test_the_page_asks_for_three_things_and_leads_staff_to_their_own(browser: Client) -> None:
    page = browser.get(LOGIN)
    assert page.status_code == 200
    for name in ("organization", "email", "password"):
        assert f'name="{name}"' in page.content.decode()
    assert 'href="/admin/login/?next=' in page.content.decode()
    assert "no-store" in page["Cache-Control"]


def test_a_person_who_logs_in_comes_to_the_users_and_is_themselves_there(
    browser: Client, alpha: Company, member: User
) -> None:
    response = _fill_in(browser, alpha, member.email)
    assert (response.status_code, response["Location"]) == (302, USERS)
    assert browser.get(ME).json()["email"] == member.email
    page = browser.get(USERS, headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert member.email in page.content.decode()


def test_the_form_is_not_taken_without_its_csrf_token(
    browser: Client, alpha: Company, member: User
) -> None:
    body = {"organization": alpha.name, "email": member.email, "password": PASSWORD}
    response = browser.post(LOGIN, body)
    assert response.status_code == 403
    assert response.json()["code"] == "csrf_failed"
    assert settings.ORG_SESSION_COOKIE_NAME not in response.cookies


def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_other_paths(
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


def test_a_wrong_login_is_told_so_and_keeps_what_was_typed_but_the_password(
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


def test_an_unknown_or_suspended_organization_is_told_so(
    browser: Client, alpha: Company, company: Callable[..., Company]
) -> None:
    response = _fill_in(browser, alpha, "x@test.com", organization='<script>"Nobody"')
    assert "There is no organization called" in response.content.decode()
    assert "<script>&quot;" not in response.content.decode()
    assert '<script>"Nobody"' not in response.content.decode(), "what was typed is not escaped"
    made = company()
    organization_services.suspend_organization(made.organization)
    response = _fill_in(browser, made, made.email)
    assert (response.status_code, "is suspended" in response.content.decode()) == (403, True)


@pytest.mark.parametrize("field", ["organization", "email", "password"])
@pytest.mark.parametrize("value", ["", "x" * 2000, "a\x00b"], ids=["empty", "long", "nul"])
def test_a_field_that_is_empty_too_long_or_holds_nul_is_a_400(
    browser: Client, alpha: Company, field: str, value: str
) -> None:
    assert _fill_in(browser, alpha, "x@test.com", **{field: value}).status_code == 400


# --- Where to go next ---------------------------------------------------------------------------
@pytest.mark.parametrize("wanted", ["/api/v1/me/", "/api/v1/users/?page=2"])
def test_a_page_of_ours_is_come_back_to(
    browser: Client, alpha: Company, member: User, wanted: str
) -> None:
    assert _fill_in(browser, alpha, member.email, next=wanted)["Location"] == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "http:evil.example",
        "http:///evil.example",
        "javascript:alert(1)",
        "https://testserver@evil.example/",
        " //evil.example",
        "/\t/evil.example",
        "\x08//evil.example",
    ],
)
def test_a_page_of_anothers_is_not_gone_to(
    browser: Client, alpha: Company, member: User, wanted: str
) -> None:
    assert _fill_in(browser, alpha, member.email, next=wanted)["Location"] == USERS
    page = browser.get(LOGIN, {"next": wanted}).content.decode()
    assert f'name="next" value="{USERS}"' in page


# --- The session --------------------------------------------------------------------------------
def test_a_session_is_bound_to_its_organization(
    logged_in: Client, alpha: Company, beta: Company
) -> None:
    value = signing.loads(
        logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME].value, salt="accounts.browser-session"
    )
    assert value["org"] == alpha.organization.pk
    for header in ("X-Organization", "X-Tenant-Id"):
        response = logged_in.get(ME, headers={header: beta.tenant.slug})
        assert response.status_code == 403
        assert response.json()["code"] == "organization_mismatch"
    value["org"] = beta.organization.pk
    logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME] = signing.dumps(
        value, salt="accounts.browser-session"
    )
    assert logged_in.get(ME).status_code == 401


def test_a_cookie_signed_for_something_else_is_refused(logged_in: Client) -> None:
    value = signing.loads(
        logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME].value, salt="accounts.browser-session"
    )
    logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME] = signing.dumps(value, salt="x")
    assert logged_in.get(ME).status_code == 401


@pytest.mark.parametrize("change", ["x", "", "e30:1abc:xyz"])
def test_a_spoiled_cookie_is_refused(logged_in: Client, change: str) -> None:
    good = logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME].value
    logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME] = change or good[:-1]
    assert logged_in.get(ME).status_code == 401


def test_a_token_sessions_id_in_a_cookie_is_refused(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        session = services.start_session(member, kind=LoginSession.Kind.TOKEN)
    client = Client()
    client.cookies[settings.ORG_SESSION_COOKIE_NAME] = tokens.sign_cookie(session, alpha.tenant)
    assert client.get(ME).status_code == 401


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "another passphrase"}])
def test_a_session_ends_when_its_person_is_deactivated_or_given_a_password(
    logged_in: Client, alpha: Company, member: User, change: dict[str, Any]
) -> None:
    with tenancy.override(alpha.tenant):
        services.update_user(member, **change)
    assert logged_in.get(ME).status_code == 401


def test_a_session_runs_out(logged_in: Client, alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        LoginSession.objects.filter(user=member).update(expires_at=timezone.now())
    assert logged_in.get(ME).status_code == 401


def test_a_cookie_is_good_for_so_long_alone(logged_in: Client, settings: Settings) -> None:
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
    with tenancy.override(alpha.tenant):
        session = services.start_session(member, kind=LoginSession.Kind.TOKEN)
    headers = {"Authorization": f"Bearer {tokens.issue(session, alpha.tenant)[0]}"}
    response = Client(enforce_csrf_checks=True).patch(
        ME, {}, content_type="application/json", headers=headers
    )
    assert response.status_code == 200, response.content


# --- Logging out --------------------------------------------------------------------------------
@pytest.mark.parametrize(("path", "status"), [(LOGOUT, 302), ("/api/v1/auth/logout/", 204)])
def test_logging_out_kills_the_session_and_every_copy_of_its_cookie(
    logged_in: Client, path: str, status: int
) -> None:
    copy = logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME].value
    response = logged_in.post(path, headers=_csrf(logged_in))
    assert response.status_code == status
    gone = _cookie(response)
    assert (gone.value, gone["max-age"], gone["path"]) == ("", 0, "/api/")
    thief = Client()
    thief.cookies[settings.ORG_SESSION_COOKIE_NAME] = copy
    assert thief.get(ME).status_code == 401


def test_a_refresh_token_in_the_body_does_not_keep_the_browsers_session_alive_without_its_cookie(
    logged_in: Client, alpha: Company, member: User
) -> None:
    """Either the cookie stays and the session too, or both are gone."""
    body = {"refresh": log_in(alpha, member)[1]}
    copy = logged_in.cookies[settings.ORG_SESSION_COOKIE_NAME].value
    response = logged_in.post("/api/v1/auth/logout/", body, headers=_csrf(logged_in))
    assert response.status_code == 204, response.content
    thief = Client()
    thief.cookies[settings.ORG_SESSION_COOKIE_NAME] = copy
    alive = thief.get(ME).status_code == 200
    assert alive == (settings.ORG_SESSION_COOKIE_NAME not in response.cookies)


@pytest.mark.parametrize("path", [LOGOUT, "/api/v1/auth/logout/"])
def test_another_site_cannot_log_a_person_out(logged_in: Client, path: str) -> None:
    assert logged_in.post(path).status_code == 403
    assert logged_in.get(ME).status_code == 200


def test_logging_out_by_a_link_is_not_possible(logged_in: Client) -> None:
    assert logged_in.get(LOGOUT).status_code == 405
    assert logged_in.get(ME).status_code == 200


def test_logging_out_without_a_session_leads_to_the_login_page() -> None:
    response = Client().post(LOGOUT)
    assert (response.status_code, response["Location"]) == (302, LOGIN)
