"""A request with a delayed body is judged by the rights at the time its body arrives."""

import json
import socket
from collections.abc import Callable

from accounts import services, sessions
from accounts.models import User
from organizations import lifecycle, tenancy
from tests.accounts.helpers import log_in
from tests.conftest import PASSWORD, Company

from .server import WebServer


def end_the_login(company: Company, user: User) -> None:
    with tenancy.override(company.tenant):
        sessions.end_all(user)


def deactivate(company: Company, user: User) -> None:
    with tenancy.override(company.tenant):
        services.update_user(user, is_active=False)


def demote(company: Company, user: User) -> None:
    with tenancy.override(company.tenant):
        services.update_user(user, is_admin=False)


def suspend(company: Company, user: User) -> None:
    lifecycle.suspend_organization(company.organization)


def test_a_right_that_ends_while_the_body_is_held_back_is_gone(
    company: Callable[..., Company], server: WebServer
) -> None:
    made = company()
    new = {"email": "accomplice@test.com", "password": PASSWORD, "is_admin": True}
    body = json.dumps(new).encode()
    for end, status in ((end_the_login, 401), (deactivate, 401), (demote, 403), (suspend, 403)):
        with tenancy.override(made.tenant):
            email = f"{end.__name__}@test.com"
            leaving = services.create_user(email=email, password=PASSWORD, is_admin=True)
        access, _ = log_in(made, leaving)
        head = (
            "POST /api/v1/users/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {access}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head + body[:1])
            # Another request comes through: the one above has been read as far as it goes.
            assert server.get("/api/v1/me/", headers={"Authorization": f"Bearer {access}"}).ok
            end(made, leaving)
            connection.sendall(body[1:])
            answer = connection.makefile("rb").readline()
        assert int(answer.split()[1]) == status, end.__name__
        with tenancy.override(made.tenant):
            assert not User.objects.filter(email=new["email"]).exists(), end.__name__
