"""Wrong database settings, explained in one sentence each."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connections
from pytest_django import Settings

from organizations.postgres import preflight
from tests.plugin import SERVER

from .helpers import Superuser, reload_configuration

PROBE_PASSWORD = "probe"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes the settings of the master database for one test."""

    def change(**values: str) -> None:
        for key, value in values.items():
            monkeypatch.setitem(connections["default"].settings_dict, key, value)

    return change


@pytest.fixture
def probe(superuser: Superuser, configure: Callable[..., None]) -> Iterator[Callable[[str], None]]:
    """Gives these attributes to a role that may connect to the master, and uses it."""
    superuser.execute(f"CREATE ROLE preflight_probe LOGIN PASSWORD '{PROBE_PASSWORD}'".encode())
    superuser.execute("GRANT CONNECT ON DATABASE master_org_db TO preflight_probe")

    def make(attributes: str) -> None:
        superuser.execute(f"ALTER ROLE preflight_probe {attributes}".encode())
        configure(USER="preflight_probe", PASSWORD=PROBE_PASSWORD)

    yield make
    superuser.execute("REVOKE CONNECT ON DATABASE master_org_db FROM preflight_probe")
    superuser.execute("DROP ROLE preflight_probe")


def sentence() -> str:
    said = preflight.problem()
    assert said is not None, "it found nothing wrong"
    assert said.startswith("Cannot use the master database (host ")
    assert "\n" not in said
    return said


def test_a_good_configuration_has_no_problem(configure: Callable[..., None]) -> None:
    assert preflight.problem() is None
    # Nor has a superuser's.
    parameters = SERVER.superuser_parameters()
    configure(USER=str(parameters["user"]), PASSWORD=str(parameters["password"]))
    assert preflight.problem() is None


def test_a_server_that_does_not_listen(configure: Callable[..., None], tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        configure(HOST="127.0.0.1", PORT=str(port))
        said = sentence()
    assert "connection refused. Start PostgreSQL" in said
    assert f"host 127.0.0.1, port {port}, database master_org_db" in said
    configure(HOST=str(tmp_path))
    assert "connection refused. Start PostgreSQL" in sentence()


def test_a_host_that_has_no_address(configure: Callable[..., None]) -> None:
    configure(HOST="no-such-host.invalid")
    assert "the host name cannot be resolved. Set MASTER_DB_HOST." in sentence()


def test_a_wrong_password_is_named_and_not_shown(configure: Callable[..., None]) -> None:
    for password in ("not-the-password", ""):
        configure(PASSWORD=password)
        said = sentence()
        assert "wrong password for the role orgmgmt. Set MASTER_DB_USER" in said
        assert "not-the-password" not in said
    # A server that asks for passwords does not tell whether it is the role that is absent.
    configure(USER="nobody_here")
    assert "wrong password for the role nobody_here" in sentence()


def test_a_role_that_is_absent_on_a_server_that_trusts(
    configure: Callable[..., None], superuser: Superuser
) -> None:
    row = superuser.execute("SHOW hba_file").fetchone()
    assert row is not None
    rules = Path(str(row[0]))
    before = rules.read_text()
    rules.write_text(f"local all nobody_here trust\n{before}")
    reload_configuration(superuser)
    try:
        configure(USER="nobody_here")
        assert "the role nobody_here does not exist" in sentence()
    finally:
        rules.write_text(before)
        reload_configuration(superuser)


def test_a_database_that_is_absent(configure: Callable[..., None]) -> None:
    """The words in its name name no cause."""
    for name in ("org_absent", "role_test", "ssl_certificates", "too_many"):
        configure(NAME=name)
        said = sentence()
        assert f"the database {name} does not exist. Create it (createdb {name})" in said


def test_a_role_that_may_not_connect(configure: Callable[..., None]) -> None:
    configure(NAME="postgres")
    assert "the role orgmgmt may not connect. Run what `manage.py server_sql`" in sentence()


def test_a_role_that_may_not_make_databases_or_roles(probe: Callable[[str], None]) -> None:
    for attributes, lacking in (
        ("NOCREATEDB NOCREATEROLE", "lacks CREATEDB and CREATEROLE."),
        ("CREATEDB NOCREATEROLE", "lacks CREATEROLE."),
        ("NOCREATEDB CREATEROLE", "lacks CREATEDB."),
    ):
        probe(attributes)
        said = sentence()
        assert f"the role preflight_probe {lacking}" in said
        assert "permission denied to create databases or roles" in said
        assert "ALTER ROLE preflight_probe CREATEDB CREATEROLE;" in said


def test_a_role_without_a_free_connection(probe: Callable[[str], None]) -> None:
    probe("CREATEDB CREATEROLE CONNECTION LIMIT 0")
    assert "no free connection. Raise" in sentence()


def test_a_server_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MINIMUM_SERVER_VERSION", 990000)
    assert "the server is PostgreSQL 18, but" in sentence()


def test_a_check_that_meets_a_lock_gives_up(superuser: Superuser, settings: Settings) -> None:
    settings.LOCK_TIMEOUT_SECONDS = 0.1
    with psycopg.connect(**SERVER.superuser_parameters("master_org_db")) as other:  # type: ignore[arg-type]
        other.execute("LOCK TABLE organizations IN ACCESS EXCLUSIVE MODE")
        with (
            pytest.raises(preflight.Unusable) as unusable,
            preflight.usable_connection() as connection,
        ):
            connection.execute("SET statement_timeout = '20s'; TABLE organizations")
    assert isinstance(unusable.value.__cause__, psycopg.errors.LockNotAvailable)
