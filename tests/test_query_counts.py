"""Query counts of each endpoint, on the master and on the organization's database.

If a response needs another query, change the table below and say why.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.signals import request_finished, request_started
from django.db import connections
from django.db.backends.signals import connection_created
from django.test import Client
from pytest_django import Settings

from organizations import lifecycle
from organizations.isolation import Side
from organizations.isolation.calls import all_calls, send
from organizations.tenancy.tenant import ALIAS_PREFIX
from tests.conftest import PASSWORD

pytest_plugins = ["tests.isolation.fixtures"]

CALLS = all_calls()
# (master, organization), with the limits off, which count in the master. BEGIN and COMMIT do not
# count. A token's request finds its organization without the master, over a kept connection; a
# login asks it once. Each recorded act takes one statement for the key of the trail's hashes and
# one for the entry. A mail is one row there, and one more for
# an address that is its user's no longer.
COUNTS: dict[str, tuple[int, int]] = {
    "ANY /admin": (0, 0),
    "ANY /api/logout/": (0, 0),
    "DELETE /api/v1/users/<pk>/": (2, 5),
    "GET /": (0, 0),
    "GET /.well-known/security.txt": (0, 0),
    "GET /admin/login": (0, 0),
    "GET /api/email/verify/": (0, 0),
    "GET /api/login/": (0, 0),
    "GET /api/password-reset/": (0, 0),
    "GET /api/password-reset/confirm/": (0, 0),
    "GET /api/v1/": (0, 1),
    "GET /api/v1/audit/": (1, 1),
    "GET /api/v1/export/": (1, 1),
    "GET /api/v1/export/<str:token>/": (0, 1),
    "GET /api/v1/me/": (0, 1),
    "GET /api/v1/organization/": (1, 1),
    "GET /api/v1/organizations/": (0, 1),
    "GET /api/v1/organizations/<id_or_slug>/": (0, 1),
    "GET /api/thaw/": (0, 0),
    "POST /api/thaw/": (0, 0),
    "POST /api/v1/org/thaw/": (0, 0),
    "GET /api/v1/org/thaw/<str:token>/": (0, 0),
    "POST /api/v1/org/thaw-link/": (3, 0),
    "GET /api/v1/organizations/<id_or_slug>/archive/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/archive/": (0, 1),
    "GET /api/v1/organizations/<id_or_slug>/thaw/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/thaw/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/delete/": (0, 1),
    "GET /api/v1/organizations/<id_or_slug>/clone/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/clone/": (0, 1),
    "GET /api/v1/organizations/<id_or_slug>/backups/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/backup/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/export/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/rename/": (0, 1),
    "GET /api/v1/organizations/<id_or_slug>/restore/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/restore/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/resume/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/suspend/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/undelete/": (0, 1),
    "POST /api/v1/organizations/<id_or_slug>/verify/": (0, 1),
    "GET /api/v1/users/": (0, 3),
    "GET /api/v1/users/<pk>/": (0, 2),
    "GET /docs": (0, 0),
    "GET /health": (0, 0),
    "GET /openapi.json": (0, 0),
    "GET /ready": (2, 0),
    "GET /redoc": (0, 0),
    "PATCH /api/v1/me/": (5, 3),
    "PATCH /api/v1/users/<pk>/": (2, 8),
    "POST /admin/login": (3, 2),
    "POST /api/email/verify/": (2, 2),
    "POST /api/login/": (3, 2),
    "POST /api/password-reset/": (4, 1),
    "POST /api/password-reset/confirm/": (4, 6),
    "POST /api/v1/auth/email/verify/": (2, 2),
    "POST /api/v1/auth/logout/": (3, 2),
    "POST /api/v1/auth/password-reset/": (4, 1),
    "POST /api/v1/auth/password-reset/confirm/": (4, 6),
    "POST /api/v1/auth/token/": (3, 2),
    "POST /api/v1/auth/token/refresh/": (1, 2),
    "POST /api/v1/export/": (3, 1),
    "POST /api/v1/me/email/verification/": (1, 1),
    "POST /api/v1/me/password/": (6, 7),
    "POST /api/v1/organizations/": (0, 1),
    "POST /api/v1/users/": (3, 2),
    "GET /org/create/status/<str:token>": (1, 0),
    "POST /org/create": (1, 0),
    "POST /org/get": (1, 0),
    "PUT /api/v1/users/<pk>/": (7, 7),
}


@contextmanager
def counted() -> Iterator[dict[str, list[str]]]:
    """The statements of the requests in the block, by `master` and `organization`."""
    found: dict[str, list[str]] = {"master": [], "organization": []}
    under_way: list[bool] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        alias = context["connection"].alias
        if under_way:
            found["organization" if alias.startswith(ALIAS_PREFIX) else "master"].append(sql)
        return execute(sql, params, many, context)

    def begin(sender: Any, **kwargs: Any) -> None:
        under_way.append(True)

    def end(sender: Any, **kwargs: Any) -> None:
        under_way.clear()

    def watch(sender: Any, connection: Any, **kwargs: Any) -> None:
        if connection.alias.startswith(ALIAS_PREFIX):
            connection.execute_wrappers.append(count)

    connection_created.connect(watch, weak=False)
    request_started.connect(begin, weak=False)
    request_finished.connect(end, weak=False)
    try:
        with connections["default"].execute_wrapper(count):
            yield found
    finally:
        connection_created.disconnect(watch)
        request_started.disconnect(begin)
        request_finished.disconnect(end)


def client_for(call: str, side: Side) -> Client:
    return side.by_token() if CALLS[call].audience in ("member", "staff") else Client()


def test_no_endpoint_sends_a_statement_that_it_does_not_need(
    ours: Side, theirs: Side, _password_hash: str
) -> None:
    # Each process asks where an organization is, and once for each new connection.
    assert ours.by_token().get("/api/v1/me/").status_code == 200
    counts, statements = {}, {}
    for key, call in CALLS.items():
        client = client_for(key, ours)
        with counted() as found:
            response = send(client, key, ours, theirs)
        assert response.status_code == call.status, (key, response.content)
        counts[key] = (len(found["master"]), len(found["organization"]))
        if counts[key] != COUNTS.get(key):
            statements[key] = found
        if not key.startswith("GET "):
            ours.plant(_password_hash)
    assert counts == COUNTS, statements


def test_a_request_with_a_token_asks_the_master_nothing(ours: Side) -> None:
    client = ours.by_token()
    with counted() as found:
        assert client.get("/api/v1/me/").status_code == 200
    assert found["master"] == []
    assert len(found["organization"]) == 1


def test_a_sign_up_asks_as_little_as_it_can(client: Client, settings: Settings) -> None:
    """By the template; beside what is done in a direct session, which makes role and database.
    One asks whether the name is reserved by a sign-up that waits for a worker, one whether another
    organization had it until lately, one writes the identity of the role, one asks for the mail."""
    counts = []
    settings.ORG_SPARE_DATABASES = 0  # Another test may have left one.
    for _ in range(2):  # The first may build the template.
        name = f"Counted {secrets.token_hex(4)}"
        body = {"organization_name": name, "email": "a@counted.example", "password": PASSWORD}
        with counted() as found:
            response = client.post("/org/create", body, content_type="application/json")
        assert response.status_code == 201
        lifecycle.delete_organization(lifecycle.find_organization(name))
        counts.append((len(found["master"]), len(found["organization"])))
    assert counts[-1] == (14, 4), found
