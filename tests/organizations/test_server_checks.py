"""System checks of the server, its roles and limits, and mails, under real conditions."""

import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.conf import settings as configured
from django.core import checks
from django.db import connections
from psycopg import sql
from pytest_django import Settings

from organizations.checks.audit import check_trail
from organizations.checks.openness import check_database_password, check_mails
from organizations.checks.server import check_server
from tests.conftest import Company
from tests.plugin import SERVER

from .helpers import Superuser


def server_says() -> list[tuple[str | None, str]]:
    return [(message.id, message.msg) for message in check_server(databases=["default"])]


def test_without_a_database_to_ask_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "PORT", "1")
    assert list(check_server()) == []
    assert list(check_server(databases=["other"])) == []


def test_a_superuser_as_the_applications_role_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parameters = SERVER.superuser_parameters()
    for key, name in (("USER", "user"), ("PASSWORD", "password")):
        monkeypatch.setitem(connections["default"].settings_dict, key, str(parameters[name]))
    assert server_says() == [
        ("organizations.W001", "The application connects as the superuser postgres.")
    ]


@pytest.mark.parametrize(
    ("part", "check"),
    [
        ("organizations.checks.server._budget", check_server),
        ("organizations.checks.audit._trail", check_trail),
    ],
)
def test_losing_the_server_during_a_check_is_one_sentence(
    part: str, check: Callable[..., Any], superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = part.rsplit(".", 1)
    asks = getattr(sys.modules[module], name)

    def cut(connection: psycopg.Connection[Any]) -> Any:
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        return asks(connection)

    monkeypatch.setattr(part, cut)
    said = [message.msg for message in check(databases=["default"])]
    assert all(sentence.startswith("Cannot use the master database (") for sentence in said)
    assert len(said) == (check is check_server)


def test_a_well_known_password_is_warned_of_by_check_deploy_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(check_database_password()) == []
    for password in ("postgres", "Password"):
        monkeypatch.setitem(configured.DATABASES["default"], "PASSWORD", password)
        assert [message.id for message in check_database_password()] == ["organizations.W002"]
    assert check_database_password in checks.registry.registry.deployment_checks
    assert check_database_password not in checks.registry.registry.registered_checks


def test_databases_open_to_public_are_warned_of(superuser: Superuser) -> None:
    superuser.execute("GRANT CONNECT ON DATABASE template1 TO PUBLIC")
    # Its datacl is NULL, which means PostgreSQL's default: CONNECT for PUBLIC.
    superuser.execute("CREATE DATABASE never_closed")
    try:
        found = server_says()
    finally:
        superuser.execute("DROP DATABASE never_closed")
        superuser.execute("REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
    assert [(id, message.partition(",")[0]) for id, message in found] == [
        ("organizations.W003", f"Every role may connect to the database {name}")
        for name in ("never_closed", "template1")
    ]


def test_the_embedded_server_gives_no_cause_for_a_warning() -> None:
    registered: set[Callable[..., object]] = set(checks.registry.registry.registered_checks)
    assert check_server in registered
    assert not checks.run_checks(tags=[checks.Tags.database], databases=["default"])


def test_more_connections_than_the_server_allows_are_warned_of(settings: Settings) -> None:
    settings.WEB_CONCURRENCY, settings.WEB_THREADS = 5, 4
    settings.ORG_SPARE_DATABASES = 0
    ((id, message),) = server_says()
    assert id == "organizations.W004"
    assert message.startswith("5 processes of 4 threads and a worker can open 211 connections")
    settings.ORG_SPARE_DATABASES = 1
    ((_, message),) = server_says()
    assert message.startswith("5 processes of 4 threads and a worker can open 213 connections")


def test_a_role_limit_below_what_all_hosts_need_is_warned_of(
    settings: Settings,
) -> None:
    settings.WEB_HOSTS, settings.ORG_MAX_THREADS, settings.ORG_MAX_CONNECTIONS = 3, 3, 5
    settings.ORG_CONNECTION_LIMIT = 3 * 2 * 3 + 2 + 2
    found = server_says()
    assert {id for id, _ in found} == {"organizations.W004"}
    assert found[0][1] == (
        "2 processes of 4 threads on each of 3 hosts and a worker can open 23 connections to one "
        "organization's database, but ORG_CONNECTION_LIMIT is 22."
    )


def test_roles_with_another_limit_than_the_setting_are_warned_of(
    alpha: Company, superuser: Superuser
) -> None:
    role = sql.Identifier(alpha.organization.role_name)
    superuser.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT -1").format(role))
    try:
        ((id, message),) = server_says()
    finally:
        limit = sql.Literal(configured.ORG_CONNECTION_LIMIT)
        superuser.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, limit))
    assert (id, message[:31]) == ("organizations.W004", "The roles of 1 organizations ha")


def test_a_connection_limit_below_what_threads_can_open_is_warned_of(
    superuser: Superuser, settings: Settings
) -> None:
    settings.WEB_CONCURRENCY, settings.ORG_MAX_CONNECTIONS = 10, 5
    settings.ORG_SPARE_DATABASES = 0
    limited = ("ROLE orgmgmt", "DATABASE master_org_db")
    for what in limited:
        superuser.execute(f"ALTER {what} CONNECTION LIMIT 80".encode())
    try:
        found = server_says()
    finally:
        for what in limited:
            superuser.execute(f"ALTER {what} CONNECTION LIMIT -1".encode())
    opened = "10 processes of 4 threads and a worker can open 89 connections, and"
    assert found == [
        ("organizations.W004", f"{opened} the application's role may have 80."),
        ("organizations.W004", f"{opened} the master database takes 80."),
    ]


def test_mails_that_cannot_arrive_are_warned_of_by_check_deploy_alone(settings: Settings) -> None:
    django, known, sender = "django.core.mail.backends", "https://app.example.com", "a@b.example"
    for kind, public_url, by, expected in (
        ("dummy", "", "", ["W040"]),
        ("console", "", "", ["W040"]),
        ("smtp", "", sender, ["W041"]),
        ("smtp", known, "webmaster@localhost", ["W042"]),
        ("smtp", known, sender, []),
    ):
        settings.ORG_EMAIL_BACKEND = f"{django}.{kind}.EmailBackend"
        settings.PUBLIC_URL, settings.DEFAULT_FROM_EMAIL = public_url, by
        found = [message.id for message in check_mails()]
        assert found == [f"organizations.{id}" for id in expected], (kind, public_url, by)
    assert check_mails in checks.registry.registry.deployment_checks
