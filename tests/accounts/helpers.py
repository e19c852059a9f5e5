"""Helpers of the accounts tests."""

import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from django.db import connections
from django.http import HttpResponse
from django.test import Client

from accounts import sessions, tokens
from accounts.models import LoginSession, User
from organizations import tenancy
from tests.conftest import Company

T = TypeVar("T")


def unique_email(name: str = "carol") -> str:
    """An address that no other test uses."""
    return f"{name}-{secrets.token_hex(4)}@test.com"


def log_in(company: Company, user: User) -> tuple[str, str]:
    """An access and a refresh token of the user's, without the cost of a password."""
    with tenancy.override(company.tenant):
        session = sessions.start(user, kind=LoginSession.Kind.TOKEN)
    return tokens.issue(session, company.tenant)


def bearer(access: str) -> Client:
    """A client that sends the token with every request, and JSON by default."""
    client = Client()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {access}"
    return client


def client_of(company: Company, user: User) -> Client:
    """A client in which the user is logged in by token."""
    return bearer(log_in(company, user)[0])


def send(client: Client, method: str, path: str, body: object = None) -> HttpResponse:
    """A request with a JSON body."""
    response: HttpResponse = getattr(client, method)(path, body, content_type="application/json")
    return response


def at_once(*works: Callable[[], T]) -> list[T]:
    """Run all at the same moment, each in its own thread; their results."""
    together = Barrier(len(works))

    def run(work: Callable[[], T]) -> T:
        try:
            together.wait(timeout=30)
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def json_of(response: Any, status: int = 200) -> Any:
    """The body of an answer that has this status."""
    assert response.status_code == status, response.content
    return response.json()


def stored(company: Company, user: User) -> User:
    """The user as now stored in the organization's database."""
    with tenancy.override(company.tenant):
        return User.objects.get(pk=user.pk)


def refresh(token: str) -> Any:
    """The answer to a refresh token."""
    return send(Client(), "post", "/api/v1/auth/token/refresh/", {"refresh": token})


def assert_refused(access: str) -> None:
    """An access token is refused, and the answer does not say why."""
    assert refusal(bearer(access).get("/api/v1/me/")) == REFUSAL


REFUSAL = (401, "invalid_token", 'Bearer realm="api"')


def refusal(response: Any) -> tuple[int, str | None, str | None]:
    """Status, code and challenge of the answer to an invalid token."""
    code = response.json().get("code")
    return response.status_code, code, response.headers.get("WWW-Authenticate")


def headers_of(response: Any) -> dict[str, str]:
    """The answer's headers without the request id and the policy's nonce."""
    found = {name: value for name, value in response.headers.items() if name != "X-Request-ID"}
    policy = found.get("Content-Security-Policy", "")
    return found | {"Content-Security-Policy": re.sub(r"'nonce-[^']+'", "'nonce'", policy)}
