"""A form opened in one organization writes nothing into another, in the same browser."""

import re
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from accounts import tokens
from accounts.models import LoginSession, User
from organizations import tenancy
from tests.conftest import PASSWORD, Company

LOGIN, USERS = "/api/login/", "/api/v1/users/"


@pytest.fixture
def browser() -> Client:
    return Client(enforce_csrf_checks=True)


def _log_in(browser: Client, company: Company, *, secure: bool = False) -> Any:
    page = browser.get(LOGIN, secure=secure).content.decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None, page
    body = {"organization": company.name, "email": company.email, "password": PASSWORD}
    headers = {"Referer": "https://testserver/api/login/"} if secure else {}
    answer = browser.post(
        LOGIN, {**body, "csrfmiddlewaretoken": found[1]}, secure=secure, headers=headers
    )
    assert answer.status_code == 302, answer.content
    return answer


def _form(browser: Client) -> dict[str, str]:
    """The hidden fields of the page's form for a new user."""
    page = browser.get(USERS, headers={"Accept": "text/html"}).content.decode()
    form = page.partition('id="post-object-form"')[2].partition("</form>")[0]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)">', form))


def _post(browser: Client, hidden: dict[str, str]) -> Any:
    body = {"email": "typed@test.com", "password": PASSWORD, **hidden}
    return browser.post(USERS, body, headers={"Accept": "application/json"})


def _code(answer: HttpResponse) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]  # type: ignore[attr-defined]


def _forget(company: Company) -> None:
    with tenancy.override(company.tenant):
        User.objects.filter(email="typed@test.com").delete()


def test_a_form_opened_in_alpha_is_refused_after_a_login_to_beta(
    browser: Client, alpha: Company, beta: Company
) -> None:
    _log_in(browser, alpha)
    form = _form(browser)
    del form["_organization"]  # As the forms of other templates.
    _log_in(browser, beta)
    assert _code(_post(browser, form)) == (403, "csrf_failed")
    with tenancy.override(beta.tenant):
        assert not User.objects.filter(email="typed@test.com").exists()


def test_a_form_names_its_organization_and_is_accepted_only_there(
    browser: Client, alpha: Company, beta: Company
) -> None:
    _log_in(browser, alpha)
    form = _form(browser)
    _log_in(browser, beta)
    # As if the two logins had one CSRF token.
    form["csrfmiddlewaretoken"] = _form(browser)["csrfmiddlewaretoken"]
    assert _code(_post(browser, form)) == (403, "organization_mismatch")
    assert _post(browser, _form(browser)).status_code == 201
    _forget(beta)


def test_the_pages_script_names_its_organization_too(browser: Client, alpha: Company) -> None:
    _log_in(browser, alpha)
    page = browser.get(USERS, headers={"Accept": "text/html"}).content.decode()
    assert f'organization.js" data-organization="{alpha.organization.pk}"' in page
    stranger = Client().get(USERS, headers={"Accept": "text/html"}).content.decode()
    assert "organization.js" not in stranger


# --- The cookie ---------------------------------------------------------------------------------
def test_with_https_only_the_cookie_is_bound_to_the_host(
    browser: Client, alpha: Company, settings: Settings
) -> None:
    settings.ORG_SESSION_COOKIE_NAME = "__Host-org_session"
    settings.ORG_SESSION_COOKIE_PATH = "/"
    settings.SESSION_COOKIE_SECURE = True
    cookie = _log_in(browser, alpha, secure=True).cookies["__Host-org_session"]
    assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    assert browser.get("/api/v1/me/", secure=True).json()["email"] == alpha.email
    # Another host of the domain can set this name, and is not believed.
    thief = Client()
    thief.cookies["org_session"] = cookie.value
    assert thief.get("/api/v1/me/", secure=True).status_code == 401
    form = browser.get(USERS, secure=True, headers={"Accept": "text/html"}).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token is not None
    gone = browser.post(
        "/api/logout/",
        {"csrfmiddlewaretoken": token[1]},
        secure=True,
        headers={"Referer": "https://testserver/"},
    ).cookies["__Host-org_session"]
    assert (gone.value, gone["max-age"], gone["path"], gone["secure"]) == ("", 0, "/", True)


def test_the_cookie_is_ignored_below_the_staffs_admin(staff_client: Client, alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        user = User.objects.get(email_key=alpha.email)
        session = LoginSession.objects.create(
            user=user, kind="browser", expires_at=user.created_at.replace(year=2100)
        )
    staff_client.cookies[django_settings.ORG_SESSION_COOKIE_NAME] = tokens.sign_cookie(
        session, alpha.tenant
    )
    for path in ("/admin/", "/admin/login/", "/admin/organizations/"):
        request: Any = staff_client.get(path).wsgi_request
        found = (request.credential_kind, request.credential, request.login)
        assert found == (None, None, None), path
