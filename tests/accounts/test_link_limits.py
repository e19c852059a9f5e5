"""Rate limits on asking for a mailed link and on using one."""

from typing import Any

from django.core.cache import caches
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from organizations.models import AuditEntry
from tests.conftest import Company

from .helpers import client_of, send, unique_email

RESET = "/api/v1/auth/password-reset/"


def ask(organization: str, email: str) -> Any:
    return send(Client(), "post", RESET, {"organization": organization, "email": email})


def test_mails_to_an_address_are_limited_with_or_without_an_account(
    alpha: Company, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_ACCOUNT = "2/hour"
    for email in (alpha.email, unique_email("nobody")):
        spelled = [(alpha.name, email), (alpha.name.upper(), email), (alpha.name, email.upper())]
        answers = [ask(*each) for each in spelled]
        assert [answer.status_code for answer in answers] == [202, 202, 429], email
        assert 0 < int(answers[-1]["Retry-After"]) <= 3_600
    assert ask(alpha.name, unique_email("another")).status_code == 202


def test_mails_that_one_client_asks_for_are_limited(
    alpha: Company, beta: Company, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_ADDRESS = "2/hour"
    statuses = [ask(company.name, unique_email()).status_code for company in (alpha, beta, alpha)]
    assert statuses == [202, 202, 429]


def test_mails_to_one_organizations_users_are_limited(
    alpha: Company, beta: Company, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_ORGANIZATION = "1/hour"
    statuses = [ask(company.name, unique_email()).status_code for company in (alpha, alpha, beta)]
    assert statuses == [202, 429, 202]


def test_a_mail_to_oneself_counts_with_the_others(
    alpha: Company, member: User, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_ACCOUNT = "1/hour"
    assert ask(alpha.name, member.email).status_code == 202
    again = send(client_of(alpha, member), "post", "/api/v1/me/email/verification/")
    assert again.status_code == 429


def test_using_links_is_limited_as_logging_in_is(throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ADDRESS = "2/min"
    before = AuditEntry.objects.filter(act="link.refused").count()
    for path, body in (
        (f"{RESET}confirm/", {"token": "forged", "new_password": "another good passphrase"}),
        ("/api/v1/auth/email/verify/", {"token": "forged"}),
    ):
        caches["throttles"].clear()
        statuses = [send(Client(), "post", path, body).status_code for _ in range(4)]
        assert statuses == [400, 400, 429, 429], path
    assert AuditEntry.objects.filter(act="link.refused").count() == before + 4


def test_the_page_says_when_to_try_again(alpha: Company, throttles: Settings) -> None:
    throttles.THROTTLE_MAIL_ACCOUNT = "1/hour"
    form = {"organization": alpha.name, "email": alpha.email}
    client = Client()
    assert client.post("/api/password-reset/", form).status_code == 200
    page = client.post("/api/password-reset/", form)
    assert page.status_code == 429
    assert int(page["Retry-After"]) > 0
    assert b"Too many requests. Try again in" in page.content
