"""TLS between the application and its PostgreSQL, with each kind of settings."""

import json
import sys
from typing import Any

import pytest

from tests.tls.conftest import DATABASE, PASSWORD, PROJECT, ROLE, TlsServer, run

pytestmark = pytest.mark.tls

_HOW_CONNECTED = "SELECT ssl, version, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
MASTER = f"""
import json, psycopg
from organizations.postgres.sessions import master_parameters
parameters = master_parameters()
with psycopg.connect(**parameters) as connection:
    row = connection.execute("{_HOW_CONNECTED}").fetchone()
print(json.dumps([parameters["sslmode"], *row]))
"""
DJANGO = f"""
import json
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("{_HOW_CONNECTED}")
    print(json.dumps(cursor.fetchone()))
"""
# The role and database by hand: provisioning wants a newer server than this may be.
ORGANIZATION = f"""
import json
from django.core.management import call_command
from django.db import connection, connections
from organizations import tenancy
from organizations.models import Organization, Server
from organizations.secrets import seal
call_command("migrate", verbosity=0)
with connection.cursor() as cursor:
    cursor.execute("CREATE ROLE orgrole_tls LOGIN PASSWORD 'secret of one'")
    cursor.execute("GRANT orgrole_tls TO CURRENT_USER")
    cursor.execute("CREATE DATABASE org_tls OWNER orgrole_tls")
organization = Organization.objects.create(
    name="Tls", name_digest="tls", slug="tls", admin_email="admin@tls.example",
    status="active", server=Server.objects.create(name="default"),
    database_name="org_tls", role_name="orgrole_tls", sealed_password=seal("secret of one"),
)
with tenancy.override(organization.tenant) as tenant:
    wrapper = connections[organization.tenant.alias]
    with wrapper.cursor() as cursor:
        cursor.execute("{_HOW_CONNECTED}")
        row = cursor.fetchone()
    print(json.dumps([wrapper.settings_dict["OPTIONS"]["sslmode"], *row]))
"""
PROBLEM = """
from organizations.postgres import preflight
print(preflight.problem())
"""
TLS_SENTENCE = (
    "the TLS connection failed. Check MASTER_DB_SSLMODE, MASTER_DB_SSLROOTCERT and the certificate."
)


def loads(printed: str) -> Any:
    return json.loads(printed.splitlines()[-1])


def test_the_servers_own_session_uses_tls_with_verify_full(tls_server: TlsServer) -> None:
    sslmode, encrypted, version, user = loads(tls_server.python(MASTER))

    assert (sslmode, encrypted, user) == ("verify-full", True, ROLE)
    assert version.startswith("TLSv1.")


def test_djangos_connection_to_the_master_uses_tls(tls_server: TlsServer) -> None:
    encrypted, version, user = loads(tls_server.python(DJANGO))

    assert (encrypted, user) == (True, ROLE)
    assert version.startswith("TLSv1.")


def test_an_organizations_connection_uses_tls_as_the_masters_does(tls_server: TlsServer) -> None:
    sslmode, encrypted, version, user = loads(tls_server.python(ORGANIZATION))

    assert (sslmode, encrypted, user) == ("verify-full", True, "orgrole_tls")
    assert version.startswith("TLSv1.")


def test_sslmode_require_encrypts_without_a_root_certificate(tls_server: TlsServer) -> None:
    printed = tls_server.python(MASTER, MASTER_DB_SSLMODE="require", MASTER_DB_SSLROOTCERT="")

    assert loads(printed)[:2] == ["require", True]


def test_tls_can_be_asked_for_in_database_url(tls_server: TlsServer) -> None:
    url = (
        f"postgres://{ROLE}:{PASSWORD.replace(' ', '%20')}@localhost:{tls_server.port}/{DATABASE}"
        f"?sslmode=verify-full&sslrootcert={tls_server.root_certificate}"
    )
    printed = tls_server.python(MASTER, DATABASE_URL=url, MASTER_DB_SSLMODE="disable")

    assert loads(printed)[:2] == ["verify-full", True]


def problem(server: TlsServer, **changes: str) -> str:
    return server.python(PROBLEM, **changes)


def test_a_host_that_the_certificate_does_not_name_is_refused(tls_server: TlsServer) -> None:
    assert problem(tls_server, MASTER_DB_HOST="127.0.0.1") == (
        f"Cannot use the master database (host 127.0.0.1, port {tls_server.port}, "
        f"database {DATABASE}): {TLS_SENTENCE}"
    )


def test_verify_ca_accepts_a_host_that_the_certificate_does_not_name(
    tls_server: TlsServer,
) -> None:
    printed = tls_server.python(MASTER, MASTER_DB_HOST="127.0.0.1", MASTER_DB_SSLMODE="verify-ca")

    assert loads(printed)[:2] == ["verify-ca", True]


def test_a_certificate_of_another_issuer_is_refused(tls_server: TlsServer) -> None:
    found = problem(tls_server, MASTER_DB_SSLROOTCERT=str(tls_server.other_root_certificate))

    assert found.endswith(f": {TLS_SENTENCE}"), found


def test_a_missing_root_certificate_is_reported_as_a_tls_problem(
    tls_server: TlsServer,
) -> None:
    absent = str(tls_server.folder / "absent.crt")
    found = problem(tls_server, MASTER_DB_SSLROOTCERT=absent)

    assert found.endswith(f": {TLS_SENTENCE}"), found


def test_a_connection_without_tls_is_refused_as_a_matter_of_tls(tls_server: TlsServer) -> None:
    found = problem(tls_server, MASTER_DB_SSLMODE="disable", MASTER_DB_SSLROOTCERT="")

    assert found.endswith(f": {TLS_SENTENCE}"), found


def test_a_wrong_password_is_still_called_that_over_tls(tls_server: TlsServer) -> None:
    found = problem(tls_server, MASTER_DB_PASSWORD="another")

    assert f"wrong password for the role {ROLE}" in found


def test_a_server_that_is_too_old_stops_the_start_with_a_sentence(tls_server: TlsServer) -> None:
    command = [sys.executable, "manage.py", "list_orgs"]
    done = run(command, cwd=PROJECT, env=tls_server.environment())

    refused = (
        f"Cannot use the master database (host localhost, port {tls_server.port}, "
        f"database {DATABASE}): the server is PostgreSQL {tls_server.version}, but 16 or newer is "
        "needed. Upgrade it."
    )
    assert (refused in done.stderr) is (tls_server.version < 16), done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
