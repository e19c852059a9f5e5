"""Unreachable databases: 503 only for those who need them, and a readable log."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connections
from psycopg import sql
from pytest_django import DjangoDbBlocker

from organizations import lifecycle
from orgmgmt.embedded.postgres import APPLICATION_ROLE
from orgmgmt.logging import LineFormatter
from tests.conftest import PASSWORD, Company
from tests.organizations.helpers import wait_for

from .server import WebServer, assert_one_shape

Superuser = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def made(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Company]:
    """An organization whose database and role the tests make unreachable."""
    with django_db_blocker.unblock():
        name, email = "Unreachable Works", "admin@test.com"
        organization = lifecycle.create_organization(name=name, email=email, password=PASSWORD)
    yield Company(organization.organization, email)
    with django_db_blocker.unblock():
        lifecycle.delete_organization(organization.organization)


def end_sessions(superuser: Superuser, *, database: str = "%", role: str = "%") -> None:
    """End every session of the role on the database, and wait until it has ended."""
    ended = superuser.execute(
        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname LIKE %s AND usename LIKE %s AND pid <> pg_backend_pid()",
        (database, role),
    ).fetchall()
    # With a timeout the function itself looks every tenth of a second, for one after the other.
    remaining = "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY(%s))"
    wait_for(superuser, remaining, [pid for pid, _ in ended])


@contextmanager
def unreachable(superuser: Superuser, company: Company) -> Iterator[None]:
    """The organization's database takes no connection inside the block."""
    name = sql.Identifier(company.organization.database_name)
    superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    end_sessions(superuser, database=company.organization.database_name)
    try:
        yield
    finally:
        superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


@contextmanager
def connection_limit(superuser: Superuser, role: str, limit: int) -> Iterator[None]:
    """The role may have `limit` sessions inside the block; those it had are ended."""
    statement = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
    query = "SELECT rolconnlimit FROM pg_roles WHERE rolname = %s"
    [before] = superuser.execute(query, (role,)).fetchone() or [-1]
    superuser.execute(statement.format(sql.Identifier(role), sql.Literal(limit)))
    connections.close_all()  # this process's own
    end_sessions(superuser, role=role)
    try:
        yield
    finally:
        superuser.execute(statement.format(sql.Identifier(role), sql.Literal(before)))


def bearer(server: WebServer, company: Company) -> dict[str, str]:
    token = server.log_in(company.name, email=company.email).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def test_an_unreachable_database_is_a_503_for_its_organization_alone(
    hurried: WebServer, superuser: Superuser, made: Company, beta: Company
) -> None:
    headers, others = bearer(hurried, made), bearer(hurried, beta)
    form, cookies = login_form(hurried, made)
    with unreachable(superuser, made):
        for response in (
            hurried.log_in(made.name, email=made.email),
            hurried.get("/api/v1/me/", headers=headers),
            hurried.get("/api/v1/users/", headers=headers),
            hurried.call("PATCH", "/api/v1/me/", json={"email": "x@test.com"}, headers=headers),
            hurried.post("/api/v1/auth/logout/", {}, headers=headers),
            hurried.call("POST", "/api/login/", data=form, cookies=cookies),
        ):
            error = assert_one_shape(response, 503)
            assert error["code"] == "database_unavailable"
            assert made.organization.database_name not in response.text
            assert made.organization.role_name not in response.text
        # The master still answers, and others do not notice.
        assert hurried.post("/org/get", {"organization_name": made.name}).status_code == 200
        assert hurried.log_in(beta.name, email=beta.email).status_code == 200
        assert hurried.get("/api/v1/me/", headers=others).status_code == 200
        assert hurried.get("/health").status_code == 200
    assert hurried.get("/api/v1/me/", headers=headers).status_code == 200
    with connection_limit(superuser, made.organization.role_name, 0):
        assert_one_shape(hurried.log_in(made.name, email=made.email), 503)
        assert hurried.log_in(beta.name, email=beta.email).status_code == 200
    assert hurried.log_in(made.name, email=made.email).status_code == 200


def login_form(server: WebServer, company: Company) -> tuple[dict[str, str], dict[str, str]]:
    """The filled-in form of the login page, and its cookies."""
    page = server.get("/api/login/")
    form = {
        "csrfmiddlewaretoken": page.text.split('name="csrfmiddlewaretoken" value="')[1][:64],
        "organization": company.name,
        "email": company.email,
        "password": company.password,
    }
    return form, dict(page.cookies)


def test_a_logout_that_cannot_end_the_login_does_not_say_that_it_did(
    hurried: WebServer, superuser: Superuser, made: Company
) -> None:
    form, cookies = login_form(hurried, made)
    response = hurried.call("POST", "/api/login/", data=form, cookies=cookies)
    assert response.status_code == 302, response.text
    cookies |= dict(response.cookies)
    page = hurried.get("/api/login/", cookies=cookies)
    form = {"csrfmiddlewaretoken": page.text.split('name="csrfmiddlewaretoken" value="')[1][:64]}
    cookies |= dict(page.cookies)
    with connection_limit(superuser, APPLICATION_ROLE, 0):
        response = hurried.call("POST", "/api/logout/", data=form, cookies=cookies)
    assert_one_shape(response, 503)
    assert "Set-Cookie" not in response.headers, "the browser was told to forget a login that lives"
    assert hurried.get("/api/v1/me/", cookies=cookies).status_code == 200


def test_the_application_at_its_connection_limit_is_a_503(
    hurried: WebServer, superuser: Superuser, alpha: Company
) -> None:
    headers = bearer(hurried, alpha)
    with connection_limit(superuser, APPLICATION_ROLE, 0):
        for response in (
            hurried.sign_up("No Room Yet"),
            hurried.post("/org/get", {"organization_name": alpha.name}),
            hurried.log_in(alpha.name, email=alpha.email),
            hurried.get("/admin/", headers={"Cookie": "sessionid=abcdefghijklmnop"}),
        ):
            assert assert_one_shape(response, 503)["code"] == "database_unavailable"
            assert APPLICATION_ROLE not in response.json()["detail"]
        # Its connection is open, and asks the master nothing.
        assert hurried.get("/api/v1/me/", headers=headers).status_code == 200
        assert hurried.get("/health").status_code == 200
    assert hurried.get("/api/v1/me/", headers=headers).status_code == 200
    assert hurried.sign_up("No Room Yet").status_code == 201


def test_sessions_that_end_between_two_requests_do_no_harm(
    hurried: WebServer, superuser: Superuser, alpha: Company
) -> None:
    headers = bearer(hurried, alpha)
    connections.close_all()
    for role in (APPLICATION_ROLE, alpha.organization.role_name, "org%") * 2:
        end_sessions(superuser, role=role)
        statuses = {
            hurried.get("/api/v1/me/", headers=headers).status_code,
            hurried.log_in(alpha.name, email=alpha.email).status_code,
            hurried.post("/org/get", {"organization_name": alpha.name}).status_code,
        }
        assert statuses <= {200, 503}, (role, statuses)
    assert hurried.get("/api/v1/me/", headers=headers).status_code == 200


# --- The log of an outage -----------------------------------------------------------------------
LOGIN = {"email": "admin@alpha.example", "password": PASSWORD}
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"
# "2026-01-01 00:00:00,000 ERROR logger [org_1 request-id] message"
LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (\w+) (\S+) \[(\S+) (\S+)\] (.*)")
RESET = "/api/v1/auth/password-reset/"
STAFF = {"Cookie": "sessionid=abcdefghijklmnop"}
MEMBERS = ("member", "write", "page")


def test_an_outage_logs_a_line_for_each_failure_and_few_tracebacks(
    hurried: WebServer, superuser: Superuser, alpha: Company
) -> None:
    member = bearer(hurried, alpha)
    requests: dict[str, tuple[str, str, dict[str, str] | None, dict[str, str]]] = {
        "member": ("GET", "/api/v1/users/", None, member),
        "write": ("PATCH", "/api/v1/me/", LOGIN, member),
        "page": ("GET", "/api/v1/users/", None, {**member, "Accept": BROWSER}),
        "lookup": ("POST", "/org/get", {"organization_name": alpha.name}, {}),
        "login": ("POST", f"/admin/login?organization_name={alpha.name}", LOGIN, {}),
        "sign-up": ("POST", "/org/create", {**LOGIN, "organization_name": "New"}, {}),
        "staff": ("GET", "/admin/", None, STAFF),
        "reset": ("POST", RESET, {"organization": alpha.name, "email": alpha.email}, {}),
    }

    def send(request_id: str) -> int:
        method, path, body, headers = requests[request_id.rpartition("-")[0]]
        headers = {"X-Request-ID": request_id, **headers}
        return hurried.call(method, path, json=body, headers=headers).status_code

    sent = [f"{kind}-{number}" for number in range(8) for kind in requests]
    before = len(hurried.text().splitlines())
    with (
        connection_limit(superuser, alpha.organization.role_name, 0),
        connection_limit(superuser, APPLICATION_ROLE, 0),
        ThreadPoolExecutor(4) as pool,
    ):
        answers = list(pool.map(send, sent))
    lines = hurried.text().splitlines()[before:]
    assert answers == [503] * len(sent), "\n".join(lines)[-5_000:]
    found = [match for line in lines if (match := LINE.fullmatch(line)) and match[4] in sent]
    failed = Counter(match[4] for match in found if match[1] == "ERROR")
    assert failed == Counter(sent), "not one line for each"
    for match in found:
        if match[1] != "ERROR":
            continue
        kind = match[4].rpartition("-")[0]
        assert (match[3] == alpha.tenant.alias) == (kind in MEMBERS), match[0]
        assert "path='/" in match[5] and "status=503" in match[5], match[0]
    # A connection that breaks, and one that is refused: in the master and in the organization.
    assert sum(line.startswith("Traceback") for line in lines) <= 12, "\n".join(lines)
    assert len(lines) < 10 * len(sent), len(lines)


def test_an_error_that_is_its_own_cause_is_logged_like_any_other() -> None:
    error = ValueError("a circle")
    error.__cause__ = error
    record = logging.makeLogRecord({"exc_info": (ValueError, error, None)})
    assert "a circle" in LineFormatter().format(record)
