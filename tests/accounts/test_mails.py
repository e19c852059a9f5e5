"""Tests of mail texts and the links in them."""

from collections.abc import Callable

import pytest
from django.core.mail import EmailMessage
from django.test.utils import override_script_prefix
from pytest_django import Settings

from accounts.letters import Kind, compose, plain
from accounts.models import User
from tests.conftest import PASSWORD, Company

from .link_helpers import ask, link_in, sent


def mail_to(company: Company, email: str, host: str = "testserver") -> EmailMessage:
    assert ask(company, email, headers={"host": host}).status_code == 202
    return sent()[-1]


def test_a_mail_is_plain_text_from_us_and_says_when_its_link_expires(
    alpha: Company, member: User, settings: Settings
) -> None:
    settings.DEFAULT_FROM_EMAIL = "Platform <noreply@platform.example>"
    message = mail_to(alpha, member.email)
    assert message.from_email == "Platform <noreply@platform.example>"
    text = message.message()
    assert text.get_content_type() == "text/plain"
    assert text["Auto-Submitted"] == "auto-generated"
    assert f"account at {alpha.name}." in str(message.body)
    assert "It works once and expires in 60 minutes:" in str(message.body)
    whole = text.as_string()
    assert PASSWORD not in whole and member.password not in whole


def test_a_link_has_no_path_prefix_from_the_request(alpha: Company, member: User) -> None:
    with override_script_prefix("/evil/"):
        mail_to(alpha, member.email)
    assert "http://testserver/api/password-reset/confirm/?token=" in str(sent()[-1].body)


def test_a_link_leads_to_the_public_url_whatever_the_host(
    alpha: Company, member: User, settings: Settings
) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.PUBLIC_URL = "https://app.example.com/console"
    link = link_in(mail_to(alpha, member.email, host="evil.example"))
    assert link.startswith("https://app.example.com/console/api/password-reset/confirm/?token=")
    settings.PUBLIC_URL = "https://{organization}.example.com"
    link = link_in(mail_to(alpha, member.email))
    assert link.startswith(f"https://{alpha.tenant.slug}.example.com/api/")


def test_without_a_public_url_it_leads_to_the_requests_host(
    alpha: Company, member: User, settings: Settings
) -> None:
    settings.ALLOWED_HOSTS = ["api.example.com"]
    link = link_in(mail_to(alpha, member.email, host="api.example.com"))
    assert link.startswith("http://api.example.com/api/")
    answer = ask(alpha, member.email, headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert len(sent()) == 1


@pytest.mark.pure
def test_a_name_that_a_mail_program_would_turn_into_a_link_is_not_shown() -> None:
    names = (
        "Win at http://evil.example",
        "evil.example",
        "evil\u3002example",
        "evil．example/x",
        "mailto:x",
        "x@evil",
        "a\u202eb",
        "x" * 81,
    )
    assert {plain(name, "the-slug") for name in names} == {"the-slug"}
    harmless = ["Acme Corp", "Müller & Söhne", "株式会社", "Dr. No Inc.", "A, B"]
    assert [plain(name, "the-slug") for name in harmless] == harmless


@pytest.mark.pure
def test_a_name_of_two_lines_adds_no_header() -> None:
    name = plain("Acme\r\nBcc: x", "acme")
    message = compose(Kind.RESET, organization=name, address="a@test.com", link="https://x.example")
    assert name == "acme"
    assert plain("Acme\r\nBcc x\u2028y", "acme") == "Acme Bcc x y"
    assert message.message()["Bcc"] is None


def test_an_organization_with_such_a_name_sends_mails(company: Callable[..., Company]) -> None:
    made = company('Evil.example <a href="x"> & Co')
    message = mail_to(made, made.email)
    assert message.subject == f"Set a new password for {made.tenant.slug}"
    assert sent() == [message], "the service has sent a mail when it made the organization"


@pytest.mark.pure
def test_long_lifetimes_are_in_hours() -> None:
    message = compose(Kind.VERIFICATION, organization="x", address="a@test.com", link="https://x")
    assert "expires in 72 hours:" in str(message.body)
