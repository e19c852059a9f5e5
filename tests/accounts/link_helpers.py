"""Helpers of the tests of mailed links: ask for one, read the mail, use the link."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client

from accounts import link_tokens
from accounts.link_tokens import Purpose
from accounts.models import User
from organizations import tenancy
from tests.conftest import Company
from tests.organizations.jobs.helpers import work

from .helpers import send

RESET = "/api/v1/auth/password-reset/"
CONFIRM = "/api/v1/auth/password-reset/confirm/"
VERIFY = "/api/v1/auth/email/verify/"
ASK_AGAIN = "/api/v1/me/email/verification/"
NEW_PASSWORD = "an even better passphrase"


def sent() -> list[EmailMessage]:
    """Every mail of this test, after all waiting jobs have run."""
    work(concurrency=1)
    return list(mail.outbox)


def ask(company: Company, email: str, **headers: Any) -> Any:
    """The answer to a request for a new password."""
    body = {"organization": company.name, "email": email}
    return Client().post(RESET, body, content_type="application/json", **headers)


def link_in(message: EmailMessage) -> str:
    found = re.search(r"^https?://\S+$", str(message.body), flags=re.MULTILINE)
    assert found is not None, message.body
    return found[0]


def token_in(message: EmailMessage) -> str:
    """The token of the one link in a mail."""
    (token,) = parse_qs(urlsplit(link_in(message)).query)["token"]
    return token


def token_of(company: Company, user: User, purpose: Purpose = Purpose.RESET) -> str:
    """The token of a link, without its mail."""
    with tenancy.override(company.tenant):
        return link_tokens.token_for(User.objects.get(pk=user.pk), purpose=purpose)


def confirm(token: str, password: str = NEW_PASSWORD, **headers: Any) -> Any:
    body = {"token": token, "new_password": password}
    return Client().post(CONFIRM, body, content_type="application/json", **headers)


def verify(token: str) -> Any:
    return send(Client(), "post", VERIFY, {"token": token})


def assert_dead(answer: Any) -> None:
    """A link is refused, and the answer does not say why."""
    assert answer.status_code == 400, answer.content
    assert answer.json() == {
        "detail": "This link is invalid or has expired. Request a new one.",
        "code": "invalid_link",
    }


def log_in_status(company: Company, email: str, password: str) -> int:
    body = {"organization": company.name, "email": email, "password": password}
    return send(Client(), "post", "/api/v1/auth/token/", body).status_code
