"""Databases that cannot be reached: a 503 for those who need them, and nobody else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connections
from psycopg import sql

from orgmgmt.embedded.postgres import APPLICATION_ROLE
from tests.conftest import Company

from .server import WebServer, assert_one_shape, serving

Superuser = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A gunicorn of these tests' own: the database's words are in its log, and no bug is."""
    log = tmp_path_factory.mktemp("gunicorn") / "availability.log"
    with serving(log) as running:
        yield running
    assert "Internal Server Error" not in running.text()


def end_sessions(superuser: Superuser, *, database: str = "%", role: str = "%") -> None:
    """End every session of the role on the database, and wait until it has ended."""
    superuser.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname LIKE %s AND usename LIKE %s AND pid <> pg_backend_pid()",
        (database, role),
    )


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
    superuser.execute(statement.format(sql.Identifier(role), sql.Literal(limit)))
    connections.close_all()  # this process's own
    end_sessions(superuser, role=role)
    try:
        yield
    finally:
        superuser.execute(statement.format(sql.Identifier(role), sql.Literal(-1)))


def bearer(server: WebServer, company: Company) -> dict[str, str]:
    token = server.log_in(company.name, email=company.email).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def test_an_unreachable_database_is_503_for_its_organization_alone(
    server: WebServer, superuser: Superuser, company: Callable[..., Company], beta: Company
) -> None:
    made = company()
    headers, others = bearer(server, made), bearer(server, beta)
    with unreachable(superuser, made):
        for response in (
            server.log_in(made.name, email=made.email),
            server.get("/api/v1/me/", headers=headers),
            server.get("/api/v1/users/", headers=headers),
            server.call("PATCH", "/api/v1/me/", json={"email": "x@test.com"}, headers=headers),
            server.post("/api/v1/auth/logout/", {}, headers=headers),
        ):
            error = assert_one_shape(response, 503)
            assert error["code"] == "database_unavailable"
            assert made.organization.database_name not in response.text
            assert made.organization.role_name not in response.text
        # What the master knows is still told, and others do not notice.
        assert server.post("/org/get", {"organization_name": made.name}).status_code == 200
        assert server.log_in(beta.name, email=beta.email).status_code == 200
        assert server.get("/api/v1/me/", headers=others).status_code == 200
        assert server.get("/health").status_code == 200
    assert server.get("/api/v1/me/", headers=headers).status_code == 200
    assert server.log_in(made.name, email=made.email).status_code == 200


def browser_session(server: WebServer, company: Company) -> dict[str, str]:
    """The cookies of a person who is logged in to the browsable API."""
    page = server.get("/api/login/")
    form = {
        "csrfmiddlewaretoken": page.text.split('name="csrfmiddlewaretoken" value="')[1][:64],
        "organization": company.name,
        "email": company.email,
        "password": company.password,
    }
    cookies = dict(page.cookies)
    response = server.call("POST", "/api/login/", data=form, cookies=cookies, allow_redirects=False)
    assert response.status_code == 302, response.text
    return cookies | dict(response.cookies)


def test_a_page_for_people_says_503_too_when_their_database_is_unreachable(
    server: WebServer, superuser: Superuser, company: Callable[..., Company]
) -> None:
    made = company()
    page = server.get("/api/login/")
    token = page.text.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    form = {
        "csrfmiddlewaretoken": token,
        "organization": made.name,
        "email": made.email,
        "password": made.password,
    }
    with unreachable(superuser, made):
        response = server.call("POST", "/api/login/", data=form, cookies=page.cookies)
    assert_one_shape(response, 503)


def test_a_logout_that_cannot_end_the_login_does_not_say_that_it_did(
    server: WebServer, superuser: Superuser, company: Callable[..., Company]
) -> None:
    made = company()
    cookies = browser_session(server, made)
    token = server.get("/api/login/", cookies=cookies)
    form = {"csrfmiddlewaretoken": token.text.split('name="csrfmiddlewaretoken" value="')[1][:64]}
    cookies |= dict(token.cookies)
    with connection_limit(superuser, APPLICATION_ROLE, 0):
        response = server.call("POST", "/api/logout/", data=form, cookies=cookies)
    assert_one_shape(response, 503)
    assert "Set-Cookie" not in response.headers, "the browser was told to forget a login that lives"
    assert server.get("/api/v1/me/", cookies=cookies).status_code == 200


def test_the_applications_role_at_its_connection_limit_is_503_and_not_500(
    server: WebServer, superuser: Superuser, alpha: Company
) -> None:
    headers = bearer(server, alpha)
    with connection_limit(superuser, APPLICATION_ROLE, 0):
        for response in (
            server.sign_up("Nobody Has Room"),
            server.post("/org/get", {"organization_name": alpha.name}),
            server.log_in(alpha.name, email=alpha.email),
            server.get("/api/v1/me/", headers=headers),
            server.get("/admin/", headers={"Cookie": "sessionid=abcdefghijklmnop"}),
        ):
            assert assert_one_shape(response, 503)["code"] == "database_unavailable"
            assert APPLICATION_ROLE not in response.json()["detail"]
        assert server.get("/health").status_code == 200
    assert server.get("/api/v1/me/", headers=headers).status_code == 200


def test_an_organizations_role_at_its_connection_limit_is_503_for_it_alone(
    server: WebServer, superuser: Superuser, company: Callable[..., Company], beta: Company
) -> None:
    made = company()
    with connection_limit(superuser, made.organization.role_name, 0):
        assert_one_shape(server.log_in(made.name, email=made.email), 503)
        assert server.log_in(beta.name, email=beta.email).status_code == 200
    assert server.log_in(made.name, email=made.email).status_code == 200


def test_a_sign_up_without_room_for_its_role_leaves_nothing_behind(
    server: WebServer, superuser: Superuser
) -> None:
    with connection_limit(superuser, APPLICATION_ROLE, 0):
        assert_one_shape(server.sign_up("No Room Yet"), 503)
    assert server.sign_up("No Room Yet").status_code == 201


@pytest.mark.parametrize("whose", ["application", "organization", "everybody"])
def test_sessions_that_end_between_two_requests_do_no_harm(
    server: WebServer, superuser: Superuser, alpha: Company, whose: str
) -> None:
    headers = bearer(server, alpha)
    roles = {
        "application": APPLICATION_ROLE,
        "organization": alpha.organization.role_name,
        "everybody": "org%",
    }
    connections.close_all()
    for _ in range(4):
        end_sessions(superuser, role=roles[whose])
        # One request or more to each of the 8 threads.
        statuses = {
            server.get("/api/v1/me/", headers=headers).status_code,
            server.log_in(alpha.name, email=alpha.email).status_code,
            server.post("/org/get", {"organization_name": alpha.name}).status_code,
        }
        assert statuses <= {200, 503}, statuses
    assert server.get("/api/v1/me/", headers=headers).status_code == 200
