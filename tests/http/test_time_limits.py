"""Locks and slow statements: a 503 in time, and nothing half done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from organizations import tenancy
from organizations.provisioning.migrations import unhurried
from orgmgmt.embedded.postgres import APPLICATION_ROLE
from tests.conftest import Company, leftovers
from tests.plugin import SERVER

from .server import WebServer, assert_one_shape

Superuser = psycopg.Connection[tuple[object, ...]]


@contextmanager
def locked(database: str, table: str) -> Iterator[None]:
    """Another session locks the table during the block."""
    parameters: dict[str, Any] = {**SERVER.superuser_parameters(), "dbname": database}
    with psycopg.connect(**parameters) as other:
        statement = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE")
        other.execute(statement.format(sql.Identifier(table)))
        yield


@contextmanager
def slow_updates(database: str, table: str) -> Iterator[None]:
    """An UPDATE of the table takes a minute inside the block."""
    parameters: dict[str, Any] = {**SERVER.superuser_parameters(), "dbname": database}
    with psycopg.connect(**parameters, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN PERFORM pg_sleep(60); RETURN NEW; END$$"
        )
        trigger = "CREATE TRIGGER slow BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION slow()"
        owner.execute(sql.SQL(trigger).format(sql.Identifier(table)))
        try:
            yield
        finally:
            owner.execute("DROP FUNCTION slow CASCADE")


def token(server: WebServer, company: Company) -> dict[str, str]:
    answer = server.log_in(company.name, email=company.email).json()
    return {"Authorization": f"Bearer {answer['access_token']}"}


def test_a_request_does_not_wait_long_for_a_lock_in_the_master(
    hurried: WebServer, alpha: Company
) -> None:
    with locked(str(SERVER.connection_parameters()["dbname"]), "organizations"):
        error = assert_one_shape(
            hurried.post("/org/get", {"organization_name": alpha.name}, timeout=30), 503
        )
    assert error["code"] == "took_too_long"
    assert hurried.post("/org/get", {"organization_name": alpha.name}).status_code == 200


def test_a_request_does_not_wait_long_for_a_lock_in_an_organization(
    hurried: WebServer, alpha: Company, beta: Company
) -> None:
    headers, others = token(hurried, alpha), token(hurried, beta)
    with locked(alpha.organization.database_name, "users"):
        error = assert_one_shape(hurried.get("/api/v1/me/", headers=headers, timeout=30), 503)
        assert hurried.get("/api/v1/me/", headers=others).status_code == 200
    assert error["code"] == "took_too_long"
    assert hurried.get("/api/v1/me/", headers=headers).status_code == 200


def test_a_statement_that_takes_too_long_is_given_up_and_changes_nothing(
    hurried: WebServer, alpha: Company
) -> None:
    headers = token(hurried, alpha)
    with slow_updates(alpha.organization.database_name, "users"):
        answer = hurried.call(
            *("PATCH", "/api/v1/me/"),
            json={"email": "changed@alpha.example", "current_password": alpha.password},
            headers=headers,
            timeout=30,
        )
        assert assert_one_shape(answer, 503)["code"] == "took_too_long"
    assert hurried.get("/api/v1/me/", headers=headers).json()["email"] == alpha.email


def test_a_sign_up_does_not_wait_long_for_a_lock_and_leaves_nothing(
    hurried: WebServer, superuser: Superuser
) -> None:
    """Another session locks the catalog that CREATE DATABASE writes."""
    parameters: dict[str, Any] = {**SERVER.superuser_parameters()}
    with psycopg.connect(**parameters) as other:
        other.execute("LOCK TABLE pg_database IN SHARE MODE")
        assert_one_shape(hurried.sign_up("Impatient Company"), 503)
    assert leftovers(superuser) == (set(), set())
    assert hurried.sign_up("Impatient Company").status_code == 201


def test_a_migration_may_take_long_but_does_not_wait_long_for_a_lock(alpha: Company) -> None:
    def limits() -> list[str]:
        with connections[alpha.tenant.alias].cursor() as cursor:
            found = []
            for name in ("statement_timeout", "lock_timeout"):
                cursor.execute(f"SHOW {name}")
                found.append(cursor.fetchone()[0])
            return found

    with tenancy.override(alpha.tenant):
        with unhurried(alpha.tenant.alias):
            assert limits() == ["0", "5s"]
        assert limits() == ["8s", "5s"]


def test_roles_have_limits_of_their_own_in_case_a_pooler_drops_ours(
    alpha: Company, superuser: Superuser
) -> None:
    row = superuser.execute(
        "SELECT setconfig FROM pg_db_role_setting JOIN pg_roles ON pg_roles.oid = setrole "
        "WHERE rolname = %s AND setdatabase = 0",
        (alpha.organization.role_name,),
    ).fetchone()
    assert row == (["statement_timeout=8s", "lock_timeout=5s"],)


def test_the_applications_own_role_has_no_limits_of_its_own(superuser: Superuser) -> None:
    row = superuser.execute(
        "SELECT rolconfig FROM pg_roles WHERE rolname = %s", (APPLICATION_ROLE,)
    ).fetchone()
    assert row == (None,), "provisioning and migrations would meet them"
