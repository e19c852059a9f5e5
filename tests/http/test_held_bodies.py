"""A request whose body is held back is judged by what holds when the body has come."""

import json
import socket
from collections.abc import Callable

import pytest

from accounts import services as accounts
from accounts.models import User
from organizations import lifecycle, tenancy
from tests.accounts.helpers import log_in
from tests.conftest import PASSWORD, Company

from .server import WebServer


def end_the_login(company: Company, user: User) -> None:
    with tenancy.override(company.tenant):
        accounts.end_all_sessions(user)


def deactivate(company: Company, user: User) -> None:
    with tenancy.override(company.tenant):
        accounts.update_user(user, is_active=False)


def demote(company: Company, user: User) -> None:
    with tenancy.override(company.tenant):
        accounts.update_user(user, is_admin=False)


def suspend(company: Company, user: User) -> None:
    lifecycle.suspend_organization(company.organization)


@pytest.mark.parametrize(
    ("end", "status"), [(end_the_login, 401), (deactivate, 401), (demote, 403), (suspend, 403)]
)
def test_a_right_that_ends_while_the_body_is_held_back_is_gone(
    end: Callable[[Company, User], None],
    status: int,
    company: Callable[..., Company],
    server: WebServer,
) -> None:
    made = company()
    with tenancy.override(made.tenant):
        leaving = accounts.create_user(email="l@test.com", password=PASSWORD, is_admin=True)
    access, _ = log_in(made, leaving)
    new = {"email": "accomplice@test.com", "password": PASSWORD, "is_admin": True}
    body = json.dumps(new).encode()
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
    assert int(answer.split()[1]) == status
    with tenancy.override(made.tenant):
        assert not User.objects.filter(email=new["email"]).exists()
