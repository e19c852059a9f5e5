"""A database that cannot be used: one clear line, from manage.py and from gunicorn alike."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests import processes
from tests.http.server import free_port
from tests.plugin import SERVER

ROOT = Path(__file__).resolve().parent.parent.parent
MANAGE = ("manage.py", "list_orgs")
GUNICORN = ("-m", "gunicorn", "-c", "orgmgmt/gunicorn.py", "orgmgmt.wsgi")
PASSWORD = "Th3-Passw0rd-0f-the-R0le"

Superuser = psycopg.Connection[tuple[object, ...]]
each_program = pytest.mark.parametrize("program", [MANAGE, GUNICORN], ids=["manage.py", "gunicorn"])


def complaint(program: tuple[str, ...], **changes: str) -> str:
    """The line with which the program gives up."""
    password = str(SERVER.connection_parameters()["password"])
    environment = {
        **os.environ,
        "MASTER_DB_PASSWORD": password,
        "PORT": str(free_port()),
        **changes,
    }
    done = processes.run(*program, cwd=ROOT, env=environment)
    assert done.returncode != 0, "it has started"
    everything = done.stdout + done.stderr
    assert "Traceback" not in everything, everything
    for secret in (password, PASSWORD, environment["SECRET_KEY"], environment["CREDENTIAL_KEYS"]):
        assert secret not in everything, "it tells a secret"
    # gunicorn's own lines begin with the time in brackets.
    lines = [line for line in everything.splitlines() if line and not line.startswith("[")]
    assert len(lines) == 1, everything
    assert lines[0].startswith("Cannot use the master database (host "), lines[0]
    assert lines[0].endswith((".", ";")), lines[0]
    return lines[0]


@pytest.fixture
def role(superuser: Superuser) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"weak_{secrets.token_hex(4)}"
    identifier = sql.Identifier(name)
    superuser.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(identifier, sql.Literal(PASSWORD))
    )
    superuser.execute(sql.SQL("GRANT CONNECT ON DATABASE master_org_db TO {}").format(identifier))
    yield name
    superuser.execute(
        sql.SQL("REVOKE CONNECT ON DATABASE master_org_db FROM {}").format(identifier)
    )
    superuser.execute(sql.SQL("DROP ROLE {}").format(identifier))


@each_program
def test_a_wrong_password_is_said(program: tuple[str, ...]) -> None:
    line = complaint(program, MASTER_DB_PASSWORD=PASSWORD)
    assert f"host {SERVER.socket_dir}, port 5432, database master_org_db" in line
    assert "wrong password for the role orgmgmt" in line
    assert "MASTER_DB_PASSWORD" in line


@each_program
def test_a_missing_password_is_said(program: tuple[str, ...]) -> None:
    assert "wrong password for the role orgmgmt" in complaint(program, MASTER_DB_PASSWORD="")


@each_program
def test_a_master_that_is_absent_is_said(program: tuple[str, ...]) -> None:
    line = complaint(program, MASTER_DB_NAME="nowhere_db")
    assert "the database nowhere_db does not exist" in line and "createdb nowhere_db" in line


@each_program
def test_a_role_that_is_absent_is_said(program: tuple[str, ...]) -> None:
    # PostgreSQL does not tell a stranger whether a role exists or its password is wrong.
    line = complaint(program, MASTER_DB_USER="nobody_here")
    assert "role nobody_here" in line and "MASTER_DB_USER" in line


@each_program
@pytest.mark.parametrize("host", ["127.0.0.1", "/nowhere/at/all"])
def test_a_server_that_is_not_there_is_said(program: tuple[str, ...], host: str) -> None:
    line = complaint(program, MASTER_DB_HOST=host, MASTER_DB_PORT="1")
    assert f"host {host}, port 1, database master_org_db" in line
    assert "connection refused" in line and "MASTER_DB_PORT" in line


@each_program
def test_a_host_that_cannot_be_resolved_is_said(program: tuple[str, ...]) -> None:
    line = complaint(program, MASTER_DB_HOST="database.invalid")
    assert "cannot be resolved" in line and "MASTER_DB_HOST" in line


@each_program
def test_a_role_without_its_rights_is_told_which_it_lacks(
    program: tuple[str, ...], role: str
) -> None:
    line = complaint(program, MASTER_DB_USER=role, MASTER_DB_PASSWORD=PASSWORD)
    assert "permission denied to create databases or roles" in line
    assert "lacks CREATEDB and CREATEROLE" in line
    assert f"ALTER ROLE {role} CREATEDB CREATEROLE" in line and "server_sql" in line


def test_a_role_with_one_of_its_rights_is_told_the_other(role: str, superuser: Superuser) -> None:
    superuser.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(role)))
    line = complaint(MANAGE, MASTER_DB_USER=role, MASTER_DB_PASSWORD=PASSWORD)
    assert "lacks CREATEROLE." in line


def test_a_database_url_is_described_without_its_password() -> None:
    url = f"postgres://someone:{PASSWORD}@127.0.0.1:1/some_db"
    line = complaint(MANAGE, DATABASE_URL=url)
    assert "host 127.0.0.1, port 1, database some_db" in line


def test_a_master_that_is_not_migrated_stops_gunicorn_with_a_sentence(
    superuser: Superuser,
) -> None:
    superuser.execute("CREATE DATABASE empty_master OWNER orgmgmt")
    try:
        done = subprocess.run(
            [sys.executable, *GUNICORN],
            cwd=ROOT,
            env={
                **os.environ,
                "MASTER_DB_PASSWORD": str(SERVER.connection_parameters()["password"]),
                "MASTER_DB_NAME": "empty_master",
                "PORT": str(free_port()),
            },
            capture_output=True,
            text=True,
            timeout=100,
        )
    finally:
        superuser.execute("DROP DATABASE empty_master WITH (FORCE)")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr[-1500:]
    assert "migrate" in done.stderr, done.stderr
