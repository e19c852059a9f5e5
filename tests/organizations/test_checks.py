"""The system checks of what the walls rest on outside the code, under conditions made for real."""

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
from organizations.checks.settings import check_aliases, check_shares
from tests.conftest import Company
from tests.plugin import SERVER

from .helpers import Superuser


def server_says() -> list[tuple[str | None, str]]:
    return [(message.id, message.msg) for message in check_server(databases=["default"])]


def test_the_embedded_server_gives_no_cause_for_a_warning() -> None:
    assert server_says() == []


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
def test_a_server_that_goes_away_in_the_middle_of_a_check_is_a_sentence(
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


@pytest.mark.parametrize("password", ["postgres", "Password", "changeme"])
def test_a_well_known_password_is_warned_of(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setitem(configured.DATABASES["default"], "PASSWORD", password)
    assert [message.id for message in check_database_password()] == ["organizations.W002"]


def test_a_random_password_is_not_warned_of() -> None:
    assert list(check_database_password()) == []


def test_the_password_is_looked_at_by_check_deploy_alone() -> None:
    assert check_database_password in checks.registry.registry.deployment_checks
    assert check_database_password not in checks.registry.registry.registered_checks


def test_a_database_that_was_opened_to_public_again_is_warned_of(superuser: Superuser) -> None:
    superuser.execute("GRANT CONNECT ON DATABASE template1 TO PUBLIC")
    try:
        ((id, message),) = server_says()
    finally:
        superuser.execute("REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
    assert id == "organizations.W003"
    assert "Every role may connect to the database template1" in message


def test_a_database_that_was_never_closed_is_warned_of(superuser: Superuser) -> None:
    """Its datacl is NULL, which means PostgreSQL's default: CONNECT for PUBLIC."""
    superuser.execute("CREATE DATABASE left_open")
    try:
        ((id, message),) = server_says()
    finally:
        superuser.execute("DROP DATABASE left_open")
    assert (id, "left_open" in message) == ("organizations.W003", True)


def test_the_checks_are_registered_to_run_with_a_database() -> None:
    assert not checks.run_checks(tags=[checks.Tags.database], databases=["default"])
    registered: set[Callable[..., object]] = set(checks.registry.registry.registered_checks)
    assert check_server in registered


def test_more_connections_than_the_server_allows_are_warned_of(settings: Settings) -> None:
    settings.WEB_CONCURRENCY, settings.WEB_THREADS = 5, 4
    settings.ORG_SPARE_DATABASES = 0
    ((id, message),) = server_says()
    assert id == "organizations.W004"
    assert message.startswith("5 processes of 4 threads and a worker can open 210 connections")
    settings.ORG_SPARE_DATABASES = 1
    ((_, message),) = server_says()
    assert message.startswith("5 processes of 4 threads and a worker can open 212 connections")


def test_an_organizations_role_that_may_have_fewer_than_all_hosts_need_is_warned_of(
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


def test_a_share_of_all_threads_is_warned_of_by_check_deploy_alone(settings: Settings) -> None:
    assert list(check_shares()) == []
    settings.ORG_MAX_THREADS = settings.WEB_THREADS
    assert [message.id for message in check_shares()] == ["organizations.W006"]
    assert check_shares in checks.registry.registry.deployment_checks


@pytest.mark.parametrize(
    ("limited", "message"),
    [
        ("ROLE orgmgmt", "the application's role may have 80."),
        ("DATABASE master_org_db", "the master database takes 80."),
    ],
)
def test_a_connection_limit_below_what_threads_can_open_is_warned_of(
    limited: str, message: str, superuser: Superuser, settings: Settings
) -> None:
    settings.WEB_CONCURRENCY, settings.ORG_MAX_CONNECTIONS = 10, 5
    settings.ORG_SPARE_DATABASES = 0
    superuser.execute(f"ALTER {limited} CONNECTION LIMIT 80".encode())
    try:
        ((id, said),) = server_says()
    finally:
        superuser.execute(f"ALTER {limited} CONNECTION LIMIT -1".encode())
    assert id == "organizations.W004"
    assert said == f"10 processes of 4 threads and a worker can open 88 connections, and {message}"


@pytest.mark.parametrize(
    ("connections", "aliases", "said"),
    [
        (3, 1_000, "ORG_MAX_CONNECTIONS is 3, and a process has 4 threads"),
        (32, 3, "ORG_MAX_ALIASES is 3, and a process has 4 threads"),
        (32, 31, "ORG_MAX_ALIASES is 31, and ORG_MAX_CONNECTIONS is 32"),
    ],
)
def test_ceilings_below_what_threads_use_are_warned_of(
    connections: int, aliases: int, said: str, settings: Settings
) -> None:
    settings.WEB_THREADS = 4
    assert list(check_aliases()) == []
    settings.ORG_MAX_CONNECTIONS, settings.ORG_MAX_ALIASES = connections, aliases
    (message,) = check_aliases()
    assert message.id == "organizations.W005"
    assert message.msg.startswith(said)


_SMTP = "django.core.mail.backends.smtp.EmailBackend"


def mail_ids(settings: Settings, backend: str, public_url: str, sender: str) -> list[str | None]:
    settings.EMAIL_BACKEND, settings.PUBLIC_URL = backend, public_url
    settings.DEFAULT_FROM_EMAIL = sender
    return [message.id for message in check_mails()]


def test_mails_that_go_nowhere_are_warned_of(settings: Settings) -> None:
    for kind in ("dummy", "console"):
        backend = f"django.core.mail.backends.{kind}.EmailBackend"
        assert mail_ids(settings, backend, "", "") == ["organizations.W040"]


def test_links_without_a_known_host_and_a_sender_nobody_has_are_warned_of(
    settings: Settings,
) -> None:
    assert mail_ids(settings, _SMTP, "", "a@b.example") == ["organizations.W041"]
    known = "https://app.example.com"
    assert mail_ids(settings, _SMTP, known, "webmaster@localhost") == ["organizations.W042"]
    assert mail_ids(settings, _SMTP, known, "a@b.example") == []


def test_mails_are_looked_at_by_check_deploy_alone() -> None:
    assert check_mails in checks.registry.registry.deployment_checks
