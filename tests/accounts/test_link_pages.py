"""The pages that mailed links open, as a browser uses them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.link_tokens import Purpose
from accounts.models import User
from organizations.models import Organization
from organizations.postgres.fence import fence
from organizations.provisioning import code, versions
from tests.conftest import PASSWORD, Company

from .helpers import stored
from .link_helpers import NEW_PASSWORD, confirm, link_in, log_in_status, sent, token_of

ASK, CONFIRM, VERIFY = "/api/password-reset/", "/api/password-reset/confirm/", "/api/email/verify/"
DEAD = "This link is invalid or has expired. Request a new one."


@pytest.fixture
def browser() -> Client:
    """A browser: forms need their CSRF token."""
    return Client(enforce_csrf_checks=True)


def submit(browser: Client, address: str, **typed: str) -> Any:
    """Open the page, fill in its form and send it."""
    page = browser.get(address)
    assert page.status_code == 200
    inputs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.content.decode())
    return browser.post(address.partition("?")[0], {**dict(inputs), **typed})


def test_a_forgotten_password_is_reset_from_the_login_page(
    browser: Client, alpha: Company, member: User
) -> None:
    assert f'href="{ASK}"' in browser.get("/api/login/").content.decode()
    done = submit(browser, ASK, organization=alpha.name, email=member.email)
    assert (done.status_code, "we have sent an e-mail with a link" in done.content.decode()) == (
        200,
        True,
    )
    link = link_in(sent()[0]).removeprefix("http://testserver")
    assert link.startswith(CONFIRM)
    done = submit(browser, link, new_password=NEW_PASSWORD, again=NEW_PASSWORD)
    assert (done.status_code, "Your password was changed" in done.content.decode()) == (200, True)
    assert log_in_status(alpha, member.email, NEW_PASSWORD) == 200


def test_the_page_says_the_same_whoever_has_the_address(
    browser: Client, alpha: Company, member: User
) -> None:
    pages = [
        submit(browser, ASK, organization=alpha.name, email=email).content
        for email in (member.email, "nobody@x.com")
    ]
    assert _without_csrf(pages[0]) == _without_csrf(pages[1])


def _without_csrf(page: bytes) -> bytes:
    return re.sub(rb'(csrfmiddlewaretoken" value=| nonce=)"[\w-]+"', b"", page)


def test_opening_a_link_uses_nothing_up(browser: Client, alpha: Company, member: User) -> None:
    reset, verification = (
        f"{CONFIRM}?token={token_of(alpha, member)}",
        f"{VERIFY}?token={token_of(alpha, member, Purpose.VERIFICATION)}",
    )
    for address in (reset, verification):
        for method in (browser.get, browser.head):
            assert method(address).status_code == 200
    assert stored(alpha, member).email_verified_at is None
    assert submit(browser, verification).status_code == 200
    assert stored(alpha, member).email_verified_at is not None
    done = submit(browser, reset, new_password=NEW_PASSWORD, again=NEW_PASSWORD)
    assert done.status_code == 200


def test_no_cache_keeps_a_page_and_its_address_goes_nowhere(browser: Client) -> None:
    for path in (ASK, CONFIRM, VERIFY):
        for page in (browser.get(f"{path}?token=x"), browser.get(path)):
            assert "no-store" in page["Cache-Control"], path
            # With `no-referrer` a browser would send the form's origin as `null`: refused.
            assert page["Referrer-Policy"] == "strict-origin", path
            assert page["Content-Type"].startswith("text/html"), path


def test_a_form_needs_its_csrf_token(browser: Client, alpha: Company, member: User) -> None:
    body = {
        "organization": alpha.name,
        "email": member.email,
        "token": token_of(alpha, member),
        "new_password": NEW_PASSWORD,
        "again": NEW_PASSWORD,
    }
    for path in (ASK, CONFIRM, VERIFY):
        response = browser.post(path, body)
        assert (response.status_code, response.json()["code"]) == (403, "csrf_failed"), path
    assert sent() == []
    assert log_in_status(alpha, member.email, PASSWORD) == 200


def test_different_or_weak_passwords_are_refused_and_never_shown(
    browser: Client, alpha: Company, member: User
) -> None:
    link = f"{CONFIRM}?token={token_of(alpha, member)}"
    page = submit(browser, link, new_password=NEW_PASSWORD, again="something else")
    assert (page.status_code, "The two passwords do not match." in page.content.decode()) == (
        400,
        True,
    )
    assert NEW_PASSWORD not in page.content.decode()
    page = submit(browser, link, new_password="12345", again="12345")
    assert (page.status_code, "too short" in page.content.decode()) == (400, True)
    done = submit(browser, link, new_password=NEW_PASSWORD, again=NEW_PASSWORD)
    assert done.status_code == 200, "the link was used up by a password that was refused"


def refused(page: Any) -> str:
    """The text of a page that refuses a link and has no form."""
    text: str = page.content.decode()
    assert (page.status_code, DEAD in text, "<form" in text) == (400, True, False), text
    return text


def test_an_invalid_link_is_refused_before_anything_is_typed(
    browser: Client, alpha: Company, person: Callable[..., User]
) -> None:
    for path, purpose, other in (
        (CONFIRM, Purpose.RESET, Purpose.VERIFICATION),
        (VERIFY, Purpose.VERIFICATION, Purpose.RESET),
    ):
        user = person()
        token = token_of(alpha, user, purpose)
        assert browser.get(f"{path}?token={token}").status_code == 200
        assert confirm(token_of(alpha, user)).status_code == 204
        for bad in (
            path,
            f"{path}?token=x",
            f"{path}?token={token}",
            f"{path}?token={token_of(alpha, user, other)}",
            f"{path}?token=%22%3E%3Cscript%3E" + "x" * 3000,
        ):
            text = refused(browser.get(bad))
            assert "<script>xxx" not in text
            # Each page offers the link that its visitor needs.
            assert (f'href="{ASK}"' in text) is (path == CONFIRM)
            assert ("next=%2Fapi%2Fv1%2Fme%2Femail%2Fverification%2F" in text) is (path == VERIFY)


def test_a_link_that_dies_while_its_form_is_open_is_refused_the_same_way(
    browser: Client, alpha: Company, member: User
) -> None:
    token = token_of(alpha, member)
    page = browser.get(f"{CONFIRM}?token={token}")
    csrf = re.search(r'csrfmiddlewaretoken" value="(\w+)', page.content.decode())
    assert csrf is not None
    assert confirm(token).status_code == 204
    form = {"csrfmiddlewaretoken": csrf[1], "new_password": NEW_PASSWORD, "again": NEW_PASSWORD}
    for sent_token in (token, "", "x" * 2000):
        refused(browser.post(CONFIRM, {**form, "token": sent_token}))


def test_opening_links_is_limited_as_logging_in_is(browser: Client, throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ADDRESS = "1/min"
    refused(browser.get(f"{VERIFY}?token=x"))
    page = browser.get(f"{VERIFY}?token=x")
    assert (page.status_code, int(page["Retry-After"]) > 0) == (429, True)


def test_every_page_has_a_language_fits_a_phone_and_has_a_dark_mode(browser: Client) -> None:
    for path in ("/api/login/", ASK, CONFIRM, VERIFY, "/api/v1/", "/api/v1/x/", "/docs", "/redoc"):
        page = browser.get(path, headers={"accept": "text/html"})
        assert page["Content-Type"].startswith("text/html"), path
        lacking = {
            '<html lang="en">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "prefers-color-scheme: dark",
        }
        assert {each for each in lacking if each not in page.content.decode()} == set(), path


def test_a_refused_request_for_a_mail_says_why(browser: Client, suspended: Company) -> None:
    page = submit(browser, ASK, organization="No <b>Such</b>", email="a@b.example")
    assert (page.status_code, "There is no organization" in page.content.decode()) == (403, True)
    assert "<b>Such</b>" not in page.content.decode()
    page = submit(browser, ASK, organization=suspended.name, email=suspended.email)
    assert (page.status_code, "is suspended" in page.content.decode()) == (403, True)


def test_what_is_unavailable_is_answered_503_on_pages_too(browser: Client, alpha: Company) -> None:
    names = tuple(sorted(versions.code_migrations()))[:-1]
    versions.remember(code.fingerprint_of(names), names)
    rows = Organization.objects.filter(pk=alpha.organization.pk)
    before = rows.values_list("fingerprint", flat=True).get()
    rows.update(fingerprint=code.fingerprint_of(names))
    fence(alpha.organization)
    try:
        for address, typed in (
            ("/api/password-reset/", {"organization": alpha.name, "email": alpha.email}),
            (
                "/api/login/",
                {"organization": alpha.name, "email": alpha.email, "password": PASSWORD},
            ),
        ):
            answer = submit(browser, address, **typed)
            assert (answer.status_code, "Retry-After" in answer) == (503, True), address
            assert "being upgraded right now" in answer.content.decode(), address
    finally:
        rows.update(fingerprint=before)
        fence(alpha.organization)


def test_a_person_logged_in_to_another_organization_can_use_a_link(
    browser: Client, alpha: Company, beta: Company, member: User
) -> None:
    body = {"organization": beta.name, "email": beta.email, "password": PASSWORD}
    assert submit(browser, "/api/login/", **body).status_code == 302
    token = token_of(alpha, member, Purpose.VERIFICATION)
    assert submit(browser, f"{VERIFY}?token={token}").status_code == 200
    assert stored(alpha, member).email_verified_at is not None
